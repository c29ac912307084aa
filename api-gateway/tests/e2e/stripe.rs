//! Payments with Stripe, simulated by localstripe, over a proxy that injects faults.

use std::fmt::Write;

use futures_util::future::join_all;
use jiff::Timestamp;
use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::{
    ProxyMode, Reply, Stripe, System, TestFolder, has_shipping_label, order_body_with_method, send,
};

const STRIPE_WEBHOOK_SECRET: &str = "whsec_of_stripe";

async fn start_with_stripe() -> (System, Stripe) {
    let folder = TestFolder::new();
    let stripe = Stripe::start(&folder).await;
    let variables = [
        ("PAYMENT_PROVIDER", "stripe"),
        ("STRIPE_API_KEY", "sk_test_12345"),
        ("STRIPE_API_BASE", stripe.url()),
        ("STRIPE_WEBHOOK_SECRET", STRIPE_WEBHOOK_SECRET),
    ];
    let system = System::start_in_folder(folder, &variables).await;
    system.create_product_with_stock("A", &[("east", 50)]).await;
    system.create_product_with_stock("B", &[("west", 50)]).await;
    (system, stripe)
}

impl System {
    async fn order_paid_with(&self, payment_method: &str) -> String {
        let customer_id = self.create_customer().await;
        let new_order = order_body_with_method(&customer_id, "A", 3, payment_method);
        let created_order = self.post("/v1/orders", new_order).await.expect(201);
        created_order["id"].as_str().unwrap().to_owned()
    }

    /// Creates an order that is shipped and captured with 3000.
    async fn shipped_and_captured_order(&self, stripe: &Stripe) -> String {
        let id = self.order_paid_with("pm_card_visa").await;
        self.wait_for_order(&id, "announced", has_shipping_label)
            .await;
        self.send_webhook(&format!("m-{id}"), "shipment.shipped", &id)
            .await
            .expect(200);
        self.wait_for_order(&id, "captured", is_captured).await;
        assert_eq!(stripe.amounts(&id).await, (0, 3000, 0));
        id
    }

    /// The value of a counter of the worker; 0 if it is not exported yet.
    async fn worker_counter(&self, counter_name: &str) -> u64 {
        let worker_address = self.worker.find_logged_field("health", 0).unwrap();
        let request = self.client.get(format!("http://{worker_address}/metrics"));
        let metrics_text = request.send().await.unwrap().text().await.unwrap();
        let counter_value = metrics_text
            .lines()
            .find_map(|line| line.strip_prefix(counter_name)?.trim().parse().ok());
        counter_value.unwrap_or(0)
    }

    async fn send_stripe_webhook(
        &self,
        event_id: &str,
        event_type: &str,
        event_object: Value,
    ) -> Reply {
        let body = json!({"id": event_id, "object": "event", "type": event_type, "data": {"object": event_object}});
        let (body, now_seconds) = (body.to_string(), Timestamp::now().as_second());
        self.send_stripe_signed(now_seconds, &signature(now_seconds, &body), body)
            .await
    }

    async fn send_stripe_signed(&self, signed_at: i64, signature: &str, body: String) -> Reply {
        let request = self
            .client
            .post(self.url("/webhooks/stripe"))
            .header("stripe-signature", format!("t={signed_at},v1={signature}"))
            .body(body);
        send(request).await
    }

    /// Checks that the order's amounts agree with Stripe.
    async fn assert_agrees_with(&self, stripe: &Stripe, order_id: &str) {
        let order = self
            .get(&format!("/v1/orders/{order_id}"))
            .await
            .expect(200);
        let payment = &order["payment"];
        let amount_of = |amount_name: &str| payment[amount_name].as_i64().unwrap();
        let authorized_amount = match payment["status"].as_str().unwrap() {
            "authorized" => amount_of("authorized"),
            _ => 0,
        };
        let our_amounts = (
            authorized_amount,
            amount_of("captured"),
            amount_of("refunded"),
        );
        assert_eq!(stripe.amounts(order_id).await, our_amounts, "{order}");
    }
}

