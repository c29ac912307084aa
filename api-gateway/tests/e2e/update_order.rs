//! Changes of an order's address, metadata, note and tags, and lists of orders by tag.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    auth::API_KEYS,
    harness::{Receiver, System, Tables, has_shipping_label, order_body, send},
};

/// Creates an order to Berlin, and waits until it has a label.
async fn create_announced_order(system: &System) -> String {
    let mut new_order = order_body(&system.create_customer().await, "A", 1);
    new_order["shipping_address"] = json!({"name": "Ada", "city": "Berlin"});
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let id = created_order["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    id
}

/// The labels of the order at the carrier: key, whether it was cancelled, and the digest of its address.
fn list_labels(system: &System, order_id: &str) -> Vec<(String, bool, String)> {
    let sql = format!(
        "SELECT key, CASE WHEN is_cancelled THEN 1 ELSE 0 END, address_digest FROM parcels
         WHERE order_id = '{order_id}' ORDER BY key"
    );
    let label_rows = system.store.run(Tables::Ledger, &sql);
    let label_rows = label_rows.lines().map(|label_row| {
        let columns: Vec<_> = label_row.split(' ').collect();
        (
            columns[0].split_once('/').unwrap().1.to_owned(),
            columns[1] == "1",
            columns[2].to_owned(),
        )
    });
    label_rows.collect()
}

fn digest(address: &Value) -> String {
    let digest = Sha256::digest(address.to_string());
    format!("{digest:x}")
}

#[tokio::test]
async fn changed_address_replaces_the_label_at_the_carrier() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let id = create_announced_order(&system).await;
    let path = format!("/v1/orders/{id}");
    let berlin_address = json!({"city": "Berlin", "name": "Ada"});
    let label_key = "request_shipment:main";
    assert_eq!(
        list_labels(&system, &id),
        [(label_key.to_owned(), false, digest(&berlin_address))]
    );
    let order_before = system.get(&path).await.expect(200);
    let first_tracking_number = order_before["shipments"][0]["tracking_number"].clone();

    let patch = json!({"shipping_address": {"city": "Cologne", "line2": null}});
    let changed_order = system.patch(&path, patch.clone()).await.expect(200);
    let cologne_address = json!({"city": "Cologne", "name": "Ada"});
    assert_eq!(changed_order["shipping_address"], cologne_address);
    let order = system
        .wait_for_order(&id, "announced again", |order| {
            order["shipments"][1]["status"] == "label_created"
        })
        .await;
    assert_eq!(order["shipments"][0]["status"], "cancelled");
    assert_ne!(
        order["shipments"][1]["tracking_number"],
        first_tracking_number
    );
    assert_eq!(
        list_labels(&system, &id),
        [
            (label_key.to_owned(), true, digest(&berlin_address)),
            (format!("{label_key}:2"), false, digest(&cologne_address)),
        ]
    );
    // The same address again changes nothing.
    let unchanged_order = system.patch(&path, patch).await.expect(200);
    assert_eq!(unchanged_order["version"], order["version"]);

    // The carrier has shipped under the first label all the same: the second one is withdrawn.
    let shipping_update = json!({
        "type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z",
        "data": {"order_id": id, "tracking_number": first_tracking_number},
    });
    let reply = system.send_webhook_body("late-1", &shipping_update).await;
    reply.expect(200);
    let order = system.get(&path).await.expect(200);
    assert_eq!(order["status"], "shipped");
    let shipments = order["shipments"].as_array().unwrap().iter();
    let statuses: Vec<_> = shipments.map(|shipment| &shipment["status"]).collect();
    assert_eq!(statuses, ["shipped", "cancelled"]);
    assert_eq!(system.stock_level("A").await, (4, 0));
    let history = system.list_event_types(&id).await;
    let types_since_update = history
        .iter()
        .skip_while(|event_type| *event_type != "order.updated");
    let types_of_shipping = types_since_update.filter(|event_type| {
        event_type.starts_with("order.") || event_type.starts_with("shipment.")
    });
    assert_eq!(
        types_of_shipping.collect::<Vec<_>>(),
        [
            "order.updated",
            "shipment.cancelled",
            "shipment.created",
            "shipment.cancelled",
            "shipment.shipped",
            "order.shipped"
        ]
    );
    let patch = json!({"shipping_address": {"city": "Bonn"}});
    let problem_reply = system.patch(&path, patch).await;
    let problem = problem_reply.expect_problem(409, "INVALID_STATE");
    assert!(
        problem["detail"].as_str().unwrap().contains("is shipped"),
        "{problem}"
    );
    system.wait_until_idle().await;
    assert!(
        list_labels(&system, &id)[1].1,
        "the second label is cancelled"
    );
    system.assert_verified();
}

