//! Shipments: which of them an update changes, the time that it records, and the actions of operators.

use order_worker::domain::{order::Order, step::Step};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    id::{OrderId, Warehouse},
    order::{OrderStatus, PaymentStatus, Shipment, ShipmentStatus, ShipmentUpdate},
    outcome::{Code, Failure},
};

use crate::shop::{ProviderEvent, ProviderMode, Shop};

impl Shop {
    pub(crate) fn create_shipment(&mut self, id: OrderId, body: Value) -> Result<Value, Failure> {
        let mut body = body;
        body["id"] = json!(id);
        self.execute_request("shipment.create", body)
    }

    pub(crate) fn update_shipment(
        &mut self,
        id: OrderId,
        event_type: &str,
        shipment_selector: Value,
    ) -> Result<Value, Failure> {
        let mut body = shipment_selector;
        body["order_id"] = json!(id);
        body["type"] = json!(format!("shipment.{event_type}"));
        if body.get("timestamp").is_none() {
            body["timestamp"] = json!("2020-01-31T12:00:00Z");
        }
        self.execute_request("shipment.update", body)
    }

    pub(crate) fn shipment_statuses(&self, id: OrderId) -> Vec<(String, ShipmentStatus)> {
        let shipments = self.working_set.orders[&id].shipments.iter();
        shipments
            .map(|shipment| (shipment.tracking_number.clone(), shipment.status))
            .collect()
    }

    pub(crate) fn stored_order(&self, id: OrderId) -> &Order {
        &self.working_set.orders[&id]
    }

    pub(crate) fn stock_level(&self, sku: &str, warehouse: &str) -> (i64, i64) {
        let stock_level =
            self.working_set.stock_levels[&sku.parse().unwrap()][&warehouse.parse().unwrap()];
        (stock_level.on_hand, stock_level.reserved)
    }
}

/// Creates an order with one shipment under the tracking number TA and another under TB.
fn order_with_two_shipments(shop: &mut Shop) -> OrderId {
    let id = shop.order(&[("A", 2), ("B", 1)]).unwrap();
    shop.run_until_settled();
    for (sku, quantity, tracking_number) in [("A", 2, "TA"), ("B", 1, "TB")] {
        let items = json!([{"sku": sku, "quantity": quantity}]);
        let body = json!({"items": items, "tracking_number": tracking_number});
        shop.create_shipment(id, body).unwrap();
    }
    shop.run_until_settled();
    id
}

fn shop_with_stock() -> Shop {
    Shop::with_stock(&[("A", "east", 9), ("B", "west", 9)])
}

#[test]
fn update_of_an_unknown_shipment_or_tracking_number_changes_nothing() {
    let mut shop = shop_with_stock();
    let id = order_with_two_shipments(&mut shop);
    let order_before = shop.stored_order(id).clone();
    let other_id = order_with_two_shipments(&mut shop);
    let foreign_shipment_id = shop.stored_order(other_id).shipments[0].id;
    for update in ShipmentUpdate::ALL {
        let update_name = update.as_str().strip_prefix("shipment.").unwrap();
        for selector in [
            json!({"tracking_number": "TX"}),
            json!({"tracking_number": "ta"}),
            json!({"shipment_id": foreign_shipment_id}),
        ] {
            let failure = shop
                .update_shipment(id, update_name, selector.clone())
                .unwrap_err();
            assert_eq!(
                failure.code,
                Code::NotFound,
                "{update_name} {selector}: {failure}"
            );
        }
        // A tracking number that belongs to another shipment than the id is refused.
        let shipment_with_ta = order_before.shipped_shipments().next().unwrap();
        let selector = json!({"shipment_id": shipment_with_ta.id, "tracking_number": "TB"});
        let failure = shop.update_shipment(id, update_name, selector).unwrap_err();
        assert_eq!(
            failure.code,
            Code::InvalidRequest,
            "{update_name}: {failure}"
        );
    }
    assert_eq!(*shop.stored_order(id), order_before);
}

