//! Those who follow the feed: each goes on from where it has come to, on one worker at a time.

use std::sync::LazyLock;

use shared::{
    event::{CloudEvent, Event},
    page::Rows,
};

use super::{
    Database, Store, StoreError,
    bulk::Writes,
    byte_limit::{LOT, bounded},
    database::{Session, Sql, arguments},
    postgres,
    row::{cloud_event, select_events},
};

/// An event and its place in the feed.
#[derive(Debug, Clone)]
pub struct Positioned {
    /// Counts up in the order of commits.
    pub position: i64,
    /// The event.
    pub event: Event,
}

/// Who follows the feed.
#[derive(Debug, Clone, Copy)]
pub enum FeedConsumer {
    /// Publishes what happens.
    Relay,
    /// Makes webhooks of it.
    Webhooks,
    /// Counts it.
    Statistics,
}

impl FeedConsumer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relay => "events",
            Self::Webhooks => "webhooks",
            Self::Statistics => "figures",
        }
    }
}

/// The turn to go on along the feed. It ends with [`ConsumerLease::pass`], when it is dropped, and when its worker
/// dies. Nobody who writes waits for what is read meanwhile.
pub struct ConsumerLease {
    store: Store,
    follower: FeedConsumer,
    /// In PostgreSQL, the transaction that holds the turn.
    pub(super) session: Session,
    /// How far the follower has come.
    pub position: i64,
}

impl Store {
    /// The turn of `follower`, unless another worker has it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn turn(&self, follower: FeedConsumer) -> Result<Option<ConsumerLease>, StoreError> {
        let mut session = match &*self.database {
            Database::Sqlite(sqlite) => sqlite.reader()?,
            Database::Postgres(postgres) => postgres::transaction(&postgres.pool).await?,
        };
        let sql = Sql::dialects(
            "SELECT position FROM relay WHERE name = $1",
            "SELECT position FROM relay WHERE name = $1 FOR UPDATE SKIP LOCKED",
        );
        let rows = session.fetch(sql, arguments![follower.name()]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(ConsumerLease {
            store: self.clone(),
            follower,
            position: row.integer(0)?,
            session,
        }))
    }
}

impl ConsumerLease {
    /// Up to `limit` events behind those that were passed, as far as a lot has room, in the order of commits.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn events(&mut self, limit: u32) -> Result<Rows<(i64, CloudEvent)>, StoreError> {
        let arguments = arguments![self.position, limit];
        let read = self.session.fetch_within(LOT, next_events(), arguments);
        read.await?
            .read(|rows| rows.iter().map(cloud_event).collect())
    }

    /// Everything up to `position` is passed.
    ///
    /// # Errors
    /// When the database is away; then the same events come again, under the same ids.
    pub async fn pass(self, position: i64) -> Result<(), StoreError> {
        self.pass_with(position, Writes::default()).await.map(drop)
    }

    /// Everything up to `position` is passed, and these are what came of it, both or neither. Neither, which is
    /// told, when the feed has begun again meanwhile (`demo.reset`).
    pub(super) async fn pass_with(self, position: i64, writes: Writes) -> Result<bool, StoreError> {
        let mut session = match &*self.store.database {
            Database::Sqlite(_) => self.store.transaction().await?,
            Database::Postgres(_) => self.session,
        };
        let sql = "UPDATE relay SET position = $1 WHERE name = $2 AND position = $3";
        let moved = arguments![position, self.follower.name(), self.position];
        let is_passed = session.execute(sql, moved).await? > 0;
        if is_passed {
            session.write_all(writes).await?;
            session.commit().await?;
        }
        Ok(is_passed)
    }
}

/// How far somebody who follows the feed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Events that were looked at.
    pub events: usize,
    /// There are more already.
    pub has_more: bool,
}

impl Checkpoint {
    /// Nowhere.
    pub const NOTHING: Self = Self {
        events: 0,
        has_more: false,
    };

    /// Past what was read, of which there were to be up to `limit`.
    pub(super) fn through<T>(read: &Rows<T>, limit: u32) -> Self {
        let events = read.rows.len();
        Self {
            events,
            has_more: read.is_cut || events >= limit as usize,
        }
    }
}

/// Up to `$2` events behind `$1`, as far as a lot has room.
pub(super) fn next_events() -> Sql {
    const NEXT: &str = select_events!("WHERE position > $1 ORDER BY position LIMIT $2");
    static BOUNDED: LazyLock<String> = LazyLock::new(|| bounded(NEXT, LOT, "data", "position"));
    Sql::dialects(NEXT, &BOUNDED)
}
