//! The trace context of requests (`traceparent`, `tracestate`) in spans, events, webhooks and messages.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    endpoints::ALLOW_PRIVATE_URLS,
    harness::{
        PythonProgram, Receiver as WebhookReceiver, System, Tables, TestFolder, order_body, send,
        wait_until,
    },
    traces::{OtlpReceiver, create_order, span_names},
};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The events of an order.
async fn events(system: &System, order_id: &str) -> Vec<Value> {
    let path = format!("/v1/events?order_id={order_id}&limit=200");
    let page = system.get(&path).await.expect(200);
    page["data"].as_array().unwrap().clone()
}

/// `traceparent` and `tracestate` of the order's first event.
async fn context_of_first_event(system: &System, order_id: &str) -> (Value, Value) {
    let event = events(system, order_id).await.swap_remove(0);
    (event["traceparent"].clone(), event["tracestate"].clone())
}

async fn wait_for_label(system: &System, order_id: &str) {
    system
        .wait_for_order(order_id, "labelled", |order| {
            order["shipments"][0]["tracking_number"].is_string()
        })
        .await;
}

#[tokio::test]
async fn third_party_collector_takes_the_traces_that_events_name() {
    let folder = TestFolder::new();
    let receiver = OtlpReceiver::start(&folder);
    let (url, log) = (receiver.endpoint().await, folder.join("rotel.log"));
    let arguments = [url.as_str(), log.to_str().unwrap()];
    let collector =
        PythonProgram::start("rotel_collector.py", &arguments, folder.join("rotel.port"));
    let collector_url = format!("http://127.0.0.1:{}", collector.port().await);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector_url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ALLOW_PRIVATE_URLS,
    ];
    let system = System::start_in_folder(folder, &variables).await;
    system
        .create_product_with_stock("mug", &[("berlin", 9)])
        .await;
    let webhooks = WebhookReceiver::start().await;
    system
        .create_endpoint(&webhooks.url("/"), &["payment.authorized"])
        .await;
    let headers = [
        ("traceparent", TRACEPARENT),
        ("tracestate", "vendor=a1,"),
        ("tracestate", " other=b 2"),
    ];
    let id = create_order(&system, &headers, json!({})).await;
    wait_for_label(&system, &id).await;

    let expected_spans = [
        "api-gateway POST /v1/orders",
        "api-gateway send order-request-queue",
        "order-worker order.create order-request-queue",
        "order-worker authorize_payment order-worker-queue",
        "order-worker request_shipment order-worker-queue",
    ];
    wait_until("the collector to forward all spans", async || {
        let names = span_names(&receiver.spans_of_trace(TRACE_ID));
        expected_spans
            .iter()
            .all(|expected| names.iter().any(|name| name == expected))
    })
    .await;
    let spans = receiver.spans_of_trace(TRACE_ID);
    for span in &spans {
        assert_eq!(span["state"], "vendor=a1,other=b 2", "{span}");
    }

    // Events of the request and of its steps name the worker's span of the request.
    let is_request = |span: &&Value| span["name"] == "order.create order-request-queue";
    let request_span = spans.iter().find(is_request).unwrap();
    let span_id = request_span["span"].as_str().unwrap();
    let traceparent = format!("00-{TRACE_ID}-{span_id}-01");
    let events = events(&system, &id).await;
    assert!(events.len() >= 3, "{events:?}");
    for event in &events {
        assert_eq!(event["traceparent"], json!(traceparent), "{event}");
        assert_eq!(event["tracestate"], "vendor=a1,other=b 2", "{event}");
    }
    wait_until("the webhook", async || webhooks.received().len() == 1).await;
    let event: Value = serde_json::from_slice(&webhooks.received()[0].body).unwrap();
    assert_eq!(event["traceparent"], json!(traceparent), "{event}");
    assert_eq!(event["tracestate"], "vendor=a1,other=b 2", "{event}");
    system.assert_verified();
}

