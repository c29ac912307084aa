//! What callers ask for, over the readers' connections.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use shared::{
    customer::{Customer, ListCustomers},
    event::Event,
    id::{CustomerId, OrderId, Sku, Warehouse},
    order::ListOrders,
    product::ListProducts,
};
use sqlx::{QueryBuilder, Row, sqlite::SqliteRow};

use super::{
    Sqlite, StoreError,
    row::{event, json, millis, select_events, select_steps, shelf, step},
};
use crate::domain::{
    order::Order,
    product::Product,
    step::{StepKey, StepRow},
    stock::{Shelf, Shelves},
};

/// Where a list of orders goes on: after the order with this creation time and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderCursor {
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// The order's number.
    pub number: i64,
}

/// An order with its steps that are not done.
pub type OrderAndSteps = (Order, Vec<StepRow>);

/// A product with its stock by warehouse.
pub type ProductAndShelves = (Product, BTreeMap<Warehouse, Shelf>);

impl Sqlite {
    /// One order.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn order(&self, id: OrderId) -> Result<Option<OrderAndSteps>, StoreError> {
        let mut snapshot = self.readers.begin().await?;
        let row = sqlx::query("SELECT state FROM orders WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&mut *snapshot)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let rows = sqlx::query(select_steps!("WHERE order_id = ?1"))
            .bind(id.to_string())
            .fetch_all(&mut *snapshot)
            .await?;
        let steps = rows.iter().map(step).collect::<Result<_, _>>()?;
        Ok(Some((json("order", row.try_get(0)?)?, steps)))
    }

