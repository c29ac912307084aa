//! Bulk writes: writes many rows with one statement, and executes several such statements at once. Used by
//! the saving of batches and by all other writers of many rows. [`session`](super::session) binds and
//! executes single statements.

use std::fmt::Write as _;

use sqlx::{
    Arguments as _, AssertSqlSafe, SqlSafeStr, SqlStr,
    postgres::{PgArguments, PgBindIterExt as _},
};

use super::{session::Session, statement::Argument};
use crate::store::StoreError;

/// Size of what PostgreSQL reads in front of an array's values: dimensions, flags, type, length, first index.
const ARRAY_HEADER_SIZE: usize = 5 * size_of::<i32>();

/// Rows of a [`Write`].
type ArgumentRows = Vec<Vec<Argument>>;

/// A statement that writes many rows. SQLite executes it once per row, which is cheap without a network;
/// PostgreSQL gets all rows at once, as one array per column.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    /// SQLite text, for one row: `$1, $2, …`.
    pub(crate) sqlite: &'static str,
    /// PostgreSQL text, for arrays of columns: `unnest($1, $2, …)`.
    pub(crate) postgres: &'static str,
    /// Types of the columns.
    pub(crate) columns: &'static [ColumnType],
}

/// Type of a column; all are nullable.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ColumnType {
    Integer,
    Boolean,
    Text,
}

/// Statements that are executed together: by SQLite one after the other, by PostgreSQL as one statement,
/// which saves round trips. No two of them may write the same row, and none sees the writes of another.
///
/// PostgreSQL executes the parts of a `WITH` that are not read from at the end, last part first
/// (`ExecInitModifyTable` in its source). Writes whose lock should be held for the shortest time are
/// therefore added first. The order affects performance only.
#[derive(Default)]
pub(crate) struct Writes(Vec<WritePart>);

struct WritePart {
    /// A part of the `WITH` that the statement reads from, in PostgreSQL only: `name AS (…)`, with the same
    /// arguments.
    with_part: Option<&'static str>,
    write: Write,
    rows: ArgumentRows,
}

impl Writes {
    /// Adds a statement with its `rows`, if there are any.
    pub(crate) fn add(&mut self, write: Write, rows: ArgumentRows) {
        self.push(None, write, rows);
    }

    /// Adds a statement with its `rows`, if there are any. In PostgreSQL it reads from `with_part`, a part of
    /// the `WITH` with the same arguments: `name AS (…)`.
    pub(crate) fn add_from(&mut self, with_part: &'static str, write: Write, rows: ArgumentRows) {
        self.push(Some(with_part), write, rows);
    }

    fn push(&mut self, with_part: Option<&'static str>, write: Write, rows: ArgumentRows) {
        if !rows.is_empty() {
            self.0.push(WritePart {
                with_part,
                write,
                rows,
            });
        }
    }

    /// Number of columns of all parts.
    fn column_count(&self) -> usize {
        let column_counts = self.0.iter().map(|part| part.write.columns.len());
        column_counts.sum()
    }

    /// About the number of bytes of all rows when they are sent to PostgreSQL.
    fn encoded_size(&self) -> usize {
        let rows = self.0.iter().flat_map(|part| &part.rows);
        let cells_size: usize = rows.flatten().map(Argument::encoded_size).sum();
        self.column_count() * ARRAY_HEADER_SIZE + cells_size
    }

    /// Builds one PostgreSQL statement in which each write is a part of a `WITH`.
    fn into_statement(self) -> Result<(SqlStr, PgArguments), StoreError> {
        let (mut sql, mut bound_arguments, mut argument_offset) =
            (String::new(), PgArguments::default(), 0);
        bound_arguments.reserve(self.column_count(), self.encoded_size());
        for (index, write_part) in self.0.into_iter().enumerate() {
            let with_or_comma = if index == 0 { "WITH" } else { "," };
            let _ = write!(sql, "{with_or_comma} ");
            if let Some(with_part) = write_part.with_part {
                let _ = write!(sql, "{}, ", renumber_parameters(with_part, argument_offset));
            }
            let write_sql = renumber_parameters(write_part.write.postgres, argument_offset);
            let _ = write!(sql, "part_{index} AS ({write_sql})");
            argument_offset += write_part.write.columns.len();
            bind_columns(
                &mut bound_arguments,
                write_part.write.columns,
                &write_part.rows,
            )?;
        }
        sql.push_str(" SELECT");
        Ok((AssertSqlSafe(sql).into_sql_str(), bound_arguments))
    }
}

