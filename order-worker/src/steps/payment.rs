//! Payment calls: authorize, capture, void, refund. All use the idempotency key of the authorization, which is
//! unique per order.

use crate::{
    domain::{
        command::StepResult,
        order::Order,
        payment::PaymentState,
        step::{Step, StepKey, StepRow},
    },
    providers::{Payment, Payments, ProviderError},
};

/// The order's payment, as the provider is told of it by the step in `row`.
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
        price: order.price(),
        method: order.payment_method.clone(),
        return_url: order.return_url.clone(),
        refunded: order.payment.refunded,
        error_responses: row.answered,
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
        StepResult::Stands(standing) => stands(standing, version),
        voided => voided,
    })
}

/// Captures the total value of what was shipped.
pub(super) async fn capture(
    payments: &Payments,
    payment: &Payment,
    version: u64,
    asked: i64,
    is_last: bool,
) -> Result<StepResult, ProviderError> {
    let captured = payments.capture(payment, asked, is_last).await?;
    Ok(match captured {
        StepResult::Stands(standing) => stands(standing, version),
        captured => captured,
    })
}

/// Undoes [`capture`], as far as it is to be undone.
pub(super) async fn refund(
    payments: &Payments,
    payment: &Payment,
    total: i64,
    version: u64,
) -> Result<StepResult, ProviderError> {
    let refunded = payments.refund(payment, total).await?;
    Ok(match refunded {
        StepResult::Stands(standing) => stands(standing, version),
        refunded => refunded,
    })
}

/// Reads the state of the payment.
pub(super) async fn check(
    payments: &Payments,
    payment: &Payment,
    version: u64,
) -> Result<StepResult, ProviderError> {
    let standing = payments.payment_state(payment).await?;
    Ok(stands(standing, version))
}

/// Adds the version of the order to the state.
fn stands(standing: PaymentState, version: u64) -> StepResult {
    StepResult::Stands(PaymentState {
        version,
        ..standing
    })
}
