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
use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

use super::{
    StoreError,
    database::{self, Session},
    migrator,
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
pub(super) struct Sqlite {
    writer: Arc<Mutex<SqliteConnection>>,
    readers: SqlitePool,
    /// Held while the store is open.
    _lock: File,
}

impl Sqlite {
    /// Opens the database that `url` (`sqlite://path`) names, creating and migrating it as needed.
    ///
    /// # Errors
    /// When another process uses it, it can't be opened, or its schema is newer than this program.
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
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
            _lock: lock,
        })
    }

    /// The connection that writes, when it is free.
    pub(super) async fn writer(&self) -> Session {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        Session::Sqlite(database::Sqlite::Locked(writer))
    }

    /// A connection that reads.
    pub(super) async fn reader(&self) -> Result<Session, StoreError> {
        let reader = self.readers.acquire().await?;
        Ok(Session::Sqlite(database::Sqlite::Pooled(reader)))
    }

    /// Closes the connections, so that the write-ahead log is folded into the file.
    pub(super) async fn close(self) {
        self.readers.close().await;
        if let Some(writer) = Arc::into_inner(self.writer)
            && let Err(error) = writer.into_inner().close().await
        {
            tracing::warn!(%error, "the database did not close cleanly; it recovers at the next start");
        }
    }
}

/// A connection for reading all of a database, which must be there.
pub(crate) async fn auditing(path: &Path) -> anyhow::Result<Session> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let connection = SqliteConnection::connect_with(&options)
        .await
        .with_context(|| format!("can't read {}", path.display()))?;
    Ok(Session::Sqlite(database::Sqlite::Own(Box::new(connection))))
}

/// The file that `url` names.
///
/// # Errors
/// When it names none.
pub(crate) fn path(url: &str) -> anyhow::Result<PathBuf> {
    match url
        .strip_prefix(SCHEME)
        .map(|path| path.split('?').next().unwrap_or_default())
    {
        Some(path) if !path.is_empty() && path != ":memory:" => Ok(PathBuf::from(path)),
        _ => bail!("must be sqlite://PATH of a file, or postgres://…"),
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

fn migrations() -> Migrator {
    migrator(&[
        (
            1,
            "initial",
            include_str!("migrations/sqlite/0001_initial.sql"),
        ),
        (
            2,
            "dead letters and clocks",
            include_str!("migrations/sqlite/0002_dead_letters_and_clocks.sql"),
        ),
    ])
}
