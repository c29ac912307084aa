//! Applies results of payments: results of steps, and states that were read from the provider after a webhook
//! or a timer.
//!
//! Results arrive late, duplicated and out of order. All amounts are totals, so that the latest state counts;
//! the provider's state is authoritative. Money that is missing or failed becomes a dead step, for an
//! operator.

use jiff::SignedDuration;
use shared::{
    event::{EventData, Origin},
    id::OrderId,
    order::{CancelReason, NextAction, OrderStatus, PaymentStatus},
    outcome::Failure,
    request::Caller,
};

use super::{
    Rules,
    cancel_order::cancel,
    fulfillment::start_fulfillment,
    refunds::{record_refunds, refund_all, refund_captured_excess, refund_returns},
    visible_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    payment::{Authorization, PaymentState},
    step::{Step, StepKey, StepRow},
    working_set::WorkingSet,
};

/// Interval for polling a payment that requires an action of the customer; webhooks usually arrive earlier.
const POLL_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// Handles a notification of the provider: schedules a check of the payment, since the webhook may be
/// outdated.
pub(super) fn notify_payment(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    order_id: OrderId,
    payment_reference: &str,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = visible_order(working_set, caller, order_id)?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    // A notification of another payment than the order's is ignored.
    if order.payment.reference.as_deref() != Some(payment_reference) {
        return Ok(draft.into_decision());
    }
    let check_key = StepKey {
        order_id: order.id,
        step: Step::CheckPayment,
    };
    // A check in progress may have read the state too early: its result is ignored.
    let check_row = working_set.steps.get(&check_key);
    let client_secret = check_row.and_then(|row| row.client_secret.clone());
    schedule_payment_check(&mut draft, SignedDuration::ZERO, client_secret);
    Ok(draft.into_decision())
}

/// The provider created the payment; it is authorized next. Its id is stored first, so that every
/// authorization has a known id. `edit_number` is the number of the edit that the payment is for.
pub(super) fn on_prepared(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    provider: &str,
    payment_reference: &str,
    edit_number: Option<u32>,
) -> Result<(), Failure> {
    draft.record(EventData::PaymentPrepared {
        provider: provider.to_owned(),
        reference: payment_reference.to_owned(),
        edit_number,
    })?;
    draft.put_step(StepRow {
        attempt: row.attempt + 1,
        ..row.clone()
    });
    Ok(())
}

/// The customer has to complete an action; the order waits as long as its stock is reserved. The payment is
/// polled meanwhile.
pub(super) fn on_action_required(
    draft: &mut OrderDraft<'_>,
    action: &NextAction,
) -> Result<(), Failure> {
    let NextAction {
        action_type,
        action_url,
        client_secret,
    } = action.clone();
    schedule_payment_check(draft, POLL_INTERVAL, client_secret);
    let known_action = draft.order.payment.next_action.as_ref();
    if known_action.is_none_or(|known_action| {
        known_action.action_type != action_type || known_action.action_url != action_url
    }) {
        // Events are published, so they do not contain the secret.
        draft.record(EventData::PaymentActionRequired {
            action_type,
            action_url,
        })?;
    }
    Ok(())
}

/// The payment is authorized: fulfilment starts.
pub(super) fn on_authorized(
    draft: &mut OrderDraft<'_>,
    provider: &str,
    payment_reference: &str,
    amount: i64,
) -> Result<(), Failure> {
    draft.record(EventData::PaymentAuthorized {
        provider: provider.to_owned(),
        reference: payment_reference.to_owned(),
        amount,
        edit_number: None,
    })?;
    draft.remove_step(Step::ExpireOrder);
    start_fulfillment(draft)
}