#[test]
fn tracking_number_selects_all_of_its_shipments_and_no_others() {
    let mut shop = Shop::with_stock(&[("A", "east", 9), ("B", "west", 9), ("C", "north", 9)]);
    let id = shop.order(&[("A", 1), ("B", 1), ("C", 1)]).unwrap();
    shop.run_until_settled();
    for (sku, tracking_number) in [("A", "T1"), ("B", "T1"), ("C", "T2")] {
        let items = json!([{"sku": sku, "quantity": 1}]);
        shop.create_shipment(
            id,
            json!({"items": items, "tracking_number": tracking_number}),
        )
        .unwrap();
    }
    shop.run_until_settled();
    shop.update_shipment(id, "delivered", json!({"tracking_number": "T1"}))
        .unwrap();
    let statuses_of = |tracking_number: &str| -> Vec<ShipmentStatus> {
        let all_statuses = shop.shipment_statuses(id).into_iter();
        all_statuses
            .filter(|(other_number, _)| other_number == tracking_number)
            .map(|(_, status)| status)
            .collect()
    };
    assert_eq!(statuses_of("T1"), [ShipmentStatus::Delivered; 2]);
    assert_eq!(statuses_of("T2"), [ShipmentStatus::Shipped]);
    shop.update_shipment(id, "delivered", json!({"tracking_number": "T2"}))
        .unwrap();
    assert_eq!(shop.stored_order(id).status, OrderStatus::Delivered);
}

#[test]
fn unlabelled_items_are_shipped_under_a_new_tracking_number() {
    let mut shop = shop_with_stock();
    let id = shop.order(&[("A", 3)]).unwrap();
    shop.run_until_settled();
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 1}], "tracking_number": "TA"});
    shop.create_shipment(id, partial_shipment).unwrap();
    shop.run_until_settled();
    // The rest has no label yet, so it can't be in transit, delivered or returned.
    for event_type in [
        "in_transit",
        "out_for_delivery",
        "delivered",
        "failed",
        "returned",
    ] {
        let selector = json!({"tracking_number": "TX"});
        let failure = shop.update_shipment(id, event_type, selector).unwrap_err();
        assert_eq!(failure.code, Code::NotFound, "{event_type}");
    }
    shop.update_shipment(id, "shipped", json!({"tracking_number": "TX"}))
        .unwrap();
    let statuses = shop.shipment_statuses(id);
    assert!(statuses.contains(&("TX".to_owned(), ShipmentStatus::Shipped)));
    assert_eq!(shop.stored_order(id).status, OrderStatus::Shipped);
    shop.update_shipment(id, "delivered", json!({"tracking_number": "TX"}))
        .unwrap();
    let statuses = shop.shipment_statuses(id);
    assert!(statuses.contains(&("TA".to_owned(), ShipmentStatus::Shipped)));
    assert!(statuses.contains(&("TX".to_owned(), ShipmentStatus::Delivered)));
    shop.run_until_settled();
    shop.check_settled();
}

#[test]
fn return_of_the_whole_order_applies_to_shipped_items_only() {
    let mut shop = shop_with_stock();
    let id = shop.order(&[("A", 2), ("B", 1)]).unwrap();
    shop.run_until_settled();
    let order_before = shop.stored_order(id).clone();
    for event_type in ["returned", "failed"] {
        let failure = shop.update_shipment(id, event_type, json!({})).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{failure}");
    }
    assert_eq!(*shop.stored_order(id), order_before);
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 2}], "tracking_number": "TA"});
    shop.create_shipment(id, partial_shipment).unwrap();
    shop.update_shipment(id, "returned", json!({})).unwrap();
    let statuses = shop.shipment_statuses(id);
    let count_shipments = |wanted_status| {
        statuses
            .iter()
            .filter(|(_, status)| *status == wanted_status)
            .count()
    };
    assert_eq!(count_shipments(ShipmentStatus::Returned), 1);
    assert_eq!(count_shipments(ShipmentStatus::LabelCreated), 1);
    assert_eq!(
        (shop.stock_level("A", "east"), shop.stock_level("B", "west")),
        ((9, 0), (9, 1))
    );
}

