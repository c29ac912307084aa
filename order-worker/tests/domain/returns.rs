//! Returns: units, refunds and stock, alone and together with refunds and returned shipments.

use std::collections::BTreeMap;

use order_worker::domain::command::{Action, Command};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    event::EventData,
    id::OrderId,
    order::{OrderStatus, ShipmentUpdate, restocked_items},
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
};

use crate::{
    amounts::random_body,
    shop::{Shop, operator},
};

impl Shop {
    /// Requests a return and approves it; returns its id.
    fn create_approved_return(&mut self, id: OrderId, items: Value) -> Result<String, Failure> {
        let created_return =
            self.execute_request("return.create", json!({"id": id, "items": items}))?;
        let return_id = created_return["id"].as_str().unwrap().to_owned();
        self.execute_request("return.approve", json!({ "id": return_id }))?;
        Ok(return_id)
    }

    fn receive_return(&mut self, return_id: &str, mut body: Value) -> Result<Value, Failure> {
        body["id"] = json!(return_id);
        self.execute_request("return.receive", body)
    }

    /// Requests, approves and receives a return of units that go back on stock; returns the refund.
    fn return_units(&mut self, id: OrderId, sku: &str, units: u32) -> Result<i64, Failure> {
        let refund_due_before = self.working_set.orders[&id].total_refund_due;
        let items = json!([{"sku": sku, "quantity": units}]);
        let return_id = self.create_approved_return(id, items)?;
        let items = json!([{"sku": sku, "quantity": units, "restock": true}]);
        self.receive_return(&return_id, json!({ "items": items }))?;
        Ok(self.working_set.orders[&id].total_refund_due - refund_due_before)
    }

    fn on_hand(&self, sku: &str, warehouse: &str) -> i64 {
        let stock_levels = &self.working_set.stock_levels[&sku.parse().unwrap()];
        let stock_level = stock_levels.get(&warehouse.parse().unwrap());
        stock_level.map_or(0, |stock_level| stock_level.on_hand)
    }

    fn return_by_carrier(&mut self, id: OrderId, shipment_index: usize) -> Result<Value, Failure> {
        self.update_shipment_at(id, shipment_index, "shipment.returned")
    }

    fn update_shipment_at(
        &mut self,
        id: OrderId,
        shipment_index: usize,
        event_type: &str,
    ) -> Result<Value, Failure> {
        let shipments = &self.working_set.orders[&id].shipments;
        let shipment_id = shipments[shipment_index].id;
        let update = json!({"order_id": id, "shipment_id": shipment_id, "type": event_type, "timestamp": "2026-01-31T12:00:00Z"});
        self.execute_request("shipment.update", update)
    }
}

/// A shop with a paid order of `lines`, each unit at 100, of which every line was shipped on its own.
fn shop_with_shipped_order(lines: &[(&str, u32)]) -> (Shop, OrderId) {
    let mut shop = Shop::with_stock(&[("A", "main", 10), ("B", "main", 10)]);
    let id = shop.order(lines).unwrap();
    shop.run_until_settled();
    for (sku, quantity) in lines {
        let items = json!([{"sku": sku, "quantity": quantity}]);
        shop.execute_request("shipment.create", json!({"id": id, "items": items}))
            .unwrap();
    }
    shop.run_until_settled();
    (shop, id)
}

fn refusal_code_and_message(outcome: Result<Value, Failure>) -> (Code, String) {
    let failure = outcome.unwrap_err();
    (failure.code, failure.message)
}

