//! Approval: with `ORDER_APPROVAL=manual` an order reserves its stock and waits for approval. Until then no
//! payment is requested and the reservation does not expire.

use shared::{
    event::{EventData, Origin},
    id::OrderId,
    order::{CancelReason, OrderStatus, RejectOrder},
    outcome::Failure,
    request::Caller,
};

use super::{Rules, cancel_order::cancel, present};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    step::Step,
    working_set::WorkingSet,
};

pub(super) fn approve_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = present(world, caller, id)?;
    if order.status == OrderStatus::Cancelled {
        return Err(Failure::invalid_state(format!(
            "order {id} is cancelled and can't be approved"
        )));
    }
    let mut draft = OrderDraft::of(order, origin, stamp);
    // Approving twice changes nothing.
    if order.awaits_approval {
        draft.record(EventData::OrderApproved {})?;
        begin(&mut draft, rules);
    }
    Ok(draft.decide())
}

pub(super) fn reject_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RejectOrder,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = present(world, caller, request.id)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    if order.cancel_reason == Some(CancelReason::Rejected) {
        return Ok(draft.decide());
    }
    if !order.awaits_approval {
        return Err(Failure::invalid_state(format!(
            "order {} is {} and does not wait for approval: cancel it",
            order.id,
            order.status.as_str()
        )));
    }
    cancel(&mut draft, CancelReason::Rejected, request.reason.clone())?;
    Ok(draft.decide())
}

/// Starts the workflow: reserves stock where that is outstanding, then requests the payment and starts the
/// reservation's timer.
pub(super) fn begin(draft: &mut OrderDraft<'_>, rules: &Rules) {
    if draft.order.awaits_stock {
        return draft.schedule(Step::ReserveStock);
    }
    let expires_at = draft.stamp().now() + rules.reservation_ttl;
    draft.schedule(Step::AuthorizePayment);
    draft.follow_later(Step::ExpireOrder, expires_at);
}
