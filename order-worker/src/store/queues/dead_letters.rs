//! Dead letters in the database: dead steps (rows of `steps`) and archived messages. The operations on them
//! are in [`failures::dead_letters`](crate::failures::dead_letters).

use jiff::Timestamp;
use shared::{
    dead_letter::{DeadLetter, DeadLetterKind, DeadLetterSource, FailedStepFilter},
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
            statement::{Argument, StatementBuilder, arguments},
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
        let letter_id = Uuid::now_v7().to_string();
        let mut session = self.writer_session().await?;
        session
            .execute(
                "INSERT INTO dead_letters (id, received_at, queue, reason, message)
                 VALUES ($1, $2, $3, $4, $5)",
                arguments![letter_id, millis(now), queue, reason, message_json],
            )
            .await
            .map(drop)
    }

    /// Up to `limit` dead letters after the cursor, newest first, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn dead_letters(
        &self,
        kind: Option<DeadLetterKind>,
        filter: &FailedStepFilter,
        after_cursor: Option<&DeadLetterCursor>,
        limit: u32,
    ) -> Result<Rows<DeadLetter>, StoreError> {
        let (sql, arguments) = select_dead_letters(kind, filter, after_cursor, limit);
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch_within(MAX_FORWARD_BYTES, sql, arguments)
            .await?;
        rows.read(|rows| rows.iter().map(dead_letter).collect())
    }

    /// An archived message and its queue.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn dead_message(
        &self,
        letter_id: Uuid,
    ) -> Result<Option<(String, ArchivedMessage)>, StoreError> {
        let mut session = self.primary_session().await?;
        let rows = session
            .fetch(
                "SELECT queue, message FROM dead_letters WHERE id = $1",
                arguments![letter_id.to_string()],
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
    pub async fn remove_dead_message(&self, letter_id: Uuid) -> Result<bool, StoreError> {
        let mut session = self.writer_session().await?;
        let removed_count = session
            .execute(
                "DELETE FROM dead_letters WHERE id = $1",
                arguments![letter_id.to_string()],
            )
            .await?;
        Ok(removed_count > 0)
    }
}

/// The statement for a page of dead letters. Archived messages belong to no order.
fn select_dead_letters(
    kind: Option<DeadLetterKind>,
    filter: &FailedStepFilter,
    after_cursor: Option<&DeadLetterCursor>,
    limit: u32,
) -> (String, Vec<Argument>) {
    let (died_at, letter_id) = after_cursor.cloned().unwrap_or((i64::MAX, String::new()));
    let mut sql = StatementBuilder::new(
        "SELECT letters.id, died_at, reason, order_id, step, attempt, request_id, queue, message, orders.number
         FROM (",
    );
    let includes_messages = kind != Some(DeadLetterKind::Step) && filter.is_empty();
    if kind != Some(DeadLetterKind::Message) {
        sql.push(
            "SELECT due_at AS died_at, order_id || ':' || step AS id, last_error AS reason,
                    order_id, step, attempt, request_id, NULL AS queue, NULL AS message
             FROM steps
             WHERE publish_at IS NULL AND due_at <= ",
        )
        .bind(died_at);
        push_step_filter(&mut sql, filter);
    }
    if kind.is_none() && includes_messages {
        sql.push(" UNION ALL ");
    }
    if includes_messages {
        sql.push(
            "SELECT received_at AS died_at, id, reason, NULL AS order_id, NULL AS step, NULL AS attempt,
                    NULL AS request_id, queue, message
             FROM dead_letters
             WHERE received_at <= ",
        )
        .bind(died_at);
    } else if kind == Some(DeadLetterKind::Message) {
        sql.push(
            "SELECT received_at AS died_at, id, reason, NULL AS order_id, NULL AS step, NULL AS attempt,
                    NULL AS request_id, queue, message
             FROM dead_letters WHERE false",
        );
    }
    sql.push(
        ") AS letters
         LEFT JOIN orders ON orders.id = letters.order_id
         WHERE (died_at < ",
    )
    .bind(died_at)
    .push(" OR letters.id < ")
    .bind(letter_id)
    .push(")");
    sql.push(" ORDER BY died_at DESC, letters.id DESC LIMIT ")
        .bind(limit);
    sql.finish()
}

/// Adds the conditions of `filter` on a row of `steps`. A kind of step is its name, or the beginning of the name of a
/// step that is made several times, before a colon.
pub(in crate::store) fn push_step_filter(sql: &mut StatementBuilder, filter: &FailedStepFilter) {
    if let Some(number) = filter.order_number {
        sql.push(" AND order_id = (SELECT id FROM orders WHERE number = ")
            .bind(number)
            .push(")");
    }
    if let Some(step) = &filter.step {
        sql.push(" AND (step = ")
            .bind(step.as_str())
            .push(" OR substr(step, 1, length(")
            .bind(step.as_str())
            .push(") + 1) = ")
            .bind(step.as_str())
            .push(" || ':')");
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
            order_number: row.maybe_integer(9)?.unwrap_or_default(),
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
