//! Partners that do not answer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use tokio::net::TcpListener;

use crate::harness::{System, order_paid_by, until};

/// Somebody to whom one can connect, and who never answers.
struct Silent {
    url: String,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.push(connection);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { url, asked }
    }
}

#[tokio::test]
async fn a_partner_that_does_not_answer_stands_in_the_way_of_no_other_step() {
    expire_beside_a_silent_provider(60, 1).await;
}

#[tokio::test]
async fn nor_do_payments_that_travel_a_few_together() {
    expire_beside_a_silent_provider(40, 3).await;
}

/// Orders that come so many times, so many together, whose payments nobody answers.
async fn expire_beside_a_silent_provider(times: usize, together: usize) {
    let provider = Silent::start().await;
    let variables = [
        ("PAYMENT_PROVIDER", "stripe"),
        ("STRIPE_API_KEY", "sk_test_12345"),
        ("STRIPE_API_BASE", provider.url.as_str()),
        ("RESERVATION_TTL_SECONDS", "2"),
    ];
    let system = System::start_with(&variables).await;
    system.stock("A", &[("main", 200)]).await;
    let customer = system.customer().await;
    let mut ids = Vec::new();
    for _ in 0..times {
        let wish = order_paid_by(&customer, "A", 1, "pm_card_visa");
        let asked = (0..together).map(|_| system.post("/v1/orders", wish.clone()));
        for created in join_all(asked).await {
            ids.push(created.expect(201)["id"].as_str().unwrap().to_owned());
        }
        // These payments are in no message with the next.
        until("the provider to be asked", async || {
            provider.asked.load(Ordering::SeqCst) >= ids.len()
        })
        .await;
    }
    let expired = ids
        .iter()
        .map(|id| system.order_until(id, "cancelled", |order| order["status"] == "cancelled"));
    for order in join_all(expired).await {
        assert_eq!(order["cancel_reason"], "expired");
    }
    // None of the payments was given up waiting for by then.
    for id in &ids {
        let history = system.history(id).await;
        assert!(!history.contains(&"step.retried".to_owned()), "{history:?}");
    }
    assert_eq!(system.shelf("A").await, (200, 0));
}
