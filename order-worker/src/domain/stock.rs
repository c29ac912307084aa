//! Stock levels, and the allocation of orders to warehouses.
//!
//! Reserved units belong to open orders and can't be reserved again; they leave the stock when they are
//! shipped. The working set applies the changes and checks the invariant of [`WarehouseStock`].

use std::collections::{BTreeMap, BTreeSet};
use std::{cmp::Reverse, num::NonZeroU32};

use serde_json::json;
use shared::{
    id::{Sku, Warehouse},
    order::{ItemQuantity, StockItem},
    outcome::{Code, Failure},
};

/// Subtracts `items` from `reduced_items`: from an identical item if there is one, otherwise from items with the same
/// product and warehouse. Returns whether `reduced_items` had all units.
pub fn subtract_items(reduced_items: &mut Vec<StockItem>, items: &[StockItem]) -> bool {
    let mut has_all_units = true;
    for item in items {
        if let Some(index) = reduced_items
            .iter()
            .position(|reduced_item| reduced_item == item)
        {
            reduced_items.remove(index);
            continue;
        }
        let mut missing_units = item.quantity.get();
        reduced_items.retain_mut(|reduced_item| {
            if missing_units == 0
                || (&reduced_item.sku, &reduced_item.warehouse) != (&item.sku, &item.warehouse)
            {
                return true;
            }
            let units = missing_units.min(reduced_item.quantity.get());
            missing_units -= units;
            match NonZeroU32::new(reduced_item.quantity.get() - units) {
                Some(remaining_units) => reduced_item.quantity = remaining_units,
                None => return false,
            }
            true
        });
        has_all_units &= missing_units == 0;
    }
    has_all_units
}

/// Stock of one product in one warehouse. Invariant: `0 ≤ reserved ≤ on_hand`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WarehouseStock {
    /// Units on hand.
    pub on_hand: i64,
    /// Units reserved for open orders.
    pub reserved: i64,
}

