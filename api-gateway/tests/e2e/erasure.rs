//! Erasure and retention of orders with edits, returns, manual payments and changed fields. No text of the customer
//! is left in any response, export or table.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{
        Receiver, System, has_shipping_label, order_body_with_method, run_worker, send, wait_until,
    },
    life::age_events,
};

/// A word of every text that is to be erased.
const PERSONAL_WORD: &str = "hopper";

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn items_of(sku: &str, quantity: u32) -> Value {
    json!([{"sku": sku, "quantity": quantity}])
}

/// Whether the order has a label, and no step in progress. Labels of earlier contents are cancelled.
fn has_label(order: &Value) -> bool {
    let mut shipments = order["shipments"].as_array().unwrap().iter();
    order["in_progress"].is_null()
        && shipments.any(|shipment| shipment["status"] == "label_created")
}

impl System {
    /// Sends a change under a new idempotency key, so that its reply is stored.
    async fn send_change(&self, method: Method, path: &str, body: Value, status: u16) -> Value {
        let request = self.request(method, path).json(&body);
        let idempotency_key = Uuid::now_v7().to_string();
        send(request.header("idempotency-key", idempotency_key))
            .await
            .expect(status)
    }

    async fn edit_order(&self, order_id: &str, body: Value, status: u16) -> Value {
        let path = format!("/v1/orders/{order_id}/edit");
        self.send_change(Method::POST, &path, body, status).await
    }

    /// An order of two units of A, with an address, metadata, a note and tags.
    async fn create_order_with_note(&self, customer_id: &str, payment_method: &str) -> String {
        let mut new_order = order_body_with_method(customer_id, "A", 2, payment_method);
        new_order["shipping_address"] = json!({"name": "hopper-name"});
        let created_order = self
            .send_change(Method::POST, "/v1/orders", new_order, 201)
            .await;
        let id = text_of(&created_order["id"]);
        let patch = json!({"shipping_address": {"name": "hopper-name", "city": "hopper-city"},
            "metadata": {"gift": "hopper-metadata"}, "note": "hopper-note", "tags": ["vip"]});
        let path = format!("/v1/orders/{id}");
        self.send_change(Method::PATCH, &path, patch, 200).await;
        id
    }

    /// An order that was edited at once and after an authorization, and whose third edit was declined.
    async fn create_edited_order(&self, customer_id: &str) -> String {
        let id = self.create_order_with_note(customer_id, "pm_ok").await;
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        let lower_edit = json!({"items": items_of("A", 1), "reason": "hopper-lowered"});
        self.edit_order(&id, lower_edit, 200).await;
        let higher_edit = json!({"items": items_of("A", 3), "payment_method": "pm_slow", "reason": "hopper-raised"});
        self.edit_order(&id, higher_edit, 202).await;
        self.wait_for_order(&id, "edited", |order| order["total"] == 3_000)
            .await;
        let declined_edit = json!({"items": items_of("A", 4), "payment_method": "hopper-token", "reason": "hopper-declined"});
        self.edit_order(&id, declined_edit, 202).await;
        self.wait_for_order(&id, "unchanged", |order| {
            order["pending_edit"].is_null() && has_label(order)
        })
        .await;
        id
    }

    /// A cancelled order with an edit that was cancelled, and one that was pending when the order was cancelled.
    async fn create_cancelled_order(&self, customer_id: &str) -> String {
        let id = self.create_order_with_note(customer_id, "pm_ok").await;
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        let pending_edit = |reason: &str| json!({"items": items_of("A", 3), "payment_method": "pm_slow", "reason": reason});
        self.edit_order(&id, pending_edit("hopper-withdrawn"), 202)
            .await;
        let path = format!("/v1/orders/{id}/edit/cancel");
        let cancellation = json!({"reason": "hopper-edit-cancelled"});
        self.send_change(Method::POST, &path, cancellation, 200)
            .await;
        self.edit_order(&id, pending_edit("hopper-pending"), 202)
            .await;
        let path = format!("/v1/orders/{id}/cancel");
        let cancellation = json!({"reason": "hopper-cancelled"});
        self.send_change(Method::POST, &path, cancellation, 200)
            .await;
        id
    }

