//! Partners: who holds the money and who carries the goods.
//!
//! Asking a partner again does nothing again and answers the same: calls carry an idempotency key made
//! of order and step, amounts are told in totals, and a partner whose answer was lost is asked what it did
//! before it is asked to do it. Giving something up works whether it happened, is happening, or never
//! will.
//!
//! - [`sandbox`]: partners that behave like real ones, with a durable ledger of their own.
//! - [`stripe`]: holds real money.
//! - [`pages`]: lists that others keep: stock of a warehouse, orders of another system.

pub mod pages;
pub mod sandbox;
pub mod stripe;

use shared::{id::OrderId, money::Money};

use self::{sandbox::payment::SandboxPayments, stripe::Stripe};
use crate::domain::{command::StepResult, payment::PaymentState};

/// Why a partner did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartnerError {
    /// The payment was refused, for good.
    #[error("{message}")]
    Declined {
        /// The partner's code.
        code: String,
        /// The partner's words.
        message: String,
    },
    /// No answer, or one that says to come back: it may have been done.
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

/// A payment, as a provider is told of it.
#[derive(Debug, Clone)]
pub struct Payment {
    /// What the order calls it.
    pub key: String,
    /// Which provider.
    pub provider: String,
    /// What the provider calls it, if it knows of it.
    pub reference: Option<String>,
    /// Which order.
    pub order_id: OrderId,
    /// What people call the order.
    pub number: i64,
    /// What the order costs.
    pub price: Money,
    /// The provider's token for what pays.
    pub method: String,
    /// URL to which the provider redirects the customer afterwards.
    pub return_url: Option<String>,
    /// Minor units that are known to be given back.
    pub refunded: i64,
    /// How often the provider answered this step with an error.
    pub answered: u32,
}

/// Every provider there is; an order stays with the one that it began with.
#[derive(Clone)]
pub struct Payments {
    /// For trying out.
    pub sandbox: SandboxPayments,
    /// For real, if it is set up.
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
    /// Has the price held: `Authorized`, or what is to be done before.
    ///
    /// # Errors
    /// [`PartnerError`]; a refusal is `Declined`.
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

    /// Has the hold given up; if there is none, there never will be: `Voided`. If money was taken it
    /// `Stands`: that is for a refund.
    ///
    /// # Errors
    /// `Transient` when it is not known to be done.
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

    /// Asks where the payment stands.
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

/// What the carrier knows of a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Who carries it.
    pub carrier: String,
    /// The carrier's id for it.
    pub tracking_number: String,
}
