//! A session on either database: executes statements and controls transactions.
//!
//! SQLite executes a statement within the call, so its sessions never suspend a task. The connections come from
//! [`sqlite`](crate::store::sqlite) and [`postgres`](crate::store::postgres).

use shared::page::Rows;

use super::{
    row::Row,
    statement::{Argument, Sql},
};
use crate::store::{
    StoreError, postgres::session::PostgresSession, sqlite::connection::Connection,
};

/// A connection for statements: SQLite or PostgreSQL.
pub(crate) enum Session {
    Sqlite(Connection),
    Postgres(PostgresSession),
}

impl Session {
    /// Executes a query.
    pub(crate) async fn fetch(
        &mut self,
        sql: impl Into<Sql>,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Row>, StoreError> {
        let read_rows = self.fetch_within(usize::MAX, sql, arguments).await?;
        Ok(read_rows.rows)
    }

    /// Executes a query and reads its rows up to `max_bytes`, as
    /// [`RowCollector`](crate::store::sql::byte_limit::RowCollector) does.
    pub(in crate::store) async fn fetch_within(
        &mut self,
        max_bytes: usize,
        sql: impl Into<Sql>,
        arguments: Vec<Argument>,
    ) -> Result<Rows<Row>, StoreError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(connection) => {
                let sql = sql.sqlite.as_str();
                connection.fetch(max_bytes, sql, &arguments).await
            }
            Self::Postgres(session) => session.fetch(max_bytes, sql.postgres, arguments).await,
        }
    }

    /// Executes a statement and returns the number of affected rows.
    pub(crate) async fn execute(
        &mut self,
        sql: impl Into<Sql>,
        arguments: Vec<Argument>,
    ) -> Result<u64, StoreError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(connection) => connection.execute(sql.sqlite.as_str(), &arguments),
            Self::Postgres(session) => session.execute(sql.postgres, arguments).await,
        }
    }

    /// Begins a transaction, to be ended with [`Self::end`].
    pub(crate) async fn begin(&mut self, begin_sql: impl Into<Sql>) -> Result<(), StoreError> {
        let sql = begin_sql.into();
        match self {
            Self::Sqlite(connection) => connection.run(sql.sqlite.as_str()),
            Self::Postgres(session) => session.begin(sql.postgres).await,
        }
    }

    /// Ends a transaction that was begun with [`Self::begin`]: `COMMIT` or `ROLLBACK`.
    pub(crate) async fn end(&mut self, end_sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => connection.run(end_sql),
            Self::Postgres(session) => session.end(end_sql).await,
        }
    }

    /// Runs statements without arguments and results.
    pub(crate) async fn execute_batch(&mut self, sql: impl Into<Sql>) -> Result<(), StoreError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(connection) => connection.run(sql.sqlite.as_str()),
            Self::Postgres(session) => session.execute_batch(sql.postgres).await,
        }
    }

    /// Commits a session that was started as a transaction.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(mut connection) => connection.run("COMMIT"),
            Self::Postgres(session) => session.commit().await,
        }
    }
}
