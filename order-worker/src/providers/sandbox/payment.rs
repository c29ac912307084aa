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

use super::{Ledger, auditing, away};
use crate::{
    providers::{Authorization, PartnerError},
    store::database::{Argument, Row, Session, arguments},
};

/// What orders and events call this provider.
pub const NAME: &str = "sandbox";
/// How long `pm_slow` takes to answer.
const SLOW: Duration = Duration::from_secs(3);
/// How often `pm_flaky` fails.
const FLAKY_FAILURES: i64 = 2;

/// The provider; keys are `ORDER_ID/authorize_payment`.
#[derive(Clone)]
pub struct SandboxPayments(Ledger);

/// A row of the ledger.
struct Payment {
    reference: String,
    status: String,
    amount: i64,
    captured: i64,
    refunded: i64,
    calls: i64,
}

impl SandboxPayments {
    /// The provider with this ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self(ledger)
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
        let (payment, is_first) = self.hold(key, price, method).await?;
        match (method, payment.status.as_str()) {
            ("pm_flaky", "asked") => Err(PartnerError::Transient(
                "the provider answered 503".to_owned(),
            )),
            (_, "declined") => Err(declined(method)),
            (_, "voided") => Err(PartnerError::Declined {
                code: "payment_voided".to_owned(),
                message: "the payment was given up".to_owned(),
            }),
            ("pm_timeout_after_charge", _) if is_first => Err(PartnerError::Transient(
                "the provider's answer was lost".to_owned(),
            )),
            (method, _) => {
                // The money is held at once; only the answer dawdles.
                if method == "pm_slow" && is_first {
                    tokio::time::sleep(SLOW).await;
                }
                Ok(Authorization {
                    reference: payment.reference,
                    amount: payment.amount,
                })
            }
        }
    }

    /// The ledger's part of authorizing: the payment, and whether this call was the key's first.
    async fn hold(
        &self,
        key: &str,
        price: Money,
        method: &str,
    ) -> Result<(Payment, bool), PartnerError> {
        let mut ledger = self.0.begin(key).await?;
        let known = find(&mut ledger, key).await?;
        let calls = known.as_ref().map_or(0, |payment| payment.calls) + 1;
        let status = match known.as_ref().map(|payment| payment.status.as_str()) {
            Some(settled) if settled != "asked" => settled,
            _ => match method {
                "pm_ok" | "pm_slow" | "pm_timeout_after_charge" => "authorized",
                "pm_flaky" if calls <= FLAKY_FAILURES => "asked",
                "pm_flaky" => "authorized",
                _ => "declined",
            },
        };
        let is_held_now = status == "authorized"
            && known
                .as_ref()
                .is_none_or(|payment| payment.status == "asked");
        let reference = known
            .as_ref()
            .map_or_else(new_reference, |payment| payment.reference.clone());
        change(
            &mut ledger,
            "INSERT INTO payments (key, reference, status, amount, currency, calls)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (key) DO UPDATE SET status = excluded.status, calls = excluded.calls",
            arguments![
                key,
                reference.as_str(),
                status,
                price.amount,
                price.currency.as_str(),
                calls
            ],
        )
        .await?;
        if is_held_now {
            moved(&mut ledger, &reference, "authorize", price.amount).await?;
        }
        let payment = Payment {
            reference,
            status: status.to_owned(),
            amount: known
                .as_ref()
                .map_or(price.amount, |payment| payment.amount),
            captured: 0,
            refunded: 0,
            calls,
        };
        ledger.commit().await.map_err(away)?;
        Ok((payment, calls == 1))
    }

    /// Lets go of what is held under `key`; if nothing is, nothing ever will be. Returns the
    /// provider's id if there was something.
    ///
    /// # Errors
    /// `Permanent` when the money was taken: that is for a refund.
    pub async fn void(&self, key: &str) -> Result<Option<String>, PartnerError> {
        let mut ledger = self.0.begin(key).await?;
        let known = find(&mut ledger, key).await?;
        let reference = known
            .as_ref()
            .map_or_else(new_reference, |payment| payment.reference.clone());
        let held = match known.as_ref().map(|payment| payment.status.as_str()) {
            Some("captured") => {
                return Err(PartnerError::Permanent(format!(
                    "{reference} was captured and can't be voided"
                )));
            }
            Some("authorized") => {
                let amount = known.as_ref().map_or(0, |payment| payment.amount);
                moved(&mut ledger, &reference, "void", amount).await?;
                true
            }
            // Asked twice.
            Some("voided") => was_held(&mut ledger, &reference).await?,
            _ => false,
        };
        change(
            &mut ledger,
            "INSERT INTO payments (key, reference, status, amount, currency)
             VALUES ($1, $2, 'voided', 0, 'XXX')
             ON CONFLICT (key) DO UPDATE SET status = 'voided'",
            arguments![key, reference.as_str()],
        )
        .await?;
        ledger.commit().await.map_err(away)?;
        Ok(held.then_some(reference))
    }

    /// Takes what is held under `key`, once; returns the minor units taken.
    ///
    /// # Errors
    /// `Permanent` when nothing is held.
    pub async fn capture(&self, key: &str) -> Result<i64, PartnerError> {
        let mut ledger = self.0.begin(key).await?;
        let Some(payment) = find(&mut ledger, key).await? else {
            return Err(PartnerError::Permanent(
                "there is no such payment".to_owned(),
            ));
        };
        match payment.status.as_str() {
            "captured" => return Ok(payment.captured),
            "authorized" => {}
            status => {
                return Err(PartnerError::Permanent(format!(
                    "the payment is {status} and can't be captured"
                )));
            }
        }
        change(
            &mut ledger,
            "UPDATE payments SET status = 'captured', captured = amount WHERE key = $1",
            arguments![key],
        )
        .await?;
        moved(&mut ledger, &payment.reference, "capture", payment.amount).await?;
        ledger.commit().await.map_err(away)?;
        Ok(payment.amount)
    }

    /// Gives back what was taken under `key`, once; returns the minor units given back.
    ///
    /// # Errors
    /// `Permanent` when nothing was taken.
    pub async fn refund(&self, key: &str) -> Result<i64, PartnerError> {
        let mut ledger = self.0.begin(key).await?;
        let Some(payment) = find(&mut ledger, key)
            .await?
            .filter(|payment| payment.status == "captured")
        else {
            return Err(PartnerError::Permanent(
                "nothing was captured that could be refunded".to_owned(),
            ));
        };
        let left = payment.captured - payment.refunded;
        if left > 0 {
            change(
                &mut ledger,
                "UPDATE payments SET refunded = captured WHERE key = $1",
                arguments![key],
            )
            .await?;
            moved(&mut ledger, &payment.reference, "refund", left).await?;
            ledger.commit().await.map_err(away)?;
        }
        Ok(payment.captured)
    }
}

