//! Messages to customers: those that are due, and the list of an order. Safe with several workers: a message is
//! claimed for an attempt. The attempts are in [`crate::mail`].

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use shared::{
    customer::Customer,
    id::{OrderId, Storefront},
    message::ListMessages,
    page::Rows,
};

use crate::{
    domain::{message::Message, order::Order},
    store::{
        Database, FeedConsumer, Store, StoreError,
        sql::{
            byte_limit::{MAX_PAGE_BYTES, bounded_sql},
            customer::customer_at,
            decode::{millis, parse_field, parse_json, readable_rows},
            statement::{Sql, StatementBuilder, among, arguments, list},
        },
    },
};

/// Time after the timeout of an attempt at which its lease ends.
const LEASE_MARGIN: SignedDuration = SignedDuration::from_secs(10);
/// Maximum count of waiting messages.
const MAX_COUNTED_MESSAGES: u32 = 100_000;

/// A due message with everything needed to send it.
#[derive(Debug)]
pub struct DueMessage {
    /// The message.
    pub message: Message,
    /// The order; `None` if it can't be found.
    pub order: Option<Order>,
    /// The customer; `None` if they can't be found, or belong to another storefront than the order: such an
    /// order was accepted asynchronously and refused.
    pub customer: Option<Customer>,
}

impl Store {
    /// Claims up to `limit` due messages, longest waiting first, for attempts that take at most `timeout`.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn claim_messages(
        &self,
        now: Timestamp,
        timeout: Duration,
        limit: usize,
    ) -> Result<Vec<DueMessage>, StoreError> {
        let due_sql = "SELECT id FROM messages WHERE due_at <= $1 LIMIT 1";
        let mut session = self.primary_session().await?;
        let rows = session.fetch(due_sql, arguments![millis(now)]).await?;
        drop(session);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let sql = Sql::for_dialects(
            "UPDATE messages SET due_at = $2
             WHERE id IN (SELECT id FROM messages WHERE due_at <= $1 ORDER BY due_at LIMIT $3)
             RETURNING state",
            "UPDATE messages SET due_at = $2
             WHERE id IN (
                 SELECT id FROM messages WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
             )
             RETURNING state",
        );
        let lease_end =
            now + SignedDuration::try_from(timeout).unwrap_or(LEASE_MARGIN) + LEASE_MARGIN;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut session = self.writer_session().await?;
        let rows = session
            .fetch(sql, arguments![millis(now), millis(lease_end), limit])
            .await?;
        drop(session);
        let messages = readable_rows(&rows, |row| parse_json("message", row.text(0)?))?;
        self.with_orders_and_customers(messages).await
    }

    async fn with_orders_and_customers(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<DueMessage>, StoreError> {
        let mut session = self.primary_session().await?;
        let order_ids = messages.iter().map(|message| message.order_id);
        let sql = among!("SELECT state FROM orders WHERE id", "");
        let rows = session.fetch(sql, vec![list(order_ids)]).await?;
        let orders: Vec<Order> = readable_rows(&rows, |row| parse_json("order", row.text(0)?))?;
        let orders: HashMap<_, _> = orders.into_iter().map(|order| (order.id, order)).collect();
        let customer_ids = orders.values().map(|order| order.customer_id);
        let sql = among!("SELECT state, version, profile FROM customers WHERE id", "");
        let rows = session.fetch(sql, vec![list(customer_ids)]).await?;
        let customers = readable_rows(&rows, |row| customer_at(row, 0))?;
        let customers: HashMap<_, _> = customers
            .into_iter()
            .map(|customer| (customer.id, customer))
            .collect();
        let due_messages = messages.into_iter().map(|message| {
            let order: Option<Order> = orders.get(&message.order_id).cloned();
            let customer = order.as_ref().and_then(|order| {
                let customer: &Customer = customers.get(&order.customer_id)?;
                (customer.storefront == order.storefront).then(|| customer.clone())
            });
            DueMessage {
                message,
                order,
                customer,
            }
        });
        Ok(due_messages.collect())
    }

    /// Makes claimed messages due again whose attempts were not started, or were interrupted by the end of the
    /// process. SQLite serves one process, so no attempt is in progress when it starts.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn release_message_claims(&self, now: Timestamp) -> Result<(), StoreError> {
        if !matches!(&*self.database, Database::Sqlite(_)) {
            return Ok(());
        }
        let sql = "UPDATE messages SET due_at = $1
                   WHERE due_at > $1 AND json_extract(state, '$.failures') = 0";
        let mut session = self.writer_session().await?;
        session.execute(sql, arguments![millis(now)]).await?;
        Ok(())
    }

    /// Whether messages are created: a worker with `SMTP_URL` has switched them on.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn are_messages_on(&self) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM relay WHERE name = $1";
        let mut session = self.primary_session().await?;
        let rows = session
            .fetch(sql, arguments![FeedConsumer::Messages.name()])
            .await?;
        Ok(!rows.is_empty())
    }

    /// The number of messages that wait for an attempt, and the time at which the oldest of them was created.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn waiting_messages(&self) -> Result<(i64, Option<i64>), StoreError> {
        let sql = "SELECT count(*), min(created_at) FROM (
                       SELECT created_at FROM messages WHERE due_at IS NOT NULL LIMIT $1
                   ) AS waiting";
        let mut session = self.primary_session().await?;
        let rows = session.fetch(sql, arguments![MAX_COUNTED_MESSAGES]).await?;
        match rows.first() {
            Some(row) => Ok((row.integer(0)?, row.maybe_integer(1)?)),
            None => Ok((0, None)),
        }
    }

    /// Up to `filter.limit + 1` messages of an order, newest first, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn messages(&self, filter: &ListMessages) -> Result<Rows<Message>, StoreError> {
        let mut statement =
            StatementBuilder::new("SELECT id, state FROM messages WHERE order_id = ");
        statement.bind(filter.id.to_string());
        if let Some(cursor) = &filter.cursor {
            statement.push(" AND id < ").bind(cursor.as_str());
        }
        statement
            .push(" ORDER BY id DESC LIMIT ")
            .bind(filter.limit + 1);
        let (page_sql, arguments) = statement.finish();
        let bounded_page_sql = bounded_sql(&page_sql, MAX_PAGE_BYTES, "state", "id DESC");
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch_within(
                MAX_PAGE_BYTES,
                Sql::texts(page_sql, bounded_page_sql),
                arguments,
            )
            .await?;
        rows.read(|rows| readable_rows(rows, |row| parse_json("message", row.text(1)?)))
    }

    /// The storefront of an order that is not deleted.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn storefront_of_order(&self, id: OrderId) -> Result<Option<Storefront>, StoreError> {
        let sql = "SELECT storefront FROM orders WHERE id = $1 AND NOT is_deleted";
        let mut session = self.reader_session().await?;
        let rows = session.fetch(sql, arguments![id.to_string()]).await?;
        let row = rows.first();
        row.map(|row| parse_field("storefront", row.text(0)?))
            .transpose()
    }
}
