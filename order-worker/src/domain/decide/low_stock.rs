//! Low-stock events: recorded once, when the available units of a product fall to its threshold.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    event::EventData,
    id::{Sku, Warehouse},
    order::StockItem,
    outcome::Failure,
};

use crate::domain::{decision::OrderDraft, stock::WarehouseStock, working_set::WorkingSet};

/// Available units of each product in `items` that has a threshold.
pub(super) fn available_units(working_set: &WorkingSet, items: &[StockItem]) -> BTreeMap<Sku, i64> {
    let skus: BTreeSet<&Sku> = items.iter().map(|item| &item.sku).collect();
    let skus = skus
        .into_iter()
        .filter(|sku| threshold(working_set, sku).is_some());
    skus.map(|sku| (sku.clone(), total_available(working_set, sku)))
        .collect()
}

/// Records an event for each product that was above its threshold `before` and no longer is.
pub(super) fn record_low_stock(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    before: BTreeMap<Sku, i64>,
) -> Result<(), Failure> {
    for (sku, before) in before {
        let reserved = draft.order.held.iter().filter(|item| item.sku == sku);
        let reserved_units: i64 = reserved.map(|item| i64::from(item.quantity.get())).sum();
        if let Some(event_data) =
            low_stock_event(working_set, &sku, before, before - reserved_units)
        {
            draft.record(event_data)?;
        }
    }
    Ok(())
}

/// The event, if `after` has fallen to the threshold of the product and `before` was above it.
pub(super) fn low_stock_event(
    working_set: &WorkingSet,
    sku: &Sku,
    before: i64,
    after: i64,
) -> Option<EventData> {
    let low_stock_at = threshold(working_set, sku)?;
    (after <= low_stock_at && low_stock_at < before).then(|| EventData::StockLow {
        sku: sku.clone(),
        available: after,
        low_stock_at,
    })
}

/// Available units in all warehouses.
pub(super) fn total_available(working_set: &WorkingSet, sku: &Sku) -> i64 {
    let stock_levels = working_set.stock_levels.get(sku);
    let stock_levels = stock_levels.map(BTreeMap::<Warehouse, WarehouseStock>::values);
    stock_levels
        .into_iter()
        .flatten()
        .map(|stock_level| stock_level.available())
        .sum()
}

fn threshold(working_set: &WorkingSet, sku: &Sku) -> Option<i64> {
    working_set.products.get(sku)?.details.low_stock_at
}
