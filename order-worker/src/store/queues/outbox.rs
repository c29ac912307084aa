//! Due steps, for the [`relay`](crate::background::relay), and the correction of timers after a change of the
//! clock. Safe with several workers: a step is claimed before it is sent.

use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::step::{StepKey, StepRow},
    store::{
        Store, StoreError,
        sql::{
            bulk::{ColumnType, Write},
            decode::{millis, read_step},
            statement::{Sql, arguments},
        },
        transaction::save::{STEP_LEASE, latest_send_time},
    },
};

/// Tolerated difference between workers' clocks.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// Makes steps due again, unless they have advanced meanwhile.
const RELEASE_STEPS: Write = Write {
    sqlite: "
        UPDATE steps SET publish_at = due_at
        WHERE order_id = $1 AND step = $2 AND attempt = $3 AND publish_at IS NOT NULL",
    postgres: "
        UPDATE steps SET publish_at = due_at
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS failed (order_id, step, attempt)
        WHERE steps.order_id = failed.order_id AND steps.step = failed.step
          AND steps.attempt = failed.attempt AND publish_at IS NOT NULL",
    columns: &[ColumnType::Text, ColumnType::Text, ColumnType::Integer],
};

impl Store {
    /// Claims up to `limit` steps whose message is due; each becomes due again after the lease, if it has no
    /// result.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn claim_due_steps(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<StepRow>, StoreError> {
        // Skips rows that another worker has locked.
        let sql = Sql::for_dialects(
            "UPDATE steps SET publish_at = $2, put_at = $1
             WHERE (order_id, step) IN (
                 SELECT order_id, step FROM steps WHERE publish_at <= $1 ORDER BY publish_at LIMIT $3
             )
             RETURNING order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret, tracestate",
            "UPDATE steps SET publish_at = $2, put_at = $1
             WHERE (order_id, step) IN (
                 SELECT order_id, step FROM steps WHERE publish_at <= $1 ORDER BY publish_at LIMIT $3
                 FOR UPDATE SKIP LOCKED
             )
             RETURNING order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret, tracestate",
        );
        let claim_arguments = arguments![millis(now), millis(now + STEP_LEASE), limit];
        let mut session = self.writer_session().await?;
        let rows = session.fetch(sql, claim_arguments).await?;
        let steps = rows.iter().map(read_step);
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        // The first message of a timer is sent when it is due and is not counted as sent again.
        let resent_steps = steps.iter().filter(|row| row.due_at + STEP_LEASE <= now);
        metrics::counter!("steps_resent_total")
            .increment(resent_steps.count().try_into().unwrap_or(0));
        Ok(steps)
    }

    /// Makes every due step available for sending, whether or not its message was sent: at the start of a
    /// worker it is unknown which messages the last process sent. Duplicate messages are harmless.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn release_leases(&self, now: Timestamp) -> Result<u64, StoreError> {
        let sql = Sql::for_dialects(
            "UPDATE steps SET publish_at = due_at
             WHERE publish_at > $1 AND publish_at <= $2 AND due_at <= $1",
            "UPDATE steps SET publish_at = due_at
             WHERE (order_id, step) IN (
                 SELECT order_id, step FROM steps
                 WHERE publish_at > $1 AND publish_at <= $2 AND due_at <= $1
                 FOR UPDATE SKIP LOCKED
             )",
        );
        let mut session = self.writer_session().await?;
        let time_arguments = arguments![millis(now), millis(latest_send_time(now))];
        session.execute(sql, time_arguments).await
    }

    /// Makes these steps available for sending again, since their message could not be sent.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn release_steps(&self, steps: &[&StepRow]) -> Result<(), StoreError> {
        let rows = steps.iter().map(|row| {
            let StepKey { order_id, step } = &row.key;
            arguments![order_id.to_string(), step.to_string(), row.attempt]
        });
        self.writer_session()
            .await?
            .write(RELEASE_STEPS, rows.collect())
            .await
    }

    /// Corrects steps that are scheduled too far in the future because the clock was set back since: they
    /// become due after the same delay from now. Returns their number.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn correct_timers(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (now_ms, latest_ms) = (millis(now), millis(now + CLOCK_TOLERANCE));
        // This scans the whole table, so it runs outside of transactions, which would block other writers.
        let mut session = self.primary_session().await?;
        let sql = "SELECT 1 FROM steps WHERE put_at > $1 AND publish_at IS NOT NULL LIMIT 1";
        let is_clock_correct = session.fetch(sql, arguments![latest_ms]).await?.is_empty();
        drop(session);
        if is_clock_correct {
            return Ok(0);
        }
        let mut session = self.writer_session().await?;
        session
            .execute(
                "UPDATE steps
                 SET publish_at = $1 + due_at - put_at, due_at = $1 + due_at - put_at, put_at = $1
                 WHERE put_at > $2 AND publish_at IS NOT NULL",
                arguments![now_ms, latest_ms],
            )
            .await
    }

    /// Whether a step's message is due.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn has_due_step(&self, now: Timestamp) -> Result<bool, StoreError> {
        let mut session = self.primary_session().await?;
        // `min()` would scan deleted index entries.
        let sql = "SELECT order_id FROM steps WHERE publish_at <= $1 ORDER BY publish_at LIMIT 1";
        let rows = session.fetch(sql, arguments![millis(now)]).await?;
        Ok(!rows.is_empty())
    }
}