#[test]
fn plausible_timestamps_of_the_shipper_are_used() {
    let mut shop = shop_with_stock();
    let time_at = |millis: i64| jiff::Timestamp::from_millisecond(millis).unwrap();
    let id = order_with_two_shipments(&mut shop);
    let created_at = shop.stored_order(id).created_at;
    shop.clock_ms += 3_600_000;
    let clock_before = shop.clock_ms;
    let delivered_at = |shop: &Shop, tracking_number: &str| {
        let mut shipments = shop.stored_order(id).shipments.iter();
        let is_delivered = |shipment: &&Shipment| {
            shipment.tracking_number == tracking_number
                && shipment.status == ShipmentStatus::Delivered
        };
        shipments.find(is_delivered).unwrap().delivered_at.unwrap()
    };
    let selector_of = |tracking_number: &str, timestamp| json!({"tracking_number": tracking_number, "timestamp": timestamp});
    shop.update_shipment(
        id,
        "delivered",
        selector_of("TA", time_at(clock_before - 60_000)),
    )
    .unwrap();
    assert_eq!(delivered_at(&shop, "TA"), time_at(clock_before - 60_000));
    // The timestamp is before the shipment, so the current time is used.
    shop.update_shipment(id, "delivered", selector_of("TB", created_at))
        .unwrap();
    assert_eq!(delivered_at(&shop, "TB"), time_at(shop.clock_ms));

    let id = shop.order(&[("A", 1)]).unwrap();
    shop.run_until_settled();
    shop.clock_ms += 3_600_000;
    let shipped_at = time_at(shop.clock_ms - 1_800_000);
    shop.update_shipment(id, "shipped", json!({"timestamp": shipped_at}))
        .unwrap();
    let shipment = &shop.stored_order(id).shipments[0];
    assert_eq!(shipment.shipped_at, Some(shipped_at));
    let future_time = time_at(shop.clock_ms + 3_600_000);
    shop.update_shipment(id, "delivered", json!({"timestamp": future_time}))
        .unwrap();
    let shipment = &shop.stored_order(id).shipments[0];
    assert_eq!(shipment.delivered_at, Some(time_at(shop.clock_ms)));

    // The timestamp is before the order, so the current time is used.
    let id = shop.order(&[("A", 1)]).unwrap();
    shop.run_until_settled();
    shop.update_shipment(id, "shipped", json!({"timestamp": "2020-01-01T00:00:00Z"}))
        .unwrap();
    let shipment = &shop.stored_order(id).shipments[0];
    assert_eq!(shipment.shipped_at, Some(time_at(shop.clock_ms)));
}

#[test]
fn items_of_a_cancelled_label_can_be_shipped_under_another_number() {
    let mut shop = shop_with_stock();
    let id = shop.order(&[("A", 2)]).unwrap();
    shop.run_until_settled();
    let labelled_shipment = shop.stored_order(id).shipments[0].clone();
    let cancel_body = json!({"id": id, "shipment_id": labelled_shipment.id, "reason": "torn"});
    let order = shop
        .execute_request("shipment.cancel", cancel_body.clone())
        .unwrap();
    assert_eq!(order["shipments"][0]["status"], "cancelled");
    let cancellation_step = Step::CancelShipment("east".parse::<Warehouse>().unwrap().into());
    assert!(
        shop.due_steps()
            .iter()
            .any(|key| key.step == cancellation_step)
    );
    // A repeated request changes nothing, and a shipment of another order is not found.
    let version = shop.stored_order(id).version;
    shop.execute_request("shipment.cancel", cancel_body)
        .unwrap();
    assert_eq!(shop.stored_order(id).version, version);
    let other_id = shop.order(&[("A", 1)]).unwrap();
    let foreign_cancellation = json!({"id": other_id, "shipment_id": labelled_shipment.id});
    let failure = shop
        .execute_request("shipment.cancel", foreign_cancellation)
        .unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    shop.run_until_settled();
    assert_eq!(shop.stock_level("A", "east"), (9, 3));
    let order = shop
        .create_shipment(id, json!({"tracking_number": "T2"}))
        .unwrap();
    assert_eq!(order["status"], "shipped");
    let shipped_id = shop.stored_order(id).shipped_shipments().next().unwrap().id;
    let late_cancellation = json!({"id": id, "shipment_id": shipped_id});
    let failure = shop
        .execute_request("shipment.cancel", late_cancellation)
        .unwrap_err();
    assert_eq!(failure.code, Code::InvalidState);
    shop.run_until_settled();
    shop.check_settled();
}

