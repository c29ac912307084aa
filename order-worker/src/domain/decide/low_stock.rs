//! Low-stock events: emitted once, when the available units fall to the threshold.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    event::EventData,
    id::{Sku, Warehouse},
    order::StockItem,
    outcome::Failure,
};

use crate::domain::{decision::OrderDraft, stock::WarehouseStock, working_set::WorkingSet};

/// Available units of each product in `items` that has a threshold.
pub(super) fn available(world: &WorkingSet, items: &[StockItem]) -> BTreeMap<Sku, i64> {
    let skus: BTreeSet<&Sku> = items.iter().map(|item| &item.sku).collect();
    let skus = skus
        .into_iter()
        .filter(|sku| threshold(world, sku).is_some());
    skus.map(|sku| (sku.clone(), total(world, sku))).collect()
}

/// Emits events for products that were above their threshold `before` and no longer are.
pub(super) fn tell(
    draft: &mut OrderDraft<'_>,
    world: &WorkingSet,
    before: BTreeMap<Sku, i64>,
) -> Result<(), Failure> {
    for (sku, before) in before {
        let held = draft.order.held.iter().filter(|item| item.sku == sku);
        let taken: i64 = held.map(|item| i64::from(item.quantity.get())).sum();
        if let Some(fact) = falls(world, &sku, before, before - taken) {
            draft.record(fact)?;
        }
    }
    Ok(())
}

/// The event for a product whose available units change from `before` to `after`.
pub(super) fn falls(world: &WorkingSet, sku: &Sku, before: i64, after: i64) -> Option<EventData> {
    let low_stock_at = threshold(world, sku)?;
    (after <= low_stock_at && low_stock_at < before).then(|| EventData::StockLow {
        sku: sku.clone(),
        available: after,
        low_stock_at,
    })
}

/// Available units in all warehouses.
pub(super) fn total(world: &WorkingSet, sku: &Sku) -> i64 {
    let shelves = world.shelves.get(sku);
    let shelves = shelves.map(BTreeMap::<Warehouse, WarehouseStock>::values);
    shelves
        .into_iter()
        .flatten()
        .map(|shelf| shelf.available())
        .sum()
}

fn threshold(world: &WorkingSet, sku: &Sku) -> Option<i64> {
    world.products.get(sku)?.details.low_stock_at
}
