//! Binds arguments and reads the rows of a SQLite statement.

use rusqlite::{
    Connection as Raw, Statement, ToSql,
    types::{ToSqlOutput, Value, ValueRef},
};
use shared::page::Rows;

use crate::store::sql::{byte_limit::RowCollector, row::Row, statement::Argument};

/// Executes a query, up to a size limit.
pub(super) fn query_rows(
    connection: &Raw,
    max_bytes: usize,
    sql: &str,
    arguments: &[Argument],
) -> rusqlite::Result<Rows<Row>> {
    let mut statement = connection.prepare_cached(sql)?;
    let column_count = statement.column_count();
    let parameter_indexes = parameter_indexes(&statement, arguments.len())?;
    bind(&mut statement, &parameter_indexes, arguments)?;
    let mut rows = statement.raw_query();
    let mut collected_rows = RowCollector::new(max_bytes);
    while let Some(row) = rows.next()? {
        let row_cells = (0..column_count).map(|column| row.get(column));
        let row = Row::Sqlite(row_cells.collect::<rusqlite::Result<_>>()?);
        if !collected_rows.accept(row) {
            break;
        }
    }
    Ok(collected_rows.rows())
}

/// Positions of the parameters `$1`, `$2`…, which are named parameters in SQLite; `None` for unused ones.
pub(super) fn parameter_indexes(
    statement: &Statement<'_>,
    argument_count: usize,
) -> rusqlite::Result<Vec<Option<usize>>> {
    let parameter_names = (1..=argument_count).map(|number| format!("${number}"));
    parameter_names
        .map(|parameter_name| statement.parameter_index(&parameter_name))
        .collect()
}

pub(super) fn bind(
    statement: &mut Statement<'_>,
    parameter_indexes: &[Option<usize>],
    arguments: &[Argument],
) -> rusqlite::Result<()> {
    for (parameter_index, argument) in parameter_indexes.iter().zip(arguments) {
        if let Some(index) = parameter_index {
            statement.raw_bind_parameter(*index, argument)?;
        }
    }
    Ok(())
}

impl ToSql for Argument {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Integer(value) => ToSqlOutput::Owned(value.map_or(Value::Null, Value::Integer)),
            Self::Boolean(value) => ToSqlOutput::Owned(Value::Integer((*value).into())),
            Self::Text(None) => ToSqlOutput::Owned(Value::Null),
            Self::Text(Some(text)) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::List(values) => {
                let json_list = serde_json::Value::from(values.clone()).to_string();
                ToSqlOutput::Owned(Value::Text(json_list))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_bound_by_number() {
        let connection = Raw::open_in_memory().unwrap();
        let mut statement = connection.prepare("SELECT $2 || $1 || $2").unwrap();
        let arguments = [Argument::from("a"), Argument::from("b")];
        let parameter_indexes = parameter_indexes(&statement, arguments.len()).unwrap();
        bind(&mut statement, &parameter_indexes, &arguments).unwrap();
        let mut rows = statement.raw_query();
        let joined_text: String = rows.next().unwrap().unwrap().get(0).unwrap();
        assert_eq!(joined_text, "bab");
    }
}
