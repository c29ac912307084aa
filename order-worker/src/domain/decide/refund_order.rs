//! Refunds that an operator requests: all or part of the captured amount. Requested amounts add up, and one step
//! refunds up to that total; so a request during a running refund is neither lost nor executed twice.

use shared::{
    event::{EventData, Origin, RefundCause},
    money::Money,
    order::{PaymentStatus, RefundOrder},
    outcome::Failure,
    request::Caller,
};

use super::{
    Rules, manual_payment::record_refund, refunds::requested_refund_amount, undeleted_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    step::Step,
    working_set::WorkingSet,
};

pub(super) fn refund_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RefundOrder,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, request.id)?;
    if order.total == 0 {
        return Err(Failure::invalid_state(format!(
            "order {} is free: its total is 0, so there is nothing to refund",
            order.id
        )));
    }
    if order.is_paid_manually() {
        return record_refund(order, request, rules, origin, context);
    }
    if request.reference.is_some() {
        return Err(Failure::violation(
            "/reference",
            "is for orders that are paid manually; this refund is made by the payment provider",
        ));
    }
    // Only a captured amount can be refunded; an authorization is voided by cancelling the order.
    match order.payment.status {
        PaymentStatus::Captured | PaymentStatus::PartiallyRefunded | PaymentStatus::Refunded => {}
        PaymentStatus::Pending
        | PaymentStatus::Authorized
        | PaymentStatus::Voided
        | PaymentStatus::Failed => {
            return Err(Failure::invalid_state(format!(
                "order {}: no payment was captured, so there is nothing to refund",
                order.id
            )));
        }
    }
    let refundable_amount = order.refundable_amount();
    if refundable_amount <= 0 {
        return Err(Failure::invalid_state(format!(
            "order {}: the captured amount is refunded already, or its refund is in progress",
            order.id
        )));
    }
    let (pointer, amount) = match request.amount {
        Some(amount) => ("/amount", amount),
        None if request.items.is_none() && !request.shipping => ("/amount", refundable_amount),
        None if request.items.is_none() => {
            ("/shipping", requested_refund_amount(order, request, rules)?)
        }
        None => ("/items", requested_refund_amount(order, request, rules)?),
    };
    if amount > refundable_amount {
        return Err(Failure::violation(
            pointer,
            format!("amount to {amount}, but only {refundable_amount} can be refunded"),
        ));
    }
    let refund_money = Money {
        amount,
        currency: order.currency,
    };
    (rules.check_amount)(&order.payment.provider, refund_money)
        .map_err(|reason| Failure::violation(pointer, reason))?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    draft.record(EventData::RefundRequested {
        amount,
        reason: request.reason.clone(),
        cause: Some(RefundCause::RequestedByOperator),
        items: request.items.clone().unwrap_or_default(),
        refunds_shipping: request.shipping,
    })?;
    draft.schedule(Step::RefundPayment);
    Ok(draft.into_decision())
}
