//! Operation: backup and restore, export and retention.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{
    Process, Store, System, Tables, WORKER, order_body, run_worker, setting, wait_until,
};

fn stdout_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Creates orders continuously until dropped.
struct Load(tokio::task::JoinHandle<()>);

impl Load {
    async fn start(system: &System) -> Self {
        system
            .create_product_with_stock("mug", &[("berlin", 100_000)])
            .await;
        let customer_id = system.create_customer().await;
        let (client, url) = (system.client.clone(), system.url("/v1/orders"));
        let load_task = tokio::spawn(async move {
            let items = json!([{"sku": "mug", "quantity": 1}]);
            let payment_methods = ["pm_ok", "pm_slow", "pm_declined", "pm_ok"];
            for order_number in 0.. {
                let body = json!({"customer_id": customer_id, "items": items,
                                  "payment_method": payment_methods[order_number % payment_methods.len()]});
                let _ = client.post(&url).json(&body).send().await;
            }
        });
        wait_until("some orders", async || {
            system.list_orders().await.len() > 50
        })
        .await;
        Self(load_task)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Backs up the database while it is in use, as documented for operators.
fn back_up(system: &System) -> Store {
    let folder = system.folder.join("backup");
    if system.store.is_sqlite() {
        fs::create_dir(&folder).unwrap();
        let backup_file = folder.join("orders.db");
        let backup_output = run_worker(system, &["backup", backup_file.to_str().unwrap()]);
        assert!(
            backup_output.status.success(),
            "{}",
            stderr_text(&backup_output)
        );
        assert_eq!(
            stdout_text(&backup_output).lines().count(),
            2,
            "{}",
            stdout_text(&backup_output)
        );
        return Store::Sqlite { folder };
    }
    // The procedure of docs/OPERATIONS.md.
    let programs_folder = setting("TEST_POSTGRES_BIN");
    let postgres_program =
        |program_name: &str| Command::new(Path::new(&programs_folder).join(program_name));
    let backup_file = folder.with_extension("dump");
    let dump_output = postgres_program("pg_dump")
        .args(["--format=custom", "--file"])
        .arg(&backup_file)
        .arg(system.store.url())
        .output()
        .unwrap();
    assert!(
        dump_output.status.success(),
        "{}",
        stderr_text(&dump_output)
    );
    let restored_store = Store::new(&system.folder);
    let restore_output = postgres_program("pg_restore")
        .args(["--exit-on-error", "--no-owner", "--dbname"])
        .arg(restored_store.url())
        .arg(&backup_file)
        .output()
        .unwrap();
    assert!(
        restore_output.status.success(),
        "{}",
        stderr_text(&restore_output)
    );
    restored_store
}

#[tokio::test]
async fn backup_under_load_restores_consistently() {
    let mut system = System::start().await;
    let load = Load::start(&system).await;
    let backup_store = back_up(&system);
    let assert_verified = |store: &Store| {
        let (status, report) = system.verify_store(store);
        assert_eq!(status, Some(0), "{report}");
        report
    };
    let report = assert_verified(&backup_store);
    assert!(!report.starts_with("0 orders"), "{report}");
    drop(load);
    let order_count_before = system.wait_until_idle().await.len();

    // The worker continues the unfinished orders of the backup.
    system.worker.kill();
    let original_store = std::mem::replace(&mut system.store, backup_store);
    system.set_variable("DATABASE_URL", Some(&system.store.url()));
    system.restart_worker().await;
    let orders_after = system.wait_until_idle().await;
    assert!(
        (1..=order_count_before).contains(&orders_after.len()),
        "{} of {order_count_before}",
        orders_after.len()
    );
    assert!(
        orders_after
            .iter()
            .all(|order| order["status"] != "pending"),
        "{orders_after:?}"
    );
    system.assert_verified();
    drop(original_store);
}

#[tokio::test]
async fn failed_backup_reports_the_cause_and_overwrites_nothing() {
    let system = System::start().await;
    let backup_file = system.folder.join("copy.db");
    let backup_path = backup_file.to_str().unwrap();
    if !system.store.is_sqlite() {
        let backup_output = run_worker(&system, &["backup", backup_path]);
        assert!(!backup_output.status.success());
        assert!(
            stderr_text(&backup_output).contains("pg_dump"),
            "{}",
            stderr_text(&backup_output)
        );
        return;
    }
    fs::write(&backup_file, "precious").unwrap();
    let backup_output = run_worker(&system, &["backup", backup_path]);
    assert!(!backup_output.status.success());
    assert!(
        stderr_text(&backup_output).contains("already exists"),
        "{}",
        stderr_text(&backup_output)
    );
    assert_eq!(fs::read_to_string(&backup_file).unwrap(), "precious");
    let backup_output = run_worker(&system, &["backup", "/nowhere/copy.db"]);
    assert!(!backup_output.status.success());
    assert!(
        stderr_text(&backup_output).contains("/nowhere/copy"),
        "{}",
        stderr_text(&backup_output)
    );
}

#[tokio::test]
async fn exported_orders_and_events_equal_those_of_the_api() {
    let system = System::start().await;
    let load = Load::start(&system).await;
    // An export under load is a consistent snapshot.
    let exported_events = stdout_text(&run_worker(&system, &["export", "events"]));
    drop(load);
    let mut last_sequences = std::collections::HashMap::<String, u64>::new();
    for line in exported_events.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["specversion"], "1.0");
        let subject = event["subject"].as_str().unwrap().to_owned();
        let last_sequence = last_sequences.entry(subject).or_default();
        let sequence: u64 = event["sequence"].as_str().unwrap().parse().unwrap();
        assert!(*last_sequence < sequence, "{event}");
        *last_sequence = sequence;
    }
    let all_orders = system.wait_until_idle().await;

