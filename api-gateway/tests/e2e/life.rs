//! Operation: backup and restore, export and retention.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Process, Store, System, Tables, WORKER, order, run_worker, setting, until};

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
        system.stock("mug", &[("berlin", 100_000)]).await;
        let customer = system.customer().await;
        let (client, url) = (system.client.clone(), system.url("/v1/orders"));
        let task = tokio::spawn(async move {
            let items = json!([{"sku": "mug", "quantity": 1}]);
            let methods = ["pm_ok", "pm_slow", "pm_declined", "pm_ok"];
            for number in 0.. {
                let body = json!({"customer_id": customer, "items": items,
                                  "payment_method": methods[number % methods.len()]});
                let _ = client.post(&url).json(&body).send().await;
            }
        });
        until("some orders", async || system.orders().await.len() > 50).await;
        Self(task)
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
        let file = folder.join("orders.db");
        let made = run_worker(system, &["backup", file.to_str().unwrap()]);
        assert!(made.status.success(), "{}", stderr_text(&made));
        assert_eq!(
            stdout_text(&made).lines().count(),
            2,
            "{}",
            stdout_text(&made)
        );
        return Store::Sqlite { folder };
    }
    // The procedure of docs/OPERATIONS.md.
    let programs = setting("TEST_POSTGRES_BIN");
    let program = |name: &str| Command::new(Path::new(&programs).join(name));
    let file = folder.with_extension("dump");
    let dumped = program("pg_dump")
        .args(["--format=custom", "--file"])
        .arg(&file)
        .arg(system.store.url())
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{}", stderr_text(&dumped));
    let restored = Store::new(&system.folder);
    let done = program("pg_restore")
        .args(["--exit-on-error", "--no-owner", "--dbname"])
        .arg(restored.url())
        .arg(&file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr_text(&done));
    restored
}

#[tokio::test]
async fn backup_under_load_restores_consistently() {
    let mut system = System::start().await;
    let load = Load::start(&system).await;
    let copy = back_up(&system);
    let is_proven = |store: &Store| {
        let (status, report) = system.verify_store(store);
        assert_eq!(status, Some(0), "{report}");
        report
    };
    let report = is_proven(&copy);
    assert!(!report.starts_with("0 orders"), "{report}");
    drop(load);
    let before = system.wait_until_idle().await.len();

    // The worker continues the unfinished orders of the backup.
    system.worker.kill();
    let kept = std::mem::replace(&mut system.store, copy);
    system.set("DATABASE_URL", Some(&system.store.url()));
    system.restart_worker().await;
    let after = system.wait_until_idle().await;
    assert!(
        (1..=before).contains(&after.len()),
        "{} of {before}",
        after.len()
    );
    assert!(
        after.iter().all(|order| order["status"] != "pending"),
        "{after:?}"
    );
    system.assert_verified();
    drop(kept);
}

#[tokio::test]
async fn failed_backup_reports_the_cause_and_overwrites_nothing() {
    let system = System::start().await;
    let file = system.folder.join("copy.db");
    let name = file.to_str().unwrap();
    if !system.store.is_sqlite() {
        let refused = run_worker(&system, &["backup", name]);
        assert!(!refused.status.success());
        assert!(
            stderr_text(&refused).contains("pg_dump"),
            "{}",
            stderr_text(&refused)
        );
        return;
    }
    fs::write(&file, "precious").unwrap();
    let refused = run_worker(&system, &["backup", name]);
    assert!(!refused.status.success());
    assert!(
        stderr_text(&refused).contains("already exists"),
        "{}",
        stderr_text(&refused)
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let refused = run_worker(&system, &["backup", "/nowhere/copy.db"]);
    assert!(!refused.status.success());
    assert!(
        stderr_text(&refused).contains("/nowhere/copy"),
        "{}",
        stderr_text(&refused)
    );
}

#[tokio::test]
async fn exported_orders_and_events_equal_those_of_the_api() {
    let system = System::start().await;
    let load = Load::start(&system).await;
    // An export under load is a consistent snapshot.
    let events = stdout_text(&run_worker(&system, &["export", "events"]));
    drop(load);
    let mut of_orders = std::collections::HashMap::<String, u64>::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["specversion"], "1.0");
        let subject = event["subject"].as_str().unwrap().to_owned();
        let last = of_orders.entry(subject).or_default();
        let sequence: u64 = event["sequence"].as_str().unwrap().parse().unwrap();
        assert!(*last < sequence, "{event}");
        *last = sequence;
    }
    let all = system.wait_until_idle().await;

    let exported = run_worker(&system, &["export", "orders"]);
    let lines: Vec<Value> = stdout_text(&exported)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut listed = all.clone();
    listed.reverse();
    assert_eq!(lines, listed);
    let last = lines.last().unwrap()["number"].as_i64().unwrap();
    assert!(stderr_text(&exported).contains(&format!("--after {last}")));

    // Exports the rest from a position, exports to a file, and exports to a reader that stops early.
    let rest = run_worker(
        &system,
        &["export", "orders", "--after", &(last - 2).to_string()],
    );
    assert_eq!(stdout_text(&rest).lines().count(), 2);
    let file = system.folder.join("orders.ndjson");
    let written = run_worker(
        &system,
        &["export", "orders", "--output", file.to_str().unwrap()],
    );
    assert!(written.status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), stdout_text(&exported));
    let mut child = Process::command(WORKER)
        .args(["export", "events"])
        .env("DATABASE_URL", system.store.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", stderr_text(&ended));
}

/// The stored time, in milliseconds, of a number of days ago.
fn days_ago(days: i64) -> i64 {
    jiff::Timestamp::now().as_millisecond() - days * 24 * 3_600_000
}

