//! Stripe, simulated by localstripe, behind a proxy that injects faults.
//!
//! The payment methods of the sandbox are translated: `pm_ok` is a working card, `pm_slow` one with a slow bank,
//! `pm_timeout_after_charge` one whose response is lost after the charge.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{PaymentTotals, PythonProgram, TestFolder};

/// Treatment of a request by the proxy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ProxyMode {
    Forward,
    /// Forwards the request and drops the response.
    DropResponse,
    /// Responds 500 without forwarding the request.
    Fail,
    /// Responds with HTML without forwarding the request.
    InvalidResponse,
    /// Delays the response.
    Delay(Duration),
    /// The payment is refunded completely in Stripe's dashboard before our refund arrives, which is then refused.
    RefundedMeanwhile,
}

/// A running localstripe with its proxy; clones share it.
#[derive(Clone)]
pub(crate) struct Stripe(Arc<StripeState>);

struct StripeState {
    _localstripe: PythonProgram,
    localstripe_url: String,
    proxy_url: String,
    log_path: PathBuf,
    client: reqwest::Client,
    /// Faults of the next modifying requests, one each.
    modes: Mutex<VecDeque<ProxyMode>>,
    /// Faults of the next confirmations, by payment.
    modes_by_payment: Mutex<HashMap<String, VecDeque<ProxyMode>>>,
    /// Responses by idempotency key: like Stripe, the first response is replayed, even if it is an error.
    responses_by_key: Mutex<HashMap<String, (StatusCode, Bytes)>>,
    /// Refunds that failed after they had been accepted.
    failed_refunds: Mutex<HashSet<String>>,
    /// Return URLs by payment.
    return_urls: Mutex<HashMap<String, String>>,
}

impl Stripe {
    pub(crate) async fn start(folder: &TestFolder) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let log_path = folder.join("localstripe.log");
        let localstripe = PythonProgram::start("localstripe_server.py", &[], log_path.clone());
        let port = localstripe.port().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stripe = Self(Arc::new(StripeState {
            _localstripe: localstripe,
            localstripe_url: format!("http://127.0.0.1:{port}"),
            proxy_url: format!("http://{}", listener.local_addr().unwrap()),
            log_path,
            client: reqwest::Client::new(),
            modes: Mutex::default(),
            modes_by_payment: Mutex::default(),
            responses_by_key: Mutex::default(),
            failed_refunds: Mutex::default(),
            return_urls: Mutex::default(),
        }));
        let router = Router::new()
            .fallback(proxy_request)
            .with_state(stripe.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        stripe
    }

