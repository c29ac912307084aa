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
    system::{Kind, SKUS, SystemUnderTest},
};

/// Numbers of connections of the closed loop.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

/// An environment variable set by `scripts/bench.sh`.
pub(crate) fn setting(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: use scripts/bench.sh"))
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Runtime::new().unwrap().block_on(run());
}

async fn run() {
    let seconds: u64 = setting("BENCH_SECONDS").parse().unwrap();
    let load = Load::new(Duration::from_secs(seconds));
    let wanted = setting("BENCH_ONLY");
    let kinds = Kind::ALL.into_iter().filter(|kind| {
        wanted.is_empty() || wanted.split_whitespace().any(|name| name == kind.name())
    });
    let mut systems = Vec::new();
    for kind in kinds {
        systems.push(SystemUnderTest::start(kind).await);
    }

    let rounds: usize = setting("BENCH_ROUNDS").parse().unwrap();
    let mut closed: Vec<(Kind, usize, Figures)> = Vec::new();
    println!("\nPOST /v1/orders, closed loop, {seconds} s each, median of {rounds}\n");
    report::heading();
    for connections in CONNECTIONS {
        let mut measured = vec![Vec::new(); systems.len()];
        for _ in 0..rounds {
            for (system, measured) in systems.iter().zip(&mut measured) {
                measured.push(load.closed(system, connections, SKUS));
                let caught_up = system.wait_until_idle().await;
                report::caught_up(system.kind, caught_up);
            }
        }
        for (system, measured) in systems.iter().zip(measured) {
            let figures = Figures::median(measured);
            report::line(system.kind, connections, &figures);
            closed.push((system.kind, connections, figures));
        }
    }
    report::ratios(&closed);

    let rate: u64 = setting("BENCH_RATE").parse().unwrap();
    println!("\nPOST /v1/orders, {rate} requests per second at a fixed rate (open loop)\n");
    report::heading();
    let mut measured = vec![Vec::new(); systems.len()];
    for _ in 0..rounds {
        for (system, measured) in systems.iter().zip(&mut measured) {
            measured.push(load.open(system, rate));
            system.wait_until_idle().await;
        }
    }
    let mut open = Vec::new();
    for (system, measured) in systems.iter().zip(measured) {
        let figures = Figures::median(measured);
        report::line(system.kind, 64, &figures);
        open.push((system.kind, figures));
    }

    let extras = extras::measure(&mut systems, &load).await;
    let memory: Vec<Value> = systems.iter().map(SystemUnderTest::memory).collect();
    report::memory(&systems);

    let document = json!({
        "machine": report::machine(),
        "seconds": seconds,
        "rounds": rounds,
        "closed_loop": closed.iter().map(|(kind, connections, figures)| {
            figures.document(*kind, *connections)
        }).collect::<Vec<_>>(),
        "open_loop": {
            "rate": rate,
            "results": open.iter().map(|(kind, figures)| figures.document(*kind, 64)).collect::<Vec<_>>(),
        },
        "more": extras,
        "memory": memory,
    });
    let folder = PathBuf::from(setting("BENCH_OUTPUT"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("bench.json"),
        serde_json::to_string_pretty(&document).unwrap() + "\n",
    )
    .unwrap();
    fs::write(folder.join("bench.svg"), plot::svg(&closed)).unwrap();
    println!("\nwrote {0}/bench.json and {0}/bench.svg", folder.display());

    let mut is_right = true;
    for system in &systems {
        is_right &= system.verified();
    }
    assert!(is_right, "order-worker verify found inconsistencies");
}
