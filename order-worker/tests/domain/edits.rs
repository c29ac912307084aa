//! Edits of orders before anything was shipped: totals, stock, payments and labels, whatever happens meanwhile.

use order_worker::domain::{
    command::Action,
    step::{LabelId, Step, StepKey},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    id::{OrderId, Warehouse},
    order::{OrderStatus, PaymentStatus, ShipmentUpdate},
    outcome::{Code, Failure},
};

use crate::shop::{ProviderEvent, ProviderMode, Shop};

/// A shop whose products cost 100 each.
fn new_shop() -> Shop {
    Shop::with_stock(&[("A", "east", 5), ("A", "west", 3), ("B", "west", 4)])
}

/// An order of two units of A, authorized and with a label.
fn processing_order(shop: &mut Shop) -> OrderId {
    let id = shop.order(&[("A", 2)]).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Processing);
    id
}

fn edit_order(shop: &mut Shop, id: OrderId, body: Value) -> Result<Value, Failure> {
    let mut body = body;
    body["id"] = json!(id);
    shop.execute_request("order.edit", body)
}

fn set_quantities(shop: &mut Shop, id: OrderId, items: &[(&str, u32)]) -> Result<Value, Failure> {
    let items: Vec<Value> = items
        .iter()
        .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
        .collect();
    edit_order(shop, id, json!({"items": items}))
}

fn reserved_units(shop: &Shop, sku: &str) -> i64 {
    let stock_levels = &shop.working_set.stock_levels[&sku.parse().unwrap()];
    stock_levels
        .values()
        .map(|stock_level| stock_level.reserved)
        .sum()
}

fn step_key(order_id: OrderId, step: Step) -> StepKey {
    StepKey { order_id, step }
}

fn count_rejections(shop: &Shop, id: OrderId) -> usize {
    let event_types = shop.event_types(id);
    event_types
        .iter()
        .filter(|event_type| **event_type == "order.edit_rejected")
        .count()
}

#[test]
fn lower_total_takes_effect_at_once_and_captures_less() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    let edited_order = set_quantities(&mut shop, id, &[("A", 1)]).unwrap();
    assert_eq!(
        (&edited_order["total"], &edited_order["pending_edit"]),
        (&json!(100), &Value::Null)
    );
    assert_eq!(reserved_units(&shop, "A"), 1);
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (order.status, order.payment.captured),
        (OrderStatus::Delivered, 100)
    );
    assert_eq!(order.payment.authorized, 200);
    assert!(!shop.event_types(id).contains(&"order.edit_requested"));
    shop.check_settled();
}

#[test]
fn higher_total_is_authorized_first_and_replaces_the_authorization() {
    let mut shop = new_shop();
    shop.prepares_payments = true;
    let id = processing_order(&mut shop);
    let order_with_pending_edit = set_quantities(&mut shop, id, &[("A", 3), ("B", 1)]).unwrap();
    assert_eq!(
        (
            &order_with_pending_edit["total"],
            &order_with_pending_edit["pending_edit"]["total"]
        ),
        (&json!(200), &json!(400))
    );
    assert_eq!(
        (reserved_units(&shop, "A"), reserved_units(&shop, "B")),
        (3, 1)
    );
    shop.run_until_settled();
    let order = shop.working_set.orders[&id].clone();
    assert_eq!(
        (
            order.total,
            order.payment.authorized,
            order.authorized_edit_number
        ),
        (400, 400, 1)
    );
    assert_eq!(order.payment.reference.as_deref(), Some("ref-1-1"));
    assert!(order.pending_edit.is_none() && order.open_authorizations.is_empty());
    assert!(shop.order_payments[&id].is_voided);
    let event_types = shop.event_types(id);
    for event_type in ["order.edit_requested", "order.edited", "payment.released"] {
        assert!(
            event_types.contains(&event_type),
            "{event_type} {event_types:?}"
        );
    }
    // Each warehouse has one label for its items.
    let items: Vec<_> = order
        .unshipped_shipments()
        .flat_map(|shipment| &shipment.items)
        .collect();
    let unit_count: u32 = items.iter().map(|item| item.quantity.get()).sum();
    assert_eq!(unit_count, 4);
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.working_set.orders[&id].payment.captured, 400);
    shop.check_settled();
}

