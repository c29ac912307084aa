//! A client for the parts of Stripe's API that are used: payment intents
//! (<https://docs.stripe.com/api/payment_intents>) and refunds (<https://docs.stripe.com/api/refunds>). It
//! sends idempotency keys, limits time and size of responses, and classifies errors. The payment flow is in
//! the parent module.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{error_cause::innermost_message, providers::ProviderError};

/// Version of Stripe's API.
const API_VERSION: &str = "2024-06-20";
/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for a response; a confirmation involves the customer's bank. It is shorter than the step's
/// timeout.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// Refunds per page: Stripe's maximum.
const REFUNDS_PER_PAGE: &str = "100";
/// Maximum number of pages of refunds.
const MAX_REFUND_PAGES: usize = 100;
/// Maximum size of a response in bytes.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// Maximum number of replayed error responses that one call skips, each by using the next idempotency key.
const MAX_REPLAYS: u32 = 20;
/// Header of a response that Stripe replays for the same idempotency key
/// (<https://docs.stripe.com/error-low-level#idempotency>).
const REPLAYED_HEADER: &str = "idempotent-replayed";

/// An idempotency key: a name, and a generation that increases with each error response from Stripe.
pub(super) struct IdempotencyKey {
    pub(super) base_key: String,
    pub(super) generation: u32,
}

impl IdempotencyKey {
    fn of_generation(&self, generation: u32) -> String {
        match generation {
            0 => self.base_key.clone(),
            generation => format!("{}/{generation}", self.base_key),
        }
    }
}

/// Form fields of a request.
pub(super) type FormFields = Vec<(&'static str, String)>;

/// A client for Stripe.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    base_url: Url,
    secret_key: String,
}

/// A payment intent: Stripe's object for one payment.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PaymentIntent {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: i64,
    pub(super) amount_received: Option<i64>,
    pub(super) amount_capturable: Option<i64>,
    pub(super) last_payment_error: Option<StripeError>,
    pub(super) next_action: Option<Value>,
    pub(super) client_secret: Option<String>,
    /// The id of the charge, or the whole charge if the request expanded it.
    pub(super) latest_charge: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) status: Option<String>,
    pub(super) failure_reason: Option<String>,
    /// Our refunds carry the order's id in their metadata; refunds from Stripe's dashboard do not.
    pub(super) metadata: Option<Value>,
}

#[derive(Deserialize)]
struct List<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

/// The error object in a response of Stripe.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StripeError {
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
    pub(super) message: Option<String>,
}

impl StripeError {
    pub(super) fn code(&self) -> String {
        let code = self.decline_code.as_ref().or(self.code.as_ref());
        code.cloned().unwrap_or_else(|| "declined".to_owned())
    }

    pub(super) fn message(&self) -> String {
        let message = self.message.clone();
        message.unwrap_or_else(|| "the payment was declined".to_owned())
    }
}

/// Reasons why a call failed.
#[derive(Debug)]
pub(super) enum ApiError {
    /// Stripe refused the request.
    Rejected(StripeError),
    /// Stripe failed with an error of its own, and replays it for the same idempotency key.
    ServerError(String),
    /// The outcome is unknown: the request may have been executed, or may be executed later.
    OutcomeUnknown(String),
}

/// A failed request, and whether its response was a replay for the same idempotency key.
#[derive(Debug)]
pub(super) struct FailedRequest {
    pub(super) error: ApiError,
    pub(super) is_replay: bool,
}

impl ApiError {
    /// The provider error of a call whose rejection is not the customer's fault.
    pub(super) fn into_permanent(self) -> ProviderError {
        match self {
            Self::Rejected(stripe_error) => ProviderError::Permanent(format!(
                "Stripe rejected the request: {}",
                stripe_error.message()
            )),
            Self::ServerError(message) => ProviderError::RetryWithNewKey(message),
            Self::OutcomeUnknown(message) => ProviderError::Transient(message),
        }
    }

    /// The provider error of a call whose rejection concerns the payment method.
    pub(super) fn into_declined(self) -> ProviderError {
        match self {
            Self::Rejected(refusal) => ProviderError::Declined {
                code: refusal.code(),
                message: refusal.message(),
            },
            Self::ServerError(reason) => ProviderError::RetryWithNewKey(reason),
            Self::OutcomeUnknown(reason) => ProviderError::Transient(reason),
        }
    }
}

