//! Throughput by number of workers: processes that decide as fast as possible on one PostgreSQL database, with
//! many products or with a single one.

use std::{
    env,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use order_worker::{
    background::relay::new_outbox, cli::verify::verify, engine::Engine, store::Store,
};
use serde_json::json;

use crate::{
    sample_database::{
        SKU_COUNT, SampleDatabase, command, commit, create_customers, default_rules,
    },
    setting,
};

/// Duration of each measurement.
const RUN_SECONDS: u64 = 5;
/// Number of concurrent requests per worker.
const REQUESTS_PER_WORKER: usize = 64;
/// Units of the popular product.
const POPULAR_UNITS: i64 = 3_000;

/// Runs a worker: creates orders until the time is up or the product is sold out, and prints their number.
pub(crate) async fn run_worker(database_url: &str) {
    let store = Store::open(database_url, None).await.unwrap();
    let (outbox, _relay) = new_outbox();
    let engine = Engine::start(store.clone(), default_rules(), outbox).unwrap();
    let customer_id = create_customers(&store, 1).await[0];
    let sku = setting("SCALE_SKU");
    let (sold_count, next_number) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let deadline = Instant::now() + Duration::from_secs(RUN_SECONDS);
    let mut buyers = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS_PER_WORKER {
        let (engine, sold_units, next_order_number) = (
            engine.clone(),
            Arc::clone(&sold_count),
            Arc::clone(&next_number),
        );
        let sku = sku.clone();
        buyers.spawn(async move {
            while Instant::now() < deadline {
                let order_number = next_order_number.fetch_add(1, Ordering::Relaxed);
                let other_sku = format!("S{}", order_number % SKU_COUNT);
                let sku = sku.as_deref().unwrap_or(&other_sku);
                let new_order = json!({
                    "customer_id": customer_id, "items": [{"sku": sku, "quantity": 1}],
                });
                let reply = engine
                    .decide(command("order.create", new_order), None)
                    .await;
                if reply.unwrap().outcome.is_err() {
                    return;
                }
                sold_units.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while buyers.join_next().await.is_some() {}
    println!("{}", sold_count.load(Ordering::Relaxed));
}

/// Starts this many workers as processes and returns the number of orders they created.
fn run_workers(database_url: &str, worker_count: usize, sku: Option<&str>) -> usize {
    let worker_processes: Vec<_> = (0..worker_count)
        .map(|_| {
            let mut worker_command = Command::new(env::current_exe().unwrap());
            worker_command
                .env("SCALE_WORKER", database_url)
                .stdout(Stdio::piped());
            if let Some(sku) = sku {
                worker_command.env("SCALE_SKU", sku);
            }
            worker_command.spawn().unwrap()
        })
        .collect();
    let sold_counts = worker_processes.into_iter().map(|worker_process| {
        let worker_output = worker_process.wait_with_output().unwrap();
        assert!(worker_output.status.success(), "a worker failed");
        let output_text = String::from_utf8(worker_output.stdout).unwrap();
        output_text.trim().parse::<usize>().unwrap()
    });
    sold_counts.sum()
}

pub(crate) async fn compare_worker_counts(database_url: &str) {
    let store = Store::open(database_url, None).await.unwrap();
    drop(SampleDatabase::open(store.clone()).await);
    println!("\n| PostgreSQL: orders per second | many products | a single product |");
    println!("|---|---|---|");
    for worker_count in [1, 2, 4] {
        let many_products_rate = run_workers(database_url, worker_count, None) as u64 / RUN_SECONDS;
        let single_product_rate =
            run_workers(database_url, worker_count, Some("S0")) as u64 / RUN_SECONDS;
        println!("| {worker_count} workers | {many_products_rate} | {single_product_rate} |");
    }
    // All workers sell the last units.
    create_popular_product(&store).await;
    let sold_count = run_workers(database_url, 4, Some("HOT"));
    let popular_product = store
        .product(&"HOT".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    let stock_level = popular_product.1.values().next().unwrap();
    println!(
        "\n4 workers, {POPULAR_UNITS} units: {sold_count} sold, {} reserved",
        stock_level.reserved
    );
    assert_eq!(
        (sold_count, stock_level.reserved),
        (3_000, POPULAR_UNITS),
        "each unit is sold once"
    );
    // No worker executes the steps, so they become overdue.
    let report = verify(database_url).await.unwrap();
    let unexpected_findings: Vec<_> = report
        .violations
        .iter()
        .filter(|violation| !violation.contains("overdue"))
        .collect();
    assert!(unexpected_findings.is_empty(), "{unexpected_findings:?}");
    store.close().await;
}

async fn create_popular_product(store: &Store) {
    let product = json!({"sku": "HOT", "name": "HOT", "price": 1000, "currency": "EUR"});
    let stock_level = json!({"sku": "HOT", "warehouse": "main", "on_hand": POPULAR_UNITS});
    commit(store, &[command("product.create", product)]).await;
    commit(store, &[command("stock.set", stock_level)]).await;
}