fn signature(signed_at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, STRIPE_WEBHOOK_SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("{signed_at}.{body}").as_bytes());
    tag.as_ref()
        .iter()
        .fold(String::new(), |mut hex_text, byte| {
            let _ = write!(hex_text, "{byte:02x}");
            hex_text
        })
}

fn is_captured(order: &Value) -> bool {
    order["payment"]["status"] == "captured"
}

#[tokio::test]
async fn card_is_authorized_then_captured_with_the_last_shipment_then_refunded() {
    let (system, stripe) = start_with_stripe().await;
    let id = system.order_paid_with("pm_card_visa").await;
    let order = system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    assert_eq!(order["payment"]["provider"], "stripe");
    let reference = order["payment"]["reference"].as_str().unwrap().to_owned();
    assert!(reference.starts_with("pi_"), "{order}");
    assert_eq!(stripe.amounts(&id).await, (3000, 0, 0));

    // A card is captured once, with the last shipment.
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 1}]});
    let shipments_path = format!("/v1/orders/{id}/shipments");
    system
        .post(&shipments_path, partial_shipment)
        .await
        .expect(201);
    system.wait_until_idle().await;
    assert_eq!(stripe.amounts(&id).await, (3000, 0, 0));
    system.post(&shipments_path, json!({})).await.expect(201);
    system.wait_for_order(&id, "captured", is_captured).await;
    assert_eq!(stripe.amounts(&id).await, (0, 3000, 0));

    let refunds_path = format!("/v1/orders/{id}/refunds");
    let refund_replies =
        join_all((0..5).map(|_| system.post(&refunds_path, json!({"amount": 700})))).await;
    assert_eq!(
        refund_replies
            .iter()
            .filter(|reply| reply.status == 202)
            .count(),
        4
    );
    let is_refunded = |order: &Value| order["payment"]["refunded"] == 2800;
    let order = system.wait_for_order(&id, "refunded", is_refunded).await;
    let transactions = order["transactions"].as_array().unwrap();
    let transaction_kinds = transactions
        .iter()
        .map(|transaction| transaction["kind"].as_str().unwrap());
    assert!(transaction_kinds.eq([
        "authorization",
        "capture",
        "refund",
        "refund",
        "refund",
        "refund"
    ]));
    for transaction in transactions {
        assert_eq!(transaction["status"], "success", "{order}");
        assert_eq!(transaction["reference"], reference.as_str(), "{order}");
    }
    system.wait_until_idle().await;
    system.assert_agrees_with(&stripe, &id).await;
    system.assert_verified();
}

#[tokio::test]
async fn declined_card_cancels_the_order_and_its_payment_intent() {
    let (system, stripe) = start_with_stripe().await;
    for payment_method in ["pm_card_chargeCustomerFail", "pm_nobodys"] {
        let id = system.order_paid_with(payment_method).await;
        let is_cancelled = |order: &Value| order["status"] == "cancelled";
        let order = system.wait_for_order(&id, "cancelled", is_cancelled).await;
        assert_eq!(order["cancel_reason"], "payment_declined");
        assert_eq!(order["payment"]["status"], "failed");
        let transactions = order["transactions"].as_array().unwrap();
        assert_eq!(transactions.len(), 1, "{order}");
        assert_eq!(transactions[0]["status"], "failed", "{order}");
        for payment in stripe.payments(&id).await {
            assert_eq!(payment["status"], "canceled");
        }
    }
    assert_eq!(system.stock_level("A").await, (50, 0));
    // There is no default payment method.
    let customer_id = system.create_customer().await;
    let new_order = json!({"customer_id": customer_id, "items": [{"sku": "A", "quantity": 1}]});
    let problem = system
        .post("/v1/orders", new_order)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/payment_method");
    system.assert_verified();
}

