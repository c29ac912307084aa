//! Hostile input, and rows that can't be read.

use std::process::Output;

use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Reply, System, Tables, order_body, run_script, run_worker, send, wait_until};

/// JSON with this many levels of nesting.
fn nested_arrays(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| !line.is_empty());
    // `serde_json` reads no deeper than 128 levels by default.
    lines
        .map(|line| serde_json::from_str(line).unwrap_or(Value::Null))
        .collect()
}

impl System {
    async fn send_text(&self, method: Method, path: &str, text: String) -> Reply {
        let request = self.request(method, path);
        send(
            request
                .header("content-type", "application/json")
                .body(text),
        )
        .await
    }

    /// Creates an order with this text as `metadata`.
    async fn create_order_with(&self, customer_id: &str, metadata: &str) -> Reply {
        let body = order_body(customer_id, "A", 1).to_string();
        let body = body.replacen('{', &format!("{{\"metadata\":{metadata},"), 1);
        self.send_text(Method::POST, "/v1/orders", body).await
    }

    /// Reads everything that was stored in all ways that the API offers; nothing fails.
    async fn read_everything(&self) {
        for list_path in [
            "/v1/orders",
            "/v1/customers",
            "/v1/products",
            "/v1/webhook-endpoints",
            "/v1/api-keys",
        ] {
            let mut next_path = Some(format!("{list_path}?limit=200"));
            while let Some(page_path) = next_path {
                let page = self.get(&page_path).await.expect(200);
                let entries = page["data"].as_array();
                let entries = entries.unwrap_or_else(|| panic!("{list_path}: {page}"));
                let read_replies = entries.iter().map(async |entry| {
                    let entry_id = entry["id"].as_str().or(entry["sku"].as_str()).unwrap();
                    assert_eq!(
                        self.get(&format!("{list_path}/{entry_id}")).await.status,
                        200,
                        "{entry_id}"
                    );
                    if list_path == "/v1/orders" {
                        let history_path = format!("{list_path}/{entry_id}/history?limit=200");
                        assert_eq!(self.get(&history_path).await.status, 200, "{entry_id}");
                    }
                });
                stream::iter(read_replies)
                    .buffer_unordered(8)
                    .collect::<()>()
                    .await;
                let cursor = page["next_cursor"].as_str();
                next_path = cursor.map(|cursor| format!("{list_path}?limit=200&cursor={cursor}"));
            }
        }
        self.read_feed().await;
        self.get("/v1/stats").await.expect(200);
        for export_kind in ["orders", "events"] {
            let export_output = run_worker(self, &["export", export_kind]);
            assert!(export_output.status.success(), "{export_output:?}");
        }
    }

