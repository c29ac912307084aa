//! Every operation of `/v1` that modifies a resource supports `Idempotency-Key` and `If-Match` by the same
//! rules. The operations are read from `/openapi.json`; an operation without a case in [`Systems::case`] fails
//! the test.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    endpoints::ALLOW_PRIVATE_URLS,
    harness::{
        Receiver, Reply, System, has_shipping_label, order_body, order_body_with_method,
        run_script, send, wait_until,
    },
    photos::jpeg,
    retries::orders_with_failing_payments,
};

/// An entity tag that no resource has.
const UNKNOWN_TAG: &str = "\"never\"";

/// A request that succeeds once.
struct TestCase {
    path: String,
    body: Option<Value>,
    /// Path of a resource that a refused request must not change.
    watched_path: Option<String>,
}

impl TestCase {
    fn with_path(path: String) -> Self {
        Self {
            path,
            body: None,
            watched_path: None,
        }
    }

    fn with_body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    fn with_watched_path(self, path: String) -> Self {
        Self {
            watched_path: Some(path),
            ..self
        }
    }
}

struct Systems {
    shop: System,
    receiver: Receiver,
    /// A system with a step that failed and waits for its retry.
    failing_system: System,
    failed_step_id: String,
    dead_message_ids: Vec<String>,
}

impl Systems {
    async fn start() -> Self {
        let shop = System::start_with(&[
            ALLOW_PRIVATE_URLS,
            ("ORDER_APPROVAL", "manual"),
            // No mail server: messages wait, or are not to be sent.
            ("SMTP_URL", "smtp://127.0.0.1:9"),
            ("MAIL_FROM", "orders@shop.example"),
        ])
        .await;
        shop.create_product_with_stock("A", &[("main", 1000)]).await;
        let (failing_system, _, ids) = orders_with_failing_payments(1).await;
        wait_until("a failed step", async || {
            let retries = failing_system.get("/v1/retries").await.expect(200);
            !retries["data"].as_array().unwrap().is_empty()
        })
        .await;
        for _ in 0..3 {
            run_script("foreign.py", &["reject", &shop.broker.url(), "-"]);
        }
        let mut dead_message_ids = Vec::new();
        wait_until("three dead-lettered messages", async || {
            let dead_letters = shop.get("/v1/dead-letters").await.expect(200);
            let dead_letters = dead_letters["data"].as_array().unwrap().iter();
            dead_message_ids = dead_letters
                .map(|dead_letter| dead_letter["id"].as_str().unwrap().to_owned())
                .collect();
            dead_message_ids.len() >= 3
        })
        .await;
        Self {
            shop,
            receiver: Receiver::start().await,
            failing_system,
            failed_step_id: format!("{}:authorize_payment", ids[0]),
            dead_message_ids,
        }
    }

    /// The system to which requests for `path` are sent.
    fn system(&self, path: &str) -> &System {
        if path.starts_with("/v1/retries/") {
            &self.failing_system
        } else {
            &self.shop
        }
    }

    async fn create_order(&self) -> String {
        let customer_id = self.shop.create_customer().await;
        let order_reply = self
            .shop
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    }

    /// The path of a message that was not sent, because the customer is blocked.
    async fn unsent_message_path(&self) -> String {
        let id = self.create_order().await;
        let order = self.shop.get(&format!("/v1/orders/{id}")).await.expect(200);
        let customer_id = order["customer_id"].as_str().unwrap();
        let block_path = format!("/v1/customers/{customer_id}/block");
        self.shop.post(&block_path, json!({})).await.expect(200);
        let approve_path = format!("/v1/orders/{id}/approve");
        self.shop.post(&approve_path, json!({})).await.expect(200);
        let path = format!("/v1/orders/{id}/messages");
        wait_until("a message that is not sent", async || {
            let page = self.shop.get(&path).await.expect(200);
            page["data"][0]["status"] == "not_sent"
        })
        .await;
        let page = self.shop.get(&path).await.expect(200);
        format!("{path}/{}", page["data"][0]["id"].as_str().unwrap())
    }

    async fn announced_order(&self) -> String {
        let id = self.create_order().await;
        let approve_path = format!("/v1/orders/{id}/approve");
        self.shop.post(&approve_path, json!({})).await.expect(200);
        self.shop
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
        id
    }

    /// Creates an order with a shipping label and returns the ids of the order and its shipment.
    async fn labelled_order_and_shipment_ids(&self) -> (String, String) {
        let id = self.announced_order().await;
        let order = self.shop.get(&format!("/v1/orders/{id}")).await.expect(200);
        let shipment_id = order["shipments"][0]["id"].as_str().unwrap().to_owned();
        (id, shipment_id)
    }

