//! `order-worker verify` detects every kind of inconsistency.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::harness::{
    Process, Store, System, Tables, TestFolder, WORKER, has_shipping_label, order_body,
    order_body_with_method,
};

/// An injected inconsistency, and the text of its report.
struct Inconsistency {
    tables: Tables,
    sqlite_sql: &'static str,
    postgres_sql: &'static str,
    expected_report: &'static str,
}

const fn inconsistency(
    tables: Tables,
    sql: &'static str,
    expected_report: &'static str,
) -> Inconsistency {
    Inconsistency {
        tables,
        sqlite_sql: sql,
        postgres_sql: sql,
        expected_report,
    }
}

const INCONSISTENCIES: [Inconsistency; 24] = [
    Inconsistency {
        tables: Tables::Worker,
        sqlite_sql: "UPDATE orders SET state = json_set(state, '$.total', 1) WHERE number = 1",
        postgres_sql: "UPDATE orders SET state = jsonb_set(state::jsonb, '{total}', '1')::text WHERE number = 1",
        expected_report: "other fields differ",
    },
    Inconsistency {
        tables: Tables::Worker,
        sqlite_sql: "UPDATE orders SET state = json_set(state, '$.version', 99) WHERE number = 1",
        postgres_sql: "UPDATE orders SET state = jsonb_set(state::jsonb, '{version}', '99')::text WHERE number = 1",
        expected_report: "but its events result in",
    },
    inconsistency(
        Tables::Worker,
        "DELETE FROM events WHERE sequence = 3 AND subject = (SELECT id FROM orders WHERE number = 1)",
        "a gap",
    ),
    inconsistency(
        Tables::Worker,
        "DELETE FROM events WHERE subject = (SELECT id FROM orders WHERE number = 1)",
        "has no events",
    ),
    inconsistency(
        Tables::Worker,
        "DELETE FROM orders WHERE number = 1",
        "has events but no row",
    ),
    inconsistency(
        Tables::Worker,
        "UPDATE relay SET position = position + 1000 WHERE name = 'webhooks'",
        "feed: the consumer webhooks is ahead of the end of the feed",
    ),
    inconsistency(
        Tables::Worker,
        "UPDATE shelves SET reserved = reserved + 1",
        "but open orders reserve",
    ),
    inconsistency(
        Tables::Worker,
        "UPDATE shelves SET on_hand = on_hand + 5",
        "but the events add up to",
    ),
    Inconsistency {
        tables: Tables::Worker,
        sqlite_sql: "PRAGMA ignore_check_constraints = ON; UPDATE shelves SET reserved = on_hand + 1",
        postgres_sql: "ALTER TABLE shelves DROP CONSTRAINT shelves_check; UPDATE shelves SET reserved = on_hand + 1",
        expected_report: "on hand, 101 reserved",
    },
    inconsistency(
        Tables::Worker,
        "INSERT INTO steps (order_id, step, attempt, failures, due_at, publish_at, request_id)
         SELECT id, 'capture_payment', 1, 0, 1, 1, 'r' FROM orders WHERE number = 1",
        "capture_payment: overdue since 1970",
    ),
    inconsistency(
        Tables::Worker,
        "INSERT INTO steps (order_id, step, attempt, failures, due_at, request_id)
         VALUES ('0192f0c1-2345-7abc-8def-0123456789ab', 'capture_payment', 1, 0, 1, 'r')",
        "its order does not exist",
    ),
    Inconsistency {
        tables: Tables::Worker,
        sqlite_sql: "UPDATE orders SET state = json_set(state, '$.payment.status', 'authorized') WHERE status = 'cancelled'",
        postgres_sql: "UPDATE orders SET state = jsonb_set(state::jsonb, '{payment,status}', '\"authorized\"')::text WHERE status = 'cancelled'",
        expected_report: "cancelled, but its authorization was not voided",
    },
    Inconsistency {
        tables: Tables::Worker,
        sqlite_sql: "UPDATE orders SET state = json_set(state, '$.transactions.entries[1].amount', 1) WHERE number = 1",
        postgres_sql: "UPDATE orders SET state = jsonb_set(state::jsonb, '{transactions,entries,1,amount}', '1')::text WHERE number = 1",
        expected_report: "1000 minor units are captured, but its transactions add up to 1",
    },
    inconsistency(
        Tables::Worker,
        "DELETE FROM steps WHERE step = 'refund_payment'",
        "500 minor units of a manual payment are to be paid back, but no step tells an operator",
    ),
    inconsistency(
        Tables::Worker,
        "UPDATE customers SET name_key = 'eve'",
        "its search keys differ from its name and e-mail address",
    ),
    inconsistency(
        Tables::Worker,
        "UPDATE customers SET version = 0",
        "stored in version 0, but its last event has the sequence 1",
    ),
    Inconsistency {
        tables: Tables::Worker,
        sqlite_sql: "UPDATE customers SET state = json_set(state, '$.erased_at', '2026-01-31T12:00:00Z')",
        postgres_sql: "UPDATE customers SET state = jsonb_set(state::jsonb, '{erased_at}', '\"2026-01-31T12:00:00Z\"')::text",
        expected_report: "was erased, but has personal data",
    },
    inconsistency(
        Tables::Worker,
        "UPDATE customers SET state = '{}'",
        "can't be decoded: customer {}",
    ),
    inconsistency(
        Tables::Ledger,
        "INSERT INTO movements (payment, kind, amount) SELECT payment, kind, amount FROM movements WHERE kind = 'authorize'",
        "the payment provider authorized 2 times",
    ),
    inconsistency(
        Tables::Ledger,
        "INSERT INTO movements (payment, kind, amount) SELECT payment, kind, amount FROM movements WHERE kind = 'capture'",
        "the payment provider captured 2 times",
    ),
    inconsistency(
        Tables::Ledger,
        "UPDATE payments SET status = 'authorized' WHERE status = 'voided'",
        "is voided in the database, but authorized",
    ),
    inconsistency(
        Tables::Ledger,
        "UPDATE payments SET captured = captured - 1 WHERE status = 'captured'",
        "captured 1000 and refunded 0 in the database, but 999",
    ),
    inconsistency(
        Tables::Ledger,
        "DELETE FROM payments WHERE status = 'captured'",
        "is captured in the database, but nothing",
    ),
    inconsistency(
        Tables::Ledger,
        "INSERT INTO payments (key, reference, status, amount, currency)
         VALUES ('0192f0c1-2345-7abc-8def-0123456789ab/authorize_payment', 'x', 'authorized', 1, 'EUR')",
        "its order does not exist",
    ),
];

