//! Deletes expired rows in short transactions. Safe with several workers.
//! [`housekeeping`](crate::background::housekeeping) calls it periodically.

use jiff::Timestamp;

use crate::store::{
    Store, StoreError,
    feed::events::end,
    sql::{
        decode::millis,
        row::Row,
        session::Session,
        statement::{Sql, among, arguments, list},
    },
    transaction::save::IDEMPOTENCY_TTL,
};

/// Selects closed orders without steps, unchanged since `$1`, whose events are all at positions up to `$2`.
macro_rules! select_closed_orders {
    ($orders:literal, $rest:literal) => {
        concat!(
            "SELECT orders.id FROM ",
            $orders,
            " WHERE condensed_at IS NULL AND status IN ('cancelled', 'delivered') AND created_at < $1
                AND NOT EXISTS (SELECT 1 FROM steps WHERE steps.order_id = orders.id)
                AND NOT EXISTS (
                    SELECT 1 FROM events
                    WHERE events.subject = orders.id AND (events.time >= $1 OR events.position > $2)
                ) ",
            $rest
        )
    };
}

/// Up to `$3` closed orders. The index is named because SQLite would scan all condensed orders by default, of
/// which there may be very many.
fn select_closed_orders() -> Sql {
    Sql::dialects(
        select_closed_orders!(
            "orders INDEXED BY ended_orders",
            "ORDER BY created_at LIMIT $3"
        ),
        select_closed_orders!("orders", "ORDER BY created_at LIMIT $3"),
    )
}

/// Those of the orders `$3` that are closed, locked.
fn select_and_lock_closed_orders() -> Sql {
    Sql::dialects(
        select_closed_orders!("json_each($3) CROSS JOIN orders ON orders.id = value", ""),
        select_closed_orders!(
            "orders",
            "AND orders.id = ANY($3) FOR UPDATE OF orders SKIP LOCKED"
        ),
    )
}

impl Store {
    /// Deletes up to `limit` idempotency records from before `before`; returns their number.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_idempotency_records(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = Sql::dialects(
            "DELETE FROM idempotency
             WHERE key IN (SELECT key FROM idempotency WHERE expires_at < $1 LIMIT $2)",
            "DELETE FROM idempotency
             WHERE key IN (
                 SELECT key FROM idempotency WHERE expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
             )",
        );
        let mut session = self.writer().await?;
        let expired = millis(before + IDEMPOTENCY_TTL);
        session.execute(sql, arguments![expired, limit]).await
    }

    /// Deletes up to `limit` finished deliveries from before `before`, and deleted endpoints without deliveries;
    /// returns the number of deliveries.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_old_deliveries(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut session = self.writer().await?;
        let deleted = session
            .execute(
                "DELETE FROM deliveries WHERE id IN (
                     SELECT id FROM deliveries WHERE created_at < $1 AND due_at IS NULL LIMIT $2
                 )",
                arguments![millis(before), limit],
            )
            .await?;
        let sql = "DELETE FROM webhook_endpoints WHERE is_deleted AND NOT EXISTS (
                       SELECT 1 FROM deliveries WHERE endpoint_id = webhook_endpoints.id
                   )";
        session.execute(sql, Vec::new()).await?;
        Ok(deleted)
    }

    /// Deletes the events of up to `limit` closed orders that have not changed since `before`. Events that
    /// change stock are kept, so stock levels remain the sum of their events. Only events that all feed
    /// consumers have read are deleted, and the order of the very last event is skipped. Returns the number
    /// of orders.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn condense_orders(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        // There may be many closed orders with recent changes. They are scanned outside of a transaction,
        // which would block writers, and the result is checked again in it.
        let mut session = self.primary().await?;
        let read_by_all_consumers = read_by_all_consumers(&mut session).await?;
        let rows = session.fetch(
            select_closed_orders(),
            arguments![millis(before), read_by_all_consumers, limit],
        );
        let candidates = order_ids(&rows.await?)?;
        drop(session);
        if candidates.is_empty() {
            return Ok(0);
        }
        let mut session = self.transaction().await?;
        let arguments = [
            arguments![millis(before), read_by_all_consumers],
            vec![list(candidates)],
        ]
        .concat();
        let order_ids = order_ids(
            &session
                .fetch(select_and_lock_closed_orders(), arguments)
                .await?,
        )?;
        let delete_events = among!(
            "DELETE FROM events WHERE subject",
            "AND type NOT IN ('shipment.shipped', 'shipment.returned')"
        );
        session
            .execute(delete_events, vec![list(&order_ids)])
            .await?;
        let mark_condensed = Sql::dialects(
            "UPDATE orders SET condensed_at = $2 WHERE id IN (SELECT value FROM json_each($1))",
            "UPDATE orders SET condensed_at = $2 WHERE id = ANY($1)",
        );
        session
            .execute(mark_condensed, vec![list(&order_ids), millis(now).into()])
            .await?;
        session.commit().await?;
        Ok(order_ids.len() as u64)
    }
}

fn order_ids(rows: &[Row]) -> Result<Vec<String>, StoreError> {
    let order_ids = rows.iter().map(|row| row.text(0).map(str::to_owned));
    order_ids.collect()
}

/// The position up to which all feed consumers have read. The very last event is excluded, since SQLite
/// derives the next position from it.
async fn read_by_all_consumers(session: &mut Session) -> Result<i64, StoreError> {
    let sql = "SELECT min(position) FROM relay WHERE name <> 'probe'";
    let rows = session.fetch(sql, Vec::new()).await?;
    let read_by_all_consumers = rows.first().map_or(Ok(0), |row| row.integer(0))?;
    Ok(read_by_all_consumers.min(end(session).await? - 1))
}

#[cfg(test)]
mod tests {
    use crate::store::maintenance::retention::*;
    use crate::store::sqlite;

    #[test]
    fn condensed_orders_are_not_scanned_again() {
        let connection = sqlite::in_memory();
        for (sql, last, by) in [
            (
                select_closed_orders(),
                arguments![5_i64],
                "INDEX ended_orders ",
            ),
            (
                select_and_lock_closed_orders(),
                vec![list(["a"])],
                "INDEX sqlite_autoindex_orders_1 ",
            ),
        ] {
            let arguments = [arguments![1_i64, 1_i64], last].concat();
            let steps = sqlite::plan(&connection, sql.sqlite(), arguments);
            let orders = steps.iter().find(|step| step.starts_with("SEARCH orders"));
            assert!(orders.is_some_and(|step| step.contains(by)), "{steps:?}");
            assert!(
                !steps.iter().any(|step| step.contains("ORDER BY")),
                "{steps:?}"
            );
        }
    }
}
