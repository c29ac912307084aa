//! Failed steps: operators redrive steps that are dead or will be retried, and discard dead ones.

use shared::{
    event::{EventData, Origin},
    order::EditRejectReason,
    outcome::Failure,
    request::Caller,
};

use super::{edit_order::reject_edit, labels::request_next_label};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    step::{Step, StepKey, StepRow},
    working_set::WorkingSet,
};

/// Redrives a step: retries it now, with a new set of attempts. It keeps its idempotency key at the provider,
/// so nothing is executed twice.
pub(super) fn redrive_step(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    key: &StepKey,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let (row, order) = failed_step(working_set, caller, key)?;
    if row.is_dead && key.step == Step::RefundPayment && order.is_paid_manually() {
        return Err(Failure::invalid_state(format!(
            "order {} was paid manually, so no step can refund it: pay the customer back, then record that with POST /v1/orders/{{id}}/refunds",
            order.id
        )));
    }
    let mut draft = OrderDraft::from_order(order, origin, context);
    let now = draft.context().now();
    if !row.is_dead && row.due_at <= now {
        // The attempt is running already.
        return Ok(draft.into_decision());
    }
    draft.record(EventData::StepRedriven {
        step: key.step.to_string(),
    })?;
    draft.put_step(StepRow {
        key: key.clone(),
        attempt: row.attempt + 1,
        failures: 0,
        due_at: now,
        is_dead: false,
        last_error: row.last_error.clone(),
        request_id: origin.request_id.clone(),
        trace_context: origin.trace_context.clone(),
        error_responses: row.error_responses,
        client_secret: row.client_secret.clone(),
    });
    Ok(draft.into_decision())
}

/// Discards a dead step that an operator has settled in another way. The amount that it was to capture or
/// refund is written off, so that no later step of the order requests it from the provider.
pub(super) fn discard_step(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    key: &StepKey,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let (row, order) = failed_step(working_set, caller, key)?;
    if !row.is_dead {
        return Err(not_found(key));
    }
    let mut draft = OrderDraft::from_order(order, origin, context);
    let amount = outstanding_amount(order, &key.step);
    draft.record(EventData::StepDiscarded {
        step: key.step.to_string(),
        amount: (amount > 0).then_some(amount),
    })?;
    draft.remove_step(key.step.clone());
    match &key.step {
        Step::CancelShipment(label) => request_next_label(&mut draft, working_set, label),
        Step::AuthorizeEdit(_) => reject_edit(&mut draft, EditRejectReason::Failed, None, None)?,
        _ => {}
    }
    Ok(draft.into_decision())
}

/// Amount that `step` has not captured or refunded yet, in minor units.
fn outstanding_amount(order: &Order, step: &Step) -> i64 {
    match step {
        Step::CapturePayment => order.outstanding_capture(),
        Step::RefundPayment => order.outstanding_refund(),
        // These steps capture and refund nothing.
        Step::AuthorizePayment
        | Step::VoidPayment
        | Step::CheckPayment
        | Step::AuthorizeEdit(_)
        | Step::VoidAuthorization(_) => 0,
        Step::ReserveStock
        | Step::RequestShipment(_)
        | Step::CancelShipment(_)
        | Step::ExpireOrder
        | Step::ExpireEdit(_) => 0,
    }
}

/// The step, if it is dead or will be retried.
fn failed_step<'a>(
    working_set: &'a WorkingSet,
    caller: &Caller,
    key: &StepKey,
) -> Result<(&'a StepRow, &'a Order), Failure> {
    caller.require_operator()?;
    let row = working_set.steps.get(key);
    row.filter(|row| row.is_dead || row.failures > 0)
        .zip(working_set.orders.get(&key.order_id))
        .ok_or_else(|| not_found(key))
}

fn not_found(key: &StepKey) -> Failure {
    Failure::not_found("failed step", format!("{}:{}", key.order_id, key.step))
}
