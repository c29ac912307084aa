//! A session on a PostgreSQL server, direct or through `PgBouncer`, with a timeout for every statement.

use std::{io, mem, time::Duration};

use futures_util::TryStreamExt;
use shared::page::Rows;
use sqlx::{
    Arguments as _, Connection as _, Executor, PgConnection, SqlSafeStr, SqlStr,
    pool::PoolConnection, postgres::PgArguments,
};
use tokio::time;

use super::{LocalSettings, begin_with};
use crate::store::{
    StoreError,
    sql::{byte_limit::RowCollector, row::Row, statement::Argument},
};

/// A connection to PostgreSQL. It is closed when a statement times out: a late response could be taken for
/// the response to the next statement.
pub(crate) struct PostgresSession {
    session_connection: SessionConnection,
    /// Settings with which each transaction begins, behind a connection pooler in transaction mode.
    /// Statements are then unnamed, and each runs in a transaction. `None`: the settings last as long as the
    /// connection.
    transaction_settings: Option<LocalSettings>,
    is_in_transaction: bool,
}

/// The connection of a session.
pub(crate) enum SessionConnection {
    Own(Box<PgConnection>),
    /// Reads the whole database, with a long timeout.
    Auditing(Box<PgConnection>),
    Pooled(PoolConnection<sqlx::Postgres>),
    /// In a transaction, which is rolled back if it is dropped without a commit.
    Transaction(sqlx::Transaction<'static, sqlx::Postgres>),
    Closed,
}

/// A connection while a statement runs.
enum StatementConnection<'a> {
    InSession(&'a mut PgConnection),
    /// In a transaction that was begun for this statement.
    InTransaction(sqlx::Transaction<'a, sqlx::Postgres>),
}

impl StatementConnection<'_> {
    fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::InSession(connection) => connection,
            Self::InTransaction(transaction) => transaction,
        }
    }

    async fn finish(self) -> Result<(), sqlx::Error> {
        match self {
            Self::InSession(_) => Ok(()),
            Self::InTransaction(transaction) => transaction.commit().await,
        }
    }
}

/// Timeout of a statement on the client side. The server's `statement_timeout` is shorter; this one covers a
/// silent server or network.
const CLIENT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(12);
/// Timeout of a statement that reads the whole database, as in `order-worker verify` and `order-worker export`.
const AUDIT_TIMEOUT: Duration = Duration::from_hours(1);

impl PostgresSession {
    pub(in crate::store) fn new(
        session_connection: SessionConnection,
        transaction_settings: Option<LocalSettings>,
    ) -> Self {
        Self {
            is_in_transaction: matches!(session_connection, SessionConnection::Transaction(_)),
            session_connection,
            transaction_settings,
        }
    }

    pub(in crate::store) async fn close(self) {
        if let SessionConnection::Own(connection) = self.session_connection {
            let _ = connection.close().await;
        }
    }

    /// Executes a query and reads its rows up to `max_bytes`.
    pub(in crate::store) async fn fetch(
        &mut self,
        max_bytes: usize,
        sql: SqlStr,
        arguments: Vec<Argument>,
    ) -> Result<Rows<Row>, StoreError> {
        let query = sqlx::query_with(sql, to_arguments(arguments)?);
        let query = query.persistent(self.has_named_statements());
        let timeout = self.timeout();
        let mut collected_rows = RowCollector::new(max_bytes);
        let read_result = time::timeout(timeout, async {
            let mut connection = self.connection_for_statement().await?;
            let mut rows = query.fetch(connection.connection());
            while let Some(row) = rows.try_next().await? {
                if !collected_rows.accept(Row::Postgres(row)) {
                    break;
                }
            }
            drop(rows);
            connection.finish().await
        });
        let rows_result = read_result.await;
        self.result_or_close(rows_result)?;
        Ok(collected_rows.rows())
    }

    /// Executes `sql` and returns the number of changed rows.
    pub(in crate::store) async fn execute(
        &mut self,
        sql: SqlStr,
        arguments: Vec<Argument>,
    ) -> Result<u64, StoreError> {
        self.execute_bound(sql, to_arguments(arguments)?).await
    }

    /// Begins a transaction, to be ended with [`Self::end`].
    pub(in crate::store) async fn begin(&mut self, begin_sql: SqlStr) -> Result<(), StoreError> {
        let begin_sql = match &self.transaction_settings {
            Some(settings) => begin_with(begin_sql.as_str(), Some(settings)),
            None => begin_sql,
        };
        self.is_in_transaction = true;
        self.execute_batch(begin_sql).await
    }

