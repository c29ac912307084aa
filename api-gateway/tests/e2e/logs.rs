//! Logs: entries can be found by order id, intent and request id, and contain no personal data and no secrets.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Receiver, System, send, wait_until};

const ADMIN_KEY: &str = "a-key-that-nobody-may-see";
const STOREFRONT_KEY: &str = "a-storefronts-key-that-nobody-may-see";
const WRONG_KEY: &str = "a-wrong-key-that-may-be-almost-right";

/// Values that must not occur in a log.
const PERSONAL_DATA: [&str; 10] = [
    "Quartermaine",
    "zebulon@quartermaine.example",
    "not-an-address-of-quartermaine",
    "Wisteria Lane",
    "Nowhereville",
    "98765",
    "+49 170 5550123",
    "a-note-to-self",
    "a-reason-of-my-own",
    "pm_of_my_own",
];

fn log_lines(system: &System, log_name: &str) -> Vec<Value> {
    let text = fs::read_to_string(system.folder.join(log_name)).unwrap();
    let lines = text.lines().map(|line| {
        serde_json::from_str(line)
            .unwrap_or_else(|_| panic!("{log_name} has a line that is not JSON: {line}"))
    });
    lines.collect()
}

async fn start_system(more_variables: &[(&str, &str)]) -> System {
    let keys = format!("admin={ADMIN_KEY};storefront@shop={STOREFRONT_KEY}");
    let mut variables = vec![("API_KEYS", keys.as_str()), ("WEBHOOK_ALLOW_PRIVATE", "1")];
    variables.extend(more_variables);
    let mut system = System::start_with(&variables).await;
    system.api_key = Some(ADMIN_KEY.to_owned());
    system
}

#[tokio::test]
async fn logs_can_be_found_by_order_id_intent_and_request_id() {
    let system = start_system(&[]).await;
    system
        .create_product_with_stock("mug", &[("berlin", 9)])
        .await;
    let customer_id = system.create_customer().await;
    let body = json!({"customer_id": customer_id, "items": [{"sku": "mug", "quantity": 1}]});
    let request = system.request(Method::POST, "/v1/orders").json(&body);
    let order = send(
        request
            .header("x-request-id", "the-request")
            .header("x-intent", "gift"),
    )
    .await
    .expect(201);
    let id = order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "processing", |order| order["status"] == "processing")
        .await;
    let worker_log_lines = log_lines(&system, "worker.log");
    let order_log_lines: Vec<_> = worker_log_lines
        .iter()
        .filter(|log_line| log_line["order.id"] == id && log_line["request_id"] == "the-request")
        .collect();
    let intents: Vec<_> = order_log_lines
        .iter()
        .map(|log_line| log_line["intent"].as_str().unwrap())
        .collect();
    assert!(
        intents.starts_with(&["gift", "authorize_payment"]),
        "{order_log_lines:?}"
    );
    for log_line in &order_log_lines {
        assert_eq!(
            log_line["trace_id"], order_log_lines[0]["trace_id"],
            "{log_line}"
        );
    }
    let gateway_log_lines = log_lines(&system, "gateway.log");
    assert!(
        gateway_log_lines
            .iter()
            .any(|line| line["request_id"] == "the-request")
    );
}

/// Creates a customer, after an attempt with an invalid address.
async fn create_customer(system: &System) -> Value {
    let invalid_customer =
        json!({"name": "Quartermaine", "email": "not-an-address-of-quartermaine"});
    let reply = system.post("/v1/customers", invalid_customer).await;
    reply.expect(422);
    let new_customer =
        json!({"name": "Zebulon Quartermaine", "email": "zebulon@quartermaine.example"});
    system.post("/v1/customers", new_customer).await.expect(201)
}

