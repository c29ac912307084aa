//! Clearing away what nobody will ask for again, in short transactions. Safe on any number of workers
//! at once.

use jiff::Timestamp;

use super::{
    Store, StoreError,
    database::{Session, Sql, among, arguments, list},
    feed::end,
    row::millis,
    save::IDEMPOTENCY_TTL,
};

/// Orders that have ended, that nothing was to be done for and nothing happened to since `$1`, and whose
/// events up to `$2` are all there are.
macro_rules! ended {
    () => {
        "SELECT id FROM orders
         WHERE condensed_at IS NULL AND status IN ('cancelled', 'delivered') AND created_at < $1
           AND NOT EXISTS (SELECT 1 FROM steps WHERE steps.order_id = orders.id)
           AND NOT EXISTS (
               SELECT 1 FROM events
               WHERE events.subject = orders.id AND (events.time >= $1 OR events.position > $2)
           ) "
    };
}
impl Store {
    /// Forgets up to `limit` answers that were given before `before`; tells how many.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forget_old_answers(
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

    /// Forgets up to `limit` webhooks that were made before `before` and are done with, and endpoints that
    /// are deleted and have none left; tells how many webhooks.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forget_old_deliveries(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut session = self.writer().await?;
        let forgotten = session
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
        Ok(forgotten)
    }

    /// Of up to `limit` orders that have ended, to which nothing happened since `before`, forgets the
    /// events but those that moved stock: shelves are still what their events add up to. Everybody who is
    /// told of events was told of these. Not of the order to which the last of all events happened, which
    /// waits for the next. Tells how many orders.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn condense_orders(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut session = self.transaction().await?;
        // The last of all events stays: SQLite's next position is one more than its.
        let told = told(&mut session).await?.min(end(&mut session).await? - 1);
        let ended = Sql::dialects(
            concat!(ended!(), "ORDER BY created_at LIMIT $3"),
            concat!(
                ended!(),
                "ORDER BY created_at LIMIT $3 FOR UPDATE OF orders SKIP LOCKED"
            ),
        );
        let ended = session
            .fetch(ended, arguments![millis(before), told, limit])
            .await?;
        if ended.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> = ended
            .iter()
            .map(|row| Ok(row.text(0)?.to_owned()))
            .collect::<Result<_, StoreError>>()?;
        let forget = among!(
            "DELETE FROM events WHERE subject",
            "AND type NOT IN ('shipment.shipped', 'shipment.returned')"
        );
        session.execute(forget, vec![list(&ids)]).await?;
        let mark = Sql::dialects(
            "UPDATE orders SET condensed_at = $2 WHERE id IN (SELECT value FROM json_each($1))",
            "UPDATE orders SET condensed_at = $2 WHERE id = ANY($1)",
        );
        session
            .execute(mark, vec![list(&ids), millis(now).into()])
            .await?;
        session.commit().await?;
        Ok(ended.len() as u64)
    }
}

/// The place in the feed up to which everybody was told.
async fn told(session: &mut Session) -> Result<i64, StoreError> {
    let sql = "SELECT min(position) FROM relay WHERE name <> 'probe'";
    let rows = session.fetch(sql, Vec::new()).await?;
    rows.first().map_or(Ok(0), |row| row.integer(0))
}