impl Api {
    pub(super) fn new(base_url: Url, secret_key: String) -> anyhow::Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(RESPONSE_TIMEOUT)
            .user_agent(concat!("order-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("can't create an HTTP client")?;
        Ok(Self {
            client,
            base_url,
            secret_key,
        })
    }

    pub(super) async fn create_intent(
        &self,
        form: &FormFields,
        idempotency_key: &IdempotencyKey,
    ) -> Result<PaymentIntent, ApiError> {
        self.post(&["payment_intents"], form, idempotency_key).await
    }

    pub(super) async fn intent(
        &self,
        intent_id: &str,
        form: &FormFields,
    ) -> Result<PaymentIntent, ApiError> {
        let request = self.client.get(self.url(&["payment_intents", intent_id]));
        self.send(request.query(form)).await
    }

    /// Captures from an authorization.
    pub(super) async fn capture(
        &self,
        intent_id: &str,
        form: &FormFields,
        idempotency_key: &IdempotencyKey,
    ) -> Result<PaymentIntent, ApiError> {
        self.post(
            &["payment_intents", intent_id, "capture"],
            form,
            idempotency_key,
        )
        .await
    }

    /// Sends `confirm` or `cancel`. Neither needs an idempotency key: the status of the payment intent
    /// prevents a second execution.
    pub(super) async fn confirm_or_cancel(
        &self,
        intent_id: &str,
        action: &str,
        form: &FormFields,
    ) -> Result<PaymentIntent, ApiError> {
        let url = self.url(&["payment_intents", intent_id, action]);
        self.send(self.client.post(url).form(form)).await
    }

    pub(super) async fn create_refund(
        &self,
        form: &FormFields,
        idempotency_key: &IdempotencyKey,
    ) -> Result<Refund, ApiError> {
        self.post(&["refunds"], form, idempotency_key).await
    }

    /// Sends a request with an idempotency key. Stripe stores the first response to a key, errors included. A
    /// replayed error says nothing about the present state, so the request is repeated with the next
    /// generation of the key.
    async fn post<T: DeserializeOwned>(
        &self,
        path_segments: &[&str],
        form: &FormFields,
        idempotency_key: &IdempotencyKey,
    ) -> Result<T, ApiError> {
        let mut generation = idempotency_key.generation;
        loop {
            let request = self.client.post(self.url(path_segments)).form(form);
            let request =
                request.header("idempotency-key", idempotency_key.of_generation(generation));
            match self.try_send(request).await {
                Ok(response) => return Ok(response),
                Err(FailedRequest { error, is_replay })
                    if !is_replay || generation >= idempotency_key.generation + MAX_REPLAYS =>
                {
                    return Err(error);
                }
                Err(_) => generation += 1,
            }
        }
    }

    /// All refunds of a payment intent, newest first.
    pub(super) async fn refunds(&self, intent_id: &str) -> Result<Vec<Refund>, ApiError> {
        let mut refunds: Vec<Refund> = Vec::new();
        for _ in 0..MAX_REFUND_PAGES {
            let mut form = vec![
                ("payment_intent", intent_id.to_owned()),
                ("limit", REFUNDS_PER_PAGE.to_owned()),
            ];
            form.extend(
                refunds
                    .last()
                    .map(|last_refund| ("starting_after", last_refund.id.clone())),
            );
            let request = self.client.get(self.url(&["refunds"])).query(&form);
            let page: List<Refund> = self.send(request).await?;
            let is_last_page = !page.has_more || page.data.is_empty();
            refunds.extend(page.data);
            if is_last_page {
                return Ok(refunds);
            }
        }
        Err(ApiError::OutcomeUnknown(
            "the payment has too many refunds to list".to_owned(),
        ))
    }

    fn url(&self, path_segments: &[&str]) -> Url {
        let mut request_url = self.base_url.clone();
        if let Ok(mut segments) = request_url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path_segments);
        }
        request_url
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        self.try_send(request)
            .await
            .map_err(|failed_request| failed_request.error)
    }

    async fn try_send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, FailedRequest> {
        let response = request
            .bearer_auth(&self.secret_key)
            .header("stripe-version", API_VERSION)
            .send()
            .await;
        let mut response = response.map_err(|error| {
            ApiError::OutcomeUnknown(format!(
                "Stripe did not respond: {}",
                innermost_message(&error)
            ))
        })?;
        let status = response.status();
        let is_replay = response
            .headers()
            .get(REPLAYED_HEADER)
            .is_some_and(|header_value| header_value == "true");
        let mut response_body = Vec::new();
        let interrupted_error = |error: reqwest::Error| {
            ApiError::OutcomeUnknown(format!(
                "Stripe's response was interrupted: {}",
                innermost_message(&error)
            ))
        };
        while let Some(chunk) = response.chunk().await.map_err(interrupted_error)? {
            if response_body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(
                    ApiError::OutcomeUnknown("Stripe's response is too large".to_owned()).into(),
                );
            }
            response_body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&response_body).map_err(|error| {
                ApiError::OutcomeUnknown(format!("Stripe's response can't be decoded: {error}"))
                    .into()
            });
        }
        Err(FailedRequest {
            error: classify_error(status, &response_body),
            is_replay,
        })
    }
}

impl From<ApiError> for FailedRequest {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            is_replay: false,
        }
    }
}

/// Classifies an error response. An invalid API key counts as an unknown outcome, which is retried, since the
/// key can be corrected. See <https://docs.stripe.com/api/errors>.
fn classify_error(status: StatusCode, body: &[u8]) -> ApiError {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: StripeError,
    }
    let error_body: Option<ErrorBody> = serde_json::from_slice(body).ok();
    match (status, error_body) {
        (
            StatusCode::BAD_REQUEST | StatusCode::PAYMENT_REQUIRED | StatusCode::NOT_FOUND,
            Some(ErrorBody { error }),
        ) => ApiError::Rejected(error),
        (status, error_body) => {
            // A response without Stripe's error object may come from a proxy, which does not know the
            // outcome.
            let is_from_stripe =
                status == StatusCode::INTERNAL_SERVER_ERROR || error_body.is_some();
            let message = error_body
                .and_then(|error_body| error_body.error.message)
                .unwrap_or_default();
            let message: String = message.chars().take(200).collect();
            let message_text =
                format!("Stripe responded with status {} {message}", status.as_u16());
            if status.is_server_error() && is_from_stripe {
                ApiError::ServerError(message_text)
            } else {
                ApiError::OutcomeUnknown(message_text)
            }
        }
    }
}
