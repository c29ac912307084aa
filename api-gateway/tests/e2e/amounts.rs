//! Orders with agreed prices, discounts, taxes and shipping, over every route that creates or reads them. The
//! rules are tested in order-worker/tests/domain/amounts.rs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{System, is_announced, run_worker, send, until};

/// Two products from two warehouses, with every part that an order can have. Total: 4,997 minor units.
fn new_order(customer: &str) -> Value {
    json!({
        "customer_id": customer,
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
    let amounts = [
        "subtotal",
        "discount_total",
        "shipping_total",
        "tax_total",
        "total",
    ];
    let amounts = amounts.map(|name| order[name].as_i64().unwrap());
    assert_eq!(amounts, [3_997, 153, 490, 663, 4_997], "{order}");
    assert_eq!(order["tax_included"], false);
    assert_eq!(order["shipping"]["label"], "Standard");
    assert_eq!(order["discounts"][0]["amount"], 53);
    let items = order["items"].as_array().unwrap();
    let sum = |name: &str| -> i64 { items.iter().map(|item| item[name].as_i64().unwrap()).sum() };
    let sums = ["subtotal", "discount_total", "tax_total", "total"].map(sum);
    assert_eq!(sums, [3_997, 153, 586, 4_997 - 490 - 77], "{order}");
}

async fn shop(variables: &[(&str, &str)]) -> (System, String) {
    let system = System::start_with(variables).await;
    // Three units of A come from two warehouses.
    system.stock("A", &[("east", 2), ("west", 1)]).await;
    system.stock("B", &[("west", 50)]).await;
    let customer = system.customer().await;
    (system, customer)
}

#[tokio::test]
async fn parts_of_the_total_are_shown_by_every_reader() {
    let (system, customer) = shop(&[]).await;
    let created = system.post("/v1/orders", new_order(&customer)).await;
    let created = created.expect(201);
    assert_amounts(&created);
    assert_eq!(created["items"].as_array().unwrap().len(), 3, "{created}");
    let id = created["id"].as_str().unwrap();

    assert_amounts(&system.get(&format!("/v1/orders/{id}")).await.expect(200));
    let list = system.get("/v1/orders?sku=A").await.expect(200);
    assert_amounts(&list["data"][0]);
    let history = system.get(&format!("/v1/orders/{id}/history")).await;
    let first = &history.expect(200)["data"][0]["data"];
    assert_eq!(first["total"], 4_997);
    assert_eq!(first["shipping"]["amount"], 490);
    assert_eq!(first["items"][0]["discounts"][0]["code"], "SPRING");
    let feed = system.get("/v1/events?type=order.created").await;
    assert_eq!(&feed.expect(200)["data"][0]["data"], first);
    let exported = run_worker(&system, &["export", "orders"]).stdout;
    let exported = String::from_utf8(exported).unwrap();
    let exported: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert_amounts(&exported);
    system.assert_verified();
}

#[tokio::test]
async fn imported_and_asynchronous_orders_have_the_same_amounts() {
    let (system, customer) = shop(&[]).await;
    let request = system.request(Method::POST, "/v1/orders");
    let request = request.header("prefer", "respond-async");
    let accepted = send(request.json(&new_order(&customer))).await.expect(202);
    let id = accepted["id"].as_str().unwrap();
    let order = system.order_until(id, "announced", is_announced).await;
    assert_amounts(&order);

    // The stock of an imported order, and so its warehouses, is assigned later.
    system
        .put("/v1/products/A/stock/west", json!({"on_hand": 50}))
        .await
        .expect(200);
    let mut line = new_order(&customer);
    line["external_id"] = json!("ext-1");
    let report = system.import(&[line], None).await.expect(200);
    assert_eq!(report["accepted"], 1, "{report}");
    let mut found = Value::Null;
    until("the imported order to have its stock", async || {
        let list = system.get("/v1/orders?external_id=ext-1").await.expect(200);
        found = list["data"][0].clone();
        is_announced(&found)
    })
    .await;
    assert_amounts(&found);
    system.assert_verified();
}

#[tokio::test]
async fn shipments_capture_shares_and_units_are_refunded_once() {
    let (system, customer) = shop(&[]).await;
    let created = system.post("/v1/orders", new_order(&customer)).await;
    let id = created.expect(201)["id"].as_str().unwrap().to_owned();
    system.order_until(&id, "announced", is_announced).await;
    let ship = format!("/v1/orders/{id}/shipments");
    let one = json!({"items": [{"sku": "A", "quantity": 1}]});
    system.post(&ship, one.clone()).await.expect(201);
    let captured = |amount: i64| move |order: &Value| order["payment"]["captured"] == amount;
    // A third of A's 3,378 and the shipping charge.
    let share = 1_126 + 490 + 77;
    system.order_until(&id, "captured", captured(share)).await;
    system.post(&ship, json!({})).await.expect(201);
    system.order_until(&id, "captured", captured(4_997)).await;

    let refunds = format!("/v1/orders/{id}/refunds");
    let refunded = |amount: i64| move |order: &Value| order["payment"]["refunded"] == amount;
    system.post(&refunds, one.clone()).await.expect(202);
    system.order_until(&id, "refunded", refunded(1_126)).await;
    system
        .post(&refunds, json!({"shipping": true}))
        .await
        .expect(202);
    system
        .order_until(&id, "refunded", refunded(1_126 + 567))
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
        let problem = system.post(&refunds, body.clone()).await;
        let problem = problem.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let rest = json!({"items": [{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}]});
    system.post(&refunds, rest).await.expect(202);
    system.order_until(&id, "refunded", refunded(4_997)).await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn free_order_is_processed_at_once() {
    let (system, customer) = shop(&[]).await;
    let items =
        json!([{"sku": "B", "quantity": 1, "discounts": [{"label": "Gift", "amount": 1000}]}]);
    let body = json!({"customer_id": customer, "items": items, "payment_method": "pm_declined"});
    let created = system.post("/v1/orders", body).await.expect(201);
    assert_eq!(created["status"], "processing");
    assert_eq!(created["payment"]["status"], "captured");
    let id = created["id"].as_str().unwrap();
    system.order_until(id, "announced", is_announced).await;
    let webhook = system.webhook("m-1", "shipment.shipped", id).await;
    assert_eq!(webhook.status, 200);
    system.wait_until_idle().await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["status"], "shipped");
    system.assert_verified();
}

#[tokio::test]
async fn wrong_parts_are_refused_with_their_place() {
    let (system, customer) = shop(&[]).await;
    let item = |more: Value| {
        let mut item = json!({"sku": "A", "quantity": 1});
        item.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"items": [item]})
    };
    for (body, pointer) in [
        (item(json!({"unit_price": -1})), "/items/0/unit_price"),
        (item(json!({"unit_price": 1.5})), "/items/0/unit_price"),
        (item(json!({"discounts": {}})), "/items/0/discounts"),
        (
            item(json!({"discounts": [{"amount": 1}]})),
            "/items/0/discounts/0/label",
        ),
        (
            item(json!({"discounts": [{"label": "x", "amount": -1}]})),
            "/items/0/discounts/0/amount",
        ),
        (
            item(json!({"discounts": [{"label": "x", "amount": 1, "extra": 1}]})),
            "/items/0/discounts/0/extra",
        ),
        (
            item(json!({"taxes": [{"label": "x", "rate": "19%", "amount": 1}]})),
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
        let mut body = body;
        body["customer_id"] = json!(customer);
        let problem = system.post("/v1/orders", body.clone()).await;
        let problem = problem.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{body}: {problem}"
        );
    }
}
