//! Amounts of orders: the worked examples of docs/API.md, and random orders with discounts, taxes and shipping
//! that are shipped, refunded and returned in parts.

use order_worker::domain::amounts::{Totals, amount_of_first_units};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    id::OrderId,
    order::{CreateOrder, OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::Failure,
    request::{Caller, Request, Role},
};

use crate::shop::{ProviderPayment, Shop, operator};

impl Shop {
    /// Creates an order of this shop's customer from the parts of `body`.
    pub(crate) fn create_priced_order(&mut self, body: Value) -> Result<OrderId, Failure> {
        let mut body = body;
        body["customer_id"] = json!(self.customer_id);
        let created_order = self.execute_request("order.create", body)?;
        Ok(created_order["id"].as_str().unwrap().parse().unwrap())
    }

    pub(crate) fn order_json(&self, id: OrderId) -> Value {
        serde_json::to_value(self.working_set.orders[&id].represent([])).unwrap()
    }

    pub(crate) fn refund(&mut self, id: OrderId, body: Value) -> Result<i64, Failure> {
        let refund_due_before = self.working_set.orders[&id].total_refund_due;
        let mut body = body;
        body["id"] = json!(id);
        self.execute_request("order.refund", body)?;
        Ok(self.working_set.orders[&id].total_refund_due - refund_due_before)
    }
}

/// The rows of the table of worked examples under this heading in docs/API.md, as cells.
fn worked_examples(heading: &str) -> Vec<Vec<String>> {
    let document_path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/API.md");
    let document = std::fs::read_to_string(document_path).unwrap();
    let heading = format!("\n### {heading}\n");
    let section = document.split(&heading).nth(1).unwrap();
    let section = section.split("\n##").next().unwrap();
    let table_rows = section
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('{'));
    table_rows
        .map(|table_row| {
            let row_cells = table_row.trim_matches('|').split(" | ");
            row_cells
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect()
        })
        .collect()
}

#[test]
fn worked_examples_of_the_documentation_hold() {
    let examples = worked_examples("Worked examples");
    assert!(examples.len() >= 19, "{}", examples.len());
    for cells in examples {
        let [example_name, body, expected_text] = &cells[..] else {
            panic!("{cells:?}");
        };
        // The name of an example in another currency than EUR names it.
        let mut currencies = ["JPY", "KWD"].into_iter();
        let currency = currencies.find(|currency_code| example_name.contains(currency_code));
        let stock = ["A", "B", "C"].map(|sku| (sku, "main", 100));
        let mut shop = Shop::with_stock_in(currency.unwrap_or("EUR"), &stock);
        let body: Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{example_name}: {error}"));
        let created_id = shop.create_priced_order(body);
        if let Some(pointer) = expected_text.strip_prefix("422 ") {
            let failure_text = format!("{:?}", created_id.unwrap_err());
            assert!(
                failure_text.contains(pointer),
                "{example_name}: {failure_text}"
            );
            continue;
        }
        let order_json = shop.order_json(created_id.unwrap());
        let actual_amounts = json!({
            "subtotal": order_json["subtotal"], "discount": order_json["discount_total"],
            "shipping": order_json["shipping_total"], "tax": order_json["tax_total"], "total": order_json["total"],
            "lines": order_json["items"].as_array().unwrap().iter().map(|line| line["total"].clone()).collect::<Vec<_>>(),
        });
        let expected_amounts: Value = serde_json::from_str(expected_text).unwrap();
        assert_eq!(actual_amounts, expected_amounts, "{example_name}");
    }
}

#[test]
fn worked_examples_of_refunds_hold() {
    let examples = worked_examples("Worked examples of refunds");
    assert!(examples.len() >= 6, "{}", examples.len());
    for cells in examples {
        let [example_name, body, requests, expected_text] = &cells[..] else {
            panic!("{cells:?}");
        };
        let stock = ["A", "B", "C"].map(|sku| (sku, "main", 100));
        let mut shop = Shop::with_stock(&stock);
        let body = serde_json::from_str(body).unwrap();
        let id = shop.create_priced_order(body).unwrap();
        shop.run_until_settled();
        shop.execute_request("shipment.create", json!({"id": id}))
            .unwrap();
        shop.run_until_settled();
        let mut requests: Vec<Value> = serde_json::from_str(requests).unwrap();
        let excess_request = requests.pop().unwrap();
        let expected_amounts: Vec<i64> = serde_json::from_str(expected_text).unwrap();
        let refund_requests = requests.into_iter().map(|body| shop.refund(id, body));
        let refund_amounts: Vec<i64> = refund_requests.collect::<Result<_, _>>().unwrap();
        assert_eq!(refund_amounts, expected_amounts, "{example_name}");
        let excess_refund = shop.refund(id, excess_request);
        assert!(excess_refund.is_err(), "{example_name}: {excess_refund:?}");
        shop.run_until_settled();
        let expected_total: i64 = expected_amounts.iter().sum();
        assert_eq!(
            shop.order_payments[&id].refunded, expected_total,
            "{example_name}"
        );
        shop.check_settled();
    }
}

