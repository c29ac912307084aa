//! A system for races: two gateways and, on PostgreSQL, two workers, with many orders that are prepared alike.

use std::{env, time::Duration};

use futures_util::{StreamExt, stream};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::{
    harness::{
        Process, Reply, System, WORKER, has_shipping_label, order_body_with_method, send,
        wait_until,
    },
    races::Random,
};

use super::settled_order::SettledOrder;

/// Price of each unit, in minor units.
pub(super) const PRICE: i64 = 1_000;
/// Units on hand of each product at the start.
const STOCK: i64 = 100_000;
/// Number of races of each kind, unless `TEST_RACES` sets it.
const DEFAULT_RACE_COUNT: u64 = 200;
/// Number of orders whose requests are in flight at the same time.
const CONCURRENCY: usize = 64;
/// Bounds of the time between two competing requests: mostly they arrive together, sometimes the first one's steps
/// are in progress or done when the second one arrives.
const MAX_OFFSETS_MS: [usize; 4] = [6, 6, 6, 200];

pub(super) struct RaceShop {
    pub(super) system: System,
    second_gateway_url: String,
    _second_gateway: Process,
    _second_worker: Option<Process>,
    customer_id: String,
    seed: u64,
}

/// An order before its race.
pub(super) struct PreparedOrder {
    pub(super) id: String,
    /// Id of the shipment that its label is for.
    pub(super) shipment_id: String,
    /// The random numbers of its race.
    pub(super) random: Random,
}

fn number_from_environment(variable_name: &str) -> Option<u64> {
    let value_text = env::var(variable_name).ok()?;
    Some(value_text.parse().unwrap_or_else(|_| {
        panic!("{variable_name} is {value_text:?}, but must be a number");
    }))
}

impl RaceShop {
    /// Starts the system with stock of the products A and B, in a warehouse each.
    pub(super) async fn start() -> Self {
        let seed = number_from_environment("TEST_SEED")
            .unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        eprintln!("seed of the races: {seed}; TEST_SEED={seed} repeats their random choices");
        let system = System::start().await;
        // Only PostgreSQL admits a second worker.
        let second_worker =
            (!system.store.is_sqlite()).then(|| system.start_additional_worker(WORKER));
        if let Some(worker) = &second_worker {
            wait_until("the second worker to be ready", async || {
                worker.find_logged_field("health", 0).is_some()
            })
            .await;
        }
        let (second_gateway, second_gateway_url) = system.start_additional_gateway().await;
        system
            .create_product_with_stock("A", &[("main", STOCK)])
            .await;
        system
            .create_product_with_stock("B", &[("west", STOCK)])
            .await;
        let customer_id = system.create_customer().await;
        Self {
            system,
            second_gateway_url,
            _second_gateway: second_gateway,
            _second_worker: second_worker,
            customer_id,
            seed,
        }
    }

