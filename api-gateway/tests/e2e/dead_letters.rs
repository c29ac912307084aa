//! Dead letters: failed steps and rejected messages, which an operator redrives or discards.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    System, Tables, has_shipping_label, order_body, run_script, send, wait_until,
};

async fn list_dead_letters(system: &System) -> Vec<Value> {
    let page = system.get("/v1/dead-letters?limit=200").await.expect(200);
    page["data"].as_array().unwrap().clone()
}

/// Creates a delivered order whose payment can't be captured, because the provider has voided the authorization.
pub(crate) async fn order_with_failed_capture(system: &System, sku: &str) -> String {
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, sku, 1))
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    set_ledger_status(system, &id, "voided");
    system
        .send_webhook(&format!("m-{id}"), "shipment.delivered", &id)
        .await
        .expect(200);
    let dead_letter_id = format!("{id}:capture_payment");
    wait_until("the capture to be dead", async || {
        list_dead_letters(system)
            .await
            .iter()
            .any(|dead_letter| dead_letter["id"] == dead_letter_id.as_str())
    })
    .await;
    id
}

fn set_ledger_status(system: &System, order_id: &str, status: &str) {
    let sql = format!(
        "UPDATE payments SET status = '{status}' WHERE key = '{order_id}/authorize_payment'"
    );
    system.store.run(Tables::Ledger, &sql);
}

#[tokio::test]
async fn dead_step_shows_its_reason_and_succeeds_once_after_redrive() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let id = order_with_failed_capture(&system, "A").await;
    let letters_before = list_dead_letters(&system).await;
    assert_eq!(letters_before.len(), 1, "{letters_before:?}");
    assert_eq!(letters_before[0]["kind"], "step");
    assert_eq!(letters_before[0]["order_id"], id.as_str());
    assert_eq!(letters_before[0]["step"], "capture_payment");
    assert_eq!(letters_before[0]["attempts"], 1);
    let reason = letters_before[0]["reason"].as_str().unwrap();
    assert!(reason.contains("can't be captured"), "{reason}");

    // The cause persists, so the step fails again.
    let path = format!("/v1/dead-letters/{id}:capture_payment");
    let redrive_path = format!("{path}/redrive");
    system.post(&redrive_path, json!({})).await.expect(200);
    wait_until("the second attempt to fail", async || {
        list_dead_letters(&system)
            .await
            .first()
            .map(|dead_letter| dead_letter["attempts"].clone())
            == Some(json!(2))
    })
    .await;

    set_ledger_status(&system, &id, "authorized");
    // A redrive with the same key is replayed.
    for round in 0..2 {
        let request = system
            .request(Method::POST, &redrive_path)
            .header("idempotency-key", "again");
        let reply = send(request).await;
        let is_replayed = reply.headers.contains_key("idempotent-replayed");
        assert_eq!(is_replayed, round > 0);
        assert_eq!(reply.expect(200)["status"], "redriven");
    }
    system
        .wait_for_order(&id, "paid for", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    assert!(list_dead_letters(&system).await.is_empty());
    let captures_sql = "SELECT count(*) FROM movements WHERE kind = 'capture'";
    assert_eq!(system.query_ledger(captures_sql), "1");
    let history = system.list_event_types(&id).await;
    let step_events: Vec<_> = history
        .iter()
        .filter(|event_type| event_type.starts_with("step.") || *event_type == "payment.captured")
        .collect();
    assert_eq!(
        step_events,
        [
            "step.dead",
            "step.redriven",
            "step.dead",
            "step.redriven",
            "payment.captured"
        ]
    );
    // The step is no longer a dead letter.
    system
        .post(&redrive_path, json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
    system.assert_verified();
}

#[tokio::test]
async fn discarded_capture_is_written_off_and_verify_reports_unpaid_shipped_items() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let order_id = order_with_failed_capture(&system, "A").await;
    let id = order_with_failed_capture(&system, "A").await;
    system.assert_verified();
    system
        .delete(&format!("/v1/dead-letters/{id}:capture_payment"))
        .await
        .expect(204);
    assert_eq!(list_dead_letters(&system).await.len(), 1);
    assert_eq!(
        system.list_event_types(&id).await.last().unwrap(),
        "step.discarded"
    );
    system.assert_verified();
    // Without the dead step, these shipped items are unaccounted for.
    let delete_steps_sql = format!("DELETE FROM steps WHERE order_id = '{order_id}'");
    system.store.run(Tables::Worker, &delete_steps_sql);
    let (is_consistent, report) = system.verify();
    assert!(
        !is_consistent
            && report.contains(&format!(
                "{order_id}: goods worth 1000 minor units were shipped"
            )),
        "{report}"
    );
    assert!(!report.contains(&id), "{report}");
}