    /// A manually paid order that was edited before and after its payment, and refunded.
    async fn create_manually_paid_order(&self, customer_id: &str) -> String {
        let id = self.create_order_with_note(customer_id, "manual").await;
        let higher_edit = json!({"items": items_of("A", 3), "reason": "hopper-manual-raised"});
        self.edit_order(&id, higher_edit, 200).await;
        let path = format!("/v1/orders/{id}/payments");
        for (amount, reference) in [(1_000, "hopper-part"), (2_000, "hopper-rest")] {
            let payment = json!({"amount": amount, "reference": reference});
            self.send_change(Method::POST, &path, payment, 201).await;
        }
        let lower_edit = json!({"items": items_of("A", 2), "reason": "hopper-manual-lowered"});
        self.edit_order(&id, lower_edit, 200).await;
        let refund = json!({"reference": "hopper-refund", "reason": "hopper-refund-reason"});
        let path = format!("/v1/orders/{id}/refunds");
        self.send_change(Method::POST, &path, refund, 202).await;
        self.wait_for_order(&id, "labelled", has_label).await;
        id
    }

    /// Requests returns of a delivered order: one is received, one rejected and one cancelled.
    async fn create_returns(&self, order_id: &str) {
        for action in ["receive", "reject", "cancel"] {
            let body = json!({"items": [{"sku": "A", "quantity": 1, "reason": "hopper-item"}], "note": "hopper-return"});
            let path = format!("/v1/orders/{order_id}/returns");
            let return_json = self.send_change(Method::POST, &path, body, 201).await;
            let path = format!("/v1/returns/{}", text_of(&return_json["id"]));
            if action == "receive" {
                let approve_path = format!("{path}/approve");
                self.send_change(Method::POST, &approve_path, json!({}), 200)
                    .await;
            }
            let body = match action {
                "receive" => json!({"items": [{"sku": "A", "quantity": 1, "restock": true}]}),
                _ => json!({"reason": format!("hopper-{action}")}),
            };
            let path = format!("{path}/{action}");
            self.send_change(Method::POST, &path, body, 200).await;
        }
    }

    /// One order of each kind, all of them closed. The delivered ones have returns.
    async fn create_closed_orders(&self, customer_id: &str) -> Vec<String> {
        let edited_id = self.create_edited_order(customer_id).await;
        let cancelled_id = self.create_cancelled_order(customer_id).await;
        let manually_paid_id = self.create_manually_paid_order(customer_id).await;
        for order_id in [&edited_id, &manually_paid_id] {
            let webhook_id = format!("delivered-{order_id}");
            self.send_webhook(&webhook_id, "shipment.delivered", order_id)
                .await
                .expect(200);
            self.wait_for_order(order_id, "captured", |order| {
                order["status"] == "delivered" && order["in_progress"].is_null()
            })
            .await;
        }
        self.create_returns(&edited_id).await;
        self.wait_until_idle().await;
        vec![edited_id, cancelled_id, manually_paid_id]
    }

    /// Every row of every table, with the name of the table.
    fn stored_rows(&self) -> Vec<String> {
        self.store
            .tables()
            .into_iter()
            .flat_map(|table_name| {
                let table_text = self.store.all_rows(&table_name);
                let rows: Vec<_> = table_text
                    .lines()
                    .map(|row| format!("{table_name}: {row}"))
                    .collect();
                rows
            })
            .collect()
    }

