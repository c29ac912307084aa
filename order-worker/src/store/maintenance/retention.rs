//! Deletes expired rows in short transactions. Safe with several workers.
//! [`housekeeping`](crate::background::housekeeping) calls it periodically.

use std::sync::LazyLock;

use jiff::Timestamp;

use crate::{
    domain::order::Order,
    store::{
        Store, StoreError,
        feed::events::read_end_position,
        sql::{
            byte_limit::{MAX_FORWARD_BYTES, bounded_sql},
            decode::{millis, parse_json},
            row::Row,
            session::Session,
            statement::{Sql, among, arguments, list},
        },
        transaction::save::IDEMPOTENCY_TTL,
    },
};

/// Selects orders without steps and open returns, unchanged since `$1`, whose events are all at positions up to `$2`.
macro_rules! select_unchanged_orders {
    ($orders:literal, $status:literal, $rest:literal) => {
        concat!(
            "SELECT orders.id FROM ",
            $orders,
            " WHERE condensed_at IS NULL AND ",
            $status,
            " created_at < $1
                AND NOT EXISTS (SELECT 1 FROM steps WHERE steps.order_id = orders.id)
                AND NOT EXISTS (
                    SELECT 1 FROM order_returns
                    WHERE order_returns.order_id = orders.id AND order_returns.status IN ('requested', 'approved')
                )
                AND NOT EXISTS (
                    SELECT 1 FROM events
                    WHERE events.subject = orders.id AND (events.time >= $1 OR events.position > $2)
                ) ",
            $rest
        )
    };
}

/// Up to `$3` cancelled and delivered orders. The index is named because SQLite would scan all condensed
/// orders by default, of which there may be very many.
fn select_ended_orders() -> Sql {
    Sql::for_dialects(
        select_unchanged_orders!(
            "orders INDEXED BY ended_orders",
            "status IN ('cancelled', 'delivered') AND",
            "ORDER BY created_at LIMIT $3"
        ),
        select_unchanged_orders!(
            "orders",
            "status IN ('cancelled', 'delivered') AND",
            "ORDER BY created_at LIMIT $3"
        ),
    )
}

/// Those of the orders `$3` that are unchanged, locked.
fn select_and_lock_unchanged_orders() -> Sql {
    Sql::for_dialects(
        select_unchanged_orders!(
            "json_each($3) CROSS JOIN orders ON orders.id = value",
            "",
            ""
        ),
        select_unchanged_orders!(
            "orders",
            "",
            "AND orders.id = ANY($3) FOR UPDATE OF orders SKIP LOCKED"
        ),
    )
}

/// Selects the next `$4` orders in status `shipped` from before `$1`, after the order number `$3` of time
/// `$2`, up to a size limit: time, number, id, and the state of those that are not condensed.
fn next_shipped_orders() -> Sql {
    const NEXT_SHIPPED_SQL: &str = "SELECT created_at, number, id,
                               CASE WHEN condensed_at IS NULL THEN state END AS state
                        FROM orders
                        WHERE status = 'shipped' AND created_at < $1 AND (created_at, number) > ($2, $3)
                        ORDER BY created_at, number LIMIT $4";
    static BOUNDED_SHIPPED_SQL: LazyLock<String> = LazyLock::new(|| {
        bounded_sql(
            NEXT_SHIPPED_SQL,
            MAX_FORWARD_BYTES,
            "state",
            "created_at, number",
        )
    });
    Sql::for_dialects(NEXT_SHIPPED_SQL, &BOUNDED_SHIPPED_SQL)
}

/// A position among the orders in status `shipped`, by time and number.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShippedOrderCursor {
    created_at_ms: i64,
    number: i64,
}

