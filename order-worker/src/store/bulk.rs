//! Writing many rows with one statement.

use sqlx::{Arguments as _, postgres::PgArguments};
use tokio::time;

use super::{
    StoreError,
    database::{Argument, Session, without_nul},
};

/// A statement that writes many rows. SQLite runs it once for each, which is cheap without a way to
/// go; to PostgreSQL they go at once, as an array a column.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    /// Takes a row as `$1, $2, …`.
    pub(crate) sqlite: &'static str,
    /// Takes the columns as `unnest($1, $2, …)`.
    pub(crate) postgres: &'static str,
    /// What the columns hold.
    pub(crate) columns: &'static [Kind],
}

/// What a column holds; any may be null.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Integer,
    Boolean,
    Text,
}

impl Session {
    /// Writes `rows`; none is no statement.
    pub(crate) async fn write(
        &mut self,
        write: Write,
        rows: Vec<Vec<Argument>>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        match self {
            Self::Sqlite(connection) => connection.execute_all(write.sqlite, &rows)?,
            Self::Postgres(postgres) => {
                let query = sqlx::query_with(write.postgres, columns(write.columns, rows)?);
                let patience = postgres.patience();
                let done = query.execute(postgres.connection()?);
                let done = time::timeout(patience, done).await;
                postgres.settle(done)?;
            }
        }
        Ok(())
    }
}

fn columns(kinds: &[Kind], rows: Vec<Vec<Argument>>) -> Result<PgArguments, StoreError> {
    let mut cells: Vec<Vec<Argument>> = kinds
        .iter()
        .map(|_| Vec::with_capacity(rows.len()))
        .collect();
    for row in rows {
        for (column, cell) in cells.iter_mut().zip(row) {
            column.push(cell);
        }
    }
    let mut bound = PgArguments::default();
    for (kind, column) in kinds.iter().zip(cells) {
        let cells = column.into_iter();
        match kind {
            Kind::Integer => bound.add(cells.map(integer).collect::<Vec<_>>()),
            Kind::Boolean => bound.add(cells.map(boolean).collect::<Vec<_>>()),
            Kind::Text => bound.add(cells.map(text).collect::<Vec<_>>()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound)
}

fn integer(cell: Argument) -> Option<i64> {
    match cell {
        Argument::Integer(value) => value,
        Argument::Boolean(_) | Argument::Text(_) | Argument::List(_) => None,
    }
}

fn boolean(cell: Argument) -> Option<bool> {
    match cell {
        Argument::Boolean(value) => Some(value),
        Argument::Integer(_) | Argument::Text(_) | Argument::List(_) => None,
    }
}

fn text(cell: Argument) -> Option<String> {
    match cell {
        Argument::Text(text) => text.map(without_nul),
        Argument::Integer(_) | Argument::Boolean(_) | Argument::List(_) => None,
    }
}
