//! Low-stock events: recorded once, when the available units of a product fall to its threshold.

use std::collections::BTreeMap;

use shared::{
    event::EventData,
    id::{Sku, Warehouse},
    order::StockItem,
    outcome::Failure,
};

use crate::domain::{decision::OrderDraft, stock::WarehouseStock, working_set::WorkingSet};

/// Reserves `items` for the order, or for its pending edit with the number `edit_number`. Records an event for each
/// product whose available units fall to its threshold.
pub(super) fn reserve(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    items: Vec<StockItem>,
    edit_number: Option<u32>,
) -> Result<(), Failure> {
    if items.is_empty() {
        return Ok(());
    }
    let mut units_by_product: BTreeMap<Sku, i64> = BTreeMap::new();
    for item in &items {
        *units_by_product.entry(item.sku.clone()).or_default() += i64::from(item.quantity.get());
    }
    draft.record(EventData::StockReserved { items, edit_number })?;
    for (sku, units) in units_by_product {
        if low_stock_threshold(working_set, &sku).is_none() {
            continue;
        }
        let available_before = total_available(working_set, &sku);
        let available_after = available_before - units;
        if let Some(event_data) =
            low_stock_event(working_set, &sku, available_before, available_after)
        {
            draft.record(event_data)?;
        }
    }
    Ok(())
}

/// The event, if `available_after` has fallen to the threshold of the product and `available_before` was above
/// it.
pub(super) fn low_stock_event(
    working_set: &WorkingSet,
    sku: &Sku,
    available_before: i64,
    available_after: i64,
) -> Option<EventData> {
    let low_stock_at = low_stock_threshold(working_set, sku)?;
    (available_after <= low_stock_at && low_stock_at < available_before).then(|| {
        EventData::StockLow {
            sku: sku.clone(),
            available: available_after,
            low_stock_at,
        }
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

fn low_stock_threshold(working_set: &WorkingSet, sku: &Sku) -> Option<i64> {
    working_set.products.get(sku)?.details.low_stock_at
}
