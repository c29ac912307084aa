//! Outgoing webhooks: representations and requests of endpoints and deliveries.
//!
//! Each event that matches an endpoint's `event_types` becomes a delivery, which is signed as specified by
//! Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>) and retried
//! until the endpoint answers 2xx. The worker sends them.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{
    body::{self, Fields},
    event::EventFilter,
    id::{DeliveryId, EndpointId, EventId, Storefront},
    order::{cursor_by, limit},
    schema,
    web_url::web_url,
};

/// Maximum length of a URL in characters.
const MAX_URL_CHARS: usize = 2_000;
/// Maximum length of a description in characters.
const MAX_DESCRIPTION_CHARS: usize = 500;

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

/// `webhook_endpoint.create`: creates a webhook endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.com/webhooks", "event_types": ["order.*"]}))]
pub struct NewEndpoint {
    /// URL that webhooks are sent to.
    #[schema(schema_with = schema::url)]
    pub url: EndpointUrl,
    /// Description.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500)]
    pub description: Option<String>,
    /// Event types to deliver; absent: all.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_list")]
    #[schema(schema_with = schema::event_types, required = false)]
    pub event_types: Option<EventFilter>,
    /// Storefront whose events are delivered; absent: the caller's own, or for admins all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
}

#[expect(clippy::ref_option, reason = "serde wants it so")]
fn as_list<S: serde::Serializer>(
    filter: &Option<EventFilter>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    filter
        .as_ref()
        .map(EventFilter::types)
        .serialize(serializer)
}

#[expect(
    clippy::ref_option,
    clippy::option_option,
    reason = "serde wants it so; absent, null and a list differ in a merge patch"
)]
fn as_maybe_list<S: serde::Serializer>(
    change: &Option<Option<EventFilter>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match change {
        Some(filter) => as_list(filter, serializer),
        None => serializer.serialize_none(),
    }
}

impl NewEndpoint {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let url = fields.required("url", body::parsed);
        let description =
            fields.optional("description", body::visible_text(1..=MAX_DESCRIPTION_CHARS));
        let event_types = fields.optional("event_types", event_types);
        let storefront = fields.optional("storefront", body::parsed);
        Some(Self {
            url: url?,
            description,
            event_types,
            storefront,
        })
    }
}

fn event_types(value: Value) -> Result<EventFilter, String> {
    let Value::Array(types) = value else {
        return Err("must be a list".to_owned());
    };
    let types: Result<Vec<_>, _> = types.into_iter().map(body::string).collect();
    let filter = EventFilter::new(types.map_err(|_| "must be a list of strings".to_owned())?)?;
    let unknown: Vec<&str> = filter.unknown().collect();
    if unknown.is_empty() {
        Ok(filter)
    } else {
        Err(format!(
            "contains unknown event types: {}; docs/asyncapi.json lists the event types",
            unknown.join(", ")
        ))
    }
}

/// `webhook_endpoint.get`, `webhook_endpoint.delete`: the id of a webhook endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointRef {
    /// Id of the endpoint.
    pub id: EndpointId,
}

impl EndpointRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        Some(Self { id: id? })
    }
}

/// `webhook_endpoint.update`: a JSON Merge Patch (RFC 7396). Given values are changed, `null` removes a
/// value, absent values stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"is_enabled": true}))]
pub struct UpdateEndpoint {
    /// Id of the endpoint.
    #[schema(ignore)]
    pub id: EndpointId,
    /// URL that webhooks are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::url, required = false)]
    pub url: Option<EndpointUrl>,
    /// Description; `null` removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    pub description: Option<Option<String>>,
    /// Event types to deliver; `["*"]` or `null`: all.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_maybe_list"
    )]
    #[schema(schema_with = schema::event_types, required = false)]
    pub event_types: Option<Option<EventFilter>>,
    /// Whether events are delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub is_enabled: Option<bool>,
}

impl UpdateEndpoint {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let url = fields.patch("url", body::parsed);
        let description =
            fields.patch_nullable("description", body::visible_text(1..=MAX_DESCRIPTION_CHARS));
        let event_types = fields.patch_nullable("event_types", event_types);
        let is_enabled = fields.patch("is_enabled", body::boolean);
        Some(Self {
            id: id?,
            url,
            description,
            event_types,
            is_enabled,
        })
    }
}

/// `webhook_endpoint.rotate_secret`: replaces the signing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 86400}))]
pub struct RotateSecret {
    /// Id of the endpoint.
    #[schema(ignore)]
    pub id: EndpointId,
    /// Time in seconds during which webhooks are also signed with the old secret.
    #[schema(required = false, nullable = true, maximum = 604_800, default = 86_400)]
    pub overlap_seconds: u32,
}

/// Default overlap in seconds.
const OVERLAP_SECONDS: u32 = 24 * 3600;
/// Maximum overlap in seconds.
const MAX_OVERLAP_SECONDS: i64 = 7 * 24 * 3600;

impl RotateSecret {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let overlap = fields.optional("overlap_seconds", body::integer(0..=MAX_OVERLAP_SECONDS));
        Some(Self {
            id: id?,
            overlap_seconds: overlap
                .and_then(|seconds| u32::try_from(seconds).ok())
                .unwrap_or(OVERLAP_SECONDS),
        })
    }
}

/// `webhook_endpoint.list`: webhook endpoints, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListEndpoints {
    /// Only endpoints of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListEndpoints {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let storefront = fields.optional("storefront", body::parsed);
        let limit = limit(fields);
        let cursor = cursor_by::<EndpointId>(fields);
        Some(Self {
            storefront,
            limit,
            cursor,
        })
    }
}

/// `webhook_endpoint.deliveries`: the deliveries of an endpoint, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListDeliveries {
    /// Id of the endpoint.
    pub id: EndpointId,
    /// Only deliveries with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListDeliveries {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let status = fields.optional("status", body::parsed);
        let limit = limit(fields);
        let cursor = cursor_by::<DeliveryId>(fields);
        Some(Self {
            id: id?,
            status,
            limit,
            cursor,
        })
    }
}

/// `webhook_endpoint.redeliver`: sends a delivery again, regardless of its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redeliver {
    /// Id of the endpoint.
    pub id: EndpointId,
    /// Id of the delivery.
    pub delivery_id: DeliveryId,
}

impl Redeliver {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let delivery_id = fields.required("delivery_id", body::parsed);
        Some(Self {
            id: id?,
            delivery_id: delivery_id?,
        })
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
        for right in [
            "http://127.0.0.1:8080/",
            "https://[2606:4700::1111]/",
            "HTTPS://Example.com.",
            "http://web_hooks:9000",
            "https://xn--exmple-cua.com",
        ] {
            assert!(right.parse::<EndpointUrl>().is_ok(), "{right}");
        }
        for wrong in [
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
            assert!(wrong.parse::<EndpointUrl>().is_err(), "{wrong}");
        }
    }
}