#[test]
fn line_of_61_is_refunded_unit_by_unit() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let items = json!([{"sku": "A", "quantity": 6, "unit_price": 11, "discounts": [{"label": "five off", "amount": 5}]}]);
    let id = shop.create_priced_order(json!({"items": items})).unwrap();
    shop.run_until_settled();
    shop.execute_request("shipment.create", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    let refund_of_one_unit = json!({"items": [{"sku": "A", "quantity": 1}]});
    let refund_amounts: Vec<i64> = (0..6)
        .map(|_| shop.refund(id, refund_of_one_unit.clone()).unwrap())
        .collect();
    assert_eq!(refund_amounts, [11, 10, 10, 10, 10, 10]);
    assert!(
        shop.refund(id, refund_of_one_unit).is_err(),
        "a seventh unit"
    );
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 61);
    shop.check_settled();
}

#[test]
fn shipping_charge_is_captured_with_the_first_shipment_and_refunded_once() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let body = json!({"items": [{"sku": "A", "quantity": 3}], "shipping": {"label": "Standard", "amount": 490, "taxes": [{"label": "VAT", "amount": 93}]}});
    let id = shop.create_priced_order(body).unwrap();
    shop.run_until_settled();
    let shipment_of_one = json!({"id": id, "items": [{"sku": "A", "quantity": 1}]});
    shop.execute_request("shipment.create", shipment_of_one)
        .unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].captured, 100 + 490 + 93);
    shop.execute_request("shipment.create", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].captured, 300 + 490 + 93);

    assert_eq!(shop.refund(id, json!({"shipping": true})).unwrap(), 583);
    let repeated_refund = shop.refund(id, json!({"shipping": true}));
    assert!(
        format!("{repeated_refund:?}").contains("/shipping"),
        "{repeated_refund:?}"
    );
    // Everything comes back: the shipping charge is not refunded twice.
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 883);
    shop.check_settled();
}

#[test]
fn refunded_unit_does_not_take_the_refund_of_another_line() {
    let mut shop = Shop::with_stock(&[("A", "main", 10), ("B", "main", 10)]);
    let items = json!([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 1, "unit_price": 50}]);
    let id = shop.create_priced_order(json!({"items": items})).unwrap();
    shop.run_until_settled();
    for sku in ["A", "B"] {
        let shipment =
            json!({"id": id, "items": [{"sku": sku, "quantity": 1}], "tracking_number": sku});
        shop.execute_request("shipment.create", shipment).unwrap();
    }
    shop.run_until_settled();
    let refund = json!({"items": [{"sku": "A", "quantity": 1}]});
    assert_eq!(shop.refund(id, refund).unwrap(), 100);
    let return_of_a = json!({"order_id": id, "tracking_number": "A", "type": "shipment.returned", "timestamp": "2026-01-31T12:00:00Z"});
    shop.execute_request("shipment.update", return_of_a)
        .unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 100, "B was kept");
    let return_of_b = json!({"order_id": id, "tracking_number": "B", "type": "shipment.returned", "timestamp": "2026-01-31T12:00:00Z"});
    shop.execute_request("shipment.update", return_of_b)
        .unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 150);
    shop.check_settled();
}

