//! A common interface to SQLite and PostgreSQL: statements, arguments, rows, sessions.
//!
//! Most statements have the same text for both. Where the dialects differ, [`Sql`] contains both texts. A set
//! of values is passed as one argument: a JSON array in SQLite, an array in PostgreSQL. SQLite executes a
//! statement within the call, so its sessions never suspend a task.
//!
//! The connections come from [`sqlite`](crate::store::sqlite) and [`postgres`](crate::store::postgres).

use std::{io, mem, time::Duration};

use futures_util::TryStreamExt;
use rusqlite::types::Value;
use shared::page::Rows;
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Executor, PgConnection, Row as _, SqlSafeStr,
    SqlStr,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
};
use tokio::time;

use super::byte_limit::ByteLimit;
use crate::store::{
    StoreError,
    postgres::{LocalSettings, begin_with},
    sqlite,
};

/// A statement in both dialects.
#[derive(Clone)]
pub(crate) struct Sql {
    sqlite: SqlStr,
    postgres: SqlStr,
}

impl Sql {
    /// A statement with different texts.
    pub(crate) fn dialects(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite: sqlite.into_sql_str(),
            postgres: postgres.into_sql_str(),
        }
    }

    /// A statement with different texts that this program composes. Values are always passed as arguments,
    /// never as text.
    pub(crate) fn texts(sqlite: String, postgres: String) -> Self {
        Self {
            sqlite: AssertSqlSafe(sqlite).into_sql_str(),
            postgres: AssertSqlSafe(postgres).into_sql_str(),
        }
    }

    #[cfg(test)]
    pub(in crate::store) fn sqlite(&self) -> &str {
        self.sqlite.as_str()
    }
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self::dialects(both, both)
    }
}

/// As [`Sql::texts`].
impl From<String> for Sql {
    fn from(both: String) -> Self {
        let both = AssertSqlSafe(both).into_sql_str();
        Self {
            sqlite: both.clone(),
            postgres: both,
        }
    }
}

/// The statement `before … after`, with the condition "is one of the values of argument 1" in between.
macro_rules! among {
    ($before:expr, $after:expr) => {
        crate::store::sql::database::Sql::dialects(
            concat!($before, " IN (SELECT value FROM json_each($1)) ", $after),
            concat!($before, " = ANY($1) ", $after),
        )
    };
}
pub(crate) use among;

/// An argument of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Argument {
    Integer(Option<i64>),
    Boolean(bool),
    Text(Option<String>),
    List(Vec<String>),
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Argument {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(Some(replace_nul(value.to_owned())))
    }
}

impl From<String> for Argument {
    fn from(value: String) -> Self {
        Self::Text(Some(replace_nul(value)))
    }
}

impl From<Option<&str>> for Argument {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(|value| replace_nul(value.to_owned())))
    }
}

impl From<Option<String>> for Argument {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(replace_nul))
    }
}

/// `text` with U+FFFD in place of NUL characters, which PostgreSQL does not store. Requests with NUL
/// characters are refused at the gateway, but an error message of a provider may contain one.
fn replace_nul(text: String) -> String {
    if text.contains('\0') {
        return text.replace('\0', "\u{fffd}");
    }
    text
}

/// A set of values as one argument.
pub(crate) fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> Argument {
    let texts = values
        .into_iter()
        .map(|value| replace_nul(value.to_string()));
    Argument::List(texts.collect())
}

/// The arguments of a statement.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {
        vec![$(crate::store::sql::database::Argument::from($value)),*]
    };
}
pub(crate) use arguments;

/// A row of a result.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(Vec<Value>),
    Postgres(PgRow),
}

impl Row {
    pub(crate) fn integer(&self, column: usize) -> Result<i64, StoreError> {
        self.maybe_integer(column)?
            .ok_or_else(|| wrong_type(column, "an integer"))
    }

    pub(crate) fn maybe_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(row) => match row.get(column) {
                Some(Value::Integer(value)) => Ok(Some(*value)),
                Some(Value::Null) => Ok(None),
                _ => Err(wrong_type(column, "an integer")),
            },
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn boolean(&self, column: usize) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(self.integer(column)? != 0),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.maybe_text(column)?
            .ok_or_else(|| wrong_type(column, "a text"))
    }

    pub(crate) fn maybe_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self {
            Self::Sqlite(row) => match row.get(column) {
                Some(Value::Text(text)) => Ok(Some(text)),
                Some(Value::Null) => Ok(None),
                _ => Err(wrong_type(column, "a text")),
            },
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }
}

