//! The store: the only module with SQL. The database is the only source of truth.
//!
//! A batch of commands is one transaction ([`Store::transact`]): load the rows it refers to, decide, write the
//! changes, commit. Reads use other connections and never wait for a write.
//!
//! - `sqlite`, `postgres`: opening, exclusive use or locks, migrations, connections.
//! - `database`: the two behind one: statements, arguments, rows; `bulk`: many rows at once.
//! - `load`, `save`: the two halves of a batch, set-wise: a constant number of statements.
//! - `read`: what callers ask for; `order_list`: orders, whatever they are narrowed by; `look_up`: orders by their
//!   ids.
//! - `feed`: events for readers; `turn`: for those who follow it; `webhooks`: for endpoints of others.
//! - `outbox`: steps to send, housekeeping.
//! - `stats`: figures, counted from the feed.
//! - `jobs`: what is done again and again.
//! - `erase`: taking personal data out; `reset`: back to the beginning; `debug`: the data as it is.
//! - `dead_letters`: steps that are dead, messages that were archived. `retries`: steps that failed and will be
//!   tried again.
//! - `audit`: whole-database reads for `order-worker verify`; `pages`: for `order-worker export`.

mod error;
mod feed;
mod maintenance;
pub(crate) mod postgres;
mod queries;
mod queues;
mod schema;
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
        events::{Behind, FeedPage},
        feed_cursor::{Checkpoint, ConsumerLease, FeedConsumer, Positioned},
    },
    maintenance::audit::{Audit, Audited, StepAudit, Unreadable},
    queries::{
        pages::Pages,
        read::{OrderAndSteps, OrderCursor, ProductAndStock},
        stats::{Backlog, Counting, Figure},
    },
    queues::webhooks::{DueDelivery, Share},
    sql::byte_limit::ById,
};
use self::{postgres::Postgres, sql::database::Session, sqlite::Sqlite};
use crate::{
    domain::{load_set::LoadSet, working_set::WorkingSet},
    runtime::crash::{Point, point},
};

/// Time for which a failed write predicts the failure of further writes.
const TROUBLE: Duration = Duration::from_secs(3);
/// Maximum number of retries after a conflict with another worker.
const CONFLICTS: u32 = 10;

