//! Faults of the database and its disk.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{task, time};

use super::FaultContext;
use crate::{harness::wait_until, proxy::NetworkCondition, stack::Stack};

/// Waits until the worker reports that its database is not usable.
async fn wait_for_database_error(stack: &Stack) {
    wait_until("the worker to report a database error", async || {
        let readiness = stack.worker_readiness(0).await;
        readiness.is_some_and(|report| report["database"] != "ok")
    })
    .await;
}

/// Another process locks the database for longer than the worker's lock timeout.
pub(super) async fn lock_database_file(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    let lock_script = "import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
db.execute('BEGIN IMMEDIATE'); time.sleep(8)";
    let mut lock_process = Command::new("python3")
        .args(["-c", lock_script])
        .arg(stack.data_folder.join("orders.db"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    task::block_in_place(|| lock_process.wait()).unwrap();
    stack.wait_until_healthy().await;
    1
}

/// The disk is filled up, then space is freed.
pub(super) async fn fill_disk(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    let filler_file = stack.data_folder.join("filler");
    let fill_result = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", filler_file.display()))
        .stderr(Stdio::null())
        .status();
    assert!(!fill_result.unwrap().success(), "the disk never filled up");
    wait_for_database_error(stack).await;
    time::sleep(Duration::from_secs(2)).await;
    std::fs::remove_file(filler_file).unwrap();
    stack.wait_until_healthy().await;
    1
}

pub(super) async fn make_disk_read_only(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    let remount_disk = |mount_option: &str| {
        let mount_result = Command::new("mount")
            .args(["-o", &format!("remount,{mount_option}")])
            .arg(&stack.data_folder)
            .status();
        mount_result.unwrap().success()
    };
    // A remount fails while files are open for writing. So the worker is stopped and started on the read-only
    // disk, where it must fail with an error.
    stack.workers[0].kill();
    assert!(remount_disk("ro"), "the disk can't be made read-only");
    let mut worker = stack.spawn_worker(0);
    wait_until("the worker to fail on the read-only disk", async || {
        worker.has_ended()
    })
    .await;
    assert!(remount_disk("rw"), "the disk can't be made writable");
    stack.restart_worker(0);
    stack.wait_until_healthy().await;
    1
}

pub(super) async fn kill_postgres(context: FaultContext<'_>) -> usize {
    let FaultContext {
        stack,
        load,
        random,
    } = context;
    for round in 0..3 {
        load.wait_for_progress(10).await;
        random.sleep_up_to(100).await;
        stack.postgres.as_mut().unwrap().kill();
        if round == 1 {
            // This worker starts while the database is down.
            stack.restart_worker(0);
        }
        stack.postgres.as_mut().unwrap().run_until_ready().await;
    }
    stack.wait_until_healthy().await;
    3
}

/// The primary dies, and a synchronous standby is promoted.
pub(super) async fn fail_over(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let primary_server = stack.postgres.as_mut().unwrap();
    let standby_server = primary_server.start_standby().await;
    load.wait_for_progress(20).await;
    primary_server.kill();
    standby_server.promote();
    stack.database_proxy.set_target(standby_server.port);
    stack.postgres = Some(standby_server);
    stack.database_proxy.set_condition(NetworkCondition::Normal);
    stack.wait_until_healthy().await;
    1
}

pub(super) async fn close_connections(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    for _ in 0..5 {
        load.wait_for_progress(5).await;
        stack.postgres.as_ref().unwrap().run_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'order-worker'",
        );
    }
    stack.wait_until_healthy().await;
    5
}

/// The database refuses writes, like a primary that was demoted to a standby.
pub(super) async fn make_database_read_only(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    let postgres = stack.postgres.as_ref().unwrap();
    let terminate_sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'order-worker'";
    postgres.run_sql("ALTER SYSTEM SET default_transaction_read_only = on");
    postgres.run_sql("SELECT pg_reload_conf()");
    wait_for_database_error(stack).await;
    postgres.run_sql("ALTER SYSTEM RESET default_transaction_read_only");
    postgres.run_sql("SELECT pg_reload_conf()");
    postgres.run_sql(terminate_sql);
    stack.wait_until_healthy().await;
    1
}

/// The tables are locked, as by a migration.
pub(super) async fn lock_tables(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    load.wait_for_progress(10).await;
    let postgres = stack.postgres.as_ref().unwrap();
    task::block_in_place(|| {
        postgres.run_sql(
            "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT",
        )
    });
    stack.wait_until_healthy().await;
    1
}

/// Each commit takes 100 ms longer.
pub(super) async fn slow_down_commits(context: FaultContext<'_>) -> usize {
    let FaultContext { stack, load, .. } = context;
    let postgres = stack.postgres.as_ref().unwrap();
    for setting in ["commit_delay = 100000", "commit_siblings = 0"] {
        postgres.run_sql(&format!("ALTER SYSTEM SET {setting}"));
    }
    postgres.run_sql("SELECT pg_reload_conf()");
    load.wait_for_progress(60).await;
    for setting in ["commit_delay", "commit_siblings"] {
        postgres.run_sql(&format!("ALTER SYSTEM RESET {setting}"));
    }
    postgres.run_sql("SELECT pg_reload_conf()");
    1
}
