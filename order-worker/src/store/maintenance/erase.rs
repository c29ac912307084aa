//! Erases personal data: addresses, metadata and free texts in an order's events, addresses and contents of its
//! messages, and complete stored replies and archived messages that contain the customer's id. The order itself is
//! redacted by a command; see [`rpc`](crate::rpc).

use serde_json::Value;
use shared::id::{CustomerId, OrderId};

use crate::{
    domain::message::Message,
    store::{
        Store, StoreError,
        feed::new_messages::update_message,
        sql::{
            decode::parse_json,
            session::Session,
            statement::{Sql, among, arguments, list},
        },
    },
};

/// Fields that are erased, by event type; a slash leads into an object. The error of a step may quote the address,
/// and the pages behind the URLs of a shipment name the recipient.
const PERSONAL_FIELDS: [(&str, &[&str]); 18] = [
    (
        "order.created",
        &[
            "shipping_address",
            "metadata",
            "payment_method",
            "return_url",
        ],
    ),
    ("order.updated", &["shipping_address", "metadata", "note"]),
    ("order.cancelled", &["note"]),
    ("order.edit_requested", &["reason", "payment_method"]),
    ("order.edited", &["reason"]),
    ("order.edit_rejected", &["note"]),
    ("payment.refund_requested", &["reason"]),
    (
        "shipment.created",
        &["shipment/tracking_url", "shipment/label_url"],
    ),
    ("shipment.shipped", &["tracking_url"]),
    ("payment.captured", &["reference"]),
    ("payment.refunded", &["reference", "reason"]),
    ("shipment.cancelled", &["reason"]),
    ("step.retried", &["error"]),
    ("step.dead", &["error"]),
    ("stock.released", &["reason"]),
    ("return.requested", &["note"]),
    ("return.rejected", &["reason"]),
    ("return.cancelled", &["reason"]),
];

/// Rewrites the events of `subject` without the fields of [`PERSONAL_FIELDS`].
pub(in crate::store) async fn redact_events(
    session: &mut Session,
    subject: &str,
) -> Result<(), StoreError> {
    let rows = session
        .fetch(
            "SELECT position, type, data FROM events
             WHERE subject = $1
               AND type IN ('order.created', 'order.updated', 'order.cancelled',
                            'order.edit_requested', 'order.edited', 'order.edit_rejected', 'payment.refund_requested',
                            'payment.captured', 'payment.refunded', 'shipment.created', 'shipment.shipped',
                            'shipment.cancelled', 'step.retried', 'step.dead', 'stock.released',
                            'return.requested', 'return.rejected', 'return.cancelled')",
            arguments![subject],
        )
        .await?;
    for row in &rows {
        let event_type = row.text(1)?;
        let mut data: Value = parse_json("event", row.text(2)?)?;
        let personal_fields = PERSONAL_FIELDS
            .iter()
            .find(|(listed_type, _)| *listed_type == event_type);
        for field in personal_fields.into_iter().flat_map(|(_, fields)| *fields) {
            match data.pointer_mut(&format!("/{field}")) {
                Some(field_value @ Value::Object(_)) if *field == "metadata" => {
                    *field_value = Value::Object(serde_json::Map::new());
                }
                Some(field_value @ Value::String(_))
                    if matches!(*field, "payment_method" | "error") =>
                {
                    *field_value = Value::String(String::new());
                }
                Some(field_value) => *field_value = Value::Null,
                None => {}
            }
        }
        if event_type == "return.requested" {
            let returned_items = data.get_mut("items").and_then(Value::as_array_mut);
            for returned_item in returned_items
                .into_iter()
                .flatten()
                .filter_map(Value::as_object_mut)
            {
                returned_item.remove("reason");
            }
        }
        let sql = "UPDATE events SET data = $2 WHERE position = $1";
        let update_arguments = arguments![row.integer(0)?, data.to_string()];
        session.execute(sql, update_arguments).await?;
    }
    // Tracing systems may have put anything into it.
    let sql = "UPDATE events SET tracestate = NULL WHERE subject = $1 AND tracestate IS NOT NULL";
    session.execute(sql, arguments![subject]).await?;
    Ok(())
}

/// Removes personal data from the messages of an order. Those that wait are not sent.
pub(in crate::store) async fn redact_messages(
    session: &mut Session,
    order_id: &str,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state FROM messages WHERE order_id = $1",
        "SELECT state FROM messages WHERE order_id = $1 ORDER BY id FOR UPDATE",
    );
    for row in session.fetch(sql, arguments![order_id]).await? {
        let mut message: Message = parse_json("message", row.text(0)?)?;
        message.redact();
        update_message(session, &message).await?;
    }
    Ok(())
}

impl Store {
    /// Removes personal data from the messages of an order. Those that wait are not sent.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn redact_messages(&self, order_id: OrderId) -> Result<(), StoreError> {
        let mut session = self.transaction().await?;
        redact_messages(&mut session, &order_id.to_string()).await?;
        session.commit().await
    }

    /// Waits for batches that may be writing orders of customers as read before the last commit: a batch
    /// locks the stock levels before it reads the customers. SQLite needs no wait, since it has only one
    /// writer.
    ///
    /// # Errors
    /// When the database is unavailable, or they take longer than three seconds.
    pub async fn drain_batches(&self) -> Result<(), StoreError> {
        let mut session = self.transaction().await?;
        let sql = Sql::for_dialects(
            "SELECT 1",
            "SET LOCAL lock_timeout = 3000; LOCK TABLE shelves IN EXCLUSIVE MODE",
        );
        session.execute_batch(sql).await?;
        session.commit().await
    }

    /// Deletes stored replies and messages that contain the customer's id.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_records_naming_customer(
        &self,
        customer_id: CustomerId,
    ) -> Result<(), StoreError> {
        let id_pattern = format!("%{customer_id}%");
        for (select_sql, delete_sql) in [
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
            let mut session = self.primary_session().await?;
            let rows = session
                .fetch(select_sql, arguments![id_pattern.as_str()])
                .await?;
            drop(session);
            let record_keys = rows.iter().map(|row| row.text(0));
            let found_keys = record_keys.collect::<Result<Vec<_>, _>>()?;
            if !found_keys.is_empty() {
                let mut session = self.writer_session().await?;
                session.execute(delete_sql, vec![list(found_keys)]).await?;
            }
        }
        Ok(())
    }
}
