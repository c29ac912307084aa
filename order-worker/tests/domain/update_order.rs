//! Changes of an order's address, metadata, note and tags; above all, what an address change means for labels.

use order_worker::domain::{
    command::{Action, Command, StepResult},
    order::Order,
    step::{LabelId, StepKey},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    event::EventData,
    id::OrderId,
    order::{OrderStatus, ShipmentStatus},
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
};

use crate::shop::{ProviderMode, Shop, operator};

impl Shop {
    fn update(&mut self, id: OrderId, patch: Value) -> Result<Value, Failure> {
        let mut body = patch;
        body["id"] = json!(id);
        self.execute_request("order.update", body)
    }

    fn update_as(
        &mut self,
        caller: Caller,
        id: OrderId,
        mut patch: Value,
    ) -> Result<Value, Failure> {
        patch["id"] = json!(id);
        let Request::UpdateOrder(update) = Request::read("order.update", patch)? else {
            panic!("it changes an order")
        };
        let reply = self.carry_out(&Command::Request {
            caller,
            idempotency: None,
            if_match: None,
            action: Action::UpdateOrder(update),
        });
        reply.outcome.map(|reply_json| reply_json.value())
    }

    /// Changes the address to one in `city`.
    fn change_city(&mut self, id: OrderId, city: &str) -> Result<Value, Failure> {
        self.update(id, json!({"shipping_address": {"city": city}}))
    }

    /// The cities of the labels that the carrier has not cancelled.
    fn cities_of_labels(&self, id: OrderId) -> Vec<&str> {
        let labels = self
            .labels
            .iter()
            .filter(|((order_id, _), label)| *order_id == id && !label.is_cancelled);
        labels
            .map(|(_, label)| {
                label
                    .address
                    .as_ref()
                    .map_or("", |address| &address["city"])
            })
            .collect()
    }

    /// Executes the due step with this name.
    fn execute_named(&mut self, id: OrderId, step_name: &str, mode: ProviderMode) {
        self.execute_step(&step_key(id, step_name), mode);
    }

    fn has_step(&self, id: OrderId, step_name: &str) -> bool {
        self.working_set
            .steps
            .contains_key(&step_key(id, step_name))
    }

    /// Delivers all results that are in flight.
    fn deliver_all_results(&mut self) {
        while !self.step_results.is_empty() {
            self.deliver_result(0, false);
        }
    }
}

fn step_key(order_id: OrderId, step_name: &str) -> StepKey {
    StepKey {
        order_id,
        step: step_name.parse().unwrap(),
    }
}

fn storefront() -> Caller {
    Caller {
        role: Role::Storefront,
        ..operator()
    }
}

/// A shop with an order to Berlin that has a label in each of two warehouses.
fn shop_with_labelled_order() -> (Shop, OrderId) {
    let (mut shop, id) = shop_with_pending_order();
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Berlin", "Berlin"]);
    (shop, id)
}

/// A shop with an order to Berlin that is not paid yet.
fn shop_with_pending_order() -> (Shop, OrderId) {
    let mut shop = Shop::with_stock(&[("A", "east", 9), ("B", "west", 9)]);
    let order = json!({
        "customer_id": shop.customer_id, "items": [{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}],
        "shipping_address": {"name": "Ada", "city": "Berlin"}, "metadata": {"cart": 42, "gift": true},
    });
    let created_order = shop.execute_request("order.create", order).unwrap();
    let id = created_order["id"].as_str().unwrap().parse().unwrap();
    (shop, id)
}

fn count_unlabelled_items(order: &Order) -> usize {
    let warehouses = order.reserved_items.iter().map(|item| &item.warehouse);
    warehouses
        .flat_map(|warehouse| order.unlabelled_items(warehouse))
        .count()
}

