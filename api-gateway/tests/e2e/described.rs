//! The API conforms to its OpenAPI and AsyncAPI documents, as checked by independent tools.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{System, order_body, order_body_with_method, run_script};

const ADMIN_KEY: &str = "key-of-an-admin-who-fuzzes";

async fn start_system() -> System {
    let keys = format!("admin={ADMIN_KEY};storefront@eu=key-of-a-storefront");
    let mut system = System::start_with(&[("API_KEYS", &keys)]).await;
    system.api_key = Some(ADMIN_KEY.to_owned());
    system
        .create_product_with_stock("A", &[("main", 100)])
        .await;
    system
}

#[tokio::test]
async fn schemathesis_finds_no_deviation_from_openapi() {
    let system = start_system().await;
    let customer_id = system.create_customer().await;
    system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await
        .expect(201);
    let folder = system.folder.to_str().unwrap();
    let script_output = run_script(
        "described.py",
        &["fuzz", &system.url(""), ADMIN_KEY, folder],
    );
    assert!(script_output.contains("Tested"), "{script_output}");
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn generated_client_creates_and_cancels_an_order() {
    let system = start_system().await;
    let customer_id = system.create_customer().await;
    let folder = system.folder.to_str().unwrap();
    let arguments = ["client", &system.url(""), ADMIN_KEY, folder, &customer_id];
    let script_output = run_script("described.py", &arguments);
    assert!(
        script_output.contains("ordered and cancelled"),
        "{script_output}"
    );
}

/// The targets of all `$ref` in a document.
fn schema_references(document: &Value) -> BTreeSet<&str> {
    match document {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, member)| match member {
                Value::String(target) if name == "$ref" => BTreeSet::from([target.as_str()]),
                member => schema_references(member),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(schema_references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}

#[tokio::test]
async fn openapi_is_complete_and_its_docs_work_offline() {
    let system = start_system().await;
    let document = system.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let references = schema_references(&document);
    assert!(references.len() > 50, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let mut operation_ids = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let operation_name = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{operation_name}");
            assert!(operation["tags"][0].is_string(), "{operation_name}");
            operation_ids.push(operation["operationId"].as_str().unwrap().to_owned());
            let security = &operation["security"];
            assert!(security.is_array(), "{operation_name}: {security}");
        }
    }
    let operation_count = operation_ids.len();
    operation_ids.sort();
    operation_ids.dedup();
    assert_eq!(
        operation_ids.len(),
        operation_count,
        "operation ids are not unique"
    );

    // The documentation pages and all files that they load.
    let docs_page = system
        .client
        .get(system.url("/docs/"))
        .send()
        .await
        .unwrap();
    let docs_page = docs_page.text().await.unwrap();
    let loaded_files: Vec<&str> = docs_page
        .split(['"', '\''])
        .filter(|text| matches!(text.rsplit('.').next(), Some("js" | "css")))
        .collect();
    assert!(!loaded_files.is_empty(), "{docs_page}");
    for file_name in loaded_files {
        assert!(
            !file_name.contains("//"),
            "{file_name} is loaded from another server"
        );
        let file_name = file_name.trim_start_matches("./");
        let reply = system.get(&format!("/docs/{file_name}")).await;
        assert_eq!(reply.status, 200, "{file_name}");
    }
    assert_ne!(document["components"]["securitySchemes"], Value::Null);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one change for each type of event")]
async fn events_conform_to_asyncapi() {
    let system = start_system().await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for payment_method in ["pm_ok", "pm_declined", "pm_flaky", "pm_ok"] {
        let new_order = order_body_with_method(&customer_id, "A", 1, payment_method);
        let created_order = system.post("/v1/orders", new_order).await.expect(201);
        order_ids.push(created_order["id"].as_str().unwrap().to_owned());
    }
    let items = json!([{"sku": "A", "quantity": 1, "unit_price": 900, "discounts": [{"label": "x", "amount": 1}], "taxes": [{"label": "VAT", "rate": "0.19", "amount": 3}]}]);
    let shipping_charge =
        json!({"label": "Standard", "amount": 490, "taxes": [{"label": "VAT", "amount": 93}]});
    let priced_order = json!({"customer_id": customer_id, "items": items, "shipping": shipping_charge, "discounts": [{"code": "C", "label": "y", "amount": 2}]});
    system.post("/v1/orders", priced_order).await.expect(201);
    system.wait_until_idle().await;
    for (event_index, event_name) in ["shipped", "in_transit", "delivered"].iter().enumerate() {
        let event_type = format!("shipment.{event_name}");
        let webhook_id = format!("m-{event_index}");
        assert_eq!(
            system
                .send_webhook(&webhook_id, &event_type, &order_ids[0])
                .await
                .status,
            200
        );
    }
    let path = format!("/v1/orders/{}/edit", order_ids[3]);
    let discount_edit = json!({"discounts": [{"label": "x", "amount": 1}], "reason": "late"});
    system.post(&path, discount_edit).await.expect(200);
    let edit_to_higher_total =
        json!({"items": [{"sku": "A", "quantity": 9}], "payment_method": "pm_declined"});
    system.post(&path, edit_to_higher_total).await.expect(202);
    system.wait_until_idle().await;
    let cancel_path = format!("/v1/orders/{}/cancel", order_ids[3]);
    system
        .post(&cancel_path, json!({"reason": "no"}))
        .await
        .expect(200);
    system.wait_until_idle().await;
    for actions in [&["reject"][..], &["cancel"], &["approve", "receive"]] {
        let items = json!([{"sku": "A", "quantity": 1, "reason": "too small"}]);
        let path = format!("/v1/orders/{}/returns", order_ids[0]);
        let return_reply = system
            .post(&path, json!({"items": items, "note": "x"}))
            .await;
        let return_id = return_reply.expect(201)["id"].as_str().unwrap().to_owned();
        for action in actions {
            let body = match *action {
                "receive" => {
                    json!({"items": [{"sku": "A", "quantity": 1, "restock": true}], "fee": 1})
                }
                _ => json!({}),
            };
            let return_reply = system
                .post(&format!("/v1/returns/{return_id}/{action}"), body)
                .await;
            return_reply.expect(200);
        }
    }
    let path = format!("/v1/customers/{customer_id}");
    let customer_patch = json!({"phone": "112", "email": "other@example.com"});
    system.patch(&path, customer_patch).await.expect(200);
    let photo_bytes = crate::photos::photo(400, 300, image::ImageFormat::Png);
    let photo_reply = system.upload("A", "image/png", photo_bytes).await;
    assert_eq!(photo_reply.expect(201)["variants"][0]["width"], 320);
    let endpoint = json!({"url": "https://example.com"});
    let endpoint_reply = system
        .post("/v1/webhook-endpoints", endpoint)
        .await
        .expect(201);
    let path = format!(
        "/v1/webhook-endpoints/{}",
        endpoint_reply["id"].as_str().unwrap()
    );
    system.delete(&path).await.expect(204);
    for order_id in &order_ids[1..3] {
        let path = format!("/v1/orders/{order_id}");
        system.delete(&path).await.expect(204);
        system
            .post(&format!("{path}/restore"), json!({}))
            .await
            .expect(200);
    }
    system.wait_until_idle().await;
    let document_path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/asyncapi.json");
    let script_output = run_script(
        "described.py",
        &["events", &system.url(""), ADMIN_KEY, document_path],
    );
    let event_types: Vec<&str> = script_output.split_whitespace().collect();
    assert!(event_types.len() >= 20, "{event_types:?}");
    assert!(event_types.contains(&"customer.updated"), "{event_types:?}");
    assert!(event_types.contains(&"return.received"), "{event_types:?}");
    assert!(event_types.contains(&"product.updated"), "{event_types:?}");
    for event_type in [
        "order.edited",
        "order.edit_requested",
        "order.edit_rejected",
    ] {
        assert!(
            event_types.contains(&event_type),
            "{event_type}: {event_types:?}"
        );
    }
}
