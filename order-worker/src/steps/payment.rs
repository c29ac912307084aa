//! Payment calls: authorize, capture, void, refund, check. All use the idempotency key of the authorization,
//! which is unique per order.

use crate::{
    domain::{
        command::StepResult,
        order::Order,
        payment::PaymentState,
        step::{Step, StepKey, StepRow},
    },
    providers::{Payment, Payments, ProviderError},
};

/// The payment of `order` as passed to the provider, for the step in `row`.
pub(super) fn payment(order: &Order, row: &StepRow) -> Payment {
    let key = StepKey {
        order_id: order.id,
        step: Step::AuthorizePayment,
    };
    Payment {
        key: key.to_string(),
        provider: order.payment.provider.clone(),
        reference: order.payment.reference.clone(),
        order_id: order.id,
        number: order.number,
        price: order.total_price(),
        method: order.payment_method.clone(),
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
        answer => answer,
    }
}

/// Undoes [`authorize`], whether it was executed, is running, or never will be.
pub(super) async fn void(
    payments: &Payments,
    payment: &Payment,
    version: u64,
) -> Result<StepResult, ProviderError> {
    let voided = payments.void(payment).await?;
    Ok(match voided {
        StepResult::PaymentState(state) => with_order_version(state, version),
        voided => voided,
    })
}

/// Captures the total value of what was shipped.
pub(super) async fn capture(
    payments: &Payments,
    payment: &Payment,
    version: u64,
    total: i64,
    is_last: bool,
) -> Result<StepResult, ProviderError> {
    let captured = payments.capture(payment, total, is_last).await?;
    Ok(match captured {
        StepResult::PaymentState(state) => with_order_version(state, version),
        captured => captured,
    })
}

/// Undoes [`capture`] up to `total`, the total amount to refund.
pub(super) async fn refund(
    payments: &Payments,
    payment: &Payment,
    total: i64,
    version: u64,
) -> Result<StepResult, ProviderError> {
    let refunded = payments.refund(payment, total).await?;
    Ok(match refunded {
        StepResult::PaymentState(state) => with_order_version(state, version),
        refunded => refunded,
    })
}

/// Reads the state of the payment.
pub(super) async fn check(
    payments: &Payments,
    payment: &Payment,
    version: u64,
) -> Result<StepResult, ProviderError> {
    let state = payments.payment_state(payment).await?;
    Ok(with_order_version(state, version))
}

/// Adds the version of the order to the state.
fn with_order_version(state: PaymentState, version: u64) -> StepResult {
    StepResult::PaymentState(PaymentState { version, ..state })
}