#[test]
fn returned_and_refunded_units_of_a_line_add_up_to_it_in_any_order() {
    // A line of 100 for three units, and another one that is kept. R: one unit comes back, F: one is refunded.
    for (operations, expected_amounts) in [
        ("RFF", [34, 67, 100]),
        ("FRF", [34, 67, 100]),
        ("RFR", [34, 67, 100]),
        ("FFR", [34, 67, 100]),
        ("RRR", [34, 67, 100]),
    ] {
        let mut shop = Shop::with_stock(&[("A", "main", 10), ("B", "main", 10)]);
        let line_discounts = json!([{"label": "x", "amount": 200}]);
        let items = json!([{"sku": "A", "quantity": 3, "discounts": line_discounts}, {"sku": "B", "quantity": 1}]);
        let id = shop.create_priced_order(json!({"items": items})).unwrap();
        shop.run_until_settled();
        for (sku, tracking_number) in [("A", "1"), ("A", "2"), ("A", "3"), ("B", "4")] {
            let shipment = json!({"id": id, "items": [{"sku": sku, "quantity": 1}], "tracking_number": tracking_number});
            shop.execute_request("shipment.create", shipment).unwrap();
        }
        shop.run_until_settled();
        for ((operation, tracking_number), expected_amount) in operations
            .chars()
            .zip(["1", "2", "3"])
            .zip(expected_amounts)
        {
            if operation == 'R' {
                let return_update = json!({"order_id": id, "tracking_number": tracking_number, "type": "shipment.returned", "timestamp": "2026-01-31T12:00:00Z"});
                shop.execute_request("shipment.update", return_update)
                    .unwrap();
            } else {
                shop.refund(id, json!({"items": [{"sku": "A", "quantity": 1}]}))
                    .unwrap();
            }
            shop.run_until_settled();
            assert_eq!(
                shop.order_payments[&id].refunded, expected_amount,
                "{operations}"
            );
        }
        let repeated_refund = shop.refund(id, json!({"items": [{"sku": "A", "quantity": 1}]}));
        assert!(
            repeated_refund.is_err(),
            "{operations}: {repeated_refund:?}"
        );
        shop.check_settled();
    }
}

#[test]
fn free_order_is_processed_without_the_payment_provider() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let items =
        json!([{"sku": "A", "quantity": 2, "discounts": [{"label": "gift", "amount": 200}]}]);
    let body = json!({"items": items, "payment_method": "pm_declined"});
    let id = shop.create_priced_order(body.clone()).unwrap();
    assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Processing);
    shop.execute_request("shipment.create", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id], ProviderPayment::default());
    let order = &shop.working_set.orders[&id];
    assert_eq!(order.payment.status, PaymentStatus::Captured);
    assert!(order.is_closed());

    let cancelled_id = shop.create_priced_order(body).unwrap();
    shop.cancel(cancelled_id).unwrap();
    shop.run_until_settled();
    assert_eq!(
        shop.order_payments[&cancelled_id],
        ProviderPayment::default()
    );
    shop.check_settled();
}

#[test]
fn storefronts_cannot_set_prices() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let body = json!({"customer_id": shop.customer_id, "items": [{"sku": "A", "quantity": 1, "unit_price": 1}]});
    let Ok(Request::CreateOrder(request)) = Request::read("order.create", body) else {
        panic!("it is a new order");
    };
    let request: CreateOrder = request;
    let caller = Caller {
        role: Role::Storefront,
        ..operator()
    };
    let create_reply = shop.carry_out(&order_worker::domain::command::Command::Request {
        caller,
        idempotency: None,
        if_match: None,
        action: order_worker::domain::command::Action::CreateOrder(request),
    });
    let failure_text = format!(
        "{:?}",
        create_reply
            .outcome
            .map(|reply_json| reply_json.value())
            .unwrap_err()
    );
    assert!(failure_text.contains("STOREFRONT_PRICES"), "{failure_text}");
}

/// A random line item: quantity, price, discount in thousandths and tax in ten-thousandths of the price.
pub(crate) type RandomLine = (u32, i64, i64, i64);

