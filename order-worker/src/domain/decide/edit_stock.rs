//! The stock of an edited order: which units it keeps, which it needs in addition and which it releases.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use shared::{
    id::{Sku, Warehouse},
    order::{ItemQuantity, LineItem, StockItem},
    outcome::{Code, Failure},
};

use super::price_edit::EditedOrder;
use crate::domain::{
    amounts::assign_warehouses,
    order::Order,
    stock::{allocate, subtract_items},
    working_set::WorkingSet,
};

/// The line items of an edited order with their warehouses.
pub(super) struct Allocation {
    pub(super) items: Vec<LineItem>,
    /// Additional units.
    pub(super) additional_items: Vec<StockItem>,
}

/// Assigns the line items to warehouses: units that the order has reserved stay where they are, additional ones
/// are allocated. An order whose stock is reserved later gets none now.
///
/// # Errors
/// `OUT_OF_STOCK`.
pub(super) fn allocate_lines(
    working_set: &WorkingSet,
    order: &Order,
    edited_order: &EditedOrder,
) -> Result<Allocation, Failure> {
    if order.awaits_stock || !edited_order.are_items_changed {
        return Ok(Allocation {
            items: edited_order.items.clone(),
            additional_items: Vec::new(),
        });
    }
    let mut reserved_units: BTreeMap<&Sku, Vec<(&Warehouse, u32)>> = BTreeMap::new();
    for item in &order.reserved_items {
        let units_by_warehouse = reserved_units.entry(&item.sku).or_default();
        match units_by_warehouse
            .iter_mut()
            .find(|(warehouse, _)| **warehouse == item.warehouse)
        {
            Some((_, item_units)) => *item_units += item.quantity.get(),
            None => units_by_warehouse.push((&item.warehouse, item.quantity.get())),
        }
    }
    let mut missing_items = Vec::new();
    let mut assigned_units: BTreeMap<&Sku, BTreeMap<Warehouse, u32>> = BTreeMap::new();
    for line in &edited_order.items {
        let mut needed_units = line.quantity.get();
        let units_by_warehouse = assigned_units.entry(&line.sku).or_default();
        for (warehouse, reserved_units) in reserved_units.remove(&line.sku).unwrap_or_default() {
            let assigned_units = reserved_units.min(needed_units);
            needed_units -= assigned_units;
            if assigned_units > 0 {
                units_by_warehouse.insert(warehouse.clone(), assigned_units);
            }
        }
        missing_items.extend(NonZeroU32::new(needed_units).map(|quantity| ItemQuantity {
            sku: line.sku.clone(),
            quantity,
        }));
    }
    let additional_items = allocate(&missing_items, &working_set.stock_levels)?;
    for item in &additional_items {
        if let Some(units_by_warehouse) = assigned_units.get_mut(&item.sku) {
            *units_by_warehouse
                .entry(item.warehouse.clone())
                .or_default() += item.quantity.get();
        }
    }
    let mut assigned_items = Vec::new();
    for line in &edited_order.items {
        let units_by_warehouse = assigned_units.remove(&line.sku).unwrap_or_default();
        assigned_items.extend(units_by_warehouse.into_iter().filter_map(
            |(warehouse, units_at_warehouse)| {
                Some(StockItem {
                    sku: line.sku.clone(),
                    warehouse,
                    quantity: NonZeroU32::new(units_at_warehouse)?,
                })
            },
        ));
    }
    Ok(Allocation {
        items: assign_warehouses(&edited_order.items, &assigned_items),
        additional_items,
    })
}

/// Units that the order or its pending edit has reserved and the edited line items do not need.
pub(super) fn unneeded_items(
    order: &Order,
    additional_items: &[StockItem],
    items: &[LineItem],
) -> Result<Vec<StockItem>, Failure> {
    if order.awaits_stock {
        return Ok(Vec::new());
    }
    let mut unneeded_items = order.reserved_items.clone();
    unneeded_items.extend_from_slice(additional_items);
    let needed_items: Vec<StockItem> = stock_items(items).collect();
    if subtract_items(&mut unneeded_items, &needed_items) && needed_items.len() == items.len() {
        Ok(unneeded_items)
    } else {
        Err(Failure::new(
            Code::Internal,
            "the edited items are not all reserved",
        ))
    }
}

/// Warehouses whose units the edit changes.
pub(super) fn changed_warehouses(order: &Order, items: &[LineItem]) -> BTreeSet<Warehouse> {
    let sum_by_warehouse_and_sku = |lines: &[LineItem]| {
        let mut units_by_warehouse_and_sku: BTreeMap<(Warehouse, Sku), u64> = BTreeMap::new();
        for item in stock_items(lines) {
            let quantity = u64::from(item.quantity.get());
            *units_by_warehouse_and_sku
                .entry((item.warehouse, item.sku))
                .or_default() += quantity;
        }
        units_by_warehouse_and_sku
    };
    let (units_before, units_after) = (
        sum_by_warehouse_and_sku(&order.items),
        sum_by_warehouse_and_sku(items),
    );
    let warehouse_sku_pairs: BTreeSet<_> = units_before.keys().chain(units_after.keys()).collect();
    let changed_pairs = warehouse_sku_pairs
        .into_iter()
        .filter(|pair| units_before.get(*pair) != units_after.get(*pair));
    changed_pairs
        .map(|(warehouse, _)| warehouse.clone())
        .collect()
}

/// The units of line items with a warehouse.
fn stock_items(lines: &[LineItem]) -> impl Iterator<Item = StockItem> {
    lines.iter().filter_map(|line| {
        Some(StockItem {
            sku: line.sku.clone(),
            warehouse: line.warehouse.clone()?,
            quantity: line.quantity,
        })
    })
}
