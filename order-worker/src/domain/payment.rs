//! The money's side of an order: how events change it, and what the provider says of its books.

use shared::{
    event::EventData,
    order::{NextAction, Payment, PaymentStatus},
};

/// Changes `payment` as `fact` says, if it is about one.
pub(super) fn apply(payment: &mut Payment, fact: &EventData) {
    match fact {
        EventData::PaymentPrepared {
            provider,
            reference,
        } => {
            payment.provider.clone_from(provider);
            payment.reference = Some(reference.clone());
        }
        EventData::PaymentActionRequired { kind, url } => {
            payment.next_action = Some(NextAction {
                kind: kind.clone(),
                url: url.clone(),
                client_secret: None,
            });
        }
        EventData::PaymentAuthorized {
            provider,
            reference,
            amount,
        } => {
            payment.next_action = None;
            payment.status = PaymentStatus::Authorized;
            payment.provider.clone_from(provider);
            payment.reference = Some(reference.clone());
            payment.authorized = *amount;
        }
        EventData::PaymentDeclined { .. } => {
            payment.status = PaymentStatus::Failed;
            payment.next_action = None;
        }
        EventData::PaymentCaptured { amount, is_final } => {
            payment.captured += amount;
            if *is_final {
                payment.authorized = payment.captured;
            }
            payment.status = PaymentStatus::Captured;
            record_refunds(payment, 0);
        }
        EventData::PaymentVoided { reference } => {
            payment.next_action = None;
            payment.status = PaymentStatus::Voided;
            if reference.is_some() {
                payment.reference.clone_from(reference);
            }
        }
        EventData::PaymentRefunded { amount } => record_refunds(payment, *amount),
        EventData::RefundFailed { amount } => record_refunds(payment, -amount),
        _ => {}
    }
}

/// So much more was given back.
fn record_refunds(payment: &mut Payment, amount: i64) {
    payment.refunded += amount;
    payment.status = match (payment.refunded, payment.captured) {
        (0, _) => PaymentStatus::Captured,
        (refunded, captured) if refunded < captured => PaymentStatus::PartiallyRefunded,
        _ => PaymentStatus::Refunded,
    };
}

/// Where a payment stands at the provider: the last word on money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentState {
    /// The provider's id.
    pub reference: String,
    /// What has come of asking for the money.
    pub hold: Authorization,
    /// Minor units taken.
    pub captured: i64,
    /// Minor units given back.
    pub refunded: i64,
    /// Whether nothing more can be captured: all was, or the provider released the rest.
    pub is_closed: bool,
    /// The order's version when it was asked: of an order that has gone on since, this is old news.
    pub version: u64,
}

/// What has come of asking for the money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// Nobody has asked, or the answer is still to come.
    Pending,
    /// The customer has to do something first.
    RequiresAction(NextAction),
    /// Minor units held, or taken by now.
    Authorized(i64),
    /// Refused.
    Declined {
        /// The provider's code.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// Given up, by us or by the provider.
    Cancelled,
}
