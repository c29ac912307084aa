//! A payment provider and a carrier for development and tests. They behave like real ones: they keep a
//! durable ledger apart from the orders' tables, honour idempotency keys, decline payments, respond slowly
//! and lose responses. Tests and `order-worker verify` compare the orders with the ledger.
//!
//! - [`payment`]: the payment provider.
//! - [`carrier`]: the carrier; with `CARRIER=sandbox` it also delivers shipments and calls the shipper
//!   webhook.
//! - `ledger`: the effect of each call; `ledger_writer`: loads and saves it.

pub mod carrier;
pub(crate) mod ledger;
mod ledger_writer;
pub mod payment;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use tokio::sync::Mutex;

use super::{ProviderError, sandbox::ledger_writer::LedgerWriter};
use crate::store::{
    StoreError, postgres,
    sql::{
        row::Row,
        session::Session,
        statement::{Argument, Sql},
    },
    sqlite::{
        self,
        connection::{Connection, Writer},
    },
};

/// The sandbox's ledger and its writer; clones share them.
#[derive(Clone)]
pub struct Sandbox {
    ledger: LedgerLocation,
    writer: LedgerWriter,
}

impl Sandbox {
    /// Opens the sandbox with `ledger`.
    ///
    /// # Errors
    /// When the writer's thread can't be created.
    pub fn open(ledger: LedgerLocation) -> io::Result<Self> {
        Ok(Self {
            writer: LedgerWriter::start(ledger.clone())?,
            ledger,
        })
    }
}

impl Sandbox {
    /// Deletes the ledger, for `POST /demo/reset`.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn reset(&self) -> Result<(), StoreError> {
        let mut session = self.ledger.begin().await?;
        // The table lock keeps concurrent calls from writing back rows that they have already read.
        let exclusive_lock_sql = Sql::for_dialects(
            "SELECT 1",
            "LOCK TABLE payments, movements, parcels IN ACCESS EXCLUSIVE MODE",
        );
        session.execute_batch(exclusive_lock_sql).await?;
        for delete_sql in [
            "DELETE FROM payments",
            "DELETE FROM movements",
            "DELETE FROM parcels",
        ] {
            session.execute(delete_sql, Vec::new()).await?;
        }
        session.commit().await
    }
}

/// Location of the ledger: a file beside a SQLite database, or a schema in PostgreSQL.
#[derive(Clone)]
pub struct LedgerLocation(LedgerDatabase);

#[derive(Clone)]
enum LedgerDatabase {
    /// A single connection avoids lock conflicts.
    Sqlite(Arc<Mutex<Writer>>),
    Postgres(Box<postgres::Pool>),
}

impl LedgerLocation {
    /// Opens the ledger that belongs to `database_url`, creating it if necessary.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(database_url: &str) -> anyhow::Result<Self> {
        if postgres::is_postgres_url(database_url) {
            let postgres_pool = postgres::pool_in(database_url, "sandbox")?;
            return Ok(Self(LedgerDatabase::Postgres(Box::new(postgres_pool))));
        }
        let ledger_path = Self::path(&sqlite::path(database_url)?);
        let connection = sqlite::open_writer(&ledger_path)?;
        connection
            .execute_batch(include_str!("ledger.sql"))
            .and_then(|()| add_address_digest(&connection))
            .with_context(|| {
                format!("can't open the sandbox's ledger {}", ledger_path.display())
            })?;
        let writer = Arc::new(Mutex::new(Writer::new(connection)));
        Ok(Self(LedgerDatabase::Sqlite(writer)))
    }

    /// Path of the ledger: `orders.sandbox.db` for `orders.db`.
    pub fn path(database_file: &Path) -> PathBuf {
        database_file.with_extension("sandbox.db")
    }

    /// Starts a transaction.
    async fn begin(&self) -> Result<Session, StoreError> {
        match &self.0 {
            LedgerDatabase::Sqlite(connection) => {
                let mut session = lock_session(connection).await;
                session.begin("BEGIN IMMEDIATE").await?;
                Ok(session)
            }
            LedgerDatabase::Postgres(pool) => postgres::begin_transaction(pool).await,
        }
    }

    /// Executes a single statement and returns its rows.
    async fn fetch(
        &self,
        sql: impl Into<Sql>,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut session = match &self.0 {
            LedgerDatabase::Sqlite(connection) => lock_session(connection).await,
            LedgerDatabase::Postgres(pool) => postgres::pooled_session(pool).await?,
        };
        session.fetch(sql, arguments).await
    }
}

/// Adds the column that ledgers of earlier versions do not have.
fn add_address_digest(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    let column_sql =
        "SELECT count(*) FROM pragma_table_info('parcels') WHERE name = 'address_digest'";
    let column_count: i64 = connection.query_row(column_sql, [], |row| row.get(0))?;
    if column_count == 0 {
        connection.execute_batch("ALTER TABLE parcels ADD COLUMN address_digest TEXT")?;
    }
    Ok(())
}

async fn lock_session(writer: &Arc<Mutex<Writer>>) -> Session {
    let writer = Arc::clone(writer).lock_owned().await;
    Session::Sqlite(Connection::Writing(writer))
}

/// Opens the ledger that belongs to `database_url` for reading all of it; `None` if it does not exist.
async fn open_audit_session(database_url: &str) -> anyhow::Result<Option<Session>> {
    if postgres::is_postgres_url(database_url) {
        return Ok(Some(
            postgres::open_audit_session(database_url, Some("sandbox")).await?,
        ));
    }
    let ledger_path = LedgerLocation::path(&sqlite::path(database_url)?);
    if !ledger_path.exists() {
        return Ok(None);
    }
    sqlite::open_audit_session(&ledger_path).map(Some)
}

/// A ledger error as a temporary error of the provider.
fn ledger_error(error: impl Into<StoreError>) -> ProviderError {
    ProviderError::Transient(format!("the sandbox's ledger failed: {}", error.into()))
}
