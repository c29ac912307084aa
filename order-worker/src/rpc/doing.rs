//! Requests that are being carried out, and what traces, logs and figures tell of how they end.

use std::time::Instant;

use serde_json::Value;
use shared::{
    amqp::{
        rpc_server::{Answered, Asked, Identity, Whose},
        topology::REQUEST_QUEUE,
    },
    order::GetOrder,
    outcome::{Failure, Told},
    request::Caller,
    trace::{self, Span},
};

use super::{figures, harmless};

/// What came of an errand.
pub(super) struct Done {
    pub(super) answered: Vec<Answered>,
    /// Orders that are still to be looked up.
    pub(super) left: Vec<(Doing, GetOrder)>,
}

/// A request that is being carried out.
pub(super) struct Doing {
    whose: Whose,
    pattern: &'static str,
    pub(super) caller: Caller,
    began: Instant,
    span: Span,
}

impl Doing {
    pub(super) fn begin(whose: Whose, asked: &mut Asked) -> Self {
        let pattern = asked.request.pattern();
        let span = trace::processing(
            REQUEST_QUEUE,
            pattern,
            &asked.identity.as_ref().map_or("", Identity::name),
            asked.caller.traceparent.as_deref(),
        );
        span.pass_on(&mut asked.caller.traceparent);
        Self {
            whose,
            pattern,
            caller: asked.caller.clone(),
            began: Instant::now(),
            span,
        }
    }

    /// What its caller is told, after everybody else.
    pub(super) fn end(self, told: Told) -> Answered {
        let Self {
            whose,
            pattern,
            caller,
            began,
            mut span,
        } = self;
        harmless(|| {
            note(&mut span, &caller, &told);
            tell(pattern, &caller, &told);
            let code = told.outcome.as_ref().err().map(|failure| failure.code);
            figures::note(pattern, code, began.elapsed());
        });
        Answered { whose, told }
    }
}

/// What the trace tells of it.
fn note(span: &mut Span, caller: &Caller, told: &Told) {
    if !span.is_recording() {
        return;
    }
    span.note("request_id", caller.request_id.clone());
    match &told.outcome {
        Ok(_) if told.is_replay => span.note("idempotent_replayed", true),
        Ok(_) => {}
        Err(failure) if failure.http_status() >= 500 => {
            span.fail(failure.code.to_string(), failure);
        }
        Err(failure) => span.note("error.type", failure.code.to_string()),
    }
}

/// One line of the story.
fn tell(pattern: &str, caller: &Caller, told: &Told) {
    let Caller {
        actor,
        intent,
        request_id,
        ..
    } = caller;
    let trace_id = caller.traceparent.as_deref().and_then(trace::id);
    match &told.outcome {
        // It is looked into only for those who read it.
        Ok(_) if !tracing::enabled!(tracing::Level::INFO) => {}
        Ok(json) => {
            let value = json.value();
            let id = value.get("id").and_then(Value::as_str);
            let (order_id, id) = match pattern.split_once('.') {
                Some(("order" | "shipment", _)) => (id, None),
                _ => (None, id),
            };
            let subject = value
                .get("number")
                .map(|number| format!(" #{number}"))
                .unwrap_or_default();
            tracing::info!(
                order.id = order_id,
                id,
                intent,
                request_id,
                trace_id,
                actor,
                "{pattern}{subject}"
            );
        }
        Err(Failure { code, message, .. }) => {
            tracing::info!(
                intent,
                request_id,
                trace_id,
                actor,
                %code,
                "{pattern} refused: {message}"
            );
        }
    }
}