impl WarehouseStock {
    /// Units that can be reserved.
    pub fn available(self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Whether the invariant holds.
    pub fn is_valid(self) -> bool {
        0 <= self.reserved && self.reserved <= self.on_hand
    }
}

/// Stock of several products, by SKU and warehouse.
pub type ProductStock = BTreeMap<Sku, BTreeMap<Warehouse, WarehouseStock>>;

/// Maximum number of warehouses of which all combinations are tried.
const MAX_COMBINED_WAREHOUSES: usize = 10;

/// Allocates `requested_items` to warehouses with as few shipments as possible: tries all combinations of up
/// to ten warehouses; with more, repeatedly takes the warehouse that has most of the remaining units (by name
/// among equals). Returns one entry per item and warehouse, in the order of the items; items of the same SKU
/// add up.
///
/// # Errors
/// `OUT_OF_STOCK` naming each SKU with its requested and available units.
pub fn allocate(
    requested_items: &[ItemQuantity],
    stock_levels: &ProductStock,
) -> Result<Vec<StockItem>, Failure> {
    let mut remaining_units: BTreeMap<&Sku, i64> = BTreeMap::new();
    for item in requested_items {
        *remaining_units.entry(&item.sku).or_default() += i64::from(item.quantity.get());
    }
    ensure_available(&remaining_units, stock_levels)?;

    let available_at = |sku: &Sku, warehouse: &Warehouse| {
        stock_levels
            .get(sku)
            .and_then(|stock_by_warehouse| stock_by_warehouse.get(warehouse))
            .map_or(0, |stock_level| stock_level.available().max(0))
    };
    let mut warehouses: BTreeSet<&Warehouse> = remaining_units
        .keys()
        .filter_map(|sku| stock_levels.get(*sku))
        .flat_map(BTreeMap::keys)
        .collect();
    if let Some(smallest_set) = smallest_warehouse_set(&remaining_units, &warehouses, available_at)
    {
        warehouses = smallest_set;
    }
    let mut allocated_units: BTreeMap<(&Sku, &Warehouse), i64> = BTreeMap::new();
    while remaining_units
        .values()
        .any(|missing_units| *missing_units > 0)
    {
        let fillable_units = |warehouse: &Warehouse| -> i64 {
            remaining_units
                .iter()
                .map(|(sku, missing_units)| (*missing_units).min(available_at(sku, warehouse)))
                .sum()
        };
        // `max_by_key` returns the last of equal elements; reversed, the first by name.
        let Some(best_warehouse) = warehouses
            .iter()
            .rev()
            .copied()
            .max_by_key(|warehouse| fillable_units(warehouse))
        else {
            break;
        };
        for (sku, missing_units) in &mut remaining_units {
            let units = (*missing_units).min(available_at(sku, best_warehouse));
            if units > 0 {
                *missing_units -= units;
                allocated_units.insert((sku, best_warehouse), units);
            }
        }
        warehouses.remove(best_warehouse);
    }
    Ok(distribute(requested_items, allocated_units))
}

/// The smallest set of warehouses that has all units, the first by name among equals; `None` if there are too
/// many warehouses.
fn smallest_warehouse_set<'a>(
    remaining_units: &BTreeMap<&Sku, i64>,
    warehouses: &BTreeSet<&'a Warehouse>,
    available_at: impl Fn(&Sku, &Warehouse) -> i64,
) -> Option<BTreeSet<&'a Warehouse>> {
    if warehouses.len() > MAX_COMBINED_WAREHOUSES {
        return None;
    }
    let warehouse_list: Vec<&Warehouse> = warehouses.iter().copied().collect();
    let has_all_units = |combination: &u32| {
        remaining_units.iter().all(|(sku, required_units)| {
            let chosen_warehouses = warehouse_list.iter().enumerate();
            let chosen_warehouses =
                chosen_warehouses.filter(|(index, _)| combination & (1 << index) != 0);
            let available_units: i64 = chosen_warehouses
                .map(|(_, warehouse)| available_at(sku, warehouse))
                .sum();
            available_units >= *required_units
        })
    };
    // One bit per warehouse; the first by name is the lowest.
    let combinations = 1..(1_u32 << warehouse_list.len());
    let best_combination = combinations
        .filter(has_all_units)
        .min_by_key(|combination| {
            (
                combination.count_ones(),
                Reverse(combination.reverse_bits()),
            )
        })?;
    let chosen_warehouses = warehouse_list.iter().enumerate();
    let chosen_warehouses =
        chosen_warehouses.filter(|(index, _)| best_combination & (1 << index) != 0);
    Some(chosen_warehouses.map(|(_, warehouse)| *warehouse).collect())
}

fn ensure_available(
    remaining_units: &BTreeMap<&Sku, i64>,
    stock_levels: &ProductStock,
) -> Result<(), Failure> {
    let shortages: Vec<_> = remaining_units
        .iter()
        .filter_map(|(sku, requested_units)| {
            let available_units: i64 = stock_levels.get(*sku).map_or(0, |stock_by_warehouse| {
                stock_by_warehouse
                    .values()
                    .map(|stock_level| stock_level.available().max(0))
                    .sum()
            });
            (available_units < *requested_units)
                .then(|| json!({ "sku": sku, "requested": requested_units, "available": available_units }))
        })
        .collect();
    if shortages.is_empty() {
        return Ok(());
    }
    let sku_names: Vec<&str> = shortages
        .iter()
        .filter_map(|shortage| shortage["sku"].as_str())
        .collect();
    Err(Failure::new(
        Code::OutOfStock,
        format!("not enough stock of {}", sku_names.join(", ")),
    )
    .with(json!({ "skus": shortages })))
}

