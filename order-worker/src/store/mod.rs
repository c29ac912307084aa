//! The store: the only place with SQL. The database is the only truth.
//!
//! A batch of commands is one transaction ([`Sqlite::transact`]): load what it names, decide, write
//! what changed, commit once. Reads go over their own connections and never wait behind a write.
//!
//! - [`sqlite`]: opening, exclusive use, migrations, the transaction.
//! - `load`, `save`: the two halves of a batch, set-wise: a constant number of statements.
//! - `read`: what callers ask for.
//! - `outbox`: steps to send, events to publish, housekeeping.
//! - `audit`: whole-database reads for `order-worker verify`.

mod audit;
mod load;
mod outbox;
mod read;
mod row;
mod save;
pub mod sqlite;

pub use audit::{Audit, StepAudit};
pub use outbox::Positioned;
pub use read::{OrderAndSteps, OrderCursor, ProductAndShelves};
pub use sqlite::Sqlite;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Certain that nothing was changed.
    #[error("the database is away: {0}")]
    Away(#[source] sqlx::Error),
    /// The commit was not answered: what was decided may be there or not.
    #[error("the database did not answer the commit: {0}")]
    Unknown(#[source] sqlx::Error),
    /// Whoever decided gave up; nothing was changed.
    #[error("the batch was given up")]
    GivenUp,
    /// A row can't be understood.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Damaged(error.to_string())
            }
            other => Self::Away(other),
        }
    }
}
