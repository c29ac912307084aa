//! Orders with agreed prices, discounts, taxes and shipping, over every route that creates or reads them. The
//! rules are tested in order-worker/tests/domain/amounts.rs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{System, has_shipping_label, run_worker, send, wait_until};

/// Two products from two warehouses, with every part that an order can have. Total: 4,997 minor units.
fn new_order(customer_id: &str) -> Value {
    json!({
        "customer_id": customer_id,
        "items": [
            {"sku": "A", "quantity": 3, "unit_price": 999, "discounts": [{"code": "SPRING", "label": "Spring sale", "amount": 100}],
                "taxes": [{"label": "VAT", "rate": "0.19", "amount": 520}]},
            {"sku": "B", "quantity": 1, "taxes": [{"label": "VAT", "rate": "0.07", "amount": 66}]},
        ],
        "discounts": [{"label": "Voucher", "amount": 53}],
        "shipping": {"label": "Standard", "amount": 490, "taxes": [{"label": "VAT", "rate": "0.19", "amount": 77}]},
        "expected_total": 4_997,
    })
}

fn assert_amounts(order: &Value) {
    let amount_names = [
        "subtotal",
        "discount_total",
        "shipping_total",
        "tax_total",
        "total",
    ];
    let amounts = amount_names.map(|amount_name| order[amount_name].as_i64().unwrap());
    assert_eq!(amounts, [3_997, 153, 490, 663, 4_997], "{order}");
    assert_eq!(order["tax_included"], false);
    assert_eq!(order["shipping"]["label"], "Standard");
    assert_eq!(order["discounts"][0]["amount"], 53);
    let items = order["items"].as_array().unwrap();
    let sum_over_items = |amount_name: &str| -> i64 {
        items
            .iter()
            .map(|item| item[amount_name].as_i64().unwrap())
            .sum()
    };
    let item_sums = ["subtotal", "discount_total", "tax_total", "total"].map(sum_over_items);
    assert_eq!(item_sums, [3_997, 153, 586, 4_997 - 490 - 77], "{order}");
}

async fn start_shop(variables: &[(&str, &str)]) -> (System, String) {
    let system = System::start_with(variables).await;
    // Three units of A come from two warehouses.
    system
        .create_product_with_stock("A", &[("east", 2), ("west", 1)])
        .await;
    system.create_product_with_stock("B", &[("west", 50)]).await;
    let customer_id = system.create_customer().await;
    (system, customer_id)
}

#[tokio::test]
async fn parts_of_the_total_are_shown_by_every_reader() {
    let (system, customer_id) = start_shop(&[]).await;
    let order_reply = system.post("/v1/orders", new_order(&customer_id)).await;
    let created_order = order_reply.expect(201);
    assert_amounts(&created_order);
    assert_eq!(
        created_order["items"].as_array().unwrap().len(),
        3,
        "{created_order}"
    );
    let id = created_order["id"].as_str().unwrap();

    assert_amounts(&system.get(&format!("/v1/orders/{id}")).await.expect(200));
    let list = system.get("/v1/orders?sku=A").await.expect(200);
    assert_amounts(&list["data"][0]);
    let history_reply = system.get(&format!("/v1/orders/{id}/history")).await;
    let created_event_data = &history_reply.expect(200)["data"][0]["data"];
    assert_eq!(created_event_data["total"], 4_997);
    assert_eq!(created_event_data["shipping"]["amount"], 490);
    assert_eq!(
        created_event_data["items"][0]["discounts"][0]["code"],
        "SPRING"
    );
    let feed_page_reply = system.get("/v1/events?type=order.created").await;
    assert_eq!(
        &feed_page_reply.expect(200)["data"][0]["data"],
        created_event_data
    );
    let export_output = run_worker(&system, &["export", "orders"]).stdout;
    let exported_text = String::from_utf8(export_output).unwrap();
    let exported_order: Value =
        serde_json::from_str(exported_text.lines().next().unwrap()).unwrap();
    assert_amounts(&exported_order);
    system.assert_verified();
}

#[tokio::test]
async fn imported_and_asynchronous_orders_have_the_same_amounts() {
    let (system, customer_id) = start_shop(&[]).await;
    let request = system.request(Method::POST, "/v1/orders");
    let request = request.header("prefer", "respond-async");
    let accepted_reply = send(request.json(&new_order(&customer_id)))
        .await
        .expect(202);
    let id = accepted_reply["id"].as_str().unwrap();
    let order = system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    assert_amounts(&order);

    // The stock of an imported order, and so its warehouses, is assigned later.
    system
        .put("/v1/products/A/stock/west", json!({"on_hand": 50}))
        .await
        .expect(200);
    let mut import_line = new_order(&customer_id);
    import_line["external_id"] = json!("ext-1");
    let report = system.import(&[import_line], None).await.expect(200);
    assert_eq!(report["accepted"], 1, "{report}");
    let mut imported_order = Value::Null;
    wait_until("the imported order to have its stock", async || {
        let list = system.get("/v1/orders?external_id=ext-1").await.expect(200);
        imported_order = list["data"][0].clone();
        has_shipping_label(&imported_order)
    })
    .await;
    assert_amounts(&imported_order);
    system.assert_verified();
}

