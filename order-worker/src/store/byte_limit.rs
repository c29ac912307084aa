//! Results that are limited by their bytes. A limit of rows says nothing of how large they are: two hundred
//! orders are half a megabyte, or a hundred.

use shared::{id::OrderId, page::Rows};

use super::{StoreError, database::Row, row::parse};

/// Bytes of a page, from where it takes no more entries.
pub(super) const PAGE: usize = 1024 * 1024;
/// Bytes of orders whose steps are to be performed, of one message.
pub(super) const STEPS: usize = 256 * 1024;
/// Bytes of the orders that a batch is about.
pub(super) const BATCH: usize = 8 * 1024 * 1024;
/// Bytes of what is read to be handed on, such as events that are published.
pub(super) const LOT: usize = 4 * 1024 * 1024;

/// Rows on their way from a database, as long as there is room. Rows that begin with the same value are one
/// entry, which is never divided; and one entry there is, however large.
pub(super) struct ByteLimit {
    room: usize,
    rows: Vec<Row>,
    is_cut: bool,
}

impl ByteLimit {
    /// Rows of `room` bytes, and the rest of the entry that fills it.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            rows: Vec::new(),
            is_cut: false,
        }
    }

    /// Takes the row, if there is room.
    pub(super) fn takes(&mut self, row: Row) -> bool {
        if self.room == 0 && self.rows.last().is_some_and(|last| !last.begins_like(&row)) {
            self.is_cut = true;
            return false;
        }
        self.room = self.room.saturating_sub(row.bytes());
        self.rows.push(row);
        true
    }

    /// What was taken.
    pub(super) fn rows(self) -> Rows<Row> {
        let Self { rows, is_cut, .. } = self;
        Rows { rows, is_cut }
    }
}

/// What is about orders that were looked for by their ids, in the order of these.
pub struct ById<T> {
    /// What was found.
    pub found: T,
    /// How far there was room: orders behind this one were not looked for.
    pub looked_to: Option<OrderId>,
}

impl<T> ById<T> {
    /// What `read` makes of rows that begin with their orders' ids.
    pub(super) fn read(
        rows: &Rows<Row>,
        read: impl FnOnce(&[Row]) -> Result<T, StoreError>,
    ) -> Result<Self, StoreError> {
        let last = rows.rows.last().filter(|_| rows.is_cut);
        Ok(Self {
            found: read(&rows.rows)?,
            looked_to: last.map(|row| parse("id", row.text(0)?)).transpose()?,
        })
    }

    /// Whether this one was looked for.
    pub fn covers(&self, id: &OrderId) -> bool {
        self.looked_to.is_none_or(|last| *id <= last)
    }
}

/// `page` as PostgreSQL is asked for it, which sends all rows of a result, whether they are read or not: no
/// more of them than a [`ByteLimit`] with this `room` takes or is full by, in the same `order`. A row is an
/// entry, and nearly all of it is in its `column`.
pub(super) fn bounded(page: &str, room: usize, column: &str, order: &str) -> String {
    // Lengths are known without the texts. Some may be null.
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