#[test]
fn return_goes_from_request_to_receipt_with_restock_and_fee() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 3), ("B", 1)]);
    let items = json!([{"sku": "A", "quantity": 2, "reason": "too small"}]);
    let return_request = json!({"id": id, "items": items, "note": "call me"});
    let created_return = shop
        .execute_request("return.create", return_request)
        .unwrap();
    assert_eq!(created_return["number"], "1-R1");
    assert_eq!(created_return["status"], "requested");
    assert_eq!(created_return["refund_amount"], 200);
    assert_eq!(created_return["items"], items);
    let return_id = created_return["id"].as_str().unwrap();
    let receive_body = json!({"items": [
        {"sku": "A", "quantity": 1, "restock": true, "warehouse": "outlet"},
        {"sku": "A", "quantity": 1, "restock": false},
    ], "fee": 30});
    let (code, message) =
        refusal_code_and_message(shop.receive_return(return_id, receive_body.clone()));
    assert_eq!(code, Code::InvalidState);
    assert!(
        message.contains("requested") && message.contains("approved"),
        "{message}"
    );
    shop.execute_request("return.approve", json!({ "id": return_id }))
        .unwrap();
    let received_return = shop
        .receive_return(return_id, receive_body.clone())
        .unwrap();
    assert_eq!(received_return["status"], "received");
    assert_eq!(received_return["refund_amount"], 170);
    assert_eq!(received_return["fee"], 30);
    assert_eq!(received_return["version"], 3);
    assert_eq!(shop.on_hand("A", "main"), 7);
    assert_eq!(shop.on_hand("A", "outlet"), 1);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 170);
    shop.check_settled();
    // Nothing is received twice, and the fee is not refunded by a later rule.
    let (code, message) = refusal_code_and_message(shop.receive_return(return_id, receive_body));
    assert_eq!(code, Code::InvalidState);
    assert!(message.contains("is received"), "{message}");
    shop.apply_webhook(id, ShipmentUpdate::Returned).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 370);
    shop.check_settled();
    let order_json = shop.order_json(id);
    assert_eq!(order_json["returns"][0]["id"], return_id);
    let event_types = shop.event_types(id);
    for event_type in ["return.requested", "return.approved", "return.received"] {
        assert!(event_types.contains(&event_type), "{event_types:?}");
    }
}

#[test]
fn transitions_are_refused_with_both_statuses() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 2)]);
    let received_item = json!([{"sku": "A", "quantity": 1, "restock": true}]);
    for (ending_verb, status) in [("reject", "rejected"), ("cancel", "cancelled")] {
        let items = json!([{"sku": "A", "quantity": 2}]);
        let created_return =
            shop.execute_request("return.create", json!({"id": id, "items": items}));
        let return_id = created_return.unwrap()["id"].clone();
        let ending_request = json!({"id": return_id, "reason": "because"});
        let ended_return = shop
            .execute_request(&format!("return.{ending_verb}"), ending_request)
            .unwrap();
        assert_eq!(ended_return["status"], status);
        assert_eq!(ended_return["reason"], "because");
        for next_verb in ["approve", "reject", "cancel", "receive"] {
            let mut body = json!({ "id": return_id });
            if next_verb == "receive" {
                body["items"] = received_item.clone();
            }
            let outcome = shop.execute_request(&format!("return.{next_verb}"), body);
            let (code, message) = refusal_code_and_message(outcome);
            assert_eq!(code, Code::InvalidState);
            assert!(
                message.contains(&format!("is {status}")) && message.contains("must be"),
                "{message}"
            );
        }
    }
    // An approved return can be cancelled, but not rejected.
    let return_id = shop
        .create_approved_return(id, json!([{"sku": "A", "quantity": 1}]))
        .unwrap();
    let (code, _) =
        refusal_code_and_message(shop.execute_request("return.reject", json!({ "id": return_id })));
    assert_eq!(code, Code::InvalidState);
    shop.execute_request("return.cancel", json!({ "id": return_id }))
        .unwrap();
}