#[tokio::test]
async fn shipments_capture_shares_and_units_are_refunded_once() {
    let (system, customer_id) = start_shop(&[]).await;
    let order_reply = system.post("/v1/orders", new_order(&customer_id)).await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    let shipments_path = format!("/v1/orders/{id}/shipments");
    let shipment_or_refund_body = json!({"items": [{"sku": "A", "quantity": 1}]});
    system
        .post(&shipments_path, shipment_or_refund_body.clone())
        .await
        .expect(201);
    let has_captured = |amount: i64| move |order: &Value| order["payment"]["captured"] == amount;
    // A third of A's 3,378 and the shipping charge.
    let first_shipment_amount = 1_126 + 490 + 77;
    system
        .wait_for_order(&id, "captured", has_captured(first_shipment_amount))
        .await;
    system.post(&shipments_path, json!({})).await.expect(201);
    system
        .wait_for_order(&id, "captured", has_captured(4_997))
        .await;

    let refunds_path = format!("/v1/orders/{id}/refunds");
    let has_refunded = |amount: i64| move |order: &Value| order["payment"]["refunded"] == amount;
    system
        .post(&refunds_path, shipment_or_refund_body.clone())
        .await
        .expect(202);
    system
        .wait_for_order(&id, "refunded", has_refunded(1_126))
        .await;
    system
        .post(&refunds_path, json!({"shipping": true}))
        .await
        .expect(202);
    system
        .wait_for_order(&id, "refunded", has_refunded(1_126 + 567))
        .await;
    for (body, pointer) in [
        (json!({"shipping": true}), "/shipping"),
        (
            json!({"items": [{"sku": "A", "quantity": 3}]}),
            "/items/0/quantity",
        ),
        (
            json!({"items": [{"sku": "X", "quantity": 1}]}),
            "/items/0/quantity",
        ),
        (json!({"amount": 1, "shipping": true}), "/amount"),
        (json!({"items": []}), "/items"),
    ] {
        let problem_reply = system.post(&refunds_path, body.clone()).await;
        let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let remaining_items_refund =
        json!({"items": [{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}]});
    system
        .post(&refunds_path, remaining_items_refund)
        .await
        .expect(202);
    system
        .wait_for_order(&id, "refunded", has_refunded(4_997))
        .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn free_order_is_processed_at_once() {
    let (system, customer_id) = start_shop(&[]).await;
    let items =
        json!([{"sku": "B", "quantity": 1, "discounts": [{"label": "Gift", "amount": 1000}]}]);
    let body = json!({"customer_id": customer_id, "items": items, "payment_method": "pm_declined"});
    let created_order = system.post("/v1/orders", body).await.expect(201);
    assert_eq!(created_order["status"], "processing");
    assert_eq!(created_order["payment"]["status"], "captured");
    let id = created_order["id"].as_str().unwrap();
    system
        .wait_for_order(id, "announced", has_shipping_label)
        .await;
    let webhook_reply = system.send_webhook("m-1", "shipment.shipped", id).await;
    assert_eq!(webhook_reply.status, 200);
    system.wait_until_idle().await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["status"], "shipped");
    system.assert_verified();
}

#[tokio::test]
async fn invalid_amount_fields_are_refused_with_their_pointer() {
    let (system, customer_id) = start_shop(&[]).await;
    let order_with_item = |extra_item_fields: Value| {
        let mut item = json!({"sku": "A", "quantity": 1});
        item.as_object_mut()
            .unwrap()
            .extend(extra_item_fields.as_object().unwrap().clone());
        json!({"items": [item]})
    };
    for (invalid_body, pointer) in [
        (
            order_with_item(json!({"unit_price": -1})),
            "/items/0/unit_price",
        ),
        (
            order_with_item(json!({"unit_price": 1.5})),
            "/items/0/unit_price",
        ),
        (
            order_with_item(json!({"discounts": {}})),
            "/items/0/discounts",
        ),
        (
            order_with_item(json!({"discounts": [{"amount": 1}]})),
            "/items/0/discounts/0/label",
        ),
        (
            order_with_item(json!({"discounts": [{"label": "x", "amount": -1}]})),
            "/items/0/discounts/0/amount",
        ),
        (
            order_with_item(json!({"discounts": [{"label": "x", "amount": 1, "extra": 1}]})),
            "/items/0/discounts/0/extra",
        ),
        (
            order_with_item(json!({"taxes": [{"label": "x", "rate": "19%", "amount": 1}]})),
            "/items/0/taxes/0/rate",
        ),
        (
            json!({"items": [{"sku": "A", "quantity": 1}], "shipping": 490}),
            "/shipping",
        ),
        (
            json!({"items": [{"sku": "A", "quantity": 1}], "shipping": {"label": "x"}}),
            "/shipping/amount",
        ),
        (
            json!({"items": [{"sku": "A", "quantity": 1}], "shipping": {"label": "x", "amount": 1, "discounts": [{"label": "y", "amount": 2}]}}),
            "/shipping/discounts",
        ),
        (
            json!({"items": [{"sku": "A", "quantity": 1}], "tax_included": "yes"}),
            "/tax_included",
        ),
        (
            json!({"items": [{"sku": "A", "quantity": 1, "unit_price": 1_000_000_000_000_i64}], "shipping": {"label": "x", "amount": 1}}),
            "/items",
        ),
    ] {
        let mut invalid_body = invalid_body;
        invalid_body["customer_id"] = json!(customer_id);
        let problem_reply = system.post("/v1/orders", invalid_body.clone()).await;
        let problem = problem_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{invalid_body}: {problem}"
        );
    }
}
