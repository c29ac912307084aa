//! Soft deletion and restoring. An open order is cancelled first; an order in delivery can't be deleted.

use shared::{
    event::{EventData, Origin},
    id::OrderId,
    outcome::Failure,
    request::Caller,
};

use super::{
    cancel_order::{cancel, requested_cancel_reason},
    visible,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    working_set::WorkingSet,
};

pub(super) fn delete_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = visible(world, caller, id)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    if order.is_deleted {
        return Ok(draft.decide());
    }
    if !order.is_over() {
        order.ensure_not_shipped("deleted")?;
        cancel(&mut draft, requested_cancel_reason(caller), None)?;
    }
    draft.record(EventData::OrderDeleted {})?;
    Ok(draft.decide())
}

pub(super) fn restore_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = visible(world, caller, id)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    if order.is_deleted {
        draft.record(EventData::OrderRestored {})?;
    }
    Ok(draft.decide())
}
