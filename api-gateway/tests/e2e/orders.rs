//! The life cycle of an order.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{
    System, has_shipping_label, order_body, order_body_with_method, send, wait_until,
};

#[tokio::test]
async fn order_is_created_paid_shipped_and_delivered() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;

    let new_order = json!({
        "customer_id": customer_id,
        "items": [{"sku": "A", "quantity": 3}],
        "shipping_address": {"name": "Ada", "line1": "Ringstr. 1", "city": "Köln", "country": "DE"},
        "expected_total": 3000,
        "metadata": {"cart": 7},
    });
    let reply = system.post("/v1/orders", new_order).await;
    assert_eq!(reply.headers["etag"], "\"2\"");
    let location_header = reply.headers["location"].to_str().unwrap().to_owned();
    let created_order = reply.expect(201);
    let id = created_order["id"].as_str().unwrap();
    assert_eq!(location_header, format!("/v1/orders/{id}"));
    assert_eq!(created_order["status"], "pending");
    assert_eq!(
        (&created_order["total"], &created_order["currency"]),
        (&json!(3000), &json!("EUR"))
    );
    assert_eq!(created_order["in_progress"]["step"], "authorize_payment");
    assert_eq!(
        created_order["items"],
        json!([{"sku": "A", "name": "A A", "quantity": 3, "unit_price": 1000, "warehouse": "main",
            "subtotal": 3000, "discount_total": 0, "tax_total": 0, "total": 3000}])
    );
    assert_eq!(system.stock_level("A").await, (10, 3));

    let processing_order = system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    assert_eq!(processing_order["payment"]["status"], "authorized");
    assert_eq!(processing_order["payment"]["authorized"], 3000);
    assert!(
        !processing_order["shipments"][0]["tracking_number"]
            .as_str()
            .unwrap()
            .is_empty()
    );

    system
        .send_webhook("m-1", "shipment.shipped", id)
        .await
        .expect(200);
    assert_eq!(system.stock_level("A").await, (7, 0));
    let paid_order = system
        .wait_for_order(id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    assert_eq!(
        (&paid_order["status"], &paid_order["payment"]["captured"]),
        (&json!("shipped"), &json!(3000))
    );

    system
        .send_webhook("m-2", "shipment.delivered", id)
        .await
        .expect(200);
    let delivered_order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(delivered_order["status"], "delivered");
    assert_eq!(delivered_order["shipments"][0]["status"], "delivered");
    assert_eq!(delivered_order["metadata"], json!({"cart": 7}));
    let mut history = system.list_event_types(id).await;
    // With Stripe there is an additional event: the payment is created before it is confirmed.
    history.retain(|event_type| event_type != "payment.prepared");
    assert_eq!(
        history,
        [
            "order.created",
            "stock.reserved",
            "payment.authorized",
            "order.processing",
            "shipment.created",
            "shipment.shipped",
            "order.shipped",
            "payment.captured",
            "shipment.delivered",
            "order.delivered",
        ]
    );
    system.assert_verified();
}

