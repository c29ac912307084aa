//! Manual shipments: of a whole order or of a part.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Reply, System, has_shipping_label};

impl System {
    /// Creates an order of two products in two warehouses, paid and announced.
    async fn announced_order(&self) -> String {
        self.create_product_with_stock("A", &[("east", 10)]).await;
        self.create_product_with_stock("B", &[("west", 10)]).await;
        let customer_id = self.create_customer().await;
        let new_order = json!({"customer_id": customer_id, "items": [
            {"sku": "A", "quantity": 3}, {"sku": "B", "quantity": 2}]});
        let created_order = self.post("/v1/orders", new_order).await.expect(201);
        let id = created_order["id"].as_str().unwrap().to_owned();
        self.wait_for_order(&id, "announced", |order| {
            has_shipping_label(order) && order["shipments"].as_array().unwrap().len() == 2
        })
        .await;
        id
    }

    async fn create_shipment(&self, order_id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/orders/{order_id}/shipments"), body)
            .await
    }
}

fn shipped_shipments(order: &Value) -> Vec<&Value> {
    let shipments = order["shipments"].as_array().unwrap().iter();
    shipments
        .filter(|shipment| shipment["status"] == "shipped")
        .collect()
}

#[tokio::test]
async fn order_can_be_shipped_in_parts_once_each() {
    let system = System::start().await;
    let id = system.announced_order().await;
    let partial_shipment =
        json!({"items": [{"sku": "A", "quantity": 1}], "carrier": "DHL", "tracking_number": "T-1"});
    let reply = system.create_shipment(&id, partial_shipment).await;
    assert_eq!(reply.headers["location"], format!("/v1/orders/{id}"));
    let order = reply.expect(201);
    assert_eq!(order["status"], "processing");
    let shipments = shipped_shipments(&order);
    assert_eq!(shipments.len(), 1);
    assert_eq!(shipments[0]["tracking_number"], "T-1");
    assert_eq!(
        shipments[0]["items"],
        json!([{"sku": "A", "warehouse": "east", "quantity": 1}])
    );
    assert_eq!(system.stock_level("A").await, (9, 2));

    let shipment_of_too_many_units =
        json!({"items": [{"sku": "B", "quantity": 1}, {"sku": "A", "quantity": 3}]});
    let problem = system
        .create_shipment(&id, shipment_of_too_many_units)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/items/1/quantity");
    for invalid_body in [
        json!({"items": []}),
        json!({"items": [{"sku": "C", "quantity": 1}]}),
        json!({"items": [{"sku": "A", "quantity": 0}]}),
        json!({"carrier": ""}),
        json!({"weight": 1}),
    ] {
        system
            .create_shipment(&id, invalid_body)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
    system
        .post(&format!("/v1/orders/{id}/cancel"), json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");

    // Items that match an announced shipment exactly use its label. Then the rest is shipped.
    let shipment_matching_label = json!({"items": [{"sku": "B", "quantity": 2}]});
    let order = system
        .create_shipment(&id, shipment_matching_label)
        .await
        .expect(201);
    let shipment_from_west = order["shipments"]
        .as_array()
        .unwrap()
        .iter()
        .find(|shipment| shipment["items"][0]["sku"] == "B" && shipment["status"] == "shipped");
    assert_eq!(shipment_from_west.unwrap()["carrier"], "sandbox");
    let order = system.create_shipment(&id, json!({})).await.expect(201);
    assert_eq!(order["status"], "shipped");
    system
        .create_shipment(&id, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(
        (system.stock_level("A").await, system.stock_level("B").await),
        ((7, 0), (8, 0))
    );

    // Manual shipments are delivered by the carrier's webhooks, which name them by id.
    let order = system
        .wait_for_order(&id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    for (number, shipment) in shipped_shipments(&order).iter().enumerate() {
        let data = json!({"order_id": id, "shipment_id": shipment["id"]});
        let body = json!({"type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z", "data": data});
        let reply = system
            .send_webhook_body(&format!("m-{number}"), &body)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    system
        .wait_for_order(&id, "delivered", |order| order["status"] == "delivered")
        .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_shipments_of_the_same_items_have_one_winner() {
    let system = System::start().await;
    let id = system.announced_order().await;
    let shipment_of_all_a = json!({"items": [{"sku": "A", "quantity": 3}]});
    let replies =
        join_all((0..10).map(|_| system.create_shipment(&id, shipment_of_all_a.clone()))).await;
    let accepted_count = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(accepted_count, 1);
    assert_eq!(system.stock_level("A").await, (7, 0));
    // Repeated requests with the same key are one shipment.
    let path = format!("/v1/orders/{id}/shipments");
    for _ in 0..3 {
        let request = system
            .request(reqwest::Method::POST, &path)
            .json(&json!({"items": [{"sku": "B", "quantity": 1}]}));
        let reply = crate::harness::send(request.header("idempotency-key", "parcel-1")).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    assert_eq!(system.stock_level("B").await, (9, 1));
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn returned_shipment_is_restocked_and_refunded() {
    let system = System::start().await;
    let id = system.announced_order().await;
    let order = system.create_shipment(&id, json!({})).await.expect(201);
    let is_captured = |order: &Value| order["payment"]["status"] == "captured";
    system.wait_for_order(&id, "captured", is_captured).await;
    let shipments = shipped_shipments(&order);
    let send_update = async |shipment: &Value, event_type: &str| {
        let event_data = json!({"order_id": id, "shipment_id": shipment["id"]});
        let body =
            json!({"type": event_type, "timestamp": "2026-01-31T12:00:00Z", "data": event_data});
        let webhook_id = format!("{event_type}-{}", shipment["id"]);
        system
            .send_webhook_body(&webhook_id, &body)
            .await
            .expect(200);
    };
    for event_type in [
        "shipment.in_transit",
        "shipment.out_for_delivery",
        "shipment.failed",
    ] {
        send_update(shipments[0], event_type).await;
    }
    // No step is in progress that would change the stock.
    system.wait_until_idle().await;
    let stock_before = (system.stock_level("A").await, system.stock_level("B").await);
    assert_eq!(stock_before, ((7, 0), (8, 0)));
    send_update(shipments[0], "shipment.returned").await;
    send_update(shipments[1], "shipment.delivered").await;
    let returned_item = shipments[0]["items"][0].clone();
    let expected_refund = if returned_item["sku"] == "A" {
        3000
    } else {
        2000
    };
    let order = system
        .wait_for_order(&id, "refunded", |order| {
            order["payment"]["refunded"] == expected_refund
        })
        .await;
    assert_eq!(order["status"], "delivered");
    let quantity = returned_item["quantity"].as_i64().unwrap();
    let sku = returned_item["sku"].as_str().unwrap();
    let units_before = if sku == "A" { 7 } else { 8 };
    assert_eq!(system.stock_level(sku).await, (units_before + quantity, 0));
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn returns_are_not_refunded_if_configured() {
    let system = System::start_with(&[("RETURNS", "keep")]).await;
    let id = system.announced_order().await;
    system.create_shipment(&id, json!({})).await.expect(201);
    let is_captured = |order: &Value| order["payment"]["status"] == "captured";
    system.wait_for_order(&id, "captured", is_captured).await;
    system
        .send_webhook("m-1", "shipment.returned", &id)
        .await
        .expect(200);
    system.wait_until_idle().await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["payment"]["refunded"], 0);
    assert_eq!(
        (system.stock_level("A").await, system.stock_level("B").await),
        ((10, 0), (10, 0))
    );
    system.assert_verified();
}

#[tokio::test]
async fn shipper_webhook_changes_only_the_named_shipments() {
    let system = System::start().await;
    let id = system.announced_order().await;
    for (sku, quantity, tracking_number) in [("A", 3, "TA"), ("B", 2, "TB")] {
        let shipment_items = json!([{"sku": sku, "quantity": quantity}]);
        let body = json!({"items": shipment_items, "tracking_number": tracking_number});
        system.create_shipment(&id, body).await.expect(201);
    }
    system.wait_until_idle().await;
    let path = format!("/v1/orders/{id}");
    let order_before = system.get(&path).await.expect(200);
    let send_update =
        async |webhook_id: &str, event_type: &str, timestamp: String, other_fields: Value| {
            let mut event_data = other_fields;
            event_data["order_id"] = json!(id);
            let body = json!({"type": event_type, "timestamp": timestamp, "data": event_data});
            system.send_webhook_body(webhook_id, &body).await
        };
    let current_time = || jiff::Timestamp::now().to_string();
    for event_type in [
        "shipment.shipped",
        "shipment.delivered",
        "shipment.returned",
    ] {
        let unknown_tracking = json!({"tracking_number": "TX"});
        send_update(
            &format!("n-{event_type}"),
            event_type,
            current_time(),
            unknown_tracking,
        )
        .await
        .expect_problem(404, "NOT_FOUND");
        let unknown_shipment = json!({"shipment_id": "0192f0c1-2345-7abc-8def-0123456789ab"});
        send_update(
            &format!("i-{event_type}"),
            event_type,
            current_time(),
            unknown_shipment,
        )
        .await
        .expect_problem(404, "NOT_FOUND");
    }
    assert_eq!(system.get(&path).await.expect(200), order_before);
    // The shipper's timestamp is used, unless it is in the future.
    let delivery_time = current_time();
    let tracking_a = json!({"tracking_number": "TA"});
    send_update(
        "m-1",
        "shipment.delivered",
        delivery_time.clone(),
        tracking_a,
    )
    .await
    .expect(200);
    let tracking_b = json!({"tracking_number": "TB"});
    let future_time = "2999-01-01T00:00:00Z".to_owned();
    send_update("m-2", "shipment.delivered", future_time, tracking_b)
        .await
        .expect(200);
    let order = system.get(&path).await.expect(200);
    let shipments = uncancelled_by_tracking_number(&order);
    assert_eq!(shipments["TA"]["delivered_at"], json!(delivery_time));
    let delivered_at: jiff::Timestamp = shipments["TB"]["delivered_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(delivered_at <= jiff::Timestamp::now());
    assert_eq!(order["status"], "delivered");
    system.wait_until_idle().await;
    system.assert_verified();
}

/// Shipments that were not cancelled, by tracking number.
fn uncancelled_by_tracking_number(order: &Value) -> Value {
    let shipments = order["shipments"].as_array().unwrap().iter();
    let uncancelled_shipments = shipments.filter(|shipment| shipment["status"] != "cancelled");
    uncancelled_shipments
        .map(|shipment| {
            (
                shipment["tracking_number"].as_str().unwrap().to_owned(),
                shipment.clone(),
            )
        })
        .collect()
}

/// Asserts that the key used for `body` is refused with another body.
async fn assert_conflict(system: &System, path: &str, body: &Value, is_event: bool) {
    let mut other_body = body.clone();
    if is_event {
        other_body = json!({"type": "shipment.failed"});
    } else {
        other_body["reason"] = json!("another one");
    }
    let idempotency_key = format!("{path}{body}").replace(['/', '"'], "");
    let request = system
        .request(reqwest::Method::POST, path)
        .json(&other_body);
    let request = request.header(
        "idempotency-key",
        &idempotency_key[..idempotency_key.len().min(200)],
    );
    crate::harness::send(request)
        .await
        .expect_problem(422, "IDEMPOTENCY_CONFLICT");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "every operation on shipments")]
async fn operators_record_shipment_events_and_cancel_unshipped_items() {
    let keys = "operator=key-of-an-operator-here;storefront=key-of-a-storefront-here";
    let mut system = System::start_with(&[("API_KEYS", keys)]).await;
    system.api_key = Some("key-of-an-operator-here".to_owned());
    let id = system.announced_order().await;
    let path = format!("/v1/orders/{id}");
    let cancel_remaining_path = format!("{path}/cancel-remaining");
    system
        .post(&cancel_remaining_path, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 1}], "tracking_number": "TA"});
    system
        .create_shipment(&id, partial_shipment)
        .await
        .expect(201);
    system.wait_until_idle().await;
    let order = system.get(&path).await.expect(200);
    let shipment_path_with = |status: &str| {
        let shipments = order["shipments"].as_array().unwrap().iter();
        let matching_ids = shipments.filter(|shipment| shipment["status"] == status);
        let matching_ids: Vec<&str> = matching_ids
            .map(|shipment| shipment["id"].as_str().unwrap())
            .collect();
        assert_eq!(matching_ids.len(), 1, "{status}: {order}");
        format!("{path}/shipments/{}", matching_ids[0])
    };
    let (shipped_path, label_path) = (
        shipment_path_with("shipped"),
        shipment_path_with("label_created"),
    );
    let (events_path, cancel_path) = (
        format!("{shipped_path}/events"),
        format!("{label_path}/cancel"),
    );
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    for (path, body) in [
        (&events_path, json!({"type": "shipment.delivered"})),
        (&cancel_path, json!({})),
        (&cancel_remaining_path, json!({})),
    ] {
        // The operations require an operator, honour `If-Match`, and refuse unknown fields.
        let operator_key = system
            .api_key
            .replace("key-of-a-storefront-here".to_owned());
        let refused_reply = system.post(path, body.clone()).await;
        refused_reply.expect_problem(403, "FORBIDDEN");
        system.api_key = operator_key;
        let request = system.request(reqwest::Method::POST, path).json(&body);
        crate::harness::send(request.header("if-match", "\"1\""))
            .await
            .expect_problem(412, "VERSION_MISMATCH");
        let mut body_with_unknown_field = body.clone();
        body_with_unknown_field["weight"] = json!(1);
        let refused_reply = system.post(path, body_with_unknown_field).await;
        refused_reply.expect_problem(422, "INVALID_REQUEST");
        let unknown_order_path = path.replace(&id, unknown_id);
        let refused_reply = system.post(&unknown_order_path, body).await;
        refused_reply.expect_problem(404, "NOT_FOUND");
    }
    let unknown_shipment_path = format!("{path}/shipments/{unknown_id}/cancel");
    let refused_reply = system.post(&unknown_shipment_path, json!({})).await;
    refused_reply.expect_problem(404, "NOT_FOUND");
    let refused_reply = system
        .post(&events_path, json!({"type": "delivered"}))
        .await;
    refused_reply.expect_problem(422, "INVALID_REQUEST");
    let refused_reply = system
        .post(&format!("{shipped_path}/cancel"), json!({}))
        .await;
    refused_reply.expect_problem(409, "INVALID_STATE");

    // With an idempotency key, each operation is executed once.
    for (path, body) in [
        (&cancel_path, json!({"reason": "torn"})),
        (&cancel_remaining_path, json!({"reason": "broken"})),
        (&events_path, json!({"type": "shipment.out_for_delivery"})),
        (
            &events_path,
            json!({"type": "shipment.delivered", "timestamp": null}),
        ),
    ] {
        let mut replies = Vec::new();
        for _ in 0..2 {
            let request = system.request(reqwest::Method::POST, path).json(&body);
            let key = format!("{path}{body}").replace(['/', '"'], "");
            let request = request.header("idempotency-key", &key[..key.len().min(200)]);
            replies.push(crate::harness::send(request).await.expect(200));
        }
        assert_eq!(replies[0], replies[1]);
        assert_conflict(&system, path, &body, path == &events_path).await;
    }
    system.wait_until_idle().await;
    let order = system.get(&path).await.expect(200);
    assert_eq!(order["status"], "delivered");
    assert_eq!(order["total"], 5000);
    let cancelled_items = json!([{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 2}]);
    assert_eq!(order["cancelled_items"], cancelled_items);
    assert_eq!(order["payment"]["captured"], 1000);
    assert_eq!(
        (system.stock_level("A").await, system.stock_level("B").await),
        ((9, 0), (10, 0))
    );
    system
        .post(&events_path, json!({"type": "shipment.returned"}))
        .await
        .expect(200);
    let is_refunded = |order: &Value| order["payment"]["refunded"] == 1000;
    system.wait_for_order(&id, "refunded", is_refunded).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn shipment_can_name_a_warehouse_and_a_mistyped_one_can_be_removed() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("east", 2), ("west", 9), ("wset", 4)])
        .await;
    let customer_id = system.create_customer().await;
    let new_order = crate::harness::order_body(&customer_id, "A", 3);
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let id = created_order["id"].as_str().unwrap();
    assert_eq!(created_order["items"][0]["warehouse"], "west");
    system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    for impossible_shipment in [
        json!({"warehouse": "east"}),
        json!({"warehouse": "a b"}),
        json!({"warehouse": "east", "items": [{"sku": "A", "quantity": 3}]}),
    ] {
        let refused_reply = system.create_shipment(id, impossible_shipment).await;
        refused_reply.expect_problem(422, "INVALID_REQUEST");
    }
    let partial_shipment = json!({"warehouse": "east", "items": [{"sku": "A", "quantity": 2}]});
    let order = system
        .create_shipment(id, partial_shipment)
        .await
        .expect(201);
    assert_eq!(
        shipped_shipments(&order)[0]["items"][0]["warehouse"],
        "east"
    );
    let order = system
        .create_shipment(id, json!({"warehouse": "west"}))
        .await
        .expect(201);
    assert_eq!(order["status"], "shipped");

    let mistyped_path = "/v1/products/A/stock/wset";
    let delete_with_body = async |body: Value| {
        let request = system.request(reqwest::Method::DELETE, mistyped_path);
        crate::harness::send(request.json(&body)).await
    };
    let problem = system
        .delete(mistyped_path)
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(problem["on_hand"], 4);
    delete_with_body(json!({"move_to": "wset"}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(
        delete_with_body(json!({"move_to": "west"})).await.status,
        204
    );
    let product = system.get("/v1/products/A").await.expect(200);
    let expected_stock = json!([
        {"warehouse": "east", "on_hand": 0, "reserved": 0, "available": 0},
        {"warehouse": "west", "on_hand": 12, "reserved": 0, "available": 12},
    ]);
    assert_eq!(product["stock"], expected_stock);
    let product_list = system.get("/v1/products").await.expect(200);
    assert_eq!(product_list["data"][0]["stock"], expected_stock);
    system
        .delete(mistyped_path)
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .delete("/v1/products/B/stock/wset")
        .await
        .expect_problem(404, "NOT_FOUND");
    system.wait_until_idle().await;
    system.assert_verified();
}
