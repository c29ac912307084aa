//! Outgoing webhooks on the wire: endpoints of others that are told of events, and what came of it.
//! Each is signed as Standard Webhooks has it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

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

/// Characters of a URL.
const MAX_URL: usize = 2_000;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 500;

/// An endpoint as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Endpoint {
    /// UUIDv7.
    pub id: EndpointId,
    /// Whose events it is told of; `null`: everybody's.
    pub storefront: Option<Storefront>,
    /// Where they go.
    pub url: String,
    /// What it is for.
    pub description: Option<String>,
    /// Only these types of events, `order.created` or `order.*`; `null`: all.
    pub event_types: Option<Vec<String>>,
    /// Whether it is told of anything.
    pub is_enabled: bool,
    /// Why it is not, if the system decided so.
    pub disabled_reason: Option<DisabledReason>,
    /// Since when no delivery has succeeded; `null` when the last one did.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// What signs its webhooks, `whsec_…`: told when it is made and when it is rotated, never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Counts the changes.
    pub version: u64,
    /// Since when it is there.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Why the system gave an endpoint up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// It answered 410: it does not want to be told any more.
    Gone,
    /// Nothing could be delivered for a day.
    Failing,
}

/// A webhook as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Delivery {
    /// UUIDv7.
    pub id: DeliveryId,
    /// To whom.
    pub endpoint_id: EndpointId,
    /// What it tells; also the header `webhook-id`.
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// What has come of it.
    pub status: DeliveryStatus,
    /// The latest attempts, the last one at the end.
    pub attempts: Vec<Attempt>,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// Since when it is there.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What has come of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// It is to be tried, for the first time or again.
    Pending,
    /// It was answered with 2xx.
    Succeeded,
    /// It was tried for a day, or the endpoint is disabled; it can be redelivered.
    Failed,
}

impl DeliveryStatus {
    /// As it stands on the wire.
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

/// One attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attempt {
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What the endpoint answered; `null` when it did not.
    pub response_code: Option<u16>,
    /// Milliseconds until it did.
    pub latency_ms: u64,
    /// What went wrong.
    pub error: Option<String>,
}

/// Where webhooks may go: an `https` URL, or `http`, with a host and without credentials. Whether
/// the host is one that may be called is seen when it is.
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
        if text.len() > MAX_URL {
            return Err(format!("must have at most {MAX_URL} characters"));
        }
        // Else it would be read as something that it does not say.
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must have no other characters than a URI has (RFC 3986)".to_owned());
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

/// Stored URLs stay readable, whatever the rules for new ones are.
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

/// `webhook_endpoint.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.com/webhooks", "event_types": ["order.*"]}))]
pub struct NewEndpoint {
    /// Where to.
    #[schema(schema_with = schema::url)]
    pub url: EndpointUrl,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500)]
    pub description: Option<String>,
    /// Only these types of events; absent: all.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_list")]
    #[schema(schema_with = schema::event_types, required = false)]
    pub event_types: Option<EventFilter>,
    /// Whose events; absent: the caller's own, or an admin's everybody's.
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
        let description = fields.optional("description", body::visible_text(1..=MAX_DESCRIPTION));
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
            "names no type of event: {}; see the events of docs/asyncapi.json",
            unknown.join(", ")
        ))
    }
}

/// `webhook_endpoint.get`, `.delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointRef {
    /// Which.
    pub id: EndpointId,
}

impl EndpointRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        Some(Self { id: id? })
    }
}

/// `webhook_endpoint.update`: a JSON Merge Patch (RFC 7396). What is given changes, `null` removes, the rest
/// stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"is_enabled": true}))]
pub struct UpdateEndpoint {
    /// Which.
    #[schema(ignore)]
    pub id: EndpointId,
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::url, required = false)]
    pub url: Option<EndpointUrl>,
    /// Description; `null` removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    pub description: Option<Option<String>>,
    /// Only these types of events; `["*"]` or `null` for all.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "as_maybe_list"
    )]
    #[schema(schema_with = schema::event_types, required = false)]
    pub event_types: Option<Option<EventFilter>>,
    /// Whether it is told of anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub is_enabled: Option<bool>,
}

impl UpdateEndpoint {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let url = fields.replace("url", body::parsed);
        let description = fields.change("description", body::visible_text(1..=MAX_DESCRIPTION));
        let event_types = fields.change("event_types", event_types);
        let is_enabled = fields.replace("is_enabled", body::boolean);
        Some(Self {
            id: id?,
            url,
            description,
            event_types,
            is_enabled,
        })
    }
}

/// `webhook_endpoint.rotate_secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 86400}))]
pub struct RotateSecret {
    /// Which.
    #[schema(ignore)]
    pub id: EndpointId,
    /// For how long the old secret signs as well: seconds.
    #[schema(required = false, nullable = true, maximum = 604_800, default = 86_400)]
    pub overlap_seconds: u32,
}

/// For how long an old secret signs as well, unless somebody says otherwise.
const OVERLAP_SECONDS: u32 = 24 * 3600;
/// And for how long at most.
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

/// `webhook_endpoint.list`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListEndpoints {
    /// Only of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Entries at most.
    pub limit: u32,
    /// The id the last page ended with.
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

/// `webhook_endpoint.deliveries`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListDeliveries {
    /// To which endpoint.
    pub id: EndpointId,
    /// Only those that have come to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
    /// Entries at most.
    pub limit: u32,
    /// The id the last page ended with.
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

/// `webhook_endpoint.redeliver`: has a webhook sent again, whatever has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redeliver {
    /// To which endpoint.
    pub id: EndpointId,
    /// Which webhook.
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
    fn a_webhook_goes_to_a_plain_http_url() {
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