/// Discards the order's dead `step`, once it is dead.
async fn discard(system: &System, order_id: &str, step: &str) {
    let dead_letter_id = format!("{order_id}:{step}");
    wait_until("the step to be dead", async || {
        list_dead_letters(system)
            .await
            .iter()
            .any(|dead_letter| dead_letter["id"] == dead_letter_id.as_str())
    })
    .await;
    let path = format!("/v1/dead-letters/{dead_letter_id}");
    system.delete(&path).await.expect(204);
}

async fn announced_order(system: &System, quantity: u32) -> String {
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", quantity))
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    id
}

#[tokio::test]
async fn discarded_amounts_are_not_captured_or_refunded_later() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let id = announced_order(&system, 10).await;
    let shipments_path = format!("/v1/orders/{id}/shipments");
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 4}]});
    // The provider can't capture the first part, and an operator discards the capture.
    set_ledger_status(&system, &id, "declined");
    system
        .post(&shipments_path, partial_shipment)
        .await
        .expect(201);
    discard(&system, &id, "capture_payment").await;
    set_ledger_status(&system, &id, "authorized");
    system.post(&shipments_path, json!({})).await.expect(201);
    let captured_order = system
        .wait_for_order(&id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    assert_eq!(
        captured_order["payment"]["captured"], 6000,
        "{captured_order}"
    );

    let refunds_path = format!("/v1/orders/{id}/refunds");
    set_ledger_status(&system, &id, "declined");
    let refund_body = json!({"amount": 3000});
    system.post(&refunds_path, refund_body).await.expect(202);
    discard(&system, &id, "refund_payment").await;
    set_ledger_status(&system, &id, "captured");
    let refund = json!({"amount": 1000});
    system.post(&refunds_path, refund).await.expect(202);
    system
        .wait_for_order(&id, "refunded", |order| {
            order["payment"]["refunded"].as_i64() > Some(0)
        })
        .await;
    system.wait_until_idle().await;
    let amounts_sql = "SELECT captured || ' ' || refunded FROM payments";
    assert_eq!(system.query_ledger(amounts_sql), "6000 1000");
    let history_path = format!("/v1/orders/{id}/history?limit=200");
    let history = system.get(&history_path).await.expect(200);
    let events = history["data"].as_array().unwrap().iter();
    let discarded_events = events.filter(|event| event["type"] == "step.discarded");
    let discarded_amounts: Vec<_> = discarded_events
        .map(|event| &event["data"]["amount"])
        .collect();
    assert_eq!(discarded_amounts, [4000, 3000]);
    system.assert_verified();
}

#[tokio::test]
async fn unpaid_items_are_shipped_only_with_allow_unpaid() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let id = announced_order(&system, 10).await;
    let shipments_path = format!("/v1/orders/{id}/shipments");
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 4}]});
    set_ledger_status(&system, &id, "voided");
    system
        .post(&shipments_path, partial_shipment)
        .await
        .expect(201);
    wait_until("the capture to be dead", async || {
        !list_dead_letters(&system).await.is_empty()
    })
    .await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["payment"]["status"], "voided");
    for _ in 0..2 {
        let problem_reply = system.post(&shipments_path, json!({})).await;
        let problem = problem_reply.expect_problem(409, "INVALID_STATE");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("allow_unpaid"), "{problem}");
        if !list_dead_letters(&system).await.is_empty() {
            discard(&system, &id, "capture_payment").await;
        }
    }
    let allow_unpaid = json!({"allow_unpaid": true});
    system.post(&shipments_path, allow_unpaid).await.expect(201);
    system.assert_verified();
    discard(&system, &id, "capture_payment").await;
    system.assert_verified();
}

