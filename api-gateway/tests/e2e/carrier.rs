//! Labels of a carrier over HTTP: requested with a signature, once however often the request is repeated, and
//! cancelled for good.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::pending,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use crate::harness::{
    PythonProgram, System, has_shipping_label, order_body, run_script_with_input, run_worker, send,
    wait_until,
};

/// Signs the requests to the carrier.
const CARRIER_SECRET: &str = "whsec_bm90LXRoZS1zaGlwcGVycy1zZWNyZXQh";
const LABEL_URL: &str = "https://labels.example.com/secret-label";

/// Behaviour of the carrier towards one request for a label.
#[derive(Debug, Clone)]
enum Behaviour {
    /// Creates the label.
    Works,
    /// Creates the label, and breaks the connection instead of replying.
    LosesReply,
    /// Replies with this status and body, without creating a label.
    Replies(u16, Value),
    /// Asks for a retry after this many seconds.
    BusyForSeconds(u32),
    /// Replies with a redirect to itself.
    Redirects,
    /// Replies 200 with a body that is not a label.
    Garbage(String),
    /// Never replies.
    Silent,
    /// Waits until it is released, then works.
    WorksWhenReleased,
}

#[derive(Debug, Clone)]
struct ReceivedRequest {
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

#[derive(Default)]
struct CarrierState {
    requests: Vec<ReceivedRequest>,
    behaviours: VecDeque<Behaviour>,
    labels_by_shipment_id: BTreeMap<String, Value>,
    cancelled_shipment_ids: BTreeSet<String>,
    /// Refuses cancellations, because it has the goods.
    has_goods: bool,
}

/// A carrier that gives the guarantees of docs/CARRIER.md.
#[derive(Clone)]
struct Carrier {
    url: String,
    state: Arc<Mutex<CarrierState>>,
    release: Arc<Notify>,
}

impl Carrier {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let new_carrier = Self {
            url: format!("http://{}/base", listener.local_addr().unwrap()),
            state: Arc::default(),
            release: Arc::default(),
        };
        let router = Router::new()
            .fallback(Self::handle)
            .with_state(new_carrier.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        new_carrier
    }

    /// Starts a carrier with these behaviours towards the first requests, and a system with it.
    async fn with_system(behaviours: &[Behaviour]) -> (Self, System) {
        let carrier = Self::start().await;
        carrier.set_behaviours(behaviours);
        let system = System::start_with(&[
            ("CARRIER", "http"),
            ("CARRIER_URL", &carrier.url),
            ("CARRIER_SECRET", CARRIER_SECRET),
        ])
        .await;
        system
            .create_product_with_stock("A", &[("main", 100)])
            .await;
        (carrier, system)
    }

    /// Sets the behaviour towards the next requests for labels.
    fn set_behaviours(&self, behaviours: &[Behaviour]) {
        self.state.lock().unwrap().behaviours = behaviours.to_vec().into();
    }

    fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.lock().unwrap().requests.clone()
    }

    fn requests_to(&self, path: &str) -> Vec<ReceivedRequest> {
        let requests = self.requests().into_iter();
        requests.filter(|request| request.path == path).collect()
    }

    /// Number of labels that were created and not cancelled.
    fn valid_labels(&self) -> usize {
        let state = self.state.lock().unwrap();
        let is_valid = |shipment_id: &&String| !state.cancelled_shipment_ids.contains(*shipment_id);
        state.labels_by_shipment_id.keys().filter(is_valid).count()
    }