#[tokio::test]
async fn edit_with_a_higher_total_authorizes_another_payment_intent_and_cancels_the_first() {
    let (system, stripe) = start_with_stripe().await;
    let id = system.order_paid_with("pm_card_visa").await;
    let order = system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let first_reference = order["payment"]["reference"].clone();
    let edit_path = format!("/v1/orders/{id}/edit");
    let has_no_pending_edit = |order: &Value| order["pending_edit"].is_null();
    // A declined card, and one whose payment requires an action of the customer.
    let card_requiring_action = stripe.create_card("4000002500003155").await;
    for payment_method in ["pm_card_chargeCustomerFail", card_requiring_action.as_str()] {
        let refused_edit =
            json!({"items": [{"sku": "A", "quantity": 5}], "payment_method": payment_method});
        system.post(&edit_path, refused_edit).await.expect(202);
        let order = system
            .wait_for_order(&id, "rejected", has_no_pending_edit)
            .await;
        assert_eq!(
            (&order["total"], &order["payment"]["reference"]),
            (&json!(3000), &first_reference)
        );
        system.wait_until_idle().await;
        assert_eq!(stripe.amounts(&id).await, (3000, 0, 0));
        assert_eq!(system.stock_level("A").await, (50, 3));
    }

    let higher_edit =
        json!({"items": [{"sku": "A", "quantity": 4}], "payment_method": "pm_card_visa"});
    system.post(&edit_path, higher_edit).await.expect(202);
    let order = system
        .wait_for_order(&id, "edited", |order| order["total"] == 4000)
        .await;
    assert_ne!(order["payment"]["reference"], first_reference);
    system.wait_until_idle().await;
    assert_eq!(stripe.amounts(&id).await, (4000, 0, 0));
    // A late notification of the first payment changes nothing.
    let event_object =
        json!({"id": first_reference, "object": "payment_intent", "metadata": {"order_id": id}});
    let webhook_reply = system
        .send_stripe_webhook("evt_edit", "payment_intent.canceled", event_object)
        .await;
    assert!(webhook_reply.status < 300, "{}", webhook_reply.body);
    system.wait_until_idle().await;

    // Less than what is authorized takes effect at once, and only that is captured.
    let lower_edit = json!({"items": [{"sku": "A", "quantity": 2}]});
    system.post(&edit_path, lower_edit).await.expect(200);
    system
        .send_webhook("m-edit", "shipment.shipped", &id)
        .await
        .expect(200);
    system.wait_for_order(&id, "captured", is_captured).await;
    let payments = stripe.payments(&id).await;
    let captured_intents = payments
        .iter()
        .filter(|intent| intent["status"] == "succeeded");
    let captured_amounts: Vec<_> = captured_intents
        .map(|intent| intent["amount_received"].as_i64().unwrap())
        .collect();
    assert_eq!(captured_amounts, [2000]);
    system.assert_verified();
}

#[tokio::test]
async fn order_waits_for_the_customers_authentication() {
    let (system, stripe) = start_with_stripe().await;
    for is_successful in [true, false] {
        let payment_method = stripe.create_card("4000002500003155").await;
        let id = system.order_paid_with(&payment_method).await;
        let order = system
            .wait_for_order(&id, "waiting", |order| {
                order["payment"]["next_action"]["type"] == "use_stripe_sdk"
            })
            .await;
        assert_eq!(order["status"], "pending");
        let reference = &order["payment"]["reference"];
        stripe.authenticate(&id, is_successful).await;
        // The worker reads the payment from Stripe; the content of the webhook is not trusted.
        let event_object =
            json!({"object": "payment_intent", "id": reference, "metadata": {"order_id": id}});
        for event_id_prefix in ["evt_2", "evt_1", "evt_2"] {
            let event_id = format!("{event_id_prefix}_{is_successful}");
            system
                .send_stripe_webhook(&event_id, "payment_intent.created", event_object.clone())
                .await
                .expect(200);
        }
        let expected_status = if is_successful {
            "processing"
        } else {
            "cancelled"
        };
        let order = system
            .wait_for_order(&id, expected_status, |order| {
                order["status"] == expected_status
            })
            .await;
        assert_eq!(order["payment"]["next_action"], Value::Null);
        let history_before = system.list_event_types(&id).await;
        let authorization_events = history_before
            .iter()
            .filter(|event_type| *event_type == "payment.authorized");
        assert_eq!(authorization_events.count(), usize::from(is_successful));
        system.wait_until_idle().await;
        system.assert_agrees_with(&stripe, &id).await;
    }
    system.assert_verified();
}

