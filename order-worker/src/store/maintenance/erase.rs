//! Erases personal data: addresses and free texts in an order's events, and complete stored replies and
//! archived messages that contain the customer's id. The order itself is redacted by a command; see
//! [`rpc`](crate::rpc).

use serde_json::Value;
use shared::id::CustomerId;

use crate::store::{
    Store, StoreError,
    sql::{
        decode::json,
        session::Session,
        statement::{Sql, among, arguments, list},
    },
};

/// Fields that are erased, by event type.
const PERSONAL: [(&str, &[&str]); 5] = [
    (
        "order.created",
        &[
            "shipping_address",
            "metadata",
            "payment_method",
            "return_url",
        ],
    ),
    ("order.cancelled", &["note"]),
    ("payment.refund_requested", &["reason"]),
    ("shipment.cancelled", &["reason"]),
    ("stock.released", &["reason"]),
];

/// Rewrites the events of `subject` without the fields of [`PERSONAL`].
pub(in crate::store) async fn redact(
    session: &mut Session,
    subject: &str,
) -> Result<(), StoreError> {
    let rows = session
        .fetch(
            "SELECT position, type, data FROM events
             WHERE subject = $1
               AND type IN ('order.created', 'order.cancelled', 'payment.refund_requested',
                            'shipment.cancelled', 'stock.released')",
            arguments![subject],
        )
        .await?;
    for row in &rows {
        let kind = row.text(1)?;
        let mut data: Value = json("event", row.text(2)?)?;
        let personal = PERSONAL.iter().find(|(name, _)| *name == kind);
        for field in personal.into_iter().flat_map(|(_, fields)| *fields) {
            match data.get_mut(*field) {
                Some(value @ Value::Object(_)) if *field == "metadata" => {
                    *value = Value::Object(serde_json::Map::new());
                }
                Some(value @ Value::String(_)) if *field == "payment_method" => {
                    *value = Value::String(String::new());
                }
                Some(value) => *value = Value::Null,
                None => {}
            }
        }
        let sql = "UPDATE events SET data = $2 WHERE position = $1";
        let rewritten = arguments![row.integer(0)?, data.to_string()];
        session.execute(sql, rewritten).await?;
    }
    Ok(())
}

impl Store {
    /// Waits for batches that may be writing orders of customers as read before the last commit: a batch
    /// locks the stock levels before it reads the customers. SQLite needs no wait, since it has only one
    /// writer.
    ///
    /// # Errors
    /// When the database is unavailable, or they take longer than three seconds.
    pub async fn drain_batches(&self) -> Result<(), StoreError> {
        let mut session = self.transaction().await?;
        let sql = Sql::dialects(
            "SELECT 1",
            "SET LOCAL lock_timeout = 3000; LOCK TABLE shelves IN EXCLUSIVE MODE",
        );
        session.control(sql).await?;
        session.commit().await
    }

    /// Deletes stored replies and messages that contain the customer's id.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_customer_records(&self, id: CustomerId) -> Result<(), StoreError> {
        let id_pattern = format!("%{id}%");
        for (select_keys, delete_rows) in [
            (
                "SELECT key FROM idempotency WHERE outcome LIKE $1",
                among!("DELETE FROM idempotency WHERE key", ""),
            ),
            (
                "SELECT id FROM dead_letters WHERE message LIKE $1",
                among!("DELETE FROM dead_letters WHERE id", ""),
            ),
        ] {
            // This scans the whole table, so it runs outside of transactions, which would block other
            // writers.
            let mut session = self.primary().await?;
            let rows = session
                .fetch(select_keys, arguments![id_pattern.as_str()])
                .await?;
            drop(session);
            let found = rows.iter().map(|row| row.text(0));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            if !found.is_empty() {
                let mut session = self.writer().await?;
                session.execute(delete_rows, vec![list(found)]).await?;
            }
        }
        Ok(())
    }
}
