//! Whole-database reads for `order-worker verify`: by pages, so that a million orders need no
//! more memory than a thousand.

use std::collections::HashMap;

use anyhow::Context;
use jiff::Timestamp;
use shared::{event::Event, id::OrderId};
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    StoreError,
    outbox::Positioned,
    row::{event, json, millis, select_events, select_steps, shelf, step, timestamp},
    sqlite::path,
};
use crate::domain::{order::Order, product::Product, step::StepRow, stock::Shelves};

/// A step that is not as it should be.
#[derive(Debug, Clone)]
pub struct StepAudit {
    /// The step.
    pub row: StepRow,
    /// Its message should have been sent by then.
    pub publish_at: Option<Timestamp>,
}

/// One moment of the whole database: what is written meanwhile is not seen. The worker may be
/// running; nothing is locked.
pub struct Audit {
    snapshot: SqliteConnection,
}

impl Audit {
    /// Opens the database that `url` names, as it is now.
    ///
    /// # Errors
    /// When it is not there or can't be read.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let path = path(url)?;
        let options = SqliteConnectOptions::new().filename(&path).read_only(true);
        let context = || format!("can't read {}", path.display());
        let mut snapshot = SqliteConnection::connect_with(&options)
            .await
            .with_context(context)?;
        sqlx::raw_sql("BEGIN")
            .execute(&mut snapshot)
            .await
            .with_context(context)?;
        // The snapshot begins with the first read.
        sqlx::query("SELECT count(*) FROM relay")
            .execute(&mut snapshot)
            .await
            .with_context(context)?;
        Ok(Self { snapshot })
    }

    /// Up to `limit` orders after `number`, by number, as stored.
    ///
    /// # Errors
    /// When the database is away, or a row can't be understood.
    pub async fn orders(&mut self, number: i64, limit: u32) -> Result<Vec<Order>, StoreError> {
        let rows =
            sqlx::query("SELECT state FROM orders WHERE number > ?1 ORDER BY number LIMIT ?2")
                .bind(number)
                .bind(limit)
                .fetch_all(&mut self.snapshot)
                .await?;
        rows.iter()
            .map(|row| json("order", row.try_get(0)?))
            .collect()
    }

    /// All events of `subjects`, by subject and sequence.
    ///
    /// # Errors
    /// When the database is away, or a row can't be understood.
    pub async fn events(&mut self, subjects: &[String]) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query(select_events!(
            "WHERE subject IN (SELECT value FROM json_each(?1))
             ORDER BY subject, sequence"
        ))
        .bind(serde_json::to_string(subjects).unwrap_or_default())
        .fetch_all(&mut self.snapshot)
        .await?;
        rows.iter()
            .map(|row| event(row).map(|(_, event)| event))
            .collect()
    }

    /// Up to `limit` events after `position` that move stock or make orders.
    ///
    /// # Errors
    /// When the database is away, or a row can't be understood.
    pub async fn stock_events(
        &mut self,
        position: i64,
        limit: u32,
    ) -> Result<Vec<Positioned>, StoreError> {
        let rows = sqlx::query(select_events!("WHERE position > ?1
               AND type IN ('stock.reserved', 'stock.released', 'stock.adjusted', 'shipment.shipped')
             ORDER BY position
             LIMIT ?2"))
        .bind(position)
        .bind(limit)
        .fetch_all(&mut self.snapshot)
        .await?;
        rows.iter()
            .map(|row| event(row).map(|(position, event)| Positioned { position, event }))
            .collect()
    }

    /// Every product as stored.
    ///
    /// # Errors
    /// When the database is away, or a row can't be understood.
    pub async fn products(&mut self) -> Result<Vec<Product>, StoreError> {
        let rows = sqlx::query("SELECT state FROM products ORDER BY sku")
            .fetch_all(&mut self.snapshot)
            .await?;
        rows.iter()
            .map(|row| json("product", row.try_get(0)?))
            .collect()
    }

    /// Every shelf as stored.
    ///
    /// # Errors
    /// When the database is away, or a row can't be understood.
    pub async fn shelves(&mut self) -> Result<Shelves, StoreError> {
        let rows = sqlx::query("SELECT sku, warehouse, on_hand, reserved FROM shelves")
            .fetch_all(&mut self.snapshot)
            .await?;
        let mut shelves = Shelves::new();
        for row in rows {
            shelf(&row, &mut shelves)?;
        }
        Ok(shelves)
    }

    /// Orders without a single event, and events of orders that are not there, by id.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn orphans(&mut self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT subject FROM events
             WHERE type = 'order.created' AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = events.subject)
             ORDER BY position",
        )
        .fetch_all(&mut self.snapshot)
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Steps that should have been sent before `deadline`, and steps of orders that are not there.
    ///
    /// # Errors
    /// When the database is away, or a row can't be understood.
    pub async fn overdue_steps(
        &mut self,
        deadline: Timestamp,
    ) -> Result<Vec<StepAudit>, StoreError> {
        let rows = sqlx::query(select_steps!("WHERE publish_at < ?1 OR NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = steps.order_id)
             ORDER BY due_at"))
        .bind(millis(deadline))
        .fetch_all(&mut self.snapshot)
        .await?;
        rows.iter()
            .map(|row| {
                let publish_at: Option<i64> = row.try_get(4)?;
                let publish_at = publish_at.map(timestamp).transpose()?;
                Ok(StepAudit {
                    row: step(row)?,
                    publish_at,
                })
            })
            .collect()
    }

    /// Every step by its order.
    ///
    /// # Errors
    /// When the database is away, or a row can't be understood.
    pub async fn all_steps(&mut self) -> Result<HashMap<OrderId, Vec<StepRow>>, StoreError> {
        let rows = sqlx::query(select_steps!(""))
            .fetch_all(&mut self.snapshot)
            .await?;
        let mut steps: HashMap<OrderId, Vec<StepRow>> = HashMap::new();
        for row in &rows {
            let row = step(row)?;
            steps.entry(row.key.order_id).or_default().push(row);
        }
        Ok(steps)
    }
}
