//! What goes out: the worker's answer with the headers that HTTP has for it.

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use shared::outcome::Told;

use crate::problem::Problem;

/// Says that this answer was given before.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Answers with `status` and the value, or with the failure.
pub(crate) fn answer(status: StatusCode, told: Told) -> Response {
    let is_replay = told.is_replay;
    let mut response = match told.outcome {
        Ok(_) if status == StatusCode::NO_CONTENT => status.into_response(),
        Ok(value) => {
            let tag = etag(&value);
            let mut response = (status, Json(value)).into_response();
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

/// Answers 201 with the `Location` of what was created: `collection` and its `name`.
pub(crate) fn created(collection: &str, name: &str, told: Told) -> Response {
    let id = told
        .outcome
        .as_ref()
        .ok()
        .and_then(|value| value.get(name))
        .and_then(Value::as_str);
    let location = id.and_then(|id| HeaderValue::from_str(&format!("{collection}/{id}")).ok());
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

/// What has a version is tagged with it.
fn etag(value: &Value) -> Option<HeaderValue> {
    let version = value.get("version")?.as_u64()?;
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}