#[test]
fn declined_edit_leaves_the_order_unchanged() {
    for mode in [ProviderMode::Declines, ProviderMode::RequiresAction] {
        let mut shop = new_shop();
        shop.prepares_payments = true;
        let id = processing_order(&mut shop);
        let order_before = shop.working_set.orders[&id].clone();
        set_quantities(&mut shop, id, &[("A", 5)]).unwrap();
        let step_key = step_key(id, Step::AuthorizeEdit(1));
        shop.execute_step(&step_key, ProviderMode::Responds);
        shop.deliver_result(0, false);
        shop.execute_step(&step_key, mode);
        shop.deliver_result(0, false);
        let order = shop.working_set.orders[&id].clone();
        assert!(order.pending_edit.is_none());
        assert_eq!(
            (&order.items, order.total, &order.reserved_items),
            (&order_before.items, 200, &order_before.reserved_items)
        );
        assert_eq!(order.payment, order_before.payment);
        assert_eq!(
            (reserved_units(&shop, "A"), count_rejections(&shop, id)),
            (2, 1)
        );
        shop.run_until_settled();
        shop.check_settled();
        // Another edit has another payment.
        set_quantities(&mut shop, id, &[("A", 4)]).unwrap();
        shop.run_until_settled();
        assert_eq!(shop.working_set.orders[&id].authorized_edit_number, 2);
        shop.check_settled();
    }
}

#[test]
fn authorization_that_arrives_after_the_rejection_is_voided() {
    type RejectEdit = fn(&mut Shop, OrderId);
    let reject_functions: [RejectEdit; 4] = [
        |shop, id| {
            shop.execute_request("order.cancel_edit", json!({"id": id}))
                .unwrap();
        },
        |shop, id| {
            shop.cancel(id).unwrap();
        },
        |shop, id| {
            shop.apply_webhook(id, ShipmentUpdate::Shipped).unwrap();
        },
        |shop, id| {
            shop.execute_step(&step_key(id, Step::ExpireEdit(1)), ProviderMode::Responds);
            shop.deliver_result(1, false);
        },
    ];
    for reject_edit in reject_functions {
        for executes_before_rejection in [true, false] {
            let mut shop = new_shop();
            let id = processing_order(&mut shop);
            set_quantities(&mut shop, id, &[("A", 4)]).unwrap();
            let step_key = step_key(id, Step::AuthorizeEdit(1));
            let step_row = shop.working_set.steps[&step_key].clone();
            // The provider is called before or after the rejection; the result arrives after it.
            shop.execute_step(&step_key, ProviderMode::Responds);
            if !executes_before_rejection {
                shop.edit_payments.clear();
            }
            reject_edit(&mut shop, id);
            let order = &shop.working_set.orders[&id];
            assert!(order.pending_edit.is_none());
            assert_eq!((order.total, count_rejections(&shop, id)), (200, 1));
            shop.deliver_result(0, false);
            assert!(!shop.working_set.steps.contains_key(&step_row.key));
            shop.run_until_settled();
            shop.check_settled();
            let order = &shop.working_set.orders[&id];
            assert!(order.open_authorizations.is_empty());
            assert!(shop.payment_at_provider(order, 1).is_voided);
        }
    }
}

#[test]
fn edit_without_enough_stock_is_refused_and_changes_nothing() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    let order_before = shop.working_set.orders[&id].clone();
    let refusal = set_quantities(&mut shop, id, &[("A", 9)]).unwrap_err();
    assert_eq!(refusal.code, Code::OutOfStock);
    assert_eq!(refusal.details["skus"][0]["available"], 6);
    assert_eq!(shop.working_set.orders[&id], order_before);
}

