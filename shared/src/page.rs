//! Lists: `{data:[…], next_cursor}`, read by keyset.

use serde::{Deserialize, Serialize};

/// Entries of a page when the caller names no `limit`.
pub const DEFAULT_LIMIT: u32 = 50;
/// Entries of a page at most.
pub const MAX_LIMIT: u32 = 200;

/// One page of a list or feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Pass as `cursor` for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page from up to `limit + 1` rows: the extra row only tells that there is more.
    pub fn from_rows(mut rows: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(cursor);
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
    fn the_last_page_has_no_cursor() {
        let page = Page::from_rows(vec![3, 2, 1], 2, ToString::to_string);
        assert_eq!(
            (page.data, page.next_cursor),
            (vec![3, 2], Some("2".into()))
        );
        let page = Page::from_rows(vec![3, 2], 2, ToString::to_string);
        assert_eq!((page.data.len(), page.next_cursor), (2, None));
        let page = Page::from_rows(Vec::<u8>::new(), 2, ToString::to_string);
        assert_eq!((page.data.len(), page.next_cursor), (0, None));
    }
}
