//! Reads the whole database page by page, for [`order-worker export`](crate::cli::export). Each page is a
//! transaction of its own, which has ended when the page is returned. So a slow reader keeps no transaction
//! open and no old row versions alive. [`audit`](crate::store::maintenance::audit) reads one snapshot
//! instead.

use std::collections::HashMap;

use shared::{event::CloudEvent, id::OrderId};

use crate::{
    domain::{message::Message, order::Order, step::StepRow},
    store::{
        StoreError,
        feed::events::read_end_position,
        feed::feed_cursor::next_events,
        maintenance::audit::{
            Audited, audited_row, begin_snapshot_sql, next_orders, open_snapshot_session,
        },
        sql::{
            byte_limit::{MAX_FORWARD_BYTES, bounded_sql},
            decode::{cloud_event_at, find_data_error, parse_json, read_step, select_steps},
            session::Session,
            statement::{Sql, among, arguments, list},
        },
    },
};

/// The orders, or the events and messages, that existed at the time of opening, page by page.
pub struct ExportPages {
    session: Session,
    last_number_or_position: i64,
}

impl ExportPages {
    /// Opens the database at `url` to read its orders by number.
    ///
    /// # Errors
    /// When the database does not exist or can't be read.
    pub async fn open_orders(url: &str) -> anyhow::Result<Self> {
        let mut session = open_snapshot_session(url).await?;
        let sql = "SELECT coalesce(max(number), 0) FROM orders";
        let rows = session.fetch(sql, Vec::new()).await?;
        let last_number_or_position = rows.first().map_or(Ok(0), |row| row.integer(0))?;
        session.end("COMMIT").await?;
        Ok(Self {
            session,
            last_number_or_position,
        })
    }

    /// Opens the database at `url` to read its events, or its messages to customers, by position.
    ///
    /// # Errors
    /// When the database does not exist or can't be read.
    pub async fn open_events(url: &str) -> anyhow::Result<Self> {
        let mut session = open_snapshot_session(url).await?;
        let last_position = read_end_position(&mut session).await?;
        session.end("COMMIT").await?;
        Ok(Self {
            session,
            last_number_or_position: last_position,
        })
    }

    /// Up to `limit` orders with a number above `after_number`, as stored now, with their steps, up to a size
    /// limit.
    ///
    /// # Errors
    /// When the database is unavailable, or a step can't be decoded.
    pub async fn orders(
        &mut self,
        after_number: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Audited<(Order, Vec<StepRow>)>)>, StoreError> {
        self.session.begin(begin_snapshot_sql()).await?;
        let arguments = arguments![after_number, limit];
        let page_future = self
            .session
            .fetch_within(MAX_FORWARD_BYTES, next_orders(), arguments);
        let orders = page_future.await?.rows;
        let orders = orders.iter().map(|row| {
            let order = parse_json("order", row.text(2)?);
            Ok((row.integer(0)?, audited_row(row.text(1)?, order)?))
        });
        let mut orders: Vec<(i64, Audited<Order>)> = orders.collect::<Result<_, StoreError>>()?;
        orders.retain(|(number, _)| *number <= self.last_number_or_position);
        let sql = among!(select_steps!("WHERE order_id"), "");
        let readable_orders = orders.iter().filter_map(|(_, order)| order.as_ref().ok());
        let order_ids = list(readable_orders.map(|order| order.id));
        let rows = self.session.fetch(sql, vec![order_ids]).await?;
        self.session.end("COMMIT").await?;
        let mut steps_by_order: HashMap<OrderId, Vec<StepRow>> = HashMap::new();
        for row in &rows {
            let step_row = read_step(row)?;
            steps_by_order
                .entry(step_row.key.order_id)
                .or_default()
                .push(step_row);
        }
        let mut add_steps = |order: Order| {
            let steps = steps_by_order.remove(&order.id).unwrap_or_default();
            (order, steps)
        };
        let orders = orders.into_iter();
        Ok(orders
            .map(|(number, order)| (number, order.map(&mut add_steps)))
            .collect())
    }

    /// Up to `limit` events after `after_position`, in commit order, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable, or the columns of a row can't be decoded.
    pub async fn events(
        &mut self,
        after_position: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Audited<CloudEvent>)>, StoreError> {
        self.session.begin(begin_snapshot_sql()).await?;
        let arguments = arguments![after_position, limit];
        let page_future = self
            .session
            .fetch_within(MAX_FORWARD_BYTES, next_events(), arguments);
        let rows = page_future.await?.rows;
        self.session.end("COMMIT").await?;
        let events = rows.iter().map(|row| {
            let event = match find_data_error(row)? {
                Some(message) => Err(StoreError::Corrupt(message)),
                None => cloud_event_at(row).map(|(_, event)| event),
            };
            Ok((row.integer(0)?, audited_row(row.text(2)?, event)?))
        });
        let mut events = events.collect::<Result<Vec<_>, StoreError>>()?;
        events.retain(|(position, _)| *position <= self.last_number_or_position);
        Ok(events)
    }

    /// Up to `limit` messages to customers of events after `after_position`, in feed order, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn messages(
        &mut self,
        after_position: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Audited<Message>)>, StoreError> {
        const NEXT_MESSAGES_SQL: &str = "SELECT position, id, state FROM messages
             WHERE position > $1 ORDER BY position LIMIT $2";
        let bounded_page_sql =
            bounded_sql(NEXT_MESSAGES_SQL, MAX_FORWARD_BYTES, "state", "position");
        let sql = Sql::texts(NEXT_MESSAGES_SQL.to_owned(), bounded_page_sql);
        self.session.begin(begin_snapshot_sql()).await?;
        let arguments = arguments![after_position, limit];
        let page_future = self.session.fetch_within(MAX_FORWARD_BYTES, sql, arguments);
        let rows = page_future.await?.rows;
        self.session.end("COMMIT").await?;
        let messages = rows.iter().map(|row| {
            let message = parse_json("message", row.text(2)?);
            Ok((row.integer(0)?, audited_row(row.text(1)?, message)?))
        });
        let mut messages = messages.collect::<Result<Vec<_>, StoreError>>()?;
        messages.retain(|(position, _)| *position <= self.last_number_or_position);
        Ok(messages)
    }
}
