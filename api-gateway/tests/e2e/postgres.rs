//! Features that exist only with PostgreSQL: several workers, and a read replica. With SQLite these tests do
//! nothing.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::harness::{
    Process, Reply, Store, System, Tables, TestFolder, has_shipping_label, order_body, send,
    wait_until,
};

fn start_migration(store: &Store) -> std::process::Child {
    Process::command("order-worker")
        .arg("migrate")
        .env("DATABASE_URL", store.url())
        .spawn()
        .unwrap()
}

#[test]
fn ten_workers_can_migrate_an_empty_database_concurrently() {
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    if store.is_sqlite() {
        return;
    }
    let migrations: Vec<_> = (0..10).map(|_| start_migration(&store)).collect();
    for mut migration in migrations {
        assert!(migration.wait().unwrap().success());
    }
    let applied_migrations = store.run(Tables::Worker, "SELECT count(*) FROM _sqlx_migrations");
    let migrations_folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../order-worker/src/store/migrations/postgres"
    );
    let migration_count = std::fs::read_dir(migrations_folder).unwrap().count();
    assert_eq!(applied_migrations, migration_count.to_string());
}

#[tokio::test]
async fn client_reads_use_the_replica_and_steps_the_primary() {
    let folder = TestFolder::new();
    let replica_store = Store::new(&folder);
    if replica_store.is_sqlite() {
        return;
    }
    // A replica that never catches up.
    assert!(start_migration(&replica_store).wait().unwrap().success());
    let system = System::start_with(&[("DATABASE_READ_URL", &replica_store.url())]).await;
    system
        .post(
            "/v1/products",
            json!({"sku": "A", "name": "A", "price": 1000, "currency": "EUR"}),
        )
        .await
        .expect(201);
    system
        .put("/v1/products/A/stock/main", json!({"on_hand": 5}))
        .await
        .expect(200);
    let customer_id = system.create_customer().await;
    let mut new_order = order_body(&customer_id, "A", 1);
    new_order["metadata"] = json!({"for": "Lovelace"});
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let order_id = created_order["id"].as_str().unwrap();
    system
        .get(&format!("/v1/orders/{order_id}"))
        .await
        .expect_problem(404, "NOT_FOUND");
    crate::harness::wait_until("the order to be processed", async || {
        system
            .store
            .run(Tables::Worker, "SELECT status FROM orders")
            == "processing"
    })
    .await;
    // Commands read from the primary, even if the replica is behind.
    let customer_path = format!("/v1/customers/{customer_id}");
    system
        .delete(&customer_path)
        .await
        .expect_problem(409, "INVALID_STATE");
    system
        .post(&format!("/v1/orders/{order_id}/cancel"), json!({}))
        .await
        .expect(200);
    system.delete(&customer_path).await.expect(204);
    let count_sql = "SELECT count(*) FROM orders WHERE state LIKE '%Lovelace%'";
    assert_eq!(system.store.run(Tables::Worker, count_sql), "0");
    system.assert_verified();
}

/// Numbers are unique, and an order is known to all workers.
#[tokio::test]
async fn two_workers_process_orders_concurrently() {
    let mut system = System::start().await;
    if system.store.is_sqlite() {
        return;
    }
    let other_worker = system.spawn_replacement_worker();
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let create_orders = (0..60).map(async |_| {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    });
    let ids = join_all(create_orders).await;
    for id in &ids {
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
    }
    assert_eq!(system.stock_level("A").await, (100, 60));
    let distinct_numbers_sql = "SELECT count(DISTINCT number) FROM orders";
    assert_eq!(system.store.run(Tables::Worker, distinct_numbers_sql), "60");
    // After both workers have processed orders, one of them can stop.
    system.worker.terminate();
    system.worker = other_worker;
    let cancel_path = format!("/v1/orders/{}/cancel", ids[0]);
    system.post(&cancel_path, json!({})).await.expect(200);
    system.wait_until_idle().await;
    system.assert_verified();
}

