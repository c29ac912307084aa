//! Products and stock.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{System, order_body, send};

#[tokio::test]
async fn product_can_be_created_changed_and_deleted() {
    let system = System::start().await;
    let image_url = "https://img.example.com/a.jpg";
    let new_product = json!({"sku": "A", "name": "Anchor", "price": 250, "currency": "EUR", "image_urls": [image_url]});
    let reply = system.post("/v1/products", new_product.clone()).await;
    assert_eq!(reply.headers["location"], "/v1/products/A");
    let product = reply.expect(201);
    assert_eq!(
        (
            &product["stock"],
            &product["version"],
            &product["is_deleted"]
        ),
        (&json!([]), &json!(1), &json!(false))
    );
    system
        .post("/v1/products", new_product.clone())
        .await
        .expect_problem(409, "INVALID_STATE");

    let patch_request = system
        .request(Method::PATCH, "/v1/products/A")
        .json(&json!({"price": 300}));
    let changed_product = send(patch_request).await.expect(200);
    assert_eq!(
        (
            &changed_product["price"],
            &changed_product["name"],
            &changed_product["version"]
        ),
        (&json!(300), &json!("Anchor"), &json!(2))
    );
    let stock_reply = system
        .put("/v1/products/A/stock/main", json!({"on_hand": 4}))
        .await
        .expect(200);
    assert_eq!(
        stock_reply["stock"],
        json!([{"warehouse": "main", "on_hand": 4, "reserved": 0, "available": 4}])
    );

    let created_order = system
        .post(
            "/v1/orders",
            order_body(&system.create_customer().await, "A", 3),
        )
        .await
        .expect(201);
    system
        .delete("/v1/products/A")
        .await
        .expect_problem(409, "INVALID_STATE");
    system
        .put("/v1/products/A/stock/main", json!({"on_hand": 2}))
        .await
        .expect_problem(409, "INVALID_STATE");
    system
        .put("/v1/products/A/stock/main", json!({"on_hand": 3}))
        .await
        .expect(200);
    let id = created_order["id"].as_str().unwrap();
    system
        .post(&format!("/v1/orders/{id}/cancel"), json!({}))
        .await
        .expect(200);

    assert_eq!(system.delete("/v1/products/A").await.status, 204);
    system
        .get("/v1/products/A")
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .delete("/v1/products/A")
        .await
        .expect_problem(404, "NOT_FOUND");
    let product_list = system.get("/v1/products").await.expect(200);
    assert_eq!(product_list["data"], json!([]));
    let product_page_with_deleted = system
        .get("/v1/products?include_deleted=true")
        .await
        .expect(200);
    assert_eq!(product_page_with_deleted["data"][0]["is_deleted"], true);
    let customer_id = system.create_customer().await;
    let problem = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/items/0/sku");

    system.post("/v1/products", new_product).await.expect(201);
    let recreated_product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(
        recreated_product["stock"][0]["on_hand"], 3,
        "its stock was kept"
    );
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn order_keeps_the_price_at_creation() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 2))
        .await
        .expect(201);
    send(
        system
            .request(Method::PATCH, "/v1/products/A")
            .json(&json!({"price": 1500})),
    )
    .await
    .expect(200);
    let id = created_order["id"].as_str().unwrap();
    assert_eq!(
        system.get(&format!("/v1/orders/{id}")).await.expect(200)["total"],
        2000
    );
    let mut new_order = order_body(&customer_id, "A", 2);
    new_order["expected_total"] = json!(2000);
    let problem = system
        .post("/v1/orders", new_order)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/expected_total");
}

#[tokio::test]
async fn order_with_two_currencies_is_refused() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system
        .post(
            "/v1/products",
            json!({"sku": "B", "name": "B", "price": 1, "currency": "USD"}),
        )
        .await
        .expect(201);
    system
        .put("/v1/products/B/stock/main", json!({"on_hand": 5}))
        .await
        .expect(200);
    let items = json!([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 1}]);
    let new_order = json!({"customer_id": system.create_customer().await, "items": items});
    let problem = system
        .post("/v1/orders", new_order)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/items/1");
}

#[tokio::test]
async fn stock_adjustments_need_a_reason_and_low_stock_raises_an_event() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("east", 6), ("west", 2)])
        .await;
    let low_stock_patch = json!({"low_stock_at": 3});
    let product = system
        .put("/v1/products/A", low_stock_patch)
        .await
        .expect(200);
    assert_eq!(product["low_stock_at"], 3);
    let adjust_stock = async |body: Value| {
        system
            .post("/v1/products/A/stock/east/adjustments", body)
            .await
    };
    let adjust_reply = adjust_stock(json!({"delta": 1, "reason": "found behind the shelf"})).await;
    assert_eq!(adjust_reply.expect(200)["stock"][0]["on_hand"], 7);
    for invalid_body in [
        json!({"delta": 0, "reason": "x"}),
        json!({"delta": 1}),
        json!({"delta": 1, "reason": ""}),
        json!({"delta": -8, "reason": "more than there is"}),
        json!({"delta": 2_000_000_000, "reason": "x"}),
    ] {
        adjust_stock(invalid_body)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
    let customer_id = system.create_customer().await;
    let id = system
        .post("/v1/orders", order_body(&customer_id, "A", 6))
        .await
        .expect(201)["id"]
        .clone();
    let id = id.as_str().unwrap();
    // Stock can't fall below the reserved quantity.
    adjust_stock(json!({"delta": -7, "reason": "fire"}))
        .await
        .expect_problem(409, "INVALID_STATE");
    adjust_stock(json!({"delta": -1, "reason": "broken"}))
        .await
        .expect(200);
    let events = system
        .get("/v1/events?type=stock.low,stock.adjusted&limit=200")
        .await
        .expect(200);
    let stock_events: Vec<_> = events["data"].as_array().unwrap().iter().collect();
    let low_stock_events: Vec<_> = stock_events
        .iter()
        .filter(|event| event["type"] == "stock.low")
        .collect();
    assert_eq!(low_stock_events.len(), 1, "{events}");
    assert_eq!(
        low_stock_events[0]["data"],
        json!({"sku": "A", "available": 3, "low_stock_at": 3})
    );
    assert_eq!(low_stock_events[0]["subject"], id);
    assert_eq!(stock_events.last().unwrap()["data"]["reason"], "broken");
    system.wait_until_idle().await;
    system.assert_verified();
}
