//! Lists of a status, a storefront or an endpoint with few rows beside many others. Both databases return the same
//! pages. PostgreSQL reads them by the index of the list, and not all other rows with a filter.

use serde_json::json;

use crate::harness::{System, Tables, order_body, wait_until};

/// Number of other rows in each table.
const OTHER_ROWS: usize = 20_000;
/// Maximum number of index entries that all lists of the test read together.
const MAX_ENTRIES_READ: i64 = 5_000;
const RARE_ORDERS: usize = 3;

/// Inserts rows of other statuses, storefronts and endpoints. The orders and customers come before and after those of
/// the test in every list.
fn insert_other_rows_sql(is_sqlite: bool, endpoint_id: &str) -> String {
    let (number_series_sql, false_sql) = if is_sqlite {
        let series_sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <";
        (format!("{series_sql} {OTHER_ROWS}) SELECT i FROM n"), "0")
    } else {
        let series_sql = format!("SELECT i FROM generate_series(1, {OTHER_ROWS}) AS i");
        (series_sql, "false")
    };
    // The size of an order.
    let padding = " ".repeat(1_000);
    let numbers_sql = format!("({number_series_sql}) AS numbers");
    // In 2017, or in 2033. Rows are stored in the order of their creation, as in a shop.
    let is_old_sql = format!("i <= {OTHER_ROWS} / 2");
    let created_at_sql =
        format!("CASE WHEN {is_old_sql} THEN 1500000000000 ELSE 2000000000000 END + i");
    format!(
        "INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
         SELECT 1000 + i, 'order-' || i, 'others', 'customer-' || i,
                CASE i % 3 WHEN 0 THEN 'shipped' WHEN 1 THEN 'processing' ELSE 'delivered' END,
                {false_sql}, {created_at_sql}, '{{{padding}}}'
         FROM {numbers_sql};
         INSERT INTO order_returns (id, order_id, storefront, status, created_at)
         SELECT 'return-' || (100000 + i), 'order-' || i, 'others', 'received', i FROM {numbers_sql};
         INSERT INTO messages (id, order_id, event_id, kind, position, status, due_at, created_at, state)
         SELECT 'message-' || (100000 + i), 'order-' || i, 'event-' || i, 'order_confirmation', i, 'sent', NULL, i,
                '{{{padding}}}'
         FROM {numbers_sql};
         INSERT INTO deliveries (id, endpoint_id, status, due_at, created_at, state)
         SELECT 'delivery-' || (100000 + i), '{endpoint_id}', 'succeeded', NULL, 2000000000000, '{{{padding}}}'
         FROM {numbers_sql};
         INSERT INTO customers (id, storefront, state, name_key, email_key)
         SELECT CASE WHEN {is_old_sql} THEN '0-customer-' ELSE 'customer-' END || (100000 + i), 'others',
                '{{{padding}}}', 'name', 'email'
         FROM {numbers_sql};"
    )
}

impl System {
    /// The number of entries of all pages of a list.
    async fn listed_count(&self, path: &str) -> usize {
        let (mut listed_count, mut cursor) = (0, String::new());
        loop {
            let page = self.get(&format!("{path}{cursor}")).await.expect(200);
            listed_count += page["data"].as_array().unwrap().len();
            let Some(next_cursor) = page["next_cursor"].as_str() else {
                return listed_count;
            };
            cursor = format!("&cursor={next_cursor}");
        }
    }

