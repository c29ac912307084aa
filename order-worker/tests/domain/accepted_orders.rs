//! Orders that are accepted before they are validated.

use order_worker::domain::command::Action;
use serde_json::{Value, json};
use shared::{customer::CustomerRef, id::OrderId, order::AcceptOrder, request::Request};
use uuid::Uuid;

use crate::shop::Shop;

/// Accepts an order of `quantity` with all optional fields, and returns the result.
fn accept_order(shop: &mut Shop, quantity: u32) -> Value {
    let body = json!({
        "customer_id": shop.customer_id,
        "items": [{"sku": "A", "quantity": quantity}],
        "shipping_address": {"name": "Ada", "line1": "1 Loop", "city": "London", "postal_code": "N1", "country": "GB"},
        "payment_method": "pm_ok",
        "metadata": {"gift": "for Ada"}
    });
    let Request::CreateOrder(order) = Request::read("order.create", body).unwrap() else {
        unreachable!("the request was parsed as another type")
    };
    let id: OrderId = Uuid::now_v7().into();
    shop.execute_as_operator(Action::AcceptOrder(AcceptOrder { id, order }))
        .unwrap();
    let order = &shop.working_set.orders[&id];
    serde_json::to_value(order).unwrap()
}

#[test]
fn rejected_order_contains_no_data_of_an_erased_customer() {
    let mut shop = Shop::with_stock(&[("A", "main", 5)]);
    let refused_order = accept_order(&mut shop, 9);
    assert_eq!(refused_order["cancel_reason"], "out_of_stock");
    assert_eq!(refused_order["shipping_address"]["name"], "Ada");

    let id = shop.customer_id.parse().unwrap();
    shop.execute_as_operator(Action::EraseCustomer(CustomerRef { id }))
        .unwrap();
    let rejected_order = accept_order(&mut shop, 1);
    assert_eq!(rejected_order["cancel_reason"], "rejected");
    assert_eq!(rejected_order["customer_id"], shop.customer_id.as_str());
    for personal_text in ["Ada", "pm_ok", "Loop"] {
        assert!(
            !rejected_order.to_string().contains(personal_text),
            "{rejected_order}"
        );
    }
}