#[test]
fn units_are_returned_once_and_only_if_they_were_shipped() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let id = shop.order(&[("A", 3)]).unwrap();
    shop.run_until_settled();
    let return_body = |units: u32| json!({"id": id, "items": [{"sku": "A", "quantity": units}]});
    let (code, message) =
        refusal_code_and_message(shop.execute_request("return.create", return_body(1)));
    assert_eq!(code, Code::InvalidState);
    assert!(message.contains("nothing was shipped"), "{message}");
    let shipment_of_two = json!({"id": id, "items": [{"sku": "A", "quantity": 2}]});
    shop.execute_request("shipment.create", shipment_of_two)
        .unwrap();
    shop.run_until_settled();
    let (_, message) =
        refusal_code_and_message(shop.execute_request("return.create", return_body(3)));
    assert!(
        message.contains("/items/0/quantity: only 2 units of A"),
        "{message}"
    );
    let return_of_b = json!({"id": id, "items": [{"sku": "B", "quantity": 1}]});
    let (_, message) = refusal_code_and_message(shop.execute_request("return.create", return_of_b));
    assert!(message.contains("only 0 units of B"), "{message}");

    let return_id = shop
        .create_approved_return(id, json!([{"sku": "A", "quantity": 2}]))
        .unwrap();
    let (_, message) =
        refusal_code_and_message(shop.execute_request("return.create", return_body(1)));
    assert!(message.contains("only 0 units of A"), "{message}");
    let three_received_units = json!([{"sku": "A", "quantity": 2, "restock": true}, {"sku": "A", "quantity": 1, "restock": false}]);
    let (_, message) = refusal_code_and_message(
        shop.receive_return(&return_id, json!({ "items": three_received_units })),
    );
    assert!(
        message.contains("/items/1/quantity: only 0 units of A are part of return 1-R1"),
        "{message}"
    );
    // Fewer units arrive than expected: the rest can be returned again.
    let one_received_unit = json!([{"sku": "A", "quantity": 1, "restock": true}]);
    shop.receive_return(&return_id, json!({ "items": one_received_unit }))
        .unwrap();
    shop.execute_request("return.create", return_body(1))
        .unwrap();
    let (_, message) =
        refusal_code_and_message(shop.execute_request("return.create", return_body(1)));
    assert!(message.contains("only 0 units of A"), "{message}");
}

#[test]
fn refund_of_a_receipt_can_be_none_or_an_amount() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 4)]);
    let one_unit = json!([{"sku": "A", "quantity": 1}]);
    let received_items = json!([{"sku": "A", "quantity": 1, "restock": false}]);
    let first_return_id = shop.create_approved_return(id, one_unit.clone()).unwrap();
    let (_, message) = refusal_code_and_message(shop.receive_return(
        &first_return_id,
        json!({"items": received_items, "fee": 101}),
    ));
    assert!(message.contains("/fee: is 101"), "{message}");
    let excessive_receipt = json!({"items": received_items, "refund": {"amount": 401}});
    let (_, message) =
        refusal_code_and_message(shop.receive_return(&first_return_id, excessive_receipt));
    assert!(
        message.contains("/refund/amount: is 401, but only 400"),
        "{message}"
    );
    // More than the unit is worth, as goodwill.
    let receipt_with_goodwill = json!({"items": received_items, "refund": {"amount": 150}});
    let received_return = shop
        .receive_return(&first_return_id, receipt_with_goodwill)
        .unwrap();
    assert_eq!(received_return["refund_amount"], 150);
    // No refund: the unit can be refunded later by hand, but no rule does it.
    let second_return_id = shop.create_approved_return(id, one_unit.clone()).unwrap();
    let receipt_without_refund = json!({"items": received_items, "refund": "none"});
    let received_return = shop
        .receive_return(&second_return_id, receipt_without_refund)
        .unwrap();
    assert_eq!(received_return["refund_amount"], 0);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 150);
    let refund = json!({"items": [{"sku": "A", "quantity": 3}]});
    assert_eq!(
        shop.refund(id, refund).map_err(|failure| failure.message),
        Err("/items: amount to 300, but only 250 can be refunded".to_owned())
    );
    shop.return_by_carrier(id, 0).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 150 + 200);
    assert_eq!(shop.on_hand("A", "main"), 8);
    shop.check_settled();
}