#[test]
fn orders_that_are_shipped_cancelled_or_being_authorized_are_not_edited() {
    let mut shop = new_shop();
    let pending_order_id = shop.order(&[("A", 1)]).unwrap();
    let refusal = set_quantities(&mut shop, pending_order_id, &[("A", 2)]).unwrap_err();
    assert!(refusal.message.contains("is pending"), "{refusal}");
    let id = processing_order(&mut shop);
    let shipment_of_one = json!({"id": id, "items": [{"sku": "A", "quantity": 1}]});
    shop.execute_request("shipment.create", shipment_of_one)
        .unwrap();
    let refusal = set_quantities(&mut shop, id, &[("A", 1)]).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState);
    assert!(refusal.message.contains("shipped"), "{refusal}");
    shop.cancel(pending_order_id).unwrap();
    assert_eq!(
        set_quantities(&mut shop, pending_order_id, &[("A", 2)])
            .unwrap_err()
            .code,
        Code::InvalidState
    );
}

#[test]
fn nothing_is_shipped_and_no_second_edit_begins_while_an_edit_is_pending() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    set_quantities(&mut shop, id, &[("A", 3)]).unwrap();
    for refused_outcome in [
        set_quantities(&mut shop, id, &[("A", 1)]),
        shop.execute_request("shipment.create", json!({"id": id})),
    ] {
        let refusal = refused_outcome.unwrap_err();
        assert_eq!(refusal.code, Code::InvalidState);
        assert!(refusal.message.contains("pending edit"), "{refusal}");
    }
    shop.execute_request("order.cancel_edit", json!({"id": id}))
        .unwrap();
    let second_cancellation = shop.execute_request("order.cancel_edit", json!({"id": id}));
    assert_eq!(second_cancellation.unwrap_err().code, Code::InvalidState);
    shop.execute_request("shipment.create", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    shop.check_settled();
}

#[test]
fn carrier_that_ships_meanwhile_ships_the_order_as_it_was() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    set_quantities(&mut shop, id, &[("A", 4)]).unwrap();
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (order.status, order.payment.captured),
        (OrderStatus::Delivered, 200)
    );
    assert_eq!(
        (reserved_units(&shop, "A"), count_rejections(&shop, id)),
        (0, 1)
    );
    shop.check_settled();
}

#[test]
fn free_order_is_edited_up_and_down() {
    let mut shop = new_shop();
    let customer_id = shop.customer_id.clone();
    let body = json!({"customer_id": customer_id, "items": [{"sku": "A", "quantity": 1, "unit_price": 0}]});
    let created_order = shop.execute_request("order.create", body).unwrap();
    let id: OrderId = created_order["id"].as_str().unwrap().parse().unwrap();
    shop.run_until_settled();
    set_quantities(&mut shop, id, &[("B", 2)]).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (order.total, order.payment.status),
        (200, PaymentStatus::Authorized)
    );
    shop.check_settled();
    set_quantities(&mut shop, id, &[("B", 0)]).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (order.total, order.payment.status),
        (0, PaymentStatus::Captured)
    );
    assert!(shop.payment_at_provider(order, 1).is_voided);
    shop.check_settled();
    set_quantities(&mut shop, id, &[("B", 1)]).unwrap();
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (order.payment.captured, order.authorized_edit_number),
        (100, 2)
    );
    shop.check_settled();
}

#[test]
fn captured_excess_is_refunded_once() {
    let mut shop = new_shop();
    let id = shop.order(&[("A", 4)]).unwrap();
    shop.run_until_settled();
    shop.apply_provider_event(id, ProviderEvent::Captured, true);
    shop.run_until_settled();
    for (quantity, expected_refund) in [(3, 100), (2, 200), (2, 200), (3, 200)] {
        let _ = set_quantities(&mut shop, id, &[("A", quantity)]);
        shop.run_until_settled();
        assert_eq!(
            shop.working_set.orders[&id].payment.refunded,
            expected_refund
        );
    }
    // The refunded amount can't be captured again.
    let refusal = set_quantities(&mut shop, id, &[("A", 3)]).unwrap_err();
    assert!(
        refusal.message.contains("can't rise above 200"),
        "{refusal}"
    );
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.working_set.orders[&id].payment.refunded, 400);
    shop.check_settled();
}

