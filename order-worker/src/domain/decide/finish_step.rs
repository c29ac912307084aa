//! Applies the result of a step. A result counts only if that attempt is still expected: a cancellation in
//! between removes the step.
//!
//! A failed attempt is retried with backoff, and after the last attempt the step is dead.

use jiff::SignedDuration;
use shared::{
    event::EventData,
    order::{CancelReason, EditRejectReason, OrderStatus},
    outcome::{Code, Failure},
};

use super::{
    Rules,
    cancel_order::cancel,
    edit_order,
    fulfillment::create_labelled_shipment,
    import_order,
    labels::request_next_label,
    manual_payment::on_void_without_call,
    payment,
    refunds::{on_refunded, schedule_refund},
};
use crate::domain::{
    command::{ResourceRef, StepResult, origin_of_step},
    decision::{Changes, Decision, OrderDraft},
    decision_context::DecisionContext,
    shipment::label_shipment_id,
    step::{self, Step, StepKey, StepRow},
    working_set::WorkingSet,
};

pub(super) fn finish_step(
    working_set: &WorkingSet,
    key: &StepKey,
    attempt: u32,
    result: &StepResult,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let expected_row = working_set
        .steps
        .get(key)
        .filter(|row| row.attempt == attempt && !row.is_dead);
    let (Some(row), Some(order)) = (expected_row, working_set.orders.get(&key.order_id)) else {
        return Ok(Decision {
            reply: Ok(ResourceRef::NoContent),
            changes: Changes::default(),
        });
    };
    let origin = origin_of_step(row);
    let mut draft = OrderDraft::from_order(order, &origin, context);
    match result {
        StepResult::Failed {
            error,
            is_transient,
            was_answered,
            retry_after,
        } => {
            let row = StepRow {
                error_responses: row.error_responses + u32::from(*was_answered),
                ..row.clone()
            };
            record_failure(&mut draft, &row, error, *is_transient, *retry_after)?;
        }
        StepResult::Postponed { reason } => postpone(&mut draft, row, reason),
        result => {
            draft.remove_step(key.step.clone());
            apply_result(&mut draft, row, result, working_set, rules)?;
        }
    }
    Ok(draft.into_decision_without_reply())
}