/// The body of an order with these line items. `order_discount_share` is in two-thousandths of the discounted lines;
/// `shipping_amount_and_tax` is the charge, and its tax in ten-thousandths of it.
pub(crate) fn random_body(
    lines: &[RandomLine],
    order_discount_share: i64,
    shipping_amount_and_tax: Option<(i64, i64)>,
    tax_included: bool,
) -> Value {
    let mut sum_after_discounts = 0;
    let items: Vec<Value> = lines
        .iter()
        .zip(["A", "B", "C"])
        .map(|((quantity, price, discount_permille, tax_share), sku)| {
            let line_price = price * i64::from(*quantity);
            let discount = line_price * discount_permille / 1_000;
            sum_after_discounts += line_price - discount;
            // Contained taxes never exceed a tenth of the price.
            let tax = (line_price - discount) * tax_share / 10_000;
            json!({"sku": sku, "quantity": quantity, "unit_price": price,
                "discounts": [{"label": "a", "amount": discount / 3}, {"label": "b", "amount": discount - discount / 3}],
                "taxes": [{"label": "VAT", "rate": "0.1", "amount": tax}]})
        })
        .collect();
    // Half of the price at most, so that contained taxes still fit.
    let order_discount = sum_after_discounts * order_discount_share / 2_000;
    let shipping_charge = shipping_amount_and_tax.map(|(amount, tax_share)| {
        json!({"label": "Standard", "amount": amount, "discounts": [{"label": "c", "amount": amount / 4}],
            "taxes": [{"label": "VAT", "amount": amount * tax_share / 10_000}]})
    });
    json!({"items": items, "discounts": [{"label": "d", "amount": order_discount}], "shipping": shipping_charge, "tax_included": tax_included})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_shipments_refunds_and_returns_add_up(
        lines in vec((1..5_u32, 0..700_i64, 0..1_000_i64, 0..1_000_i64), 1..4),
        order_discount_share in 0..1_000_i64,
        shipping in prop::option::of((0..900_i64, 0..1_000_i64)),
        tax_included: bool,
        actions in vec((0..4_u32, 0..3_usize, 1..3_u32), 0..14),
    ) {
        let mut shop = Shop::with_stock(&[("A", "east", 2), ("A", "west", 3), ("B", "west", 1), ("B", "east", 4), ("C", "east", 5)]);
        let body = random_body(&lines, order_discount_share, shipping, tax_included);
        let id = shop.create_priced_order(body).unwrap();
        let order = shop.working_set.orders[&id].clone();
        prop_assert_eq!(order.sum_of_parts(), order.total);
        let order_json = order.represent([]);
        let line_total: i64 = order_json.items.iter().map(|line| line.total).sum();
        prop_assert_eq!(line_total + order.shipping_totals().total, order.total);
        prop_assert!(order_json.items.iter().all(|line| line.total >= 0 && line.discount_total <= line.subtotal));
        let added_tax = if tax_included { 0 } else { order_json.tax_total };
        prop_assert_eq!(order_json.subtotal - order_json.discount_total + order_json.shipping_total + added_tax, order_json.total);
        let totals = Totals::of_lines(&order.items, tax_included);
        prop_assert_eq!(totals.subtotal, order_json.subtotal);

        shop.run_until_settled();
        let mut refunded_by_sku = std::collections::BTreeMap::<&str, i64>::new();
        for (action_number, sku_index, quantity) in actions {
            let sku = ["A", "B", "C"][sku_index];
            let items = json!([{"sku": sku, "quantity": quantity}]);
            match action_number {
                0 => {
                    let _ = shop.execute_request("shipment.create", json!({"id": id, "items": items}));
                }
                1 => {
                    if let Ok(amount) = shop.refund(id, json!({"items": items})) {
                        *refunded_by_sku.entry(sku).or_default() += amount;
                    }
                }
                2 => {
                    let _ = shop.refund(id, json!({"shipping": true}));
                }
                _ => {
                    let shipments = &shop.working_set.orders[&id].shipments;
                    let Some(shipment) = shipments.get(quantity as usize - 1) else { continue };
                    let shipment_update = json!({"order_id": id, "shipment_id": shipment.id, "type": "shipment.returned", "timestamp": "2026-01-31T12:00:00Z"});
                    let _ = shop.execute_request("shipment.update", shipment_update);
                }
            }
            shop.run_until_settled();
            shop.check_settled();
            let order = &shop.working_set.orders[&id];
            prop_assert!(order.payment.captured <= order.payment.authorized.max(order.payment.captured));
            prop_assert!(order.payment.refunded <= order.payment.captured);
            for (sku, refunded_amount) in &refunded_by_sku {
                let lines_of_sku = order_json.items.iter().filter(|line| line.sku.as_str() == *sku);
                let lines_total: i64 = lines_of_sku.map(|line| line.total).sum();
                prop_assert!(*refunded_amount <= lines_total, "{sku}: {refunded_amount} of {lines_total}");
            }
        }
        // Everything is shipped and comes back: exactly everything is refunded.
        let _ = shop.execute_request("shipment.create", json!({"id": id}));
        shop.run_until_settled();
        let _ = shop.apply_webhook(id, ShipmentUpdate::Returned);
        shop.run_until_settled();
        let order = &shop.working_set.orders[&id];
        prop_assert_eq!(order.payment.captured, order.total);
        prop_assert_eq!(order.payment.refunded, order.total);
        shop.check_settled();
    }
}

#[test]
fn units_of_a_line_differ_by_at_most_one_minor_unit() {
    let unit_amounts: Vec<i64> = (0..3)
        .map(|unit_index| {
            amount_of_first_units(100, unit_index + 1, 3)
                - amount_of_first_units(100, unit_index, 3)
        })
        .collect();
    assert_eq!(unit_amounts, [34, 33, 33]);
}
