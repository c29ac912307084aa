//! SQLite, the embedded database of a single worker process.
//!
//! In WAL mode with `synchronous=FULL`, an acknowledged commit survives a power failure. One connection
//! writes; reading connections see the last commit and never wait.
//!
//! - `connection`: executes statements.
//! - `statement`: binds arguments and reads rows.
//! - `checkpointer`: copies the write-ahead log into the file.
//! - `reader`: the pool of reading connections.

mod checkpointer;
pub(crate) mod connection;
mod reader;
mod statement;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use rusqlite::{Connection as Raw, OpenFlags};
use rusqlite_migration::{M, Migrations};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

use self::{
    checkpointer::Checkpointer,
    connection::{Connection, Writer},
};
use super::{StoreError, schema::Schema, sql::session::Session, sqlite::reader::Readers};

/// Timeout for locks held by a backup or another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Page cache of the writer.
const WRITER_CACHE_KIB: i64 = 12 * 1024;
/// Size of the write-ahead log, in pages, at which a connection without a [`Checkpointer`] checkpoints it. A page that
/// many commits change is then written once.
const CHECKPOINT_PAGES: i64 = 4_000;
/// Size of the cache of prepared statements.
const STATEMENT_CACHE_SIZE: usize = 128;
/// Time to wait until another worker on the same database has ended.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval for trying to lock the database.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// The prefix of `DATABASE_URL`.
const URL_SCHEME: &str = "sqlite://";

/// A SQLite database that only this process writes to.
pub(super) struct Sqlite {
    write_connection: Arc<Mutex<Writer>>,
    readers: Arc<Readers>,
    /// Lock on the database, held while the store is open.
    _lock: File,
}

impl Sqlite {
    /// Opens the database of `url` (`sqlite://path`), creating and migrating it if necessary.
    ///
    /// # Errors
    /// When another process uses it, it can't be opened, or its schema needs a newer program.
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let database_path = path(url)?;
        if let Some(folder) = database_path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder)
                .with_context(|| format!("can't create {}", folder.display()))?;
        }
        let lock_file = lock_database(&database_path).await?;
        let mut writer = open_writer(&database_path)?;
        migrate(&mut writer)
            .with_context(|| format!("can't migrate {}", database_path.display()))?;
        let checkpointer = Checkpointer::start(&writer, &database_path)?;
        let writer = Writer::with_checkpointer(writer, checkpointer);
        Ok(Self {
            write_connection: Arc::new(Mutex::new(writer)),
            readers: Readers::of(database_path),
            _lock: lock_file,
        })
    }

    /// The writing connection, as soon as it is free.
    pub(super) async fn writer(&self) -> Session {
        let writer = Arc::clone(&self.write_connection).lock_owned().await;
        Session::Sqlite(Connection::Writing(writer))
    }

    /// A reading connection.
    pub(super) fn reader(&self) -> Result<Session, StoreError> {
        Ok(Session::Sqlite(Connection::Reading(self.readers.borrow()?)))
    }

    /// Closes the connections, which checkpoints the write-ahead log.
    pub(super) fn close(self) {
        self.readers.close();
        if let Some(writer) = Arc::into_inner(self.write_connection)
            && let Err(error) = writer.into_inner().close()
        {
            tracing::warn!(%error, "the database did not close cleanly; it recovers at the next start");
        }
    }
}

/// Opens a writing connection to the file at `path`, creating the file if necessary.
///
/// # Errors
/// When it can't be opened.
pub(crate) fn open_writer(path: &Path) -> anyhow::Result<Raw> {
    let open_connection = || {
        let connection = Raw::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_SIZE);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        Ok::<_, rusqlite::Error>(connection)
    };
    open_connection().with_context(|| format!("can't open {}", path.display()))
}

fn open_reader(path: &Path, busy_timeout: Duration) -> rusqlite::Result<Raw> {
    let open_flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Raw::open_with_flags(path, open_flags)?;
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_SIZE);
    Ok(connection)
}