    /// Creates an order of two units, one of which is shipped.
    async fn partly_shipped_order(&self) -> String {
        let customer_id = self.shop.create_customer().await;
        let order_reply = self
            .shop
            .post("/v1/orders", order_body(&customer_id, "A", 2))
            .await;
        let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
        let approve_path = format!("/v1/orders/{id}/approve");
        self.shop.post(&approve_path, json!({})).await.expect(200);
        self.shop
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
        let shipments_path = format!("/v1/orders/{id}/shipments");
        let shipment_of_one_unit = json!({"items": [{"sku": "A", "quantity": 1}]});
        self.shop
            .post(&shipments_path, shipment_of_one_unit)
            .await
            .expect(201);
        let is_settled =
            |order: &Value| order["in_progress"].is_null() && order["payment"]["captured"] == 1000;
        self.shop.wait_for_order(&id, "settled", is_settled).await;
        id
    }

    async fn captured_order(&self) -> String {
        let id = self.announced_order().await;
        let shipments_path = format!("/v1/orders/{id}/shipments");
        self.shop.post(&shipments_path, json!({})).await.expect(201);
        let is_captured = |order: &Value| order["payment"]["status"] == "captured";
        self.shop.wait_for_order(&id, "captured", is_captured).await;
        id
    }

    /// Requests a return of a new order; returns its path.
    async fn requested_return_path(&self) -> String {
        let path = format!("/v1/orders/{}/returns", self.captured_order().await);
        let return_body = json!({"items": [{"sku": "A", "quantity": 1}]});
        let requested_return = self.shop.post(&path, return_body).await.expect(201);
        format!("/v1/returns/{}", requested_return["id"].as_str().unwrap())
    }

    async fn new_endpoint_path(&self) -> String {
        let url = self.receiver.url("/hook");
        let (id, _) = self.shop.create_endpoint(&url, &["product.*"]).await;
        format!("/v1/webhook-endpoints/{id}")
    }

    async fn delivery_path(&self) -> String {
        let (endpoint, _) = self
            .shop
            .create_endpoint(&self.receiver.url("/hook"), &["product.*"])
            .await;
        self.shop.create_product_with_stock("D", &[]).await;
        let delivery = self
            .shop
            .wait_for_delivery(&endpoint, |delivery| delivery["status"] == "succeeded")
            .await;
        let id = delivery["id"].as_str().unwrap();
        format!("/v1/webhook-endpoints/{endpoint}/deliveries/{id}")
    }

