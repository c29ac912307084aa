//! Faults of the broker.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::{task, time};

use super::FaultContext;
use crate::harness::wait_until;

pub(super) async fn restart_broker(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    let broker = stack.broker.as_mut().unwrap();
    task::block_in_place(|| broker.stop());
    broker.start();
    stack.wait_until_healthy().await;
    1
}

pub(super) async fn kill_broker(context: FaultContext<'_>) -> usize {
    let FaultContext {
        stack,
        load,
        random,
    } = context;
    load.wait_for_progress(10).await;
    random.sleep_up_to(100).await;
    let broker = stack.broker.as_mut().unwrap();
    broker.kill();
    broker.start();
    stack.wait_until_healthy().await;
    1
}

pub(super) async fn wipe_broker(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    let broker = stack.broker.as_mut().unwrap();
    broker.kill();
    broker.wipe();
    broker.start();
    stack.wait_until_healthy().await;
    1
}

/// The broker blocks publishers.
pub(super) async fn raise_memory_alarm(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    stack.run_rabbitmqctl(&["set_vm_memory_high_watermark", "0"]);
    time::sleep(Duration::from_secs(2)).await;
    stack.run_rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]);
    stack.wait_until_healthy().await;
    1
}

pub(super) async fn close_connections(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    for _ in 0..3 {
        load.wait_for_progress(10).await;
        stack.run_rabbitmqctl(&["close_all_connections", "requested by an operator"]);
    }
    stack.wait_until_healthy().await;
    3
}

/// An operator deletes the queues by mistake.
pub(super) async fn delete_queues(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    for queue in ["order-worker-queue", "order-request-queue"] {
        stack.run_rabbitmqctl(&["delete_queue", queue]);
        stack.wait_until_healthy().await;
        load.wait_for_progress(10).await;
    }
    2
}

pub(super) async fn kill_leader(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    for _ in 0..2 {
        load.wait_for_progress(20).await;
        let cluster = stack.cluster.as_mut().unwrap();
        let node_number = task::block_in_place(|| cluster.kill_leader());
        time::sleep(Duration::from_secs(3)).await;
        cluster.restart_node(node_number).await;
        stack.wait_until_healthy().await;
    }
    load.wait_for_progress(20).await;
    2
}

/// The node that hosts the request queue is lost permanently, and the other two forget it.
pub(super) async fn lose_request_node(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(20).await;
    let cluster = stack.cluster.as_mut().unwrap();
    let node_number = task::block_in_place(|| cluster.kill_queue_node("order-request-queue"));
    wait_until("a gateway to report that it is not ready", async || {
        let url = format!("{}/readyz", stack.base_urls()[0]);
        let response = reqwest::get(url).await;
        response.is_ok_and(|response| response.status() == 503)
    })
    .await;
    let cluster = stack.cluster.as_mut().unwrap();
    task::block_in_place(|| cluster.forget(node_number));
    stack.wait_until_healthy().await;
    load.wait_for_progress(20).await;
    1
}

/// Each node in turn is killed while the request queue is a quorum queue: the other two answer requests.
pub(super) async fn kill_each_node(context: FaultContext<'_>) -> usize {
    const NODE_COUNT: usize = 3;
    let FaultContext { stack, load, .. } = context;
    for node_number in 0..NODE_COUNT {
        load.wait_for_progress(20).await;
        let cluster = stack.cluster.as_mut().unwrap();
        let is_leader =
            task::block_in_place(|| cluster.leader("order-request-queue") == node_number);
        cluster.kill_node(node_number);
        let killed_at = Instant::now();
        let gateway_urls = stack.base_urls();
        let recovery_durations = gateway_urls
            .iter()
            .map(|url| time_to_recover(url, killed_at));
        let recovery_times: Vec<String> = join_all(recovery_durations)
            .await
            .iter()
            .map(|duration| format!("{:.1} s", duration.as_secs_f64()))
            .collect();
        println!(
            "    node {node_number}{} killed: the gateways answer all requests that are sent after {}",
            if is_leader {
                ", the leader of the request queue,"
            } else {
                ""
            },
            recovery_times.join(" and ")
        );
        load.wait_for_progress(20).await;
        let cluster = stack.cluster.as_mut().unwrap();
        cluster.restart_node(node_number).await;
        stack.wait_until_healthy().await;
    }
    NODE_COUNT
}

/// Sends a gateway a request every 100 ms until the worker has answered thirty in a row. Returns the time from
/// `killed_at` after which all requests were answered.
async fn time_to_recover(base_url: &str, killed_at: Instant) -> Duration {
    const REQUEST_INTERVAL: Duration = Duration::from_millis(100);
    const ANSWERED_IN_A_ROW: usize = 30;
    let client = reqwest::Client::new();
    let mut answer_tasks = Vec::new();
    let mut recovered_at = killed_at;
    let mut answered_in_a_row = 0;
    let mut request_ticks = time::interval(REQUEST_INTERVAL);
    wait_until("a gateway to answer thirty requests in a row", async || {
        request_ticks.tick().await;
        let request = client.get(format!("{base_url}/v1/orders?limit=1")).send();
        let answer_task = tokio::spawn(async move {
            let response = request.await;
            response.is_ok_and(|response| response.status() == 200)
        });
        answer_tasks.push((Instant::now(), answer_task));
        // In the order in which they were sent.
        while answer_tasks
            .first()
            .is_some_and(|(_, answer_task)| answer_task.is_finished())
        {
            let (sent_at, answer_task) = answer_tasks.remove(0);
            if answer_task.await.unwrap() {
                answered_in_a_row += 1;
            } else {
                answered_in_a_row = 0;
                recovered_at = sent_at + REQUEST_INTERVAL;
            }
        }
        answered_in_a_row >= ANSWERED_IN_A_ROW
    })
    .await;
    recovered_at - killed_at
}
