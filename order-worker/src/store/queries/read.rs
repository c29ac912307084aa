//! Reads for clients: orders, and the history of an order. Each is a single statement, and so a
//! consistent snapshot; only a search for orders (`q`) takes several. `customers`
//! and `products` have the reads of customers and products.

use std::collections::HashSet;

use shared::{event::Event, id::OrderId, order::ListOrders, page::Rows};

use super::order_list::{
    MAX_MATCHING_CUSTOMERS, OrderCursor, RECENT_ORDER_COUNT, SCANNED_ORDERS,
    count_matching_customers, is_of_one_order_or_customer, scans_many_rows, select_distant_order,
    select_found_orders, select_orders,
};
use crate::{
    domain::{
        order::Order,
        step::{StepKey, StepRow},
    },
    store::{
        Database, Store, StoreError,
        sql::{
            byte_limit::{LookupByOrderId, MAX_PAGE_BYTES, MAX_STEPS_BYTES, bounded_sql},
            decode::{
                event_at, parse_field, parse_json, read_step_at, readable_rows, select_events,
            },
            row::Row,
            session::Session,
            statement::{Argument, Sql, among, arguments, list},
        },
    },
};

/// An order with its unfinished steps.
pub type OrderAndSteps = (Order, Vec<StepRow>);

/// Selects orders with their steps, where the id…
macro_rules! orders_and_steps_where_id {
    () => {
        "SELECT orders.id, orders.state, order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret, tracestate
         FROM orders LEFT JOIN steps ON steps.order_id = orders.id
         WHERE orders.id"
    };
}
pub(in crate::store) use orders_and_steps_where_id;

impl Store {
    /// One order.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn order(&self, order_id: OrderId) -> Result<Option<OrderAndSteps>, StoreError> {
        one_order(self.reader_session().await?, order_id).await
    }

    /// The order to which a provider's payment belongs.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn order_of_payment(
        &self,
        payment_reference: &str,
    ) -> Result<Option<OrderId>, StoreError> {
        let mut session = self.primary_session().await?;
        let sql = "SELECT order_id FROM payment_references WHERE reference = $1";
        let rows = session.fetch(sql, arguments![payment_reference]).await?;
        let order_id = rows
            .first()
            .map(|row| parse_field("order_id", row.text(0)?));
        order_id.transpose()
    }

    /// Applies `map_row` to those of the steps `keys` that are not finished, and their orders, up to a size
    /// limit. Reads the last commit, never a replica.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn steps<T>(
        &self,
        keys: &[StepKey],
        map_row: impl Fn(StepRow, &Order) -> T,
    ) -> Result<LookupByOrderId<Vec<T>>, StoreError> {
        let mut session = self.primary_session().await?;
        let ids = list(keys.iter().map(|key| key.order_id));
        let sql = among!(
            "SELECT orders.id, orders.state, order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret, tracestate
             FROM orders JOIN steps ON steps.order_id = orders.id
             WHERE orders.id",
            "ORDER BY orders.id"
        );
        let rows = session
            .fetch_within(MAX_STEPS_BYTES, sql, vec![ids])
            .await?;
        let step_keys: HashSet<_> = keys.iter().collect();
        LookupByOrderId::from_rows(&rows, |rows| {
            let mut mapped_steps = Vec::with_capacity(keys.len());
            for (order, steps) in readable_orders(rows)? {
                let steps = steps
                    .into_iter()
                    .filter(|step_row| step_keys.contains(&step_row.key));
                mapped_steps.extend(steps.map(|step_row| map_row(step_row, &order)));
            }
            Ok(mapped_steps)
        })
    }

    /// Up to `filter.limit + 1` orders in the order of `filter.sort`, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn orders(
        &self,
        filter: &ListOrders,
        after_cursor: Option<OrderCursor>,
    ) -> Result<Rows<OrderAndSteps>, StoreError> {
        if filter.q.is_some() && !is_of_one_order_or_customer(filter) {
            return Box::pin(self.search_orders(filter, after_cursor)).await;
        }
        // In SQLite, long reads are detected while they run.
        let _permit = match &*self.database {
            Database::Postgres(postgres) if scans_many_rows(filter) => {
                Some(postgres.acquire_scan_permit().await?)
            }
            Database::Postgres(_) | Database::Sqlite(_) => None,
        };
        let mut session = self.reader_session().await?;
        page_of_orders(
            &mut session,
            select_orders(filter, after_cursor, None),
            filter,
        )
        .await
    }

    /// The orders that `filter.q` finds. If few customers match, their orders are read. If many do, the page is
    /// probably filled by some of the first orders of the list: they are compared one by one; then the first
    /// orders of each customer are read; and only if there are too few, all of their orders.
    async fn search_orders(
        &self,
        filter: &ListOrders,
        after_cursor: Option<OrderCursor>,
    ) -> Result<Rows<OrderAndSteps>, StoreError> {
        type SelectOrders =
            fn(&ListOrders, Option<OrderCursor>, Option<OrderCursor>) -> (Sql, Vec<Argument>);
        const FIRST_READS: [(i64, SelectOrders); 2] = [
            (SCANNED_ORDERS, select_orders),
            (RECENT_ORDER_COUNT, select_found_orders),
        ];
        let mut session = self.reader_session().await?;
        let (sql, arguments) = count_matching_customers(filter);
        let rows = session.fetch(sql, arguments).await?;
        let customer_count = rows.first().map_or(Ok(0), |row| row.integer(0))?;
        let all_orders_statement = select_found_orders(filter, after_cursor, None);
        if customer_count <= MAX_MATCHING_CUSTOMERS {
            return page_of_orders(&mut session, all_orders_statement, filter).await;
        }
        for (order_count, select_page) in FIRST_READS {
            let (sql, arguments) = select_distant_order(filter.sort, after_cursor, order_count);
            let rows = session.fetch(sql, arguments).await?;
            let end_cursor = rows.first().map(order_cursor_at).transpose()?;
            let page = page_of_orders(
                &mut session,
                select_page(filter, after_cursor, end_cursor),
                filter,
            )
            .await?;
            if end_cursor.is_none() || page.ends_early || page.rows.len() > filter.limit as usize {
                return Ok(page);
            }
        }
        drop(session);
        let _permit = match &*self.database {
            Database::Postgres(postgres) => Some(postgres.acquire_scan_permit().await?),
            Database::Sqlite(_) => None,
        };
        let mut session = self.reader_session().await?;
        page_of_orders(&mut session, all_orders_statement, filter).await
    }

    /// Up to `limit` events of `subject` after `after_sequence`, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn events_of_subject(
        &self,
        subject: &str,
        after_sequence: u64,
        limit: u32,
    ) -> Result<Rows<Event>, StoreError> {
        const EVENTS_SQL: &str =
            select_events!("WHERE subject = $1 AND sequence > $2 ORDER BY sequence LIMIT $3");
        let after_sequence = i64::try_from(after_sequence).unwrap_or(i64::MAX);
        let bounded_sql = bounded_sql(EVENTS_SQL, MAX_PAGE_BYTES, "data", "sequence");
        let sql = Sql::texts(EVENTS_SQL.to_owned(), bounded_sql);
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch_within(
                MAX_PAGE_BYTES,
                sql,
                arguments![subject, after_sequence, limit],
            )
            .await?;
        rows.read(|rows| {
            let events = rows.iter().map(|row| event_at(row).map(|(_, event)| event));
            events.collect()
        })
    }
}