#[test]
fn capture_above_the_edited_total_that_is_reported_late_is_refunded() {
    let mut shop = new_shop();
    let id = shop.order(&[("A", 4)]).unwrap();
    shop.run_until_settled();
    set_quantities(&mut shop, id, &[("A", 3)]).unwrap();
    shop.apply_provider_event(id, ProviderEvent::Captured, true);
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!((order.payment.captured, order.payment.refunded), (400, 100));
    // Reported again, it is not refunded again.
    shop.apply_provider_event(id, ProviderEvent::Captured, true);
    shop.run_until_settled();
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.working_set.orders[&id].payment.refunded, 400);
    shop.check_settled();
}

#[test]
fn discounts_and_taxes_of_a_changed_line_item_have_to_be_given_again() {
    let mut shop = new_shop();
    let body = json!({"customer_id": shop.customer_id, "discounts": [{"label": "x", "amount": 31}],
    "shipping": {"label": "Standard", "amount": 50}, "items": [
        {"sku": "A", "quantity": 2, "discounts": [{"label": "y", "amount": 10}], "taxes": [{"label": "VAT", "amount": 19}]},
        {"sku": "B", "quantity": 1},
    ]});
    let created_order = shop.execute_request("order.create", body).unwrap();
    let id: OrderId = created_order["id"].as_str().unwrap().parse().unwrap();
    shop.run_until_settled();
    let refusal = set_quantities(&mut shop, id, &[("B", 1), ("A", 1)]).unwrap_err();
    for pointer in ["/items/1/discounts", "/items/1/taxes"] {
        assert!(refusal.details.to_string().contains(pointer), "{refusal:?}");
    }
    let body = json!({"items": [{"sku": "A", "quantity": 1, "discounts": [], "taxes": [{"label": "VAT", "amount": 9}]}]});
    let edited_order = edit_order(&mut shop, id, body).unwrap();
    // 100 + 100 - 31 + 9 + 50
    assert_eq!(edited_order["total"], 228);
    let discount_shares: Vec<_> = edited_order["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["order_discount"].clone())
        .collect();
    assert_eq!(discount_shares, [json!(16), json!(15)]);
    // The other line item and the shipping charge change alone.
    let edited_order = edit_order(
        &mut shop,
        id,
        json!({"items": [{"sku": "B", "quantity": 0}], "shipping": null, "discounts": null}),
    )
    .unwrap();
    assert_eq!(
        (&edited_order["total"], &edited_order["shipping"]),
        (&json!(109), &Value::Null)
    );
    let excessive_discount_failure = edit_order(
        &mut shop,
        id,
        json!({"discounts": [{"label": "x", "amount": 101}]}),
    )
    .unwrap_err();
    assert!(
        excessive_discount_failure
            .details
            .to_string()
            .contains("/discounts"),
        "{excessive_discount_failure:?}"
    );
    let wrong_total_failure = edit_order(
        &mut shop,
        id,
        json!({"shipping": {"label": "x", "amount": 1}, "expected_total": 1}),
    )
    .unwrap_err();
    assert!(
        wrong_total_failure.message.contains("/expected_total"),
        "{wrong_total_failure}"
    );
}

#[test]
fn removed_products_are_kept_or_lowered_but_not_added() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    let product = shop
        .working_set
        .products
        .get_mut(&"A".parse().unwrap())
        .unwrap();
    product.is_deleted = true;
    let refusal = set_quantities(&mut shop, id, &[("A", 3)]).unwrap_err();
    assert!(refusal.message.contains("no longer sold"), "{refusal}");
    set_quantities(&mut shop, id, &[("A", 1)]).unwrap();
    let refusal = set_quantities(&mut shop, id, &[("A", 0)]).unwrap_err();
    assert!(refusal.message.contains("cancel the order"), "{refusal}");
    for (items, pointer) in [
        (vec![("B", 0)], "/items/0/sku"),
        (vec![("C", 1)], "/items/0/sku"),
        (vec![("B", 1), ("B", 2)], "/items/1/sku"),
    ] {
        let refusal = set_quantities(&mut shop, id, &items).unwrap_err();
        assert!(refusal.details.to_string().contains(pointer), "{refusal:?}");
    }
}