    async fn handle(State(carrier): State<Self>, request: Request) -> Response {
        let (request_head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
        let headers = request_head.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let received_request = ReceivedRequest {
            path: request_head.uri.path().to_owned(),
            headers: headers.collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        let request: Value = serde_json::from_str(&received_request.body).unwrap();
        let shipment_id = request["shipment_id"].as_str().unwrap().to_owned();
        let is_cancellation = received_request.path.ends_with("/cancel");
        let behaviour = {
            let mut state = carrier.state.lock().unwrap();
            state.requests.push(received_request);
            if is_cancellation {
                return state.cancel(shipment_id);
            }
            state.behaviours.pop_front().unwrap_or(Behaviour::Works)
        };
        match behaviour {
            Behaviour::Works => carrier.create_label(&shipment_id),
            Behaviour::LosesReply => {
                let _ = carrier.create_label(&shipment_id);
                let broken_body = futures_util::stream::iter([Err::<Bytes, _>("the cable is cut")]);
                Body::from_stream(broken_body).into_response()
            }
            Behaviour::Replies(status, body) => {
                (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
            }
            Behaviour::BusyForSeconds(seconds) => {
                let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
                (StatusCode::TOO_MANY_REQUESTS, retry_after).into_response()
            }
            Behaviour::Redirects => {
                let location = [(header::LOCATION, format!("{}/shipments", carrier.url))];
                (StatusCode::TEMPORARY_REDIRECT, location).into_response()
            }
            Behaviour::Garbage(garbage) => garbage.into_response(),
            Behaviour::Silent => pending().await,
            Behaviour::WorksWhenReleased => {
                carrier.release.notified().await;
                carrier.create_label(&shipment_id)
            }
        }
    }

    fn create_label(&self, shipment_id: &str) -> Response {
        let mut state = self.state.lock().unwrap();
        if state.cancelled_shipment_ids.contains(shipment_id) {
            return refusal(StatusCode::GONE, "cancelled");
        }
        let label_number = state.labels_by_shipment_id.len() + 1;
        let label = state
            .labels_by_shipment_id
            .entry(shipment_id.to_owned())
            .or_insert_with(|| {
                json!({
                    "carrier": "Test Post", "tracking_number": format!("TP{label_number}"),
                    "tracking_url": format!("https://track.example.com/TP{label_number}"),
                    "label_url": LABEL_URL, "price": 4.99
                })
            });
        Json(label.clone()).into_response()
    }
}

impl CarrierState {
    fn cancel(&mut self, shipment_id: String) -> Response {
        if self.has_goods {
            return refusal(StatusCode::CONFLICT, "in_transit");
        }
        self.cancelled_shipment_ids.insert(shipment_id);
        StatusCode::NO_CONTENT.into_response()
    }
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let error_object = json!({"code": code, "message": format!("refused by the carrier: {code}")});
    (status, Json(json!({"error": error_object}))).into_response()
}

/// Creates an order with an address and returns its id.
async fn create_order(system: &System) -> String {
    let mut order_body = order_body(&system.create_customer().await, "A", 2);
    order_body["shipping_address"] = json!({"name": "Ada Lovelace", "country": "DE"});
    let created_order = system.post("/v1/orders", order_body).await.expect(201);
    created_order["id"].as_str().unwrap().to_owned()
}

/// Waits until the order has a label. Retries failed steps at once, until then.
async fn wait_until_labelled(system: &System, id: &str) -> Value {
    wait_until("the order to be labelled", async || {
        system
            .post("/v1/retries/redrive", json!({"all": true}))
            .await
            .expect(200);
        let order_reply = system.get(&format!("/v1/orders/{id}")).await;
        has_shipping_label(&order_reply.expect(200))
    })
    .await;
    system.get(&format!("/v1/orders/{id}")).await.expect(200)
}

async fn wait_for_dead_letter(system: &System, id: &str) -> Value {
    let mut dead_letter = Value::Null;
    wait_until("the step to be dead", async || {
        let page = system.get("/v1/dead-letters").await.expect(200);
        let letters = page["data"].as_array().unwrap();
        let failed_step = letters
            .iter()
            .find(|failed_step| failed_step["order_id"] == id);
        dead_letter = failed_step.cloned().unwrap_or_default();
        !dead_letter.is_null()
    })
    .await;
    dead_letter
}

#[tokio::test]
async fn label_is_requested_with_a_signature_and_erased_with_the_customer() {
    let (carrier, system) = Carrier::with_system(&[]).await;
    let id = create_order(&system).await;
    let order = system
        .wait_for_order(&id, "labelled", has_shipping_label)
        .await;
    let shipment = &order["shipments"][0];
    assert_eq!(
        [&shipment["carrier"], &shipment["tracking_number"]],
        ["Test Post", "TP1"]
    );
    assert_eq!(shipment["tracking_url"], "https://track.example.com/TP1");
    assert_eq!(shipment["label_url"], LABEL_URL);

    let [received_request] = carrier.requests().try_into().unwrap();
    assert_eq!(received_request.path, "/base/shipments");
    let body: Value = serde_json::from_str(&received_request.body).unwrap();
    let expected_body = json!({
        "order_id": id, "shipment_id": shipment["id"], "warehouse": "main",
        "shipping_address": {"name": "Ada Lovelace", "country": "DE"},
        "items": [{"sku": "A", "name": "A A", "quantity": 2}]
    });
    assert_eq!(body, expected_body);
    let shipment_id = shipment["id"].as_str().unwrap();
    assert_eq!(
        received_request.headers["webhook-id"],
        format!("label_{shipment_id}")
    );
    let signed_request = json!({"secret": CARRIER_SECRET, "headers": received_request.headers, "body": received_request.body});
    assert_eq!(
        run_script_with_input("verify.py", &signed_request.to_string()),
        "verified\n"
    );

    // The carrier names the shipment by the id that it got.
    let event_data = json!({"order_id": id, "shipment_id": shipment_id});
    let delivered_update = json!({"type": "shipment.delivered", "timestamp": "2026-01-31T12:00:00Z", "data": event_data});
    system
        .send_webhook_body("d", &delivered_update)
        .await
        .expect(200);
    system.wait_until_idle().await;
    let exported_output = run_worker(&system, &["export", "orders"]);
    assert!(String::from_utf8_lossy(&exported_output.stdout).contains(LABEL_URL));
    system.assert_verified();

    let customer_id = order["customer_id"].as_str().unwrap();
    let erase_reply = system.delete(&format!("/v1/customers/{customer_id}")).await;
    assert_eq!(erase_reply.status, 204, "{}", erase_reply.body);
    let order = system.get(&format!("/v1/orders/{id}")).await.expect(200);
    let history_reply = system.get(&format!("/v1/orders/{id}/history")).await;
    for shown_text in [order.to_string(), history_reply.expect(200).to_string()] {
        assert!(shown_text.contains("TP1"), "{shown_text}");
        for erased_text in [LABEL_URL, "https://track", "Lovelace"] {
            assert!(
                !shown_text.contains(erased_text),
                "{erased_text} in {shown_text}"
            );
        }
    }
    system.assert_verified();
}

#[tokio::test]
async fn failed_and_lost_replies_lead_to_one_label_under_one_id() {
    let error = json!({"error": {"code": "x", "message": "y"}});
    let (carrier, system) = Carrier::with_system(&[
        Behaviour::Replies(500, error.clone()),
        Behaviour::Replies(401, error.clone()),
        Behaviour::Replies(404, json!("no error object")),
        Behaviour::Replies(
            409,
            json!({"error": {"code": "in_progress", "message": "wait"}}),
        ),
        Behaviour::Redirects,
        Behaviour::Garbage("<html>".to_owned()),
        Behaviour::Garbage(r#"{"carrier": "Test Post"}"#.to_owned()),
        Behaviour::Garbage(format!("\"{}\"", "x".repeat(70_000))),
        Behaviour::LosesReply,
    ])
    .await;
    let id = create_order(&system).await;
    let order = wait_until_labelled(&system, &id).await;
    assert_eq!(order["shipments"].as_array().unwrap().len(), 1);
    assert_eq!(order["shipments"][0]["tracking_number"], "TP1");
    let requests = carrier.requests();
    assert_eq!(requests.len(), 10);
    for request in &requests {
        assert_eq!(
            request.headers["webhook-id"],
            requests[0].headers["webhook-id"]
        );
        assert_eq!(request.body, requests[0].body);
    }
    let history_reply = system
        .get(&format!("/v1/orders/{id}/history?limit=200"))
        .await;
    let history_text = history_reply.expect(200).to_string();
    for expected_error in [
        "responded with status 500: y (x)",
        "redirects are not followed",
        "/tracking_number is required",
        "larger than 65536 bytes",
    ] {
        assert!(
            history_text.contains(expected_error),
            "{expected_error}: {history_text}"
        );
    }
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn retry_after_of_the_carrier_is_honoured_and_an_operator_can_retry_at_once() {
    let (_carrier, system) = Carrier::with_system(&[Behaviour::BusyForSeconds(3600)]).await;
    let id = create_order(&system).await;
    let mut retries = Value::Null;
    wait_until("the request to be retried", async || {
        retries = system.get("/v1/retries").await.expect(200);
        retries["data"][0]["step"] == "request_shipment:main"
    })
    .await;
    let next_attempt_at: jiff::Timestamp = retries["data"][0]["next_attempt_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let seconds_until_retry = next_attempt_at
        .duration_since(jiff::Timestamp::now())
        .as_secs();
    assert!(
        (3000..=3600).contains(&seconds_until_retry),
        "{seconds_until_retry}"
    );
    wait_until_labelled(&system, &id).await;
    system.assert_verified();
}

#[tokio::test]
async fn refused_label_is_a_dead_letter_with_the_carriers_message() {
    let error = json!({"code": "bad_address", "message": "no such street"});
    let refuses = Behaviour::Replies(422, json!({"error": error}));
    let (carrier, system) = Carrier::with_system(&[refuses.clone(), refuses]).await;
    let (first_id, second_id) = (create_order(&system).await, create_order(&system).await);
    for id in [&first_id, &second_id] {
        let failed_step = wait_for_dead_letter(&system, id).await;
        assert_eq!(failed_step["step"], "request_shipment:main");
        let reason = failed_step["reason"].as_str().unwrap();
        assert!(reason.contains("no such street (bad_address)"), "{reason}");
        let advice = failed_step["advice"].as_str().unwrap();
        assert!(advice.contains("/shipments"), "{advice}");
    }
    let dead_letter_path = |id: &str| format!("/v1/dead-letters/{id}:request_shipment:main");
    let redrive_path = format!("{}/redrive", dead_letter_path(&first_id));
    system.post(&redrive_path, json!({})).await.expect(200);
    system
        .wait_for_order(&first_id, "labelled", has_shipping_label)
        .await;

    // The other one is shipped by other means. Its label is cancelled, should there be one.
    system
        .delete(&dead_letter_path(&second_id))
        .await
        .expect(204);
    let shipped_order = system
        .post(
            &format!("/v1/orders/{second_id}/shipments"),
            json!({"carrier": "Bike", "tracking_number": "B1", "tracking_url": "https://bike.example.com/B1"}),
        )
        .await
        .expect(201);
    let shipment = &shipped_order["shipments"][0];
    assert_eq!(shipment["tracking_url"], "https://bike.example.com/B1");
    system.wait_until_idle().await;
    assert_eq!(carrier.valid_labels(), 1);
    system.assert_verified();
}

#[tokio::test]
async fn cancellation_that_overtakes_its_request_leaves_no_label() {
    let (carrier, system) = Carrier::with_system(&[Behaviour::WorksWhenReleased]).await;
    let id_awaiting_label = create_order(&system).await;
    wait_until("the label to be requested", async || {
        carrier.requests().len() == 1
    })
    .await;
    let labelled_id = create_order(&system).await;
    let order = system
        .wait_for_order(&labelled_id, "labelled", has_shipping_label)
        .await;
    for id in [&id_awaiting_label, &labelled_id] {
        let cancel_path = format!("/v1/orders/{id}/cancel");
        system.post(&cancel_path, json!({})).await.expect(200);
    }
    let is_cancellation = |request: &ReceivedRequest| request.path.ends_with("/cancel");
    wait_until("both labels to be cancelled", async || {
        let requests = carrier.requests();
        requests
            .iter()
            .filter(|request| is_cancellation(request))
            .count()
            == 2
    })
    .await;
    // The first request is executed after its cancellation.
    carrier.release.notify_one();
    for order in system.wait_until_idle().await {
        assert_eq!(order["status"], "cancelled");
    }
    assert_eq!(carrier.valid_labels(), 0);
    let shipment_id = order["shipments"][0]["id"].as_str().unwrap();
    let path = format!("/base/shipments/{shipment_id}/cancel");
    let [cancellation] = carrier.requests_to(&path).try_into().unwrap();
    let webhook_id = format!("cancel_{shipment_id}");
    assert_eq!(cancellation.headers["webhook-id"], webhook_id);
    let body: Value = serde_json::from_str(&cancellation.body).unwrap();
    let expected_body =
        json!({"order_id": labelled_id, "shipment_id": shipment_id, "warehouse": "main"});
    assert_eq!(body, expected_body);
    system.assert_verified();
}

#[tokio::test]
async fn refused_cancellation_is_a_dead_letter() {
    let (carrier, system) = Carrier::with_system(&[]).await;
    let id = create_order(&system).await;
    system
        .wait_for_order(&id, "labelled", has_shipping_label)
        .await;
    carrier.state.lock().unwrap().has_goods = true;
    let cancel_path = format!("/v1/orders/{id}/cancel");
    system.post(&cancel_path, json!({})).await.expect(200);
    let failed_step = wait_for_dead_letter(&system, &id).await;
    assert_eq!(failed_step["step"], "cancel_shipment:main");
    let reason = failed_step["reason"].as_str().unwrap();
    assert!(reason.contains("(in_transit)"), "{reason}");
    carrier.state.lock().unwrap().has_goods = false;
    let redrive_path = format!("/v1/dead-letters/{id}:cancel_shipment:main/redrive");
    system.post(&redrive_path, json!({})).await.expect(200);
    wait_until("the label to be cancelled", async || {
        carrier.valid_labels() == 0
    })
    .await;
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn worker_killed_before_it_stores_the_label_gets_the_same_label_again() {
    let (carrier, mut system) = Carrier::with_system(&[]).await;
    system.worker.kill();
    // The first call is the payment's, the second one the carrier's.
    system.set_variable("CRASH_AT", Some("after_partner:2"));
    system.restart_worker().await;
    let id = create_order(&system).await;
    wait_until("the worker to be killed", async || {
        system.worker_crash_count() == 1
    })
    .await;
    system.worker = system.spawn_replacement_worker();
    let order = system
        .wait_for_order(&id, "labelled", has_shipping_label)
        .await;
    let requests = carrier.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        requests[0].headers["webhook-id"],
        requests[1].headers["webhook-id"]
    );
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(order["shipments"].as_array().unwrap().len(), 1);
    assert_eq!(order["shipments"][0]["tracking_number"], "TP1");
    system.wait_until_idle().await;
    system.assert_verified();
}

#[tokio::test]
async fn silent_carrier_times_out_and_delays_no_other_steps() {
    let (carrier, system) = Carrier::with_system(&[Behaviour::Silent, Behaviour::Silent]).await;
    let (first_id, second_id) = (create_order(&system).await, create_order(&system).await);
    wait_until("both labels to be requested", async || {
        carrier.requests().len() == 2
    })
    .await;
    // Other steps are executed meanwhile.
    let third_id = create_order(&system).await;
    system
        .wait_for_order(&third_id, "labelled", has_shipping_label)
        .await;
    for id in [&first_id, &second_id] {
        assert!(
            !system
                .list_event_types(id)
                .await
                .contains(&"step.retried".to_owned())
        );
    }
    for id in [&first_id, &second_id] {
        wait_until_labelled(&system, id).await;
    }
    assert_eq!(carrier.valid_labels(), 3);
    system.assert_verified();
}

#[tokio::test]
async fn labels_of_the_previous_carrier_are_still_cancelled() {
    let (carrier, mut system) = Carrier::with_system(&[]).await;
    let id = create_order(&system).await;
    system
        .wait_for_order(&id, "labelled", has_shipping_label)
        .await;
    system.worker.terminate();
    system.set_variable("CARRIER", Some("manual"));
    system.restart_worker().await;
    let cancel_path = format!("/v1/orders/{id}/cancel");
    system.post(&cancel_path, json!({})).await.expect(200);
    system.wait_until_idle().await;
    assert_eq!(carrier.valid_labels(), 0);
    let later_id = create_order(&system).await;
    let order = system
        .wait_for_order(&later_id, "labelled", has_shipping_label)
        .await;
    assert_eq!(order["shipments"][0]["carrier"], "sandbox");
    system.assert_verified();
}

#[tokio::test]
async fn adapter_of_the_documentation_creates_and_cancels_labels() {
    let mut system = System::start().await;
    let document_path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CARRIER.md");
    let labels_path = system.folder.join("labels.db");
    let adapter_process = PythonProgram::start(
        "carrier_adapter.py",
        &[
            document_path.to_str().unwrap(),
            CARRIER_SECRET,
            labels_path.to_str().unwrap(),
        ],
        system.folder.join("adapter.log"),
    );
    let adapter_url = format!("http://127.0.0.1:{}", adapter_process.port().await);
    system.worker.terminate();
    for (name, value) in [
        ("CARRIER", "http"),
        ("CARRIER_URL", adapter_url.as_str()),
        ("CARRIER_SECRET", CARRIER_SECRET),
    ] {
        system.set_variable(name, Some(value));
    }
    system.restart_worker().await;
    system.create_product_with_stock("A", &[("main", 9)]).await;
    let (shipped_id, cancelled_id) = (create_order(&system).await, create_order(&system).await);
    let order = system
        .wait_for_order(&shipped_id, "labelled", has_shipping_label)
        .await;
    let shipment = &order["shipments"][0];
    assert_eq!(shipment["carrier"], "Example Post");
    let tracking_number = shipment["tracking_number"].as_str().unwrap();
    let data = json!({"order_id": shipped_id, "tracking_number": tracking_number});
    let shipped_update =
        json!({"type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z", "data": data});
    system
        .send_webhook_body("s", &shipped_update)
        .await
        .expect(200);
    let is_shipped = |order: &Value| order["status"] == "shipped";
    let order = system
        .wait_for_order(&shipped_id, "shipped", is_shipped)
        .await;
    let tracking_url = order["shipments"][0]["tracking_url"].as_str().unwrap();
    assert!(tracking_url.ends_with(tracking_number), "{tracking_url}");

    system
        .wait_for_order(&cancelled_id, "labelled", has_shipping_label)
        .await;
    let cancel_path = format!("/v1/orders/{cancelled_id}/cancel");
    system.post(&cancel_path, json!({})).await.expect(200);
    system.wait_until_idle().await;
    let adapter_log = adapter_process.printed_text();
    assert!(
        adapter_log.contains("/cancel HTTP/1.1\" 200"),
        "{adapter_log}"
    );

    // A request with another signature is refused, and without a country there is no label.
    let forged_request = system
        .client
        .request(Method::POST, format!("{adapter_url}/shipments"))
        .header("webhook-id", "label_1")
        .header("webhook-timestamp", jiff::Timestamp::now().as_second())
        .header("webhook-signature", "v1,AAAA")
        .body("{}");
    assert_eq!(send(forged_request).await.status, 401);
    let id_without_address = create_order_without_address(&system).await;
    let failed_step = wait_for_dead_letter(&system, &id_without_address).await;
    let reason = failed_step["reason"].as_str().unwrap();
    assert!(reason.contains("the country is missing"), "{reason}");
    system.assert_verified();
}

async fn create_order_without_address(system: &System) -> String {
    let order_body = order_body(&system.create_customer().await, "A", 1);
    let created_order = system.post("/v1/orders", order_body).await.expect(201);
    created_order["id"].as_str().unwrap().to_owned()
}
