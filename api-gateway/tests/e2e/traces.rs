//! Traces, as received by an OTLP receiver.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{PythonProgram, System, TestFolder, send, wait_until};

/// The trace id of a client.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN_ID: &str = "00f067aa0ba902b7";

pub(crate) struct OtlpReceiver(PythonProgram);

impl OtlpReceiver {
    pub(crate) fn start(folder: &TestFolder) -> Self {
        let log = folder.join("spans.log");
        Self(PythonProgram::start("otlp_receiver.py", &[], log))
    }

    pub(crate) async fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port().await)
    }

    /// All received spans, by start time.
    fn spans(&self) -> Vec<Value> {
        let printed_lines = self.0.printed_text();
        let lines = printed_lines.lines().skip(1);
        let mut spans: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{printed_lines}")))
            .collect();
        spans.sort_by_key(|span| span["start"].as_u64());
        spans
    }

    pub(crate) fn spans_of_trace(&self, trace_id: &str) -> Vec<Value> {
        let mut spans = self.spans();
        spans.retain(|span| span["trace"] == trace_id);
        spans
    }
}

/// Starts a system that exports its spans without delay.
async fn start() -> (OtlpReceiver, System) {
    let folder = TestFolder::new();
    let receiver = OtlpReceiver::start(&folder);
    let endpoint = receiver.endpoint().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let system = System::start_in_folder(folder, &variables).await;
    (receiver, system)
}

/// Creates an order with these headers and returns its id.
pub(crate) async fn create_order(
    system: &System,
    headers: &[(&str, &str)],
    other_fields: Value,
) -> String {
    let mut body = json!({"customer_id": system.create_customer().await, "items": [{"sku": "mug", "quantity": 1}]});
    body.as_object_mut()
        .unwrap()
        .extend(other_fields.as_object().unwrap().clone());
    let mut request = system.request(Method::POST, "/v1/orders").json(&body);
    for (header_name, header_value) in headers {
        request = request.header(*header_name, *header_value);
    }
    let reply = send(request).await;
    assert!(matches!(reply.status, 201 | 202), "{reply:?}");
    let location_header = reply.headers["location"].to_str().unwrap();
    location_header.rsplit('/').next().unwrap().to_owned()
}

pub(crate) fn span_names(spans: &[Value]) -> Vec<String> {
    let name = |span: &Value| {
        let (service_name, name) = (&span["service"], &span["name"]);
        format!(
            "{} {}",
            service_name.as_str().unwrap(),
            name.as_str().unwrap()
        )
    };
    spans.iter().map(name).collect()
}

