//! Labels of carriers: their URLs, the id that the carrier gets, and the delay that it requests.

use jiff::{SignedDuration, Timestamp};
use order_worker::domain::{
    command::{Action, StepResult},
    shipment::label_shipment_id,
    step::{LabelId, Step, StepKey},
};
use serde_json::{Value, json};
use shared::{event::EventData, id::OrderId, order::ShipmentUpdate, outcome::Code};

use crate::shop::{ProviderMode, Shop};

/// A shop with an order whose label was created.
fn labelled_order() -> (Shop, OrderId) {
    let mut shop = Shop::with_stock(&[("A", "east", 9)]);
    let id = shop.order(&[("A", 2)]).unwrap();
    shop.run_until_settled();
    (shop, id)
}

fn label_step(id: OrderId) -> StepKey {
    StepKey {
        order_id: id,
        step: Step::RequestShipment("east".parse().unwrap()),
    }
}

/// Ships the order with these fields in the request, and returns its shipped shipment.
fn ship_order(shop: &mut Shop, id: OrderId, mut request: Value) -> Value {
    request["id"] = json!(id);
    let order = shop.execute_request("shipment.create", request).unwrap();
    let shipments = order["shipments"].as_array().unwrap();
    let is_shipped = |shipment: &&Value| shipment["status"] == "shipped";
    shipments.iter().find(is_shipped).unwrap().clone()
}

#[test]
fn tracking_page_of_the_label_is_kept_with_its_carrier_and_number_only() {
    let other_url = "https://dhl.example.com/T1";
    for (request, tracking_url) in [
        (json!({}), json!("https://track.example.com/1-east")),
        (
            json!({"tracking_number": "1-east", "carrier": "sandbox"}),
            json!("https://track.example.com/1-east"),
        ),
        (json!({"tracking_number": "T1"}), Value::Null),
        (json!({"carrier": "DHL"}), Value::Null),
        (
            json!({"tracking_number": "T1", "tracking_url": other_url}),
            json!(other_url),
        ),
        (json!({"tracking_url": other_url}), json!(other_url)),
        // These items are another shipment than the label's.
        (
            json!({"items": [{"sku": "A", "quantity": 1}], "tracking_url": other_url}),
            json!(other_url),
        ),
        (json!({"items": [{"sku": "A", "quantity": 1}]}), Value::Null),
    ] {
        let (mut shop, id) = labelled_order();
        let shipment = ship_order(&mut shop, id, request.clone());
        assert_eq!(shipment["tracking_url"], tracking_url, "{request}");
    }
    let (mut shop, id) = labelled_order();
    for invalid_url in ["javascript:alert(1)", "ftp://example.com", "https:///x", ""] {
        let request = json!({"id": id, "tracking_url": invalid_url});
        let failure = shop
            .execute_request("shipment.create", request)
            .unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{invalid_url}");
    }
}

#[test]
fn webhook_keeps_the_tracking_page_of_the_label_unless_it_names_another_number() {
    for (tracking_number, is_kept) in [(None, true), (Some("1-east"), true), (Some("T2"), false)] {
        let (mut shop, id) = labelled_order();
        let shipment = shop.working_set.orders[&id].shipments[0].clone();
        assert!(shipment.tracking_url.is_some() && shipment.label_url.is_some());
        let update = json!({"order_id": id, "shipment_id": shipment.id,
            "type": "shipment.shipped", "tracking_number": tracking_number});
        shop.execute_request("shipment.update", update).unwrap();
        let shipped_shipment = &shop.working_set.orders[&id].shipments[0];
        assert_eq!(
            shipped_shipment.tracking_url.is_some(),
            is_kept,
            "{tracking_number:?}"
        );
        assert_eq!(shipped_shipment.label_url, shipment.label_url);
    }
}

#[test]
fn carrier_gets_the_id_of_the_shipment_before_it_exists() {
    let mut shop = Shop::with_stock(&[("A", "east", 9), ("B", "west", 9)]);
    let id = shop.order(&[("A", 1), ("B", 1)]).unwrap();
    let order = shop.working_set.orders[&id].clone();
    let shipment_ids = ["east", "west"].map(|warehouse_name| {
        label_shipment_id(&order, &warehouse_name.parse::<LabelId>().unwrap())
    });
    assert_ne!(shipment_ids[0], shipment_ids[1]);
    shop.run_until_settled();
    let order = shop.working_set.orders[&id].clone();
    let mut created_ids: Vec<_> = order.shipments.iter().map(|shipment| shipment.id).collect();
    created_ids.sort();
    let mut expected_ids = shipment_ids.to_vec();
    expected_ids.sort();
    assert_eq!(created_ids, expected_ids);
    // Like every id, it is sortable by time.
    let shipment_uuid: uuid::Uuid = shipment_ids[0].to_string().parse().unwrap();
    assert_eq!(shipment_uuid.get_version_num(), 7);
    // An id of another order's label differs.
    let other_id = shop.order(&[("A", 1)]).unwrap();
    let other_order = &shop.working_set.orders[&other_id];
    assert_ne!(
        label_shipment_id(other_order, &"east".parse::<LabelId>().unwrap()),
        shipment_ids[0]
    );
}

