//! HTTP conventions: conditional requests, preferences, links, HEAD and OPTIONS, request ids, compression, CORS
//! and rate limits.

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};

use crate::harness::{Reply, System, is_announced, order, order_paid_by, send, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

async fn if_match(request: RequestBuilder, tag: &str) -> Reply {
    send(request.header("if-match", tag)).await
}

#[tokio::test]
async fn if_match_refuses_changes_to_another_version() {
    let system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    let new_order = order_paid_by(&customer, "A", 1, "pm_slow");
    let created = system.post("/v1/orders", new_order).await;
    let tag = header_text(&created.headers, "etag").to_owned();
    let id = created.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/orders/{id}");
    let cancel = || system.request(Method::POST, &format!("{path}/cancel"));

    for malformed in ["2", "\"2", "\"2\" \"3\"", ","] {
        let refused = if_match(cancel(), malformed).await;
        refused.expect_problem(400, "INVALID_REQUEST");
    }
    for wrong in ["\"99\"", "W/\"2\"", "\"2,3\"", "\"\""] {
        let refused = if_match(cancel(), wrong).await;
        let problem = refused.expect_problem(412, "VERSION_MISMATCH");
        assert!(problem["detail"].as_str().unwrap().contains(&tag));
    }
    // A 412 is not recorded under the key: the client can read the order and retry.
    if_match(cancel().header("idempotency-key", "once"), "\"99\"")
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    let both = format!("\"99\", {tag}");
    let cancelled = if_match(cancel().header("idempotency-key", "once"), &both).await;
    assert_eq!(cancelled.expect(200)["status"], "cancelled");
    // The recorded response is replayed, although the version no longer matches.
    let again = if_match(cancel().header("idempotency-key", "once"), &both).await;
    assert_eq!(header_text(&again.headers, "idempotent-replayed"), "true");
    if_match(cancel().header("idempotency-key", "once"), &tag)
        .await
        .expect_problem(422, "IDEMPOTENCY_CONFLICT");
    if_match(system.request(Method::DELETE, &path), &tag)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    let deleted = if_match(system.request(Method::DELETE, &path), "*").await;
    assert_eq!(deleted.status, 204);
    let missing = "/v1/orders/0192f0c1-2345-7abc-8def-0123456789ab";
    if_match(system.request(Method::DELETE, missing), "\"1\"")
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn if_match_applies_to_products_and_customers() {
    let system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let before = system.get("/v1/products/A").await;
    let tag = header_text(&before.headers, "etag").to_owned();
    let customer = system.customer().await;
    system
        .post("/v1/orders", order(&customer, "A", 1))
        .await
        .expect(201);
    // Stock changed: the representation is different, but the version of the product is the same.
    let again = system.request(Method::GET, "/v1/products/A");
    let again = send(again.header("if-none-match", &tag)).await;
    assert_eq!(again.expect(200)["stock"][0]["reserved"], 1);
    let rename = |name: &str| {
        let body = json!({"name": name});
        system.request(Method::PATCH, "/v1/products/A").json(&body)
    };
    let renamed = if_match(rename("B"), &tag).await;
    let version = renamed.expect(200)["version"].as_u64().unwrap();
    if_match(rename("C"), &tag)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    if_match(rename("C"), &format!("\"{version}\""))
        .await
        .expect(200);

    let path = format!("/v1/customers/{customer}");
    let tag = header_text(&system.get(&path).await.headers, "etag").to_owned();
    let block = || system.request(Method::POST, &format!("{path}/block"));
    if_match(block(), &tag).await.expect(200);
    if_match(block(), &tag)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
}

#[tokio::test]
async fn prefer_wait_returns_the_result_of_the_payment() {
    let system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    let ask = async |method: &str, wait: &str| {
        let new_order = order_paid_by(&customer, "A", 1, method);
        let request = system.request(Method::POST, "/v1/orders").json(&new_order);
        send(request.header("prefer", wait)).await
    };
    let paid = ask("pm_ok", "wait=20").await;
    assert_eq!(header_text(&paid.headers, "preference-applied"), "wait=20");
    assert!(header_text(&paid.headers, "location").starts_with("/v1/orders/"));
    let paid = paid.expect(201);
    assert_eq!(paid["status"], "processing");
    let declined = ask("pm_declined", "respond-async;x, wait=\"20\"")
        .await
        .expect(201);
    assert_eq!(declined["status"], "cancelled");
    assert_eq!(declined["cancel_reason"], "payment_declined");
    // The request waits no longer than its preference.
    let slow = ask("pm_slow", "wait=1").await.expect(201);
    assert_eq!(slow["status"], "pending");
    let plain = ask("pm_slow", "handling=lenient").await;
    assert_eq!(header_text(&plain.headers, "preference-applied"), "");
}

#[tokio::test]
async fn repeated_request_with_a_known_key_can_wait_for_the_payment() {
    let system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    for (method, status) in [("pm_ok", "processing"), ("pm_declined", "cancelled")] {
        let new_order = order_paid_by(&customer, "A", 1, method);
        let ask = async |wait: Option<&str>| {
            let request = system.request(Method::POST, "/v1/orders").json(&new_order);
            let request = request.header("idempotency-key", method);
            send(match wait {
                Some(wait) => request.header("prefer", wait),
                None => request,
            })
            .await
        };
        let first = ask(None).await.expect(201);
        assert_eq!(first["status"], "pending");
        for _ in 0..2 {
            let again = ask(Some("wait=20")).await;
            assert_eq!(header_text(&again.headers, "idempotent-replayed"), "true");
            assert_eq!(header_text(&again.headers, "preference-applied"), "wait=20");
            let again = again.expect(201);
            assert_eq!(
                (&again["id"], &again["status"]),
                (&first["id"], &status.into())
            );
        }
        // Without the preference, the recorded response is replayed unchanged.
        assert_eq!(ask(None).await.expect(201), first);
    }
}

#[tokio::test]
async fn lists_have_next_links_and_resources_support_head_and_options() {
    let system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    for _ in 0..3 {
        let created = system.post("/v1/orders", order(&customer, "A", 1)).await;
        created.expect(201);
    }
    let path = format!("/v1/orders?limit=2&customer_id={customer}");
    let first = system.get(&path).await;
    let link = header_text(&first.headers, "link").to_owned();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    assert!(link.ends_with("; rel=\"next\""), "{link}");
    assert!(
        next.contains("limit=2") && next.contains("customer_id="),
        "{next}"
    );
    let second = system.get(next).await;
    assert_eq!(header_text(&second.headers, "link"), "");
    assert_eq!(second.expect(200)["data"].as_array().unwrap().len(), 1);

    let id = first.expect(200)["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let head = send(system.request(Method::HEAD, &format!("/v1/orders/{id}"))).await;
    assert_eq!((head.status, &head.body), (200, &Value::Null));
    assert_ne!(header_text(&head.headers, "etag"), "");
    let options = send(system.request(Method::OPTIONS, &format!("/v1/orders/{id}"))).await;
    assert_eq!(options.status, 204);
    let allowed = header_text(&options.headers, "allow");
    for method in ["GET", "HEAD", "DELETE"] {
        assert!(allowed.contains(method), "{allowed}");
    }
    let refused = send(system.request(Method::PUT, &format!("/v1/orders/{id}"))).await;
    assert_ne!(header_text(&refused.headers, "allow"), "");
    refused.expect_problem(405, "INVALID_REQUEST");
}

#[tokio::test]
async fn responses_have_request_ids_and_security_headers() {
    let system = System::start().await;
    let request = system
        .request(Method::GET, "/v1/orders")
        .header("x-request-id", "mine-1")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let reply = send(request).await;
    assert_eq!(header_text(&reply.headers, "x-request-id"), "mine-1");
    assert!(header_text(&reply.headers, "traceparent").starts_with(&format!("00-{TRACE}-")));
    for reply in [reply, system.get("/nowhere").await] {
        assert_eq!(
            header_text(&reply.headers, "x-content-type-options"),
            "nosniff"
        );
        assert_eq!(
            header_text(&reply.headers, "referrer-policy"),
            "no-referrer"
        );
        assert_ne!(header_text(&reply.headers, "content-security-policy"), "");
        assert_ne!(header_text(&reply.headers, "cache-control"), "");
    }
    // The worker logs the same ids.
    let log = std::fs::read_to_string(system.folder.join("worker.log")).unwrap();
    let line = log.lines().find(|line| line.contains("mine-1")).unwrap();
    assert!(line.contains(TRACE), "{line}");
}

#[tokio::test]
async fn large_responses_are_compressed_if_the_client_accepts_it() {
    let system = System::start().await;
    let ask = async |path: &str, accepted: &[&str]| {
        let request = accepted
            .iter()
            .fold(system.request(Method::GET, path), |request, encodings| {
                request.header("accept-encoding", *encodings)
            });
        send(request).await.headers
    };
    for (accepted, encoding) in [
        (&["gzip"][..], "gzip"),
        (&["br"], "br"),
        (&["deflate", "gzip;q=0.5, br;q=0.1"], "gzip"),
        (&["identity"], ""),
        (&["gzip;q=0"], ""),
        (&[], ""),
    ] {
        let long = ask("/openapi.json", accepted).await;
        assert_eq!(
            header_text(&long, "content-encoding"),
            encoding,
            "{accepted:?}"
        );
        // The header is needed without compression as well: a cache must know that the representation depends on
        // it.
        assert!(header_text(&long, "vary").contains("accept-encoding"));
        let short = ask("/livez", accepted).await;
        assert_eq!(header_text(&short, "content-encoding"), "", "{accepted:?}");
    }
}

#[tokio::test]
async fn cors_allows_only_configured_origins() {
    let shop = "https://shop.example.com";
    let system = System::start_with(&[("CORS_ORIGINS", shop)]).await;
    let ask = async |origin: &str| {
        let request = system
            .request(Method::OPTIONS, "/v1/orders")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "idempotency-key");
        send(request).await.headers
    };
    let allowed = ask(shop).await;
    assert_eq!(header_text(&allowed, "access-control-allow-origin"), shop);
    assert!(header_text(&allowed, "access-control-allow-headers").contains("idempotency-key"));
    let other = ask("https://evil.example.com").await;
    assert_ne!(
        header_text(&other, "access-control-allow-origin"),
        "https://evil.example.com"
    );
    let closed = System::start().await;
    let request = closed.request(Method::GET, "/v1/orders");
    let reply = send(request.header("origin", shop)).await;
    assert_eq!(
        header_text(&reply.headers, "access-control-allow-origin"),
        ""
    );
}

#[tokio::test]
async fn rate_limited_requests_get_429_with_retry_after() {
    let keys = "storefront@eu=key-of-eu;storefront@us=key-of-us";
    let mut system = System::start_with(&[("API_KEYS", keys), ("RATE_LIMIT", "5/s")]).await;
    system.key = Some("key-of-eu".to_owned());
    let first = system.get("/v1/orders").await;
    assert_eq!(
        header_text(&first.headers, "ratelimit-policy"),
        "\"default\";q=5;w=1"
    );
    assert_eq!(header_text(&first.headers, "ratelimit-limit"), "5");
    let replies = futures_util::future::join_all((0..20).map(|_| system.get("/v1/orders"))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 200);
    assert!(!accepted.is_empty() && !refused.is_empty());
    for reply in refused {
        assert_eq!(header_text(&reply.headers, "retry-after"), "1");
        assert_eq!(header_text(&reply.headers, "ratelimit-remaining"), "0");
        reply.expect_problem(429, "RATE_LIMITED");
    }
    // Each API key has its own limit, and health checks are not limited.
    system.key = Some("key-of-us".to_owned());
    system.get("/v1/orders").await.expect(200);
    assert_eq!(system.get("/livez").await.status, 200);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_create_one_order() {
    let system = System::start().await;
    system.stock("A", &[("main", 50)]).await;
    let customer = system.customer().await;
    let new_order = order(&customer, "A", 1);
    let ask = || {
        let request = system.request(Method::POST, "/v1/orders").json(&new_order);
        send(request.header("idempotency-key", "cart-1"))
    };
    let replies = futures_util::future::join_all((0..20).map(|_| ask())).await;
    let mut ids: Vec<String> = replies
        .into_iter()
        .map(|reply| reply.expect(201)["id"].as_str().unwrap().to_owned())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    system.order_until(&ids[0], "announced", is_announced).await;
    assert_eq!(system.stock_level("A").await, (50, 1));
}

#[tokio::test]
async fn null_in_a_patch_removes_optional_fields() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let patch =
        async |path: &str, body: Value| send(system.request(Method::PATCH, path).json(&body)).await;
    let product = json!({"sku": "A", "name": "A", "price": 1, "currency": "EUR", "low_stock_at": 5,
        "image_urls": ["https://example.com/a.jpg"]});
    system.post("/v1/products", product).await.expect(201);
    let cleared = json!({"low_stock_at": null, "image_urls": null});
    let changed = patch("/v1/products/A", cleared).await.expect(200);
    assert!(changed["low_stock_at"].is_null(), "{changed}");
    assert_eq!(changed["image_urls"], json!([]));
    let read = system.get("/v1/products/A").await.expect(200);
    assert!(
        read["low_stock_at"].is_null() && read["price"] == 1,
        "{read}"
    );

    let endpoint =
        json!({"url": "http://127.0.0.1:9/", "description": "ours", "event_types": ["order.*"]});
    let made = system.post("/v1/webhook-endpoints", endpoint).await;
    let id = made.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/webhook-endpoints/{id}");
    let cleared = json!({"description": null, "event_types": null});
    let changed = patch(&path, cleared).await.expect(200);
    assert!(
        changed["description"].is_null() && changed["event_types"].is_null(),
        "{changed}"
    );
    assert_eq!(system.get(&path).await.expect(200), changed);

    for (path, required) in [
        ("/v1/products/A", &["name", "price", "currency"][..]),
        (&path, &["url", "is_enabled"]),
    ] {
        for name in required {
            let refused = patch(path, json!({*name: null})).await;
            let problem = refused.expect_problem(422, "INVALID_REQUEST");
            assert_eq!(problem["errors"][0]["pointer"], format!("/{name}"));
        }
    }
    system.assert_verified();
}

#[tokio::test]
async fn every_list_refuses_an_invalid_cursor() {
    let system = System::start().await;
    system.stock("A", &[]).await;
    let id = system.create_any_order().await;
    let document = system.get("/openapi.json").await.expect(200);
    let mut lists = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let parameters = item["get"]["parameters"].as_array();
        let has_cursor = parameters.is_some_and(|parameters| {
            parameters
                .iter()
                .any(|parameter| parameter["name"] == "cursor")
        });
        if !has_cursor {
            continue;
        }
        lists += 1;
        let path = match path.as_str() {
            "/v1/orders/{id}/history" => format!("/v1/orders/{id}/history"),
            "/v1/customers/{id}/orders" => {
                format!("/v1/customers/{}/orders", system.customer().await)
            }
            "/v1/webhook-endpoints/{id}/deliveries" => {
                let endpoint = json!({"url": "https://example.com/hook"});
                let made = system.post("/v1/webhook-endpoints", endpoint).await;
                format!(
                    "/v1/webhook-endpoints/{}/deliveries",
                    made.expect(201)["id"].as_str().unwrap()
                )
            }
            path => path.to_owned(),
        };
        for wrong in [
            "garbage",
            "not-a-cursor",
            "-1x",
            "1_2",
            "a:b",
            "%00",
            "!!!",
            "WzFd",
        ] {
            let reply = system.get(&format!("{path}?cursor={wrong}")).await;
            assert_eq!(reply.status, 422, "{path} {wrong}: {}", reply.body);
            assert_eq!(
                reply.body["errors"][0]["pointer"], "/cursor",
                "{path} {wrong}"
            );
        }
    }
    assert!(lists >= 8, "{lists}");
    // A valid cursor continues the list, also after a SKU that is a prefix of others.
    for sku in ["A-1", "A.1", "B"] {
        system.stock(sku, &[]).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/products?limit=1".to_owned());
    loop {
        let page = system.get(&path).await.expect(200);
        seen.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|product| product["sku"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/products?limit=1&cursor={cursor}"),
            None => break,
        }
    }
    let all = system.get("/v1/products").await.expect(200);
    let all: Vec<_> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| product["sku"].clone())
        .collect();
    assert_eq!(seen, all);
    assert_eq!(seen.len(), 4);
}

impl System {
    async fn create_any_order(&self) -> String {
        let customer = self.customer().await;
        self.put("/v1/products/A/stock/main", json!({"on_hand": 5}))
            .await
            .expect(200);
        let created = self.post("/v1/orders", order(&customer, "A", 1)).await;
        created.expect(201)["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn if_none_match_accepts_a_list_and_304_has_the_headers_of_200() {
    let system = System::start().await;
    system.stock("A", &[]).await;
    let path = format!("/v1/customers/{}", system.customer().await);
    let full = system.get(&path).await;
    let tag = header_text(&full.headers, "etag").to_owned();
    let ask = async |lines: &[&str]| {
        let request = lines
            .iter()
            .fold(system.request(Method::GET, &path), |request, line| {
                request.header("if-none-match", *line)
            });
        send(request).await
    };
    let weak = format!("W/{tag}");
    for lines in [
        &[tag.as_str()][..],
        &["\"a,b\"", &tag],
        &[&weak],
        &["*"],
        &["\"x\" , , \"y\"", &tag],
    ] {
        let unchanged = ask(lines).await;
        assert_eq!(unchanged.status, 304, "{lines:?}");
        for name in ["etag", "vary", "cache-control"] {
            assert_eq!(
                header_text(&unchanged.headers, name),
                header_text(&full.headers, name),
                "{name}"
            );
            assert_ne!(header_text(&unchanged.headers, name), "", "{name}");
        }
    }
    let within = format!("\"a,{},b\"", tag.trim_matches('"'));
    for lines in [&[within.as_str()][..], &["\"other\""], &["\""]] {
        assert_eq!(ask(lines).await.status, 200, "{lines:?}");
    }
}

#[tokio::test]
async fn without_api_keys_only_allowed_origins_can_make_changes() {
    let shop = "https://shop.example.com";
    let system = System::start_with(&[("CORS_ORIGINS", shop)]).await;
    let ask = |origin: &str| {
        let customer = json!({"name": "Ada", "email": "ada@example.com"});
        let request = system
            .request(Method::POST, "/v1/customers")
            .json(&customer);
        send(
            request
                .header("origin", origin)
                .header("sec-fetch-site", "cross-site"),
        )
    };
    let made = ask(shop).await;
    assert_eq!(
        header_text(&made.headers, "access-control-allow-origin"),
        shop
    );
    made.expect(201);
    ask("https://evil.example.com")
        .await
        .expect_problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn metrics_have_their_own_address_or_require_a_credential() {
    let keys = "storefront@eu=key-of-the-eu-shop;operator=key-of-operators";
    let mut system =
        System::start_with(&[("API_KEYS", keys), ("METRICS_ADDR", "127.0.0.1:0")]).await;
    system
        .get("/metrics")
        .await
        .expect_problem(404, "NOT_FOUND");
    let address = system.gateway.logged("metrics_address", 0).unwrap();
    let scrape = async |path: &str| {
        let reply = system
            .client
            .get(format!("http://{address}{path}"))
            .send()
            .await;
        reply.unwrap().status().as_u16()
    };
    assert_eq!(scrape("/metrics").await, 200);
    assert_eq!(scrape("/v1/orders").await, 404);

    system.gateway.terminate();
    until("the gateway to end", async || system.gateway.has_ended()).await;
    system.set("METRICS_ADDR", None);
    system.set("HTTP_ADDR", Some("0.0.0.0:0"));
    system.restart_gateway().await;
    system
        .get("/metrics")
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    system.key = Some("key-of-the-eu-shop".to_owned());
    system
        .get("/metrics")
        .await
        .expect_problem(403, "FORBIDDEN");
    system.key = Some("key-of-operators".to_owned());
    assert_eq!(system.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn only_public_routes_are_answered_without_a_credential() {
    let keys = "operator=key-of-operators";
    let system = System::start_with(&[("API_KEYS", keys), ("DEBUG_API", "1"), ("DEMO", "1")]).await;
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/openapi.json", 200),
        ("/docs/", 200),
        ("/", 200),
        ("/metrics", 200),
        ("/v1/orders", 401),
        ("/v1/events/stream", 401),
        ("/debug/tables", 401),
    ] {
        assert_eq!(system.get(path).await.status, status, "{path}");
    }
    for path in [
        "/webhooks/shipper",
        "/webhooks/stripe",
        "/demo/reset",
        "/v1/orders/import",
    ] {
        assert_eq!(system.post(path, json!({})).await.status, 401, "{path}");
    }
    let document = system.get("/openapi.json").await.expect(200);
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/") {
            continue;
        }
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let refused = send(system.request(method.clone(), path)).await;
            assert_eq!(refused.status, 401, "{method} {path}");
        }
    }
}
