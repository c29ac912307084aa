//! Fault injection under load. Afterwards all acknowledged responses are compared with the stored orders, and
//! `order-worker verify` checks consistency. Run by `scripts/chaos.sh`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a run that can't continue panics"
)]

mod faults;
#[expect(dead_code, reason = "used by the end-to-end tests only")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod load;
mod proxy;
mod servers;
mod stack;

use std::{
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use self::{
    faults::{FAULTS, Fault, FaultContext, FaultTarget},
    load::{Load, Random},
    stack::{BrokerKind, Findings, Stack, StoreKind, optional_setting},
};

/// A row of the report.
struct ReportRow {
    store: &'static str,
    fault_name: &'static str,
    injection_count: usize,
    acknowledged_orders: usize,
    refused_requests: usize,
    unknown_outcomes: usize,
    findings: Findings,
}

/// The options of `scripts/chaos.sh`.
struct Plan {
    seed: u64,
    end_time: Instant,
    /// Part of the name of the faults to run.
    fault_filter: String,
    is_quick: bool,
}

fn main() -> ExitCode {
    let read_number = |setting_name: &str, default: u64| {
        optional_setting(setting_name).map_or(default, |number_text| number_text.parse().unwrap())
    };
    let plan = Plan {
        seed: read_number("CHAOS_SEED", 1),
        end_time: Instant::now() + Duration::from_mins(read_number("CHAOS_MINUTES", 0)),
        fault_filter: optional_setting("CHAOS_FAULT").unwrap_or_default(),
        is_quick: optional_setting("CHAOS_QUICK").is_some(),
    };
    println!("seed {}", plan.seed);
    let stores = optional_setting("CHAOS_STORES").unwrap_or_else(|| "sqlite postgres".to_owned());
    let kinds = [StoreKind::Sqlite, StoreKind::Postgres]
        .into_iter()
        .filter(|kind| {
            let mut stores = stores.split_whitespace();
            stores.any(|store| store == kind.argument())
        });
    // The stores run in parallel: each has its own servers, and a run mostly waits.
    let rows: Vec<ReportRow> = thread::scope(|scope| {
        let store_threads = kinds.map(|kind| {
            let plan = &plan;
            scope.spawn(move || Runtime::new().unwrap().block_on(run_faults(kind, plan)))
        });
        let store_threads: Vec<_> = store_threads.collect();
        store_threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    print_table(&rows);
    if rows.iter().all(|row| row.findings.is_clean()) && !rows.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs all faults on one store, repeatedly until the time is up.
async fn run_faults(kind: StoreKind, plan: &Plan) -> Vec<ReportRow> {
    let mut rows = Vec::new();
    for seed in plan.seed.. {
        let selected_faults = FAULTS
            .iter()
            .filter(|fault| {
                fault.target.applies_to(kind) && fault.name.contains(&plan.fault_filter)
            })
            .filter(|fault| !plan.is_quick || is_in_quick_run(fault, kind));
        let (separate_faults, shared_faults): (Vec<_>, Vec<_>) =
            selected_faults.partition(|fault| fault.target.needs_own_system());
        if !shared_faults.is_empty() {
            let mut stack = Stack::start(kind, BrokerKind::SingleNode).await;
            for selected_fault in shared_faults {
                rows.push(inject(&mut stack, selected_fault, seed).await);
            }
        }
        for selected_fault in separate_faults {
            rows.extend(inject_into_new_system(kind, selected_fault, seed).await);
        }
        if Instant::now() >= plan.end_time {
            break;
        }
    }
    rows
}

/// Faults with a long recovery, which a quick run omits.
const LONG_FAULTS: [&str; 5] = [
    "worker suspended past the broker's acknowledgement timeout",
    "worker clocks jump by an hour",
    "database locked by another process",
    "leader of a three-node cluster killed",
    "each node of a cluster with a quorum request queue killed",
];

/// A quick run divides the faults that apply to both stores between them.
fn is_in_quick_run(fault: &Fault, kind: StoreKind) -> bool {
    if LONG_FAULTS.contains(&fault.name) {
        return false;
    }
    if fault.target != FaultTarget::AnySystem {
        return true;
    }
    let fault_index = FAULTS
        .iter()
        .position(|listed_fault| listed_fault.name == fault.name);
    let is_even = fault_index.unwrap_or_default() % 2 == 0;
    is_even == (kind == StoreKind::Sqlite)
}

/// Runs a fault that needs a system of its own.
async fn inject_into_new_system(kind: StoreKind, fault: &Fault, seed: u64) -> Option<ReportRow> {
    let mut stack = Stack::start(kind, fault.target.broker_kind()).await;
    if fault.target == FaultTarget::SmallDisk {
        // Moves the database to a disk of 24 MiB.
        let data_folder = stack.data_folder.clone();
        stack.workers[0].terminate();
        let original_folder = stack.folder.join("kept");
        std::fs::rename(&data_folder, &original_folder).unwrap();
        std::fs::create_dir(&data_folder).unwrap();
        let mount_result = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(&data_folder)
            .status();
        if !mount_result.is_ok_and(|status| status.success()) {
            println!(
                "{}: skipped, since a disk can't be mounted here (requires root)",
                fault.name
            );
            return None;
        }
        for database_file in std::fs::read_dir(&original_folder)
            .unwrap()
            .map(Result::unwrap)
        {
            std::fs::copy(
                database_file.path(),
                data_folder.join(database_file.file_name()),
            )
            .unwrap();
        }
        stack.restart_worker(0);
        stack.wait_until_healthy().await;
        let row = inject(&mut stack, fault, seed).await;
        stack.workers[0].kill();
        let _ = Command::new("umount").arg(&data_folder).status();
        return Some(row);
    }
    Some(inject(&mut stack, fault, seed).await)
}

/// Injects a fault under load, waits until the system is idle, and checks the result.
async fn inject(stack: &mut Stack, fault: &Fault, seed: u64) -> ReportRow {
    let run_name = uuid::Uuid::now_v7().simple().to_string();
    let load = Load::new(stack.base_urls(), stack.customer_id.clone(), run_name);
    let mut random = Random::new(seed);
    let started_at = Instant::now();
    let load_run = load.run(seed);
    let fault_injection = async {
        load.wait_for_progress(10).await;
        let injection_count = (fault.inject)(FaultContext {
            stack: &mut *stack,
            load: &load,
            random: &mut random,
        })
        .await;
        // The system works again if both gateways answer.
        load.wait_for_progress(10).await;
        load.stop();
        injection_count
    };
    let ((), injection_count) = tokio::join!(load_run, fault_injection);
    let findings = stack.check_data(&load).await;
    let row = ReportRow {
        store: stack.kind.name(),
        fault_name: fault.name,
        injection_count,
        acknowledged_orders: load.acknowledged_count(),
        refused_requests: load.refused_count(),
        unknown_outcomes: load.unknown_count(),
        findings,
    };
    print_progress(&row, started_at.elapsed());
    row
}

fn print_progress(row: &ReportRow, duration: Duration) {
    let verdict = if row.findings.is_clean() {
        "ok"
    } else {
        "NOT OK"
    };
    println!(
        "{verdict}: {}, {}: {} times, {} orders, {:.1} s",
        row.store,
        row.fault_name,
        row.injection_count,
        row.acknowledged_orders,
        duration.as_secs_f64()
    );
    let Findings {
        lost_orders,
        duplicated_orders,
        stuck_orders,
        discrepancies,
    } = &row.findings;
    for (finding_name, findings_of_kind) in [
        ("lost", lost_orders),
        ("duplicated", duplicated_orders),
        ("stuck", stuck_orders),
        ("inconsistent", discrepancies),
    ] {
        for finding in findings_of_kind.iter().take(5) {
            println!("    {finding_name}: {finding}");
        }
    }
}

/// Prints the Markdown table for docs/FAULTS.md.
fn print_table(rows: &[ReportRow]) {
    println!(
        "\n| store | fault | times | orders acknowledged | 503 | outcome unknown | lost | duplicated | stuck | verify |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let Findings {
            lost_orders,
            duplicated_orders,
            stuck_orders,
            discrepancies,
        } = &row.findings;
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.store,
            row.fault_name,
            row.injection_count,
            row.acknowledged_orders,
            row.refused_requests,
            row.unknown_outcomes,
            lost_orders.len(),
            duplicated_orders.len(),
            stuck_orders.len(),
            if discrepancies.is_empty() {
                "ok"
            } else {
                "NOT OK"
            }
        );
    }
    let sum_of = |field: fn(&ReportRow) -> usize| rows.iter().map(field).sum::<usize>();
    println!(
        "\n{} faults, {} times, {} orders acknowledged: {} lost, {} duplicated, {} stuck",
        rows.len(),
        sum_of(|row| row.injection_count),
        sum_of(|row| row.acknowledged_orders),
        sum_of(|row| row.findings.lost_orders.len()),
        sum_of(|row| row.findings.duplicated_orders.len()),
        sum_of(|row| row.findings.stuck_orders.len()),
    );
}
