//! Approval: with `ORDER_APPROVAL=manual` an order reserves its stock and waits for approval. Until then no
//! payment is requested and the reservation does not expire.

use shared::{
    event::{EventData, Origin},
    id::OrderId,
    order::{CancelReason, OrderStatus, RejectOrder},
    outcome::Failure,
    request::Caller,
};

use super::{
    Rules, cancel_order::cancel, fulfillment::start_fulfillment, manual_payment::start_when_paid,
    undeleted_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    step::Step,
    working_set::WorkingSet,
};

pub(super) fn approve_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, id)?;
    if order.status == OrderStatus::Cancelled {
        return Err(Failure::invalid_state(format!(
            "order {id} is cancelled and can't be approved"
        )));
    }
    let mut draft = OrderDraft::from_order(order, origin, context);
    // Approving twice changes nothing.
    if order.awaits_approval {
        draft.record(EventData::OrderApproved {})?;
        start_workflow(&mut draft, rules)?;
    }
    Ok(draft.into_decision())
}

pub(super) fn reject_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RejectOrder,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, request.id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    if order.cancel_reason == Some(CancelReason::Rejected) {
        return Ok(draft.into_decision());
    }
    if !order.awaits_approval {
        return Err(Failure::invalid_state(format!(
            "order {} is {} and does not wait for approval: cancel the order instead",
            order.id,
            order.status.as_str()
        )));
    }
    cancel(&mut draft, CancelReason::Rejected, request.reason.clone())?;
    Ok(draft.into_decision())
}

/// Starts the workflow: reserves the stock if that is outstanding; otherwise requests the payment and starts
/// the timer of the reservation. A free order needs no payment, and a manual payment is recorded by an operator.
pub(super) fn start_workflow(draft: &mut OrderDraft<'_>, rules: &Rules) -> Result<(), Failure> {
    if draft.order.awaits_stock {
        draft.schedule(Step::ReserveStock);
        return Ok(());
    }
    if draft.order.total == 0 {
        draft.record(EventData::captured(0, true))?;
        return start_fulfillment(draft);
    }
    if draft.order.is_paid_manually() {
        let expires_at = draft.context().now() + rules.manual_payment_ttl;
        draft.schedule_later(Step::ExpireOrder, expires_at);
        return start_when_paid(draft);
    }
    let expires_at = draft.context().now() + rules.reservation_ttl;
    draft.schedule(Step::AuthorizePayment);
    draft.schedule_later(Step::ExpireOrder, expires_at);
    Ok(())
}
