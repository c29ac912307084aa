//! Manual payments: recorded by operators, in parts, over every route that creates or reads them. The rules are
//! tested in order-worker/tests/domain/manual.rs.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Reply, System, Tables, has_shipping_label, order_body, order_body_with_method, run_worker,
    send, wait_until,
};

impl System {
    /// Creates an order of 3000 that is paid manually.
    async fn create_unpaid_order(&self) -> String {
        let customer_id = self.create_customer().await;
        let order_reply = self
            .post(
                "/v1/orders",
                order_body_with_method(&customer_id, "A", 3, "manual"),
            )
            .await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    }

    async fn record_payment(&self, order_id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/orders/{order_id}/payments"), body)
            .await
    }

    async fn record_refund(&self, order_id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/orders/{order_id}/refunds"), body)
            .await
    }

    /// All dead letters.
    async fn list_dead_letters(&self) -> Vec<Value> {
        let page = self.get("/v1/dead-letters").await.expect(200);
        page["data"].as_array().unwrap().clone()
    }
}

/// Kind, amount, status and reference of each transaction.
fn transaction_texts(order: &Value) -> Vec<String> {
    let transactions = order["transactions"].as_array().unwrap().iter();
    transactions
        .map(|transaction| {
            assert_eq!(
                transaction["provider"], order["payment"]["provider"],
                "{order}"
            );
            assert!(transaction["created_at"].is_string(), "{order}");
            let text_field =
                |field_name: &str| transaction[field_name].as_str().unwrap_or("-").to_owned();
            let (transaction_kind, status, reference) = (
                text_field("kind"),
                text_field("status"),
                text_field("reference"),
            );
            format!(
                "{transaction_kind} {} {status} {reference}",
                transaction["amount"]
            )
        })
        .collect()
}

#[tokio::test]
async fn manual_order_is_paid_in_parts_shipped_and_refunded_by_hand() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let id = system.create_unpaid_order().await;
    let path = format!("/v1/orders/{id}");
    let order = system.get(&path).await.expect(200);
    assert_eq!(order["status"], "pending");
    assert_eq!(order["payment"]["provider"], "manual");
    assert_eq!(order["payment"]["status"], "pending");
    assert_eq!(system.stock_level("A").await, (10, 3));

    let first_payment =
        json!({"amount": 1000, "reference": "transfer 1", "received_at": "2026-01-30T12:00:00Z"});
    let reply = system.record_payment(&id, first_payment).await;
    assert_eq!(reply.headers["location"], path.as_str());
    let partly_paid_order = reply.expect(201);
    assert_eq!(partly_paid_order["status"], "pending");
    assert_eq!(
        transaction_texts(&partly_paid_order),
        ["capture 1000 success transfer 1"]
    );
    assert_eq!(
        partly_paid_order["transactions"][0]["received_at"],
        "2026-01-30T12:00:00Z"
    );
    let problem_reply = system.record_payment(&id, json!({"amount": 2001})).await;
    let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/amount");
    let detail = problem["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("only 2000 are outstanding"), "{problem}");

    // A payment is recorded once, also after the death of the worker.
    system.worker.kill();
    system.restart_worker().await;
    for repetition in 0..2 {
        let request = system.request(Method::POST, &format!("{path}/payments"));
        let request = request.header("idempotency-key", "transfer 2");
        let reply = send(request.json(&json!({"amount": 2000}))).await;
        let is_replayed = reply.headers.contains_key("idempotent-replayed");
        assert_eq!(is_replayed, repetition > 0);
        assert_eq!(reply.expect(201)["payment"]["captured"], 3000);
    }
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let webhook_reply = system.send_webhook("m-1", "shipment.delivered", &id).await;
    webhook_reply.expect(200);
    let webhook_reply = system.send_webhook("m-2", "shipment.returned", &id).await;
    webhook_reply.expect(200);
    let returned_order = system.get(&path).await.expect(200);
    assert_eq!(
        transaction_texts(&returned_order)[2..],
        ["refund 3000 pending -"]
    );

    // The refund is up to an operator.
    let dead_letters = system.list_dead_letters().await;
    assert_eq!(dead_letters.len(), 1, "{dead_letters:?}");
    assert_eq!(dead_letters[0]["step"], "refund_payment");
    let reason = dead_letters[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("3000 minor units are to be paid back by hand"),
        "{reason}"
    );
    let redrive_path = format!("/v1/dead-letters/{id}:refund_payment/redrive");
    let redrive_reply = system.post(&redrive_path, json!({})).await;
    redrive_reply.expect_problem(409, "INVALID_STATE");
    let redrive_all_reply = system
        .post("/v1/dead-letters/redrive", json!({"all": true}))
        .await;
    assert_eq!(redrive_all_reply.expect(200)["redriven"], 0);
    assert_eq!(system.list_dead_letters().await.len(), 1);
    let refund_reply = system
        .record_refund(&id, json!({"reference": "back 1"}))
        .await;
    let refunded_order = refund_reply.expect(202);
    assert_eq!(refunded_order["payment"]["status"], "refunded");
    assert_eq!(refunded_order["in_progress"], json!(null));
    assert_eq!(
        transaction_texts(&refunded_order)[2..],
        ["refund 3000 success back 1"]
    );
    assert_eq!(system.list_dead_letters().await, [] as [Value; 0]);
    let second_refund_reply = system.record_refund(&id, json!({})).await;
    second_refund_reply.expect_problem(409, "INVALID_STATE");

    // All readers show the same transactions, and nothing was done at a provider.
    let order = system.get(&path).await.expect(200);
    let list = system.get("/v1/orders").await.expect(200);
    assert_eq!(list["data"][0]["transactions"], order["transactions"]);
    let export_bytes = run_worker(&system, &["export", "orders"]).stdout;
    let export_text = String::from_utf8(export_bytes).unwrap();
    let exported_order: Value = serde_json::from_str(export_text.lines().next().unwrap()).unwrap();
    assert_eq!(exported_order["transactions"], order["transactions"]);
    assert_eq!(system.payment_totals().await.refunded_amount, 0);
    let stats = system.get("/v1/stats").await.expect(200);
    assert_eq!(stats["revenue"][0]["captured"], 3000, "{stats}");
    system.assert_verified();
}