    /// The subjects of all events.
    async fn read_feed(&self) -> Vec<String> {
        let (mut event_subjects, mut after_position) = (Vec::new(), "0".to_owned());
        loop {
            let page_reply = self
                .get(&format!("/v1/events?limit=200&after={after_position}"))
                .await;
            let page = page_reply.expect(200);
            let events = page["data"].as_array().unwrap().iter();
            event_subjects
                .extend(events.map(|event| event["subject"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(cursor) => cursor.clone_into(&mut after_position),
                None => return event_subjects,
            }
        }
    }
}

#[tokio::test]
async fn nesting_is_limited_and_deeper_stored_json_is_readable() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let deep_object = |levels: usize| format!("{{\"a\":{}}}", nested_arrays(levels - 1));
    system
        .create_order_with(&customer_id, &deep_object(32))
        .await
        .expect(201);
    for levels in [33, 100, 126] {
        let problem_reply = system
            .create_order_with(&customer_id, &deep_object(levels))
            .await;
        let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], "/metadata", "{problem}");
    }
    for levels in [127, 5_000] {
        let problem_reply = system
            .create_order_with(&customer_id, &deep_object(levels))
            .await;
        let problem = problem_reply.expect_problem(400, "INVALID_REQUEST");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("nested deeper"),
            "{problem}"
        );
    }
    let body = order_body(&customer_id, "A", 1).to_string();
    let body = body.replacen('{', &format!("{{\"metadata\":{},", deep_object(126)), 1);
    let request = system
        .request(Method::POST, "/v1/orders")
        .header("prefer", "respond-async");
    let request = request
        .header("content-type", "application/json")
        .body(body.clone());
    send(request).await.expect_problem(422, "INVALID_REQUEST");
    let valid_order_text = order_body(&customer_id, "A", 1).to_string();
    let request = system.request(Method::POST, "/v1/orders/import");
    let request = request.header("content-type", "application/x-ndjson");
    let report = send(
        request.body(
            [
                &valid_order_text,
                &body,
                &nested_arrays(5_000),
                &valid_order_text,
            ]
            .map(String::as_str)
            .join("\n"),
        ),
    );
    let report = report.await.expect(200);
    assert_eq!(
        (&report["accepted"], &report["rejected_count"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(report["rejected"][0]["line"], 2, "{report}");
    assert_eq!(report["rejected"][1]["line"], 3, "{report}");

    // Earlier versions stored such values.
    let created_order = system
        .create_order_with(&customer_id, r#"{"a": "DEEP"}"#)
        .await
        .expect(201);
    let order_id = created_order["id"].as_str().unwrap().to_owned();
    system.wait_until_idle().await;
    for (table, column) in [("orders", "state"), ("events", "data")] {
        let store_deep_json_sql = format!(
            "UPDATE {table} SET {column} = replace({column}, '\"DEEP\"', '{}')",
            nested_arrays(125)
        );
        system.store.run(Tables::Worker, &store_deep_json_sql);
    }
    system.assert_verified();
    system.read_everything().await;
    system
        .post(&format!("/v1/orders/{order_id}/cancel"), json!({}))
        .await
        .expect(200);
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "every reader of the damaged rows")]
async fn unreadable_row_affects_only_its_own_order() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for _ in 0..5 {
        let created_order = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await
            .expect(201);
        order_ids.push(created_order["id"].as_str().unwrap().to_owned());
    }
    system.wait_until_idle().await;
    // Damages the row of one order and the first event of another.
    let [_, bad_row_id, _, bad_event_id, _] = &order_ids[..] else {
        panic!()
    };
    for damage_sql in [
        format!("UPDATE orders SET state = '{{\"id\":' WHERE id = '{bad_row_id}'"),
        format!(
            "UPDATE events SET data = '{{\"number\":' WHERE subject = '{bad_event_id}' AND sequence = 1"
        ),
    ] {
        system.store.run(Tables::Worker, &damage_sql);
    }
    let (is_consistent, report) = system.verify();
    assert!(!is_consistent);
    assert!(
        report.contains(&format!(
            "order {bad_row_id}: its stored state can't be decoded"
        )),
        "{report}"
    );
    assert!(
        report.contains(&format!(
            "order {bad_event_id}: one of its events can't be decoded"
        )),
        "{report}"
    );
    for id in order_ids
        .iter()
        .filter(|id| *id != bad_row_id && *id != bad_event_id)
    {
        assert!(!report.contains(id.as_str()), "{report}");
    }

    let problem_reply = system.get(&format!("/v1/orders/{bad_row_id}")).await;
    let problem = problem_reply.expect_problem(500, "INTERNAL");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains(bad_row_id.as_str()),
        "{problem}"
    );
    let problem_reply = system
        .get(&format!("/v1/orders/{bad_event_id}/history"))
        .await;
    let problem = problem_reply.expect_problem(500, "INTERNAL");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains(bad_event_id.as_str()),
        "{problem}"
    );
    // Lists must skip the row with any page size.
    for limit in [1, 2, 200] {
        let mut next_path = Some(format!("/v1/orders?limit={limit}"));
        let mut listed_ids = Vec::new();
        while let Some(path) = next_path {
            let page = system.get(&path).await.expect(200);
            let entries = page["data"].as_array().unwrap().iter();
            listed_ids.extend(entries.map(|order| order["id"].as_str().unwrap().to_owned()));
            let cursor = page["next_cursor"].as_str();
            next_path = cursor.map(|cursor| format!("/v1/orders?limit={limit}&cursor={cursor}"));
        }
        listed_ids.reverse();
        let readable_ids: Vec<_> = order_ids
            .iter()
            .filter(|id| *id != bad_row_id)
            .cloned()
            .collect();
        assert_eq!(listed_ids, readable_ids, "{limit}");
    }
    let subjects = system.read_feed().await;
    for id in &order_ids {
        assert!(subjects.contains(id), "{id}");
    }
    system.get("/v1/stats").await.expect(200);
    for (export_kind, id, line_count) in [
        ("orders", bad_row_id, 4),
        ("events", bad_event_id, subjects.len() - 1),
    ] {
        let export_output = run_worker(&system, &["export", export_kind]);
        assert!(!export_output.status.success());
        let error_text = String::from_utf8_lossy(&export_output.stderr);
        assert!(error_text.contains(id.as_str()), "{error_text}");
        assert_eq!(
            json_lines(&export_output).len(),
            line_count,
            "{export_kind}"
        );
    }
    // Later events are delivered as usual.
    let last_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let last_id = last_order["id"].as_str().unwrap();
    system
        .wait_for_order(last_id, "processing", |order| {
            order["status"] == "processing"
        })
        .await;
    wait_until("the event of the last order", async || {
        system.read_feed().await.iter().any(|id| id == last_id)
    })
    .await;
}

