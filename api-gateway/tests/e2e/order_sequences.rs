//! Random sequences of whole orders over REST, in parallel, while the worker is killed again and again: created
//! with any mix of parts, edited, shipped in parts, cancelled, refunded and returned. Afterwards the database is
//! consistent, and the money of every order agrees with the payment provider: the sandbox or localstripe.
//!
//! The printed seed determines each client's choices, but not the times of the kills. The rules are tested in
//! order-worker/tests/domain/order_sequences.rs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Process, Reply, System, try_send},
    races::Random,
};

const SEQUENCE_COUNT: u64 = 200;
const ACTIONS_PER_SEQUENCE: usize = 12;
const CONCURRENCY: usize = 40;
const KILL_COUNT: usize = 8;
const PAYMENT_METHODS: [&str; 6] = [
    "pm_ok",
    "pm_ok",
    "pm_ok",
    "pm_flaky",
    "pm_timeout_after_charge",
    "pm_declined",
];

/// Requests of which some must be accepted.
const EXPECTED_REQUESTS: [&str; 8] = [
    "orders",
    "edit",
    "cancel",
    "shipments",
    "refunds",
    "returns",
    "receive",
    "reject",
];

/// A client with one order.
struct Sequence<'a> {
    system: &'a System,
    customer_id: &'a str,
    /// Two products of the order's currency.
    skus: [String; 2],
    random: Random,
    order_id: String,
    /// The requests and the statuses of their replies.
    request_log: Vec<String>,
    /// Number of accepted requests by the last segment of the path.
    accepted_counts: BTreeMap<String, usize>,
}

impl<'a> Sequence<'a> {
    fn new(system: &'a System, customer_id: &'a str, seed: u64) -> Self {
        let mut random = Random(seed);
        // Stripe charges KWD in multiples of ten only.
        let currency_count = if system.stripe.is_none() { 3 } else { 2 };
        let currency = ["EUR", "JPY", "KWD"][random.random_below(currency_count)];
        Self {
            system,
            customer_id,
            skus: [format!("{currency}-A"), format!("{currency}-B")],
            random,
            order_id: String::new(),
            request_log: Vec::new(),
            accepted_counts: BTreeMap::new(),
        }
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.random_below(100) < percent
    }

    fn random_sku(&mut self) -> String {
        self.skus[self.random.random_below(2)].clone()
    }

