//! `order-worker verify` finds what is wrong: each invariant is damaged by hand, and named.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::harness::{System, is_announced, order, order_paid_by};

/// Damage to the orders' database: what is done, and what must be named.
const ORDERS: [(&str, &str); 11] = [
    (
        "UPDATE orders SET state = json_set(state, '$.total', 1) WHERE number = 1",
        "with other contents",
    ),
    (
        "UPDATE orders SET state = json_set(state, '$.version', 99) WHERE number = 1",
        "but its events say",
    ),
    (
        "DELETE FROM events WHERE sequence = 3 AND subject = (SELECT id FROM orders WHERE number = 1)",
        "a gap",
    ),
    (
        "DELETE FROM events WHERE subject = (SELECT id FROM orders WHERE number = 1)",
        "has no events",
    ),
    (
        "DELETE FROM orders WHERE number = 1",
        "has events but no row",
    ),
    (
        "UPDATE shelves SET reserved = reserved + 1",
        "but open orders hold",
    ),
    (
        "UPDATE shelves SET on_hand = on_hand + 5",
        "but the events add up to",
    ),
    (
        "PRAGMA ignore_check_constraints = ON; UPDATE shelves SET reserved = on_hand + 1",
        "on hand, 101 reserved",
    ),
    (
        "INSERT INTO steps SELECT id, 'capture_payment', 1, 1, 1, NULL, 'r' FROM orders WHERE number = 1",
        "capture_payment: overdue since 1970",
    ),
    (
        "INSERT INTO steps VALUES ('0192f0c1-2345-7abc-8def-0123456789ab', 'capture_payment', 1, 1, NULL, NULL, 'r')",
        "of an order that is not there",
    ),
    (
        "UPDATE orders SET state = json_set(state, '$.payment.status', 'authorized') WHERE status = 'cancelled'",
        "cancelled, but its authorization was not voided",
    ),
];

/// Damage to the provider's books.
const LEDGER: [(&str, &str); 6] = [
    ("INSERT INTO movements SELECT NULL, payment, kind, amount FROM movements WHERE kind = 'authorize'", "held money 2 times"),
    ("INSERT INTO movements SELECT NULL, payment, kind, amount FROM movements WHERE kind = 'capture'", "took money 2 times"),
    ("UPDATE payments SET status = 'authorized' WHERE status = 'voided'", "is voided in our books, but authorized"),
    ("UPDATE payments SET captured = captured - 1 WHERE status = 'captured'", "captured 1000 and refunded 0 in our books, but 999"),
    ("DELETE FROM payments WHERE status = 'captured'", "is captured in our books, but nothing"),
    (
        "INSERT INTO payments (key, reference, status, amount, currency)
         VALUES ('0192f0c1-2345-7abc-8def-0123456789ab/authorize_payment', 'x', 'authorized', 1, 'EUR')",
        "of an order that is not there",
    ),
];

#[tokio::test]
async fn every_kind_of_damage_is_named() {
    let mut system = System::start().await;
    system.stock("A", &[("main", 101)]).await;
    let customer = system.customer().await;
    // One that is delivered and paid for, one that is being fulfilled, one that was cancelled.
    let mut ids = Vec::new();
    for _ in 0..3 {
        let created = system
            .post("/v1/orders", order(&customer, "A", 1))
            .await
            .expect(201);
        ids.push(created["id"].as_str().unwrap().to_owned());
    }
    for id in &ids {
        system.order_until(id, "announced", is_announced).await;
    }
    system
        .webhook("m-1", "shipment.delivered", &ids[0])
        .await
        .expect(200);
    system
        .post(
            &format!("/v1/orders/{}/cancel", ids[2]),
            serde_json::json!({}),
        )
        .await
        .expect(200);
    let declined = system
        .post(
            "/v1/orders",
            order_paid_by(&customer, "A", 1, "pm_declined"),
        )
        .await
        .expect(201);
    system
        .order_until(declined["id"].as_str().unwrap(), "cancelled", |order| {
            order["status"] == "cancelled"
        })
        .await;
    system.quiet().await;
    system.assert_verified();
    system.worker.terminate();

    let pristine = system.folder.join("pristine");
    fs::create_dir(&pristine).unwrap();
    copy_databases(&system.folder, &pristine);
    let damages = ORDERS
        .iter()
        .map(|damage| ("orders.db", damage))
        .chain(LEDGER.iter().map(|damage| ("orders.sandbox.db", damage)));
    for (database, (damage, expected)) in damages {
        change(&system.folder.join(database), damage);
        let (is_right, report) = system.verify();
        assert!(!is_right && report.contains(expected), "{damage}\n{report}");
        copy_databases(&pristine, &system.folder);
        system.assert_verified();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_at_work_is_found_right_at_any_moment() {
    let system = System::start().await;
    system.stock("A", &[("main", 100_000)]).await;
    let customer = system.customer().await;
    let enough = AtomicBool::new(false);
    let buy = async |buyer: usize| {
        for number in 0.. {
            if enough.load(Ordering::SeqCst) {
                return;
            }
            let created = system
                .post("/v1/orders", order(&customer, "A", 1))
                .await
                .expect(201);
            let id = created["id"].as_str().unwrap();
            system.order_until(id, "announced", is_announced).await;
            system
                .webhook(&format!("m-{buyer}-{number}"), "shipment.delivered", id)
                .await
                .expect(200);
        }
    };
    let buyers = futures_util::future::join_all((0..6).map(buy));
    tokio::join!(buyers, async {
        for _ in 0..200 {
            tokio::task::block_in_place(|| system.assert_verified());
        }
        enough.store(true, Ordering::SeqCst);
    });
    system.quiet().await;
    system.assert_verified();
}

fn copy_databases(from: &Path, to: &Path) {
    for database in ["orders.db", "orders.sandbox.db"] {
        for log in ["-wal", "-shm"] {
            let _ = fs::remove_file(to.join(format!("{database}{log}")));
        }
        fs::copy(from.join(database), to.join(database)).unwrap();
    }
}

fn change(database: &Path, sql: &str) {
    let script = "import sqlite3, sys\nsqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(database)
        .arg(sql)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{sql}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