#[tokio::test]
async fn numbers_are_stored_exactly_or_refused() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    for exact_number in [
        "18446744073709551615",
        "-9223372036854775808",
        "0.30000000000000004",
        "9007199254740993",
        "5e-324",
    ] {
        let stored_order = system
            .create_order_with(&customer_id, &format!("{{\"n\":{exact_number}}}"))
            .await
            .expect(201);
        let url = system.url(&format!(
            "/v1/orders/{}",
            stored_order["id"].as_str().unwrap()
        ));
        let response_text = system
            .client
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(
            response_text.contains(&format!("\"n\":{exact_number}")),
            "{response_text}"
        );
    }
    for inexact_number in [
        "18446744073709551616",
        "123456789012345678901234567890",
        "-9223372036854775809",
        "0.1234567890123456789",
    ] {
        let refused_reply = system
            .create_order_with(
                &customer_id,
                &format!("{{\"a\":[0,{{\"n\":{inexact_number}}}]}}"),
            )
            .await;
        let refused_problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(
            refused_problem["errors"][0]["pointer"], "/metadata/a/1/n",
            "{refused_problem}"
        );
    }
}

#[tokio::test]
async fn nul_characters_are_refused_over_the_broker() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    let output = run_script("foreign.py", &["nul", &system.broker.url(), &customer_id]);
    assert!(output.contains("refused"), "{output}");
    system.wait_until_idle().await;
    system.read_everything().await;
    system.assert_verified();
}

#[tokio::test]
async fn earliest_and_latest_timestamps_are_accepted() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    let customer_id = system.create_customer().await;
    system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    for (query, expected_count) in [
        ("created_before=9999-12-31T23:59:59Z", 1),
        ("created_before=9999-12-31T23:59:59.999999999-23:59", 1),
        ("created_after=9999-12-31T23:59:59Z", 0),
        ("created_after=0000-01-01T00:00:00Z", 1),
        ("created_after=-009999-01-01T00:00:00%2B23:59", 1),
        ("created_before=-009999-01-01T00:00:00Z", 0),
    ] {
        let page = system.get(&format!("/v1/orders?{query}")).await.expect(200);
        assert_eq!(
            page["data"].as_array().unwrap().len(),
            expected_count,
            "{query}"
        );
    }
}

