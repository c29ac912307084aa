//! Payment results: of steps, or of looking at the payment after a webhook or a timer. Results arrive late,
//! duplicated and out of order; all amounts are totals, so that the latest state counts.

use jiff::SignedDuration;
use shared::{
    event::{EventData, Origin, RefundCause},
    id::OrderId,
    order::{CancelReason, NextAction, OrderStatus, PaymentStatus},
    outcome::Failure,
    request::Caller,
};

use super::{
    Rules,
    cancel_order::{cancel, refund_all},
    refund_order::record_refunds,
    visible,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    payment::{Authorization, PaymentState},
    step::{Step, StepKey, StepRow},
    working_set::WorkingSet,
};

/// Interval for polling a payment that waits for its customer; webhooks usually arrive earlier.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// Handles a notification: schedules a look at the payment, since the webhook may be outdated.
pub(super) fn notify_payment(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    order_id: OrderId,
    reference: &str,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = visible(world, caller, order_id)?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    // A payment that is not this order's is not asked for.
    if order.payment.reference.as_deref() != Some(reference) {
        return Ok(draft.decide());
    }
    let key = StepKey {
        order_id: order.id,
        step: Step::CheckPayment,
    };
    // A running look may have been too early.
    let attempt = world.steps.get(&key).map_or(0, |row| row.attempt) + 1;
    let secret = world.steps.get(&key);
    let secret = secret.and_then(|row| row.client_secret.clone());
    look(&mut draft, attempt, SignedDuration::ZERO, secret);
    Ok(draft.decide())
}

/// The provider created the payment and is asked to authorize it next. Its id is stored first, so that every
/// authorization has a known id.
pub(super) fn prepared(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    provider: &str,
    reference: &str,
) -> Result<(), Failure> {
    draft.record(EventData::PaymentPrepared {
        provider: provider.to_owned(),
        reference: reference.to_owned(),
    })?;
    draft.put(StepRow {
        attempt: row.attempt + 1,
        ..row.clone()
    });
    Ok(())
}

/// The order waits for its customer as long as its stock is reserved; attempt `attempt` polls the payment.
pub(super) fn action_required(
    draft: &mut OrderDraft<'_>,
    action: &NextAction,
    attempt: u32,
) -> Result<(), Failure> {
    let NextAction {
        kind,
        url,
        client_secret,
    } = action.clone();
    look(draft, attempt, LOOK_AGAIN, client_secret);
    let known = draft.order.payment.next_action.as_ref();
    if known.is_none_or(|known| known.kind != kind || known.url != url) {
        // Events are told to others: the secret is not.
        draft.record(EventData::PaymentActionRequired { kind, url })?;
    }
    Ok(())
}

/// The payment is authorized: fulfilment starts.
pub(super) fn authorized(
    draft: &mut OrderDraft<'_>,
    provider: &str,
    reference: &str,
    amount: i64,
) -> Result<(), Failure> {
    draft.record(EventData::PaymentAuthorized {
        provider: provider.to_owned(),
        reference: reference.to_owned(),
        amount,
    })?;
    draft.record(EventData::OrderProcessing {})?;
    draft.drop_step(Step::ExpireOrder);
    for warehouse in draft.order.warehouses() {
        draft.schedule(Step::RequestShipment(warehouse));
    }
    Ok(())
}

/// The payment was declined: the order is cancelled.
pub(super) fn declined(
    draft: &mut OrderDraft<'_>,
    code: &str,
    message: &str,
) -> Result<(), Failure> {
    draft.record(EventData::PaymentDeclined {
        code: code.to_owned(),
        message: message.to_owned(),
    })?;
    cancel(
        draft,
        CancelReason::PaymentDeclined,
        Some(message.to_owned()),
    )
}

/// The provider captured `total` of `asked`, both including earlier captures. `is_last` tells whether nothing was
/// left to be shipped when it was asked.
pub(super) fn captured(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    total: i64,
    asked: i64,
    is_last: bool,
    rules: &Rules,
) -> Result<(), Failure> {
    let amount = total - draft.order.payment.captured;
    if amount > 0 || draft.order.total == 0 {
        let is_final = false;
        draft.record(EventData::PaymentCaptured { amount, is_final })?;
    }
    let was_early = !is_last && draft.order.has_all_left() && draft.order.unpaid() > 0;
    if draft.order.capture_due() > asked || was_early {
        // More was shipped meanwhile, or the rest was cancelled: a provider that captures only once captures now.
        draft.schedule(Step::CapturePayment);
    } else if draft.order.unpaid() > 0 {
        unpaid(draft, row.clone())?;
    }
    refund_returns(draft, rules)
}

