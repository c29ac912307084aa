//! HTTP errors as `application/problem+json` (RFC 9457).
//!
//! A handler returns a [`Problem`], usually from a [`Failure`]. [`crate::middleware`] writes its body, which
//! contains the request id. The error code decides the HTTP status.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::outcome::{Code, Failure};

/// A failure to report to the client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    failure: Failure,
    /// An HTTP status that is more specific than the error code's, such as 405 or 415.
    status: Option<StatusCode>,
}

impl Problem {
    /// A failure with a specific HTTP status.
    pub(crate) fn with_status(failure: Failure, status: StatusCode) -> Self {
        Self {
            failure,
            status: Some(status),
        }
    }

    /// The complete response: body, status, and the headers of `response`.
    pub(crate) fn complete_response(&self, response: &Response, request_id: &str) -> Response {
        let mut response_of_problem = (self.status(), Json(self.body(request_id))).into_response();
        // Keeps headers set by the handler, such as `Allow`.
        for (name, value) in response.headers() {
            if *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE {
                response_of_problem
                    .headers_mut()
                    .insert(name, value.clone());
            }
        }
        let headers = response_of_problem.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response_of_problem
    }

    fn status(&self) -> StatusCode {
        self.status
            .or_else(|| StatusCode::from_u16(self.failure.http_status()).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn body(&self, request_id: &str) -> Value {
        let status = self.status();
        let mut body = match &self.failure.details {
            // Details such as `errors` and `skus` become extension members (RFC 9457, section 3.2).
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

    /// Seconds to wait before a retry; `None` if a retry does not help.
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
        if self.failure.code == Code::Unauthenticated {
            let bearer_challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer_challenge);
        }
        response.extensions_mut().insert(self);
        response
    }
}