fn declined(method: &str) -> PartnerError {
    let (code, message) = match method {
        "pm_declined" => ("card_declined", "the card was declined"),
        _ => ("unknown_payment_method", "the payment method is not known"),
    };
    PartnerError::Declined {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn new_reference() -> String {
    format!("sandbox_{}", Uuid::now_v7().simple())
}

async fn change(
    ledger: &mut Session,
    sql: &'static str,
    arguments: Vec<Argument>,
) -> Result<(), PartnerError> {
    ledger.execute(sql, arguments).await.map(drop).map_err(away)
}

async fn find(ledger: &mut Session, key: &str) -> Result<Option<Payment>, PartnerError> {
    let rows = ledger
        .fetch(
            "SELECT reference, status, amount, captured, refunded, calls FROM payments WHERE key = $1",
            arguments![key],
        )
        .await
        .map_err(away)?;
    let payment = |row: &Row| {
        Ok(Payment {
            reference: row.text(0)?.to_owned(),
            status: row.text(1)?.to_owned(),
            amount: row.integer(2)?,
            captured: row.integer(3)?,
            refunded: row.integer(4)?,
            calls: row.integer(5)?,
        })
    };
    rows.first()
        .map(payment)
        .transpose()
        .map_err(|error: sqlx::Error| away(error))
}

async fn moved(
    ledger: &mut Session,
    payment: &str,
    kind: &str,
    amount: i64,
) -> Result<(), PartnerError> {
    change(
        ledger,
        "INSERT INTO movements (payment, kind, amount) VALUES ($1, $2, $3)",
        arguments![payment, kind, amount],
    )
    .await
}

async fn was_held(ledger: &mut Session, payment: &str) -> Result<bool, PartnerError> {
    let rows = ledger
        .fetch(
            "SELECT 1 FROM movements WHERE payment = $1 AND kind = 'authorize'",
            arguments![payment],
        )
        .await
        .map_err(away)?;
    Ok(!rows.is_empty())
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
