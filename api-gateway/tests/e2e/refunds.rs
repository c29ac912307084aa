//! Refunds: partial and full, never more than the captured amount.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Reply, System, has_shipping_label, order_body};

impl System {
    /// Creates an order that is shipped and captured.
    async fn captured_order(&self, quantity: u32) -> String {
        let customer_id = self.create_customer().await;
        let order_reply = self
            .post("/v1/orders", order_body(&customer_id, "A", quantity))
            .await;
        let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        let webhook_reply = self
            .send_webhook(&format!("m-{id}"), "shipment.shipped", &id)
            .await;
        assert_eq!(webhook_reply.status, 200);
        self.wait_for_order(&id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
        id
    }

    async fn refund(&self, order_id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/orders/{order_id}/refunds"), body)
            .await
    }

    async fn wait_for_refund(&self, order_id: &str, amount: i64) -> Value {
        self.wait_for_order(order_id, "refunded", |order| {
            order["payment"]["refunded"] == amount
        })
        .await
    }
}

#[tokio::test]
async fn partial_refunds_never_exceed_the_captured_amount() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let id = system.captured_order(3).await;
    let reply = system
        .refund(&id, json!({"amount": 1000, "reason": "damaged"}))
        .await;
    assert_eq!(reply.expect(202)["in_progress"]["step"], "refund_payment");
    let partly_refunded_order = system.wait_for_refund(&id, 1000).await;
    assert_eq!(
        partly_refunded_order["payment"]["status"],
        "partially_refunded"
    );
    let problem = system
        .refund(&id, json!({"amount": 2001}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/amount");
    for invalid_body in [
        json!({"amount": 0}),
        json!({"amount": -5}),
        json!({"amount": "1"}),
        json!({"sum": 1}),
    ] {
        system
            .refund(&id, invalid_body)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
    // Without an amount, the rest is refunded.
    system.refund(&id, json!({})).await.expect(202);
    assert_eq!(
        system.wait_for_refund(&id, 3000).await["payment"]["status"],
        "refunded"
    );
    system
        .refund(&id, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(system.payment_totals().await.refunded_amount, 3000);
    let history = system.list_event_types(&id).await;
    let refund_request_events = history
        .iter()
        .filter(|event_type| *event_type == "payment.refund_requested");
    assert_eq!(refund_request_events.count(), 2);
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_refunds_do_not_exceed_the_captured_amount() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let id = system.captured_order(5).await;
    let replies = join_all((0..20).map(|_| system.refund(&id, json!({"amount": 700})))).await;
    let accepted_count = replies.iter().filter(|reply| reply.status == 202).count();
    assert_eq!(accepted_count, 7, "7 refunds of 700 fit into 5000");
    // The death of the worker duplicates no refund.
    system.worker.kill();
    system.restart_worker().await;
    system.wait_for_refund(&id, 4900).await;
    system.wait_until_idle().await;
    assert_eq!(system.payment_totals().await.refunded_amount, 4900);
    system.assert_verified();
}

#[tokio::test]
async fn refund_needs_a_captured_payment_and_an_operator() {
    let keys = "storefront@eu=key-of-eu;operator=key-of-operator";
    let mut system = System::start_with(&[("API_KEYS", keys)]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    system
        .refund(&id, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    system.api_key = Some("key-of-eu".to_owned());
    system
        .refund(&id, json!({}))
        .await
        .expect_problem(403, "FORBIDDEN");
}
