//! Scalability: latencies with a million orders, and throughput with several workers, for docs/OPERATIONS.md.
//! Run by `scripts/scale.sh`, with the store and the engine only.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::too_many_lines,
    reason = "prints results; a run that can't continue panics"
)]

mod figures;
mod sample_database;
mod workers;

use std::{env, fs, time::Instant};

use order_worker::{cli::verify::verify, store::Store};

use self::{
    figures::{Figures, print_figures},
    sample_database::SampleDatabase,
};

fn setting(variable_name: &str) -> Option<String> {
    env::var(variable_name)
        .ok()
        .filter(|setting_value| !setting_value.is_empty())
}

/// The most memory that this process has used.
fn peak_memory_kib() -> u64 {
    let process_status = fs::read_to_string("/proc/self/status").unwrap();
    let mut peak_lines = process_status
        .lines()
        .filter_map(|line| line.strip_prefix("VmHWM:"));
    let peak_text = peak_lines.next().unwrap().trim();
    peak_text.trim_end_matches(" kB").parse().unwrap()
}

#[tokio::main]
async fn main() {
    // This process was started as a worker by `workers::run_workers`.
    if let Some(database_url) = setting("SCALE_WORKER") {
        return workers::run_worker(&database_url).await;
    }
    let order_count: usize =
        setting("SCALE_ORDERS").map_or(1_000_000, |count_text| count_text.parse().unwrap());
    for (store_name, database_url) in [
        ("SQLite", setting("SCALE_SQLITE")),
        ("PostgreSQL", setting("SCALE_POSTGRES")),
    ] {
        let Some(database_url) = database_url else {
            continue;
        };
        let mut order_counts = vec![1_000, 1_000_000, order_count];
        order_counts.retain(|count| *count <= order_count);
        order_counts.dedup();
        let mut figures_by_size = Vec::new();
        for count in order_counts {
            let figures = Box::pin(measure_with_orders(&database_url, count)).await;
            figures_by_size.extend(figures);
            print_figures(store_name, &figures_by_size);
        }
    }
    if let Some(database_url) = setting("SCALE_POSTGRES_WORKERS") {
        workers::compare_worker_counts(&database_url).await;
    }
}

/// Fills the database up to `order_count` orders, and measures. Returns `None` if it has more orders, from an earlier
/// run.
async fn measure_with_orders(database_url: &str, order_count: usize) -> Option<Figures> {
    let store = Store::open(database_url, None).await.unwrap();
    let mut sample_database = SampleDatabase::open(store.clone()).await;
    if sample_database.order_count > order_count {
        return None;
    }
    let orders_per_second = sample_database.fill(order_count).await;
    sample_database::mark_events_as_read(database_url).await;
    sample_database::vacuum(database_url).await;
    let measured_figures = Figures::measure_operations(&store, &sample_database, order_count);
    let mut figures = Box::pin(measured_figures).await;
    figures.orders_per_second = orders_per_second;
    figures.database_bytes = sample_database::size_on_disk(database_url).await;
    if setting("SCALE_NO_VERIFY").is_none() {
        sample_database.fill_ledger(database_url).await;
        let started_at = Instant::now();
        let report = verify(database_url).await.unwrap();
        figures.verify_duration = Some(started_at.elapsed());
        let first_violations: Vec<_> = report.violations.iter().take(10).collect();
        assert!(first_violations.is_empty(), "{first_violations:?}");
    }
    figures.peak_memory_kib = peak_memory_kib();
    drop(sample_database);
    store.close().await;
    Some(figures)
}