/// Decodes the time and the number of an order.
fn order_cursor_at(row: &Row) -> Result<OrderCursor, StoreError> {
    Ok(OrderCursor {
        created_at_ms: row.integer(0)?,
        number: row.integer(1)?,
    })
}

/// Executes the statement for a page of orders.
async fn page_of_orders(
    session: &mut Session,
    (sql, arguments): (Sql, Vec<Argument>),
    filter: &ListOrders,
) -> Result<Rows<OrderAndSteps>, StoreError> {
    let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
    let mut page = rows.read(readable_orders)?;
    // An order that can't be decoded is left out of its page; the list continues after it.
    let found_count = orders_in(&rows.rows).count();
    page.ends_early |= page.rows.len() < found_count && found_count > filter.limit as usize;
    Ok(page)
}

async fn one_order(
    mut session: Session,
    order_id: OrderId,
) -> Result<Option<OrderAndSteps>, StoreError> {
    let rows = fetch_order(&mut session, order_id).await?;
    Ok(orders_and_steps(&rows)?.pop())
}

/// The rows of one order, for [`orders_and_steps`].
pub(in crate::store) async fn fetch_order(
    session: &mut Session,
    order_id: OrderId,
) -> Result<Vec<Row>, StoreError> {
    const ORDER_BY_ID_SQL: &str = concat!(orders_and_steps_where_id!(), " = $1");
    session
        .fetch(ORDER_BY_ID_SQL, arguments![order_id.to_string()])
        .await
}

/// Decodes rows of an order's id and state, and one of its steps or `NULL`s. Rows of the same order are
/// adjacent.
pub(in crate::store) fn orders_and_steps(rows: &[Row]) -> Result<Vec<OrderAndSteps>, StoreError> {
    let mut orders: Vec<OrderAndSteps> = Vec::new();
    let mut last_id = "";
    for row in rows {
        let id_text = row.text(0)?;
        if id_text != last_id {
            orders.push((parse_json("order", row.text(1)?)?, Vec::new()));
            last_id = id_text;
        }
        if let (Some((_, steps)), Some(_)) = (orders.last_mut(), row.maybe_text(2)?) {
            steps.push(read_step_at(row, 2)?);
        }
    }
    Ok(orders)
}

/// The rows of each order.
fn orders_in(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    rows.chunk_by(Row::has_same_first_column)
}

/// As [`orders_and_steps`], but leaves out orders that can't be decoded.
fn readable_orders(rows: &[Row]) -> Result<Vec<OrderAndSteps>, StoreError> {
    let orders = readable_rows(orders_in(rows), orders_and_steps)?;
    Ok(orders.into_iter().flatten().collect())
}
