//! Resets a demonstration to its initial state (`POST /demo/reset`): deletes all orders, and restores each
//! stock level to its last counted units. Products, customers and webhook endpoints stay; positions in the
//! feed continue.

use std::collections::BTreeMap;

use shared::{
    event::{Event, EventData, Origin},
    id::{Sku, Warehouse},
};

use super::{
    CONFLICTS, Store, StoreError,
    database::{Session, Sql, arguments},
    feed::end,
    loaded::Known,
    row::{event, json, select_events},
    save,
};
use crate::domain::{
    decision,
    product::Product,
    stamp::DecisionContext,
    stock::{ProductStock, WarehouseStock},
    world::WorkingSet,
};

/// The tables that are emptied.
const EMPTIED: [&str; 9] = [
    "DELETE FROM orders",
    "DELETE FROM order_items",
    "DELETE FROM steps",
    "DELETE FROM payment_references",
    "DELETE FROM shelves",
    "DELETE FROM idempotency",
    "DELETE FROM dead_letters",
    "DELETE FROM deliveries",
    "DELETE FROM figures",
];

impl Store {
    /// Resets the database and returns the number of products.
    ///
    /// # Errors
    /// When the database is unavailable; nothing was changed then.
    pub async fn reset(
        &self,
        origin: &Origin,
        stamp: &DecisionContext,
    ) -> Result<usize, StoreError> {
        let mut attempts = 0;
        loop {
            match self.try_reset(origin, &mut stamp.clone()).await {
                // A deadlock with a batch: try again.
                Err(StoreError::Conflict(why)) if attempts < CONFLICTS => {
                    attempts += 1;
                    tracing::debug!(why, "the reset conflicts with a batch; trying again");
                }
                done => return done,
            }
        }
    }

    async fn try_reset(
        &self,
        origin: &Origin,
        stamp: &mut DecisionContext,
    ) -> Result<usize, StoreError> {
        let mut session = self.transaction().await?;
        // Waits for batches in progress. Batches that wait for this lock are decided again afterwards.
        let alone = Sql::dialects(
            "SELECT 1",
            "LOCK TABLE orders, shelves, products, steps, events IN ACCESS EXCLUSIVE MODE",
        );
        session.control(alone).await?;
        let end = end(&mut session).await?;
        let counted = counted(&mut session).await?;
        let products = products(&mut session).await?;
        for sql in EMPTIED {
            session.execute(sql, Vec::new()).await?;
        }
        let numbers = Sql::dialects("SELECT 1", "ALTER SEQUENCE order_numbers RESTART");
        session.control(numbers).await?;

        let count = products.len();
        let (world, known) = begun_again(products, &counted, origin, stamp);
        save::world(&mut session, &world, &known, stamp.now()).await?;
        // The first new event gets the position after the last old event, which is therefore deleted last.
        // Without new events, SQLite's feed starts again at 1.
        let old = "DELETE FROM events WHERE position <= $1";
        session.execute(old, arguments![end]).await?;
        let told = "UPDATE relay SET position = (SELECT coalesce(min(position), 1) - 1 FROM events)
                    WHERE name <> 'probe'";
        session.execute(told, Vec::new()).await?;
        session.commit().await?;
        Ok(count)
    }
}

type Counted = BTreeMap<(Sku, Warehouse), i64>;

/// The last counted units of each stock level.
async fn counted(session: &mut Session) -> Result<Counted, StoreError> {
    let sql = select_events!("WHERE type = 'stock.adjusted' ORDER BY position");
    let rows = session.fetch(sql, Vec::new()).await?;
    let mut counted = Counted::new();
    for row in &rows {
        let (_, Event { fact, .. }) = event(row)?;
        if let EventData::StockAdjusted {
            sku,
            warehouse,
            on_hand,
            ..
        } = fact
        {
            counted.insert((sku, warehouse), on_hand);
        }
    }
    Ok(counted)
}

async fn products(session: &mut Session) -> Result<Vec<Product>, StoreError> {
    let rows = session
        .fetch("SELECT state FROM products ORDER BY sku", Vec::new())
        .await?;
    rows.iter()
        .map(|row| json("product", row.text(0)?))
        .collect()
}

/// The products and their stock levels after the reset, with the events that create them again.
fn begun_again(
    products: Vec<Product>,
    counted: &Counted,
    origin: &Origin,
    stamp: &mut DecisionContext,
) -> (WorkingSet, Known) {
    let mut world = WorkingSet::default();
    let mut known = Known::default();
    for mut product in products {
        let sku = product.details.sku.clone();
        let mut facts = vec![EventData::ProductCreated {
            product: product.details.clone(),
        }];
        for ((_, warehouse), on_hand) in counted.iter().filter(|((of, _), _)| *of == sku) {
            let shelf = WarehouseStock {
                on_hand: *on_hand,
                reserved: 0,
            };
            put_up(&mut world.shelves, &sku, warehouse, shelf);
            world.dirty.shelves.insert((sku.clone(), warehouse.clone()));
            facts.push(EventData::StockAdjusted {
                sku: sku.clone(),
                warehouse: warehouse.clone(),
                on_hand: *on_hand,
                reason: None,
                is_removed: !product.is_in(warehouse, shelf),
            });
        }
        if product.is_deleted {
            facts.push(EventData::ProductDeleted {});
        }
        for fact in facts {
            product.version += 1;
            let event =
                decision::event(sku.to_string(), product.version, None, origin, fact, stamp);
            world.dirty.events.push(event);
        }
        product.updated_at = stamp.now();
        known.products.insert(sku.clone());
        world.dirty.products.insert(sku.clone());
        world.products.insert(sku, product);
    }
    (world, known)
}

fn put_up(shelves: &mut ProductStock, sku: &Sku, warehouse: &Warehouse, shelf: WarehouseStock) {
    let of_product = shelves.entry(sku.clone()).or_default();
    of_product.insert(warehouse.clone(), shelf);
}
