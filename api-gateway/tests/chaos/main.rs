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
    stack::{Findings, Kind, Stack, optional},
};

/// A row of the report.
struct ReportRow {
    store: &'static str,
    fault: &'static str,
    times: usize,
    acknowledged: usize,
    refused: usize,
    unknown: usize,
    findings: Findings,
}

/// The options of `scripts/chaos.sh`.
struct Plan {
    seed: u64,
    end: Instant,
    /// Part of the name of the faults to run.
    only: String,
    is_quick: bool,
}

fn main() -> ExitCode {
    let number =
        |name: &str, default: u64| optional(name).map_or(default, |text| text.parse().unwrap());
    let plan = Plan {
        seed: number("CHAOS_SEED", 1),
        end: Instant::now() + Duration::from_mins(number("CHAOS_MINUTES", 0)),
        only: optional("CHAOS_FAULT").unwrap_or_default(),
        is_quick: optional("CHAOS_QUICK").is_some(),
    };
    println!("seed {}", plan.seed);
    let stores = optional("CHAOS_STORES").unwrap_or_else(|| "sqlite postgres".to_owned());
    let kinds = [Kind::Sqlite, Kind::Postgres].into_iter().filter(|kind| {
        let mut stores = stores.split_whitespace();
        stores.any(|store| store == kind.argument())
    });
    // The stores run in parallel: each has its own servers, and a run mostly waits.
    let rows: Vec<ReportRow> = thread::scope(|scope| {
        let over = kinds.map(|kind| {
            let plan = &plan;
            scope.spawn(move || Runtime::new().unwrap().block_on(run_faults(kind, plan)))
        });
        let over: Vec<_> = over.collect();
        over.into_iter()
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
async fn run_faults(kind: Kind, plan: &Plan) -> Vec<ReportRow> {
    let mut rows = Vec::new();
    for seed in plan.seed.. {
        let chosen = FAULTS
            .iter()
            .filter(|fault| fault.target.fits(kind) && fault.name.contains(&plan.only))
            .filter(|fault| !plan.is_quick || is_for_quick(fault, kind));
        let (apart, together): (Vec<_>, Vec<_>) = chosen.partition(|fault| {
            matches!(fault.target, FaultTarget::Cluster | FaultTarget::SmallDisk)
        });
        if !together.is_empty() {
            let mut stack = Stack::start(kind, false).await;
            for fault in together {
                rows.push(inject(&mut stack, fault, seed).await);
            }
        }
        for fault in apart {
            rows.extend(inject_into_new_system(kind, fault, seed).await);
        }
        if Instant::now() >= plan.end {
            break;
        }
    }
    rows
}

/// Faults with a long recovery, which a quick run omits.
const LONG: [&str; 5] = [
    "worker suspended past the broker's acknowledgement timeout",
    "worker clocks jump by an hour",
    "database locked by another process",
    "leader of a three-node cluster killed",
    "node of the request queue lost permanently",
];

/// A quick run divides the faults that apply to both stores between them.
fn is_for_quick(fault: &Fault, kind: Kind) -> bool {
    if LONG.contains(&fault.name) {
        return false;
    }
    if fault.target != FaultTarget::Anything {
        return true;
    }
    let number = FAULTS.iter().position(|other| other.name == fault.name);
    let is_even = number.unwrap_or_default() % 2 == 0;
    is_even == (kind == Kind::Sqlite)
}

/// Runs a fault that needs a system of its own.
async fn inject_into_new_system(kind: Kind, fault: &Fault, seed: u64) -> Option<ReportRow> {
    let mut stack = Stack::start(kind, fault.target == FaultTarget::Cluster).await;
    if fault.target == FaultTarget::SmallDisk {
        // Moves the database to a disk of 24 MiB.
        let disk = stack.data.clone();
        stack.workers[0].terminate();
        let kept = stack.folder.join("kept");
        std::fs::rename(&disk, &kept).unwrap();
        std::fs::create_dir(&disk).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(&disk)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!(
                "{}: skipped, since a disk can't be mounted here (requires root)",
                fault.name
            );
            return None;
        }
        for file in std::fs::read_dir(&kept).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), disk.join(file.file_name())).unwrap();
        }
        stack.restart_worker(0);
        stack.wait_until_healthy().await;
        let row = inject(&mut stack, fault, seed).await;
        stack.workers[0].kill();
        let _ = Command::new("umount").arg(&disk).status();
        return Some(row);
    }
    Some(inject(&mut stack, fault, seed).await)
}

/// Injects a fault under load, waits until the system is idle, and checks the result.
async fn inject(stack: &mut Stack, fault: &Fault, seed: u64) -> ReportRow {
    let run = uuid::Uuid::now_v7().simple().to_string();
    let load = Load::new(stack.bases(), stack.customer.clone(), run);
    let mut random = Random::new(seed);
    let began = Instant::now();
    let running = load.run(seed);
    let injecting = async {
        load.progress(10).await;
        let times = (fault.run)(FaultContext {
            stack: &mut *stack,
            load: &load,
            random: &mut random,
        })
        .await;
        // The system works again if both gateways answer.
        load.progress(10).await;
        load.end();
        times
    };
    let ((), times) = tokio::join!(running, injecting);
    let findings = stack.examine(&load).await;
    let row = ReportRow {
        store: stack.kind.name(),
        fault: fault.name,
        times,
        acknowledged: load.acknowledged(),
        refused: load.refused(),
        unknown: load.unknown(),
        findings,
    };
    print_progress(&row, began.elapsed());
    row
}

fn print_progress(row: &ReportRow, took: Duration) {
    let verdict = if row.findings.is_clean() {
        "ok"
    } else {
        "NOT OK"
    };
    println!(
        "{verdict}: {}, {}: {} times, {} orders, {:.1} s",
        row.store,
        row.fault,
        row.times,
        row.acknowledged,
        took.as_secs_f64()
    );
    let Findings {
        lost,
        duplicated,
        stuck,
        unexpected,
    } = &row.findings;
    for (what, list) in [
        ("lost", lost),
        ("duplicated", duplicated),
        ("stuck", stuck),
        ("inconsistent", unexpected),
    ] {
        for entry in list.iter().take(5) {
            println!("    {what}: {entry}");
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
            lost,
            duplicated,
            stuck,
            unexpected,
        } = &row.findings;
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.store,
            row.fault,
            row.times,
            row.acknowledged,
            row.refused,
            row.unknown,
            lost.len(),
            duplicated.len(),
            stuck.len(),
            if unexpected.is_empty() {
                "ok"
            } else {
                "NOT OK"
            }
        );
    }
    let total = |of: fn(&ReportRow) -> usize| rows.iter().map(of).sum::<usize>();
    println!(
        "\n{} faults, {} times, {} orders acknowledged: {} lost, {} duplicated, {} stuck",
        rows.len(),
        total(|row| row.times),
        total(|row| row.acknowledged),
        total(|row| row.findings.lost.len()),
        total(|row| row.findings.duplicated.len()),
        total(|row| row.findings.stuck.len()),
    );
}
