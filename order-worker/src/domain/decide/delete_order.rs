//! Soft deletion and restoring. An open order is cancelled first; an order in delivery can't be deleted.

use shared::{
    event::{EventData, Origin},
    id::OrderId,
    outcome::Failure,
    request::Caller,
};

use super::{
    cancel_order::{cancel, requested_cancel_reason},
    visible_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    working_set::WorkingSet,
};

pub(super) fn delete_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = visible_order(working_set, caller, id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    if order.is_deleted {
        return Ok(draft.into_decision());
    }
    if let Some(open_return) = order.open_return() {
        return Err(Failure::invalid_state(format!(
            "order {id} can't be deleted: its return {} is {}",
            open_return.number,
            open_return.status.as_str()
        )));
    }
    if !order.is_closed() {
        order.ensure_not_shipped("deleted")?;
        cancel(&mut draft, requested_cancel_reason(caller), None)?;
    }
    draft.record(EventData::OrderDeleted {})?;
    Ok(draft.into_decision())
}

pub(super) fn restore_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = visible_order(working_set, caller, id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    if order.is_deleted {
        draft.record(EventData::OrderRestored {})?;
    }
    Ok(draft.into_decision())
}
