//! The type of the request queue: a quorum queue keeps the contract of the classic one, workers with different
//! settings serve the same queue, and `order-worker migrate-request-queue` replaces it under load.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{
    Process, System, WORKER, order_body, order_body_with_method, run_script, send, wait_until,
};

const REQUEST_QUEUE: &str = "order-request-queue";
const TYPE_VARIABLE: &str = "REQUEST_QUEUE_TYPE";
/// Variables of a system with a quorum queue, with a timeout that no request exceeds on a slow machine.
const QUORUM_VARIABLES: [(&str, &str); 2] =
    [(TYPE_VARIABLE, "quorum"), ("REQUEST_TIMEOUT_MS", "30000")];

/// `order-worker migrate-request-queue` to this type.
fn migration_command(system: &System, queue_type: &str) -> Command {
    let mut command = Process::command(WORKER);
    command
        .arg("migrate-request-queue")
        .env("AMQP_URL", system.broker.url())
        .env(TYPE_VARIABLE, queue_type);
    command
}

/// Runs the migration, which must succeed, and returns its output.
async fn migrate(system: &System, queue_type: &str) -> String {
    let mut command = migration_command(system, queue_type);
    let migration_task = tokio::task::spawn_blocking(move || command.output());
    let migration_output = migration_task.await.unwrap().unwrap();
    let error_text = String::from_utf8_lossy(&migration_output.stderr);
    assert!(migration_output.status.success(), "{error_text}");
    String::from_utf8(migration_output.stdout).unwrap()
}

async fn assert_type(system: &System, queue_type: &str) {
    let migration_output = migrate(system, queue_type).await;
    let expected_output =
        format!("{REQUEST_QUEUE} was already a {queue_type} queue; 0 requests moved\n");
    assert_eq!(migration_output, expected_output);
}

/// Number of lines of a log in the system's folder that contain `text`.
fn lines_with(system: &System, log_name: &str, text: &str) -> usize {
    let log_text = fs::read_to_string(system.folder.join(log_name)).unwrap();
    log_text.lines().filter(|line| line.contains(text)).count()
}

async fn assert_no_dead_letters(system: &System) {
    let dead_letters = system.get("/v1/dead-letters").await.expect(200);
    assert_eq!(dead_letters["data"], json!([]));
}

#[tokio::test]
async fn quorum_request_queue_keeps_the_amqp_contract() {
    let mut system = System::start_with(&QUORUM_VARIABLES).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let broker_url = system.broker.url();
    // An undecodable message neither stops the queue nor becomes a dead letter.
    for (scenario, expected_word) in [("talk", "talked"), ("poison", "survived")] {
        let script_output = run_script("foreign.py", &[scenario, &broker_url, &customer_id]);
        assert!(script_output.contains(expected_word), "{script_output}");
        let stock_level = json!({"on_hand": 100});
        let stock_reply = system.put("/v1/products/A/stock/main", stock_level).await;
        stock_reply.expect(200);
    }
    assert_type(&system, "quorum").await;
    let orders_before = system.wait_until_idle().await.len();
    // An expired request is not executed.
    system.worker.kill();
    let script_output = run_script("foreign.py", &["expire", &broker_url, &customer_id]);
    assert!(script_output.contains("expired"), "{script_output}");
    system.restart_worker().await;
    wait_until("the second request to be executed", async || {
        system.list_orders().await.len() > orders_before
    })
    .await;
    let orders = system.list_orders().await;
    assert_eq!(orders.len(), orders_before + 1);
    assert_eq!(orders[0]["metadata"]["expires"], false);
    assert_no_dead_letters(&system).await;
    system.assert_verified();
}

