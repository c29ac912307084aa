//! Optional features: the debug API and the reset of a demo.

use serde_json::{Value, json};

use crate::harness::{System, has_shipping_label, order_body, wait_until};

#[tokio::test]
async fn debug_api_shows_raw_data_to_admins_if_enabled() {
    let mut system = System::start_with(&[
        ("DEBUG_API", "1"),
        ("API_KEYS", "admin=key-of-admin;operator=key-of-operator"),
    ])
    .await;
    system.api_key = Some("key-of-admin".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let request = system
        .request(reqwest::Method::POST, "/v1/orders")
        .header("x-intent", "checkout.express")
        .json(&order_body(&customer_id, "A", 1));
    let created_order = crate::harness::send(request).await.expect(201);
    let id = created_order["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let debug_order = system.get(&format!("/debug/orders/{id}")).await.expect(200);
    assert_eq!(debug_order["order"]["status"], "processing");
    assert_eq!(debug_order["order"]["state"]["held"][0]["quantity"], 1);
    // The client's `X-Intent` header is stored.
    assert_eq!(debug_order["events"][0]["intent"], "checkout.express");
    let tables = system.get("/debug/tables").await.expect(200);
    assert_eq!(tables["rows"]["orders"], 1);
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    system
        .get(&format!("/debug/orders/{unknown_id}"))
        .await
        .expect_problem(404, "NOT_FOUND");
    system.api_key = Some("key-of-operator".to_owned());
    system
        .get("/debug/tables")
        .await
        .expect_problem(403, "FORBIDDEN");

    let system_without_debug = System::start().await;
    for path in ["/debug/tables", &format!("/debug/orders/{id}")] {
        system_without_debug
            .get(path)
            .await
            .expect_problem(404, "NOT_FOUND");
    }
    system_without_debug
        .post("/demo/reset", json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn demo_reset_restores_the_initial_state() {
    let system = System::start_with(&[("DEMO", "1")]).await;
    system
        .create_product_with_stock("A", &[("east", 5), ("west", 2)])
        .await;
    system.create_product_with_stock("B", &[("east", 1)]).await;
    system.delete("/v1/products/B").await;
    let customer_id = system.create_customer().await;
    for round in 1..=3 {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 6))
            .await;
        let order = order_reply.expect(201);
        let id = order["id"].as_str().unwrap();
        assert_eq!(order["number"], 1, "round {round}");
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
        system
            .send_webhook(&format!("m-{round}"), "shipment.shipped", id)
            .await
            .expect(200);
        let feed_page = system.get("/v1/events?after=now").await.expect(200);
        let reset_reply = system.post("/demo/reset", json!({})).await.expect(200);
        assert_eq!(reset_reply["products"], 2);
        assert!(system.list_orders().await.is_empty());
        system
            .get(&format!("/v1/orders/{id}"))
            .await
            .expect_problem(404, "NOT_FOUND");
        let product = system.get("/v1/products/A").await.expect(200);
        let stock_levels: Vec<_> = product["stock"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stock_level| (&stock_level["on_hand"], &stock_level["reserved"]))
            .collect();
        assert_eq!(
            stock_levels,
            [(&json!(5), &json!(0)), (&json!(2), &json!(0))]
        );
        // The feed continues after the reset.
        let position = feed_page["position"].as_str().unwrap();
        let next_page_reply = system.get(&format!("/v1/events?after={position}")).await;
        assert_eq!(
            next_page_reply.expect(200)["data"][0]["type"],
            "product.created"
        );
        wait_until("the statistics to be empty again", async || {
            let stats = system.get("/v1/stats").await.expect(200);
            stats["orders"]["total"] == 0
        })
        .await;
        assert_eq!(system.query_ledger("SELECT count(*) FROM payments"), "0");
        system.assert_verified();
    }
    let customers: Value = system.get("/v1/customers").await.expect(200);
    assert_eq!(customers["data"][0]["id"], customer_id);
}
