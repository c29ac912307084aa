//! Searches and filters of the lists of products, returns, messages, failures and API keys.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Receiver, System, Tables, has_shipping_label, order_body, send, wait_until};

const API_KEYS: &str = "storefront@eu=key-of-eu;operator=key-of-operator;admin=key-of-admin";

impl System {
    /// A text field of the entries that a list returns, page by page.
    async fn list_field(&self, path: &str, field_name: &str) -> Vec<String> {
        let (mut field_values, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let cursor_query = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
            let page = self.get(&format!("{path}{cursor_query}")).await.expect(200);
            let entries = page["data"].as_array().unwrap().iter();
            field_values.extend(entries.map(|entry| match &entry[field_name] {
                Value::String(text) => text.clone(),
                other_value => other_value.to_string(),
            }));
            match page["next_cursor"].as_str() {
                Some(next_cursor) => cursor = Some(next_cursor.to_owned()),
                None => return field_values,
            }
        }
    }

    async fn create_product(&self, sku: &str, name: &str, low_stock_at: Option<i64>) {
        let product = json!({"sku": sku, "name": name, "price": 100, "currency": "EUR", "low_stock_at": low_stock_at});
        self.post("/v1/products", product).await.expect(201);
    }

    async fn set_stock_of_warehouse(&self, sku: &str, warehouse: &str, on_hand: i64) {
        let path = format!("/v1/products/{sku}/stock/{warehouse}");
        self.put(&path, json!({"on_hand": on_hand}))
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn products_are_found_by_the_beginning_of_sku_or_name() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    system.api_key = Some("key-of-operator".to_owned());
    for (sku, name) in [
        ("Mug-1", "Big mug"),
        ("mug-2", "Small mug"),
        ("POT-1", "Übertopf"),
        ("POT-2", "GRÜNER TOPF"),
        ("X_1", "100 % cotton"),
    ] {
        system.create_product(sku, name, None).await;
    }
    system.api_key = Some("key-of-eu".to_owned());
    for (search_text, expected_skus) in [
        ("MUG", vec!["Mug-1", "mug-2"]),
        ("mug-2", vec!["mug-2"]),
        ("big%20m", vec!["Mug-1"]),
        ("%20Big", vec!["Mug-1"]),
        ("%C3%BCbert", vec!["POT-1"]),
        ("%C3%9CBERT", vec!["POT-1"]),
        ("gr%C3%BCner", vec!["POT-2"]),
        ("100%20%25", vec!["X_1"]),
        ("X_", vec!["X_1"]),
        ("X-", vec![]),
        ("ug", vec![]),
    ] {
        let found_skus = system
            .list_field(&format!("/v1/products?limit=1&q={search_text}"), "sku")
            .await;
        assert_eq!(found_skus, expected_skus, "{search_text}");
    }
    for invalid_query in ["q=", "q=%20", "low_stock=maybe"] {
        let path = format!("/v1/products?{invalid_query}");
        system
            .get(&path)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
    // A deleted or renamed product is not found by its former name.
    system.api_key = Some("key-of-operator".to_owned());
    system.delete("/v1/products/Mug-1").await.expect(204);
    let rename_patch = json!({"name": "Tiny mug"});
    system
        .patch("/v1/products/mug-2", rename_patch)
        .await
        .expect(200);
    for (search_text, expected_skus) in
        [("big", vec![]), ("small", vec![]), ("tiny", vec!["mug-2"])]
    {
        let path = format!("/v1/products?q={search_text}");
        assert_eq!(
            system.list_field(&path, "sku").await,
            expected_skus,
            "{search_text}"
        );
    }
    let path = "/v1/products?q=big&include_deleted=true";
    assert_eq!(system.list_field(path, "sku").await, ["Mug-1"]);
}

#[tokio::test]
async fn products_are_found_among_many() {
    let system = System::start().await;
    system.create_product("P", "Prototype", None).await;
    let copy_sql = if system.store.is_sqlite() {
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 6000)
         INSERT INTO products (sku, is_deleted, state)
         SELECT 'P' || printf('%04d', n), 0,
                json_set(state, '$.details.sku', 'P' || printf('%04d', n), '$.details.name',
                         CASE n % 1500 WHEN 7 THEN 'Rare ' ELSE 'Usual ' END || n)
         FROM products, numbers WHERE sku = 'P'"
    } else {
        "INSERT INTO products (sku, is_deleted, state)
         SELECT 'P' || to_char(n, 'FM0000'), false,
                jsonb_set(jsonb_set(state::jsonb, '{details,sku}', to_jsonb('P' || to_char(n, 'FM0000'))),
                          '{details,name}', to_jsonb(CASE n % 1500 WHEN 7 THEN 'Rare ' ELSE 'Usual ' END || n))::text
         FROM products, generate_series(1, 6000) AS n WHERE sku = 'P'"
    };
    system.store.run(Tables::Worker, copy_sql);
    let rare_skus = ["P0007", "P1507", "P3007", "P4507"];
    for limit in [1, 3, 200] {
        let path = format!("/v1/products?q=rare&limit={limit}");
        assert_eq!(system.list_field(&path, "sku").await, rare_skus, "{limit}");
    }
    let usual_skus = system
        .list_field("/v1/products?q=usual&limit=200", "sku")
        .await;
    assert_eq!(usual_skus.len(), 6000 - rare_skus.len());
    assert!(usual_skus.is_sorted());
    let skus_by_prefix = system
        .list_field("/v1/products?q=p59&limit=30", "sku")
        .await;
    assert_eq!(skus_by_prefix.len(), 100);
    // Few of many products are low on stock.
    let threshold_sql = if system.store.is_sqlite() {
        "UPDATE products SET state = json_set(state, '$.details.low_stock_at', 1)"
    } else {
        "UPDATE products SET state = jsonb_set(state::jsonb, '{details,low_stock_at}', '1')::text"
    };
    system.store.run(Tables::Worker, threshold_sql);
    let stock_sql = "INSERT INTO shelves (sku, warehouse, on_hand, reserved)
                 SELECT sku, 'main', CASE WHEN sku IN ('P0007', 'P5999') THEN 3 ELSE 9 END, 2 FROM products";
    system.store.run(Tables::Worker, stock_sql);
    let low_stock_skus = system
        .list_field("/v1/products?low_stock=true&limit=1", "sku")
        .await;
    assert_eq!(low_stock_skus, ["P0007", "P5999"]);
    let rare_low_skus = system
        .list_field("/v1/products?low_stock=true&q=rare", "sku")
        .await;
    assert_eq!(rare_low_skus, ["P0007"]);
}

#[tokio::test]
async fn products_low_on_stock_are_listed() {
    let system = System::start().await;
    for (sku, low_stock_at) in [
        ("A", Some(5)),
        ("B", Some(5)),
        ("C", None),
        ("D", Some(0)),
        ("E", Some(2)),
    ] {
        system.create_product(sku, "Thing", low_stock_at).await;
    }
    system.set_stock_of_warehouse("A", "berlin", 3).await;
    system.set_stock_of_warehouse("A", "paris", 3).await;
    system.set_stock_of_warehouse("B", "berlin", 2).await;
    system.set_stock_of_warehouse("B", "paris", 3).await;
    system.set_stock_of_warehouse("D", "berlin", 1).await;
    let path = "/v1/products?low_stock=true";
    assert_eq!(system.list_field(path, "sku").await, ["B", "E"]);
    // Reserved units are not available.
    let customer_id = system.create_customer().await;
    for sku in ["A", "D"] {
        let new_order = order_body(&customer_id, sku, 1);
        system.post("/v1/orders", new_order).await.expect(201);
    }
    assert_eq!(system.list_field(path, "sku").await, ["A", "B", "D", "E"]);
    system.delete("/v1/products/E").await.expect(204);
    let threshold_patch = json!({"low_stock_at": null});
    system
        .patch("/v1/products/B", threshold_patch)
        .await
        .expect(200);
    assert_eq!(system.list_field(path, "sku").await, ["A", "D"]);
    let all_skus = system
        .list_field("/v1/products?low_stock=false", "sku")
        .await;
    assert_eq!(all_skus, ["A", "B", "C", "D"]);
}

#[tokio::test]
async fn returns_are_found_by_their_number_and_their_orders() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    for quantity in [3, 1] {
        let order_reply = system.post("/v1/orders", order_body(&customer_id, "A", quantity));
        let created_order = order_reply.await.expect(201);
        let id = created_order["id"].as_str().unwrap();
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
        let shipments_path = format!("/v1/orders/{id}/shipments");
        system.post(&shipments_path, json!({})).await.expect(201);
        for _ in 1..quantity {
            let return_body = json!({"items": [{"sku": "A", "quantity": 1}]});
            let path = format!("/v1/orders/{id}/returns");
            system.post(&path, return_body).await.expect(201);
        }
    }
    for (search_text, expected_numbers) in [
        ("1", vec!["1-R2", "1-R1"]),
        ("%231", vec!["1-R2", "1-R1"]),
        ("1-R1", vec!["1-R1"]),
        ("1-r2", vec!["1-R2"]),
        ("1-R3", vec![]),
        ("1-R", vec![]),
        ("1-", vec![]),
        ("2", vec![]),
        ("9", vec![]),
        ("R1", vec![]),
        ("99999999999999999999", vec![]),
        ("1-R1&status=approved", vec![]),
        ("1-R1&status=requested", vec!["1-R1"]),
    ] {
        let path = format!("/v1/returns?limit=1&q={search_text}");
        assert_eq!(
            system.list_field(&path, "number").await,
            expected_numbers,
            "{search_text}"
        );
    }
    // The orders belong to the default storefront.
    system.api_key = Some("key-of-eu".to_owned());
    assert!(
        system
            .list_field("/v1/returns?q=1", "number")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn messages_of_all_orders_are_listed_and_found() {
    // Nothing listens there: each message waits for another attempt after the first.
    let mut system = System::start_with(&[
        ("API_KEYS", API_KEYS),
        ("SMTP_URL", "smtp://127.0.0.1:9"),
        ("MAIL_FROM", "orders@shop.example"),
    ])
    .await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let mut customer_and_order_ids = Vec::new();
    for (name, email) in [("Ada", "Ada@example.com"), ("Bob", "bob@example.com")] {
        let new_customer = json!({"name": name, "email": email});
        let customer = system.post("/v1/customers", new_customer).await.expect(201);
        let customer_id = customer["id"].as_str().unwrap().to_owned();
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        let created_order = order_reply.expect(201);
        let order_id = created_order["id"].as_str().unwrap().to_owned();
        system
            .wait_for_order(&order_id, "announced", has_shipping_label)
            .await;
        customer_and_order_ids.push((customer_id, order_id));
    }
    let path = "/v1/messages?limit=1";
    wait_until("both messages to be attempted", async || {
        let recipients = system.list_field(path, "recipient").await;
        recipients.len() == 2 && !recipients.contains(&"null".to_owned())
    })
    .await;
    let stats = system.get("/v1/stats").await.expect(200);
    assert_eq!(stats["system"]["sends_messages"], true);
    assert_eq!(system.list_field(path, "order_number").await, ["2", "1"]);
    for (filter_query, expected_numbers) in [
        ("q=ada@", vec!["1"]),
        ("q=ADA", vec!["1"]),
        ("q=BOB@example.com", vec!["2"]),
        ("q=example", vec![]),
        ("q=%232", vec!["2"]),
        ("q=3", vec![]),
        ("status=pending", vec!["2", "1"]),
        ("status=pending&q=ada", vec!["1"]),
        ("status=sent", vec![]),
        (
            &format!("order_id={}", customer_and_order_ids[0].1),
            vec!["1"],
        ),
        (
            &format!("order_id={}&q=bob", customer_and_order_ids[0].1),
            vec![],
        ),
    ] {
        let path = format!("/v1/messages?limit=1&{filter_query}");
        assert_eq!(
            system.list_field(&path, "order_number").await,
            expected_numbers,
            "{filter_query}"
        );
    }
    for invalid_query in ["status=lost", "q=", "cursor=x", "order_id=1"] {
        let path = format!("/v1/messages?{invalid_query}");
        let refused_reply = system.get(&path).await;
        refused_reply.expect_problem(422, "INVALID_REQUEST");
    }
    // The address of an erased customer is not found, and a deleted order's messages are not listed.
    for (_, order_id) in &customer_and_order_ids {
        let path = format!("/v1/orders/{order_id}/cancel");
        system.post(&path, json!({})).await.expect(200);
    }
    system.wait_until_idle().await;
    let path = format!("/v1/customers/{}", customer_and_order_ids[0].0);
    system.delete(&path).await.expect(204);
    let found_numbers = system
        .list_field("/v1/messages?q=ada", "order_number")
        .await;
    assert!(found_numbers.is_empty(), "{found_numbers:?}");
    let path = format!("/v1/orders/{}", customer_and_order_ids[1].1);
    system.delete(&path).await.expect(204);
    let order_numbers = system.list_field("/v1/messages", "order_number").await;
    assert!(
        order_numbers.iter().all(|order_number| order_number == "1"),
        "{order_numbers:?}"
    );
    system.api_key = Some("key-of-eu".to_owned());
    let refused_reply = system.get("/v1/messages").await;
    refused_reply.expect_problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn retries_are_found_by_order_and_step() {
    let (system, _provider, order_ids) = crate::retries::orders_with_failing_payments(2).await;
    wait_until("both payments to fail", async || {
        system.list_field("/v1/retries", "order_id").await.len() == 2
    })
    .await;
    for (filter_query, expected_ids) in [
        ("number=1", vec![&order_ids[0]]),
        ("number=2&step=authorize_payment", vec![&order_ids[1]]),
        ("step=authorize_payment", vec![&order_ids[0], &order_ids[1]]),
        ("step=authorize", vec![]),
        ("step=capture_payment", vec![]),
        ("number=3", vec![]),
    ] {
        let path = format!("/v1/retries?limit=1&{filter_query}");
        let found_ids = system.list_field(&path, "order_id").await;
        assert_eq!(
            found_ids.iter().collect::<Vec<_>>(),
            expected_ids,
            "{filter_query}"
        );
    }
    let order_numbers = system.list_field("/v1/retries", "order_number").await;
    assert_eq!(order_numbers, ["1", "2"]);
    system
        .get("/v1/retries?number=0")
        .await
        .expect_problem(422, "INVALID_REQUEST");
}

#[tokio::test]
async fn dead_letters_are_found_by_kind_order_and_step() {
    let system = System::start().await;
    let mut order_ids = Vec::new();
    for sku in ["A", "B"] {
        system.create_product_with_stock(sku, &[("main", 5)]).await;
        order_ids.push(crate::dead_letters::order_with_failed_capture(&system, sku).await);
    }
    let customer_id = system.create_customer().await;
    crate::harness::run_script(
        "foreign.py",
        &["garbage", &system.broker.url(), &customer_id],
    );
    wait_until("all messages to be archived", async || {
        system
            .list_field("/v1/dead-letters?kind=message", "kind")
            .await
            .len()
            == 7
    })
    .await;
    for (filter_query, expected_count) in [
        ("", 9),
        ("kind=step", 2),
        ("kind=message", 7),
        ("number=1", 1),
        ("number=2&kind=step", 1),
        ("number=1&kind=message", 0),
        ("step=capture_payment", 2),
        ("step=capture_payment&number=2", 1),
        ("step=refund_payment", 0),
    ] {
        let path = format!("/v1/dead-letters?limit=2&{filter_query}");
        let found_ids = system.list_field(&path, "id").await;
        assert_eq!(
            found_ids.len(),
            expected_count,
            "{filter_query}: {found_ids:?}"
        );
    }
    let found_ids = system
        .list_field("/v1/dead-letters?number=1", "order_id")
        .await;
    assert_eq!(found_ids, [order_ids[0].clone()]);
    let order_numbers = system
        .list_field("/v1/dead-letters?kind=step", "order_number")
        .await;
    assert_eq!(order_numbers, ["2", "1"]);
    system
        .get("/v1/dead-letters?kind=order")
        .await
        .expect_problem(422, "INVALID_REQUEST");
}

#[tokio::test]
async fn api_keys_are_found_by_name_and_beginning() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    system.api_key = Some("key-of-admin".to_owned());
    let mut key_prefixes = Vec::new();
    for name in ["Shop of the EU", "Warehouse 100 %", "shop of the US"] {
        let request = system
            .request(Method::POST, "/v1/api-keys")
            .json(&json!({"name": name, "role": "operator"}));
        let created_key = send(request).await.expect(201);
        key_prefixes.push(created_key["prefix"].as_str().unwrap().to_owned());
    }
    for (search_text, expected_names) in [
        ("SHOP", vec!["shop of the US", "Shop of the EU"]),
        ("of%20the%20eu", vec!["Shop of the EU"]),
        ("%20%25", vec!["Warehouse 100 %"]),
        ("nothing", vec![]),
        (key_prefixes[1].as_str(), vec!["Warehouse 100 %"]),
        (&key_prefixes[1][4..], vec![]),
    ] {
        let path = format!("/v1/api-keys?limit=1&q={search_text}");
        assert_eq!(
            system.list_field(&path, "name").await,
            expected_names,
            "{search_text}"
        );
    }
}

#[tokio::test]
async fn webhook_endpoints_are_found_by_url_and_description() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    for (path, description) in [("Orders", "The Warehouse"), ("erp", "100 % of them")] {
        let endpoint =
            json!({"url": format!("https://example.com/{path}"), "description": description});
        let endpoint_reply = system.post("/v1/webhook-endpoints", endpoint).await;
        endpoint_reply.expect(201);
    }
    let last_endpoint = json!({"url": "https://example.org/orders-2"});
    system
        .post("/v1/webhook-endpoints", last_endpoint)
        .await
        .expect(201);
    for (q, expected_urls) in [
        (
            "ORDERS",
            vec!["https://example.org/orders-2", "https://example.com/Orders"],
        ),
        ("ware", vec!["https://example.com/Orders"]),
        ("%20%25", vec!["https://example.com/erp"]),
        ("nothing", vec![]),
    ] {
        let path = format!("/v1/webhook-endpoints?limit=1&q={q}");
        assert_eq!(system.list_field(&path, "url").await, expected_urls, "{q}");
    }
}

#[tokio::test]
async fn delivery_is_read_with_its_event() {
    let variables = [("API_KEYS", API_KEYS), ("WEBHOOK_ALLOW_PRIVATE", "1")];
    let mut system = System::start_with(&variables).await;
    let receiver = Receiver::start().await;
    system.api_key = Some("key-of-eu".to_owned());
    let new_endpoint = json!({"url": receiver.url("/hook"), "event_types": ["order.created"]});
    let endpoint_reply = system.post("/v1/webhook-endpoints", new_endpoint).await;
    let endpoint_id = endpoint_reply.expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let order_id = order_reply.expect(201)["id"].clone();
    let deliveries_path = format!("/v1/webhook-endpoints/{endpoint_id}/deliveries");
    wait_until("the delivery to succeed", async || {
        system
            .list_field(&format!("{deliveries_path}?status=succeeded"), "id")
            .await
            .len()
            == 1
    })
    .await;
    let delivery_id = system
        .list_field(&format!("{deliveries_path}?limit=1"), "id")
        .await[0]
        .clone();
    let path = format!("{deliveries_path}/{delivery_id}");
    let delivery = system.get(&path).await.expect(200);
    assert_eq!(delivery["attempts"][0]["response_code"], 200);
    assert_eq!(delivery["event"]["subject"], order_id);
    assert_eq!(delivery["event"]["id"], delivery["event_id"]);
    let received_requests = receiver.received();
    let sent_event: Value = serde_json::from_slice(&received_requests[0].body).unwrap();
    assert_eq!(delivery["event"], sent_event);
    for unknown_id in [order_id.as_str().unwrap(), "x"] {
        let reply = system.get(&format!("{deliveries_path}/{unknown_id}")).await;
        reply.expect_problem(404, "NOT_FOUND");
    }
    // An endpoint is managed by its storefront and by admins.
    system.api_key = Some("key-of-operator".to_owned());
    let reply = system.get(&path).await;
    reply.expect_problem(404, "NOT_FOUND");
}