impl Row {
    /// Size of the row's texts in bytes; other columns are small.
    pub(in crate::store) fn bytes(&self) -> usize {
        match self {
            Self::Sqlite(row) => {
                let texts = row.iter().map(|cell| match cell {
                    Value::Text(text) => text.len(),
                    _ => 0,
                });
                texts.sum()
            }
            Self::Postgres(row) => (0..row.len()).map(|column| cell(row, column).len()).sum(),
        }
    }

    /// Whether the first columns of both rows are equal.
    pub(in crate::store) fn has_same_first_column(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sqlite(one), Self::Sqlite(other)) => one.first() == other.first(),
            (Self::Postgres(one), Self::Postgres(other)) => cell(one, 0) == cell(other, 0),
            _ => false,
        }
    }
}

/// The raw bytes of a column; empty for `NULL`.
fn cell(row: &PgRow, column: usize) -> &[u8] {
    let value = row.try_get_raw(column).ok();
    value
        .and_then(|value| value.as_bytes().ok())
        .unwrap_or_default()
}

fn wrong_type(column: usize, what: &str) -> StoreError {
    StoreError::Corrupt(format!("column {column} is not {what}"))
}

/// A connection for statements: SQLite or PostgreSQL.
pub(crate) enum Session {
    Sqlite(sqlite::Connection),
    Postgres(Postgres),
}

/// A connection to PostgreSQL. It is closed when a statement times out: a late response could be taken for
/// the response to the next statement.
pub(crate) struct Postgres {
    link: Link,
    /// Settings with which each transaction begins, behind a connection pooler in transaction mode.
    /// Statements are then unnamed, and each runs in a transaction. `None`: the settings last as long as the
    /// connection.
    per_transaction: Option<LocalSettings>,
    is_in_transaction: bool,
}

/// Kind of connection.
pub(crate) enum Link {
    Own(Box<PgConnection>),
    /// Reads the whole database, with a long timeout.
    Auditing(Box<PgConnection>),
    Pooled(PoolConnection<sqlx::Postgres>),
    /// In a transaction, which is rolled back if it is dropped without a commit.
    Transaction(sqlx::Transaction<'static, sqlx::Postgres>),
    Closed,
}

/// A connection while a statement runs.
enum Running<'a> {
    InSession(&'a mut PgConnection),
    /// In a transaction that was begun for this statement.
    InTransaction(sqlx::Transaction<'a, sqlx::Postgres>),
}

impl Running<'_> {
    fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::InSession(connection) => connection,
            Self::InTransaction(transaction) => transaction,
        }
    }

    async fn done(self) -> Result<(), sqlx::Error> {
        match self {
            Self::InSession(_) => Ok(()),
            Self::InTransaction(transaction) => transaction.commit().await,
        }
    }
}

impl Session {
    /// Executes a query.
    pub(crate) async fn fetch(
        &mut self,
        sql: impl Into<Sql>,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Row>, StoreError> {
        let read = self.fetch_within(usize::MAX, sql, arguments).await?;
        Ok(read.rows)
    }

    /// Executes a query and reads its rows up to `room` bytes, as [`ByteLimit`] does.
    pub(in crate::store) async fn fetch_within(
        &mut self,
        room: usize,
        sql: impl Into<Sql>,
        arguments: Vec<Argument>,
    ) -> Result<Rows<Row>, StoreError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(connection) => {
                let sql = sql.sqlite.as_str();
                connection.fetch(room, sql, &arguments).await
            }
            Self::Postgres(postgres) => {
                let query = sqlx::query_with(sql.postgres, to_postgres(arguments)?);
                let query = query.persistent(postgres.has_named_statements());
                let timeout = postgres.timeout();
                let mut collected = ByteLimit::new(room);
                let read = time::timeout(timeout, async {
                    let mut running = postgres.run().await?;
                    let mut rows = query.fetch(running.connection());
                    while let Some(row) = rows.try_next().await? {
                        if !collected.accept(Row::Postgres(row)) {
                            break;
                        }
                    }
                    drop(rows);
                    running.done().await
                });
                let read = read.await;
                postgres.result_or_close(read)?;
                Ok(collected.rows())
            }
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
            Self::Postgres(postgres) => {
                let arguments = to_postgres(arguments)?;
                postgres.execute(sql.postgres, arguments).await
            }
        }
    }

    /// Begins a transaction, to be ended with [`Self::end`].
    pub(crate) async fn begin(&mut self, begin: impl Into<Sql>) -> Result<(), StoreError> {
        let mut sql = begin.into();
        if let Self::Postgres(postgres) = self {
            if let Some(settings) = &postgres.per_transaction {
                sql.postgres = begin_with(sql.postgres.as_str(), Some(settings));
            }
            postgres.is_in_transaction = true;
        }
        self.control(sql).await
    }

    /// Ends a transaction that was begun with [`Self::begin`]: `COMMIT` or `ROLLBACK`.
    pub(crate) async fn end(&mut self, end: &'static str) -> Result<(), StoreError> {
        self.control(end).await?;
        if let Self::Postgres(postgres) = self {
            postgres.is_in_transaction = false;
        }
        Ok(())
    }

    /// Runs statements without arguments and results.
    pub(crate) async fn control(&mut self, sql: impl Into<Sql>) -> Result<(), StoreError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(connection) => connection.run(sql.sqlite.as_str())?,
            Self::Postgres(postgres) => {
                let done = postgres.connection()?.execute(sqlx::raw_sql(sql.postgres));
                let done = time::timeout(STATEMENT_TIMEOUT, done).await;
                postgres.result_or_close(done)?;
            }
        }
        Ok(())
    }
}