#[tokio::test]
async fn one_trace_covers_an_order_from_request_to_last_step() {
    let (receiver, mut system) = start().await;
    system
        .create_product_with_stock("mug", &[("berlin", 9)])
        .await;
    let traceparent = format!("00-{TRACE_ID}-{CLIENT_SPAN_ID}-01");
    let headers = [
        ("traceparent", traceparent.as_str()),
        ("x-request-id", "my-request"),
    ];
    let id = create_order(&system, &headers, json!({})).await;
    system
        .wait_for_order(&id, "labelled", |order| {
            order["shipments"][0]["tracking_number"].is_string()
        })
        .await;

    let expected_spans = [
        "api-gateway POST /v1/orders",
        "api-gateway send order-request-queue",
        "order-worker order.create order-request-queue",
        "order-worker authorize_payment order-worker-queue",
        "order-worker request_shipment order-worker-queue",
    ];
    // A provider may be called more than once.
    let order_spans = || {
        let mut spans = receiver.spans_of_trace(TRACE_ID);
        spans.dedup_by(|next_span, last_span| next_span["name"] == last_span["name"]);
        spans
    };
    wait_until("the trace to be complete", async || {
        order_spans().len() >= expected_spans.len()
    })
    .await;
    let spans = order_spans();
    assert_eq!(span_names(&spans), expected_spans);

    // Each span's parent is its cause, up to the client's span.
    let parent_ids: Vec<_> = spans.iter().map(|span| &span["parent"]).collect();
    let worker_span_id = &spans[2]["span"];
    assert_eq!(
        parent_ids,
        [
            &json!(CLIENT_SPAN_ID),
            &spans[0]["span"],
            &spans[1]["span"],
            worker_span_id,
            worker_span_id
        ]
    );
    let span_kinds: Vec<_> = spans
        .iter()
        .map(|span| span["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        span_kinds,
        [
            "SPAN_KIND_SERVER",
            "SPAN_KIND_PRODUCER",
            "SPAN_KIND_CONSUMER",
            "SPAN_KIND_CONSUMER",
            "SPAN_KIND_CONSUMER"
        ]
    );

    let http_attributes = &spans[0]["attributes"];
    assert_eq!(http_attributes["http.request.method"], "POST");
    assert_eq!(http_attributes["http.route"], "/v1/orders");
    assert_eq!(http_attributes["http.response.status_code"], 201);
    let step_attributes = &spans[3]["attributes"];
    assert_eq!(step_attributes["messaging.system"], "rabbitmq");
    assert_eq!(step_attributes["messaging.operation.type"], "process");
    assert_eq!(
        step_attributes["messaging.destination.name"],
        "order-worker-queue"
    );
    assert_eq!(step_attributes["order.id"], json!(id));
    for span in [0, 2, 3, 4].map(|index| &spans[index]) {
        assert_eq!(span["attributes"]["request_id"], "my-request", "{span}");
        assert_eq!(span["status"], "STATUS_CODE_UNSET", "{span}");
    }

    // Health checks and polling reads are not traced.
    system.get("/readyz").await.expect(200);
    system.gateway.terminate();
    system.worker.terminate();
    let span_names = span_names(&receiver.spans());
    assert!(
        !span_names.iter().any(|name| name.contains("readyz")),
        "{span_names:?}"
    );
    assert!(
        !span_names.iter().any(|name| name.contains("event.list")),
        "{span_names:?}"
    );
}

#[tokio::test]
async fn trace_continues_after_a_worker_death_and_records_failures() {
    let (receiver, mut system) = start().await;
    system
        .create_product_with_stock("mug", &[("berlin", 9)])
        .await;
    system.worker.kill();
    let traceparent = format!("00-{TRACE_ID}-{CLIENT_SPAN_ID}-01");
    let headers = [
        ("traceparent", traceparent.as_str()),
        ("prefer", "respond-async"),
    ];
    // The customer is created by a worker.
    system.restart_worker().await;
    let id = create_order(&system, &headers, json!({"payment_method": "pm_flaky"})).await;
    system.worker.kill();
    system.restart_worker().await;
    system
        .wait_for_order(&id, "processing", |order| order["status"] == "processing")
        .await;
    let is_authorization_step =
        |span: &Value| span["name"] == "authorize_payment order-worker-queue";
    wait_until("the span of the successful attempt", async || {
        let spans = receiver.spans_of_trace(TRACE_ID);
        spans
            .iter()
            .any(|span| is_authorization_step(span) && span["status"] != "STATUS_CODE_ERROR")
    })
    .await;
    let spans = receiver.spans_of_trace(TRACE_ID);
    let step_spans: Vec<_> = spans
        .iter()
        .filter(|span| is_authorization_step(span))
        .collect();
    let failed_attempt = step_spans
        .iter()
        .find(|span| span["status"] == "STATUS_CODE_ERROR")
        .unwrap();
    assert_eq!(failed_attempt["attributes"]["error.type"], "transient");
}

#[tokio::test]
async fn unavailable_otlp_receiver_has_no_effect() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let mut system = System::start_with(&variables).await;
    system
        .create_product_with_stock("mug", &[("berlin", 9)])
        .await;
    let id = create_order(&system, &[], json!({})).await;
    system
        .wait_for_order(&id, "processing", |order| order["status"] == "processing")
        .await;
    system.gateway.terminate();
    system.worker.terminate();
}
