//! Refunds: the amounts of requested ones, those that follow from cancellations and returns, and what was
//! refunded at the provider. Requested amounts add up; a step refunds up to their total.

use std::collections::BTreeMap;

use shared::{
    event::{EventData, RefundCause},
    id::Sku,
    order::{OrderStatus, RefundOrder},
    outcome::{Failure, Violation},
};

use super::Rules;
use crate::domain::{decision::OrderDraft, order::Order, step::Step};

/// Share of the order's total of the requested units and of the shipping charge, in minor units.
pub(super) fn requested_refund_amount(
    order: &Order,
    request: &RefundOrder,
    rules: &Rules,
) -> Result<i64, Failure> {
    let mut refund_amount = 0;
    let mut requested_units: BTreeMap<&Sku, u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, item) in request.items.iter().flatten().enumerate() {
        let units = u64::from(item.quantity.get());
        let units_before = requested_units.get(&item.sku).copied().unwrap_or(0);
        let refundable_units = order.refundable_units(&item.sku, rules.refunds_returns);
        if units_before + units > refundable_units {
            violations.push(Violation::new(
                format!("/items/{index}/quantity"),
                format!(
                    "only {} units of {} were shipped and not refunded yet",
                    refundable_units.saturating_sub(units_before),
                    item.sku
                ),
            ));
            continue;
        }
        requested_units.insert(&item.sku, units_before + units);
    }
    for (sku, units) in requested_units {
        refund_amount += order.refund_of_units(sku, units, rules.refunds_returns);
    }
    if request.shipping {
        let shipping_charge = order.shipping_totals().total;
        if shipping_charge == 0 || order.shipping_refunded {
            violations.push(Violation::new(
                "/shipping".to_owned(),
                if shipping_charge == 0 {
                    "the order has no shipping charge"
                } else {
                    "the shipping charge is refunded already, or its refund is in progress"
                },
            ));
        }
        refund_amount += shipping_charge;
    }
    if violations.is_empty() && refund_amount == 0 {
        violations.push(Violation::new(
            "/items".to_owned(),
            "are free: there is nothing to refund",
        ));
    }
    if violations.is_empty() {
        Ok(refund_amount)
    } else {
        Err(Failure::violations(&violations))
    }
}

/// Records refunds up to `refunded_total`, whether requested here or made in the provider's dashboard.
pub(super) fn record_refunds(
    draft: &mut OrderDraft<'_>,
    refunded_total: i64,
) -> Result<(), Failure> {
    let unrequested_amount = refunded_total - draft.order.total_refund_due;
    if unrequested_amount > 0 {
        draft.record(EventData::refund_requested(
            unrequested_amount,
            RefundCause::MadeAtProvider,
            Some("by the provider".to_owned()),
        ))?;
    }
    let amount = refunded_total - draft.order.payment.refunded;
    if amount > 0 {
        draft.record(EventData::refunded(amount))?;
    }
    Ok(())
}

/// The provider refunded `refunded_total`, including earlier refunds.
pub(super) fn on_refunded(draft: &mut OrderDraft<'_>, refunded_total: i64) -> Result<(), Failure> {
    record_refunds(draft, refunded_total)?;
    // More was requested meanwhile.
    if draft.order.payment.refunded < draft.order.total_refund_due {
        draft.schedule(Step::RefundPayment);
    }
    Ok(())
}

/// Requests the refund of the captured amount of a cancelled order; returns false if there is none.
pub(super) fn refund_all(draft: &mut OrderDraft<'_>) -> Result<bool, Failure> {
    let amount = draft.order.refundable_automatically();
    if amount > 0 {
        draft.record(EventData::refund_requested(
            amount,
            RefundCause::OrderCancelled,
            None,
        ))?;
    }
    Ok(amount > 0)
}

/// Refunds captures beyond the amount due that become known after the rest of the order was cancelled, or after an
/// edit has lowered its total, such as captures in the provider's dashboard. `captured_before` and
/// `refund_due_before` are the amounts before the captures became known; excess that was known earlier was refunded
/// with the cancellation or the edit.
pub(super) fn refund_captured_excess(
    draft: &mut OrderDraft<'_>,
    captured_before: i64,
    refund_due_before: i64,
) -> Result<(), Failure> {
    let order = &draft.order;
    // A cancelled order is refunded as a whole, and an overpayment by hand is kept until an operator refunds it.
    if order.status == OrderStatus::Cancelled || order.is_paid_manually() {
        return Ok(());
    }
    let is_rest_cancelled = order.has_nothing_to_ship() && !order.cancelled_items().is_empty();
    let (due_amount, cause, reason) = if is_rest_cancelled {
        (
            order.total_to_capture(),
            RefundCause::RequestedByOperator,
            "cancelled",
        )
    } else {
        (order.total, RefundCause::OrderEdited, "edited")
    };
    let excess_amount = order.payment.captured - due_amount.max(captured_before);
    // Refunds that were made in the dashboard meanwhile are not made again.
    let newly_refunded_amount = order.total_refund_due - refund_due_before;
    let amount = (excess_amount - newly_refunded_amount).min(order.refundable_automatically());
    if amount > 0 {
        // The excess is refunded under a cause of its own, not as returned items, so that it does not reduce the
        // refund of a later return.
        draft.record(EventData::refund_requested(
            amount,
            cause,
            Some(reason.to_owned()),
        ))?;
        schedule_refund(draft)?;
    }
    Ok(())
}

/// Refunds returned shipments that were captured. Refunds requested by operators don't count.
pub(super) fn refund_returns(draft: &mut OrderDraft<'_>, rules: &Rules) -> Result<(), Failure> {
    if !rules.refunds_returns {
        return Ok(());
    }
    let amount = draft.order.return_refund_due();
    if amount > 0 {
        draft.record(EventData::refund_requested(
            amount,
            RefundCause::ShipmentReturned,
            Some("returned".to_owned()),
        ))?;
        schedule_refund(draft)?;
    }
    Ok(())
}

/// Schedules the refund of the amount that is due: a step at the payment provider, or a dead step for an operator
/// if the order was paid manually.
pub(super) fn schedule_refund(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    if !draft.order.is_paid_manually() {
        draft.schedule(Step::RefundPayment);
        return Ok(());
    }
    let amount = draft.order.outstanding_refund();
    if amount == 0 {
        return Ok(());
    }
    let error_text = format!(
        "{amount} minor units are to be paid back by hand, because the order was paid manually: pay them back, then record that with POST /v1/orders/{{id}}/refunds"
    );
    draft.record_dead_step(Step::RefundPayment, error_text)
}