#[tokio::test]
async fn personal_data_and_secrets_are_never_logged() {
    let mut system = start_system(&[(
        "RUST_LOG",
        "info,api_gateway=trace,order_worker=trace,shared=trace,lapin=off",
    )])
    .await;
    let receiver = Receiver::start().await;
    let endpoint =
        json!({"url": receiver.url("/hook"), "event_types": ["order.created", "order.cancelled"]});
    let endpoint = system
        .post("/v1/webhook-endpoints", endpoint)
        .await
        .expect(201);
    system
        .create_product_with_stock("mug", &[("berlin", 9)])
        .await;

    let customer = create_customer(&system).await;
    let body = |payment_method: &str| {
        json!({
            "customer_id": customer["id"], "items": [{"sku": "mug", "quantity": 1}],
            "payment_method": payment_method, "metadata": {"note": "a-note-to-self"},
            "shipping_address": {
                "name": "Zebulon Quartermaine", "line1": "7 Wisteria Lane", "city": "Nowhereville",
                "postal_code": "98765", "country": "DE", "phone": "+49 170 5550123",
            },
        })
    };
    let created_order = system.post("/v1/orders", body("pm_ok")).await.expect(201);
    let id = created_order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "labelled", |order| {
            order["shipments"][0]["tracking_number"].is_string()
        })
        .await;
    let reason = json!({"reason": "a-reason-of-my-own"});
    system
        .post(&format!("/v1/orders/{id}/cancel"), reason)
        .await
        .expect(200);
    for payment_method in ["pm_declined", "pm_flaky", "pm_of_my_own"] {
        system.post("/v1/orders", body(payment_method)).await;
    }
    // Validation errors are logged without the rejected values.
    let mut invalid_order = body("pm_ok");
    invalid_order["shipping_address"]["country"] = json!("Nowhereville");
    invalid_order["Quartermaine"] = json!("Quartermaine");
    system.post("/v1/orders", invalid_order).await.expect(422);
    let malformed_request = system
        .request(Method::POST, "/v1/customers")
        .body("{\"name\": \"Quartermaine");
    send(malformed_request.header("content-type", "application/json"))
        .await
        .expect(400);
    let import_text = format!(
        "{}\n{{\"customer_id\": \"Quartermaine\"}}\nQuartermaine\n",
        body("pm_ok")
    );
    let import_request = system
        .request(Method::POST, "/v1/orders/import")
        .body(import_text);
    send(import_request.header("content-type", "application/x-ndjson"))
        .await
        .expect(200);
    let customers_by_email = "/v1/customers?email=zebulon@quartermaine.example";
    system.get(customers_by_email).await;
    system.api_key = Some(WRONG_KEY.to_owned());
    system.get("/v1/orders").await.expect(401);
    system.api_key = Some(ADMIN_KEY.to_owned());
    system
        .delete(&format!(
            "/v1/customers/{}",
            customer["id"].as_str().unwrap()
        ))
        .await;
    wait_until("both webhooks", async || receiver.received().len() >= 2).await;
    system.gateway.terminate();
    system.worker.terminate();

    let secret = endpoint["secret"]
        .as_str()
        .unwrap()
        .trim_start_matches("whsec_");
    let mut secrets = vec![
        ADMIN_KEY,
        STOREFRONT_KEY,
        WRONG_KEY,
        secret,
        "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    ];
    let password = password(&system.store.url());
    secrets.extend(password.as_deref());
    for log_name in ["gateway.log", "worker.log"] {
        let log_text = fs::read_to_string(system.folder.join(log_name)).unwrap();
        assert!(log_text.lines().count() > 10, "{log_name} is empty");
        for line in log_text.lines() {
            for forbidden_text in PERSONAL_DATA.iter().chain(&secrets) {
                assert!(
                    !line.contains(forbidden_text),
                    "{log_name} contains {forbidden_text:?}: {line}"
                );
            }
        }
    }
}

/// The password of a database URL, if it is long enough to search for.
fn password(url: &str) -> Option<String> {
    let (credentials, _) = url.split_once("://")?.1.split_once('@')?;
    let (_, password) = credentials.split_once(':')?;
    (password.len() > 3).then(|| password.to_owned())
}
