//! Manual shipments: of a whole order or of a part.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Reply, System, is_announced};

impl System {
    /// Creates an order of two products in two warehouses, paid and announced.
    async fn announced_order(&self) -> String {
        self.stock("A", &[("east", 10)]).await;
        self.stock("B", &[("west", 10)]).await;
        let customer = self.customer().await;
        let new_order = json!({"customer_id": customer, "items": [
            {"sku": "A", "quantity": 3}, {"sku": "B", "quantity": 2}]});
        let created = self.post("/v1/orders", new_order).await.expect(201);
        let id = created["id"].as_str().unwrap().to_owned();
        self.order_until(&id, "announced", |order| {
            is_announced(order) && order["shipments"].as_array().unwrap().len() == 2
        })
        .await;
        id
    }

    async fn ship(&self, id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/orders/{id}/shipments"), body).await
    }
}

fn shipped(order: &Value) -> Vec<&Value> {
    let shipments = order["shipments"].as_array().unwrap().iter();
    shipments
        .filter(|shipment| shipment["status"] == "shipped")
        .collect()
}

#[tokio::test]
async fn order_can_be_shipped_in_parts_once_each() {
    let system = System::start().await;
    let id = system.announced_order().await;
    let part =
        json!({"items": [{"sku": "A", "quantity": 1}], "carrier": "DHL", "tracking_number": "T-1"});
    let reply = system.ship(&id, part).await;
    assert_eq!(reply.headers["location"], format!("/v1/orders/{id}"));
    let order = reply.expect(201);
    assert_eq!(order["status"], "processing");
    let shipments = shipped(&order);
    assert_eq!(shipments.len(), 1);
    assert_eq!(shipments[0]["tracking_number"], "T-1");
    assert_eq!(
        shipments[0]["items"],
        json!([{"sku": "A", "warehouse": "east", "quantity": 1}])
    );
    assert_eq!(system.stock_level("A").await, (9, 2));

    let over = json!({"items": [{"sku": "B", "quantity": 1}, {"sku": "A", "quantity": 3}]});
    let problem = system
        .ship(&id, over)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/items/1/quantity");
    for wrong in [
        json!({"items": []}),
        json!({"items": [{"sku": "C", "quantity": 1}]}),
        json!({"items": [{"sku": "A", "quantity": 0}]}),
        json!({"carrier": ""}),
        json!({"weight": 1}),
    ] {
        system
            .ship(&id, wrong)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
    system
        .post(&format!("/v1/orders/{id}/cancel"), json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");

    // Items that match an announced shipment exactly use its label. Then the rest is shipped.
    let label = json!({"items": [{"sku": "B", "quantity": 2}]});
    let order = system.ship(&id, label).await.expect(201);
    let from_west = order["shipments"]
        .as_array()
        .unwrap()
        .iter()
        .find(|shipment| shipment["items"][0]["sku"] == "B" && shipment["status"] == "shipped");
    assert_eq!(from_west.unwrap()["carrier"], "sandbox");
    let order = system.ship(&id, json!({})).await.expect(201);
    assert_eq!(order["status"], "shipped");
    system
        .ship(&id, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(
        (system.stock_level("A").await, system.stock_level("B").await),
        ((7, 0), (8, 0))
    );

    // Manual shipments are delivered by the carrier's webhooks, which name them by id.
    let order = system
        .order_until(&id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    for (number, shipment) in shipped(&order).iter().enumerate() {
        let data = json!({"order_id": id, "shipment_id": shipment["id"]});
        let body = json!({"type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z", "data": data});
        let reply = system.webhook_with(&format!("m-{number}"), &body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    system
        .order_until(&id, "delivered", |order| order["status"] == "delivered")
        .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_shipments_of_the_same_items_have_one_winner() {
    let system = System::start().await;
    let id = system.announced_order().await;
    let all = json!({"items": [{"sku": "A", "quantity": 3}]});
    let replies = join_all((0..10).map(|_| system.ship(&id, all.clone()))).await;
    let accepted = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(accepted, 1);
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
    let order = system.ship(&id, json!({})).await.expect(201);
    let captured = |order: &Value| order["payment"]["status"] == "captured";
    system.order_until(&id, "captured", captured).await;
    let shipments = shipped(&order);
    let send_update = async |shipment: &Value, kind: &str| {
        let data = json!({"order_id": id, "shipment_id": shipment["id"]});
        let body = json!({"type": kind, "timestamp": "2026-01-31T12:00:00Z", "data": data});
        let name = format!("{kind}-{}", shipment["id"]);
        system.webhook_with(&name, &body).await.expect(200);
    };
    for kind in [
        "shipment.in_transit",
        "shipment.out_for_delivery",
        "shipment.failed",
    ] {
        send_update(shipments[0], kind).await;
    }
    // No step is in progress that would change the stock.
    system.wait_until_idle().await;
    let before = (system.stock_level("A").await, system.stock_level("B").await);
    assert_eq!(before, ((7, 0), (8, 0)));
    send_update(shipments[0], "shipment.returned").await;
    send_update(shipments[1], "shipment.delivered").await;
    let back = shipments[0]["items"][0].clone();
    let refund = if back["sku"] == "A" { 3000 } else { 2000 };
    let order = system
        .order_until(&id, "refunded", |order| {
            order["payment"]["refunded"] == refund
        })
        .await;
    assert_eq!(order["status"], "delivered");
    let quantity = back["quantity"].as_i64().unwrap();
    let sku = back["sku"].as_str().unwrap();
    let was = if sku == "A" { 7 } else { 8 };
    assert_eq!(system.stock_level(sku).await, (was + quantity, 0));
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn returns_are_not_refunded_if_configured() {
    let system = System::start_with(&[("RETURNS", "keep")]).await;
    let id = system.announced_order().await;
    system.ship(&id, json!({})).await.expect(201);
    let captured = |order: &Value| order["payment"]["status"] == "captured";
    system.order_until(&id, "captured", captured).await;
    system
        .webhook("m-1", "shipment.returned", &id)
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
    for (sku, quantity, number) in [("A", 3, "TA"), ("B", 2, "TB")] {
        let items = json!([{"sku": sku, "quantity": quantity}]);
        let body = json!({"items": items, "tracking_number": number});
        system.ship(&id, body).await.expect(201);
    }
    system.wait_until_idle().await;
    let path = format!("/v1/orders/{id}");
    let before = system.get(&path).await.expect(200);
    let send_update = async |name: &str, kind: &str, timestamp: String, more: Value| {
        let mut data = more;
        data["order_id"] = json!(id);
        let body = json!({"type": kind, "timestamp": timestamp, "data": data});
        system.webhook_with(name, &body).await
    };
    let now = || jiff::Timestamp::now().to_string();
    for kind in [
        "shipment.shipped",
        "shipment.delivered",
        "shipment.returned",
    ] {
        let unknown = json!({"tracking_number": "TX"});
        send_update(&format!("n-{kind}"), kind, now(), unknown)
            .await
            .expect_problem(404, "NOT_FOUND");
        let unknown = json!({"shipment_id": "0192f0c1-2345-7abc-8def-0123456789ab"});
        send_update(&format!("i-{kind}"), kind, now(), unknown)
            .await
            .expect_problem(404, "NOT_FOUND");
    }
    assert_eq!(system.get(&path).await.expect(200), before);
    // The shipper's timestamp is used, unless it is in the future.
    let at = now();
    let ta = json!({"tracking_number": "TA"});
    send_update("m-1", "shipment.delivered", at.clone(), ta)
        .await
        .expect(200);
    let tb = json!({"tracking_number": "TB"});
    let future = "2999-01-01T00:00:00Z".to_owned();
    send_update("m-2", "shipment.delivered", future, tb)
        .await
        .expect(200);
    let order = system.get(&path).await.expect(200);
    let shipments = shipped_or_arrived(&order);
    assert_eq!(shipments["TA"]["delivered_at"], json!(at));
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

/// Shipments that were not withdrawn, by tracking number.
fn shipped_or_arrived(order: &Value) -> Value {
    let shipments = order["shipments"].as_array().unwrap().iter();
    let all = shipments.filter(|shipment| shipment["status"] != "cancelled");
    all.map(|shipment| {
        (
            shipment["tracking_number"].as_str().unwrap().to_owned(),
            shipment.clone(),
        )
    })
    .collect()
}

/// Asserts that the key used for `body` is refused with another body.
async fn assert_conflict(system: &System, path: &str, body: &Value, is_event: bool) {
    let mut other = body.clone();
    if is_event {
        other = json!({"type": "shipment.failed"});
    } else {
        other["reason"] = json!("another one");
    }
    let key = format!("{path}{body}").replace(['/', '"'], "");
    let request = system.request(reqwest::Method::POST, path).json(&other);
    let request = request.header("idempotency-key", &key[..key.len().min(200)]);
    crate::harness::send(request)
        .await
        .expect_problem(422, "IDEMPOTENCY_CONFLICT");
}

#[tokio::test]
async fn operators_record_shipment_events_and_cancel_unshipped_items() {
    let keys = "operator=key-of-an-operator-here;storefront=key-of-a-storefront-here";
    let mut system = System::start_with(&[("API_KEYS", keys)]).await;
    system.key = Some("key-of-an-operator-here".to_owned());
    let id = system.announced_order().await;
    let path = format!("/v1/orders/{id}");
    let remaining = format!("{path}/cancel-remaining");
    system
        .post(&remaining, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    let part = json!({"items": [{"sku": "A", "quantity": 1}], "tracking_number": "TA"});
    system.ship(&id, part).await.expect(201);
    system.wait_until_idle().await;
    let order = system.get(&path).await.expect(200);
    let of = |status: &str| {
        let all = order["shipments"].as_array().unwrap().iter();
        let found = all.filter(|shipment| shipment["status"] == status);
        let found: Vec<&str> = found
            .map(|shipment| shipment["id"].as_str().unwrap())
            .collect();
        assert_eq!(found.len(), 1, "{status}: {order}");
        format!("{path}/shipments/{}", found[0])
    };
    let (left, label) = (of("shipped"), of("label_created"));
    let (events, cancel) = (format!("{left}/events"), format!("{label}/cancel"));
    let missing = "0192f0c1-2345-7abc-8def-0123456789ab";
    for (path, body) in [
        (&events, json!({"type": "shipment.delivered"})),
        (&cancel, json!({})),
        (&remaining, json!({})),
    ] {
        // The operations require an operator, honour `If-Match`, and refuse unknown fields.
        let key = system.key.replace("key-of-a-storefront-here".to_owned());
        let refused = system.post(path, body.clone()).await;
        refused.expect_problem(403, "FORBIDDEN");
        system.key = key;
        let request = system.request(reqwest::Method::POST, path).json(&body);
        crate::harness::send(request.header("if-match", "\"1\""))
            .await
            .expect_problem(412, "VERSION_MISMATCH");
        let mut more = body.clone();
        more["weight"] = json!(1);
        let refused = system.post(path, more).await;
        refused.expect_problem(422, "INVALID_REQUEST");
        let other = path.replace(&id, missing);
        let refused = system.post(&other, body).await;
        refused.expect_problem(404, "NOT_FOUND");
    }
    let unknown = format!("{path}/shipments/{missing}/cancel");
    let refused = system.post(&unknown, json!({})).await;
    refused.expect_problem(404, "NOT_FOUND");
    let refused = system.post(&events, json!({"type": "delivered"})).await;
    refused.expect_problem(422, "INVALID_REQUEST");
    let refused = system.post(&format!("{left}/cancel"), json!({})).await;
    refused.expect_problem(409, "INVALID_STATE");

    // With an idempotency key, each operation is executed once.
    for (path, body) in [
        (&cancel, json!({"reason": "torn"})),
        (&remaining, json!({"reason": "broken"})),
        (&events, json!({"type": "shipment.out_for_delivery"})),
        (
            &events,
            json!({"type": "shipment.delivered", "timestamp": null}),
        ),
    ] {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let request = system.request(reqwest::Method::POST, path).json(&body);
            let key = format!("{path}{body}").replace(['/', '"'], "");
            let request = request.header("idempotency-key", &key[..key.len().min(200)]);
            answers.push(crate::harness::send(request).await.expect(200));
        }
        assert_eq!(answers[0], answers[1]);
        assert_conflict(&system, path, &body, path == &events).await;
    }
    system.wait_until_idle().await;
    let order = system.get(&path).await.expect(200);
    assert_eq!(order["status"], "delivered");
    assert_eq!(order["total"], 5000);
    let cancelled = json!([{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 2}]);
    assert_eq!(order["cancelled_items"], cancelled);
    assert_eq!(order["payment"]["captured"], 1000);
    assert_eq!(
        (system.stock_level("A").await, system.stock_level("B").await),
        ((9, 0), (10, 0))
    );
    system
        .post(&events, json!({"type": "shipment.returned"}))
        .await
        .expect(200);
    let refunded = |order: &Value| order["payment"]["refunded"] == 1000;
    system.order_until(&id, "refunded", refunded).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn shipment_can_name_a_warehouse_and_a_mistyped_one_can_be_removed() {
    let system = System::start().await;
    system
        .stock("A", &[("east", 2), ("west", 9), ("wset", 4)])
        .await;
    let customer = system.customer().await;
    let new_order = crate::harness::order(&customer, "A", 3);
    let created = system.post("/v1/orders", new_order).await.expect(201);
    let id = created["id"].as_str().unwrap();
    assert_eq!(created["items"][0]["warehouse"], "west");
    system.order_until(id, "announced", is_announced).await;
    for wrong in [
        json!({"warehouse": "east"}),
        json!({"warehouse": "a b"}),
        json!({"warehouse": "east", "items": [{"sku": "A", "quantity": 3}]}),
    ] {
        let refused = system.ship(id, wrong).await;
        refused.expect_problem(422, "INVALID_REQUEST");
    }
    let part = json!({"warehouse": "east", "items": [{"sku": "A", "quantity": 2}]});
    let order = system.ship(id, part).await.expect(201);
    assert_eq!(shipped(&order)[0]["items"][0]["warehouse"], "east");
    let order = system
        .ship(id, json!({"warehouse": "west"}))
        .await
        .expect(201);
    assert_eq!(order["status"], "shipped");

    let wset = "/v1/products/A/stock/wset";
    let delete = async |body: Value| {
        let request = system.request(reqwest::Method::DELETE, wset);
        crate::harness::send(request.json(&body)).await
    };
    let problem = system
        .delete(wset)
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(problem["on_hand"], 4);
    delete(json!({"move_to": "wset"}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(delete(json!({"move_to": "west"})).await.status, 204);
    let product = system.get("/v1/products/A").await.expect(200);
    let stock = json!([
        {"warehouse": "east", "on_hand": 0, "reserved": 0, "available": 0},
        {"warehouse": "west", "on_hand": 12, "reserved": 0, "available": 12},
    ]);
    assert_eq!(product["stock"], stock);
    let listed = system.get("/v1/products").await.expect(200);
    assert_eq!(listed["data"][0]["stock"], stock);
    system.delete(wset).await.expect_problem(404, "NOT_FOUND");
    system
        .delete("/v1/products/B/stock/wset")
        .await
        .expect_problem(404, "NOT_FOUND");
    system.wait_until_idle().await;
    system.assert_verified();
}
