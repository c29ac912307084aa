//! Requests of clients and of the shipper to a running system, and their replies.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::{SHIPPER_SECRET, System, TIMEOUT, wait_until};

impl System {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// Builds a request without sending it.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match &self.api_key {
            Some(api_key) => request.bearer_auth(api_key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        send(self.request(Method::DELETE, path)).await
    }

    /// Creates a product at 10.00 EUR with this stock per warehouse.
    pub(crate) async fn create_product_with_stock(&self, sku: &str, stock_levels: &[(&str, i64)]) {
        let product =
            json!({"sku": sku, "name": format!("A {sku}"), "price": 1000, "currency": "EUR"});
        self.post("/v1/products", product).await.expect(201);
        for (warehouse, on_hand) in stock_levels {
            self.put(
                &format!("/v1/products/{sku}/stock/{warehouse}"),
                json!({"on_hand": on_hand}),
            )
            .await
            .expect(200);
        }
    }

    /// Creates a customer and returns its id.
    pub(crate) async fn create_customer(&self) -> String {
        let customer = self
            .post(
                "/v1/customers",
                json!({"name": "Ada", "email": "ada@example.com"}),
            )
            .await
            .expect(201);
        customer["id"].as_str().unwrap().to_owned()
    }

    /// Returns the units on hand and reserved of a product in a single warehouse.
    pub(crate) async fn stock_level(&self, sku: &str) -> (i64, i64) {
        let product = self.get(&format!("/v1/products/{sku}")).await.expect(200);
        let stock_level = &product["stock"][0];
        (
            stock_level["on_hand"].as_i64().unwrap(),
            stock_level["reserved"].as_i64().unwrap(),
        )
    }

    /// Waits until the order satisfies `condition`.
    pub(crate) async fn wait_for_order(
        &self,
        order_id: &str,
        condition_name: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        let order_path = format!("/v1/orders/{order_id}");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let reply = self.get(&order_path).await;
            if reply.status == 200 && condition(&reply.body) {
                return reply.body;
            }
            assert!(
                Instant::now() < deadline,
                "timed out waiting for the order to be {condition_name}: {} {}",
                reply.status,
                reply.body
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the types of the order's events.
    pub(crate) async fn list_event_types(&self, order_id: &str) -> Vec<String> {
        let history = self
            .get(&format!("/v1/orders/{order_id}/history?limit=200"))
            .await
            .expect(200);
        history["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Sends a signed webhook of the shipper.
    pub(crate) async fn send_webhook(
        &self,
        webhook_id: &str,
        event_type: &str,
        order_id: &str,
    ) -> Reply {
        let event_data = json!({"order_id": order_id, "carrier": "DHL"});
        self.send_webhook_body(
            webhook_id,
            &json!({"type": event_type, "timestamp": "2026-01-31T12:00:00Z", "data": event_data}),
        )
        .await
    }

    pub(crate) async fn send_webhook_body(&self, webhook_id: &str, body: &Value) -> Reply {
        send(self.webhook_request(webhook_id, body)).await
    }

    /// Builds a signed webhook of the shipper without sending it.
    pub(crate) fn webhook_request(
        &self,
        webhook_id: &str,
        body: &Value,
    ) -> reqwest::RequestBuilder {
        let (body, now_seconds) = (body.to_string(), Timestamp::now().as_second());
        let signature = Webhook::new(SHIPPER_SECRET)
            .unwrap()
            .sign(webhook_id, now_seconds, body.as_bytes())
            .unwrap();
        self.signed_request(webhook_id, &now_seconds.to_string(), &signature, body)
    }

    pub(crate) fn signed_request(
        &self,
        webhook_id: &str,
        timestamp: &str,
        signature: &str,
        body: String,
    ) -> reqwest::RequestBuilder {
        self.client
            .post(self.url("/webhooks/shipper"))
            .header("webhook-id", webhook_id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
    }

    /// Returns all orders.
    pub(crate) async fn list_orders(&self) -> Vec<Value> {
        let (mut orders, mut page_path) = (Vec::new(), "/v1/orders?limit=200".to_owned());
        loop {
            let page = self.get(&page_path).await.expect(200);
            orders.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => page_path = format!("/v1/orders?limit=200&cursor={cursor}"),
                None => return orders,
            }
        }
    }

    /// Waits until no order has a step in progress, and returns all orders.
    pub(crate) async fn wait_until_idle(&self) -> Vec<Value> {
        wait_until("all steps to be finished", async || {
            self.list_orders()
                .await
                .iter()
                .all(|order| order["in_progress"].is_null())
        })
        .await;
        self.list_orders().await
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    /// Checks the status and returns the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Checks that this is a complete problem document with this status and code.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.body
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        for member_name in ["type", "title", "detail", "request_id"] {
            assert!(
                self.body[member_name].is_string(),
                "{member_name} of {}",
                self.body
            );
        }
        assert_eq!(
            self.headers["x-request-id"],
            self.body["request_id"].as_str().unwrap()
        );
        self.body
    }
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> Reply {
    try_send(request).await.unwrap()
}

pub(crate) async fn try_send(request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body_bytes = response.bytes().await?;
    // Stored JSON may be nested deeper than serde_json reads by default.
    let mut json_reader = serde_json::Deserializer::from_slice(&body_bytes);
    json_reader.disable_recursion_limit();
    let body = serde::Deserialize::deserialize(&mut json_reader).unwrap_or(Value::Null);
    Ok(Reply {
        status,
        headers,
        body,
    })
}

/// The body of a request to create an order with one line.
pub(crate) fn order_body(customer_id: &str, sku: &str, quantity: u32) -> Value {
    json!({"customer_id": customer_id, "items": [{"sku": sku, "quantity": quantity}]})
}

/// As [`order_body`], with a payment method.
pub(crate) fn order_body_with_method(
    customer_id: &str,
    sku: &str,
    quantity: u32,
    payment_method: &str,
) -> Value {
    let mut new_order = order_body(customer_id, sku, quantity);
    new_order["payment_method"] = json!(payment_method);
    new_order
}

/// Whether the shipment is announced, which is the last step that needs no webhook of the shipper.
pub(crate) fn has_shipping_label(order: &Value) -> bool {
    order["status"] == "processing" && order["shipments"][0]["status"] == "label_created"
}