impl Store {
    /// Deletes up to `limit` idempotency records from before `cutoff`; returns their number.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_idempotency_records(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = Sql::for_dialects(
            "DELETE FROM idempotency
             WHERE key IN (SELECT key FROM idempotency WHERE expires_at < $1 LIMIT $2)",
            "DELETE FROM idempotency
             WHERE key IN (
                 SELECT key FROM idempotency WHERE expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
             )",
        );
        let mut session = self.writer_session().await?;
        let expired_before = millis(cutoff + IDEMPOTENCY_TTL);
        session
            .execute(sql, arguments![expired_before, limit])
            .await
    }

    /// Deletes up to `limit` finished deliveries from before `cutoff`, and deleted endpoints without deliveries;
    /// returns the number of deliveries.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_old_deliveries(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut session = self.writer_session().await?;
        let deleted_count = session
            .execute(
                "DELETE FROM deliveries WHERE id IN (
                     SELECT id FROM deliveries WHERE created_at < $1 AND due_at IS NULL LIMIT $2
                 )",
                arguments![millis(cutoff), limit],
            )
            .await?;
        let sql = "DELETE FROM webhook_endpoints WHERE is_deleted AND NOT EXISTS (
                       SELECT 1 FROM deliveries WHERE endpoint_id = webhook_endpoints.id
                   )";
        session.execute(sql, Vec::new()).await?;
        Ok(deleted_count)
    }

    /// Deletes up to `limit` messages to customers from before `cutoff` that are not waiting; returns their number.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_old_messages(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = "DELETE FROM messages WHERE id IN (
                       SELECT id FROM messages WHERE created_at < $1 AND due_at IS NULL LIMIT $2
                   )";
        let mut session = self.writer_session().await?;
        session
            .execute(sql, arguments![millis(cutoff), limit])
            .await
    }

    /// Deletes up to `limit` API keys that were revoked or expired before `cutoff`; returns their number.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delete_old_api_keys(
        &self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = "DELETE FROM api_keys WHERE id IN (
                       SELECT id FROM api_keys WHERE revoked_at < $1 OR expires_at < $1 LIMIT $2
                   )";
        let mut session = self.writer_session().await?;
        session
            .execute(sql, arguments![millis(cutoff), limit])
            .await
    }

    /// Deletes the events of up to `limit` cancelled and delivered orders that have not changed since `cutoff`.
    /// Events that change stock are kept, so stock levels remain the sum of their events. Only events that
    /// all feed consumers have read are deleted, and the order of the very last event is skipped. Returns the
    /// number of orders.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn condense_ended_orders(
        &self,
        cutoff: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        // There may be many closed orders with recent changes. They are scanned outside of a transaction,
        // which would block writers, and the result is checked again in it.
        let mut session = self.primary_session().await?;
        let position_read_by_all = position_read_by_all(&mut session).await?;
        let rows = session.fetch(
            select_ended_orders(),
            arguments![millis(cutoff), position_read_by_all, limit],
        );
        let candidate_ids = order_ids(&rows.await?)?;
        drop(session);
        self.condense_events(candidate_ids, cutoff, now, position_read_by_all)
            .await
    }

    /// As [`Self::condense_ended_orders`], for those of up to `limit` orders in status `shipped` that are
    /// closed: all of their goods came back, or were lost and refunded. Orders are examined from the cursor
    /// on. Returns the number of condensed orders, and the next cursor; `None` if no order was left to examine.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn condense_shipped_orders(
        &self,
        cutoff: Timestamp,
        now: Timestamp,
        cursor: ShippedOrderCursor,
        limit: u32,
    ) -> Result<(u64, Option<ShippedOrderCursor>), StoreError> {
        let mut session = self.primary_session().await?;
        let position_read_by_all = position_read_by_all(&mut session).await?;
        let arguments = arguments![millis(cutoff), cursor.created_at_ms, cursor.number, limit];
        let read_rows = session.fetch_within(MAX_FORWARD_BYTES, next_shipped_orders(), arguments);
        let read_rows = read_rows.await?;
        drop(session);
        let (mut candidate_ids, mut next_cursor) = (Vec::new(), None);
        for row in &read_rows.rows {
            next_cursor = Some(ShippedOrderCursor {
                created_at_ms: row.integer(0)?,
                number: row.integer(1)?,
            });
            // An order that can't be read is reported by `verify`.
            let order = row
                .maybe_text(3)?
                .map(|state| parse_json::<Order>("order", state));
            if order.is_some_and(|order| order.is_ok_and(|order| order.is_closed())) {
                candidate_ids.push(row.text(2)?.to_owned());
            }
        }
        let condensed_count = self
            .condense_events(candidate_ids, cutoff, now, position_read_by_all)
            .await?;
        Ok((condensed_count, next_cursor))
    }

    /// Deletes the events of those of the closed orders `candidate_ids` that have not changed since `cutoff`;
    /// returns their number.
    async fn condense_events(
        &self,
        candidate_ids: Vec<String>,
        cutoff: Timestamp,
        now: Timestamp,
        position_read_by_all: i64,
    ) -> Result<u64, StoreError> {
        if candidate_ids.is_empty() {
            return Ok(0);
        }
        let mut session = self.transaction().await?;
        let arguments = [
            arguments![millis(cutoff), position_read_by_all],
            vec![list(candidate_ids)],
        ]
        .concat();
        let order_ids = order_ids(
            &session
                .fetch(select_and_lock_unchanged_orders(), arguments)
                .await?,
        )?;
        let delete_events_sql = among!(
            "DELETE FROM events WHERE subject",
            "AND type NOT IN ('shipment.shipped', 'shipment.returned', 'return.received')"
        );
        session
            .execute(delete_events_sql, vec![list(&order_ids)])
            .await?;
        let mark_condensed_sql = Sql::for_dialects(
            "UPDATE orders SET condensed_at = $2 WHERE id IN (SELECT value FROM json_each($1))",
            "UPDATE orders SET condensed_at = $2 WHERE id = ANY($1)",
        );
        session
            .execute(
                mark_condensed_sql,
                vec![list(&order_ids), millis(now).into()],
            )
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
async fn position_read_by_all(session: &mut Session) -> Result<i64, StoreError> {
    let sql = "SELECT min(position) FROM relay WHERE name <> 'probe'";
    let rows = session.fetch(sql, Vec::new()).await?;
    let position_read_by_all = rows.first().map_or(Ok(0), |row| row.integer(0))?;
    Ok(position_read_by_all.min(read_end_position(session).await? - 1))
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use crate::store::maintenance::retention::*;
    use crate::store::sqlite;

    #[test]
    fn shipped_orders_are_examined_by_index() {
        let connection = sqlite::in_memory();
        let arguments = arguments![1_i64, 1_i64, 1_i64, 5_i64];
        let plan_steps = sqlite::query_plan(&connection, next_shipped_orders().sqlite(), arguments);
        let [plan_step] = plan_steps.as_slice() else {
            panic!("{plan_steps:?}");
        };
        assert!(
            plan_step.starts_with("SEARCH orders USING INDEX orders_by_status (status=?"),
            "{plan_step}"
        );
    }

    #[test]
    fn orders_with_open_returns_keep_their_events() {
        let connection = sqlite::in_memory();
        connection
            .execute_batch(
                "INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
                 VALUES (1, 'a', 's', 'c', 'delivered', 0, 1, ''), (2, 'b', 's', 'c', 'delivered', 0, 1, ''),
                        (3, 'c', 's', 'c', 'delivered', 0, 1, ''), (4, 'd', 's', 'c', 'delivered', 0, 1, '');
                 INSERT INTO order_returns (id, order_id, storefront, status, created_at)
                 VALUES ('1', 'a', 's', 'requested', 1), ('2', 'b', 's', 'approved', 1), ('3', 'c', 's', 'received', 1);",
            )
            .unwrap();
        for (sql, last_parameter) in [
            (select_ended_orders(), Value::from(5_i64)),
            (
                select_and_lock_unchanged_orders(),
                Value::from(r#"["a", "b", "c", "d"]"#.to_owned()),
            ),
        ] {
            let mut statement = connection.prepare(sql.sqlite()).unwrap();
            let arguments = rusqlite::named_params! {"$1": 10, "$2": 10, "$3": last_parameter};
            let order_ids = statement.query_map(arguments, |row| row.get(0));
            let order_ids: Vec<String> = order_ids.unwrap().map(Result::unwrap).collect();
            assert_eq!(order_ids, ["c", "d"]);
        }
    }

    #[test]
    fn condensed_orders_are_not_scanned_again() {
        let connection = sqlite::in_memory();
        for (sql, last_arguments, index_columns) in [
            (
                select_ended_orders(),
                arguments![5_i64],
                "INDEX ended_orders ",
            ),
            (
                select_and_lock_unchanged_orders(),
                vec![list(["a"])],
                "INDEX sqlite_autoindex_orders_1 ",
            ),
        ] {
            let arguments = [arguments![1_i64, 1_i64], last_arguments].concat();
            let plan_steps = sqlite::query_plan(&connection, sql.sqlite(), arguments);
            let orders_plan_step = plan_steps
                .iter()
                .find(|plan_step| plan_step.starts_with("SEARCH orders"));
            assert!(
                orders_plan_step.is_some_and(|plan_step| plan_step.contains(index_columns)),
                "{plan_steps:?}"
            );
            assert!(
                !plan_steps
                    .iter()
                    .any(|plan_step| plan_step.contains("ORDER BY")),
                "{plan_steps:?}"
            );
        }
    }
}
