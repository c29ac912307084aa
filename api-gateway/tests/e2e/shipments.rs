//! Goods that people hand over: all of an order, or a part at a time.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Reply, System, is_announced};

impl System {
    /// An order of two products from two warehouses, paid and announced.
    async fn to_be_shipped(&self) -> String {
        self.stock("A", &[("east", 10)]).await;
        self.stock("B", &[("west", 10)]).await;
        let customer = self.customer().await;
        let wish = json!({"customer_id": customer, "items": [
            {"sku": "A", "quantity": 3}, {"sku": "B", "quantity": 2}]});
        let created = self.post("/v1/orders", wish).await.expect(201);
        let id = created["id"].as_str().unwrap().to_owned();
        self.order_until(&id, "announced", |order| {
            is_announced(order) && order["shipments"].as_array().unwrap().len() == 2
        })
        .await;
        id
    }

    async fn ship(&self, id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/orders/{id}/shipments"), body).await
    }
}

fn shipped(order: &Value) -> Vec<&Value> {
    let shipments = order["shipments"].as_array().unwrap().iter();
    shipments.filter(|one| one["status"] == "shipped").collect()
}

#[tokio::test]
async fn an_order_leaves_in_parts_and_each_part_once() {
    let system = System::start().await;
    let id = system.to_be_shipped().await;
    let part =
        json!({"items": [{"sku": "A", "quantity": 1}], "carrier": "DHL", "tracking_number": "T-1"});
    let reply = system.ship(&id, part).await;
    assert_eq!(reply.headers["location"], format!("/v1/orders/{id}"));
    let order = reply.expect(201);
    assert_eq!(order["status"], "processing");
    let parcels = shipped(&order);
    assert_eq!(parcels.len(), 1);
    assert_eq!(parcels[0]["tracking_number"], "T-1");
    assert_eq!(
        parcels[0]["items"],
        json!([{"sku": "A", "warehouse": "east", "quantity": 1}])
    );
    assert_eq!(system.shelf("A").await, (9, 2));

    let over = json!({"items": [{"sku": "B", "quantity": 1}, {"sku": "A", "quantity": 3}]});
    let problem = system
        .ship(&id, over)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["errors"][0]["pointer"], "/items/1/quantity");
    for wrong in [
        json!({"items": []}),
        json!({"items": [{"sku": "C", "quantity": 1}]}),
        json!({"items": [{"sku": "A", "quantity": 0}]}),
        json!({"carrier": ""}),
        json!({"weight": 1}),
    ] {
        system
            .ship(&id, wrong)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
    system
        .post(&format!("/v1/orders/{id}/cancel"), json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");

    // A parcel that holds just this leaves under its own label; then all the rest.
    let label = json!({"items": [{"sku": "B", "quantity": 2}]});
    let order = system.ship(&id, label).await.expect(201);
    let from_west = order["shipments"]
        .as_array()
        .unwrap()
        .iter()
        .find(|parcel| parcel["items"][0]["sku"] == "B" && parcel["status"] == "shipped");
    assert_eq!(from_west.unwrap()["carrier"], "sandbox");
    let order = system.ship(&id, json!({})).await.expect(201);
    assert_eq!(order["status"], "shipped");
    system
        .ship(&id, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    assert_eq!(
        (system.shelf("A").await, system.shelf("B").await),
        ((7, 0), (8, 0))
    );

    // What was handed over arrives like any other parcel, by its id.
    let order = system
        .order_until(&id, "captured", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    for (number, parcel) in shipped(&order).iter().enumerate() {
        let data = json!({"order_id": id, "shipment_id": parcel["id"]});
        let body = json!({"type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z", "data": data});
        let reply = system.webhook_with(&format!("m-{number}"), &body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    system
        .order_until(&id, "delivered", |order| order["status"] == "delivered")
        .await;
    system.quiet().await;
    system.assert_verified();
}

#[tokio::test]
async fn of_many_who_ship_the_same_goods_one_does() {
    let system = System::start().await;
    let id = system.to_be_shipped().await;
    let all = json!({"items": [{"sku": "A", "quantity": 3}]});
    let replies = join_all((0..10).map(|_| system.ship(&id, all.clone()))).await;
    let taken = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(taken, 1);
    assert_eq!(system.shelf("A").await, (7, 0));
    // Under one key it is one shipment, however often it is asked for.
    let path = format!("/v1/orders/{id}/shipments");
    for _ in 0..3 {
        let request = system
            .request(reqwest::Method::POST, &path)
            .json(&json!({"items": [{"sku": "B", "quantity": 1}]}));
        let reply = crate::harness::send(request.header("idempotency-key", "parcel-1")).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    assert_eq!(system.shelf("B").await, (9, 1));
    system.quiet().await;
    system.assert_verified();
}

#[tokio::test]
async fn what_comes_back_is_on_its_shelf_and_refunded() {
    let system = System::start().await;
    let id = system.to_be_shipped().await;
    let order = system.ship(&id, json!({})).await.expect(201);
    let captured = |order: &Value| order["payment"]["status"] == "captured";
    system.order_until(&id, "captured", captured).await;
    let parcels = shipped(&order);
    let news = async |parcel: &Value, kind: &str| {
        let data = json!({"order_id": id, "shipment_id": parcel["id"]});
        let body = json!({"type": kind, "timestamp": "2026-01-31T12:00:00Z", "data": data});
        let name = format!("{kind}-{}", parcel["id"]);
        system.webhook_with(&name, &body).await.expect(200);
    };
    for kind in [
        "shipment.in_transit",
        "shipment.out_for_delivery",
        "shipment.failed",
    ] {
        news(parcels[0], kind).await;
    }
    // Nothing else is under way that would have its shelf in hand.
    system.quiet().await;
    let before = (system.shelf("A").await, system.shelf("B").await);
    assert_eq!(before, ((7, 0), (8, 0)));
    news(parcels[0], "shipment.returned").await;
    news(parcels[1], "shipment.delivered").await;
    let back = parcels[0]["items"][0].clone();
    let refund = if back["sku"] == "A" { 3000 } else { 2000 };
    let order = system
        .order_until(&id, "refunded", |order| {
            order["payment"]["refunded"] == refund
        })
        .await;
    assert_eq!(order["status"], "delivered");
    let quantity = back["quantity"].as_i64().unwrap();
    let sku = back["sku"].as_str().unwrap();
    let was = if sku == "A" { 7 } else { 8 };
    assert_eq!(system.shelf(sku).await, (was + quantity, 0));
    system.quiet().await;
    system.assert_verified();
}

#[tokio::test]
async fn what_comes_back_can_be_kept_unrefunded() {
    let system = System::start_with(&[("RETURNS", "keep")]).await;
    let id = system.to_be_shipped().await;
    system.ship(&id, json!({})).await.expect(201);
    let captured = |order: &Value| order["payment"]["status"] == "captured";
    system.order_until(&id, "captured", captured).await;
    system
        .webhook("m-1", "shipment.returned", &id)
        .await
        .expect(200);
    system.quiet().await;
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    assert_eq!(order["payment"]["refunded"], 0);
    assert_eq!(
        (system.shelf("A").await, system.shelf("B").await),
        ((10, 0), (10, 0))
    );
    system.assert_verified();
}
