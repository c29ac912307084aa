//! A request in progress: its trace span, log line and metrics. Each request ends once, with its reply.

use std::time::Instant;

use serde_json::Value;
use shared::{
    amqp::{
        rpc_server::{CorrelationId, EntryReply, MessageIdentity, RpcRequest},
        topology::REQUEST_QUEUE,
    },
    order::GetOrder,
    outcome::{Failure, RpcReply},
    request::Caller,
    trace::{self, Span},
    trace_context::TraceContext,
};

use super::{catch_panic, request_metrics};

/// Replies of a task.
pub(super) struct TaskOutcome {
    pub(super) replies: Vec<EntryReply>,
    /// Lookups that still have to be read.
    pub(super) remaining_lookups: Vec<(RequestScope, GetOrder)>,
}

/// A request in progress.
pub(super) struct RequestScope {
    correlation_id: CorrelationId,
    pattern: &'static str,
    pub(super) caller: Caller,
    started_at: Instant,
    span: Span,
}

impl RequestScope {
    pub(super) fn begin(correlation_id: CorrelationId, request: &mut RpcRequest) -> Self {
        let pattern = request.request.pattern();
        let span = trace::consumer_span(
            REQUEST_QUEUE,
            pattern,
            &request.identity.as_ref().map_or("", MessageIdentity::key),
            request.caller.trace_context.as_ref(),
        );
        span.pass_on(&mut request.caller.trace_context);
        Self {
            correlation_id,
            pattern,
            caller: request.caller.clone(),
            started_at: Instant::now(),
            span,
        }
    }

    /// Ends the request: records it and returns its reply.
    pub(super) fn end(self, reply: RpcReply) -> EntryReply {
        let Self {
            correlation_id,
            pattern,
            caller,
            started_at,
            mut span,
        } = self;
        catch_panic(|| {
            record_in_span(&mut span, &caller, &reply);
            log_reply(pattern, &caller, &reply);
            let code = reply.outcome.as_ref().err().map(|failure| failure.code);
            request_metrics::record(pattern, code, started_at.elapsed());
        });
        EntryReply {
            correlation_id,
            reply,
        }
    }
}

/// Adds the result to the span.
fn record_in_span(span: &mut Span, caller: &Caller, reply: &RpcReply) {
    if !span.is_recording() {
        return;
    }
    span.set_attribute("request_id", caller.request_id.clone());
    match &reply.outcome {
        Ok(_) if reply.is_replay => span.set_attribute("idempotent_replayed", true),
        Ok(_) => {}
        Err(failure) if failure.http_status() >= 500 => {
            span.record_error(failure.code.to_string(), failure);
        }
        Err(failure) => span.set_attribute("error.type", failure.code.to_string()),
    }
}

/// Logs the result.
fn log_reply(pattern: &str, caller: &Caller, reply: &RpcReply) {
    let Caller {
        actor,
        intent,
        request_id,
        ..
    } = caller;
    let trace_id = caller.trace_context.as_ref().map(TraceContext::trace_id);
    match &reply.outcome {
        // Evaluated only if it is logged.
        Ok(_) if !tracing::enabled!(tracing::Level::INFO) => {}
        // Every gateway sends them all the time.
        Ok(_) if matches!(pattern, "api_key.list_active" | "api_key.record_use") => {
            tracing::debug!(
                pattern,
                intent,
                request_id,
                actor,
                "answered a request that a gateway made for itself"
            );
        }
        Ok(reply_body) => {
            let reply_json = reply_body.value();
            let resource_id = reply_json.get("id").and_then(Value::as_str);
            let (order_id, resource_id) = match pattern.split_once('.') {
                Some(("order" | "shipment", _)) => (resource_id, None),
                _ => (None, resource_id),
            };
            let number_text = reply_json
                .get("number")
                .map(|resource_number| format!(" #{resource_number}"))
                .unwrap_or_default();
            tracing::info!(
                order.id = order_id,
                id = resource_id,
                intent,
                request_id,
                trace_id,
                actor,
                "{pattern}{number_text}"
            );
        }
        Err(Failure { code, message, .. }) => {
            tracing::info!(
                intent,
                request_id,
                trace_id,
                actor,
                %code,
                "{pattern} failed: {message}"
            );
        }
    }
}
