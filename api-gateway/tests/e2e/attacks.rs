//! The attacks listed in docs/SECURITY.md, each with its expected response. Attacks with tokens are in `tokens`,
//! on outgoing webhooks in `endpoints`.

use std::{io, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use crate::harness::{Reply, SHIPPER_SECRET, System, order_body, send};

const API_KEYS: &str =
    "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator;admin=key-of-admin";
const UNKNOWN_ID: &str = "0192f0c1-2345-7abc-8def-0123456789ab";

impl System {
    fn gateway_address(&self) -> String {
        self.url("")["http://".len()..].to_owned()
    }

    async fn post_raw_order(&self, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.request(Method::POST, "/v1/orders").body(body);
        send(request.header("content-type", "application/json")).await
    }
}

/// Sends raw bytes over a new connection and returns the head of the response.
async fn send_raw(address: &str, request_bytes: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // The server may respond and close the connection before everything is sent.
    let _ = stream.write_all(request_bytes).await;
    let mut response_bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !response_bytes
        .windows(4)
        .any(|window| window == b"\r\n\r\n")
    {
        match time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await {
            Ok(Ok(byte_count)) if byte_count > 0 => {
                response_bytes.extend_from_slice(&buffer[..byte_count]);
            }
            _ => break,
        }
    }
    Ok(String::from_utf8_lossy(&response_bytes).into_owned())
}

#[tokio::test]
async fn foreign_ids_are_answered_like_missing_ones_on_every_route() {
    let mut system =
        System::start_with(&[("API_KEYS", API_KEYS), ("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let order_id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    let new_endpoint = json!({"url": "http://127.0.0.1:1/"});
    let new_endpoint_reply = system
        .post("/v1/webhook-endpoints", new_endpoint)
        .await
        .expect(201);
    let endpoint_id = new_endpoint_reply["id"].as_str().unwrap().to_owned();
    let document = system.get("/openapi.json").await.expect(200);

    // All routes with such an id, taken from the OpenAPI document.
    system.api_key = Some("key-of-us".to_owned());
    let mut tried_operations = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let foreign_id = match path.split('/').nth(2) {
            Some("orders") => &order_id,
            Some("customers") => &customer_id,
            Some("webhook-endpoints") => &endpoint_id,
            _ => continue,
        };
        if !path.contains("{id}") {
            continue;
        }
        for method in operations.as_object().unwrap().keys() {
            let request_with_id = async |id: &str| {
                let url = path
                    .replace("{id}", id)
                    .replace("{delivery_id}", UNKNOWN_ID);
                let http_method = method.to_uppercase().parse().unwrap();
                let mut request = system.request(http_method, &url);
                if method_takes_body(&operations[method.as_str()]) {
                    // A valid body: an invalid one would be refused before the id is looked up.
                    let body = match path.rsplit('/').next() {
                        Some("returns") => json!({"items": [{"sku": "A", "quantity": 1}]}),
                        Some("payments") => json!({"amount": 1}),
                        Some("edit") => json!({"discounts": null}),
                        _ => json!({}),
                    };
                    request = request.json(&body);
                }
                let reply = send(request.header("if-match", "\"1\"")).await;
                let mut problem = reply.body.clone();
                problem["request_id"] = Value::Null;
                (reply.status, problem.to_string().replace(id, "ID"))
            };
            let (other_storefronts_reply, unknown_id_reply) = (
                request_with_id(foreign_id).await,
                request_with_id(UNKNOWN_ID).await,
            );
            assert_eq!(other_storefronts_reply, unknown_id_reply, "{method} {path}");
            assert!(
                matches!(other_storefronts_reply.0, 404 | 403),
                "{method} {path}: {other_storefronts_reply:?}"
            );
            tried_operations += 1;
        }
    }
    assert!(tried_operations >= 14, "only {tried_operations} routes");
    for list_name in ["orders", "customers", "webhook-endpoints", "events"] {
        let list_reply = system
            .get(&format!("/v1/{list_name}?storefront=eu"))
            .await
            .expect(200);
        assert_eq!(list_reply["data"], json!([]), "{list_name}");
    }
    let customer_of_eu = json!({"name": "Eve", "email": "eve@example.com", "storefront": "eu"});
    system
        .post("/v1/customers", customer_of_eu)
        .await
        .expect_problem(403, "FORBIDDEN");
    for path in ["/v1/orders?include_deleted=true", "/v1/dead-letters"] {
        system.get(path).await.expect_problem(403, "FORBIDDEN");
    }
    system.api_key = Some("key-of-eu".to_owned());
    let own_order = system
        .get(&format!("/v1/orders/{order_id}"))
        .await
        .expect(200);
    assert_ne!(own_order["status"], "cancelled");
}

fn method_takes_body(operation: &Value) -> bool {
    operation["requestBody"].is_object()
}

#[tokio::test]
async fn shipper_webhooks_without_a_valid_recent_signature_are_refused() {
    let system = System::start().await;
    let body = json!({"type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z",
                      "data": {"order_id": UNKNOWN_ID}})
    .to_string();
    let now_seconds = Timestamp::now().as_second();
    let sign = |secret: &str, webhook_id: &str, timestamp: i64, body: &str| {
        Webhook::new(secret)
            .unwrap()
            .sign(webhook_id, timestamp, body.as_bytes())
            .unwrap()
    };
    let valid_signature = sign(SHIPPER_SECRET, "m-1", now_seconds, &body);
    let other_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let hour_ago = now_seconds - 3600;
    for (case_name, webhook_id, timestamp, signature, body) in [
        (
            "another secret",
            "m-1",
            now_seconds,
            sign(other_secret, "m-1", now_seconds, &body),
            body.clone(),
        ),
        (
            "another body",
            "m-1",
            now_seconds,
            valid_signature.clone(),
            body.replace("shipped", "returned"),
        ),
        (
            "another id",
            "m-2",
            now_seconds,
            valid_signature.clone(),
            body.clone(),
        ),
        (
            "another time",
            "m-1",
            now_seconds + 1,
            valid_signature.clone(),
            body.clone(),
        ),
        (
            "stale",
            "m-1",
            hour_ago,
            sign(SHIPPER_SECRET, "m-1", hour_ago, &body),
            body.clone(),
        ),
        (
            "of the future",
            "m-1",
            now_seconds + 3600,
            sign(SHIPPER_SECRET, "m-1", now_seconds + 3600, &body),
            body.clone(),
        ),
        (
            "another version",
            "m-1",
            now_seconds,
            valid_signature.replace("v1,", "v2,"),
            body.clone(),
        ),
        ("nothing", "m-1", now_seconds, String::new(), body.clone()),
        (
            "no base64",
            "m-1",
            now_seconds,
            "v1,!!!".to_owned(),
            body.clone(),
        ),
    ] {
        let reply =
            send(system.signed_request(webhook_id, &timestamp.to_string(), &signature, body)).await;
        assert_eq!(reply.status, 401, "{case_name}: {}", reply.body);
    }
    for invalid_timestamp in ["", "soon", "99999999999999999999", "-1"] {
        let reply =
            send(system.signed_request("m-1", invalid_timestamp, &valid_signature, body.clone()))
                .await;
        assert_eq!(reply.status, 401, "{invalid_timestamp}: {}", reply.body);
    }
    // A correctly signed webhook is still validated.
    send(system.signed_request("m-1", &now_seconds.to_string(), &valid_signature, body))
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn replayed_shipper_webhook_is_applied_once() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", crate::harness::has_shipping_label)
        .await;
    let body = json!({"type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z",
                      "data": {"order_id": id}})
    .to_string();
    let now_seconds = Timestamp::now().as_second();
    let signature = Webhook::new(SHIPPER_SECRET)
        .unwrap()
        .sign("m-1", now_seconds, body.as_bytes())
        .unwrap();
    for _ in 0..5 {
        let reply =
            send(system.signed_request("m-1", &now_seconds.to_string(), &signature, body.clone()))
                .await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    system.wait_until_idle().await;
    let history = system.list_event_types(&id).await;
    let shipped_events = history
        .iter()
        .filter(|event_type| *event_type == "shipment.shipped");
    assert_eq!(shipped_events.count(), 1);
    assert_eq!(system.stock_level("A").await, (4, 0));
    system.assert_verified();
}

#[tokio::test]
async fn oversized_and_ambiguous_json_is_refused() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let items = r#"[{"sku": "A", "quantity": 1}]"#;
    let new_order = |more_fields: &str| {
        format!(r#"{{"customer_id": "{customer_id}", "items": {items}{more_fields}}}"#)
    };
    for body in [
        "[".repeat(100_000),
        format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000)),
        new_order(&format!(
            r#", "metadata": {}1{}"#,
            r#"{"a":"#.repeat(200),
            "}".repeat(200)
        )),
        new_order(r#", "items": [{"sku": "A", "quantity": 2}]"#),
        new_order(r#", "metadata": {"a": 1, "a": 2}"#),
        new_order(r#", "metadata": {"a": "\ud800"}"#),
        new_order(r#", "metadata": {"a": 1e999}"#),
        new_order(", \"metadata\": {\"a\": \"\u{1}\"}"),
        new_order("}"),
        "\u{feff}{}".to_owned(),
        "NaN".to_owned(),
    ] {
        let body_start: String = body.chars().take(60).collect();
        let reply = system.post_raw_order(body).await;
        assert_eq!(reply.status, 400, "{body_start}: {}", reply.body);
        reply.expect_problem(400, "INVALID_REQUEST");
    }
    system
        .post_raw_order(vec![b'{', 0xc3, 0x28, b'}'])
        .await
        .expect_problem(400, "INVALID_REQUEST");
    for further_members in [
        r#", "metadata": {"a": "\u0000"}"#,
        r#", "metadata": {"\u0000": 1}"#,
        r#", "payment_method": "pm\u0000_ok""#,
        r#", "payment_method": "pm\r\nX: y""#,
        r#", "shipping_address": {"name": "a\u0007"}"#,
        r#", "expected_total": -1"#,
        r#", "expected_total": 9223372036854775808"#,
        r#", "expected_total": 1.5"#,
        r#", "storefront": "a'; DROP TABLE orders; --""#,
        r#", "__proto__": {"role": "admin"}"#,
        r#", "role": "admin""#,
        r#", "$serde_json::private::RawValue": "1""#,
    ] {
        let reply = system.post_raw_order(new_order(further_members)).await;
        assert_eq!(reply.status, 422, "{further_members}: {}", reply.body);
    }
    for quantity in [
        "0",
        "-1",
        "1000001",
        "1e3",
        "1.0",
        "99999999999999999999",
        "\"1\"",
        "null",
        "true",
        "[1]",
    ] {
        let body = format!(
            r#"{{"customer_id": "{customer_id}", "items": [{{"sku": "A", "quantity": {quantity}}}]}}"#
        );
        let problem = system
            .post_raw_order(body)
            .await
            .expect_problem(422, "INVALID_REQUEST");
        assert_eq!(
            problem["errors"][0]["pointer"], "/items/0/quantity",
            "{quantity}"
        );
    }
    let too_many_items = vec![json!({"sku": "A", "quantity": 1}); 501];
    let body = json!({"customer_id": customer_id, "items": too_many_items});
    system
        .post("/v1/orders", body)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    let order_with_large_metadata =
        json!({"customer_id": customer_id, "items": [], "metadata": {"a": "x".repeat(17_000)}});
    system
        .post("/v1/orders", order_with_large_metadata)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(system.list_orders().await.len(), 0);
    assert_eq!(system.stock_level("A").await, (5, 0));
}

#[tokio::test]
async fn sql_path_header_and_log_injection_has_no_effect() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let injected_sql = "Robert'); DROP TABLE customers; --";
    let body = json!({"name": injected_sql, "email": "o'brien\"@example.com"});
    let created_customer = system.post("/v1/customers", body).await.expect(201);
    let customer_id = created_customer["id"].as_str().unwrap().to_owned();
    let read_customer = system
        .get(&format!("/v1/customers/{customer_id}"))
        .await
        .expect(200);
    assert_eq!(read_customer["name"], injected_sql);
    for query in [
        "cursor=%27%20OR%201=1--",
        "status=pending%27%20OR%20%271%27=%271",
        "sku=A%27%3B--",
        "customer_id=1%20OR%201=1",
        "limit=1;DROP%20TABLE%20orders",
        "limit=99999999999999999999",
        "created_after=now()",
        "sku=%00",
        "sku=%ff",
    ] {
        let reply = system.get(&format!("/v1/orders?{query}")).await;
        assert!(
            matches!(reply.status, 400 | 422),
            "{query}: {} {}",
            reply.status,
            reply.body
        );
    }
    for path in [
        "/v1/products/..%2f..%2fetc%2fpasswd",
        "/v1/products/%2e%2e",
        "/v1/products/A%00",
        "/v1/products/%ff",
        "/v1/orders/..;/products/A",
        "/v1//orders",
        "/v1/orders/",
        "/docs/..%2f..%2fCargo.toml",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/v1/products/A%0d%0aX-Injected:%20yes",
        "/%5c%5c/",
    ] {
        let answer = send_raw(
            &system.gateway_address(),
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
        let is_refused = [" 404 ", " 400 "]
            .iter()
            .any(|code| answer.starts_with(&format!("HTTP/1.1{code}")));
        assert!(is_refused, "{path}: {answer}");
        assert!(!answer.to_lowercase().contains("\nx-injected"), "{answer}");
    }
    // The request id of the client appears in all logs: only safe characters are accepted.
    for forged_id in ["a b", "a\"b", "{}", "$(id)", &"x".repeat(200)] {
        let request = system.request(Method::GET, "/v1/orders?limit=1");
        let reply = send(request.header("x-request-id", forged_id)).await;
        assert_ne!(reply.headers["x-request-id"], forged_id);
    }
    let cancel_body = json!({"reason": "done\n{\"level\":\"ERROR\",\"message\":\"forged\"}"});
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let path = format!(
        "/v1/orders/{}/cancel",
        order_reply.expect(201)["id"].as_str().unwrap()
    );
    system
        .post(&path, cancel_body)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    for log_name in ["worker.log", "gateway.log"] {
        let log_text = std::fs::read_to_string(system.folder.join(log_name)).unwrap();
        for line in log_text.lines() {
            let line_json: Value = serde_json::from_str(line).unwrap();
            assert_ne!(line_json["message"], "forged");
        }
    }
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn floods_and_slow_clients_do_not_block_others() {
    let system = System::start_with(&[("HTTP_IDLE_SECONDS", "2")]).await;
    let address = system.gateway_address();
    let many_headers = "a: b\r\n".repeat(5_000);
    let long_header = format!("a: {}\r\n", "b".repeat(200_000));
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(200_000));
    for request_head in [
        format!("GET /livez HTTP/1.1\r\nhost: x\r\n{many_headers}\r\n"),
        format!("GET /livez HTTP/1.1\r\nhost: x\r\n{long_header}\r\n"),
        long_path,
    ] {
        let answer = send_raw(&address, request_head.as_bytes()).await.unwrap();
        let is_refused = ["431", "414", "400"]
            .iter()
            .any(|code| answer.contains(code));
        assert!(answer.is_empty() || is_refused, "{answer}");
    }
    for odd_request in [
        "GET /livez HTTP/9.9\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: x\r\na : b\r\n\r\n",
    ] {
        let answer = send_raw(&address, odd_request.as_bytes()).await.unwrap();
        assert!(
            answer.is_empty() || answer.contains(" 400 "),
            "{odd_request}: {answer}"
        );
    }

    // Hundreds of connections with an unfinished head, and hundreds that announce a body without sending it.
    let unfinished_connections = join_all((0..300).map(async |number| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request_beginning: &[u8] = match number % 3 {
            0 => b"GET /livez HTTP/1.1\r\nhost:",
            1 => b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n{",
            _ => b"",
        };
        stream.write_all(request_beginning).await.unwrap();
        stream
    }))
    .await;
    for _ in 0..20 {
        assert_eq!(system.get("/livez").await.status, 200);
        system.get("/v1/orders?limit=1").await.expect(200);
    }
    // Connections without a complete head are closed; a missing body times out a little later with 408.
    let mut connections_to_read = unfinished_connections.into_iter();
    let (first_connection, mut second_connection) = (
        connections_to_read.next().unwrap(),
        connections_to_read.next().unwrap(),
    );
    let mut answer = [0; 12];
    let read_result = time::timeout(
        Duration::from_mins(1),
        second_connection.read_exact(&mut answer),
    )
    .await;
    assert!(
        read_result.is_ok() && &answer == b"HTTP/1.1 408",
        "{answer:?}"
    );
    for mut stream in [first_connection]
        .into_iter()
        .chain(connections_to_read.skip(1).step_by(3))
    {
        let mut remaining_bytes = Vec::new();
        let read_result = time::timeout(
            Duration::from_mins(1),
            stream.read_to_end(&mut remaining_bytes),
        )
        .await;
        assert!(
            read_result.is_ok(),
            "a connection without a complete head was not closed"
        );
    }
    let reply_to_large_body = system.post_raw_order(vec![b' '; 2 * 1024 * 1024]).await;
    reply_to_large_body.expect_problem(413, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn body_with_too_large_content_length_is_refused_before_it_is_sent() {
    let system = System::start().await;
    for path in ["/v1/orders", "/webhooks/shipper", "/v1/customers"] {
        let head = |further_headers: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                 webhook-id: m\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,x\r\n\
                 content-length: 10737418240\r\n{further_headers}\r\n"
            )
        };
        // The body is refused by its announced length: without a `100 Continue`, and before any of it arrives.
        for further_headers in ["expect: 100-continue\r\n", ""] {
            let answer = send_raw(&system.gateway_address(), head(further_headers).as_bytes())
                .await
                .unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 413"),
                "{path} {further_headers}: {answer}"
            );
        }
    }
}
