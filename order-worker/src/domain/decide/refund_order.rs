//! Refunds: all or part of the captured amount. Requested amounts add up, and one step refunds up to that
//! total; so a request during a running refund is neither lost nor executed twice.

use shared::{
    event::{EventData, Origin, RefundCause},
    money::Money,
    order::{PaymentStatus, RefundOrder},
    outcome::Failure,
    request::Caller,
};

use super::{Rules, undeleted_order};
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
    let refundable = order.refundable();
    if refundable <= 0 {
        return Err(Failure::invalid_state(format!(
            "order {}: the captured amount is refunded already, or its refund is in progress",
            order.id
        )));
    }
    let amount = request.amount.unwrap_or(refundable);
    if amount > refundable {
        return Err(Failure::violation(
            "/amount",
            format!("is {amount}, but only {refundable} can be refunded"),
        ));
    }
    let money = Money {
        amount,
        currency: order.currency,
    };
    (rules.check_amount)(&order.payment.provider, money)
        .map_err(|reason| Failure::violation("/amount", reason))?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    draft.record(EventData::RefundRequested {
        amount,
        reason: request.reason.clone(),
        cause: Some(RefundCause::Requested),
    })?;
    draft.schedule(Step::RefundPayment);
    Ok(draft.into_decision())
}

/// Records refunds up to `total`, whether requested here or made in the provider's dashboard.
pub(super) fn record_refunds(draft: &mut OrderDraft<'_>, total: i64) -> Result<(), Failure> {
    let unrequested = total - draft.order.refund_due;
    if unrequested > 0 {
        draft.record(EventData::RefundRequested {
            amount: unrequested,
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
pub(super) fn on_refunded(draft: &mut OrderDraft<'_>, total: i64) -> Result<(), Failure> {
    record_refunds(draft, total)?;
    // More was requested meanwhile.
    if draft.order.payment.refunded < draft.order.refund_due {
        draft.schedule(Step::RefundPayment);
    }
    Ok(())
}

/// Requests the refund of the captured amount of a cancelled order; returns false if there is none.
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

/// Refunds returned shipments that were captured. Refunds requested by operators don't count.
pub(super) fn refund_returns(draft: &mut OrderDraft<'_>, rules: &Rules) -> Result<(), Failure> {
    if !rules.refunds_returns {
        return Ok(());
    }
    let amount = draft.order.return_refund_due();
    if amount > 0 {
        draft.record(EventData::RefundRequested {
            amount,
            reason: Some("returned".to_owned()),
            cause: Some(RefundCause::Returned),
        })?;
        draft.schedule(Step::RefundPayment);
    }
    Ok(())
}
