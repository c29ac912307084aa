//! Conditions on the first columns of the index of a list, such as `orders_by_status (status, created_at, number)`.
//!
//! With `status = $1 ORDER BY created_at, number`, PostgreSQL may read `orders_by_created (created_at, number)`
//! instead, and leave out the orders with another status. Plans are made without values, so it expects the same
//! number of orders with each status. If few orders have the status, it reads all orders.
//!
//! The condition on the first column is therefore `status = ANY(ARRAY[$1])`, and the list is sorted by this column
//! first. PostgreSQL drops a column with an equality from the sort order, but keeps one that is compared with an
//! array, which might contain several values. So it reads an index that begins with this column, as any other one
//! would require sorting. Cursors and times limit the part of the index that is read, as they do beside an equality.
//!
//! Further columns have equalities: of two indexes that begin with the same column, PostgreSQL prefers the one with
//! more of the columns. Comparisons of rows, `(storefront, status) <= ($1, $2)`, would not limit the part that is
//! read: PostgreSQL continues a scan until the first column has another value.
//!
//! SQLite prefers the index with the most equalities.

use super::statement::{Argument, SqlDialect, StatementBuilder};

/// The columns that an index begins with and that a list compares with one value each.
pub(in crate::store) struct IndexPrefix {
    dialect: SqlDialect,
    first_column: Option<&'static str>,
}

impl IndexPrefix {
    pub(in crate::store) fn new(dialect: SqlDialect) -> Self {
        Self {
            dialect,
            first_column: None,
        }
    }

    /// Adds the condition that `column` has `value`. The columns are added in the order of the index.
    pub(in crate::store) fn push_condition(
        &mut self,
        sql: &mut StatementBuilder,
        column: &'static str,
        value: impl Into<Argument>,
    ) {
        sql.push(" AND ").push(column);
        let is_first = self.first_column.is_none();
        if is_first && self.dialect == SqlDialect::Postgres {
            sql.push(" = ANY(ARRAY[").bind(value).push("])");
        } else {
            sql.push(" = ").bind(value);
        }
        self.first_column.get_or_insert(column);
    }

    /// Adds `ORDER BY` and, if PostgreSQL has to sort by it, the first column.
    pub(in crate::store) fn push_order_by(
        &self,
        sql: &mut StatementBuilder,
        sort_order: &'static str,
    ) {
        sql.push(" ORDER BY ");
        if let (SqlDialect::Postgres, Some(first_column)) = (self.dialect, self.first_column) {
            sql.push(first_column).push(sort_order).push(", ");
        }
    }

    /// Adds `ORDER BY` for a statement that needs no sort order, such as a count up to a limit.
    pub(in crate::store) fn push_order_of_index(&self, sql: &mut StatementBuilder) {
        if let (SqlDialect::Postgres, Some(first_column)) = (self.dialect, self.first_column) {
            sql.push(" ORDER BY ").push(first_column);
        }
    }
}
