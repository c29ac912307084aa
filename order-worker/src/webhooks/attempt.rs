//! One attempt to deliver a webhook: a CloudEvent in its structured JSON form, signed as Standard
//! Webhooks has it, sent once, answered in time or not.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use anyhow::Context;
use jiff::Timestamp;
use reqwest::{Client, Response, header::CONTENT_TYPE, redirect::Policy};
use shared::event::CloudEvent;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};
use tokio::time;

use super::guard::Guard;
use crate::domain::webhook::{Answered, Endpoint};

/// For the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(15);
/// An answer's body means nothing to us; this much is read, so that the connection can be used again.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;
/// Characters of an error that are kept.
const MAX_ERROR: usize = 200;

/// Sends webhooks.
pub struct Sender {
    client: Client,
    guard: Guard,
}

impl Sender {
    /// A sender that goes nowhere but where `guard` lets it.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new(guard: Guard) -> anyhow::Result<Self> {
        let client = Client::builder()
            .dns_resolver(guard.resolver())
            // It would be the proxy that looks names up.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("order-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("can't make an HTTP client")?;
        Ok(Self { client, guard })
    }

    /// Tells `endpoint` of `event`.
    pub async fn send(&self, endpoint: &Endpoint, event: &CloudEvent) -> Answered {
        let began = Instant::now();
        let answer = time::timeout(TIMEOUT, self.try_send(endpoint, event)).await;
        let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (response_code, error) = match answer {
            Ok(Ok(code)) if (200..300).contains(&code) => (Some(code), None),
            Ok(Ok(code)) if (300..400).contains(&code) => (
                Some(code),
                Some(format!("answered {code}; redirects are not followed")),
            ),
            Ok(Ok(code)) => (Some(code), Some(format!("answered {code}"))),
            Ok(Err(error)) => (None, Some(error)),
            Err(_) => (None, Some(format!("no answer within {TIMEOUT:?}"))),
        };
        Answered {
            response_code,
            latency_ms,
            error: error.map(|error| error.chars().take(MAX_ERROR).collect()),
        }
    }

    async fn try_send(&self, endpoint: &Endpoint, event: &CloudEvent) -> Result<u16, String> {
        self.guard.check(endpoint.url.url())?;
        let body = serde_json::to_vec(event).map_err(|error| error.to_string())?;
        let (id, now) = (event.id.to_string(), Timestamp::now());
        let signature = signatures(endpoint, &id, now, &body)?;
        let response = self
            .client
            .post(endpoint.url.url().clone())
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now.as_second())
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .body(body)
            .send()
            .await
            .map_err(|error| innermost(&error))?;
        let code = response.status().as_u16();
        drain(response).await;
        Ok(code)
    }
}

/// One signature for each secret that is valid now.
fn signatures(
    endpoint: &Endpoint,
    id: &str,
    now: Timestamp,
    body: &[u8],
) -> Result<String, String> {
    let signatures = endpoint.signing(now).map(|secret| {
        let webhook = Webhook::new(secret).map_err(|error| error.to_string())?;
        webhook
            .sign(id, now.as_second(), body)
            .map_err(|error| error.to_string())
    });
    Ok(signatures.collect::<Result<Vec<_>, _>>()?.join(" "))
}

async fn drain(mut response: Response) {
    let mut read = 0;
    while read < MAX_RESPONSE_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read += chunk.len();
    }
}

/// What an error comes down to: the URL around it is the endpoint's own, and may hold a secret.
fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
