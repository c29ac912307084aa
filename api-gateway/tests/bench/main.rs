//! Benchmarks of this system on SQLite and on PostgreSQL next to conventional designs, on the same machine and
//! broker in the same run. Run by `scripts/bench.sh`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people; a run that can't go on ends by panicking"
)]

mod contestant;
mod extras;
mod load;
mod plot;
mod report;

use std::{env, fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::{
    contestant::{Contestant, Kind, SKUS},
    load::{Figures, Load},
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
    let mut contestants = Vec::new();
    for kind in kinds {
        contestants.push(Contestant::start(kind).await);
    }

    let mut closed: Vec<(Kind, usize, Figures)> = Vec::new();
    println!("\nPOST /v1/orders, closed loop, {seconds} s each\n");
    report::heading();
    for connections in CONNECTIONS {
        for contestant in &contestants {
            let figures = load.closed(contestant, connections, SKUS);
            report::line(contestant.kind, connections, &figures);
            closed.push((contestant.kind, connections, figures));
            let caught_up = contestant.quiet().await;
            report::caught_up(contestant.kind, caught_up);
        }
    }
    report::ratios(&closed);

    let rate: u64 = setting("BENCH_RATE").parse().unwrap();
    println!("\nPOST /v1/orders, {rate} a second whatever the answers (open loop)\n");
    report::heading();
    let mut open = Vec::new();
    for contestant in &contestants {
        let figures = load.open(contestant, rate);
        report::line(contestant.kind, 64, &figures);
        open.push((contestant.kind, figures));
        contestant.quiet().await;
    }

    let extras = extras::measure(&mut contestants, &load).await;
    let memory: Vec<Value> = contestants.iter().map(Contestant::memory).collect();
    report::memory(&contestants);

    let document = json!({
        "machine": report::machine(),
        "seconds": seconds,
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
    for contestant in &contestants {
        is_right &= contestant.verified();
    }
    assert!(is_right, "order-worker verify found something");
}