#[test]
fn labels_of_changed_items_are_replaced_and_others_stay() {
    let mut shop = Shop::with_stock(&[("A", "east", 5), ("B", "west", 4)]);
    let id = shop.order(&[("A", 1), ("B", 2)]).unwrap();
    shop.run_until_settled();
    set_quantities(&mut shop, id, &[("B", 1)]).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    let tracking_numbers: Vec<_> = order
        .unshipped_shipments()
        .map(|shipment| shipment.tracking_number.as_str())
        .collect();
    assert_eq!(tracking_numbers, ["1-east", "1-west:2"]);
    // The last item of a warehouse is removed: its label is cancelled, and there is no other one.
    set_quantities(&mut shop, id, &[("B", 0)]).unwrap();
    shop.run_until_settled();
    assert_eq!(
        shop.working_set.orders[&id].unshipped_shipments().count(),
        1
    );
    set_quantities(&mut shop, id, &[("B", 1)]).unwrap();
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    let tracking_numbers: Vec<_> = order
        .unshipped_shipments()
        .map(|shipment| shipment.tracking_number.as_str())
        .collect();
    assert_eq!(tracking_numbers, ["1-east", "1-west:3"]);
    shop.check_settled();
}

/// While the carrier cancels the label of the first edit, a second edit lowers the quantity again.
#[test]
fn order_that_is_edited_twice_at_once_gets_a_label_for_its_last_items() {
    let mut shop = Shop::with_stock(&[("A", "east", 5)]);
    let id = processing_order(&mut shop);
    set_quantities(&mut shop, id, &[("A", 3)]).unwrap();
    shop.execute_step(
        &step_key(id, Step::AuthorizeEdit(1)),
        ProviderMode::Responds,
    );
    shop.deliver_result(0, false);
    let first_label = LabelId::from("east".parse::<Warehouse>().unwrap());
    let cancellation = step_key(id, Step::CancelShipment(first_label));
    assert!(shop.working_set.steps.contains_key(&cancellation));
    set_quantities(&mut shop, id, &[("A", 1)]).unwrap();
    // The first label is cancelled after the second, which was never requested.
    let all_step_keys: Vec<StepKey> = shop.working_set.steps.keys().cloned().collect();
    for other_step in all_step_keys
        .iter()
        .filter(|step_key| **step_key != cancellation)
    {
        if matches!(other_step.step, Step::CancelShipment(_)) {
            shop.execute_step(other_step, ProviderMode::Responds);
            shop.deliver_result(0, false);
        }
    }
    let order = &shop.working_set.orders[&id];
    assert_eq!(order.unshipped_shipments().count(), 0);
    let is_request = |step_key: &StepKey| matches!(step_key.step, Step::RequestShipment(_));
    assert!(
        !shop.working_set.steps.keys().any(is_request),
        "requested before the first label was cancelled"
    );
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    let unshipped_shipments: Vec<_> = order.unshipped_shipments().collect();
    assert_eq!(unshipped_shipments.len(), 1, "{order:?}");
    assert_eq!(unshipped_shipments[0].items, order.reserved_items);
    assert_eq!(order.reserved_items[0].quantity.get(), 1);
    shop.check_settled();
}

#[test]
fn label_that_is_created_while_the_order_is_edited_ships_nothing() {
    let mut shop = Shop::with_stock(&[("A", "east", 5)]);
    let id = shop.order(&[("A", 2)]).unwrap();
    shop.execute_step(
        &step_key(id, Step::AuthorizePayment),
        ProviderMode::Responds,
    );
    shop.deliver_result(0, false);
    let warehouse: Warehouse = "east".parse().unwrap();
    shop.execute_step(
        &step_key(id, Step::RequestShipment(warehouse.into())),
        ProviderMode::Responds,
    );
    set_quantities(&mut shop, id, &[("A", 1)]).unwrap();
    shop.deliver_result(0, false);
    assert_eq!(shop.working_set.orders[&id].shipments, []);
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(order.shipments.len(), 1);
    assert_eq!(order.shipments[0].items, order.reserved_items);
    assert_eq!(order.shipments[0].tracking_number, "1-east:2");
}