#[tokio::test]
async fn invalid_changes_of_an_order_are_refused_with_the_field() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 5)]).await;
    let id = create_announced_order(&system).await;
    let path = format!("/v1/orders/{id}");
    let version = system.get(&path).await.expect(200)["version"].clone();
    for (patch, pointer) in [
        (json!({"shipping_address": "Berlin"}), "/shipping_address"),
        (
            json!({"shipping_address": {"city": 1}}),
            "/shipping_address",
        ),
        (json!({"metadata": []}), "/metadata"),
        (json!({"metadata": {"a": "x".repeat(17_000)}}), "/metadata"),
        (json!({"note": "x".repeat(5_001)}), "/note"),
        (json!({"note": "\u{7}"}), "/note"),
        (json!({"tags": "vip"}), "/tags"),
        (json!({"tags": ["a,b"]}), "/tags"),
        (json!({"tags": [" "]}), "/tags"),
        (json!({"tags": ["x".repeat(41)]}), "/tags"),
        (json!({"tags": vec!["x"; 51]}), "/tags"),
        (json!({"status": "shipped"}), "/status"),
        (json!({"items": []}), "/items"),
    ] {
        let refused_reply = system.patch(&path, patch.clone()).await;
        let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{patch}");
    }
    for tag in ["", "%20", "a,b", "a%00"] {
        let refused_reply = system.get(&format!("/v1/orders?tag={tag}")).await;
        refused_reply.expect_problem(422, "INVALID_REQUEST");
    }
    assert_eq!(system.get(&path).await.expect(200)["version"], version);
    let missing_path = "/v1/orders/0192f0c1-2345-7abc-8def-0123456789ab";
    let refused_reply = system.patch(missing_path, json!({})).await;
    refused_reply.expect_problem(404, "NOT_FOUND");
    // A message of an AMQP client is subject to the same rules: `foreign.py`.
}

#[tokio::test]
async fn storefronts_see_neither_note_nor_tags_anywhere() {
    let mut system =
        System::start_with(&[("API_KEYS", API_KEYS), ("WEBHOOK_ALLOW_PRIVATE", "1")]).await;
    let receiver = Receiver::start().await;
    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 5)]).await;
    system.api_key = Some("key-of-eu".to_owned());
    let new_endpoint = json!({"url": receiver.url("/eu"), "event_types": ["order.updated"]});
    let endpoint_reply = system.post("/v1/webhook-endpoints", new_endpoint).await;
    endpoint_reply.expect(201);
    let id = create_announced_order(&system).await;
    let path = format!("/v1/orders/{id}");
    for patch in [
        json!({"note": "confidential"}),
        json!({"tags": ["confidential"]}),
        json!({"note": null}),
        json!({"tags": null, "metadata": {"a": 1}}),
    ] {
        let refused_reply = system.patch(&path, patch).await;
        refused_reply.expect_problem(403, "FORBIDDEN");
    }
    let refused_reply = system.get("/v1/orders?tag=confidential").await;
    refused_reply.expect_problem(403, "FORBIDDEN");
    let mut stream = open_stream(&system).await;

    system.api_key = Some("key-of-operator".to_owned());
    let patch =
        json!({"note": "confidential", "tags": ["confidential"], "metadata": {"seen": true}});
    let order = system.patch(&path, patch).await.expect(200);
    assert_eq!(
        (&order["note"], &order["tags"]),
        (&json!("confidential"), &json!(["confidential"]))
    );
    let list_by_tag = system.get("/v1/orders?tag=CONFIDENTIAL").await.expect(200);
    assert_eq!(list_by_tag["data"][0]["id"], id.as_str());
    let events = system
        .get("/v1/events?type=order.updated")
        .await
        .expect(200);
    assert_eq!(events["data"][0]["data"]["note"], "confidential");

    system.api_key = Some("key-of-eu".to_owned());
    let request = system.request(Method::PATCH, &path);
    let request = request.json(&json!({"metadata": {"mine": 1}}));
    let order_reply = send(request.header("idempotency-key", "k1")).await;
    let changed_order = order_reply.expect(200);
    assert_eq!(changed_order["metadata"], json!({"seen": true, "mine": 1}));
    let mut shown_texts = vec![
        changed_order.to_string(),
        system.get(&path).await.expect(200).to_string(),
        system.get("/v1/orders").await.expect(200).to_string(),
        system
            .get(&format!("{path}/history?limit=200"))
            .await
            .expect(200)
            .to_string(),
        system
            .get("/v1/events?limit=200")
            .await
            .expect(200)
            .to_string(),
        system
            .get(&format!(
                "/v1/events?order_id={id}&type=order.updated&limit=200"
            ))
            .await
            .expect(200)
            .to_string(),
    ];
    // The second change is the last event of each.
    let mut streamed_text = String::new();
    while streamed_text.matches("order.updated").count() < 4 {
        let chunk = stream.chunk().await.unwrap().unwrap();
        streamed_text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(
        streamed_text.contains("seen") && streamed_text.contains("mine"),
        "{streamed_text}"
    );
    shown_texts.push(streamed_text);
    crate::harness::wait_until("both webhooks to arrive", async || {
        receiver.received().len() == 2
    })
    .await;
    for received_request in receiver.received() {
        let body = String::from_utf8_lossy(&received_request.body).into_owned();
        assert!(body.contains("seen"), "{body}");
        shown_texts.push(body);
    }
    for shown_text in &shown_texts {
        assert!(!shown_text.contains("confidential"), "{shown_text}");
    }
    // The history has no gap.
    let history = system
        .get(&format!("{path}/history?limit=200"))
        .await
        .expect(200);
    for (index, event) in history["data"].as_array().unwrap().iter().enumerate() {
        assert_eq!(event["sequence"], index + 1);
    }
    system.api_key = Some("key-of-us".to_owned());
    let refused_reply = system.patch(&path, json!({"metadata": {}})).await;
    refused_reply.expect_problem(404, "NOT_FOUND");
    system.assert_verified();
}

