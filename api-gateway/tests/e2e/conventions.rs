//! HTTP conventions: conditional requests, preferences, links, HEAD and OPTIONS, request ids, compression, CORS
//! and rate limits.

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};

use crate::harness::{
    Reply, System, has_shipping_label, order_body, order_body_with_method, send, wait_until,
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn header_text<'a>(headers: &'a HeaderMap, header_name: &str) -> &'a str {
    headers
        .get(header_name)
        .map_or("", |value| value.to_str().unwrap())
}

async fn if_match(request: RequestBuilder, entity_tag: &str) -> Reply {
    send(request.header("if-match", entity_tag)).await
}

#[tokio::test]
async fn if_match_refuses_changes_to_another_version() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let new_order = order_body_with_method(&customer_id, "A", 1, "pm_slow");
    let order_reply = system.post("/v1/orders", new_order).await;
    let entity_tag = header_text(&order_reply.headers, "etag").to_owned();
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/orders/{id}");
    let cancel_request = || system.request(Method::POST, &format!("{path}/cancel"));

    for malformed_tag in ["2", "\"2", "\"2\" \"3\"", ","] {
        let refused_reply = if_match(cancel_request(), malformed_tag).await;
        refused_reply.expect_problem(400, "INVALID_REQUEST");
    }
    for other_tag in ["\"99\"", "W/\"2\"", "\"2,3\"", "\"\""] {
        let refused_reply = if_match(cancel_request(), other_tag).await;
        let problem = refused_reply.expect_problem(412, "VERSION_MISMATCH");
        assert!(problem["detail"].as_str().unwrap().contains(&entity_tag));
    }
    // A 412 is not recorded under the key: the client can read the order and retry.
    if_match(cancel_request().header("idempotency-key", "once"), "\"99\"")
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    let tag_list = format!("\"99\", {entity_tag}");
    let cancellation_reply = if_match(
        cancel_request().header("idempotency-key", "once"),
        &tag_list,
    )
    .await;
    assert_eq!(cancellation_reply.expect(200)["status"], "cancelled");
    // The recorded response is replayed, although the version no longer matches.
    let repeated_reply = if_match(
        cancel_request().header("idempotency-key", "once"),
        &tag_list,
    )
    .await;
    assert_eq!(
        header_text(&repeated_reply.headers, "idempotent-replayed"),
        "true"
    );
    if_match(
        cancel_request().header("idempotency-key", "once"),
        &entity_tag,
    )
    .await
    .expect_problem(422, "IDEMPOTENCY_CONFLICT");
    if_match(system.request(Method::DELETE, &path), &entity_tag)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    let delete_reply = if_match(system.request(Method::DELETE, &path), "*").await;
    assert_eq!(delete_reply.status, 204);
    let missing_order_path = "/v1/orders/0192f0c1-2345-7abc-8def-0123456789ab";
    if_match(system.request(Method::DELETE, missing_order_path), "\"1\"")
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn if_match_applies_to_products_and_customers() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let product_reply = system.get("/v1/products/A").await;
    let entity_tag = header_text(&product_reply.headers, "etag").to_owned();
    let customer_id = system.create_customer().await;
    system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    // Stock changed: the representation is different, but the version of the product is the same.
    let repeated_request = system.request(Method::GET, "/v1/products/A");
    let repeated_reply = send(repeated_request.header("if-none-match", &entity_tag)).await;
    assert_eq!(repeated_reply.expect(200)["stock"][0]["reserved"], 1);
    let rename_request = |new_name: &str| {
        let body = json!({"name": new_name});
        system.request(Method::PATCH, "/v1/products/A").json(&body)
    };
    let rename_reply = if_match(rename_request("B"), &entity_tag).await;
    let version = rename_reply.expect(200)["version"].as_u64().unwrap();
    if_match(rename_request("C"), &entity_tag)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    if_match(rename_request("C"), &format!("\"{version}\""))
        .await
        .expect(200);

    let path = format!("/v1/customers/{customer_id}");
    let entity_tag = header_text(&system.get(&path).await.headers, "etag").to_owned();
    let block_request = || system.request(Method::POST, &format!("{path}/block"));
    if_match(block_request(), &entity_tag).await.expect(200);
    if_match(block_request(), &entity_tag)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
}

