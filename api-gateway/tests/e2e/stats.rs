//! Statistics and metrics: their totals, and who may read them.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::harness::{System, has_shipping_label, order_body, order_body_with_method, wait_until};

#[tokio::test]
async fn stats_agree_with_the_orders() {
    let mut system = System::start_with(&[(
        "API_KEYS",
        "operator=key-of-operator;storefront@eu=key-of-eu;storefront@us=key-of-us",
    )])
    .await;
    system.api_key = Some("key-of-operator".to_owned());
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for quantity in [1, 2, 3] {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", quantity))
            .await;
        order_ids.push(order_reply.expect(201)["id"].as_str().unwrap().to_owned());
    }
    for id in &order_ids {
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
    }
    let declined_order = order_body_with_method(&customer_id, "A", 1, "pm_declined");
    system.post("/v1/orders", declined_order).await.expect(201);
    system
        .send_webhook("m-1", "shipment.shipped", &order_ids[1])
        .await
        .expect(200);
    system
        .send_webhook("m-2", "shipment.delivered", &order_ids[2])
        .await
        .expect(200);
    system
        .post(&format!("/v1/orders/{}/cancel", order_ids[0]), json!({}))
        .await
        .expect(200);
    system.api_key = Some("key-of-operator".to_owned());
    let is_captured = |order: &Value| order["payment"]["status"] == "captured";
    system
        .wait_for_order(&order_ids[2], "captured", is_captured)
        .await;
    system
        .post(
            &format!("/v1/orders/{}/refunds", order_ids[2]),
            json!({"amount": 500}),
        )
        .await
        .expect(202);
    system.wait_until_idle().await;
    system.api_key = Some("key-of-eu".to_owned());
    let mut stats = Value::Null;
    wait_until("all orders to be counted", async || {
        stats = system.get("/v1/stats?days=7").await.expect(200);
        stats["revenue"][0]["refunded"] == 500 && stats["orders"]["by_status"]["pending"] == 0
    })
    .await;
    assert_eq!(
        stats["orders"]["by_status"],
        json!({"pending": 0, "processing": 0, "shipped": 1, "delivered": 1, "cancelled": 2})
    );
    assert_eq!(stats["orders"]["total"], 4);
    assert_eq!(
        stats["orders"]["cancelled"],
        json!({"customer_request": 1, "payment_declined": 1})
    );
    assert_eq!(
        stats["revenue"],
        json!([{"currency": "EUR", "captured": 5000, "refunded": 500, "net": 4500}])
    );
    assert_eq!(
        stats["order_values"],
        json!([{"currency": "EUR", "orders": 4, "total": 7000}])
    );
    assert_eq!(stats["attention"], Value::Null, "for operators only");
    let days = stats["days"].as_array().unwrap();
    assert_eq!(days.len(), 7);
    // Around midnight, some orders belong to the previous day.
    let sum_of_days = |name: &str| {
        days.iter()
            .map(|day| day[name].as_i64().unwrap())
            .sum::<i64>()
    };
    assert_eq!(
        (
            sum_of_days("created"),
            sum_of_days("processing"),
            sum_of_days("shipped"),
            sum_of_days("delivered"),
            sum_of_days("cancelled")
        ),
        (4, 3, 2, 1, 2)
    );
    assert_eq!(stats["system"], Value::Null, "for operators only");
    assert_only_operators_get_system_stats(system, &stats).await;
}