#[test]
fn given_fields_are_merged_and_recorded_once() {
    let (mut shop, id) = shop_with_labelled_order();
    let order_before = shop.stored_order(id).clone();
    let patch = json!({
        "metadata": {"cart": null, "crm": {"id": 7}}, "note": "calls twice\nthen leaves",
        "tags": ["vip", "Gift", "VIP"],
    });
    let order = shop.update(id, patch.clone()).unwrap();
    assert_eq!(order["metadata"], json!({"gift": true, "crm": {"id": 7}}));
    assert_eq!(order["note"], "calls twice\nthen leaves");
    assert_eq!(order["tags"], json!(["Gift", "vip"]));
    assert_eq!(order["version"], order_before.version + 1);
    let event = shop.history(id).pop().unwrap();
    let event_json: Value = serde_json::from_str(&event.event_data.data().unwrap()).unwrap();
    assert_eq!(
        event_json,
        json!({
            "changed": ["metadata", "note", "tags"], "metadata": {"gift": true, "crm": {"id": 7}},
            "note": "calls twice\nthen leaves", "tags": ["Gift", "vip"],
        })
    );
    // The same values again, an empty change, and the order's own address are no changes.
    let address = json!({"shipping_address": {"city": "Berlin", "line2": null}});
    for unchanged_patch in [patch, json!({}), address] {
        let order = shop.update(id, unchanged_patch).unwrap();
        assert_eq!(order["version"], order_before.version + 1);
    }
    let patch = json!({"metadata": null, "note": "", "tags": null});
    let order = shop.update(id, patch).unwrap();
    assert_eq!(order["metadata"], json!({}));
    assert_eq!((order.get("note"), order.get("tags")), (None, None));
    assert_eq!(order["version"], order_before.version + 2);
    assert_eq!(shop.stored_order(id).shipments, order_before.shipments);
    // Each patch is small enough, but their result is not.
    let metadata_patch = |field_name: &str| json!({"metadata": {field_name: "x".repeat(9_000)}});
    shop.update(id, metadata_patch("a")).unwrap();
    let failure = shop.update(id, metadata_patch("b")).unwrap_err();
    assert_eq!(failure.errors().unwrap()[0]["pointer"], "/metadata");
    let address_fields: Vec<_> = (0..20).map(|n| (format!("f{n}"), json!("x"))).collect();
    let patch_with_many_fields =
        json!({"shipping_address": Value::Object(address_fields.into_iter().collect())});
    let failure = shop.update(id, patch_with_many_fields).unwrap_err();
    assert_eq!(failure.errors().unwrap()[0]["pointer"], "/shipping_address");
}

#[test]
fn storefronts_change_address_and_metadata_and_do_not_see_note_and_tags() {
    let (mut shop, id) = shop_with_pending_order();
    shop.update(id, json!({"note": "rude", "tags": ["fraud"]}))
        .unwrap();
    for (field, field_value) in [("note", json!(null)), ("tags", json!([]))] {
        let patch = json!({"metadata": {"a": 1}, field: field_value});
        let failure = shop.update_as(storefront(), id, patch).unwrap_err();
        assert_eq!(failure.code, Code::Forbidden);
        assert!(failure.message.contains(field), "{failure}");
    }
    let patch = json!({"metadata": {"a": 1}, "shipping_address": {"city": "Köln"}});
    let order = shop.update_as(storefront(), id, patch).unwrap();
    assert_eq!(order["metadata"]["a"], 1);
    assert_eq!(
        order["shipping_address"],
        json!({"name": "Ada", "city": "Köln"})
    );
    assert_eq!((order.get("note"), order.get("tags")), (None, None));
    assert_eq!(shop.stored_order(id).note.as_deref(), Some("rude"));
    let other_storefront = Caller {
        storefront: "other".parse().unwrap(),
        ..storefront()
    };
    let failure = shop.update_as(other_storefront, id, json!({})).unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
}

#[test]
fn address_of_an_unpaid_order_is_simply_changed() {
    let (mut shop, id) = shop_with_pending_order();
    let steps = shop.working_set.steps.clone();
    shop.change_city(id, "Köln").unwrap();
    assert_eq!(shop.working_set.steps, steps);
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Köln", "Köln"]);
    let order = shop.update(id, json!({"shipping_address": null})).unwrap();
    assert_eq!(order["shipping_address"], json!(null));
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["", ""]);
    shop.check_settled();
}