#[tokio::test]
async fn prefer_wait_returns_the_result_of_the_payment() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let create_with_preference = async |payment_method: &str, preference: &str| {
        let new_order = order_body_with_method(&customer_id, "A", 1, payment_method);
        let request = system.request(Method::POST, "/v1/orders").json(&new_order);
        send(request.header("prefer", preference)).await
    };
    let paid_reply = create_with_preference("pm_ok", "wait=20").await;
    assert_eq!(
        header_text(&paid_reply.headers, "preference-applied"),
        "wait=20"
    );
    assert!(header_text(&paid_reply.headers, "location").starts_with("/v1/orders/"));
    let paid_order = paid_reply.expect(201);
    assert_eq!(paid_order["status"], "processing");
    let declined_reply = create_with_preference("pm_declined", "respond-async;x, wait=\"20\"")
        .await
        .expect(201);
    assert_eq!(declined_reply["status"], "cancelled");
    assert_eq!(declined_reply["cancel_reason"], "payment_declined");
    // The request waits no longer than its preference.
    let slow_order = create_with_preference("pm_slow", "wait=1")
        .await
        .expect(201);
    assert_eq!(slow_order["status"], "pending");
    let plain_reply = create_with_preference("pm_slow", "handling=lenient").await;
    assert_eq!(header_text(&plain_reply.headers, "preference-applied"), "");
}

#[tokio::test]
async fn repeated_request_with_a_known_key_can_wait_for_the_payment() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    for (payment_method, status) in [("pm_ok", "processing"), ("pm_declined", "cancelled")] {
        let new_order = order_body_with_method(&customer_id, "A", 1, payment_method);
        let create_order = async |preference: Option<&str>| {
            let request = system.request(Method::POST, "/v1/orders").json(&new_order);
            let request = request.header("idempotency-key", payment_method);
            send(match preference {
                Some(preference) => request.header("prefer", preference),
                None => request,
            })
            .await
        };
        let first_order = create_order(None).await.expect(201);
        assert_eq!(first_order["status"], "pending");
        for _ in 0..2 {
            let repeated_reply = create_order(Some("wait=20")).await;
            assert_eq!(
                header_text(&repeated_reply.headers, "idempotent-replayed"),
                "true"
            );
            assert_eq!(
                header_text(&repeated_reply.headers, "preference-applied"),
                "wait=20"
            );
            let repeated_order = repeated_reply.expect(201);
            assert_eq!(
                (&repeated_order["id"], &repeated_order["status"]),
                (&first_order["id"], &status.into())
            );
        }
        // Without the preference, the recorded response is replayed unchanged.
        assert_eq!(create_order(None).await.expect(201), first_order);
    }
}

