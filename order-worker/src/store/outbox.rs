//! What the relay needs: steps whose time has come, events that nobody was told of yet; and
//! clearing away what nobody will ask for again.

use jiff::Timestamp;
use shared::event::Event;
use sqlx::Row;

use super::{
    Sqlite, StoreError,
    row::{event, millis, select_events, step, timestamp},
    save::STEP_LEASE,
};
use crate::domain::step::StepRow;

/// An event and its place in the feed.
#[derive(Debug, Clone)]
pub struct Positioned {
    /// Counts up in the order of commits.
    pub position: i64,
    /// The event.
    pub event: Event,
}

impl Sqlite {
    /// Takes up to `limit` steps whose message is to be sent by now; each is due again after the
    /// lease, should nothing come of it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn claim_due_steps(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<StepRow>, StoreError> {
        let mut writer = self.writer.lock().await;
        let rows = sqlx::query(
            "UPDATE steps
             SET publish_at = ?2
             WHERE (order_id, step) IN (
                 SELECT order_id, step FROM steps WHERE publish_at <= ?1 ORDER BY publish_at LIMIT ?3
             )
             RETURNING order_id, step, attempt, due_at, publish_at, last_error, request_id",
        )
        .bind(millis(now))
        .bind(millis(now + STEP_LEASE))
        .bind(limit)
        .fetch_all(&mut *writer)
        .await?;
        rows.iter().map(step).collect()
    }

    /// Makes every step whose time has come due to be sent at once, whether its message is thought
    /// to be under way or not: for a start, when nobody knows what the last process got done. A
    /// message that comes twice does no harm.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn release_leases(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let done = sqlx::query(
            "UPDATE steps SET publish_at = due_at WHERE publish_at > ?1 AND due_at <= ?1",
        )
        .bind(millis(now))
        .execute(&mut *writer)
        .await?;
        Ok(done.rows_affected())
    }

    /// When the next step is to be sent; `None` when there is none.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn next_due_step(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query("SELECT min(publish_at) FROM steps WHERE publish_at IS NOT NULL")
            .fetch_one(&self.readers)
            .await?;
        row.try_get::<Option<i64>, _>(0)?.map(timestamp).transpose()
    }

    /// Up to `limit` events after `position`, in the order of commits.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn events_after(
        &self,
        position: i64,
        limit: u32,
    ) -> Result<Vec<Positioned>, StoreError> {
        let rows = sqlx::query(select_events!(
            "WHERE position > ?1
             ORDER BY position
             LIMIT ?2"
        ))
        .bind(position)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| event(row).map(|(position, event)| Positioned { position, event }))
            .collect()
    }

    /// How far events have been published.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn published_position(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT position FROM relay WHERE name = 'events'")
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// Everything up to `position` has been published.
    ///
    /// # Errors
    /// When the database is away; then the same events are published again, under the same ids.
    pub async fn set_published_position(&self, position: i64) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        sqlx::query(
            "INSERT INTO relay (name, position) VALUES ('events', ?1)
             ON CONFLICT (name) DO UPDATE SET position = excluded.position",
        )
        .bind(position)
        .execute(&mut *writer)
        .await?;
        Ok(())
    }

    /// Forgets up to `limit` answers that nobody will ask for again; tells how many.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forget_old_answers(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let done = sqlx::query(
            "DELETE FROM idempotency
             WHERE key IN (SELECT key FROM idempotency WHERE expires_at < ?1 LIMIT ?2)",
        )
        .bind(millis(now))
        .bind(limit)
        .execute(&mut *writer)
        .await?;
        Ok(done.rows_affected())
    }
}