    /// Places the orders of all races, with this quantity of A, and waits until each has its label.
    pub(super) async fn prepare_orders(&self, quantity: u32) -> Vec<PreparedOrder> {
        let race_count = number_from_environment("TEST_RACES").unwrap_or(DEFAULT_RACE_COUNT);
        let created_ids: Vec<_> = stream::iter(0..race_count)
            .map(|order_index| async move {
                let new_order = order_body_with_method(&self.customer_id, "A", quantity, "pm_ok");
                let created_order = self.system.post("/v1/orders", new_order).await.expect(201);
                (
                    order_index,
                    created_order["id"].as_str().unwrap().to_owned(),
                )
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let prepare_tasks = created_ids.into_iter().map(|(order_index, id)| async move {
            let is_prepared =
                |order: &Value| has_shipping_label(order) && order["in_progress"].is_null();
            let order = self
                .system
                .wait_for_order(&id, "prepared", is_prepared)
                .await;
            PreparedOrder {
                shipment_id: order["shipments"][0]["id"].as_str().unwrap().to_owned(),
                random: Random(self.seed.wrapping_add(order_index << 32)),
                id,
            }
        });
        stream::iter(prepare_tasks)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await
    }

    /// As [`Self::prepare_orders`]; then all orders are shipped and captured.
    pub(super) async fn prepare_shipped_orders(&self, quantity: u32) -> Vec<PreparedOrder> {
        let prepared_orders = self.prepare_orders(quantity).await;
        let shipped_orders = self
            .run_races(prepared_orders, async |order| {
                let path = format!("/v1/orders/{}/shipments", order.id);
                self.system.post(&path, json!({})).await.expect(201);
            })
            .await;
        let captured_orders = shipped_orders.into_iter().map(|(order, ())| async move {
            let is_captured = |order_json: &Value| {
                order_json["payment"]["status"] == "captured" && order_json["in_progress"].is_null()
            };
            self.system
                .wait_for_order(&order.id, "captured", is_captured)
                .await;
            order
        });
        stream::iter(captured_orders)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await
    }

    /// Runs `race` for each order, many at the same time.
    pub(super) async fn run_races<Replies>(
        &self,
        orders: Vec<PreparedOrder>,
        race: impl AsyncFn(&mut PreparedOrder) -> Replies,
    ) -> Vec<(PreparedOrder, Replies)> {
        let race = &race;
        stream::iter(orders)
            .map(|mut order| async move {
                let replies = race(&mut order).await;
                (order, replies)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await
    }

    /// Builds a request to the first gateway.
    pub(super) fn post_to_first(&self, path: &str, body: &Value) -> RequestBuilder {
        self.system.client.post(self.system.url(path)).json(body)
    }

    /// Builds a request to the second gateway.
    pub(super) fn post_to_second(&self, path: &str, body: &Value) -> RequestBuilder {
        let url = format!("{}{path}", self.second_gateway_url);
        self.system.client.post(url).json(body)
    }

    /// Sends two requests at the same moment, or one of them up to [`MAX_OFFSETS_MS`] later than the other.
    pub(super) async fn send_together(
        &self,
        random: &mut Random,
        first_request: RequestBuilder,
        second_request: RequestBuilder,
    ) -> (Reply, Reply) {
        let max_offset_ms = MAX_OFFSETS_MS[random.random_below(MAX_OFFSETS_MS.len())];
        let offset = Duration::from_millis(random.random_below(max_offset_ms) as u64);
        let (first_delay, second_delay) = match random.random_below(2) {
            0 => (offset, Duration::ZERO),
            _ => (Duration::ZERO, offset),
        };
        tokio::join!(
            send_after(first_delay, first_request),
            send_after(second_delay, second_request)
        )
    }

    /// Waits until the system is idle, and returns each order with its history. Checks money and stock of all
    /// orders, the provider's ledger, and `order-worker verify`.
    pub(super) async fn settle<Replies>(
        &self,
        raced_orders: Vec<(PreparedOrder, Replies)>,
    ) -> Vec<(SettledOrder, Replies)> {
        let settle_tasks = raced_orders.into_iter().map(|(order, replies)| async move {
            let path = format!("/v1/orders/{}", order.id);
            let is_idle = |order_json: &Value| {
                order_json["in_progress"].is_null() && order_json["pending_edit"].is_null()
            };
            let order_json = self.system.wait_for_order(&order.id, "idle", is_idle).await;
            let history_reply = self.system.get(&format!("{path}/history?limit=200")).await;
            (
                SettledOrder::new(order_json, history_reply.expect(200)),
                replies,
            )
        });
        let settled_orders: Vec<(SettledOrder, Replies)> = stream::iter(settle_tasks)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        self.system.wait_until_idle().await;
        let (is_consistent, report) = self.system.verify();
        assert!(
            is_consistent && report.contains(" 0 violations"),
            "order-worker verify:\n{report}"
        );
        for (order, _) in &settled_orders {
            order.assert_money_adds_up();
        }
        let orders: Vec<_> = settled_orders.iter().map(|(order, _)| order).collect();
        self.assert_stock_and_ledger_add_up(&orders).await;
        settled_orders
    }

    async fn assert_stock_and_ledger_add_up(&self, orders: &[&SettledOrder]) {
        for sku in ["A", "B"] {
            let shipped_units: i64 = orders.iter().map(|order| order.shipped_units(sku)).sum();
            let received_units: i64 = orders.iter().map(|order| order.received_units(sku)).sum();
            let reserved_units: i64 = orders.iter().map(|order| order.reserved_units(sku)).sum();
            assert_eq!(
                self.system.stock_level(sku).await,
                (STOCK - shipped_units + received_units, reserved_units),
                "units of {sku} on hand and reserved"
            );
        }
        let sum_of_amounts = |name: &str| -> i64 {
            let amounts = orders.iter().map(|order| order.payment_amount(name));
            amounts.sum()
        };
        let is_authorized = |order: &&&SettledOrder| order.has_open_authorization();
        for (sql, expected_value) in [
            (
                "SELECT coalesce(sum(amount), 0) FROM movements WHERE kind = 'capture'",
                sum_of_amounts("captured"),
            ),
            (
                "SELECT coalesce(sum(amount), 0) FROM movements WHERE kind = 'refund'",
                sum_of_amounts("refunded"),
            ),
            (
                "SELECT count(*) FROM payments WHERE status = 'authorized'",
                i64::try_from(orders.iter().filter(is_authorized).count()).unwrap(),
            ),
        ] {
            assert_eq!(
                self.system.query_ledger(sql),
                expected_value.to_string(),
                "{sql}"
            );
        }
    }
}

async fn send_after(delay: Duration, request: RequestBuilder) -> Reply {
    tokio::time::sleep(delay).await;
    send(request).await
}