#[tokio::test]
async fn lists_have_next_links_and_resources_support_head_and_options() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    for _ in 0..3 {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201);
    }
    let path = format!("/v1/orders?limit=2&customer_id={customer_id}");
    let first_page_reply = system.get(&path).await;
    let link_header = header_text(&first_page_reply.headers, "link").to_owned();
    let next_link = link_header
        .strip_prefix('<')
        .unwrap()
        .split('>')
        .next()
        .unwrap();
    assert!(link_header.ends_with("; rel=\"next\""), "{link_header}");
    assert!(
        next_link.contains("limit=2") && next_link.contains("customer_id="),
        "{next_link}"
    );
    let second_page_reply = system.get(next_link).await;
    assert_eq!(header_text(&second_page_reply.headers, "link"), "");
    assert_eq!(
        second_page_reply.expect(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let id = first_page_reply.expect(200)["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let head_reply = send(system.request(Method::HEAD, &format!("/v1/orders/{id}"))).await;
    assert_eq!((head_reply.status, &head_reply.body), (200, &Value::Null));
    assert_ne!(header_text(&head_reply.headers, "etag"), "");
    let options_reply = send(system.request(Method::OPTIONS, &format!("/v1/orders/{id}"))).await;
    assert_eq!(options_reply.status, 204);
    let allowed_methods = header_text(&options_reply.headers, "allow");
    for http_method in ["GET", "HEAD", "DELETE"] {
        assert!(allowed_methods.contains(http_method), "{allowed_methods}");
    }
    let refused_reply = send(system.request(Method::PUT, &format!("/v1/orders/{id}"))).await;
    assert_ne!(header_text(&refused_reply.headers, "allow"), "");
    refused_reply.expect_problem(405, "INVALID_REQUEST");
}

#[tokio::test]
async fn responses_have_request_ids_and_security_headers() {
    let system = System::start().await;
    let request = system
        .request(Method::GET, "/v1/orders")
        .header("x-request-id", "mine-1")
        .header("traceparent", format!("00-{TRACE_ID}-00f067aa0ba902b7-01"));
    let reply = send(request).await;
    assert_eq!(header_text(&reply.headers, "x-request-id"), "mine-1");
    assert!(header_text(&reply.headers, "traceparent").starts_with(&format!("00-{TRACE_ID}-")));
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
    assert!(line.contains(TRACE_ID), "{line}");
}

#[tokio::test]
async fn large_responses_are_compressed_if_the_client_accepts_it() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let order_path = format!("/v1/orders/{id}");
    let get_headers = async |path: &str, accepted_encodings: &[&str]| {
        let request = accepted_encodings
            .iter()
            .fold(system.request(Method::GET, path), |request, encodings| {
                request.header("accept-encoding", *encodings)
            });
        send(request).await.headers
    };
    for (accepted_encodings, encoding) in [
        (&["gzip"][..], "gzip"),
        (&["br"], "br"),
        (&["deflate", "gzip;q=0.5, br;q=0.1"], "gzip"),
        (&["identity"], ""),
        (&["gzip;q=0"], ""),
        (&[], ""),
    ] {
        let large_response_headers = get_headers("/openapi.json", accepted_encodings).await;
        assert_eq!(
            header_text(&large_response_headers, "content-encoding"),
            encoding,
            "{accepted_encodings:?}"
        );
        // The header is needed without compression as well: a cache must know that the representation depends on
        // it.
        assert!(header_text(&large_response_headers, "vary").contains("accept-encoding"));
        for short_path in ["/livez", &order_path] {
            let small_response_headers = get_headers(short_path, accepted_encodings).await;
            assert_eq!(
                header_text(&small_response_headers, "content-encoding"),
                "",
                "{short_path} {accepted_encodings:?}"
            );
        }
    }
}

#[tokio::test]
async fn cors_allows_only_configured_origins() {
    let shop_origin = "https://shop.example.com";
    let system = System::start_with(&[("CORS_ORIGINS", shop_origin)]).await;
    let preflight_headers = async |origin: &str| {
        let request = system
            .request(Method::OPTIONS, "/v1/orders")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "idempotency-key");
        send(request).await.headers
    };
    let headers_for_allowed_origin = preflight_headers(shop_origin).await;
    assert_eq!(
        header_text(&headers_for_allowed_origin, "access-control-allow-origin"),
        shop_origin
    );
    assert!(
        header_text(&headers_for_allowed_origin, "access-control-allow-headers")
            .contains("idempotency-key")
    );
    let headers_for_other_origin = preflight_headers("https://evil.example.com").await;
    assert_ne!(
        header_text(&headers_for_other_origin, "access-control-allow-origin"),
        "https://evil.example.com"
    );
    let system_without_cors = System::start().await;
    let request = system_without_cors.request(Method::GET, "/v1/orders");
    let reply = send(request.header("origin", shop_origin)).await;
    assert_eq!(
        header_text(&reply.headers, "access-control-allow-origin"),
        ""
    );
}

#[tokio::test]
async fn rate_limited_requests_get_429_with_retry_after() {
    let keys = "storefront@eu=key-of-eu;storefront@us=key-of-us";
    let mut system = System::start_with(&[("API_KEYS", keys), ("RATE_LIMIT", "5/s")]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let first_reply = system.get("/v1/orders").await;
    assert_eq!(
        header_text(&first_reply.headers, "ratelimit-policy"),
        "\"default\";q=5;w=1"
    );
    assert_eq!(header_text(&first_reply.headers, "ratelimit-limit"), "5");
    let replies = futures_util::future::join_all((0..20).map(|_| system.get("/v1/orders"))).await;
    let (accepted_replies, refused_replies): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 200);
    assert!(!accepted_replies.is_empty() && !refused_replies.is_empty());
    for reply in refused_replies {
        assert_eq!(header_text(&reply.headers, "retry-after"), "1");
        assert_eq!(header_text(&reply.headers, "ratelimit-remaining"), "0");
        reply.expect_problem(429, "RATE_LIMITED");
    }
    // Each API key has its own limit, and health checks are not limited.
    system.api_key = Some("key-of-us".to_owned());
    system.get("/v1/orders").await.expect(200);
    assert_eq!(system.get("/livez").await.status, 200);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_create_one_order() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 50)]).await;
    let customer_id = system.create_customer().await;
    let new_order = order_body(&customer_id, "A", 1);
    let create_order = || {
        let request = system.request(Method::POST, "/v1/orders").json(&new_order);
        send(request.header("idempotency-key", "cart-1"))
    };
    let replies = futures_util::future::join_all((0..20).map(|_| create_order())).await;
    let mut order_ids: Vec<String> = replies
        .into_iter()
        .map(|reply| reply.expect(201)["id"].as_str().unwrap().to_owned())
        .collect();
    order_ids.dedup();
    assert_eq!(order_ids.len(), 1, "{order_ids:?}");
    system
        .wait_for_order(&order_ids[0], "announced", has_shipping_label)
        .await;
    assert_eq!(system.stock_level("A").await, (50, 1));
}

