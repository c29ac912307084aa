//! Feed consumers: background tasks that process every event in commit order ([`FeedConsumer`]). Each
//! continues from its stored position. A lease ensures that only one worker advances a consumer at a time.
//! Clients read the feed with [`events`](super::events).

use std::sync::LazyLock;

use shared::{
    event::{CloudEvent, Event},
    page::Rows,
};

use crate::store::{
    Database, Store, StoreError, postgres,
    sql::{
        bulk::Writes,
        byte_limit::{MAX_FORWARD_BYTES, bounded_sql},
        decode::{cloud_event_at, select_events},
        session::Session,
        statement::{Sql, arguments},
    },
};

/// An event with its position in the feed.
#[derive(Debug, Clone)]
pub struct PositionedEvent {
    /// Position in the feed; increases in commit order.
    pub position: i64,
    /// The event.
    pub event: Event,
}

/// A background task that reads the whole feed.
#[derive(Debug, Clone, Copy)]
pub enum FeedConsumer {
    /// Publishes events to the broker.
    Relay,
    /// Creates webhook deliveries.
    Webhooks,
    /// Creates messages to customers.
    Messages,
    /// Counts events for statistics.
    Statistics,
}

impl FeedConsumer {
    pub(in crate::store) fn name(self) -> &'static str {
        match self {
            Self::Relay => "events",
            Self::Webhooks => "webhooks",
            Self::Messages => "messages",
            Self::Statistics => "figures",
        }
    }
}

/// The exclusive right to advance a consumer. It ends with [`ConsumerLease::advance`], when it is dropped, or
/// when its worker dies. Writers of events do not wait for it.
pub struct ConsumerLease {
    store: Store,
    consumer: FeedConsumer,
    /// In PostgreSQL, the transaction that holds the lock.
    pub(in crate::store) session: Session,
    /// The consumer's position.
    pub position: i64,
}

impl Store {
    /// Acquires the lease of `consumer`, unless another worker has it.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn acquire_lease(
        &self,
        consumer: FeedConsumer,
    ) -> Result<Option<ConsumerLease>, StoreError> {
        let mut session = match &*self.database {
            Database::Sqlite(sqlite) => sqlite.reader()?,
            Database::Postgres(postgres) => postgres::begin_transaction(&postgres.pool).await?,
        };
        let sql = Sql::for_dialects(
            "SELECT position FROM relay WHERE name = $1",
            "SELECT position FROM relay WHERE name = $1 FOR UPDATE SKIP LOCKED",
        );
        let rows = session.fetch(sql, arguments![consumer.name()]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(ConsumerLease {
            store: self.clone(),
            consumer,
            position: row.integer(0)?,
            session,
        }))
    }
}

impl ConsumerLease {
    /// Up to `limit` events after the position, in commit order, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn events(&mut self, limit: u32) -> Result<Rows<(i64, CloudEvent)>, StoreError> {
        let arguments = arguments![self.position, limit];
        let read_events = self
            .session
            .fetch_within(MAX_FORWARD_BYTES, next_events(), arguments);
        read_events
            .await?
            .read(|rows| rows.iter().map(cloud_event_at).collect())
    }

    /// Stores the new position and ends the lease.
    ///
    /// # Errors
    /// When the database is unavailable; the same events are read again then.
    pub async fn advance(self, position: i64) -> Result<(), StoreError> {
        self.advance_with(position, Writes::default())
            .await
            .map(drop)
    }

    /// Stores the new position together with `writes`, atomically. Returns `false` and stores nothing if the
    /// feed was reset meanwhile (`demo.reset`).
    pub(in crate::store) async fn advance_with(
        self,
        position: i64,
        writes: Writes,
    ) -> Result<bool, StoreError> {
        let mut session = match &*self.store.database {
            Database::Sqlite(_) => self.store.transaction().await?,
            Database::Postgres(_) => self.session,
        };
        let sql = "UPDATE relay SET position = $1 WHERE name = $2 AND position = $3";
        let position_arguments = arguments![position, self.consumer.name(), self.position];
        let has_advanced = session.execute(sql, position_arguments).await? > 0;
        if has_advanced {
            session.write_all(writes).await?;
            session.commit().await?;
        }
        Ok(has_advanced)
    }
}

/// Progress of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedProgress {
    /// Number of events read.
    pub event_count: usize,
    /// Whether there may be more events.
    pub has_more: bool,
}

impl FeedProgress {
    /// No progress.
    pub const NO_PROGRESS: Self = Self {
        event_count: 0,
        has_more: false,
    };

    /// Progress of reading up to `limit` events.
    pub(in crate::store) fn of_read<T>(rows_read: &Rows<T>, limit: u32) -> Self {
        let event_count = rows_read.rows.len();
        Self {
            event_count,
            has_more: rows_read.ends_early || event_count >= limit as usize,
        }
    }
}

/// Up to `$2` events after `$1`, up to a size limit.
pub(in crate::store) fn next_events() -> Sql {
    const NEXT_EVENTS_SQL: &str = select_events!("WHERE position > $1 ORDER BY position LIMIT $2");
    static BOUNDED_EVENTS_SQL: LazyLock<String> =
        LazyLock::new(|| bounded_sql(NEXT_EVENTS_SQL, MAX_FORWARD_BYTES, "data", "position"));
    Sql::for_dialects(NEXT_EVENTS_SQL, &BOUNDED_EVENTS_SQL)
}
