//! Payment calls: authorize, capture, void, refund, check. All use the idempotency key of the authorization:
//! there is one for the order as it was created, and one for each edit with a higher total.

use shared::money::Money;

use crate::{
    domain::{
        command::StepResult,
        order::Order,
        payment::PaymentState,
        step::{Step, StepKey, StepRow},
    },
    providers::{Payment, Payments, ProviderError},
};

/// Idempotency key of the payment for the order's edit with this number; 0: the order as it was created.
fn payment_key(order: &Order, edit_number: u32) -> String {
    StepKey {
        order_id: order.id,
        step: Step::authorization(edit_number),
    }
    .to_string()
}

/// The payment for the pending edit with this number.
pub(super) fn payment_of_edit(order: &Order, row: &StepRow, edit_number: u32) -> Payment {
    let payment = Payment {
        idempotency_key: payment_key(order, edit_number),
        reference: None,
        return_url: None,
        refunded: 0,
        ..payment(order, row)
    };
    let pending_edit = order.pending_edit.as_ref();
    let Some(pending_edit) = pending_edit.filter(|pending_edit| pending_edit.number == edit_number)
    else {
        return payment;
    };
    Payment {
        reference: pending_edit.reference.clone(),
        price: Money {
            amount: pending_edit.total,
            currency: order.currency,
        },
        payment_method: pending_edit
            .payment_method
            .clone()
            .unwrap_or(payment.payment_method),
        ..payment
    }
}

/// The payment for the edit with this number, which is not the order's payment any more or never was.
pub(super) fn payment_to_void(order: &Order, row: &StepRow, edit_number: u32) -> Payment {
    let payment_reference = order.open_authorizations.get(&edit_number);
    Payment {
        idempotency_key: payment_key(order, edit_number),
        reference: payment_reference.cloned().flatten(),
        refunded: 0,
        ..payment(order, row)
    }
}

/// The payment of `order` as passed to the provider, for the step in `row`.
pub(super) fn payment(order: &Order, row: &StepRow) -> Payment {
    Payment {
        idempotency_key: payment_key(order, order.authorized_edit_number),
        provider: order.payment.provider.clone(),
        reference: order.payment.reference.clone(),
        order_id: order.id,
        order_number: order.number,
        price: order.total_price(),
        payment_method: order.payment_method.clone(),
        return_url: order.return_url.clone(),
        refunded: order.payment.refunded,
        error_responses: row.error_responses,
    }
}

pub(super) async fn authorize(
    payments: &Payments,
    payment: &Payment,
) -> Result<StepResult, ProviderError> {
    match payments.authorize(payment).await {
        Err(ProviderError::Declined { code, message }) => {
            Ok(StepResult::Declined { code, message })
        }
        other_result => other_result,
    }
}

/// Undoes [`authorize`], whether it was executed, is running, or never will be.
pub(super) async fn void(
    payments: &Payments,
    payment: &Payment,
    order_version: u64,
) -> Result<StepResult, ProviderError> {
    let void_result = payments.void(payment).await?;
    Ok(match void_result {
        StepResult::PaymentState(payment_state) => with_order_version(payment_state, order_version),
        void_result => void_result,
    })
}

/// Voids an authorization that is not the order's. If it was captured, an operator has to refund it.
pub(super) async fn void_other(
    payments: &Payments,
    payment: &Payment,
) -> Result<StepResult, ProviderError> {
    match payments.void(payment).await? {
        StepResult::PaymentState(payment_state) => Err(ProviderError::Permanent(format!(
            "{} minor units of payment {} were captured at the provider, but it is not the order's payment: refund it there",
            payment_state.captured, payment_state.reference
        ))),
        void_result => Ok(void_result),
    }
}

/// Captures the total value of what was shipped.
pub(super) async fn capture(
    payments: &Payments,
    payment: &Payment,
    order_version: u64,
    capture_total: i64,
    is_last_capture: bool,
) -> Result<StepResult, ProviderError> {
    let capture_result = payments
        .capture(payment, capture_total, is_last_capture)
        .await?;
    Ok(match capture_result {
        StepResult::PaymentState(payment_state) => with_order_version(payment_state, order_version),
        capture_result => capture_result,
    })
}

/// Undoes [`capture`] up to `refund_total`, the total amount to refund.
pub(super) async fn refund(
    payments: &Payments,
    payment: &Payment,
    refund_total: i64,
    order_version: u64,
) -> Result<StepResult, ProviderError> {
    let refund_result = payments.refund(payment, refund_total).await?;
    Ok(match refund_result {
        StepResult::PaymentState(payment_state) => with_order_version(payment_state, order_version),
        refund_result => refund_result,
    })
}

/// Reads the state of the payment.
pub(super) async fn check(
    payments: &Payments,
    payment: &Payment,
    order_version: u64,
) -> Result<StepResult, ProviderError> {
    let payment_state = payments.payment_state(payment).await?;
    Ok(with_order_version(payment_state, order_version))
}

/// Adds the version of the order to the state.
fn with_order_version(payment_state: PaymentState, order_version: u64) -> StepResult {
    StepResult::PaymentState(PaymentState {
        order_version,
        ..payment_state
    })
}