#[tokio::test]
async fn verify_reports_every_kind_of_inconsistency() {
    let mut system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 101)])
        .await;
    let customer_id = system.create_customer().await;
    let verify_customer_path = format!("/v1/customers/{customer_id}/verify");
    let verify_customer_reply = system
        .post(&verify_customer_path, serde_json::json!({}))
        .await;
    verify_customer_reply.expect(200);
    // Orders that are delivered and paid, in fulfilment, cancelled and declined.
    let mut order_ids = Vec::new();
    for _ in 0..3 {
        let created_order = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await
            .expect(201);
        order_ids.push(created_order["id"].as_str().unwrap().to_owned());
    }
    for id in &order_ids {
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
    }
    system
        .send_webhook("m-1", "shipment.delivered", &order_ids[0])
        .await
        .expect(200);
    system
        .post(
            &format!("/v1/orders/{}/cancel", order_ids[2]),
            serde_json::json!({}),
        )
        .await
        .expect(200);
    let declined_order = system
        .post(
            "/v1/orders",
            order_body_with_method(&customer_id, "A", 1, "pm_declined"),
        )
        .await
        .expect(201);
    system
        .wait_for_order(
            declined_order["id"].as_str().unwrap(),
            "cancelled",
            |order| order["status"] == "cancelled",
        )
        .await;
    system.wait_until_idle().await;
    // Money of a cancelled order, which an operator has to pay back.
    let new_order = order_body_with_method(&customer_id, "A", 1, "manual");
    let manually_paid_order = system.post("/v1/orders", new_order).await.expect(201);
    let order_path = format!("/v1/orders/{}", manually_paid_order["id"].as_str().unwrap());
    let cancel_path = format!("{order_path}/cancel");
    let order_reply = system.post(&cancel_path, serde_json::json!({})).await;
    order_reply.expect(200);
    let late_payment = serde_json::json!({"amount": 500, "overpaid": true});
    let late_payment_reply = system
        .post(&format!("{order_path}/payments"), late_payment)
        .await;
    late_payment_reply.expect(201);
    system.assert_verified();
    system.worker.terminate();

    for inconsistency in INCONSISTENCIES {
        let damaged_store = system.store.copy(&system.folder);
        let sql = if damaged_store.is_sqlite() {
            inconsistency.sqlite_sql
        } else {
            inconsistency.postgres_sql
        };
        damaged_store.run(inconsistency.tables, sql);
        let (status, report) = system.verify_store(&damaged_store);
        assert!(
            status == Some(1) && report.contains(inconsistency.expected_report),
            "{sql}\n{report}"
        );
    }
    system.assert_verified();
}

/// Runs `order-worker verify` on another database, and returns the exit status.
fn exit_status(database_url: &str) -> Option<i32> {
    let mut verify_command = Process::command(WORKER);
    let verify_output = verify_command
        .arg("verify")
        .env("DATABASE_URL", database_url)
        .output();
    let verify_output = verify_output.unwrap();
    let stderr = String::from_utf8_lossy(&verify_output.stderr).into_owned();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    verify_output.status.code()
}

#[test]
fn verify_distinguishes_unreadable_databases_from_inconsistent_ones() {
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    // The database has no schema yet.
    assert_eq!(exit_status(&store.url()), Some(2));
    let database_url = if store.is_sqlite() {
        fs::write(
            folder.join("orders.db"),
            "no database, but long enough ".repeat(100),
        )
        .unwrap();
        store.url()
    } else {
        format!("{}_not_there", store.url())
    };
    assert_eq!(exit_status(&database_url), Some(2));
    assert_eq!(exit_status("mysql://orders"), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_succeeds_at_any_time_under_load() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100_000)])
        .await;
    let customer_id = system.create_customer().await;
    let should_stop = AtomicBool::new(false);
    let place_orders = async |buyer_number: usize| {
        for order_number in 0.. {
            if should_stop.load(Ordering::SeqCst) {
                return;
            }
            let created_order = system
                .post("/v1/orders", order_body(&customer_id, "A", 1))
                .await
                .expect(201);
            let id = created_order["id"].as_str().unwrap();
            system
                .wait_for_order(id, "announced", has_shipping_label)
                .await;
            system
                .send_webhook(
                    &format!("m-{buyer_number}-{order_number}"),
                    "shipment.delivered",
                    id,
                )
                .await
                .expect(200);
        }
    };
    let all_buyers = futures_util::future::join_all((0..6).map(place_orders));
    tokio::join!(all_buyers, async {
        for _ in 0..200 {
            tokio::task::block_in_place(|| system.assert_verified());
        }
        should_stop.store(true, Ordering::SeqCst);
    });
    system.wait_until_idle().await;
    system.assert_verified();
}
