//! Cancellation: of a whole order until some of it is shipped, which is final; and of the unshipped items of
//! a partly shipped order.
//!
//! Steps in progress are undone by steps that are safe whether the original step was executed, is running, or
//! never will be.

use std::collections::BTreeSet;

use shared::{
    event::{EventData, Origin, RefundCause},
    order::{
        CancelOrder, CancelReason, CancelRemaining, EditRejectReason, OrderStatus, PaymentStatus,
        Shipment,
    },
    outcome::Failure,
    request::Caller,
};

use super::{
    edit_order::reject_edit,
    fulfillment::{advance_order_status, schedule_capture},
    is_customer_request,
    labels::withdraw_label,
    refunds::{refund_all, schedule_refund},
    undeleted_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    step::{Step, StepKey},
    working_set::WorkingSet,
};

pub(super) fn cancel_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CancelOrder,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = undeleted_order(working_set, caller, request.id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    // Cancelling twice changes nothing.
    if order.status != OrderStatus::Cancelled {
        order.ensure_not_shipped("cancelled")?;
        cancel(
            &mut draft,
            requested_cancel_reason(caller),
            request.reason.clone(),
        )?;
    }
    Ok(draft.into_decision())
}

/// Cancels the unshipped items of a partly shipped order: releases their stock and cancels their labels. Only
/// the shipped items are paid for, and the order is completed without the others.
pub(super) fn cancel_remaining(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CancelRemaining,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, request.id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    if order.reserved_items.is_empty() && !order.cancelled_items().is_empty() {
        return Ok(draft.into_decision());
    }
    let (order_id, status) = (order.id, order.status.as_str());
    if order.status != OrderStatus::Processing || order.reserved_items.is_empty() {
        return Err(Failure::invalid_state(format!(
            "order {order_id} is {status}: it has no unshipped items to cancel"
        )));
    }
    if order.shipped_shipments().next().is_none() {
        return Err(Failure::invalid_state(format!(
            "order {order_id} is {status} and nothing was shipped: cancel the whole order instead"
        )));
    }

    let is_unshipped = |shipment: &&Shipment| shipment.shipped_at.is_none();
    let unshipped_shipments: Vec<_> = order.uncancelled_shipments().filter(is_unshipped).collect();
    let labelled_items = unshipped_shipments
        .iter()
        .flat_map(|shipment| &shipment.items);
    let labelled_warehouses: BTreeSet<_> = labelled_items.map(|item| &item.warehouse).collect();
    for shipment in &unshipped_shipments {
        draft.record(EventData::ShipmentCancelled {
            shipment_id: shipment.id,
            reason: request.reason.clone(),
        })?;
    }
    let reserved_warehouses: BTreeSet<_> = order
        .reserved_items
        .iter()
        .map(|item| &item.warehouse)
        .collect();
    for warehouse in reserved_warehouses {
        let is_label_requested = working_set.steps.contains_key(&StepKey {
            order_id,
            step: Step::RequestShipment(order.label_id(warehouse)),
        });
        if is_label_requested || labelled_warehouses.contains(warehouse) {
            withdraw_label(&mut draft, warehouse);
        }
    }
    draft.record(EventData::StockReleased {
        items: order.reserved_items.clone(),
        reason: request.reason.clone(),
        edit_number: None,
    })?;
    settle_payment(&mut draft)?;
    advance_order_status(&mut draft)?;
    Ok(draft.into_decision())
}

/// Settles the payment of an order of which nothing more will be shipped: a last capture takes the amount due
/// and releases the rest of the authorization. An excess, captured in the provider's dashboard for example,
/// is refunded.
fn settle_payment(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    match draft.order.payment.status {
        PaymentStatus::Authorized
        | PaymentStatus::Captured
        | PaymentStatus::PartiallyRefunded
        | PaymentStatus::Refunded => {}
        PaymentStatus::Pending | PaymentStatus::Voided | PaymentStatus::Failed => return Ok(()),
    }
    if draft.order.total > 0 {
        schedule_capture(draft);
    }
    let excess_capture = draft.order.payment.captured - draft.order.total_to_capture();
    let amount = excess_capture.min(draft.order.refundable_amount());
    if amount > 0 {
        draft.record(EventData::RefundRequested {
            amount,
            reason: Some("cancelled".to_owned()),
            // This refund is not one for returned items, so a later return is refunded in full.
            cause: Some(RefundCause::RequestedByOperator),
            items: Vec::new(),
            refunds_shipping: false,
        })?;
        schedule_refund(draft)?;
    }
    Ok(())
}

/// Reason of a requested cancellation: requested by the customer or by an operator.
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
    reject_edit(draft, EditRejectReason::OrderCancelled, None, None)?;
    let was_processing = draft.order.status == OrderStatus::Processing;
    let previous_status = Some(draft.order.status);
    draft.record(EventData::OrderCancelled {
        reason,
        note,
        previous_status,
    })?;
    if !draft.order.reserved_items.is_empty() {
        let items = draft.order.reserved_items.clone();
        draft.record(EventData::StockReleased {
            items,
            reason: None,
            edit_number: None,
        })?;
    }

    draft.remove_step(Step::ExpireOrder);
    draft.remove_step(Step::ReserveStock);
    draft.remove_step(Step::AuthorizePayment);
    draft.remove_step(Step::CheckPayment);
    // Nothing was shipped, so nothing is captured.
    draft.remove_step(Step::CapturePayment);
    match draft.order.payment.status {
        // Nothing was received, and nothing is authorized.
        PaymentStatus::Pending if draft.order.is_paid_manually() => {
            draft.record(EventData::PaymentVoided { reference: None })?;
        }
        // The authorization may be running at this moment.
        PaymentStatus::Pending | PaymentStatus::Authorized => draft.schedule(Step::VoidPayment),
        PaymentStatus::Captured if draft.order.total == 0 => {}
        PaymentStatus::Captured | PaymentStatus::PartiallyRefunded => {
            refund_all(draft)?;
            schedule_refund(draft)?;
        }
        PaymentStatus::Voided | PaymentStatus::Refunded | PaymentStatus::Failed => {}
    }

    let uncancelled_shipment_ids: Vec<_> = draft
        .order
        .uncancelled_shipments()
        .map(|shipment| shipment.id)
        .collect();
    for shipment_id in uncancelled_shipment_ids {
        draft.record(EventData::ShipmentCancelled {
            shipment_id,
            reason: None,
        })?;
    }
    if was_processing {
        for warehouse in draft.order.warehouses() {
            withdraw_label(draft, &warehouse);
        }
    }
    Ok(())
}
