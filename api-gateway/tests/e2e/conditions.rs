//! Every operation of `/v1` that modifies a resource supports `Idempotency-Key` and `If-Match` by the same
//! rules. The operations are read from `/openapi.json`; an operation without a case in [`Systems::case`] fails
//! the test.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    endpoints::OPEN,
    harness::{Receiver, Reply, System, is_announced, order, python, send, until},
    retries::orders_with_failing_payments,
};

/// An entity tag that no resource has.
const UNKNOWN_TAG: &str = "\"never\"";

/// A request that succeeds once.
struct Case {
    path: String,
    body: Option<Value>,
    /// Path of a resource that a refused request must not change.
    watched: Option<String>,
}

impl Case {
    fn of(path: String) -> Self {
        Self {
            path,
            body: None,
            watched: None,
        }
    }

    fn with(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    fn watching(self, path: String) -> Self {
        Self {
            watched: Some(path),
            ..self
        }
    }
}

struct Systems {
    shop: System,
    receiver: Receiver,
    /// A system with a step that failed and waits for its retry.
    failing: System,
    failed_step: String,
    dead_messages: Vec<String>,
}

impl Systems {
    async fn start() -> Self {
        let shop = System::start_with(&[OPEN, ("ORDER_APPROVAL", "manual")]).await;
        shop.stock("A", &[("main", 1000)]).await;
        let (failing, _, ids) = orders_with_failing_payments(1).await;
        until("a failed step", async || {
            let retries = failing.get("/v1/retries").await.expect(200);
            !retries["data"].as_array().unwrap().is_empty()
        })
        .await;
        for _ in 0..3 {
            python("foreign.py", &["reject", &shop.broker.url(), "-"]);
        }
        let mut dead_messages = Vec::new();
        until("three dead-lettered messages", async || {
            let letters = shop.get("/v1/dead-letters").await.expect(200);
            let ids = letters["data"].as_array().unwrap().iter();
            dead_messages = ids
                .map(|letter| letter["id"].as_str().unwrap().to_owned())
                .collect();
            dead_messages.len() >= 3
        })
        .await;
        Self {
            shop,
            receiver: Receiver::start().await,
            failing,
            failed_step: format!("{}:authorize_payment", ids[0]),
            dead_messages,
        }
    }

    /// The system to which requests for `path` are sent.
    fn system(&self, path: &str) -> &System {
        if path.starts_with("/v1/retries/") {
            &self.failing
        } else {
            &self.shop
        }
    }

    async fn order(&self) -> String {
        let customer = self.shop.customer().await;
        let created = self.shop.post("/v1/orders", order(&customer, "A", 1)).await;
        created.expect(201)["id"].as_str().unwrap().to_owned()
    }

    async fn announced_order(&self) -> String {
        let id = self.order().await;
        let approve = format!("/v1/orders/{id}/approve");
        self.shop.post(&approve, json!({})).await.expect(200);
        self.shop.order_until(&id, "announced", is_announced).await;
        id
    }

    /// Creates an order with a shipping label and returns it with its shipment.
    async fn order_with_label(&self) -> (String, String) {
        let id = self.announced_order().await;
        let order = self.shop.get(&format!("/v1/orders/{id}")).await.expect(200);
        let shipment = order["shipments"][0]["id"].as_str().unwrap().to_owned();
        (id, shipment)
    }

    /// Creates an order of two units, one of which is shipped.
    async fn partly_shipped_order(&self) -> String {
        let customer = self.shop.customer().await;
        let created = self.shop.post("/v1/orders", order(&customer, "A", 2)).await;
        let id = created.expect(201)["id"].as_str().unwrap().to_owned();
        let approve = format!("/v1/orders/{id}/approve");
        self.shop.post(&approve, json!({})).await.expect(200);
        self.shop.order_until(&id, "announced", is_announced).await;
        let ship = format!("/v1/orders/{id}/shipments");
        let one = json!({"items": [{"sku": "A", "quantity": 1}]});
        self.shop.post(&ship, one).await.expect(201);
        let is_settled =
            |order: &Value| order["in_progress"].is_null() && order["payment"]["captured"] == 1000;
        self.shop.order_until(&id, "settled", is_settled).await;
        id
    }