    /// A valid request of this operation; creates everything that it needs.
    #[expect(clippy::too_many_lines, reason = "one row for each operation")]
    async fn case(&self, operation: &str) -> TestCase {
        let order_case = |id: &str, subpath: &str| {
            let path = format!("/v1/orders/{id}");
            TestCase::with_path(format!("{path}{subpath}")).with_watched_path(path)
        };
        let customer_case = async |subpath: &str| {
            let path = format!("/v1/customers/{}", self.shop.create_customer().await);
            TestCase::with_path(format!("{path}{subpath}")).with_watched_path(path)
        };
        let product_case = |subpath: &str| {
            TestCase::with_path(format!("/v1/products/A{subpath}"))
                .with_watched_path("/v1/products/A".to_owned())
        };
        let dead_letter_case = |message_index: usize, subpath: &str| {
            TestCase::with_path(format!(
                "/v1/dead-letters/{}{subpath}",
                self.dead_message_ids[message_index]
            ))
        };
        match operation {
            "POST /v1/orders" => {
                let order = order_body(&self.shop.create_customer().await, "A", 1);
                TestCase::with_path("/v1/orders".to_owned()).with_body(order)
            }
            "POST /v1/orders/import" => {
                let mut line = order_body(&self.shop.create_customer().await, "A", 1);
                line["external_id"] = json!("one-line");
                TestCase::with_path("/v1/orders/import".to_owned()).with_body(line)
            }
            "POST /v1/orders/approve" => {
                TestCase::with_path("/v1/orders/approve".to_owned()).with_body(json!({"all": true}))
            }
            "POST /v1/orders/{id}/approve" => order_case(&self.create_order().await, "/approve"),
            "POST /v1/orders/{id}/reject" => order_case(&self.create_order().await, "/reject"),
            "POST /v1/orders/{id}/cancel" => order_case(&self.create_order().await, "/cancel"),
            "PATCH /v1/orders/{id}" => {
                let patch = json!({"note": "call first", "tags": ["vip"]});
                order_case(&self.create_order().await, "").with_body(patch)
            }
            "DELETE /v1/orders/{id}" => order_case(&self.create_order().await, ""),
            "POST /v1/orders/{id}/restore" => {
                let id = self.create_order().await;
                let delete_reply = self.shop.delete(&format!("/v1/orders/{id}")).await;
                assert_eq!(delete_reply.status, 204);
                TestCase::with_path(format!("/v1/orders/{id}/restore"))
            }
            "POST /v1/orders/{id}/shipments" => {
                order_case(&self.announced_order().await, "/shipments")
            }
            "POST /v1/orders/{id}/shipments/{shipment_id}/events" => {
                let (id, shipment_id) = self.labelled_order_and_shipment_ids().await;
                order_case(&id, &format!("/shipments/{shipment_id}/events"))
                    .with_body(json!({"type": "shipment.shipped"}))
            }
            "POST /v1/orders/{id}/shipments/{shipment_id}/cancel" => {
                let (id, shipment_id) = self.labelled_order_and_shipment_ids().await;
                order_case(&id, &format!("/shipments/{shipment_id}/cancel"))
            }
            "POST /v1/orders/{id}/cancel-remaining" => {
                order_case(&self.partly_shipped_order().await, "/cancel-remaining")
            }
            "POST /v1/orders/{id}/edit" => order_case(&self.announced_order().await, "/edit")
                .with_body(json!({"discounts": [{"label": "x", "amount": 1}]})),
            "POST /v1/orders/{id}/edit/cancel" => {
                let id = self.announced_order().await;
                let pending_edit_body =
                    json!({"shipping": {"label": "x", "amount": 1}, "payment_method": "pm_slow"});
                let edit_reply = self
                    .shop
                    .post(&format!("/v1/orders/{id}/edit"), pending_edit_body)
                    .await;
                edit_reply.expect(202);
                order_case(&id, "/edit/cancel")
            }
            "POST /v1/orders/{id}/payments" => {
                let customer_id = self.shop.create_customer().await;
                let order = order_body_with_method(&customer_id, "A", 1, "manual");
                let created_order = self.shop.post("/v1/orders", order).await.expect(201);
                order_case(created_order["id"].as_str().unwrap(), "/payments")
                    .with_body(json!({"amount": 400}))
            }
            "POST /v1/orders/{id}/refunds" => order_case(&self.captured_order().await, "/refunds"),
            "POST /v1/orders/{id}/returns" => order_case(&self.captured_order().await, "/returns")
                .with_body(json!({"items": [{"sku": "A", "quantity": 1}]})),
            "POST /v1/returns/{id}/approve"
            | "POST /v1/returns/{id}/reject"
            | "POST /v1/returns/{id}/cancel" => {
                let path = self.requested_return_path().await;
                let verb = operation.rsplit('/').next().unwrap();
                TestCase::with_path(format!("{path}/{verb}")).with_watched_path(path)
            }
            "POST /v1/returns/{id}/receive" => {
                let path = self.requested_return_path().await;
                let approve_path = format!("{path}/approve");
                self.shop.post(&approve_path, json!({})).await.expect(200);
                let items = json!([{"sku": "A", "quantity": 1, "restock": true}]);
                TestCase::with_path(format!("{path}/receive"))
                    .with_body(json!({ "items": items }))
                    .with_watched_path(path)
            }
            "POST /v1/products" => TestCase::with_path("/v1/products".to_owned())
                .with_body(json!({"sku": "NEW", "name": "New", "price": 1, "currency": "EUR"})),
            "PUT /v1/products/{sku}" => product_case("").with_body(json!({"price": 1100})),
            "PATCH /v1/products/{sku}" => product_case("").with_body(json!({"price": 1200})),
            "DELETE /v1/products/{sku}" => {
                self.shop.create_product_with_stock("OLD", &[]).await;
                TestCase::with_path("/v1/products/OLD".to_owned())
                    .with_watched_path("/v1/products/OLD".to_owned())
            }
            "POST /v1/products/{sku}/images" => product_case("/images"),
            "PUT /v1/products/{sku}/images" => {
                self.shop.create_product_with_stock("B", &[]).await;
                let first_photo = self.shop.add_photo("B").await;
                let second_photo = self.shop.add_photo("B").await;
                TestCase::with_path("/v1/products/B/images".to_owned())
                    .with_body(json!({"ids": [second_photo["id"], first_photo["id"]]}))
                    .with_watched_path("/v1/products/B".to_owned())
            }
            "DELETE /v1/products/{sku}/images/{id}" => {
                let photo = self.shop.add_photo("A").await;
                product_case(&format!("/images/{}", photo["id"].as_str().unwrap()))
            }
            "PUT /v1/products/{sku}/stock/{warehouse}" => {
                product_case("/stock/main").with_body(json!({"on_hand": 900}))
            }
            "DELETE /v1/products/{sku}/stock/{warehouse}" => {
                let mistyped_path = "/v1/products/A/stock/mian";
                let stock_reply = self.shop.put(mistyped_path, json!({"on_hand": 0})).await;
                stock_reply.expect(200);
                product_case("/stock/mian")
            }
            "POST /v1/products/{sku}/stock/{warehouse}/adjustments" => {
                product_case("/stock/main/adjustments")
                    .with_body(json!({"delta": -1, "reason": "broken"}))
            }
            "POST /v1/customers" => TestCase::with_path("/v1/customers".to_owned())
                .with_body(json!({"name": "Ada", "email": "ada@example.com"})),
            "PATCH /v1/customers/{id}" => customer_case("")
                .await
                .with_body(json!({"name": "Ada King"})),
            "DELETE /v1/customers/{id}" => customer_case("").await,
            "POST /v1/customers/{id}/block" => customer_case("/block").await,
            "POST /v1/customers/{id}/unblock" => customer_case("/unblock").await,
            "POST /v1/customers/{id}/verify" => customer_case("/verify").await,
            "POST /v1/webhook-endpoints" => TestCase::with_path("/v1/webhook-endpoints".to_owned())
                .with_body(json!({"url": self.receiver.url("/other")})),
            "PATCH /v1/webhook-endpoints/{id}" => {
                let path = self.new_endpoint_path().await;
                let body = json!({"description": "ours"});
                TestCase::with_path(path.clone())
                    .with_body(body)
                    .with_watched_path(path)
            }
            "DELETE /v1/webhook-endpoints/{id}" => {
                let path = self.new_endpoint_path().await;
                TestCase::with_path(path.clone()).with_watched_path(path)
            }
            "POST /v1/webhook-endpoints/{id}/rotate-secret" => {
                let path = self.new_endpoint_path().await;
                TestCase::with_path(format!("{path}/rotate-secret")).with_watched_path(path)
            }
            "POST /v1/webhook-endpoints/{id}/deliveries/{delivery_id}/redeliver" => {
                TestCase::with_path(format!("{}/redeliver", self.delivery_path().await))
            }
            "POST /v1/api-keys" => TestCase::with_path("/v1/api-keys".to_owned())
                .with_body(json!({"name": "shop", "role": "storefront", "storefront": "eu"})),
            "DELETE /v1/api-keys/{id}" => {
                let body = json!({"name": "office", "role": "operator"});
                let created_key = self.shop.post("/v1/api-keys", body).await.expect(201);
                let path = format!("/v1/api-keys/{}", created_key["id"].as_str().unwrap());
                TestCase::with_path(path.clone()).with_watched_path(path)
            }
            "POST /v1/orders/{id}/messages/{message_id}/resend" => {
                TestCase::with_path(format!("{}/resend", self.unsent_message_path().await))
            }
            "POST /v1/dead-letters/redrive" => {
                // The redrive of messages is tested by another operation.
                TestCase::with_path("/v1/dead-letters/redrive".to_owned())
                    .with_body(json!({"all": true, "step": "void_payment"}))
            }
            "POST /v1/dead-letters/{id}/redrive" => dead_letter_case(0, "/redrive"),
            "POST /v1/dead-letters/{id}/discard" => dead_letter_case(1, "/discard"),
            "DELETE /v1/dead-letters/{id}" => dead_letter_case(2, ""),
            "POST /v1/retries/redrive" => TestCase::with_path("/v1/retries/redrive".to_owned())
                .with_body(json!({"all": true})),
            "POST /v1/retries/{id}/redrive" => {
                TestCase::with_path(format!("/v1/retries/{}/redrive", self.failed_step_id))
            }
            unknown_operation => panic!(
                "{unknown_operation} is a new operation: add a case, so that its Idempotency-Key and If-Match are tested"
            ),
        }
    }
}