    let orders_output = run_worker(&system, &["export", "orders"]);
    let exported_orders: Vec<Value> = stdout_text(&orders_output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut expected_orders = all_orders.clone();
    expected_orders.reverse();
    // In lists, orders have the name of their customer, which the export of the customers has.
    for order in &mut expected_orders {
        let customer_name = order.as_object_mut().unwrap().remove("customer_name");
        assert_eq!(customer_name, Some(json!("Ada")));
    }
    assert_eq!(exported_orders, expected_orders);
    let last_number = exported_orders.last().unwrap()["number"].as_i64().unwrap();
    assert!(stderr_text(&orders_output).contains(&format!("--after {last_number}")));

    // Exports the rest from a position, exports to a file, and exports to a reader that stops early.
    let remaining_orders_output = run_worker(
        &system,
        &[
            "export",
            "orders",
            "--after",
            &(last_number - 2).to_string(),
        ],
    );
    assert_eq!(stdout_text(&remaining_orders_output).lines().count(), 2);
    let output_file = system.folder.join("orders.ndjson");
    let export_output = run_worker(
        &system,
        &[
            "export",
            "orders",
            "--output",
            output_file.to_str().unwrap(),
        ],
    );
    assert!(export_output.status.success());
    assert_eq!(
        fs::read_to_string(&output_file).unwrap(),
        stdout_text(&orders_output)
    );
    let mut export_process = Process::command(WORKER)
        .args(["export", "events"])
        .env("DATABASE_URL", system.store.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(export_process.stdout.take());
    let aborted_output = export_process.wait_with_output().unwrap();
    assert!(
        aborted_output.status.success(),
        "{}",
        stderr_text(&aborted_output)
    );
}

/// The stored time, in milliseconds, of a number of days ago.
fn days_ago(days: i64) -> i64 {
    jiff::Timestamp::now().as_millisecond() - days * 24 * 3_600_000
}

/// Waits until all feed consumers have read all events, then moves all orders, and all events except those of one
/// order, forty days into the past, and makes all recorded replies expire.
pub(crate) async fn age_events(system: &System, excepted_order_id: &str) {
    wait_until("all feed consumers to have read all events", async || {
        let consumer_position = system.store.run(
            Tables::Worker,
            "SELECT min(position) FROM relay WHERE name <> 'probe'",
        );
        let last_position = system
            .store
            .run(Tables::Worker, "SELECT max(position) FROM events");
        consumer_position == last_position
    })
    .await;
    let forty_days_ago = days_ago(40);
    for sql in [
        format!("UPDATE orders SET created_at = {forty_days_ago}"),
        format!("UPDATE events SET time = {forty_days_ago} WHERE subject <> '{excepted_order_id}'"),
        format!("UPDATE idempotency SET expires_at = {}", days_ago(33)),
    ] {
        system.store.run(Tables::Worker, &sql);
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one order for each way to end")]
async fn retention_deletes_old_events_and_verify_still_succeeds() {
    let mut system = System::start().await;
    system
        .create_product_with_stock("mug", &[("berlin", 10)])
        .await;
    let customer_id = system.create_customer().await;
    let body = json!({"customer_id": customer_id, "items": [{"sku": "mug", "quantity": 1}]});
    let mut order_ids = Vec::new();
    for _ in 0..6 {
        let request = system
            .request(reqwest::Method::POST, "/v1/orders")
            .json(&body);
        let idempotency_key = format!("key-{}", order_ids.len());
        let order = crate::harness::send(request.header("idempotency-key", idempotency_key))
            .await
            .expect(201);
        order_ids.push(order["id"].as_str().unwrap().to_owned());
    }
    let [
        delivered_id,
        cancelled_id,
        returned_id,
        undelivered_id,
        sent_back_id,
        open_id,
    ] = &order_ids[..]
    else {
        unreachable!()
    };
    for id in &order_ids {
        system
            .wait_for_order(id, "labelled", |order| {
                order["shipments"][0]["tracking_number"].is_string()
            })
            .await;
    }
    for (webhook_number, (id, event_type)) in [
        (delivered_id, "shipment.delivered"),
        (returned_id, "shipment.delivered"),
        (returned_id, "shipment.returned"),
        (sent_back_id, "shipment.delivered"),
        // Comes back without having been delivered.
        (undelivered_id, "shipment.shipped"),
        (undelivered_id, "shipment.returned"),
    ]
    .into_iter()
    .enumerate()
    {
        system
            .send_webhook(&format!("m-{webhook_number}"), event_type, id)
            .await
            .expect(200);
    }
    system
        .post(&format!("/v1/orders/{cancelled_id}/cancel"), json!({}))
        .await
        .expect(200);
    system.wait_until_idle().await;
    let items = json!([{"sku": "mug", "quantity": 1, "restock": true}]);
    let path = format!("/v1/orders/{sent_back_id}/returns");
    let return_body = json!({"items": [{"sku": "mug", "quantity": 1}]});
    let requested_return = system.post(&path, return_body).await.expect(201);
    let path = format!("/v1/returns/{}", requested_return["id"].as_str().unwrap());
    for (action, body) in [
        ("approve", json!({})),
        ("receive", json!({ "items": items })),
    ] {
        let return_reply = system.post(&format!("{path}/{action}"), body).await;
        return_reply.expect(200);
    }
    system.wait_until_idle().await;
    // The newest event is always kept, so a product's event becomes the newest one.
    system
        .create_product_with_stock("cup", &[("berlin", 1)])
        .await;
    age_events(&system, open_id).await;
    let orders_before: Vec<Value> = system.list_orders().await;
    system.set_variable("EVENTS_KEPT_DAYS", Some("30"));
    system.worker.terminate();
    system.restart_worker().await;
    let count_rows = |sql: &str| system.store.run(Tables::Worker, sql);
    wait_until("old events to be deleted", async || {
        count_rows("SELECT count(*) FROM orders WHERE condensed_at IS NOT NULL") == "5"
    })
    .await;
    wait_until("old idempotency records to be deleted", async || {
        count_rows("SELECT count(*) FROM idempotency WHERE key LIKE '%key-%'") == "0"
    })
    .await;
    assert_eq!(
        system.list_event_types(cancelled_id).await,
        Vec::<String>::new()
    );
    assert_eq!(
        system.list_event_types(delivered_id).await,
        ["shipment.shipped"]
    );
    for id in [returned_id, undelivered_id] {
        assert_eq!(
            system.list_event_types(id).await,
            ["shipment.shipped", "shipment.returned"]
        );
    }
    assert_eq!(
        system.list_event_types(sent_back_id).await,
        ["shipment.shipped", "return.received"]
    );
    assert!(system.list_event_types(open_id).await.len() > 3);
    assert_eq!(system.list_orders().await, orders_before);
    let (is_consistent, report) = system.verify();
    assert!(is_consistent, "{report}");
    assert!(
        report.contains("5 closed orders were not checked"),
        "{report}"
    );

    // A condensed order can be changed, and its new events are kept.
    let refunds_path = format!("/v1/orders/{delivered_id}/refunds");
    system
        .post(&refunds_path, json!({"amount": 100}))
        .await
        .expect(202);
    system
        .wait_for_order(delivered_id, "refunded", |order| {
            order["payment"]["refunded"] == 100
        })
        .await;
    assert!(
        system
            .list_event_types(delivered_id)
            .await
            .contains(&"payment.refunded".to_owned())
    );
    system.assert_verified();
}

#[tokio::test]
async fn feed_position_remains_valid_after_its_events_are_deleted() {
    let mut system = System::start().await;
    system
        .create_product_with_stock("mug", &[("berlin", 10)])
        .await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for number in 0..2 {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "mug", 1))
            .await;
        let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
        system
            .wait_for_order(&id, "labelled", |order| {
                order["shipments"][0]["tracking_number"].is_string()
            })
            .await;
        system
            .send_webhook(&format!("m-{number}"), "shipment.delivered", &id)
            .await
            .expect(200);
        order_ids.push(id);
    }
    system.wait_until_idle().await;
    let feed_end = system.get("/v1/events?after=now").await.expect(200);
    let end_position = feed_end["position"].as_str().unwrap();
    age_events(&system, "nobody").await;
    system.set_variable("EVENTS_KEPT_DAYS", Some("30"));
    system.worker.terminate();
    system.restart_worker().await;
    wait_until("old events to be deleted", async || {
        system.list_event_types(&order_ids[0]).await == ["shipment.shipped"]
    })
    .await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "mug", 1))
        .await;
    let id = order_reply.expect(201)["id"].clone();
    let page_reply = system
        .get(&format!("/v1/events?after={end_position}"))
        .await;
    let page = page_reply.expect(200);
    assert_eq!(page["data"][0]["type"], "order.created");
    assert_eq!(page["data"][0]["subject"], id);
}
