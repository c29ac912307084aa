//! The event feed for clients: events in commit order, from any position.
//!
//! Positions become visible in ascending order, so no event appears later below the last visible position,
//! and no reader misses one. [`feed_cursor`](super::feed_cursor) is for consumers whose position is stored.

use shared::{
    event::{ADMIN_EVENT_TYPES, CloudEvent, EventFilter, FeedPosition, ListEvents},
    id::EventId,
    request::Role,
};

use crate::store::{
    Store, StoreError,
    sql::{
        byte_limit::{MAX_PAGE_BYTES, bounded_sql},
        decode::{cloud_event_at, select_events},
        session::Session,
        statement::{Argument, Sql, StatementBuilder, arguments},
    },
};

/// Maximum number of events that a page scans, so that a page with a rare filter takes no longer than others.
const MAX_SCANNED_EVENTS: i64 = 5_000;

/// Result of reading the feed.
#[derive(Debug)]
pub enum FeedResult {
    /// A page of events.
    Page(FeedPage),
    /// The given event does not exist.
    NoSuchEvent,
    /// The position is beyond the end of the feed: an older backup was restored since.
    PositionBeyondEnd,
}

/// A page of the feed.
#[derive(Debug)]
pub struct FeedPage {
    /// The events.
    pub events: Vec<CloudEvent>,
    /// Position up to which the feed was read, including events that the filter left out.
    pub position: i64,
    /// Whether there are more events.
    pub has_more: bool,
}

impl Store {
    /// Up to `query.limit` events after `query.after` that callers of `role` may see, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn feed_page(
        &self,
        query: &ListEvents,
        role: Role,
    ) -> Result<FeedResult, StoreError> {
        let mut session = self.reader_session().await?;
        // The end is read before the events, so the page never claims more than it has read.
        let end_position = read_end_position(&mut session).await?;
        let start_position = match query.after {
            None => 0,
            Some(FeedPosition::Now) => end_position,
            Some(FeedPosition::Position(position)) => {
                if position > end_position
                    && position > last_assigned_position(&mut self.primary_session().await?).await?
                {
                    return Ok(FeedResult::PositionBeyondEnd);
                }
                position
            }
            Some(FeedPosition::Event(event_id)) => {
                match self.find_event_position(&mut session, event_id).await? {
                    Some(position) => position,
                    None => return Ok(FeedResult::NoSuchEvent),
                }
            }
        };
        let scan_end = if is_filtered(query) && query.order_id.is_none() {
            end_position.min(start_position.saturating_add(MAX_SCANNED_EVENTS))
        } else {
            end_position
        };
        let (sql, arguments) = select_feed_page(query, role, start_position, scan_end);
        let read_rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        let mut events = read_rows
            .rows
            .iter()
            .map(cloud_event_at)
            .collect::<Result<Vec<_>, _>>()?;
        let limit = query.limit as usize;
        let position = if events.len() > limit || read_rows.ends_early {
            events.truncate(limit);
            events
                .last()
                .map_or(start_position, |(position, _)| *position)
        } else {
            scan_end.max(start_position)
        };
        Ok(FeedResult::Page(FeedPage {
            events: events.into_iter().map(|(_, event)| event).collect(),
            position,
            has_more: position < end_position,
        }))
    }
}

impl Store {
    /// The position of the event; on a replica it may not exist yet.
    async fn find_event_position(
        &self,
        session: &mut Session,
        event_id: EventId,
    ) -> Result<Option<i64>, StoreError> {
        match position_of_event(session, event_id).await? {
            None => position_of_event(&mut self.primary_session().await?, event_id).await,
            position_result => Ok(position_result),
        }
    }
}

fn is_filtered(query: &ListEvents) -> bool {
    query.storefront.is_some() || query.types.is_some()
}

/// The last assigned position. On a replica the event may not be visible yet.
pub(in crate::store) async fn last_assigned_position(
    session: &mut Session,
) -> Result<i64, StoreError> {
    let sql = Sql::for_dialects(
        "SELECT coalesce(max(position), 0) FROM events",
        "SELECT position FROM feed WHERE name = 'events'",
    );
    let rows = session.fetch(sql, Vec::new()).await?;
    rows.first().map_or(Ok(0), |row| row.integer(0))
}

/// The last visible position.
pub(in crate::store) async fn read_end_position(session: &mut Session) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce(max(position), 0) FROM events";
    let rows = session.fetch(sql, Vec::new()).await?;
    rows.first().map_or(Ok(0), |row| row.integer(0))
}

async fn position_of_event(
    session: &mut Session,
    event_id: EventId,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT position FROM events WHERE id = $1";
    let rows = session.fetch(sql, arguments![event_id.to_string()]).await?;
    rows.first().map(|row| row.integer(0)).transpose()
}

fn select_feed_page(
    query: &ListEvents,
    role: Role,
    start_position: i64,
    scan_end: i64,
) -> (Sql, Vec<Argument>) {
    let mut statement = StatementBuilder::new(select_events!("WHERE position > "));
    statement
        .bind(start_position)
        .push(" AND position <= ")
        .bind(scan_end);
    if let Some(order_id) = query.order_id {
        statement.push(" AND subject = ").bind(order_id.to_string());
    }
    if let Some(storefront) = &query.storefront {
        statement
            .push(" AND storefront = ")
            .bind(storefront.to_string());
    }
    if let Some(event_types) = &query.types {
        push_type_filter(&mut statement, event_types);
    }
    if role != Role::Admin {
        for event_type in ADMIN_EVENT_TYPES {
            statement.push(" AND type <> ").bind(event_type);
        }
    }
    // By sequence or by position gives the same order of one order's events; each has an index.
    let sort_column = if query.order_id.is_some() {
        "sequence"
    } else {
        "position"
    };
    statement
        .push(" ORDER BY ")
        .push(sort_column)
        .push(" LIMIT ")
        .bind(query.limit.saturating_add(1));
    let (page_sql, arguments) = statement.finish();
    let bounded_sql = bounded_sql(&page_sql, MAX_PAGE_BYTES, "data", sort_column);
    (Sql::texts(page_sql, bounded_sql), arguments)
}

fn push_type_filter(statement: &mut StatementBuilder, event_types: &EventFilter) {
    statement.push(" AND (false");
    for type_pattern in event_types.types() {
        match type_pattern.strip_suffix('*') {
            Some("") => {
                statement.push(" OR true");
            }
            // A pattern such as `order.*`: the range of event types with this prefix.
            Some(type_prefix) => {
                let range_end = format!("{}/", type_prefix.trim_end_matches('.'));
                statement.push(" OR (type > ").bind(type_prefix);
                statement.push(" AND type < ").bind(range_end).push(")");
            }
            None => {
                statement.push(" OR type = ").bind(type_pattern.as_str());
            }
        }
    }
    statement.push(")");
}
