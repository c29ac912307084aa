//! Dead letters in the database: dead steps (rows of `steps`) and archived messages. The operations on them
//! are in [`failures::dead_letters`](crate::failures::dead_letters).

use jiff::Timestamp;
use shared::{
    dead_letter::{DeadLetter, DeadLetterSource},
    page::Rows,
};
use uuid::Uuid;

use crate::{
    domain::step::Step,
    failures::archived_message::ArchivedMessage,
    store::{
        Store, StoreError,
        sql::{
            byte_limit::MAX_FORWARD_BYTES,
            decode::{millis, parse_field, parse_json, parse_unsigned, timestamp},
            row::Row,
            statement::arguments,
        },
    },
};

/// Cursor of a dead-letter list: Unix milliseconds and id.
pub type DeadLetterCursor = (i64, String);

impl Store {
    /// Archives a message that was dead-lettered from `queue`.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn archive_message(
        &self,
        queue: &str,
        reason: &str,
        message: &ArchivedMessage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let message_json = serde_json::to_string(message)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let id = Uuid::now_v7().to_string();
        let mut session = self.writer_session().await?;
        session
            .execute(
                "INSERT INTO dead_letters (id, received_at, queue, reason, message)
                 VALUES ($1, $2, $3, $4, $5)",
                arguments![id, millis(now), queue, reason, message_json],
            )
            .await
            .map(drop)
    }

    /// Up to `limit` dead letters of both kinds after the cursor, newest first, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn dead_letters(
        &self,
        after_cursor: Option<&DeadLetterCursor>,
        limit: u32,
    ) -> Result<Rows<DeadLetter>, StoreError> {
        let (died_at, id) = after_cursor.cloned().unwrap_or((i64::MAX, String::new()));
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch_within(
                MAX_FORWARD_BYTES,
                "SELECT id, died_at, reason, order_id, step, attempt, request_id, queue, message
                 FROM (
                     SELECT due_at AS died_at, order_id || ':' || step AS id, last_error AS reason,
                            order_id, step, attempt, request_id, NULL AS queue, NULL AS message
                     FROM steps
                     WHERE publish_at IS NULL AND due_at <= $1
                     UNION ALL
                     SELECT received_at, id, reason, NULL, NULL, NULL, NULL, queue, message
                     FROM dead_letters
                     WHERE received_at <= $1
                 ) AS letters
                 WHERE died_at < $1 OR id < $2
                 ORDER BY died_at DESC, id DESC
                 LIMIT $3",
                arguments![died_at, id, limit],
            )
            .await?;
        rows.read(|rows| rows.iter().map(dead_letter).collect())
    }

    /// An archived message and its queue.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn dead_message(
        &self,
        id: Uuid,
    ) -> Result<Option<(String, ArchivedMessage)>, StoreError> {
        let mut session = self.primary_session().await?;
        let rows = session
            .fetch(
                "SELECT queue, message FROM dead_letters WHERE id = $1",
                arguments![id.to_string()],
            )
            .await?;
        let read_message = |row: &Row| {
            Ok((
                row.text(0)?.to_owned(),
                parse_json("message", row.text(1)?)?,
            ))
        };
        rows.first().map(read_message).transpose()
    }

    /// Deletes an archived message; returns whether it existed.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn remove_dead_message(&self, id: Uuid) -> Result<bool, StoreError> {
        let mut session = self.writer_session().await?;
        let removed_count = session
            .execute(
                "DELETE FROM dead_letters WHERE id = $1",
                arguments![id.to_string()],
            )
            .await?;
        Ok(removed_count > 0)
    }
}

fn dead_letter(row: &Row) -> Result<DeadLetter, StoreError> {
    let source = if let (Some(queue), Some(dead_message)) = (row.maybe_text(7)?, row.maybe_text(8)?)
    {
        parse_json::<ArchivedMessage>("message", dead_message)?.represent(queue.to_owned())
    } else {
        let step: Step = parse_field("step", row.text(4)?)?;
        DeadLetterSource::Step {
            order_id: parse_field("order_id", row.text(3)?)?,
            attempts: parse_unsigned("attempt", row.integer(5)?)?,
            request_id: row.text(6)?.to_owned(),
            advice: step.advice().to_owned(),
            step: step.to_string(),
        }
    };
    Ok(DeadLetter {
        id: row.text(0)?.to_owned(),
        died_at: timestamp(row.integer(1)?)?,
        reason: row.maybe_text(2)?.unwrap_or_default().to_owned(),
        source,
    })
}