/// A connection for reading the whole database, which must exist.
pub(crate) fn open_audit_session(path: &Path) -> anyhow::Result<Session> {
    let connection = open_reader(path, BUSY_TIMEOUT)
        .with_context(|| format!("can't read {}", path.display()))?;
    Ok(Session::Sqlite(Connection::Auditing(Box::new(connection))))
}

/// The file path in `url`.
///
/// # Errors
/// When the URL has no path.
pub(crate) fn path(url: &str) -> anyhow::Result<PathBuf> {
    match url
        .strip_prefix(URL_SCHEME)
        .map(|path| path.split('?').next().unwrap_or_default())
    {
        Some(path) if !path.is_empty() && path != ":memory:" => Ok(PathBuf::from(path)),
        _ => bail!("must be sqlite://PATH of a file, or postgres://…"),
    }
}

/// Locks the database for this process. SQLite would allow two workers to alternate, but the workflow needs
/// one. Waits for a predecessor that is shutting down.
async fn lock_database(path: &Path) -> anyhow::Result<File> {
    let mut lock_name = path.as_os_str().to_owned();
    lock_name.push(".lock");
    let lock_path = PathBuf::from(lock_name);
    let lock_file = File::create(&lock_path)
        .with_context(|| format!("can't create {}", lock_path.display()))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match lock_file.try_lock() {
            Ok(()) => return Ok(lock_file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                time::sleep(LOCK_RETRY_INTERVAL).await;
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

/// Versions of the schema. Append-only: released migrations are never edited.
const MIGRATION_SCRIPTS: &[M<'_>] = &[
    M::up(include_str!("migrations/sqlite/0001_initial.sql")),
    M::up(include_str!(
        "migrations/sqlite/0002_dead_letters_and_clocks.sql"
    )),
    M::up(include_str!("migrations/sqlite/0003_feed_and_webhooks.sql")),
    M::up(include_str!("migrations/sqlite/0004_import.sql")),
    M::up(include_str!("migrations/sqlite/0005_jobs.sql")),
    M::up(include_str!("migrations/sqlite/0006_figures.sql")),
    M::up(include_str!("migrations/sqlite/0007_side_by_side.sql")),
    M::up(include_str!("migrations/sqlite/0008_traces.sql")),
    M::up(include_str!("migrations/sqlite/0009_retention.sql")),
    M::up(include_str!(
        "migrations/sqlite/0010_a_storefronts_orders_by_status.sql"
    )),
    M::up(include_str!(
        "migrations/sqlite/0011_deliveries_by_status.sql"
    )),
    M::up(include_str!("migrations/sqlite/0012_failed_steps.sql")),
    M::up(include_str!(
        "migrations/sqlite/0013_payments_at_providers.sql"
    )),
    M::up(include_str!("migrations/sqlite/0014_customer_search.sql")),
    M::up(include_str!("migrations/sqlite/0015_returns.sql")),
    M::up(include_str!("migrations/sqlite/0016_order_tags.sql")),
    M::up(include_str!("migrations/sqlite/0017_order_formats.sql")),
    M::up(include_str!("migrations/sqlite/0018_api_keys.sql")),
    M::up(include_str!("migrations/sqlite/0019_messages.sql")),
    M::up(include_str!(
        "migrations/sqlite/0020_products_with_threshold.sql"
    )),
    M::up(include_str!("migrations/sqlite/0021_deleted_orders.sql")),
    M::up(include_str!("migrations/sqlite/0022_lists.sql")),
    M::up(include_str!("migrations/sqlite/0023_trace_context.sql")),
];

/// The newest version of the schema.
pub(super) fn newest_schema() -> i64 {
    i64::try_from(MIGRATION_SCRIPTS.len()).unwrap_or(i64::MAX)
}

fn migrate(connection: &mut Raw) -> anyhow::Result<()> {
    adopt_sqlx_version(connection)?;
    if schema(connection)?.is_ahead_of(newest_schema())? {
        return Ok(());
    }
    Migrations::from_slice(MIGRATION_SCRIPTS).to_latest(connection)?;
    Ok(())
}

/// The schema of the file.
fn schema(connection: &Raw) -> rusqlite::Result<Schema> {
    let query_number = |sql| connection.query_one(sql, [], |row| row.get::<_, i64>(0));
    let has_schema_needs_table =
        query_number("SELECT count(*) FROM sqlite_schema WHERE name = 'schema_needs'")? > 0;
    let needed_version = if has_schema_needs_table {
        query_number("SELECT max(version) FROM schema_needs")?
    } else {
        i64::MAX
    };
    Ok(Schema {
        version: query_number("PRAGMA user_version")?,
        needed_version,
    })
}

/// The first versions of this program kept the schema version in sqlx's table; converts it to SQLite's
/// `user_version`.
fn adopt_sqlx_version(connection: &Raw) -> rusqlite::Result<()> {
    let query_number = |sql| connection.query_one(sql, [], |row| row.get::<_, i64>(0));
    let has_old_migrations =
        query_number("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")? > 0;
    if has_old_migrations && query_number("PRAGMA user_version")? == 0 {
        let schema_version = query_number("SELECT max(version) FROM _sqlx_migrations")?;
        connection.pragma_update(None, "user_version", schema_version)?;
    }
    Ok(())
}

/// A private in-memory database with the newest schema.
#[cfg(test)]
pub(super) fn in_memory() -> Raw {
    let mut connection = Raw::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    connection
}

/// The query plan of `sql`.
#[cfg(test)]
pub(super) fn query_plan(
    connection: &Raw,
    sql: &str,
    arguments: Vec<crate::store::sql::statement::Argument>,
) -> Vec<String> {
    let plan_sql = format!("EXPLAIN QUERY PLAN {sql}");
    let mut plan_statement = connection.prepare(&plan_sql).unwrap();
    let plan_rows =
        plan_statement.query_map(rusqlite::params_from_iter(arguments), |row| row.get(3));
    plan_rows.unwrap().map(Result::unwrap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema_version(connection: &Raw) -> i64 {
        let sql = "PRAGMA user_version";
        connection.query_one(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn database_of_the_first_version_is_migrated_with_its_data() {
        let mut old_database = Raw::open_in_memory().unwrap();
        let first_migration = include_str!("migrations/sqlite/0001_initial.sql");
        old_database.execute_batch(first_migration).unwrap();
        old_database.execute_batch(
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY);
             INSERT INTO _sqlx_migrations VALUES (1);
             INSERT INTO customers VALUES ('c', 'default', '{}');
             INSERT INTO customers VALUES ('a', 'default', '{\"name\":\"Ada\",\"email\":\"A@b.c\"}');
             INSERT INTO customers VALUES ('o', 'default', '{\"name\":\"Ö\",\"email\":\"o@b.c\"}');",
        )
        .unwrap();
        migrate(&mut old_database).unwrap();
        assert_eq!(schema_version(&old_database), newest_schema());
        // Once more, as at the next start.
        migrate(&mut old_database).unwrap();
        let count_sql = "SELECT count(*) FROM customers";
        let customer_count: i64 = old_database
            .query_one(count_sql, [], |row| row.get(0))
            .unwrap();
        assert_eq!(customer_count, 3);
        // The search keys of names with letters outside ASCII are computed later.
        let search_keys_sql = "SELECT group_concat(name_key || ' ' || email_key) FROM customers";
        let search_keys: String = old_database
            .query_one(search_keys_sql, [], |row| row.get(0))
            .unwrap();
        assert_eq!(search_keys, "ada a@b.c");
    }

    #[test]
    fn database_of_a_later_version_is_not_changed() {
        let mut later_database = Raw::open_in_memory().unwrap();
        migrate(&mut later_database).unwrap();
        later_database
            .pragma_update(None, "user_version", 99)
            .unwrap();
        migrate(&mut later_database).unwrap();
        assert_eq!(schema_version(&later_database), 99);
        // An error if the later version requires a newer program.
        later_database
            .execute("UPDATE schema_needs SET version = 98", [])
            .unwrap();
        assert!(migrate(&mut later_database).is_err());
        assert_eq!(schema_version(&later_database), 99);
    }
}
