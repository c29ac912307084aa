//! Upgrades: databases of earlier versions, and two versions at once.

use std::{fs, path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::harness::{
    Process, Store, System, Tables, TestFolder, WORKER, has_shipping_label, setting, wait_until,
};

/// A database of the first version whose schema is still supported (commit 1474d09), killed during two payments.
fn first_version_store(folder: &TestFolder) -> Store {
    let store = Store::new(folder);
    let data_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/first");
    let read_file = |file_name: &str| fs::read_to_string(data_folder.join(file_name)).unwrap();
    if store.is_sqlite() {
        store.run(Tables::Worker, &read_file("sqlite.sql"));
        store.run(Tables::Ledger, &read_file("sqlite.sandbox.sql"));
    } else {
        store.run(Tables::Worker, &read_file("postgres.sql"));
    }
    store
}

fn texts<'a>(orders: &'a [Value], field_name: &str) -> Vec<&'a str> {
    orders
        .iter()
        .map(|order| order[field_name].as_str().unwrap())
        .collect()
}

/// Changes a delivered order, and the address of an order that has a label.
async fn change_old_orders(system: &System, delivered_id: &str, labelled_id: &str) {
    let patch = json!({"note": "an old order", "tags": ["old"]});
    let path = format!("/v1/orders/{delivered_id}");
    let changed_order = system.patch(&path, patch).await.expect(200);
    assert_eq!(changed_order["note"], "an old order");
    let list_by_tag = system.get("/v1/orders?tag=OLD").await.expect(200);
    assert_eq!(list_by_tag["data"][0]["id"], delivered_id);
    let patch = json!({"shipping_address": {"city": "Bonn"}});
    let path = format!("/v1/orders/{labelled_id}");
    system.patch(&path, patch).await.expect(200);
    system
        .wait_for_order(labelled_id, "labelled again", |order| {
            let shipments = order["shipments"].as_array().unwrap();
            let last_shipment = shipments.last().unwrap();
            shipments.len() > 1 && last_shipment["status"] == "label_created"
        })
        .await;
}

#[tokio::test]
async fn orders_of_the_first_version_are_migrated_and_completed() {
    let folder = TestFolder::new();
    let store = first_version_store(&folder);
    // Before the migration, `verify` reports the earlier schema and not an inconsistency.
    let verify_result = Process::command(WORKER)
        .arg("verify")
        .env("DATABASE_URL", store.url())
        .output();
    let verify_output = verify_result.unwrap();
    let stderr_text = String::from_utf8_lossy(&verify_output.stderr);
    assert!(
        !verify_output.status.success() && stderr_text.contains("its schema has version"),
        "{stderr_text}"
    );
    let system = System::start_with_store(folder, store, WORKER).await;

    // Newest first. The last two payments were in progress, and their reservations may have expired by now.
    let orders = system.wait_until_idle().await;
    let earlier_statuses = texts(&orders[2..], "status");
    assert_eq!(
        earlier_statuses,
        [
            "cancelled",
            "cancelled",
            "processing",
            "shipped",
            "delivered"
        ]
    );
    for order in &orders[..2] {
        let (status, reason) = (&order["status"], &order["cancel_reason"]);
        assert!(status == "processing" || reason == "expired", "{order}");
    }
    let delivered_order = orders.last().unwrap();
    assert_eq!(delivered_order["number"], 1);
    assert_eq!(delivered_order["total"], 2500);
    assert_eq!(delivered_order["payment"]["captured"], 2500);
    assert_eq!(delivered_order["metadata"], json!({"a": 1}));
    assert_eq!(delivered_order["shipping_address"]["city"], "Berlin");
    let history = system
        .list_event_types(delivered_order["id"].as_str().unwrap())
        .await;
    assert_eq!(history.first().unwrap(), "order.created");
    assert!(
        history.iter().any(|event| event == "order.delivered"),
        "{history:?}"
    );
    let page = system
        .get("/v1/orders?include_deleted=true&limit=200")
        .await
        .expect(200);
    let orders_with_deleted = page["data"].as_array().unwrap();
    assert_eq!(
        orders_with_deleted
            .iter()
            .filter(|order| order["is_deleted"] == true)
            .count(),
        1
    );
    system.assert_verified();

    // Old orders are found by their customer and their tracking number.
    let tracking_number = delivered_order["shipments"][0]["tracking_number"]
        .as_str()
        .unwrap();
    let customer_id = delivered_order["customer_id"].as_str().unwrap();
    let customer = system
        .get(&format!("/v1/customers/{customer_id}"))
        .await
        .expect(200);
    let name = customer["name"].as_str().unwrap().to_uppercase();
    for search_text in [tracking_number, &name] {
        let list_reply = system.get(&format!("/v1/orders?q={search_text}")).await;
        let found_orders = list_reply.expect(200);
        let order_list = found_orders["data"].as_array().unwrap();
        assert!(
            order_list
                .iter()
                .any(|order| order["id"] == delivered_order["id"]),
            "{search_text}"
        );
    }

    // Old orders can be refunded and changed, and new orders created.
    let id = delivered_order["id"].as_str().unwrap();
    change_old_orders(&system, id, orders[4]["id"].as_str().unwrap()).await;
    let refunds_path = format!("/v1/orders/{id}/refunds");
    system
        .post(&refunds_path, json!({"amount": 500}))
        .await
        .expect(202);
    system
        .wait_for_order(id, "refunded", |order| order["payment"]["refunded"] == 500)
        .await;
    let customer_id = delivered_order["customer_id"].as_str().unwrap();
    let body = json!({"customer_id": customer_id, "items": [{"sku": "mug", "quantity": 1}]});
    let order = system.post("/v1/orders", body).await.expect(201);
    let id = order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "processing", |order| order["status"] == "processing")
        .await;
    // Orders from before the statistics existed are counted.
    wait_until("all orders to be counted", async || {
        let stats = system.get("/v1/stats").await.expect(200);
        stats["orders"]["by_status"]["delivered"] == 1
    })
    .await;
    system.assert_verified();
}