#[tokio::test]
async fn invalid_trace_contexts_are_ignored_and_long_ones_shortened() {
    let system = System::start().await;
    system
        .create_product_with_stock("mug", &[("berlin", 99)])
        .await;
    let long_tracestate_members: Vec<String> = (0..32)
        .map(|member_number| format!("k{member_number:02}={:a>200}", ""))
        .collect();
    let short_tracestate_members: Vec<String> = (0..32)
        .map(|member_number| format!("k{member_number:02}={:a>20}", ""))
        .collect();
    let tracestate_with_too_many_members = ["a=1,b=2,"; 512].concat();
    let shortened_tracestate = short_tracestate_members[..20].join(",");
    for (sent_tracestate, expected_tracestate) in [
        ("vendor=a1, other=b 2", json!("vendor=a1,other=b 2")),
        (&long_tracestate_members.join(","), Value::Null),
        (
            &short_tracestate_members.join(","),
            json!(shortened_tracestate),
        ),
        (&tracestate_with_too_many_members, Value::Null),
        ("vendor", Value::Null),
        ("vendor=a=b", Value::Null),
    ] {
        let headers = [
            ("traceparent", TRACEPARENT),
            ("tracestate", sent_tracestate),
        ];
        let id = create_order(&system, &headers, json!({})).await;
        let (traceparent, tracestate) = context_of_first_event(&system, &id).await;
        assert!(
            traceparent.as_str().unwrap().contains(TRACE_ID),
            "{sent_tracestate}"
        );
        assert_eq!(tracestate, expected_tracestate, "{sent_tracestate}");
    }
    // Without a valid `traceparent` the gateway starts a trace, to which `tracestate` does not belong.
    let repeated_headers = [("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)];
    for invalid_headers in [&[("traceparent", "00-0-0-00")][..], &repeated_headers, &[]] {
        let headers = [invalid_headers, &[("tracestate", "vendor=a1")]].concat();
        let id = create_order(&system, &headers, json!({})).await;
        let (traceparent, tracestate) = context_of_first_event(&system, &id).await;
        assert_eq!(traceparent.as_str().unwrap().len(), TRACEPARENT.len());
        assert!(
            !traceparent.as_str().unwrap().contains(TRACE_ID),
            "{headers:?}"
        );
        assert_eq!(tracestate, Value::Null, "{headers:?}");
    }
    system.assert_verified();
}

#[tokio::test]
async fn trace_context_of_an_event_is_that_of_the_request_that_caused_it() {
    let system = System::start().await;
    system
        .create_product_with_stock("mug", &[("berlin", 9)])
        .await;
    let headers = [("traceparent", TRACEPARENT), ("tracestate", "vendor=a1")];
    let customer_id = system.create_customer().await;
    let request = system.request(Method::POST, "/v1/orders");
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    let order_reply = send(request.json(&order_body(&customer_id, "mug", 1))).await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    wait_for_label(&system, &id).await;
    let path = format!("/v1/orders/{id}/cancel");
    let cancel_traceparent = TRACEPARENT.replace(TRACE_ID, "4bf92f3577b34da6a3ce929d0e0e4736");
    let request = system
        .request(Method::POST, &path)
        .header("traceparent", &cancel_traceparent);
    send(request.json(&json!({}))).await.expect(200);
    system.wait_until_idle().await;

    let events = events(&system, &id).await;
    let belongs_to_trace =
        |event: &Value, trace_id: &str| event["traceparent"].as_str().unwrap().contains(trace_id);
    let cancellation_index = events
        .iter()
        .position(|event| event["type"] == "order.cancelled");
    let (events_before, events_after) = events.split_at(cancellation_index.unwrap());
    for event in events_before {
        assert!(belongs_to_trace(event, TRACE_ID), "{event}");
        assert_eq!(event["tracestate"], "vendor=a1", "{event}");
    }
    assert!(belongs_to_trace(
        &events_after[0],
        "4bf92f3577b34da6a3ce929d0e0e4736"
    ));
    assert_eq!(events_after[0]["tracestate"], Value::Null);
    // The step that voids the payment belongs to the trace of the cancellation.
    let voided_event = events_after
        .iter()
        .find(|event| event["type"] == "payment.voided");
    assert!(belongs_to_trace(
        voided_event.unwrap(),
        "4bf92f3577b34da6a3ce929d0e0e4736"
    ));

    // Tracing systems may have put personal data into `tracestate`.
    let path = format!("/v1/customers/{customer_id}");
    system.delete(&path).await.expect(204);
    let remaining_sql = "SELECT count(*) FROM events WHERE tracestate IS NOT NULL";
    wait_until("the events to be redacted", async || {
        system.store.run(Tables::Worker, remaining_sql) == "0"
    })
    .await;
    system.assert_verified();
}
