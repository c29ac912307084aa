//! Payment providers that do not respond.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{Json, Router, extract::State, http::StatusCode};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{System, order_body_with_method, wait_until};

/// Maximum number of concurrent calls of a worker to one provider.
const MAX_CONCURRENT_CALLS: usize = 128;

/// A payment provider that accepts calls without responding until `is_responding` is set, and then declines.
#[derive(Clone)]
struct SilentProvider {
    url: String,
    /// Number of calls.
    call_count: Arc<AtomicUsize>,
    /// Number of calls in progress, and its maximum.
    waiting_call_count: Arc<AtomicUsize>,
    max_waiting_count: Arc<AtomicUsize>,
    is_responding: Arc<AtomicBool>,
}

impl SilentProvider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent_provider = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            call_count: Arc::default(),
            waiting_call_count: Arc::default(),
            max_waiting_count: Arc::default(),
            is_responding: Arc::default(),
        };
        let router = Router::new()
            .fallback(Self::handle)
            .with_state(silent_provider.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        silent_provider
    }

    async fn handle(State(provider): State<Self>) -> (StatusCode, Json<Value>) {
        provider.call_count.fetch_add(1, Ordering::SeqCst);
        let waiting_call_count = provider.waiting_call_count.fetch_add(1, Ordering::SeqCst) + 1;
        provider
            .max_waiting_count
            .fetch_max(waiting_call_count, Ordering::SeqCst);
        let _active_call = ActiveCall(provider.waiting_call_count);
        if !provider.is_responding.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        let error = json!({"type": "card_error", "code": "card_declined", "message": "no"});
        (StatusCode::PAYMENT_REQUIRED, Json(json!({"error": error})))
    }

    /// Starts a system with this provider and this reservation time, and returns it with a customer.
    async fn start_system(&self, reservation_ttl_seconds: &str) -> (System, String) {
        let variables = [
            ("PAYMENT_PROVIDER", "stripe"),
            ("STRIPE_API_KEY", "sk_test_12345"),
            ("STRIPE_API_BASE", self.url.as_str()),
            ("RESERVATION_TTL_SECONDS", reservation_ttl_seconds),
        ];
        let system = System::start_with(&variables).await;
        system
            .create_product_with_stock("A", &[("main", 1_000)])
            .await;
        let customer_id = system.create_customer().await;
        (system, customer_id)
    }
}

/// Counts a call as finished when dropped.
struct ActiveCall(Arc<AtomicUsize>);

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn silent_provider_does_not_block_other_steps() {
    assert_orders_expire_with_silent_provider(60, 1).await;
}

#[tokio::test]
async fn silent_provider_does_not_block_other_steps_of_batched_messages() {
    assert_orders_expire_with_silent_provider(40, 3).await;
}

/// Checks that orders expire while their payments get no response. They are created
/// `orders_per_round` at a time.
async fn assert_orders_expire_with_silent_provider(round_count: usize, orders_per_round: usize) {
    let provider = SilentProvider::start().await;
    let (system, customer_id) = provider.start_system("2").await;
    let ids = place_orders(
        &system,
        &customer_id,
        &provider,
        round_count,
        orders_per_round,
    )
    .await;
    for order in wait_until_all_cancelled(&system, &ids).await {
        assert_eq!(order["cancel_reason"], "expired");
    }
    // The calls have not timed out yet.
    for id in &ids {
        let history = system.list_event_types(id).await;
        assert!(!history.contains(&"step.retried".to_owned()), "{history:?}");
    }
    assert_eq!(system.stock_level("A").await, (1_000, 0));
}

#[tokio::test]
async fn calls_to_a_silent_provider_are_limited_and_others_postponed() {
    let provider = SilentProvider::start().await;
    let (system, customer_id) = provider.start_system("2").await;
    let ids = place_orders(
        &system,
        &customer_id,
        &provider,
        2 * MAX_CONCURRENT_CALLS,
        1,
    )
    .await;
    for order in wait_until_all_cancelled(&system, &ids).await {
        assert_eq!(order["cancel_reason"], "expired");
    }
    // The server notices an aborted call with a delay.
    let max_waiting_count = provider.max_waiting_count.load(Ordering::SeqCst);
    assert!(
        (MAX_CONCURRENT_CALLS..MAX_CONCURRENT_CALLS + MAX_CONCURRENT_CALLS / 2)
            .contains(&max_waiting_count),
        "{max_waiting_count}"
    );
}

#[tokio::test]
async fn postponed_payments_are_processed_when_the_provider_recovers() {
    let provider = SilentProvider::start().await;
    let (system, customer_id) = provider.start_system("600").await;
    let ids = place_orders(
        &system,
        &customer_id,
        &provider,
        MAX_CONCURRENT_CALLS + 40,
        1,
    )
    .await;
    let last_id = ids.last().unwrap();
    let is_waiting = |order: &Value| order["in_progress"]["attempt"].as_u64() > Some(1);
    system.wait_for_order(last_id, "put off", is_waiting).await;
    // Postponed attempts are not recorded in the history.
    let history = system.list_event_types(last_id).await;
    assert_eq!(history, ["order.created", "stock.reserved"]);
    provider.is_responding.store(true, Ordering::SeqCst);
    for order in wait_until_all_cancelled(&system, &ids).await {
        assert_eq!(order["cancel_reason"], "payment_declined");
    }
}

/// Creates orders, `orders_per_round` at a time. Waits after each group until its payments are requested, up to the
/// limit.
async fn place_orders(
    system: &System,
    customer_id: &str,
    provider: &SilentProvider,
    round_count: usize,
    orders_per_round: usize,
) -> Vec<String> {
    let new_order = order_body_with_method(customer_id, "A", 1, "pm_card_visa");
    let mut ids = Vec::new();
    for _ in 0..round_count {
        let requests = (0..orders_per_round).map(|_| system.post("/v1/orders", new_order.clone()));
        for created_reply in join_all(requests).await {
            ids.push(created_reply.expect(201)["id"].as_str().unwrap().to_owned());
        }
        // The next group's payments are in another message.
        wait_until("the provider to be called", async || {
            provider.call_count.load(Ordering::SeqCst) >= ids.len().min(MAX_CONCURRENT_CALLS)
        })
        .await;
    }
    ids
}

async fn wait_until_all_cancelled(system: &System, ids: &[String]) -> Vec<Value> {
    let cancelled_orders = ids
        .iter()
        .map(|id| system.wait_for_order(id, "cancelled", |order| order["status"] == "cancelled"));
    join_all(cancelled_orders).await
}
