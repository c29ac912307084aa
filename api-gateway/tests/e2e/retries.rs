//! Steps that wait for a retry are listed, and an operator can retry them immediately.

use serde_json::{Value, json};

use crate::harness::{CannedResponse, Receiver, System, order_body_with_method, wait_until};

/// Creates orders whose payments always fail, and returns them with the failing provider.
pub(crate) async fn orders_with_failing_payments(
    order_count: usize,
) -> (System, Receiver, Vec<String>) {
    let provider = Receiver::with_responses(vec![CannedResponse::Status(500)]).await;
    let variables = [
        ("PAYMENT_PROVIDER", "stripe"),
        ("STRIPE_API_KEY", "sk_test_12345"),
        ("STRIPE_API_BASE", &provider.url("")),
    ];
    let system = System::start_with(&variables).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for _ in 0..order_count {
        let new_order = order_body_with_method(&customer_id, "A", 1, "pm_card_visa");
        let created_order = system.post("/v1/orders", new_order).await.expect(201);
        order_ids.push(created_order["id"].as_str().unwrap().to_owned());
    }
    (system, provider, order_ids)
}

async fn list_retries(system: &System) -> Vec<Value> {
    let page = system.get("/v1/retries").await.expect(200);
    page["data"].as_array().unwrap().clone()
}

/// Waits until all steps have failed this often, so that the delay of the next retry is long.
async fn wait_until_all_failed(system: &System, step_count: usize, min_attempts: u64) {
    wait_until("all steps to have failed", async || {
        let waiting_steps = list_retries(system).await;
        let has_attempts = |step: &Value| step["attempts"].as_u64() >= Some(min_attempts);
        waiting_steps.len() == step_count && waiting_steps.iter().all(has_attempts)
    })
    .await;
}

#[tokio::test]
async fn pending_retry_shows_its_reason_and_can_be_redriven() {
    let (system, _, ids) = orders_with_failing_payments(1).await;
    let order_id = &ids[0];
    wait_until_all_failed(&system, 1, 3).await;
    let step = list_retries(&system).await[0].clone();
    assert_eq!(step["id"], format!("{order_id}:authorize_payment"));
    assert_eq!(step["order_id"], order_id.as_str());
    assert_eq!(step["step"], "authorize_payment");
    assert!(step["reason"].as_str().unwrap().contains("500"), "{step}");
    assert!(step["next_attempt_at"].is_string() && step["request_id"].is_string());
    let stats = system.get("/v1/stats").await.expect(200);
    assert_eq!(stats["system"]["retries"], 1);

    let path = format!("/v1/retries/{order_id}:authorize_payment/redrive");
    let redrive_reply = system.post(&path, json!({})).await.expect(200);
    assert_eq!(redrive_reply["status"], "redriven");
    // The number of attempts starts again at one.
    wait_until("the step to fail again", async || {
        let history = system.list_event_types(order_id).await;
        let events_after_redrive = history
            .iter()
            .skip_while(|event_type| *event_type != "step.redriven");
        events_after_redrive
            .skip(1)
            .any(|event_type| event_type == "step.retried")
    })
    .await;
    for unknown_path in [
        format!("{order_id}:capture_payment"),
        format!("{order_id}:no_step"),
        "nothing".to_owned(),
    ] {
        system
            .post(&format!("/v1/retries/{unknown_path}/redrive"), json!({}))
            .await
            .expect_problem(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn pending_retries_are_paginated_and_can_be_redriven_at_once() {
    let (system, _, ids) = orders_with_failing_payments(5).await;
    wait_until_all_failed(&system, 5, 2).await;
    let (mut listed_ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = system
            .get(&format!("/v1/retries?limit=2{cursor}"))
            .await
            .expect(200);
        let steps = page["data"].as_array().unwrap().clone();
        listed_ids.extend(steps.into_iter().map(|step| step["order_id"].clone()));
        let Some(next_cursor) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next_cursor}");
    }
    // Steps that were retried in between keep their position.
    assert_eq!(json!(listed_ids), json!(ids));

    let redrive_all_path = "/v1/retries/redrive";
    let empty_redrive = system.post(
        redrive_all_path,
        json!({"all": true, "step": "capture_payment"}),
    );
    assert_eq!(empty_redrive.await.expect(200)["redriven"], 0);
    for invalid_body in [
        json!({"all": true, "step": "authorise"}),
        json!({"all": false}),
        json!({}),
        json!({"all": true, "cursor": "x"}),
    ] {
        let reply = system.post(redrive_all_path, invalid_body).await;
        reply.expect_problem(422, "INVALID_REQUEST");
    }
    wait_until_all_failed(&system, 5, 3).await;
    let request = system.post(
        redrive_all_path,
        json!({"all": true, "step": "authorize_payment"}),
    );
    assert_eq!(
        request.await.expect(200),
        json!({"redriven": 5, "next_cursor": null})
    );
    for id in &ids {
        wait_until("the steps to be redriven", async || {
            let history = system.list_event_types(id).await;
            history.contains(&"step.redriven".to_owned())
        })
        .await;
    }
}
