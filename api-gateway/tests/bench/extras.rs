//! Additional benchmarks: reads, orders of one popular product, the whole order flow, and webhooks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    load::Load,
    setting,
    system::{SKU_COUNT, SystemUnderTest, wait_until},
};

/// Number of webhooks, each for another order.
const WEBHOOK_COUNT: usize = 2_000;
/// Number of concurrent senders.
const SENDER_COUNT: usize = 32;

pub(crate) async fn measure_extras(systems: &mut [SystemUnderTest], load: &Load) -> Vec<Value> {
    println!("\n| | per second | p50 ms | p99 ms |\n|---|---|---|---|");
    let mut result_documents = Vec::new();
    for system in systems.iter().filter(|system| system.kind.is_ours()) {
        let system_name = system.kind.name();
        let mut add_row = |label: &str, rate: f64, p50_ms: f64, p99_ms: f64| {
            let format_figure = |figure: f64, digits: usize| {
                if figure.is_nan() {
                    String::new()
                } else {
                    format!("{figure:.digits$}")
                }
            };
            println!(
                "| {system_name}: {label} | {} | {} | {} |",
                format_figure(rate, 0),
                format_figure(p50_ms, 2),
                format_figure(p99_ms, 2)
            );
            result_documents.push(json!({
                "system": system_name, "what": label, "per_second": rate.round(),
                "p50_ms": p50_ms, "p99_ms": p99_ms,
            }));
        };
        let order_paths = newest_order_paths(system).await;
        for (connections, description) in [
            (1, "GET an order, 1 connection"),
            (64, "GET an order, 64 connections"),
            (256, "GET an order, 256 connections"),
        ] {
            let read_figures = load.get_random_paths(system, &order_paths, connections);
            add_row(
                description,
                read_figures.rate,
                read_figures.p50_ms,
                read_figures.p99_ms,
            );
        }
        let list_figures = load.get_path(system, "/v1/orders?limit=50", 16);
        add_row(
            "GET a page of 50, 16 connections",
            list_figures.rate,
            list_figures.p50_ms,
            list_figures.p99_ms,
        );
        let spread_figures = load.closed_loop(system, 64, SKU_COUNT);
        system.wait_until_idle().await;
        let popular_figures = load.closed_loop(system, 64, 1);
        system.wait_until_idle().await;
        add_row(
            "orders of 100 products, 64 connections",
            spread_figures.rate,
            spread_figures.p50_ms,
            spread_figures.p99_ms,
        );
        add_row(
            "orders of one product, 64 connections",
            popular_figures.rate,
            popular_figures.p50_ms,
            popular_figures.p99_ms,
        );

        let started_at = Instant::now();
        let flow_figures = load.closed_loop(system, 64, SKU_COUNT);
        let order_count = flow_figures.rate * load.run_time.as_secs_f64();
        let acceptance_time = started_at.elapsed();
        let catch_up_time = system.wait_until_idle().await.unwrap_or_default();
        for (description, flow_duration) in [
            (
                "order flow, until all orders are processing",
                acceptance_time + catch_up_time,
            ),
            ("order flow, until the worker is idle", started_at.elapsed()),
        ] {
            add_row(
                description,
                order_count / flow_duration.as_secs_f64(),
                f64::NAN,
                f64::NAN,
            );
        }

        let (rate, mut latencies) = measure_webhooks(system).await;
        latencies.sort_by(f64::total_cmp);
        let percentile = |quantile: f64| {
            latencies[(latencies.len() as f64 * quantile) as usize % latencies.len()]
        };
        add_row(
            "shipper webhooks, 32 concurrent",
            rate,
            percentile(0.5),
            percentile(0.99),
        );
        add_row(
            "startup until ready (ms, in the p50 column)",
            f64::NAN,
            system.startup_time.as_secs_f64() * 1000.0,
            f64::NAN,
        );
    }
    result_documents
}

/// The paths of the newest orders.
async fn newest_order_paths(system: &SystemUnderTest) -> Vec<String> {
    let order_page = system.get("/v1/orders?limit=200").await;
    let orders = order_page["data"].as_array().unwrap().iter();
    orders
        .map(|order| format!("/v1/orders/{}", order["id"].as_str().unwrap()))
        .collect()
}

/// Webhooks per second, and the latency of each in milliseconds.
async fn measure_webhooks(system: &SystemUnderTest) -> (f64, Vec<f64>) {
    let mut order_ids: Vec<String> = Vec::new();
    let mut page_path = "/v1/orders?limit=200&status=processing".to_owned();
    wait_until("orders ready to be shipped", async || {
        let page = system.get(&page_path).await;
        let orders = page["data"].as_array().unwrap();
        let orders_with_shipments = orders
            .iter()
            .filter(|order| order["shipments"] != json!([]));
        order_ids
            .extend(orders_with_shipments.map(|order| order["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => {
                page_path = format!("/v1/orders?limit=200&status=processing&cursor={cursor}");
            }
            None => return true,
        }
        order_ids.len() >= WEBHOOK_COUNT
    })
    .await;
    let (order_ids, next_order_index) = (Arc::new(order_ids), Arc::new(AtomicUsize::new(0)));
    let webhook_signer = Arc::new(Webhook::new(&setting("SHIPPER_WEBHOOK_SECRET")).unwrap());
    let started_at = Instant::now();
    let mut shipper_tasks = tokio::task::JoinSet::new();
    for _ in 0..SENDER_COUNT {
        let (order_ids, next_order_index, webhook_signer) = (
            Arc::clone(&order_ids),
            Arc::clone(&next_order_index),
            Arc::clone(&webhook_signer),
        );
        let (client, url) = (
            system.client.clone(),
            format!("{}/webhooks/shipper", system.base_url),
        );
        shipper_tasks.spawn(async move {
            let mut latencies = Vec::new();
            while let Some(order_id) =
                order_ids.get(next_order_index.fetch_add(1, Ordering::Relaxed))
            {
                let webhook_body = json!({
                    "type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z",
                    "data": {"order_id": order_id, "carrier": "DHL"},
                })
                .to_string();
                let now_seconds = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_secs();
                let now_seconds = i64::try_from(now_seconds).unwrap();
                let signature = webhook_signer
                    .sign(order_id, now_seconds, webhook_body.as_bytes())
                    .unwrap();
                let sent_at = Instant::now();
                let response = client
                    .post(&url)
                    .header("webhook-id", order_id)
                    .header("webhook-timestamp", now_seconds.to_string())
                    .header("webhook-signature", signature)
                    .body(webhook_body)
                    .send()
                    .await
                    .unwrap();
                assert_eq!(response.status(), 200);
                latencies.push(sent_at.elapsed().as_secs_f64() * 1000.0);
            }
            latencies
        });
    }
    let mut latencies = Vec::new();
    while let Some(task_latencies) = shipper_tasks.join_next().await {
        latencies.extend(task_latencies.unwrap());
    }
    (
        latencies.len() as f64 / started_at.elapsed().as_secs_f64(),
        latencies,
    )
}
