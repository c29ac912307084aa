//! Applies the result of a step. It counts only if that attempt is still expected: a cancellation in between
//! removes the step.

use shared::{
    event::EventData,
    order::{CancelReason, OrderStatus},
    outcome::{Code, Failure},
};

use super::{
    Rules, cancel_order::cancel, import_order, payment, refund_order::refunded,
    update_shipment::announce,
};
use crate::domain::{
    command::{Answer, StepResult, origin_of_step},
    decision::{Changes, Decision, OrderDraft},
    decision_context::DecisionContext,
    step::{self, Step, StepKey, StepRow},
    working_set::WorkingSet,
};

pub(super) fn finish_step(
    world: &WorkingSet,
    key: &StepKey,
    attempt: u32,
    result: &StepResult,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let awaited = world
        .steps
        .get(key)
        .filter(|row| row.attempt == attempt && !row.is_dead);
    let (Some(row), Some(order)) = (awaited, world.orders.get(&key.order_id)) else {
        return Ok(Decision {
            answer: Ok(Answer::Done),
            changes: Changes::default(),
        });
    };
    let origin = origin_of_step(row);
    let mut draft = OrderDraft::of(order, &origin, stamp);
    match result {
        StepResult::Failed {
            error,
            is_transient,
            was_answered,
        } => {
            let row = StepRow {
                answered: row.answered + u32::from(*was_answered),
                ..row.clone()
            };
            failed(&mut draft, &row, error, *is_transient)?;
        }
        StepResult::PutOff { why } => postpone(&mut draft, row, why),
        result => {
            draft.drop_step(key.step.clone());
            done(&mut draft, row, result, world, rules)?;
        }
    }
    Ok(draft.done())
}

/// Applies the result of a successful step.
fn done(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    result: &StepResult,
    world: &WorkingSet,
    rules: &Rules,
) -> Result<(), Failure> {
    match (&row.key.step, result) {
        (
            Step::AuthorizePayment,
            StepResult::Authorized {
                provider,
                reference,
                amount,
            },
        ) => payment::authorized(draft, provider, reference, *amount)?,
        (
            Step::AuthorizePayment,
            StepResult::Prepared {
                provider,
                reference,
            },
        ) => payment::prepared(draft, row, provider, reference)?,
        (Step::AuthorizePayment, StepResult::ActionRequired(action)) => {
            payment::action_required(draft, action, 1)?;
        }
        (Step::AuthorizePayment, StepResult::Declined { code, message }) => {
            payment::declined(draft, code, message)?;
        }
        (
            Step::CapturePayment,
            StepResult::Captured {
                amount,
                asked,
                is_last,
            },
        ) => {
            payment::captured(draft, row, *amount, *asked, *is_last, rules)?;
        }
        (
            Step::CheckPayment | Step::VoidPayment | Step::CapturePayment | Step::RefundPayment,
            StepResult::Stands(standing),
        ) => {
            payment::reconcile(draft, row, standing, world, rules)?;
        }
        (Step::VoidPayment, StepResult::Voided { reference }) => {
            draft.record(EventData::PaymentVoided {
                reference: reference.clone(),
            })?;
        }
        (Step::RefundPayment, StepResult::Refunded { amount }) => {
            refunded(draft, *amount)?;
        }
        (
            Step::RequestShipment(warehouse),
            StepResult::Announced {
                carrier,
                tracking_number,
            },
        ) => {
            announce(draft, warehouse, carrier.clone(), tracking_number.clone())?;
        }
        (Step::CancelShipment(_), StepResult::Withdrawn) => {}
        (Step::ReserveStock, StepResult::TimeIsUp) => {
            import_order::reserve_stock(draft, world, rules)?;
        }
        (Step::ExpireOrder, StepResult::TimeIsUp) => {
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
            | Step::ExpireOrder,
            result,
        ) => {
            return Err(Failure::new(
                Code::Internal,
                format!("{} can't end as {}", row.key.step, result.name()),
            ));
        }
    }
    Ok(())
}

/// Schedules a retry, or marks the step as dead.
fn failed(
    draft: &mut OrderDraft<'_>,
    row: &StepRow,
    error: &str,
    is_transient: bool,
) -> Result<(), Failure> {
    let jitter = draft.stamp().jitter();
    let delay = Some(row.key.step.retry())
        .filter(|_| is_transient)
        .and_then(|retry| retry.delay(row.failures + 1, jitter));
    let (step, error) = (row.key.step.to_string(), error.to_owned());
    let row = StepRow {
        failures: row.failures + 1,
        last_error: Some(error.clone()),
        ..row.clone()
    };
    if let Some(delay) = delay {
        let due_at = draft.stamp().now() + delay;
        draft.record(EventData::StepRetried {
            step,
            error,
            due_at,
        })?;
        draft.put(StepRow {
            attempt: row.attempt + 1,
            due_at,
            ..row
        });
    } else {
        let due_at = draft.stamp().now();
        draft.record(EventData::StepDead { step, error })?;
        draft.put(StepRow {
            is_dead: true,
            due_at,
            ..row
        });
    }
    Ok(())
}

/// Postpones a step whose partner was not called. It uses up no attempt, so a step never dies of a busy partner.
fn postpone(draft: &mut OrderDraft<'_>, row: &StepRow, why: &str) {
    let jitter = draft.stamp().jitter();
    let due_at = draft.stamp().now() + step::postpone(row.attempt, jitter);
    draft.put(StepRow {
        attempt: row.attempt + 1,
        due_at,
        last_error: Some(why.to_owned()),
        ..row.clone()
    });
}