/// The worker of the previous version. Without the history of the repository there is none; scripts/test.sh
/// reports that, and the tests of two versions are skipped.
pub(crate) fn previous_worker() -> Option<String> {
    let worker_program = setting("TEST_PREVIOUS_WORKER");
    if worker_program == "none" {
        eprintln!("SKIPPED: the previous version is not available");
        return None;
    }
    Some(worker_program)
}

/// Creates this many orders concurrently, with slow payments.
pub(crate) async fn create_orders(
    system: &System,
    customer_id: &str,
    order_count: usize,
) -> Vec<String> {
    let body = json!({"customer_id": customer_id, "items": [{"sku": "mug", "quantity": 1}],
                      "payment_method": "pm_slow"});
    let order_requests = (0..order_count).map(|_| system.post("/v1/orders", body.clone()));
    let mut order_ids = Vec::new();
    for order_reply in futures_util::future::join_all(order_requests).await {
        order_ids.push(order_reply.expect(201)["id"].as_str().unwrap().to_owned());
    }
    order_ids
}

pub(crate) async fn wait_until_processing(system: &System, order_ids: &[String]) {
    for id in order_ids {
        system
            .wait_for_order(id, "processing", |order| order["status"] == "processing")
            .await;
    }
}

pub(crate) async fn wait_until_ready(worker: &Process) {
    wait_until("the additional worker to be ready", async || {
        let Some(address) = worker.find_logged_field("health", 0) else {
            return false;
        };
        let response = reqwest::get(format!("http://{address}/readyz")).await;
        response.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn this_version_and_the_previous_one_run_side_by_side() {
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    if store.is_sqlite() {
        // SQLite has one worker; see the next test.
        return;
    }
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system
        .create_product_with_stock("mug", &[("berlin", 1_000)])
        .await;
    let customer_id = system.create_customer().await;

    // The new worker migrates the schema while the previous one processes payments.
    let mut ids = create_orders(&system, &customer_id, 20).await;
    let mut new_worker = system.start_additional_worker(WORKER);
    wait_until_ready(&new_worker).await;
    // Each worker processes new requests and continues the other's orders.
    ids.extend(create_orders(&system, &customer_id, 40).await);
    // The previous version starts on the new schema.
    system.worker.kill();
    system.restart_worker().await;
    ids.extend(create_orders(&system, &customer_id, 20).await);
    // The previous version continues alone with the data of the new one.
    new_worker.kill();
    ids.extend(create_orders(&system, &customer_id, 20).await);
    wait_until_processing(&system, &ids).await;
    system.assert_verified();
}

#[tokio::test]
async fn upgrade_can_be_rolled_back() {
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system
        .create_product_with_stock("mug", &[("berlin", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let mut ids = Vec::new();
    for worker_program in [WORKER, &previous_worker, WORKER] {
        ids.extend(create_orders(&system, &customer_id, 5).await);
        restart_with(&mut system, worker_program).await;
    }
    wait_until_processing(&system, &ids).await;
    // The previous version stores no trace context.
    for (id, has_trace) in [(&ids[0], false), (&ids[5], true), (&ids[10], false)] {
        let path = format!("/v1/events?order_id={id}&type=order.created");
        let page = system.get(&path).await.expect(200);
        let created_event = &page["data"][0];
        assert_eq!(
            created_event["traceparent"].is_string(),
            has_trace,
            "{created_event}"
        );
    }
    system.assert_verified();
}

#[tokio::test]
async fn customers_and_shipments_of_the_previous_version_are_kept_and_found() {
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system
        .create_product_with_stock("mug", &[("berlin", 1_000)])
        .await;
    let create_customer = async |system: &System, name: &str| {
        let new_customer = json!({"name": name, "email": "c@example.com"});
        let created_customer = system.post("/v1/customers", new_customer).await.expect(201);
        created_customer["id"].as_str().unwrap().to_owned()
    };
    let assert_finds = async |system: &System, search_path: &str, id: &str| {
        wait_until(&format!("{search_path} to find {id}"), async || {
            let list = system.get(&format!("/v1/{search_path}")).await.expect(200);
            let entries = list["data"].as_array().unwrap();
            entries.len() == 1 && entries[0]["id"] == id
        })
        .await;
    };
    let changed_id = create_customer(&system, "Östlund").await;
    let erased_id = create_customer(&system, "Ada").await;

    restart_with(&mut system, WORKER).await;
    assert_finds(&system, "customers?q=%C3%B6STL", &changed_id).await;
    for id in [&changed_id, &erased_id] {
        let customer_patch = json!({"phone": "112", "addresses": [{"city": "Berlin"}]});
        let path = format!("/v1/customers/{id}");
        system.patch(&path, customer_patch).await.expect(200);
    }

    // The previous version does not know the new columns.
    restart_with(&mut system, &previous_worker).await;
    let block_path = format!("/v1/customers/{changed_id}/block");
    system.post(&block_path, json!({})).await.expect(200);
    let path = format!("/v1/customers/{erased_id}");
    system.delete(&path).await.expect(204);
    let later_id = create_customer(&system, "Zoë").await;
    let order = json!({"customer_id": later_id, "items": [{"sku": "mug", "quantity": 1}]});
    let order = system.post("/v1/orders", order).await.expect(201);
    let order_id = order["id"].as_str().unwrap();
    system
        .wait_for_order(order_id, "announced", has_shipping_label)
        .await;
    let shipment_body = json!({"carrier": "DHL", "tracking_number": "PREV-1"});
    let path = format!("/v1/orders/{order_id}/shipments");
    system.post(&path, shipment_body).await.expect(201);

    restart_with(&mut system, WORKER).await;
    let path = format!("/v1/customers/{changed_id}");
    let customer = system.get(&path).await.expect(200);
    assert_eq!(customer["is_blocked"], true);
    assert_eq!(customer["phone"], "112");
    assert_eq!(customer["addresses"], json!([{"city": "Berlin"}]));
    let patch = json!({"name": "Östlund II"});
    let customer = system.patch(&path, patch).await.expect(200);
    assert_eq!(customer["version"], 2);
    assert_finds(&system, "customers?q=ZO%C3%8B", &later_id).await;
    assert_finds(&system, "orders?q=zo", order_id).await;
    assert_finds(&system, "orders?q=prev-1", order_id).await;
    let customer_reply = system.get(&format!("/v1/customers/{erased_id}")).await;
    let customer = customer_reply.expect(200);
    assert_eq!(customer["phone"], json!(null));
    assert_eq!(customer["addresses"], json!([]));
    let personal_data_sql = format!(
        "SELECT name_key || email_key || coalesce(profile, '') FROM customers WHERE id = '{erased_id}'"
    );
    assert_eq!(system.store.run(Tables::Worker, &personal_data_sql), "");
    system.assert_verified();
}

#[tokio::test]
async fn indexes_are_built_while_orders_are_taken() {
    let system = System::start().await;
    if system.store.is_sqlite() {
        // SQLite has one worker, which migrates before it takes orders.
        return;
    }
    system
        .create_product_with_stock("mug", &[("berlin", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    // The database as it was when the version that builds indexes was interrupted: two are missing, one is invalid.
    system.store.run(
        Tables::Worker,
        "DELETE FROM _sqlx_migrations WHERE version = 16;
         DROP INDEX customers_by_name, shipments_by_tracking_number;
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'customers_by_email'::regclass",
    );

    // Builds wait for this transaction. A build that locks its table would make orders wait, too.
    let open_transaction = system
        .store
        .begin_transaction("LOCK TABLE customers, events IN ROW EXCLUSIVE MODE");
    let start_migration = || {
        let mut command = Process::command(WORKER);
        command.arg("migrate");
        command.env("DATABASE_URL", system.store.url());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let migrations = [start_migration(), start_migration()];
    let running_builds_sql =
        "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";
    wait_until("an index to be built", async || {
        system.store.run(Tables::Worker, running_builds_sql) != "0"
    })
    .await;
    let ids = create_orders(&system, &customer_id, 5).await;
    wait_until_processing(&system, &ids).await;
    open_transaction.commit();

    for migration in migrations {
        let output = migration.wait_with_output().unwrap();
        let error_text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error_text}");
    }
    let invalid_indexes_sql = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(system.store.run(Tables::Worker, invalid_indexes_sql), "0");
    let rebuilt_indexes_sql = "SELECT count(*) FROM pg_class WHERE relname IN
        ('customers_by_name', 'customers_by_email', 'shipments_by_tracking_number')";
    assert_eq!(system.store.run(Tables::Worker, rebuilt_indexes_sql), "3");
    system.assert_verified();
}

pub(crate) async fn restart_with(system: &mut System, worker_program: &str) {
    system.worker.kill();
    system.set_worker(worker_program);
    system.restart_worker().await;
}
