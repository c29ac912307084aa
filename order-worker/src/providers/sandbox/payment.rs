//! The sandbox payment provider. `payment_method` says how it behaves:
//!
//! | token | behaviour |
//! |---|---|
//! | `pm_ok` | authorizes |
//! | `pm_declined` | declines |
//! | `pm_slow` | authorizes, and answers after 3 s |
//! | `pm_flaky` | fails twice, then authorizes |
//! | `pm_timeout_after_charge` | authorizes, and the first answer is lost |
//!
//! Any other token is declined as unknown.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use shared::money::Money;
use uuid::Uuid;

use super::{Sandbox, auditing, books::Books};
use crate::providers::{Authorization, PartnerError};

/// What orders and events call this provider.
pub const NAME: &str = "sandbox";
/// How long `pm_slow` takes to answer.
const SLOW: Duration = Duration::from_secs(3);

/// The provider; keys are `ORDER_ID/authorize_payment`.
#[derive(Clone)]
pub struct SandboxPayments(Sandbox);

impl SandboxPayments {
    /// The provider with these books.
    pub fn new(sandbox: Sandbox) -> Self {
        Self(sandbox)
    }

    /// Holds `price` under `key`, once.
    ///
    /// # Errors
    /// `Declined`, also when the key was given up; `Transient` when the answer is not known.
    pub async fn authorize(
        &self,
        key: &str,
        price: Money,
        method: &str,
    ) -> Result<Authorization, PartnerError> {
        let (this, asked) = (key.to_owned(), method.to_owned());
        let authorize =
            move |books: &mut Books| books.authorize(&this, price, &asked, new_reference());
        let (result, is_first) = self.0.teller.enter(key, authorize).await?;
        let authorization = result?;
        match method {
            "pm_timeout_after_charge" if is_first => {
                return Err(PartnerError::Transient(
                    "the provider's answer was lost".to_owned(),
                ));
            }
            // The money is held at once; only the answer dawdles.
            "pm_slow" if is_first => tokio::time::sleep(SLOW).await,
            _ => {}
        }
        Ok(authorization)
    }

    /// Lets go of what is held under `key`; if nothing is, nothing ever will be. Returns the
    /// provider's id if there was something.
    ///
    /// # Errors
    /// `Permanent` when the money was taken: that is for a refund.
    pub async fn void(&self, key: &str) -> Result<Option<String>, PartnerError> {
        let this = key.to_owned();
        let void = move |books: &mut Books| books.void(&this, new_reference());
        self.0.teller.enter(key, void).await?
    }

    /// Takes what is held under `key`, once; returns the minor units taken.
    ///
    /// # Errors
    /// `Permanent` when nothing is held.
    pub async fn capture(&self, key: &str) -> Result<i64, PartnerError> {
        let this = key.to_owned();
        let capture = move |books: &mut Books| books.capture(&this);
        self.0.teller.enter(key, capture).await?
    }

    /// Gives back of what was taken under `key` until that is `total`; returns the minor units given
    /// back in all. So it may be asked for again and again, and in any order.
    ///
    /// # Errors
    /// `Permanent` when less was taken.
    pub async fn refund(&self, key: &str, total: i64) -> Result<i64, PartnerError> {
        let this = key.to_owned();
        let refund = move |books: &mut Books| books.refund(&this, total);
        self.0.teller.enter(key, refund).await?
    }
}

fn new_reference() -> String {
    format!("sandbox_{}", Uuid::now_v7().simple())
}

/// A payment as the provider's own books show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Booked {
    /// How often money was held, over all time.
    pub authorizations: i64,
    /// How often it was taken.
    pub captures: i64,
    /// `authorized`, `captured`, `voided`…
    pub status: String,
    /// Minor units taken.
    pub captured: i64,
    /// Minor units given back.
    pub refunded: i64,
}

/// The provider's books of `database_url`, by key; empty if there are none.
///
/// # Errors
/// When they can't be read.
pub async fn books(database_url: &str) -> anyhow::Result<HashMap<String, Booked>> {
    let Some(mut ledger) = auditing(database_url).await? else {
        return Ok(HashMap::new());
    };
    let rows = ledger
        .fetch(
            "SELECT key, status, captured, refunded,
                    (SELECT count(*) FROM movements WHERE payment = reference AND kind = 'authorize'),
                    (SELECT count(*) FROM movements WHERE payment = reference AND kind = 'capture')
             FROM payments",
            Vec::new(),
        )
        .await
        .context("can't read the sandbox's ledger")?;
    rows.iter()
        .map(|row| {
            let booked = Booked {
                status: row.text(1)?.to_owned(),
                captured: row.integer(2)?,
                refunded: row.integer(3)?,
                authorizations: row.integer(4)?,
                captures: row.integer(5)?,
            };
            Ok((row.text(0)?.to_owned(), booked))
        })
        .collect()
}
