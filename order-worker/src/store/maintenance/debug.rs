//! Raw stored data, for the debug API: the rows of an order, and the sizes of all tables.

use serde_json::{Map, Value, json};
use shared::id::OrderId;

use crate::store::{
    Store, StoreError,
    sql::{
        byte_limit::MAX_FORWARD_BYTES,
        decode::{parse_json, read_step, select_events, select_steps},
        statement::arguments,
    },
};

/// The tables whose rows are counted.
const LISTED_TABLES: [&str; 19] = [
    "orders",
    "order_items",
    "order_returns",
    "order_tags",
    "products",
    "shelves",
    "customers",
    "steps",
    "payment_references",
    "events",
    "relay",
    "idempotency",
    "dead_letters",
    "webhook_endpoints",
    "deliveries",
    "messages",
    "api_keys",
    "jobs",
    "figures",
];

impl Store {
    /// The rows of an order: state, steps, and events up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn debug_order(&self, order_id: OrderId) -> Result<Option<Value>, StoreError> {
        let mut session = self.primary_session().await?;
        let id_text = order_id.to_string();
        let rows = session
            .fetch(
                "SELECT number, status, external_id, state FROM orders WHERE id = $1",
                arguments![id_text.as_str()],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let order_state: Value = parse_json("order", row.text(3)?)?;
        let order = json!({
            "number": row.integer(0)?, "status": row.text(1)?, "external_id": row.maybe_text(2)?, "state": order_state,
        });
        let rows = session
            .fetch(
                select_steps!("WHERE order_id = $1 ORDER BY step"),
                arguments![id_text.as_str()],
            )
            .await?;
        let mut steps = Vec::with_capacity(rows.len());
        for row in &rows {
            let step = read_step(row)?;
            steps.push(json!({
                "step": step.key.step, "attempt": step.attempt, "failures": step.failures,
                "due_at": step.due_at, "publish_at_ms": row.maybe_integer(5)?, "is_dead": step.is_dead,
                "last_error": step.last_error, "request_id": step.request_id,
            }));
        }
        let sql = select_events!("WHERE subject = $1 ORDER BY sequence LIMIT 1000");
        let read_rows = session
            .fetch_within(MAX_FORWARD_BYTES, sql, arguments![id_text])
            .await?;
        let mut events = Vec::with_capacity(read_rows.rows.len());
        for row in &read_rows.rows {
            let event_data: Value = parse_json("event", row.text(11)?)?;
            events.push(json!({
                "position": row.integer(0)?, "id": row.text(1)?, "sequence": row.integer(3)?,
                "time_ms": row.integer(4)?, "type": row.text(6)?, "actor": row.text(7)?,
                "intent": row.text(8)?, "request_id": row.text(9)?, "attempt": row.maybe_integer(10)?,
                "data": event_data,
            }));
        }
        Ok(Some(
            json!({"order": order, "steps": steps, "events": events}),
        ))
    }

    /// Number of rows per table, and the positions of all feed consumers.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn debug_tables(&self) -> Result<Value, StoreError> {
        let mut session = self.primary_session().await?;
        let mut row_counts = Map::new();
        for table in LISTED_TABLES {
            let sql = format!("SELECT count(*) FROM {table}");
            let rows = session.fetch(sql, Vec::new()).await?;
            let row_count = rows.first().map(|row| row.integer(0)).transpose()?;
            row_counts.insert(table.to_owned(), json!(row_count));
        }
        let mut consumer_positions = Map::new();
        let sql = "SELECT name, position FROM relay ORDER BY name";
        for row in session.fetch(sql, Vec::new()).await? {
            consumer_positions.insert(row.text(0)?.to_owned(), json!(row.integer(1)?));
        }
        let rows = session
            .fetch("SELECT max(position) FROM events", Vec::new())
            .await?;
        let feed_end = rows.first().map(|row| row.maybe_integer(0)).transpose()?;
        Ok(
            json!({"rows": row_counts, "feed": {"end": feed_end.flatten(), "followers": consumer_positions}}),
        )
    }
}
