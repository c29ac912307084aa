//! What goes out: the worker's answer with the headers that HTTP has for it.

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

/// Says that this answer was given before.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The worker's answer, to go out with `status` if it is none of refusal.
pub(crate) struct Answer {
    status: StatusCode,
    told: RpcReply,
}

/// Answers with `status` and the value, or with the failure.
pub(crate) fn answer(status: StatusCode, told: RpcReply) -> Answer {
    Answer { status, told }
}

/// What a list calls the place to go on from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cursor {
    Cursor,
    After,
}

impl Cursor {
    fn name(self) -> &'static str {
        match self {
            Self::Cursor => "cursor",
            Self::After => "after",
        }
    }
}

impl Answer {
    /// The value, unless the worker refused.
    pub(crate) fn value(&self) -> Option<&Json> {
        self.told.outcome.as_ref().ok()
    }

    /// Marked as given before.
    pub(crate) fn replayed(mut self, is_replay: bool) -> Self {
        self.told.is_replay = is_replay;
        self
    }

    /// With the `Location` of what was created in `collection`.
    pub(crate) fn located(self, collection: &str) -> Response {
        self.respond(|known| Some((header::LOCATION, known.location(collection)?)))
    }

    /// With a `Link` to the next page (RFC 8288), if there is one.
    pub(crate) fn page(self, uri: &Uri, cursor: Cursor) -> Response {
        self.respond(|known| Some((header::LINK, known.link(uri, cursor)?)))
    }

    /// As 304 if the client has this version already.
    pub(crate) fn unless(self, known: Option<&TagList>) -> Response {
        let response = self.into_response();
        match (response.headers().get(header::ETAG), known) {
            (Some(tag), Some(known)) if tag.to_str().is_ok_and(|tag| known.has_weakly(tag)) => {
                let mut headers = HeaderMap::new();
                headers.insert(header::ETAG, tag.clone());
                headers.extend(revalidated());
                (StatusCode::NOT_MODIFIED, headers).into_response()
            }
            _ => response,
        }
    }
}

/// The answer is the caller's alone, and its next one may be another.
fn revalidated() -> [(Option<HeaderName>, HeaderValue); 1] {
    let value = HeaderValue::from_static("private, no-cache");
    [(Some(header::CACHE_CONTROL), value)]
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.respond(|_| None)
    }
}

impl Answer {
    /// The answer, with what `more` makes of its value.
    fn respond(
        self,
        more: impl FnOnce(&Known<'_>) -> Option<(HeaderName, HeaderValue)>,
    ) -> Response {
        let Self { status, told } = self;
        let mut response = match told.outcome {
            Ok(value) => {
                let known = Known::of(&value);
                let (tag, more) = (known.etag(&value), more(&known));
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
                    headers.extend(revalidated());
                }
                headers.extend(more.map(|(name, value)| (Some(name), value)));
                response
            }
            Err(failure) => Problem::from(failure).into_response(),
        };
        if told.is_replay {
            response
                .headers_mut()
                .insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// What headers say of a value; the rest of it is passed on as it came.
#[derive(Default, Deserialize)]
struct Known<'a> {
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

impl<'a> Known<'a> {
    fn of(value: &'a Json) -> Self {
        serde_json::from_str(value.text()).unwrap_or_default()
    }

    /// What can be named is tagged.
    fn etag(&self, value: &Json) -> Option<HeaderValue> {
        self.id.as_ref().or(self.sku.as_ref())?;
        HeaderValue::from_str(&etag::of_parts(
            self.version,
            self.stock.or(self.failing_since),
            value,
        ))
        .ok()
    }

    /// Where it is: by its id, or its sku.
    fn location(&self, collection: &str) -> Option<HeaderValue> {
        let name = self.id.as_ref().or(self.sku.as_ref())?;
        HeaderValue::from_str(&format!("{collection}/{name}")).ok()
    }

    /// The same question, from where this page ends.
    fn link(&self, Uri(uri): &Uri, cursor: Cursor) -> Option<HeaderValue> {
        let next = self.next_cursor.as_ref()?;
        let name = cursor.name();
        let query = uri.query().unwrap_or_default();
        let others = query.split('&').filter(|pair| {
            let key = pair.split('=').next().unwrap_or_default();
            !pair.is_empty() && key != "cursor" && key != name
        });
        let mut pairs: Vec<&str> = others.collect();
        // Cursors are made of letters and digits.
        let place = format!("{name}={next}");
        pairs.push(&place);
        let target = format!("<{}?{}>; rel=\"next\"", uri.path(), pairs.join("&"));
        HeaderValue::from_str(&target).ok()
    }
}