/// Applies the result of an attempt that neither failed nor was postponed. A declined payment is such a
/// result.
#[expect(clippy::too_many_lines, reason = "one arm per step and result")]
fn apply_result(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    result: &StepResult,
    working_set: &WorkingSet,
    rules: &Rules,
) -> Result<(), Failure> {
    match (&row.key.step, result) {
        (
            Step::AuthorizePayment,
            StepResult::Authorized {
                provider,
                reference: payment_reference,
                amount,
            },
        ) => payment::on_authorized(draft, provider, payment_reference, *amount)?,
        (
            Step::AuthorizePayment,
            StepResult::PaymentCreated {
                provider,
                reference: payment_reference,
            },
        ) => payment::on_prepared(draft, row, provider, payment_reference, None)?,
        (Step::AuthorizePayment, StepResult::ActionRequired(action)) => {
            payment::on_action_required(draft, action)?;
        }
        (Step::AuthorizePayment, StepResult::Declined { code, message }) => {
            payment::on_declined(draft, code, message)?;
        }
        (
            Step::CapturePayment,
            StepResult::Captured {
                amount,
                requested_total,
                is_last_capture,
            },
        ) => {
            payment::on_captured(
                draft,
                row,
                *amount,
                *requested_total,
                *is_last_capture,
                rules,
            )?;
        }
        (
            Step::CheckPayment | Step::VoidPayment | Step::CapturePayment | Step::RefundPayment,
            StepResult::PaymentState(payment_state),
        ) => {
            payment::reconcile(draft, row, payment_state, rules)?;
        }
        (
            Step::VoidPayment,
            StepResult::Voided {
                reference: payment_reference,
            },
        ) => {
            draft.record(EventData::PaymentVoided {
                reference: payment_reference.clone(),
            })?;
        }
        (Step::RefundPayment, StepResult::Refunded { amount }) => {
            on_refunded(draft, *amount)?;
        }
        (Step::RequestShipment(label_id), StepResult::LabelCreated(label)) => {
            let shipment_id = label_shipment_id(&draft.order, label_id);
            create_labelled_shipment(draft, &label_id.warehouse, shipment_id, label.clone())?;
        }
        (Step::CancelShipment(label_id), StepResult::LabelCancelled) => {
            request_next_label(draft, working_set, label_id);
        }
        // Steps of manual payments exist only if an earlier version of the worker has scheduled them.
        (Step::RefundPayment, StepResult::NoExternalCall) => schedule_refund(draft)?,
        (Step::VoidPayment, StepResult::NoExternalCall) => on_void_without_call(draft)?,
        (
            Step::AuthorizePayment | Step::CapturePayment | Step::CheckPayment,
            StepResult::NoExternalCall,
        ) => {}
        (Step::ReserveStock, StepResult::NoExternalCall) => {
            import_order::reserve_stock(draft, working_set, rules)?;
        }
        (
            Step::AuthorizeEdit(edit_number),
            StepResult::Authorized {
                provider,
                reference: payment_reference,
                amount,
            },
        ) => {
            let authorization = (provider.as_str(), payment_reference.as_str(), *amount);
            edit_order::on_edit_authorized(draft, working_set, *edit_number, authorization)?;
        }
        (
            Step::AuthorizeEdit(edit_number),
            StepResult::PaymentCreated {
                provider,
                reference: payment_reference,
            },
        ) => payment::on_prepared(draft, row, provider, payment_reference, Some(*edit_number))?,
        (Step::AuthorizeEdit(_), StepResult::ActionRequired(action)) => {
            let (reason, action_type) =
                (EditRejectReason::ActionRequired, action.action_type.clone());
            edit_order::reject_edit(draft, reason, Some(action_type), None)?;
        }
        (Step::AuthorizeEdit(_), StepResult::Declined { code, message }) => {
            let reason = EditRejectReason::PaymentDeclined;
            let (code, message) = (Some(code.clone()), Some(message.clone()));
            edit_order::reject_edit(draft, reason, code, message)?;
        }
        (
            Step::VoidAuthorization(edit_number),
            StepResult::Voided {
                reference: payment_reference,
            },
        ) => {
            draft.record(EventData::PaymentReleased {
                reference: payment_reference.clone(),
                edit_number: *edit_number,
            })?;
        }
        (Step::ExpireEdit(edit_number), StepResult::NoExternalCall) => {
            if draft.order.has_pending_edit(*edit_number) {
                edit_order::reject_edit(draft, EditRejectReason::Expired, None, None)?;
            }
        }
        (Step::ExpireOrder, StepResult::NoExternalCall) => {
            if draft.order.status == OrderStatus::Pending {
                cancel(draft, CancelReason::Expired, None)?;
            }
        }
        (
            Step::AuthorizePayment
            | Step::CapturePayment
            | Step::VoidPayment
            | Step::RefundPayment
            | Step::CheckPayment
            | Step::ReserveStock
            | Step::RequestShipment(_)
            | Step::CancelShipment(_)
            | Step::ExpireOrder
            | Step::AuthorizeEdit(_)
            | Step::VoidAuthorization(_)
            | Step::ExpireEdit(_),
            result,
        ) => {
            return Err(Failure::new(
                Code::Internal,
                format!(
                    "step {} can't have the result {:?}",
                    row.key.step,
                    result.name()
                ),
            ));
        }
    }
    Ok(())
}

/// Schedules a retry, or marks the step as dead. The delay of a retry is the longer of the backoff and
/// `retry_after`.
fn record_failure(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    error_text: &str,
    is_transient: bool,
    retry_after: Option<SignedDuration>,
) -> Result<(), Failure> {
    let jitter = draft.context().random_jitter();
    let delay = Some(row.key.step.retry_policy())
        .filter(|_| is_transient)
        .and_then(|policy| policy.delay(row.failures + 1, jitter))
        .map(|delay| delay.max(retry_after.unwrap_or_default()));
    let (step, error_text) = (row.key.step.to_string(), error_text.to_owned());
    let row = StepRow {
        failures: row.failures + 1,
        last_error: Some(error_text.clone()),
        ..row.clone()
    };
    if let Some(delay) = delay {
        let due_at = draft.context().now() + delay;
        draft.record(EventData::StepRetried {
            step,
            error: error_text,
            due_at,
        })?;
        draft.put_step(StepRow {
            attempt: row.attempt + 1,
            due_at,
            ..row
        });
    } else {
        let due_at = draft.context().now();
        draft.record(EventData::StepDead {
            step,
            error: error_text,
        })?;
        draft.put_step(StepRow {
            is_dead: true,
            due_at,
            ..row
        });
    }
    Ok(())
}

/// Postpones a step whose provider was not called. It uses up no attempt, so a step never becomes dead
/// because a provider is busy.
fn postpone(draft: &mut OrderDraft<'_>, row: &StepRow, reason: &str) {
    let jitter = draft.context().random_jitter();
    let due_at = draft.context().now() + step::postpone_delay(row.attempt, jitter);
    draft.put_step(StepRow {
        attempt: row.attempt + 1,
        due_at,
        last_error: Some(reason.to_owned()),
        ..row.clone()
    });
}