/// Hostile JSON values, as text.
fn hostile_values() -> Vec<String> {
    let mut values: Vec<String> = [
        "null",
        "true",
        "0",
        "-1",
        "-0",
        "1e308",
        "1e-400",
        "0.1234567890123456789",
        "1.5",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "123456789012345678901234567890",
        "[]",
        "{}",
        "[null]",
        "{\"\": {\"\": \"\"}}",
        "{\"__proto__\": 1, \"$serde_json::private::Number\": \"1\"}",
        "\"\"",
        "\" \"",
        "\"a\\u0000b\"",
        "{\"a\\u0000\": 1}",
        "{\"a\": \"\\u0000\"}",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\u0007\\u007f\"",
        "\"\\u202e\\ufeff\\u200b\"",
        "\"\\uffff\\ufffe\"",
        "\"\u{1f469}\u{200d}\u{1f467}\"",
        "\"' OR 1=1; --\"",
        "\"%s%n\\\\\"",
        "\"../..\"",
        "\"<script>\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"0000-01-01T00:00:00Z\"",
        "\"-009999-01-01T00:00:00Z\"",
        "{\"a\": 1e999}",
        "{\"a\": 1, \"a\": 2}",
    ]
    .map(str::to_owned)
    .into();
    values.extend(
        [31, 32, 33, 124, 126, 127, 5_000]
            .map(|levels| format!("{{\"a\":{}}}", nested_arrays(levels - 1))),
    );
    values.extend([200, 500, 70_000].map(|length| format!("\"{}\"", "x".repeat(length))));
    values.push(format!("\"{}\"", "\u{1f600}".repeat(200)));
    values.push(format!("{{\"a\":\"{}\"}}", "ä".repeat(8_100)));
    values
}

/// Valid paths and bodies; the test replaces one value with a hostile one.
#[expect(clippy::struct_field_names, reason = "ids of resources")]
struct Fixture {
    customer_id: String,
    /// Another customer, which requests may block.
    other_customer_id: String,
    order_id: String,
    endpoint_id: String,
}

impl Fixture {
    fn path(&self, path: &str) -> String {
        let id = match path {
            path if path.starts_with("/v1/customers") => &self.other_customer_id,
            path if path.starts_with("/v1/webhook-endpoints") => &self.endpoint_id,
            _ => &self.order_id,
        };
        let path = path.replace("{id}", id).replace("{sku}", "A");
        path.replace("{warehouse}", "main")
    }

    /// A valid body of the operation, according to its schema.
    fn body(&self, openapi_document: &Value, operation: &Value) -> Option<Value> {
        let schema = resolve_schema(
            openapi_document,
            &operation["requestBody"]["content"]["application/json"]["schema"],
        )?;
        let mut body = schema.get("example").cloned().unwrap_or(json!({}));
        let properties = schema["properties"].as_object()?;
        let body_fields = body.as_object_mut()?;
        for field_name in properties.keys() {
            body_fields.entry(field_name.clone()).or_insert(Value::Null);
        }
        if body_fields.contains_key("customer_id") {
            body_fields.insert("customer_id".to_owned(), json!(self.customer_id));
        }
        if body_fields.contains_key("items") {
            body_fields.insert("items".to_owned(), json!([{"sku": "A", "quantity": 1}]));
            body_fields.insert("expected_total".to_owned(), Value::Null);
            body_fields.insert("storefront".to_owned(), Value::Null);
        }
        Some(body)
    }
}

/// Resolves a reference to a schema.
fn resolve_schema<'a>(openapi_document: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    let schema_options = schema["oneOf"].as_array().into_iter().flatten();
    let mut references = schema_options
        .chain([schema])
        .filter_map(|schema| schema["$ref"].as_str());
    match references.next() {
        Some(reference) => openapi_document.pointer(reference.strip_prefix('#')?),
        None => Some(schema),
    }
}

