//! Authorizing, capturing, and their undoing. All go by the key of the authorization: there is one
//! for each order.

use crate::{
    domain::{
        command::StepResult,
        order::Order,
        payment::Standing,
        step::{Step, StepKey},
    },
    providers::{PartnerError, Payment, Payments},
};

/// The order's payment, as the provider is told of it.
fn payment(order: &Order) -> Payment<'_> {
    let key = StepKey {
        order_id: order.id,
        step: Step::AuthorizePayment,
    };
    Payment {
        key: key.to_string(),
        provider: &order.payment.provider,
        reference: order.payment.reference.as_deref(),
        order_id: order.id,
        number: order.number,
        price: order.price(),
        method: &order.payment_method,
    }
}

pub(super) async fn authorize(
    payments: &Payments,
    order: &Order,
) -> Result<StepResult, PartnerError> {
    match payments.authorize(&payment(order)).await {
        Err(PartnerError::Declined { code, message }) => Ok(StepResult::Declined { code, message }),
        answer => answer,
    }
}

/// Undoes [`authorize`], whether it happened, is happening, or never will.
pub(super) async fn void(payments: &Payments, order: &Order) -> Result<StepResult, PartnerError> {
    let voided = payments.void(&payment(order)).await?;
    Ok(match voided {
        StepResult::Stands(standing) => stands(standing, order),
        voided => voided,
    })
}

/// Takes what has left costs, in all.
pub(super) async fn capture(
    payments: &Payments,
    order: &Order,
) -> Result<StepResult, PartnerError> {
    let asked = order.capture_due();
    let amount = payments.capture(&payment(order), asked).await?;
    Ok(StepResult::Captured { amount, asked })
}

/// Undoes [`capture`], as far as it is to be undone.
pub(super) async fn refund(payments: &Payments, order: &Order) -> Result<StepResult, PartnerError> {
    let total = order.refund_due.max(order.payment.refunded);
    let amount = payments.refund(&payment(order), total).await?;
    Ok(StepResult::Refunded { amount })
}

/// Looks where it stands.
pub(super) async fn check(payments: &Payments, order: &Order) -> Result<StepResult, PartnerError> {
    let standing = payments.look(&payment(order)).await?;
    Ok(stands(standing, order))
}

/// As it was asked of the order as it is.
fn stands(standing: Standing, order: &Order) -> StepResult {
    StepResult::Stands(Standing {
        version: order.version,
        ..standing
    })
}
