//! Upgrades: databases of earlier versions, and two versions at once.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{Folder, Process, Store, System, Tables, WORKER, setting, until};

/// A database of the first version whose schema is still supported (commit 1474d09), killed during two payments.
fn first_version_store(folder: &Folder) -> Store {
    let store = Store::new(folder);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/first");
    let read = |name: &str| fs::read_to_string(data.join(name)).unwrap();
    if store.is_sqlite() {
        store.run(Tables::Orders, &read("sqlite.sql"));
        store.run(Tables::Ledger, &read("sqlite.sandbox.sql"));
    } else {
        store.run(Tables::Orders, &read("postgres.sql"));
    }
    store
}

fn texts<'a>(orders: &'a [Value], field: &str) -> Vec<&'a str> {
    orders
        .iter()
        .map(|order| order[field].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn orders_of_the_first_version_are_migrated_and_completed() {
    let folder = Folder::new();
    let store = first_version_store(&folder);
    // Before the migration, `verify` reports the earlier schema and not an inconsistency.
    let audit = Process::command(WORKER)
        .arg("verify")
        .env("DATABASE_URL", store.url())
        .output();
    let audit = audit.unwrap();
    let said = String::from_utf8_lossy(&audit.stderr);
    assert!(
        !audit.status.success() && said.contains("its schema has version"),
        "{said}"
    );
    let system = System::start_with_store(folder, store, WORKER).await;

    // Newest first. The last two payments were in progress, and their reservations may have expired by now.
    let orders = system.wait_until_idle().await;
    let known = texts(&orders[2..], "status");
    assert_eq!(
        known,
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
    let delivered = orders.last().unwrap();
    assert_eq!(delivered["number"], 1);
    assert_eq!(delivered["total"], 2500);
    assert_eq!(delivered["payment"]["captured"], 2500);
    assert_eq!(delivered["metadata"], json!({"a": 1}));
    assert_eq!(delivered["shipping_address"]["city"], "Berlin");
    let history = system.history(delivered["id"].as_str().unwrap()).await;
    assert_eq!(history.first().unwrap(), "order.created");
    assert!(
        history.iter().any(|kind| kind == "order.delivered"),
        "{history:?}"
    );
    let deleted = system
        .get("/v1/orders?include_deleted=true&limit=200")
        .await
        .expect(200);
    let deleted = deleted["data"].as_array().unwrap();
    assert_eq!(
        deleted
            .iter()
            .filter(|order| order["is_deleted"] == true)
            .count(),
        1
    );
    system.assert_verified();

    // Old orders can be refunded, and new orders created.
    let id = delivered["id"].as_str().unwrap();
    let refunds = format!("/v1/orders/{id}/refunds");
    system
        .post(&refunds, json!({"amount": 500}))
        .await
        .expect(202);
    system
        .order_until(id, "refunded", |order| order["payment"]["refunded"] == 500)
        .await;
    let customer = delivered["customer_id"].as_str().unwrap();
    let body = json!({"customer_id": customer, "items": [{"sku": "mug", "quantity": 1}]});
    let order = system.post("/v1/orders", body).await.expect(201);
    let id = order["id"].as_str().unwrap();
    system
        .order_until(id, "processing", |order| order["status"] == "processing")
        .await;
    // Orders from before the statistics existed are counted.
    until("all orders to be counted", async || {
        let stats = system.get("/v1/stats").await.expect(200);
        stats["orders"]["by_status"]["delivered"] == 1
    })
    .await;
    system.assert_verified();
}

/// The worker of the previous version. Without the history of the repository there is none; scripts/test.sh
/// reports that, and the tests of two versions are skipped.
fn previous_worker() -> Option<String> {
    let program = setting("TEST_PREVIOUS_WORKER");
    if program == "none" {
        eprintln!("LEFT OUT: the version before this one is not here");
        return None;
    }
    Some(program)
}

/// Creates this many orders concurrently, with slow payments.
async fn order(system: &System, customer: &str, count: usize) -> Vec<String> {
    let body = json!({"customer_id": customer, "items": [{"sku": "mug", "quantity": 1}],
                      "payment_method": "pm_slow"});
    let orders = (0..count).map(|_| system.post("/v1/orders", body.clone()));
    let mut ids = Vec::new();
    for order in futures_util::future::join_all(orders).await {
        ids.push(order.expect(201)["id"].as_str().unwrap().to_owned());
    }
    ids
}

async fn wait_until_processing(system: &System, ids: &[String]) {
    for id in ids {
        system
            .order_until(id, "processing", |order| order["status"] == "processing")
            .await;
    }
}

pub(crate) async fn wait_until_ready(worker: &Process) {
    until("the additional worker to be ready", async || {
        let Some(address) = worker.logged("health", 0) else {
            return false;
        };
        let answer = reqwest::get(format!("http://{address}/readyz")).await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn this_version_and_the_previous_one_run_side_by_side() {
    let folder = Folder::new();
    let store = Store::new(&folder);
    if store.is_sqlite() {
        // SQLite has one worker; see the next test.
        return;
    }
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system.stock("mug", &[("berlin", 1_000)]).await;
    let customer = system.customer().await;

    // The new worker migrates the schema while the previous one processes payments.
    let mut ids = order(&system, &customer, 20).await;
    let mut new = system.start_additional_worker(WORKER);
    wait_until_ready(&new).await;
    // Each worker processes new requests and continues the other's orders.
    ids.extend(order(&system, &customer, 40).await);
    // The previous version starts on the new schema.
    system.worker.kill();
    system.restart_worker().await;
    ids.extend(order(&system, &customer, 20).await);
    // The previous version continues alone with the data of the new one.
    new.kill();
    ids.extend(order(&system, &customer, 20).await);
    wait_until_processing(&system, &ids).await;
    system.assert_verified();
}

#[tokio::test]
async fn upgrade_can_be_rolled_back() {
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let folder = Folder::new();
    let store = Store::new(&folder);
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system.stock("mug", &[("berlin", 1_000)]).await;
    let customer = system.customer().await;
    let mut ids = Vec::new();
    for program in [WORKER, &previous_worker, WORKER] {
        ids.extend(order(&system, &customer, 5).await);
        system.worker.kill();
        system.set_worker(program);
        system.restart_worker().await;
    }
    wait_until_processing(&system, &ids).await;
    system.assert_verified();
}
