//! Trace, logs and metrics of an attempt of a step.

use jiff::Timestamp;
use shared::{trace::Span, trace_context::TraceContext};

use crate::{
    background::stats::Latencies,
    domain::{
        command::StepResult,
        step::{StepKey, StepRow},
    },
};

/// Result of an attempt, as used in metrics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptOutcome {
    Done,
    Failed,
    Postponed,
}

impl AttemptOutcome {
    pub(super) fn of(result: &StepResult) -> Self {
        match result {
            StepResult::Failed { .. } => Self::Failed,
            StepResult::Postponed { .. } => Self::Postponed,
            StepResult::PaymentCreated { .. }
            | StepResult::ActionRequired(_)
            | StepResult::PaymentState(_)
            | StepResult::Authorized { .. }
            | StepResult::Declined { .. }
            | StepResult::Captured { .. }
            | StepResult::Voided { .. }
            | StepResult::Refunded { .. }
            | StepResult::LabelCreated(_)
            | StepResult::LabelCancelled
            | StepResult::NoExternalCall => Self::Done,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Postponed => "put_off",
        }
    }
}

/// Records an attempt whose result is stored.
pub(super) fn record_metrics(row: &StepRow, outcome: AttemptOutcome, latencies: &Latencies) {
    let step_kind = row.key.step.kind();
    latencies.record(step_kind, row.due_at, outcome != AttemptOutcome::Done);
    let latency_seconds = Timestamp::now().duration_since(row.due_at).as_secs_f64();
    metrics::counter!("step_attempts_total", "step" => step_kind, "outcome" => outcome.as_str())
        .increment(1);
    metrics::histogram!("step_duration_seconds", "step" => step_kind)
        .record(latency_seconds.max(0.0));
}

/// Adds the result to the span.
pub(super) fn record_in_span(span: &mut Span, row: &StepRow, result: &StepResult) {
    if !span.is_recording() {
        return;
    }
    span.set_attribute("order.id", row.key.order_id.to_string());
    span.set_attribute("request_id", row.request_id.clone());
    span.set_attribute("step.attempt", i64::from(row.attempt));
    if let StepResult::Failed {
        error,
        is_transient,
        ..
    } = result
    {
        let error_kind = if *is_transient { "transient" } else { "final" };
        span.record_error(error_kind, error);
    }
    if let StepResult::Postponed { reason } = result {
        span.record_error("put_off", reason);
    }
}

/// Logs the result.
pub(super) fn log_result(row: &StepRow, order_number: i64, result: &StepResult) {
    let StepKey { order_id, step } = &row.key;
    let intent = step.kind();
    let request_id = row.request_id.as_str();
    let trace_id = row.trace_context.as_ref().map(TraceContext::trace_id);
    match result {
        StepResult::Failed { error, .. } => {
            tracing::warn!(
                order.id = %order_id,
                intent,
                request_id,
                trace_id,
                attempt = row.attempt,
                error,
                "order #{order_number}: step {step} failed"
            );
        }
        other_result => {
            let outcome_text = match AttemptOutcome::of(other_result) {
                AttemptOutcome::Postponed => "postponed",
                AttemptOutcome::Done | AttemptOutcome::Failed => "done",
            };
            tracing::info!(
                order.id = %order_id,
                intent,
                request_id,
                trace_id,
                attempt = row.attempt,
                result = other_result.name(),
                "order #{order_number}: step {step} {outcome_text}"
            );
        }
    }
}
