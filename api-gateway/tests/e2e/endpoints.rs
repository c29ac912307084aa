//! Outgoing webhooks: delivery, retries, secrets, authorization and URL policy.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::ChildStdout,
};

use crate::harness::{
    CannedResponse, Receiver, System, Tables, has_shipping_label, order_body, send, setting,
    wait_until,
};

pub(crate) const ALLOW_PRIVATE_URLS: (&str, &str) = ("WEBHOOK_ALLOW_PRIVATE", "1");

impl System {
    /// Creates a webhook endpoint and returns its id and secret.
    pub(crate) async fn create_endpoint(
        &self,
        url: &str,
        event_types: &[&str],
    ) -> (String, String) {
        let new_endpoint = json!({"url": url, "event_types": event_types});
        let endpoint_reply = self
            .post("/v1/webhook-endpoints", new_endpoint)
            .await
            .expect(201);
        let text_field = |field_name: &str| endpoint_reply[field_name].as_str().unwrap().to_owned();
        (text_field("id"), text_field("secret"))
    }

    pub(crate) async fn create_order(&self) -> String {
        let customer_id = self.create_customer().await;
        let order_reply = self
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201)["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn list_deliveries(&self, endpoint_id: &str) -> Vec<Value> {
        let path = format!("/v1/webhook-endpoints/{endpoint_id}/deliveries?limit=200");
        let page = self.get(&path).await.expect(200);
        page["data"].as_array().unwrap().clone()
    }

    /// Waits until the endpoint's first delivery satisfies `condition`.
    pub(crate) async fn wait_for_delivery(
        &self,
        endpoint_id: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut found_delivery = Value::Null;
        wait_until("a delivery", async || {
            found_delivery = self
                .list_deliveries(endpoint_id)
                .await
                .last()
                .cloned()
                .unwrap_or_default();
            condition(&found_delivery)
        })
        .await;
        found_delivery
    }
}

