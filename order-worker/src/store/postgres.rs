//! PostgreSQL, for any number of workers.
//!
//! An acknowledged commit is on disk (`synchronous_commit` must not be off). Batches of several workers run
//! concurrently: rows that may be changed are locked first, table by table and by key, so no deadlock occurs.
//! Lost connections are reopened.
//!
//! - `pool`: connections, directly or through a connection pooler.
//! - `migrate`: schema versions.

mod migrate;
mod pool;
pub(in crate::store) mod session;

use std::{str::FromStr, time::Duration};

use anyhow::{Context, bail};
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time,
};

pub(super) use self::migrate::newest_schema;
pub(crate) use self::pool::{LocalSettings, Pool, begin_with};
use self::session::{PostgresSession, SessionConnection};
use super::{StoreError, sql::session::Session};

/// The prefixes of `DATABASE_URL`.
const URL_SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Pool size, for everything but batches: timers, the outbox, steps, reads of clients.
const POOL_SIZE: u32 = 8;
/// Maximum number of concurrent queries that may scan many rows, so that other queries find a connection.
const MAX_CONCURRENT_SCANS: usize = 2;
/// Timeout for a connection from the pool, including opening one. It is short, so that clients get an error
/// quickly.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for opening a connection outside of the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A PostgreSQL database.
pub(super) struct Postgres {
    /// The engine's own connection; `None` while it is in use, lost, or not opened yet.
    writer: Mutex<Option<Session>>,
    pub(super) pool: Pool,
    pub(super) readers: Pool,
    scan_permits: Semaphore,
}

impl Postgres {
    /// Connects to the database at `url` and migrates its schema. Reads of clients use `read_url`, if given.
    pub(super) async fn open(url: &str, read_url: Option<&str>) -> anyhow::Result<Self> {
        let options = connect_options(url)?;
        let location = host_and_database(&options);
        let unusable_message = || format!("can't use the database {location}");
        // Before everything else, since a pooler in statement mode supports none of it.
        let pool = Pool::new(options.clone(), None);
        pool.detect_mode().await.with_context(unusable_message)?;
        let mut migration_connection = connect(&options).await.with_context(unusable_message)?;
        check_durability(&mut migration_connection).await?;
        migrate::migrate(&mut migration_connection)
            .await
            .with_context(|| format!("can't migrate the database {location}"))?;
        let _ = migration_connection.close().await;
        let readers = match read_url {
            Some(read_url) => Pool::new(
                self::connect_options(read_url).context("DATABASE_READ_URL")?,
                None,
            ),
            None => pool.clone(),
        };
        Ok(Self {
            writer: Mutex::new(None),
            pool,
            readers,
            scan_permits: Semaphore::new(MAX_CONCURRENT_SCANS),
        })
    }

    /// Waits for a permit for a query that may scan many rows.
    ///
    /// # Errors
    /// [`StoreError::TooManySearches`] if none becomes free within the timeout.
    pub(super) async fn acquire_scan_permit(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let permit = time::timeout(ACQUIRE_TIMEOUT, self.scan_permits.acquire()).await;
        let permit = permit.ok().and_then(Result::ok);
        permit.ok_or(StoreError::TooManySearches)
    }

    /// Takes the engine's connection, or opens one. [`Postgres::put_back_writer`] returns it if it is still usable.
    pub(super) async fn writer(&self) -> Result<Session, StoreError> {
        let kept_session = self.writer.lock().await.take();
        if let Some(session) = kept_session {
            return Ok(session);
        }
        let (connection, settings) = self.pool.connect().await?;
        let session_connection = SessionConnection::Own(Box::new(connection));
        Ok(Session::Postgres(PostgresSession::new(
            session_connection,
            settings,
        )))
    }

    pub(super) async fn put_back_writer(&self, session: Session) {
        *self.writer.lock().await = Some(session);
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.pool.close().await;
        if let Some(Session::Postgres(writer)) = self.writer.lock().await.take() {
            writer.close().await;
        }
    }
}

pub(crate) async fn pooled_session(pool: &Pool) -> Result<Session, StoreError> {
    let (connection, settings) = pool.acquire().await?;
    let session_connection = SessionConnection::Pooled(connection);
    Ok(Session::Postgres(PostgresSession::new(
        session_connection,
        settings,
    )))
}

/// Begins a transaction, which is rolled back if it is dropped without a commit.
pub(crate) async fn begin_transaction(pool: &Pool) -> Result<Session, StoreError> {
    let (transaction, settings) = pool.begin().await?;
    let session_connection = SessionConnection::Transaction(transaction);
    Ok(Session::Postgres(PostgresSession::new(
        session_connection,
        settings,
    )))
}

/// A connection for reading the whole database at `url`, transaction by transaction. The tables are in
/// `schema`, by default in the user's search path.
pub(crate) async fn open_audit_session(url: &str, schema: Option<&str>) -> anyhow::Result<Session> {
    let options = connect_options(url)?;
    let connection = connect(&options)
        .await
        .with_context(|| format!("can't read the database {}", host_and_database(&options)))?;
    let settings = pool::local_settings(schema.map(|schema| ("search_path", schema)).into_iter());
    let session_connection = SessionConnection::Auditing(Box::new(connection));
    Ok(Session::Postgres(PostgresSession::new(
        session_connection,
        Some(settings),
    )))
}

/// A pool of connections to `url` whose tables are in `schema`.
pub(crate) fn pool_in(url: &str, schema: &str) -> anyhow::Result<Pool> {
    Ok(Pool::new(connect_options(url)?, Some(schema)))
}

/// Whether `url` refers to PostgreSQL.
pub(crate) fn is_postgres_url(url: &str) -> bool {
    URL_SCHEMES.iter().any(|scheme| url.starts_with(scheme))
}

pub(super) fn connect_options(url: &str) -> anyhow::Result<PgConnectOptions> {
    // The error must not show the URL, which may contain a password.
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        anyhow::anyhow!("must be postgres://USER:PASSWORD@HOST:PORT/DATABASE: {error}")
    })?;
    // sqlx sets the start-up parameter `extra_float_digits` by default, which some poolers refuse. It is not
    // needed, since no column is a float.
    Ok(options
        .application_name("order-worker")
        .extra_float_digits(None))
}

/// Host, port and database, without the password.
pub(super) fn host_and_database(options: &PgConnectOptions) -> String {
    let database_name = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    format!(
        "{}:{}/{database_name}",
        options.get_host(),
        options.get_port()
    )
}

async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connect_result = time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    Ok(connect_result.unwrap_or_else(|_| Err(pool::timed_out()))?)
}

/// Checks that acknowledged commits are on disk: with asynchronous commits, acknowledged orders could be
/// lost.
async fn check_durability(connection: &mut PgConnection) -> anyhow::Result<()> {
    // In a transaction, since a pooler may switch servers between the messages of an unnamed statement.
    let mut transaction = connection.begin().await?;
    for (setting, unsafe_value) in [("synchronous_commit", "off"), ("fsync", "off")] {
        let row = sqlx::query("SELECT current_setting($1)")
            .persistent(false)
            .bind(setting)
            .fetch_one(&mut *transaction)
            .await?;
        let setting_value: &str = row.try_get(0)?;
        if setting_value == unsafe_value {
            bail!("{setting} is {setting_value}: acknowledged orders could be lost; set it to on");
        }
    }
    Ok(())
}
