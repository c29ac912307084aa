//! Errors over HTTP: `application/problem+json` (RFC 9457), written in one place.
//!
//! A handler returns a [`Problem`]; [`finish`] gives it its body, because only there the request's
//! id is known to everybody, and logs the request.

use std::time::Instant;

use axum::{
    Json,
    extract::{MatchedPath, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::outcome::{Code, Failure};

use crate::request_id::{REQUEST_ID, RequestId};

/// A failure on its way to the client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    failure: Failure,
    /// Where HTTP knows better than the code: 405, 415.
    status: Option<StatusCode>,
}

impl Problem {
    /// A failure with a status of HTTP's own.
    pub(crate) fn with_status(failure: Failure, status: StatusCode) -> Self {
        Self {
            failure,
            status: Some(status),
        }
    }

    fn status(&self) -> StatusCode {
        self.status
            .or_else(|| StatusCode::from_u16(self.failure.http_status()).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn body(&self, request_id: &str) -> Value {
        let status = self.status();
        let mut body = match &self.failure.details {
            // `errors`, `skus`… stand beside the members that RFC 9457 names.
            Value::Object(details) => details.clone(),
            _ => serde_json::Map::new(),
        };
        body.insert("type".to_owned(), json!("about:blank"));
        body.insert("title".to_owned(), json!(status.canonical_reason()));
        body.insert("status".to_owned(), json!(status.as_u16()));
        body.insert("detail".to_owned(), json!(self.failure.message));
        body.insert("code".to_owned(), json!(self.failure.code));
        body.insert("request_id".to_owned(), json!(request_id));
        Value::Object(body)
    }

    /// In seconds, where waiting helps.
    fn retry_after(&self) -> Option<u64> {
        match self.failure.code {
            Code::Unavailable | Code::RateLimited => Some(
                self.failure
                    .details
                    .get("retry_after_seconds")
                    .and_then(Value::as_u64)
                    .unwrap_or(1),
            ),
            _ => None,
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            status: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives problems their body, every response its `X-Request-Id`, and the log its line.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_probe = request
        .extensions()
        .get::<MatchedPath>()
        .is_some_and(|path| path.as_str().ends_with('z'));
    let mut request = request;
    request.extensions_mut().insert(id.clone());

    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut described = (problem.status(), Json(problem.body(id.as_str()))).into_response();
        // What the handler said besides, such as `Allow`.
        for (name, value) in response.headers() {
            if *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE {
                described.headers_mut().insert(name, value.clone());
            }
        }
        let headers = described.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = problem.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response = described;
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, duration_ms) = (response.status().as_u16(), started.elapsed().as_millis());
    if is_probe {
        tracing::debug!(request_id = id.as_str(), status, %method, path, "probe");
    } else if status >= 500 {
        tracing::warn!(
            request_id = id.as_str(),
            status,
            duration_ms,
            "{method} {path} -> {status}"
        );
    } else {
        tracing::info!(
            request_id = id.as_str(),
            status,
            duration_ms,
            "{method} {path} -> {status}"
        );
    }
    response
}

/// What the panic handler answers; the panic itself is on standard error.
pub(crate) fn on_panic(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    Problem::from(Failure::new(Code::Internal, "an unexpected error")).into_response()
}