    /// All responses and exports that show orders, their history, returns, and deliveries of an endpoint.
    async fn read_visible_texts(&self, order_ids: &[String], endpoint_id: &str) -> Vec<String> {
        let mut paths = vec![
            "/v1/orders?limit=200&include_deleted=true".to_owned(),
            "/v1/returns?limit=200".to_owned(),
            "/v1/events?limit=200".to_owned(),
            "/v1/dead-letters".to_owned(),
            format!("/v1/webhook-endpoints/{endpoint_id}/deliveries?limit=200"),
        ];
        for order_id in order_ids {
            paths.push(format!("/v1/orders/{order_id}"));
            paths.push(format!("/v1/orders/{order_id}/history?limit=200"));
        }
        let mut texts = Vec::new();
        for path in paths {
            let response = self.get(&path).await.expect(200);
            texts.push(format!("{path}: {response}"));
        }
        for export_kind in ["orders", "events"] {
            let export_output = run_worker(self, &["export", export_kind]);
            assert!(export_output.status.success(), "{export_output:?}");
            let exported_text = String::from_utf8_lossy(&export_output.stdout).into_owned();
            texts.push(format!("export {export_kind}: {exported_text}"));
        }
        texts
    }
}

/// The words in `texts` that contain the personal word.
fn find_personal_words(texts: &[String]) -> Vec<&str> {
    let is_separator = |character: char| !character.is_ascii_alphanumeric() && character != '-';
    let words = texts.iter().flat_map(|text| text.split(is_separator));
    let mut found_words: Vec<_> = words.filter(|word| word.contains(PERSONAL_WORD)).collect();
    found_words.sort_unstable();
    found_words.dedup();
    found_words
}

fn assert_nothing_personal(texts: &[String]) {
    for text in texts {
        assert!(!text.contains(PERSONAL_WORD), "{text}");
    }
}

#[tokio::test]
async fn texts_of_edits_returns_and_manual_payments_are_erased_everywhere() {
    let receiver = Receiver::start().await;
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    system.create_product_with_stock("A", &[("main", 50)]).await;
    let new_endpoint = json!({"url": receiver.url("/hook")});
    let endpoint_reply = system.post("/v1/webhook-endpoints", new_endpoint).await;
    let endpoint_id = text_of(&endpoint_reply.expect(201)["id"]);
    let new_customer = json!({"name": "hopper-name", "email": "grace@hopper.example"});
    let customer = system.post("/v1/customers", new_customer).await.expect(201);
    let customer_id = text_of(&customer["id"]);
    let order_ids = system.create_closed_orders(&customer_id).await;

    // Every text is stored, and shown.
    let stored_texts_before = system.stored_rows();
    let visible_texts_before = system.read_visible_texts(&order_ids, &endpoint_id).await;
    for texts in [&stored_texts_before, &visible_texts_before] {
        let found_words = find_personal_words(texts);
        for personal_word in [
            "hopper-city",
            "hopper-metadata",
            "hopper-note",
            "hopper-lowered",
            "hopper-raised",
            "hopper-declined",
            "hopper-token",
            "hopper-withdrawn",
            "hopper-edit-cancelled",
            "hopper-pending",
            "hopper-cancelled",
            "hopper-manual-raised",
            "hopper-part",
            "hopper-rest",
            "hopper-manual-lowered",
            "hopper-refund",
            "hopper-refund-reason",
            "hopper-item",
            "hopper-return",
            "hopper-reject",
            "hopper-cancel",
        ] {
            assert!(
                found_words.contains(&personal_word),
                "{personal_word} in {found_words:?}"
            );
        }
    }
    // The export shows edits and returns as the API does.
    let export_bytes = run_worker(&system, &["export", "orders"]).stdout;
    let export_text = String::from_utf8(export_bytes).unwrap();
    for line in export_text.lines() {
        let exported_order: Value = serde_json::from_str(line).unwrap();
        let path = format!("/v1/orders/{}", text_of(&exported_order["id"]));
        assert_eq!(system.get(&path).await.expect(200), exported_order);
    }
    let edited_order_line = export_text
        .lines()
        .find(|line| line.contains(&order_ids[0]));
    let exported_edited_order: Value = serde_json::from_str(edited_order_line.unwrap()).unwrap();
    assert_eq!(
        exported_edited_order["returns"].as_array().unwrap().len(),
        3,
        "{exported_edited_order}"
    );
    system.assert_verified();

    let path = format!("/v1/customers/{customer_id}");
    let delete_reply = system.delete(&path).await;
    assert_eq!(delete_reply.status, 204, "{}", delete_reply.body);
    assert_nothing_personal(&system.stored_rows());
    assert_nothing_personal(&system.read_visible_texts(&order_ids, &endpoint_id).await);
    system.assert_verified();
    // Later readers replay the same events.
    let order_reply = system.get(&format!("/v1/orders/{}", order_ids[0])).await;
    let order = order_reply.expect(200);
    assert_eq!(
        (&order["total"], &order["tags"]),
        (&json!(3_000), &json!(["vip"]))
    );
}