    async fn captured_order(&self) -> String {
        let id = self.announced_order().await;
        let ship = format!("/v1/orders/{id}/shipments");
        self.shop.post(&ship, json!({})).await.expect(201);
        let is_captured = |order: &Value| order["payment"]["status"] == "captured";
        self.shop.order_until(&id, "captured", is_captured).await;
        id
    }

    async fn endpoint(&self) -> String {
        let url = self.receiver.url("/hook");
        let (id, _) = self.shop.endpoint(&url, &["product.*"]).await;
        format!("/v1/webhook-endpoints/{id}")
    }

    async fn delivery(&self) -> String {
        let (endpoint, _) = self
            .shop
            .endpoint(&self.receiver.url("/hook"), &["product.*"])
            .await;
        self.shop.stock("D", &[]).await;
        let delivery = self
            .shop
            .delivery_until(&endpoint, |delivery| delivery["status"] == "succeeded")
            .await;
        let id = delivery["id"].as_str().unwrap();
        format!("/v1/webhook-endpoints/{endpoint}/deliveries/{id}")
    }

    /// A valid request of this operation; creates everything that it needs.
    #[expect(clippy::too_many_lines, reason = "one row for each operation")]
    async fn case(&self, operation: &str) -> Case {
        let of_order = |id: &str, what: &str| {
            let path = format!("/v1/orders/{id}");
            Case::of(format!("{path}{what}")).watching(path)
        };
        let of_customer = async |what: &str| {
            let path = format!("/v1/customers/{}", self.shop.customer().await);
            Case::of(format!("{path}{what}")).watching(path)
        };
        let of_product = |what: &str| {
            Case::of(format!("/v1/products/A{what}")).watching("/v1/products/A".to_owned())
        };
        let dead_message = |n: usize, what: &str| {
            Case::of(format!("/v1/dead-letters/{}{what}", self.dead_messages[n]))
        };
        match operation {
            "POST /v1/orders" => {
                let order = order(&self.shop.customer().await, "A", 1);
                Case::of("/v1/orders".to_owned()).with(order)
            }
            "POST /v1/orders/import" => {
                let mut line = order(&self.shop.customer().await, "A", 1);
                line["external_id"] = json!("one-line");
                Case::of("/v1/orders/import".to_owned()).with(line)
            }
            "POST /v1/orders/approve" => {
                Case::of("/v1/orders/approve".to_owned()).with(json!({"all": true}))
            }
            "POST /v1/orders/{id}/approve" => of_order(&self.order().await, "/approve"),
            "POST /v1/orders/{id}/reject" => of_order(&self.order().await, "/reject"),
            "POST /v1/orders/{id}/cancel" => of_order(&self.order().await, "/cancel"),
            "DELETE /v1/orders/{id}" => of_order(&self.order().await, ""),
            "POST /v1/orders/{id}/restore" => {
                let id = self.order().await;
                let deleted = self.shop.delete(&format!("/v1/orders/{id}")).await;
                assert_eq!(deleted.status, 204);
                Case::of(format!("/v1/orders/{id}/restore"))
            }
            "POST /v1/orders/{id}/shipments" => {
                of_order(&self.announced_order().await, "/shipments")
            }
            "POST /v1/orders/{id}/shipments/{shipment_id}/events" => {
                let (id, shipment) = self.order_with_label().await;
                of_order(&id, &format!("/shipments/{shipment}/events"))
                    .with(json!({"type": "shipment.shipped"}))
            }
            "POST /v1/orders/{id}/shipments/{shipment_id}/cancel" => {
                let (id, shipment) = self.order_with_label().await;
                of_order(&id, &format!("/shipments/{shipment}/cancel"))
            }
            "POST /v1/orders/{id}/cancel-remaining" => {
                of_order(&self.partly_shipped_order().await, "/cancel-remaining")
            }
            "POST /v1/orders/{id}/refunds" => of_order(&self.captured_order().await, "/refunds"),
            "POST /v1/products" => Case::of("/v1/products".to_owned())
                .with(json!({"sku": "NEW", "name": "New", "price": 1, "currency": "EUR"})),
            "PUT /v1/products/{sku}" => of_product("").with(json!({"price": 1100})),
            "PATCH /v1/products/{sku}" => of_product("").with(json!({"price": 1200})),
            "DELETE /v1/products/{sku}" => {
                self.shop.stock("OLD", &[]).await;
                Case::of("/v1/products/OLD".to_owned()).watching("/v1/products/OLD".to_owned())
            }
            "PUT /v1/products/{sku}/stock/{warehouse}" => {
                of_product("/stock/main").with(json!({"on_hand": 900}))
            }
            "DELETE /v1/products/{sku}/stock/{warehouse}" => {
                let mistyped = "/v1/products/A/stock/mian";
                let counted = self.shop.put(mistyped, json!({"on_hand": 0})).await;
                counted.expect(200);
                of_product("/stock/mian")
            }
            "POST /v1/products/{sku}/stock/{warehouse}/adjustments" => {
                of_product("/stock/main/adjustments").with(json!({"delta": -1, "reason": "broken"}))
            }
            "POST /v1/customers" => Case::of("/v1/customers".to_owned())
                .with(json!({"name": "Ada", "email": "ada@example.com"})),
            "DELETE /v1/customers/{id}" => of_customer("").await,
            "POST /v1/customers/{id}/block" => of_customer("/block").await,
            "POST /v1/customers/{id}/unblock" => of_customer("/unblock").await,
            "POST /v1/customers/{id}/verify" => of_customer("/verify").await,
            "POST /v1/webhook-endpoints" => Case::of("/v1/webhook-endpoints".to_owned())
                .with(json!({"url": self.receiver.url("/other")})),
            "PATCH /v1/webhook-endpoints/{id}" => {
                let path = self.endpoint().await;
                let body = json!({"description": "ours"});
                Case::of(path.clone()).with(body).watching(path)
            }
            "DELETE /v1/webhook-endpoints/{id}" => {
                let path = self.endpoint().await;
                Case::of(path.clone()).watching(path)
            }
            "POST /v1/webhook-endpoints/{id}/rotate-secret" => {
                let path = self.endpoint().await;
                Case::of(format!("{path}/rotate-secret")).watching(path)
            }
            "POST /v1/webhook-endpoints/{id}/deliveries/{delivery_id}/redeliver" => {
                Case::of(format!("{}/redeliver", self.delivery().await))
            }
            "POST /v1/dead-letters/redrive" => {
                // The redrive of messages is tested by another operation.
                Case::of("/v1/dead-letters/redrive".to_owned())
                    .with(json!({"all": true, "step": "void_payment"}))
            }
            "POST /v1/dead-letters/{id}/redrive" => dead_message(0, "/redrive"),
            "POST /v1/dead-letters/{id}/discard" => dead_message(1, "/discard"),
            "DELETE /v1/dead-letters/{id}" => dead_message(2, ""),
            "POST /v1/retries/redrive" => {
                Case::of("/v1/retries/redrive".to_owned()).with(json!({"all": true}))
            }
            "POST /v1/retries/{id}/redrive" => {
                Case::of(format!("/v1/retries/{}/redrive", self.failed_step))
            }
            unknown => panic!(
                "{unknown} is a new operation: add a case, so that its Idempotency-Key and If-Match are tested"
            ),
        }
    }
}

fn is_import(case: &Case) -> bool {
    case.path == "/v1/orders/import"
}

fn with_body(request: RequestBuilder, case: &Case) -> RequestBuilder {
    match &case.body {
        Some(line) if is_import(case) => request
            .header("content-type", "application/x-ndjson")
            .body(line.to_string()),
        Some(body) => request.json(body),
        None => request,
    }
}

#[tokio::test]
async fn every_modifying_operation_honours_idempotency_key_and_if_match() {
    let systems = Systems::start().await;
    let document = systems.shop.get("/openapi.json").await.expect(200);
    let mut tested = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        // Incoming webhooks have ids of their own instead of idempotency keys.
        if !path.starts_with("/v1/") {
            continue;
        }
        for method in ["post", "put", "patch", "delete"] {
            let Some(described) = item.get(method) else {
                continue;
            };
            let operation = format!("{} {path}", method.to_uppercase());
            let case = systems.case(&operation).await;
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            check_described(&operation, described);
            check(
                systems.system(&case.path),
                &operation,
                method,
                &case,
                described,
            )
            .await;
            tested += 1;
        }
    }
    assert!(tested > 30, "{tested}");
}

