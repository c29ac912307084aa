//! One attempt of a webhook delivery: sends a CloudEvent as structured JSON, signed according to Standard
//! Webhooks (<https://www.standardwebhooks.com>), and classifies the response. The address is checked by
//! [`url_policy`](super::url_policy); retries are decided by the engine.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode, header::CONTENT_TYPE, redirect::Policy};
use shared::event::CloudEvent;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};
use tokio::time;

use super::url_policy::UrlPolicy;
use crate::{
    domain::webhook::{DeliveryResult, Endpoint},
    error_cause::innermost_message,
    retry_after::retry_after,
};

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for the status line of the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// The body of a response is ignored. Up to this many bytes are read within [`DRAIN_TIMEOUT`], so that the
/// connection can be reused.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum length of a stored error, in characters.
const MAX_ERROR_CHARS: usize = 200;

/// Sends webhooks.
pub struct Sender {
    client: Client,
    url_policy: UrlPolicy,
}

impl Sender {
    /// Creates a sender that calls only URLs that `url_policy` permits.
    ///
    /// # Errors
    /// When the HTTP client can't be created.
    pub fn new(url_policy: UrlPolicy) -> anyhow::Result<Self> {
        let client = Client::builder()
            .dns_resolver(url_policy.resolver())
            // A proxy would resolve host names itself.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("order-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("can't create an HTTP client")?;
        Ok(Self { client, url_policy })
    }

    /// Sends `event` to `endpoint`. The status line decides the result; a slow or endless body does not
    /// change it.
    pub async fn send(&self, endpoint: &Endpoint, event: &CloudEvent) -> DeliveryResult {
        let started_at = Instant::now();
        let send_result = time::timeout(RESPONSE_TIMEOUT, self.try_send(endpoint, event)).await;
        let latency_ms = u64::try_from(started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (response, error_text) = match send_result {
            Ok(Ok(response)) => {
                let error_text = status_error(response.status());
                (Some(response), error_text)
            }
            Ok(Err(error)) => (None, Some(error)),
            Err(_) => (
                None,
                Some(format!("no response within {RESPONSE_TIMEOUT:?}")),
            ),
        };
        let delivery_result = DeliveryResult {
            response_code: response.as_ref().map(|response| response.status().as_u16()),
            latency_ms,
            retry_after: response
                .as_ref()
                .filter(|_| error_text.is_some())
                .and_then(|response| retry_after(response.headers(), SystemTime::now())),
            error: error_text.map(|error_text| error_text.chars().take(MAX_ERROR_CHARS).collect()),
        };
        if let Some(response) = response {
            let _ = time::timeout(DRAIN_TIMEOUT, drain_body(response)).await;
        }
        delivery_result
    }

    async fn try_send(&self, endpoint: &Endpoint, event: &CloudEvent) -> Result<Response, String> {
        self.url_policy.check(endpoint.url.url())?;
        let event_body = match &endpoint.storefront {
            Some(_) => {
                let event = event.clone().for_storefronts();
                serde_json::to_vec(&event.map_err(|failure| failure.message)?)
            }
            None => serde_json::to_vec(event),
        };
        let event_body = event_body.map_err(|error| error.to_string())?;
        let (webhook_id, now) = (event.id.to_string(), Timestamp::now());
        let signature = signature_header(endpoint, &webhook_id, now, &event_body)?;
        self.client
            .post(endpoint.url.url().clone())
            .header(HEADER_WEBHOOK_ID, webhook_id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now.as_second())
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .body(event_body)
            .send()
            .await
            .map_err(|error| innermost_message(&error))
    }
}

/// The error for a response that is not successful.
fn status_error(status: StatusCode) -> Option<String> {
    let status_code = status.as_u16();
    if status.is_success() {
        None
    } else if status.is_redirection() {
        Some(format!(
            "responded with status {status_code}; redirects are not followed"
        ))
    } else {
        Some(format!("responded with status {status_code}"))
    }
}

/// The signature header: one signature for each secret that is valid at `now`.
fn signature_header(
    endpoint: &Endpoint,
    webhook_id: &str,
    now: Timestamp,
    event_body: &[u8],
) -> Result<String, String> {
    let signatures = endpoint.signing_secrets(now).map(|secret| {
        let signer = Webhook::new(secret).map_err(|error| error.to_string())?;
        signer
            .sign(webhook_id, now.as_second(), event_body)
            .map_err(|error| error.to_string())
    });
    Ok(signatures.collect::<Result<Vec<_>, _>>()?.join(" "))
}

async fn drain_body(mut response: Response) {
    let mut read_bytes = 0;
    while read_bytes < MAX_RESPONSE_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read_bytes += chunk.len();
    }
}
