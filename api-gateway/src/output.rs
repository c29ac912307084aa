//! What goes out: the worker's answer with the headers that HTTP has for it.

use std::borrow::Cow;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::outcome::{Json, Told};

use crate::problem::Problem;

/// Says that this answer was given before.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Answers with `status` and the value, or with the failure.
pub(crate) fn answer(status: StatusCode, told: Told) -> Response {
    let is_replay = told.is_replay;
    let mut response = match told.outcome {
        Ok(_) if status == StatusCode::NO_CONTENT => status.into_response(),
        Ok(value) => {
            let tag = Known::of(&value).etag();
            let content_type = HeaderValue::from_static("application/json");
            let body = value.text().to_owned();
            let mut response =
                (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
            if let Some(tag) = tag {
                response.headers_mut().insert(header::ETAG, tag);
            }
            response
        }
        Err(failure) => Problem::from(failure).into_response(),
    };
    if is_replay {
        response
            .headers_mut()
            .insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Answers 201 with the `Location` of what was created in `collection`.
pub(crate) fn created(collection: &str, told: Told) -> Response {
    let value = told.outcome.as_ref().ok();
    let location = value.and_then(|value| Known::of(value).location(collection));
    let mut response = answer(StatusCode::CREATED, told);
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Answers 200, or 304 if the client has this version already.
pub(crate) fn conditional(headers: &HeaderMap, told: Told) -> Response {
    let response = answer(StatusCode::OK, told);
    match (
        response.headers().get(header::ETAG),
        headers.get(header::IF_NONE_MATCH),
    ) {
        (Some(tag), Some(known)) if matches(known, tag) => {
            (StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response()
        }
        _ => response,
    }
}

/// `If-None-Match` compares weakly (RFC 9110, section 13.1.2).
fn matches(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else {
        return false;
    };
    known
        .split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// What headers say of a value; the rest of it is passed on as it came.
#[derive(Default, Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sku: Option<Cow<'a, str>>,
    version: Option<u64>,
}

impl<'a> Known<'a> {
    fn of(value: &'a Json) -> Self {
        serde_json::from_str(value.text()).unwrap_or_default()
    }

    /// What has a version is tagged with it.
    fn etag(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("\"{}\"", self.version?)).ok()
    }

    /// Where it is: by its id, or its sku.
    fn location(&self, collection: &str) -> Option<HeaderValue> {
        let name = self.id.as_ref().or(self.sku.as_ref())?;
        HeaderValue::from_str(&format!("{collection}/{name}")).ok()
    }
}
