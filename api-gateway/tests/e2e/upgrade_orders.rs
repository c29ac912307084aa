//! Upgrades with open orders: orders of the previous version in every status use the features of this one, and the
//! previous version does not damage orders that have used them.

use serde_json::{Value, json};

use crate::{
    harness::{
        Store, System, Tables, TestFolder, WORKER, has_shipping_label, order_body_with_method,
        wait_until,
    },
    upgrade::{previous_worker, restart_with},
};

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn items_of_units(quantity: u32) -> Value {
    json!([{"sku": "A", "quantity": quantity}])
}

/// Ids of orders of the previous version.
#[expect(clippy::struct_field_names, reason = "ids of orders")]
struct EarlierOrders {
    unapproved_id: String,
    unpaid_id: String,
    processing_id: String,
    partly_shipped_id: String,
    shipped_id: String,
    delivered_id: String,
    refunded_id: String,
    cancelled_id: String,
}

impl EarlierOrders {
    fn ids(&self) -> [&str; 8] {
        [
            &self.unapproved_id,
            &self.unpaid_id,
            &self.processing_id,
            &self.partly_shipped_id,
            &self.shipped_id,
            &self.delivered_id,
            &self.refunded_id,
            &self.cancelled_id,
        ]
    }
}

impl System {
    /// Creates an order of two units of A, which awaits approval if `ORDER_APPROVAL` is `manual`.
    async fn create_unapproved_order(&self, customer_id: &str, payment_method: &str) -> String {
        let new_order = order_body_with_method(customer_id, "A", 2, payment_method);
        let created_order = self.post("/v1/orders", new_order).await.expect(201);
        text_of(&created_order["id"])
    }

    async fn approve_order(&self, order_id: &str) {
        let path = format!("/v1/orders/{order_id}/approve");
        self.post(&path, json!({})).await.expect(200);
    }

    async fn create_labelled_order(&self, customer_id: &str) -> String {
        let id = self.create_unapproved_order(customer_id, "pm_ok").await;
        self.approve_order(&id).await;
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        id
    }

    /// Ships these units, or everything.
    async fn ship_order(&self, order_id: &str, shipment: Value) {
        let path = format!("/v1/orders/{order_id}/shipments");
        self.post(&path, shipment).await.expect(201);
        self.wait_for_order(order_id, "captured", |order| order["in_progress"].is_null())
            .await;
    }

    async fn create_orders_in_every_status(&self, customer_id: &str) -> EarlierOrders {
        let create_announced_order = async || self.create_labelled_order(customer_id).await;
        let partly_shipped_id = create_announced_order().await;
        self.ship_order(&partly_shipped_id, json!({"items": items_of_units(1)}))
            .await;
        let shipped_id = create_announced_order().await;
        self.ship_order(&shipped_id, json!({})).await;
        let delivered_id = create_announced_order().await;
        let refunded_id = create_announced_order().await;
        for id in [&delivered_id, &refunded_id] {
            let webhook_id = format!("delivered-{id}");
            self.send_webhook(&webhook_id, "shipment.delivered", id)
                .await
                .expect(200);
            self.wait_for_order(id, "captured", |order| order["in_progress"].is_null())
                .await;
        }
        let path = format!("/v1/orders/{refunded_id}/refunds");
        self.post(&path, json!({"amount": 500})).await.expect(202);
        self.wait_for_order(&refunded_id, "refunded", |order| {
            order["payment"]["refunded"] == 500
        })
        .await;
        let cancelled_id = create_announced_order().await;
        let path = format!("/v1/orders/{cancelled_id}/cancel");
        self.post(&path, json!({})).await.expect(200);
        let processing_id = create_announced_order().await;
        self.wait_until_idle().await;
        let unpaid_id = self.create_unapproved_order(customer_id, "pm_slow").await;
        self.approve_order(&unpaid_id).await;
        EarlierOrders {
            unapproved_id: self.create_unapproved_order(customer_id, "pm_ok").await,
            unpaid_id,
            processing_id,
            partly_shipped_id,
            shipped_id,
            delivered_id,
            refunded_id,
            cancelled_id,
        }
    }

    async fn edit_quantity(&self, order_id: &str, quantity: u32, expected_status: u16) -> Value {
        let edit = json!({"items": items_of_units(quantity), "reason": "after the upgrade"});
        let path = format!("/v1/orders/{order_id}/edit");
        self.post(&path, edit).await.expect(expected_status)
    }