#[tokio::test]
async fn order_from_several_warehouses_has_several_shipments() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("east", 2), ("west", 5)])
        .await;
    system.create_product_with_stock("B", &[("east", 9)]).await;
    let customer_id = system.create_customer().await;
    let items = json!([{"sku": "A", "quantity": 6}, {"sku": "B", "quantity": 1}]);
    let created_order = system
        .post(
            "/v1/orders",
            json!({"customer_id": customer_id, "items": items}),
        )
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    let lines: Vec<_> = created_order["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (
                line["sku"].as_str().unwrap(),
                line["warehouse"].as_str().unwrap(),
                line["quantity"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        lines,
        [("A", "east", 1), ("A", "west", 5), ("B", "east", 1)]
    );

    let order = system
        .wait_for_order(id, "in two shipments", |order| {
            order["shipments"]
                .as_array()
                .is_some_and(|shipments| shipments.len() == 2)
        })
        .await;
    let first_shipment_id = order["shipments"][0]["id"].as_str().unwrap();
    let build_update = |webhook_id: &str, shipment_id: &str| {
        let data = json!({"order_id": created_order["id"], "shipment_id": shipment_id});
        (
            webhook_id.to_owned(),
            json!({"type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z", "data": data}),
        )
    };
    let (webhook_id, body) = build_update("m-1", first_shipment_id);
    system
        .send_webhook_body(&webhook_id, &body)
        .await
        .expect(200);
    let partly_shipped_order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(
        partly_shipped_order["status"], "processing",
        "one shipment is not shipped yet"
    );
    // The shipped part is captured if the provider supports partial captures; otherwise nothing is captured yet.
    let first_items = order["shipments"][0]["items"].as_array().unwrap();
    let unit_counts = first_items
        .iter()
        .map(|item| item["quantity"].as_i64().unwrap());
    let shipped_price = 1000 * unit_counts.sum::<i64>();
    let captured_amount = partly_shipped_order["payment"]["captured"]
        .as_i64()
        .unwrap();
    assert!(
        captured_amount == 0 || captured_amount == shipped_price,
        "{captured_amount} of {shipped_price}"
    );

    system
        .send_webhook("m-2", "shipment.delivered", id)
        .await
        .expect(200);
    let order = system
        .wait_for_order(id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    assert_eq!(order["status"], "delivered");
    system.assert_verified();
}

#[tokio::test]
async fn the_last_unit_is_sold_once() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let order_requests =
        (0..20).map(|_| system.post("/v1/orders", order_body(&customer_id, "A", 1)));
    let (successes, refusals): (Vec<_>, Vec<_>) = join_all(order_requests)
        .await
        .into_iter()
        .partition(|reply| reply.status == 201);
    assert_eq!((successes.len(), refusals.len()), (1, 19));
    for reply in refusals {
        let problem = reply.expect_problem(409, "OUT_OF_STOCK");
        assert_eq!(
            problem["skus"],
            json!([{"sku": "A", "requested": 1, "available": 0}])
        );
    }
    system.assert_verified();
}

#[tokio::test]
async fn order_is_refused_if_one_item_is_out_of_stock() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.create_product_with_stock("B", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let items = json!([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}]);
    let reply = system
        .post(
            "/v1/orders",
            json!({"customer_id": customer_id, "items": items}),
        )
        .await;
    reply.expect_problem(409, "OUT_OF_STOCK");
    assert_eq!(
        (system.stock_level("A").await, system.stock_level("B").await),
        ((5, 0), (1, 0))
    );
    assert!(system.list_orders().await.is_empty());
}

#[tokio::test]
async fn declined_payment_cancels_the_order_and_releases_stock() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post(
            "/v1/orders",
            order_body_with_method(&customer_id, "A", 1, "pm_declined"),
        )
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    let order = system
        .wait_for_order(id, "cancelled", |order| order["status"] == "cancelled")
        .await;
    assert_eq!(
        (&order["cancel_reason"], &order["payment"]["status"]),
        (&json!("payment_declined"), &json!("failed"))
    );
    assert_eq!(system.stock_level("A").await, (1, 0));
    system.assert_verified();
}

#[tokio::test]
async fn failed_or_lost_payment_calls_are_retried_and_charge_once() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 9)]).await;
    let customer_id = system.create_customer().await;
    for payment_method in ["pm_flaky", "pm_timeout_after_charge"] {
        let created_order = system
            .post(
                "/v1/orders",
                order_body_with_method(&customer_id, "A", 1, payment_method),
            )
            .await
            .expect(201);
        let id = created_order["id"].as_str().unwrap();
        system
            .wait_for_order(id, "announced", has_shipping_label)
            .await;
        assert!(
            system
                .list_event_types(id)
                .await
                .contains(&"step.retried".to_owned()),
            "{payment_method}"
        );
        let history = system
            .get(&format!("/v1/orders/{id}/history"))
            .await
            .expect(200);
        let authorization_event = history["data"]
            .as_array()
            .unwrap()
            .iter()
            .find(|event| event["type"] == "payment.authorized");
        let expected_attempts = if payment_method == "pm_flaky" { 3 } else { 2 };
        // With Stripe there is an additional attempt, which creates the payment.
        let expected_attempts = expected_attempts + usize::from(system.stripe.is_some());
        assert_eq!(
            authorization_event.unwrap()["attempt"],
            expected_attempts,
            "{payment_method}"
        );
    }
    assert_eq!(system.payment_totals().await.authorizations, 2);
    system.assert_verified();
}