fn check_described(operation: &str, described: &Value) {
    let named: Vec<_> = described["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    for header in ["Idempotency-Key", "If-Match"] {
        assert!(
            named.contains(&header),
            "{operation} does not describe {header}"
        );
    }
    assert!(described["responses"]["412"].is_object(), "{operation}");
}

async fn check(system: &System, operation: &str, method: Method, case: &Case, described: &Value) {
    let ask = || with_body(system.request(method.clone(), &case.path), case);
    let watch = async || match &case.watched {
        Some(path) => system.get(path).await.body,
        None => Value::Null,
    };
    let before = watch().await;
    let is_refused = |reply: Reply, status: u16, code: &str| {
        assert_eq!(reply.status, status, "{operation}: {}", reply.body);
        assert_eq!(reply.body["code"], code, "{operation}");
    };
    is_refused(
        send(ask().header("if-match", UNKNOWN_TAG)).await,
        412,
        "VERSION_MISMATCH",
    );
    is_refused(
        send(ask().header("if-match", "\"1")).await,
        400,
        "INVALID_REQUEST",
    );
    let twice = ask()
        .header("idempotency-key", "a")
        .header("idempotency-key", "b");
    is_refused(send(twice).await, 400, "INVALID_REQUEST");
    let path = format!("{}?surprise=1", case.path);
    let with_parameter = with_body(system.request(method.clone(), &path), case);
    is_refused(send(with_parameter).await, 422, "INVALID_REQUEST");
    if described["requestBody"].is_null() {
        let with_field = system
            .request(method.clone(), &case.path)
            .json(&json!({"surprise": 1}));
        is_refused(send(with_field).await, 422, "INVALID_REQUEST");
    }
    let compressed = system
        .request(method.clone(), &case.path)
        .header("content-encoding", "gzip")
        .body(vec![0x1f, 0x8b]);
    is_refused(send(compressed).await, 415, "INVALID_REQUEST");
    assert_eq!(watch().await, before, "{operation} changed something");

    let key = || {
        ask()
            .header("if-match", "*")
            .header("idempotency-key", operation.replace(' ', "-"))
    };
    let first = send(key()).await;
    assert!(
        (200..300).contains(&first.status),
        "{operation}: {} {}",
        first.status,
        first.body
    );
    assert!(
        !first.headers.contains_key("idempotent-replayed"),
        "{operation}"
    );
    let again = send(key()).await;
    assert_eq!(again.status, first.status, "{operation}: {}", again.body);
    // An import has no replay as a whole: each line is idempotent.
    if is_import(case) {
        assert_eq!(first.body["accepted"], 1);
        return;
    }
    assert_eq!(again.body, first.body, "{operation}");
    assert_eq!(again.headers["idempotent-replayed"], "true", "{operation}");
    // `If-Match` is part of the request: without it, the same key is a conflict.
    let another = ask().header("idempotency-key", operation.replace(' ', "-"));
    is_refused(send(another).await, 422, "IDEMPOTENCY_CONFLICT");
}
