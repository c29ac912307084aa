//! The sandbox payment provider. The payment method selects its behaviour:
//!
//! | token | behaviour |
//! |---|---|
//! | `pm_ok` | authorizes |
//! | `pm_declined` | declines |
//! | `pm_slow` | authorizes; the response takes 3 s |
//! | `pm_flaky` | fails twice, then authorizes |
//! | `pm_timeout_after_charge` | authorizes; the first response is lost |
//!
//! Any other token is declined as unknown.

use std::time::Duration;

use anyhow::Context;
use uuid::Uuid;

use super::{
    Sandbox,
    ledger::{HeldAuthorization, Ledger, Status},
    open_audit_session,
};
use crate::{
    domain::{command::StepResult, payment::PaymentState},
    providers::{Payment, ProviderError},
    store::sql::session::Session,
};

/// Name of this provider in orders and events.
pub const NAME: &str = "sandbox";
/// Default payment method.
pub const DEFAULT_METHOD: &str = "pm_ok";
/// Payments per page of a [`LedgerReader`].
const PAYMENTS_PER_PAGE: i64 = 1_000;
/// Response time of `pm_slow`.
const SLOW_METHOD_DELAY: Duration = Duration::from_secs(3);

/// The provider; keys are `ORDER_ID/authorize_payment`.
#[derive(Clone)]
pub struct SandboxPayments(Sandbox);

impl SandboxPayments {
    /// Creates the provider with the ledger of `sandbox`.
    pub fn new(sandbox: Sandbox) -> Self {
        Self(sandbox)
    }

    /// Authorizes the total of the order, once.
    ///
    /// # Errors
    /// `Declined`, also when the payment was voided; `Transient` when the outcome is unknown.
    pub(in crate::providers) async fn authorize(
        &self,
        payment: &Payment,
    ) -> Result<StepResult, ProviderError> {
        let (payment_key, payment_method) = (
            payment.idempotency_key.clone(),
            payment.payment_method.clone(),
        );
        let price = payment.price;
        let authorize = move |ledger: &mut Ledger| {
            ledger.authorize(&payment_key, price, &payment_method, new_reference())
        };
        let (authorize_result, is_first_call) = self
            .0
            .writer
            .apply(&payment.idempotency_key, authorize)
            .await?;
        let HeldAuthorization {
            reference: payment_reference,
            amount,
        } = authorize_result?;
        match payment.payment_method.as_str() {
            "pm_timeout_after_charge" if is_first_call => {
                return Err(ProviderError::Transient(
                    "the payment provider's response was lost".to_owned(),
                ));
            }
            // The authorization is stored; only the response is delayed.
            "pm_slow" if is_first_call => tokio::time::sleep(SLOW_METHOD_DELAY).await,
            _ => {}
        }
        Ok(StepResult::Authorized {
            provider: NAME.to_owned(),
            reference: payment_reference,
            amount,
        })
    }

    /// Voids the authorization under `payment_key`, or makes sure that there will be none. A captured payment
    /// is not voided; its state is returned.
    ///
    /// # Errors
    /// `Transient` when the ledger is unavailable.
    pub(in crate::providers) async fn void(
        &self,
        payment_key: &str,
    ) -> Result<StepResult, ProviderError> {
        let owned_key = payment_key.to_owned();
        let void = move |ledger: &mut Ledger| ledger.void(&owned_key, new_reference());
        self.0.writer.apply(payment_key, void).await
    }

    /// Captures from the authorization under `payment_key` until `capture_total` is captured: `Captured`.
    /// Returns the state of the payment (`PaymentState`) if the authorization has ended.
    ///
    /// # Errors
    /// `Permanent` when less is authorized.
    pub(in crate::providers) async fn capture(
        &self,
        payment_key: &str,
        capture_total: i64,
        is_last_capture: bool,
    ) -> Result<StepResult, ProviderError> {
        let owned_key = payment_key.to_owned();
        let capture =
            move |ledger: &mut Ledger| ledger.capture(&owned_key, capture_total, is_last_capture);
        self.0.writer.apply(payment_key, capture).await?
    }