#[test]
fn label_is_withdrawn_and_another_requested_once_it_is_cancelled() {
    let (mut shop, id) = shop_with_labelled_order();
    let shipments_before = shop.stored_order(id).shipments.clone();
    let order = shop.change_city(id, "Köln").unwrap();
    for shipment in order["shipments"].as_array().unwrap() {
        assert_eq!(shipment["status"], "cancelled");
    }
    assert_eq!(order["in_progress"]["step"], "cancel_shipment");
    assert!(!shop.has_step(id, "request_shipment:east:2"));
    // The carrier is unavailable at first.
    shop.execute_named(id, "cancel_shipment:east", ProviderMode::TransientError);
    shop.deliver_all_results();
    assert!(!shop.has_step(id, "request_shipment:east:2"));
    shop.execute_named(id, "cancel_shipment:east", ProviderMode::Responds);
    shop.deliver_all_results();
    assert!(shop.has_step(id, "request_shipment:east:2"));
    assert!(!shop.has_step(id, "request_shipment:west:2"));
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Köln", "Köln"]);
    let order = shop.stored_order(id);
    let new_shipments: Vec<_> = order.uncancelled_shipments().collect();
    assert_eq!(new_shipments.len(), 2);
    for shipment in new_shipments {
        assert!(
            shipments_before
                .iter()
                .all(|shipment_before| shipment_before.id != shipment.id)
        );
        assert!(shipment.tracking_number.ends_with(":2"), "{shipment:?}");
    }
    assert!(order.awaited_labels.is_empty());
    let event_types = shop.event_types(id);
    let types_since_update = event_types
        .iter()
        .skip_while(|event_type| **event_type != "order.updated");
    let expected_events = [
        "order.updated",
        "shipment.cancelled",
        "shipment.cancelled",
        "step.retried",
        "shipment.created",
        "shipment.created",
    ];
    assert!(
        types_since_update.eq(expected_events.iter()),
        "{event_types:?}"
    );
    shop.create_shipment(id, json!({})).unwrap();
    assert_eq!(shop.stored_order(id).status, OrderStatus::Shipped);
    shop.run_until_settled();
    shop.check_settled();
}

#[test]
fn label_that_is_being_created_for_the_old_address_is_withdrawn() {
    for mode in [ProviderMode::Responds, ProviderMode::LosesResponse] {
        let (mut shop, id) = shop_with_pending_order();
        while !shop.has_step(id, "request_shipment:east") {
            let due_steps = shop.due_steps();
            shop.execute_step(&due_steps[0], ProviderMode::Responds);
            shop.deliver_all_results();
        }
        shop.execute_named(id, "request_shipment:east", mode);
        // Two workers execute the step, and a redelivered message repeats it later.
        shop.execute_named(id, "request_shipment:east", ProviderMode::Responds);
        assert_eq!(shop.cities_of_labels(id), ["Berlin"]);
        shop.change_city(id, "Köln").unwrap();
        let late_results = shop.step_results.clone();
        shop.deliver_all_results();
        assert!(shop.stored_order(id).shipments.is_empty());
        shop.run_until_settled();
        assert_eq!(shop.cities_of_labels(id), ["Köln", "Köln"]);
        let order = shop.stored_order(id).clone();
        assert_eq!(order.uncancelled_shipments().count(), 2);
        // Results of the replaced label change nothing, however late they are.
        shop.step_results = late_results;
        for step_name in ["request_shipment:east", "cancel_shipment:east"] {
            for result in [
                StepResult::LabelCancelled,
                StepResult::Failed {
                    error: "the label was cancelled".to_owned(),
                    is_transient: false,
                    was_answered: true,
                    retry_after: None,
                },
            ] {
                shop.step_results.push((step_key(id, step_name), 1, result));
            }
        }
        shop.deliver_all_results();
        assert_eq!(*shop.stored_order(id), order);
        assert!(shop.dead_steps().is_empty());
        shop.check_settled();
    }
}