#[tokio::test]
async fn network_faults_never_move_money_twice() {
    let (system, stripe) = start_with_stripe().await;
    let proxy_modes = [
        ProxyMode::DropResponse,
        ProxyMode::Fail,
        ProxyMode::InvalidResponse,
    ];
    for proxy_mode in proxy_modes {
        let id = system.order_paid_with("pm_card_visa").await;
        stripe.set_modes(&[ProxyMode::Forward, proxy_mode, proxy_mode]);
        system
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
        stripe.set_modes(&[proxy_mode, proxy_mode]);
        system
            .send_webhook(&format!("m-{id}"), "shipment.shipped", &id)
            .await
            .expect(200);
        system.wait_for_order(&id, "captured", is_captured).await;
        for amount in [1000, 500] {
            stripe.set_modes(&[proxy_mode]);
            let body = json!({"amount": amount});
            system
                .post(&format!("/v1/orders/{id}/refunds"), body)
                .await
                .expect(202);
        }
        system
            .wait_for_order(&id, "refunded", |order| {
                order["payment"]["refunded"] == 1500
            })
            .await;
        assert_eq!(stripe.amounts(&id).await, (0, 3000, 1500), "{proxy_mode:?}");
        // The response to the cancellation is lost as well.
        let id = system.order_paid_with("pm_card_visa").await;
        system
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
        stripe.set_modes(&[proxy_mode]);
        system
            .post(&format!("/v1/orders/{id}/cancel"), json!({}))
            .await
            .expect(200);
        let is_voided = |order: &Value| order["payment"]["status"] == "voided";
        system.wait_for_order(&id, "voided", is_voided).await;
        assert_eq!(stripe.amounts(&id).await, (0, 0, 0));
    }
    system.assert_verified();
}

#[tokio::test]
async fn payments_stay_consistent_across_worker_deaths_and_cancellations() {
    let (mut system, stripe) = start_with_stripe().await;
    let payment_methods = ["pm_ok", "pm_slow", "pm_timeout_after_charge", "pm_flaky"];
    let mut order_ids = Vec::new();
    for round in 0..3 {
        for payment_method in payment_methods {
            order_ids.push(system.order_paid_with(payment_method).await);
        }
        let cancelled_id = order_ids[order_ids.len() - 1 - round].clone();
        system
            .post(&format!("/v1/orders/{cancelled_id}/cancel"), json!({}))
            .await
            .expect(200);
        system.worker.kill();
        system.restart_worker().await;
    }
    system.wait_until_idle().await;
    for id in &order_ids {
        let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
        assert!(
            ["processing", "cancelled"].contains(&order["status"].as_str().unwrap()),
            "{order}"
        );
        system.assert_agrees_with(&stripe, id).await;
    }
    system.assert_verified();
}

