//! The store: the only module with SQL. The database is the only source of truth.
//!
//! A batch of commands is one transaction ([`Store::transact`]): load the rows that the commands refer to,
//! decide, write the changes, commit. Reads use other connections and never wait for a write.
//!
//! - `sqlite`, `postgres`: opening, locking, migrations and connections of each database; `schema`:
//!   compatibility of schema versions; `error`: the meaning of database errors; `secret_cipher`: encryption of
//!   webhook secrets.
//! - `sql`: statements, arguments and rows for both databases; bulk writes; results of limited size.
//! - `transaction`: loads the rows of a batch and saves the changes.
//! - `queries`: reads for clients, `order-worker export` and statistics.
//! - `feed`: the event feed, its consumers, and the deliveries that events create for webhook endpoints.
//! - `queues`: steps to send, webhook deliveries, periodic jobs, failed steps and archived messages.
//! - `maintenance`: `order-worker verify`, retention, erasure of personal data, the demo and debug functions.

mod error;
mod feed;
mod maintenance;
pub(crate) mod postgres;
mod queries;
mod queues;
mod schema;
pub mod secret_cipher;
pub(crate) mod sql;
pub(crate) mod sqlite;
mod transaction;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use jiff::Timestamp;

pub use self::{
    error::StoreError,
    feed::{
        events::{FeedPage, FeedResult},
        feed_cursor::{ConsumerLease, FeedConsumer, FeedProgress, PositionedEvent},
        new_messages::CreatedMessages,
    },
    maintenance::{
        audit::{
            Audit, Audited, AuditedApiKey, AuditedCustomer, OverdueOrOrphanedStep, Unreadable,
        },
        encrypt::EncryptionResult,
        retention::ShippedOrderCursor,
    },
    queries::{
        order_list::OrderCursor,
        pages::ExportPages,
        products::ProductAndStock,
        read::OrderAndSteps,
        stats::{Backlog, CountingProgress, Figure},
    },
    queues::{
        dead_letters::DeadLetterCursor,
        jobs::JobClaim,
        messages::DueMessage,
        retries::RetryCursor,
        webhooks::{ClaimFilter, DueDelivery},
    },
    sql::byte_limit::LookupByOrderId,
};
use self::{
    postgres::Postgres, secret_cipher::SecretCipher, sql::session::Session, sqlite::Sqlite,
};
use crate::{
    domain::{load_set::LoadSet, working_set::WorkingSet},
    runtime::crash::{Point, crash_at},
};

/// Time for which [`Store::check`] reports the last failed write instead of trying a write.
const FAILED_WRITE_REMEMBERED: Duration = Duration::from_secs(3);
/// Maximum number of retries after a conflict with another transaction.
const MAX_CONFLICTS: u32 = 10;

/// Access to the database; clones share it.
#[derive(Clone)]
pub struct Store {
    database: Arc<Database>,
    /// Time and error of the last write, if it failed.
    failed_write: Arc<Mutex<Option<(Instant, StoreError)>>>,
    reads_primary: bool,
    /// Encrypts webhook secrets.
    cipher: Arc<SecretCipher>,
}

enum Database {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl Store {
    /// Opens the database of `url` (`sqlite://path` or `postgres://…`) and migrates its schema. Client reads use
    /// `read_url`, a replica of a PostgreSQL database, if given.
    ///
    /// # Errors
    /// When it can't be used: it is unavailable, in use by another process (SQLite), or its schema is newer than
    /// this program.
    pub async fn open(url: &str, read_url: Option<&str>) -> anyhow::Result<Self> {
        check_urls(url, read_url)?;
        let database = if postgres::is_postgres_url(url) {
            Database::Postgres(Box::new(Postgres::open(url, read_url).await?))
        } else {
            Database::Sqlite(Sqlite::open(url).await?)
        };
        Ok(Self {
            database: Arc::new(database),
            failed_write: Arc::default(),
            reads_primary: false,
            cipher: Arc::default(),
        })
    }

    /// The same store, which encrypts webhook secrets with `cipher`.
    ///
    /// # Errors
    /// When stored secrets need a key that is not configured.
    pub async fn with_cipher(self, cipher: Arc<SecretCipher>) -> anyhow::Result<Self> {
        let store = Self { cipher, ..self };
        store.check_encryption_keys().await?;
        Ok(store)
    }

    /// The same store with reads that see every acknowledged commit, for decisions. The reads of clients may
    /// use a replica, which lags behind.
    #[must_use]
    pub fn up_to_date(&self) -> Self {
        Self {
            reads_primary: true,
            ..self.clone()
        }
    }

