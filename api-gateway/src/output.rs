//! Builds HTTP responses from the worker's replies: status, `ETag`, `Location`, `Link`, cache headers.
//!
//! The JSON text of a reply becomes the body unchanged; only the few fields that headers need are parsed. A
//! failure becomes a [`Problem`].

use std::borrow::Cow;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    etag::{self, TagList},
    outcome::{Json, RpcReply},
};

use crate::{input::Uri, problem::Problem};

/// Header of a response that was replayed from the idempotency record.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A response built from the worker's reply. A success has `status`; a failure has the status of its error
/// code.
pub(crate) struct ReplyResponse {
    status: StatusCode,
    reply: RpcReply,
}

/// Builds the response for a worker's reply, with `status` for a success.
pub(crate) fn respond(status: StatusCode, reply: RpcReply) -> ReplyResponse {
    ReplyResponse { status, reply }
}

/// Name of the query parameter that continues a list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CursorParameter {
    Cursor,
    After,
}

impl CursorParameter {
    fn name(self) -> &'static str {
        match self {
            Self::Cursor => "cursor",
            Self::After => "after",
        }
    }
}

impl ReplyResponse {
    /// The reply's value; `None` if the request failed.
    pub(crate) fn value(&self) -> Option<&Json> {
        self.reply.outcome.as_ref().ok()
    }

    /// Sets whether the response was replayed from the idempotency record.
    pub(crate) fn with_replay_flag(mut self, is_replay: bool) -> Self {
        self.reply.is_replay = is_replay;
        self
    }

    /// Adds the `Location` of the resource that was created in `collection`.
    pub(crate) fn with_location(self, collection: &str) -> Response {
        self.into_response_with(|fields| Some((header::LOCATION, fields.location(collection)?)))
    }

    /// Adds a `Link` to the next page (RFC 8288), if there is one.
    pub(crate) fn with_next_link(self, uri: &Uri, cursor: CursorParameter) -> Response {
        self.into_response_with(|fields| Some((header::LINK, fields.link(uri, cursor)?)))
    }

    /// Responds with 304 if `if_none_match`, the client's `If-None-Match`, has the current `ETag`.
    pub(crate) fn or_not_modified(self, if_none_match: Option<&TagList>) -> Response {
        let response = self.into_response();
        match (response.headers().get(header::ETAG), if_none_match) {
            (Some(tag), Some(if_none_match))
                if tag.to_str().is_ok_and(|tag| if_none_match.has_weakly(tag)) =>
            {
                let mut headers = HeaderMap::new();
                headers.insert(header::ETAG, tag.clone());
                headers.extend(revalidation_headers());
                (StatusCode::NOT_MODIFIED, headers).into_response()
            }
            _ => response,
        }
    }
}

/// Cache headers of a resource with an `ETag`: not for shared caches, and revalidated before each use.
fn revalidation_headers() -> [(Option<HeaderName>, HeaderValue); 1] {
    let cache_control = HeaderValue::from_static("private, no-cache");
    [(Some(header::CACHE_CONTROL), cache_control)]
}

impl IntoResponse for ReplyResponse {
    fn into_response(self) -> Response {
        self.into_response_with(|_| None)
    }
}

impl ReplyResponse {
    /// Builds the response; `extra_header` derives another header from the value.
    fn into_response_with(
        self,
        extra_header: impl FnOnce(&HeaderSourceFields<'_>) -> Option<(HeaderName, HeaderValue)>,
    ) -> Response {
        let Self { status, reply } = self;
        let mut response = match reply.outcome {
            Ok(value) => {
                let source_fields = HeaderSourceFields::from_json(&value);
                let etag = source_fields.etag(&value);
                let additional_header = extra_header(&source_fields);
                let mut response = if status == StatusCode::NO_CONTENT {
                    status.into_response()
                } else {
                    let json_type = HeaderValue::from_static("application/json");
                    let body = value.into_text();
                    (status, [(header::CONTENT_TYPE, json_type)], body).into_response()
                };
                let headers = response.headers_mut();
                if let Some(etag) = etag.filter(|_| status != StatusCode::NO_CONTENT) {
                    headers.insert(header::ETAG, etag);
                    headers.extend(revalidation_headers());
                }
                headers.extend(additional_header.map(|(name, value)| (Some(name), value)));
                response
            }
            Err(failure) => Problem::from(failure).into_response(),
        };
        if reply.is_replay {
            response
                .headers_mut()
                .insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The fields of a value that response headers are built from.
#[derive(Default, Deserialize)]
struct HeaderSourceFields<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sku: Option<Cow<'a, str>>,
    version: Option<u64>,
    #[serde(borrow)]
    stock: Option<&'a RawValue>,
    #[serde(borrow)]
    failing_since: Option<&'a RawValue>,
    #[serde(borrow)]
    next_cursor: Option<Cow<'a, str>>,
}

impl<'a> HeaderSourceFields<'a> {
    fn from_json(value: &'a Json) -> Self {
        serde_json::from_str(value.text()).unwrap_or_default()
    }

    /// The entity tag of a resource; values without an id or SKU, such as lists, have none.
    fn etag(&self, value: &Json) -> Option<HeaderValue> {
        self.id.as_ref().or(self.sku.as_ref())?;
        HeaderValue::from_str(&etag::tag_of_parts(
            self.version,
            self.stock.or(self.failing_since),
            value,
        ))
        .ok()
    }

    /// The resource's path in `collection`, by its id or SKU.
    fn location(&self, collection: &str) -> Option<HeaderValue> {
        let id_or_sku = self.id.as_ref().or(self.sku.as_ref())?;
        HeaderValue::from_str(&[collection, "/", id_or_sku].concat()).ok()
    }

    /// The link to the next page: the same URI with the next cursor.
    fn link(&self, Uri(uri): &Uri, cursor: CursorParameter) -> Option<HeaderValue> {
        let next_cursor = self.next_cursor.as_ref()?;
        let cursor_name = cursor.name();
        let query = uri.query().unwrap_or_default();
        let other_pairs = query.split('&').filter(|pair| {
            let parameter_name = pair.split('=').next().unwrap_or_default();
            !pair.is_empty() && parameter_name != "cursor" && parameter_name != cursor_name
        });
        let mut query_pairs: Vec<&str> = other_pairs.collect();
        // Cursors consist of letters and digits and need no escaping.
        let next_pair = format!("{cursor_name}={next_cursor}");
        query_pairs.push(&next_pair);
        let link_value = format!("<{}?{}>; rel=\"next\"", uri.path(), query_pairs.join("&"));
        HeaderValue::from_str(&link_value).ok()
    }
}
