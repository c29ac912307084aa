//! Requests about webhook endpoints and their deliveries.

use serde::Serialize;
use serde_json::Value;

use super::{DeliveryStatus, EndpointUrl};
use crate::{
    body::{self, Fields},
    event::EventFilter,
    id::{DeliveryId, EndpointId, Storefront},
    order::{cursor_by, limit},
    schema,
};

/// Maximum length of a description in characters.
const MAX_DESCRIPTION_CHARS: usize = 500;
/// Maximum length of a search text.
const MAX_SEARCH_CHARS: usize = 100;

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
    #[schema(schema_with = schema::event_type_filter, required = false)]
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
    event_types_patch: &Option<Option<EventFilter>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match event_types_patch {
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
    let Value::Array(type_values) = value else {
        return Err("must be a list".to_owned());
    };
    let type_names: Result<Vec<_>, _> = type_values.into_iter().map(body::string).collect();
    let filter = EventFilter::new(type_names.map_err(|_| "must be a list of strings".to_owned())?)?;
    let unknown_types: Vec<&str> = filter.unknown_types().collect();
    if unknown_types.is_empty() {
        Ok(filter)
    } else {
        Err(format!(
            "contains unknown event types: {}; docs/asyncapi.json lists the event types",
            unknown_types.join(", ")
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
    #[schema(schema_with = schema::event_type_filter, required = false)]
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
const DEFAULT_OVERLAP_SECONDS: u32 = 24 * 3600;
/// Maximum time, in seconds, during which the old and the new signing secret are both valid.
const MAX_OVERLAP_SECONDS: i64 = 7 * 24 * 3600;

impl RotateSecret {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let overlap_seconds =
            fields.optional("overlap_seconds", body::integer(0..=MAX_OVERLAP_SECONDS));
        Some(Self {
            id: id?,
            overlap_seconds: overlap_seconds
                .and_then(|seconds| u32::try_from(seconds).ok())
                .unwrap_or(DEFAULT_OVERLAP_SECONDS),
        })
    }
}

/// `webhook_endpoint.list`: webhook endpoints, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListEndpoints {
    /// Only endpoints whose URL or description contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
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
        let q = fields.optional("q", body::visible_text(1..=MAX_SEARCH_CHARS));
        let storefront = fields.optional("storefront", body::parsed);
        let limit = limit(fields);
        let cursor = cursor_by::<EndpointId>(fields);
        Some(Self {
            q,
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

/// `webhook_endpoint.delivery`: one delivery with its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryRef {
    /// Id of the endpoint.
    pub id: EndpointId,
    /// Id of the delivery.
    pub delivery_id: DeliveryId,
}

impl DeliveryRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let delivery_id = fields.required("delivery_id", body::parsed);
        Some(Self {
            id: id?,
            delivery_id: delivery_id?,
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
