//! Cancellation: possible until something is shipped, and final. Steps in progress are undone by steps that are
//! safe whether the original step was executed, is running, or never will be.

use std::collections::BTreeSet;

use shared::{
    event::{EventData, Origin, RefundCause},
    order::{CancelOrder, CancelReason, CancelRemaining, OrderStatus, PaymentStatus, Shipment},
    outcome::Failure,
    request::Caller,
};

use super::{is_customer_request, present, update_shipment::conclude};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    step::{Step, StepKey},
    working_set::WorkingSet,
};

pub(super) fn cancel_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CancelOrder,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = present(world, caller, request.id)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    // Cancelling twice changes nothing.
    if order.status != OrderStatus::Cancelled {
        order.ensure_not_shipped("cancelled")?;
        cancel(
            &mut draft,
            requested_cancel_reason(caller),
            request.reason.clone(),
        )?;
    }
    Ok(draft.decide())
}

/// Cancels what is still here of an order of which something has left: its stock is free again, only what
/// left is paid for, and the order goes on to its end without it.
pub(super) fn cancel_remaining(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CancelRemaining,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = present(world, caller, request.id)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    if order.held.is_empty() && !order.cancelled_items().is_empty() {
        return Ok(draft.decide());
    }
    let (id, status) = (order.id, order.status.as_str());
    if order.status != OrderStatus::Processing || order.held.is_empty() {
        return Err(Failure::invalid_state(format!(
            "order {id} is {status}: nothing of it remains to be shipped"
        )));
    }
    if order.left().next().is_none() {
        return Err(Failure::invalid_state(format!(
            "order {id} is {status} and nothing of it has left: cancel the whole order"
        )));
    }

    let is_here = |parcel: &&Shipment| parcel.shipped_at.is_none();
    let labels: Vec<_> = order.active_shipments().filter(is_here).collect();
    let labelled = labels.iter().flat_map(|parcel| &parcel.items);
    let labelled: BTreeSet<_> = labelled.map(|item| &item.warehouse).collect();
    for label in &labels {
        draft.record(EventData::ShipmentCancelled {
            shipment_id: label.id,
            reason: request.reason.clone(),
        })?;
    }
    let held: BTreeSet<_> = order.held.iter().map(|item| &item.warehouse).collect();
    for warehouse in held {
        let request = Step::RequestShipment(warehouse.clone());
        let is_requested = world.steps.contains_key(&StepKey {
            order_id: id,
            step: request.clone(),
        });
        if is_requested || labelled.contains(warehouse) {
            draft.drop_step(request);
            draft.schedule(Step::CancelShipment(warehouse.clone()));
        }
    }
    draft.record(EventData::StockReleased {
        items: order.held.clone(),
        reason: request.reason.clone(),
    })?;
    settle_what_left(&mut draft, world)?;
    conclude(&mut draft)?;
    Ok(draft.decide())
}

/// Nothing more will leave: the provider takes what is due and gives up the rest of its hold; what it has
/// taken beyond that, at its own console for instance, is given back.
fn settle_what_left(draft: &mut OrderDraft<'_>, world: &WorkingSet) -> Result<(), Failure> {
    match draft.order.payment.status {
        PaymentStatus::Authorized
        | PaymentStatus::Captured
        | PaymentStatus::PartiallyRefunded
        | PaymentStatus::Refunded => {}
        PaymentStatus::Pending | PaymentStatus::Voided | PaymentStatus::Failed => return Ok(()),
    }
    let order_id = draft.order.id;
    let step = Step::CapturePayment;
    let key = StepKey {
        order_id,
        step: step.clone(),
    };
    // One that is under way may have been asked for before this was the last.
    let attempt = world.steps.get(&key).map_or(0, |row| row.attempt) + 1;
    let now = draft.stamp().now();
    draft.schedule_at(step, attempt, now);
    let excess = draft.order.payment.captured - draft.order.capture_due();
    let amount = excess.min(draft.order.refundable());
    if amount > 0 {
        draft.record(EventData::RefundRequested {
            amount,
            reason: Some("cancelled".to_owned()),
            // Not the refund of a return.
            cause: Some(RefundCause::Requested),
        })?;
        draft.schedule(Step::RefundPayment);
    }
    Ok(())
}

/// Whose wish a requested cancellation is.
pub(super) fn requested_cancel_reason(caller: &Caller) -> CancelReason {
    if is_customer_request(caller) {
        CancelReason::CustomerRequest
    } else {
        CancelReason::OperatorRequest
    }
}

/// Cancels an order of which nothing was shipped: releases its stock and schedules the undo steps.
pub(super) fn cancel(
    draft: &mut OrderDraft<'_>,
    reason: CancelReason,
    note: Option<String>,
) -> Result<(), Failure> {
    let was_processing = draft.order.status == OrderStatus::Processing;
    let was = Some(draft.order.status);
    draft.record(EventData::OrderCancelled { reason, note, was })?;
    if !draft.order.held.is_empty() {
        let items = draft.order.held.clone();
        draft.record(EventData::StockReleased {
            items,
            reason: None,
        })?;
    }

    draft.drop_step(Step::ExpireOrder);
    draft.drop_step(Step::ReserveStock);
    draft.drop_step(Step::AuthorizePayment);
    draft.drop_step(Step::CheckPayment);
    // Nothing has left, so there is nothing to be captured.
    draft.drop_step(Step::CapturePayment);
    match draft.order.payment.status {
        // The authorization may be running at this moment.
        PaymentStatus::Pending | PaymentStatus::Authorized => draft.schedule(Step::VoidPayment),
        PaymentStatus::Captured | PaymentStatus::PartiallyRefunded => {
            refund_all(draft)?;
            draft.schedule(Step::RefundPayment);
        }
        PaymentStatus::Voided | PaymentStatus::Refunded | PaymentStatus::Failed => {}
    }

    let active_shipments: Vec<_> = draft
        .order
        .active_shipments()
        .map(|parcel| parcel.id)
        .collect();
    for shipment_id in active_shipments {
        draft.record(EventData::ShipmentCancelled {
            shipment_id,
            reason: None,
        })?;
    }
    if was_processing {
        for warehouse in draft.order.warehouses() {
            draft.drop_step(Step::RequestShipment(warehouse.clone()));
            draft.schedule(Step::CancelShipment(warehouse));
        }
    }
    Ok(())
}

/// Requests the refund of what was captured for an order that was cancelled; false if there is nothing.
pub(super) fn refund_all(draft: &mut OrderDraft<'_>) -> Result<bool, Failure> {
    let amount = draft.order.refundable_automatically();
    if amount > 0 {
        draft.record(EventData::RefundRequested {
            amount,
            reason: None,
            cause: Some(RefundCause::Cancelled),
        })?;
    }
    Ok(amount > 0)
}
