//! SQLite: the embedded store of one worker process.
//!
//! WAL with `synchronous=FULL`: a commit that was answered survives a power cut. One connection
//! writes; readers see the last commit and never wait.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use jiff::Timestamp;
use sqlx::{
    Connection, SqlSafeStr, SqliteConnection, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

use super::{StoreError, load, save};
use crate::{
    crash::{Point, point},
    domain::{command::Needs, world::World},
};

/// Connections that read at the same time.
const READERS: u32 = 4;
/// For a lock held by a backup or a curious `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// For another worker on the same database to end.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between looks at whether it has.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// The prefix of `DATABASE_URL`.
const SCHEME: &str = "sqlite://";

/// A SQLite database that this process alone writes to.
#[derive(Clone)]
pub struct Sqlite {
    pub(super) writer: Arc<Mutex<SqliteConnection>>,
    pub(super) readers: SqlitePool,
    /// Held while the store is open.
    _lock: Arc<File>,
}

impl Sqlite {
    /// Opens the database that `url` (`sqlite://path`) names, creating and migrating it as needed.
    ///
    /// # Errors
    /// When another process uses it, it can't be opened, or its schema is newer than this program.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let path = path(url)?;
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder)
                .with_context(|| format!("can't create {}", folder.display()))?;
        }
        let lock = exclusive(&path).await?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let mut writer = SqliteConnection::connect_with(&options)
            .await
            .with_context(|| format!("can't open {}", path.display()))?;
        migrations()
            .run(&mut writer)
            .await
            .with_context(|| format!("can't migrate {}", path.display()))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.create_if_missing(false).read_only(true))
            .await
            .with_context(|| format!("can't read {}", path.display()))?;
        Ok(Self {
            writer: Arc::new(Mutex::new(writer)),
            readers,
            _lock: Arc::new(lock),
        })
    }

    /// Runs `decide` over the rows that `needs` names, writes what it changed and commits, all in
    /// one transaction. `decide` is not called when the rows can't be loaded; when it returns
    /// `None`, nothing is written.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when the commit was not answered; any other error means that
    /// nothing was changed.
    pub async fn transact<T>(
        &self,
        needs: Needs,
        now: Timestamp,
        decide: impl FnOnce(&mut World) -> Option<T>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut world = load::world(&mut transaction, needs).await?;
        let Some(result) = decide(&mut world) else {
            transaction.rollback().await?;
            return Err(StoreError::GivenUp);
        };
        if world.dirty.is_empty() {
            transaction.rollback().await?;
            return Ok(result);
        }
        save::world(&mut transaction, &world, now).await?;
        point(Point::BeforeCommit);
        transaction.commit().await.map_err(StoreError::Unknown)?;
        point(Point::AfterCommit);
        Ok(result)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Closes the connections, so that the write-ahead log is folded into the file.
    pub async fn close(self) {
        self.readers.close().await;
        if let Some(writer) = Arc::into_inner(self.writer)
            && let Err(error) = writer.into_inner().close().await
        {
            tracing::warn!(%error, "the database did not close cleanly; it recovers at the next start");
        }
    }
}

/// The file that `url` names.
///
/// # Errors
/// When it names none.
pub fn path(url: &str) -> anyhow::Result<PathBuf> {
    match url
        .strip_prefix(SCHEME)
        .map(|path| path.split('?').next().unwrap_or_default())
    {
        Some(path) if !path.is_empty() && path != ":memory:" => Ok(PathBuf::from(path)),
        _ => bail!("DATABASE_URL={url:?}: must be sqlite://PATH of a file"),
    }
}

/// SQLite would let two workers take turns; the flow's promises need one. A predecessor that is on
/// its way out is waited for.
async fn exclusive(path: &Path) -> anyhow::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let lock = File::create(&lock_path)
        .with_context(|| format!("can't create {}", lock_path.display()))?;
    let patience = Instant::now() + LOCK_TIMEOUT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                time::sleep(LOCK_RETRY).await;
            }
            Err(TryLockError::WouldBlock) => bail!(
                "{} is in use by another order-worker; SQLite serves one worker process. \
                 Stop the other one first, or use PostgreSQL for several",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("can't lock {}", lock_path.display()));
            }
        }
    }
}

/// Append-only: what was released is never edited.
fn migrations() -> Migrator {
    let scripts = [(
        1,
        "initial",
        include_str!("migrations/sqlite/0001_initial.sql"),
    )];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations(scripts.map(migration).into())
}