/// Goods have left and can't be paid for: the capture is a dead step, which waits for an operator.
fn unpaid(draft: &mut OrderDraft<'_>, row: StepRow) -> Result<(), Failure> {
    let (due, captured) = (draft.order.capture_due(), draft.order.payment.captured);
    let collectable = draft.order.collectable();
    let error = format!(
        "goods worth {due} have left, {captured} of that is captured and the rest can't be captured: the \
         provider holds no more than {collectable}"
    );
    dead_capture(draft, row, error)
}

/// Records that the capture failed for good.
fn dead_capture(draft: &mut OrderDraft<'_>, row: StepRow, error: String) -> Result<(), Failure> {
    draft.record(EventData::StepDead {
        step: Step::CapturePayment.to_string(),
        error: error.clone(),
    })?;
    let due_at = draft.stamp().now();
    draft.put(StepRow {
        failures: row.failures + 1,
        due_at,
        is_dead: true,
        last_error: Some(error),
        ..row
    });
    Ok(())
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

/// Adopts the provider's state of the payment, whoever changed it: a step, the customer, someone in the
/// provider's dashboard, or an expiry.
pub(super) fn reconcile(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    standing: &PaymentState,
    world: &WorkingSet,
    rules: &Rules,
) -> Result<(), Failure> {
    // Another step finished meanwhile, so the observed state is outdated: look again.
    if standing.version != draft.order.version {
        let now = draft.stamp().now();
        draft.put(StepRow {
            client_secret: row.client_secret.clone(),
            ..draft.row(row.key.step.clone(), row.attempt + 1, now)
        });
        return Ok(());
    }
    if draft.order.payment.reference.is_none() {
        draft.record(EventData::PaymentPrepared {
            provider: draft.order.payment.provider.clone(),
            reference: standing.reference.clone(),
        })?;
    }
    let collectable = draft.order.collectable();
    match &standing.hold {
        Authorization::Pending => {}
        Authorization::RequiresAction(action) => {
            if draft.order.status == OrderStatus::Pending {
                action_required(draft, action, row.attempt + 1)?;
            }
        }
        Authorization::Authorized(amount) => given(draft, standing, *amount)?,
        Authorization::Declined { code, message } => {
            if draft.order.status == OrderStatus::Pending {
                draft.drop_step(Step::AuthorizePayment);
                declined(draft, code, message)?;
            }
        }
        Authorization::Cancelled => gone(draft, standing)?,
    }
    captured_elsewhere(draft, standing)?;
    record_refunds(draft, standing.refunded)?;
    let failed = draft.order.payment.refunded - standing.refunded;
    if failed > 0 {
        refund_failed(draft, failed)?;
    }
    // Nobody keeps the money of an order that is over.
    if draft.order.status == OrderStatus::Cancelled && refund_all(draft)? {
        draft.schedule(Step::RefundPayment);
    }
    refund_returns(draft, rules)?;
    let is_less = draft.order.collectable() < collectable;
    report_missing_money(draft, row, world, is_less)
}

/// Money was captured, or the rest of an authorization released, by someone else than this system.
fn captured_elsewhere(draft: &mut OrderDraft<'_>, standing: &PaymentState) -> Result<(), Failure> {
    let payment = &draft.order.payment;
    let amount = (standing.captured - payment.captured).max(0);
    let captured = payment.captured + amount;
    // A cancelled order's authorization may have been answered after the cancellation.
    if let Authorization::Authorized(held) = standing.hold
        && amount > 0
        && payment.authorized < captured
    {
        let provider = payment.provider.clone();
        draft.record(EventData::PaymentAuthorized {
            provider,
            reference: standing.reference.clone(),
            amount: held,
        })?;
    }
    let is_final = standing.is_closed && captured > 0 && captured < draft.order.payment.authorized;
    if amount > 0 || is_final {
        draft.record(EventData::PaymentCaptured { amount, is_final })?;
    }
    Ok(())
}

/// Leaves a dead capture to an operator when the provider holds less money than the order needs: at the
/// moment this becomes known, and whenever a capture finds that there is nothing to capture.
fn report_missing_money(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    world: &WorkingSet,
    is_less: bool,
) -> Result<(), Failure> {
    if !matches!(
        draft.order.status,
        OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered
    ) {
        return Ok(());
    }
    if row.key.step == Step::CapturePayment {
        return match draft.order.capture_outstanding() {
            0 => Ok(()),
            _ => unpaid(draft, row.clone()),
        };
    }
    let missing = draft.order.uncollectable();
    if !is_less || missing == 0 {
        return Ok(());
    }
    let key = StepKey {
        order_id: draft.order.id,
        step: Step::CapturePayment,
    };
    let current = world.steps.get(&key);
    let attempt = current.map_or(1, |capture| capture.attempt + 1);
    let (total, collectable) = (draft.order.total, draft.order.collectable());
    let error = format!(
        "the provider released money that this order needs: {collectable} of {total} is authorized or \
         captured, {missing} can't be captured any more"
    );
    let row = StepRow {
        key,
        attempt,
        failures: current.map_or(0, |capture| capture.failures),
        ..row.clone()
    };
    dead_capture(draft, row, error)
}

/// The customer's bank did not take a refund, days later perhaps, and the money is back at the provider, which says
/// that another way must be found (<https://docs.stripe.com/refunds#failed-refunds>). So it is not tried again by
/// itself: an operator is told.
fn refund_failed(draft: &mut OrderDraft<'_>, amount: i64) -> Result<(), Failure> {
    draft.record(EventData::RefundFailed { amount })?;
    let step = Step::RefundPayment;
    let error = format!(
        "a refund of {amount} minor units failed after the provider had accepted it, and the money is back at the provider: the customer has to get it in another way"
    );
    draft.record(EventData::StepDead {
        step: step.to_string(),
        error: error.clone(),
    })?;
    let now = draft.stamp().now();
    draft.put_dead(step, now, error);
    Ok(())
}

fn given(draft: &mut OrderDraft<'_>, standing: &PaymentState, amount: i64) -> Result<(), Failure> {
    match (draft.order.status, draft.order.payment.status) {
        (OrderStatus::Pending, _) => {
            draft.drop_step(Step::AuthorizePayment);
            let provider = draft.order.payment.provider.clone();
            authorized(draft, &provider, &standing.reference, amount)
        }
        // Authorized although the order is cancelled: void it.
        (
            OrderStatus::Cancelled,
            PaymentStatus::Pending | PaymentStatus::Failed | PaymentStatus::Voided,
        ) if standing.captured == 0 => {
            draft.schedule(Step::VoidPayment);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The authorization ended: it expired, or was cancelled in the provider's dashboard. Unshipped goods would be
/// unpaid.
fn gone(draft: &mut OrderDraft<'_>, standing: &PaymentState) -> Result<(), Failure> {
    const WHY: &str = "the provider gave the payment up";
    if draft.order.status == OrderStatus::Pending {
        draft.drop_step(Step::AuthorizePayment);
        return declined(draft, "canceled", WHY);
    }
    if draft.order.payment.status != PaymentStatus::Authorized || standing.captured > 0 {
        return Ok(());
    }
    draft.record(EventData::PaymentVoided {
        reference: Some(standing.reference.clone()),
    })?;
    draft.drop_step(Step::VoidPayment);
    let has_left = draft.order.ensure_not_shipped("cancelled").is_err();
    if draft.order.status == OrderStatus::Processing && !has_left {
        cancel(draft, CancelReason::PaymentDeclined, Some(WHY.to_owned()))?;
    }
    Ok(())
}

/// Looks where the payment stands, `after` a while; its customer completes it with `secret` meanwhile.
fn look(draft: &mut OrderDraft<'_>, attempt: u32, after: SignedDuration, secret: Option<String>) {
    let due_at = draft.stamp().now() + after;
    draft.put(StepRow {
        client_secret: secret,
        ..draft.row(Step::CheckPayment, attempt, due_at)
    });
}
