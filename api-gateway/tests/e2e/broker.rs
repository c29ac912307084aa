//! Outages of the broker under load. Calls are answered within their deadline, with 503 or 504 during the
//! outage, and processing resumes without intervention.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::harness::{
    System, has_shipping_label, order_body, order_body_with_method, send, wait_until,
};

/// Acknowledged orders, and the number of calls that were answered 503 or 504.
#[derive(Default)]
struct CustomerLog {
    acknowledged_ids: Vec<String>,
    failed_call_count: usize,
}

/// Creates orders until `is_over` is set, and retries each with its key until it is acknowledged.
async fn simulate_customer(
    system: &System,
    new_order: &Value,
    is_over: &AtomicBool,
    call_count: &AtomicUsize,
) -> CustomerLog {
    let mut customer_log = CustomerLog::default();
    while !is_over.load(Ordering::SeqCst) {
        let idempotency_key = Uuid::now_v7().to_string();
        loop {
            call_count.fetch_add(1, Ordering::SeqCst);
            let request = system
                .request(Method::POST, "/v1/orders")
                .header("idempotency-key", &idempotency_key)
                .json(new_order);
            // `send` fails the test if there is no response.
            let reply = send(request).await;
            match reply.status {
                201 => {
                    customer_log
                        .acknowledged_ids
                        .push(reply.body["id"].as_str().unwrap().to_owned());
                    break;
                }
                503 => {
                    assert!(reply.headers.contains_key("retry-after"));
                    reply.expect_problem(503, "UNAVAILABLE");
                }
                status => {
                    assert_eq!(status, 504, "{}", reply.body);
                    reply.expect_problem(504, "TIMEOUT");
                }
            }
            customer_log.failed_call_count += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    customer_log
}

/// Runs `inject_faults` under load and checks that no order was lost or duplicated.
async fn assert_survives(
    system: &mut System,
    inject_faults: impl AsyncFnOnce(&mut crate::harness::Broker, &AtomicUsize),
) {
    system
        .create_product_with_stock("A", &[("main", 1_000_000)])
        .await;
    let new_order = order_body_with_method(&system.create_customer().await, "A", 1, "pm_ok");
    let mut broker = system.take_broker();
    let (is_over, call_count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let customer_simulations =
        join_all((0..6).map(|_| simulate_customer(system, &new_order, &is_over, &call_count)));
    let (customer_logs, ()) = tokio::join!(customer_simulations, async {
        inject_faults(&mut broker, &call_count).await;
        is_over.store(true, Ordering::SeqCst);
    });
    system.broker = broker;
    let failed_call_count: usize = customer_logs
        .iter()
        .map(|customer_log| customer_log.failed_call_count)
        .sum();
    let mut acknowledged_ids: Vec<String> = customer_logs
        .into_iter()
        .flat_map(|customer_log| customer_log.acknowledged_ids)
        .collect();
    println!(
        "{} orders acknowledged, {failed_call_count} calls answered 503 or 504",
        acknowledged_ids.len()
    );
    assert!(failed_call_count > 0, "the fault had no effect");

    let mut order_ids: Vec<String> = system
        .wait_until_idle()
        .await
        .iter()
        .map(|order| order["id"].as_str().unwrap().to_owned())
        .collect();
    order_ids.sort();
    acknowledged_ids.sort();
    assert_eq!(
        order_ids, acknowledged_ids,
        "orders were lost or duplicated"
    );
    assert_eq!(
        system.payment_totals().await.authorizations,
        acknowledged_ids.len()
    );
    system.assert_verified();
}

/// Waits until `additional_calls` more calls were made.
async fn wait_for_calls(call_count: &AtomicUsize, additional_calls: usize) {
    let target_count = call_count.load(Ordering::SeqCst) + additional_calls;
    wait_until("more calls", async || {
        call_count.load(Ordering::SeqCst) >= target_count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_restart_and_kill_under_load_lose_no_order() {
    let mut system = System::start_with_own_broker(&[("REQUEST_TIMEOUT_MS", "3000")]).await;
    assert_survives(&mut system, async |broker, call_count| {
        for fault in ["restarted", "killed"] {
            wait_for_calls(call_count, 50).await;
            println!("broker {fault}");
            match fault {
                "restarted" => tokio::task::block_in_place(|| broker.stop()),
                _ => broker.kill(),
            }
            wait_for_calls(call_count, 50).await;
            broker.start();
        }
        wait_for_calls(call_count, 100).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_data_loss_loses_no_order() {
    let mut system = System::start_with_own_broker(&[("REQUEST_TIMEOUT_MS", "3000")]).await;
    assert_survives(&mut system, async |broker, call_count| {
        wait_for_calls(call_count, 50).await;
        broker.kill();
        broker.wipe();
        wait_for_calls(call_count, 50).await;
        broker.start();
        wait_for_calls(call_count, 100).await;
    })
    .await;
}

#[tokio::test]
async fn gateway_reports_a_broker_outage_immediately_and_reconnects() {
    let mut system = System::start_with_own_broker(&[]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    system.broker.kill();
    wait_until("the gateway to notice the outage", async || {
        system.get("/readyz").await.status == 503
    })
    .await;
    assert_eq!(system.get("/livez").await.status, 200);
    let reply = system.post("/v1/orders", new_order.clone()).await;
    assert!(reply.headers.contains_key("retry-after"));
    reply.expect_problem(503, "UNAVAILABLE");
    system
        .get("/v1/orders")
        .await
        .expect_problem(503, "UNAVAILABLE");
    system.broker.start();
    wait_until("the gateway to recover", async || {
        system.get("/readyz").await.status == 200
    })
    .await;
    wait_until("an order to be accepted", async || {
        system.post("/v1/orders", new_order.clone()).await.status == 201
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_memory_alarm_refuses_calls_and_loses_nothing() {
    let mut system = System::start_with_own_broker(&[("REQUEST_TIMEOUT_MS", "3000")]).await;
    assert_survives(&mut system, async |broker, call_count| {
        wait_for_calls(call_count, 50).await;
        broker.run_rabbitmqctl(&["set_vm_memory_high_watermark", "0"]);
        wait_for_calls(call_count, 50).await;
        broker.run_rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]);
        wait_for_calls(call_count, 100).await;
    })
    .await;
}

#[tokio::test]
async fn gateway_and_worker_can_start_before_the_broker() {
    let mut system = System::start_with_own_broker(&[]).await;
    system.worker.kill();
    system.gateway.kill();
    system.broker.kill();
    system.launch_worker();
    let log_offset = system.launch_gateway();
    system.broker.start();
    system.wait_for_gateway(log_offset).await;
    wait_until("the worker to answer", async || {
        system.get("/v1/orders").await.status == 200
    })
    .await;
}

/// Whether the exchange exists.
fn has_exchange(system: &System, exchange_name: &str) -> bool {
    let lookup_code = format!(
        "{{ok, _}} = rabbit_exchange:lookup(rabbit_misc:r(<<\"/\">>, exchange, <<\"{exchange_name}\">>))."
    );
    system.broker.try_rabbitmqctl(&["eval", &lookup_code])
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_queues_and_exchanges_are_declared_again() {
    let system = System::start_with_own_broker(&[]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let new_order = order_body_with_method(&system.create_customer().await, "A", 1, "pm_ok");
    for queue in [
        "order-worker-queue",
        "order-request-queue",
        "order-dead-letter-queue",
    ] {
        system.broker.run_rabbitmqctl(&["delete_queue", queue]);
        let mut order_id = None;
        wait_until("an order to be accepted", async || {
            let reply = system.post("/v1/orders", new_order.clone()).await;
            order_id = reply.body["id"].as_str().map(str::to_owned);
            reply.status == 201
        })
        .await;
        let has_shipping_label = crate::harness::has_shipping_label;
        system
            .wait_for_order(&order_id.unwrap(), "announced", has_shipping_label)
            .await;
    }
    for exchange in ["order-events", "order-dead-letter-exchange"] {
        let delete_code = format!(
            "rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, <<\"{exchange}\">>), false, <<\"test\">>)."
        );
        system.broker.run_rabbitmqctl(&["eval", &delete_code]);
        system
            .post("/v1/orders", new_order.clone())
            .await
            .expect(201);
        wait_until("the exchange to be declared again", async || {
            has_exchange(&system, exchange)
        })
        .await;
    }
    // A rejected message reaches the new dead-letter queue through the new exchange.
    let script_output =
        crate::harness::run_script("foreign.py", &["reject", &system.broker.url(), "-"]);
    assert!(script_output.contains("sent"), "{script_output}");
    wait_until("the message to be archived", async || {
        let dead_letters = system.get("/v1/dead-letters").await.expect(200);
        dead_letters["data"].as_array().unwrap().len() == 1
    })
    .await;
    wait_until("gateway and worker to be ready", async || {
        let worker_readiness = system.worker_readiness().await;
        system.get("/readyz").await.status == 200
            && worker_readiness.is_some_and(|(status, _)| status == 200)
    })
    .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_worker_is_not_ready_during_a_broker_alarm_or_without_permissions() {
    let system = System::start_with_own_broker(&[]).await;
    let assert_readiness = async |expected_status: u16| {
        wait_until("the worker's readiness", async || {
            let readiness = system.worker_readiness().await;
            readiness.is_some_and(|(status, _)| status == expected_status)
        })
        .await;
    };
    let run_rabbitmqctl = |arguments: &[&str]| system.broker.run_rabbitmqctl(arguments);
    run_rabbitmqctl(&["set_vm_memory_high_watermark", "0"]);
    assert_readiness(503).await;
    let (_, readiness) = system.worker_readiness().await.unwrap();
    assert!(
        readiness["broker"].as_str().unwrap().contains("memory"),
        "{readiness}"
    );
    run_rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]);
    assert_readiness(200).await;
    run_rabbitmqctl(&["clear_permissions", "guest"]);
    assert_readiness(503).await;
    let (_, readiness) = system.worker_readiness().await.unwrap();
    assert!(readiness["unavailable"].is_object(), "{readiness}");
    run_rabbitmqctl(&["set_permissions", "guest", ".*", ".*", ".*"]);
    assert_readiness(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_is_not_ready_while_the_step_queue_refuses_messages() {
    let system = System::start_with_own_broker(&[]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let run_rabbitmqctl = |arguments: &[&str]| system.broker.run_rabbitmqctl(arguments);
    // Without a running member the queue has no leader, as after the loss of a node.
    let queue_member = r#"{list_to_atom("%2F_order-worker-queue"), node()}"#;
    run_rabbitmqctl(&[
        "eval",
        &format!("ra:stop_server(quorum_queues, {queue_member})."),
    ]);
    let id = system.create_order().await;
    wait_until("the worker to report the queue", async || {
        let readiness = system.worker_readiness().await;
        readiness.is_some_and(|(status, body)| {
            status == 503 && body["unavailable"]["order-worker-queue"].is_string()
        })
    })
    .await;
    run_rabbitmqctl(&[
        "eval",
        &format!("ra:restart_server(quorum_queues, {queue_member})."),
    ]);
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    wait_until("the worker to be ready", async || {
        let readiness = system.worker_readiness().await;
        readiness.is_some_and(|(status, _)| status == 200)
    })
    .await;
    system.assert_verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_sent_although_the_channel_was_opened_before_the_step_queue_had_a_new_leader() {
    let system = System::start_with_own_broker(&[]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    // As between the loss of the leader's node and the election of another leader: the queue's record names a
    // node that is down, and the next message is the first one on its channel. The record is corrected by the
    // leader within 5 s.
    let lose_leader_code = r#"
        Queue = rabbit_misc:r(<<"/">>, queue, <<"order-worker-queue">>),
        Lose = fun(Record) ->
            {Member, _} = amqqueue:get_pid(Record),
            amqqueue:set_pid(Record, {Member, lost@localhost})
        end,
        rabbit_misc:execute_mnesia_transaction(fun() -> rabbit_amqqueue:update(Queue, Lose) end),
        [rabbit_networking:close_connection(Pid, "test") || Pid <- rabbit_networking:connections()]."#;
    let mut order_id = String::new();
    wait_until("a step to be refused", async || {
        system.broker.run_rabbitmqctl(&["eval", lose_leader_code]);
        wait_until("an order to be created", async || {
            let reply = system.post("/v1/orders", new_order.clone()).await;
            let created_id = reply.body["id"].as_str().unwrap_or_default();
            created_id.clone_into(&mut order_id);
            reply.status == 201
        })
        .await;
        let readiness = system.worker_readiness().await;
        readiness.is_some_and(|(_, body)| {
            let reason = body["unavailable"]["order-worker-queue"].as_str();
            reason.is_some_and(|reason| reason.contains("refused"))
        })
    })
    .await;
    system
        .wait_for_order(&order_id, "announced", has_shipping_label)
        .await;
    wait_until("the worker to be ready", async || {
        let readiness = system.worker_readiness().await;
        readiness.is_some_and(|(status, _)| status == 200)
    })
    .await;
    system.assert_verified();
}
