//! Partners for development and tests. They behave like real ones: they keep a durable ledger apart from the
//! orders' tables, honour idempotency keys, decline, are slow, and lose answers. Tests and `order-worker verify`
//! compare the orders with the ledger.
//!
//! - [`payment`]: the payment provider.
//! - [`carrier`]: the carrier; with `CARRIER=sandbox` it also delivers, calling the shipper webhook.
//! - `ledger`: the effect of each call; `ledger_writer`: saves it.

pub mod carrier;
mod ledger;
mod ledger_writer;
pub mod payment;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use tokio::sync::Mutex;

use super::{PartnerError, sandbox::ledger_writer::LedgerWriter};
use crate::store::{
    StoreError, postgres,
    sql::database::{self, Session, Sql},
    sqlite,
};

/// The sandbox partners; clones share them.
#[derive(Clone)]
pub struct Sandbox {
    ledger: LedgerLocation,
    teller: LedgerWriter,
}

impl Sandbox {
    /// Opens the sandbox with this ledger.
    ///
    /// # Errors
    /// When its thread can't be created.
    pub fn open(ledger: LedgerLocation) -> io::Result<Self> {
        Ok(Self {
            teller: LedgerWriter::start(ledger.clone())?,
            ledger,
        })
    }
}

impl Sandbox {
    /// Deletes the ledger, for demonstrations.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn reset(&self) -> Result<(), StoreError> {
        let mut session = self.ledger.begin().await?;
        // Concurrent calls that have read rows would write them again.
        let alone = Sql::dialects(
            "SELECT 1",
            "LOCK TABLE payments, movements, parcels IN ACCESS EXCLUSIVE MODE",
        );
        session.control(alone).await?;
        for sql in [
            "DELETE FROM payments",
            "DELETE FROM movements",
            "DELETE FROM parcels",
        ] {
            session.execute(sql, Vec::new()).await?;
        }
        session.commit().await
    }
}

/// Location of the ledger: a file beside a SQLite database, or a schema in PostgreSQL.
#[derive(Clone)]
pub struct LedgerLocation(Place);

#[derive(Clone)]
enum Place {
    /// A single connection avoids lock conflicts.
    Sqlite(Arc<Mutex<rusqlite::Connection>>),
    Postgres(Box<postgres::Pool>),
}

impl LedgerLocation {
    /// Opens the ledger of the database `database_url`, creating it if necessary.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(database_url: &str) -> anyhow::Result<Self> {
        if postgres::is_meant(database_url) {
            let pool = postgres::pool_in(database_url, "sandbox")?;
            return Ok(Self(Place::Postgres(Box::new(pool))));
        }
        let path = Self::path(&sqlite::path(database_url)?);
        let connection = sqlite::writing(&path)?;
        connection
            .execute_batch(include_str!("ledger.sql"))
            .with_context(|| format!("can't open the sandbox's ledger {}", path.display()))?;
        Ok(Self(Place::Sqlite(Arc::new(Mutex::new(connection)))))
    }

    /// The ledger of `orders.db` is `orders.sandbox.db`.
    pub fn path(database: &Path) -> PathBuf {
        database.with_extension("sandbox.db")
    }

    /// Starts a transaction.
    async fn begin(&self) -> Result<Session, StoreError> {
        match &self.0 {
            Place::Sqlite(connection) => {
                let mut session = writing(connection).await;
                session.begin("BEGIN IMMEDIATE").await?;
                Ok(session)
            }
            Place::Postgres(pool) => postgres::transaction(pool).await,
        }
    }

    /// The rows of a single statement.
    async fn fetch(
        &self,
        sql: impl Into<Sql>,
        arguments: Vec<database::Argument>,
    ) -> Result<Vec<database::Row>, StoreError> {
        let mut session = match &self.0 {
            Place::Sqlite(connection) => writing(connection).await,
            Place::Postgres(pool) => postgres::pooled(pool).await?,
        };
        session.fetch(sql, arguments).await
    }
}

async fn writing(connection: &Arc<Mutex<rusqlite::Connection>>) -> Session {
    let connection = Arc::clone(connection).lock_owned().await;
    Session::Sqlite(sqlite::Connection::Writing(connection))
}

/// The ledger of `database_url` for reading all of it; `None` if there is none.
async fn auditing(database_url: &str) -> anyhow::Result<Option<Session>> {
    if postgres::is_meant(database_url) {
        return Ok(Some(
            postgres::auditing(database_url, Some("sandbox")).await?,
        ));
    }
    let path = LedgerLocation::path(&sqlite::path(database_url)?);
    if !path.exists() {
        return Ok(None);
    }
    sqlite::auditing(&path).map(Some)
}

/// Ledger errors are reported as temporary errors of the partner.
fn away(error: impl Into<StoreError>) -> PartnerError {
    PartnerError::Transient(format!("the sandbox's ledger: {}", error.into()))
}
