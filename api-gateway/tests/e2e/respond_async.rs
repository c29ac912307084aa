//! `Prefer: respond-async`: orders that are accepted while no worker is running.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Reply, System, order_body, send, wait_until};

impl System {
    async fn create_async(&self, new_order: &Value, idempotency_key: Option<&str>) -> Reply {
        let request = self.request(Method::POST, "/v1/orders").json(new_order);
        let request = request.header("prefer", "respond-async");
        send(match idempotency_key {
            Some(idempotency_key) => request.header("idempotency-key", idempotency_key),
            None => request,
        })
        .await
    }
}

fn id_of_reply(reply: Reply) -> String {
    assert_eq!(reply.headers["preference-applied"], "respond-async");
    let location_header = reply.headers["location"].to_str().unwrap().to_owned();
    let body = reply.expect(202);
    let id = body["id"].as_str().unwrap().to_owned();
    assert_eq!(location_header, format!("/v1/orders/{id}"));
    id
}

#[tokio::test]
async fn async_orders_are_accepted_during_outages_and_executed_once() {
    let mut system = System::start_with_own_broker(&[]).await;
    system.create_product_with_stock("A", &[("main", 15)]).await;
    let customer_id = system.create_customer().await;
    system.worker.kill();

    let new_order = order_body(&customer_id, "A", 1);
    let accepted_replies = join_all((0..10).map(|_| system.create_async(&new_order, None))).await;
    let mut ids: Vec<String> = accepted_replies.into_iter().map(id_of_reply).collect();
    // Requests with the same key are one order, also across gateways.
    let keyed_id = id_of_reply(system.create_async(&new_order, Some("cart-1")).await);
    system.gateway.kill();
    system.restart_gateway_without_worker().await;
    assert_eq!(
        id_of_reply(system.create_async(&new_order, Some("cart-1")).await),
        keyed_id
    );
    assert_ne!(
        id_of_reply(system.create_async(&new_order, Some("cart-2")).await),
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
    wait_until(
        "the gateway to be connected to the broker again",
        async || system.get("/readyz").await.body["broker"] == "ok",
    )
    .await;
    let more_replies = join_all((0..8).map(|_| system.create_async(&new_order, None))).await;
    ids.extend(more_replies.into_iter().map(id_of_reply));

    // Orders that can't be fulfilled are rejected by the worker later.
    let unknown_customer_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    let unknown_customer_order_id = id_of_reply(
        system
            .create_async(&order_body(unknown_customer_id, "A", 1), None)
            .await,
    );
    let unknown_sku_order_id = id_of_reply(
        system
            .create_async(&order_body(&customer_id, "B", 1), None)
            .await,
    );
    let mut order_with_wrong_total = new_order.clone();
    order_with_wrong_total["expected_total"] = json!(1);
    let wrong_total_order_id =
        id_of_reply(system.create_async(&order_with_wrong_total, None).await);
    // Malformed orders are refused immediately.
    system
        .create_async(&json!({"customer_id": customer_id, "items": []}), None)
        .await
        .expect_problem(422, "INVALID_REQUEST");

    // Workers start and are killed.
    for _ in 0..3 {
        let mut worker = system.spawn_replacement_worker();
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        worker.kill();
    }
    system.restart_worker().await;
    for order_id in ids.iter().chain([
        &keyed_id,
        &unknown_customer_order_id,
        &unknown_sku_order_id,
        &wrong_total_order_id,
    ]) {
        system
            .wait_for_order(order_id, "decided", |order| order["status"] != "pending")
            .await;
    }
    let orders = system.wait_until_idle().await;
    // Ten orders, two with keys, eight, and three that are rejected.
    assert_eq!(orders.len(), 23);
    let cancelled_with = |reason: &str| {
        let matching_orders = orders
            .iter()
            .filter(|order| order["cancel_reason"] == reason);
        matching_orders
            .map(|order| order["id"].as_str().unwrap())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        cancelled_with("rejected"),
        [
            &unknown_customer_order_id[..],
            &unknown_sku_order_id,
            &wrong_total_order_id
        ]
        .into()
    );
    assert_eq!(cancelled_with("out_of_stock").len(), 5);
    assert_eq!(system.stock_level("A").await, (15, 15));
    let history = system
        .get(&format!("/v1/orders/{wrong_total_order_id}/history"))
        .await
        .expect(200);
    let cancellation_note = history["data"][1]["data"]["note"].as_str().unwrap();
    assert!(
        cancellation_note.contains("expected_total"),
        "{cancellation_note}"
    );
    system.assert_verified();
}

#[tokio::test]
async fn async_orders_are_refused_without_a_broker() {
    let mut system = System::start_with_own_broker(&[]).await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    system.broker.kill();
    let reply = system
        .create_async(&order_body(&customer_id, "A", 1), None)
        .await;
    assert!(matches!(reply.status, 503 | 504), "{}", reply.body);
    let mut broker = system.take_broker();
    system.broker = tokio::task::spawn_blocking(move || {
        broker.start();
        broker
    })
    .await
    .unwrap();
    wait_until("orders to be readable again", async || {
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
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let mut new_order = order_body(&system.create_customer().await, "A", 1);
    let order_id = id_of_reply(system.create_async(&new_order, Some("cart")).await);
    let found_order = system.wait_for_order(&order_id, "there", |_| true).await;
    assert_eq!(found_order["storefront"], "eu");
    new_order["storefront"] = json!("us");
    system
        .create_async(&new_order, None)
        .await
        .expect_problem(403, "FORBIDDEN");
    // Synchronous and asynchronous requests with the same key are one order.
    new_order.as_object_mut().unwrap().remove("storefront");
    let create_with_key = |idempotency_key: &'static str| {
        let request = system.request(Method::POST, "/v1/orders").json(&new_order);
        send(request.header("idempotency-key", idempotency_key))
    };
    let same_order = create_with_key("cart").await.expect(201);
    assert_eq!(same_order["id"], order_id.as_str());
    create_with_key("cart-2").await.expect(201);
    id_of_reply(system.create_async(&new_order, Some("cart-2")).await);
    // This order is queued after the previous one.
    let last_id = id_of_reply(system.create_async(&new_order, None).await);
    system.wait_for_order(&last_id, "there", |_| true).await;
    assert_eq!(system.wait_until_idle().await.len(), 3);
    assert_eq!(system.stock_level("A").await, (5, 3));
    // The same key of another caller is another order.
    system.api_key = Some("key-of-operator".to_owned());
    new_order["storefront"] = json!("eu");
    assert_ne!(
        id_of_reply(system.create_async(&new_order, Some("cart")).await),
        order_id
    );
}

#[tokio::test]
async fn async_order_with_a_known_key_is_found_at_its_location() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let (one_item, two_items, too_many_items) = (
        order_body(&customer_id, "A", 1),
        order_body(&customer_id, "A", 2),
        order_body(&customer_id, "A", 100),
    );
    let create_with_key = |new_order: &Value, idempotency_key: &'static str| {
        let request = system.request(Method::POST, "/v1/orders").json(new_order);
        send(request.header("idempotency-key", idempotency_key))
    };
    let accepted_order = create_with_key(&one_item, "accepted").await.expect(201);
    create_with_key(&too_many_items, "refused")
        .await
        .expect_problem(409, "OUT_OF_STOCK");
    create_with_key(&one_item, "different").await.expect(201);
    // Twice, as if a worker died before the acknowledgement.
    for _ in 0..2 {
        let same_id = id_of_reply(system.create_async(&one_item, Some("accepted")).await);
        let refused_id = id_of_reply(system.create_async(&too_many_items, Some("refused")).await);
        let different_id = id_of_reply(system.create_async(&two_items, Some("different")).await);
        let last_id = id_of_reply(system.create_async(&one_item, None).await);
        system.wait_for_order(&last_id, "there", |_| true).await;
        let same_order = system
            .get(&format!("/v1/orders/{same_id}"))
            .await
            .expect(200);
        assert_eq!(same_order["id"], accepted_order["id"]);
        for (id, reason, description) in [
            (refused_id, "out_of_stock", "A"),
            (different_id, "rejected", "a different request"),
        ] {
            let path = format!("/v1/orders/{id}");
            let order = system.get(&path).await.expect(200);
            assert_eq!(order["status"], "cancelled");
            assert_eq!(order["cancel_reason"], reason);
            let history = system.get(&format!("{path}/history")).await.expect(200);
            let note = history["data"][1]["data"]["note"].as_str().unwrap();
            assert!(note.contains(description), "{note}");
        }
    }
    // Two orders by their keys, two that are rejected, and the last one of each round.
    assert_eq!(system.wait_until_idle().await.len(), 6);
    let dead_letters = async || system.get("/v1/dead-letters").await.expect(200)["data"].clone();
    assert_eq!(dead_letters().await, json!([]));
    system.assert_verified();
}

