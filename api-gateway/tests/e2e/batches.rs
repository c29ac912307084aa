//! Messages with several requests or steps. Each entry is processed and answered independently.

use serde_json::{Value, json};

use crate::harness::{System, Tables, order_body, run_script, wait_until};

#[tokio::test]
async fn each_request_of_a_batch_is_answered_independently() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let script_output = run_script("foreign.py", &["batch", &system.broker.url(), &customer_id]);
    assert!(script_output.contains("batched"), "{script_output}");
    assert_eq!(
        system.wait_until_idle().await.len(),
        1,
        "not exactly one entry succeeded"
    );
    system.assert_verified();
}

#[tokio::test]
async fn orders_read_in_one_query_are_answered_independently() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for _ in 0..3 {
        let create_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_ids.push(create_reply.expect(201)["id"].as_str().unwrap().to_owned());
    }
    system.wait_until_idle().await;
    let delete_reply = system.delete(&format!("/v1/orders/{}", order_ids[2])).await;
    delete_reply.expect(204);
    let corrupt_sql = format!(
        "UPDATE orders SET state = '{{}}' WHERE id = '{}'",
        order_ids[0]
    );
    system.store.run(Tables::Worker, &corrupt_sql);
    let script_output = run_script(
        "foreign.py",
        &["looks", &system.broker.url(), &order_ids.join(",")],
    );
    assert!(script_output.contains("looked"), "{script_output}");
}

#[tokio::test]
async fn slow_and_failing_steps_do_not_delay_or_repeat_others_of_their_message() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let script_output = run_script(
        "foreign.py",
        &["slow_step", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("ordered"), "{script_output}");
    wait_until("the orders to be created", async || {
        system.list_orders().await.len() == 10
    })
    .await;
    let orders = system.wait_until_idle().await;
    let (declined_orders, accepted_orders): (Vec<_>, Vec<_>) = orders
        .iter()
        .partition(|order| order["status"] == "cancelled");
    assert_eq!((declined_orders.len(), accepted_orders.len()), (1, 9));
    let mut authorizations = Vec::new();
    for order in accepted_orders {
        let id = order["id"].as_str().unwrap();
        let history_reply = system.get(&format!("/v1/orders/{id}/history")).await;
        let events = history_reply.expect(200)["data"]
            .as_array()
            .unwrap()
            .clone();
        let event = events
            .iter()
            .find(|event| event["type"] == "payment.authorized");
        let event = event.unwrap();
        authorizations.push((
            event["time"].as_str().unwrap().to_owned(),
            event["attempt"].clone(),
        ));
    }
    authorizations.sort_by(|first, second| first.0.cmp(&second.0));
    let attempt_numbers: Vec<Value> = authorizations
        .into_iter()
        .map(|(_, attempt)| attempt)
        .collect();
    // The seven ordinary payments are first, then the one that failed twice and the slow one, in either order.
    assert_eq!(attempt_numbers[..7], vec![json!(1); 7]);
    let mut last_attempt_numbers = attempt_numbers[7..].to_vec();
    last_attempt_numbers.sort_by_key(Value::as_u64);
    assert_eq!(last_attempt_numbers, [json!(1), json!(3)]);
    let calls_sql = "SELECT calls, count(*) FROM payments GROUP BY calls ORDER BY calls";
    assert_eq!(system.store.run(Tables::Ledger, calls_sql), "1 9\n3 1");
    system.assert_verified();
}

#[tokio::test]
async fn partly_invalid_step_message_is_dead_lettered_after_its_valid_steps() {
    let system = System::start().await;
    let customer_id = system.create_customer().await;
    let script_output = run_script(
        "foreign.py",
        &["torn_steps", &system.broker.url(), &customer_id],
    );
    assert!(script_output.contains("sent"), "{script_output}");
    wait_until("the message to be archived", async || {
        let dead_letters = system.get("/v1/dead-letters").await.expect(200);
        let letters = dead_letters["data"].as_array().unwrap();
        letters.len() == 1 && letters[0]["reason"].as_str().unwrap().contains("dance")
    })
    .await;
}