/// Opens the live stream of the `order.updated` events that the caller can see.
async fn open_stream(system: &System) -> reqwest::Response {
    let request = system.request(Method::GET, "/v1/events/stream?type=order.updated");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

#[tokio::test]
async fn orders_are_listed_by_tag_with_all_other_filters() {
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 500)])
        .await;
    system
        .create_product_with_stock("B", &[("main", 500)])
        .await;
    let ada_id = system.create_customer().await;
    let eve_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for order_index in 0..12 {
        let customer_id = if order_index % 3 == 0 {
            &eve_id
        } else {
            &ada_id
        };
        let sku = if order_index % 2 == 0 { "A" } else { "B" };
        let order_reply = system
            .post("/v1/orders", order_body(customer_id, sku, 1))
            .await;
        order_ids.push(order_reply.expect(201)["id"].as_str().unwrap().to_owned());
    }
    system.wait_until_idle().await;
    // Every order but the first has a common tag; each third one has another, too.
    for (index, order_id) in order_ids.iter().enumerate().skip(1) {
        let tags = if index % 3 == 0 {
            json!(["Über", "vip"])
        } else {
            json!(["ÜBER"])
        };
        let path = format!("/v1/orders/{order_id}");
        system.patch(&path, json!({"tags": tags})).await.expect(200);
    }
    let cancel_path = format!("/v1/orders/{}/cancel", order_ids[3]);
    system.post(&cancel_path, json!({})).await.expect(200);
    let list_indexes = async |query: &str| -> Vec<usize> {
        let (mut order_indexes, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/orders?limit=2{query}{cursor}");
            let page = system.get(&path).await.expect(200);
            for order in page["data"].as_array().unwrap() {
                order_indexes.push(
                    order_ids
                        .iter()
                        .position(|order_id| order["id"] == order_id.as_str())
                        .unwrap(),
                );
            }
            match page["next_cursor"].as_str() {
                Some(next_cursor) => cursor = format!("&cursor={next_cursor}"),
                None => return order_indexes,
            }
        }
    };
    let tagged_indexes: Vec<usize> = (1..12).rev().collect();
    assert_eq!(list_indexes("&tag=%C3%BCber").await, tagged_indexes);
    assert_eq!(list_indexes("&tag=VIP").await, [9, 6, 3]);
    assert_eq!(list_indexes("&tag=vip&status=cancelled").await, [3]);
    assert_eq!(list_indexes("&tag=vip&sku=A").await, [6]);
    assert_eq!(
        list_indexes(&format!("&tag=%C3%9Cber&customer_id={eve_id}")).await,
        [9, 6, 3]
    );
    assert_eq!(list_indexes("&tag=vip&storefront=default").await, [9, 6, 3]);
    assert!(list_indexes("&tag=vip&storefront=eu").await.is_empty());
    assert_eq!(list_indexes("&tag=vip&number=7").await, [6]);
    assert_eq!(list_indexes("&tag=vip&q=ada").await, [9, 6, 3]);
    assert!(
        list_indexes("&tag=vip&created_before=2020-01-01T00:00:00Z")
            .await
            .is_empty()
    );
    assert!(list_indexes("&tag=vi").await.is_empty());
    // Changed, removed and deleted.
    let change_tags = async |index: usize, tags: Value| {
        let path = format!("/v1/orders/{}", order_ids[index]);
        system.patch(&path, json!({"tags": tags})).await.expect(200)
    };
    change_tags(9, json!(["gone"])).await;
    change_tags(6, json!(null)).await;
    let delete_reply = system.delete(&format!("/v1/orders/{}", order_ids[3])).await;
    assert_eq!(delete_reply.status, 204);
    assert!(list_indexes("&tag=vip").await.is_empty());
    assert_eq!(list_indexes("&tag=vip&include_deleted=true").await, [3]);
    assert_eq!(list_indexes("&tag=gone").await, [9]);
    let tag_count = system
        .store
        .run(Tables::Worker, "SELECT count(*) FROM order_tags");
    assert_eq!(tag_count.trim(), "11");
    system.assert_verified();
    // verify reports an order that is not listed by its tag.
    system
        .store
        .run(Tables::Worker, "DELETE FROM order_tags WHERE tag = 'gone'");
    let (is_consistent, report) = system.verify();
    assert!(
        !is_consistent && report.contains("is listed by"),
        "{report}"
    );
}
