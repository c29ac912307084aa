//! Idempotency keys: repeated requests have the effect of one.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Reply, System, order_body, send};

async fn create_order(system: &System, idempotency_key: &str, body: &Value) -> Reply {
    send(
        system
            .request(Method::POST, "/v1/orders")
            .header("idempotency-key", idempotency_key)
            .json(body),
    )
    .await
}

#[tokio::test]
async fn one_key_creates_one_order_across_connections_and_restarts() {
    let mut system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    let replies = join_all((0..20).map(|_| create_order(&system, "key-1", &new_order))).await;
    let original_reply_count = replies
        .iter()
        .filter(|reply| !reply.headers.contains_key("idempotent-replayed"))
        .count();
    assert_eq!(original_reply_count, 1);
    let reply_bodies: Vec<Value> = replies.into_iter().map(|reply| reply.expect(201)).collect();
    assert!(reply_bodies.iter().all(|body| *body == reply_bodies[0]));
    let orders = system.wait_until_idle().await;
    assert_eq!(orders.len(), 1);
    assert_ne!(
        orders[0]["version"], reply_bodies[0]["version"],
        "the order has not changed since"
    );

    system.worker.terminate();
    system.gateway.terminate();
    system.restart_worker().await;
    system.restart_gateway().await;
    let replayed_reply = create_order(&system, "key-1", &new_order).await;
    assert_eq!(replayed_reply.headers["idempotent-replayed"], "true");
    assert_eq!(
        replayed_reply.headers["location"],
        format!("/v1/orders/{}", reply_bodies[0]["id"].as_str().unwrap())
    );
    assert_eq!(
        replayed_reply.expect(201),
        reply_bodies[0],
        "the replay differs from the first response"
    );
    assert_eq!(system.list_orders().await.len(), 1);
    system.assert_verified();
}

#[tokio::test]
async fn reusing_a_key_with_another_body_is_refused() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    create_order(&system, "key-1", &order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    create_order(&system, "key-1", &order_body(&customer_id, "A", 2))
        .await
        .expect_problem(422, "IDEMPOTENCY_CONFLICT");
    create_order(&system, "key-2", &order_body(&customer_id, "A", 2))
        .await
        .expect(201);
    for invalid_key in ["", &"x".repeat(256)] {
        create_order(&system, invalid_key, &order_body(&customer_id, "A", 1))
            .await
            .expect_problem(400, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn reusing_a_key_for_another_operation_is_refused() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let new_order = order_body(&customer_id, "A", 1);
    let id = create_order(&system, "order-key", &new_order)
        .await
        .expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let post_with_key = |path: String, idempotency_key: &'static str, body: Value| {
        let request = system.request(Method::POST, &path);
        send(
            request
                .header("idempotency-key", idempotency_key)
                .json(&body),
        )
    };
    let cancel_path = format!("/v1/orders/{id}/cancel");
    let import = |idempotency_key: &'static str, lines: String| {
        let request = system.request(Method::POST, "/v1/orders/import");
        let request = request.header("content-type", "application/x-ndjson");
        send(
            request
                .header("idempotency-key", idempotency_key)
                .body(lines),
        )
    };

    let conflict_reply = post_with_key(cancel_path.clone(), "order-key", json!({})).await;
    assert_eq!(conflict_reply.expect(422)["code"], "IDEMPOTENCY_CONFLICT");
    let conflict_reply = import("order-key", new_order.to_string()).await;
    assert_eq!(conflict_reply.expect(422)["code"], "IDEMPOTENCY_CONFLICT");
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_ne!(order["status"], "cancelled");

    post_with_key(cancel_path.clone(), "cancel-key", json!({}))
        .await
        .expect(200);
    let conflict_reply = create_order(&system, "cancel-key", &new_order).await;
    assert_eq!(conflict_reply.expect(422)["code"], "IDEMPOTENCY_CONFLICT");
    let conflict_reply = post_with_key(
        "/v1/orders/approve".to_owned(),
        "cancel-key",
        json!({"all": true}),
    )
    .await;
    assert_eq!(conflict_reply.expect(422)["code"], "IDEMPOTENCY_CONFLICT");
    let replayed_reply = post_with_key(cancel_path, "cancel-key", json!({})).await;
    assert_eq!(replayed_reply.headers["idempotent-replayed"], "true");

    assert_eq!(
        import("import-key", new_order.to_string())
            .await
            .expect(200)["accepted"],
        1
    );
    assert_eq!(
        import("import-key", new_order.to_string())
            .await
            .expect(200)["duplicates"],
        1
    );
    let conflict_reply = create_order(&system, "import-key", &new_order).await;
    assert_eq!(conflict_reply.expect(422)["code"], "IDEMPOTENCY_CONFLICT");
    system.wait_until_idle().await;
    system.assert_verified();
}

/// An asynchronous order is acknowledged before its key is checked, so it is stored in any case.
#[tokio::test]
async fn asynchronous_order_whose_key_was_used_for_another_operation_is_stored_as_cancelled() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    let id = create_order(&system, "order-key", &new_order)
        .await
        .expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cancel_request = system.request(Method::POST, &format!("/v1/orders/{id}/cancel"));
    send(
        cancel_request
            .header("idempotency-key", "cancel-key")
            .json(&json!({})),
    )
    .await
    .expect(200);
    let request = system.request(Method::POST, "/v1/orders").json(&new_order);
    let keyed_request = request
        .header("idempotency-key", "cancel-key")
        .header("prefer", "respond-async");
    let accepted_order = send(keyed_request).await.expect(202);
    let id = accepted_order["id"].as_str().unwrap();
    let stored_order = system
        .wait_for_order(id, "stored", |order| order["status"] == "cancelled")
        .await;
    assert_eq!(stored_order["cancel_reason"], "rejected");
    let dead_letters = system.get("/v1/dead-letters").await.expect(200);
    assert_eq!(dead_letters["data"], json!([]));
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn refusal_is_replayed() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 0)]).await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    create_order(&system, "key-1", &new_order)
        .await
        .expect_problem(409, "OUT_OF_STOCK");
    system
        .put("/v1/products/A/stock/main", json!({"on_hand": 5}))
        .await
        .expect(200);
    let replayed_reply = create_order(&system, "key-1", &new_order).await;
    assert_eq!(replayed_reply.headers["idempotent-replayed"], "true");
    replayed_reply.expect_problem(409, "OUT_OF_STOCK");
    create_order(&system, "key-2", &new_order).await.expect(201);
}

#[tokio::test]
async fn two_storefronts_can_use_the_same_key() {
    let mut system = System::start_with(&[(
        "API_KEYS",
        "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator",
    )])
    .await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let mut order_ids = Vec::new();
    for api_key in ["key-of-eu", "key-of-us"] {
        system.api_key = Some(api_key.to_owned());
        let new_order = order_body(&system.create_customer().await, "A", 1);
        let created_order = create_order(&system, "key-1", &new_order).await.expect(201);
        order_ids.push(created_order["id"].clone());
    }
    assert_ne!(order_ids[0], order_ids[1]);
}