#[test]
fn failed_authorization_of_an_edit_waits_for_an_operator_or_expires() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    set_quantities(&mut shop, id, &[("A", 3)]).unwrap();
    let step_key = step_key(id, Step::AuthorizeEdit(1));
    while !shop.working_set.steps[&step_key].is_dead {
        shop.execute_step(&step_key, ProviderMode::TransientError);
        shop.deliver_result(0, false);
    }
    assert!(shop.working_set.orders[&id].pending_edit.is_some());
    shop.execute_as_operator(Action::DiscardStep(step_key))
        .unwrap();
    assert_eq!(
        (count_rejections(&shop, id), reserved_units(&shop, "A")),
        (1, 2)
    );
    shop.run_until_settled();
    shop.check_settled();
}

#[test]
fn edit_is_rejected_if_the_payment_is_captured_meanwhile() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    set_quantities(&mut shop, id, &[("A", 3)]).unwrap();
    shop.execute_step(
        &step_key(id, Step::AuthorizeEdit(1)),
        ProviderMode::Responds,
    );
    shop.apply_provider_event(id, ProviderEvent::Captured, true);
    shop.execute_step(&step_key(id, Step::CheckPayment), ProviderMode::Responds);
    shop.deliver_result(1, false);
    shop.run_until_settled();
    let order = &shop.working_set.orders[&id];
    assert_eq!(
        (
            order.total,
            order.payment.captured,
            count_rejections(&shop, id)
        ),
        (200, 200, 1)
    );
    shop.check_settled();
}

#[test]
fn earlier_orders_are_read_without_the_fields_of_edits() {
    let mut shop = new_shop();
    let id = processing_order(&mut shop);
    let stored_order = serde_json::to_value(&shop.working_set.orders[&id]).unwrap();
    for field in [
        "edits",
        "pending_edit",
        "authorization",
        "open_authorizations",
        "edit_refunds",
    ] {
        assert!(stored_order.get(field).is_none(), "{field}");
    }
}

/// The rows of the section *Worked examples of edits* in docs/API.md: name, order, request and result.
fn worked_examples() -> Vec<[String; 4]> {
    let document_path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/API.md");
    let document_text = std::fs::read_to_string(document_path).unwrap();
    let section = document_text
        .split("### Worked examples of edits")
        .nth(1)
        .unwrap();
    let section = section.split("\n## ").next().unwrap();
    let table_rows = section.lines().filter(|line| line.contains("| `{"));
    table_rows
        .map(|table_row| {
            let cells: Vec<_> = table_row
                .trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect();
            cells.try_into().unwrap()
        })
        .collect()
}

