//! Errors are problem documents that name the cause and the location.

use reqwest::Method;
use serde_json::json;

use crate::harness::{System, order_body, send};

#[tokio::test]
async fn malformed_requests_get_a_problem_with_the_cause() {
    let system = System::start().await;
    let post_order = |body: Vec<u8>, content_type: &str| {
        send(
            system
                .request(Method::POST, "/v1/orders")
                .header("content-type", content_type)
                .body(body),
        )
    };
    let problem = post_order(b"{\"items\": [}".to_vec(), "application/json")
        .await
        .expect_problem(400, "INVALID_REQUEST");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("line 1 column"),
        "{problem}"
    );
    post_order(vec![0xff, 0xfe, 0x00], "application/json")
        .await
        .expect_problem(400, "INVALID_REQUEST");
    post_order(b"null".to_vec(), "application/json")
        .await
        .expect_problem(422, "INVALID_REQUEST");
    post_order(b"[1]".to_vec(), "application/json")
        .await
        .expect_problem(422, "INVALID_REQUEST");
    post_order("[".repeat(100_000).into_bytes(), "application/json")
        .await
        .expect_problem(400, "INVALID_REQUEST");
    post_order(b"a=b".to_vec(), "application/x-www-form-urlencoded")
        .await
        .expect_problem(415, "INVALID_REQUEST");
    post_order(vec![b' '; 1024 * 1024 + 1], "application/json")
        .await
        .expect_problem(413, "PAYLOAD_TOO_LARGE");
    // A body without `Content-Length`.
    let chunks =
        futures_util::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 32 * 1024])));
    let body_stream = reqwest::Body::wrap_stream(chunks);
    let chunked_request = system
        .request(Method::POST, "/v1/orders")
        .header("content-type", "application/json")
        .body(body_stream);
    send(chunked_request)
        .await
        .expect_problem(413, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn all_violations_are_reported_at_once_with_pointers() {
    let system = System::start().await;
    let new_order = json!({
        "customer_id": "ada",
        "items": [{"sku": "A", "quantity": 0}, {"sku": "a b", "quantity": 1, "colour": "red"}, {"quantity": 1e99}],
        "payment_method": "4242424242424242",
        "expected_total": -1,
        "surprise": true,
    });
    let problem = system
        .post("/v1/orders", new_order)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap().to_owned())
        .collect();
    for expected_error in [
        "/customer_id",
        "/items/0/quantity",
        "/items/1/sku",
        "/items/1/colour",
        "/items/2/sku",
        "/items/2/quantity",
        "/payment_method",
        "/expected_total",
        "/surprise",
    ] {
        assert!(
            pointers.contains(&expected_error.to_owned()),
            "{expected_error} in {pointers:?}"
        );
    }
    let order_without_items =
        json!({"customer_id": "0192f0c1-2345-7abc-8def-0123456789ab", "items": []});
    system
        .post("/v1/orders", order_without_items)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    let customer_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    let too_many_items = vec![json!({"sku": "A", "quantity": 1}); 501];
    system
        .post(
            "/v1/orders",
            json!({"customer_id": customer_id, "items": too_many_items}),
        )
        .await
        .expect_problem(422, "INVALID_REQUEST");
    let order_with_nul = json!({"customer_id": customer_id, "items": [{"sku": "A", "quantity": 1}], "metadata": {"a": "\u{0}"}});
    system
        .post("/v1/orders", order_with_nul)
        .await
        .expect_problem(422, "INVALID_REQUEST");
}

#[tokio::test]
async fn unknown_routes_and_methods_get_problem_documents() {
    let system = System::start().await;
    system
        .get("/v2/orders")
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .get("/v1/orders/42")
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .get("/v1/orders/%00")
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .get("/v1/orders/%ff")
        .await
        .expect_problem(400, "INVALID_REQUEST");
    let reply = send(system.request(Method::PUT, "/v1/orders")).await;
    assert!(reply.headers["allow"].to_str().unwrap().contains("POST"));
    reply.expect_problem(405, "INVALID_REQUEST");
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    system
        .get(&format!("/v1/orders/{unknown_id}"))
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .get(&format!("/v1/orders/{unknown_id}/history"))
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .get("/v1/products/none")
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .put("/v1/products/none/stock/main", json!({"on_hand": 1}))
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn valid_request_id_is_kept_in_response_and_events() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let new_order = order_body(&system.create_customer().await, "A", 1);
    let create_request = system
        .request(Method::POST, "/v1/orders")
        .header("x-request-id", "cart-42")
        .json(&new_order);
    let reply = send(create_request).await;
    assert_eq!(reply.headers["x-request-id"], "cart-42");
    let created_order = reply.expect(201);
    system.wait_until_idle().await;
    let history = system
        .get(&format!(
            "/v1/orders/{}/history",
            created_order["id"].as_str().unwrap()
        ))
        .await
        .expect(200);
    assert!(
        history["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["request_id"] == "cart-42"),
        "{history}"
    );

    let request_with_implausible_id = system
        .request(Method::GET, "/v1/orders")
        .header("x-request-id", "a b");
    assert_ne!(
        send(request_with_implausible_id).await.headers["x-request-id"],
        "a b"
    );
}
