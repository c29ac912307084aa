//! Third-party clients on the broker: an independent client, and invalid messages.

use futures_util::future::join_all;

use crate::harness::{System, order_body, run_script, send, wait_until};

#[tokio::test]
async fn third_party_client_can_use_the_amqp_contract() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let script_output = run_script("foreign.py", &["talk", &system.broker.url(), &customer_id]);
    assert!(script_output.contains("talked"), "{script_output}");
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn storefront_role_is_enforced_over_the_broker() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let script_output = run_script("foreign.py", &["roles", &system.broker.url(), &customer_id]);
    assert!(script_output.contains("refused"), "{script_output}");
    system.wait_until_idle().await;
    system.assert_verified();
}

/// nest 11641: one undecodable message blocked a worker forever.
#[tokio::test]
async fn undecodable_message_does_not_block_the_worker() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let script_output = run_script(
        "foreign.py",
        &["poison", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("survived"), "{script_output}");
    assert_eq!(system.wait_until_idle().await.len(), 20);
    // Undecodable messages do not block the archiving of dead letters either: the broker drops them at its
    // delivery limit.
    let script_output = run_script(
        "foreign.py",
        &["reject", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("sent"), "{script_output}");
    wait_until("the decodable messages to be archived", async || {
        let dead_letters = system.get("/v1/dead-letters").await.expect(200);
        dead_letters["data"].as_array().unwrap().len() == 1
    })
    .await;
    system.assert_verified();
}

#[tokio::test]
async fn expired_request_is_not_executed() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    system.worker.kill();
    let script_output = run_script(
        "foreign.py",
        &["expire", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("expired"), "{script_output}");
    system.restart_worker().await;
    // This request is queued after the expired one.
    wait_until("the second request to be executed", async || {
        let list_reply = system.get("/v1/orders").await;
        list_reply.status == 200 && list_reply.body["data"] != serde_json::json!([])
    })
    .await;
    let orders = system.list_orders().await;
    assert_eq!(
        orders.len(),
        1,
        "only the request that has not expired is executed: {orders:?}"
    );
    assert_eq!(orders[0]["metadata"]["expires"], false);
    system.assert_verified();
}

#[tokio::test]
async fn undecodable_messages_lose_no_accepted_order_queued_behind_them() {
    let mut system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    system.worker.kill();
    let script_output = run_script(
        "foreign.py",
        &["poison_steps", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("sent"), "{script_output}");
    let requests = (0..60).map(|_| {
        let request = system.request(reqwest::Method::POST, "/v1/orders");
        let request = request.json(&order_body(&customer_id, "A", 1));
        send(request.header("prefer", "respond-async"))
    });
    for reply in join_all(requests).await {
        reply.expect(202);
    }
    system.restart_worker().await;
    wait_until("all orders to be accepted", async || {
        let page = system.get("/v1/orders?limit=100").await;
        page.status == 200 && page.body["data"].as_array().unwrap().len() == 60
    })
    .await;
    let dead_letters = system.get("/v1/dead-letters").await.expect(200);
    assert_eq!(dead_letters["data"], serde_json::json!([]));
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn dead_letters_are_parsed_by_type_and_redriven_after_the_delivery_limit() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let script_output = run_script(
        "foreign.py",
        &["accepts", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("sent"), "{script_output}");
    let list_letters = async || {
        let page = system.get("/v1/dead-letters").await.expect(200);
        page["data"].as_array().unwrap().clone()
    };
    wait_until(
        "one order to be accepted and the other messages to be archived",
        async || list_letters().await.len() == 2 && system.list_orders().await.len() == 1,
    )
    .await;
    let find_reason = |letters: &[serde_json::Value], reason_start: &str| {
        let reasons: Vec<_> = letters
            .iter()
            .map(|dead_letter| dead_letter["reason"].clone())
            .collect();
        let matching_reasons = reasons.iter().filter_map(serde_json::Value::as_str);
        matching_reasons
            .filter(|reason| reason.starts_with(reason_start))
            .map(str::to_owned)
            .next()
    };
    let dead_letters = list_letters().await;
    let rejection = find_reason(&dead_letters, "rejected: ").unwrap();
    assert!(
        !rejection.contains("unknown field `id`"),
        "{dead_letters:?}"
    );
    // This message reached the delivery limit.
    assert_eq!(
        find_reason(&dead_letters, "delivery_limit").unwrap(),
        "delivery_limit"
    );

    // All are redriven together: the valid one is executed, the invalid one is a dead letter again.
    let redrive_all = serde_json::json!({"all": true});
    let report = system
        .post("/v1/dead-letters/redrive", redrive_all)
        .await
        .expect(200);
    assert_eq!(report["redriven"], 2);
    wait_until("both redriven messages to be processed", async || {
        list_letters().await.len() == 1 && system.list_orders().await.len() == 2
    })
    .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn malformed_reply_to_does_not_affect_other_callers() {
    let system = System::start().await;
    let customer_id = system.create_customer().await;
    let path = format!("/v1/customers/{customer_id}");
    let url = system.broker.url();
    let publish_task = tokio::task::spawn_blocking({
        let customer = customer_id.clone();
        move || run_script("foreign.py", &["odd_replies", &url, &customer])
    });
    while !publish_task.is_finished() {
        system.get(&path).await.expect(200);
    }
    assert!(publish_task.await.unwrap().contains("answered"));
}
