//! Partners: payment providers and carriers.
//!
//! Calls are idempotent: they carry a key made of order and step, amounts are totals, and after a lost answer
//! the partner is asked for its state before the call is repeated. Undoing works whether the original call was
//! executed, is running, or never will be.
//!
//! - [`sandbox`]: partners that behave like real ones, with a durable ledger.
//! - [`stripe`]: the Stripe API.
//! - [`pages`]: reads lists of other systems: stock of a warehouse, orders of another system.

pub mod pages;
pub mod sandbox;
pub mod stripe;

use shared::{id::OrderId, money::Money};

use self::{sandbox::payment::SandboxPayments, stripe::Stripe};
use crate::domain::{command::StepResult, payment::PaymentState};

/// Reasons why a partner's call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartnerError {
    /// The payment was declined.
    #[error("{message}")]
    Declined {
        /// Error code of the partner.
        code: String,
        /// Error message of the partner.
        message: String,
    },
    /// No answer, or a temporary error: it may have been executed.
    #[error("{0}")]
    Transient(String),
    /// An answer that says that it was not done, or does not say whether; asked another time, it may be. The answer may
    /// be kept for the idempotency key, so the next attempt goes by another.
    #[error("{0}")]
    Refused(String),
    /// It can't be done, now or later.
    #[error("{0}")]
    Permanent(String),
}

/// A payment, as passed to a provider.
#[derive(Debug, Clone)]
pub struct Payment {
    /// Idempotency key of the order's payment.
    pub key: String,
    /// Payment provider.
    pub provider: String,
    /// Id of the payment at the provider, if it exists there.
    pub reference: Option<String>,
    /// Id of the order.
    pub order_id: OrderId,
    /// Number of the order.
    pub number: i64,
    /// Total of the order.
    pub price: Money,
    /// Payment method: a token of the provider.
    pub method: String,
    /// URL to which the provider redirects the customer afterwards.
    pub return_url: Option<String>,
    /// Minor units that are known to be given back.
    pub refunded: i64,
    /// How often the provider answered this step with an error.
    pub error_responses: u32,
}

/// All payment providers; an order stays with the provider that it started with.
#[derive(Clone)]
pub struct Payments {
    /// The sandbox.
    pub sandbox: SandboxPayments,
    /// Stripe, if it is configured.
    pub stripe: Option<Stripe>,
}

/// Whether the provider of this name can charge and refund the amount.
///
/// # Errors
/// Says why not.
pub fn check_amount(provider: &str, amount: Money) -> Result<(), String> {
    match provider {
        stripe::NAME => stripe::check(amount),
        _ => Ok(()),
    }
}

enum Provider<'a> {
    Sandbox(&'a SandboxPayments),
    Stripe(&'a Stripe),
}

impl Payments {
    /// Authorizes the total: `Authorized`, or the action required first.
    ///
    /// # Errors
    /// [`PartnerError`]; a declined payment is `Declined`.
    pub async fn authorize(&self, payment: &Payment) -> Result<StepResult, PartnerError> {
        match self.of(payment)? {
            Provider::Sandbox(sandbox) => sandbox.authorize(payment).await,
            Provider::Stripe(stripe) => stripe.authorize(payment).await,
        }
    }

    /// Has what is held taken, until that is `total` minor units: `Captured`. After the last capture
    /// the rest is released. If less is taken and the hold has ended, the payment `Stands`.
    ///
    /// # Errors
    /// `Permanent` when less is held, `Transient` when it is not known to be done.
    pub async fn capture(
        &self,
        payment: &Payment,
        total: i64,
        is_last: bool,
    ) -> Result<StepResult, PartnerError> {
        match self.of(payment)? {
            Provider::Sandbox(sandbox) => sandbox.capture(&payment.key, total, is_last).await,
            Provider::Stripe(stripe) => stripe.capture(payment, total, is_last).await,
        }
    }

    /// Voids the authorization, or makes sure that there will be none: `Voided`. If the payment was captured,
    /// returns its state (`Stands`), for a refund.
    ///
    /// # Errors
    /// `Transient` when the outcome is unknown.
    pub async fn void(&self, payment: &Payment) -> Result<StepResult, PartnerError> {
        match self.of(payment)? {
            Provider::Sandbox(sandbox) => sandbox.void(&payment.key).await,
            Provider::Stripe(stripe) => stripe.void(payment).await,
        }
    }

    /// Has money given back, until that is `total` minor units: `Refunded`. If less is given back than was known to be,
    /// a refund has failed since, and nothing more is: it `Stands`.
    ///
    /// # Errors
    /// `Permanent` when less was taken, `Transient` when it is not known to be done.
    pub async fn refund(&self, payment: &Payment, total: i64) -> Result<StepResult, PartnerError> {
        match self.of(payment)? {
            Provider::Sandbox(sandbox) => {
                let amount = sandbox.refund(&payment.key, total).await?;
                Ok(StepResult::Refunded { amount })
            }
            Provider::Stripe(stripe) => stripe.refund(payment, total).await,
        }
    }

    /// Reads the state of the payment.
    ///
    /// # Errors
    /// `Permanent` when there is none.
    pub async fn look(&self, payment: &Payment) -> Result<PaymentState, PartnerError> {
        match self.of(payment)? {
            Provider::Sandbox(sandbox) => sandbox.look(&payment.key).await,
            Provider::Stripe(stripe) => stripe.look(payment).await,
        }
    }

    fn of(&self, payment: &Payment) -> Result<Provider<'_>, PartnerError> {
        match (payment.provider.as_str(), &self.stripe) {
            (sandbox::payment::NAME, _) => Ok(Provider::Sandbox(&self.sandbox)),
            (stripe::NAME, Some(stripe)) => Ok(Provider::Stripe(stripe)),
            (other, _) => Err(PartnerError::Transient(format!(
                "payment provider {other:?} is not set up"
            ))),
        }
    }
}

/// A shipping label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Carrier.
    pub carrier: String,
    /// The carrier's tracking number.
    pub tracking_number: String,
}