#[tokio::test]
async fn cancelling_during_a_payment_voids_it() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post(
            "/v1/orders",
            order_body_with_method(&customer_id, "A", 1, "pm_slow"),
        )
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    // The provider has authorized the payment and has not responded yet.
    wait_until("the payment to be authorized", async || {
        system.payment_totals().await.authorizations == 1
    })
    .await;
    let cancelled_order = system
        .post(
            &format!("/v1/orders/{id}/cancel"),
            json!({"reason": "changed my mind"}),
        )
        .await
        .expect(200);
    assert_eq!(
        (
            &cancelled_order["status"],
            &cancelled_order["cancel_reason"]
        ),
        (&json!("cancelled"), &json!("operator_request"))
    );
    assert_eq!(system.stock_level("A").await, (1, 0));

    let order_with_voided_payment = system
        .wait_for_order(id, "voided", |order| order["payment"]["status"] == "voided")
        .await;
    assert_eq!(order_with_voided_payment["status"], "cancelled");
    system.wait_until_idle().await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["status"], "cancelled");
    let payment_totals = system.payment_totals().await;
    assert_eq!(
        (
            payment_totals.authorizations,
            payment_totals.voids,
            payment_totals.captures
        ),
        (1, 1, 0)
    );
    system.assert_verified();
}