#[tokio::test]
async fn null_in_a_patch_removes_optional_fields() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let patch_resource =
        async |path: &str, body: Value| send(system.request(Method::PATCH, path).json(&body)).await;
    let product = json!({"sku": "A", "name": "A", "price": 1, "currency": "EUR", "low_stock_at": 5,
        "image_urls": ["https://example.com/a.jpg"]});
    system.post("/v1/products", product).await.expect(201);
    let cleared_fields = json!({"low_stock_at": null, "image_urls": null});
    let changed_product = patch_resource("/v1/products/A", cleared_fields)
        .await
        .expect(200);
    assert!(
        changed_product["low_stock_at"].is_null(),
        "{changed_product}"
    );
    assert_eq!(changed_product["image_urls"], json!([]));
    let read_product = system.get("/v1/products/A").await.expect(200);
    assert!(
        read_product["low_stock_at"].is_null() && read_product["price"] == 1,
        "{read_product}"
    );

    let endpoint =
        json!({"url": "http://127.0.0.1:9/", "description": "ours", "event_types": ["order.*"]});
    let endpoint_reply = system.post("/v1/webhook-endpoints", endpoint).await;
    let id = endpoint_reply.expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/webhook-endpoints/{id}");
    let clearing_patch = json!({"description": null, "event_types": null});
    let changed_endpoint = patch_resource(&path, clearing_patch).await.expect(200);
    assert!(
        changed_endpoint["description"].is_null() && changed_endpoint["event_types"].is_null(),
        "{changed_endpoint}"
    );
    assert_eq!(system.get(&path).await.expect(200), changed_endpoint);

    for (path, required_fields) in [
        ("/v1/products/A", &["name", "price", "currency"][..]),
        (&path, &["url", "is_enabled"]),
    ] {
        for field_name in required_fields {
            let refused_reply = patch_resource(path, json!({*field_name: null})).await;
            let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
            assert_eq!(problem["errors"][0]["pointer"], format!("/{field_name}"));
        }
    }
    system.assert_verified();
}

