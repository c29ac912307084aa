//! Edits of orders over REST, with the sandbox as the payment provider. The rules are tested in
//! order-worker/tests/domain/edits.rs.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{
    Process, Reply, System, has_shipping_label, order_body_with_method, run_worker, send,
    wait_until,
};

/// A system with 50 units of A and B, at 1,000 each.
async fn start_shop(variables: &[(&str, &str)]) -> System {
    let system = System::start_with(variables).await;
    system.create_product_with_stock("A", &[("main", 50)]).await;
    system.create_product_with_stock("B", &[("west", 50)]).await;
    system
}

impl System {
    /// An order of three units of A with a label.
    async fn create_order_to_edit(&self) -> String {
        let customer_id = self.create_customer().await;
        let new_order = order_body_with_method(&customer_id, "A", 3, "pm_ok");
        let created_order = self.post("/v1/orders", new_order).await.expect(201);
        let id = created_order["id"].as_str().unwrap().to_owned();
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        id
    }
}

fn quantity_edit(sku: &str, quantity: u32) -> Value {
    json!({"items": [{"sku": sku, "quantity": quantity}]})
}

fn has_no_pending_edit(order: &Value) -> bool {
    order["pending_edit"].is_null()
}

fn edit_path(order_id: &str) -> String {
    format!("/v1/orders/{order_id}/edit")
}

/// The number of payments in the sandbox's ledger that are authorized and not captured, as text.
fn count_open_authorizations(system: &System) -> String {
    system.query_ledger("SELECT count(*) FROM payments WHERE status = 'authorized'")
}

#[tokio::test]
async fn order_is_edited_down_at_once_and_up_when_the_total_is_authorized() {
    let system = start_shop(&[]).await;
    let id = system.create_order_to_edit().await;
    let path = edit_path(&id);
    let edit_to_lower_total = json!({"items": [{"sku": "A", "quantity": 2}], "shipping": {"label": "Standard", "amount": 490},
        "expected_total": 2_490, "reason": "too many"});
    let edited_order = system.post(&path, edit_to_lower_total).await.expect(200);
    assert_eq!(edited_order["total"], 2_490, "{edited_order}");
    assert_eq!(edited_order["payment"]["authorized"], 3_000);
    assert_eq!(system.stock_level("A").await, (50, 2));

    let edit_to_higher_total = json!({"items": [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 4}], "payment_method": "pm_slow"});
    let order_with_pending_edit = system.post(&path, edit_to_higher_total).await.expect(202);
    assert_eq!(
        (
            &order_with_pending_edit["total"],
            &order_with_pending_edit["pending_edit"]["total"]
        ),
        (&json!(2_490), &json!(5_490))
    );
    assert_eq!(system.stock_level("B").await, (50, 4));
    system.assert_verified();
    let second_edit_reply = system.post(&path, quantity_edit("A", 2)).await;
    second_edit_reply.expect_problem(409, "INVALID_STATE");
    let shipment_reply = system
        .post(&format!("/v1/orders/{id}/shipments"), json!({}))
        .await;
    shipment_reply.expect_problem(409, "INVALID_STATE");

    let order = system
        .wait_for_order(&id, "edited", |order| order["total"] == 5_490)
        .await;
    assert_eq!(order["payment"]["authorized"], 5_490);
    assert_eq!(
        (system.stock_level("A").await, system.stock_level("B").await),
        ((50, 1), (50, 4))
    );
    system.wait_until_idle().await;
    assert_eq!(count_open_authorizations(&system), "1");
    let list_by_product = system.get("/v1/orders?sku=B").await.expect(200);
    assert_eq!(list_by_product["data"][0]["id"], id.as_str());

    // The labels that are left have the items of the edited order, and everything is captured.
    system
        .send_webhook("m-1", "shipment.delivered", &id)
        .await
        .expect(200);
    let order = system
        .wait_for_order(&id, "captured", |order| {
            order["payment"]["captured"] == 5_490
        })
        .await;
    assert_eq!(order["status"], "delivered");
    system.wait_until_idle().await;
    let late_edit_reply = system.post(&path, quantity_edit("A", 2)).await;
    late_edit_reply.expect_problem(409, "INVALID_STATE");
    let history = system.list_event_types(&id).await;
    for event_type in ["order.edit_requested", "order.edited", "payment.released"] {
        assert!(
            history.iter().any(|event| event == event_type),
            "{event_type}: {history:?}"
        );
    }
    let export_output = run_worker(&system, &["export", "orders"]);
    assert!(export_output.status.success());
    system.assert_verified();
}