/// Increases the numbers of a statement's arguments by `argument_offset`.
fn renumber_parameters(sql: &str, argument_offset: usize) -> String {
    let mut sql_parts = sql.split('$');
    let mut renumbered_sql = sql_parts.next().unwrap_or_default().to_owned();
    for part in sql_parts {
        let digit_count = part.bytes().take_while(u8::is_ascii_digit).count();
        let (parameter_number, after_number) = part.split_at(digit_count);
        let parameter_number =
            parameter_number.parse::<usize>().unwrap_or_default() + argument_offset;
        let _ = write!(renumbered_sql, "${parameter_number}{after_number}");
    }
    renumbered_sql
}

impl Session {
    /// Writes `rows`, if there are any.
    pub(crate) async fn write(
        &mut self,
        write: Write,
        rows: ArgumentRows,
    ) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        writes.add(write, rows);
        self.write_all(writes).await
    }

    /// Executes all statements, if there are any.
    pub(crate) async fn write_all(&mut self, writes: Writes) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => {
                for part in &writes.0 {
                    connection.execute_all(part.write.sqlite, &part.rows)?;
                }
            }
            Self::Postgres(_) if writes.0.is_empty() => {}
            Self::Postgres(postgres) => {
                let (sql, bound_arguments) = writes.into_statement()?;
                postgres.execute_bound(sql, bound_arguments).await?;
            }
        }
        Ok(())
    }
}

/// Binds `rows` as one array per column.
fn bind_columns(
    bound_arguments: &mut PgArguments,
    column_types: &[ColumnType],
    rows: &ArgumentRows,
) -> Result<(), StoreError> {
    for (index, column_type) in column_types.iter().enumerate() {
        let cells = rows.iter().map(|row| row.get(index));
        match column_type {
            ColumnType::Integer => bound_arguments.add(cells.map(integer).bind_iter()),
            ColumnType::Boolean => bound_arguments.add(cells.map(boolean).bind_iter()),
            ColumnType::Text => bound_arguments.add(cells.map(text).bind_iter()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(())
}

fn integer(cell: Option<&Argument>) -> Option<i64> {
    match cell {
        Some(Argument::Integer(value)) => *value,
        _ => None,
    }
}

fn boolean(cell: Option<&Argument>) -> Option<bool> {
    match cell {
        Some(Argument::Boolean(value)) => Some(*value),
        _ => None,
    }
}

fn text(cell: Option<&Argument>) -> Option<&str> {
    match cell {
        Some(Argument::Text(value)) => value.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::store::sql::bulk::*;

    #[test]
    fn combined_statements_have_renumbered_arguments() {
        let write = |postgres| Write {
            sqlite: "",
            postgres,
            columns: &[ColumnType::Text, ColumnType::Integer],
        };
        let rows = || vec![vec![Argument::from("a"), Argument::from(1_i64)]];
        let mut writes = Writes::default();
        writes.add(write("INSERT INTO a SELECT * FROM unnest($1, $2)"), rows());
        writes.add(write("never"), Vec::new());
        let with_part = "turn AS (UPDATE e SET f = $2 RETURNING f)";
        let insert = "INSERT INTO b SELECT $1 || $2, f FROM turn";
        writes.add_from(with_part, write(insert), rows());
        let (sql, bound_arguments) = writes.into_statement().unwrap();
        assert_eq!(
            sql.as_str(),
            "WITH part_0 AS (INSERT INTO a SELECT * FROM unnest($1, $2)), \
             turn AS (UPDATE e SET f = $4 RETURNING f), \
             part_1 AS (INSERT INTO b SELECT $3 || $4, f FROM turn) SELECT"
        );
        assert_eq!(bound_arguments.len(), 4);
    }
}