    /// Sends a request until a worker answers it.
    async fn send_until_answered(&self, build_request: impl Fn() -> RequestBuilder) -> Reply {
        loop {
            let reply = try_send(build_request()).await.unwrap();
            if ![503, 504].contains(&reply.status) {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a request under one key until it is answered; `None` if it is refused.
    async fn post(&mut self, path: &str, body: Value) -> Option<Value> {
        let idempotency_key = Uuid::now_v7().to_string();
        let build_request = || {
            let request = self.system.request(Method::POST, path);
            request
                .header("idempotency-key", &idempotency_key)
                .json(&body)
        };
        let reply = self.send_until_answered(build_request).await;
        let log_entry = format!("{path} {body}: {} {}", reply.status, reply.body["detail"]);
        self.request_log.push(log_entry);
        match reply.status {
            200..300 => {
                let last_segment = path.rsplit('/').next().unwrap_or_default();
                *self
                    .accepted_counts
                    .entry(last_segment.to_owned())
                    .or_default() += 1;
                Some(reply.body)
            }
            409 | 422 => None,
            _ => panic!("{}", self.request_log.join("\n")),
        }
    }

    async fn post_to_order(&mut self, subpath: &str, body: Value) -> Option<Value> {
        let path = format!("/v1/orders/{}/{subpath}", self.order_id);
        self.post(&path, body).await
    }

    async fn read_order(&self) -> Value {
        let path = format!("/v1/orders/{}", self.order_id);
        let build_request = || self.system.request(Method::GET, &path);
        self.send_until_answered(build_request).await.expect(200)
    }

    async fn wait_until_idle(&self) {
        let is_idle = |order: &Value| order["in_progress"].is_null();
        self.system
            .wait_for_order(&self.order_id, "idle", is_idle)
            .await;
    }

    async fn run(&mut self) {
        let body = self.random_order_body();
        let Some(created_reply) = self.post("/v1/orders", body).await else {
            return;
        };
        created_reply["id"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.order_id);
        if self.chance(80) {
            self.wait_until_idle().await;
        }
        for _ in 0..ACTIONS_PER_SEQUENCE {
            self.perform_random_action().await;
        }
    }

    async fn perform_random_action(&mut self) {
        match self.random.random_below(24) {
            0..6 => {
                let body = self.random_edit_body();
                self.post_to_order("edit", body).await;
            }
            6 => drop(self.post_to_order("edit/cancel", json!({})).await),
            7 if self.chance(30) => drop(self.post_to_order("cancel", json!({})).await),
            7..11 => {
                let mut body = json!({});
                if self.chance(70) {
                    body["items"] = json!([{"sku": self.random_sku(), "quantity": 1}]);
                }
                self.post_to_order("shipments", body).await;
            }
            11 => drop(self.post_to_order("cancel-remaining", json!({})).await),
            12 => {
                let event_type =
                    ["shipment.delivered", "shipment.returned"][self.random.random_below(2)];
                self.report_as_carrier(event_type).await;
            }
            13..16 => {
                let body = match self.random.random_below(6) {
                    0 => json!({"shipping": true}),
                    1 => json!({"amount": 1 + self.random.random_below(300)}),
                    _ => json!({"items": [{"sku": self.random_sku(), "quantity": 1}]}),
                };
                self.post_to_order("refunds", body).await;
            }
            16..20 => self.return_one_unit().await,
            _ => self.wait_until_idle().await,
        }
    }

    /// A new order of one or two products with any mix of discounts, taxes, shipping and agreed prices.
    fn random_order_body(&mut self) -> Value {
        let mut items = Vec::new();
        for product_index in 0..=self.random.random_below(2) {
            let quantity = 1 + self.random.random_below(4);
            let mut item = json!({"sku": self.skus[product_index], "quantity": quantity});
            let mut price = 1_000;
            if self.chance(50) {
                price = self.random.random_below(2_000);
                item["unit_price"] = json!(price);
            }
            self.add_discounts_and_taxes(&mut item, price * quantity);
            items.push(item);
        }
        let payment_method = PAYMENT_METHODS[self.random.random_below(PAYMENT_METHODS.len())];
        let mut body = json!({
            "customer_id": self.customer_id, "items": items, "payment_method": payment_method,
            "tax_included": self.chance(50),
        });
        if self.chance(60) {
            body["shipping"] =
                json!({"label": "Standard", "amount": self.random.random_below(900)});
        }
        if self.chance(40) {
            body["discounts"] =
                json!([{"label": "voucher", "amount": self.random.random_below(500)}]);
        }
        body
    }

    /// Adds a discount of at most half of the price, and a tax of at most a tenth of the rest.
    fn add_discounts_and_taxes(&mut self, item: &mut Value, price: usize) {
        let discount = self.random.random_below(price / 2 + 1);
        let tax = self.random.random_below((price - discount) / 10 + 1);
        if self.chance(60) {
            item["discounts"] = json!([{"label": "discount", "amount": discount}]);
            item["taxes"] = json!([{"label": "VAT", "amount": tax}]);
        }
    }

    fn random_edit_body(&mut self) -> Value {
        let mut body = json!({});
        let quantity = self.random.random_below(5);
        let mut item = json!({"sku": self.random_sku(), "quantity": quantity});
        if quantity > 0 {
            let price = self.random.random_below(2_000);
            item["unit_price"] = json!(price);
            item["discounts"] = json!([]);
            item["taxes"] = json!([]);
            self.add_discounts_and_taxes(&mut item, price * quantity);
        }
        if self.chance(80) {
            body["items"] = json!([item]);
        }
        match self.random.random_below(4) {
            0 => {
                let amount = self.random.random_below(900);
                body["shipping"] = json!({"label": "Express", "amount": amount});
            }
            1 => {
                let amount = self.random.random_below(500);
                body["discounts"] = json!([{"label": "apology", "amount": amount}]);
            }
            2 => body["discounts"] = Value::Null,
            _ => {}
        }
        let payment_method = PAYMENT_METHODS[self.random.random_below(PAYMENT_METHODS.len())];
        body["payment_method"] = json!(payment_method);
        body
    }

    /// Requests a return of a unit; usually it arrives.
    async fn return_one_unit(&mut self) {
        let sku = self.random_sku();
        let items = json!([{"sku": sku, "quantity": 1}]);
        let body = json!({ "items": items });
        let Some(created_reply) = self.post_to_order("returns", body).await else {
            return;
        };
        let path = format!("/v1/returns/{}", created_reply["id"].as_str().unwrap());
        if self.chance(10) {
            self.post(&format!("{path}/reject"), json!({})).await;
            return;
        }
        self.post(&format!("{path}/approve"), json!({})).await;
        let received_item = json!({"sku": sku, "quantity": 1, "restock": self.chance(70)});
        let return_receipt_body = json!({"items": [received_item]});
        if self
            .post(&format!("{path}/receive"), return_receipt_body)
            .await
            .is_none()
        {
            self.post(&format!("{path}/cancel"), json!({})).await;
        }
    }

    async fn report_as_carrier(&mut self, event_type: &str) {
        let webhook_id = Uuid::now_v7().to_string();
        loop {
            let reply = self
                .system
                .send_webhook(&webhook_id, event_type, &self.order_id)
                .await;
            self.request_log
                .push(format!("{event_type}: {} {}", reply.status, reply.body));
            if ![503, 504].contains(&reply.status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ships the rest of the order; all of it comes back.
    async fn return_everything(&mut self) {
        if self.order_id.is_empty() {
            return;
        }
        if self.read_order().await["status"] == "processing" {
            self.post_to_order("shipments", json!({})).await;
            self.wait_until_idle().await;
        }
        if self.read_order().await["status"] != "cancelled" {
            self.report_as_carrier("shipment.returned").await;
        }
    }
}

/// The authorized, captured and refunded amounts at the provider by order, in minor units.
async fn money_at_provider(system: &System) -> HashMap<String, [i64; 3]> {
    if let Some(stripe) = &system.stripe {
        return stripe.amounts_by_order().await;
    }
    let mut amounts_by_order = HashMap::<String, [i64; 3]>::new();
    let payment_rows =
        system.query_ledger("SELECT key, status, amount, captured, refunded FROM payments");
    for payment_row in payment_rows.lines() {
        let columns: Vec<&str> = payment_row.split(' ').collect();
        let amount = |index: usize| columns[index].parse::<i64>().unwrap();
        let order_id = columns[0].split('/').next().unwrap().to_owned();
        let authorized_amount = if columns[1] == "authorized" {
            amount(2)
        } else {
            0
        };
        let order_sums = amounts_by_order.entry(order_id).or_default();
        for (sum, amount_to_add) in
            order_sums
                .iter_mut()
                .zip([authorized_amount, amount(3), amount(4)])
        {
            *sum += amount_to_add;
        }
    }
    amounts_by_order
}

/// Checks the database, the amounts of every order, and that they agree with the provider; returns the orders.
async fn check_money(system: &System) -> Vec<Value> {
    let orders = system.wait_until_idle().await;
    system.assert_verified();
    let provider_amounts = money_at_provider(system).await;
    for order in &orders {
        let payment = &order["payment"];
        let amount = |name: &str| payment[name].as_i64().unwrap();
        let (captured_amount, refunded_amount) = (amount("captured"), amount("refunded"));
        assert!(captured_amount <= amount("authorized"), "{order}");
        assert!(refunded_amount <= captured_amount, "{order}");
        let authorized_amount = if payment["status"] == "authorized" {
            amount("authorized")
        } else {
            0
        };
        let id = order["id"].as_str().unwrap();
        let amounts_at_provider = provider_amounts.get(id).copied().unwrap_or_default();
        assert_eq!(
            amounts_at_provider,
            [authorized_amount, captured_amount, refunded_amount],
            "{order}"
        );
        if order["status"] == "cancelled" {
            assert_eq!(
                (authorized_amount, captured_amount),
                (0, refunded_amount),
                "{order}"
            );
        }
    }
    orders
}

/// Kills the worker at random times until `is_over`; returns the last one.
async fn kill_workers(
    system: &System,
    mut worker: Process,
    random: &mut Random,
    is_over: &AtomicBool,
) -> Process {
    for _ in 0..KILL_COUNT {
        let delay_ms = 1_000 + random.random_below(2_500);
        tokio::time::sleep(Duration::from_millis(u64::try_from(delay_ms).unwrap())).await;
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        worker.kill();
        worker = system.spawn_replacement_worker();
    }
    worker
}

#[tokio::test]
async fn sequences_of_orders_agree_with_the_provider_across_worker_kills() {
    let seed_text = std::env::var("ORDER_SEQUENCE").ok();
    let seed_number = seed_text.map_or_else(
        || Uuid::now_v7().as_u128() & 0xffff_ffff,
        |text| text.parse().unwrap(),
    );
    println!("reproduce the choices of all clients with ORDER_SEQUENCE={seed_number}");
    let seed = u64::try_from(seed_number).unwrap();
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    for currency in ["EUR", "JPY", "KWD"] {
        for (product_name, units) in [("A", [900, 900]), ("B", [80, 40])] {
            let sku = format!("{currency}-{product_name}");
            let product = json!({"sku": sku, "name": sku, "price": 1000, "currency": currency});
            system.post("/v1/products", product).await.expect(201);
            for (warehouse, units) in ["east", "west"].into_iter().zip(units) {
                let path = format!("/v1/products/{sku}/stock/{warehouse}");
                let stock_body = json!({"on_hand": units});
                system.put(&path, stock_body).await.expect(200);
            }
        }
    }
    let customer_id = system.create_customer().await;
    let worker = system.take_worker();
    let is_over = AtomicBool::new(false);
    let mut random = Random(seed);
    let run_sequences = async {
        let sequence_runs = stream::iter(0..SEQUENCE_COUNT).map(|sequence_number| {
            let mut sequence = Sequence::new(&system, &customer_id, seed + sequence_number);
            async move {
                sequence.run().await;
                sequence
            }
        });
        let sequences: Vec<_> = sequence_runs.buffer_unordered(CONCURRENCY).collect().await;
        is_over.store(true, Ordering::SeqCst);
        sequences
    };
    let (mut sequences, worker) = tokio::join!(
        run_sequences,
        kill_workers(&system, worker, &mut random, &is_over)
    );
    check_money(&system).await;
    let return_tasks = sequences.iter_mut().map(Sequence::return_everything);
    futures_util::future::join_all(return_tasks).await;
    let orders = check_money(&system).await;
    for order in &orders {
        let payment = &order["payment"];
        assert_eq!(payment["refunded"], payment["captured"], "{order}");
    }
    let mut accepted_counts = BTreeMap::<String, usize>::new();
    for (request_name, count) in sequences
        .iter()
        .flat_map(|sequence| &sequence.accepted_counts)
    {
        *accepted_counts.entry(request_name.clone()).or_default() += count;
    }
    println!(
        "{} orders; accepted requests: {accepted_counts:?}",
        orders.len()
    );
    for request_name in EXPECTED_REQUESTS {
        let count = accepted_counts.get(request_name).copied().unwrap_or(0);
        assert!(
            count > 0,
            "no request {request_name} was accepted: {accepted_counts:?}"
        );
    }
    drop(sequences);
    system.worker = worker;
}