#[tokio::test]
async fn declined_and_cancelled_edits_leave_the_order_unchanged_and_a_flaky_payment_does_not() {
    let system = start_shop(&[]).await;
    let mut order_ids = Vec::new();
    for (payment_method, is_cancelled, expected_reason) in [
        ("pm_declined", false, "payment_declined"),
        ("pm_slow", true, "cancelled"),
        ("pm_flaky", false, "none"),
    ] {
        let id = system.create_order_to_edit().await;
        let edit_body =
            json!({"items": [{"sku": "A", "quantity": 5}], "payment_method": payment_method});
        let order_with_pending_edit = system.post(&edit_path(&id), edit_body).await.expect(202);
        assert_eq!(order_with_pending_edit["pending_edit"]["number"], 1);
        if is_cancelled {
            let cancel_path = format!("/v1/orders/{id}/edit/cancel");
            let order_with_cancelled_edit = system
                .post(&cancel_path, json!({"reason": "no"}))
                .await
                .expect(200);
            assert!(
                has_no_pending_edit(&order_with_cancelled_edit),
                "{order_with_cancelled_edit}"
            );
            system
                .post(&cancel_path, json!({}))
                .await
                .expect_problem(409, "INVALID_STATE");
        }
        system
            .wait_for_order(&id, "settled", has_no_pending_edit)
            .await;
        order_ids.push((id, expected_reason));
    }
    system.wait_until_idle().await;
    for (id, expected_reason) in &order_ids {
        let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
        let history = system
            .get(&format!("/v1/orders/{id}/history?limit=200"))
            .await
            .expect(200);
        let events = history["data"].as_array().unwrap();
        let rejection = events
            .iter()
            .find(|event| event["type"] == "order.edit_rejected");
        let (expected_total, rejection_reason) = match rejection {
            Some(event) => (3_000, event["data"]["reason"].as_str().unwrap()),
            None => (5_000, "none"),
        };
        assert_eq!(
            (&order["total"], rejection_reason),
            (&json!(expected_total), *expected_reason),
            "{order}"
        );
    }
    assert_eq!(system.stock_level("A").await, (50, 3 + 3 + 5));
    wait_until("one authorization for each order", async || {
        count_open_authorizations(&system) == "3"
    })
    .await;
    system.assert_verified();
}

