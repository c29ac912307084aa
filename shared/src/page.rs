//! Pages of lists: `{data:[…], next_cursor}`, with keyset pagination.
//!
//! The store reads one row more than the limit ([`Rows`]), and [`Page::from_rows`] turns them into a page
//! with the cursor of the next one.

use serde::{Deserialize, Serialize};

/// Default page size.
pub const DEFAULT_LIMIT: u32 = 50;
/// Maximum page size.
pub const MAX_LIMIT: u32 = 200;

/// One page of a list or feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// Entries of the page.
    pub data: Vec<T>,
    /// Pass as `cursor` for the next page; `null` on the last one. Pages of large entries may have fewer
    /// entries than `limit`.
    pub next_cursor: Option<String>,
}

/// The rows read for a page.
#[derive(Debug)]
pub struct Rows<T> {
    /// Up to `limit + 1` rows; the extra row shows that there is a next page.
    pub rows: Vec<T>,
    /// Whether more rows follow although there are no more than `limit`: reading ended at the page's size in bytes, or
    /// rows that can't be decoded were left out.
    pub ends_early: bool,
}

impl<T> Rows<T> {
    /// Converts the rows with `read_entries`.
    ///
    /// # Errors
    /// The error of `read_entries`.
    pub fn read<R, E>(
        &self,
        read_entries: impl FnOnce(&[T]) -> Result<Vec<R>, E>,
    ) -> Result<Rows<R>, E> {
        Ok(Rows {
            rows: read_entries(&self.rows)?,
            ends_early: self.ends_early,
        })
    }

    /// Applies `change_entry` to each entry.
    pub fn map<R>(self, change_entry: impl FnMut(T) -> R) -> Rows<R> {
        Rows {
            rows: self.rows.into_iter().map(change_entry).collect(),
            ends_early: self.ends_early,
        }
    }
}

impl<T> From<Vec<T>> for Rows<T> {
    fn from(rows: Vec<T>) -> Self {
        let ends_early = false;
        Self { rows, ends_early }
    }
}

impl<T> Page<T> {
    /// Makes a page of at most `limit` rows; `cursor_after` returns the cursor after a row.
    pub fn from_rows(
        rows: impl Into<Rows<T>>,
        limit: u32,
        cursor_after: impl Fn(&T) -> String,
    ) -> Self {
        let Rows {
            mut rows,
            ends_early,
        } = rows.into();
        let limit = limit as usize;
        let has_more = rows.len() > limit || ends_early;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(cursor_after);
        Self {
            data: rows,
            next_cursor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_page_has_no_cursor() {
        let page = Page::from_rows(vec![3, 2, 1], 2, ToString::to_string);
        assert_eq!(
            (page.data, page.next_cursor),
            (vec![3, 2], Some("2".into()))
        );
        let page = Page::from_rows(vec![3, 2], 2, ToString::to_string);
        assert_eq!((page.data.len(), page.next_cursor), (2, None));
        let (rows, ends_early) = (vec![3], true);
        let page = Page::from_rows(Rows { rows, ends_early }, 2, ToString::to_string);
        assert_eq!((page.data, page.next_cursor), (vec![3], Some("3".into())));
        let page = Page::from_rows(Vec::<u8>::new(), 2, ToString::to_string);
        assert_eq!((page.data.len(), page.next_cursor), (0, None));
    }
}