#[test]
fn late_results_of_an_earlier_replacement_do_not_end_a_later_one() {
    let (mut shop, id) = shop_with_labelled_order();
    shop.change_city(id, "Köln").unwrap();
    shop.execute_named(id, "cancel_shipment:east", ProviderMode::Responds);
    let first_cancellation_results = shop.step_results.clone();
    shop.run_until_settled();
    shop.change_city(id, "Bonn").unwrap();
    shop.step_results = first_cancellation_results;
    shop.deliver_all_results();
    assert!(shop.has_step(id, "cancel_shipment:east:2"));
    assert!(!shop.has_step(id, "request_shipment:east:3"));
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Bonn", "Bonn"]);
    shop.check_settled();
}

#[test]
fn address_can_change_again_while_the_label_is_being_replaced() {
    // While the first label is being withdrawn, there is nothing more to withdraw.
    let (mut shop, id) = shop_with_labelled_order();
    shop.change_city(id, "Köln").unwrap();
    let steps = shop.working_set.steps.clone();
    shop.change_city(id, "Bonn").unwrap();
    assert_eq!(shop.working_set.steps, steps);
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Bonn", "Bonn"]);
    // The second label is being created.
    shop.change_city(id, "Ulm").unwrap();
    shop.execute_named(id, "cancel_shipment:east:2", ProviderMode::Responds);
    shop.deliver_all_results();
    shop.execute_named(id, "request_shipment:east:3", ProviderMode::Responds);
    shop.change_city(id, "Kiel").unwrap();
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Kiel", "Kiel"]);
    let order = shop.stored_order(id);
    assert_eq!(order.uncancelled_shipments().count(), 2);
    assert_eq!(order.replaced_labels[&"east".parse().unwrap()], 3);
    assert_eq!(order.replaced_labels[&"west".parse().unwrap()], 2);
    shop.check_settled();
}

#[test]
fn corrected_address_replaces_a_label_that_the_carrier_has_refused() {
    let (mut shop, id) = shop_with_pending_order();
    while !shop.has_step(id, "request_shipment:east") {
        let due_steps = shop.due_steps();
        shop.execute_step(&due_steps[0], ProviderMode::Responds);
        shop.deliver_all_results();
    }
    let refused_label = StepResult::Failed {
        error: "unknown city".to_owned(),
        is_transient: false,
        was_answered: true,
        retry_after: None,
    };
    shop.step_results
        .push((step_key(id, "request_shipment:east"), 1, refused_label));
    shop.deliver_all_results();
    assert_eq!(shop.dead_steps().len(), 1);
    shop.change_city(id, "Köln").unwrap();
    assert!(shop.dead_steps().is_empty());
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Köln", "Köln"]);
    shop.check_settled();
}

#[test]
fn discarding_a_failed_withdrawal_requests_the_next_label() {
    let (mut shop, id) = shop_with_labelled_order();
    shop.change_city(id, "Köln").unwrap();
    let refused_cancellation = StepResult::Failed {
        error: "unknown label".to_owned(),
        is_transient: false,
        was_answered: true,
        retry_after: None,
    };
    shop.step_results.push((
        step_key(id, "cancel_shipment:east"),
        1,
        refused_cancellation,
    ));
    shop.run_until_settled();
    assert_eq!(count_unlabelled_items(shop.stored_order(id)), 1);
    // The operator has cancelled the label at the carrier.
    let label_id: LabelId = "east".parse().unwrap();
    shop.labels.get_mut(&(id, label_id)).unwrap().is_cancelled = true;
    shop.discard_dead_steps();
    shop.run_until_settled();
    assert_eq!(shop.cities_of_labels(id), ["Köln", "Köln"]);
    assert_eq!(count_unlabelled_items(shop.stored_order(id)), 0);
    shop.check_settled();
}

