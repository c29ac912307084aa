//! Resets a demonstration to its initial state (`POST /demo/reset`): deletes all orders, and restores each
//! stock level to its last counted units. Products, customers and webhook endpoints stay; positions in the
//! feed continue.

use std::collections::BTreeMap;

use shared::{
    event::{Event, EventData, Origin},
    id::{Sku, Warehouse},
};

use crate::{
    domain::{
        decision,
        decision_context::DecisionContext,
        product::Product,
        stock::{ProductStock, WarehouseStock},
        working_set::WorkingSet,
    },
    store::{
        MAX_CONFLICTS, Store, StoreError,
        feed::events::read_end_position,
        sql::{
            decode::{event_at, parse_json, select_events},
            session::Session,
            statement::{Sql, arguments},
        },
        transaction::{loaded::LoadedRows, save},
    },
};

/// The tables that are emptied.
const DELETE_STATEMENTS: [&str; 12] = [
    "DELETE FROM orders",
    "DELETE FROM order_items",
    "DELETE FROM order_returns",
    "DELETE FROM order_tags",
    "DELETE FROM steps",
    "DELETE FROM payment_references",
    "DELETE FROM shelves",
    "DELETE FROM idempotency",
    "DELETE FROM dead_letters",
    "DELETE FROM deliveries",
    "DELETE FROM messages",
    "DELETE FROM figures",
];

impl Store {
    /// Resets the database and returns the number of products.
    ///
    /// # Errors
    /// When the database is unavailable; nothing was changed then.
    pub async fn reset_demo(
        &self,
        origin: &Origin,
        context: &DecisionContext,
    ) -> Result<usize, StoreError> {
        let mut conflict_count = 0;
        loop {
            match self.try_reset_demo(origin, &mut context.clone()).await {
                // A deadlock with a batch: try again.
                Err(StoreError::Conflict(message)) if conflict_count < MAX_CONFLICTS => {
                    conflict_count += 1;
                    tracing::debug!(
                        reason = message,
                        "the reset conflicts with a batch; trying again"
                    );
                }
                reset_result => return reset_result,
            }
        }
    }

    async fn try_reset_demo(
        &self,
        origin: &Origin,
        context: &mut DecisionContext,
    ) -> Result<usize, StoreError> {
        let mut session = self.transaction().await?;
        // Waits for batches in progress. Batches that wait for this lock are decided again afterwards.
        let lock_sql = Sql::for_dialects(
            "SELECT 1",
            "LOCK TABLE orders, shelves, products, steps, events IN ACCESS EXCLUSIVE MODE",
        );
        session.execute_batch(lock_sql).await?;
        let feed_end = read_end_position(&mut session).await?;
        let last_counts = load_last_counts(&mut session).await?;
        let products = load_products(&mut session).await?;
        for sql in DELETE_STATEMENTS {
            session.execute(sql, Vec::new()).await?;
        }
        let restart_numbers_sql =
            Sql::for_dialects("SELECT 1", "ALTER SEQUENCE order_numbers RESTART");
        session.execute_batch(restart_numbers_sql).await?;

        let product_count = products.len();
        let (working_set, loaded_rows) =
            initial_working_set(products, &last_counts, origin, context);
        let (now, cipher) = (context.now(), &self.cipher);
        save::save_changes(&mut session, &working_set, &loaded_rows, now, cipher).await?;
        // The first new event gets the position after the last old event, which is therefore deleted last.
        // Without new events, SQLite's feed starts again at 1.
        let delete_events_sql = "DELETE FROM events WHERE position <= $1";
        session
            .execute(delete_events_sql, arguments![feed_end])
            .await?;
        let update_positions_sql =
            "UPDATE relay SET position = (SELECT coalesce(min(position), 1) - 1 FROM events)
                    WHERE name <> 'probe'";
        session.execute(update_positions_sql, Vec::new()).await?;
        session.commit().await?;
        Ok(product_count)
    }
}

type LastCounts = BTreeMap<(Sku, Warehouse), i64>;

/// The last counted units of each stock level.
async fn load_last_counts(session: &mut Session) -> Result<LastCounts, StoreError> {
    let sql = select_events!("WHERE type = 'stock.adjusted' ORDER BY position");
    let rows = session.fetch(sql, Vec::new()).await?;
    let mut last_counts = LastCounts::new();
    for row in &rows {
        let (_, Event { event_data, .. }) = event_at(row)?;
        if let EventData::StockAdjusted {
            sku,
            warehouse,
            on_hand,
            ..
        } = event_data
        {
            last_counts.insert((sku, warehouse), on_hand);
        }
    }
    Ok(last_counts)
}

async fn load_products(session: &mut Session) -> Result<Vec<Product>, StoreError> {
    let rows = session
        .fetch("SELECT state FROM products ORDER BY sku", Vec::new())
        .await?;
    rows.iter()
        .map(|row| parse_json("product", row.text(0)?))
        .collect()
}

/// The products and their stock levels after the reset, with the events that create them again.
fn initial_working_set(
    products: Vec<Product>,
    last_counts: &LastCounts,
    origin: &Origin,
    context: &mut DecisionContext,
) -> (WorkingSet, LoadedRows) {
    let mut working_set = WorkingSet::default();
    let mut loaded_rows = LoadedRows::default();
    for mut product in products {
        let sku = product.details.sku.clone();
        let mut events_data = vec![EventData::ProductCreated {
            product: product.details.clone(),
        }];
        if !product.images.is_empty() {
            events_data.push(EventData::ProductUpdated {
                product: product.details.clone(),
                images: product.images.clone(),
            });
        }
        for ((_, warehouse), on_hand) in last_counts
            .iter()
            .filter(|((counted_sku, _), _)| *counted_sku == sku)
        {
            let stock_level = WarehouseStock {
                on_hand: *on_hand,
                reserved: 0,
            };
            set_stock_level(&mut working_set.stock_levels, &sku, warehouse, stock_level);
            working_set
                .changes
                .stock_levels
                .insert((sku.clone(), warehouse.clone()));
            events_data.push(EventData::StockAdjusted {
                sku: sku.clone(),
                warehouse: warehouse.clone(),
                on_hand: *on_hand,
                reason: None,
                is_removed: !product.is_stocked_in(warehouse, stock_level),
            });
        }
        if product.is_deleted {
            events_data.push(EventData::ProductDeleted {});
        }
        for event_data in events_data {
            product.version += 1;
            let event = decision::new_event(
                sku.to_string(),
                product.version,
                None,
                origin,
                event_data,
                context,
            );
            working_set.changes.events.push(event);
        }
        product.updated_at = context.now();
        loaded_rows.products.insert(sku.clone());
        working_set.changes.products.insert(sku.clone());
        working_set.products.insert(sku, product);
    }
    (working_set, loaded_rows)
}

fn set_stock_level(
    stock_levels: &mut ProductStock,
    sku: &Sku,
    warehouse: &Warehouse,
    stock_level: WarehouseStock,
) {
    let product_stock = stock_levels.entry(sku.clone()).or_default();
    product_stock.insert(warehouse.clone(), stock_level);
}
