//! Manual approval of orders: no step runs before the operator approves an order.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Reply, System, has_shipping_label, order_body};

const MANUAL_APPROVAL: (&str, &str) = ("ORDER_APPROVAL", "manual");

impl System {
    async fn create_order_for(&self, customer_id: &str) -> String {
        let order_reply = self
            .post("/v1/orders", order_body(customer_id, "A", 1))
            .await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    }

    async fn decide(&self, order_id: &str, decision: &str) -> Reply {
        self.post(&format!("/v1/orders/{order_id}/{decision}"), json!({}))
            .await
    }
}

#[tokio::test]
async fn no_step_runs_before_an_order_is_approved() {
    let keys = "storefront@eu=key-of-eu;operator=key-of-operator";
    let mut system = System::start_with(&[
        MANUAL_APPROVAL,
        ("API_KEYS", keys),
        ("RESERVATION_TTL_SECONDS", "1"),
    ])
    .await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.create_customer().await;
    let (id, other_id) = (
        system.create_order_for(&customer_id).await,
        system.create_order_for(&customer_id).await,
    );
    // Enough time for a payment, and for the reservation to expire.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let unapproved_order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(
        (
            &unapproved_order["status"],
            &unapproved_order["in_progress"]
        ),
        (&json!("pending"), &Value::Null)
    );
    assert_eq!(system.stock_level("A").await, (5, 2));
    for decision in ["approve", "reject"] {
        system
            .decide(&id, decision)
            .await
            .expect_problem(403, "FORBIDDEN");
    }
    system
        .post("/v1/orders/approve", json!({"all": true}))
        .await
        .expect_problem(403, "FORBIDDEN");

    system.api_key = Some("key-of-operator".to_owned());
    system.decide(&id, "approve").await.expect(200);
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    // A second approval changes nothing, and a rejection comes too late.
    system.decide(&id, "approve").await.expect(200);
    system
        .decide(&id, "reject")
        .await
        .expect_problem(409, "INVALID_STATE");
    let history = system.list_event_types(&id).await;
    let approval_events = history
        .iter()
        .filter(|event_type| *event_type == "order.approved");
    assert_eq!(approval_events.count(), 1);

    let rejected_order = system.decide(&other_id, "reject").await.expect(200);
    assert_eq!(
        (&rejected_order["status"], &rejected_order["cancel_reason"]),
        (&json!("cancelled"), &json!("rejected"))
    );
    system.decide(&other_id, "reject").await.expect(200);
    system
        .decide(&other_id, "approve")
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(system.stock_level("A").await, (5, 1));
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn approve_all_works_page_by_page() {
    let mut system = System::start_with(&[MANUAL_APPROVAL]).await;
    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let order_ids = join_all((0..450).map(|_| system.create_order_for(&customer_id))).await;
    for invalid_body in [
        json!({}),
        json!({"all": false}),
        json!({"all": "yes"}),
        json!({"all": true, "cursor": "x"}),
    ] {
        system
            .post("/v1/orders/approve", invalid_body)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
    system.decide(&order_ids[7], "cancel").await.expect(200);
    // Orders that await approval survive the death of the worker.
    system.worker.kill();
    system.restart_worker().await;
    let (mut approved_count, mut cursor) = (0, Value::Null);
    loop {
        let body = json!({"all": true, "cursor": cursor});
        let report = system.post("/v1/orders/approve", body).await.expect(200);
        assert_eq!(report["failed"], json!([]));
        approved_count += report["approved"].as_u64().unwrap();
        cursor = report["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(approved_count, 449);
    let repeated_reply = system
        .post("/v1/orders/approve", json!({"all": true}))
        .await
        .expect(200);
    assert_eq!(repeated_reply["approved"], 0);
    let orders = system.wait_until_idle().await;
    let processing_orders = orders
        .iter()
        .filter(|order| order["status"] == "processing");
    assert_eq!(processing_orders.count(), 449);
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_approve_reject_and_cancel_have_one_winner() {
    let system = System::start_with(&[MANUAL_APPROVAL]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let order_ids = join_all((0..30).map(|_| system.create_order_for(&customer_id))).await;
    let decision_words = ["approve", "reject", "cancel", "approve", "reject"];
    let decisions = order_ids.iter().enumerate().flat_map(|(number, order_id)| {
        let system = &system;
        (0..decision_words.len()).map(move |word_index| async move {
            let decision = decision_words[(number + word_index) % decision_words.len()];
            (
                order_id.clone(),
                decision,
                system.decide(order_id, decision).await.status,
            )
        })
    });
    for (id, decision, status) in join_all(decisions).await {
        assert!(matches!(status, 200 | 409), "{decision} {id}: {status}");
    }
    for order in system.wait_until_idle().await {
        let cancel_reason = order["cancel_reason"].as_str();
        match order["status"].as_str().unwrap() {
            "processing" => assert_eq!(cancel_reason, None),
            "cancelled" => assert!(
                matches!(cancel_reason, Some("rejected" | "operator_request")),
                "{order}"
            ),
            other_status => panic!("{other_status}"),
        }
    }
    system.assert_verified();
}
