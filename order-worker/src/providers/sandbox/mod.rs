//! Partners to try things out with. They behave like real ones: they keep a durable ledger of
//! their own, apart from the orders' tables, honour idempotency keys, decline, dawdle and lose
//! answers. Tests and `order-worker verify` compare our books with the ledger.
//!
//! - [`payment`]: holds, takes and gives back money.
//! - [`carrier`]: gives out tracking numbers; as `CARRIER=sandbox` it also delivers, calling the
//!   shipper webhook as it goes.

pub mod carrier;
pub mod payment;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Mutex;

use super::PartnerError;
use crate::store::sqlite;

/// The sandbox's books.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<SqliteConnection>>);

impl Ledger {
    /// Opens the ledger beside the database that `database_url` names, creating it as needed.
    ///
    /// # Errors
    /// When it can't be opened.
    pub async fn open(database_url: &str) -> anyhow::Result<Self> {
        let path = Self::path(&sqlite::path(database_url)?);
        let context = || format!("can't open the sandbox's ledger {}", path.display());
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .with_context(context)?;
        sqlx::raw_sql(include_str!("ledger.sql"))
            .execute(&mut connection)
            .await
            .with_context(context)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// `orders.db` has its ledger in `orders.sandbox.db`.
    pub fn path(database: &Path) -> PathBuf {
        database.with_extension("sandbox.db")
    }
}

/// The ledger's own troubles are the partner's: try again.
fn away(error: sqlx::Error) -> PartnerError {
    PartnerError::Transient(format!("the sandbox's ledger: {error}"))
}