    /// Requests, approves and receives a return of one unit; returns the order.
    async fn return_one_unit(&self, order_id: &str) -> Value {
        let return_body = json!({"items": items_of_units(1), "note": "after the upgrade"});
        let path = format!("/v1/orders/{order_id}/returns");
        let requested_return = self.post(&path, return_body).await.expect(201);
        let path = format!("/v1/returns/{}", text_of(&requested_return["id"]));
        let receive_body = json!({"items": [{"sku": "A", "quantity": 1, "restock": true}]});
        for (action, body) in [("approve", json!({})), ("receive", receive_body)] {
            let return_reply = self.post(&format!("{path}/{action}"), body).await;
            return_reply.expect(200);
        }
        self.wait_for_order(order_id, "refunded", |order| order["in_progress"].is_null())
            .await
    }
}

/// Whether the order has a label, and no step in progress. Labels of earlier contents are cancelled.
fn has_label(order: &Value) -> bool {
    let mut shipments = order["shipments"].as_array().unwrap().iter();
    order["in_progress"].is_null()
        && shipments.any(|shipment| shipment["status"] == "label_created")
}

/// Sum of the successful transactions of a kind.
fn sum_of_successful(order: &Value, transaction_kind: &str) -> i64 {
    let transactions = order["transactions"].as_array().unwrap();
    let successful_transactions = transactions.iter().filter(|transaction| {
        transaction["kind"] == transaction_kind && transaction["status"] == "success"
    });
    successful_transactions
        .map(|transaction| transaction["amount"].as_i64().unwrap())
        .sum()
}

fn assert_transactions_add_up(order: &Value) {
    let payment = &order["payment"];
    assert_eq!(
        sum_of_successful(order, "capture"),
        payment["captured"],
        "{order}"
    );
    assert_eq!(
        sum_of_successful(order, "refund"),
        payment["refunded"],
        "{order}"
    );
}

fn captured_and_refunded_of(order: &Value) -> (i64, i64) {
    let amount_of = |amount_name: &str| order["payment"][amount_name].as_i64().unwrap();
    (amount_of("captured"), amount_of("refunded"))
}