    async fn new_endpoint_id(&self) -> String {
        let new_endpoint =
            json!({"url": "https://example.com/hook", "event_types": ["product.created"]});
        let endpoint_reply = self.post("/v1/webhook-endpoints", new_endpoint).await;
        endpoint_reply.expect(201)["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// Filters of a list of orders, each with the number of orders that it lists.
const ORDER_FILTERS: [(&str, usize); 22] = [
    ("status=pending", RARE_ORDERS),
    ("status=cancelled", 0),
    ("storefront=default", RARE_ORDERS),
    ("storefront=none", 0),
    ("storefront=default&status=pending", RARE_ORDERS),
    ("storefront=default&status=shipped", 0),
    ("storefront=others&status=pending", 0),
    ("awaits_approval=true", RARE_ORDERS),
    ("awaits_approval=true&status=pending", RARE_ORDERS),
    ("awaits_approval=true&status=shipped", 0),
    ("awaits_approval=true&storefront=others", 0),
    ("awaits_approval=true&storefront=default", RARE_ORDERS),
    ("payment_status=outstanding", 0),
    ("payment_status=outstanding&storefront=others", 0),
    (
        "status=pending&created_after=2020-01-01T00:00:00Z",
        RARE_ORDERS,
    ),
    ("status=pending&created_before=2020-01-01T00:00:00Z", 0),
    // Of a frequent status or storefront, no orders at this time.
    ("status=shipped&created_after=2040-01-01T00:00:00Z", 0),
    ("status=shipped&created_before=2010-01-01T00:00:00Z", 0),
    ("storefront=others&created_after=2040-01-01T00:00:00Z", 0),
    (
        "storefront=others&status=shipped&created_before=2010-01-01T00:00:00Z",
        0,
    ),
    (
        "status=shipped&created_after=2020-01-01T00:00:00Z&created_before=2030-01-01T00:00:00Z",
        0,
    ),
    (
        "storefront=others&status=shipped&created_after=2020-01-01T00:00:00Z&created_before=2030-01-01T00:00:00Z",
        0,
    ),
];

#[tokio::test]
async fn lists_with_few_of_many_rows_read_only_these() {
    let mut system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    for _ in 0..RARE_ORDERS {
        let order_reply = system.post("/v1/orders", order_body(&customer_id, "A", 1));
        order_reply.await.expect(201);
    }
    system.wait_until_idle().await;
    let endpoint_ids = [
        system.new_endpoint_id().await,
        system.new_endpoint_id().await,
    ];
    let is_sqlite = system.store.is_sqlite();
    let insert_sql = insert_other_rows_sql(is_sqlite, &endpoint_ids[0]);
    system.store.run(Tables::Worker, &insert_sql);
    if !is_sqlite {
        let statistics_sql = "ANALYZE; SELECT pg_stat_reset()";
        system.store.run(Tables::Worker, statistics_sql);
    }

    for sort in ["-created_at", "created_at"] {
        for (filter_query, expected_count) in ORDER_FILTERS {
            for suffix in ["&limit=1", "&include_deleted=true&limit=2"] {
                let path = format!("/v1/orders?sort={sort}&{filter_query}{suffix}");
                assert_eq!(system.listed_count(&path).await, expected_count, "{path}");
            }
        }
        // Between the old and the new orders of a frequent status, after the cursor of a rare one.
        let path = format!("/v1/orders?sort={sort}&status=pending&limit=1");
        let page = system.get(&path).await.expect(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        let time_bound = match sort {
            "created_at" => "created_before=2030-01-01T00:00:00Z",
            _ => "created_after=2020-01-01T00:00:00Z",
        };
        for filter_query in [
            "status=shipped",
            "storefront=others&status=shipped",
            "storefront=others",
        ] {
            let path =
                format!("/v1/orders?sort={sort}&{filter_query}&{time_bound}&cursor={cursor}");
            assert_eq!(system.listed_count(&path).await, 0, "{path}");
        }
    }
    let deliveries_paths = endpoint_ids.map(|id| format!("/v1/webhook-endpoints/{id}/deliveries"));
    for (path, expected_count) in [
        ("/v1/returns?status=requested", 0),
        ("/v1/returns?storefront=default", 0),
        ("/v1/returns?storefront=default&status=received", 0),
        ("/v1/returns?storefront=others&status=requested", 0),
        ("/v1/messages?status=failed", 0),
        ("/v1/customers?storefront=default", 1),
        ("/v1/customers?storefront=default&q=Ada", 1),
        ("/v1/customers?storefront=none", 0),
        (&format!("{}?status=failed", deliveries_paths[0]), 0),
        (&format!("{}?limit=1", deliveries_paths[1]), 0),
        (&format!("{}?status=succeeded", deliveries_paths[1]), 0),
    ] {
        assert_eq!(system.listed_count(path).await, expected_count, "{path}");
    }
    let counts = system
        .get("/v1/orders/count?storefront=default")
        .await
        .expect(200);
    assert_eq!(counts["awaiting_approval"]["count"], RARE_ORDERS);
    let attention = system.get("/v1/stats").await.expect(200)["attention"].clone();
    assert_eq!(attention["orders_awaiting_approval"], RARE_ORDERS);
    assert_eq!(attention["requested_returns"], 0);

    if !is_sqlite {
        assert_few_index_entries_read(&mut system).await;
    }
}

/// Asserts by the statistics of PostgreSQL that the lists have read few entries of indexes. The sessions of the worker
/// report their statistics when they end.
async fn assert_few_index_entries_read(system: &mut System) {
    system.take_worker().terminate();
    wait_until("the sessions of the worker to end", async || {
        let sessions_sql = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'order-worker'";
        system.store.run(Tables::Worker, sessions_sql) == "0"
    })
    .await;
    let tables_sql =
        "relname IN ('orders', 'order_returns', 'messages', 'deliveries', 'customers')";
    let statistics_sql = format!(
        "SELECT json_agg(json_build_array(indexrelname, idx_scan, idx_tup_read) ORDER BY idx_tup_read DESC)
         FROM pg_stat_user_indexes WHERE {tables_sql} AND idx_scan > 0"
    );
    let statistics_text = system.store.run(Tables::Worker, &statistics_sql);
    let statistics: Vec<(String, i64, i64)> = serde_json::from_str(&statistics_text).unwrap();
    let entries_read: i64 = statistics
        .iter()
        .map(|(_, _, entries_read)| entries_read)
        .sum();
    assert!(entries_read < MAX_ENTRIES_READ, "{statistics:#?}");
    let used_indexes: Vec<&str> = statistics.iter().map(|(name, ..)| name.as_str()).collect();
    for expected_index in [
        "orders_by_status",
        "orders_by_storefront",
        "orders_by_storefront_and_status",
        "returns_by_status",
        "returns_by_storefront",
        "returns_by_storefront_and_status",
        "messages_by_status",
        "customers_by_storefront",
        "deliveries_by_endpoint",
        "deliveries_by_endpoint_and_status",
    ] {
        assert!(
            used_indexes.contains(&expected_index),
            "{expected_index} in {statistics:#?}"
        );
    }
}