#[test]
fn worked_examples_of_the_documentation_are_right() {
    let examples = worked_examples();
    assert!(examples.len() >= 14, "{}", examples.len());
    for [example_name, order_text, request_text, result_text] in examples {
        let mut shop = Shop::with_stock(&[("A", "east", 9), ("B", "east", 9)]);
        let mut body: Value = serde_json::from_str(&order_text).unwrap();
        body["customer_id"] = json!(shop.customer_id);
        let created_order = shop.execute_request("order.create", body).unwrap();
        let id: OrderId = created_order["id"].as_str().unwrap().parse().unwrap();
        shop.run_until_settled();
        if example_name.contains("one of A was shipped") {
            let shipment_of_one = json!({"id": id, "items": [{"sku": "A", "quantity": 1}]});
            shop.execute_request("shipment.create", shipment_of_one)
                .unwrap();
        }
        let request: Value = serde_json::from_str(&request_text).unwrap();
        let is_declined = request["payment_method"] == "pm_declined";
        let edit_result = edit_order(&mut shop, id, request);
        if !result_text.starts_with('{') {
            let (http_status, expected_text) = result_text.split_once(' ').unwrap();
            let failure = edit_result.unwrap_err();
            assert_eq!(
                failure.http_status().to_string(),
                http_status,
                "{example_name}: {failure}"
            );
            assert!(
                format!("{failure:?} {failure}").contains(expected_text),
                "{example_name}: {failure:?}"
            );
            continue;
        }
        edit_result.unwrap();
        if is_declined {
            let authorization_step = step_key(id, Step::AuthorizeEdit(1));
            shop.execute_step(&authorization_step, ProviderMode::Declines);
        }
        shop.run_until_settled();
        shop.check_settled();
        let expected_result: Value = serde_json::from_str(&result_text).unwrap();
        let order = shop.working_set.orders[&id].represent([]);
        let line_totals: Vec<i64> = order.items.iter().map(|line| line.total).collect();
        let actual_result = json!({"total": order.total, "authorized": order.payment.authorized, "lines": line_totals});
        assert_eq!(actual_result, expected_result, "{example_name}");
    }
}

#[derive(Debug, Clone)]
enum RandomAction {
    SetQuantities(u32, u32),
    Discount(i64),
    CancelEdit,
    Cancel,
    Ship(u32),
    ShipperWebhook(usize),
    ProviderEvent(ProviderEvent, bool),
    ExecuteStep(usize, ProviderMode),
    DeliverResult(usize, bool),
    Expire,
    DiscardDeadStep(usize),
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    let provider_event = prop_oneof![
        1 => Just(ProviderEvent::Expired),
        1 => Just(ProviderEvent::Captured),
        1 => (1..400i64).prop_map(ProviderEvent::PartlyCaptured),
    ];
    let mode_strategy = prop_oneof![
        6 => Just(ProviderMode::Responds),
        2 => Just(ProviderMode::LosesResponse),
        1 => Just(ProviderMode::TransientError),
        1 => Just(ProviderMode::Refuses),
        1 => Just(ProviderMode::Declines),
        1 => Just(ProviderMode::RequiresAction),
    ];
    prop_oneof![
        6 => (0..5u32, 0..4u32).prop_map(|(units_of_a, units_of_b)| RandomAction::SetQuantities(units_of_a, units_of_b)),
        2 => (0..500i64).prop_map(RandomAction::Discount),
        1 => Just(RandomAction::CancelEdit),
        1 => Just(RandomAction::Cancel),
        1 => (0..3u32).prop_map(RandomAction::Ship),
        1 => (0..6usize).prop_map(RandomAction::ShipperWebhook),
        1 => (provider_event, any::<bool>()).prop_map(|(event, is_notified)| RandomAction::ProviderEvent(event, is_notified)),
        12 => (0..10usize, mode_strategy).prop_map(|(step_index, mode)| RandomAction::ExecuteStep(step_index, mode)),
        12 => (0..10usize, any::<bool>()).prop_map(|(result_index, stays_in_flight)| RandomAction::DeliverResult(result_index, stays_in_flight)),
        1 => Just(RandomAction::Expire),
        1 => (0..4usize).prop_map(RandomAction::DiscardDeadStep),
    ]
}

