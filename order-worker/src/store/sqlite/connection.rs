//! A SQLite connection and its statements.
//!
//! Statements are executed on the calling thread: the statements of a batch take less time than a switch to
//! another thread. A writing connection tells the runtime that its thread may block on the disk
//! ([`tokio::task::block_in_place`]).

use rusqlite::Connection as Raw;
use shared::page::Rows;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::OwnedMutexGuard,
    task,
};

use super::{
    checkpointer::Checkpointer,
    reader::Reader,
    statement::{bind, parameter_indexes, query_rows},
};
use crate::store::{
    StoreError,
    sql::{row::Row, statement::Argument},
};

/// A connection to SQLite.
pub(crate) enum Connection {
    /// A dedicated connection that reads the whole database.
    Auditing(Box<Raw>),
    /// The exclusive writing connection. An open transaction is rolled back when dropped.
    Writing(OwnedMutexGuard<Writer>),
    Reading(Reader),
}

/// A writing connection.
pub(crate) struct Writer {
    connection: Raw,
    /// `None`: SQLite checkpoints the log within commits.
    checkpointer: Option<Checkpointer>,
}

impl Writer {
    /// A connection whose commits checkpoint the log.
    pub(crate) fn new(connection: Raw) -> Self {
        Self {
            connection,
            checkpointer: None,
        }
    }

    /// A connection whose log is checkpointed by `checkpointer`.
    pub(super) fn with_checkpointer(connection: Raw, checkpointer: Checkpointer) -> Self {
        Self {
            connection,
            checkpointer: Some(checkpointer),
        }
    }

    /// Closes the connection, which checkpoints the log.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        drop(self.checkpointer);
        self.connection.close().map_err(|(_, error)| error)
    }

    fn use_connection<T>(
        &self,
        use_connection: impl FnOnce(&Raw) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let operation_result = use_connection(&self.connection);
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.after_commit(&self.connection);
        }
        operation_result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Self::Writing(writer) = self
            && !writer.connection.is_autocommit()
            && let Err(error) = run_blocking(|| writer.connection.execute_batch("ROLLBACK"))
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

impl Connection {
    /// Executes a query, up to a size limit.
    pub(in crate::store) async fn fetch(
        &mut self,
        max_bytes: usize,
        sql: &str,
        arguments: &[Argument],
    ) -> Result<Rows<Row>, StoreError> {
        match self {
            Self::Reading(reader) => reader.fetch(max_bytes, sql, arguments).await,
            Self::Auditing(_) | Self::Writing(_) => {
                self.with_connection(|connection| query_rows(connection, max_bytes, sql, arguments))
            }
        }
    }

    /// Executes a statement and returns the number of affected rows.
    pub(in crate::store) fn execute(
        &mut self,
        sql: &str,
        arguments: &[Argument],
    ) -> Result<u64, StoreError> {
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let parameter_indexes = parameter_indexes(&statement, arguments.len())?;
            bind(&mut statement, &parameter_indexes, arguments)?;
            let changed_row_count = statement.raw_execute()?;
            Ok(u64::try_from(changed_row_count).unwrap_or_default())
        })
    }

    /// Executes a statement for each of `rows`.
    pub(in crate::store) fn execute_all(
        &mut self,
        sql: &str,
        rows: &[Vec<Argument>],
    ) -> Result<(), StoreError> {
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let parameter_indexes =
                parameter_indexes(&statement, rows.first().map_or(0, Vec::len))?;
            for row in rows {
                bind(&mut statement, &parameter_indexes, row)?;
                statement.raw_execute()?;
            }
            Ok(())
        })
    }

    /// Executes statements without arguments and results.
    pub(in crate::store) fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.with_connection(|connection| connection.execute_batch(sql))
    }

    fn with_connection<T>(
        &mut self,
        use_connection: impl FnOnce(&Raw) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let operation_result = match self {
            Self::Auditing(connection) => use_connection(connection),
            // The disk may block the thread.
            Self::Writing(writer) => run_blocking(|| writer.use_connection(use_connection)),
            Self::Reading(reader) => return reader.run_short(use_connection),
        };
        Ok(operation_result?)
    }
}

/// Runs blocking work. On a multi-threaded runtime, the other tasks of this thread move to another thread.
fn run_blocking<T>(operation: impl FnOnce() -> T) -> T {
    let runtime_flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if runtime_flavor.is_ok_and(|runtime_flavor| runtime_flavor == RuntimeFlavor::MultiThread) {
        task::block_in_place(operation)
    } else {
        operation()
    }
}
