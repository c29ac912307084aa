//! The trace context of a request (<https://www.w3.org/TR/trace-context/>).
//!
//! The gateway continues the trace of the client's `traceparent` and `tracestate` or starts a new one, and sends its
//! own span to the worker as parent. [`shared::trace`] exports recorded spans.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use shared::{
    trace::{Span, SpanKind},
    trace_context::TraceContext,
};
use uuid::Uuid;

/// The header's name.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Name of the header with the data of tracing systems.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace context of this gateway's span.
#[derive(Debug, Clone)]
pub(crate) struct Trace(TraceContext);

impl Trace {
    /// A new span id in the client's trace, or in a new trace.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        Self::new_span(client_context(headers))
    }

    fn new_span(parent: Option<TraceContext>) -> Self {
        // The second half of a random UUID. Its variant bits make sure that it is not zero, which is invalid.
        let span_id = Uuid::new_v4().as_u64_pair().1;
        let context = match parent {
            Some(parent) => parent.with_span(span_id),
            None => TraceContext::new(Uuid::new_v4().as_u128(), span_id),
        };
        Self(context.unwrap_or_else(TraceContext::unsampled))
    }

    /// Starts the request's server span and returns its trace context.
    /// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server>
    pub(crate) fn start_span(
        request: &Request,
        method: &'static str,
        route: Option<&str>,
    ) -> (Self, Span) {
        let parent = client_context(request.headers());
        let path = request.uri().path();
        let span_name =
            || route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        let attributes = || {
            [
                ("http.request.method", method.into()),
                ("url.path", path.to_owned().into()),
                ("url.scheme", "http".into()),
                ("http.route", route.unwrap_or_default().to_owned().into()),
            ]
        };
        let span = Span::start(SpanKind::Server, parent.as_ref(), span_name, attributes);
        let recorded_trace = span.context(parent.as_ref()).map(Self);
        (
            recorded_trace.unwrap_or_else(|| Self::new_span(parent)),
            span,
        )
    }

    /// The trace context, for the worker.
    pub(crate) fn context(&self) -> &TraceContext {
        &self.0
    }

    /// The trace id, for logs.
    pub(crate) fn id(&self) -> &str {
        self.0.trace_id()
    }

    pub(crate) fn traceparent_header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(self.0.traceparent()).ok()
    }
}

/// The client's trace context. A repeated `traceparent` is ignored; `tracestate` may be spread over several headers.
fn client_context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut traceparents = headers.get_all(TRACEPARENT).into_iter();
    let traceparent = traceparents.next()?.to_str().ok()?;
    if traceparents.next().is_some() {
        return None;
    }
    let tracestates = headers.get_all(TRACESTATE).into_iter();
    // An unreadable header makes all of them invalid.
    let tracestates: Result<Vec<_>, _> = tracestates.map(HeaderValue::to_str).collect();
    let tracestate = tracestates.map(|values| values.join(",")).ok();
    TraceContext::parse(traceparent, tracestate.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT_TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn headers(headers: &[(HeaderName, &str)]) -> HeaderMap {
        let mut header_map = HeaderMap::new();
        for (name, value) in headers {
            header_map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        header_map
    }

    #[test]
    fn trace_of_the_client_is_continued_in_a_new_span() {
        let headers = headers(&[
            (TRACEPARENT, SENT_TRACEPARENT),
            (TRACESTATE, "a=1"),
            (TRACESTATE, "b=2, c=3"),
        ]);
        let trace = Trace::from_headers(&headers);
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(trace.context().traceparent(), SENT_TRACEPARENT);
        assert_eq!(trace.context().tracestate(), Some("a=1,b=2,c=3"));
    }

    #[test]
    fn missing_or_repeated_traceparent_starts_a_new_trace() {
        for headers in [
            headers(&[(TRACESTATE, "a=1")]),
            headers(&[
                (TRACEPARENT, SENT_TRACEPARENT),
                (TRACEPARENT, SENT_TRACEPARENT),
                (TRACESTATE, "a=1"),
            ]),
        ] {
            let trace = Trace::from_headers(&headers);
            assert_ne!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_eq!(trace.context().tracestate(), None);
        }
    }

    #[test]
    fn unreadable_tracestate_is_ignored() {
        let headers = headers(&[
            (TRACEPARENT, SENT_TRACEPARENT),
            (TRACESTATE, "a=1"),
            (TRACESTATE, "b=ü"),
        ]);
        let trace = Trace::from_headers(&headers);
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.context().tracestate(), None);
    }
}
