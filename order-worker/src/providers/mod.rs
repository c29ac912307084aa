//! Payment providers and carriers, called by the [`steps`](crate::steps).
//!
//! Every call is safe to repeat: it carries an idempotency key made of order and step, amounts are totals,
//! and after a lost response the provider's state is read before the call is repeated. Undoing works whether
//! the original call was executed, is still running, or is never executed.
//!
//! - [`sandbox`]: a payment provider and a carrier for development and tests, with a durable ledger.
//! - [`stripe`]: payments with Stripe.
//! - [`http_carrier`]: labels of any carrier, through an adapter that it calls over HTTP.
//! - [`pages`]: a client for lists of other systems, for the periodic jobs.

pub mod http_carrier;
pub mod pages;
pub mod sandbox;
pub mod stripe;

use jiff::SignedDuration;
use serde::Serialize;
use shared::{
    id::{OrderId, ShipmentId, Sku, Warehouse},
    money::Money,
    order::{Address, Label},
};

use self::{
    http_carrier::HttpCarrier,
    sandbox::{carrier::SandboxCarrier, payment::SandboxPayments},
    stripe::Stripe,
};
use crate::domain::{command::StepResult, payment::PaymentState};

/// Reasons why a call to a payment provider or carrier failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The payment was declined.
    #[error("{message}")]
    Declined {
        /// Error code of the provider.
        code: String,
        /// Error message of the provider.
        message: String,
    },
    /// There was no response, or a temporary error. The call may have been executed; it is retried with the
    /// same idempotency key.
    #[error("{0}")]
    Transient(String),
    /// The provider answered with an error that may disappear later. It may return the same response for the
    /// same idempotency key again, so the next attempt uses a new key.
    #[error("{0}")]
    RetryWithNewKey(String),
    /// There was a temporary error, and the provider asks for a retry after a delay (`Retry-After`). It is
    /// retried with the same idempotency key.
    #[error("{message}")]
    RetryAfter {
        /// Error message.
        message: String,
        /// The requested delay.
        delay: SignedDuration,
    },
    /// The call can't succeed, now or later.
    #[error("{0}")]
    Permanent(String),
}

/// A payment, as passed to a payment provider.
#[derive(Debug, Clone)]
pub struct Payment {
    /// Idempotency key of the order's payment; other keys are derived from it.
    pub idempotency_key: String,
    /// Name of the payment provider.
    pub provider: String,
    /// Id of the payment at the provider, if it exists there.
    pub reference: Option<String>,
    /// Id of the order.
    pub order_id: OrderId,
    /// Number of the order.
    pub order_number: i64,
    /// Total of the order.
    pub price: Money,
    /// Payment method: a token of the payment provider.
    pub payment_method: String,
    /// URL to which the provider redirects the customer after an action such as 3-D Secure.
    pub return_url: Option<String>,
    /// Minor units that are known to be refunded.
    pub refunded: i64,
    /// Number of error responses of the provider to this step; each one requires a new idempotency key.
    pub error_responses: u32,
}

/// All payment providers. An order stays with the provider with which it was created.
#[derive(Clone)]
pub struct Payments {
    /// The sandbox.
    pub sandbox: SandboxPayments,
    /// Stripe, if it is configured.
    pub stripe: Option<Stripe>,
}

