//! Incoming webhooks of the shipper.

use jiff::Timestamp;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::{SHIPPER_SECRET, System, has_shipping_label, order_body, run_script, send};

/// Starts a system with one order whose shipment is announced.
async fn start_with_order() -> (System, String) {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let created_order = system
        .post(
            "/v1/orders",
            order_body(&system.create_customer().await, "A", 1),
        )
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    (system, id)
}

fn webhook_body(event_type: &str, order_id: &str) -> Value {
    json!({"type": event_type, "timestamp": "2026-01-31T12:00:00Z", "data": {"order_id": order_id}})
}

#[tokio::test]
async fn forged_stale_or_unsigned_shipper_webhooks_are_refused() {
    let (system, id) = start_with_order().await;
    let body = webhook_body("shipment.shipped", &id).to_string();
    let now_seconds = Timestamp::now().as_second();
    let signature_header = |secret: &str, timestamp: i64| {
        Webhook::new(secret)
            .unwrap()
            .sign("m-1", timestamp, body.as_bytes())
            .unwrap()
    };
    let send_signed = async |timestamp: i64, signature: &str, body: &str| {
        send(system.signed_request("m-1", &timestamp.to_string(), signature, body.to_owned())).await
    };
    let forged_signature = signature_header("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", now_seconds);
    send_signed(now_seconds, &forged_signature, &body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    let hour_ago = now_seconds - 3600;
    send_signed(hour_ago, &signature_header(SHIPPER_SECRET, hour_ago), &body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    let hour_ahead = now_seconds + 3600;
    send_signed(
        hour_ahead,
        &signature_header(SHIPPER_SECRET, hour_ahead),
        &body,
    )
    .await
    .expect_problem(401, "UNAUTHENTICATED");
    let other_body = body.replace("shipped", "delivered");
    send_signed(
        now_seconds,
        &signature_header(SHIPPER_SECRET, now_seconds),
        &other_body,
    )
    .await
    .expect_problem(401, "UNAUTHENTICATED");
    send_signed(now_seconds, "v1,", &body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    let unsigned_request = system
        .client
        .post(system.url("/webhooks/shipper"))
        .body(body.clone());
    send(unsigned_request)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    assert_eq!(
        system.get(&format!("/v1/orders/{id}")).await.expect(200)["status"],
        "processing"
    );
    // During a rotation of the secret there are two signatures.
    send_signed(
        now_seconds,
        &format!(
            "{forged_signature} {}",
            signature_header(SHIPPER_SECRET, now_seconds)
        ),
        &body,
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn duplicate_shipper_webhook_is_applied_once() {
    let (system, id) = start_with_order().await;
    let webhook_replies = futures_util::future::join_all(
        (0..10).map(|_| system.send_webhook("m-1", "shipment.shipped", &id)),
    )
    .await;
    assert!(webhook_replies.iter().all(|reply| reply.status == 200));
    // A repeated id is a duplicate, even with another body.
    let mut changed_body = webhook_body("shipment.shipped", &id);
    changed_body["timestamp"] = json!("2026-01-31T12:00:01Z");
    system
        .send_webhook_body("m-1", &changed_body)
        .await
        .expect(200);
    // An update with another webhook id and the same status changes nothing.
    system
        .send_webhook("m-2", "shipment.shipped", &id)
        .await
        .expect(200);
    system.wait_until_idle().await;
    let history = system.list_event_types(&id).await;
    let count_events = |expected_type: &str| {
        let events = history.iter();
        events
            .filter(|event_type| *event_type == expected_type)
            .count()
    };
    assert_eq!(
        (
            count_events("shipment.shipped"),
            count_events("payment.captured")
        ),
        (1, 1),
        "{history:?}"
    );
    let payment_totals = system.payment_totals().await;
    assert_eq!(
        (payment_totals.authorizations, payment_totals.captures),
        (1, 1)
    );
    system.assert_verified();
}

#[tokio::test]
async fn delivered_before_shipped_implies_both() {
    let (system, id) = start_with_order().await;
    system
        .send_webhook("m-2", "shipment.delivered", &id)
        .await
        .expect(200);
    system
        .send_webhook("m-1", "shipment.shipped", &id)
        .await
        .expect(200);
    let order = system
        .wait_for_order(&id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    assert_eq!(order["status"], "delivered");
    let history = system.list_event_types(&id).await;
    for event_type in [
        "shipment.shipped",
        "order.shipped",
        "shipment.delivered",
        "order.delivered",
    ] {
        assert!(
            history.contains(&event_type.to_owned()),
            "{event_type} in {history:?}"
        );
    }
    system.assert_verified();
}

#[tokio::test]
async fn refused_webhook_can_be_retried_with_the_same_id() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let slow_order = json!({
        "customer_id": system.create_customer().await, "items": [{"sku": "A", "quantity": 1}], "payment_method": "pm_slow"
    });
    let created_order = system.post("/v1/orders", slow_order).await.expect(201);
    let id = created_order["id"].as_str().unwrap();
    system
        .send_webhook("m-1", "shipment.shipped", id)
        .await
        .expect_problem(409, "INVALID_STATE");
    system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    system
        .send_webhook("m-1", "shipment.shipped", id)
        .await
        .expect(200);
    system
        .post(&format!("/v1/orders/{id}/cancel"), json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
}

#[tokio::test]
async fn invalid_webhooks_are_refused_with_the_cause() {
    let (system, id) = start_with_order().await;
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    system
        .send_webhook_body("m-1", &webhook_body("shipment.shipped", unknown_id))
        .await
        .expect_problem(404, "NOT_FOUND");
    let problem = system
        .send_webhook_body("m-2", &webhook_body("shipment.lost", &id))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/type");
    system
        .send_webhook_body("m-3", &json!({"type": "shipment.shipped"}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    system
        .send_webhook_body("m-4", &json!([]))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    let mut unknown_shipment_body = webhook_body("shipment.shipped", &id);
    unknown_shipment_body["data"]["shipment_id"] = json!(unknown_id);
    system
        .send_webhook_body("m-5", &unknown_shipment_body)
        .await
        .expect_problem(404, "NOT_FOUND");
    // Unknown fields are ignored.
    let mut body_with_extra_fields = webhook_body("shipment.shipped", &id);
    body_with_extra_fields["data"]["driver"] = json!("Joe");
    body_with_extra_fields["version"] = json!(3);
    system
        .send_webhook_body("m-6", &body_with_extra_fields)
        .await
        .expect(200);
}

#[tokio::test]
async fn third_party_signature_is_accepted() {
    let (system, id) = start_with_order().await;
    let timestamp_and_signature = run_script(
        "sign.py",
        &[
            SHIPPER_SECRET,
            "m-1",
            &webhook_body("shipment.shipped", &id).to_string(),
        ],
    );
    let (timestamp, signature) = timestamp_and_signature.trim().split_once(' ').unwrap();
    send(system.signed_request(
        "m-1",
        timestamp,
        signature,
        webhook_body("shipment.shipped", &id).to_string(),
    ))
    .await
    .expect(200);
}