#[tokio::test]
async fn request_that_no_worker_survives_leaves_a_quorum_queue_without_becoming_a_dead_letter() {
    let mut system = System::start_with(&QUORUM_VARIABLES).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    system.worker.kill();
    let broker_url = system.broker.url();
    let script_output = run_script("foreign.py", &["unprocessable", &broker_url, &customer_id]);
    assert!(script_output.contains("dropped"), "{script_output}");
    system.restart_worker().await;
    system.create_order().await;
    assert_eq!(system.wait_until_idle().await.len(), 1);
    assert_no_dead_letters(&system).await;
    system.assert_verified();
}

#[tokio::test]
async fn request_of_a_quorum_queue_is_answered_not_executed_again_after_a_crash() {
    let mut system = System::start_with(&QUORUM_VARIABLES).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    for (round, crash_point) in ["before_commit", "after_commit", "after_reply"]
        .into_iter()
        .enumerate()
    {
        system.worker.kill();
        system.set_variable("CRASH_AT", Some(crash_point));
        system.launch_worker();
        let new_order = order_body(&customer_id, "A", 1);
        let (reply, replacement_worker) =
            tokio::join!(system.post("/v1/orders", new_order), async {
                while system.worker_crash_count() <= round {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                system.spawn_replacement_worker()
            });
        system.worker = replacement_worker;
        reply.expect(201);
        wait_until("the worker to answer", async || {
            system.get("/v1/orders").await.status == 200
        })
        .await;
    }
    system.set_variable("CRASH_AT", None);
    assert_eq!(system.wait_until_idle().await.len(), 3);
    system.assert_verified();
}

#[tokio::test]
async fn queue_of_the_other_type_is_used_and_reported_until_it_is_migrated() {
    for (existing_type, wanted_type) in [("classic", "quorum"), ("quorum", "classic")] {
        let mut system = System::start_with(&[(TYPE_VARIABLE, existing_type)]).await;
        system.create_product_with_stock("A", &[("main", 10)]).await;
        system.worker.terminate();
        system.set_variable(TYPE_VARIABLE, Some(wanted_type));
        system.restart_worker().await;
        // It answers requests, and says what to do in one line of the log and in its readiness report.
        system.create_order().await;
        let notice = format!(
            "{REQUEST_QUEUE} is a {existing_type} queue, but {TYPE_VARIABLE}={wanted_type}"
        );
        let (status, readiness) = system.worker_readiness().await.unwrap();
        assert_eq!(status, 200, "{readiness}");
        let reported_notice = readiness["notice"].as_str().unwrap_or_default();
        assert!(
            reported_notice.starts_with(&notice)
                && reported_notice.contains("migrate-request-queue"),
            "{readiness}"
        );
        assert_eq!(lines_with(&system, "worker.log", &notice), 1);
        assert_eq!(lines_with(&system, "worker.log", "PRECONDITION_FAILED"), 0);

        let output = migrate(&system, wanted_type).await;
        let expected_output = format!("{REQUEST_QUEUE} is now a {wanted_type} queue");
        assert!(output.starts_with(&expected_output), "{output}");
        wait_until("the notice to disappear", async || {
            let readiness = system.worker_readiness().await;
            readiness.is_some_and(|(_, readiness)| readiness["notice"].is_null())
        })
        .await;
        wait_until("an order to be accepted", async || {
            let new_order = order_body(&system.create_customer().await, "A", 1);
            system.post("/v1/orders", new_order).await.status == 201
        })
        .await;
        assert_eq!(lines_with(&system, "worker.log", &notice), 1);
        assert_type(&system, wanted_type).await;
        system.wait_until_idle().await;
        system.assert_verified();
    }
}

/// Creates orders until `is_over`, each under its key until it is acknowledged, and returns their ids.
async fn create_orders(
    system: &System,
    new_order: &Value,
    is_over: &AtomicBool,
    call_count: &AtomicUsize,
    allowed_statuses: &[u16],
) -> Vec<String> {
    let mut order_ids = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let idempotency_key = Uuid::now_v7().to_string();
        loop {
            call_count.fetch_add(1, Ordering::SeqCst);
            let request = system.request(Method::POST, "/v1/orders");
            let reply = send(
                request
                    .header("idempotency-key", &idempotency_key)
                    .json(new_order),
            )
            .await;
            if reply.status == 201 {
                order_ids.push(reply.body["id"].as_str().unwrap().to_owned());
                break;
            }
            assert!(
                allowed_statuses.contains(&reply.status),
                "{} {}",
                reply.status,
                reply.body
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    order_ids
}

/// Runs `disturb` while six customers create orders, and checks that no order was lost or created twice. A request
/// must be answered with 201 or one of `allowed_statuses`.
async fn assert_no_request_is_lost(
    system: &System,
    allowed_statuses: &[u16],
    disturb: impl AsyncFnOnce(&AtomicUsize),
) {
    system
        .create_product_with_stock("A", &[("main", 1_000_000)])
        .await;
    let new_order = order_body_with_method(&system.create_customer().await, "A", 1, "pm_ok");
    let (is_over, call_count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let customer_tasks =
        (0..6).map(|_| create_orders(system, &new_order, &is_over, &call_count, allowed_statuses));
    let (ids, ()) = tokio::join!(join_all(customer_tasks), async {
        disturb(&call_count).await;
        is_over.store(true, Ordering::SeqCst);
    });
    let mut acknowledged_ids = ids.concat();
    let orders = system.wait_until_idle().await;
    let mut stored_ids: Vec<_> = orders
        .iter()
        .map(|order| order["id"].as_str().unwrap().to_owned())
        .collect();
    acknowledged_ids.sort();
    stored_ids.sort();
    assert_eq!(
        stored_ids, acknowledged_ids,
        "orders were lost or duplicated"
    );
    let payments = system.payment_totals().await;
    assert_eq!(payments.authorizations, acknowledged_ids.len());
    system.assert_verified();
}

async fn wait_for_calls(call_count: &AtomicUsize, additional_calls: usize) {
    let target_count = call_count.load(Ordering::SeqCst) + additional_calls;
    wait_until("more calls", async || {
        call_count.load(Ordering::SeqCst) >= target_count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migration_under_load_answers_every_request() {
    let system = System::start_with(&[("REQUEST_TIMEOUT_MS", "30000")]).await;
    let second_worker = (!system.store.is_sqlite()).then(|| system.start_additional_worker(WORKER));
    // A timeout would be a lost request.
    assert_no_request_is_lost(&system, &[503], async |call_count| {
        for queue_type in ["quorum", "classic"] {
            wait_for_calls(call_count, 30).await;
            let output = migrate(&system, queue_type).await;
            println!("{output}");
            let expected_output = format!("{REQUEST_QUEUE} is now a {queue_type} queue");
            assert!(output.starts_with(&expected_output), "{output}");
            wait_for_calls(call_count, 30).await;
        }
    })
    .await;
    drop(second_worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn migration_that_is_killed_at_any_moment_can_be_run_again() {
    let system = System::start_with(&[("REQUEST_TIMEOUT_MS", "30000")]).await;
    let run_migration_for = async |queue_type: &str, run_time: Duration| {
        let mut command = migration_command(&system, queue_type);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut migration_process: Child = command.spawn().unwrap();
        tokio::time::sleep(run_time).await;
        let _ = migration_process.kill();
        migration_process.wait().unwrap();
    };
    assert_no_request_is_lost(&system, &[503, 504], async |call_count| {
        for round in 0..6 {
            wait_for_calls(call_count, 10).await;
            let queue_type = ["quorum", "classic"][round % 2];
            let random = u64::from(Uuid::now_v7().as_bytes()[15]);
            let kill_delay = Duration::from_millis(100 + random * 10);
            println!("{queue_type}: killed after {kill_delay:?}");
            run_migration_for(queue_type, kill_delay).await;
            migrate(&system, queue_type).await;
            assert_type(&system, queue_type).await;
        }
        wait_for_calls(call_count, 30).await;
    })
    .await;
}

#[tokio::test]
async fn requests_that_a_killed_migration_left_behind_are_answered_by_the_next_one() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let broker_url = system.broker.url();
    let waiting_client = tokio::task::spawn_blocking(move || {
        run_script("foreign.py", &["left_behind", &broker_url, &customer_id])
    });
    // The client has sent its request when the queue of a migration exists.
    let mut migration_output = String::new();
    wait_until("the request to be moved", async || {
        migration_output = migrate(&system, "classic").await;
        migration_output.contains("; 1 requests moved")
    })
    .await;
    assert!(waiting_client.await.unwrap().contains("answered"));
    assert_eq!(system.wait_until_idle().await.len(), 1);
    system.assert_verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_with_different_queue_types_share_a_deleted_queue() {
    let mut system = System::start_with_own_broker(&[(TYPE_VARIABLE, "classic")]).await;
    if system.store.is_sqlite() {
        // One worker at a time.
        return;
    }
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    system.set_variable(TYPE_VARIABLE, Some("quorum"));
    let mut other_worker = system.start_additional_worker(WORKER);
    let notice_text = "it is used as it is";
    wait_until("the second worker to report the type", async || {
        lines_with(&system, "beside.log", notice_text) == 1
    })
    .await;
    for _ in 0..3 {
        system
            .broker
            .run_rabbitmqctl(&["delete_queue", REQUEST_QUEUE]);
        wait_until("an order to be accepted", async || {
            system.post("/v1/orders", new_order.clone()).await.status == 201
        })
        .await;
        // One of them has declared the queue with its type, the other one uses it.
        wait_until("one worker to have a notice", async || {
            let mut notice_count = 0;
            for worker in [&system.worker, &other_worker] {
                let address = worker.find_logged_field("health", 0).unwrap();
                let url = format!("http://{address}/readyz");
                let response = system.client.get(url).send().await.unwrap();
                if response.status() != 200 {
                    return false;
                }
                let readiness: Value = response.json().await.unwrap();
                notice_count += usize::from(readiness["notice"].is_string());
            }
            notice_count == 1
        })
        .await;
    }
    // Each of them answers alone.
    system.worker.terminate();
    system.get("/v1/orders?limit=1").await.expect(200);
    system.set_variable(TYPE_VARIABLE, Some("classic"));
    system.restart_worker().await;
    other_worker.terminate();
    system.get("/v1/orders?limit=1").await.expect(200);
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_although_the_channel_was_opened_before_the_queue_had_a_new_leader() {
    let system = System::start_with_own_broker(&QUORUM_VARIABLES).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    // As between the loss of the leader's node and the election of another leader: the queue's record names a
    // node that is down, and the next request is the first one on its channel. The record is corrected by the
    // leader within 5 s.
    let lose_leader_code = r#"
        Queue = rabbit_misc:r(<<"/">>, queue, <<"order-request-queue">>),
        Lose = fun(Record) ->
            {Member, _} = amqqueue:get_pid(Record),
            amqqueue:set_pid(Record, {Member, lost@localhost})
        end,
        rabbit_misc:execute_mnesia_transaction(fun() -> rabbit_amqqueue:update(Queue, Lose) end),
        [rabbit_networking:close_connection(Pid, "test") || Pid <- rabbit_networking:connections()]."#;
    wait_until("a request to be refused", async || {
        system.broker.run_rabbitmqctl(&["eval", lose_leader_code]);
        let mut is_refused = false;
        wait_until("a request to be answered or refused", async || {
            let reply = system.get("/v1/orders?limit=1").await;
            let detail = reply.body["detail"].as_str().unwrap_or_default();
            is_refused = detail.contains("the request queue");
            is_refused || reply.status == 200
        })
        .await;
        is_refused
    })
    .await;
    wait_until("a request to be answered", async || {
        system.get("/v1/orders?limit=1").await.status == 200
    })
    .await;
    let id = system.create_order().await;
    system
        .wait_for_order(&id, "announced", crate::harness::has_shipping_label)
        .await;
    system.assert_verified();
}
