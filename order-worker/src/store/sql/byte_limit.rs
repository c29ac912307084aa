//! Limits results by their size in bytes. A limit of rows does not bound it: two hundred orders may be half a
//! megabyte or a hundred.

use shared::{id::OrderId, page::Rows};

use super::{database::Row, row::parse};
use crate::store::StoreError;

/// Size at which a page accepts no more entries.
pub(in crate::store) const PAGE: usize = 1024 * 1024;
/// Maximum size of the orders loaded for a message of steps.
pub(in crate::store) const STEPS: usize = 256 * 1024;
/// Maximum size of the orders loaded for a batch.
pub(in crate::store) const BATCH: usize = 8 * 1024 * 1024;
/// Maximum size of rows that are read to be passed on, such as events to publish.
pub(in crate::store) const LOT: usize = 4 * 1024 * 1024;

/// Collects rows up to a size. Consecutive rows with the same first value form one entry, which is never split;
/// at least one entry is accepted.
pub(in crate::store) struct ByteLimit {
    room: usize,
    rows: Vec<Row>,
    is_cut: bool,
}

impl ByteLimit {
    /// Accepts rows of `room` bytes, and the rest of the entry that exceeds it.
    pub(in crate::store) fn new(room: usize) -> Self {
        Self {
            room,
            rows: Vec::new(),
            is_cut: false,
        }
    }

    /// Adds the row, if it fits.
    pub(in crate::store) fn takes(&mut self, row: Row) -> bool {
        if self.room == 0 && self.rows.last().is_some_and(|last| !last.begins_like(&row)) {
            self.is_cut = true;
            return false;
        }
        self.room = self.room.saturating_sub(row.bytes());
        self.rows.push(row);
        true
    }

    /// The collected rows.
    pub(in crate::store) fn rows(self) -> Rows<Row> {
        let Self { rows, is_cut, .. } = self;
        Rows { rows, is_cut }
    }
}

/// The rows of orders that were looked up by id, in the order of the ids.
pub struct ById<T> {
    /// The result.
    pub found: T,
    /// The last order that was looked up, if the size limit was reached.
    pub looked_to: Option<OrderId>,
}

impl<T> ById<T> {
    /// Applies `read` to rows that start with their order's id.
    pub(in crate::store) fn read(
        rows: &Rows<Row>,
        read: impl FnOnce(&[Row]) -> Result<T, StoreError>,
    ) -> Result<Self, StoreError> {
        let last = rows.rows.last().filter(|_| rows.is_cut);
        Ok(Self {
            found: read(&rows.rows)?,
            looked_to: last.map(|row| parse("id", row.text(0)?)).transpose()?,
        })
    }

    /// Whether this id was looked up.
    pub fn covers(&self, id: &OrderId) -> bool {
        self.looked_to.is_none_or(|last| *id <= last)
    }
}

/// Limits `page` in PostgreSQL, which sends all rows of a result even if they are not read: to about as many
/// rows as a [`ByteLimit`] with this `room` accepts in the same `order`. Each row is an entry, and its size is
/// mostly that of `column`.
pub(in crate::store) fn bounded(page: &str, room: usize, column: &str, order: &str) -> String {
    // `octet_length` does not read the text; some are null.
    let bytes = format!("coalesce(octet_length({column}), 0)");
    format!(
        "SELECT * FROM (
             SELECT entries.*,
                    sum({bytes}) OVER before - {bytes} - lag({bytes}, 1, 0) OVER before AS before_the_last
             FROM ({page}) AS entries
             WINDOW before AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)
         ) AS entries
         WHERE before_the_last < {room}
         ORDER BY {order}"
    )
}
