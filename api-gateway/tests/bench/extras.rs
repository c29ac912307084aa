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
    system::{SKUS, SystemUnderTest, wait},
};

/// Number of webhooks, each for another order.
const WEBHOOKS: usize = 2_000;
/// Number of concurrent senders.
const SHIPPERS: usize = 32;

pub(crate) async fn measure(systems: &mut [SystemUnderTest], load: &Load) -> Vec<Value> {
    println!("\n| | per second | p50 ms | p99 ms |\n|---|---|---|---|");
    let mut documents = Vec::new();
    for system in systems.iter().filter(|system| system.kind.is_ours()) {
        let name = system.kind.name();
        let mut note = |what: &str, rate: f64, p50_ms: f64, p99_ms: f64| {
            let shown = |figure: f64, digits: usize| {
                if figure.is_nan() {
                    String::new()
                } else {
                    format!("{figure:.digits$}")
                }
            };
            println!(
                "| {name}: {what} | {} | {} | {} |",
                shown(rate, 0),
                shown(p50_ms, 2),
                shown(p99_ms, 2)
            );
            documents.push(json!({
                "system": name, "what": what, "per_second": rate.round(),
                "p50_ms": p50_ms, "p99_ms": p99_ms,
            }));
        };
        let paths = newest_order_paths(system).await;
        for (connections, what) in [
            (1, "GET an order, 1 connection"),
            (64, "GET an order, 64 connections"),
            (256, "GET an order, 256 connections"),
        ] {
            let read = load.get_any(system, &paths, connections);
            note(what, read.rate, read.p50_ms, read.p99_ms);
        }
        let list = load.get(system, "/v1/orders?limit=50", 16);
        note(
            "GET a page of 50, 16 connections",
            list.rate,
            list.p50_ms,
            list.p99_ms,
        );
        let spread = load.closed(system, 64, SKUS);
        system.wait_until_idle().await;
        let hot = load.closed(system, 64, 1);
        system.wait_until_idle().await;
        note(
            "orders of 100 products, 64 connections",
            spread.rate,
            spread.p50_ms,
            spread.p99_ms,
        );
        note(
            "orders of one product, 64 connections",
            hot.rate,
            hot.p50_ms,
            hot.p99_ms,
        );

        let began = Instant::now();
        let flow = load.closed(system, 64, SKUS);
        let order_count = flow.rate * load.time.as_secs_f64();
        let accepted = began.elapsed();
        let behind = system.wait_until_idle().await.unwrap_or_default();
        for (what, took) in [
            (
                "order flow, until all orders are processing",
                accepted + behind,
            ),
            ("order flow, until the worker is idle", began.elapsed()),
        ] {
            note(what, order_count / took.as_secs_f64(), f64::NAN, f64::NAN);
        }

        let (rate, mut latencies) = webhooks(system).await;
        latencies.sort_by(f64::total_cmp);
        let at = |part: f64| latencies[(latencies.len() as f64 * part) as usize % latencies.len()];
        note("shipper webhooks, 32 concurrent", rate, at(0.5), at(0.99));
        note(
            "startup until ready (ms, in the p50 column)",
            f64::NAN,
            system.startup.as_secs_f64() * 1000.0,
            f64::NAN,
        );
    }
    documents
}

/// The paths of the newest orders.
async fn newest_order_paths(system: &SystemUnderTest) -> Vec<String> {
    let orders = system.get("/v1/orders?limit=200").await;
    let orders = orders["data"].as_array().unwrap().iter();
    orders
        .map(|order| format!("/v1/orders/{}", order["id"].as_str().unwrap()))
        .collect()
}

/// Webhooks per second, and the latency of each in milliseconds.
async fn webhooks(to: &SystemUnderTest) -> (f64, Vec<f64>) {
    let mut ids: Vec<String> = Vec::new();
    let mut path = "/v1/orders?limit=200&status=processing".to_owned();
    wait("orders ready to be shipped", async || {
        let page = to.get(&path).await;
        let orders = page["data"].as_array().unwrap();
        let announced = orders
            .iter()
            .filter(|order| order["shipments"] != json!([]));
        ids.extend(announced.map(|order| order["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => {
                path = format!("/v1/orders?limit=200&status=processing&cursor={cursor}");
            }
            None => return true,
        }
        ids.len() >= WEBHOOKS
    })
    .await;
    let (ids, next) = (Arc::new(ids), Arc::new(AtomicUsize::new(0)));
    let webhook = Arc::new(Webhook::new(&setting("SHIPPER_WEBHOOK_SECRET")).unwrap());
    let began = Instant::now();
    let mut shippers = tokio::task::JoinSet::new();
    for _ in 0..SHIPPERS {
        let (ids, next, webhook) = (Arc::clone(&ids), Arc::clone(&next), Arc::clone(&webhook));
        let (client, url) = (to.client.clone(), format!("{}/webhooks/shipper", to.base));
        shippers.spawn(async move {
            let mut latencies = Vec::new();
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                let body = json!({
                    "type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z",
                    "data": {"order_id": id, "carrier": "DHL"},
                })
                .to_string();
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_secs();
                let now = i64::try_from(now).unwrap();
                let signature = webhook.sign(id, now, body.as_bytes()).unwrap();
                let sent = Instant::now();
                let answer = client
                    .post(&url)
                    .header("webhook-id", id)
                    .header("webhook-timestamp", now.to_string())
                    .header("webhook-signature", signature)
                    .body(body)
                    .send()
                    .await
                    .unwrap();
                assert_eq!(answer.status(), 200);
                latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
            latencies
        });
    }
    let mut latencies = Vec::new();
    while let Some(more) = shippers.join_next().await {
        latencies.extend(more.unwrap());
    }
    (
        latencies.len() as f64 / began.elapsed().as_secs_f64(),
        latencies,
    )
}