/// Two workers that decide an order and another operation under one key at the same moment don't see each
/// other's record; one of them has to be refused nevertheless.
#[tokio::test]
async fn one_key_is_not_used_for_an_order_and_another_operation_by_two_workers() {
    let system = System::start().await;
    if system.store.is_sqlite() {
        return;
    }
    let mut second_worker = system.start_additional_worker("order-worker");
    wait_until("the second worker to be ready", async || {
        second_worker.find_logged_field("health", 0).is_some()
    })
    .await;
    system
        .create_product_with_stock("A", &[("main", 10_000)])
        .await;
    let customer_id = system.create_customer().await;
    let new_order = order_body(&customer_id, "A", 1);
    let post_with_key = |path: String, idempotency_key: String, body: &serde_json::Value| {
        let request = system.request(Method::POST, &path).json(body);
        send(request.header("idempotency-key", idempotency_key))
    };
    let mut refused_counts = [0, 0];
    for round in 0..200 {
        let existing_order_reply = system.post("/v1/orders", new_order.clone()).await;
        let id = existing_order_reply.expect(201)["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let key = format!("key-{round}");
        let (create_reply, cancel_reply): (Reply, Reply) = tokio::join!(
            post_with_key("/v1/orders".to_owned(), key.clone(), &new_order),
            post_with_key(format!("/v1/orders/{id}/cancel"), key.clone(), &json!({})),
        );
        match (create_reply.status, cancel_reply.status) {
            (201, 422) => refused_counts[0] += 1,
            (422, 200) => refused_counts[1] += 1,
            other_statuses => panic!(
                "{other_statuses:?} in round {round} after {refused_counts:?}: {} {}",
                create_reply.body, cancel_reply.body
            ),
        }
    }
    second_worker.kill();
    system.wait_until_idle().await;
    system.assert_verified();
}

/// PostgreSQL ignores an index with another collation than the column's and scans the table.
#[tokio::test]
async fn all_indexes_have_the_collation_of_their_columns() {
    let system = System::start().await;
    if system.store.is_sqlite() {
        return;
    }
    let index_columns_sql = "
        FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid
        CROSS JOIN unnest(indkey::int2[], indcollation::oid[]) AS part (attribute, collation_id)
        JOIN pg_attribute ON attrelid = indrelid AND attnum = attribute
        WHERE relnamespace IN ('public'::regnamespace, 'sandbox'::regnamespace)
          AND attcollation <> 0";
    let count_sql = format!("SELECT count(*) > 20 {index_columns_sql}");
    assert_eq!(system.store.run(Tables::Worker, &count_sql), "t");
    let other_collations_sql =
        format!("SELECT relname, attname {index_columns_sql} AND attcollation <> collation_id");
    assert_eq!(system.store.run(Tables::Worker, &other_collations_sql), "");
}

/// A list of rare orders does not scan the frequent ones.
#[tokio::test]
async fn rare_orders_are_found_by_index() {
    let system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    if system.store.is_sqlite() {
        return;
    }
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let import_lines = vec![order_body(&customer_id, "A", 1); 2_000];
    let import_report = system.import(&import_lines, None).await.expect(200);
    assert_eq!(import_report["accepted"], 2_000);
    let statistics_sql = "ANALYZE; SELECT pg_stat_reset()";
    system.store.run(Tables::Worker, statistics_sql);
    let other_customer_id = system.create_customer().await;
    let filter_queries = [
        "status=delivered".to_owned(),
        "storefront=other".to_owned(),
        "storefront=default&status=shipped".to_owned(),
        format!("customer_id={other_customer_id}"),
    ];
    for filter_query in &filter_queries {
        let page = system
            .get(&format!("/v1/orders?{filter_query}"))
            .await
            .expect(200);
        assert_eq!(page["data"], json!([]), "{filter_query}");
    }
    // The server updates its statistics with a delay.
    let mut index_read_statistics = String::new();
    wait_until("the index statistics to be updated", async || {
        let index_reads_sql =
            "SELECT sum(idx_scan) >= 4, sum(idx_tup_read) < 100 FROM pg_stat_user_indexes
                    WHERE relname = 'orders'";
        index_read_statistics = system.store.run(Tables::Worker, index_reads_sql);
        index_read_statistics.starts_with('t')
    })
    .await;
    assert_eq!(index_read_statistics, "t t");
}

#[tokio::test]
async fn expired_request_of_a_frozen_worker_does_not_undo_a_later_one() {
    let folder = TestFolder::new();
    if Store::new(&folder).is_sqlite() {
        return;
    }
    let timeout = std::time::Duration::from_secs(1);
    let timeout_ms = timeout.as_millis().to_string();
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", &timeout_ms)]).await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    system.create_product_with_stock("B", &[("main", 1)]).await;
    let set_stock = |sku: &str, on_hand: i64| {
        let path = format!("/v1/products/{sku}/stock/main");
        let request = system.request(reqwest::Method::PUT, &path);
        crate::harness::send(request.json(&json!({"on_hand": on_hand})))
    };
    let mut second_worker = system.start_additional_worker("order-worker");
    wait_until("the second worker to be ready", async || {
        second_worker.find_logged_field("health", 0).is_some()
    })
    .await;
    system.worker.signal("STOP");
    // The broker delivers requests to both workers in turn.
    wait_until("the frozen worker to hold a request", async || {
        set_stock("A", 10).await.status == 504
    })
    .await;
    wait_until("the other worker to answer", async || {
        set_stock("A", 70).await.status == 200
    })
    .await;
    tokio::time::sleep(3 * timeout).await;
    // The frozen worker processes its old request before new ones.
    second_worker.kill();
    system.worker.signal("CONT");
    wait_until("the first worker to answer", async || {
        set_stock("B", 2).await.status == 200
    })
    .await;
    assert_eq!(system.stock_level("A").await.0, 70);
    system.worker.kill();
    system.restart_worker().await;
    system.assert_verified();
}
