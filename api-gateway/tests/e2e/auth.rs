//! Authentication and authorization.

use serde_json::json;

use crate::harness::{System, order_body};

pub(crate) const API_KEYS: &str =
    "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator";

#[tokio::test]
async fn requests_without_a_valid_key_are_unauthorized() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    for key in [None, Some("key-of-nobody".to_owned())] {
        system.api_key = key;
        let reply = system.get("/v1/orders").await;
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        reply.expect_problem(401, "UNAUTHENTICATED");
    }
    assert_eq!(system.get("/livez").await.status, 200);
}

#[tokio::test]
async fn resources_of_other_storefronts_are_answered_like_missing_ones() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    let set_api_key = |system: &mut System, key: &str| system.api_key = Some(key.to_owned());
    set_api_key(&mut system, "key-of-operator");
    system.create_product_with_stock("A", &[("main", 5)]).await;
    set_api_key(&mut system, "key-of-eu");
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    assert_eq!(created_order["storefront"], "eu");
    let id = created_order["id"].as_str().unwrap();

    set_api_key(&mut system, "key-of-us");
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    for (method, path) in [
        ("GET", ""),
        ("GET", "/history"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ] {
        let request_with_id = async |id: &str| {
            let method = method.parse().unwrap();
            let reply =
                crate::harness::send(system.request(method, &format!("/v1/orders/{id}{path}")))
                    .await;
            let mut problem = reply.expect_problem(404, "NOT_FOUND");
            problem["request_id"] = json!(null);
            problem.to_string().replace(id, "ID")
        };
        assert_eq!(
            request_with_id(id).await,
            request_with_id(unknown_id).await,
            "{method} {path}"
        );
    }
    system
        .get(&format!("/v1/customers/{customer_id}"))
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .post(&format!("/v1/customers/{customer_id}/block"), json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(
        system.get("/v1/orders?storefront=eu").await.expect(200)["data"],
        json!([])
    );
    assert_eq!(
        system.get("/v1/customers").await.expect(200)["data"],
        json!([])
    );

    set_api_key(&mut system, "key-of-operator");
    system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(
        system.get("/v1/orders?storefront=eu").await.expect(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn only_operators_can_change_the_catalogue() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    system.get("/v1/products/A").await.expect(200);
    let product = json!({"sku": "B", "name": "B", "price": 1, "currency": "EUR"});
    system
        .post("/v1/products", product)
        .await
        .expect_problem(403, "FORBIDDEN");
    system
        .put("/v1/products/A/stock/main", json!({"on_hand": 9}))
        .await
        .expect_problem(403, "FORBIDDEN");
    system
        .delete("/v1/products/A")
        .await
        .expect_problem(403, "FORBIDDEN");
    let mut new_order = order_body(&system.create_customer().await, "A", 1);
    new_order["storefront"] = json!("us");
    system
        .post("/v1/orders", new_order)
        .await
        .expect_problem(403, "FORBIDDEN");
}
