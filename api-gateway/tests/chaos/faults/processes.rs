//! Faults of the gateway and worker processes: killed, suspended, stopped, and with a wrong clock.

use std::{fs, time::Duration};

use tokio::{task, time};

use super::FaultContext;
use crate::harness::wait_until;

/// A worker crashes at a given point and is replaced.
pub(super) async fn crash_worker(context: FaultContext<'_>, crash_point: &str) -> usize {
    let FaultContext {
        stack,
        load,
        random,
    } = context;
    for _ in 0..2 {
        load.wait_for_progress(3).await;
        // The other workers are stopped, so that this one is sure to reach the point.
        for worker in &mut stack.workers {
            worker.kill();
        }
        let crash_plan = format!("{crash_point}:{}", 1 + random.random_below(15));
        stack.workers[0] = stack.spawn_worker_with(0, &[("CRASH_AT", &crash_plan)]);
        wait_until("the worker to crash", async || stack.workers[0].has_ended()).await;
        for process_number in 0..stack.workers.len() {
            stack.restart_worker(process_number);
        }
        stack.wait_until_healthy().await;
    }
    2
}

pub(super) async fn kill_workers(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, random, .. } = context;
    for round in 0..6 {
        random.sleep_up_to(300).await;
        stack.restart_worker(round % stack.workers.len());
    }
    stack.wait_until_healthy().await;
    6
}

/// A worker is suspended for longer than the broker's acknowledgement timeout. The broker redelivers its
/// messages to other workers, and the worker does not know that when it continues.
pub(super) async fn suspend_worker(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let set_ack_timeout = |timeout_ms: u32, tick_ms: u32| {
        let erlang_code = format!(
            "application:set_env(rabbit, consumer_timeout, {timeout_ms}),
             application:set_env(rabbit, channel_tick_interval, {tick_ms})."
        );
        stack.run_rabbitmqctl(&["eval", &erlang_code]);
        // The setting applies to new channels.
        stack.run_rabbitmqctl(&["close_all_connections", "new acknowledgement timeout"]);
    };
    set_ack_timeout(4_000, 1_000);
    stack.wait_until_healthy().await;
    load.wait_for_progress(5).await;
    stack.workers[0].signal("STOP");
    time::sleep(Duration::from_secs(7)).await;
    stack.workers[0].signal("CONT");
    load.wait_for_progress(10).await;
    set_ack_timeout(1_800_000, 60_000);
    stack.wait_until_healthy().await;
    1
}

pub(super) async fn stop_workers(context: FaultContext<'_>) -> usize {
    let FaultContext {
        stack,
        load,
        random,
    } = context;
    for process_number in 0..stack.workers.len() {
        load.wait_for_progress(5).await;
        random.sleep_up_to(100).await;
        // Panics if the worker does not terminate.
        task::block_in_place(|| stack.workers[process_number].terminate());
        stack.restart_worker(process_number);
    }
    stack.wait_until_healthy().await;
    stack.workers.len()
}

pub(super) async fn kill_gateways(context: FaultContext<'_>) -> usize {
    let FaultContext {
        stack,
        load,
        random,
    } = context;
    for round in 0..6 {
        load.wait_for_progress(3).await;
        random.sleep_up_to(30).await;
        stack.restart_gateway(round % 2);
    }
    stack.wait_until_healthy().await;
    6
}

/// Accepted requests are answered before the gateway stops.
pub(super) async fn stop_gateways(context: FaultContext<'_>) -> usize {
    let FaultContext {
        stack,
        load,
        random,
    } = context;
    let unknown_count_before = load.unknown_count();
    for process_number in 0..2 {
        load.wait_for_progress(5).await;
        random.sleep_up_to(50).await;
        task::block_in_place(|| stack.gateways[process_number].terminate());
        stack.restart_gateway(process_number);
        stack.wait_until_healthy().await;
    }
    if load.unknown_count() > unknown_count_before {
        let unknown_during_restart = load.unknown_count() - unknown_count_before;
        load.recorded_replies().unexpected_replies.push(format!(
            "{unknown_during_restart} requests were not answered by a gateway that was stopped with SIGTERM"
        ));
    }
    2
}

/// Restarts one process after the other, as in an upgrade: requests fail only with a 503, which is safe to
/// retry.
pub(super) async fn restart_one_by_one(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let unknown_count_before = load.unknown_count();
    for process_number in 0..stack.workers.len() {
        task::block_in_place(|| stack.workers[process_number].terminate());
        stack.restart_worker(process_number);
        stack.wait_until_healthy().await;
        load.wait_for_progress(5).await;
    }
    for process_number in 0..2 {
        task::block_in_place(|| stack.gateways[process_number].terminate());
        stack.restart_gateway(process_number);
        stack.wait_until_healthy().await;
        load.wait_for_progress(5).await;
    }
    if load.unknown_count() > unknown_count_before {
        let unknown_during_restart = load.unknown_count() - unknown_count_before;
        let mut recorded_replies = load.recorded_replies();
        let last_unknown_outcome = recorded_replies.last_unknown_outcome.clone();
        recorded_replies.unexpected_replies.push(format!(
            "{unknown_during_restart} requests failed during a rolling restart, the last with {last_unknown_outcome}"
        ));
    }
    stack.workers.len() + 2
}

pub(super) async fn kill_all_processes(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    if let Some(broker) = &mut stack.broker {
        broker.kill();
    }
    if let Some(postgres) = &mut stack.postgres {
        postgres.kill();
    }
    for process in stack.workers.iter_mut().chain(&mut stack.gateways) {
        process.kill();
    }
    if let Some(postgres) = &mut stack.postgres {
        postgres.run_until_ready().await;
    }
    if let Some(broker) = &mut stack.broker {
        broker.start();
    }
    for process_number in 0..stack.workers.len() {
        stack.workers[process_number] = stack.spawn_worker(process_number);
    }
    for process_number in 0..2 {
        stack.gateways[process_number] = stack.spawn_gateway(process_number);
    }
    stack.wait_until_healthy().await;
    load.wait_for_progress(10).await;
    1
}

/// The clocks of the workers, but not of the gateways, go forward by an hour, back, and back by another hour.
pub(super) async fn move_clocks(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let Some(faketime_library) = crate::stack::optional_setting("TEST_FAKETIME") else {
        return 0;
    };
    let clock_file = stack.folder.join("clock");
    fs::write(&clock_file, "+0\n").unwrap();
    stack.worker_variables = [
        ("LD_PRELOAD", faketime_library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock_file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for process_number in 0..stack.workers.len() {
        stack.restart_worker(process_number);
    }
    stack.wait_until_healthy().await;
    for clock_offset in ["+3600", "+0", "-3600"] {
        load.wait_for_progress(20).await;
        fs::write(&clock_file, format!("{clock_offset}\n")).unwrap();
    }
    load.wait_for_progress(20).await;
    3
}
