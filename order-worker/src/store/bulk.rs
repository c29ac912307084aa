//! Writing many rows with one statement.

use serde_json::Value;
use sqlx::{Arguments as _, postgres::PgArguments};
use tokio::time;

use super::{
    StoreError,
    database::{Session, without_nul},
};

/// A statement that writes many rows at once. To SQLite they go as one JSON array of rows, to
/// PostgreSQL as an array a column.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    /// Takes the rows as `json_each($1)`.
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
    /// Writes `rows`, each an array of its columns; none is no statement.
    pub(crate) async fn write(&mut self, write: Write, rows: Vec<Value>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        match self {
            Self::Sqlite(connection) => {
                sqlx::query(write.sqlite)
                    .bind(Value::Array(rows).to_string())
                    .execute(connection.connection())
                    .await?;
            }
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

fn columns(kinds: &[Kind], rows: Vec<Value>) -> Result<PgArguments, StoreError> {
    let mut cells: Vec<Vec<Value>> = kinds
        .iter()
        .map(|_| Vec::with_capacity(rows.len()))
        .collect();
    for row in rows {
        let Value::Array(row) = row else { continue };
        for (column, cell) in cells.iter_mut().zip(row) {
            column.push(cell);
        }
    }
    let mut bound = PgArguments::default();
    for (kind, column) in kinds.iter().zip(cells) {
        let cells = column.into_iter();
        match kind {
            Kind::Integer => bound.add(cells.map(|cell| cell.as_i64()).collect::<Vec<_>>()),
            Kind::Boolean => bound.add(cells.map(|cell| cell.as_bool()).collect::<Vec<_>>()),
            Kind::Text => bound.add(cells.map(text).collect::<Vec<_>>()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound)
}

fn text(cell: Value) -> Option<String> {
    match cell {
        Value::String(text) => Some(without_nul(text)),
        _ => None,
    }
}