/// The database; clones share it.
#[derive(Clone)]
pub struct Store {
    database: Arc<Database>,
    /// Time and error of the last write, if it failed.
    trouble: Arc<Mutex<Option<(Instant, StoreError)>>>,
    is_up_to_date: bool,
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
        let database = if postgres::is_meant(url) {
            Database::Postgres(Box::new(Postgres::open(url, read_url).await?))
        } else {
            Database::Sqlite(Sqlite::open(url).await?)
        };
        Ok(Self {
            database: Arc::new(database),
            trouble: Arc::default(),
            is_up_to_date: false,
        })
    }

    /// The same store, whose reads see every acknowledged commit, for decisions based on reads. Client reads may
    /// use a replica, which lags behind.
    #[must_use]
    pub fn up_to_date(&self) -> Self {
        Self {
            is_up_to_date: true,
            ..self.clone()
        }
    }

    /// Runs `decide` over the rows of `needs`, writes the changes and commits, in one transaction. `decide` is
    /// not called when the rows can't be loaded; when it returns `None`, nothing is written. It is called again
    /// with reloaded rows after a conflict with another worker.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] when the commit was not answered; after any other error nothing was
    /// changed.
    pub async fn transact<T>(
        &self,
        needs: &LoadSet,
        now: Timestamp,
        mut decide: impl FnMut(&mut WorkingSet) -> Option<T>,
    ) -> Result<T, StoreError> {
        let result = match &*self.database {
            Database::Sqlite(sqlite) => {
                let mut session = sqlite.writer().await;
                transaction(&mut session, "BEGIN IMMEDIATE", needs, now, &mut decide).await
            }
            Database::Postgres(postgres) => {
                let mut conflicts = 0;
                loop {
                    let mut session = postgres.writer().await?;
                    let result = transaction(&mut session, "BEGIN", needs, now, &mut decide).await;
                    // After another error it may lead to a server that is none any more, or only a
                    // standby, and its transaction may still be open.
                    if let Ok(_)
                    | Err(
                        StoreError::Conflict(_) | StoreError::TooLarge | StoreError::Aborted,
                    ) = &result
                    {
                        postgres.keep(session).await;
                    }
                    match result {
                        Err(StoreError::Conflict(why)) if conflicts < CONFLICTS => {
                            conflicts += 1;
                            tracing::debug!(
                                why,
                                conflicts,
                                "another worker was there first; deciding again"
                            );
                        }
                        result => break result,
                    }
                }
            }
        };
        self.note(&result);
        result
    }

    /// Remembers the result of a write, for [`Store::check`].
    fn note<T>(&self, result: &Result<T, StoreError>) {
        let trouble = match result {
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::ReadOnly(_)
                | StoreError::OutcomeUnknown(_)),
            ) => Some((Instant::now(), error.clone())),
            _ => None,
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Checks that the database answers, and accepts writes as far as is known. If the last write failed a while
    /// ago, tries a write.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        let trouble = {
            let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            trouble.clone()
        };
        match trouble {
            None => self.primary().await?.control("SELECT 1").await,
            Some((since, error)) if since.elapsed() < TROUBLE => Err(error),
            Some(_) => {
                let written = self.write_probe().await;
                self.note(&written);
                written
            }
        }
    }

    /// A write without an effect.
    async fn write_probe(&self) -> Result<(), StoreError> {
        let mut session = self.writer().await?;
        let probe = "UPDATE relay SET position = position WHERE name = 'probe'";
        session.execute(probe, Vec::new()).await.map(drop)
    }

    /// A connection that sees every acknowledged commit.
    async fn primary(&self) -> Result<Session, StoreError> {
        match &*self.database {
            Database::Sqlite(sqlite) => sqlite.reader(),
            Database::Postgres(postgres) => postgres::pooled(&postgres.pool).await,
        }
    }

    /// A connection for client reads.
    async fn reader(&self) -> Result<Session, StoreError> {
        match &*self.database {
            Database::Sqlite(sqlite) => sqlite.reader(),
            Database::Postgres(_) if self.is_up_to_date => self.primary().await,
            Database::Postgres(postgres) => postgres::pooled(&postgres.readers).await,
        }
    }

    /// A connection for single writing statements.
    async fn writer(&self) -> Result<Session, StoreError> {
        match &*self.database {
            Database::Sqlite(sqlite) => Ok(sqlite.writer().await),
            Database::Postgres(postgres) => postgres::pooled(&postgres.pool).await,
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
            Database::Postgres(postgres) => postgres::transaction(&postgres.pool).await,
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
    begin: &'static str,
    needs: &LoadSet,
    now: Timestamp,
    decide: &mut impl FnMut(&mut WorkingSet) -> Option<T>,
) -> Result<T, StoreError> {
    session.begin(begin).await?;
    let written = decide_and_write(session, needs, now, decide).await;
    let result = match written {
        Ok((result, true)) => {
            point(Point::BeforeCommit);
            let committed = session.end("COMMIT").await;
            committed.map(|()| result).map_err(StoreError::in_commit)
        }
        Ok((result, false)) => {
            session.end("ROLLBACK").await?;
            return Ok(result);
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(result) => {
            point(Point::AfterCommit);
            Ok(result)
        }
        Err(error) => {
            // What can't be rolled back is rolled back by the database when it misses us.
            let _ = session.end("ROLLBACK").await;
            Err(error)
        }
    }
}

/// The result, and whether there are changes to commit.
async fn decide_and_write<T>(
    session: &mut Session,
    needs: &LoadSet,
    now: Timestamp,
    decide: &mut impl FnMut(&mut WorkingSet) -> Option<T>,
) -> Result<(T, bool), StoreError> {
    let (mut world, known) = transaction::load::world(session, needs.clone()).await?;
    let result = decide(&mut world).ok_or(StoreError::Aborted)?;
    if world.dirty.is_empty() {
        return Ok((result, false));
    }
    transaction::save::world(session, &world, &known, now).await?;
    Ok((result, true))
}

/// Checks the values of `DATABASE_URL` and `DATABASE_READ_URL`.
///
/// # Errors
/// Names the invalid variable, without showing a password.
pub fn check_urls(url: &str, read_url: Option<&str>) -> anyhow::Result<()> {
    use anyhow::Context;

    if !postgres::is_meant(url) {
        sqlite::path(url).with_context(|| format!("DATABASE_URL={url:?}"))?;
        if read_url.is_some() {
            bail!("DATABASE_READ_URL: only a PostgreSQL database has a replica to read from");
        }
        return Ok(());
    }
    postgres::options(url).context("DATABASE_URL")?;
    if let Some(read_url) = read_url {
        postgres::options(read_url).context("DATABASE_READ_URL")?;
    }
    Ok(())
}

/// Whether opening failed with what may pass by itself: a server that can't be reached, a lock that
/// another process holds, a full disk. Everything else is a wrong configuration.
pub fn may_pass(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_postgres = cause.downcast_ref().is_some_and(error::may_pass);
        let of_sqlite = cause.downcast_ref().is_some_and(error::may_pass_in_sqlite);
        let of_store = cause.downcast_ref::<StoreError>();
        of_postgres || of_sqlite || of_store.is_some_and(StoreError::may_pass)
    })
}

/// Whether `url` refers to a PostgreSQL database.
pub fn is_postgres(url: &str) -> bool {
    postgres::is_meant(url)
}

/// The file of a `sqlite://…` URL.
///
/// # Errors
/// When it has none.
pub fn sqlite_path(url: &str) -> anyhow::Result<PathBuf> {
    sqlite::path(url)
}

/// A name for the database of `url`, without its password.
pub fn place(url: &str) -> String {
    match postgres::options(url) {
        Ok(options) if postgres::is_meant(url) => postgres::place(&options),
        _ => url.to_owned(),
    }
}