    /// One step that is not done, and its order.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn step(&self, key: &StepKey) -> Result<Option<(StepRow, Order)>, StoreError> {
        let found = self.order(key.order_id).await?;
        Ok(found.and_then(|(order, steps)| {
            let row = steps.into_iter().find(|row| row.key == *key)?;
            Some((row, order))
        }))
    }

    /// Up to `filter.limit + 1` orders, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn orders(
        &self,
        filter: &ListOrders,
        after: Option<OrderCursor>,
    ) -> Result<Vec<OrderAndSteps>, StoreError> {
        // By sku, the list is read off order_items; else off the index of the narrowest filter.
        let (from, time) = match &filter.sku {
            Some(_) => (
                "order_items AS line JOIN orders USING (number)",
                "line.created_at",
            ),
            None => ("orders", "orders.created_at"),
        };
        let mut sql = QueryBuilder::new("SELECT orders.state FROM ");
        sql.push(from).push(" WHERE true");
        if let Some(sku) = &filter.sku {
            sql.push(" AND line.sku = ").push_bind(sku.to_string());
        }
        if let Some(status) = filter.status {
            sql.push(" AND orders.status = ").push_bind(status.as_str());
        }
        if let Some(customer) = filter.customer_id {
            sql.push(" AND orders.customer_id = ")
                .push_bind(customer.to_string());
        }
        if let Some(storefront) = &filter.storefront {
            sql.push(" AND orders.storefront = ")
                .push_bind(storefront.to_string());
        }
        if let Some(after) = filter.created_after {
            sql.push(" AND ")
                .push(time)
                .push(" >= ")
                .push_bind(ceil_millis(after));
        }
        if let Some(before) = filter.created_before {
            sql.push(" AND ")
                .push(time)
                .push(" < ")
                .push_bind(ceil_millis(before));
        }
        if !filter.include_deleted {
            sql.push(" AND orders.is_deleted = 0");
        }
        if let Some(OrderCursor {
            created_at_ms,
            number,
        }) = after
        {
            sql.push(" AND (").push(time).push(", number) < (");
            sql.push_bind(created_at_ms)
                .push(", ")
                .push_bind(number)
                .push(")");
        }
        sql.push(" ORDER BY ")
            .push(time)
            .push(" DESC, number DESC LIMIT ")
            .push_bind(filter.limit + 1);

        let mut snapshot = self.readers.begin().await?;
        let rows = sql.build().fetch_all(&mut *snapshot).await?;
        let orders: Vec<Order> = rows
            .iter()
            .map(|row| json("order", row.try_get(0)?))
            .collect::<Result<_, _>>()?;
        let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
        let rows = sqlx::query(select_steps!(
            "WHERE order_id IN (SELECT value FROM json_each(?1))"
        ))
        .bind(serde_json::to_string(&ids).unwrap_or_default())
        .fetch_all(&mut *snapshot)
        .await?;
        let mut steps: HashMap<OrderId, Vec<StepRow>> = HashMap::new();
        for row in rows {
            let row = step(&row)?;
            steps.entry(row.key.order_id).or_default().push(row);
        }
        Ok(orders
            .into_iter()
            .map(|order| (steps.remove(&order.id).unwrap_or_default(), order))
            .map(swap)
            .collect())
    }

    /// Up to `limit` events of `subject` after its `sequence`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn history(
        &self,
        subject: &str,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query(select_events!(
            "WHERE subject = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3"
        ))
        .bind(subject)
        .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| event(row).map(|(_, event)| event))
            .collect()
    }

    /// One product.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn product(&self, sku: &Sku) -> Result<Option<ProductAndShelves>, StoreError> {
        let row = sqlx::query("SELECT state FROM products WHERE sku = ?1")
            .bind(sku.as_str())
            .fetch_optional(&self.readers)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let product: Product = json("product", row.try_get(0)?)?;
        let mut shelves = self.shelves_of(&[sku]).await?;
        Ok(Some((product, shelves.remove(sku).unwrap_or_default())))
    }

    /// Up to `filter.limit + 1` products by sku.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn products(
        &self,
        filter: &ListProducts,
    ) -> Result<Vec<ProductAndShelves>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT state FROM products WHERE true");
        if !filter.include_deleted {
            sql.push(" AND is_deleted = 0");
        }
        if let Some(sku) = &filter.cursor {
            sql.push(" AND sku > ").push_bind(sku.clone());
        }
        sql.push(" ORDER BY sku LIMIT ").push_bind(filter.limit + 1);
        let rows = sql.build().fetch_all(&self.readers).await?;
        let products: Vec<Product> = rows
            .iter()
            .map(|row| json("product", row.try_get(0)?))
            .collect::<Result<_, _>>()?;
        let skus: Vec<&Sku> = products
            .iter()
            .map(|product| &product.details.sku)
            .collect();
        let mut shelves = self.shelves_of(&skus).await?;
        Ok(products
            .into_iter()
            .map(|product| {
                (
                    shelves.remove(&product.details.sku).unwrap_or_default(),
                    product,
                )
            })
            .map(swap)
            .collect())
    }

    async fn shelves_of(&self, skus: &[&Sku]) -> Result<Shelves, StoreError> {
        let rows = sqlx::query(
            "SELECT sku, warehouse, on_hand, reserved
             FROM shelves
             WHERE sku IN (SELECT value FROM json_each(?1))",
        )
        .bind(serde_json::to_string(skus).unwrap_or_default())
        .fetch_all(&self.readers)
        .await?;
        let mut shelves = Shelves::new();
        for row in rows {
            shelf(&row, &mut shelves)?;
        }
        Ok(shelves)
    }

    /// One customer.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn customer(&self, id: CustomerId) -> Result<Option<Customer>, StoreError> {
        let row = sqlx::query("SELECT state FROM customers WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| json("customer", row.try_get(0)?)).transpose()
    }

    /// Up to `filter.limit + 1` customers, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn customers(&self, filter: &ListCustomers) -> Result<Vec<Customer>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT state FROM customers WHERE true");
        if let Some(storefront) = &filter.storefront {
            sql.push(" AND storefront = ")
                .push_bind(storefront.to_string());
        }
        if let Some(id) = &filter.cursor {
            sql.push(" AND id < ").push_bind(id.clone());
        }
        sql.push(" ORDER BY id DESC LIMIT ")
            .push_bind(filter.limit + 1);
        let rows: Vec<SqliteRow> = sql.build().fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| json("customer", row.try_get(0)?))
            .collect()
    }
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// The first whole millisecond at or after `time`: what is stored is cut to milliseconds.
fn ceil_millis(time: Timestamp) -> i64 {
    let whole = millis(time);
    whole + i64::from(time.subsec_nanosecond() % 1_000_000 > 0)
}
