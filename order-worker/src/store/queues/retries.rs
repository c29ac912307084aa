//! Steps that failed and will be retried, for operators. The operations on them are in
//! [`failures::retries`](crate::failures::retries).

use shared::{dead_letter::FailedStepFilter, retry::RetriedStep};

use super::dead_letters::push_step_filter;
use crate::{
    domain::step::Step,
    store::{
        Store, StoreError,
        sql::{
            decode::{parse_field, parse_unsigned, timestamp},
            row::Row,
            statement::{Argument, Sql, StatementBuilder, arguments},
        },
    },
};

/// The statement for a page of these steps. By default, SQLite would scan all steps.
fn select_retries(
    filter: &FailedStepFilter,
    after_cursor: Option<&RetryCursor>,
    limit: u32,
) -> (Sql, Vec<Argument>) {
    let is_of_one_order = filter.order_number.is_some();
    let page_statement = |table: &'static str| {
        let (order_id, step) = after_cursor.cloned().unwrap_or_default();
        let mut sql = StatementBuilder::new(
            "SELECT failed.order_id, step, failures, last_error, due_at, request_id, orders.number
             FROM (SELECT order_id, step, failures, last_error, due_at, request_id FROM ",
        );
        sql.push(table)
            .push(" WHERE failures > 0 AND publish_at IS NOT NULL AND (order_id, step) > (")
            .bind(order_id)
            .push(", ")
            .bind(step)
            .push(")");
        push_step_filter(&mut sql, filter);
        sql.push(" ORDER BY order_id, step LIMIT ")
            .bind(limit)
            .push(
                ") AS failed LEFT JOIN orders ON orders.id = failed.order_id
                 ORDER BY failed.order_id, step",
            );
        sql.finish()
    };
    let (sqlite_sql, arguments) = page_statement(if is_of_one_order {
        "steps"
    } else {
        "steps INDEXED BY failed_steps"
    });
    let (postgres_sql, _) = page_statement("steps");
    (Sql::texts(sqlite_sql, postgres_sql), arguments)
}

/// Cursor of the list: order id and step.
pub type RetryCursor = (String, String);

impl Store {
    /// Up to `limit` of these steps after the cursor, oldest orders first. A step that is retried meanwhile keeps
    /// its position in the list.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn retries(
        &self,
        filter: &FailedStepFilter,
        after_cursor: Option<&RetryCursor>,
        limit: u32,
    ) -> Result<Vec<RetriedStep>, StoreError> {
        let (sql, arguments) = select_retries(filter, after_cursor, limit);
        let mut session = self.reader_session().await?;
        let rows = session.fetch(sql, arguments).await?;
        rows.iter().map(retried_step).collect()
    }

    /// The number of these steps, counted up to `max_count`.
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
        order_number: row.maybe_integer(6)?.unwrap_or_default(),
        step: step.to_string(),
        attempts: parse_unsigned("failures", row.integer(2)?)?,
        reason: row.maybe_text(3)?.unwrap_or_default().to_owned(),
        next_attempt_at: timestamp(row.integer(4)?)?,
        request_id: row.text(5)?.to_owned(),
    })
}