    /// Refunds until `refund_total` is refunded under `payment_key`; returns the refunded total.
    ///
    /// # Errors
    /// `Permanent` when less was captured.
    pub(in crate::providers) async fn refund(
        &self,
        payment_key: &str,
        refund_total: i64,
    ) -> Result<i64, ProviderError> {
        let owned_key = payment_key.to_owned();
        let refund = move |ledger: &mut Ledger| ledger.refund(&owned_key, refund_total);
        self.0.writer.apply(payment_key, refund).await?
    }

    /// State of the payment under `payment_key`.
    ///
    /// # Errors
    /// `Permanent` when there is no such payment.
    pub(in crate::providers) async fn payment_state(
        &self,
        payment_key: &str,
    ) -> Result<PaymentState, ProviderError> {
        let owned_key = payment_key.to_owned();
        let payment_state = move |ledger: &mut Ledger| ledger.payment_state(&owned_key);
        let payment_state_result = self.0.writer.apply(payment_key, payment_state).await?;
        payment_state_result
            .ok_or_else(|| ProviderError::Permanent("there is no such payment".to_owned()))
    }
}

fn new_reference() -> String {
    format!("sandbox_{}", Uuid::now_v7().simple())
}

/// A payment in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaymentRecord {
    /// Number of authorizations.
    pub(crate) authorization_count: i64,
    /// Number of captures.
    pub(crate) capture_count: i64,
    /// Its status.
    pub(crate) status: Status,
    /// Captured amount in minor units.
    pub(crate) captured: i64,
    /// Refunded amount in minor units.
    pub(crate) refunded: i64,
}

/// Reads all payments of a ledger page by page, by key.
pub(crate) struct LedgerReader {
    /// Connection to the ledger; none if there is no ledger.
    audit_session: Option<Session>,
    after_key: String,
}

impl LedgerReader {
    /// Opens the ledger that belongs to `database_url`.
    ///
    /// # Errors
    /// When it can't be opened.
    pub(crate) async fn open(database_url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            audit_session: open_audit_session(database_url).await?,
            after_key: String::new(),
        })
    }

    /// The next payments with their keys; none after the last one. Payments that are made meanwhile may be among
    /// them or not.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) async fn next_page(&mut self) -> anyhow::Result<Vec<(String, PaymentRecord)>> {
        let Some(audit_session) = &mut self.audit_session else {
            return Ok(Vec::new());
        };
        let payment_rows = audit_session
            .fetch(
                "SELECT key, status, captured, refunded,
                        (SELECT count(*) FROM movements WHERE payment = reference AND kind = 'authorize'),
                        (SELECT count(*) FROM movements WHERE payment = reference AND kind = 'capture')
                 FROM payments WHERE key > $1 ORDER BY key LIMIT $2",
                vec![
                    self.after_key.as_str().into(),
                    PAYMENTS_PER_PAGE.into(),
                ],
            )
            .await
            .context("can't read the sandbox's ledger")?;
        let mut payment_page = Vec::with_capacity(payment_rows.len());
        for payment_row in &payment_rows {
            let (key, status_text) = (payment_row.text(0)?, payment_row.text(1)?);
            let status = Status::read(status_text).with_context(|| {
                format!("payment {key} of the sandbox's ledger has the status {status_text:?}")
            })?;
            let payment_record = PaymentRecord {
                status,
                captured: payment_row.integer(2)?,
                refunded: payment_row.integer(3)?,
                authorization_count: payment_row.integer(4)?,
                capture_count: payment_row.integer(5)?,
            };
            payment_page.push((key.to_owned(), payment_record));
        }
        if let Some((last_key, _)) = payment_page.last() {
            self.after_key.clone_from(last_key);
        }
        Ok(payment_page)
    }
}