/// Waits until all events are published, then moves all events except those of one order forty days into the
/// past.
async fn age_events(system: &System, but: &str) {
    until("all feed consumers to have read all events", async || {
        let positions = system.store.run(
            Tables::Orders,
            "SELECT min(position) FROM relay WHERE name <> 'probe'",
        );
        let last = system
            .store
            .run(Tables::Orders, "SELECT max(position) FROM events");
        positions == last
    })
    .await;
    let long_ago = days_ago(40);
    for sql in [
        format!("UPDATE orders SET created_at = {long_ago}"),
        format!("UPDATE events SET time = {long_ago} WHERE subject <> '{but}'"),
        format!("UPDATE idempotency SET expires_at = {}", days_ago(33)),
    ] {
        system.store.run(Tables::Orders, &sql);
    }
}

#[tokio::test]
async fn retention_deletes_old_events_and_verify_still_succeeds() {
    let mut system = System::start().await;
    system.stock("mug", &[("berlin", 10)]).await;
    let customer = system.customer().await;
    let body = json!({"customer_id": customer, "items": [{"sku": "mug", "quantity": 1}]});
    let mut ids = Vec::new();
    for _ in 0..5 {
        let request = system
            .request(reqwest::Method::POST, "/v1/orders")
            .json(&body);
        let key = format!("key-{}", ids.len());
        let order = crate::harness::send(request.header("idempotency-key", key))
            .await
            .expect(201);
        ids.push(order["id"].as_str().unwrap().to_owned());
    }
    let [delivered, cancelled, returned, undelivered, open] = &ids[..] else {
        unreachable!()
    };
    for id in &ids {
        system
            .order_until(id, "labelled", |order| {
                order["shipments"][0]["tracking_number"].is_string()
            })
            .await;
    }
    for (number, (id, kind)) in [
        (delivered, "shipment.delivered"),
        (returned, "shipment.delivered"),
        (returned, "shipment.returned"),
        // Comes back without having been delivered.
        (undelivered, "shipment.shipped"),
        (undelivered, "shipment.returned"),
    ]
    .into_iter()
    .enumerate()
    {
        system
            .webhook(&format!("m-{number}"), kind, id)
            .await
            .expect(200);
    }
    system
        .post(&format!("/v1/orders/{cancelled}/cancel"), json!({}))
        .await
        .expect(200);
    system.wait_until_idle().await;
    // The newest event is always kept, so a product's event becomes the newest one.
    system.stock("cup", &[("berlin", 1)]).await;
    age_events(&system, open).await;
    let before: Vec<Value> = system.orders().await;
    system.set("EVENTS_KEPT_DAYS", Some("30"));
    system.worker.terminate();
    system.restart_worker().await;
    let count = |sql: &str| system.store.run(Tables::Orders, sql);
    until("old events to be deleted", async || {
        count("SELECT count(*) FROM orders WHERE condensed_at IS NOT NULL") == "4"
    })
    .await;
    until("old idempotency records to be deleted", async || {
        count("SELECT count(*) FROM idempotency WHERE key LIKE '%key-%'") == "0"
    })
    .await;
    assert_eq!(system.history(cancelled).await, Vec::<String>::new());
    assert_eq!(system.history(delivered).await, ["shipment.shipped"]);
    for id in [returned, undelivered] {
        assert_eq!(
            system.history(id).await,
            ["shipment.shipped", "shipment.returned"]
        );
    }
    assert!(system.history(open).await.len() > 3);
    assert_eq!(system.orders().await, before);
    let (is_right, report) = system.verify();
    assert!(is_right, "{report}");
    assert!(
        report.contains("4 closed orders were not checked"),
        "{report}"
    );

    // A condensed order can be changed, and its new events are kept.
    let refunds = format!("/v1/orders/{delivered}/refunds");
    system
        .post(&refunds, json!({"amount": 100}))
        .await
        .expect(202);
    system
        .order_until(delivered, "refunded", |order| {
            order["payment"]["refunded"] == 100
        })
        .await;
    assert!(
        system
            .history(delivered)
            .await
            .contains(&"payment.refunded".to_owned())
    );
    system.assert_verified();
}

#[tokio::test]
async fn feed_position_remains_valid_after_its_events_are_deleted() {
    let mut system = System::start().await;
    system.stock("mug", &[("berlin", 10)]).await;
    let customer = system.customer().await;
    let mut ids = Vec::new();
    for number in 0..2 {
        let made = system.post("/v1/orders", order(&customer, "mug", 1)).await;
        let id = made.expect(201)["id"].as_str().unwrap().to_owned();
        system
            .order_until(&id, "labelled", |order| {
                order["shipments"][0]["tracking_number"].is_string()
            })
            .await;
        system
            .webhook(&format!("m-{number}"), "shipment.delivered", &id)
            .await
            .expect(200);
        ids.push(id);
    }
    system.wait_until_idle().await;
    let end = system.get("/v1/events?after=now").await.expect(200);
    let place = end["position"].as_str().unwrap();
    age_events(&system, "nobody").await;
    system.set("EVENTS_KEPT_DAYS", Some("30"));
    system.worker.terminate();
    system.restart_worker().await;
    until("old events to be deleted", async || {
        system.history(&ids[0]).await == ["shipment.shipped"]
    })
    .await;
    let made = system.post("/v1/orders", order(&customer, "mug", 1)).await;
    let id = made.expect(201)["id"].clone();
    let page = system.get(&format!("/v1/events?after={place}")).await;
    let page = page.expect(200);
    assert_eq!(page["data"][0]["type"], "order.created");
    assert_eq!(page["data"][0]["subject"], id);
}