#[tokio::test]
async fn orders_of_the_previous_version_in_every_status_are_edited_changed_and_returned() {
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let mut system =
        System::start_with_worker(&previous_worker, &[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let earlier_orders = system.create_orders_in_every_status(&customer_id).await;
    restart_with(&mut system, WORKER).await;

    for id in earlier_orders.ids() {
        let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
        assert_transactions_add_up(&order);
        let patch =
            json!({"note": "upgraded", "tags": ["Upgraded"], "metadata": {"upgraded": true}});
        let path = format!("/v1/orders/{id}");
        let changed_order = system.patch(&path, patch).await.expect(200);
        assert_eq!(changed_order["note"], "upgraded");
    }
    let tagged_page = system.get("/v1/orders?tag=upgraded").await.expect(200);
    assert_eq!(tagged_page["data"].as_array().unwrap().len(), 8);
    system.assert_verified();

    // Of an order that awaits approval, nothing is authorized yet.
    let edited_order = system
        .edit_quantity(&earlier_orders.unapproved_id, 3, 200)
        .await;
    assert_eq!(edited_order["total"], 3_000);
    system.approve_order(&earlier_orders.unapproved_id).await;
    // A higher total is authorized, a lower one is authorized already.
    for id in [&earlier_orders.unpaid_id, &earlier_orders.processing_id] {
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
        system.edit_quantity(id, 3, 202).await;
        system
            .wait_for_order(id, "edited", |order| order["total"] == 3_000)
            .await;
    }
    system
        .edit_quantity(&earlier_orders.processing_id, 1, 200)
        .await;
    for id in [
        &earlier_orders.partly_shipped_id,
        &earlier_orders.shipped_id,
        &earlier_orders.delivered_id,
        &earlier_orders.refunded_id,
        &earlier_orders.cancelled_id,
    ] {
        let problem = system.edit_quantity(id, 1, 409).await;
        assert_eq!(problem["code"], "INVALID_STATE", "{problem}");
    }
    system.assert_verified();

    // Shipped units are returned.
    let path = format!(
        "/v1/orders/{}/cancel-remaining",
        earlier_orders.partly_shipped_id
    );
    let order = system.post(&path, json!({})).await.expect(200);
    assert_eq!(order["cancelled_items"][0]["quantity"], 1, "{order}");
    let captured_and_refunded = [
        (&earlier_orders.partly_shipped_id, (1_000, 1_000)),
        (&earlier_orders.shipped_id, (2_000, 1_000)),
        (&earlier_orders.delivered_id, (2_000, 1_000)),
        (&earlier_orders.refunded_id, (2_000, 1_500)),
    ];
    for (id, amounts) in captured_and_refunded {
        let order = system.return_one_unit(id).await;
        assert_eq!(captured_and_refunded_of(&order), amounts, "{order}");
        assert_transactions_add_up(&order);
    }
    for id in [&earlier_orders.unpaid_id, &earlier_orders.cancelled_id] {
        let path = format!("/v1/orders/{id}/returns");
        let return_body = json!({"items": items_of_units(1)});
        let reply = system.post(&path, return_body).await;
        reply.expect_problem(409, "INVALID_STATE");
    }

    // The edited orders are delivered at their new totals.
    for (id, expected_total) in [
        (&earlier_orders.unapproved_id, 3_000),
        (&earlier_orders.unpaid_id, 3_000),
        (&earlier_orders.processing_id, 1_000),
    ] {
        system.wait_for_order(id, "labelled", has_label).await;
        let webhook_id = format!("delivered-{id}");
        system
            .send_webhook(&webhook_id, "shipment.delivered", id)
            .await
            .expect(200);
        let delivered_order = system
            .wait_for_order(id, "captured", |order| {
                order["status"] == "delivered" && order["in_progress"].is_null()
            })
            .await;
        assert_eq!(
            captured_and_refunded_of(&delivered_order),
            (expected_total, 0),
            "{delivered_order}"
        );
        assert_transactions_add_up(&delivered_order);
    }
    system.wait_until_idle().await;
    // 100 units, without 14 that were shipped, and with the four that came back: 1 + 2 + 2 + 2 + 3 + 3 + 1.
    assert_eq!(system.stock_level("A").await, (90, 0));
    system.assert_verified();
}

impl System {
    /// Orders of this version with parts that the previous version does not know, by name of the part.
    async fn create_orders_with_new_parts(&self, customer_id: &str) -> Vec<(&'static str, String)> {
        let edited_id = self.create_labelled_order(customer_id).await;
        self.edit_quantity(&edited_id, 3, 202).await;
        self.wait_for_order(&edited_id, "edited", |order| order["total"] == 3_000)
            .await;
        let id_with_return = self.create_labelled_order(customer_id).await;
        self.ship_order(&id_with_return, json!({"items": items_of_units(1)}))
            .await;
        let path = format!("/v1/orders/{id_with_return}/returns");
        let return_reply = self.post(&path, json!({"items": items_of_units(1)})).await;
        return_reply.expect(201);
        let id_with_note = self.create_labelled_order(customer_id).await;
        let patch = json!({"note": "kept", "tags": ["kept"]});
        let path = format!("/v1/orders/{id_with_note}");
        self.patch(&path, patch).await.expect(200);
        let manually_paid_id = self.create_unapproved_order(customer_id, "manual").await;
        self.approve_order(&manually_paid_id).await;
        let path = format!("/v1/orders/{manually_paid_id}/payments");
        let payment = json!({"amount": 500, "reference": "transfer 1"});
        self.post(&path, payment).await.expect(201);
        let mut discounted_body = order_body_with_method(customer_id, "A", 2, "pm_ok");
        discounted_body["discounts"] = json!([{"label": "voucher", "amount": 100}]);
        let discounted_order = self.post("/v1/orders", discounted_body).await.expect(201);
        vec![
            ("an edit", edited_id),
            ("a return", id_with_return),
            ("a note", id_with_note),
            ("a manual payment", manually_paid_id),
            ("a discount", text_of(&discounted_order["id"])),
        ]
    }

    fn stored_state(&self, order_id: &str) -> String {
        let sql = format!("SELECT state FROM orders WHERE id = '{order_id}'");
        self.store.run(Tables::Worker, &sql)
    }
}

/// The previous version shows orders with new parts without these, and refuses to change them. Other orders it
/// processes as ever.
#[tokio::test]
async fn previous_version_refuses_to_change_orders_with_parts_that_it_does_not_know() {
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let mut system = System::start_with(&[("ORDER_APPROVAL", "manual")]).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let id_without_new_parts = system.create_labelled_order(&customer_id).await;
    let ids_with_new_parts = system.create_orders_with_new_parts(&customer_id).await;
    system.wait_until_idle().await;
    // An edit whose authorization is under way has steps that the previous version can't read.
    let id_with_pending_edit = system.create_labelled_order(&customer_id).await;
    let path = format!("/v1/orders/{id_with_pending_edit}/edit");
    let edit = json!({"items": items_of_units(3), "payment_method": "pm_slow"});
    system.post(&path, edit).await.expect(202);
    restart_with(&mut system, &previous_worker).await;

    let mut all_ids_with_new_parts = ids_with_new_parts.clone();
    all_ids_with_new_parts.push(("a pending edit", id_with_pending_edit.clone()));
    for (part, id) in &all_ids_with_new_parts {
        let state_before = system.stored_state(id);
        let path = format!("/v1/orders/{id}");
        if *id != id_with_pending_edit {
            assert_eq!(system.get(&path).await.status, 200, "{part}");
        }
        // A return's order has shipped units, which can't be cancelled in any version.
        let (verb, body) = if *part == "a return" {
            ("refunds", json!({"amount": 1}))
        } else {
            ("cancel", json!({}))
        };
        let reply = system.post(&format!("{path}/{verb}"), body).await;
        assert_eq!(reply.status, 500, "{part}: {}", reply.body);
        assert_eq!(system.stored_state(id), state_before, "{part}");
    }
    let path = format!("/v1/orders/{id_without_new_parts}/cancel");
    let cancelled_order = system.post(&path, json!({})).await.expect(200);
    assert_eq!(cancelled_order["status"], "cancelled");
    let id_created_by_previous_version = system.create_labelled_order(&customer_id).await;

    restart_with(&mut system, WORKER).await;
    system.assert_verified();
    let history = system.list_event_types(&ids_with_new_parts[0].1).await;
    assert!(history.contains(&"order.edited".to_owned()), "{history:?}");
    // The step message that the previous version could not read is sent again.
    system
        .wait_for_order(&id_with_pending_edit, "edited", |order| {
            order["total"] == 3_000
        })
        .await;
    for (part, id) in &all_ids_with_new_parts {
        if *part == "a return" {
            let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
            assert_eq!(order["returns"][0]["status"], "requested");
            continue;
        }
        if *part == "a manual payment" {
            let path = format!("/v1/orders/{id}/payments");
            let payment_reply = system.post(&path, json!({"amount": 1_500})).await;
            let order = payment_reply.expect(201);
            assert_eq!(
                order["transactions"][0]["reference"], "transfer 1",
                "{order}"
            );
            continue;
        }
        let path = format!("/v1/orders/{id}/cancel");
        let cancel_reply = system.post(&path, json!({})).await;
        assert_eq!(cancel_reply.status, 200, "{part}: {}", cancel_reply.body);
    }
    system
        .edit_quantity(&id_created_by_previous_version, 1, 200)
        .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

/// On PostgreSQL, the previous version runs beside this one while edits are pending: their steps are not lost.
#[tokio::test]
async fn pending_edits_outlive_a_worker_of_the_previous_version() {
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    if store.is_sqlite() {
        // SQLite has one worker.
        return;
    }
    let system = System::start_with_store(folder, store, WORKER).await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = system.create_unapproved_order(&customer_id, "pm_ok").await;
        system
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
        let path = format!("/v1/orders/{id}/edit");
        let edit = json!({"items": items_of_units(3), "payment_method": "pm_slow"});
        system.post(&path, edit).await.expect(202);
        ids.push(id);
    }
    // Each worker gets messages of the steps, and the previous version can't read them.
    let mut worker_of_previous_version = system.start_additional_worker(&previous_worker);
    crate::upgrade::wait_until_ready(&worker_of_previous_version).await;
    for _ in 0..10 {
        let id = system.create_unapproved_order(&customer_id, "pm_ok").await;
        system
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
    }
    worker_of_previous_version.terminate();
    for id in &ids {
        system
            .wait_for_order(id, "edited", |order| order["total"] == 3_000)
            .await;
    }
    system.wait_until_idle().await;
    wait_until("the earlier authorizations to be voided", async || {
        system.query_ledger("SELECT count(*) FROM payments WHERE status = 'authorized'") == "15"
    })
    .await;
    system.assert_verified();
}
