//! Faults of the broker.

use std::time::Duration;

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
        let number = task::block_in_place(|| cluster.kill_leader());
        time::sleep(Duration::from_secs(3)).await;
        cluster.restart_node(number).await;
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
    let number = task::block_in_place(|| cluster.kill_queue_node("order-request-queue"));
    wait_until("a gateway to report that it is not ready", async || {
        let url = format!("{}/readyz", stack.base_urls()[0]);
        let response = reqwest::get(url).await;
        response.is_ok_and(|response| response.status() == 503)
    })
    .await;
    let cluster = stack.cluster.as_mut().unwrap();
    task::block_in_place(|| cluster.forget(number));
    stack.wait_until_healthy().await;
    load.wait_for_progress(20).await;
    1
}
