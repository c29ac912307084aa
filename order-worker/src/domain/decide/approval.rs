//! The owner's word: with `ORDER_APPROVAL=manual` an order holds its stock and waits. Nobody is asked
//! for money before it is approved, and its time does not run.

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
    stamp::DecisionContext,
    step::Step,
    world::WorkingSet,
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
    // Approved is approved, whoever did it first.
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

/// The flow begins: stock is taken where that is still to be done; then the payment is asked for, and the
/// reservation's time runs.
pub(super) fn begin(draft: &mut OrderDraft<'_>, rules: &Rules) {
    if draft.order.awaits_stock {
        return draft.schedule(Step::ReserveStock);
    }
    let expires_at = draft.stamp().now() + rules.reservation_ttl;
    draft.schedule(Step::AuthorizePayment);
    draft.follow_later(Step::ExpireOrder, expires_at);
}
