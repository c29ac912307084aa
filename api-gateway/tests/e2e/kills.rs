//! SIGKILL of the worker between any two effects and at random moments: acknowledged orders are never lost and
//! complete, and no effect is executed twice.

use std::{pin::pin, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{PaymentTotals, System, order_body, order_body_with_method, try_send};

/// Values of `CRASH_AT`: some of `order_worker::runtime::crash::Point`.
const CRASH_POINTS: [&str; 7] = [
    "before_commit",
    "after_commit",
    "after_reply",
    "after_step_sent",
    "after_partner",
    "after_step_stored",
    "after_events_published",
];
const PAYMENT_METHODS: [&str; 4] = [
    "pm_ok",
    "pm_declined",
    "pm_flaky",
    "pm_timeout_after_charge",
];

/// Creates an order, retrying with the same key until it is acknowledged, and returns its id.
async fn create_order(system: &System, new_order: Value) -> String {
    let idempotency_key = Uuid::now_v7().to_string();
    loop {
        let request = system
            .request(Method::POST, "/v1/orders")
            .header("idempotency-key", &idempotency_key)
            .json(&new_order);
        match try_send(request).await.unwrap() {
            reply if reply.status == 201 => return reply.body["id"].as_str().unwrap().to_owned(),
            reply => assert!(
                [503, 504].contains(&reply.status),
                "{} {}",
                reply.status,
                reply.body
            ),
        }
    }
}

/// Delivers the acknowledged orders and checks that each was completed and paid once.
async fn assert_orders_complete(system: &System, acknowledged_ids: &[String]) {
    let orders = system.wait_until_idle().await;
    let mut ids: Vec<_> = orders
        .iter()
        .map(|order| order["id"].as_str().unwrap().to_owned())
        .collect();
    let mut expected_ids = acknowledged_ids.to_vec();
    ids.sort();
    expected_ids.sort();
    assert_eq!(
        ids, expected_ids,
        "the stored orders differ from the acknowledged ones"
    );
    for order in &orders {
        match order["status"].as_str().unwrap() {
            "cancelled" => assert_eq!(order["cancel_reason"], "payment_declined"),
            "processing" => {
                assert_eq!(order["shipments"].as_array().unwrap().len(), 1, "{order}");
                let id = order["id"].as_str().unwrap();
                system
                    .send_webhook(&format!("delivered-{id}"), "shipment.delivered", id)
                    .await
                    .expect(200);
            }
            status => assert_eq!(status, "delivered"),
        }
    }
    let delivered_orders = system.wait_until_idle().await;
    let paid_count = delivered_orders
        .iter()
        .filter(|order| order["payment"]["status"] == "captured")
        .count();
    assert_eq!(
        paid_count,
        delivered_orders
            .iter()
            .filter(|order| order["status"] == "delivered")
            .count()
    );
    // The provider has executed each payment once.
    let expected_totals = PaymentTotals {
        authorizations: paid_count,
        captures: paid_count,
        ..PaymentTotals::default()
    };
    assert_eq!(system.payment_totals().await, expected_totals);
    if system.stripe.is_none() {
        let duplicates_sql =
            "SELECT payment FROM movements GROUP BY payment, kind HAVING count(*) > 1";
        assert_eq!(system.query_ledger(duplicates_sql), "");
    }
    system.assert_verified();
}

#[tokio::test]
async fn worker_crash_between_any_two_effects_loses_or_repeats_nothing() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    system
        .create_product_with_stock("A", &[("main", 1000)])
        .await;
    let customer_id = system.create_customer().await;
    let mut acknowledged_ids = Vec::new();
    for round in 1..=2 {
        for crash_point in CRASH_POINTS {
            let crashes_before = system.worker_crash_count();
            system.worker.kill();
            system.set_variable("CRASH_AT", Some(&format!("{crash_point}:{round}")));
            system.launch_worker();
            // Creates orders until the worker crashes at this point, then starts a replacement.
            let mut replacement_worker = None;
            while replacement_worker.is_none() {
                let order_requests = PAYMENT_METHODS.map(|payment_method| {
                    create_order(
                        &system,
                        order_body_with_method(&customer_id, "A", 1, payment_method),
                    )
                });
                let mut order_requests = pin!(join_all(order_requests));
                let mut ids_before_crash = None;
                tokio::select! {
                    ids = &mut order_requests => ids_before_crash = Some(ids),
                    () = wait_for_crash(&system, crashes_before) => {}
                }
                if system.worker_crash_count() > crashes_before {
                    println!(
                        "crash at {crash_point}, round {round}; all requests answered before it: {}",
                        ids_before_crash.is_some()
                    );
                    replacement_worker = Some(system.spawn_replacement_worker());
                }
                acknowledged_ids.extend(match ids_before_crash {
                    Some(ids) => ids,
                    None => order_requests.await,
                });
            }
            system.worker = replacement_worker.unwrap();
        }
    }
    system.set_variable("CRASH_AT", None);
    assert_orders_complete(&system, &acknowledged_ids).await;
}

