//! Reads for clients: orders, products, and the history of an order. Each is a single statement, and so a
//! consistent snapshot; only a search for orders (`q`) takes several. `customers` has the reads of customers.

use std::collections::{BTreeMap, HashSet};

use shared::{
    event::Event,
    id::{OrderId, Sku, Warehouse},
    order::ListOrders,
    page::Rows,
    product::{ListImages, ListProducts, ProductImageIds, sku_of_cursor},
};

use super::order_list::{
    MAX_MATCHING_CUSTOMERS, OrderCursor, RECENT_ORDER_COUNT, SCANNED_ORDERS,
    count_matching_customers, is_one_customers, scans_many_rows, select_found_orders,
    select_older_order, select_orders,
};
use crate::{
    domain::{
        order::Order,
        product::Product,
        step::{StepKey, StepRow},
        stock::WarehouseStock,
    },
    store::{
        Database, Store, StoreError,
        sql::{
            byte_limit::{ById, MAX_PAGE_BYTES, MAX_STEPS_BYTES, bounded_sql},
            decode::{event, json, parse_field, read_step_at, readable_rows, select_events},
            row::Row,
            session::Session,
            statement::{Argument, Sql, StatementBuilder, among, arguments, list},
        },
    },
};

/// An order with its unfinished steps.
pub type OrderAndSteps = (Order, Vec<StepRow>);

/// A product with its stock by warehouse.
pub type ProductAndStock = (Product, BTreeMap<Warehouse, WarehouseStock>);

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
    pub async fn order(&self, id: OrderId) -> Result<Option<OrderAndSteps>, StoreError> {
        one_order(self.reader_session().await?, id).await
    }

    /// The order to which a provider's payment belongs.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn order_of_payment(&self, reference: &str) -> Result<Option<OrderId>, StoreError> {
        let mut session = self.primary_session().await?;
        let sql = "SELECT order_id FROM payment_references WHERE reference = $1";
        let rows = session.fetch(sql, arguments![reference]).await?;
        let id = rows
            .first()
            .map(|row| parse_field("order_id", row.text(0)?));
        id.transpose()
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
    ) -> Result<ById<Vec<T>>, StoreError> {
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
        ById::read_within(&rows, |rows| {
            let mut results = Vec::with_capacity(keys.len());
            for (order, steps) in readable_orders(rows)? {
                let steps = steps.into_iter().filter(|row| step_keys.contains(&row.key));
                results.extend(steps.map(|row| map_row(row, &order)));
            }
            Ok(results)
        })
    }

    /// Up to `filter.limit + 1` orders, newest first, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn orders(
        &self,
        filter: &ListOrders,
        after: Option<OrderCursor>,
    ) -> Result<Rows<OrderAndSteps>, StoreError> {
        if filter.q.is_some() && !is_one_customers(filter) {
            return Box::pin(self.search_orders(filter, after)).await;
        }
        // In SQLite, long reads are detected while they run.
        let _permit = match &*self.database {
            Database::Postgres(postgres) if scans_many_rows(filter) => {
                Some(postgres.acquire_scan_permit().await?)
            }
            Database::Postgres(_) | Database::Sqlite(_) => None,
        };
        let mut session = self.reader_session().await?;
        page_of_orders(&mut session, select_orders(filter, after, None), filter).await
    }

    /// The orders that `filter.q` finds. If few customers match, their orders are read. If many do, the page is
    /// probably filled by some of the newest orders: they are compared one by one; then the recent orders of
    /// each customer are read; and only if there are too few, all of their orders.
    async fn search_orders(
        &self,
        filter: &ListOrders,
        after: Option<OrderCursor>,
    ) -> Result<Rows<OrderAndSteps>, StoreError> {
        type SelectOrders =
            fn(&ListOrders, Option<OrderCursor>, Option<OrderCursor>) -> (Sql, Vec<Argument>);
        const NEWEST_FIRST_READS: [(i64, SelectOrders); 2] = [
            (SCANNED_ORDERS, select_orders),
            (RECENT_ORDER_COUNT, select_found_orders),
        ];
        let mut session = self.reader_session().await?;
        let (sql, arguments) = count_matching_customers(filter);
        let rows = session.fetch(sql, arguments).await?;
        let count = rows.first().map_or(Ok(0), |row| row.integer(0))?;
        let select_all = select_found_orders(filter, after, None);
        if count <= MAX_MATCHING_CUSTOMERS {
            return page_of_orders(&mut session, select_all, filter).await;
        }
        for (count, select) in NEWEST_FIRST_READS {
            let (sql, arguments) = select_older_order(after, count);
            let rows = session.fetch(sql, arguments).await?;
            let last_position = rows.first().map(position).transpose()?;
            let page =
                page_of_orders(&mut session, select(filter, after, last_position), filter).await?;
            if last_position.is_none() || page.is_cut || page.rows.len() > filter.limit as usize {
                return Ok(page);
            }
        }
        drop(session);
        let _permit = match &*self.database {
            Database::Postgres(postgres) => Some(postgres.acquire_scan_permit().await?),
            Database::Sqlite(_) => None,
        };
        let mut session = self.reader_session().await?;
        page_of_orders(&mut session, select_all, filter).await
    }

    /// Up to `limit` events of `subject` after `sequence`, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn history(
        &self,
        subject: &str,
        sequence: u64,
        limit: u32,
    ) -> Result<Rows<Event>, StoreError> {
        const EVENTS_SQL: &str =
            select_events!("WHERE subject = $1 AND sequence > $2 ORDER BY sequence LIMIT $3");
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        let bounded_sql = bounded_sql(EVENTS_SQL, MAX_PAGE_BYTES, "data", "sequence");
        let sql = Sql::texts(EVENTS_SQL.to_owned(), bounded_sql);
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch_within(MAX_PAGE_BYTES, sql, arguments![subject, sequence, limit])
            .await?;
        rows.read(|rows| {
            let events = rows.iter().map(|row| event(row).map(|(_, event)| event));
            events.collect()
        })
    }

    /// One product.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn product(&self, sku: &Sku) -> Result<Option<ProductAndStock>, StoreError> {
        let mut session = self.reader_session().await?;
        let rows = session
            .fetch(
                "SELECT products.sku, state, warehouse, on_hand, reserved
                 FROM products LEFT JOIN shelves ON shelves.sku = products.sku
                 WHERE products.sku = $1",
                arguments![sku.as_str()],
            )
            .await?;
        Ok(products_and_stock(&rows)?.pop())
    }

    /// Up to `filter.limit + 1` products by SKU, up to a size limit.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn products(
        &self,
        filter: &ListProducts,
    ) -> Result<Rows<ProductAndStock>, StoreError> {
        let mut sql = StatementBuilder::new("SELECT sku, state FROM products WHERE true");
        if !filter.include_deleted {
            sql.push(" AND NOT is_deleted");
        }
        if let Some(cursor) = &filter.cursor {
            sql.push(" AND sku > ")
                .bind(sku_of_cursor(cursor).to_owned());
        }
        sql.push(" ORDER BY sku LIMIT ").bind(filter.limit + 1);
        let (page, arguments) = sql.finish();
        let sql = format!(
            "SELECT page.sku, state, warehouse, on_hand, reserved
             FROM ({page}) AS page LEFT JOIN shelves ON shelves.sku = page.sku
             ORDER BY page.sku"
        );
        let mut session = self.reader_session().await?;
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        rows.read(products_and_stock)
    }

    /// The ids of the photos of up to `limit` products that have photos, by SKU. Reads the primary database: a
    /// replica that is behind would let gateways delete files that are in use.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn image_ids(&self, query: &ListImages) -> Result<Rows<ProductImageIds>, StoreError> {
        let mut sql = StatementBuilder::new(
            "SELECT sku, state FROM products WHERE state LIKE '%\"images\":%'",
        );
        if let Some(cursor) = &query.cursor {
            sql.push(" AND sku > ").bind(cursor.to_string());
        }
        sql.push(" ORDER BY sku LIMIT ").bind(query.limit + 1);
        let (sql, arguments) = sql.finish();
        let mut session = self.primary_session().await?;
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        rows.read(|rows| {
            rows.iter()
                .map(|row| {
                    let product: Product = json("product", row.text(1)?)?;
                    Ok(ProductImageIds {
                        sku: product.details.sku,
                        ids: product.images.iter().map(|image| image.id).collect(),
                    })
                })
                .collect()
        })
    }
}

