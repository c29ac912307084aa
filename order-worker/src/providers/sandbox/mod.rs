//! Partners to try things out with. They behave like real ones: they keep a durable ledger of
//! their own, apart from the orders' tables, honour idempotency keys, decline, dawdle and lose
//! answers. Tests and `order-worker verify` compare our books with the ledger.
//!
//! - [`payment`]: holds, takes and gives back money.
//! - [`carrier`]: gives out tracking numbers; as `CARRIER=sandbox` it also delivers, calling the
//!   shipper webhook as it goes.

pub mod carrier;
pub mod payment;

use std::path::{Path, PathBuf};

use anyhow::Context;
use sqlx::{
    Connection, PgPool, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::PartnerError;
use crate::store::{
    StoreError,
    database::{self, Session, Sql, arguments},
    postgres, sqlite,
};

/// The sandbox's books: a file beside a SQLite database, a schema of its own in PostgreSQL.
#[derive(Clone)]
pub struct Ledger(Books);

#[derive(Clone)]
enum Books {
    /// One connection, so that nobody meets a locked file.
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Ledger {
    /// Opens the ledger of the database that `database_url` names, creating it as needed.
    ///
    /// # Errors
    /// When it can't be opened.
    pub async fn open(database_url: &str) -> anyhow::Result<Self> {
        if postgres::is_meant(database_url) {
            let pool = postgres::pool_in(database_url, "sandbox")?;
            return Ok(Self(Books::Postgres(pool)));
        }
        let path = Self::path(&sqlite::path(database_url)?);
        let context = || format!("can't open the sandbox's ledger {}", path.display());
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            // After an error that SQLite has rolled back by itself, such as a full disk, sqlx takes
            // the transaction for one that is still open.
            .after_release(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(options)
            .await
            .with_context(context)?;
        sqlx::raw_sql(include_str!("ledger.sql"))
            .execute(&pool)
            .await
            .with_context(context)?;
        Ok(Self(Books::Sqlite(pool)))
    }

    /// `orders.db` has its ledger in `orders.sandbox.db`.
    pub fn path(database: &Path) -> PathBuf {
        database.with_extension("sandbox.db")
    }

    /// A transaction about what goes by `key`; of several at once, one after the other.
    async fn begin(&self, key: &str) -> Result<Session, PartnerError> {
        match &self.0 {
            Books::Sqlite(pool) => {
                let transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(away)?;
                Ok(Session::Sqlite(database::Sqlite::Transaction(transaction)))
            }
            Books::Postgres(pool) => {
                let mut session = postgres::transaction(pool).await.map_err(away)?;
                let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
                session.execute(lock, arguments![key]).await.map_err(away)?;
                Ok(session)
            }
        }
    }

    /// The rows of a single statement.
    async fn fetch(
        &self,
        sql: impl Into<Sql>,
        arguments: Vec<database::Argument>,
    ) -> Result<Vec<database::Row>, StoreError> {
        let mut session = match &self.0 {
            Books::Sqlite(pool) => Session::Sqlite(database::Sqlite::Pooled(pool.acquire().await?)),
            Books::Postgres(pool) => postgres::pooled(pool).await?,
        };
        session.fetch(sql, arguments).await
    }
}

/// The ledger of `database_url` for reading all of it; none if there never was one.
async fn auditing(database_url: &str) -> anyhow::Result<Option<Session>> {
    if postgres::is_meant(database_url) {
        let mut session = postgres::auditing(database_url).await?;
        session.control("SET search_path = sandbox").await?;
        return Ok(Some(session));
    }
    let path = Ledger::path(&sqlite::path(database_url)?);
    if !path.exists() {
        return Ok(None);
    }
    sqlite::auditing(&path).await.map(Some)
}

/// The ledger's own troubles are the partner's: try again.
fn away(error: impl Into<StoreError>) -> PartnerError {
    PartnerError::Transient(format!("the sandbox's ledger: {}", error.into()))
}