#[tokio::test]
async fn returned_order_can_be_deleted_and_its_customer_erased() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 2))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let customer_path = format!("/v1/customers/{customer_id}");
    for (index, event_type) in ["shipment.shipped", "shipment.returned"].iter().enumerate() {
        let webhook_reply = system
            .send_webhook(&format!("m-{index}"), event_type, &id)
            .await;
        webhook_reply.expect(200);
        if index == 0 {
            system
                .delete(&customer_path)
                .await
                .expect_problem(409, "INVALID_STATE");
        }
    }
    system
        .wait_for_order(&id, "refunded", |order| {
            order["payment"]["status"] == "refunded"
        })
        .await;
    system.delete(&customer_path).await.expect(204);
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["status"], "shipped");
    assert_eq!(order["shipping_address"], Value::Null);
    system.delete(&format!("/v1/orders/{id}")).await.expect(204);
    system.assert_verified();
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one message of each kind")]
async fn rejected_messages_are_archived_unchanged() {
    let system = System::start_with(&[("API_KEYS", "operator=operator-key;storefront=shop-key-1")]);
    let mut system = system.await;
    system.api_key = Some("operator-key".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let script_output = run_script(
        "foreign.py",
        &["garbage", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("survived"), "{script_output}");
    wait_until("all messages to be archived", async || {
        list_dead_letters(&system).await.len() == 7
    })
    .await;

    let dead_letters = list_dead_letters(&system).await;
    let dead_letter_with = |body_text: &str| {
        let matching_letter = dead_letters
            .iter()
            .find(|letter| letter["body"].as_str().unwrap().contains(body_text));
        matching_letter.unwrap_or_else(|| panic!("{body_text}: {dead_letters:?}"))
    };
    for letter in &dead_letters {
        assert_eq!(letter["kind"], "message");
        assert_eq!(letter["queue"], "order-worker-queue");
        assert_eq!(letter["type"], "authorize_payment");
        assert!(letter["reason"].as_str().unwrap().starts_with("rejected: "));
    }
    let unknown_step_letter = dead_letter_with("dance");
    let reason = unknown_step_letter["reason"].as_str().unwrap();
    assert!(reason.contains("unknown step"), "{reason}");
    let binary_letter = dead_letters
        .iter()
        .find(|letter| letter["is_base64"] == true);
    assert_eq!(binary_letter.unwrap()["body"], "//4AgA==");

    // The pages contain each dead letter once.
    let (mut seen_letters, mut path) = (Vec::new(), "/v1/dead-letters?limit=3".to_owned());
    loop {
        let page = system.get(&path).await.expect(200);
        seen_letters.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/dead-letters?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen_letters, dead_letters);

    // The oversized message was truncated and can't be redriven; the others can.
    let cut_letter = dead_letters
        .iter()
        .find(|letter| letter["is_cut"] == true)
        .unwrap();
    let letter_path = |letter: &Value, subpath: &str| {
        format!(
            "/v1/dead-letters/{}{subpath}",
            letter["id"].as_str().unwrap()
        )
    };
    system
        .post(&letter_path(cut_letter, "/redrive"), json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    system
        .post(&letter_path(unknown_step_letter, "/redrive"), json!({}))
        .await
        .expect(200);
    wait_until("the message to be rejected again", async || {
        let dead_letters = list_dead_letters(&system).await;
        let letter_rejected_again = dead_letters
            .iter()
            .find(|letter| letter["body"] == unknown_step_letter["body"]);
        letter_rejected_again.is_some_and(|letter| letter["id"] != unknown_step_letter["id"])
    })
    .await;
    let remaining_letters = list_dead_letters(&system).await;
    assert_eq!(remaining_letters.len(), 7);
    for letter in &remaining_letters {
        system
            .post(&letter_path(letter, "/discard"), json!({}))
            .await
            .expect(200);
    }
    assert!(list_dead_letters(&system).await.is_empty());

    // Storefronts are refused, and invalid ids are not found.
    let shop_request = |method: Method, path: &str| {
        let request = system.client.request(method, system.url(path));
        send(request.bearer_auth("shop-key-1"))
    };
    shop_request(Method::GET, "/v1/dead-letters")
        .await
        .expect_problem(403, "FORBIDDEN");
    let removed_letter_path = letter_path(unknown_step_letter, "");
    shop_request(Method::DELETE, &removed_letter_path)
        .await
        .expect_problem(403, "FORBIDDEN");
    for unknown_path in [
        removed_letter_path.as_str(),
        "/v1/dead-letters/x",
        "/v1/dead-letters/a:b",
    ] {
        system
            .delete(unknown_path)
            .await
            .expect_problem(404, "NOT_FOUND");
    }
    system
        .get("/v1/dead-letters?cursor=x")
        .await
        .expect_problem(422, "INVALID_REQUEST");
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn worker_death_while_archiving_or_redriving_loses_no_dead_letter() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    system.worker.kill();
    system.set_variable("CRASH_AT", Some("after_archived"));
    system.launch_worker();
    let script_output = run_script("foreign.py", &["reject", &system.broker.url(), "-"]);
    assert!(script_output.contains("sent"), "{script_output}");
    wait_until("the worker to crash", async || system.worker.has_ended()).await;
    system.set_variable("CRASH_AT", None);
    system.restart_worker().await;
    // The message was not acknowledged, so it was redelivered.
    wait_until("the message to be archived again", async || {
        list_dead_letters(&system).await.len() == 2
    })
    .await;

    let dead_letters = list_dead_letters(&system).await;
    system.worker.kill();
    system.set_variable("CRASH_AT", Some("after_redriven"));
    system.restart_worker().await;
    let redrive_path = format!(
        "/v1/dead-letters/{}/redrive",
        dead_letters[0]["id"].as_str().unwrap()
    );
    let (reply, replacement_worker) = tokio::join!(system.post(&redrive_path, json!({})), async {
        wait_until("the worker to crash", async || {
            system.worker_crash_count() == 2
        })
        .await;
        system.spawn_replacement_worker()
    });
    system.worker = replacement_worker;
    // The replacement may receive the request before it can publish, and then refuses it.
    if reply.status != 200 {
        reply.expect_problem(503, "UNAVAILABLE");
        system.post(&redrive_path, json!({})).await.expect(200);
    }
    // The message was published at least twice, and rejected as often.
    wait_until("all messages to be archived", async || {
        let remaining_letters = list_dead_letters(&system).await;
        remaining_letters.len() == 3
            && remaining_letters
                .iter()
                .all(|dead_letter| dead_letter["id"] != dead_letters[0]["id"])
    })
    .await;
    system.assert_verified();
}

#[tokio::test]
async fn all_dead_steps_can_be_redriven_at_once() {
    let system = System::start().await;
    let mut order_ids = Vec::new();
    for sku in ["A", "B", "C"] {
        system.create_product_with_stock(sku, &[("main", 5)]).await;
        order_ids.push(order_with_failed_capture(&system, sku).await);
    }
    for id in &order_ids {
        set_ledger_status(&system, id, "authorized");
    }
    let redrive_all_path = "/v1/dead-letters/redrive";
    let refund_filter = json!({"all": true, "step": "refund_payment"});
    assert_eq!(
        system
            .post(redrive_all_path, refund_filter)
            .await
            .expect(200)["redriven"],
        0
    );
    let report = system
        .post(redrive_all_path, json!({"all": true}))
        .await
        .expect(200);
    assert_eq!(report, json!({"redriven": 3, "next_cursor": null}));
    for id in &order_ids {
        let is_paid = |order: &Value| order["payment"]["status"] == "captured";
        system.wait_for_order(id, "paid for", is_paid).await;
    }
    assert!(list_dead_letters(&system).await.is_empty());
    let captures_sql = "SELECT count(*) FROM movements WHERE kind = 'capture'";
    assert_eq!(system.query_ledger(captures_sql), "3");
    system.assert_verified();
}
