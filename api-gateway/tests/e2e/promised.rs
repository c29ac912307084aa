//! `Prefer: respond-async`: orders that are accepted while no worker is running.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Reply, System, order, send, until};

impl System {
    async fn create_async(&self, new_order: &Value, key: Option<&str>) -> Reply {
        let request = self.request(Method::POST, "/v1/orders").json(new_order);
        let request = request.header("prefer", "respond-async");
        send(match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        })
        .await
    }
}

fn id(reply: Reply) -> String {
    assert_eq!(reply.headers["preference-applied"], "respond-async");
    let location = reply.headers["location"].to_str().unwrap().to_owned();
    let body = reply.expect(202);
    let id = body["id"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/v1/orders/{id}"));
    id
}

#[tokio::test]
async fn async_orders_are_accepted_during_outages_and_executed_once() {
    let mut system = System::start_with_own_broker(&[]).await;
    system.stock("A", &[("main", 15)]).await;
    let customer = system.customer().await;
    system.worker.kill();

    let new_order = order(&customer, "A", 1);
    let promised = join_all((0..10).map(|_| system.create_async(&new_order, None))).await;
    let mut ids: Vec<String> = promised.into_iter().map(id).collect();
    // Requests with the same key are one order, also across gateways.
    let keyed_id = id(system.create_async(&new_order, Some("cart-1")).await);
    system.gateway.kill();
    system.restart_gateway_without_worker().await;
    assert_eq!(
        id(system.create_async(&new_order, Some("cart-1")).await),
        keyed_id
    );
    assert_ne!(
        id(system.create_async(&new_order, Some("cart-2")).await),
        keyed_id
    );
    // The broker restarts with its data.
    let mut broker = system.take_broker();
    system.broker = tokio::task::spawn_blocking(move || {
        broker.kill();
        broker.start();
        broker
    })
    .await
    .unwrap();
    until(
        "the gateway to be connected to the broker again",
        async || system.get("/readyz").await.body["broker"] == "ok",
    )
    .await;
    let more = join_all((0..8).map(|_| system.create_async(&new_order, None))).await;
    ids.extend(more.into_iter().map(id));

    // Orders that can't be fulfilled are rejected by the worker later.
    let nobody = "0192f0c1-2345-7abc-8def-0123456789ab";
    let stranger = id(system.create_async(&order(nobody, "A", 1), None).await);
    let unknown = id(system.create_async(&order(&customer, "B", 1), None).await);
    let mut dear = new_order.clone();
    dear["expected_total"] = json!(1);
    let dear = id(system.create_async(&dear, None).await);
    // Malformed orders are refused immediately.
    system
        .create_async(&json!({"customer_id": customer, "items": []}), None)
        .await
        .expect_problem(422, "INVALID_REQUEST");

    // Workers start and are killed.
    for _ in 0..3 {
        let mut worker = system.spawn_replacement_worker();
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        worker.kill();
    }
    system.restart_worker().await;
    for order in ids.iter().chain([&keyed_id, &stranger, &unknown, &dear]) {
        system
            .order_until(order, "decided", |order| order["status"] != "pending")
            .await;
    }
    let orders = system.wait_until_idle().await;
    // Ten orders, two with keys, eight, and three that are rejected.
    assert_eq!(orders.len(), 23);
    let reasons = |reason: &str| {
        let of = orders
            .iter()
            .filter(|order| order["cancel_reason"] == reason);
        of.map(|order| order["id"].as_str().unwrap())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(reasons("rejected"), [&stranger[..], &unknown, &dear].into());
    assert_eq!(reasons("out_of_stock").len(), 5);
    assert_eq!(system.stock_level("A").await, (15, 15));
    let history = system
        .get(&format!("/v1/orders/{dear}/history"))
        .await
        .expect(200);
    let why = history["data"][1]["data"]["note"].as_str().unwrap();
    assert!(why.contains("expected_total"), "{why}");
    system.assert_verified();
}

#[tokio::test]
async fn async_orders_are_refused_without_a_broker() {
    let mut system = System::start_with_own_broker(&[]).await;
    system.stock("A", &[("main", 5)]).await;
    let customer = system.customer().await;
    system.broker.kill();
    let reply = system.create_async(&order(&customer, "A", 1), None).await;
    assert!(matches!(reply.status, 503 | 504), "{}", reply.body);
    let mut broker = system.take_broker();
    system.broker = tokio::task::spawn_blocking(move || {
        broker.start();
        broker
    })
    .await
    .unwrap();
    until("orders to be readable again", async || {
        system.get("/v1/orders").await.status == 200
    })
    .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn async_orders_belong_to_the_callers_storefront() {
    let keys = "storefront@eu=key-of-eu;operator=key-of-operator";
    let mut system = System::start_with(&[("API_KEYS", keys)]).await;
    system.key = Some("key-of-operator".to_owned());
    system.stock("A", &[("main", 5)]).await;
    system.key = Some("key-of-eu".to_owned());
    let mut new_order = order(&system.customer().await, "A", 1);
    let mine = id(system.create_async(&new_order, Some("cart")).await);
    let found = system.order_until(&mine, "there", |_| true).await;
    assert_eq!(found["storefront"], "eu");
    new_order["storefront"] = json!("us");
    system
        .create_async(&new_order, None)
        .await
        .expect_problem(403, "FORBIDDEN");
    // Synchronous and asynchronous requests with the same key are one order.
    new_order.as_object_mut().unwrap().remove("storefront");
    let ask = |key: &'static str| {
        let request = system.request(Method::POST, "/v1/orders").json(&new_order);
        send(request.header("idempotency-key", key))
    };
    let same = ask("cart").await.expect(201);
    assert_eq!(same["id"], mine.as_str());
    ask("cart-2").await.expect(201);
    id(system.create_async(&new_order, Some("cart-2")).await);
    // This order is queued after the previous one.
    let last = id(system.create_async(&new_order, None).await);
    system.order_until(&last, "there", |_| true).await;
    assert_eq!(system.wait_until_idle().await.len(), 3);
    assert_eq!(system.stock_level("A").await, (5, 3));
    // The same key of another caller is another order.
    system.key = Some("key-of-operator".to_owned());
    new_order["storefront"] = json!("eu");
    assert_ne!(
        id(system.create_async(&new_order, Some("cart")).await),
        mine
    );
}

#[tokio::test]
async fn async_order_with_a_known_key_is_found_at_its_location() {
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let customer = system.customer().await;
    let (one, two, many) = (
        order(&customer, "A", 1),
        order(&customer, "A", 2),
        order(&customer, "A", 100),
    );
    let ask = |new_order: &Value, key: &'static str| {
        let request = system.request(Method::POST, "/v1/orders").json(new_order);
        send(request.header("idempotency-key", key))
    };
    let accepted = ask(&one, "accepted").await.expect(201);
    ask(&many, "refused")
        .await
        .expect_problem(409, "OUT_OF_STOCK");
    ask(&one, "different").await.expect(201);
    // Twice, as if a worker died before the acknowledgement.
    for _ in 0..2 {
        let same = id(system.create_async(&one, Some("accepted")).await);
        let refused = id(system.create_async(&many, Some("refused")).await);
        let different = id(system.create_async(&two, Some("different")).await);
        let last = id(system.create_async(&one, None).await);
        system.order_until(&last, "there", |_| true).await;
        let same = system.get(&format!("/v1/orders/{same}")).await.expect(200);
        assert_eq!(same["id"], accepted["id"]);
        for (id, reason, why) in [
            (refused, "out_of_stock", "A"),
            (different, "rejected", "a different request"),
        ] {
            let path = format!("/v1/orders/{id}");
            let order = system.get(&path).await.expect(200);
            assert_eq!(order["status"], "cancelled");
            assert_eq!(order["cancel_reason"], reason);
            let history = system.get(&format!("{path}/history")).await.expect(200);
            let note = history["data"][1]["data"]["note"].as_str().unwrap();
            assert!(note.contains(why), "{note}");
        }
    }
    // Two orders by their keys, two that are rejected, and the last one of each round.
    assert_eq!(system.wait_until_idle().await.len(), 6);
    let letters = async || system.get("/v1/dead-letters").await.expect(200)["data"].clone();
    assert_eq!(letters().await, json!([]));
    system.assert_verified();
}

#[tokio::test]
async fn another_async_order_with_the_same_key_is_refused_or_cancelled() {
    let mut system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let customer = system.customer().await;
    let (one, two) = (order(&customer, "A", 1), order(&customer, "A", 2));
    // The gateway itself refuses a key conflict while no worker is running.
    system.worker.kill();
    let first = id(system.create_async(&one, Some("cart")).await);
    assert_eq!(id(system.create_async(&one, Some("cart")).await), first);
    system
        .create_async(&two, Some("cart"))
        .await
        .expect_problem(422, "IDEMPOTENCY_CONFLICT");
    // A restarted gateway does not remember the key, and accepts another order, which is then found as rejected.
    system.gateway.kill();
    system.restart_gateway().await;
    let second = id(system.create_async(&two, Some("cart")).await);
    assert_ne!(second, first);
    system.restart_worker().await;
    let refused = system.order_until(&second, "there", |_| true).await;
    assert_eq!(refused["status"], "cancelled");
    assert_eq!(refused["cancel_reason"], "rejected");
    let history = system
        .get(&format!("/v1/orders/{second}/history"))
        .await
        .expect(200);
    let note = history["data"][1]["data"]["note"].as_str().unwrap();
    assert!(note.contains("a different request"), "{note}");
    let accepted = system
        .order_until(&first, "accepted", |order| order["status"] == "processing")
        .await;
    assert_eq!(accepted["items"][0]["quantity"], 1);
    // This gateway remembers the key with the other order; a restarted one returns the first.
    let conflict = system.create_async(&one, Some("cart")).await;
    conflict.expect_problem(422, "IDEMPOTENCY_CONFLICT");
    system.gateway.kill();
    system.restart_gateway().await;
    assert_eq!(id(system.create_async(&one, Some("cart")).await), first);
    assert_eq!(system.wait_until_idle().await.len(), 2);
    let letters = system.get("/v1/dead-letters").await.expect(200);
    assert_eq!(letters["data"], json!([]));
    system.assert_verified();
}

#[tokio::test]
async fn without_a_worker_calls_are_refused_immediately_and_async_orders_accepted() {
    let mut system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let new_order = order(&system.customer().await, "A", 1);
    system.worker.kill();
    until(
        "the gateway to notice that no worker is running",
        async || system.get("/readyz").await.status == 503,
    )
    .await;
    let body = system.get("/readyz").await.body;
    assert_eq!(body["broker"], "ok", "{body}");
    assert!(body["worker"].as_str().unwrap().contains("no worker"));
    let reply = system.post("/v1/orders", new_order.clone()).await;
    assert!(reply.headers.contains_key("retry-after"));
    let problem = reply.expect_problem(503, "UNAVAILABLE");
    assert!(problem["detail"].as_str().unwrap().contains("no worker"));
    system
        .get("/v1/orders")
        .await
        .expect_problem(503, "UNAVAILABLE");
    let promised = id(system.create_async(&new_order, None).await);

    system.restart_worker().await;
    until("the gateway to be ready", async || {
        system.get("/readyz").await.status == 200
    })
    .await;
    system.post("/v1/orders", new_order).await.expect(201);
    system
        .order_until(&promised, "decided", |order| order["status"] != "pending")
        .await;
    assert_eq!(system.wait_until_idle().await.len(), 2);
    system.assert_verified();
}
