//! Customers: validation, lists, verification, blocking and erasure.

use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    auth::API_KEYS,
    harness::{Reply, System, Tables, WORKER, has_shipping_label, order_body, send, wait_until},
    upgrade::wait_until_ready,
};

#[tokio::test]
async fn orders_for_unknown_or_blocked_customers_are_refused() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    let assert_order_refused = async |customer_id: &str| {
        let problem = system
            .post("/v1/orders", order_body(customer_id, "A", 1))
            .await
            .expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], "/customer_id");
    };
    assert_order_refused(unknown_id).await;
    let blocked_customer = system
        .post(&format!("/v1/customers/{customer_id}/block"), json!({}))
        .await
        .expect(200);
    assert_eq!(blocked_customer["is_blocked"], true);
    assert_order_refused(&customer_id).await;
    system
        .post(&format!("/v1/customers/{customer_id}/unblock"), json!({}))
        .await
        .expect(200);
    system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    system
        .get(&format!("/v1/customers/{unknown_id}"))
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
    let mut customer_ids = Vec::new();
    for _ in 0..3 {
        customer_ids.push(system.create_customer().await);
    }
    customer_ids.reverse();
    let first_page = system.get("/v1/customers?limit=2").await.expect(200);
    let cursor = first_page["next_cursor"].as_str().unwrap();
    let second_page = system
        .get(&format!("/v1/customers?limit=2&cursor={cursor}"))
        .await
        .expect(200);
    let listed_customers = [&first_page, &second_page]
        .map(|page| page["data"].as_array().unwrap().clone())
        .concat();
    let listed_ids: Vec<_> = listed_customers
        .iter()
        .map(|customer| customer["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed_ids, customer_ids);
    assert_eq!(second_page["next_cursor"], json!(null));
    system
        .post("/v1/customers", json!({"name": "", "email": "nobody"}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
}

#[tokio::test]
async fn only_verified_customers_can_order_if_verification_is_required() {
    let system = System::start_with(&[("CUSTOMER_VERIFICATION", "required")]).await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let problem = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/customer_id");
    let verified_customer = system
        .post(&format!("/v1/customers/{customer_id}/verify"), json!({}))
        .await
        .expect(200);
    assert_eq!(verified_customer["is_verified"], true);
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let order_id = order_reply.expect(201)["id"].clone();
    let customers_orders = system
        .get(&format!("/v1/customers/{customer_id}/orders"))
        .await
        .expect(200);
    assert_eq!(customers_orders["data"][0]["id"], order_id);
    let unknown_path = "/v1/customers/0192f0c1-2345-7abc-8def-0123456789ab/orders";
    system
        .get(unknown_path)
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[expect(clippy::too_many_lines, reason = "every place that has personal data")]
#[tokio::test]
async fn erasing_a_customer_keeps_orders_without_personal_data() {
    const PERSONAL_DATA: [&str; 8] = [
        "Trafalgar",
        "jammed",
        "Lovelace",
        "lovelace",
        "St James",
        "analytical",
        "my engine",
        "555 0199",
    ];
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let new_customer = json!({
        "name": "Ada Lovelace", "email": "ada@lovelace.example", "phone": "+44 555 0199",
        "addresses": [{"name": "Ada Lovelace", "line1": "St James's Square"}],
    });
    let customer_id = system.post("/v1/customers", new_customer).await.expect(201)["id"].clone();
    let customer_id = customer_id.as_str().unwrap();
    let customer_path = format!("/v1/customers/{customer_id}");
    let metadata_patch = json!({"metadata": {"note": "analytical"}});
    system
        .patch(&customer_path, metadata_patch)
        .await
        .expect(200);
    let mut new_order = order_body(customer_id, "A", 1);
    new_order["shipping_address"] = json!({"name": "Ada Lovelace", "line1": "St James's Square"});
    new_order["metadata"] = json!({"for": "analytical"});
    let place_order = async || {
        let request = system
            .request(reqwest::Method::POST, "/v1/orders")
            .json(&new_order);
        let idempotency_key = uuid::Uuid::now_v7().to_string();
        let order_reply =
            crate::harness::send(request.header("idempotency-key", idempotency_key)).await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    };
    let (delivered_id, cancelled_id) = (place_order().await, place_order().await);
    system
        .wait_for_order(
            &delivered_id,
            "announced",
            crate::harness::has_shipping_label,
        )
        .await;
    for order_id in [&delivered_id, &cancelled_id] {
        let order_patch = json!({"shipping_address": {"line1": "Trafalgar Square"}, "note": "the engine jammed",
                           "metadata": {"since": "analytical times"}, "tags": ["engine"]});
        let request = system
            .request(reqwest::Method::PATCH, &format!("/v1/orders/{order_id}"))
            .json(&order_patch);
        let idempotency_key = uuid::Uuid::now_v7().to_string();
        let order_reply =
            crate::harness::send(request.header("idempotency-key", idempotency_key)).await;
        assert_eq!(order_reply.expect(200)["note"], "the engine jammed");
    }
    // The address is needed until the order is delivered.
    system
        .delete(&customer_path)
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(
        system.get(&customer_path).await.expect(200)["name"],
        "Ada Lovelace"
    );
    let cancel_path = format!("/v1/orders/{cancelled_id}/cancel");
    system
        .post(&cancel_path, json!({"reason": "my engine is broken"}))
        .await
        .expect(200);
    system
        .send_webhook("m-1", "shipment.delivered", &delivered_id)
        .await
        .expect(200);
    let is_delivered = |order: &serde_json::Value| order["status"] == "delivered";
    system
        .wait_for_order(&delivered_id, "delivered", is_delivered)
        .await;
    system.wait_until_idle().await;
    for _ in 0..2 {
        let erase_reply = system.delete(&customer_path).await;
        assert_eq!(erase_reply.status, 204, "{}", erase_reply.body);
    }
    let erased_customer = system.get(&customer_path).await.expect(200);
    assert_eq!(
        (&erased_customer["name"], &erased_customer["email"]),
        (&json!(""), &json!(""))
    );
    assert!(erased_customer["erased_at"].is_string());
    assert_eq!(erased_customer["phone"], json!(null));
    assert_eq!(
        (&erased_customer["addresses"], &erased_customer["metadata"]),
        (&json!([]), &json!({}))
    );
    for search_path in [
        "customers?q=ada",
        "customers?email=ada@lovelace.example",
        "orders?q=Ada",
    ] {
        let search_result = system.get(&format!("/v1/{search_path}")).await.expect(200);
        assert_eq!(search_result["data"], json!([]), "{search_path}");
    }
    let problem_reply = system.patch(&customer_path, json!({"name": "Ada"})).await;
    let problem = problem_reply.expect_problem(409, "INVALID_STATE");
    assert!(
        problem["detail"].as_str().unwrap().contains("was erased"),
        "{problem}"
    );
    for order_id in [&delivered_id, &cancelled_id] {
        let order = system
            .get(&format!("/v1/orders/{order_id}"))
            .await
            .expect(200);
        assert_eq!(
            (&order["total"], &order["items"][0]["sku"]),
            (&json!(1000), &json!("A"))
        );
        let history_reply = system
            .get(&format!("/v1/orders/{order_id}/history?limit=200"))
            .await;
        let feed_page_reply = system
            .get(&format!("/v1/events?order_id={order_id}&limit=200"))
            .await;
        let responses = format!(
            "{order} {} {}",
            history_reply.expect(200),
            feed_page_reply.expect(200)
        );
        for personal_word in PERSONAL_DATA {
            assert!(
                !responses.contains(personal_word),
                "{personal_word} in {responses}"
            );
        }
    }
    // No table contains the personal data either.
    let personal_data_queries = [
        "SELECT state FROM orders",
        "SELECT data FROM events",
        "SELECT coalesce(name_key, '') || coalesce(email_key, '') || state || coalesce(profile, '')
         FROM customers",
        "SELECT coalesce(outcome, '') FROM idempotency",
        "SELECT message FROM dead_letters",
    ];
    for sql in personal_data_queries {
        let rows = system.store.run(crate::harness::Tables::Worker, sql);
        for personal_word in PERSONAL_DATA {
            assert!(!rows.contains(personal_word), "{personal_word}: {sql}");
        }
    }
    let problem = system
        .post("/v1/orders", order_body(customer_id, "A", 1))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["detail"], "was erased");
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_changes_to_a_customer_are_all_applied() {
    const CUSTOMER_COUNT: usize = 600;
    let system = System::start().await;
    // With SQLite there is one worker, which decides commands sequentially.
    let second_worker = (!system.store.is_sqlite()).then(|| system.start_additional_worker(WORKER));
    if let Some(second_worker) = &second_worker {
        wait_until_ready(second_worker).await;
    }
    let created_customers = stream::iter(0..CUSTOMER_COUNT).map(|_| system.create_customer());
    let customer_ids: Vec<_> = created_customers.buffer_unordered(16).collect().await;
    // The three commands for a customer are some messages apart, so that different workers process them.
    let actions = ["verify", "block", "erase"].iter().enumerate();
    let actions = actions.flat_map(|(action_index, action_name)| {
        let customer_ids = customer_ids.iter().enumerate();
        customer_ids.map(move |(customer_index, customer_id)| {
            (
                customer_index + 20 * action_index,
                *action_name,
                customer_id,
            )
        })
    });
    let mut actions: Vec<_> = actions.collect();
    actions.sort_unstable();
    let system = &system;
    stream::iter(actions)
        .map(async |(_, action, customer_id)| {
            let path = format!("/v1/customers/{customer_id}");
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
    for customer_id in &customer_ids {
        let customer = system
            .get(&format!("/v1/customers/{customer_id}"))
            .await
            .expect(200);
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
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let order_id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    let cancel_path = format!("/v1/orders/{order_id}/cancel");
    system.post(&cancel_path, json!({})).await.expect(200);
    // Simulates a worker that has read the customer and is still writing its order.
    let unwritten_order_id = uuid::Uuid::now_v7();
    let open_transaction = system.store.begin_transaction(&format!(
        "LOCK TABLE shelves IN ROW SHARE MODE;
         INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
         SELECT number + 1000, '{unwritten_order_id}', storefront, customer_id, 'pending', is_deleted, created_at,
                state::jsonb
                || jsonb_build_object('id', '{unwritten_order_id}', 'number', number + 1000, 'status', 'pending')
         FROM orders WHERE id = '{order_id}'"
    ));
    let customer_path = format!("/v1/customers/{customer_id}");
    let commit_after_wait = async {
        let waiting_locks_sql = "SELECT count(*) FROM pg_locks
                     WHERE NOT granted AND mode = 'ExclusiveLock' AND relation = 'shelves'::regclass";
        wait_until("the erasure to wait for the open transaction", async || {
            system.store.run(Tables::Worker, waiting_locks_sql) == "1"
        })
        .await;
        open_transaction.commit();
    };
    let (erase_reply, ()) = tokio::join!(system.delete(&customer_path), commit_after_wait);
    let problem = erase_reply.expect_problem(409, "INVALID_STATE");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&unwritten_order_id.to_string()), "{detail}");
}

#[tokio::test]
async fn invisible_names_and_unexpected_bodies_are_refused() {
    let system = System::start().await;
    for blank_name in [" ", "\u{200b}\u{2060}", "\u{3000}", "\u{3164}", "\u{2800}"] {
        let blank_customer = json!({"name": blank_name, "email": "ada@example.com"});
        let product = json!({"sku": "X", "name": blank_name, "price": 1, "currency": "EUR"});
        for (path, body) in [("/v1/customers", blank_customer), ("/v1/products", product)] {
            let refused_reply = system.post(path, body).await;
            let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
            assert_eq!(problem["errors"][0]["pointer"], "/name", "{blank_name:?}");
        }
    }
    let path = format!("/v1/customers/{}", system.create_customer().await);
    for action in ["block", "unblock", "verify"] {
        let path = format!("{path}/{action}");
        for body in [json!({"is_blocked": false}), json!({"reason": "x"})] {
            let refused_reply = system.post(&path, body).await;
            refused_reply.expect_problem(422, "INVALID_REQUEST");
        }
        system.post(&path, json!({})).await.expect(200);
        let request = system.request(reqwest::Method::POST, &path);
        crate::harness::send(request).await.expect(200);
    }
}

async fn patch_if_match(system: &System, path: &str, body: Value, tag: &str) -> Reply {
    let request = system.request(Method::PATCH, path).json(&body);
    send(request.header("if-match", tag)).await
}

#[tokio::test]
async fn customer_is_changed_by_a_merge_patch() {
    let system = System::start().await;
    let address = json!({"name": "Ada", "line1": "Main Street 1", "city": "Berlin"});
    let new_customer = json!({
        "name": "Ada", "email": "ada@example.com", "phone": "+49 30 123456",
        "addresses": [address], "metadata": {"crm": {"id": 7, "vip": true}, "note": "x"},
    });
    let created_customer = system
        .post("/v1/customers", new_customer.clone())
        .await
        .expect(201);
    for (field_name, expected_value) in new_customer.as_object().unwrap() {
        assert_eq!(
            created_customer[field_name], *expected_value,
            "{field_name}"
        );
    }
    assert_eq!(created_customer["version"], 0);
    let customer_id = created_customer["id"].as_str().unwrap();
    let customer_path = format!("/v1/customers/{customer_id}");
    let verify_path = format!("{customer_path}/verify");
    system.post(&verify_path, json!({})).await.expect(200);

    let patch_body = json!({"name": "Ada King", "phone": null,
                       "metadata": {"crm": {"vip": null, "since": 1843}, "note": null}});
    let patch_reply = patch_if_match(&system, &customer_path, patch_body.clone(), "\"1\"").await;
    assert_eq!(patch_reply.headers["etag"], "\"2\"");
    let changed_customer = patch_reply.expect(200);
    assert_eq!(changed_customer["name"], "Ada King");
    assert_eq!(changed_customer["email"], "ada@example.com");
    assert_eq!(changed_customer["phone"], json!(null));
    assert_eq!(changed_customer["addresses"], json!([address]));
    assert_eq!(
        changed_customer["metadata"],
        json!({"crm": {"id": 7, "since": 1843}})
    );
    assert_eq!(
        (
            &changed_customer["is_verified"],
            &changed_customer["version"]
        ),
        (&json!(true), &json!(2))
    );
    assert_eq!(
        system.get(&customer_path).await.expect(200),
        changed_customer
    );
    patch_if_match(&system, &customer_path, patch_body.clone(), "\"1\"")
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    // The same values again are no change.
    let repeated_reply = system.patch(&customer_path, patch_body).await.expect(200);
    assert_eq!(repeated_reply["version"], 2);
    // Another e-mail address has to be verified again.
    let patch = json!({"email": "king@example.com", "addresses": null, "metadata": null});
    let changed_customer = system.patch(&customer_path, patch).await.expect(200);
    assert_eq!(changed_customer["is_verified"], false);
    assert_eq!(
        (
            &changed_customer["addresses"],
            &changed_customer["metadata"]
        ),
        (&json!([]), &json!({}))
    );

    let events = system.get("/v1/events?type=customer.*").await.expect(200);
    let events = events["data"].as_array().unwrap();
    let changed_fields: Vec<_> = events
        .iter()
        .map(|event| &event["data"]["changed"])
        .collect();
    assert_eq!(
        changed_fields,
        [
            &json!(["is_verified"]),
            &json!(["name", "phone", "metadata"]),
            &json!(["email", "addresses", "metadata", "is_verified"]),
        ]
    );
    for (event_index, event) in events.iter().enumerate() {
        assert_eq!(event["subject"], customer_id);
        assert_eq!(event["storefront"], "default");
        assert_eq!(event["sequence"], format!("{:020}", event_index + 1));
    }
    assert_eq!(events[1]["intent"], "customer.update");
    system.assert_verified();
}

#[tokio::test]
async fn invalid_changes_of_a_customer_are_refused_with_the_field() {
    let system = System::start().await;
    let path = format!("/v1/customers/{}", system.create_customer().await);
    for (patch, pointer) in [
        (json!({"name": null}), "/name"),
        (json!({"name": "\u{200b}"}), "/name"),
        (json!({"email": null}), "/email"),
        (json!({"email": "nobody"}), "/email"),
        (json!({"phone": "call me"}), "/phone"),
        (json!({"phone": 112}), "/phone"),
        (json!({"addresses": {"city": "Berlin"}}), "/addresses"),
        (json!({"addresses": [{"city": 1}]}), "/addresses"),
        (json!({"addresses": vec![json!({}); 11]}), "/addresses"),
        (json!({"metadata": "x"}), "/metadata"),
        (json!({"metadata": {"a": "x".repeat(17_000)}}), "/metadata"),
        (json!({"storefront": "eu"}), "/storefront"),
        (json!({"is_verified": true}), "/is_verified"),
    ] {
        let refused_reply = system.patch(&path, patch.clone()).await;
        let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{patch}");
    }
    // Each patch is small enough, but their result is not.
    let large_metadata = |name: &str| json!({"metadata": {name: "x".repeat(9_000)}});
    system.patch(&path, large_metadata("a")).await.expect(200);
    let problem_reply = system.patch(&path, large_metadata("b")).await;
    let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/metadata");
    assert_eq!(system.get(&path).await.expect(200)["version"], 1);
    // A page of large customers ends at about a megabyte.
    for _ in 0..80 {
        let mut large_customer = large_metadata("a");
        large_customer["name"] = json!("Ada");
        large_customer["email"] = json!("ada@example.com");
        large_customer["addresses"] = json!([{"line1": "ä".repeat(200), "line2": "ä".repeat(200)}]);
        large_customer["metadata"]["b"] = json!("x".repeat(7_000));
        system
            .post("/v1/customers", large_customer)
            .await
            .expect(201);
    }
    for list_path in ["/v1/customers?limit=200", "/v1/customers?limit=200&q=ada"] {
        let mut cursor = None;
        let mut page_lengths = Vec::new();
        loop {
            let path = cursor.map_or(list_path.to_owned(), |cursor: String| {
                format!("{list_path}&cursor={cursor}")
            });
            let page = system.get(&path).await.expect(200);
            page_lengths.push(page["data"].as_array().unwrap().len());
            match page["next_cursor"].as_str() {
                Some(next_cursor) => cursor = Some(next_cursor.to_owned()),
                None => break,
            }
        }
        assert_eq!(page_lengths.iter().sum::<usize>(), 81, "{list_path}");
        assert!(
            (55..75).contains(&page_lengths[0]),
            "{list_path}: {page_lengths:?}"
        );
    }
}

#[tokio::test]
async fn storefronts_change_and_find_their_own_customers_only() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.create_customer().await;
    let customer_path = format!("/v1/customers/{customer_id}");
    system
        .patch(&customer_path, json!({"phone": "112"}))
        .await
        .expect(200);
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let created_order = order_reply.expect(201);
    let search_paths = [
        "/v1/customers?q=ada".to_owned(),
        "/v1/customers?email=ada@example.com".to_owned(),
        "/v1/orders?q=ada".to_owned(),
        format!("/v1/orders?q=%23{}", created_order["number"]),
    ];
    for (api_key, expected_count) in [("key-of-eu", 1), ("key-of-us", 0), ("key-of-operator", 1)] {
        system.api_key = Some(api_key.to_owned());
        for search_path in &search_paths {
            let found_page = system.get(search_path).await.expect(200);
            assert_eq!(
                found_page["data"].as_array().unwrap().len(),
                expected_count,
                "{api_key}: {search_path}"
            );
        }
    }
    let found_page_reply = system.get("/v1/orders?q=ada&storefront=us").await;
    assert_eq!(found_page_reply.expect(200)["data"], json!([]));
    system.api_key = Some("key-of-us".to_owned());
    system
        .patch(&customer_path, json!({"phone": null}))
        .await
        .expect_problem(404, "NOT_FOUND");
}

/// The ids of all pages of a list.
async fn listed_ids(system: &System, path: &str) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = system.get(&format!("{path}{cursor}")).await.expect(200);
        let entries = page["data"].as_array().unwrap().iter();
        ids.extend(entries.map(|entry| entry["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next_cursor) => cursor = format!("&cursor={next_cursor}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn customers_are_found_by_the_beginning_of_name_or_email_in_any_case() {
    let system = System::start().await;
    let mut customer_ids = Vec::new();
    for (name, email) in [
        ("Ada Lovelace", "ada@example.com"),
        ("Östlund, Åsa", "Asa@Example.com"),
        ("100% Adam", "adam_1@example.com"),
        ("ΣΑΣΤΡΑ", "s@example.com"),
    ] {
        let new_customer = json!({"name": name, "email": email});
        let created_customer = system.post("/v1/customers", new_customer).await.expect(201);
        customer_ids.push(created_customer["id"].as_str().unwrap().to_owned());
    }
    let [ada_id, asa_id, adam_id, sastra_id] = &customer_ids[..] else {
        panic!("four customers")
    };
    for (search_query, expected_ids) in [
        ("q=ADA", vec![adam_id, ada_id]),
        ("q=ada%20l", vec![ada_id]),
        ("q=lovelace", vec![]),
        ("q=%20ada%20", vec![adam_id, ada_id]),
        ("q=%C3%B6STLUND", vec![asa_id]),
        ("q=asa@EXAMPLE.com", vec![asa_id]),
        ("q=%CE%A3%CE%91%CE%A3", vec![sastra_id]),
        ("q=%25", vec![]),
        ("q=100%25", vec![adam_id]),
        ("q=adam%5F", vec![adam_id]),
        ("q=ada_", vec![]),
        ("email=aSA@example.com", vec![asa_id]),
        ("email=asa@example", vec![]),
        ("email=ada@example.com&q=adam", vec![]),
        (
            "email=ada@example.com&q=ada&storefront=default",
            vec![ada_id],
        ),
        ("email=ada@example.com&storefront=eu", vec![]),
        ("q=a&limit=1", vec![adam_id, asa_id, ada_id]),
    ] {
        let listed_ids = listed_ids(&system, &format!("/v1/customers?{search_query}")).await;
        assert_eq!(
            listed_ids.iter().collect::<Vec<_>>(),
            expected_ids,
            "{search_query}"
        );
    }
    for invalid_search in ["q=", "q=%20", "email=", "q=%00"] {
        let problem_reply = system.get(&format!("/v1/customers?{invalid_search}")).await;
        problem_reply.expect_problem(422, "INVALID_REQUEST");
    }
    // A renamed customer is found by the new name only.
    let rename_patch = json!({"name": "Countess", "email": "c@example.com"});
    let path = format!("/v1/customers/{ada_id}");
    system.patch(&path, rename_patch).await.expect(200);
    assert_eq!(
        listed_ids(&system, "/v1/customers?q=ada").await,
        [adam_id.as_str()]
    );
    assert_eq!(
        listed_ids(&system, "/v1/customers?q=count").await,
        [ada_id.as_str()]
    );
}

#[tokio::test]
async fn orders_are_found_by_number_external_id_customer_and_tracking_number() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 50)]).await;
    system.create_product_with_stock("B", &[("main", 50)]).await;
    let new_customer = json!({"name": "Ada Lovelace", "email": "countess@example.com"});
    let ada_customer = system.post("/v1/customers", new_customer).await.expect(201);
    let ada_id = ada_customer["id"].as_str().unwrap();
    let new_customer = json!({"name": "Other", "email": "2@example.com"});
    let other_customer = system.post("/v1/customers", new_customer).await.expect(201);
    let other_customer_id = other_customer["id"].as_str().unwrap();
    let mut order_ids = Vec::new();
    for (customer_id, sku) in [(ada_id, "A"), (other_customer_id, "A"), (ada_id, "B")] {
        let order_reply = system
            .post("/v1/orders", order_body(customer_id, sku, 1))
            .await;
        order_ids.push(order_reply.expect(201)["id"].as_str().unwrap().to_owned());
    }
    let mut import_line = order_body(other_customer_id, "A", 1);
    import_line["external_id"] = json!("Web-77");
    let import_request = system
        .request(Method::POST, "/v1/orders/import")
        .header("content-type", "application/x-ndjson")
        .body(import_line.to_string());
    assert_eq!(send(import_request).await.expect(200)["accepted"], 1);
    let imported_ids = listed_ids(&system, "/v1/orders?external_id=Web-77").await;
    system
        .wait_for_order(&order_ids[0], "announced", has_shipping_label)
        .await;
    let shipment_body = json!({"carrier": "DHL", "tracking_number": "JD0146 00/AB"});
    let path = format!("/v1/orders/{}/shipments", order_ids[0]);
    system.post(&path, shipment_body).await.expect(201);

    let (first_id, second_id, third_id) = (&order_ids[0], &order_ids[1], &order_ids[2]);
    for (search_query, expected_ids) in [
        ("q=ada", vec![third_id, first_id]),
        ("q=COUNTESS@", vec![third_id, first_id]),
        ("q=lovelace", vec![]),
        ("q=1", vec![first_id]),
        // The number of an order, and the beginning of an e-mail address.
        ("q=2", vec![&imported_ids[0], second_id]),
        ("q=%232", vec![second_id]),
        ("q=%23", vec![]),
        ("q=Web-77", vec![&imported_ids[0]]),
        ("q=web-77", vec![]),
        ("q=jd0146%2000/ab", vec![first_id]),
        ("q=JD0146", vec![]),
        ("q=ada&limit=1", vec![third_id, first_id]),
        ("q=ada&sku=B", vec![third_id]),
        ("q=ada&number=1", vec![first_id]),
        ("q=other&external_id=Web-77", vec![&imported_ids[0]]),
        ("q=ada&storefront=default", vec![third_id, first_id]),
        ("q=ada&storefront=eu", vec![]),
        ("q=ada&created_after=2999-01-01T00:00:00Z", vec![]),
    ] {
        let listed_ids = listed_ids(&system, &format!("/v1/orders?{search_query}")).await;
        assert_eq!(
            listed_ids.iter().collect::<Vec<_>>(),
            expected_ids,
            "{search_query}"
        );
    }
    let adas_orders_path = format!("/v1/orders?customer_id={ada_id}&q=");
    assert_eq!(
        listed_ids(&system, &format!("{adas_orders_path}1")).await,
        [first_id.as_str()]
    );
    assert_eq!(
        listed_ids(&system, &format!("{adas_orders_path}other")).await,
        [""; 0]
    );
    for invalid_search in ["q=", "q=%20", "q=%00"] {
        let problem_reply = system.get(&format!("/v1/orders?{invalid_search}")).await;
        problem_reply.expect_problem(422, "INVALID_REQUEST");
    }
    // Deleted orders are found by operators who ask for them.
    let path = format!("/v1/orders/{third_id}");
    system.delete(&path).await;
    assert_eq!(
        listed_ids(&system, "/v1/orders?q=ada").await,
        [first_id.as_str()]
    );
    let ids_with_deleted = listed_ids(&system, "/v1/orders?q=ada&include_deleted=true").await;
    assert_eq!(ids_with_deleted, [third_id.as_str(), first_id.as_str()]);
    // A renamed customer is found by the new name, with earlier orders.
    let path = format!("/v1/customers/{ada_id}");
    let new_name = json!({"name": "Äda"});
    system.patch(&path, new_name).await.expect(200);
    assert_eq!(listed_ids(&system, "/v1/orders?q=ada").await, [""; 0]);
    assert_eq!(
        listed_ids(&system, "/v1/orders?q=%C3%A4DA").await,
        [first_id.as_str()]
    );
}

/// Number of customers that a search matches in the next test: more than one for which a search reads the
/// orders of each customer.
const MATCHING_CUSTOMERS: usize = 250;

#[tokio::test]
async fn search_that_many_customers_match_returns_all_of_their_orders() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let mut order_ids = Vec::new();
    for customer_number in 0..MATCHING_CUSTOMERS {
        let new_customer =
            json!({"name": format!("Many {customer_number}"), "email": "m@example.com"});
        let created_customer = system.post("/v1/customers", new_customer).await.expect(201);
        // Few of them have ordered.
        if customer_number.is_multiple_of(50) {
            let customer_id = created_customer["id"].as_str().unwrap();
            let order_reply = system
                .post("/v1/orders", order_body(customer_id, "A", 1))
                .await;
            order_ids.push(order_reply.expect(201)["id"].as_str().unwrap().to_owned());
        }
    }
    let other_customer_id = system.create_customer().await;
    system
        .post("/v1/orders", order_body(&other_customer_id, "A", 1))
        .await
        .expect(201);
    order_ids.reverse();
    for search_query in [
        "q=many",
        "q=MANY&limit=2",
        "q=M@example.com&status=pending&limit=1",
    ] {
        system.wait_until_idle().await;
        let search_query = search_query.replace("status=pending", "status=processing");
        let found_ids = listed_ids(&system, &format!("/v1/orders?{search_query}")).await;
        assert_eq!(found_ids, order_ids, "{search_query}");
    }
    let found_customer_ids = listed_ids(&system, "/v1/customers?q=many&limit=100").await;
    assert_eq!(found_customer_ids.len(), MATCHING_CUSTOMERS);
    // The same orders, if they are older than those that are compared one by one: the time of 2,000 other
    // orders is between them and now.
    let copy_cte_sql = if system.store.is_sqlite() {
        "WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < 2100)"
    } else {
        "WITH copy (n) AS (SELECT generate_series(1, 2100))"
    };
    system.store.run(
        Tables::Worker,
        &format!(
            "{copy_cte_sql} INSERT INTO orders
                 (number, id, storefront, customer_id, status, is_deleted, created_at, state)
             SELECT 1000 + n, 'copy-' || n, storefront, customer_id, 'cancelled', is_deleted,
                    created_at + 1, state
             FROM copy, orders WHERE customer_id = '{other_customer_id}'"
        ),
    );
    for search_query in ["q=many", "q=many&limit=2", "q=many&storefront=default"] {
        let found_ids = listed_ids(&system, &format!("/v1/orders?{search_query}")).await;
        assert_eq!(found_ids, order_ids, "{search_query}");
    }
}