#[test]
fn address_is_fixed_once_something_was_shipped_but_the_rest_can_be_changed() {
    let (mut shop, id) = shop_with_labelled_order();
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 1}], "tracking_number": "TA"});
    shop.create_shipment(id, partial_shipment).unwrap();
    let check_address_is_fixed = |shop: &mut Shop, status: &str| {
        let order_before = shop.stored_order(id).clone();
        // Nothing of a refused change is applied.
        let patch = json!({"shipping_address": {"city": "Köln"}, "note": "no"});
        let failure = shop.update(id, patch).unwrap_err();
        assert_eq!(failure.code, Code::InvalidState);
        assert!(failure.message.contains(status), "{failure}");
        assert!(
            failure.message.contains("pending or processing"),
            "{failure}"
        );
        assert_eq!(*shop.stored_order(id), order_before);
        let patch = json!({"note": status, "tags": [status], "metadata": {"at": status}});
        let order = shop.update(id, patch).unwrap();
        assert_eq!(
            (&order["note"], &order["tags"]),
            (&json!(status), &json!([status]))
        );
    };
    check_address_is_fixed(&mut shop, "processing and partly shipped");
    shop.create_shipment(id, json!({})).unwrap();
    check_address_is_fixed(&mut shop, "shipped");
    shop.update_shipment(id, "delivered", json!({})).unwrap();
    check_address_is_fixed(&mut shop, "delivered");
    shop.run_until_settled();

    let (mut shop, id) = shop_with_labelled_order();
    shop.cancel(id).unwrap();
    let failure = shop.change_city(id, "Köln").unwrap_err();
    assert!(failure.message.contains("is cancelled"), "{failure}");
    shop.update(id, json!({"note": "cancelled"})).unwrap();
    shop.execute_request("order.delete", json!({"id": id}))
        .unwrap();
    let failure = shop.update(id, json!({"note": "deleted"})).unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
}

#[test]
fn goods_that_were_shipped_under_the_old_label_are_not_shipped_again() {
    // Before the old label is withdrawn, before the next one is created, and after that.
    for executed_step_count in 0..3 {
        let (mut shop, id) = shop_with_labelled_order();
        let old_shipment = shop.stored_order(id).shipments[0].clone();
        shop.change_city(id, "Köln").unwrap();
        for step_name in ["cancel_shipment:east", "request_shipment:east:2"]
            .iter()
            .take(executed_step_count)
        {
            shop.execute_named(id, step_name, ProviderMode::Responds);
            shop.deliver_all_results();
        }
        let selector = json!({"tracking_number": old_shipment.tracking_number});
        shop.update_shipment(id, "shipped", selector.clone())
            .unwrap();
        let order = shop.stored_order(id).clone();
        let shipped_shipments: Vec<_> = order.shipped_shipments().collect();
        assert_eq!(
            (shipped_shipments.len(), shipped_shipments[0].id),
            (1, old_shipment.id)
        );
        assert_eq!(shop.stock_level("A", "east"), (7, 0));
        // The label that has replaced it is withdrawn, and no other is requested for its warehouse.
        shop.run_until_settled();
        let valid_labels: Vec<_> = shop
            .labels
            .iter()
            .filter(|(_, label)| !label.is_cancelled)
            .map(|((_, label_id), _)| label_id.to_string())
            .collect();
        assert_eq!(valid_labels, ["west:2"], "{executed_step_count}");
        let unchanged_order = shop.update_shipment(id, "shipped", selector).unwrap();
        assert_eq!(unchanged_order["version"], shop.stored_order(id).version);
        let order = shop.create_shipment(id, json!({})).unwrap();
        assert_eq!(order["status"], "shipped");
        assert_eq!(
            (shop.stock_level("A", "east"), shop.stock_level("B", "west")),
            ((7, 0), (8, 0))
        );
        shop.update_shipment(id, "delivered", json!({})).unwrap();
        assert_eq!(shop.stored_order(id).status, OrderStatus::Delivered);
        shop.run_until_settled();
        assert_eq!(shop.stored_order(id).payment.captured, 300);
    }
}

#[test]
fn old_label_is_not_shipped_after_its_goods_were_shipped_under_another() {
    let (mut shop, id) = shop_with_labelled_order();
    let old_shipment = shop.stored_order(id).shipments[0].clone();
    shop.change_city(id, "Köln").unwrap();
    shop.run_until_settled();
    shop.create_shipment(id, json!({"warehouse": "east"}))
        .unwrap();
    let selector = json!({"tracking_number": old_shipment.tracking_number});
    let failure = shop.update_shipment(id, "shipped", selector).unwrap_err();
    assert_eq!(failure.code, Code::InvalidState);
    assert_eq!(shop.stock_level("A", "east"), (7, 0));
}

