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

use std::env;

use order_worker::{cli::verify::verify, store::Store};

use self::{
    figures::{Figures, print_figures},
    sample_database::SampleDatabase,
};

fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::main]
async fn main() {
    // This process was started as a worker by `workers::run_workers`.
    if let Some(url) = setting("SCALE_WORKER") {
        return workers::run_worker(&url).await;
    }
    let orders: usize = setting("SCALE_ORDERS").map_or(1_000_000, |text| text.parse().unwrap());
    for (name, url) in [
        ("SQLite", setting("SCALE_SQLITE")),
        ("PostgreSQL", setting("SCALE_POSTGRES")),
    ] {
        let Some(url) = url else { continue };
        let figures_of_few = measure_with_orders(&url, 1_000).await;
        let figures_of_many = measure_with_orders(&url, orders).await;
        print_figures(name, &[figures_of_few, figures_of_many]);
    }
    if let Some(url) = setting("SCALE_POSTGRES_WORKERS") {
        workers::compare_worker_counts(&url).await;
    }
}

/// Fills the database up to `orders` orders, and measures.
async fn measure_with_orders(url: &str, orders: usize) -> Figures {
    let store = Store::open(url, None).await.unwrap();
    let mut sample_database = SampleDatabase::open(store.clone()).await;
    sample_database.fill(orders).await;
    sample_database::vacuum(url).await;
    let mut figures = Figures::measure_operations(&store, &sample_database, orders).await;
    sample_database.fill_ledger(url).await;
    let started_at = std::time::Instant::now();
    let report = verify(url).await.unwrap();
    figures.verify = started_at.elapsed();
    figures.orders = usize::try_from(report.orders).unwrap();
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    drop(sample_database);
    store.close().await;
    figures
}
