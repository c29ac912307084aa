//! Customers: validation, lists, verification, blocking and erasure.

use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::{
    harness::{System, Tables, WORKER, order, until},
    upgrade::wait_until_ready,
};

#[tokio::test]
async fn orders_for_unknown_or_blocked_customers_are_refused() {
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let customer = system.customer().await;
    let unknown = "0192f0c1-2345-7abc-8def-0123456789ab";
    let refused = async |customer: &str| {
        let problem = system
            .post("/v1/orders", order(customer, "A", 1))
            .await
            .expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], "/customer_id");
    };
    refused(unknown).await;
    let blocked = system
        .post(&format!("/v1/customers/{customer}/block"), json!({}))
        .await
        .expect(200);
    assert_eq!(blocked["is_blocked"], true);
    refused(&customer).await;
    system
        .post(&format!("/v1/customers/{customer}/unblock"), json!({}))
        .await
        .expect(200);
    system
        .post("/v1/orders", order(&customer, "A", 1))
        .await
        .expect(201);
    system
        .get(&format!("/v1/customers/{unknown}"))
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .get("/v1/customers/nobody")
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn customers_are_listed_newest_first() {
    let system = System::start().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(system.customer().await);
    }
    made.reverse();
    let first = system.get("/v1/customers?limit=2").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = system
        .get(&format!("/v1/customers?limit=2&cursor={cursor}"))
        .await
        .expect(200);
    let pages = [&first, &second]
        .map(|page| page["data"].as_array().unwrap().clone())
        .concat();
    let ids: Vec<_> = pages
        .iter()
        .map(|customer| customer["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, made);
    assert_eq!(second["next_cursor"], json!(null));
    system
        .post("/v1/customers", json!({"name": "", "email": "nobody"}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
}

#[tokio::test]
async fn only_verified_customers_can_order_if_verification_is_required() {
    let system = System::start_with(&[("CUSTOMER_VERIFICATION", "required")]).await;
    system.stock("A", &[("main", 5)]).await;
    let customer = system.customer().await;
    let problem = system
        .post("/v1/orders", order(&customer, "A", 1))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/customer_id");
    let verified = system
        .post(&format!("/v1/customers/{customer}/verify"), json!({}))
        .await
        .expect(200);
    assert_eq!(verified["is_verified"], true);
    let created = system.post("/v1/orders", order(&customer, "A", 1)).await;
    let id = created.expect(201)["id"].clone();
    let theirs = system
        .get(&format!("/v1/customers/{customer}/orders"))
        .await
        .expect(200);
    assert_eq!(theirs["data"][0]["id"], id);
    let unknown = "/v1/customers/0192f0c1-2345-7abc-8def-0123456789ab/orders";
    system.get(unknown).await.expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn erasing_a_customer_keeps_orders_without_personal_data() {
    const PERSONAL: [&str; 4] = ["Lovelace", "St James", "analytical", "my engine"];
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let new = json!({"name": "Ada Lovelace", "email": "ada@lovelace.example"});
    let customer = system.post("/v1/customers", new).await.expect(201)["id"].clone();
    let customer = customer.as_str().unwrap();
    let mut new_order = order(customer, "A", 1);
    new_order["shipping_address"] = json!({"name": "Ada Lovelace", "line1": "St James's Square"});
    new_order["metadata"] = json!({"for": "analytical"});
    let place = async || {
        let request = system
            .request(reqwest::Method::POST, "/v1/orders")
            .json(&new_order);
        let key = uuid::Uuid::now_v7().to_string();
        let created = crate::harness::send(request.header("idempotency-key", key)).await;
        created.expect(201)["id"].as_str().unwrap().to_owned()
    };
    let (delivered, cancelled) = (place().await, place().await);
    system
        .order_until(&delivered, "announced", crate::harness::is_announced)
        .await;
    let path = format!("/v1/customers/{customer}");
    // The address is needed until the order is delivered.
    system
        .delete(&path)
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(system.get(&path).await.expect(200)["name"], "Ada Lovelace");
    let cancel = format!("/v1/orders/{cancelled}/cancel");
    system
        .post(&cancel, json!({"reason": "my engine is broken"}))
        .await
        .expect(200);
    system
        .webhook("m-1", "shipment.delivered", &delivered)
        .await
        .expect(200);
    let is_over = |order: &serde_json::Value| order["status"] == "delivered";
    system.order_until(&delivered, "delivered", is_over).await;
    system.wait_until_idle().await;
    for _ in 0..2 {
        let erased = system.delete(&path).await;
        assert_eq!(erased.status, 204, "{}", erased.body);
    }
    let known = system.get(&path).await.expect(200);
    assert_eq!((&known["name"], &known["email"]), (&json!(""), &json!("")));
    assert!(known["erased_at"].is_string());
    for id in [&delivered, &cancelled] {
        let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
        assert_eq!(
            (&order["total"], &order["items"][0]["sku"]),
            (&json!(1000), &json!("A"))
        );
        let history = system
            .get(&format!("/v1/orders/{id}/history?limit=200"))
            .await;
        let feed = system
            .get(&format!("/v1/events?order_id={id}&limit=200"))
            .await;
        let responses = format!("{order} {} {}", history.expect(200), feed.expect(200));
        for word in PERSONAL {
            assert!(!responses.contains(word), "{word} in {responses}");
        }
    }
    // No table contains the personal data either.
    let tables = [
        "SELECT state FROM orders",
        "SELECT data FROM events",
        "SELECT state FROM customers",
        "SELECT coalesce(outcome, '') FROM idempotency",
        "SELECT message FROM dead_letters",
    ];
    for sql in tables {
        let rows = system.store.run(crate::harness::Tables::Orders, sql);
        for word in PERSONAL {
            assert!(!rows.contains(word), "{word}: {sql}");
        }
    }
    let problem = system
        .post("/v1/orders", order(customer, "A", 1))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["detail"], "was erased");
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_changes_to_a_customer_are_all_applied() {
    const CUSTOMERS: usize = 600;
    let system = System::start().await;
    // With SQLite there is one worker, which decides commands sequentially.
    let second = (!system.store.is_sqlite()).then(|| system.start_additional_worker(WORKER));
    if let Some(second) = &second {
        wait_until_ready(second).await;
    }
    let made = stream::iter(0..CUSTOMERS).map(|_| system.customer());
    let customers: Vec<_> = made.buffer_unordered(16).collect().await;
    // The three commands for a customer are some messages apart, so that different workers process them.
    let actions = ["verify", "block", "erase"].iter().enumerate();
    let actions = actions.flat_map(|(place, action)| {
        let customers = customers.iter().enumerate();
        customers.map(move |(number, id)| (number + 20 * place, *action, id))
    });
    let mut actions: Vec<_> = actions.collect();
    actions.sort_unstable();
    let system = &system;
    stream::iter(actions)
        .map(async |(_, action, id)| {
            let path = format!("/v1/customers/{id}");
            match action {
                "erase" => system.delete(&path).await.expect(204),
                action => {
                    let path = format!("{path}/{action}");
                    system.post(&path, json!({})).await.expect(200)
                }
            }
        })
        .buffer_unordered(64)
        .for_each(async |_| {})
        .await;
    for id in &customers {
        let customer = system.get(&format!("/v1/customers/{id}")).await.expect(200);
        assert_eq!(customer["is_blocked"], true, "{customer}");
        assert!(customer["erased_at"].is_string(), "{customer}");
        assert_eq!(customer["email"], "", "{customer}");
    }
}

#[tokio::test]
async fn erasing_a_customer_sees_an_order_another_worker_is_writing() {
    let system = System::start().await;
    if system.store.is_sqlite() {
        // SQLite has one worker.
        return;
    }
    system.stock("A", &[("main", 5)]).await;
    let customer = system.customer().await;
    let placed = system.post("/v1/orders", order(&customer, "A", 1)).await;
    let placed = placed.expect(201)["id"].as_str().unwrap().to_owned();
    let cancel = format!("/v1/orders/{placed}/cancel");
    system.post(&cancel, json!({})).await.expect(200);
    // Simulates a worker that has read the customer and is still writing its order.
    let other = uuid::Uuid::now_v7();
    let writing = system.store.begin_transaction(&format!(
        "LOCK TABLE shelves IN ROW SHARE MODE;
         INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
         SELECT number + 1000, '{other}', storefront, customer_id, 'pending', is_deleted, created_at,
                state::jsonb
                || jsonb_build_object('id', '{other}', 'number', number + 1000, 'status', 'pending')
         FROM orders WHERE id = '{placed}'"
    ));
    let path = format!("/v1/customers/{customer}");
    let writes_on = async {
        let waits = "SELECT count(*) FROM pg_locks
                     WHERE NOT granted AND mode = 'ExclusiveLock' AND relation = 'shelves'::regclass";
        until("the erasure to wait for the open transaction", async || {
            system.store.run(Tables::Orders, waits) == "1"
        })
        .await;
        writing.commit();
    };
    let (erasing, ()) = tokio::join!(system.delete(&path), writes_on);
    let problem = erasing.expect_problem(409, "INVALID_STATE");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&other.to_string()), "{detail}");
}

#[tokio::test]
async fn invisible_names_and_unexpected_bodies_are_refused() {
    let system = System::start().await;
    for blank in [" ", "\u{200b}\u{2060}", "\u{3000}", "\u{3164}", "\u{2800}"] {
        let customer = json!({"name": blank, "email": "ada@example.com"});
        let product = json!({"sku": "X", "name": blank, "price": 1, "currency": "EUR"});
        for (path, body) in [("/v1/customers", customer), ("/v1/products", product)] {
            let refused = system.post(path, body).await;
            let problem = refused.expect_problem(422, "INVALID_REQUEST");
            assert_eq!(problem["errors"][0]["pointer"], "/name", "{blank:?}");
        }
    }
    let path = format!("/v1/customers/{}", system.customer().await);
    for action in ["block", "unblock", "verify"] {
        let path = format!("{path}/{action}");
        for body in [json!({"is_blocked": false}), json!({"reason": "x"})] {
            let refused = system.post(&path, body).await;
            refused.expect_problem(422, "INVALID_REQUEST");
        }
        system.post(&path, json!({})).await.expect(200);
        let request = system.request(reqwest::Method::POST, &path);
        crate::harness::send(request).await.expect(200);
    }
}
