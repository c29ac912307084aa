//! Writing many rows with one statement, and several statements at one go.

use std::fmt::Write as _;

use sqlx::{Arguments as _, AssertSqlSafe, SqlSafeStr, SqlStr, postgres::PgArguments};

use super::{
    StoreError,
    database::{Argument, Session, without_nul},
};

/// Rows of a [`Write`].
type Rows = Vec<Vec<Argument>>;

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

/// What is written at one go: to SQLite one after the other, to PostgreSQL as one statement, which
/// spares it a round trip for each. So no two of them may write the same row, and none sees what
/// another wrote.
///
/// PostgreSQL runs the parts of a `WITH` that nothing reads from when it is done with the rest, the last
/// part first (`ExecInitModifyTable` in its source): what is to keep a lock for the shortest time is
/// added first. That is about time alone: nothing depends on it.
#[derive(Default)]
pub(crate) struct Writes(Vec<Part>);

struct Part {
    /// What the statement reads from in PostgreSQL, `name AS (…)`, over the same arguments.
    source: Option<&'static str>,
    write: Write,
    rows: Rows,
}

impl Writes {
    /// And `rows`, if there are any.
    pub(crate) fn add(&mut self, write: Write, rows: Rows) {
        self.push(None, write, rows);
    }

    /// And `rows`, if there are any, by a statement that in PostgreSQL reads from `source`, which is
    /// `name AS (…)`, a part of a `WITH` that takes the same arguments.
    pub(crate) fn add_from(&mut self, source: &'static str, write: Write, rows: Rows) {
        self.push(Some(source), write, rows);
    }

    fn push(&mut self, source: Option<&'static str>, write: Write, rows: Rows) {
        if !rows.is_empty() {
            self.0.push(Part {
                source,
                write,
                rows,
            });
        }
    }

    /// As one statement of PostgreSQL's: each is a part of a `WITH`, which runs whether it is read from
    /// or not.
    fn together(self) -> Result<(SqlStr, PgArguments), StoreError> {
        let (mut sql, mut bound, mut taken) = (String::new(), PgArguments::default(), 0);
        for (place, part) in self.0.into_iter().enumerate() {
            let separator = if place == 0 { "WITH" } else { "," };
            let _ = write!(sql, "{separator} ");
            if let Some(source) = part.source {
                let _ = write!(sql, "{}, ", renumbered(source, taken));
            }
            let text = renumbered(part.write.postgres, taken);
            let _ = write!(sql, "part_{place} AS ({text})");
            taken += part.write.columns.len();
            bind(&mut bound, part.write.columns, part.rows)?;
        }
        sql.push_str(" SELECT");
        Ok((AssertSqlSafe(sql).into_sql_str(), bound))
    }
}

/// The statement with `$1` as the argument behind the first `taken`, and so on.
fn renumbered(sql: &str, taken: usize) -> String {
    let mut parts = sql.split('$');
    let mut renumbered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let number = number.parse::<usize>().unwrap_or_default() + taken;
        let _ = write!(renumbered, "${number}{rest}");
    }
    renumbered
}

impl Session {
    /// Writes `rows`; none is no statement.
    pub(crate) async fn write(&mut self, write: Write, rows: Rows) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        writes.add(write, rows);
        self.write_all(writes).await
    }

    /// Writes all of it; nothing is no statement.
    pub(crate) async fn write_all(&mut self, writes: Writes) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => {
                for part in &writes.0 {
                    connection.execute_all(part.write.sqlite, &part.rows)?;
                }
            }
            Self::Postgres(_) if writes.0.is_empty() => {}
            Self::Postgres(postgres) => {
                let (sql, bound) = writes.together()?;
                postgres.execute(sql, bound).await?;
            }
        }
        Ok(())
    }
}

/// Binds `rows` as an array a column.
fn bind(bound: &mut PgArguments, kinds: &[Kind], rows: Rows) -> Result<(), StoreError> {
    let mut cells: Vec<Vec<Argument>> = kinds
        .iter()
        .map(|_| Vec::with_capacity(rows.len()))
        .collect();
    for row in rows {
        for (column, cell) in cells.iter_mut().zip(row) {
            column.push(cell);
        }
    }
    for (kind, column) in kinds.iter().zip(cells) {
        let cells = column.into_iter();
        match kind {
            Kind::Integer => bound.add(cells.map(integer).collect::<Vec<_>>()),
            Kind::Boolean => bound.add(cells.map(boolean).collect::<Vec<_>>()),
            Kind::Text => bound.add(cells.map(text).collect::<Vec<_>>()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_go_together_keep_their_arguments_apart() {
        let write = |postgres| Write {
            sqlite: "",
            postgres,
            columns: &[Kind::Text, Kind::Integer],
        };
        let rows = || vec![vec![Argument::from("a"), Argument::from(1_i64)]];
        let mut writes = Writes::default();
        writes.add(write("INSERT INTO a SELECT * FROM unnest($1, $2)"), rows());
        writes.add(write("never"), Vec::new());
        let source = "turn AS (UPDATE e SET f = $2 RETURNING f)";
        let insert = "INSERT INTO b SELECT $1 || $2, f FROM turn";
        writes.add_from(source, write(insert), rows());
        let (sql, bound) = writes.together().unwrap();
        assert_eq!(
            sql.as_str(),
            "WITH part_0 AS (INSERT INTO a SELECT * FROM unnest($1, $2)), \
             turn AS (UPDATE e SET f = $4 RETURNING f), \
             part_1 AS (INSERT INTO b SELECT $3 || $4, f FROM turn) SELECT"
        );
        assert_eq!(bound.len(), 4);
    }
}