#[test]
fn cancelled_and_manually_shipped_orders_get_no_further_label() {
    for is_cancelled in [true, false] {
        let (mut shop, id) = shop_with_labelled_order();
        shop.change_city(id, "Köln").unwrap();
        shop.execute_named(id, "cancel_shipment:east", ProviderMode::Responds);
        if is_cancelled {
            shop.cancel(id).unwrap();
        } else {
            shop.create_shipment(id, json!({"carrier": "DHL", "tracking_number": "T"}))
                .unwrap();
        }
        shop.run_until_settled();
        assert!(shop.cities_of_labels(id).is_empty());
        assert!(shop.stored_order(id).awaited_labels.is_empty());
        assert!(shop.dead_steps().is_empty());
        shop.check_settled();
    }
}

#[test]
fn erased_note_and_address_do_not_come_back() {
    let (mut shop, id) = shop_with_labelled_order();
    shop.update(id, json!({"note": "Ada called", "tags": ["vip"]}))
        .unwrap();
    shop.cancel(id).unwrap();
    shop.run_until_settled();
    shop.execute_as_operator(Action::RedactOrder(id)).unwrap();
    let order = shop.stored_order(id).clone();
    assert_eq!((&order.note, &order.shipping_address), (&None, &None));
    assert_eq!(order.tags[0].as_str(), "vip");
    for patch in [json!({"note": "Ada"}), json!({"metadata": {"name": "Ada"}})] {
        let failure = shop.update(id, patch).unwrap_err();
        assert_eq!(failure.code, Code::InvalidState);
        assert!(failure.message.contains("was erased"), "{failure}");
    }
    shop.update(id, json!({"tags": ["returned"]})).unwrap();
}

#[test]
fn events_and_orders_without_the_new_fields_are_read() {
    let (mut shop, id) = shop_with_labelled_order();
    let order_json = serde_json::to_value(shop.stored_order(id)).unwrap();
    for field in ["note", "tags", "replaced_labels", "awaited_labels"] {
        assert_eq!(order_json.get(field), None);
    }
    // An update whose personal data was erased.
    let event_json = json!({"type": "order.updated", "data": {
        "changed": ["shipping_address", "metadata", "note"], "shipping_address": null, "metadata": {}, "note": null,
    }});
    let erased_data: EventData = serde_json::from_value(event_json).unwrap();
    let mut event = shop.history(id).pop().unwrap();
    event.sequence += 1;
    event.event_data = erased_data;
    let mut order = shop.stored_order(id).clone();
    order.apply(&event).unwrap();
    assert_eq!(order.shipping_address, None);
    shop.update(id, json!({"tags": ["a"]})).unwrap();
}

/// A random action of a customer, an operator, the shipper or a worker.
#[derive(Debug, Clone)]
enum RandomAction {
    ChangeCity(usize),
    Ship { sku_index: usize, quantity: u32 },
    ReportShipped(usize),
    CancelOrder,
    CancelShipment(usize),
    ExecuteStep(usize, ProviderMode),
    DeliverResult(usize, bool),
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    let mode_strategy = prop_oneof![
        4 => Just(ProviderMode::Responds),
        1 => Just(ProviderMode::LosesResponse),
        1 => Just(ProviderMode::TransientError),
    ];
    prop_oneof![
        4 => (0_usize..3).prop_map(RandomAction::ChangeCity),
        1 => (0_usize..2, 1_u32..3).prop_map(|(sku_index, quantity)| RandomAction::Ship { sku_index, quantity }),
        2 => (0_usize..6).prop_map(RandomAction::ReportShipped),
        1 => Just(RandomAction::CancelOrder),
        1 => (0_usize..6).prop_map(RandomAction::CancelShipment),
        8 => (any::<usize>(), mode_strategy).prop_map(|(step_index, mode)| RandomAction::ExecuteStep(step_index, mode)),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(result_index, stays_in_flight)| RandomAction::DeliverResult(result_index, stays_in_flight)),
    ]
}