#[test]
fn refunds_returns_and_returned_shipments_of_a_line_add_up_to_it_in_any_order() {
    // A line of 100 for three units, and another one that is kept. C: the carrier brings one unit back, F: one
    // is refunded, R: one is returned.
    let operation_letters = ['C', 'F', 'R'];
    let sequences = operation_letters.iter().flat_map(|a| {
        operation_letters
            .iter()
            .flat_map(move |b| operation_letters.map(move |c| [*a, *b, c]))
    });
    for operations in sequences {
        let mut shop = Shop::with_stock(&[("A", "main", 10), ("B", "main", 10)]);
        let discounts = json!([{"label": "x", "amount": 200}]);
        let items = json!([{"sku": "A", "quantity": 3, "discounts": discounts}, {"sku": "B", "quantity": 1}]);
        let id = shop.create_priced_order(json!({"items": items})).unwrap();
        shop.run_until_settled();
        for sku in ["A", "A", "A", "B"] {
            let shipment = json!({"id": id, "items": [{"sku": sku, "quantity": 1}]});
            shop.execute_request("shipment.create", shipment).unwrap();
        }
        shop.run_until_settled();
        for (operation, expected_amount) in operations.into_iter().zip([34, 67, 100]) {
            match operation {
                'C' => {
                    // A shipment that no return has taken a unit of.
                    let order = &shop.working_set.orders[&id];
                    let mut shipments = order.shipments.iter();
                    let shipment_index = shipments.rposition(|shipment| {
                        shipment.items[0].sku.as_str() == "A"
                            && shipment.status != shared::order::ShipmentStatus::Returned
                            && !order.unreturned_items(shipment).is_empty()
                    });
                    shop.return_by_carrier(id, shipment_index.unwrap()).unwrap();
                }
                'F' => {
                    shop.refund(id, json!({"items": [{"sku": "A", "quantity": 1}]}))
                        .unwrap();
                }
                _ => {
                    shop.return_units(id, "A", 1).unwrap();
                }
            }
            shop.run_until_settled();
            assert_eq!(
                shop.order_payments[&id].refunded, expected_amount,
                "{operations:?}"
            );
        }
        let further_refund = shop.refund(id, json!({"items": [{"sku": "A", "quantity": 1}]}));
        assert!(
            further_refund.is_err(),
            "{operations:?}: {further_refund:?}"
        );
        shop.check_settled();
    }
}

#[test]
fn shipment_that_comes_back_is_not_restocked_for_units_that_were_returned() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 3)]);
    let return_id = shop
        .create_approved_return(id, json!([{"sku": "A", "quantity": 2}]))
        .unwrap();
    let items = json!([{"sku": "A", "quantity": 1, "restock": true}, {"sku": "A", "quantity": 1, "restock": false}]);
    shop.receive_return(&return_id, json!({ "items": items }))
        .unwrap();
    assert_eq!(shop.on_hand("A", "main"), 8);
    let open_return_id = shop
        .create_approved_return(id, json!([{"sku": "A", "quantity": 1}]))
        .unwrap();
    shop.return_by_carrier(id, 0).unwrap();
    assert_eq!(shop.on_hand("A", "main"), 9);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 300);
    // The carrier had the unit of the open return.
    let items = json!([{"sku": "A", "quantity": 1, "restock": true}]);
    let (_, message) =
        refusal_code_and_message(shop.receive_return(&open_return_id, json!({ "items": items })));
    assert!(
        message.contains("only 0 units of A have not come back"),
        "{message}"
    );
    assert!(!shop.working_set.orders[&id].is_closed());
    shop.execute_request("return.cancel", json!({ "id": open_return_id }))
        .unwrap();
    assert!(shop.working_set.orders[&id].is_closed());
    shop.check_settled();
}

#[test]
fn receipt_is_refunded_without_automatic_refunds_of_shipments() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 1), ("A", 1)]);
    shop.refunds_returns = false;
    assert_eq!(shop.return_units(id, "A", 1).unwrap(), 100);
    shop.return_by_carrier(id, 1).unwrap();
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 100);
    // The unit of the returned shipment was not refunded.
    let refund = json!({"items": [{"sku": "A", "quantity": 1}]});
    assert_eq!(shop.refund(id, refund).unwrap(), 100);
}