#[tokio::test]
async fn storefronts_edit_their_own_orders_by_the_rules_of_new_ones() {
    let keys = "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator";
    let mut system = System::start_with(&[("API_KEYS", keys), ("ORDER_APPROVAL", "manual")]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.create_customer().await;
    let new_order = order_body_with_method(&customer_id, "A", 2, "pm_ok");
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let id = created_order["id"].as_str().unwrap();
    let path = edit_path(id);

    let edit_with_price = json!({"items": [{"sku": "A", "quantity": 3, "unit_price": 1}]});
    system
        .post(&path, edit_with_price.clone())
        .await
        .expect_problem(403, "FORBIDDEN");
    for (body, pointer) in [
        (json!({}), "/items"),
        (json!({"items": []}), "/items"),
        (quantity_edit("A", 0), "/items"),
        (quantity_edit("NONE", 1), "/items/0/sku"),
        (
            json!({"items": [{"sku": "A", "quantity": 1}, {"sku": "A", "quantity": 2}]}),
            "/items/1/sku",
        ),
        (json!({"shipping": {"label": "x"}}), "/shipping/amount"),
        (
            json!({"shipping": null, "expected_total": 1}),
            "/expected_total",
        ),
        (
            json!({"discounts": [{"label": "x", "amount": 2_001}]}),
            "/discounts",
        ),
    ] {
        let problem = system
            .post(&path, body)
            .await
            .expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    system
        .post(&path, quantity_edit("A", 6))
        .await
        .expect_problem(409, "OUT_OF_STOCK");
    system.api_key = Some("key-of-us".to_owned());
    system
        .post(&path, quantity_edit("A", 1))
        .await
        .expect_problem(404, "NOT_FOUND");

    // No payment was requested yet, so a higher total takes effect at once.
    system.api_key = Some("key-of-eu".to_owned());
    let edited_order = system.post(&path, quantity_edit("A", 4)).await.expect(200);
    assert_eq!(
        (&edited_order["total"], &edited_order["awaits_approval"]),
        (&json!(4_000), &json!(true))
    );
    assert_eq!(system.stock_level("A").await, (5, 4));
    system.api_key = Some("key-of-operator".to_owned());
    system.post(&path, edit_with_price).await.expect(200);
    system
        .post(&format!("/v1/orders/{id}/approve"), json!({}))
        .await
        .expect(200);
    let order = system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    assert_eq!(order["payment"]["authorized"], 3);
    system.assert_verified();
}

#[tokio::test]
async fn edits_race_with_shipping_cancelling_and_other_edits_of_two_workers() {
    let system = start_shop(&[]).await;
    // Only PostgreSQL admits a second worker.
    let _second_worker: Option<Process> =
        (!system.store.is_sqlite()).then(|| system.start_additional_worker("order-worker"));
    let mut order_ids = Vec::new();
    for _ in 0..6 {
        order_ids.push(system.create_order_to_edit().await);
    }
    let requests = order_ids
        .iter()
        .enumerate()
        .flat_map(|(order_index, order_id)| {
            let order_path = |subpath: &str| format!("/v1/orders/{order_id}/{subpath}");
            [
                (
                    order_path("edit"),
                    quantity_edit("A", 4 + u32::try_from(order_index).unwrap()),
                ),
                (order_path("edit"), quantity_edit("B", 1)),
                (order_path("edit"), quantity_edit("A", 1)),
                (order_path("edit/cancel"), json!({})),
                (order_path("shipments"), json!({})),
                (order_path("cancel"), json!({})),
            ]
            .into_iter()
            .skip(usize::from(order_index % 2 == 0))
            .collect::<Vec<_>>()
        });
    let sent_requests = requests.map(|(path, body)| {
        let request = system.request(Method::POST, &path);
        let request = request.header("idempotency-key", Uuid::now_v7().to_string());
        send(request.json(&body))
    });
    let replies = join_all(sent_requests).await;
    for reply in &replies {
        assert!(
            matches!(reply.status, 200..=202 | 409 | 422),
            "{} {}",
            reply.status,
            reply.body
        );
    }
    let count_successful = |replies: &[Reply]| {
        replies
            .iter()
            .filter(|reply| matches!(reply.status, 200 | 202))
            .count()
    };
    assert!(
        count_successful(&replies) > 5,
        "too few requests succeeded for a race"
    );
    let orders = system.wait_until_idle().await;
    let authorized_orders = orders
        .iter()
        .filter(|order| order["payment"]["status"] == "authorized");
    let authorized_count = authorized_orders.count().to_string();
    wait_until("no other authorization", async || {
        count_open_authorizations(&system) == authorized_count
    })
    .await;
    system.assert_verified();
}

#[tokio::test]
async fn worker_that_is_killed_during_an_edit_finishes_it() {
    let mut system = start_shop(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    for crash_point in ["after_commit", "after_partner", "after_step_stored"] {
        let id = system.create_order_to_edit().await;
        system.worker.kill();
        let crashes_before = system.worker_crash_count();
        system.set_variable("CRASH_AT", Some(&format!("{crash_point}:1")));
        system.launch_worker();
        let idempotency_key = Uuid::now_v7().to_string();
        let path = edit_path(&id);
        let send_edit = || {
            let request = system.request(Method::POST, &path);
            send(
                request
                    .header("idempotency-key", &idempotency_key)
                    .json(&quantity_edit("A", 5)),
            )
        };
        let (_, ()) = tokio::join!(send_edit(), async {
            wait_until("the crash", async || {
                system.worker_crash_count() > crashes_before
            })
            .await;
        });
        let replacement_worker = system.spawn_replacement_worker();
        let reply = loop {
            let reply = send_edit().await;
            if ![503, 504].contains(&reply.status) {
                break reply;
            }
        };
        assert!(
            matches!(reply.status, 200 | 202),
            "{} {}",
            reply.status,
            reply.body
        );
        let order = system
            .wait_for_order(&id, "edited", |order| order["total"] == 5_000)
            .await;
        assert_eq!(order["payment"]["authorized"], 5_000, "{crash_point}");
        system.worker = replacement_worker;
        system.set_variable("CRASH_AT", None);
        system.wait_until_idle().await;
    }
    assert_eq!(count_open_authorizations(&system), "3");
    assert_eq!(system.stock_level("A").await, (50, 15));
    system.assert_verified();
}
