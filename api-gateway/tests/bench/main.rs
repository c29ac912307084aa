//! Benchmarks of this system on SQLite and on PostgreSQL next to conventional designs, on the same machine and
//! broker in the same run. Run by `scripts/bench.sh`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "prints results; a run that can't continue panics"
)]

mod extras;
mod load;
mod plot;
mod report;
mod system;

use std::{env, fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::{
    load::{Figures, Load},
    system::{SKU_COUNT, SystemKind, SystemUnderTest},
};

/// Numbers of connections of the closed loop.
const CONNECTION_COUNTS: [usize; 4] = [1, 16, 64, 256];

/// An environment variable set by `scripts/bench.sh`.
pub(crate) fn setting(variable_name: &str) -> String {
    env::var(variable_name)
        .unwrap_or_else(|_| panic!("{variable_name} is not set: use scripts/bench.sh"))
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Runtime::new().unwrap().block_on(run());
}

async fn run() {
    let run_seconds: u64 = setting("BENCH_SECONDS").parse().unwrap();
    let load = Load::new(Duration::from_secs(run_seconds));
    let selected_names = setting("BENCH_ONLY");
    let selected_kinds = SystemKind::ALL.into_iter().filter(|kind| {
        selected_names.is_empty()
            || selected_names
                .split_whitespace()
                .any(|name| name == kind.name())
    });
    let mut systems = Vec::new();
    for kind in selected_kinds {
        systems.push(SystemUnderTest::start(kind).await);
    }

    let round_count: usize = setting("BENCH_ROUNDS").parse().unwrap();
    let mut closed_loop_figures: Vec<(SystemKind, usize, Figures)> = Vec::new();
    println!("\nPOST /v1/orders, closed loop, {run_seconds} s each, median of {round_count}\n");
    report::print_heading();
    for connections in CONNECTION_COUNTS {
        let mut runs_by_system = vec![Vec::new(); systems.len()];
        for _ in 0..round_count {
            for (system, system_runs) in systems.iter().zip(&mut runs_by_system) {
                system_runs.push(load.closed_loop(system, connections, SKU_COUNT));
                let catch_up_time = system.wait_until_idle().await;
                report::print_catch_up(system.kind, catch_up_time);
            }
        }
        for (system, system_runs) in systems.iter().zip(runs_by_system) {
            let figures = Figures::median(system_runs);
            report::print_line(system.kind, connections, &figures);
            closed_loop_figures.push((system.kind, connections, figures));
        }
    }
    report::print_ratios(&closed_loop_figures);

    let request_rate: u64 = setting("BENCH_RATE").parse().unwrap();
    println!("\nPOST /v1/orders, {request_rate} requests per second at a fixed rate (open loop)\n");
    report::print_heading();
    let mut runs_by_system = vec![Vec::new(); systems.len()];
    for _ in 0..round_count {
        for (system, system_runs) in systems.iter().zip(&mut runs_by_system) {
            system_runs.push(load.open_loop(system, request_rate));
            system.wait_until_idle().await;
        }
    }
    let mut open_loop_figures = Vec::new();
    for (system, system_runs) in systems.iter().zip(runs_by_system) {
        let figures = Figures::median(system_runs);
        report::print_line(system.kind, 64, &figures);
        open_loop_figures.push((system.kind, figures));
    }

    let extras = if setting("BENCH_ORDERS_ONLY") == "1" {
        Vec::new()
    } else {
        extras::measure_extras(&mut systems, &load).await
    };
    let memory_documents: Vec<Value> = systems.iter().map(SystemUnderTest::memory).collect();
    report::print_memory(&systems);

    let report_document = json!({
        "machine": report::machine_description(),
        "seconds": run_seconds,
        "rounds": round_count,
        "closed_loop": closed_loop_figures.iter().map(|(kind, connections, figures)| {
            figures.to_json(*kind, *connections)
        }).collect::<Vec<_>>(),
        "open_loop": {
            "rate": request_rate,
            "results": open_loop_figures.iter().map(|(kind, figures)| figures.to_json(*kind, 64)).collect::<Vec<_>>(),
        },
        "more": extras,
        "memory": memory_documents,
    });
    let output_folder = PathBuf::from(setting("BENCH_OUTPUT"));
    fs::create_dir_all(&output_folder).unwrap();
    fs::write(
        output_folder.join("bench.json"),
        serde_json::to_string_pretty(&report_document).unwrap() + "\n",
    )
    .unwrap();
    fs::write(
        output_folder.join("bench.svg"),
        plot::svg(&closed_loop_figures),
    )
    .unwrap();
    println!(
        "\nwrote {0}/bench.json and {0}/bench.svg",
        output_folder.display()
    );

    let mut is_consistent = true;
    for system in &systems {
        is_consistent &= system.verify_succeeds();
    }
    assert!(is_consistent, "order-worker verify found inconsistencies");
}
