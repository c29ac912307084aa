//! The format of stored states: every part that workers without formats would remove makes it format 1.

use order_worker::domain::order::Order;
use serde_json::{Value, json};

use crate::shop::Shop;

/// Members of a state that workers without formats keep, or that are computed again without them.
const KEPT_MEMBERS: [&str; 25] = [
    "id",
    "number",
    "storefront",
    "customer_id",
    "external_id",
    "status",
    "cancel_reason",
    "currency",
    "total",
    "items",
    "awaits_approval",
    "awaits_stock",
    "held",
    "shipping_address",
    "payment_method",
    "payment",
    "transactions",
    "refund_due",
    "shipments",
    "metadata",
    "version",
    "is_deleted",
    "created_at",
    "updated_at",
    "deleted_at",
];
/// Members of line items and shipments that workers without formats keep.
const KEPT_MEMBERS_OF_PARTS: [&str; 12] = [
    "sku",
    "name",
    "quantity",
    "unit_price",
    "warehouse",
    "id",
    "status",
    "carrier",
    "tracking_number",
    "items",
    "shipped_at",
    "delivered_at",
];

fn has_only(object: &Value, members: &[&str]) -> bool {
    let object = object.as_object().unwrap();
    object
        .keys()
        .all(|member_name| members.contains(&member_name.as_str()))
}

/// Checks that the format of `order` says whether it has parts that workers without formats would remove.
pub(crate) fn assert_format_names_all_parts(order: &Order) {
    let order_state = serde_json::to_value(order).unwrap();
    let parts_of = |field_name: &str| order_state[field_name].as_array().unwrap().clone();
    let all_parts = [parts_of("items"), parts_of("shipments")].concat();
    let is_kept = has_only(&order_state, &KEPT_MEMBERS)
        && all_parts
            .iter()
            .all(|part| has_only(part, &KEPT_MEMBERS_OF_PARTS))
        && order_state["payment"]["provider"] != "manual";
    assert_eq!(order.format(), u8::from(!is_kept), "{order_state}");
}

#[test]
fn orders_with_new_parts_have_a_format_of_their_own() {
    let mut shop = Shop::with_stock(&[("A", "main", 100)]);
    let mut format_of_new_order = |more_fields: Value| {
        let mut body =
            json!({"customer_id": shop.customer_id, "items": [{"sku": "A", "quantity": 2}]});
        body.as_object_mut()
            .unwrap()
            .extend(more_fields.as_object().unwrap().clone());
        let created_order = shop.execute_request("order.create", body).unwrap();
        let id = created_order["id"].as_str().unwrap().parse().unwrap();
        shop.working_set.orders[&id].format()
    };
    assert_eq!(format_of_new_order(json!({"metadata": {"format": 1}})), 0);
    for new_part in [
        json!({"payment_method": "manual"}),
        json!({"shipping": {"label": "Standard", "amount": 490}}),
        json!({"discounts": [{"label": "voucher", "amount": 50}]}),
        json!({"tax_included": true}),
        json!({"return_url": "https://shop.example/return"}),
    ] {
        assert_eq!(format_of_new_order(new_part.clone()), 1, "{new_part}");
    }
}
