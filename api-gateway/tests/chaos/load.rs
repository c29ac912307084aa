//! The load during faults: customers create orders, retry with the same key until they get a response, cancel,
//! and send webhooks twice and out of order. All responses are recorded.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::time;

use crate::harness::{Reply, SHIPPER_SECRET, try_send};

/// Number of concurrent customers.
const CUSTOMER_COUNT: u64 = 8;
/// Timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay before a retry.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The recorded responses.
#[derive(Default)]
pub(crate) struct RecordedReplies {
    pub(crate) orders: Vec<AcknowledgedOrder>,
    /// Order ids.
    pub(crate) cancelled_ids: Vec<String>,
    pub(crate) delivered_ids: Vec<String>,
    /// The last response or error of a request with an unknown outcome.
    pub(crate) last_unknown_outcome: String,
    /// Unexpected responses.
    pub(crate) unexpected_replies: Vec<String>,
    /// Number of keys that were answered with two different orders.
    pub(crate) duplicated_key_count: usize,
}

/// An acknowledged order.
pub(crate) struct AcknowledgedOrder {
    pub(crate) idempotency_key: String,
    pub(crate) order_id: String,
    pub(crate) total_price: i64,
}

/// Load on a system until [`Load::stop`].
#[derive(Clone)]
pub(crate) struct Load {
    shared: Arc<SharedState>,
}

struct SharedState {
    base_urls: Vec<String>,
    customer_id: String,
    /// Prefix of this run's keys.
    run_name: String,
    recorded_replies: Mutex<RecordedReplies>,
    is_over: AtomicBool,
    acknowledged_count: AtomicUsize,
    refused_count: AtomicUsize,
    unknown_count: AtomicUsize,
}

impl Load {
    pub(crate) fn new(base_urls: Vec<String>, customer_id: String, run_name: String) -> Self {
        Self {
            shared: Arc::new(SharedState {
                base_urls,
                customer_id,
                run_name,
                recorded_replies: Mutex::default(),
                is_over: AtomicBool::new(false),
                acknowledged_count: AtomicUsize::new(0),
                refused_count: AtomicUsize::new(0),
                unknown_count: AtomicUsize::new(0),
            }),
        }
    }

    /// Creates orders until [`Load::stop`]. Each customer retries its last order until it is acknowledged.
    pub(crate) async fn run(&self, seed: u64) {
        let customer_tasks = (0..CUSTOMER_COUNT).map(|number| {
            let customer = Customer {
                shared: Arc::clone(&self.shared),
                client: reqwest::Client::builder()
                    .timeout(REQUEST_TIMEOUT)
                    .build()
                    .unwrap(),
                random: Random::new(seed.wrapping_mul(1000).wrapping_add(number)),
                number,
                order_ids: Vec::new(),
            };
            tokio::spawn(customer.run())
        });
        for customer_result in join_all(customer_tasks).await {
            customer_result.unwrap();
        }
    }

    pub(crate) fn stop(&self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
    }

    /// The prefix of this run's keys.
    pub(crate) fn run_name(&self) -> &str {
        &self.shared.run_name
    }

    /// Number of acknowledged orders so far.
    pub(crate) fn acknowledged_count(&self) -> usize {
        self.shared.acknowledged_count.load(Ordering::SeqCst)
    }

    /// Waits until this many more orders are acknowledged, which shows that the system works.
    pub(crate) async fn wait_for_progress(&self, additional_orders: usize) {
        let target_count = self.acknowledged_count() + additional_orders;
        while self.acknowledged_count() < target_count {
            time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Number of requests that were certainly not executed: 503, or no connection.
    pub(crate) fn refused_count(&self) -> usize {
        self.shared.refused_count.load(Ordering::SeqCst)
    }

    /// Number of requests with an unknown outcome: 504, or a broken connection.
    pub(crate) fn unknown_count(&self) -> usize {
        self.shared.unknown_count.load(Ordering::SeqCst)
    }

    pub(crate) fn recorded_replies(&self) -> std::sync::MutexGuard<'_, RecordedReplies> {
        self.shared.recorded_replies.lock().unwrap()
    }
}

struct Customer {
    shared: Arc<SharedState>,
    client: reqwest::Client,
    random: Random,
    number: u64,
    order_ids: Vec<String>,
}

impl Customer {
    async fn run(mut self) {
        for order_number in 0.. {
            if self.shared.is_over.load(Ordering::SeqCst) {
                return;
            }
            let idempotency_key =
                format!("{}-{}-{order_number}", self.shared.run_name, self.number);
            let new_order = self.new_order(&idempotency_key);
            let Some(id) = self.place_order(&idempotency_key, &new_order).await else {
                continue;
            };
            // Like a form that is submitted twice.
            if self.random.chance(20) {
                self.place_order(&idempotency_key, &new_order).await;
            }
            if self.random.chance(10) {
                self.cancel(&id).await;
            }
            self.order_ids.push(id);
            if self.random.chance(30) {
                let earlier_index = self.random.random_below(self.order_ids.len() as u64);
                let earlier_order_id =
                    self.order_ids[usize::try_from(earlier_index).unwrap()].clone();
                self.deliver(&earlier_order_id).await;
            }
            time::sleep(Duration::from_millis(self.random.random_below(20))).await;
        }
    }

    fn new_order(&mut self, idempotency_key: &str) -> Value {
        let mut items = vec![json!({"sku": "HOT", "quantity": 1})];
        if self.random.chance(50) {
            let sku = format!("S{}", self.random.random_below(10));
            let item_index = usize::from(self.random.chance(50));
            items.insert(
                item_index,
                json!({"sku": sku, "quantity": self.random.random_below(3) + 1}),
            );
        }
        let payment_method = match self.random.random_below(20) {
            0..12 => "pm_ok",
            12..14 => "pm_declined",
            14..17 => "pm_flaky",
            17..19 => "pm_timeout_after_charge",
            _ => "pm_slow",
        };
        json!({
            "customer_id": self.shared.customer_id,
            "items": items,
            "payment_method": payment_method,
            "metadata": {"key": idempotency_key},
        })
    }