/// Every field of every documented request body gets every hostile value. Everything that is stored can be read
/// in all ways.
#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "requests for every field of every operation"
)]
async fn stored_hostile_input_can_be_read() {
    const HOSTILE_MARK: &str = "@@HOSTILE@@";
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 1_000_000)])
        .await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let endpoint = json!({"url": "https://example.com/hooks", "event_types": ["stock.low"]});
    let endpoint = system
        .post("/v1/webhook-endpoints", endpoint)
        .await
        .expect(201);
    let fixture = Fixture {
        customer_id,
        other_customer_id: system.create_customer().await,
        order_id: created_order["id"].as_str().unwrap().to_owned(),
        endpoint_id: endpoint["id"].as_str().unwrap().to_owned(),
    };
    let openapi = system.get("/openapi.json").await.expect(200);
    let values = hostile_values();
    let mut requests: Vec<(Method, String, String)> = Vec::new();
    for (path, operations) in openapi["paths"].as_object().unwrap() {
        if path.starts_with("/webhooks/") || path.ends_with("/stream") {
            continue;
        }
        let operation_path = fixture.path(path);
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] != "query" || method != Method::GET {
                    continue;
                }
                let field_name = parameter["name"].as_str().unwrap();
                for hostile_value in values
                    .iter()
                    .filter(|hostile_value| hostile_value.len() < 2_000)
                {
                    let hostile_value: Value =
                        serde_json::from_str(hostile_value).unwrap_or(json!("a\0b"));
                    let hostile_value = hostile_value
                        .as_str()
                        .map_or_else(|| hostile_value.to_string(), str::to_owned);
                    let url =
                        reqwest::Url::parse_with_params("http://h/", [(field_name, hostile_value)]);
                    let url = url.unwrap();
                    let query = url.query().unwrap_or_default();
                    requests.push((
                        method.clone(),
                        format!("{operation_path}?{query}"),
                        String::new(),
                    ));
                }
            }
            let Some(body) = fixture.body(&openapi, operation) else {
                continue;
            };
            for field_name in body.as_object().unwrap().keys() {
                let mut body = body.clone();
                body[field_name] = json!(HOSTILE_MARK);
                let body_text = body.to_string();
                let bodies = values.iter().map(|hostile_value| {
                    body_text.replace(&format!("\"{HOSTILE_MARK}\""), hostile_value)
                });
                requests.extend(
                    bodies.map(|body_text| (method.clone(), operation_path.clone(), body_text)),
                );
            }
        }
    }
    let import_lines = values.iter().flat_map(|hostile_value| {
        let new_order_text = order_body(&fixture.customer_id, "A", 1).to_string();
        ["metadata", "external_id", "items", "line"].map(|field_name| {
            new_order_text.replacen('{', &format!("{{\"{field_name}\":{hostile_value},"), 1)
        })
    });
    let import_lines: Vec<String> = import_lines.collect();
    println!("{} requests, {} lines", requests.len(), import_lines.len());
    let stored_counts = stream::iter(&requests).map(async |(method, path, body_text)| {
        let reply = system
            .send_text(method.clone(), path, body_text.clone())
            .await;
        let text_beginning: String = body_text.chars().take(300).collect();
        assert!(
            reply.status < 500,
            "{method} {path} {text_beginning}: {} {}",
            reply.status,
            reply.body
        );
        usize::from(reply.status < 300 && *method != Method::GET)
    });
    let stored_count: usize = stored_counts
        .buffer_unordered(8)
        .fold(0, async |sum, count| sum + count)
        .await;
    assert!(stored_count > 100, "only {stored_count} were stored");
    let request = system.request(Method::POST, "/v1/orders/import");
    let request = request.header("content-type", "application/x-ndjson");
    let report = send(request.body(import_lines.join("\n")))
        .await
        .expect(200);
    assert_eq!(
        report["accepted"].as_u64().unwrap()
            + report["rejected_count"].as_u64().unwrap()
            + report["duplicates"].as_u64().unwrap(),
        import_lines.len() as u64
    );
    system.wait_until_idle().await;
    system.read_everything().await;
    system.assert_verified();
}
