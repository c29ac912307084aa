//! Outgoing webhooks: representations of endpoints and deliveries; `request` has the requests about them.
//!
//! Each event that matches an endpoint's `event_types` becomes a delivery, which is signed as specified by
//! Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>) and retried
//! until the endpoint answers 2xx, for at most a day. The worker sends them.

mod request;

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::request::{
    DeliveryRef, EndpointRef, ListDeliveries, ListEndpoints, NewEndpoint, Redeliver, RotateSecret,
    UpdateEndpoint,
};
use crate::{
    event::CloudEvent,
    id::{DeliveryId, EndpointId, EventId, Storefront},
    web_url::web_url,
};

/// Maximum length of a URL in characters.
const MAX_URL_CHARS: usize = 2_000;

/// A webhook endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Endpoint {
    /// UUIDv7.
    pub id: EndpointId,
    /// Storefront whose events are delivered; `null`: all.
    pub storefront: Option<Storefront>,
    /// URL that webhooks are sent to.
    pub url: String,
    /// Description.
    pub description: Option<String>,
    /// Event types to deliver: `order.created` or `order.*`; `null`: all.
    pub event_types: Option<Vec<String>>,
    /// Whether events are delivered.
    pub is_enabled: bool,
    /// Reason for being disabled, if the system disabled it.
    pub disabled_reason: Option<DisabledReason>,
    /// Time of the first failure since the last success; `null` if the last delivery succeeded.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// Signing secret, `whsec_…`; returned only on creation and rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Number of the last change.
    pub version: u64,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time of the last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Reason why the system disabled an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// The endpoint answered 410.
    Gone,
    /// All deliveries failed for a day.
    Failing,
}

/// A webhook delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Delivery {
    /// UUIDv7.
    pub id: DeliveryId,
    /// Id of the endpoint.
    pub endpoint_id: EndpointId,
    /// Id of the event; also the header `webhook-id`.
    pub event_id: EventId,
    /// Event type.
    pub event_type: String,
    /// Status of the delivery.
    pub status: DeliveryStatus,
    /// The latest attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Time of the next attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A webhook delivery with the event that it sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryWithEvent {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// The body of the webhook; `null` if the event was deleted after its retention period.
    pub event: Option<CloudEvent>,
}

/// Status of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Waiting for its first or next attempt.
    Pending,
    /// The endpoint answered 2xx.
    Succeeded,
    /// All attempts failed, or the endpoint is disabled; it can be redelivered.
    Failed,
}

impl DeliveryStatus {
    /// The status as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for DeliveryStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Pending, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| "must be pending, succeeded or failed".to_owned())
    }
}

/// An attempt of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attempt {
    /// Time at which the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// HTTP status of the response; `null` if there was none.
    pub response_code: Option<u16>,
    /// Time until the response, in milliseconds.
    pub latency_ms: u64,
    /// Error, if the attempt failed.
    pub error: Option<String>,
}

/// A URL that webhooks can be sent to: `https` or `http`, with a host and without credentials. Whether the
/// host may be called is checked when it is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(value_type = String)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointUrl(Url);

impl EndpointUrl {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for EndpointUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_URL_CHARS {
            return Err(format!("must have at most {MAX_URL_CHARS} characters"));
        }
        // The URL parser would silently encode or remove other characters.
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(
                "must consist of the characters of a URI (RFC 3986); percent-encode others"
                    .to_owned(),
            );
        }
        let url = web_url(text)?;
        if !url.has_host() || !url.username().is_empty() || url.password().is_some() {
            return Err("must have a host and no user name or password".to_owned());
        }
        if url.fragment().is_some() {
            return Err("must not have a fragment".to_owned());
        }
        Ok(Self(url))
    }
}

/// Parses a stored URL leniently, so that it stays readable when the rules for new URLs change.
impl TryFrom<String> for EndpointUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).map_err(|error| format!("is not a URL: {error}"))?;
        Ok(Self(url))
    }
}

impl From<EndpointUrl> for String {
    fn from(url: EndpointUrl) -> Self {
        url.0.into()
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_url_must_be_a_plain_http_url() {
        assert!(
            "https://example.com/hook?a=1"
                .parse::<EndpointUrl>()
                .is_ok()
        );
        for valid_url in [
            "http://127.0.0.1:8080/",
            "https://[2606:4700::1111]/",
            "HTTPS://Example.com.",
            "http://web_hooks:9000",
            "https://xn--exmple-cua.com",
        ] {
            assert!(valid_url.parse::<EndpointUrl>().is_ok(), "{valid_url}");
        }
        for invalid_url in [
            "",
            "example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://user@example.com",
            "https://:pw@example.com",
            "https://",
            "https://example.com/#x",
            "https://exämple.com",
            "https://example.com/a b",
            " https://example.com",
            "https://exam\nple.com",
            "https:///x",
            "https:x",
            "https:\\\\x",
            "https://example.com:0/",
            "https://a..b/",
            "https://.",
            "https://-a.example",
            &format!("https://{}.example", "x".repeat(64)),
        ] {
            assert!(invalid_url.parse::<EndpointUrl>().is_err(), "{invalid_url}");
        }
    }
}
