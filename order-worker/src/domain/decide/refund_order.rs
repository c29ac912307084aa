//! Refunds: all or part of the captured amount. Requested amounts add up, and one step refunds up to that
//! total; so a request during a running refund is neither lost nor executed twice.

use std::collections::BTreeMap;

use shared::{
    event::{EventData, Origin, RefundCause},
    id::Sku,
    money::Money,
    order::{PaymentStatus, RefundOrder},
    outcome::{Failure, Violation},
    request::Caller,
};

use super::{Rules, undeleted_order};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
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
    let (pointer, amount) = match request.amount {
        Some(amount) => ("/amount", amount),
        None if request.items.is_none() && !request.shipping => ("/amount", refundable),
        None if request.items.is_none() => ("/shipping", requested_amount(order, request, rules)?),
        None => ("/items", requested_amount(order, request, rules)?),
    };
    if amount > refundable {
        return Err(Failure::violation(
            pointer,
            format!("amount to {amount}, but only {refundable} can be refunded"),
        ));
    }
    let money = Money {
        amount,
        currency: order.currency,
    };
    (rules.check_amount)(&order.payment.provider, money)
        .map_err(|reason| Failure::violation(pointer, reason))?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    draft.record(EventData::RefundRequested {
        amount,
        reason: request.reason.clone(),
        cause: Some(RefundCause::Requested),
        items: request.items.clone().unwrap_or_default(),
        shipping: request.shipping,
    })?;
    draft.schedule(Step::RefundPayment);
    Ok(draft.into_decision())
}

/// Share of the order's total of the requested units and of the shipping charge, in minor units.
fn requested_amount(order: &Order, request: &RefundOrder, rules: &Rules) -> Result<i64, Failure> {
    let mut amount = 0;
    let mut requested: BTreeMap<&Sku, u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, item) in request.items.iter().flatten().enumerate() {
        let units = u64::from(item.quantity.get());
        let before = requested.get(&item.sku).copied().unwrap_or(0);
        let refundable = order.refundable_units(&item.sku, rules.refunds_returns);
        if before + units > refundable {
            violations.push(Violation::new(
                format!("/items/{index}/quantity"),
                format!(
                    "only {} units of {} were shipped and not refunded yet",
                    refundable.saturating_sub(before),
                    item.sku
                ),
            ));
            continue;
        }
        requested.insert(&item.sku, before + units);
    }
    for (sku, units) in requested {
        amount += order.refund_of_units(sku, units, rules.refunds_returns);
    }
    if request.shipping {
        let charge = order.shipping_totals().total;
        if charge == 0 || order.shipping_refunded {
            violations.push(Violation::new(
                "/shipping".to_owned(),
                if charge == 0 {
                    "the order has no shipping charge"
                } else {
                    "the shipping charge is refunded already, or its refund is in progress"
                },
            ));
        }
        amount += charge;
    }
    if violations.is_empty() && amount == 0 {
        violations.push(Violation::new(
            "/items".to_owned(),
            "are free: there is nothing to refund",
        ));
    }
    if violations.is_empty() {
        Ok(amount)
    } else {
        Err(Failure::violations(&violations))
    }
}

/// Records refunds up to `total`, whether requested here or made in the provider's dashboard.
pub(super) fn record_refunds(draft: &mut OrderDraft<'_>, total: i64) -> Result<(), Failure> {
    let unrequested = total - draft.order.refund_due;
    if unrequested > 0 {
        draft.record(EventData::RefundRequested {
            amount: unrequested,
            reason: Some("by the provider".to_owned()),
            cause: Some(RefundCause::Provider),
            items: Vec::new(),
            shipping: false,
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
            items: Vec::new(),
            shipping: false,
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
            items: Vec::new(),
            shipping: false,
        })?;
        draft.schedule(Step::RefundPayment);
    }
    Ok(())
}