#[test]
fn nothing_is_refunded_that_was_not_captured() {
    let mut shop = Shop::with_stock(&[("A", "main", 10), ("B", "main", 10)]);
    let id = shop.order(&[("A", 1), ("B", 1)]).unwrap();
    shop.run_until_settled();
    let new_shipment =
        |sku: &str| json!({"id": id, "items": [{"sku": sku, "quantity": 1}], "allow_unpaid": true});
    shop.execute_request("shipment.create", new_shipment("A"))
        .unwrap();
    // The capture is not finished: its amount is not known.
    let items = json!([{"sku": "A", "quantity": 1}]);
    let return_id = shop.create_approved_return(id, items).unwrap();
    let received_items = json!([{"sku": "A", "quantity": 1, "restock": true}]);
    let (code, message) = refusal_code_and_message(
        shop.receive_return(&return_id, json!({ "items": received_items })),
    );
    assert_eq!(code, Code::InvalidState);
    assert!(message.contains("100 minor units"), "{message}");
    shop.run_until_settled();
    // The capture of B fails for good and is discarded.
    shop.order_payments
        .get_mut(&id)
        .unwrap()
        .is_closed_for_captures = true;
    shop.execute_request("shipment.create", new_shipment("B"))
        .unwrap();
    shop.run_until_settled();
    shop.discard_dead_steps();
    assert_eq!(shop.return_units(id, "B", 1).unwrap(), 0);
    let received_return = shop
        .receive_return(&return_id, json!({ "items": received_items }))
        .unwrap();
    assert_eq!(received_return["refund_amount"], 100);
    shop.run_until_settled();
    assert_eq!(shop.order_payments[&id].refunded, 100);
    shop.check_settled();
}

#[test]
fn free_order_is_returned_without_a_refund() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let discounts = json!([{"label": "gift", "amount": 200}]);
    let items = json!([{"sku": "A", "quantity": 2, "discounts": discounts}]);
    let id = shop.create_priced_order(json!({ "items": items })).unwrap();
    shop.execute_request("shipment.create", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    assert_eq!(shop.return_units(id, "A", 2).unwrap(), 0);
    assert_eq!(shop.on_hand("A", "main"), 10);
    shop.check_settled();
}

#[test]
fn open_return_keeps_the_order_open_and_texts_are_erased_with_it() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 2)]);
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    assert_eq!(shop.working_set.orders[&id].status, OrderStatus::Delivered);
    let items = json!([{"sku": "A", "quantity": 1, "reason": "Ada disliked it"}]);
    let return_request = json!({"id": id, "items": items, "note": "Ada will call"});
    let created_return = shop
        .execute_request("return.create", return_request)
        .unwrap();
    shop.execute_as_operator(Action::RedactOrder(id)).unwrap();
    assert!(!shop.event_types(id).contains(&"order.redacted"));
    let (_, message) =
        refusal_code_and_message(shop.execute_request("order.delete", json!({"id": id})));
    assert!(message.contains("1-R1 is requested"), "{message}");
    let cancellation = json!({"id": created_return["id"], "reason": "Ada keeps it"});
    shop.execute_request("return.cancel", cancellation).unwrap();
    shop.execute_as_operator(Action::RedactOrder(id)).unwrap();
    let returns_json = shop.order_json(id)["returns"].to_string();
    assert!(!returns_json.contains("Ada"), "{returns_json}");
    shop.execute_request("order.delete", json!({"id": id}))
        .unwrap();
    let (code, _) = refusal_code_and_message(
        shop.execute_request("return.approve", json!({"id": created_return["id"]})),
    );
    assert_eq!(code, Code::NotFound);
}

#[test]
fn order_whose_units_have_all_come_back_is_over_without_a_report_of_the_carrier() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 2), ("B", 1)]);
    for (sku, units, can_be_deleted) in [("A", 2, false), ("B", 1, true)] {
        shop.return_units(id, sku, units).unwrap();
        shop.run_until_settled();
        let delete_result = shop.execute_request("order.delete", json!({"id": id}));
        assert_eq!(delete_result.is_ok(), can_be_deleted, "{delete_result:?}");
    }
}

