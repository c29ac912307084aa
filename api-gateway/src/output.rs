//! Responses: the worker's reply with HTTP status and headers.

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

/// Tells that the response was replayed from the idempotency record.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The worker's reply; a success is sent with `status`.
pub(crate) struct ReplyResponse {
    status: StatusCode,
    reply: RpcReply,
}

/// Responds with `status` and the value, or with the failure.
pub(crate) fn respond(status: StatusCode, reply: RpcReply) -> ReplyResponse {
    ReplyResponse { status, reply }
}

/// Name of a list's cursor parameter.
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
    /// The value, unless the request failed.
    pub(crate) fn value(&self) -> Option<&Json> {
        self.reply.outcome.as_ref().ok()
    }

    /// Marked as given before.
    pub(crate) fn with_replay_flag(mut self, is_replay: bool) -> Self {
        self.reply.is_replay = is_replay;
        self
    }

    /// With the `Location` of what was created in `collection`.
    pub(crate) fn with_location(self, collection: &str) -> Response {
        self.into_response_with(|fields| Some((header::LOCATION, fields.location(collection)?)))
    }

    /// Adds a `Link` to the next page (RFC 8288), if there is one.
    pub(crate) fn with_next_link(self, uri: &Uri, cursor: CursorParameter) -> Response {
        self.into_response_with(|fields| Some((header::LINK, fields.link(uri, cursor)?)))
    }

    /// As 304 if the client has this version already.
    pub(crate) fn or_not_modified(self, known: Option<&TagList>) -> Response {
        let response = self.into_response();
        match (response.headers().get(header::ETAG), known) {
            (Some(tag), Some(known)) if tag.to_str().is_ok_and(|tag| known.has_weakly(tag)) => {
                let mut headers = HeaderMap::new();
                headers.insert(header::ETAG, tag.clone());
                headers.extend(revalidation_headers());
                (StatusCode::NOT_MODIFIED, headers).into_response()
            }
            _ => response,
        }
    }
}

/// Cache headers: private to the caller, and always revalidated.
fn revalidation_headers() -> [(Option<HeaderName>, HeaderValue); 1] {
    let value = HeaderValue::from_static("private, no-cache");
    [(Some(header::CACHE_CONTROL), value)]
}

impl IntoResponse for ReplyResponse {
    fn into_response(self) -> Response {
        self.into_response_with(|_| None)
    }
}

impl ReplyResponse {
    /// Builds the response; `more` adds headers derived from the value.
    fn into_response_with(
        self,
        extra_header: impl FnOnce(&HeaderFields<'_>) -> Option<(HeaderName, HeaderValue)>,
    ) -> Response {
        let Self { status, reply } = self;
        let mut response = match reply.outcome {
            Ok(value) => {
                let fields = HeaderFields::of(&value);
                let (tag, extra) = (fields.etag(&value), extra_header(&fields));
                let mut response = if status == StatusCode::NO_CONTENT {
                    status.into_response()
                } else {
                    let json = HeaderValue::from_static("application/json");
                    let body = value.into_text();
                    (status, [(header::CONTENT_TYPE, json)], body).into_response()
                };
                let headers = response.headers_mut();
                if let Some(tag) = tag.filter(|_| status != StatusCode::NO_CONTENT) {
                    headers.insert(header::ETAG, tag);
                    headers.extend(revalidation_headers());
                }
                headers.extend(extra.map(|(name, value)| (Some(name), value)));
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

/// What headers say of a value; the rest of it is passed on as it came.
#[derive(Default, Deserialize)]
struct HeaderFields<'a> {
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

impl<'a> HeaderFields<'a> {
    fn of(value: &'a Json) -> Self {
        serde_json::from_str(value.text()).unwrap_or_default()
    }

    /// Entity tag of a resource with an identity.
    fn etag(&self, value: &Json) -> Option<HeaderValue> {
        self.id.as_ref().or(self.sku.as_ref())?;
        HeaderValue::from_str(&etag::of_parts(
            self.version,
            self.stock.or(self.failing_since),
            value,
        ))
        .ok()
    }

    /// Location of the resource by its id or SKU.
    fn location(&self, collection: &str) -> Option<HeaderValue> {
        let name = self.id.as_ref().or(self.sku.as_ref())?;
        HeaderValue::from_str(&format!("{collection}/{name}")).ok()
    }

    /// The same request with the next page's cursor.
    fn link(&self, Uri(uri): &Uri, cursor: CursorParameter) -> Option<HeaderValue> {
        let next = self.next_cursor.as_ref()?;
        let name = cursor.name();
        let query = uri.query().unwrap_or_default();
        let other_pairs = query.split('&').filter(|pair| {
            let key = pair.split('=').next().unwrap_or_default();
            !pair.is_empty() && key != "cursor" && key != name
        });
        let mut pairs: Vec<&str> = other_pairs.collect();
        // Cursors consist of letters and digits.
        let next_pair = format!("{name}={next}");
        pairs.push(&next_pair);
        let target = format!("<{}?{}>; rel=\"next\"", uri.path(), pairs.join("&"));
        HeaderValue::from_str(&target).ok()
    }
}
