//! Incoming webhooks of the shipper.

use jiff::Timestamp;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::{SECRET, System, is_announced, order, python, send};

/// Starts a system with one order whose shipment is announced.
async fn start_with_order() -> (System, String) {
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let created = system
        .post("/v1/orders", order(&system.customer().await, "A", 1))
        .await
        .expect(201);
    let id = created["id"].as_str().unwrap().to_owned();
    system.order_until(&id, "announced", is_announced).await;
    (system, id)
}

fn body(kind: &str, order: &str) -> Value {
    json!({"type": kind, "timestamp": "2026-01-31T12:00:00Z", "data": {"order_id": order}})
}

#[tokio::test]
async fn forged_stale_or_unsigned_shipper_webhooks_are_refused() {
    let (system, id) = start_with_order().await;
    let body = body("shipment.shipped", &id).to_string();
    let now = Timestamp::now().as_second();
    let sign = |secret: &str, time: i64| {
        Webhook::new(secret)
            .unwrap()
            .sign("m-1", time, body.as_bytes())
            .unwrap()
    };
    let send_signed = async |time: i64, signature: &str, body: &str| {
        send(system.signed("m-1", &time.to_string(), signature, body.to_owned())).await
    };
    let forged = sign("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", now);
    send_signed(now, &forged, &body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    let stale = now - 3600;
    send_signed(stale, &sign(SECRET, stale), &body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    let early = now + 3600;
    send_signed(early, &sign(SECRET, early), &body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    let other_body = body.replace("shipped", "delivered");
    send_signed(now, &sign(SECRET, now), &other_body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    send_signed(now, "v1,", &body)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    let unsigned = system
        .client
        .post(system.url("/webhooks/shipper"))
        .body(body.clone());
    send(unsigned).await.expect_problem(401, "UNAUTHENTICATED");
    assert_eq!(
        system.get(&format!("/v1/orders/{id}")).await.expect(200)["status"],
        "processing"
    );
    // During a rotation of the secret there are two signatures.
    send_signed(now, &format!("{forged} {}", sign(SECRET, now)), &body)
        .await
        .expect(200);
}

#[tokio::test]
async fn duplicate_shipper_webhook_is_applied_once() {
    let (system, id) = start_with_order().await;
    let replies = futures_util::future::join_all(
        (0..10).map(|_| system.webhook("m-1", "shipment.shipped", &id)),
    )
    .await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    // A repeated id is a duplicate, even with another body.
    let mut reworded = body("shipment.shipped", &id);
    reworded["timestamp"] = json!("2026-01-31T12:00:01Z");
    system.webhook_with("m-1", &reworded).await.expect(200);
    // An update with another webhook id and the same status changes nothing.
    system
        .webhook("m-2", "shipment.shipped", &id)
        .await
        .expect(200);
    system.wait_until_idle().await;
    let history = system.history(&id).await;
    let count = |kind: &str| history.iter().filter(|event| *event == kind).count();
    assert_eq!(
        (count("shipment.shipped"), count("payment.captured")),
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
        .webhook("m-2", "shipment.delivered", &id)
        .await
        .expect(200);
    system
        .webhook("m-1", "shipment.shipped", &id)
        .await
        .expect(200);
    let order = system
        .order_until(&id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    assert_eq!(order["status"], "delivered");
    let history = system.history(&id).await;
    for event in [
        "shipment.shipped",
        "order.shipped",
        "shipment.delivered",
        "order.delivered",
    ] {
        assert!(
            history.contains(&event.to_owned()),
            "{event} in {history:?}"
        );
    }
    system.assert_verified();
}

#[tokio::test]
async fn refused_webhook_can_be_retried_with_the_same_id() {
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let slow = json!({
        "customer_id": system.customer().await, "items": [{"sku": "A", "quantity": 1}], "payment_method": "pm_slow"
    });
    let created = system.post("/v1/orders", slow).await.expect(201);
    let id = created["id"].as_str().unwrap();
    system
        .webhook("m-1", "shipment.shipped", id)
        .await
        .expect_problem(409, "INVALID_STATE");
    system.order_until(id, "announced", is_announced).await;
    system
        .webhook("m-1", "shipment.shipped", id)
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
    let unknown = "0192f0c1-2345-7abc-8def-0123456789ab";
    system
        .webhook_with("m-1", &body("shipment.shipped", unknown))
        .await
        .expect_problem(404, "NOT_FOUND");
    let problem = system
        .webhook_with("m-2", &body("shipment.lost", &id))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/type");
    system
        .webhook_with("m-3", &json!({"type": "shipment.shipped"}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    system
        .webhook_with("m-4", &json!([]))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    let mut named = body("shipment.shipped", &id);
    named["data"]["shipment_id"] = json!(unknown);
    system
        .webhook_with("m-5", &named)
        .await
        .expect_problem(404, "NOT_FOUND");
    // Unknown fields are ignored.
    let mut chatty = body("shipment.shipped", &id);
    chatty["data"]["driver"] = json!("Joe");
    chatty["version"] = json!(3);
    system.webhook_with("m-6", &chatty).await.expect(200);
}

#[tokio::test]
async fn third_party_signature_is_accepted() {
    let (system, id) = start_with_order().await;
    let signed = python(
        "sign.py",
        &[SECRET, "m-1", &body("shipment.shipped", &id).to_string()],
    );
    let (time, signature) = signed.trim().split_once(' ').unwrap();
    send(system.signed(
        "m-1",
        time,
        signature,
        body("shipment.shipped", &id).to_string(),
    ))
    .await
    .expect(200);
}
