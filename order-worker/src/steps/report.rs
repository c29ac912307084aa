//! Trace, logs and metrics of a step.

use jiff::Timestamp;
use shared::trace::{self, Span};

use crate::{
    domain::{
        command::StepResult,
        step::{StepKey, StepRow},
    },
    stats::Latencies,
};

/// Result of an attempt, as used in metrics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Failed,
    PutOff,
}

impl Ending {
    pub(super) fn of(result: &StepResult) -> Self {
        match result {
            StepResult::Failed { .. } => Self::Failed,
            StepResult::PutOff { .. } => Self::PutOff,
            StepResult::Prepared { .. }
            | StepResult::ActionRequired(_)
            | StepResult::Stands(_)
            | StepResult::Authorized { .. }
            | StepResult::Declined { .. }
            | StepResult::Captured { .. }
            | StepResult::Voided { .. }
            | StepResult::Refunded { .. }
            | StepResult::Announced { .. }
            | StepResult::Withdrawn
            | StepResult::TimeIsUp => Self::Done,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::PutOff => "put_off",
        }
    }
}

/// Records an attempt whose result is stored.
pub(super) fn measure(row: &StepRow, ending: Ending, latencies: &Latencies) {
    let (step, outcome) = (row.key.step.kind(), ending.as_str());
    latencies.record(step, row.due_at, ending != Ending::Done);
    let took = Timestamp::now().duration_since(row.due_at).as_secs_f64();
    metrics::counter!("step_attempts_total", "step" => step, "outcome" => outcome).increment(1);
    metrics::histogram!("step_duration_seconds", "step" => step).record(took.max(0.0));
}

/// Adds the result to the span.
pub(super) fn note(span: &mut Span, row: &StepRow, result: &StepResult) {
    if !span.is_recording() {
        return;
    }
    span.note("order.id", row.key.order_id.to_string());
    span.note("request_id", row.request_id.clone());
    span.note("step.attempt", i64::from(row.attempt));
    if let StepResult::Failed {
        error,
        is_transient,
        ..
    } = result
    {
        let kind = if *is_transient { "transient" } else { "final" };
        span.fail(kind, error);
    }
    if let StepResult::PutOff { why } = result {
        span.fail("put_off", why);
    }
}

/// Logs the result.
pub(super) fn tell(row: &StepRow, number: i64, result: &StepResult) {
    let StepKey { order_id, step } = &row.key;
    let intent = step.kind();
    let request_id = row.request_id.as_str();
    let trace_id = row.traceparent.as_deref().and_then(trace::id);
    match result {
        StepResult::Failed { error, .. } => {
            tracing::warn!(
                order.id = %order_id,
                intent,
                request_id,
                trace_id,
                attempt = row.attempt,
                error,
                "order #{number}: {step} failed"
            );
        }
        other => {
            let ended = match Ending::of(other) {
                Ending::PutOff => "put off",
                Ending::Done | Ending::Failed => "done",
            };
            tracing::info!(
                order.id = %order_id,
                intent,
                request_id,
                trace_id,
                attempt = row.attempt,
                result = other.name(),
                "order #{number}: {step} {ended}"
            );
        }
    }
}