#[test]
fn only_shipped_items_are_captured_if_the_remaining_ones_are_cancelled() {
    for captures_in_parts in [true, false] {
        let mut shop = shop_with_stock();
        shop.captures_in_parts = captures_in_parts;
        let id = shop.order(&[("A", 3), ("B", 2)]).unwrap();
        shop.run_until_settled();
        let early_cancellation = shop.execute_request("order.cancel_remaining", json!({"id": id}));
        assert_eq!(early_cancellation.unwrap_err().code, Code::InvalidState);
        let partial_shipment =
            json!({"items": [{"sku": "A", "quantity": 1}], "tracking_number": "TA"});
        shop.create_shipment(id, partial_shipment).unwrap();
        shop.run_until_settled();
        let body = json!({"id": id, "reason": "broken"});
        let order = shop
            .execute_request("order.cancel_remaining", body.clone())
            .unwrap();
        assert_eq!(order["status"], "shipped");
        assert_eq!(
            order["cancelled_items"],
            json!([{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 2}])
        );
        assert_eq!(
            (shop.stock_level("A", "east"), shop.stock_level("B", "west")),
            ((8, 0), (9, 0))
        );
        let version = shop.stored_order(id).version;
        shop.execute_request("order.cancel_remaining", body)
            .unwrap();
        assert_eq!(
            shop.stored_order(id).version,
            version,
            "a repeated request changes nothing"
        );
        shop.run_until_settled();
        let order = shop.stored_order(id);
        assert_eq!((order.payment.captured, order.payment.refunded), (100, 0));
        assert_eq!(shop.order_payments[&id].captured, 100);
        // The labels of the remaining items are cancelled, and nothing more can be shipped.
        assert_eq!(order.uncancelled_shipments().count(), 1);
        let refusal = shop.create_shipment(id, json!({})).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidState);
        shop.update_shipment(id, "delivered", json!({"tracking_number": "TA"}))
            .unwrap();
        assert_eq!(shop.stored_order(id).status, OrderStatus::Delivered);
        shop.run_until_settled();
        shop.check_settled();
    }
}

#[test]
fn capture_in_progress_when_remaining_items_are_cancelled_is_not_the_last() {
    let mut shop = shop_with_stock();
    shop.captures_in_parts = false;
    let id = shop.order(&[("A", 3)]).unwrap();
    shop.run_until_settled();
    shop.create_shipment(id, json!({"items": [{"sku": "A", "quantity": 1}]}))
        .unwrap();
    let capture_key = |shop: &Shop| {
        let mut due_steps = shop.due_steps().into_iter();
        due_steps
            .find(|key| key.step == Step::CapturePayment)
            .unwrap()
    };
    // The provider captures nothing for a part, and its response is late.
    shop.execute_step(&capture_key(&shop), ProviderMode::Responds);
    shop.execute_request("order.cancel_remaining", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    assert_eq!(shop.stored_order(id).payment.captured, 100);
    shop.check_settled();
}

#[test]
fn captured_amount_of_cancelled_items_is_refunded() {
    let mut shop = shop_with_stock();
    let id = shop.order(&[("A", 3)]).unwrap();
    shop.run_until_settled();
    shop.create_shipment(id, json!({"items": [{"sku": "A", "quantity": 1}]}))
        .unwrap();
    // The payment is captured completely in the provider's dashboard.
    shop.apply_provider_event(id, ProviderEvent::Captured, true);
    shop.run_until_settled();
    assert_eq!(shop.stored_order(id).payment.captured, 300);
    shop.execute_request("order.cancel_remaining", json!({"id": id}))
        .unwrap();
    shop.run_until_settled();
    let payment = &shop.stored_order(id).payment;
    assert_eq!((payment.captured, payment.refunded), (300, 200));
    assert_eq!(payment.status, PaymentStatus::PartiallyRefunded);
    shop.check_settled();
}

#[test]
fn items_are_shipped_from_the_named_warehouse() {
    let mut shop = Shop::with_stock(&[("A", "east", 2), ("A", "west", 5), ("B", "west", 1)]);
    let id = shop.order(&[("A", 6), ("B", 1)]).unwrap();
    shop.run_until_settled();
    assert_eq!(
        (shop.stock_level("A", "east"), shop.stock_level("A", "west")),
        ((2, 1), (5, 5))
    );
    let refusal = shop
        .create_shipment(id, json!({"warehouse": "north"}))
        .unwrap_err();
    assert_eq!(refusal.code, Code::InvalidRequest);
    // The warehouse has one unit more than is reserved for the order.
    let shipment_from_east =
        |quantity: u32| json!({"warehouse": "east", "items": [{"sku": "A", "quantity": quantity}]});
    for excess_quantity in [3, 7] {
        let failure = shop
            .create_shipment(id, shipment_from_east(excess_quantity))
            .unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{failure}");
    }
    shop.create_shipment(id, shipment_from_east(2)).unwrap();
    assert_eq!(
        (shop.stock_level("A", "east"), shop.stock_level("A", "west")),
        ((0, 0), (5, 4))
    );
    let shipped_items = shop
        .stored_order(id)
        .shipped_shipments()
        .flat_map(|shipment| &shipment.items);
    let shipped_items: Vec<_> = shipped_items
        .map(|item| (item.warehouse.as_str(), item.quantity.get()))
        .collect();
    assert_eq!(shipped_items, [("east", 1), ("east", 1)]);
    let order = shop
        .create_shipment(id, json!({"warehouse": "west"}))
        .unwrap();
    assert_eq!(order["status"], "shipped");
    assert_eq!(order.get("cancelled_items"), None);
    assert_eq!(
        (shop.stock_level("A", "west"), shop.stock_level("B", "west")),
        ((1, 0), (0, 0))
    );
    shop.run_until_settled();
    assert_eq!(shop.stored_order(id).payment.captured, 700);
    shop.check_settled();
}

#[test]
fn mistyped_warehouse_can_be_removed_or_merged_into_another() {
    let mut shop = Shop::with_stock(&[("A", "berlin", 5), ("A", "belrin", 7)]);
    let remove_stock = |shop: &mut Shop, body: Value| {
        let mut body = body;
        body["sku"] = json!("A");
        body["warehouse"] = json!("belrin");
        shop.execute_request("stock.remove", body)
    };
    let id = shop.order(&[("A", 7)]).unwrap();
    let refusal = remove_stock(&mut shop, json!({"move_to": "berlin"})).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState, "reserved");
    shop.cancel(id).unwrap();
    let refusal = remove_stock(&mut shop, json!({})).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidState, "not empty");
    let refusal = remove_stock(&mut shop, json!({"move_to": "belrin"})).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidRequest, "itself");
    let product = remove_stock(&mut shop, json!({"move_to": "berlin"})).unwrap();
    let expected_stock =
        json!([{"warehouse": "berlin", "on_hand": 12, "reserved": 0, "available": 12}]);
    assert_eq!(product["stock"], expected_stock);
    let second_removal = remove_stock(&mut shop, json!({})).unwrap_err();
    assert_eq!(second_removal.code, Code::NotFound);
    // The warehouse appears again when its stock is set.
    let stock = json!({"sku": "A", "warehouse": "belrin", "on_hand": 0});
    let product = shop.execute_request("stock.set", stock).unwrap();
    assert_eq!(product["stock"].as_array().unwrap().len(), 2);
    let product = remove_stock(&mut shop, json!({})).unwrap();
    assert_eq!(product["stock"], expected_stock);
}

