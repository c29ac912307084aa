//! Manual payments: operators record the money that was received outside of a payment provider, and the money
//! that they have paid back. No step moves this money.
//!
//! An order is processed once its total is received; until then its stock is reserved for
//! `MANUAL_PAYMENT_TTL_SECONDS`. Money that is to be paid back, after a cancellation for example, is a dead step
//! `refund_payment`, for an operator, until it is recorded as paid back or discarded.

use jiff::SignedDuration;
use shared::{
    event::{EventData, Origin, RefundCause},
    order::{OrderStatus, RecordPayment, RefundOrder},
    outcome::Failure,
    request::Caller,
};

use super::{
    Rules,
    fulfillment::start_fulfillment,
    refunds::{refund_all, requested_refund_amount, schedule_refund},
    undeleted_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::{MAX_TRANSACTIONS, Order},
    step::Step,
    working_set::WorkingSet,
};

/// Maximum lead of the caller's clock.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn record_payment(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RecordPayment,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, request.id)?;
    check_payment(order, request)?;
    let latest_time = context.now() + CLOCK_TOLERANCE;
    if let Some(received_at) = request.received_at.filter(|time| *time > latest_time) {
        return Err(Failure::violation(
            "/received_at",
            format!("{received_at} is in the future"),
        ));
    }

    let mut draft = OrderDraft::from_order(order, origin, context);
    draft.record(EventData::PaymentCaptured {
        amount: request.amount,
        is_final: false,
        reference: request.reference.clone(),
        received_at: request.received_at,
    })?;
    match order.status {
        // An order that waits for approval or for its stock continues after that.
        OrderStatus::Pending if order.awaits_approval || order.awaits_stock => {}
        OrderStatus::Pending => start_when_paid(&mut draft)?,
        OrderStatus::Cancelled => {
            if refund_all(&mut draft)? {
                schedule_refund(&mut draft)?;
            }
        }
        OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered => {}
    }
    Ok(draft.into_decision())
}

/// Checks that the order is paid manually, and that the amount is outstanding unless the request allows more.
fn check_payment(order: &Order, request: &RecordPayment) -> Result<(), Failure> {
    let order_id = order.id;
    if !order.is_paid_manually() {
        return Err(Failure::invalid_state(format!(
            "order {order_id} is paid with {}: payments are recorded only for orders with payment method manual",
            order.payment.provider
        )));
    }
    if order.total == 0 {
        return Err(Failure::invalid_state(format!(
            "order {order_id} is free: its total is 0, so there is nothing to pay"
        )));
    }
    if order.transactions().is_full() {
        return Err(Failure::invalid_state(format!(
            "order {order_id} has {MAX_TRANSACTIONS} transactions: no more payments can be recorded"
        )));
    }
    let outstanding_amount = order.outstanding_payment();
    if request.amount <= outstanding_amount || request.allow_overpayment {
        return Ok(());
    }
    if order.status == OrderStatus::Cancelled {
        return Err(Failure::invalid_state(format!(
            "order {order_id} is cancelled, so no payment is outstanding; to record one that is to be paid back, set overpaid"
        )));
    }
    Err(Failure::violation(
        "/amount",
        format!(
            "is {}, but only {outstanding_amount} are outstanding; to record more, set overpaid",
            request.amount
        ),
    ))
}

/// Starts the fulfilment of a pending order whose total is received; returns without effect otherwise.
pub(super) fn start_when_paid(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    if draft.order.outstanding_payment() > 0 {
        return Ok(());
    }
    draft.remove_step(Step::ExpireOrder);
    start_fulfillment(draft)
}

/// Records a refund that an operator has paid. An amount counts towards the refunds that are due; the share of
/// units or of the shipping charge is refunded in addition.
pub(super) fn record_refund(
    order: &Order,
    request: &RefundOrder,
    rules: &Rules,
    origin: &Origin,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order_id = order.id;
    if order.payment.captured == 0 {
        return Err(Failure::invalid_state(format!(
            "order {order_id}: no payment was received, so there is nothing to refund"
        )));
    }
    if order.status == OrderStatus::Pending {
        return Err(Failure::invalid_state(format!(
            "order {order_id} is pending: cancel it to refund what was received"
        )));
    }
    let refundable_amount = order.payment.captured - order.payment.refunded;
    if refundable_amount <= 0 {
        return Err(Failure::invalid_state(format!(
            "order {order_id}: the received amount is refunded already"
        )));
    }
    let outstanding_refund = order.outstanding_refund();
    let refunds_items_or_shipping = request.items.is_some() || request.shipping;
    let (pointer, amount, refundable_amount) = match request.amount {
        Some(amount) => ("/amount", amount, refundable_amount),
        None if refunds_items_or_shipping => {
            let pointer = if request.items.is_some() {
                "/items"
            } else {
                "/shipping"
            };
            let amount = requested_refund_amount(order, request, rules)?;
            (pointer, amount, order.refundable_amount())
        }
        None if outstanding_refund > 0 => ("/amount", outstanding_refund, refundable_amount),
        None => ("/amount", refundable_amount, refundable_amount),
    };
    if amount > refundable_amount {
        return Err(Failure::violation(
            pointer,
            format!("amount to {amount}, but only {refundable_amount} can be refunded"),
        ));
    }

    let mut draft = OrderDraft::from_order(order, origin, context);
    let additional_amount = if refunds_items_or_shipping {
        amount
    } else {
        amount - outstanding_refund
    };
    if additional_amount > 0 {
        draft.record(EventData::RefundRequested {
            amount: additional_amount,
            reason: request.reason.clone(),
            cause: Some(RefundCause::RequestedByOperator),
            items: request.items.clone().unwrap_or_default(),
            refunds_shipping: request.shipping,
        })?;
    }
    draft.record(EventData::PaymentRefunded {
        amount,
        reference: request.reference.clone(),
        reason: request.reason.clone().filter(|_| additional_amount <= 0),
    })?;
    if draft.order.outstanding_refund() == 0 {
        draft.remove_step(Step::RefundPayment);
    } else if !refunds_items_or_shipping {
        schedule_refund(&mut draft)?;
    }
    Ok(draft.into_decision())
}

/// Ends the payment of an order that an earlier version of the worker has cancelled.
pub(super) fn on_void_without_call(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    if draft.order.payment.captured == 0 {
        return draft.record(EventData::PaymentVoided { reference: None });
    }
    refund_all(draft)?;
    schedule_refund(draft)
}