fn is_import(test_case: &TestCase) -> bool {
    test_case.path == "/v1/orders/import"
}

fn with_body(request: RequestBuilder, test_case: &TestCase) -> RequestBuilder {
    match &test_case.body {
        Some(line) if is_import(test_case) => request
            .header("content-type", "application/x-ndjson")
            .body(line.to_string()),
        Some(body) => request.json(body),
        None if test_case.path.ends_with("/images") => {
            request.header("content-type", "image/jpeg").body(jpeg())
        }
        None => request,
    }
}

#[tokio::test]
async fn every_modifying_operation_honours_idempotency_key_and_if_match() {
    let systems = Systems::start().await;
    let document = systems.shop.get("/openapi.json").await.expect(200);
    let mut tested_operations = 0;
    for (path, path_item) in document["paths"].as_object().unwrap() {
        // Incoming webhooks have ids of their own instead of idempotency keys.
        if !path.starts_with("/v1/") {
            continue;
        }
        for method_name in ["post", "put", "patch", "delete"] {
            let Some(operation_document) = path_item.get(method_name) else {
                continue;
            };
            let operation = format!("{} {path}", method_name.to_uppercase());
            let test_case = systems.case(&operation).await;
            let method = Method::from_bytes(method_name.to_uppercase().as_bytes()).unwrap();
            check_described(&operation, operation_document);
            check_operation(
                systems.system(&test_case.path),
                &operation,
                method,
                &test_case,
                operation_document,
            )
            .await;
            tested_operations += 1;
        }
    }
    assert!(tested_operations > 30, "{tested_operations}");
}