    /// Retries until there is a response, and returns the id of the order, if it was created.
    async fn place_order(&mut self, idempotency_key: &str, new_order: &Value) -> Option<String> {
        loop {
            let request = self
                .post("/v1/orders")
                .header("idempotency-key", idempotency_key);
            let Some(reply) = self.send(request.json(new_order)).await else {
                continue;
            };
            if reply.status != 201 {
                self.record_unexpected(&reply);
                return None;
            }
            let id = reply.body["id"].as_str().unwrap().to_owned();
            let mut recorded_replies = self.shared.recorded_replies.lock().unwrap();
            let recorded_order = recorded_replies
                .orders
                .iter()
                .rev()
                .find(|order| order.idempotency_key == idempotency_key);
            match recorded_order.map(|order| order.order_id == id) {
                Some(true) => {}
                Some(false) => recorded_replies.duplicated_key_count += 1,
                None => {
                    recorded_replies.orders.push(AcknowledgedOrder {
                        idempotency_key: idempotency_key.to_owned(),
                        order_id: id.clone(),
                        total_price: reply.body["total"].as_i64().unwrap(),
                    });
                    self.shared
                        .acknowledged_count
                        .fetch_add(1, Ordering::SeqCst);
                }
            }
            return Some(id);
        }
    }

    async fn cancel(&mut self, order_id: &str) {
        loop {
            let request = self.post(&format!("/v1/orders/{order_id}/cancel"));
            match self.send(request.json(&json!({}))).await {
                Some(reply) if reply.status == 200 => {
                    return self
                        .shared
                        .recorded_replies
                        .lock()
                        .unwrap()
                        .cancelled_ids
                        .push(order_id.to_owned());
                }
                // The order is already shipped and can't be cancelled.
                Some(reply) if reply.status == 409 => return,
                Some(reply) => return self.record_unexpected(&reply),
                None => {}
            }
        }
    }

    /// Sends "delivered" and then "shipped", both twice.
    async fn deliver(&mut self, order_id: &str) {
        for shipment_event in ["delivered", "delivered", "shipped", "shipped"] {
            let webhook_id = format!("{shipment_event}-{order_id}");
            let now = Timestamp::now();
            let webhook_body = json!({
                "type": format!("shipment.{shipment_event}"), "timestamp": now, "data": {"order_id": order_id},
            })
            .to_string();
            let webhook_signer = Webhook::new(SHIPPER_SECRET).unwrap();
            let signature =
                webhook_signer.sign(&webhook_id, now.as_second(), webhook_body.as_bytes());
            let webhook_request = self
                .post("/webhooks/shipper")
                .header("webhook-id", &webhook_id)
                .header("webhook-timestamp", now.as_second().to_string())
                .header("webhook-signature", signature.unwrap())
                .body(webhook_body);
            match self.send(webhook_request).await {
                Some(reply) if reply.status == 200 && shipment_event == "delivered" => {
                    self.shared
                        .recorded_replies
                        .lock()
                        .unwrap()
                        .delivered_ids
                        .push(order_id.to_owned());
                }
                // The shipment is not announced yet, or the order is cancelled: the carrier would retry.
                Some(reply) if reply.status == 200 || reply.status == 409 => {}
                Some(reply) => self.record_unexpected(&reply),
                None => {}
            }
        }
    }

    fn post(&mut self, path: &str) -> reqwest::RequestBuilder {
        let gateway_index = self.random.random_below(self.shared.base_urls.len() as u64);
        let base_url = &self.shared.base_urls[usize::try_from(gateway_index).unwrap()];
        self.client.post(format!("{base_url}{path}"))
    }

    /// Returns the response, or `None` after a delay if the request should be retried.
    async fn send(&mut self, request: reqwest::RequestBuilder) -> Option<Reply> {
        let outcome_counter = match try_send(request).await {
            Ok(reply) if reply.status == 503 => &self.shared.refused_count,
            Ok(reply) if reply.status == 504 => {
                self.shared
                    .recorded_replies
                    .lock()
                    .unwrap()
                    .last_unknown_outcome = reply.body.to_string();
                &self.shared.unknown_count
            }
            Ok(reply) => return Some(reply),
            Err(error) if error.is_connect() => &self.shared.refused_count,
            Err(error) => {
                self.shared
                    .recorded_replies
                    .lock()
                    .unwrap()
                    .last_unknown_outcome = format!("{error:?}");
                &self.shared.unknown_count
            }
        };
        outcome_counter.fetch_add(1, Ordering::SeqCst);
        time::sleep(RETRY_DELAY).await;
        None
    }

    fn record_unexpected(&self, reply: &Reply) {
        let mut recorded_replies = self.shared.recorded_replies.lock().unwrap();
        recorded_replies
            .unexpected_replies
            .push(format!("{} {}", reply.status, reply.body));
    }
}

/// SplitMix64, a deterministic pseudorandom number generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `upper_bound - 1`.
    pub(crate) fn random_below(&mut self, upper_bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed_state = self.0;
        mixed_state = (mixed_state ^ (mixed_state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed_state = (mixed_state ^ (mixed_state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed_state ^ (mixed_state >> 31)) % upper_bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.random_below(100) < percent
    }

    /// Sleeps for up to `max_ms` milliseconds.
    pub(crate) async fn sleep_up_to(&mut self, max_ms: u64) {
        time::sleep(Duration::from_millis(self.random_below(max_ms))).await;
    }
}
