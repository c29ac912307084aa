//! The payment of an order: application of payment events, and the state of a payment at the provider.
//!
//! The provider is authoritative. All amounts are totals in minor units, so results may arrive late, twice or
//! out of order; `decide::payment` compares them with the order.

use shared::{
    event::EventData,
    order::{NextAction, Payment, PaymentStatus},
};

/// Payment provider of orders that are paid outside of any provider: by bank transfer, in cash, on an invoice.
/// Operators record their payments. It is also the payment method of these orders.
pub const MANUAL: &str = "manual";

/// Applies `event_data` to `payment`, if it is a payment event.
pub(super) fn apply(payment: &mut Payment, event_data: &EventData) {
    match event_data {
        EventData::PaymentPrepared {
            provider,
            reference,
            ..
        } => {
            payment.provider.clone_from(provider);
            payment.reference = Some(reference.clone());
        }
        EventData::PaymentActionRequired {
            action_type,
            action_url,
        } => {
            payment.next_action = Some(NextAction {
                action_type: action_type.clone(),
                action_url: action_url.clone(),
                client_secret: None,
            });
        }
        EventData::PaymentAuthorized {
            provider,
            reference,
            amount,
            ..
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
        EventData::PaymentCaptured {
            amount, is_final, ..
        } => {
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
        EventData::PaymentRefunded { amount, .. } => record_refunds(payment, *amount),
        EventData::RefundFailed { amount } => record_refunds(payment, -amount),
        _ => {}
    }
}

/// Adds `amount` to the refunds, and derives the status from the refunded and the captured amount.
fn record_refunds(payment: &mut Payment, amount: i64) {
    payment.refunded += amount;
    payment.status = match (payment.refunded, payment.captured) {
        (0, _) => PaymentStatus::Captured,
        (refunded_amount, captured_amount) if refunded_amount < captured_amount => {
            PaymentStatus::PartiallyRefunded
        }
        _ => PaymentStatus::Refunded,
    };
}

/// State of a payment at the provider, which is authoritative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentState {
    /// Id of the payment at the provider.
    pub reference: String,
    /// State of the authorization.
    pub authorization: Authorization,
    /// Captured amount in minor units.
    pub captured: i64,
    /// Refunded amount in minor units.
    pub refunded: i64,
    /// Whether no further capture is possible: all was captured, or the provider released the rest.
    pub is_closed: bool,
    /// Version of the order when the state was requested. The state is outdated if the order has changed
    /// since.
    pub order_version: u64,
}

/// State of an authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// Not requested, or the result is outstanding.
    Pending,
    /// The customer has to complete an action first.
    RequiresAction(NextAction),
    /// Authorized amount in minor units, captured or not.
    Authorized(i64),
    /// Declined.
    Declined {
        /// Error code of the provider.
        code: String,
        /// Error message of the provider.
        message: String,
    },
    /// Voided by this system, or expired or cancelled at the provider.
    Cancelled,
}