fn check_described(operation: &str, operation_document: &Value) {
    let parameter_names: Vec<_> = operation_document["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    for header_name in ["Idempotency-Key", "If-Match"] {
        assert!(
            parameter_names.contains(&header_name),
            "{operation} does not describe {header_name}"
        );
    }
    assert!(
        operation_document["responses"]["412"].is_object(),
        "{operation}"
    );
}

async fn check_operation(
    system: &System,
    operation: &str,
    method: Method,
    test_case: &TestCase,
    operation_document: &Value,
) {
    let build_request = || with_body(system.request(method.clone(), &test_case.path), test_case);
    let watched_state = async || match &test_case.watched_path {
        Some(path) => system.get(path).await.body,
        None => Value::Null,
    };
    let state_before = watched_state().await;
    let assert_refused = |reply: Reply, status: u16, code: &str| {
        assert_eq!(reply.status, status, "{operation}: {}", reply.body);
        assert_eq!(reply.body["code"], code, "{operation}");
    };
    assert_refused(
        send(build_request().header("if-match", UNKNOWN_TAG)).await,
        412,
        "VERSION_MISMATCH",
    );
    assert_refused(
        send(build_request().header("if-match", "\"1")).await,
        400,
        "INVALID_REQUEST",
    );
    let request_with_duplicate_header = build_request()
        .header("idempotency-key", "a")
        .header("idempotency-key", "b");
    assert_refused(
        send(request_with_duplicate_header).await,
        400,
        "INVALID_REQUEST",
    );
    let path = format!("{}?surprise=1", test_case.path);
    let request_with_parameter = with_body(system.request(method.clone(), &path), test_case);
    assert_refused(send(request_with_parameter).await, 422, "INVALID_REQUEST");
    if operation_document["requestBody"].is_null() {
        let request_with_field = system
            .request(method.clone(), &test_case.path)
            .json(&json!({"surprise": 1}));
        assert_refused(send(request_with_field).await, 422, "INVALID_REQUEST");
    }
    let compressed_request = system
        .request(method.clone(), &test_case.path)
        .header("content-encoding", "gzip")
        .body(vec![0x1f, 0x8b]);
    assert_refused(send(compressed_request).await, 415, "INVALID_REQUEST");
    assert_eq!(
        watched_state().await,
        state_before,
        "{operation} changed something"
    );

    let build_keyed_request = || {
        build_request()
            .header("if-match", "*")
            .header("idempotency-key", operation.replace(' ', "-"))
    };
    let first_reply = send(build_keyed_request()).await;
    assert!(
        (200..300).contains(&first_reply.status),
        "{operation}: {} {}",
        first_reply.status,
        first_reply.body
    );
    assert!(
        !first_reply.headers.contains_key("idempotent-replayed"),
        "{operation}"
    );
    let repeated_reply = send(build_keyed_request()).await;
    assert_eq!(
        repeated_reply.status, first_reply.status,
        "{operation}: {}",
        repeated_reply.body
    );
    // An import has no replay as a whole: each line is idempotent.
    if is_import(test_case) {
        assert_eq!(first_reply.body["accepted"], 1);
        return;
    }
    assert_eq!(repeated_reply.body, first_reply.body, "{operation}");
    assert_eq!(
        repeated_reply.headers["idempotent-replayed"], "true",
        "{operation}"
    );
    // `If-Match` is part of the request: without it, the same key is a conflict.
    let request_without_if_match =
        build_request().header("idempotency-key", operation.replace(' ', "-"));
    assert_refused(
        send(request_without_if_match).await,
        422,
        "IDEMPOTENCY_CONFLICT",
    );
}