#[test]
fn storefronts_request_and_cancel_their_own_returns_only() {
    let (mut shop, id) = shop_with_shipped_order(&[("A", 2)]);
    let execute_as_storefront =
        |shop: &mut Shop, storefront_name: &str, pattern: &str, body: Value| {
            let action = match Request::read(pattern, body).unwrap() {
                Request::CreateReturn(request) => Action::CreateReturn(request),
                Request::ApproveReturn(request) => Action::ChangeReturn {
                    order_id: Some(id),
                    change: order_worker::domain::command::ReturnChange::Approve(request),
                },
                Request::CancelReturn(request) => Action::ChangeReturn {
                    order_id: Some(id),
                    change: order_worker::domain::command::ReturnChange::Cancel(request),
                },
                other_request => panic!("{}", other_request.pattern()),
            };
            let caller = Caller {
                role: Role::Storefront,
                storefront: storefront_name.parse().unwrap(),
                ..operator()
            };
            let command = Command::Request {
                caller,
                idempotency: None,
                if_match: None,
                action,
            };
            shop.carry_out(&command)
                .outcome
                .map(|reply_json| reply_json.value())
        };
    let return_request = json!({"id": id, "items": [{"sku": "A", "quantity": 1}]});
    let (code, _) = refusal_code_and_message(execute_as_storefront(
        &mut shop,
        "other",
        "return.create",
        return_request.clone(),
    ));
    assert_eq!(code, Code::NotFound);
    let created_return =
        execute_as_storefront(&mut shop, "default", "return.create", return_request).unwrap();
    let return_reference = json!({"id": created_return["id"]});
    let (code, _) = refusal_code_and_message(execute_as_storefront(
        &mut shop,
        "default",
        "return.approve",
        return_reference.clone(),
    ));
    assert_eq!(code, Code::Forbidden);
    let (code, message) = refusal_code_and_message(execute_as_storefront(
        &mut shop,
        "other",
        "return.cancel",
        return_reference.clone(),
    ));
    assert_eq!(code, Code::NotFound);
    assert!(message.contains("return"), "{message}");
    execute_as_storefront(&mut shop, "default", "return.cancel", return_reference).unwrap();
}