    /// The worker's environment variables for this server.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("PAYMENT_PROVIDER", "stripe".to_owned()),
            ("DEFAULT_PAYMENT_METHOD", "pm_ok".to_owned()),
            ("STRIPE_API_KEY", "sk_test_12345".to_owned()),
            ("STRIPE_API_BASE", self.url().to_owned()),
        ]
    }

    /// Lists all objects of a type.
    async fn list_all(&self, object_type: &str) -> Vec<Value> {
        let mut objects: Vec<Value> = Vec::new();
        loop {
            let last_id = objects
                .last()
                .map(|last_object| last_object["id"].as_str().unwrap().to_owned());
            let mut query_pairs = vec![("limit", "100")];
            query_pairs.extend(last_id.as_deref().map(|id| ("starting_after", id)));
            let page = self
                .call_api(Method::GET, &format!("/v1/{object_type}"), &query_pairs)
                .await;
            objects.extend(page["data"].as_array().unwrap().iter().cloned());
            if page["has_more"] != true {
                return objects;
            }
        }
    }

    /// Totals of all payments.
    pub(crate) async fn payment_totals(&self) -> PaymentTotals {
        let charges = self.list_all("charges").await;
        let successful_charges = charges
            .iter()
            .filter(|charge| charge["status"] == "succeeded");
        let is_captured_by_intent: HashMap<&str, bool> = successful_charges
            .map(|charge| {
                let intent_id = charge["payment_intent"].as_str().unwrap();
                (intent_id, charge["captured"] == true)
            })
            .collect();
        let intents = self.list_all("payment_intents").await;
        let cancelled_intents = intents
            .iter()
            .filter(|intent| intent["status"] == "canceled")
            .filter(|intent| is_captured_by_intent.contains_key(intent["id"].as_str().unwrap()));
        let refunds = self.list_all("refunds").await;
        let refund_amounts = refunds
            .iter()
            .map(|refund| refund["amount"].as_i64().unwrap());
        PaymentTotals {
            authorizations: charges
                .iter()
                .filter(|charge| charge["status"] == "succeeded")
                .count(),
            captures: is_captured_by_intent
                .values()
                .filter(|is_captured| **is_captured)
                .count(),
            voids: cancelled_intents.count(),
            refunded_amount: refund_amounts.sum(),
        }
    }

    /// The base URL of the proxy.
    pub(crate) fn url(&self) -> &str {
        &self.0.proxy_url
    }

    /// Sets the faults of the next modifying requests, one each.
    pub(crate) fn set_modes(&self, modes: &[ProxyMode]) {
        *self.0.modes.lock().unwrap() = modes.iter().copied().collect();
    }

    /// Makes the refund fail, as if the customer's bank had returned it.
    pub(crate) fn fail_refund(&self, refund_id: &str) {
        let mut failed_refunds = self.0.failed_refunds.lock().unwrap();
        failed_refunds.insert(refund_id.to_owned());
    }

    /// The return URL of the payment.
    pub(crate) fn return_url(&self, payment_id: &str) -> Option<String> {
        self.0.return_urls.lock().unwrap().get(payment_id).cloned()
    }

    /// The log of localstripe.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.0.log_path).unwrap()
    }

    /// Sends a request directly to localstripe, bypassing the proxy, like an action in Stripe's dashboard.
    pub(crate) async fn call_api(
        &self,
        method: Method,
        path: &str,
        query_pairs: &[(&str, &str)],
    ) -> Value {
        let request = self
            .0
            .client
            .request(method.clone(), format!("{}{path}", self.0.localstripe_url))
            .bearer_auth("sk_test_12345");
        let request = if method == Method::GET {
            request.query(query_pairs)
        } else {
            request.form(query_pairs)
        };
        let response = request.send().await.unwrap();
        let (status, response_text) = (response.status(), response.text().await.unwrap());
        assert!(
            status.is_success(),
            "{method} {path}: {status} {response_text}"
        );
        serde_json::from_str(&response_text).unwrap_or(Value::Null)
    }

    /// The payment intents of an order.
    pub(crate) async fn payments(&self, order_id: &str) -> Vec<Value> {
        let mut intents = self.list_all("payment_intents").await;
        intents.retain(|intent| intent["metadata"]["order_id"] == order_id);
        intents
    }

    /// The authorized, captured and refunded amounts of an order's payments, in minor units.
    pub(crate) async fn amounts(&self, order_id: &str) -> (i64, i64, i64) {
        let (mut authorized_amount, mut captured_amount, mut refunded_amount) = (0, 0, 0);
        for intent in self.payments(order_id).await {
            let amount = intent["amount"].as_i64().unwrap();
            match intent["status"].as_str().unwrap() {
                "requires_capture" => authorized_amount += amount,
                "succeeded" => {
                    captured_amount += amount;
                    let intent_id = intent["id"].as_str().unwrap();
                    let refund_page = self
                        .call_api(
                            Method::GET,
                            "/v1/refunds",
                            &[("payment_intent", intent_id), ("limit", "100")],
                        )
                        .await;
                    let refunds = refund_page["data"].as_array().unwrap().iter();
                    refunded_amount += refunds
                        .map(|refund| refund["amount"].as_i64().unwrap())
                        .sum::<i64>();
                }
                _ => {}
            }
        }
        (authorized_amount, captured_amount, refunded_amount)
    }

    /// The authorized, captured and refunded amounts of all orders, in minor units. The part of an authorization
    /// that is released because less was captured is no refund, though localstripe lists it as one.
    pub(crate) async fn amounts_by_order(&self) -> HashMap<String, [i64; 3]> {
        let mut amounts_by_order = HashMap::<String, [i64; 3]>::new();
        for intent in self.list_all("payment_intents").await {
            let order_id = intent["metadata"]["order_id"].as_str().unwrap().to_owned();
            let order_amounts = amounts_by_order.entry(order_id).or_default();
            match intent["status"].as_str().unwrap() {
                "requires_capture" => order_amounts[0] += intent["amount"].as_i64().unwrap(),
                "succeeded" => order_amounts[1] += intent["amount_received"].as_i64().unwrap(),
                _ => {}
            }
        }
        for refund in self.list_all("refunds").await {
            if let Some(order_id) = refund["metadata"]["order_id"].as_str() {
                let order_amounts = amounts_by_order.entry(order_id.to_owned()).or_default();
                order_amounts[2] += refund["amount"].as_i64().unwrap();
            }
        }
        amounts_by_order
    }

    /// Creates a card with this number and returns its id.
    pub(crate) async fn create_card(&self, card_number: &str) -> String {
        let card_form = [
            ("type", "card"),
            ("card[number]", card_number),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2030"),
            ("card[cvc]", "123"),
        ];
        let payment_method = self
            .call_api(Method::POST, "/v1/payment_methods", &card_form)
            .await;
        payment_method["id"].as_str().unwrap().to_owned()
    }

    /// Completes or fails the customer's authentication of an order's payment.
    pub(crate) async fn authenticate(&self, order_id: &str, succeeds: bool) {
        let intent = self.payments(order_id).await.remove(0);
        let path = format!(
            "/v1/payment_intents/{}/_authenticate",
            intent["id"].as_str().unwrap()
        );
        let authentication_form = [
            ("client_secret", intent["client_secret"].as_str().unwrap()),
            ("success", if succeeds { "true" } else { "false" }),
        ];
        self.call_api(Method::POST, &path, &authentication_form)
            .await;
    }

    /// Removes the return URL, which localstripe does not support, and remembers it.
    fn take_return_url(&self, path: &str, form_text: String) -> String {
        let Some(return_url) = form_text.strip_prefix("return_url=") else {
            return form_text;
        };
        let payment_id = path.strip_suffix("/confirm").unwrap();
        let payment_id = payment_id.rsplit('/').next().unwrap().to_owned();
        let mut return_urls = self.0.return_urls.lock().unwrap();
        return_urls.insert(payment_id, return_url.to_owned());
        String::new()
    }

    /// Marks the failed refunds, since refunds never fail in localstripe.
    fn mark_failed_refunds(&self, body: Bytes) -> Bytes {
        let failed_refunds = self.0.failed_refunds.lock().unwrap();
        let Ok(mut refund_list) = serde_json::from_slice::<Value>(&body) else {
            return body;
        };
        for refund in refund_list["data"].as_array_mut().into_iter().flatten() {
            if failed_refunds.contains(refund["id"].as_str().unwrap()) {
                refund["status"] = json!("failed");
            }
        }
        Bytes::from(refund_list.to_string())
    }

    fn take_mode(&self, path: &str, is_change: bool) -> ProxyMode {
        if !is_change {
            return ProxyMode::Forward;
        }
        let mut modes_by_payment = self.0.modes_by_payment.lock().unwrap();
        let confirmed_path = path.strip_suffix("/confirm");
        let payment_id = confirmed_path.and_then(|path| path.rsplit('/').next());
        let payment_mode = payment_id
            .and_then(|id| modes_by_payment.get_mut(id))
            .and_then(VecDeque::pop_front);
        let mut modes = self.0.modes.lock().unwrap();
        payment_mode
            .or_else(|| modes.pop_front())
            .unwrap_or(ProxyMode::Forward)
    }
}