/// Distributes the allocated units over the requested items, in their order.
fn distribute(
    requested_items: &[ItemQuantity],
    mut allocated_units: BTreeMap<(&Sku, &Warehouse), i64>,
) -> Vec<StockItem> {
    let mut items = Vec::with_capacity(requested_items.len());
    for item in requested_items {
        let mut missing_units = i64::from(item.quantity.get());
        for ((_, warehouse), unassigned_units) in allocated_units
            .iter_mut()
            .filter(|((sku, _), _)| **sku == item.sku)
        {
            let units = missing_units.min(*unassigned_units);
            if let Some(quantity) = u32::try_from(units).ok().and_then(NonZeroU32::new) {
                *unassigned_units -= units;
                missing_units -= units;
                items.push(StockItem {
                    sku: item.sku.clone(),
                    warehouse: (*warehouse).clone(),
                    quantity,
                });
            }
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock_levels(rows: &[(&str, &str, i64, i64)]) -> ProductStock {
        let mut stock_levels = ProductStock::new();
        for (sku_text, warehouse_text, on_hand, reserved_units) in rows {
            let stock_level = WarehouseStock {
                on_hand: *on_hand,
                reserved: *reserved_units,
            };
            stock_levels
                .entry(sku_text.parse().unwrap())
                .or_default()
                .insert(warehouse_text.parse().unwrap(), stock_level);
        }
        stock_levels
    }

    fn item(sku_text: &str, quantity: u32) -> ItemQuantity {
        ItemQuantity {
            sku: sku_text.parse().unwrap(),
            quantity: NonZeroU32::new(quantity).unwrap(),
        }
    }

    fn to_tuples(items: &[StockItem]) -> Vec<(String, String, u32)> {
        items
            .iter()
            .map(|item| {
                (
                    item.sku.to_string(),
                    item.warehouse.to_string(),
                    item.quantity.get(),
                )
            })
            .collect()
    }

    #[test]
    fn single_warehouse_with_everything_is_one_shipment() {
        let stock_levels = stock_levels(&[
            ("A", "east", 9, 0),
            ("A", "west", 5, 0),
            ("B", "west", 1, 0),
        ]);
        let items = allocate(&[item("A", 5), item("B", 1)], &stock_levels).unwrap();
        assert_eq!(
            to_tuples(&items),
            [
                ("A".into(), "west".into(), 5),
                ("B".into(), "west".into(), 1)
            ]
        );
    }

    #[test]
    fn line_is_split_if_no_warehouse_has_enough() {
        let stock_levels = stock_levels(&[("A", "east", 3, 1), ("A", "west", 4, 0)]);
        let items = allocate(&[item("A", 5)], &stock_levels).unwrap();
        assert_eq!(
            to_tuples(&items),
            [
                ("A".into(), "east".into(), 1),
                ("A".into(), "west".into(), 4)
            ]
        );
    }

    #[test]
    fn number_of_shipments_is_minimal() {
        // The warehouse that fills most is not one of the two that fill everything.
        let stock_levels = stock_levels(&[
            ("A", "big", 4, 0),
            ("B", "big", 4, 0),
            ("A", "left", 6, 0),
            ("B", "right", 6, 0),
        ]);
        let items = allocate(&[item("A", 6), item("B", 6)], &stock_levels).unwrap();
        assert_eq!(
            to_tuples(&items),
            [
                ("A".into(), "left".into(), 6),
                ("B".into(), "right".into(), 6)
            ]
        );
    }

    #[test]
    fn two_lines_of_one_sku_share_stock() {
        let stock_levels = stock_levels(&[("A", "east", 3, 0)]);
        assert!(allocate(&[item("A", 2), item("A", 1)], &stock_levels).is_ok());
        assert!(allocate(&[item("A", 2), item("A", 2)], &stock_levels).is_err());
    }

    #[test]
    fn shortage_lists_every_missing_sku() {
        let failure = allocate(
            &[item("A", 1), item("B", 2), item("C", 1)],
            &stock_levels(&[("A", "e", 1, 1), ("B", "e", 1, 0), ("C", "e", 1, 0)]),
        )
        .unwrap_err();
        assert_eq!(failure.code, Code::OutOfStock);
        assert_eq!(
            failure.details,
            json!({"skus": [
                {"sku": "A", "requested": 1, "available": 0},
                {"sku": "B", "requested": 2, "available": 1},
            ]})
        );
    }
}
