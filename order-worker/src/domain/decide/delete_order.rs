//! Soft deletion, and its undoing. What is deleted is over: an open order is cancelled first, and
//! one that is on its way can't be deleted.

use shared::{
    event::{Fact, Origin},
    id::OrderId,
    outcome::Failure,
    request::Caller,
};

use super::{
    cancel_order::{cancel, requested_by},
    visible,
};
use crate::domain::{
    decision::{Decision, Draft},
    stamp::Stamp,
    world::World,
};

pub(super) fn delete_order(
    world: &World,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    stamp: &mut Stamp,
) -> Result<Decision, Failure> {
    let order = visible(world, caller, id)?;
    let mut draft = Draft::of(order, origin, stamp);
    if order.is_deleted {
        return Ok(draft.decide());
    }
    if !order.is_over() {
        order.must_not_have_left("deleted")?;
        cancel(&mut draft, requested_by(caller), None)?;
    }
    draft.record(Fact::OrderDeleted {})?;
    Ok(draft.decide())
}

pub(super) fn restore_order(
    world: &World,
    caller: &Caller,
    origin: &Origin,
    id: OrderId,
    stamp: &mut Stamp,
) -> Result<Decision, Failure> {
    caller.must_operate()?;
    let order = visible(world, caller, id)?;
    let mut draft = Draft::of(order, origin, stamp);
    if order.is_deleted {
        draft.record(Fact::OrderRestored {})?;
    }
    Ok(draft.decide())
}
