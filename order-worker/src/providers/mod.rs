//! Partners: who holds the money and who carries the goods.
//!
//! Every call carries an idempotency key made of order and step: calling again with the same key
//! does nothing again and answers the same. Giving something up works by the key of what is given
//! up, whether that happened, is happening, or never will.
//!
//! - [`sandbox`]: partners that behave like real ones, with a durable ledger of their own.

pub mod sandbox;

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
    /// It can't be done, now or later.
    #[error("{0}")]
    Permanent(String),
}

/// What the provider holds for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The provider's id.
    pub reference: String,
    /// Minor units held.
    pub amount: i64,
}

/// What the carrier knows of a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Who carries it.
    pub carrier: String,
    /// The carrier's id for it.
    pub tracking_number: String,
}