#[tokio::test]
async fn events_of_edited_and_returned_orders_are_deleted_after_their_time() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 50)]).await;
    let new_customer = json!({"name": "hopper-name", "email": "grace@hopper.example"});
    let customer = system.post("/v1/customers", new_customer).await.expect(201);
    let customer_id = text_of(&customer["id"]);
    let order_ids = system.create_closed_orders(&customer_id).await;
    // An order with an open return, whose events are not old.
    let id_with_open_return = system.create_edited_order(&customer_id).await;
    system
        .send_webhook("open", "shipment.delivered", &id_with_open_return)
        .await
        .expect(200);
    system.wait_until_idle().await;
    let path = format!("/v1/orders/{id_with_open_return}/returns");
    let new_return = json!({"items": items_of("A", 1)});
    let open_return = system.post(&path, new_return).await.expect(201);
    // The newest event is kept, so it is one of a product.
    system.create_product_with_stock("B", &[("main", 1)]).await;
    age_events(&system, &id_with_open_return).await;
    let orders_before = system.list_orders().await;
    system.set_variable("EVENTS_KEPT_DAYS", Some("30"));
    system.worker.terminate();
    system.restart_worker().await;

    wait_until("old events to be deleted", async || {
        let condensed_count_sql = "SELECT count(*) FROM orders WHERE condensed_at IS NOT NULL";
        system
            .store
            .run(crate::harness::Tables::Worker, condensed_count_sql)
            == "3"
    })
    .await;
    assert_eq!(system.list_orders().await, orders_before);
    let kept_event_types = system.list_event_types(&order_ids[0]).await;
    assert!(!kept_event_types.is_empty());
    for event_type in kept_event_types {
        assert!(
            ["shipment.shipped", "return.received"].contains(&event_type.as_str()),
            "{event_type}"
        );
    }
    assert_eq!(
        system.list_event_types(&order_ids[1]).await,
        [] as [&str; 0]
    );
    let event_types_before = system.list_event_types(&id_with_open_return).await;
    assert!(event_types_before.contains(&"order.edited".to_owned()));
    system.assert_verified();

    // A condensed order is returned again, and erased with its customer.
    let path = format!("/v1/orders/{}/returns", order_ids[2]);
    let later_return = json!({"items": items_of("A", 1), "note": "hopper-late"});
    let later_return = system
        .send_change(Method::POST, &path, later_return, 201)
        .await;
    for return_id in [&later_return["id"], &open_return["id"]] {
        let path = format!("/v1/returns/{}/cancel", text_of(return_id));
        system
            .send_change(Method::POST, &path, json!({"reason": "hopper-late"}), 200)
            .await;
    }
    let path = format!("/v1/customers/{customer_id}");
    let delete_reply = system.delete(&path).await;
    assert_eq!(delete_reply.status, 204, "{}", delete_reply.body);
    assert_nothing_personal(&system.stored_rows());
    system.assert_verified();
}

#[tokio::test]
async fn reset_leaves_no_rows_of_edited_and_returned_orders() {
    let system = System::start_with(&[("DEMO", "1")]).await;
    system.create_product_with_stock("A", &[("main", 50)]).await;
    let customer_id = system.create_customer().await;
    system.create_closed_orders(&customer_id).await;
    system.post("/demo/reset", json!({})).await.expect(200);
    assert_nothing_personal(&system.stored_rows());
    for table in [
        "orders",
        "order_items",
        "order_returns",
        "order_tags",
        "payment_references",
        "steps",
    ] {
        assert_eq!(system.store.all_rows(table), "", "{table}");
    }
    system.assert_verified();
}
