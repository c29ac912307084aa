//! Errors over HTTP: `application/problem+json` (RFC 9457), written in one place.
//!
//! A handler returns a [`Problem`]; [`finish`] gives it its body, because only there the request's
//! id is known to everybody, and logs the request.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde_json::{Value, json};
use shared::{
    outcome::{Code, Failure},
    trace::Span,
};

use crate::{
    app::App,
    rate_limit::Allowance,
    request_id::{REQUEST_ID, RequestId},
    trace::{TRACEPARENT, Trace},
};

/// Asked every few seconds, by machines.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

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
        if self.failure.code == Code::Unauthenticated {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives problems their body, panics too, every response its `X-Request-Id`, and the log its line;
/// when the gateway is asked to stop, tells clients not to send the next request this way.
pub(crate) async fn finish(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_probe = PROBES.contains(&path.as_str());
    let is_options = method == Method::OPTIONS;
    let known_method = known(&method);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (trace, span) = if is_probe {
        (Trace::of(request.headers()), None)
    } else {
        let route = route.as_ref().map(MatchedPath::as_str);
        let (trace, span) = Trace::begin(&request, known_method, route);
        (trace, Some(span))
    };
    let allowance = Allowance::default();
    let mut request = request;
    let extensions = request.extensions_mut();
    extensions.insert(id.clone());
    extensions.insert(trace.clone());
    extensions.insert(Arc::clone(&allowance));

    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    // The panic itself is on standard error.
    let mut response = answered.unwrap_or_else(|_| {
        Problem::from(Failure::new(Code::Internal, "an unexpected error")).into_response()
    });
    // What a route takes is in `Allow` (RFC 9110, section 9.3.7).
    if is_options && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.extensions_mut().remove::<Problem>();
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
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
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(value) = trace.header() {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(left) = allowance.get() {
        left.tell(headers);
    }
    guard(headers);
    if app.stopping.is_cancelled() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    let trace_id = trace.id();
    let (status, took) = (response.status().as_u16(), started.elapsed());
    measure(known_method, route.as_ref(), status, took);
    if let Some(span) = span {
        note(span, &id, status);
    }
    let duration_ms = took.as_millis();
    if is_probe {
        tracing::debug!(request_id = id.as_str(), status, %method, path, "probe");
    } else if status >= 500 {
        tracing::warn!(
            request_id = id.as_str(),
            trace_id,
            status,
            duration_ms,
            "{method} {path} -> {status}"
        );
    } else {
        tracing::info!(
            request_id = id.as_str(),
            trace_id,
            status,
            duration_ms,
            "{method} {path} -> {status}"
        );
    }
    response
}

/// What nobody speaks is no method of its own.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What the trace tells of the answer.
fn note(mut span: Span, id: &RequestId, status: u16) {
    if !span.is_recording() {
        return;
    }
    span.note("request_id", id.as_str().to_owned());
    span.note("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.fail(status.to_string(), &"");
    }
}

/// Rate, errors and duration, by route: paths would be as many as there are orders.
fn measure(method: &'static str, route: Option<&MatchedPath>, status: u16, took: Duration) {
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let labels = [
        ("method", method.to_owned()),
        ("route", route),
        ("status", status.to_string()),
    ];
    metrics::histogram!("http_request_duration_seconds", &labels[..2]).record(took);
    metrics::counter!("http_requests_total", &labels).increment(1);
}

/// Says to browsers what an answer is not: a page, a script, anything to keep or to put elsewhere.
fn guard(headers: &mut HeaderMap) {
    let unless_said = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in unless_said {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
}
