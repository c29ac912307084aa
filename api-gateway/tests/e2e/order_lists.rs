//! Lists of orders for people: the customer's name, the filters by payment and approval, the order of the list, and
//! the number of orders by status. `lists` has the other filters and the pages.

use serde_json::{Value, json};

use crate::harness::{System, Tables, order_body, order_body_with_method};

impl System {
    async fn placed_order(&self, body: Value) -> String {
        let created_order = self.post("/v1/orders", body).await.expect(201);
        created_order["id"].as_str().unwrap().to_owned()
    }

    /// The ids of the orders that `query` lists.
    async fn list_ids(&self, query: &str) -> Vec<String> {
        let page = self.get(&format!("/v1/orders?{query}")).await.expect(200);
        let orders = page["data"].as_array().unwrap().iter();
        orders
            .map(|order| order["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The number of orders that `query` counts, by name; with `+` if there may be more.
    async fn counts(&self, query: &str) -> Value {
        let reply = self.get(&format!("/v1/orders/count?{query}")).await;
        let counts = reply.expect(200);
        let texts = counts.as_object().unwrap().iter().map(|(name, count)| {
            let sign = if count["has_more"] == true { "+" } else { "" };
            (name.clone(), json!(format!("{}{sign}", count["count"])))
        });
        Value::Object(texts.collect())
    }
}

/// Counts with these numbers: all, pending, awaiting approval, processing, shipped, delivered, cancelled.
fn counts(numbers: [&str; 7]) -> Value {
    let [
        all,
        pending,
        awaiting_approval,
        processing,
        shipped,
        delivered,
        cancelled,
    ] = numbers;
    json!({
        "all": all, "pending": pending, "awaiting_approval": awaiting_approval, "processing": processing,
        "shipped": shipped, "delivered": delivered, "cancelled": cancelled,
    })
}

#[tokio::test]
async fn list_has_the_names_of_customers_until_they_are_erased() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let mut customer_ids = Vec::new();
    for name in ["Ada", "Bob"] {
        let new_customer = json!({"name": name, "email": format!("{name}@example.com")});
        let created_customer = system.post("/v1/customers", new_customer).await.expect(201);
        customer_ids.push(created_customer["id"].as_str().unwrap().to_owned());
    }
    let declined_order = order_body_with_method(&customer_ids[0], "A", 1, "pm_declined");
    let id = system.placed_order(declined_order).await;
    system
        .placed_order(order_body(&customer_ids[1], "A", 1))
        .await;
    system.wait_until_idle().await;
    let customer_names = async || {
        let page = system.get("/v1/orders").await.expect(200);
        let orders = page["data"].as_array().unwrap().iter();
        orders
            .map(|order| order["customer_name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(customer_names().await, ["Bob", "Ada"]);
    let customer_path = format!("/v1/customers/{}", customer_ids[0]);
    let patch_reply = system
        .patch(&customer_path, json!({"name": "Ada Lovelace"}))
        .await;
    patch_reply.expect(200);
    assert_eq!(customer_names().await, ["Bob", "Ada Lovelace"]);
    let order_page = system
        .get(&format!("{customer_path}/orders"))
        .await
        .expect(200);
    assert_eq!(order_page["data"][0]["customer_name"], "Ada Lovelace");
    // The name belongs to the customer: neither the order nor its events have it.
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order.get("customer_name"), None);
    system.delete(&customer_path).await;
    assert_eq!(customer_names().await, ["Bob", ""]);
}

#[tokio::test]
async fn storefront_sees_the_names_of_its_own_customers_only() {
    let keys = "storefront@eu=key-of-the-eu-shop;storefront@us=key-of-the-us-shop;operator=key-of-an-operator";
    let mut system = System::start_with(&[("API_KEYS", keys)]).await;
    system.api_key = Some("key-of-an-operator".to_owned());
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    for (api_key, name) in [("key-of-the-eu-shop", "Ada"), ("key-of-the-us-shop", "Bob")] {
        system.api_key = Some(api_key.to_owned());
        let new_customer = json!({"name": name, "email": "a@example.com"});
        let customer = system.post("/v1/customers", new_customer).await.expect(201);
        let body = order_body(customer["id"].as_str().unwrap(), "A", 1);
        system.placed_order(body).await;
    }
    for (api_key, expected_names) in [
        ("key-of-the-eu-shop", vec!["Ada"]),
        ("key-of-the-us-shop", vec!["Bob"]),
        ("key-of-an-operator", vec!["Bob", "Ada"]),
    ] {
        system.api_key = Some(api_key.to_owned());
        let page = system.get("/v1/orders").await.expect(200);
        let orders = page["data"].as_array().unwrap().iter();
        let listed_names: Vec<_> = orders.map(|order| &order["customer_name"]).collect();
        assert_eq!(listed_names, expected_names, "{api_key}");
        let order_counts = system.counts("storefront=us").await;
        let expected_count = if api_key == "key-of-an-operator" {
            1
        } else {
            expected_names.len()
        };
        assert_eq!(
            order_counts["all"],
            expected_count.to_string(),
            "{api_key}: only its own orders are counted"
        );
    }
    system.api_key = Some("key-of-the-eu-shop".to_owned());
    for query in ["tag=vip", "include_deleted=true"] {
        let reply = system.get(&format!("/v1/orders/count?{query}")).await;
        reply.expect_problem(403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn orders_are_filtered_by_the_status_of_their_payment() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let place = async |payment_method: &str| {
        let mut body = order_body_with_method(&customer_id, "A", 1, payment_method);
        // Metadata that looks like parts of an order.
        body["metadata"] = json!({"awaits_approval": true, "payment": {"status": "refunded", "provider": "manual"}});
        body["shipping_address"] = json!({"name": "\"payment\":{\"status\":\"failed\" ä"});
        system.placed_order(body).await
    };
    let id_with_failed_payment = place("pm_declined").await;
    let manually_paid_id = place("manual").await;
    let authorized_id = place("pm_ok").await;
    system.wait_until_idle().await;
    for (query, expected_ids) in [
        ("payment_status=failed", vec![&id_with_failed_payment]),
        ("payment_status=outstanding", vec![&manually_paid_id]),
        ("payment_status=pending", vec![&manually_paid_id]),
        ("payment_status=authorized", vec![&authorized_id]),
        (
            "payment_status=authorized&status=processing&sku=A",
            vec![&authorized_id],
        ),
        ("payment_status=authorized&status=cancelled", vec![]),
        ("payment_status=outstanding&status=cancelled", vec![]),
        ("payment_status=captured", vec![]),
        ("payment_status=refunded", vec![]),
        ("payment_status=voided", vec![]),
        ("payment_status=partially_refunded", vec![]),
        ("awaits_approval=true", vec![]),
        (
            "awaits_approval=false",
            vec![&authorized_id, &manually_paid_id, &id_with_failed_payment],
        ),
        ("payment_status=outstanding&q=%232", vec![&manually_paid_id]),
        ("payment_status=failed&q=%232", vec![]),
    ] {
        let listed_ids = system.list_ids(query).await;
        assert_eq!(
            listed_ids.iter().collect::<Vec<_>>(),
            expected_ids,
            "{query}"
        );
    }
    let query_of_customer = format!("customer_id={customer_id}&payment_status=failed");
    assert_eq!(
        system.list_ids(&query_of_customer).await,
        [id_with_failed_payment]
    );

    // A part of the money leaves it outstanding, all of it does not.
    let path = format!("/v1/orders/{manually_paid_id}/payments");
    system.post(&path, json!({"amount": 400})).await.expect(201);
    assert_eq!(
        system.list_ids("payment_status=outstanding").await,
        std::slice::from_ref(&manually_paid_id)
    );
    system.post(&path, json!({"amount": 600})).await.expect(201);
    assert_eq!(
        system.list_ids("payment_status=outstanding").await,
        Vec::<String>::new()
    );
    assert_eq!(
        system.list_ids("payment_status=captured").await,
        std::slice::from_ref(&manually_paid_id)
    );
    let refund = json!({"amount": 100});
    let path = format!("/v1/orders/{manually_paid_id}/refunds");
    system.post(&path, refund).await;
    system.wait_until_idle().await;
    assert_eq!(
        system.list_ids("payment_status=partially_refunded").await,
        [manually_paid_id]
    );
    for query in [
        "payment_status=paid",
        "awaits_approval=1",
        "sort=total",
        "sort=",
    ] {
        let reply = system.get(&format!("/v1/orders?{query}")).await;
        reply.expect_problem(422, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn orders_awaiting_approval_are_listed_and_counted() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for _ in 0..4 {
        order_ids.push(system.placed_order(order_body(&customer_id, "A", 1)).await);
    }
    let path = format!("/v1/orders/{}/approve", order_ids[1]);
    system.post(&path, json!({})).await.expect(200);
    let path = format!("/v1/orders/{}/reject", order_ids[2]);
    system.post(&path, json!({})).await.expect(200);
    let path = format!("/v1/orders/{}", order_ids[3]);
    system.delete(&path).await;
    system.wait_until_idle().await;
    assert_eq!(
        system.list_ids("awaits_approval=true").await,
        [order_ids[0].clone()]
    );
    let narrow_query = "awaits_approval=true&sku=A&storefront=default&q=ada";
    assert_eq!(system.list_ids(narrow_query).await, [order_ids[0].clone()]);
    let expected_counts = counts(["3", "1", "1", "1", "0", "0", "1"]);
    for query in [
        "",
        "storefront=default",
        "sku=A",
        &format!("customer_id={customer_id}"),
    ] {
        assert_eq!(system.counts(query).await, expected_counts, "{query}");
    }
    let counts_with_deleted = counts(["4", "1", "1", "1", "0", "0", "2"]);
    for query in ["include_deleted=true", "include_deleted=true&sku=A"] {
        assert_eq!(system.counts(query).await, counts_with_deleted, "{query}");
    }
}

#[tokio::test]
async fn list_begins_with_the_oldest_order_on_request() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for _ in 0..7 {
        order_ids.push(system.placed_order(order_body(&customer_id, "A", 1)).await);
    }
    for filter_query in [
        "",
        "&storefront=default",
        "&sku=A",
        "&q=Ada",
        &format!("&customer_id={customer_id}"),
    ] {
        let (mut listed_ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/orders?sort=created_at&limit=3{filter_query}{cursor}");
            let page = system.get(&path).await.expect(200);
            let orders = page["data"].as_array().unwrap().iter();
            listed_ids.extend(orders.map(|order| order["id"].as_str().unwrap().to_owned()));
            let Some(next_cursor) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next_cursor}");
        }
        assert_eq!(listed_ids, order_ids, "{filter_query}");
    }
    // A cursor is valid for the order of its list only.
    for (sort, other_sort) in [("-created_at", "created_at"), ("created_at", "-created_at")] {
        let page = system.get(&format!("/v1/orders?sort={sort}&limit=3")).await;
        let page = page.expect(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        let reply = system
            .get(&format!(
                "/v1/orders?sort={other_sort}&limit=3&cursor={cursor}"
            ))
            .await;
        let problem = reply.expect_problem(422, "INVALID_REQUEST");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("sort={sort};")), "{problem}");
    }
}

/// Number of delivered orders of another storefront, of which some are deleted.
const DELIVERED_COUNT: usize = 10_300;
const DELETED_COUNT: usize = 290;

fn insert_orders_sql(is_sqlite: bool) -> String {
    let number_series_sql = if is_sqlite {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {DELIVERED_COUNT}) SELECT i FROM n"
        )
    } else {
        format!("SELECT i FROM generate_series(1, {DELIVERED_COUNT}) AS i")
    };
    format!(
        "INSERT INTO order_items (sku, created_at, number)
         SELECT 'B', 2000000000000 + i, 1000 + i FROM ({number_series_sql}) AS numbers;
         INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
         SELECT 1000 + i, 'order-' || i, 'others', 'customer', 'delivered', i <= {DELETED_COUNT}, 2000000000000 + i, '{{}}'
         FROM ({number_series_sql}) AS numbers;"
    )
}

#[tokio::test]
async fn no_more_than_ten_thousand_orders_are_counted() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    system.placed_order(order_body(&customer_id, "A", 1)).await;
    system.wait_until_idle().await;
    system
        .store
        .run(Tables::Worker, &insert_orders_sql(system.store.is_sqlite()));
    let expected_counts = counts(["10000+", "0", "0", "1", "0", "10000+", "0"]);
    assert_eq!(system.counts("").await, expected_counts);
    let counts_of_default_storefront = counts(["1", "0", "0", "1", "0", "0", "0"]);
    assert_eq!(
        system.counts("storefront=default").await,
        counts_of_default_storefront
    );
    // 305 of the delivered orders are older than this time, among them the deleted ones.
    let created_after = "created_after=2033-05-18T03:33:20.306Z";
    let fewer_counts = counts(["9995", "0", "0", "0", "0", "9995", "0"]);
    assert_eq!(
        system
            .counts(&format!("{created_after}&include_deleted=false"))
            .await,
        fewer_counts
    );
    // The orders of a product are read one by one, as far as they are counted.
    let lower_bounds = counts(["10000+", "0+", "0+", "0+", "0+", "10000+", "0+"]);
    assert_eq!(system.counts("sku=B").await, lower_bounds);
    assert_eq!(system.counts("sku=A").await, counts_of_default_storefront);
    // Of the pending orders, a thousand are read to count those that wait for approval.
    let pending_sql = r#"UPDATE orders SET status = 'pending', state = '{"awaits_approval":true}' WHERE number > 10000"#;
    system.store.run(Tables::Worker, pending_sql);
    let counts_with_pending = counts(["10000+", "1300", "1000+", "1", "0", "8710", "0"]);
    assert_eq!(system.counts("").await, counts_with_pending);
    for query in ["q=a", "status=pending", "created_after=today", "limit=5"] {
        let reply = system.get(&format!("/v1/orders/count?{query}")).await;
        reply.expect_problem(422, "INVALID_REQUEST");
    }
}