    /// Runs `decide` on the rows of `load_set`, writes the changes and commits, in one transaction. `decide`
    /// is not called if the rows can't be loaded; if it returns `None`, nothing is written. After a conflict
    /// with another worker it is called again with reloaded rows.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] if there was no response to the commit. After any other error nothing
    /// was changed.
    pub async fn transact<T>(
        &self,
        load_set: &LoadSet,
        now: Timestamp,
        mut decide: impl FnMut(&mut WorkingSet) -> Option<T>,
    ) -> Result<T, StoreError> {
        let transaction_result = match &*self.database {
            Database::Sqlite(sqlite) => {
                let mut session = sqlite.writer().await;
                let begin_sql = "BEGIN IMMEDIATE";
                let cipher = &self.cipher;
                transaction(&mut session, begin_sql, load_set, now, cipher, &mut decide).await
            }
            Database::Postgres(postgres) => {
                let mut conflict_count = 0;
                loop {
                    let mut session = postgres.writer().await?;
                    let cipher = &self.cipher;
                    let attempt_result =
                        transaction(&mut session, "BEGIN", load_set, now, cipher, &mut decide)
                            .await;
                    // After any other error the connection is dropped: its server may have stopped or become
                    // a standby, and its transaction may still be open.
                    if let Ok(_)
                    | Err(
                        StoreError::Conflict(_) | StoreError::TooLarge | StoreError::Aborted,
                    ) = &attempt_result
                    {
                        postgres.put_back_writer(session).await;
                    }
                    match attempt_result {
                        Err(StoreError::Conflict(message)) if conflict_count < MAX_CONFLICTS => {
                            conflict_count += 1;
                            tracing::debug!(
                                reason = message,
                                conflicts = conflict_count,
                                "conflict with another transaction; deciding again"
                            );
                        }
                        attempt_result => break attempt_result,
                    }
                }
            }
        };
        self.record_write(&transaction_result);
        transaction_result
    }

    /// Stores the result of a write for [`Store::check`].
    fn record_write<T>(&self, write_result: &Result<T, StoreError>) {
        let failed_write = match write_result {
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Refused(_)
                | StoreError::OutcomeUnknown(_)),
            ) => Some((Instant::now(), error.clone())),
            _ => None,
        };
        *self
            .failed_write
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = failed_write;
    }

    /// Checks that the database answers, and that it accepts writes as far as is known. If the last write
    /// failed a while ago, tries a write.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        let failed_write = {
            let failed_write = self
                .failed_write
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            failed_write.clone()
        };
        match failed_write {
            None => {
                self.primary_session()
                    .await?
                    .execute_batch("SELECT 1")
                    .await
            }
            Some((failed_at, write_error)) if failed_at.elapsed() < FAILED_WRITE_REMEMBERED => {
                Err(write_error)
            }
            Some(_) => {
                let probe_result = self.write_probe().await;
                self.record_write(&probe_result);
                probe_result
            }
        }
    }

    /// A write without an effect.
    async fn write_probe(&self) -> Result<(), StoreError> {
        let mut session = self.writer_session().await?;
        let probe_sql = "UPDATE relay SET position = position WHERE name = 'probe'";
        session.execute(probe_sql, Vec::new()).await.map(drop)
    }

    /// A connection that sees every acknowledged commit.
    async fn primary_session(&self) -> Result<Session, StoreError> {
        match &*self.database {
            Database::Sqlite(sqlite) => sqlite.reader(),
            Database::Postgres(postgres) => postgres::pooled_session(&postgres.pool).await,
        }
    }

    /// A connection for client reads.
    async fn reader_session(&self) -> Result<Session, StoreError> {
        match &*self.database {
            Database::Sqlite(sqlite) => sqlite.reader(),
            Database::Postgres(_) if self.reads_primary => self.primary_session().await,
            Database::Postgres(postgres) => postgres::pooled_session(&postgres.readers).await,
        }
    }

    /// A connection for single writing statements.
    async fn writer_session(&self) -> Result<Session, StoreError> {
        match &*self.database {
            Database::Sqlite(sqlite) => Ok(sqlite.writer().await),
            Database::Postgres(postgres) => postgres::pooled_session(&postgres.pool).await,
        }
    }

    /// A transaction, rolled back unless it is committed.
    async fn transaction(&self) -> Result<Session, StoreError> {
        match &*self.database {
            Database::Sqlite(sqlite) => {
                let mut session = sqlite.writer().await;
                session.begin("BEGIN IMMEDIATE").await?;
                Ok(session)
            }
            Database::Postgres(postgres) => postgres::begin_transaction(&postgres.pool).await,
        }
    }

    /// Closes the connections.
    pub async fn close(self) {
        match Arc::into_inner(self.database) {
            Some(Database::Sqlite(sqlite)) => sqlite.close(),
            Some(Database::Postgres(postgres)) => postgres.close().await,
            None => {}
        }
    }
}