#[tokio::test]
async fn another_async_order_with_the_same_key_is_refused_or_cancelled() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let (one_unit_order, two_unit_order) = (
        order_body(&customer_id, "A", 1),
        order_body(&customer_id, "A", 2),
    );
    // The gateway itself refuses a key conflict while no worker is running.
    system.worker.kill();
    let first_id = id_of_reply(system.create_async(&one_unit_order, Some("cart")).await);
    assert_eq!(
        id_of_reply(system.create_async(&one_unit_order, Some("cart")).await),
        first_id
    );
    system
        .create_async(&two_unit_order, Some("cart"))
        .await
        .expect_problem(422, "IDEMPOTENCY_CONFLICT");
    // A restarted gateway does not remember the key, and accepts another order, which is then found as rejected.
    system.gateway.kill();
    system.restart_gateway().await;
    let second_id = id_of_reply(system.create_async(&two_unit_order, Some("cart")).await);
    assert_ne!(second_id, first_id);
    system.restart_worker().await;
    let refused_order = system.wait_for_order(&second_id, "there", |_| true).await;
    assert_eq!(refused_order["status"], "cancelled");
    assert_eq!(refused_order["cancel_reason"], "rejected");
    let history = system
        .get(&format!("/v1/orders/{second_id}/history"))
        .await
        .expect(200);
    let note = history["data"][1]["data"]["note"].as_str().unwrap();
    assert!(note.contains("a different request"), "{note}");
    let accepted_order = system
        .wait_for_order(&first_id, "accepted", |order| {
            order["status"] == "processing"
        })
        .await;
    assert_eq!(accepted_order["items"][0]["quantity"], 1);
    // This gateway remembers the key with the other order; a restarted one returns the first.
    let conflict_reply = system.create_async(&one_unit_order, Some("cart")).await;
    conflict_reply.expect_problem(422, "IDEMPOTENCY_CONFLICT");
    system.gateway.kill();
    system.restart_gateway().await;
    assert_eq!(
        id_of_reply(system.create_async(&one_unit_order, Some("cart")).await),
        first_id
    );
    assert_eq!(system.wait_until_idle().await.len(), 2);
    let dead_letters = system.get("/v1/dead-letters").await.expect(200);
    assert_eq!(dead_letters["data"], json!([]));
    system.assert_verified();
}