/// The payment was declined: the order is cancelled.
pub(super) fn on_declined(
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

/// The provider captured `captured_total` of `requested_total`, both including earlier captures.
/// `is_last_capture` says whether no item remained to be shipped when it was requested.
pub(super) fn on_captured(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    captured_total: i64,
    requested_total: i64,
    is_last_capture: bool,
    rules: &Rules,
) -> Result<(), Failure> {
    let (captured_before, refund_due_before) =
        (draft.order.payment.captured, draft.order.total_refund_due);
    let amount = captured_total - captured_before;
    if amount > 0 || draft.order.total == 0 {
        draft.record(EventData::captured(amount, false))?;
    }
    refund_captured_excess(draft, captured_before, refund_due_before)?;
    let was_last_capture_missed =
        !is_last_capture && draft.order.has_nothing_to_ship() && draft.order.total > 0;
    if draft.order.total_to_capture() > requested_total || was_last_capture_missed {
        // More was shipped meanwhile; or the rest was cancelled: a provider that captures only once captures
        // now, any other releases the rest of the authorization.
        draft.schedule(Step::CapturePayment);
    } else if draft.order.uncollectable_shipped() > 0 {
        record_unpaid_shipments(draft, row.clone())?;
    }
    refund_returns(draft, rules)
}

/// Shipped items can't be paid for: the capture becomes a dead step, for an operator.
fn record_unpaid_shipments(draft: &mut OrderDraft<'_>, row: StepRow) -> Result<(), Failure> {
    let (total_to_capture, captured_amount) =
        (draft.order.total_to_capture(), draft.order.payment.captured);
    let collectable_amount = draft.order.collectable_amount();
    let error_text = format!(
        "the shipped items are worth {total_to_capture} minor units, {captured_amount} are captured and the rest can't be captured: the \
         provider has authorized or captured only {collectable_amount}"
    );
    record_dead_capture(draft, row, error_text)
}

/// Records that the capture failed for good.
fn record_dead_capture(
    draft: &mut OrderDraft<'_>,
    row: StepRow,
    error_text: String,
) -> Result<(), Failure> {
    draft.record(EventData::StepDead {
        step: Step::CapturePayment.to_string(),
        error: error_text.clone(),
    })?;
    let due_at = draft.context().now();
    draft.put_step(StepRow {
        failures: row.failures + 1,
        due_at,
        is_dead: true,
        last_error: Some(error_text),
        ..row
    });
    Ok(())
}

/// Adopts the provider's state of the payment, whether it was changed by a step, by the customer, in the
/// provider's dashboard, or by an expiry.
pub(super) fn reconcile(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    state: &PaymentState,
    rules: &Rules,
) -> Result<(), Failure> {
    // Another step finished meanwhile, so the state is outdated: read it again.
    if state.order_version != draft.order.version {
        let now = draft.context().now();
        draft.schedule_row(StepRow {
            client_secret: row.client_secret.clone(),
            ..draft.new_step_row(row.key.step.clone(), now)
        });
        return Ok(());
    }
    if draft.order.payment.reference.is_none() {
        draft.record(EventData::PaymentPrepared {
            provider: draft.order.payment.provider.clone(),
            reference: state.reference.clone(),
            edit_number: None,
        })?;
    }
    let collectable_amount = draft.order.collectable_amount();
    match &state.authorization {
        Authorization::Pending => {}
        Authorization::RequiresAction(action) => {
            if draft.order.status == OrderStatus::Pending {
                on_action_required(draft, action)?;
            }
        }
        Authorization::Authorized(amount) => on_authorization_found(draft, state, *amount)?,
        Authorization::Declined { code, message } => {
            if draft.order.status == OrderStatus::Pending {
                draft.remove_step(Step::AuthorizePayment);
                on_declined(draft, code, message)?;
            }
        }
        Authorization::Cancelled => on_authorization_ended(draft, state)?,
    }
    let (captured_before, refund_due_before) =
        (draft.order.payment.captured, draft.order.total_refund_due);
    record_external_capture(draft, state)?;
    record_refunds(draft, state.refunded)?;
    refund_captured_excess(draft, captured_before, refund_due_before)?;
    let failed_refunds = draft.order.payment.refunded - state.refunded;
    if failed_refunds > 0 {
        on_refund_failed(draft, failed_refunds)?;
    }
    // Payments of cancelled orders are refunded.
    if draft.order.status == OrderStatus::Cancelled && refund_all(draft)? {
        draft.schedule(Step::RefundPayment);
    }
    refund_returns(draft, rules)?;
    let has_decreased = draft.order.collectable_amount() < collectable_amount;
    report_missing_money(draft, row, has_decreased)
}

/// Records captures that this system did not request, and the release of the rest of an authorization.
fn record_external_capture(
    draft: &mut OrderDraft<'_>,
    state: &PaymentState,
) -> Result<(), Failure> {
    let payment = &draft.order.payment;
    let amount = (state.captured - payment.captured).max(0);
    let captured_total = payment.captured + amount;
    // The authorization may have been confirmed after the order was cancelled.
    if let Authorization::Authorized(authorized_amount) = state.authorization
        && amount > 0
        && payment.authorized < captured_total
    {
        let provider = payment.provider.clone();
        draft.record(EventData::PaymentAuthorized {
            provider,
            reference: state.reference.clone(),
            amount: authorized_amount,
            edit_number: None,
        })?;
    }
    let is_final =
        state.is_closed && captured_total > 0 && captured_total < draft.order.payment.authorized;
    if amount > 0 || is_final {
        draft.record(EventData::captured(amount, is_final))?;
    }
    Ok(())
}

/// Adds a dead capture step, for an operator, when the provider has less money than the order needs: when
/// this becomes known, and whenever a capture finds that there is nothing to capture.
fn report_missing_money(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    has_decreased: bool,
) -> Result<(), Failure> {
    if !matches!(
        draft.order.status,
        OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered
    ) {
        return Ok(());
    }
    if row.key.step == Step::CapturePayment {
        return match draft.order.outstanding_capture() {
            0 => Ok(()),
            _ => record_unpaid_shipments(draft, row.clone()),
        };
    }
    let missing_amount = draft.order.uncollectable_amount();
    if !has_decreased || missing_amount == 0 {
        return Ok(());
    }
    let (order_total, collectable_amount) = (draft.order.total, draft.order.collectable_amount());
    let error_text = format!(
        "the provider released money that this order needs: {collectable_amount} of {order_total} minor units are authorized or \
         captured, {missing_amount} can't be captured any more"
    );
    draft.record_dead_step(Step::CapturePayment, error_text)
}

/// A refund failed after the provider had accepted it, possibly days later: the customer's bank rejected it,
/// and the money is back at the provider. The provider requires another way of refunding
/// (<https://docs.stripe.com/refunds#failed-refunds>), so it is not retried: a dead step informs an operator.
fn on_refund_failed(draft: &mut OrderDraft<'_>, amount: i64) -> Result<(), Failure> {
    draft.record(EventData::RefundFailed { amount })?;
    let error_text = format!(
        "a refund of {amount} minor units failed after the provider had accepted it, and the money is back at the provider: refund the customer in another way"
    );
    draft.record_dead_step(Step::RefundPayment, error_text)
}

fn on_authorization_found(
    draft: &mut OrderDraft<'_>,
    state: &PaymentState,
    amount: i64,
) -> Result<(), Failure> {
    match (draft.order.status, draft.order.payment.status) {
        (OrderStatus::Pending, _) => {
            draft.remove_step(Step::AuthorizePayment);
            let provider = draft.order.payment.provider.clone();
            on_authorized(draft, &provider, &state.reference, amount)
        }
        // Authorized although the order is cancelled: void it.
        (
            OrderStatus::Cancelled,
            PaymentStatus::Pending | PaymentStatus::Failed | PaymentStatus::Voided,
        ) if state.captured == 0 => {
            draft.schedule(Step::VoidPayment);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The authorization ended: it expired, or was cancelled in the provider's dashboard. An order of which
/// nothing was shipped is cancelled.
fn on_authorization_ended(draft: &mut OrderDraft<'_>, state: &PaymentState) -> Result<(), Failure> {
    const CANCEL_REASON: &str = "the provider cancelled the payment";
    if draft.order.status == OrderStatus::Pending {
        draft.remove_step(Step::AuthorizePayment);
        return on_declined(draft, "canceled", CANCEL_REASON);
    }
    if draft.order.payment.status != PaymentStatus::Authorized || state.captured > 0 {
        return Ok(());
    }
    draft.record(EventData::PaymentVoided {
        reference: Some(state.reference.clone()),
    })?;
    draft.remove_step(Step::VoidPayment);
    let is_shipped = draft.order.ensure_not_shipped("cancelled").is_err();
    if draft.order.status == OrderStatus::Processing && !is_shipped {
        cancel(
            draft,
            CancelReason::PaymentDeclined,
            Some(CANCEL_REASON.to_owned()),
        )?;
    }
    Ok(())
}

/// Schedules a check of the payment at the provider in `delay`. The customer completes the payment with
/// `client_secret` meanwhile.
fn schedule_payment_check(
    draft: &mut OrderDraft<'_>,
    delay: SignedDuration,
    client_secret: Option<String>,
) {
    let due_at = draft.context().now() + delay;
    draft.schedule_row(StepRow {
        client_secret,
        ..draft.new_step_row(Step::CheckPayment, due_at)
    });
}