#[tokio::test]
async fn changes_in_the_stripe_dashboard_are_applied() {
    let (system, stripe) = start_with_stripe().await;
    let reference = async |id: &str| {
        let order = system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
        order["payment"]["reference"].as_str().unwrap().to_owned()
    };
    // Captured and refunded in Stripe's dashboard. The charge has the metadata of the payment.
    let id = system.order_paid_with("pm_card_visa").await;
    let intent_id = reference(&id).await;
    let capture_path = format!("/v1/payment_intents/{intent_id}/capture");
    stripe.call_api(Method::POST, &capture_path, &[]).await;
    let refund_form = [("payment_intent", intent_id.as_str()), ("amount", "1200")];
    stripe
        .call_api(Method::POST, "/v1/refunds", &refund_form)
        .await;
    let charge_object = json!({"object": "charge", "id": "ch_1", "payment_intent": intent_id, "metadata": {"order_id": id}});
    system
        .send_stripe_webhook("evt_1", "charge.refunded", charge_object)
        .await
        .expect(200);
    system
        .wait_for_order(&id, "refunded", |order| {
            order["payment"]["refunded"] == 1200
        })
        .await;
    system.assert_agrees_with(&stripe, &id).await;
    // An authorization that is canceled in the dashboard cancels the order.
    let id = system.order_paid_with("pm_card_visa").await;
    let intent_id = reference(&id).await;
    let cancel_path = format!("/v1/payment_intents/{intent_id}/cancel");
    stripe.call_api(Method::POST, &cancel_path, &[]).await;
    let event_object =
        json!({"object": "payment_intent", "id": intent_id, "metadata": {"order_id": id}});
    system
        .send_stripe_webhook("evt_2", "payment_intent.canceled", event_object)
        .await
        .expect(200);
    let is_over = |order: &Value| order["status"] == "cancelled";
    let order = system.wait_for_order(&id, "cancelled", is_over).await;
    assert_eq!(order["payment"]["status"], "voided");
    system.wait_until_idle().await;
    system.assert_agrees_with(&stripe, &id).await;
    system.assert_verified();
}