impl Session {
    /// Commits a session that was started as a transaction.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(mut connection) => connection.run("COMMIT"),
            Self::Postgres(Postgres {
                link: Link::Transaction(transaction),
                ..
            }) => {
                let committed = time::timeout(STATEMENT_TIMEOUT, transaction.commit()).await;
                Ok(committed.map_err(|_| closed("the database did not answer"))??)
            }
            Self::Postgres(_) => Ok(()),
        }
    }
}

/// Timeout of a statement on the client side. The server's `statement_timeout` is shorter; this one covers a
/// silent server or network.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(12);
/// Timeout of a statement of `order-worker verify`.
const AUDIT_TIMEOUT: Duration = Duration::from_hours(1);

impl Postgres {
    pub(in crate::store) fn new(link: Link, per_transaction: Option<LocalSettings>) -> Self {
        Self {
            is_in_transaction: matches!(link, Link::Transaction(_)),
            link,
            per_transaction,
        }
    }

    pub(in crate::store) async fn close(self) {
        if let Link::Own(connection) = self.link {
            let _ = connection.close().await;
        }
    }

    /// Executes `sql` and returns the number of changed rows.
    pub(in crate::store) async fn execute(
        &mut self,
        sql: SqlStr,
        arguments: PgArguments,
    ) -> Result<u64, StoreError> {
        let timeout = self.timeout();
        let query = sqlx::query_with(sql, arguments).persistent(self.has_named_statements());
        let done = time::timeout(timeout, async {
            let mut running = self.run().await?;
            let done = query.execute(running.connection()).await?;
            running.done().await?;
            Ok(done)
        });
        let done = done.await;
        Ok(self.result_or_close(done)?.rows_affected())
    }

    /// Whether prepared statements are kept under names.
    fn has_named_statements(&self) -> bool {
        self.per_transaction.is_none()
    }

    /// The connection for one statement, in a transaction if the pool mode requires one.
    async fn run(&mut self) -> Result<Running<'_>, sqlx::Error> {
        let settings = self.per_transaction.clone();
        let settings = settings.filter(|_| !self.is_in_transaction);
        let connection = self.connection()?;
        let Some(settings) = settings else {
            return Ok(Running::InSession(connection));
        };
        let transaction = connection.begin_with(begin_with("BEGIN", Some(&settings)));
        Ok(Running::InTransaction(transaction.await?))
    }

    fn timeout(&self) -> Duration {
        match self.link {
            Link::Auditing(_) => AUDIT_TIMEOUT,
            Link::Own(_) | Link::Pooled(_) | Link::Transaction(_) | Link::Closed => {
                STATEMENT_TIMEOUT
            }
        }
    }

    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match &mut self.link {
            Link::Own(connection) | Link::Auditing(connection) => Ok(connection),
            Link::Pooled(connection) => Ok(connection),
            Link::Transaction(transaction) => Ok(transaction),
            Link::Closed => Err(closed("the connection was closed after a timeout")),
        }
    }

    /// Returns the result if it arrived in time; otherwise closes the connection.
    fn result_or_close<T>(
        &mut self,
        answer: Result<Result<T, sqlx::Error>, time::error::Elapsed>,
    ) -> Result<T, sqlx::Error> {
        answer.unwrap_or_else(|_| {
            // Detached from the pool first, which would wait for the response.
            if let Link::Pooled(connection) = mem::replace(&mut self.link, Link::Closed) {
                drop(connection.detach());
            }
            Err(closed("the database did not answer"))
        })
    }
}

fn closed(why: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why))
}

fn to_postgres(arguments: Vec<Argument>) -> Result<PgArguments, StoreError> {
    let mut bound = PgArguments::default();
    for argument in arguments {
        match argument {
            Argument::Integer(value) => bound.add(value),
            Argument::Boolean(value) => bound.add(value),
            Argument::Text(value) => bound.add(value.map(without_nul)),
            Argument::List(values) => bound.add(values),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound)
}

/// `text` with U+FFFD in place of NUL characters, which PostgreSQL texts can't contain.
pub(in crate::store) fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}