    /// Ends a transaction that was begun with [`Self::begin`]: `COMMIT` or `ROLLBACK`.
    pub(in crate::store) async fn end(&mut self, end_sql: &'static str) -> Result<(), StoreError> {
        self.execute_batch(end_sql.into_sql_str()).await?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// Runs statements without arguments and results.
    pub(in crate::store) async fn execute_batch(&mut self, sql: SqlStr) -> Result<(), StoreError> {
        let execute_future = self.connection()?.execute(sqlx::raw_sql(sql));
        let execute_result = time::timeout(CLIENT_STATEMENT_TIMEOUT, execute_future).await;
        self.result_or_close(execute_result)?;
        Ok(())
    }

    /// Commits a session that was started as a transaction.
    pub(in crate::store) async fn commit(self) -> Result<(), StoreError> {
        let SessionConnection::Transaction(transaction) = self.session_connection else {
            return Ok(());
        };
        let commit_result = time::timeout(CLIENT_STATEMENT_TIMEOUT, transaction.commit()).await;
        Ok(commit_result.map_err(|_| closed_error("the database did not answer"))??)
    }

    /// Executes `sql` with arguments that are bound already; returns the number of changed rows.
    pub(in crate::store) async fn execute_bound(
        &mut self,
        sql: SqlStr,
        arguments: PgArguments,
    ) -> Result<u64, StoreError> {
        let timeout = self.timeout();
        let query = sqlx::query_with(sql, arguments).persistent(self.has_named_statements());
        let execute_result = time::timeout(timeout, async {
            let mut connection = self.connection_for_statement().await?;
            let execute_result = query.execute(connection.connection()).await?;
            connection.finish().await?;
            Ok(execute_result)
        });
        let execute_result = execute_result.await;
        Ok(self.result_or_close(execute_result)?.rows_affected())
    }

    /// Whether prepared statements are kept under names.
    fn has_named_statements(&self) -> bool {
        self.transaction_settings.is_none()
    }

    /// The connection for one statement, in a transaction if the pool mode requires one.
    async fn connection_for_statement(&mut self) -> Result<StatementConnection<'_>, sqlx::Error> {
        let settings = self.transaction_settings.clone();
        let settings = settings.filter(|_| !self.is_in_transaction);
        let connection = self.connection()?;
        let Some(settings) = settings else {
            return Ok(StatementConnection::InSession(connection));
        };
        let begin_future = connection.begin_with(begin_with("BEGIN", Some(&settings)));
        Ok(StatementConnection::InTransaction(begin_future.await?))
    }

    fn timeout(&self) -> Duration {
        match self.session_connection {
            SessionConnection::Auditing(_) => AUDIT_TIMEOUT,
            SessionConnection::Own(_)
            | SessionConnection::Pooled(_)
            | SessionConnection::Transaction(_)
            | SessionConnection::Closed => CLIENT_STATEMENT_TIMEOUT,
        }
    }

    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match &mut self.session_connection {
            SessionConnection::Own(connection) | SessionConnection::Auditing(connection) => {
                Ok(connection)
            }
            SessionConnection::Pooled(connection) => Ok(connection),
            SessionConnection::Transaction(transaction) => Ok(transaction),
            SessionConnection::Closed => {
                Err(closed_error("the connection was closed after a timeout"))
            }
        }
    }

    /// Returns the result if it arrived in time; otherwise closes the connection.
    fn result_or_close<T>(
        &mut self,
        timed_result: Result<Result<T, sqlx::Error>, time::error::Elapsed>,
    ) -> Result<T, sqlx::Error> {
        timed_result.unwrap_or_else(|_| {
            // Detached from the pool first, which would wait for the response.
            if let SessionConnection::Pooled(connection) =
                mem::replace(&mut self.session_connection, SessionConnection::Closed)
            {
                drop(connection.detach());
            }
            Err(closed_error("the database did not answer"))
        })
    }
}

fn closed_error(message: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message))
}

fn to_arguments(arguments: Vec<Argument>) -> Result<PgArguments, StoreError> {
    let mut bound_arguments = PgArguments::default();
    let byte_count = arguments.iter().map(Argument::encoded_size).sum();
    bound_arguments.reserve(arguments.len(), byte_count);
    for argument in arguments {
        match argument {
            Argument::Integer(value) => bound_arguments.add(value),
            Argument::Boolean(value) => bound_arguments.add(value),
            Argument::Text(value) => bound_arguments.add(value),
            Argument::List(values) => bound_arguments.add(values),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound_arguments)
}
