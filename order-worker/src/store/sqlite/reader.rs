//! The pool of reading connections. Most reads take microseconds and are executed on the calling thread. A
//! statement that takes longer is interrupted and repeated on another thread, one at a time and with a
//! timeout.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection as Raw, ErrorCode};
use shared::page::Rows;
use tokio::{
    task,
    time::{self, Instant},
};

use super::{reading, statement::rows};
use crate::store::{
    StoreError,
    sql::{row::Row, statement::Argument},
};

/// Number of idle connections that are kept.
const MAX_IDLE_READERS: usize = 4;
/// A reader waits only while another process is opening the database.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);
/// Number of SQLite instructions between two checks of a statement's limit.
const INSTRUCTIONS_PER_CHECK: i32 = 1_000;
/// Number of checks before a statement counts as long: some milliseconds. The largest page takes a tenth of
/// that.
const CHECKS: u32 = 200;
/// Timeout of a long statement, including its wait for the permit; the same as PostgreSQL's
/// `statement_timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A pool of reading connections.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<LimitedConnection>>,
    /// Permit for the one long statement.
    long_statement: Arc<tokio::sync::Mutex<()>>,
}

/// A connection with its statement limit.
struct LimitedConnection {
    raw: Raw,
    limit: Arc<StatementLimit>,
}

/// Limit of the statement that is running.
#[derive(Default)]
struct StatementLimit {
    /// Number of checks left.
    checks: AtomicU32,
    /// Deadline that applies when no checks are left; `None`: the statement stops then.
    until: Mutex<Option<Instant>>,
}

impl StatementLimit {
    fn set(&self, checks: u32, until: Option<Instant>) {
        self.checks.store(checks, Ordering::Relaxed);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether the statement has to stop; counts the check.
    fn is_over(&self) -> bool {
        let checks = self.checks.load(Ordering::Relaxed);
        if let Some(left) = checks.checked_sub(1) {
            self.checks.store(left, Ordering::Relaxed);
            return false;
        }
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() >= until)
    }
}

/// A connection borrowed from the pool; it returns when dropped.
pub(crate) struct Reader {
    /// `None` only while a long statement waits for its permit and runs.
    reading: Option<LimitedConnection>,
    readers: Arc<Readers>,
}

impl Readers {
    /// Creates a pool for the database at `path`.
    pub(super) fn of(path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            path,
            idle: Mutex::default(),
            long_statement: Arc::default(),
        })
    }

    /// Borrows a connection.
    ///
    /// # Errors
    /// When the database can't be opened.
    pub(super) fn borrow(self: &Arc<Self>) -> rusqlite::Result<Reader> {
        Ok(Reader {
            reading: Some(self.take()?),
            readers: Arc::clone(self),
        })
    }

    fn take(&self) -> rusqlite::Result<LimitedConnection> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.map_or_else(|| self.open(), Ok)
    }

    /// Returns a connection to the pool, or closes it if there are enough.
    fn give_back(&self, reading: Option<LimitedConnection>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_READERS {
            idle.extend(reading);
        }
    }

    fn open(&self) -> rusqlite::Result<LimitedConnection> {
        let (raw, limit) = (
            reading(&self.path, BUSY_TIMEOUT)?,
            Arc::<StatementLimit>::default(),
        );
        let held = Arc::clone(&limit);
        raw.progress_handler(INSTRUCTIONS_PER_CHECK, Some(move || held.is_over()))?;
        Ok(LimitedConnection { raw, limit })
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }
}

impl Reader {
    /// Runs `work` with the limit of a short statement.
    pub(super) fn run_short<T>(
        &self,
        work: impl FnOnce(&Raw) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let LimitedConnection { raw, limit } = self.reading.as_ref().ok_or_else(not_borrowed)?;
        limit.set(CHECKS, None);
        Ok(work(raw)?)
    }

    /// Executes a query, up to a size limit.
    pub(super) async fn fetch(
        &mut self,
        max_bytes: usize,
        sql: &str,
        arguments: &[Argument],
    ) -> Result<Rows<Row>, StoreError> {
        let LimitedConnection { raw, limit } = self.reading.as_ref().ok_or_else(not_borrowed)?;
        limit.set(CHECKS, None);
        match rows(raw, max_bytes, sql, arguments) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {}
            read => return Ok(read?),
        }
        // Many long statements may wait, and each connection has a page cache: the connection is returned
        // meanwhile.
        self.readers.give_back(self.reading.take());
        let until = Instant::now() + TIMEOUT;
        let permit = Arc::clone(&self.readers.long_statement).lock_owned();
        let permit = time::timeout_at(until, permit)
            .await
            .map_err(|_| StoreError::TooManySearches)?;
        let reading = self.readers.take()?;
        let (sql, arguments) = (sql.to_owned(), arguments.to_vec());
        let read = task::spawn_blocking(move || {
            reading.limit.set(0, Some(until));
            let read = rows(&reading.raw, max_bytes, &sql, &arguments);
            drop(permit);
            (reading, read)
        });
        let (reading, read) = read
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        self.reading = Some(reading);
        Ok(read?)
    }
}

fn not_borrowed() -> StoreError {
    StoreError::Failed("the connection was returned to the pool".into())
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.give_back(self.reading.take());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A query that counts up to `to`.
    const COUNT: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
                         SELECT count(*) FROM n";

    async fn count(reader: &mut Reader, to: i64) -> i64 {
        let counted = reader.fetch(usize::MAX, COUNT, &[to.into()]).await.unwrap();
        counted.rows[0].integer(0).unwrap()
    }

    #[tokio::test]
    async fn long_query_is_restarted_in_the_long_queue_and_times_out() {
        let path = std::env::temp_dir().join(format!("reader-{}.db", uuid::Uuid::now_v7()));
        drop(Raw::open(&path).unwrap());
        let readers = Readers::of(path.clone());
        let mut reader = readers.borrow().unwrap();
        let waited_for = Arc::clone(&readers.long_statement).lock_owned().await;
        for run_short in [10, 1_000] {
            assert_eq!(count(&mut reader, run_short).await, run_short);
        }
        let many = 1_000_000;
        let mut counting = Box::pin(async {
            assert_eq!(count(&mut reader, many).await, many);
        });
        assert!((&mut counting).now_or_never().is_none(), "it has its turn");
        assert_eq!(
            readers.idle.lock().unwrap().len(),
            1,
            "it keeps no connection"
        );
        drop(waited_for);
        counting.await;

        let for_ever = readers.borrow().unwrap();
        for_ever.run_short(|_| Ok(())).unwrap();
        let Some(LimitedConnection { raw, limit }) = &for_ever.reading else {
            unreachable!("it is on loan")
        };
        limit.set(0, Some(Instant::now()));
        let error = rows(raw, usize::MAX, COUNT, &[many.into()]).unwrap_err();
        assert!(matches!(StoreError::from(error), StoreError::ReadOnly(_)));
        std::fs::remove_file(path).unwrap();
    }
}