/// A third-party program that prints the events published to the broker, one JSON object per line.
pub(crate) struct BrokerListener {
    _process: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl BrokerListener {
    /// Starts listening for this time.
    pub(crate) async fn start(system: &System, seconds: u32) -> Self {
        let script_path = format!("{}/tests/e2e/events.py", env!("CARGO_MANIFEST_DIR"));
        let mut listener_process = tokio::process::Command::new("python3")
            .args([&script_path, "listen", &system.broker.url()])
            .arg(seconds.to_string())
            .env("PYTHONPATH", setting("TEST_PYTHONPATH"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(listener_process.stdout.take().unwrap()).lines();
        assert_eq!(
            lines.next_line().await.unwrap().as_deref(),
            Some("listening")
        );
        Self {
            _process: listener_process,
            lines,
        }
    }

    /// The next event; `None` at the end of the time.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.lines.next_line().await.unwrap()
    }
}

/// Parses events with third-party tools and returns their ids.
fn parsed_event_ids(lines: &[Value]) -> Vec<String> {
    let script_path = format!("{}/tests/e2e/events.py", env!("CARGO_MANIFEST_DIR"));
    let mut python_process = Command::new("python3")
        .arg(script_path)
        .env("PYTHONPATH", setting("TEST_PYTHONPATH"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut python_stdin = python_process.stdin.take().unwrap();
    for line in lines {
        writeln!(python_stdin, "{line}").unwrap();
    }
    drop(python_stdin);
    let python_output = python_process.wait_with_output().unwrap();
    assert!(python_output.status.success());
    let output_text = String::from_utf8(python_output.stdout).unwrap();
    output_text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn webhook_feed_stream_and_broker_deliver_the_same_events() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::start().await;
    let (endpoint_id, secret) = system
        .create_endpoint(&receiver.url("/hook"), &["order.*"])
        .await;

    let mut broker_listener = BrokerListener::start(&system, 8).await;
    let mut stream = system
        .client
        .get(system.url("/v1/events/stream?type=order.*"))
        .send()
        .await
        .unwrap();
    let order_id = system.create_order().await;
    system
        .wait_for_order(&order_id, "announced", has_shipping_label)
        .await;
    wait_until("both webhooks", async || receiver.received().len() == 2).await;

    let feed_page = system
        .get(&format!("/v1/events?type=order.*&order_id={order_id}"))
        .await
        .expect(200);
    let mut received_events: Vec<Value> = feed_page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| json!({"over": "feed", "body": event.to_string()}))
        .collect();
    let mut stream_text = String::new();
    while stream_text.matches("data: ").count() < 2 {
        stream_text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    let event_data = stream_text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    received_events.extend(event_data.map(|event_data| json!({"over": "sse", "body": event_data})));
    for received_request in receiver.received() {
        let headers: serde_json::Map<_, _> = received_request
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
            .collect();
        let body_text = std::str::from_utf8(&received_request.body).unwrap();
        received_events.push(
            json!({"over": "webhook", "headers": headers, "secret": secret, "body": body_text}),
        );
    }
    let mut published_events: Vec<Value> = Vec::new();
    while let Some(line) = broker_listener.next().await {
        if line.contains(&order_id) && line.contains("order.") {
            published_events.push(serde_json::from_str(&line).unwrap());
        }
    }
    let is_order_event = |line: &&Value| {
        let event: Value = serde_json::from_str(line["body"].as_str().unwrap()).unwrap();
        event["type"].as_str().unwrap().starts_with("order.")
    };
    received_events.extend(published_events.iter().filter(is_order_event).cloned());

    let mut event_ids = parsed_event_ids(&received_events);
    assert_eq!(
        event_ids.len(),
        8,
        "two events over four channels: {event_ids:?}"
    );
    event_ids.sort();
    assert!(
        event_ids
            .chunks(4)
            .all(|same_ids| same_ids.iter().all(|event_id| *event_id == same_ids[0])),
        "{event_ids:?}"
    );
    let deliveries = system.list_deliveries(&endpoint_id).await;
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery["status"] == "succeeded")
    );
    assert_eq!(deliveries[0]["attempts"][0]["response_code"], 200);
    system.assert_verified();
}

#[tokio::test]
async fn failed_delivery_is_retried_and_lists_its_attempts() {
    let mut system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::with_responses(vec![
        CannedResponse::Status(500),
        CannedResponse::Status(204),
    ])
    .await;
    let (endpoint_id, _) = system
        .create_endpoint(&receiver.url("/"), &["order.created"])
        .await;
    system.create_order().await;
    let failed_delivery = system
        .wait_for_delivery(&endpoint_id, |delivery| {
            delivery["attempts"][0]["response_code"] == 500
        })
        .await;
    assert_eq!(failed_delivery["status"], "pending");
    assert!(failed_delivery["next_attempt_at"].is_string());
    let path = format!("/v1/webhook-endpoints/{endpoint_id}");
    assert!(system.get(&path).await.expect(200)["failing_since"].is_string());
    // The retry survives the death of the worker.
    system.worker.kill();
    system.restart_worker().await;
    let delivered_delivery = system
        .wait_for_delivery(&endpoint_id, |delivery| delivery["status"] == "succeeded")
        .await;
    assert_eq!(delivered_delivery["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(
        system.get(&path).await.expect(200)["failing_since"],
        Value::Null
    );
    let received_requests = receiver.received();
    assert_eq!(
        received_requests[0].headers["webhook-id"],
        received_requests[1].headers["webhook-id"]
    );

    // A redelivery has the same id.
    let redeliver_path = format!(
        "{path}/deliveries/{}/redeliver",
        delivered_delivery["id"].as_str().unwrap()
    );
    system.post(&redeliver_path, json!({})).await.expect(202);
    wait_until("the redelivery", async || receiver.received().len() == 3).await;
    assert_eq!(
        receiver.received()[2].headers["webhook-id"],
        received_requests[0].headers["webhook-id"]
    );
    let unknown_delivery_path =
        format!("{path}/deliveries/0192f0c1-2345-7abc-8def-0123456789ab/redeliver");
    system
        .post(&unknown_delivery_path, json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn delivery_of_a_deleted_event_fails_without_retry() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::start().await;
    let (endpoint_id, _) = system
        .create_endpoint(&receiver.url("/"), &["order.created"])
        .await;
    let order_id = system.create_order().await;
    let delivery = system
        .wait_for_delivery(&endpoint_id, |delivery| delivery["status"] == "succeeded")
        .await;
    // Simulates a shorter retention of events than of deliveries.
    let delete_events_sql = format!("DELETE FROM events WHERE subject = '{order_id}'");
    system.store.run(Tables::Worker, &delete_events_sql);
    let path = format!("/v1/webhook-endpoints/{endpoint_id}");
    let redelivery_path = format!(
        "{path}/deliveries/{}/redeliver",
        delivery["id"].as_str().unwrap()
    );
    let refused_reply = system.post(&redelivery_path, json!({})).await;
    let problem = refused_reply.expect_problem(409, "INVALID_STATE");
    assert_eq!(
        problem["detail"],
        "the event was deleted after its retention period and can't be delivered"
    );

    // Makes the delivery pending again.
    let state_replacements = [
        ("\"status\":\"succeeded\"", "\"status\":\"pending\""),
        ("\"due_at\":null", "\"due_at\":\"2026-01-31T12:00:00Z\""),
    ];
    let state_sql = state_replacements
        .iter()
        .fold("state".to_owned(), |state, (old_text, new_text)| {
            format!("replace({state}, '{old_text}', '{new_text}')")
        });
    system.store.run(
        Tables::Worker,
        &format!("UPDATE deliveries SET status = 'pending', due_at = 1, state = {state_sql}"),
    );
    let failed_delivery = system
        .wait_for_delivery(&endpoint_id, |delivery| delivery["status"] == "failed")
        .await;
    assert_eq!(failed_delivery["next_attempt_at"], Value::Null);
    assert_eq!(
        failed_delivery["attempts"][1]["error"],
        "the event was deleted after its retention period and can't be delivered"
    );
    assert_eq!(
        system.get(&path).await.expect(200)["failing_since"],
        Value::Null
    );
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn endpoint_answering_410_is_disabled_with_an_event() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::with_responses(vec![CannedResponse::Status(410)]).await;
    let (endpoint_id, _) = system
        .create_endpoint(&receiver.url("/"), &["order.created"])
        .await;
    system.create_order().await;
    let path = format!("/v1/webhook-endpoints/{endpoint_id}");
    wait_until("the endpoint to be disabled", async || {
        system.get(&path).await.expect(200)["is_enabled"] == false
    })
    .await;
    assert_eq!(
        system.get(&path).await.expect(200)["disabled_reason"],
        "gone"
    );
    let disabled_events = system
        .get("/v1/events?type=webhook_endpoint.disabled")
        .await
        .expect(200);
    assert_eq!(disabled_events["data"][0]["subject"], endpoint_id.as_str());
    assert_eq!(disabled_events["data"][0]["data"]["reason"], "gone");
    // A disabled endpoint gets no deliveries until it is enabled again.
    system.create_order().await;
    let delivery = system.list_deliveries(&endpoint_id).await[0].clone();
    let redeliver_path = format!(
        "{path}/deliveries/{}/redeliver",
        delivery["id"].as_str().unwrap()
    );
    system
        .post(&redeliver_path, json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    receiver.set_response(CannedResponse::Status(200));
    let enabling_request = system
        .request(Method::PATCH, &path)
        .json(&json!({"is_enabled": true}));
    assert_eq!(
        send(enabling_request).await.expect(200)["disabled_reason"],
        Value::Null
    );
    let order_id = system.create_order().await;
    wait_until("the next webhook", async || {
        let received_requests = receiver.received();
        received_requests.iter().any(|received_request| {
            received_request
                .body
                .windows(36)
                .any(|window| window == order_id.as_bytes())
        })
    })
    .await;
    assert_eq!(
        receiver.received().len(),
        2,
        "the order created while the endpoint was disabled was delivered"
    );
}

#[tokio::test]
async fn endpoint_gets_events_after_a_demo_reset() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS, ("DEMO", "1")]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::start().await;
    system
        .create_endpoint(&receiver.url("/"), &["order.created"])
        .await;
    system.post("/demo/reset", json!({})).await.expect(200);
    let order_id = system.create_order().await;
    wait_until("the webhook of the order", async || {
        let received_requests = receiver.received();
        received_requests.iter().any(|received_request| {
            received_request
                .body
                .windows(36)
                .any(|window| window == order_id.as_bytes())
        })
    })
    .await;
}

#[tokio::test]
async fn both_secrets_sign_during_a_rotation() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::start().await;
    let (endpoint_id, old_secret) = system
        .create_endpoint(&receiver.url("/"), &["order.created"])
        .await;
    let path = format!("/v1/webhook-endpoints/{endpoint_id}");
    let rotated_endpoint = system
        .post(&format!("{path}/rotate-secret"), json!({}))
        .await
        .expect(200);
    let new_secret = rotated_endpoint["secret"].as_str().unwrap().to_owned();
    assert_ne!(old_secret, new_secret);
    // The secret is shown only once.
    for shown_reply in [
        system.get(&path).await,
        system.get("/v1/webhook-endpoints").await,
    ] {
        let shown_text = shown_reply.expect(200).to_string();
        assert!(!shown_text.contains("whsec_"), "{shown_text}");
    }
    system.create_order().await;
    wait_until("the webhook", async || receiver.received().len() == 1).await;
    let verify_signature = |index: usize, secret: &str| {
        let received_request = receiver.received()[index].clone();
        standardwebhooks::Webhook::new(secret)
            .unwrap()
            .verify(&received_request.body, &received_request.headers)
    };
    assert!(verify_signature(0, &old_secret).is_ok() && verify_signature(0, &new_secret).is_ok());
    assert!(verify_signature(0, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").is_err());

    let immediate_rotation = json!({"overlap_seconds": 0});
    let rotated_endpoint = system
        .post(&format!("{path}/rotate-secret"), immediate_rotation)
        .await
        .expect(200);
    system.create_order().await;
    wait_until("the next webhook", async || receiver.received().len() == 2).await;
    assert!(verify_signature(1, rotated_endpoint["secret"].as_str().unwrap()).is_ok());
    assert!(verify_signature(1, &new_secret).is_err() && verify_signature(1, &old_secret).is_err());
    system.delete(&path).await.expect(204);
    system.get(&path).await.expect_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn endpoints_are_visible_only_to_their_owner() {
    let keys = "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator;admin=key-of-admin";
    let mut system = System::start_with(&[ALLOW_PRIVATE_URLS, ("API_KEYS", keys)]).await;
    let receiver = Receiver::start().await;
    let receiver_of_all_storefronts = Receiver::start().await;
    system.api_key = Some("key-of-eu".to_owned());
    let (endpoint_id, _) = system.create_endpoint(&receiver.url("/"), &["*"]).await;
    let foreign_endpoint = json!({"url": receiver.url("/"), "storefront": "us"});
    system
        .post("/v1/webhook-endpoints", foreign_endpoint)
        .await
        .expect_problem(403, "FORBIDDEN");

    let path = format!("/v1/webhook-endpoints/{endpoint_id}");
    for api_key in ["key-of-us", "key-of-operator"] {
        system.api_key = Some(api_key.to_owned());
        system.get(&path).await.expect_problem(404, "NOT_FOUND");
        system.delete(&path).await.expect_problem(404, "NOT_FOUND");
        for action in [
            "rotate-secret",
            "deliveries/0192f0c1-2345-7abc-8def-0123456789ab/redeliver",
        ] {
            let refused_reply = system.post(&format!("{path}/{action}"), json!({})).await;
            refused_reply.expect_problem(404, "NOT_FOUND");
        }
        let change_request = system
            .request(Method::PATCH, &path)
            .json(&json!({"is_enabled": false}));
        send(change_request).await.expect_problem(404, "NOT_FOUND");
        system
            .get(&format!("{path}/deliveries"))
            .await
            .expect_problem(404, "NOT_FOUND");
        let endpoint_list = system.get("/v1/webhook-endpoints").await.expect(200);
        assert_eq!(endpoint_list["data"], json!([]));
    }
    system.api_key = Some("key-of-admin".to_owned());
    system.get(&path).await.expect(200);
    let (endpoint_id_of_all, _) = system
        .create_endpoint(&receiver_of_all_storefronts.url("/"), &["order.created"])
        .await;
    assert_eq!(
        system
            .get(&format!("/v1/webhook-endpoints/{endpoint_id_of_all}"))
            .await
            .expect(200)["storefront"],
        Value::Null
    );
    system.create_product_with_stock("A", &[("main", 10)]).await;
    for storefront in ["us", "eu"] {
        system.api_key = Some(format!("key-of-{storefront}"));
        system.create_order().await;
    }
    wait_until("the webhooks of all events", async || {
        receiver_of_all_storefronts.received().len() == 2
    })
    .await;
    wait_until("the webhooks of eu's events", async || {
        !receiver.received().is_empty()
    })
    .await;
    for received_request in receiver.received() {
        let event: Value = serde_json::from_slice(&received_request.body).unwrap();
        assert_eq!(event["storefront"], "eu");
    }
}

#[tokio::test]
async fn webhooks_are_sent_only_to_public_addresses() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::start().await;
    let port = receiver.port();
    for url in [
        receiver.url("/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://0x7f000001:{port}/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "https://user:password@example.com/".to_owned(),
    ] {
        let refused_reply = system
            .post("/v1/webhook-endpoints", json!({"url": url}))
            .await;
        let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], "/url", "{url}");
    }
    // Host names are resolved when the webhook is sent.
    let (endpoint_id, _) = system
        .create_endpoint(&format!("https://localhost:{port}/"), &["order.created"])
        .await;
    system.create_order().await;
    let failed_delivery = system
        .wait_for_delivery(&endpoint_id, |delivery| !delivery["attempts"][0].is_null())
        .await;
    let attempt_error = failed_delivery["attempts"][0]["error"].as_str().unwrap();
    assert!(
        attempt_error.contains("not a public address"),
        "{attempt_error}"
    );
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let redirect_target_receiver = Receiver::start().await;
    let redirecting_receiver = Receiver::with_responses(vec![CannedResponse::Redirect(
        redirect_target_receiver.url("/secret"),
    )])
    .await;
    let (endpoint_id, _) = system
        .create_endpoint(&redirecting_receiver.url("/"), &["order.created"])
        .await;
    system.create_order().await;
    let failed_delivery = system
        .wait_for_delivery(&endpoint_id, |delivery| !delivery["attempts"][0].is_null())
        .await;
    assert_eq!(failed_delivery["attempts"][0]["response_code"], 302);
    assert_eq!(failed_delivery["status"], "pending");
    assert!(redirect_target_receiver.received().is_empty());
}

#[tokio::test]
async fn delivery_succeeds_with_status_200_even_if_the_body_never_ends() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let stalled_receiver = Receiver::with_responses(vec![CannedResponse::Stalled]).await;
    let endless_receiver = Receiver::with_responses(vec![CannedResponse::Endless]).await;
    let busy_receiver =
        Receiver::with_responses(vec![CannedResponse::RetryAfter(503, "3600".to_owned())]).await;
    let mut endpoint_ids = Vec::new();
    for receiver in [&stalled_receiver, &endless_receiver, &busy_receiver] {
        let endpoint_reply = system
            .create_endpoint(&receiver.url("/"), &["order.created"])
            .await;
        endpoint_ids.push(endpoint_reply.0);
    }
    system.create_order().await;
    for endpoint_id in &endpoint_ids[..2] {
        let successful_delivery = system
            .wait_for_delivery(endpoint_id, |delivery| delivery["status"] == "succeeded")
            .await;
        let attempts = successful_delivery["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0]["response_code"], 200);
    }
    // `Retry-After` is honoured.
    let refused_delivery = system
        .wait_for_delivery(&endpoint_ids[2], |delivery| {
            delivery["attempts"][0]["response_code"] == 503
        })
        .await;
    let parse_time =
        |value: &Value| -> jiff::Timestamp { value.as_str().unwrap().parse().unwrap() };
    let attempted_at = parse_time(&refused_delivery["attempts"][0]["at"]);
    let next_attempt_at = parse_time(&refused_delivery["next_attempt_at"]);
    assert_eq!(next_attempt_at.duration_since(attempted_at).as_secs(), 3600);
}

#[tokio::test]
async fn endpoint_etag_changes_with_its_state_and_version_with_its_settings() {
    let system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let receiver = Receiver::with_responses(vec![CannedResponse::Status(500)]).await;
    let (endpoint_id, _) = system
        .create_endpoint(&receiver.url("/"), &["order.created"])
        .await;
    let path = format!("/v1/webhook-endpoints/{endpoint_id}");
    let endpoint_reply = system.get(&path).await;
    let entity_tag = endpoint_reply.headers["etag"].clone();
    let get_endpoint_if_changed = || {
        let request = system.request(Method::GET, &path);
        send(request.header("if-none-match", entity_tag.clone()))
    };
    assert_eq!(get_endpoint_if_changed().await.status, 304);
    system.create_order().await;
    let is_attempted = |delivery: &Value| delivery["attempts"][0].is_object();
    system.wait_for_delivery(&endpoint_id, is_attempted).await;
    let failing_endpoint_reply = get_endpoint_if_changed().await;
    assert_eq!(failing_endpoint_reply.status, 200);
    assert!(failing_endpoint_reply.body["failing_since"].is_string());
    // The entity tag of the old state is still accepted, since its version is unchanged.
    let patch_endpoint = |patch: Value| {
        let request = system.request(Method::PATCH, &path);
        send(request.header("if-match", entity_tag.clone()).json(&patch))
    };
    for patch_without_effect in [
        json!({}),
        json!({"event_types": ["order.created"]}),
        json!({"url": receiver.url("/")}),
    ] {
        let unchanged_endpoint = patch_endpoint(patch_without_effect).await.expect(200);
        assert_eq!(unchanged_endpoint["version"], 1);
        assert_eq!(
            unchanged_endpoint["updated_at"],
            endpoint_reply.body["updated_at"]
        );
    }
    let events_reply = system.get("/v1/events?type=webhook_endpoint.updated").await;
    assert_eq!(events_reply.expect(200)["data"], json!([]));
    let changed_endpoint = patch_endpoint(json!({"description": "ERP"}))
        .await
        .expect(200);
    assert_eq!(changed_endpoint["version"], 2);
}

#[tokio::test]
async fn endpoints_that_could_never_receive_an_event_are_refused() {
    let keys = "storefront@eu=key-of-the-eu-shop;admin=key-of-an-admin-of-all";
    let mut system = System::start_with(&[ALLOW_PRIVATE_URLS, ("API_KEYS", keys)]).await;
    system.api_key = Some("key-of-an-admin-of-all".to_owned());
    let new_endpoint_with = |field_name: &str, field_value: Value| {
        let mut new_endpoint = json!({"url": "https://example.com/hook"});
        new_endpoint[field_name] = field_value;
        new_endpoint
    };
    for (pointer, new_endpoint) in [
        ("/url", new_endpoint_with("url", json!("https:///x"))),
        ("/url", new_endpoint_with("url", json!("https:x"))),
        (
            "/url",
            new_endpoint_with("url", json!("https://example.com:0/")),
        ),
        ("/url", new_endpoint_with("url", json!("https://a..b/"))),
        (
            "/event_types",
            new_endpoint_with("event_types", json!(["order.exploded"])),
        ),
        (
            "/event_types",
            new_endpoint_with("event_types", json!(["order.*", "coffee.*"])),
        ),
        (
            "/description",
            new_endpoint_with("description", json!(" \u{200b}")),
        ),
        (
            "/storefront",
            new_endpoint_with("storefront", json!("mars")),
        ),
    ] {
        let refused_reply = system
            .post("/v1/webhook-endpoints", new_endpoint.clone())
            .await;
        let problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{new_endpoint}");
    }
    // A storefront exists if it has an API key or customers.
    let customer = json!({"name": "Ada", "email": "ada@example.com", "storefront": "us"});
    system.post("/v1/customers", customer).await.expect(201);
    for storefront in ["eu", "us"] {
        let new_endpoint = new_endpoint_with("storefront", json!(storefront));
        let created_endpoint = system
            .post("/v1/webhook-endpoints", new_endpoint)
            .await
            .expect(201);
        let path = format!(
            "/v1/webhook-endpoints/{}",
            created_endpoint["id"].as_str().unwrap()
        );
        let unknown_type_patch = json!({"event_types": ["order.exploded"]});
        let patch_request = system
            .request(Method::PATCH, &path)
            .json(&unknown_type_patch);
        send(patch_request)
            .await
            .expect_problem(422, "INVALID_REQUEST");
    }
}
