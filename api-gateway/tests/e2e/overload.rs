//! Overload: excess requests are refused immediately, and accepted requests are answered.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use reqwest::Method;

use crate::harness::{System, order_body, try_send, wait_until};

/// More than a gateway's limit of requests in flight.
const REQUEST_COUNT: usize = 1_300;
/// Number of requests above the limit.
const EXCESS_REQUESTS: usize = REQUEST_COUNT - 1_000;

#[tokio::test]
async fn excess_requests_are_refused_and_accepted_ones_answered() {
    let system = System::start_with(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    system
        .create_product_with_stock("A", &[("main", 10_000)])
        .await;
    let body = order_body(&system.create_customer().await, "A", 1);
    system.worker.signal("STOP");
    let refused_count = AtomicUsize::new(0);
    let requests = join_all((0..REQUEST_COUNT).map(async |_| {
        let request = system.request(Method::POST, "/v1/orders").json(&body);
        let reply = try_send(request).await.unwrap();
        if reply.status == 201 {
            return;
        }
        refused_count.fetch_add(1, Ordering::SeqCst);
        assert!(reply.headers.contains_key("retry-after"));
        reply.expect_problem(503, "UNAVAILABLE");
    }));
    // The excess requests are refused while the worker is stopped; the other requests wait for the worker.
    let thaw_worker = async {
        wait_until("the gateway to refuse requests", async || {
            refused_count.load(Ordering::SeqCst) >= EXCESS_REQUESTS
        })
        .await;
        system.worker.signal("CONT");
    };
    tokio::join!(requests, thaw_worker);
    let refused_requests = refused_count.into_inner();
    println!(
        "{} accepted, {refused_requests} refused",
        REQUEST_COUNT - refused_requests
    );
    let orders = system.wait_until_idle().await;
    assert_eq!(
        orders.len(),
        REQUEST_COUNT - refused_requests,
        "a refused request created an order"
    );
    system.assert_verified();
}
