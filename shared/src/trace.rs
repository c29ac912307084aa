//! Distributed tracing with OpenTelemetry (<https://opentelemetry.io/docs/specs/semconv/>).
//!
//! The trace context is passed as `traceparent` (<https://www.w3.org/TR/trace-context/>) from HTTP through
//! the broker into the rows of the steps, so that one trace covers an order from the request to the last
//! step, across processes and restarts.
//!
//! Spans are recorded only if an exporter is configured ([`start`]); otherwise the trace context is passed on
//! unchanged at no cost.

use std::{borrow::Cow, fmt::Display, sync::OnceLock};

use anyhow::Context;
pub use opentelemetry::trace::SpanKind;
use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId,
        TraceState, Tracer, TracerProvider,
    },
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider, Span as Recorded},
};
use url::Url;

use crate::config::Env;

/// Environment variable: endpoint of the OTLP exporter.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Environment variable: service name of this process.
const SERVICE_NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";
/// An unsampled trace context.
const UNSAMPLED_TRACEPARENT: &str = "00-00000000000000000000000000000001-0000000000000001-00";

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The running exporter, if one is configured; call [`end`](Tracing::end) to flush remaining spans.
#[must_use]
pub struct Tracing(Option<SdkTracerProvider>);

/// Starts exporting spans over OTLP (HTTP, protobuf) if `OTEL_EXPORTER_OTLP_ENDPOINT` is set, with `service`
/// as the default service name. OpenTelemetry's standard `OTEL_*` variables are honoured: headers, sampler,
/// resource attributes, batches.
///
/// # Errors
/// Names the variable that has an invalid value.
pub fn start(env: &Env, service: &'static str) -> anyhow::Result<Tracing> {
    check(env)?;
    let Some(endpoint) = env.text(ENDPOINT_VARIABLE) else {
        return Ok(Tracing(None));
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .build()
        .with_context(|| {
            format!("{ENDPOINT_VARIABLE}={endpoint:?}: can't create a trace exporter for this URL")
        })?;
    let name = env
        .text(SERVICE_NAME_VARIABLE)
        .unwrap_or_else(|| service.to_owned());
    let resource = Resource::builder().with_service_name(name);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    let scope = InstrumentationScope::builder(service)
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    let _ = TRACER.set(provider.tracer_with_scope(scope));
    Ok(Tracing(Some(provider)))
}

/// Checks the configuration of [`start`].
///
/// # Errors
/// Names the variable that has an invalid value.
pub fn check(env: &Env) -> anyhow::Result<()> {
    let Some(endpoint) = env.text(ENDPOINT_VARIABLE) else {
        return Ok(());
    };
    let url: Url = endpoint
        .parse()
        .with_context(|| format!("{ENDPOINT_VARIABLE}={endpoint:?} is not a URL"))?;
    anyhow::ensure!(
        matches!(url.scheme(), "http" | "https") && url.has_host(),
        "{ENDPOINT_VARIABLE}={endpoint:?}: must be an http or https URL with a host, such as http://127.0.0.1:4318"
    );
    Ok(())
}

impl Tracing {
    /// Flushes remaining spans, at most for the exporter's timeout.
    pub async fn end(self) {
        let Some(provider) = self.0 else { return };
        let result = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = result {
            tracing::warn!(%error, "exporting the last spans failed");
        }
    }
}

/// A span, or nothing if tracing is off; ends when dropped.
#[derive(Debug)]
pub struct Span(Option<Recorded>);

impl Span {
    /// Starts a span as a child of `parent`, or of a new trace. `name` and `attributes` are evaluated only if
    /// the span is recorded.
    pub fn start<const N: usize>(
        kind: SpanKind,
        parent: Option<&str>,
        name: impl FnOnce() -> String,
        attributes: impl FnOnce() -> [(&'static str, Value); N],
    ) -> Self {
        let recorded_span = TRACER.get().map(|tracer| {
            let parent_context = parent
                .and_then(span_context_of)
                .map_or_else(opentelemetry::Context::new, |context| {
                    opentelemetry::Context::new().with_remote_span_context(context)
                });
            let builder = SpanBuilder::from_name(name())
                .with_kind(kind)
                .with_attributes(attributes().map(|(key, value)| KeyValue::new(key, value)));
            tracer.build_with_context(builder, &parent_context)
        });
        Self(recorded_span)
    }

    /// Sets `traceparent` to this span, as the parent of further spans; unchanged if the span is not
    /// recorded.
    pub fn pass_on(&self, traceparent: &mut Option<String>) {
        if let Some(recorded_span) = &self.0 {
            *traceparent = Some(format_traceparent(recorded_span.span_context()));
        }
    }

    /// Whether the span is recorded.
    pub fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(Recorded::is_recording)
    }

    /// Sets an attribute.
    pub fn set_attribute(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(recorded_span) = &mut self.0 {
            recorded_span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Marks the span as failed by an error of this system, with `kind` as its `error.type`.
    pub fn record_error(&mut self, kind: impl Into<Cow<'static, str>>, error: &dyn Display) {
        if let Some(recorded_span) = &mut self.0 {
            recorded_span.set_attribute(KeyValue::new("error.type", kind.into()));
            recorded_span.set_status(Status::error(error.to_string()));
        }
    }
}

/// A producer span for message `id` to `queue`; not recorded without a parent.
pub fn producer_span(
    queue: &'static str,
    intent: &'static str,
    id: &str,
    parent: Option<&str>,
) -> Span {
    if parent.is_none() {
        return Span(None);
    }
    let name = || format!("send {queue}");
    let attributes = || messaging_attributes("send", "send", queue, intent, &id);
    Span::start(SpanKind::Producer, parent, name, attributes)
}

/// A consumer span for message `id` from `queue`.
pub fn consumer_span(
    queue: &'static str,
    intent: &'static str,
    id: &dyn Display,
    parent: Option<&str>,
) -> Span {
    let name = || format!("{intent} {queue}");
    let attributes = || messaging_attributes("process", intent, queue, intent, id);
    Span::start(SpanKind::Consumer, parent, name, attributes)
}

/// Attributes as in <https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/>.
fn messaging_attributes(
    operation_kind: &'static str,
    name: &'static str,
    queue: &'static str,
    intent: &'static str,
    id: &dyn Display,
) -> [(&'static str, Value); 7] {
    [
        ("messaging.system", "rabbitmq".into()),
        ("messaging.operation.type", operation_kind.into()),
        ("messaging.operation.name", name.into()),
        ("messaging.destination.name", queue.into()),
        ("messaging.rabbitmq.destination.routing_key", queue.into()),
        ("messaging.message.id", id.to_string().into()),
        ("intent", intent.into()),
    ]
}

/// A trace context that is not sampled, for background work.
pub fn unsampled_traceparent() -> String {
    UNSAMPLED_TRACEPARENT.to_owned()
}

fn format_traceparent(context: &SpanContext) -> String {
    let (trace_id, span_id) = (context.trace_id(), context.span_id());
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{trace_id}-{span_id}-{flags:02x}")
}

fn span_context_of(traceparent: &str) -> Option<SpanContext> {
    let (trace_id, span_id, flags) = parse(traceparent)?;
    Some(SpanContext::new(
        TraceId::from_hex(trace_id).ok()?,
        SpanId::from_hex(span_id).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    ))
}

/// The trace id of a `traceparent`, for logs.
pub fn trace_id_of(traceparent: &str) -> Option<&str> {
    traceparent.get(3..35)
}

/// Parses a `traceparent` into trace id, span id and flags.
pub fn parse(text: &str) -> Option<(&str, &str, &str)> {
    let mut traceparent_parts = text.split('-');
    let (version, trace_id, span_id, flags) = (
        traceparent_parts.next()?,
        traceparent_parts.next()?,
        traceparent_parts.next()?,
        traceparent_parts.next()?,
    );
    let is_hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_known_version = is_hex(version, 2)
        && version != "ff"
        // Later versions may append fields; version 00 must not.
        && (version != "00" || traceparent_parts.next().is_none());
    let is_well_formed = is_hex(trace_id, 32) && is_hex(span_id, 16) && is_hex(flags, 2);
    (is_known_version && is_well_formed && !is_zero(trace_id) && !is_zero(span_id))
        .then_some((trace_id, span_id, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_round_trips() {
        let sent_traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            format_traceparent(&span_context_of(sent_traceparent).unwrap()),
            sent_traceparent
        );
        assert!(
            !span_context_of(&unsampled_traceparent())
                .unwrap()
                .is_sampled()
        );
    }

    #[test]
    fn invalid_traceparent_is_ignored() {
        for invalid_traceparent in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-x",
        ] {
            assert!(
                parse(invalid_traceparent).is_none(),
                "{invalid_traceparent}"
            );
        }
    }

    #[test]
    fn unrecorded_span_passes_the_traceparent_on_unchanged() {
        let sent_traceparent =
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        let mut continued_traceparent = sent_traceparent.clone();
        let span = consumer_span(
            "queue",
            "order.get",
            &"id",
            continued_traceparent.as_deref(),
        );
        span.pass_on(&mut continued_traceparent);
        assert_eq!(continued_traceparent, sent_traceparent);
        assert!(!span.is_recording());
    }
}