async fn assert_only_operators_get_system_stats(mut system: System, stats: &Value) {
    system.api_key = Some("key-of-us".to_owned());
    let other_storefronts_stats = system.get("/v1/stats").await.expect(200);
    assert_eq!(other_storefronts_stats["orders"]["total"], 0);
    assert_eq!(
        other_storefronts_stats["days"].as_array().unwrap().len(),
        30
    );
    system.api_key = Some("key-of-operator".to_owned());
    let stats_of_eu = system.get("/v1/stats?storefront=eu").await.expect(200);
    assert_eq!(stats_of_eu["orders"], stats["orders"]);
    let system_stats = &stats_of_eu["system"];
    assert_eq!(system_stats["queues"]["order-worker-queue"], 0);
    assert_eq!(
        (&system_stats["due_steps"], &system_stats["dead_letters"]),
        (&json!(0), &json!(0))
    );
    assert!(
        system_stats["steps"]["authorize_payment"]["done"]
            .as_u64()
            .unwrap()
            >= 3
    );
    for invalid_query in ["days=0", "days=367", "days=many", "weeks=1"] {
        system
            .get(&format!("/v1/stats?{invalid_query}"))
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn new_order_is_counted_immediately() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 9)]).await;
    let customer_id = system.create_customer().await;
    for expected_total in 1..=5 {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201);
        let stats = system.get("/v1/stats?days=2").await.expect(200);
        assert_eq!(stats["orders"]["total"], expected_total);
        // Around midnight, some orders belong to the previous day.
        let days = stats["days"].as_array().unwrap().iter();
        let created_by_day = days.map(|day| day["created"].as_i64().unwrap());
        assert_eq!(created_by_day.sum::<i64>(), expected_total);
    }
}

/// Parses metrics with the Prometheus client library, by name and labels.
async fn read_samples(system: &System, url: &str) -> HashMap<(String, String), String> {
    let metrics_text = system
        .client
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(!metrics_text.contains("ada@example.com"), "{metrics_text}");
    let sample_lines = crate::harness::run_script_with_input("metrics.py", &metrics_text);
    let samples = sample_lines.lines().map(|line| {
        let mut sample_fields = line.split(' ');
        let mut next_field = || sample_fields.next().unwrap().to_owned();
        ((next_field(), next_field()), next_field())
    });
    samples.collect()
}

#[tokio::test]
async fn metrics_count_requests_steps_and_queues() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 9)]).await;
    let customer_id = system.create_customer().await;
    for _ in 0..3 {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
        system
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
    }
    system
        .post("/v1/orders", order_body(&customer_id, "A", 99))
        .await
        .expect_problem(409, "OUT_OF_STOCK");
    system.wait_until_idle().await;
    let sample_key = |metric_name: &str, labels: &str| (metric_name.to_owned(), labels.to_owned());
    let gateway_samples = read_samples(&system, &system.url("/metrics")).await;
    for (status, expected_count) in [("201", "3.0"), ("409", "1.0")] {
        let labels = format!("method=POST,route=/v1/orders,status={status}");
        assert_eq!(
            gateway_samples[&sample_key("http_requests_total", &labels)],
            expected_count
        );
    }
    let labels = "method=POST,route=/v1/orders";
    let count_key = sample_key("http_request_duration_seconds_count", labels);
    assert_eq!(gateway_samples[&count_key], "4.0");
    // The label is the route, not the path of each order.
    assert!(
        gateway_samples
            .keys()
            .any(|(_, labels)| labels.contains("/v1/orders/{id}"))
    );

    let metrics_url = format!(
        "http://{}/metrics",
        system.worker.find_logged_field("health", 0).unwrap()
    );
    wait_until("all orders to be counted", async || {
        read_samples(&system, &metrics_url)
            .await
            .get(&sample_key("orders", "status=processing"))
            == Some(&"3.0".to_owned())
    })
    .await;
    let worker_samples = read_samples(&system, &metrics_url).await;
    // With Stripe there is an additional attempt, which creates the payment.
    let expected_attempts = if system.stripe.is_some() {
        "6.0"
    } else {
        "3.0"
    };
    for (metric_name, labels, expected_value) in [
        ("rpc_requests_total", "code=OK,pattern=order.create", "3.0"),
        (
            "rpc_requests_total",
            "code=OUT_OF_STOCK,pattern=order.create",
            "1.0",
        ),
        (
            "step_attempts_total",
            "outcome=done,step=authorize_payment",
            expected_attempts,
        ),
        (
            "step_duration_seconds_count",
            "step=request_shipment",
            "3.0",
        ),
        ("queue_consumers", "queue=order-request-queue", "1.0"),
        ("queue_messages", "queue=order-worker-queue", "0.0"),
        ("steps_due", "-", "0.0"),
        ("steps_oldest_pending_age_seconds", "-", "0.0"),
        ("dead_letters", "-", "0.0"),
    ] {
        assert_eq!(
            worker_samples.get(&sample_key(metric_name, labels)),
            Some(&expected_value.to_owned()),
            "{metric_name} {labels}"
        );
    }
    assert!(worker_samples.contains_key(&sample_key("engine_batch_size_count", "-")));
    assert!(worker_samples.contains_key(&sample_key("outbox_lag_events", "-")));
}