#[tokio::test]
async fn every_list_refuses_an_invalid_cursor() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let id = system.create_any_order().await;
    let document = system.get("/openapi.json").await.expect(200);
    let mut list_count = 0;
    for (path_template, path_item) in document["paths"].as_object().unwrap() {
        let parameters = path_item["get"]["parameters"].as_array();
        let has_cursor = parameters.is_some_and(|parameters| {
            parameters
                .iter()
                .any(|parameter| parameter["name"] == "cursor")
        });
        if !has_cursor {
            continue;
        }
        list_count += 1;
        let path = match path_template.as_str() {
            "/v1/orders/{id}/history" | "/v1/orders/{id}/messages" => {
                path_template.replace("{id}", &id)
            }
            "/v1/customers/{id}/orders" => {
                format!("/v1/customers/{}/orders", system.create_customer().await)
            }
            "/v1/webhook-endpoints/{id}/deliveries" => {
                let endpoint = json!({"url": "https://example.com/hook"});
                let created_reply = system.post("/v1/webhook-endpoints", endpoint).await;
                format!(
                    "/v1/webhook-endpoints/{}/deliveries",
                    created_reply.expect(201)["id"].as_str().unwrap()
                )
            }
            path => path.to_owned(),
        };
        for invalid_cursor in [
            "garbage",
            "not-a-cursor",
            "-1x",
            "1_2",
            "a:b",
            "%00",
            "!!!",
            "WzFd",
        ] {
            let reply = system.get(&format!("{path}?cursor={invalid_cursor}")).await;
            assert_eq!(reply.status, 422, "{path} {invalid_cursor}: {}", reply.body);
            assert_eq!(
                reply.body["errors"][0]["pointer"], "/cursor",
                "{path} {invalid_cursor}"
            );
        }
    }
    assert!(list_count >= 8, "{list_count}");
    // A valid cursor continues the list, also after a SKU that is a prefix of others.
    for sku in ["A-1", "A.1", "B"] {
        system.create_product_with_stock(sku, &[]).await;
    }
    let (mut seen_skus, mut path) = (Vec::new(), "/v1/products?limit=1".to_owned());
    loop {
        let page = system.get(&path).await.expect(200);
        seen_skus.extend(
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
    let all_products = system.get("/v1/products").await.expect(200);
    let all_products: Vec<_> = all_products["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| product["sku"].clone())
        .collect();
    assert_eq!(seen_skus, all_products);
    assert_eq!(seen_skus.len(), 4);
}

impl System {
    async fn create_any_order(&self) -> String {
        let customer_id = self.create_customer().await;
        self.put("/v1/products/A/stock/main", json!({"on_hand": 5}))
            .await
            .expect(200);
        let order_reply = self
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn if_none_match_accepts_a_list_and_304_has_the_headers_of_200() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let path = format!("/v1/customers/{}", system.create_customer().await);
    let full_reply = system.get(&path).await;
    let entity_tag = header_text(&full_reply.headers, "etag").to_owned();
    let get_if_none_match = async |header_lines: &[&str]| {
        let request = header_lines.iter().fold(
            system.request(Method::GET, &path),
            |request, header_line| request.header("if-none-match", *header_line),
        );
        send(request).await
    };
    let weak_tag = format!("W/{entity_tag}");
    for header_lines in [
        &[entity_tag.as_str()][..],
        &["\"a,b\"", &entity_tag],
        &[&weak_tag],
        &["*"],
        &["\"x\" , , \"y\"", &entity_tag],
    ] {
        let unchanged_reply = get_if_none_match(header_lines).await;
        assert_eq!(unchanged_reply.status, 304, "{header_lines:?}");
        for header_name in ["etag", "vary", "cache-control"] {
            assert_eq!(
                header_text(&unchanged_reply.headers, header_name),
                header_text(&full_reply.headers, header_name),
                "{header_name}"
            );
            assert_ne!(
                header_text(&unchanged_reply.headers, header_name),
                "",
                "{header_name}"
            );
        }
    }
    let tag_inside_another = format!("\"a,{},b\"", entity_tag.trim_matches('"'));
    for header_lines in [&[tag_inside_another.as_str()][..], &["\"other\""], &["\""]] {
        assert_eq!(
            get_if_none_match(header_lines).await.status,
            200,
            "{header_lines:?}"
        );
    }
}

#[tokio::test]
async fn without_api_keys_only_allowed_origins_can_make_changes() {
    let shop_origin = "https://shop.example.com";
    let system = System::start_with(&[("CORS_ORIGINS", shop_origin)]).await;
    let create_customer_from = |origin: &str| {
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
    let customer_reply = create_customer_from(shop_origin).await;
    assert_eq!(
        header_text(&customer_reply.headers, "access-control-allow-origin"),
        shop_origin
    );
    customer_reply.expect(201);
    create_customer_from("https://evil.example.com")
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
    let metrics_address = system
        .gateway
        .find_logged_field("metrics_address", 0)
        .unwrap();
    let scrape_metrics = async |path: &str| {
        let reply = system
            .client
            .get(format!("http://{metrics_address}{path}"))
            .send()
            .await;
        reply.unwrap().status().as_u16()
    };
    assert_eq!(scrape_metrics("/metrics").await, 200);
    assert_eq!(scrape_metrics("/v1/orders").await, 404);

    system.gateway.terminate();
    wait_until("the gateway to end", async || system.gateway.has_ended()).await;
    system.set_variable("METRICS_ADDR", None);
    system.set_variable("HTTP_ADDR", Some("0.0.0.0:0"));
    system.restart_gateway().await;
    system
        .get("/metrics")
        .await
        .expect_problem(401, "UNAUTHENTICATED");
    system.api_key = Some("key-of-the-eu-shop".to_owned());
    system
        .get("/metrics")
        .await
        .expect_problem(403, "FORBIDDEN");
    system.api_key = Some("key-of-operators".to_owned());
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
    for (path_template, path_item) in document["paths"].as_object().unwrap() {
        if !path_template.starts_with("/v1/") {
            continue;
        }
        for method_name in path_item.as_object().unwrap().keys() {
            let http_method = Method::from_bytes(method_name.to_uppercase().as_bytes()).unwrap();
            let refused_reply = send(system.request(http_method.clone(), path_template)).await;
            assert_eq!(refused_reply.status, 401, "{http_method} {path_template}");
        }
    }
}
