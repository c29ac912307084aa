//! The report, in Markdown for docs/.

use std::{fs, time::Duration};

use crate::{
    load::Figures,
    system::{Kind, SystemUnderTest},
};

pub(crate) fn heading() {
    println!(
        "| connections | system | requests/s | p50 ms | p99 ms | not 2xx | CPU ms per 1,000 requests: gateway, worker, broker, database, load |"
    );
    println!("|---|---|---|---|---|---|---|");
}

pub(crate) fn line(kind: Kind, connections: usize, figures: &Figures) {
    let cpu: Vec<String> = figures
        .cpu_ms
        .iter()
        .map(|(_, ms)| format!("{ms:.0}"))
        .collect();
    println!(
        "| {connections} | {} | {:.0} | {:.2} | {:.2} | {} | {} |",
        kind.title(),
        figures.rate,
        figures.p50_ms,
        figures.p99_ms,
        figures.failed,
        cpu.join(", "),
    );
}

pub(crate) fn caught_up(kind: Kind, after: Option<Duration>) {
    if let Some(after) = after {
        let seconds = after.as_secs_f64();
        eprintln!(
            "  {}: all payments processed after {seconds:.1} s",
            kind.name()
        );
    }
}

/// Ratios of this system to the echo baseline.
pub(crate) fn ratios(closed: &[(Kind, usize, Figures)]) {
    let of = |kind: Kind, connections: usize| {
        let mut all = closed.iter();
        all.find(|(this, at, _)| *this == kind && *at == connections)
            .map(|(_, _, figures)| figures)
    };
    println!(
        "\n| relative to echo | connections | throughput | p50 | p99 |\n|---|---|---|---|---|"
    );
    for (kind, connections, figures) in closed.iter().filter(|(kind, ..)| kind.is_ours()) {
        if let Some(echo) = of(Kind::Echo, *connections) {
            println!(
                "| {} | {connections} | {:.2}× | {:.2}× | {:.2}× |",
                kind.title(),
                figures.rate / echo.rate,
                figures.p50_ms / echo.p50_ms,
                figures.p99_ms / echo.p99_ms,
            );
        }
    }
}

pub(crate) fn memory(systems: &[SystemUnderTest]) {
    println!("\n| peak memory, MiB | gateway | worker |\n|---|---|---|");
    for system in systems {
        let [(_, gateway), (_, worker), ..] = system.usage();
        println!(
            "| {} | {:.0} | {:.0} |",
            system.kind.title(),
            gateway.peak_mib,
            worker.peak_mib
        );
    }
}

/// The machine that the benchmark ran on.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, {model}")
}