fn apply_action(shop: &mut Shop, id: OrderId, random_action: &RandomAction) {
    let order_before = shop.stored_order(id).clone();
    match random_action {
        RandomAction::ChangeCity(city_index) => {
            let update_result = shop.change_city(id, ["Berlin", "Köln", "Bonn"][*city_index]);
            let is_open = matches!(
                order_before.status,
                OrderStatus::Pending | OrderStatus::Processing
            );
            let may_change_address = is_open && order_before.shipped_shipments().next().is_none();
            let is_same = order_before.shipping_address == shop.stored_order(id).shipping_address;
            assert!(
                update_result.is_ok() == may_change_address || is_same,
                "{update_result:?}"
            );
        }
        RandomAction::Ship {
            sku_index,
            quantity,
        } => {
            let sku = ["A", "B"][*sku_index];
            let item = json!({"sku": sku, "quantity": quantity});
            let _ = shop.create_shipment(id, json!({"items": [item]}));
        }
        RandomAction::ReportShipped(shipment_index) => {
            if let Some(shipment) = order_before.shipments.get(*shipment_index) {
                let selector = json!({"shipment_id": shipment.id});
                let _ = shop.update_shipment(id, "shipped", selector);
            }
        }
        RandomAction::CancelOrder => {
            let _ = shop.cancel(id);
        }
        RandomAction::CancelShipment(shipment_index) => {
            if let Some(shipment) = order_before.shipments.get(*shipment_index) {
                let body = json!({"id": id, "shipment_id": shipment.id});
                let _ = shop.execute_request("shipment.cancel", body);
            }
        }
        RandomAction::ExecuteStep(step_index, mode) => {
            let due_steps = shop.due_steps();
            if !due_steps.is_empty() {
                shop.execute_step(&due_steps[step_index % due_steps.len()], *mode);
            }
        }
        RandomAction::DeliverResult(result_index, stays_in_flight) => {
            if !shop.step_results.is_empty() {
                shop.deliver_result(result_index % shop.step_results.len(), *stays_in_flight);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_label_keeps_an_old_address_and_nothing_is_shipped_twice(
        random_actions in vec(random_action(), 1..60),
    ) {
        let (mut shop, id) = shop_with_pending_order();
        for random_action in &random_actions {
            apply_action(&mut shop, id, random_action);
        }
        shop.run_until_settled();
        shop.check_settled();
        let order = shop.stored_order(id);
        for (sku, ordered_units) in [("A", 2), ("B", 1)] {
            let items = order.shipped_shipments().flat_map(|shipment| &shipment.items);
            let units = items.filter(|item| item.sku.as_str() == sku);
            prop_assert!(units.map(|item| item.quantity.get()).sum::<u32>() <= ordered_units);
        }
        // No label is awaited, and the label of every unshipped shipment is valid at the carrier.
        prop_assert!(shop.dead_steps().is_empty());
        prop_assert!(order.awaited_labels.is_empty());
        let is_valid_label = |label_id: &LabelId| shop.labels.get(&(id, label_id.clone())).is_some_and(|label| !label.is_cancelled);
        for shipment in order.unshipped_shipments() {
            let warehouse = &shipment.items[0].warehouse;
            prop_assert_eq!(shipment.status, ShipmentStatus::LabelCreated);
            prop_assert!(is_valid_label(&order.label_id(warehouse)), "{:?}", shipment);
        }
        let is_shipped_or_cancelled = random_actions.iter().any(|action| {
            !matches!(action, RandomAction::ChangeCity(_) | RandomAction::ExecuteStep(..) | RandomAction::DeliverResult(..))
        });
        if !is_shipped_or_cancelled {
            prop_assert_eq!(count_unlabelled_items(order), 0);
            prop_assert_eq!(shop.cities_of_labels(id).len(), 2);
        }
    }
}