#[tokio::test]
async fn unpaid_manual_order_expires_and_leaves_a_part_to_be_paid_back() {
    let system = System::start_with(&[("MANUAL_PAYMENT_TTL_SECONDS", "5")]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let (unpaid_id, partly_paid_id) = (
        system.create_unpaid_order().await,
        system.create_unpaid_order().await,
    );
    system
        .record_payment(&partly_paid_id, json!({"amount": 1}))
        .await
        .expect(201);
    let is_cancelled = |order: &Value| order["status"] == "cancelled";
    for id in [&unpaid_id, &partly_paid_id] {
        let order = system.wait_for_order(id, "expired", is_cancelled).await;
        assert_eq!(order["cancel_reason"], "expired");
    }
    assert_eq!(system.stock_level("A").await, (10, 0));
    let dead_letters = system.list_dead_letters().await;
    assert_eq!(dead_letters.len(), 1, "{dead_letters:?}");
    assert_eq!(dead_letters[0]["order_id"], partly_paid_id.as_str());
    // Money that arrives too late is recorded on request only.
    let late_payment = json!({"amount": 3000});
    let late_reply = system.record_payment(&unpaid_id, late_payment).await;
    late_reply.expect_problem(409, "INVALID_STATE");
    let late_payment = json!({"amount": 3000, "overpaid": true});
    let order = system
        .record_payment(&unpaid_id, late_payment)
        .await
        .expect(201);
    assert_eq!(order["status"], "cancelled");
    assert_eq!(transaction_texts(&order)[1..], ["refund 3000 pending -"]);
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_payments_never_exceed_the_total() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let id = system.create_unpaid_order().await;
    let payments = (0..10).map(|_| system.record_payment(&id, json!({"amount": 700})));
    let replies = join_all(payments).await;
    let accepted_count = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(accepted_count, 4, "4 payments of 700 fit into 3000");
    let paths = ["payments", "cancel"].map(|subpath| format!("/v1/orders/{id}/{subpath}"));
    let (payment_reply, cancellation_reply) = tokio::join!(
        system.post(&paths[0], json!({"amount": 200})),
        system.post(&paths[1], json!({})),
    );
    cancellation_reply.expect(200);
    let received_amount = if payment_reply.status == 201 {
        3000
    } else {
        2800
    };
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["payment"]["captured"], received_amount);
    let refunded_order = system.record_refund(&id, json!({})).await.expect(202);
    assert_eq!(refunded_order["payment"]["refunded"], received_amount);
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn asynchronous_and_imported_manual_orders_wait_for_their_payment() {
    let system = System::start_with(&[("DEFAULT_PAYMENT_METHOD", "manual")]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let request = system.request(Method::POST, "/v1/orders");
    let request = request.header("prefer", "respond-async");
    let accepted_reply = send(request.json(&order_body(&customer_id, "A", 1)))
        .await
        .expect(202);
    let mut import_line = order_body_with_method(&customer_id, "A", 1, "manual");
    import_line["external_id"] = json!("ext-1");
    let report = system.import(&[import_line], None).await.expect(200);
    assert_eq!(report["accepted"], 1, "{report}");
    wait_until("both orders to hold their stock", async || {
        system.stock_level("A").await == (10, 2)
    })
    .await;
    assert_eq!(system.list_orders().await.len(), 2);
    for order in system.list_orders().await {
        let id = order["id"].as_str().unwrap();
        system
            .record_payment(id, json!({"amount": 1000}))
            .await
            .expect(201);
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
    }
    assert!(accepted_reply["id"].is_string());
    // The provider of another order is not affected.
    let new_order = order_body_with_method(&customer_id, "A", 1, "pm_ok");
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let id = created_order["id"].as_str().unwrap();
    let order = system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    assert!(transaction_texts(&order)[0].starts_with("authorization 1000 success"));
    let payment_reply = system.record_payment(id, json!({"amount": 1})).await;
    payment_reply.expect_problem(409, "INVALID_STATE");
    system.assert_verified();
}

#[tokio::test]
async fn only_operators_record_payments() {
    let keys = crate::auth::API_KEYS;
    let mut system = System::start_with(&[("API_KEYS", keys)]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let id = system.create_unpaid_order().await;
    let reply = system.record_payment(&id, json!({"amount": 1})).await;
    reply.expect_problem(403, "FORBIDDEN");
    system.api_key = Some("key-of-operator".to_owned());
    for invalid_payment in [
        json!({}),
        json!({"amount": 0}),
        json!({"amount": 1, "received_at": "2999-01-01T00:00:00Z"}),
        json!({"amount": 1, "note": "x"}),
    ] {
        let reply = system.record_payment(&id, invalid_payment).await;
        reply.expect_problem(422, "INVALID_REQUEST");
    }
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    let reply = system
        .record_payment(unknown_id, json!({"amount": 1}))
        .await;
    reply.expect_problem(404, "NOT_FOUND");
    system
        .record_payment(&id, json!({"amount": 1}))
        .await
        .expect(201);
}

#[tokio::test]
async fn references_of_manual_payments_are_erased_with_the_customer() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let id = system.create_unpaid_order().await;
    let payment = json!({"amount": 3000, "reference": "from Grace Hopper"});
    system.record_payment(&id, payment).await.expect(201);
    let order_reply = system
        .post(&format!("/v1/orders/{id}/cancel"), json!({}))
        .await;
    let customer_id = order_reply.expect(200)["customer_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let refund = json!({"reference": "to Grace Hopper", "reason": "Grace changed her mind"});
    system.record_refund(&id, refund).await.expect(202);
    system.wait_until_idle().await;
    let erase_reply = system.delete(&format!("/v1/customers/{customer_id}")).await;
    assert_eq!(erase_reply.status, 204, "{}", erase_reply.body);
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(
        transaction_texts(&order),
        ["capture 3000 success -", "refund 3000 success -"]
    );
    for sql in ["SELECT state FROM orders", "SELECT data FROM events"] {
        let rows = system.store.run(Tables::Worker, sql);
        assert!(!rows.contains("Grace"), "{sql}: {rows}");
    }
    system.assert_verified();
}

#[tokio::test]
async fn orders_that_were_stored_without_transactions_get_them() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 3))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let shipments_path = format!("/v1/orders/{id}/shipments");
    system.post(&shipments_path, json!({})).await.expect(201);
    system.wait_until_idle().await;
    // As an earlier version stores the order.
    system.worker.kill();
    let remove_transactions_sql = if system.store.is_sqlite() {
        "UPDATE orders SET state = json_remove(state, '$.transactions')"
    } else {
        "UPDATE orders SET state = (state::jsonb - 'transactions')::text"
    };
    system.store.run(Tables::Worker, remove_transactions_sql);
    system.restart_worker().await;
    system.assert_verified();
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    let transactions_without_reference = |order: &Value| -> Vec<String> {
        let transactions = transaction_texts(order).into_iter();
        let first_words =
            transactions.map(|text| text.split(' ').take(3).collect::<Vec<_>>().join(" "));
        first_words.collect()
    };
    let transactions_before_refund = ["authorization 3000 success", "capture 3000 success"];
    assert_eq!(
        transactions_without_reference(&order),
        transactions_before_refund
    );
    let refunds_path = format!("/v1/orders/{id}/refunds");
    system
        .post(&refunds_path, json!({"amount": 100}))
        .await
        .expect(202);
    let is_refunded = |order: &Value| order["payment"]["refunded"] == 100;
    let order = system.wait_for_order(&id, "refunded", is_refunded).await;
    assert_eq!(
        transactions_without_reference(&order)[2..],
        ["refund 100 success"]
    );
    system.wait_until_idle().await;
    system.assert_verified();
}