#[tokio::test]
async fn expired_authorization_of_a_partly_shipped_order_is_a_dead_letter() {
    let (system, stripe) = start_with_stripe().await;
    let id = system.order_paid_with("pm_card_visa").await;
    let order = system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let intent_id = order["payment"]["reference"].as_str().unwrap();
    let shipments_path = format!("/v1/orders/{id}/shipments");
    let partial_shipment = json!({"items": [{"sku": "A", "quantity": 1}]});
    system
        .post(&shipments_path, partial_shipment)
        .await
        .expect(201);
    // The card is charged once, when everything is shipped: no capture is due yet.
    system.wait_until_idle().await;
    let cancel_path = format!("/v1/payment_intents/{intent_id}/cancel");
    stripe.call_api(Method::POST, &cancel_path, &[]).await;
    let event_object =
        json!({"object": "payment_intent", "id": intent_id, "metadata": {"order_id": id}});
    system
        .send_stripe_webhook("evt_1", "payment_intent.canceled", event_object)
        .await
        .expect(200);
    let is_voided = |order: &Value| order["payment"]["status"] == "voided";
    system.wait_for_order(&id, "voided", is_voided).await;
    let dead_letters = system.get("/v1/dead-letters").await.expect(200);
    let dead_letter_id = format!("{id}:capture_payment");
    assert_eq!(
        dead_letters["data"][0]["id"],
        dead_letter_id.as_str(),
        "{dead_letters}"
    );
    system
        .post(&shipments_path, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    system.assert_verified();
    let dead_letter_path = format!("/v1/dead-letters/{dead_letter_id}");
    system.delete(&dead_letter_path).await.expect(204);
    system.assert_agrees_with(&stripe, &id).await;
    system.assert_verified();
}

#[tokio::test]
async fn stripe_webhooks_without_a_valid_recent_signature_are_refused() {
    let (system, stripe) = start_with_stripe().await;
    // Signed and sent by localstripe.
    let webhook_settings = [
        ("url", system.url("/webhooks/stripe")),
        ("secret", STRIPE_WEBHOOK_SECRET.to_owned()),
    ];
    let webhook_form = webhook_settings
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    stripe
        .call_api(Method::POST, "/_config/webhooks/ours", &webhook_form)
        .await;
    let id = system.order_paid_with("pm_card_visa").await;
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    system
        .send_webhook("m-1", "shipment.shipped", &id)
        .await
        .expect(200);
    system.wait_for_order(&id, "captured", is_captured).await;
    crate::harness::wait_until("localstripe's webhook to be accepted", async || {
        stripe.log().contains("successfully delivered")
    })
    .await;

    let event_object =
        json!({"object": "payment_intent", "id": "pi_1", "metadata": {"order_id": id}});
    let body = json!({"id": "evt_1", "data": {"object": event_object}}).to_string();
    let now_seconds = Timestamp::now().as_second();
    let hour_ago = now_seconds - 3600;
    for (signed_at, wrong_signature) in [
        (now_seconds, signature(now_seconds, "{}")),
        (hour_ago, signature(hour_ago, &body)),
        (now_seconds, signature(hour_ago, &body)),
        (now_seconds, String::new()),
    ] {
        system
            .send_stripe_signed(signed_at, &wrong_signature, body.clone())
            .await
            .expect_problem(401, "UNAUTHENTICATED");
    }
    let unsigned_request = system
        .client
        .post(system.url("/webhooks/stripe"))
        .body(body.clone());
    send(unsigned_request)
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    // A webhook for an unknown payment of our order, and one without our metadata.
    system
        .send_stripe_signed(now_seconds, &signature(now_seconds, &body), body)
        .await
        .expect(200);
    let foreign_intent = json!({"object": "payment_intent", "id": "pi_2", "metadata": {}});
    let ignored_reply =
        system.send_stripe_webhook("evt_3", "payment_intent.created", foreign_intent);
    assert_eq!(ignored_reply.await.expect(200)["status"], "ignored");
    // Webhooks of another system on the same Stripe account are ignored.
    let foreign_order_ids = ["0192f0c1-2345-7abc-8def-0123456789ab", "1042", ""];
    for (event_number, order_id) in foreign_order_ids.into_iter().enumerate() {
        let event_object =
            json!({"object": "payment_intent", "id": "pi_3", "metadata": {"order_id": order_id}});
        let event_id = format!("evt_{}", event_number + 4);
        let ignored_webhook =
            system.send_stripe_webhook(&event_id, "payment_intent.created", event_object);
        assert_eq!(ignored_webhook.await.expect(200)["status"], "ignored");
    }
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn refund_webhooks_are_matched_by_payment_and_failed_refunds_are_dead_letters() {
    let (system, stripe) = start_with_stripe().await;
    let id = system.shipped_and_captured_order(&stripe).await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    let intent_id = order["payment"]["reference"].as_str().unwrap();
    // Our refund has the order id in its metadata; a refund in the dashboard only names the payment.
    let refunds_path = format!("/v1/orders/{id}/refunds");
    system
        .post(&refunds_path, json!({"amount": 700}))
        .await
        .expect(202);
    let is_refunded = |amount: i64| move |order: &Value| order["payment"]["refunded"] == amount;
    system
        .wait_for_order(&id, "refunded", is_refunded(700))
        .await;
    let intent_query = [("payment_intent", intent_id)];
    let own_refund = stripe
        .call_api(Method::GET, "/v1/refunds", &intent_query)
        .await["data"][0]
        .clone();
    assert_eq!(own_refund["metadata"]["order_id"], *id);
    let refund_form = [("payment_intent", intent_id), ("amount", "500")];
    let refund_from_dashboard = stripe
        .call_api(Method::POST, "/v1/refunds", &refund_form)
        .await;
    let event_object = json!({"object": "refund", "id": refund_from_dashboard["id"], "payment_intent": intent_id, "metadata": {}});
    system
        .send_stripe_webhook("evt_1", "refund.created", event_object.clone())
        .await
        .expect(200);
    system
        .wait_for_order(&id, "refunded", is_refunded(1200))
        .await;

    // Days later, the customer's bank returns the refund.
    stripe.fail_refund(refund_from_dashboard["id"].as_str().unwrap());
    system
        .send_stripe_webhook("evt_2", "refund.failed", event_object)
        .await
        .expect(200);
    system.wait_for_order(&id, "failed", is_refunded(700)).await;
    let event_types = system.list_event_types(&id).await;
    assert!(
        event_types
            .iter()
            .any(|event_type| event_type == "payment.refund_failed")
    );
    let dead_letters = system.get("/v1/dead-letters").await.expect(200);
    let dead_letter = &dead_letters["data"][0];
    assert_eq!(
        dead_letter["id"],
        format!("{id}:refund_payment"),
        "{dead_letters}"
    );
    // The refund is not retried automatically, but completely when an operator redrives it.
    assert_eq!(stripe.amounts(&id).await.2, 1200, "no refund is added");
    let redrive_path = format!("/v1/dead-letters/{id}:refund_payment/redrive");
    system.post(&redrive_path, json!({})).await.expect(200);
    system
        .wait_for_order(&id, "refunded", is_refunded(1200))
        .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn concurrent_refund_in_the_stripe_dashboard_is_applied() {
    let (system, stripe) = start_with_stripe().await;
    let id = system.shipped_and_captured_order(&stripe).await;
    stripe.set_modes(&[ProxyMode::RefundedMeanwhile]);
    system
        .post(&format!("/v1/orders/{id}/refunds"), json!({"amount": 1000}))
        .await
        .expect(202);
    system
        .wait_for_order(&id, "refunded", |order| {
            order["payment"]["refunded"] == 3000
        })
        .await;
    system.wait_until_idle().await;
    let dead_letters = system.get("/v1/dead-letters").await.expect(200);
    assert_eq!(dead_letters["data"], json!([]));
    system.assert_agrees_with(&stripe, &id).await;
    system.assert_verified();
}

#[tokio::test]
async fn immediate_follow_up_steps_are_not_lost() {
    let (system, _stripe) = start_with_stripe().await;
    system
        .create_product_with_stock("MANY", &[("east", 1000)])
        .await;
    let customer_id = &system.create_customer().await;
    let client_numbers: Vec<_> = (0..8).collect();
    let create_orders = client_numbers.iter().map(async |_| {
        for _ in 0..25 {
            let new_order = order_body_with_method(customer_id, "MANY", 1, "pm_ok");
            system.post("/v1/orders", new_order).await.expect(201);
        }
    });
    join_all(create_orders).await;
    system.wait_until_idle().await;
    let processing_orders_reply = system.get("/v1/orders?status=processing&limit=200").await;
    let processing_order_count = processing_orders_reply.expect(200)["data"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(processing_order_count, 200);
    // A step whose message was lost is sent again when its lease is over.
    assert_eq!(system.worker_counter("steps_resent_total").await, 0);
}

#[tokio::test]
async fn concurrent_webhooks_do_not_delay_the_order() {
    let (system, stripe) = start_with_stripe().await;
    for round in 0..5 {
        let card = stripe.create_card("4000002500003155").await;
        let id = system.order_paid_with(&card).await;
        let awaits_action = |order: &Value| order["payment"]["next_action"] != Value::Null;
        let order = system.wait_for_order(&id, "waiting", awaits_action).await;
        stripe.authenticate(&id, true).await;
        let event_object = json!({"object": "payment_intent", "id": order["payment"]["reference"],
            "metadata": {"order_id": id}});
        let event_ids: Vec<_> = (0..4)
            .map(|event_number| format!("evt_{round}_{event_number}"))
            .collect();
        let webhook_replies = event_ids.iter().map(|event_id| {
            system.send_stripe_webhook(event_id, "payment_intent.updated", event_object.clone())
        });
        for reply in join_all(webhook_replies).await {
            reply.expect(200);
        }
        system
            .wait_for_order(&id, "processing", |order| order["status"] == "processing")
            .await;
    }
    assert_eq!(system.worker_counter("steps_resent_total").await, 0);
}

#[tokio::test]
async fn storefront_gets_the_client_secret_for_authentication() {
    let (system, stripe) = start_with_stripe().await;
    let customer_id = system.create_customer().await;
    let new_order = |payment_method: &str, return_url: &str| {
        let mut new_order = order_body_with_method(&customer_id, "A", 1, payment_method);
        new_order["return_url"] = json!(return_url);
        new_order
    };
    for invalid_url in [
        "http://example.com/",
        "ftp://example.com/",
        "nothing",
        "https://u:p@example.com/",
    ] {
        let problem_reply = system
            .post("/v1/orders", new_order("pm_ok", invalid_url))
            .await;
        let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(
            problem["errors"][0]["pointer"], "/return_url",
            "{invalid_url}"
        );
    }
    let card = stripe.create_card("4000002500003155").await;
    let return_url = "https://shop.example/thanks";
    let created_order = system
        .post("/v1/orders", new_order(&card, return_url))
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    let awaits_action = |order: &Value| order["payment"]["next_action"] != Value::Null;
    let order = system.wait_for_order(id, "waiting", awaits_action).await;
    let intent = stripe.payments(id).await.remove(0);
    let client_secret = intent["client_secret"].as_str().unwrap();
    assert_eq!(
        order["payment"]["next_action"]["client_secret"],
        client_secret
    );
    let sent_url = stripe.return_url(intent["id"].as_str().unwrap()).unwrap();
    assert_eq!(sent_url, "https%3A%2F%2Fshop.example%2Fthanks");
    // Only the order itself shows the secret.
    let history_path = format!("/v1/orders/{id}/history");
    for path in ["/v1/orders", &history_path, "/v1/events"] {
        let reply_text = system.get(path).await.expect(200).to_string();
        assert!(
            reply_text.contains(id) && !reply_text.contains(client_secret),
            "{path}"
        );
    }
    let event_object =
        json!({"object": "payment_intent", "id": intent["id"], "metadata": {"order_id": id}});
    system
        .send_stripe_webhook("evt_early", "payment_intent.created", event_object.clone())
        .await
        .expect(200);
    system.wait_until_idle().await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(
        order["payment"]["next_action"]["client_secret"],
        client_secret
    );
    stripe.authenticate(id, true).await;
    system
        .send_stripe_webhook("evt_done", "payment_intent.succeeded", event_object)
        .await
        .expect(200);
    let order = system
        .wait_for_order(id, "processing", |order| order["status"] == "processing")
        .await;
    assert!(!order.to_string().contains(client_secret), "{order}");
    let worker_log = std::fs::read_to_string(system.folder.join("worker.log")).unwrap();
    assert!(!worker_log.contains(client_secret));
    system.assert_verified();
}

#[tokio::test]
async fn orders_stripe_cannot_charge_are_refused_at_creation() {
    let (system, _stripe) = start_with_stripe().await;
    for (sku, price, currency) in [
        ("DINAR", 18605, "KWD"),
        ("ARIARY", 150, "MGA"),
        ("CEDI", 1000, "GHS"),
        ("JEWEL", 100_000_000, "EUR"),
    ] {
        let product = json!({"sku": sku, "name": sku, "price": price, "currency": currency});
        system.post("/v1/products", product).await.expect(201);
        let stock_path = format!("/v1/products/{sku}/stock/east");
        system
            .put(&stock_path, json!({"on_hand": 5}))
            .await
            .expect(200);
        let new_order = order_body_with_method(&system.create_customer().await, sku, 1, "pm_ok");
        let problem_reply = system.post("/v1/orders", new_order).await;
        let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], "/items", "{problem}");
    }
    // Two units can be charged, but a part of that can't be refunded.
    let new_order = order_body_with_method(&system.create_customer().await, "DINAR", 2, "pm_ok");
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let id = created_order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    system
        .send_webhook("m-1", "shipment.shipped", id)
        .await
        .expect(200);
    system.wait_for_order(id, "captured", is_captured).await;
    let refunds_path = format!("/v1/orders/{id}/refunds");
    let problem_reply = system.post(&refunds_path, json!({"amount": 5})).await;
    let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/amount");
    system
        .post(&refunds_path, json!({"amount": 10}))
        .await
        .expect(202);
}
