//! Limits query results by their size in bytes. A limit of rows does not bound the memory: two hundred orders
//! may be half a megabyte or a hundred. In SQLite, rows are read until the limit; in PostgreSQL the statement
//! is limited too ([`bounded_sql`]).

use shared::{id::OrderId, page::Rows};

use super::{decode::parse_field, row::Row};
use crate::store::StoreError;

/// Size at which a page accepts no more entries.
pub(in crate::store) const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// Maximum size of the orders loaded for a message of steps.
pub(in crate::store) const MAX_STEPS_BYTES: usize = 256 * 1024;
/// Maximum size of the orders loaded for a batch.
pub(in crate::store) const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Maximum size of rows that are read to be passed on, such as events to publish.
pub(in crate::store) const MAX_FORWARD_BYTES: usize = 4 * 1024 * 1024;

/// Collects rows up to a size. Consecutive rows with the same first value form one entry, which is never
/// split. At least one entry is accepted.
pub(in crate::store) struct RowCollector {
    remaining_bytes: usize,
    rows: Vec<Row>,
    ends_early: bool,
}

impl RowCollector {
    /// Accepts entries up to `max_bytes`; the entry that exceeds the limit is still accepted in full.
    pub(in crate::store) fn new(max_bytes: usize) -> Self {
        Self {
            remaining_bytes: max_bytes,
            rows: Vec::new(),
            ends_early: false,
        }
    }

    /// Adds the row, if it belongs to an accepted entry; returns whether it does.
    pub(in crate::store) fn accept(&mut self, row: Row) -> bool {
        if self.remaining_bytes == 0
            && self
                .rows
                .last()
                .is_some_and(|last_row| !last_row.has_same_first_column(&row))
        {
            self.ends_early = true;
            return false;
        }
        self.remaining_bytes = self.remaining_bytes.saturating_sub(row.bytes());
        self.rows.push(row);
        true
    }

    /// The collected rows.
    pub(in crate::store) fn rows(self) -> Rows<Row> {
        let Self {
            rows, ends_early, ..
        } = self;
        Rows { rows, ends_early }
    }
}

/// The result of looking up orders by id, up to a size limit, in the order of the ids.
pub struct LookupByOrderId<T> {
    /// The decoded rows.
    pub decoded: T,
    /// The last order that was looked up, if the size limit was reached; `None`: all were looked up.
    pub looked_up_to: Option<OrderId>,
}

impl<T> LookupByOrderId<T> {
    /// Applies `decode_rows` to rows whose first column is their order's id.
    pub(in crate::store) fn from_rows(
        rows: &Rows<Row>,
        decode_rows: impl FnOnce(&[Row]) -> Result<T, StoreError>,
    ) -> Result<Self, StoreError> {
        let last_row = rows.rows.last().filter(|_| rows.ends_early);
        Ok(Self {
            decoded: decode_rows(&rows.rows)?,
            looked_up_to: last_row
                .map(|row| parse_field("id", row.text(0)?))
                .transpose()?,
        })
    }

    /// Whether this order was looked up, found or not.
    pub fn covers(&self, id: &OrderId) -> bool {
        self.looked_up_to.is_none_or(|last_id| *id <= last_id)
    }
}

/// Adds a size limit to the PostgreSQL query `page_sql`, since PostgreSQL sends all rows of a result even if they
/// are not read. The query then returns about as many rows as a [`RowCollector`] of `max_bytes` accepts in the
/// same `sort_columns`. Each row is an entry, and `size_column` makes up most of its size.
pub(in crate::store) fn bounded_sql(
    page_sql: &str,
    max_bytes: usize,
    size_column: &str,
    sort_columns: &str,
) -> String {
    // `octet_length` does not read the text itself; the column may be null.
    let size_sql = format!("coalesce(octet_length({size_column}), 0)");
    format!(
        "SELECT * FROM (
             SELECT entries.*,
                    sum({size_sql}) OVER before - {size_sql} - lag({size_sql}, 1, 0) OVER before AS before_the_last
             FROM ({page_sql}) AS entries
             WINDOW before AS (ORDER BY {sort_columns} ROWS UNBOUNDED PRECEDING)
         ) AS entries
         WHERE before_the_last < {max_bytes}
         ORDER BY {sort_columns}"
    )
}