#[tokio::test]
async fn async_orders_are_created_in_the_order_of_their_acceptance() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 20)]).await;
    let customer_id = system.create_customer().await;
    system.worker.kill();
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(id_of_reply(
            system
                .create_async(&order_body(&customer_id, "A", 1), None)
                .await,
        ));
    }
    system.restart_worker().await;
    wait_until("all orders to be created", async || {
        system.list_orders().await.len() == ids.len()
    })
    .await;
    let orders: HashMap<String, Value> = system
        .wait_until_idle()
        .await
        .into_iter()
        .map(|order| (order["id"].as_str().unwrap().to_owned(), order))
        .collect();
    // The first ones get the stock.
    for (index, id) in ids.iter().enumerate() {
        let expected_status = if index < 20 {
            "processing"
        } else {
            "cancelled"
        };
        assert_eq!(orders[id]["status"], expected_status, "order {index}");
    }
    system.assert_verified();
}

#[tokio::test]
async fn without_a_worker_calls_are_refused_immediately_and_async_orders_accepted() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    system.worker.kill();
    wait_until(
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
    let order_id = id_of_reply(system.create_async(&new_order, None).await);

    system.restart_worker().await;
    wait_until("the gateway to be ready", async || {
        system.get("/readyz").await.status == 200
    })
    .await;
    system.post("/v1/orders", new_order).await.expect(201);
    system
        .wait_for_order(&order_id, "decided", |order| order["status"] != "pending")
        .await;
    assert_eq!(system.wait_until_idle().await.len(), 2);
    system.assert_verified();
}
