//! Failed steps: operators redrive them, or discard dead ones.

use shared::{
    event::{EventData, Origin},
    outcome::Failure,
    request::Caller,
};

use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    step::{Step, StepKey, StepRow},
    working_set::WorkingSet,
};

/// Redrives a step: retries it now, with a new set of attempts. It keeps its idempotency key at the partner, so
/// nothing is executed twice.
pub(super) fn redrive_step(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    key: &StepKey,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let (row, order) = failed(world, caller, key)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    let due_at = draft.stamp().now();
    if !row.is_dead && row.due_at <= due_at {
        // It is running already.
        return Ok(draft.decide());
    }
    draft.record(EventData::StepRedriven {
        step: key.step.to_string(),
    })?;
    draft.put(StepRow {
        key: key.clone(),
        attempt: row.attempt + 1,
        failures: 0,
        due_at,
        is_dead: false,
        last_error: row.last_error.clone(),
        request_id: origin.request_id.clone(),
        traceparent: origin.traceparent.clone(),
        answered: row.answered,
        client_secret: row.client_secret.clone(),
    });
    Ok(draft.decide())
}

/// Discards the step: an operator has settled by other means what it was for. The amount that it was to
/// capture or refund is written off, so that no later step of the order asks the provider for it.
pub(super) fn discard_step(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    key: &StepKey,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let (row, order) = failed(world, caller, key)?;
    if !row.is_dead {
        return Err(not_found(key));
    }
    let mut draft = OrderDraft::of(order, origin, stamp);
    let amount = outstanding(order, &key.step);
    draft.record(EventData::StepDiscarded {
        step: key.step.to_string(),
        amount: (amount > 0).then_some(amount),
    })?;
    draft.drop_step(key.step.clone());
    Ok(draft.decide())
}

/// Minor units that `step` was still to move.
fn outstanding(order: &Order, step: &Step) -> i64 {
    match step {
        Step::CapturePayment => order.capture_outstanding(),
        Step::RefundPayment => order.refund_due - order.payment.refunded,
        // They hold money, release it or look at it: no amount is due through them.
        Step::AuthorizePayment | Step::VoidPayment | Step::CheckPayment => 0,
        Step::ReserveStock
        | Step::RequestShipment(_)
        | Step::CancelShipment(_)
        | Step::ExpireOrder => 0,
    }
}

/// The step, dead or to be tried again.
fn failed<'a>(
    world: &'a WorkingSet,
    caller: &Caller,
    key: &StepKey,
) -> Result<(&'a StepRow, &'a Order), Failure> {
    caller.require_operator()?;
    let row = world.steps.get(key);
    row.filter(|row| row.is_dead || row.failures > 0)
        .zip(world.orders.get(&key.order_id))
        .ok_or_else(|| not_found(key))
}

fn not_found(key: &StepKey) -> Failure {
    Failure::not_found("failed step", format!("{}:{}", key.order_id, key.step))
}
