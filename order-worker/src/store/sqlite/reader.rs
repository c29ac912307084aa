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

use super::{open_reader, statement::query_rows};
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
const CHECKS_PER_SHORT_STATEMENT: u32 = 200;
/// Timeout of a long statement, including its wait for the permit; the same as PostgreSQL's
/// `statement_timeout`.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A pool of reading connections.
pub(super) struct Readers {
    path: PathBuf,
    idle_connections: Mutex<Vec<LimitedConnection>>,
    /// Permit for the one long statement.
    long_statement_permit: Arc<tokio::sync::Mutex<()>>,
}

/// A connection with its statement limit.
struct LimitedConnection {
    connection: Raw,
    limit: Arc<StatementLimit>,
}

/// Limit of the statement that is running.
#[derive(Default)]
struct StatementLimit {
    /// Number of checks left.
    remaining_checks: AtomicU32,
    /// Deadline that applies when no checks are left; `None`: the statement stops then.
    deadline: Mutex<Option<Instant>>,
}

impl StatementLimit {
    fn set_limit(&self, checks: u32, deadline: Option<Instant>) {
        self.remaining_checks.store(checks, Ordering::Relaxed);
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    /// Whether the statement has to stop; counts the check.
    fn should_stop(&self) -> bool {
        let checks = self.remaining_checks.load(Ordering::Relaxed);
        if let Some(remaining_checks) = checks.checked_sub(1) {
            self.remaining_checks
                .store(remaining_checks, Ordering::Relaxed);
            return false;
        }
        let statement_deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        statement_deadline.is_none_or(|deadline| Instant::now() >= deadline)
    }
}

/// A connection borrowed from the pool; it returns when dropped.
pub(crate) struct Reader {
    /// `None` only while a long statement waits for its permit and runs.
    connection: Option<LimitedConnection>,
    readers: Arc<Readers>,
}

impl Readers {
    /// Creates a pool for the database at `path`.
    pub(super) fn of(path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            path,
            idle_connections: Mutex::default(),
            long_statement_permit: Arc::default(),
        })
    }

    /// Borrows a connection.
    ///
    /// # Errors
    /// When the database can't be opened.
    pub(super) fn borrow(self: &Arc<Self>) -> rusqlite::Result<Reader> {
        Ok(Reader {
            connection: Some(self.take_connection()?),
            readers: Arc::clone(self),
        })
    }

    fn take_connection(&self) -> rusqlite::Result<LimitedConnection> {
        let idle_connection = self
            .idle_connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle_connection.map_or_else(|| self.open_connection(), Ok)
    }

    /// Returns a connection to the pool, or closes it if there are enough.
    fn give_back(&self, connection: Option<LimitedConnection>) {
        let mut idle_connections = self
            .idle_connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if idle_connections.len() < MAX_IDLE_READERS {
            idle_connections.extend(connection);
        }
    }

    fn open_connection(&self) -> rusqlite::Result<LimitedConnection> {
        let (raw_connection, limit) = (
            open_reader(&self.path, BUSY_TIMEOUT)?,
            Arc::<StatementLimit>::default(),
        );
        let limit_of_handler = Arc::clone(&limit);
        raw_connection.progress_handler(
            INSTRUCTIONS_PER_CHECK,
            Some(move || limit_of_handler.should_stop()),
        )?;
        Ok(LimitedConnection {
            connection: raw_connection,
            limit,
        })
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        let mut idle_connections = self
            .idle_connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle_connections.clear();
    }
}

impl Reader {
    /// Runs `use_connection` with the limit of a short statement.
    pub(super) fn run_short<T>(
        &self,
        use_connection: impl FnOnce(&Raw) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let LimitedConnection {
            connection: raw_connection,
            limit,
        } = self.connection.as_ref().ok_or_else(not_borrowed)?;
        limit.set_limit(CHECKS_PER_SHORT_STATEMENT, None);
        Ok(use_connection(raw_connection)?)
    }

    /// Executes a query, up to a size limit.
    pub(super) async fn fetch(
        &mut self,
        max_bytes: usize,
        sql: &str,
        arguments: &[Argument],
    ) -> Result<Rows<Row>, StoreError> {
        let LimitedConnection {
            connection: raw_connection,
            limit,
        } = self.connection.as_ref().ok_or_else(not_borrowed)?;
        limit.set_limit(CHECKS_PER_SHORT_STATEMENT, None);
        match query_rows(raw_connection, max_bytes, sql, arguments) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {}
            read_result => return Ok(read_result?),
        }
        // Many long statements may wait, and each connection has a page cache: the connection is returned
        // meanwhile.
        self.readers.give_back(self.connection.take());
        let deadline = Instant::now() + READ_TIMEOUT;
        let permit = Arc::clone(&self.readers.long_statement_permit).lock_owned();
        let permit = time::timeout_at(deadline, permit)
            .await
            .map_err(|_| StoreError::TooManySearches)?;
        let limited_connection = self.readers.take_connection()?;
        let (sql, arguments) = (sql.to_owned(), arguments.to_vec());
        let read_result = task::spawn_blocking(move || {
            limited_connection.limit.set_limit(0, Some(deadline));
            let read_result =
                query_rows(&limited_connection.connection, max_bytes, &sql, &arguments);
            drop(permit);
            (limited_connection, read_result)
        });
        let (limited_connection, read_result) = read_result
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        self.connection = Some(limited_connection);
        Ok(read_result?)
    }
}

fn not_borrowed() -> StoreError {
    StoreError::Failed("the connection was returned to the pool".into())
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.give_back(self.connection.take());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// A query that counts up to `last_number`.
    const COUNT_SQL: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
                         SELECT count(*) FROM n";

    async fn count_up_to(reader: &mut Reader, last_number: i64) -> i64 {
        let count_result = reader
            .fetch(usize::MAX, COUNT_SQL, &[last_number.into()])
            .await
            .unwrap();
        count_result.rows[0].integer(0).unwrap()
    }

    #[tokio::test]
    async fn long_query_is_restarted_in_the_long_queue_and_times_out() {
        let path = std::env::temp_dir().join(format!("reader-{}.db", uuid::Uuid::now_v7()));
        drop(Raw::open(&path).unwrap());
        let readers = Readers::of(path.clone());
        let mut reader = readers.borrow().unwrap();
        let held_permit = Arc::clone(&readers.long_statement_permit)
            .lock_owned()
            .await;
        for last_number in [10, 1_000] {
            assert_eq!(count_up_to(&mut reader, last_number).await, last_number);
        }
        let long_count = 1_000_000;
        let mut count_task = Box::pin(async {
            assert_eq!(count_up_to(&mut reader, long_count).await, long_count);
        });
        assert!(
            (&mut count_task).now_or_never().is_none(),
            "the long query did not wait for the permit"
        );
        assert_eq!(
            readers.idle_connections.lock().unwrap().len(),
            1,
            "the waiting query keeps no connection"
        );
        drop(held_permit);
        count_task.await;

        let timed_out_reader = readers.borrow().unwrap();
        timed_out_reader.run_short(|_| Ok(())).unwrap();
        let Some(LimitedConnection {
            connection: raw_connection,
            limit,
        }) = &timed_out_reader.connection
        else {
            unreachable!("the reader has its connection")
        };
        limit.set_limit(0, Some(Instant::now()));
        let error =
            query_rows(raw_connection, usize::MAX, COUNT_SQL, &[long_count.into()]).unwrap_err();
        assert!(matches!(StoreError::from(error), StoreError::Refused(_)));
        std::fs::remove_file(path).unwrap();
    }
}