/// Waits until the worker's log shows more deaths than `crashes_before`.
async fn wait_for_crash(system: &System, crashes_before: usize) {
    while system.worker_crash_count() == crashes_before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn worker_kill_at_random_times_loses_or_repeats_nothing() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    system
        .create_product_with_stock("A", &[("main", 1000)])
        .await;
    let customer_id = system.create_customer().await;
    let mut acknowledged_ids = Vec::new();
    for round in 1..=12 {
        let kill_delay = Duration::from_millis(u64::from(Uuid::now_v7().as_bytes()[15]) * 2);
        println!(
            "round {round}: worker killed after {} ms",
            kill_delay.as_millis()
        );
        let mut worker = system.take_worker();
        let order_requests = (0..8).map(|order_index| {
            create_order(
                &system,
                order_body_with_method(
                    &customer_id,
                    "A",
                    1,
                    PAYMENT_METHODS[order_index % PAYMENT_METHODS.len()],
                ),
            )
        });
        let kill_worker = async {
            tokio::time::sleep(kill_delay).await;
            worker.kill();
            system.spawn_replacement_worker()
        };
        let (ids, replacement_worker) = tokio::join!(join_all(order_requests), kill_worker);
        acknowledged_ids.extend(ids);
        system.worker = replacement_worker;
    }
    assert_orders_complete(&system, &acknowledged_ids).await;
}

#[tokio::test]
async fn create_without_key_is_one_order_after_crash_between_commit_and_reply() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "30000")]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    system.worker.kill();
    system.set_variable("CRASH_AT", Some("after_commit"));
    system.launch_worker();
    let (reply, replacement_worker) = tokio::join!(
        system.post("/v1/orders", order_body(&customer_id, "A", 1)),
        async {
            wait_for_crash(&system, 0).await;
            system.spawn_replacement_worker()
        }
    );
    let created_order = reply.expect(201);
    system.worker = replacement_worker;
    let orders = system.wait_until_idle().await;
    assert_eq!(
        orders.len(),
        1,
        "the redelivered request did not find the existing order"
    );
    assert_eq!(orders[0]["id"], created_order["id"]);
    assert_eq!(system.stock_level("A").await, (10, 1));
    system.assert_verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_finishes_its_messages_on_sigterm() {
    let mut system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 1000)])
        .await;
    let customer_id = system.create_customer().await;
    let mut acknowledged_ids = Vec::new();
    for _ in 0..3 {
        let mut worker = system.take_worker();
        let order_requests =
            (0..20).map(|_| create_order(&system, order_body(&customer_id, "A", 1)));
        let stop_worker = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            tokio::task::block_in_place(|| worker.terminate());
            system.spawn_replacement_worker()
        };
        let (ids, replacement_worker) = tokio::join!(join_all(order_requests), stop_worker);
        acknowledged_ids.extend(ids);
        system.worker = replacement_worker;
    }
    assert_orders_complete(&system, &acknowledged_ids).await;
}

#[tokio::test]
async fn gateway_kill_before_the_reply_loses_only_the_response() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let new_order = order_body(&customer_id, "A", 1);
    for round in 0..5 {
        let key = format!("key-{round}");
        let request = system
            .request(Method::POST, "/v1/orders")
            .header("idempotency-key", &key)
            .json(&new_order);
        let pending_reply = tokio::spawn(try_send(request));
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        system.gateway.kill();
        let _ = pending_reply.await.unwrap();
        system.restart_gateway().await;
        let repeated_request = system
            .request(Method::POST, "/v1/orders")
            .header("idempotency-key", &key)
            .json(&new_order);
        try_send(repeated_request).await.unwrap().expect(201);
    }
    assert_eq!(system.wait_until_idle().await.len(), 5);
    assert_eq!(system.stock_level("A").await, (10, 5));
    let empty_list = json!({"data": [], "next_cursor": null});
    assert_eq!(
        system.get("/v1/orders?status=cancelled").await.expect(200),
        empty_list
    );
    system.assert_verified();
}