/// A random action of the shipper, an operator or the payment provider.
#[derive(Debug, Clone)]
enum RandomAction {
    Ship {
        sku_index: u8,
        quantity: u32,
        tracking_suffix: u8,
        warehouse_index: u8,
    },
    UpdateShipment {
        update_index: usize,
        shipment_index: Option<usize>,
        tracking_suffix: Option<u8>,
    },
    CancelShipment(usize),
    CancelRemaining,
    ExecuteStep(usize),
    DeliverResult(usize),
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    let shipment_index = proptest::option::weighted(0.3, 0_usize..4);
    let tracking_suffix_strategy = proptest::option::weighted(0.7, 0_u8..4);
    prop_oneof![
        3 => (0_u8..2, 1_u32..4, 0_u8..3, 0_u8..3).prop_map(|(sku_index, quantity, tracking_suffix, warehouse_index)| {
            RandomAction::Ship { sku_index, quantity, tracking_suffix, warehouse_index }
        }),
        5 => (0_usize..6, shipment_index, tracking_suffix_strategy)
            .prop_map(|(update_index, shipment_index, tracking_suffix)| RandomAction::UpdateShipment { update_index, shipment_index, tracking_suffix }),
        1 => (0_usize..4).prop_map(RandomAction::CancelShipment),
        1 => Just(RandomAction::CancelRemaining),
        4 => any::<usize>().prop_map(RandomAction::ExecuteStep),
        4 => any::<usize>().prop_map(RandomAction::DeliverResult),
    ]
}