/// Whether the provider `provider` can charge and refund `amount`.
///
/// # Errors
/// The reason why it can't.
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
    /// Authorizes the total of the order: `Authorized`, or the action that the customer has to take first.
    ///
    /// # Errors
    /// [`ProviderError`]; `Declined` when the payment was declined.
    pub async fn authorize(&self, payment: &Payment) -> Result<StepResult, ProviderError> {
        match self.provider_of(payment)? {
            Provider::Sandbox(sandbox) => sandbox.authorize(payment).await,
            Provider::Stripe(stripe) => stripe.authorize(payment).await,
        }
    }

    /// Captures from the authorization until `capture_total` minor units are captured: `Captured`. After the
    /// last capture the rest of the authorization is released. If less is captured and the authorization has
    /// ended, returns the state of the payment (`PaymentState`).
    ///
    /// # Errors
    /// `Permanent` when less is authorized, `Transient` when the outcome is unknown.
    pub async fn capture(
        &self,
        payment: &Payment,
        capture_total: i64,
        is_last_capture: bool,
    ) -> Result<StepResult, ProviderError> {
        match self.provider_of(payment)? {
            Provider::Sandbox(sandbox) => {
                sandbox
                    .capture(&payment.idempotency_key, capture_total, is_last_capture)
                    .await
            }
            Provider::Stripe(stripe) => {
                stripe
                    .capture(payment, capture_total, is_last_capture)
                    .await
            }
        }
    }

    /// Voids the authorization, or makes sure that there will be none: `Voided`. If the payment was captured,
    /// returns its state (`PaymentState`), so that it can be refunded.
    ///
    /// # Errors
    /// `Transient` when the outcome is unknown.
    pub async fn void(&self, payment: &Payment) -> Result<StepResult, ProviderError> {
        match self.provider_of(payment)? {
            Provider::Sandbox(sandbox) => sandbox.void(&payment.idempotency_key).await,
            Provider::Stripe(stripe) => stripe.void(payment).await,
        }
    }

    /// Refunds until `refund_total` minor units are refunded: `Refunded`. If the provider reports less than
    /// `payment.refunded`, an earlier refund has failed since: nothing is refunded, and the state of the
    /// payment is returned (`PaymentState`).
    ///
    /// # Errors
    /// `Permanent` when less was captured, `Transient` when the outcome is unknown.
    pub async fn refund(
        &self,
        payment: &Payment,
        refund_total: i64,
    ) -> Result<StepResult, ProviderError> {
        match self.provider_of(payment)? {
            Provider::Sandbox(sandbox) => {
                let amount = sandbox
                    .refund(&payment.idempotency_key, refund_total)
                    .await?;
                Ok(StepResult::Refunded { amount })
            }
            Provider::Stripe(stripe) => stripe.refund(payment, refund_total).await,
        }
    }

    /// Reads the state of the payment at its provider.
    ///
    /// # Errors
    /// `Permanent` when the provider has no such payment.
    pub async fn payment_state(&self, payment: &Payment) -> Result<PaymentState, ProviderError> {
        match self.provider_of(payment)? {
            Provider::Sandbox(sandbox) => sandbox.payment_state(&payment.idempotency_key).await,
            Provider::Stripe(stripe) => stripe.payment_state(payment).await,
        }
    }

    fn provider_of(&self, payment: &Payment) -> Result<Provider<'_>, ProviderError> {
        match (payment.provider.as_str(), &self.stripe) {
            (sandbox::payment::NAME, _) => Ok(Provider::Sandbox(&self.sandbox)),
            (stripe::NAME, Some(stripe)) => Ok(Provider::Stripe(stripe)),
            (other_provider, _) => Err(ProviderError::Transient(format!(
                "the payment provider {other_provider:?} is not configured on this worker"
            ))),
        }
    }
}

/// The carriers. New labels are created by the HTTP carrier with `CARRIER=http`, and otherwise by the sandbox.
#[derive(Clone)]
pub struct Carriers {
    /// The sandbox.
    pub sandbox: SandboxCarrier,
    /// The HTTP carrier, if it is configured.
    pub http: Option<HttpCarrier>,
}

/// A label, as passed to a carrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelRef {
    /// Idempotency key of the label.
    #[serde(skip)]
    pub idempotency_key: String,
    /// Id of the order.
    pub order_id: OrderId,
    /// Id of the shipment that is created with the label; unique to the label, like its key.
    pub shipment_id: ShipmentId,
    /// Warehouse from which the items are shipped.
    pub warehouse: Warehouse,
}

/// A request for a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelRequest {
    /// The label.
    #[serde(flatten)]
    pub label: LabelRef,
    /// Shipping address of the order.
    pub shipping_address: Option<Address>,
    /// Items of the shipment.
    pub items: Vec<LabelItem>,
}

/// An item of a shipment, as passed to a carrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Name of the product at the time of the order.
    #[serde(rename = "name")]
    pub product_name: String,
    /// Number of units.
    pub quantity: u64,
}

impl Carriers {
    /// Creates a label, once for each key.
    ///
    /// # Errors
    /// `Permanent` when the carrier refuses it, or it was cancelled; otherwise the outcome is unknown.
    pub async fn create_label(&self, request: &LabelRequest) -> Result<Label, ProviderError> {
        match &self.http {
            Some(http) if http.creates_labels() => http.create_label(request).await,
            _ => {
                let LabelRef {
                    idempotency_key,
                    order_id,
                    ..
                } = &request.label;
                let address = request.shipping_address.as_ref();
                self.sandbox
                    .create_label(idempotency_key, *order_id, address)
                    .await
            }
        }
    }

    /// Cancels the label, or makes sure that there will be none. `CARRIER` may have changed since the label was
    /// requested, so it is cancelled at every carrier.
    ///
    /// # Errors
    /// `Permanent` when the carrier refuses it; otherwise the outcome is unknown.
    pub async fn cancel_label(&self, label: &LabelRef) -> Result<(), ProviderError> {
        if let Some(http) = &self.http {
            http.cancel_label(label).await?;
        }
        self.sandbox
            .cancel_label(&label.idempotency_key, label.order_id)
            .await
    }
}
