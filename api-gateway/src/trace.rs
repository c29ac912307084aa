//! The trace context of a request (<https://www.w3.org/TR/trace-context/>).
//!
//! The gateway continues the trace of the client's `traceparent` or starts a new one, and sends its own span
//! to the worker as parent. [`shared::trace`] exports recorded spans.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use shared::trace::{self, Span, SpanKind, parse};
use uuid::Uuid;

/// The header's name.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The `traceparent` of this gateway's span.
#[derive(Debug, Clone)]
pub(crate) struct Trace(String);

impl Trace {
    /// A new span id in the client's trace, or in a new trace.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let parent_context = traceparent_header(headers).and_then(parse);
        // The second half of a random UUID. Its variant bits make sure that it is not zero, which is invalid.
        let span = Uuid::new_v4().as_u64_pair().1;
        match parent_context {
            Some((trace, _, flags)) => Self(format!("00-{trace}-{span:016x}-{flags}")),
            None => Self(format!("00-{}-{span:016x}-01", Uuid::new_v4().simple())),
        }
    }

    /// Starts the request's server span and returns its trace context.
    /// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server>
    pub(crate) fn start_span(
        request: &Request,
        method: &'static str,
        route: Option<&str>,
    ) -> (Self, Span) {
        let headers = request.headers();
        let path = request.uri().path();
        let name = || route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        let attributes = || {
            [
                ("http.request.method", method.into()),
                ("url.path", path.to_owned().into()),
                ("url.scheme", "http".into()),
                ("http.route", route.unwrap_or_default().to_owned().into()),
            ]
        };
        let span = Span::start(
            SpanKind::Server,
            traceparent_header(headers),
            name,
            attributes,
        );
        let mut traceparent = None;
        span.pass_on(&mut traceparent);
        (
            traceparent.map_or_else(|| Self::from_headers(headers), Self),
            span,
        )
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace id, for logs.
    pub(crate) fn id(&self) -> &str {
        trace::trace_id_of(&self.0).unwrap_or_default()
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

/// The client's `traceparent`.
fn traceparent_header(headers: &HeaderMap) -> Option<&str> {
    headers.get(TRACEPARENT)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_of_the_client_is_continued_in_a_new_span() {
        let sent_traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let headers = HeaderMap::from_iter([(TRACEPARENT, sent_traceparent.parse().unwrap())]);
        let trace = Trace::from_headers(&headers);
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(trace.as_str(), sent_traceparent);
        assert!(parse(trace.as_str()).is_some());
    }

    #[test]
    fn missing_traceparent_starts_a_new_trace() {
        assert!(parse(Trace::from_headers(&HeaderMap::new()).as_str()).is_some());
    }
}