fn apply_action(shop: &mut Shop, id: OrderId, random_action: RandomAction) {
    match random_action {
        RandomAction::SetQuantities(units_of_a, units_of_b) => {
            let order = &shop.working_set.orders[&id];
            let is_ordered = |sku: &str| order.items.iter().any(|line| line.sku.as_str() == sku);
            let items = [("A", units_of_a), ("B", units_of_b)].into_iter();
            let items: Vec<_> = items
                .filter(|(sku, units)| *units > 0 || is_ordered(sku))
                .collect();
            drop(set_quantities(shop, id, &items));
        }
        RandomAction::Discount(amount) => {
            let discounts = json!([{"label": "x", "amount": amount}]);
            drop(edit_order(shop, id, json!({"discounts": discounts})));
        }
        RandomAction::CancelEdit => {
            drop(shop.execute_request("order.cancel_edit", json!({"id": id})));
        }
        RandomAction::Cancel => drop(shop.cancel(id)),
        RandomAction::Ship(0) => drop(shop.execute_request("shipment.create", json!({"id": id}))),
        RandomAction::Ship(quantity) => {
            let items = json!([{"sku": "A", "quantity": quantity}]);
            drop(shop.execute_request("shipment.create", json!({"id": id, "items": items})));
        }
        RandomAction::ShipperWebhook(update_index) => {
            drop(shop.apply_webhook(id, ShipmentUpdate::ALL[update_index]));
        }
        RandomAction::ProviderEvent(event, is_notified) => {
            shop.apply_provider_event(id, event, is_notified);
        }
        RandomAction::ExecuteStep(step_index, mode) => {
            let due_steps = shop.due_steps();
            if !due_steps.is_empty() {
                shop.execute_step(&due_steps[step_index % due_steps.len()], mode);
            }
        }
        RandomAction::DeliverResult(result_index, stays_in_flight) => {
            if !shop.step_results.is_empty() {
                shop.deliver_result(result_index % shop.step_results.len(), stays_in_flight);
            }
        }
        RandomAction::Expire => {
            let mut step_keys = shop.working_set.steps.keys();
            let timer_key = step_keys
                .rfind(|key| matches!(key.step, Step::ExpireOrder | Step::ExpireEdit(_)))
                .cloned();
            if let Some(key) = timer_key {
                shop.execute_step(&key, ProviderMode::Responds);
            }
        }
        RandomAction::DiscardDeadStep(step_index) => {
            let dead_steps = shop.dead_steps();
            if let Some(key) = dead_steps
                .get(step_index % dead_steps.len().max(1))
                .cloned()
            {
                shop.execute_as_operator(Action::DiscardStep(key)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edited_orders_pay_once_and_leave_no_authorization_open(
        random_actions in vec(random_action(), 1..80), prepares_payments: bool, captures_in_parts: bool,
    ) {
        let mut shop = Shop::with_stock(&[("A", "east", 4), ("A", "west", 3), ("B", "west", 4)]);
        (shop.prepares_payments, shop.captures_in_parts) = (prepares_payments, captures_in_parts);
        let id = shop.order(&[("A", 2)]).unwrap();
        for random_action in random_actions {
            let order_before = shop.working_set.orders[&id].clone();
            apply_action(&mut shop, id, random_action);
            let order_after = &shop.working_set.orders[&id];
            let is_edited = (&order_before.items, order_before.total) != (&order_after.items, order_after.total);
            prop_assert!(!is_edited || order_before.shipped_shipments().next().is_none(), "edited after shipping");
            prop_assert!(!is_edited || order_after.total <= order_after.payable_amount(), "an edit took effect without its payment");
        }
        // The customer completes what is required, and all notifications arrive.
        for _ in 0..3 {
            shop.apply_provider_event(id, ProviderEvent::Authenticated, true);
            shop.run_until_settled();
            shop.notify(id);
            shop.run_until_settled();
        }
        shop.discard_dead_steps();
        shop.run_until_settled();
        let order = shop.working_set.orders[&id].clone();
        prop_assert!(order.pending_edit.is_none(), "{:?}", order);
        prop_assert!(order.open_authorizations.is_empty(), "{:?}", order);
        let provider_payment = shop.payment_at_provider(&order, order.authorized_edit_number);
        prop_assert_eq!((order.payment.captured, order.payment.refunded), (provider_payment.captured, provider_payment.refunded));
        if order.status == OrderStatus::Processing {
            let unpaid_shipment = json!({"id": id, "allow_unpaid": true});
            shop.execute_request("shipment.create", unpaid_shipment).unwrap();
        }
        shop.run_until_settled();
        shop.discard_dead_steps();
        shop.run_until_settled();
        shop.check_settled();
        prop_assert_eq!((reserved_units(&shop, "A"), reserved_units(&shop, "B")), (0, 0));
    }
}
