//! The report, in Markdown for docs/.

use std::{fs, time::Duration};

use crate::{
    load::Figures,
    system::{SystemKind, SystemUnderTest},
};

pub(crate) fn print_heading() {
    println!(
        "| connections | system | requests/s | p50 ms | p99 ms | not 2xx | CPU ms per 1,000 requests: gateway, worker, broker, database, load |"
    );
    println!("|---|---|---|---|---|---|---|");
}

pub(crate) fn print_line(kind: SystemKind, connections: usize, figures: &Figures) {
    let cpu_texts: Vec<String> = figures
        .cpu_ms_per_thousand_requests
        .iter()
        .map(|(_, ms)| format!("{ms:.0}"))
        .collect();
    println!(
        "| {connections} | {} | {:.0} | {:.2} | {:.2} | {} | {} |",
        kind.title(),
        figures.rate,
        figures.p50_ms,
        figures.p99_ms,
        figures.failed_count,
        cpu_texts.join(", "),
    );
}

pub(crate) fn print_catch_up(kind: SystemKind, catch_up_time: Option<Duration>) {
    if let Some(catch_up_time) = catch_up_time {
        let seconds = catch_up_time.as_secs_f64();
        eprintln!(
            "  {}: all payments processed after {seconds:.1} s",
            kind.name()
        );
    }
}

/// Ratios of this system to the echo baseline, to the version before and to the classic request queue.
pub(crate) fn print_ratios(measurements: &[(SystemKind, usize, Figures)]) {
    type FindPeer = fn(SystemKind) -> Option<SystemKind>;
    let peers: [(&str, FindPeer); 3] = [
        ("echo", |_| Some(SystemKind::Echo)),
        ("the version before", SystemKind::counterpart_before),
        ("the classic request queue", |kind| {
            (kind == SystemKind::SqliteQuorum).then_some(SystemKind::Sqlite)
        }),
    ];
    for (peer_title, find_peer) in peers {
        let mut ratio_rows = measurements
            .iter()
            .filter(|(kind, ..)| kind.is_ours())
            .filter_map(|(kind, connections, figures)| {
                let peer = find_peer(*kind)?;
                let (.., peer_figures) =
                    measurements
                        .iter()
                        .find(|(measured_peer, measured_connections, _)| {
                            *measured_peer == peer && measured_connections == connections
                        })?;
                Some((kind, connections, figures, peer_figures))
            })
            .peekable();
        if ratio_rows.peek().is_some() {
            println!(
                "\n| relative to {peer_title} | connections | throughput | p50 | p99 |\n|---|---|---|---|---|"
            );
        }
        for (kind, connections, figures, peer_figures) in ratio_rows {
            println!(
                "| {} | {connections} | {:.2}× | {:.2}× | {:.2}× |",
                kind.title(),
                figures.rate / peer_figures.rate,
                figures.p50_ms / peer_figures.p50_ms,
                figures.p99_ms / peer_figures.p99_ms,
            );
        }
    }
}

pub(crate) fn print_memory(systems: &[SystemUnderTest]) {
    println!("\n| peak memory, MiB | gateway | worker |\n|---|---|---|");
    for system in systems {
        let [(_, gateway_usage), (_, worker_usage), ..] = system.usage();
        println!(
            "| {} | {:.0} | {:.0} |",
            system.kind.title(),
            gateway_usage.peak_mib,
            worker_usage.peak_mib
        );
    }
}

/// The machine that the benchmark ran on.
pub(crate) fn machine_description() -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu_model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = cpu_model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let core_count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{core_count} cores, {model}")
}
