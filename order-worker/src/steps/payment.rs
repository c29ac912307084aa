//! Authorizing, capturing, and their undoing. All go by the key of the authorization: there is one
//! for each order.

use crate::{
    domain::{
        command::StepResult,
        order::Order,
        step::{Step, StepKey},
    },
    providers::{
        Authorization, PartnerError,
        sandbox::payment::{NAME, SandboxPayments},
    },
};

/// The order's key at the provider.
pub(crate) fn key(order: &Order) -> String {
    StepKey {
        order_id: order.id,
        step: Step::AuthorizePayment,
    }
    .to_string()
}

pub(super) async fn authorize(
    payments: &SandboxPayments,
    order: &Order,
) -> Result<StepResult, PartnerError> {
    match payments
        .authorize(&key(order), order.price(), &order.payment_method)
        .await
    {
        Ok(Authorization { reference, amount }) => Ok(StepResult::Authorized {
            provider: NAME.to_owned(),
            reference,
            amount,
        }),
        Err(PartnerError::Declined { code, message }) => Ok(StepResult::Declined { code, message }),
        Err(error) => Err(error),
    }
}

/// Undoes [`authorize`], whether it happened, is happening, or never will.
pub(super) async fn void(
    payments: &SandboxPayments,
    order: &Order,
) -> Result<StepResult, PartnerError> {
    payments
        .void(&key(order))
        .await
        .map(|reference| StepResult::Voided { reference })
}

pub(super) async fn capture(
    payments: &SandboxPayments,
    order: &Order,
) -> Result<StepResult, PartnerError> {
    payments
        .capture(&key(order))
        .await
        .map(|amount| StepResult::Captured { amount })
}

/// Undoes [`capture`], as far as it is to be undone.
pub(super) async fn refund(
    payments: &SandboxPayments,
    order: &Order,
) -> Result<StepResult, PartnerError> {
    payments
        .refund(&key(order), order.refund_due.max(order.payment.refunded))
        .await
        .map(|amount| StepResult::Refunded { amount })
}
