//! A row of a query's result, for both databases.

use rusqlite::types::Value;
use sqlx::{Row as _, postgres::PgRow};

use crate::store::StoreError;

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
                let cell_texts = row.iter().map(|cell| match cell {
                    Value::Text(text) => text.len(),
                    _ => 0,
                });
                cell_texts.sum()
            }
            Self::Postgres(row) => (0..row.len()).map(|column| cell(row, column).len()).sum(),
        }
    }

    /// Whether the first columns of both rows are equal.
    pub(in crate::store) fn has_same_first_column(&self, other_row: &Self) -> bool {
        match (self, other_row) {
            (Self::Sqlite(row), Self::Sqlite(other_row)) => row.first() == other_row.first(),
            (Self::Postgres(row), Self::Postgres(other_row)) => cell(row, 0) == cell(other_row, 0),
            _ => false,
        }
    }
}

/// The raw bytes of a column; empty for `NULL`.
fn cell(row: &PgRow, column: usize) -> &[u8] {
    let raw_value = row.try_get_raw(column).ok();
    raw_value
        .and_then(|value| value.as_bytes().ok())
        .unwrap_or_default()
}

fn wrong_type(column: usize, type_name: &str) -> StoreError {
    StoreError::Corrupt(format!("column {column} is not {type_name}"))
}
