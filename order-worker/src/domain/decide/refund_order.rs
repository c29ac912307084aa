//! Refunds: all or part of the captured amount. Requested amounts add up, and one step refunds up to that total;
//! so a request made while a refund is running is neither lost nor executed twice.

use shared::{
    event::{EventData, Origin, RefundCause},
    money::Money,
    order::{PaymentStatus, RefundOrder},
    outcome::Failure,
    request::Caller,
};

use super::{Rules, present};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    step::Step,
    working_set::WorkingSet,
};

pub(super) fn refund_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RefundOrder,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = present(world, caller, request.id)?;
    if order.total == 0 {
        return Err(Failure::invalid_state(format!(
            "order {} is free: there is nothing to be refunded",
            order.id
        )));
    }
    // Only what was taken can be given back; what is merely held is voided by cancelling.
    match order.payment.status {
        PaymentStatus::Captured | PaymentStatus::PartiallyRefunded | PaymentStatus::Refunded => {}
        PaymentStatus::Pending
        | PaymentStatus::Authorized
        | PaymentStatus::Voided
        | PaymentStatus::Failed => {
            return Err(Failure::invalid_state(format!(
                "order {}: nothing was captured that could be refunded",
                order.id
            )));
        }
    }
    let left = order.refundable();
    if left <= 0 {
        return Err(Failure::invalid_state(format!(
            "order {}: all of it is refunded already, or about to be",
            order.id
        )));
    }
    let amount = request.amount.unwrap_or(left);
    if amount > left {
        return Err(Failure::violation(
            "/amount",
            format!("is {amount}, but only {left} can be refunded"),
        ));
    }
    let money = Money {
        amount,
        currency: order.currency,
    };
    (rules.check_amount)(&order.payment.provider, money)
        .map_err(|why| Failure::violation("/amount", why))?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    draft.record(EventData::RefundRequested {
        amount,
        reason: request.reason.clone(),
        cause: Some(RefundCause::Requested),
    })?;
    draft.schedule(Step::RefundPayment);
    Ok(draft.decide())
}

/// Records refunds up to `total`, whether requested here or made in the provider's dashboard.
pub(super) fn record_refunds(draft: &mut OrderDraft<'_>, total: i64) -> Result<(), Failure> {
    let unasked = total - draft.order.refund_due;
    if unasked > 0 {
        draft.record(EventData::RefundRequested {
            amount: unasked,
            reason: Some("by the provider".to_owned()),
            cause: Some(RefundCause::Provider),
        })?;
    }
    let amount = total - draft.order.payment.refunded;
    if amount > 0 {
        draft.record(EventData::PaymentRefunded { amount })?;
    }
    Ok(())
}

/// The provider refunded `total`, including earlier refunds.
pub(super) fn refunded(draft: &mut OrderDraft<'_>, total: i64) -> Result<(), Failure> {
    record_refunds(draft, total)?;
    // More was requested meanwhile.
    if draft.order.payment.refunded < draft.order.refund_due {
        draft.schedule(Step::RefundPayment);
    }
    Ok(())
}