#[tokio::test]
async fn order_can_be_cancelled_until_it_is_shipped() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;

    let first_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let first_id = first_order["id"].as_str().unwrap();
    system
        .wait_for_order(first_id, "announced", has_shipping_label)
        .await;
    let cancelled_order = system
        .post(&format!("/v1/orders/{first_id}/cancel"), json!({}))
        .await
        .expect(200);
    assert_eq!(cancelled_order["shipments"][0]["status"], "cancelled");
    let repeated_reply = system
        .post(&format!("/v1/orders/{first_id}/cancel"), json!({}))
        .await
        .expect(200);
    assert_eq!(
        repeated_reply["cancel_reason"], cancelled_order["cancel_reason"],
        "a cancelled order stays cancelled"
    );
    system
        .wait_for_order(first_id, "voided", |order| {
            order["payment"]["status"] == "voided"
        })
        .await;

    let second_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let second_id = second_order["id"].as_str().unwrap();
    system
        .wait_for_order(second_id, "announced", has_shipping_label)
        .await;
    system
        .send_webhook("m-1", "shipment.shipped", second_id)
        .await
        .expect(200);
    let problem = system
        .post(&format!("/v1/orders/{second_id}/cancel"), json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    assert!(
        problem["detail"].as_str().unwrap().contains("shipped"),
        "{problem}"
    );
    let unknown_id = "0192f0c1-2345-7abc-8def-0123456789ab";
    system
        .post(&format!("/v1/orders/{unknown_id}/cancel"), json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn deleted_order_is_visible_only_to_operators_and_can_be_restored() {
    let system =
        System::start_with(&[("API_KEYS", "storefront=shop-key-1;operator=operator-key")]).await;
    let mut system = system;
    system.api_key = Some("operator-key".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    let path = format!("/v1/orders/{id}");
    system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;

    let delete_reply = system.delete(&path).await;
    assert_eq!(delete_reply.status, 204);
    assert_eq!(
        system.delete(&path).await.status,
        204,
        "a deleted order stays deleted"
    );
    system.get(&path).await.expect_problem(404, "NOT_FOUND");
    assert!(system.list_orders().await.is_empty());
    let order = system
        .get(&format!("{path}?include_deleted=true"))
        .await
        .expect(200);
    assert_eq!(
        (&order["status"], &order["is_deleted"]),
        (&json!("cancelled"), &json!(true))
    );
    assert!(order["deleted_at"].is_string());
    assert_eq!(
        system.stock_level("A").await,
        (5, 0),
        "deleting an open order cancels it first"
    );
    let deleted_orders = system
        .get("/v1/orders?include_deleted=true")
        .await
        .expect(200);
    assert_eq!(deleted_orders["data"].as_array().unwrap().len(), 1);

    system.api_key = Some("shop-key-1".to_owned());
    system
        .get(&format!("{path}?include_deleted=true"))
        .await
        .expect_problem(403, "FORBIDDEN");
    system
        .get("/v1/orders?include_deleted=true")
        .await
        .expect_problem(403, "FORBIDDEN");
    system
        .post(&format!("{path}/restore"), json!({}))
        .await
        .expect_problem(403, "FORBIDDEN");
    system.api_key = Some("operator-key".to_owned());
    let restored_order = system
        .post(&format!("{path}/restore"), json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&restored_order["is_deleted"], &restored_order["deleted_at"]),
        (&json!(false), &json!(null))
    );
    system.get(&path).await.expect(200);
    system.assert_verified();
}

#[tokio::test]
async fn shipped_order_cannot_be_deleted_until_it_is_delivered() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    system
        .send_webhook("m-1", "shipment.shipped", id)
        .await
        .expect(200);
    system
        .delete(&format!("/v1/orders/{id}"))
        .await
        .expect_problem(409, "INVALID_STATE");
    system
        .send_webhook("m-2", "shipment.delivered", id)
        .await
        .expect(200);
    assert_eq!(system.delete(&format!("/v1/orders/{id}")).await.status, 204);
}

#[tokio::test]
async fn unpaid_order_expires() {
    let system = System::start_with(&[("RESERVATION_TTL_SECONDS", "1")]).await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    // The payment succeeds after two failures, which takes longer than the reservation time.
    let created_order = system
        .post(
            "/v1/orders",
            order_body_with_method(&customer_id, "A", 1, "pm_flaky"),
        )
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    let order = system
        .wait_for_order(id, "cancelled", |order| order["status"] == "cancelled")
        .await;
    assert_eq!(order["cancel_reason"], "expired");
    assert_eq!(system.stock_level("A").await, (1, 0));
    system
        .wait_for_order(id, "voided", |order| order["payment"]["status"] == "voided")
        .await;
    system.assert_verified();
}

#[tokio::test]
async fn sandbox_carrier_delivers_with_webhooks() {
    let mut system = System::start().await;
    let url = system.url("/webhooks/shipper");
    system.worker.terminate();
    system.set_variable("CARRIER", Some("sandbox"));
    system.set_variable("SHIPPER_WEBHOOK_URL", Some(&url));
    system.restart_worker().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "delivered and paid", |order| {
            order["status"] == "delivered" && order["payment"]["status"] == "captured"
        })
        .await;
    system.assert_verified();
}

#[tokio::test]
async fn if_none_match_with_the_current_version_gets_304() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 1)]).await;
    let customer_id = system.create_customer().await;
    let created_order = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let id = created_order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    let path = format!("/v1/orders/{id}");
    let entity_tag = system.get(&path).await.headers["etag"].clone();
    let get_if_none_match = |entity_tag: &str| {
        send(
            system
                .request(reqwest::Method::GET, &path)
                .header("if-none-match", entity_tag),
        )
    };
    assert_eq!(
        get_if_none_match(entity_tag.to_str().unwrap()).await.status,
        304
    );
    assert_eq!(
        get_if_none_match(&format!("\"0\", W/{}", entity_tag.to_str().unwrap()))
            .await
            .status,
        304
    );
    assert_eq!(get_if_none_match("\"1\"").await.status, 200);
}