#[test]
fn erasure_removes_the_urls_of_shipments() {
    let (mut shop, id) = labelled_order();
    shop.apply_webhook(id, ShipmentUpdate::Delivered).unwrap();
    shop.run_until_settled();
    let shipment = &shop.working_set.orders[&id].shipments[0];
    assert!(shipment.tracking_url.is_some() && shipment.label_url.is_some());
    shop.execute_as_operator(Action::RedactOrder(id)).unwrap();
    let order = shop.working_set.orders[&id].clone();
    assert_eq!(order.shipments[0].tracking_url, None);
    assert_eq!(order.shipments[0].label_url, None);
    assert_eq!(order.shipments[0].tracking_number, "1-east");
    // Repeated, it changes nothing.
    shop.execute_as_operator(Action::RedactOrder(id)).unwrap();
    assert_eq!(shop.working_set.orders[&id], order);
}

#[test]
fn requested_delay_postpones_a_retry_but_does_not_hasten_it() {
    for (requested_delay, shortest_delay, longest_delay) in
        [(None, 0, 1), (Some(0), 0, 1), (Some(600), 600, 600)]
    {
        let mut shop = Shop::with_stock(&[("A", "east", 9)]);
        let id = shop.order(&[("A", 1)]).unwrap();
        let authorization_key = StepKey {
            order_id: id,
            step: Step::AuthorizePayment,
        };
        shop.execute_step(&authorization_key, ProviderMode::Responds);
        shop.deliver_result(0, false);
        let key = label_step(id);
        let failed_result = StepResult::Failed {
            error: "busy".to_owned(),
            is_transient: true,
            was_answered: false,
            retry_after: requested_delay.map(SignedDuration::from_secs),
        };
        shop.step_results.push((key.clone(), 1, failed_result));
        shop.deliver_result(0, false);
        let now = Timestamp::from_millisecond(shop.clock_ms).unwrap();
        let delay = shop.working_set.steps[&key].due_at.duration_since(now);
        let delay_range =
            SignedDuration::from_secs(shortest_delay)..=SignedDuration::from_secs(longest_delay);
        assert!(
            delay_range.contains(&delay),
            "{requested_delay:?}: {delay:?}"
        );
    }
}

#[test]
fn refused_label_is_a_dead_step_and_its_items_can_be_shipped_manually() {
    let mut shop = Shop::with_stock(&[("A", "east", 9)]);
    let id = shop.order(&[("A", 1)]).unwrap();
    let authorization_key = StepKey {
        order_id: id,
        step: Step::AuthorizePayment,
    };
    shop.execute_step(&authorization_key, ProviderMode::Responds);
    shop.deliver_result(0, false);
    let key = label_step(id);
    let refused_label = StepResult::Failed {
        error: "the carrier refused the request: no such street (bad_address)".to_owned(),
        is_transient: false,
        was_answered: true,
        retry_after: None,
    };
    shop.step_results.push((key.clone(), 1, refused_label));
    shop.deliver_result(0, false);
    assert_eq!(shop.dead_steps(), std::slice::from_ref(&key));
    let shipment = ship_order(&mut shop, id, json!({"tracking_number": "T1"}));
    assert_eq!(shipment["tracking_number"], "T1");
    // The label is cancelled, should the carrier have created one.
    let cancellation_key = StepKey {
        step: Step::CancelShipment("east".parse().unwrap()),
        ..key
    };
    assert!(shop.dead_steps().is_empty() && shop.due_steps().contains(&cancellation_key));
    shop.run_until_settled();
    shop.check_settled();
}

#[test]
fn shipments_of_earlier_versions_have_no_urls() {
    let stored_event = json!({"type": "shipment.shipped", "data": {
        "shipment_id": "0192f0c1-2345-7abc-8def-0123456789ab", "items": [],
        "carrier": "DHL", "tracking_number": "1"}});
    let event: EventData = serde_json::from_value(stored_event.clone()).unwrap();
    assert_eq!(serde_json::to_value(&event).unwrap(), stored_event);
}