#[tokio::test]
async fn operators_get_the_number_of_orders_returns_and_products_that_need_attention() {
    let keys = "operator=key-of-operator;storefront@eu=key-of-eu;storefront@us=key-of-us";
    let mut system = System::start_with(&[("API_KEYS", keys), ("ORDER_APPROVAL", "manual")]).await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 50)]).await;
    system
        .create_product_with_stock("B", &[("main", 3), ("other", 3)])
        .await;
    system.create_product_with_stock("C", &[("main", 0)]).await;
    system.create_product_with_stock("D", &[("main", 0)]).await;
    for (sku, threshold) in [("A", json!(10)), ("B", json!(5)), ("C", json!(0))] {
        let patch = json!({"low_stock_at": threshold});
        let path = format!("/v1/products/{sku}");
        system.patch(&path, patch).await.expect(200);
    }
    let read_attention = async |system: &System, query: &str| -> Value {
        let stats = system.get(&format!("/v1/stats{query}")).await;
        stats.expect(200)["attention"].clone()
    };
    let mut expected_attention = json!({
        "low_stock_products": 1, "requested_returns": 0, "orders_awaiting_approval": 0, "outstanding_payments": 0
    });
    assert_eq!(
        read_attention(&system, "").await,
        expected_attention,
        "C is empty"
    );
    // Six units of B are available, and five after an order of one: its threshold.
    system.api_key = Some("key-of-eu".to_owned());
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for new_order in [
        order_body(&customer_id, "A", 1),
        order_body(&customer_id, "B", 1),
        order_body_with_method(&customer_id, "A", 1, "manual"),
    ] {
        let created_order = system.post("/v1/orders", new_order).await.expect(201);
        order_ids.push(created_order["id"].as_str().unwrap().to_owned());
    }
    system.api_key = Some("key-of-operator".to_owned());
    expected_attention["low_stock_products"] = json!(2);
    expected_attention["orders_awaiting_approval"] = json!(3);
    expected_attention["outstanding_payments"] = json!(1);
    assert_eq!(read_attention(&system, "").await, expected_attention);
    assert_eq!(
        read_attention(&system, "?storefront=eu").await,
        expected_attention
    );
    let attention_of_us = read_attention(&system, "?storefront=us").await;
    assert_eq!(attention_of_us["orders_awaiting_approval"], 0);
    assert_eq!(attention_of_us["outstanding_payments"], 0);

    let approve_path = format!("/v1/orders/{}/approve", order_ids[0]);
    system.post(&approve_path, json!({})).await.expect(200);
    system
        .wait_for_order(&order_ids[0], "announced", has_shipping_label)
        .await;
    let webhook_reply = system
        .send_webhook("m-1", "shipment.shipped", &order_ids[0])
        .await;
    webhook_reply.expect(200);
    let return_body = json!({"items": [{"sku": "A", "quantity": 1}]});
    let returns_path = format!("/v1/orders/{}/returns", order_ids[0]);
    system.post(&returns_path, return_body).await.expect(201);
    // A deleted product, and a deleted order, need no attention.
    system.delete("/v1/products/C").await.expect(204);
    let delete_reply = system.delete(&format!("/v1/orders/{}", order_ids[2])).await;
    delete_reply.expect(204);
    expected_attention["low_stock_products"] = json!(1);
    expected_attention["requested_returns"] = json!(1);
    expected_attention["orders_awaiting_approval"] = json!(1);
    expected_attention["outstanding_payments"] = json!(0);
    assert_eq!(read_attention(&system, "").await, expected_attention);
}
