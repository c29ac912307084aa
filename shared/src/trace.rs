//! Distributed tracing with OpenTelemetry (<https://opentelemetry.io/docs/specs/semconv/>).
//!
//! The [trace context](crate::trace_context) is passed on from HTTP through the broker into the rows of the steps
//! and events, so that one trace covers an order from the request to the last step, across processes and restarts.
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
        Tracer, TracerProvider,
    },
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider, Span as Recorded},
};
use url::Url;

use crate::{config::Env, trace_context::TraceContext};

/// Environment variable: endpoint of the OTLP exporter.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Environment variable: service name of this process.
const SERVICE_NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";

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
    let service_name = env
        .text(SERVICE_NAME_VARIABLE)
        .unwrap_or_else(|| service.to_owned());
    let resource = Resource::builder().with_service_name(service_name);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    let instrumentation_scope = InstrumentationScope::builder(service)
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    let _ = TRACER.set(provider.tracer_with_scope(instrumentation_scope));
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
        let shutdown_result = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = shutdown_result {
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
        parent: Option<&TraceContext>,
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

    /// Replaces the `parent` of this span with the span itself, as the parent of further spans; unchanged if the
    /// span is not recorded.
    pub fn pass_on(&self, parent: &mut Option<TraceContext>) {
        if let Some(context) = self.context(parent.as_ref()) {
            *parent = Some(context);
        }
    }

    /// The trace context of this span, which is a child of `parent`; `None` if the span is not recorded.
    pub fn context(&self, parent: Option<&TraceContext>) -> Option<TraceContext> {
        let span_context = self.0.as_ref()?.span_context();
        let (trace_id, span_id) = (span_context.trace_id(), span_context.span_id());
        let flags = span_context.trace_flags() & TraceFlags::SAMPLED;
        let tracestate = parent.and_then(TraceContext::tracestate);
        TraceContext::parse(&format!("00-{trace_id}-{span_id}-{flags:02x}"), tracestate)
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

/// A producer span for message `message_id` to `queue`; not recorded without a parent.
pub fn producer_span(
    queue: &'static str,
    intent: &'static str,
    message_id: &str,
    parent: Option<&TraceContext>,
) -> Span {
    if parent.is_none() {
        return Span(None);
    }
    let name = || format!("send {queue}");
    let attributes = || messaging_attributes("send", "send", queue, intent, &message_id);
    Span::start(SpanKind::Producer, parent, name, attributes)
}

/// A consumer span for message `message_id` from `queue`.
pub fn consumer_span(
    queue: &'static str,
    intent: &'static str,
    message_id: &dyn Display,
    parent: Option<&TraceContext>,
) -> Span {
    let name = || format!("{intent} {queue}");
    let attributes = || messaging_attributes("process", intent, queue, intent, message_id);
    Span::start(SpanKind::Consumer, parent, name, attributes)
}

/// Attributes as in <https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/>.
fn messaging_attributes(
    operation_kind: &'static str,
    operation_name: &'static str,
    queue: &'static str,
    intent: &'static str,
    message_id: &dyn Display,
) -> [(&'static str, Value); 7] {
    [
        ("messaging.system", "rabbitmq".into()),
        ("messaging.operation.type", operation_kind.into()),
        ("messaging.operation.name", operation_name.into()),
        ("messaging.destination.name", queue.into()),
        ("messaging.rabbitmq.destination.routing_key", queue.into()),
        ("messaging.message.id", message_id.to_string().into()),
        ("intent", intent.into()),
    ]
}

fn span_context_of(context: &TraceContext) -> Option<SpanContext> {
    let (trace_id, span_id, flags) = context.parts()?;
    let tracestate = context.tracestate().map(str::parse);
    Some(SpanContext::new(
        TraceId::from_hex(trace_id).ok()?,
        SpanId::from_hex(span_id).ok()?,
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
        true,
        // OpenTelemetry refuses a few keys that the specification allows.
        tracestate.transpose().ok().flatten().unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn spans_have_the_context_of_their_parent() {
        let context = TraceContext::parse(TRACEPARENT, Some("a=1,b=2")).unwrap();
        let span_context = span_context_of(&context).unwrap();
        assert_eq!(
            span_context.trace_id().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(span_context.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(span_context.trace_state().header(), "a=1,b=2");
        assert!(span_context.is_sampled());
        let unsampled_context = span_context_of(&TraceContext::unsampled()).unwrap();
        assert!(!unsampled_context.is_sampled());
    }

    #[test]
    fn unrecorded_span_passes_the_context_on_unchanged() {
        let sent_context = TraceContext::parse(TRACEPARENT, Some("a=1"));
        let mut continued_context = sent_context.clone();
        let span = consumer_span("queue", "order.get", &"id", continued_context.as_ref());
        span.pass_on(&mut continued_context);
        assert_eq!(continued_context, sent_context);
        assert!(!span.is_recording());
    }
}