/// Checks the units and the stock of an order with only these events: what left, minus what came back, is
/// missing on stock, and no more units came back than left.
fn check_units_and_stock(shop: &Shop, id: OrderId, initial_stock: i64) {
    let (mut shipped_units, mut returned_units, mut restocked_units) = (0, 0, 0);
    let count_units = |items: &[shared::order::StockItem]| -> i64 {
        items
            .iter()
            .map(|item| i64::from(item.quantity.get()))
            .sum()
    };
    for event in shop.history(id) {
        match &event.event_data {
            EventData::ShipmentShipped { items, .. } => shipped_units += count_units(items),
            EventData::ShipmentReturned { items, .. } => {
                returned_units += count_units(items);
                restocked_units += count_units(items);
            }
            EventData::ReturnReceived { items, .. } => {
                let unit_counts = items.iter().map(|item| i64::from(item.quantity.get()));
                returned_units += unit_counts.sum::<i64>();
                restocked_units += count_units(&restocked_items(items));
            }
            _ => {}
        }
    }
    assert!(
        returned_units <= shipped_units,
        "{returned_units} of {shipped_units} came back"
    );
    let stock_by_sku = shop.working_set.stock_levels.values();
    let on_hand: i64 = stock_by_sku
        .flat_map(|stock_levels| stock_levels.values())
        .map(|stock_level| stock_level.on_hand)
        .sum();
    assert_eq!(on_hand, initial_stock - shipped_units + restocked_units);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn returns_refunds_and_returned_shipments_add_up(
        lines in vec((1..5_u32, 0..700_i64, 0..1_000_i64, 0..1_000_i64), 1..4),
        order_discount_share in 0..1_000_i64,
        shipping in prop::option::of((0..900_i64, 0..1_000_i64)),
        tax_included: bool,
        refunds_exactly: bool,
        carrier_returns_rest: bool,
        actions in vec((0..9_u32, 0..3_usize, 1..3_u32, 0..4_u32), 0..16),
    ) {
        let stock = [("A", "east", 2), ("A", "west", 3), ("B", "west", 1), ("B", "east", 4), ("C", "east", 5)];
        let mut shop = Shop::with_stock(&stock);
        let body = random_body(&lines, order_discount_share, shipping, tax_included);
        let id = shop.create_priced_order(body).unwrap();
        let order_json = shop.working_set.orders[&id].represent([]);
        shop.run_until_settled();
        let mut refunded_by_sku = BTreeMap::<String, i64>::new();
        for (action_number, sku_index, quantity, variant) in actions {
            let sku = ["A", "B", "C"][sku_index];
            let items = json!([{"sku": sku, "quantity": quantity}]);
            match action_number {
                0 | 1 => {
                    let _ = shop.execute_request("shipment.create", json!({"id": id, "items": items}));
                }
                2 => {
                    if let Ok(amount) = shop.refund(id, json!({"items": items})) {
                        *refunded_by_sku.entry(sku.to_owned()).or_default() += amount;
                    }
                }
                3 if variant == 0 => {
                    let _ = shop.refund(id, json!({"shipping": true}));
                }
                3 if !refunds_exactly => {
                    let _ = shop.refund(id, json!({"amount": 37 * quantity}));
                }
                4 | 5 => {
                    let shipment_index = quantity as usize - 1;
                    if shipment_index < shop.working_set.orders[&id].shipments.len() {
                        let event_type = if action_number == 4 { "shipment.delivered" } else { "shipment.returned" };
                        let _ = shop.update_shipment_at(id, shipment_index, event_type);
                    }
                }
                6 => {
                    let _ = shop.execute_request("return.create", json!({"id": id, "items": items}));
                }
                _ => {
                    let return_id = shop.working_set.orders[&id].open_return().map(|order_return| order_return.id.to_string());
                    let return_id = match return_id {
                        Some(return_id) => {
                            let _ = shop.execute_request("return.approve", json!({ "id": return_id }));
                            return_id
                        }
                        None => match shop.create_approved_return(id, items) {
                            Ok(return_id) => return_id,
                            Err(_) => continue,
                        },
                    };
                    let order_return = shop.working_set.orders[&id].find_return(return_id.parse().unwrap()).unwrap();
                    let returned_item = &order_return.items[0];
                    let units = returned_item.quantity.get().min(quantity);
                    let sku = returned_item.sku.to_string();
                    let restock = variant < 3;
                    let mut received_item = json!({"sku": sku, "quantity": units, "restock": restock});
                    if variant == 2 {
                        received_item["warehouse"] = json!("outlet");
                    }
                    let mut receive_body = json!({ "items": [received_item] });
                    match (refunds_exactly, variant) {
                        (false, 1) => receive_body["fee"] = json!(11),
                        (false, 2) => receive_body["refund"] = json!("none"),
                        (false, 3) => receive_body["refund"] = json!({"amount": 53}),
                        _ => {}
                    }
                    if let Ok(received_return) = shop.receive_return(&return_id, receive_body) {
                        let items = received_return["received"].as_array().unwrap();
                        let refunded_value: i64 = items.iter().map(|item| item["value"].as_i64().unwrap()).sum();
                        *refunded_by_sku.entry(sku).or_default() += refunded_value;
                    }
                }
            }
            shop.run_until_settled();
            shop.check_settled();
            check_units_and_stock(&shop, id, 15);
            let order = &shop.working_set.orders[&id];
            prop_assert!(order.payment.refunded <= order.payment.captured);
            for (sku, refunded_amount) in &refunded_by_sku {
                let lines_of_sku = order_json.items.iter().filter(|line| line.sku.as_str() == *sku);
                let lines_total: i64 = lines_of_sku.map(|line| line.total).sum();
                prop_assert!(*refunded_amount <= lines_total, "{sku}: {refunded_amount} of {lines_total}");
            }
        }
        // Everything is shipped and comes back: exactly everything is refunded, unless an operator kept a part.
        let _ = shop.execute_request("shipment.create", json!({"id": id}));
        shop.run_until_settled();
        while let Some(open_return) = shop.working_set.orders[&id].open_return() {
            let cancellation = json!({"id": open_return.id});
            shop.execute_request("return.cancel", cancellation).unwrap();
        }
        if carrier_returns_rest {
            let _ = shop.apply_webhook(id, ShipmentUpdate::Returned);
        } else {
            for sku in ["A", "B", "C"] {
                let units = shop.working_set.orders[&id].returnable_units(&sku.parse().unwrap());
                if units > 0 {
                    shop.return_units(id, sku, u32::try_from(units).unwrap()).unwrap();
                }
            }
            let _ = shop.refund(id, json!({"shipping": true}));
        }
        shop.run_until_settled();
        shop.check_settled();
        check_units_and_stock(&shop, id, 15);
        let order = &shop.working_set.orders[&id];
        prop_assert_eq!(order.payment.captured, order.total);
        prop_assert!(order.payment.refunded <= order.total);
        if refunds_exactly {
            prop_assert_eq!(order.payment.refunded, order.total);
        }
        prop_assert!(order.returns.iter().all(|order_return| !order_return.status.is_open()));
    }
}