async fn transaction<T>(
    session: &mut Session,
    begin_sql: &'static str,
    load_set: &LoadSet,
    now: Timestamp,
    cipher: &SecretCipher,
    decide: &mut impl FnMut(&mut WorkingSet) -> Option<T>,
) -> Result<T, StoreError> {
    session.begin(begin_sql).await?;
    let write_result = decide_and_write(session, load_set, now, cipher, decide).await;
    let final_result = match write_result {
        Ok((decided_value, true)) => {
            crash_at(Point::BeforeCommit);
            let commit_result = session.end("COMMIT").await;
            commit_result
                .map(|()| decided_value)
                .map_err(StoreError::during_commit)
        }
        Ok((decided_value, false)) => {
            session.end("ROLLBACK").await?;
            return Ok(decided_value);
        }
        Err(error) => Err(error),
    };
    match final_result {
        Ok(decided_value) => {
            crash_at(Point::AfterCommit);
            Ok(decided_value)
        }
        Err(error) => {
            // If this fails, the database rolls back when the connection closes.
            let _ = session.end("ROLLBACK").await;
            Err(error)
        }
    }
}

/// Loads the rows, decides and writes. Returns the result of `decide`, and whether there are changes to
/// commit.
async fn decide_and_write<T>(
    session: &mut Session,
    load_set: &LoadSet,
    now: Timestamp,
    cipher: &SecretCipher,
    decide: &mut impl FnMut(&mut WorkingSet) -> Option<T>,
) -> Result<(T, bool), StoreError> {
    let (mut working_set, loaded_rows) =
        transaction::load::load_working_set(session, load_set.clone(), cipher).await?;
    let decided_value = decide(&mut working_set).ok_or(StoreError::Aborted)?;
    if working_set.changes.is_empty() {
        return Ok((decided_value, false));
    }
    transaction::save::save_changes(session, &working_set, &loaded_rows, now, cipher).await?;
    Ok((decided_value, true))
}

/// Checks the values of `DATABASE_URL` and `DATABASE_READ_URL`.
///
/// # Errors
/// Names the invalid variable, without showing a password.
pub fn check_urls(url: &str, read_url: Option<&str>) -> anyhow::Result<()> {
    use anyhow::Context;

    if !postgres::is_postgres_url(url) {
        sqlite::path(url).with_context(|| format!("DATABASE_URL={url:?}"))?;
        if read_url.is_some() {
            bail!("DATABASE_READ_URL: replicas are supported for PostgreSQL only");
        }
        return Ok(());
    }
    postgres::connect_options(url).context("DATABASE_URL")?;
    if let Some(read_url) = read_url {
        postgres::connect_options(read_url).context("DATABASE_READ_URL")?;
    }
    Ok(())
}

/// Whether opening may succeed later without a change of the configuration: the server is unreachable,
/// another process holds a lock, or the disk is full.
pub fn is_temporary(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let is_postgres_temporary = cause.downcast_ref().is_some_and(error::is_temporary);
        let is_sqlite_temporary = cause
            .downcast_ref()
            .is_some_and(error::is_temporary_in_sqlite);
        let store_error = cause.downcast_ref::<StoreError>();
        is_postgres_temporary
            || is_sqlite_temporary
            || store_error.is_some_and(StoreError::is_temporary)
    })
}

/// Whether `url` refers to a PostgreSQL database.
pub fn is_postgres(url: &str) -> bool {
    postgres::is_postgres_url(url)
}

/// The file path of a `sqlite://…` URL.
///
/// # Errors
/// When the URL has no path.
pub fn sqlite_path(url: &str) -> anyhow::Result<PathBuf> {
    sqlite::path(url)
}

/// A description of the database at `url`, without the password.
pub fn location(url: &str) -> String {
    match postgres::connect_options(url) {
        Ok(options) if postgres::is_postgres_url(url) => postgres::host_and_database(&options),
        _ => url.to_owned(),
    }
}
