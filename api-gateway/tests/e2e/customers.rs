//! Customers.

use serde_json::json;

use crate::harness::{System, order};

#[tokio::test]
async fn an_order_for_an_unknown_or_blocked_customer_is_refused() {
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let customer = system.customer().await;
    let unknown = "0192f0c1-2345-7abc-8def-0123456789ab";
    let refused = async |customer: &str| {
        let problem = system
            .post("/v1/orders", order(customer, "A", 1))
            .await
            .expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], "/customer_id");
    };
    refused(unknown).await;
    let blocked = system
        .post(&format!("/v1/customers/{customer}/block"), json!({}))
        .await
        .expect(200);
    assert_eq!(blocked["is_blocked"], true);
    refused(&customer).await;
    system
        .post(&format!("/v1/customers/{customer}/unblock"), json!({}))
        .await
        .expect(200);
    system
        .post("/v1/orders", order(&customer, "A", 1))
        .await
        .expect(201);
    system
        .get(&format!("/v1/customers/{unknown}"))
        .await
        .expect_problem(404, "NOT_FOUND");
    system
        .get("/v1/customers/nobody")
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn customers_are_listed_newest_first() {
    let system = System::start().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(system.customer().await);
    }
    made.reverse();
    let first = system.get("/v1/customers?limit=2").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = system
        .get(&format!("/v1/customers?limit=2&cursor={cursor}"))
        .await
        .expect(200);
    let pages = [&first, &second]
        .map(|page| page["data"].as_array().unwrap().clone())
        .concat();
    let ids: Vec<_> = pages
        .iter()
        .map(|customer| customer["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, made);
    assert_eq!(second["next_cursor"], json!(null));
    system
        .post("/v1/customers", json!({"name": "", "email": "nobody"}))
        .await
        .expect_problem(422, "INVALID_REQUEST");
}
