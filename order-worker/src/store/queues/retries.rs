//! Steps that failed and will be retried, for operators. The operations on them are in
//! [`failures::retries`](crate::failures::retries).

use shared::retry::RetriedStep;

use crate::{
    domain::step::Step,
    store::{
        Store, StoreError,
        sql::{
            decode::{parse_field, parse_unsigned, timestamp},
            row::Row,
            statement::{Sql, arguments},
        },
    },
};

/// Selects up to `$3` such steps after step `$2` of order `$1`. By default, SQLite would scan all steps.
fn next() -> Sql {
    Sql::for_dialects(
        "SELECT order_id, step, failures, last_error, due_at, request_id
         FROM steps INDEXED BY failed_steps
         WHERE failures > 0 AND publish_at IS NOT NULL AND (order_id, step) > ($1, $2)
         ORDER BY order_id, step
         LIMIT $3",
        "SELECT order_id, step, failures, last_error, due_at, request_id
         FROM steps
         WHERE failures > 0 AND publish_at IS NOT NULL AND (order_id, step) > ($1, $2)
         ORDER BY order_id, step
         LIMIT $3",
    )
}

/// Cursor of the list: order id and step.
pub type RetryCursor = (String, String);

impl Store {
    /// Up to `limit` such steps after the cursor, oldest orders first. A step that is retried meanwhile keeps
    /// its position in the list.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn retries(
        &self,
        after_cursor: Option<&RetryCursor>,
        limit: u32,
    ) -> Result<Vec<RetriedStep>, StoreError> {
        let (order_id, step) = after_cursor.cloned().unwrap_or_default();
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch(next(), arguments![order_id, step, limit])
            .await?;
        rows.iter().map(retried_step).collect()
    }

    /// The number of such steps, counted up to `max_count`.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn count_retries(&self, max_count: u32) -> Result<i64, StoreError> {
        let sql = Sql::for_dialects(
            "SELECT count(*) FROM (
                 SELECT 1 FROM steps INDEXED BY failed_steps
                 WHERE failures > 0 AND publish_at IS NOT NULL LIMIT $1
             )",
            "SELECT count(*) FROM (
                 SELECT 1 FROM steps
                 WHERE failures > 0 AND publish_at IS NOT NULL LIMIT $1
             ) AS failed",
        );
        let rows = self
            .primary_session()
            .await?
            .fetch(sql, arguments![max_count])
            .await?;
        rows.first().map_or(Ok(0), |row| row.integer(0))
    }
}

fn retried_step(row: &Row) -> Result<RetriedStep, StoreError> {
    let step: Step = parse_field("step", row.text(1)?)?;
    Ok(RetriedStep {
        id: format!("{}:{step}", row.text(0)?),
        order_id: parse_field("order_id", row.text(0)?)?,
        step: step.to_string(),
        attempts: parse_unsigned("failures", row.integer(2)?)?,
        reason: row.maybe_text(3)?.unwrap_or_default().to_owned(),
        next_attempt_at: timestamp(row.integer(4)?)?,
        request_id: row.text(5)?.to_owned(),
    })
}