/// Decodes the time and the number of an order.
fn position(row: &Row) -> Result<OrderCursor, StoreError> {
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
    page.is_cut |= page.rows.len() < found_count && found_count > filter.limit as usize;
    Ok(page)
}

async fn one_order(mut session: Session, id: OrderId) -> Result<Option<OrderAndSteps>, StoreError> {
    let rows = fetch_order(&mut session, id).await?;
    Ok(orders_and_steps(&rows)?.pop())
}

/// The rows of one order, for [`orders_and_steps`].
pub(in crate::store) async fn fetch_order(
    session: &mut Session,
    id: OrderId,
) -> Result<Vec<Row>, StoreError> {
    const ORDER_BY_ID_SQL: &str = concat!(orders_and_steps_where_id!(), " = $1");
    session
        .fetch(ORDER_BY_ID_SQL, arguments![id.to_string()])
        .await
}

/// Decodes rows of an order's id and state, and one of its steps or `NULL`s. Rows of the same order are
/// adjacent.
pub(in crate::store) fn orders_and_steps(rows: &[Row]) -> Result<Vec<OrderAndSteps>, StoreError> {
    let mut orders: Vec<OrderAndSteps> = Vec::new();
    let mut last_id = "";
    for row in rows {
        let id = row.text(0)?;
        if id != last_id {
            orders.push((json("order", row.text(1)?)?, Vec::new()));
            last_id = id;
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

/// Decodes rows of a product's SKU and state, and one of its stock levels or `NULL`s. Rows of the same
/// product are adjacent.
fn products_and_stock(rows: &[Row]) -> Result<Vec<ProductAndStock>, StoreError> {
    let mut products: Vec<ProductAndStock> = Vec::new();
    let mut last_sku = "";
    for row in rows {
        let sku = row.text(0)?;
        if sku != last_sku {
            products.push((json("product", row.text(1)?)?, BTreeMap::new()));
            last_sku = sku;
        }
        if let (Some((_, stock_levels)), Some(warehouse)) =
            (products.last_mut(), row.maybe_text(2)?)
        {
            let stock_level = WarehouseStock {
                on_hand: row.integer(3)?,
                reserved: row.integer(4)?,
            };
            stock_levels.insert(parse_field("warehouse", warehouse)?, stock_level);
        }
    }
    Ok(products)
}