#[expect(clippy::too_many_lines, reason = "one arm per action")]
fn apply_action(shop: &mut Shop, id: OrderId, random_action: &RandomAction) {
    let order_before = shop.stored_order(id).clone();
    let shipment_id_at = |shipment_index: usize| {
        order_before
            .shipments
            .get(shipment_index)
            .map(|shipment| shipment.id)
    };
    match random_action {
        RandomAction::Ship {
            sku_index,
            quantity,
            tracking_suffix,
            warehouse_index,
        } => {
            let sku = ["A", "B"][usize::from(*sku_index)];
            let mut body = json!({"items": [{"sku": sku, "quantity": quantity}], "tracking_number": format!("T{tracking_suffix}")});
            if let Some(warehouse_name) = ["east", "west"].get(usize::from(*warehouse_index)) {
                body["warehouse"] = json!(warehouse_name);
            }
            let _ = shop.create_shipment(id, body);
        }
        RandomAction::UpdateShipment {
            update_index,
            shipment_index,
            tracking_suffix,
        } => {
            let mut selector = json!({});
            let named_shipment_id = shipment_index.and_then(shipment_id_at);
            if let Some(named_id) = named_shipment_id {
                selector["shipment_id"] = json!(named_id);
            }
            if let Some(tracking_suffix) = tracking_suffix {
                selector["tracking_number"] = json!(format!("T{tracking_suffix}"));
            }
            let update = ShipmentUpdate::ALL[*update_index];
            let update_name = update.as_str().strip_prefix("shipment.").unwrap();
            let update_result = shop.update_shipment(id, update_name, selector);
            // Only the named shipments change.
            let is_named = |shipment: &Shipment| match (named_shipment_id, tracking_suffix) {
                (Some(named_id), _) => shipment.id == named_id,
                (None, Some(tracking_suffix)) => {
                    shipment.tracking_number == format!("T{tracking_suffix}")
                }
                (None, None) => true,
            };
            let is_new = |shipment: &Shipment| {
                order_before
                    .shipments
                    .iter()
                    .all(|earlier_shipment| earlier_shipment.id != shipment.id)
            };
            let order_after = shop.stored_order(id);
            for shipment in &order_before.shipments {
                assert!(
                    is_named(shipment) || order_after.shipments.contains(shipment),
                    "{shipment:?}"
                );
            }
            let new_shipment_count = order_after
                .shipments
                .iter()
                .filter(|shipment| is_new(shipment))
                .count();
            let may_create_shipment = named_shipment_id.is_none()
                && (tracking_suffix.is_none() || update == ShipmentUpdate::Shipped);
            assert!(may_create_shipment || new_shipment_count == 0);
            let is_known_shipment = order_before.shipments.iter().any(is_named);
            assert!(
                update_result.is_err() || is_known_shipment || new_shipment_count > 0,
                "an update of an unknown shipment was accepted"
            );
            if update_result.is_err() {
                assert_eq!(*order_after, order_before);
            }
        }
        RandomAction::CancelShipment(shipment_index) => {
            if let Some(shipment_id) = shipment_id_at(*shipment_index) {
                let _ = shop.execute_request(
                    "shipment.cancel",
                    json!({"id": id, "shipment_id": shipment_id}),
                );
            }
        }
        RandomAction::CancelRemaining => {
            let cancellation = shop.execute_request("order.cancel_remaining", json!({"id": id}));
            let is_partly_shipped = order_before.status == OrderStatus::Processing
                && order_before.shipped_shipments().next().is_some()
                && !order_before.reserved_items.is_empty();
            assert_eq!(
                cancellation.is_ok(),
                is_partly_shipped || !order_before.cancelled_items().is_empty()
            );
        }
        RandomAction::ExecuteStep(step_index) => {
            let due_steps = shop.due_steps();
            if !due_steps.is_empty() {
                shop.execute_step(
                    &due_steps[step_index % due_steps.len()],
                    ProviderMode::Responds,
                );
            }
        }
        RandomAction::DeliverResult(result_index) => {
            if !shop.step_results.is_empty() {
                shop.deliver_result(result_index % shop.step_results.len(), false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn updates_change_only_named_shipments_and_shipped_items_are_captured(
        captures_in_parts in any::<bool>(),
        random_actions in vec(random_action(), 1..60),
    ) {
        let mut shop = Shop::with_stock(&[("A", "east", 4), ("A", "west", 4), ("B", "west", 4)]);
        shop.captures_in_parts = captures_in_parts;
        let id = shop.order(&[("A", 5), ("B", 3)]).unwrap();
        shop.run_until_settled();
        for random_action in &random_actions {
            apply_action(&mut shop, id, random_action);
        }
        shop.run_until_settled();
        let _ = shop.execute_request("order.cancel_remaining", json!({"id": id}));
        shop.run_until_settled();
        shop.check_settled();
        let order = shop.stored_order(id);
        // Nothing more will be shipped, so a provider without partial captures has captured everything.
        if order.reserved_items.is_empty() {
            assert_eq!(order.payment.captured, order.total_to_capture());
        }
    }
}