/// Replaces a payment method of the sandbox, and returns the faults of its confirmations.
fn replace_payment_method(body: &str) -> (String, VecDeque<ProxyMode>) {
    let sandbox_methods = [
        ("pm_ok", vec![]),
        ("pm_slow", vec![ProxyMode::Delay(Duration::from_secs(3))]),
        ("pm_flaky", vec![ProxyMode::Fail, ProxyMode::Fail]),
        ("pm_timeout_after_charge", vec![ProxyMode::DropResponse]),
    ];
    for (sandbox_method, modes) in sandbox_methods {
        let form_field = format!("payment_method={sandbox_method}&");
        if body.contains(&form_field) {
            return (
                body.replace(&form_field, "payment_method=pm_card_visa&"),
                modes.into(),
            );
        }
    }
    let declined_method = "payment_method=pm_declined&";
    (
        body.replace(
            declined_method,
            "payment_method=pm_card_chargeCustomerFail&",
        ),
        VecDeque::new(),
    )
}

async fn proxy_request(State(stripe): State<Stripe>, request: Request) -> Response {
    let (request_head, body) = request.into_parts();
    let body = to_bytes(body, 1024 * 1024).await.unwrap();
    let path = request_head.uri.path().to_owned();
    let idempotency_key = request_head.headers.get("idempotency-key");
    let idempotency_key =
        idempotency_key.map(|idempotency_key| idempotency_key.to_str().unwrap().to_owned());
    let recorded_response = idempotency_key.as_ref().and_then(|idempotency_key| {
        let responses_by_key = stripe.0.responses_by_key.lock().unwrap();
        responses_by_key.get(idempotency_key).cloned()
    });
    let record_response = |status: StatusCode, body_bytes: &Bytes| {
        if let Some(idempotency_key) = &idempotency_key {
            let mut responses_by_key = stripe.0.responses_by_key.lock().unwrap();
            responses_by_key.insert(idempotency_key.clone(), (status, body_bytes.clone()));
        }
    };
    let proxy_mode = stripe.take_mode(&path, request_head.method == Method::POST);
    if let (Some(recorded_response), ProxyMode::Forward | ProxyMode::Delay(_)) =
        (recorded_response, proxy_mode)
    {
        return recorded_response.into_response();
    }
    match proxy_mode {
        ProxyMode::Fail => {
            let error_text =
                json!({"error": {"type": "api_error", "message": "injected"}}).to_string();
            let error_bytes = Bytes::from(error_text);
            record_response(StatusCode::INTERNAL_SERVER_ERROR, &error_bytes);
            return (StatusCode::INTERNAL_SERVER_ERROR, error_bytes).into_response();
        }
        ProxyMode::RefundedMeanwhile => {
            let body = String::from_utf8(body.to_vec()).unwrap();
            let payment_id = body
                .split('&')
                .find_map(|form_field| form_field.strip_prefix("payment_intent="));
            let refund_form = [("payment_intent", payment_id.unwrap())];
            stripe
                .call_api(Method::POST, "/v1/refunds", &refund_form)
                .await;
            let error_body = json!({"error": {"type": "invalid_request_error", "code": "charge_already_refunded",
                "message": "Charge has already been refunded."}});
            let error_bytes = Bytes::from(error_body.to_string());
            record_response(StatusCode::BAD_REQUEST, &error_bytes);
            return (StatusCode::BAD_REQUEST, error_bytes).into_response();
        }
        ProxyMode::InvalidResponse => return (StatusCode::OK, "<html>busy</html>").into_response(),
        ProxyMode::Forward | ProxyMode::DropResponse | ProxyMode::Delay(_) => {}
    }
    let (body, modes) = match String::from_utf8(body.to_vec()) {
        Ok(form_text) if path == "/v1/payment_intents" => replace_payment_method(&form_text),
        Ok(form_text) => (stripe.take_return_url(&path, form_text), VecDeque::new()),
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let path_and_query = request_head.uri.path_and_query().unwrap().to_string();
    let response = stripe
        .0
        .client
        .request(
            request_head.method,
            format!("{}{path_and_query}", stripe.0.localstripe_url),
        )
        .headers(without_length(request_head.headers))
        .body(body)
        .send()
        .await;
    let Ok(response) = response else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = response.status();
    let body_bytes = response.bytes().await.unwrap_or_default();
    let body_bytes = if path == "/v1/refunds" {
        stripe.mark_failed_refunds(body_bytes)
    } else {
        body_bytes
    };
    record_response(status, &body_bytes);
    if path == "/v1/payment_intents" && status.is_success() && !modes.is_empty() {
        let created_intent: Value = serde_json::from_slice(&body_bytes).unwrap_or_default();
        let intent_id = created_intent["id"].as_str().unwrap_or_default().to_owned();
        stripe
            .0
            .modes_by_payment
            .lock()
            .unwrap()
            .insert(intent_id, modes);
    }
    match proxy_mode {
        ProxyMode::DropResponse => truncated_response(),
        ProxyMode::Delay(delay) => {
            tokio::time::sleep(delay).await;
            (status, body_bytes).into_response()
        }
        _ => (status, body_bytes).into_response(),
    }
}

fn without_length(mut headers: axum::http::HeaderMap) -> axum::http::HeaderMap {
    headers.remove("content-length");
    headers.remove("host");
    headers
}

/// A response that ends in the middle of its body.
fn truncated_response() -> Response {
    let body_chunks = futures_util::stream::iter([
        Ok(Bytes::from_static(b"{\"id\": \"pi")),
        Err(std::io::Error::other("the connection was closed")),
    ]);
    Body::from_stream(body_chunks).into_response()
}
