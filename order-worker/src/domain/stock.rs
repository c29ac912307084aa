//! Stock levels, and the allocation of orders to warehouses.

use std::collections::{BTreeMap, BTreeSet};
use std::{cmp::Reverse, num::NonZeroU32};

use serde_json::json;
use shared::{
    id::{Sku, Warehouse},
    order::{NewItem, StockItem},
    outcome::{Code, Failure},
};

/// Subtracts `items` from `from`: from an identical line if there is one, otherwise from lines with the same
/// product and warehouse. Returns whether all units were there.
pub fn subtract_items(from: &mut Vec<StockItem>, items: &[StockItem]) -> bool {
    let mut was_there = true;
    for item in items {
        if let Some(index) = from.iter().position(|held| held == item) {
            from.remove(index);
            continue;
        }
        let mut left = item.quantity.get();
        from.retain_mut(|held| {
            if left == 0 || (&held.sku, &held.warehouse) != (&item.sku, &item.warehouse) {
                return true;
            }
            let taken = left.min(held.quantity.get());
            left -= taken;
            match NonZeroU32::new(held.quantity.get() - taken) {
                Some(rest) => held.quantity = rest,
                None => return false,
            }
            true
        });
        was_there &= left == 0;
    }
    was_there
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
    pub fn is_sound(self) -> bool {
        0 <= self.reserved && self.reserved <= self.on_hand
    }
}

/// Stock of several products, by SKU and warehouse.
pub type ProductStock = BTreeMap<Sku, BTreeMap<Warehouse, WarehouseStock>>;

/// Maximum number of warehouses of which all combinations are tried.
const MAX_COMBINED: usize = 10;

/// Chooses the warehouses for `wishes` with as few shipments as possible: tries all combinations of up to ten
/// warehouses; with more, repeatedly takes the warehouse that fills most of the remaining units (by name among
/// equals). Returns one result per item and warehouse, in the order of the items; items of the same SKU add up.
///
/// # Errors
/// `OUT_OF_STOCK` naming each SKU with its requested and available units.
pub fn allocate(wishes: &[NewItem], shelves: &ProductStock) -> Result<Vec<StockItem>, Failure> {
    let mut wanted: BTreeMap<&Sku, i64> = BTreeMap::new();
    for wish in wishes {
        *wanted.entry(&wish.sku).or_default() += i64::from(wish.quantity.get());
    }
    refuse_shortage(&wanted, shelves)?;

    let available = |sku: &Sku, warehouse: &Warehouse| {
        shelves
            .get(sku)
            .and_then(|shelf| shelf.get(warehouse))
            .map_or(0, |shelf| shelf.available().max(0))
    };
    let mut warehouses: BTreeSet<&Warehouse> = wanted
        .keys()
        .filter_map(|sku| shelves.get(*sku))
        .flat_map(BTreeMap::keys)
        .collect();
    if let Some(fewest) = fewest(&wanted, &warehouses, available) {
        warehouses = fewest;
    }
    let mut taken: BTreeMap<(&Sku, &Warehouse), i64> = BTreeMap::new();
    while wanted.values().any(|left| *left > 0) {
        let fills = |warehouse: &Warehouse| -> i64 {
            wanted
                .iter()
                .map(|(sku, left)| (*left).min(available(sku, warehouse)))
                .sum()
        };
        // `max_by_key` returns the last of equal elements; reversed, the first by name.
        let Some(best) = warehouses
            .iter()
            .rev()
            .copied()
            .max_by_key(|warehouse| fills(warehouse))
        else {
            break;
        };
        for (sku, left) in &mut wanted {
            let take = (*left).min(available(sku, best));
            if take > 0 {
                *left -= take;
                taken.insert((sku, best), take);
            }
        }
        warehouses.remove(best);
    }
    Ok(split(wishes, taken))
}

/// The smallest set of warehouses that has all units, the first by name among equals; `None` if there are too
/// many warehouses.
fn fewest<'a>(
    wanted: &BTreeMap<&Sku, i64>,
    warehouses: &BTreeSet<&'a Warehouse>,
    available: impl Fn(&Sku, &Warehouse) -> i64,
) -> Option<BTreeSet<&'a Warehouse>> {
    if warehouses.len() > MAX_COMBINED {
        return None;
    }
    let warehouses: Vec<&Warehouse> = warehouses.iter().copied().collect();
    let has_all = |chosen: &u32| {
        wanted.iter().all(|(sku, units)| {
            let places = warehouses.iter().enumerate();
            let places = places.filter(|(index, _)| chosen & (1 << index) != 0);
            let there: i64 = places.map(|(_, place)| available(sku, place)).sum();
            there >= *units
        })
    };
    // One bit per warehouse; the first by name is the lowest.
    let combinations = 1..(1_u32 << warehouses.len());
    let best = combinations
        .filter(has_all)
        .min_by_key(|chosen| (chosen.count_ones(), Reverse(chosen.reverse_bits())))?;
    let chosen = warehouses.iter().enumerate();
    let chosen = chosen.filter(|(index, _)| best & (1 << index) != 0);
    Some(chosen.map(|(_, place)| *place).collect())
}

fn refuse_shortage(wanted: &BTreeMap<&Sku, i64>, shelves: &ProductStock) -> Result<(), Failure> {
    let short: Vec<_> = wanted
        .iter()
        .filter_map(|(sku, requested)| {
            let available: i64 = shelves.get(*sku).map_or(0, |shelf| {
                shelf.values().map(|shelf| shelf.available().max(0)).sum()
            });
            (available < *requested)
                .then(|| json!({ "sku": sku, "requested": requested, "available": available }))
        })
        .collect();
    if short.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = short
        .iter()
        .filter_map(|entry| entry["sku"].as_str())
        .collect();
    Err(Failure::new(
        Code::OutOfStock,
        format!("not enough stock of {}", names.join(", ")),
    )
    .with(json!({ "skus": short })))
}

/// Distributes the taken units over the items, in order.
fn split(wishes: &[NewItem], mut taken: BTreeMap<(&Sku, &Warehouse), i64>) -> Vec<StockItem> {
    let mut items = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let mut left = i64::from(wish.quantity.get());
        for ((_, warehouse), rest) in taken.iter_mut().filter(|((sku, _), _)| **sku == wish.sku) {
            let take = left.min(*rest);
            if let Some(quantity) = u32::try_from(take).ok().and_then(NonZeroU32::new) {
                *rest -= take;
                left -= take;
                items.push(StockItem {
                    sku: wish.sku.clone(),
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

    fn shelves(rows: &[(&str, &str, i64, i64)]) -> ProductStock {
        let mut shelves = ProductStock::new();
        for (sku, warehouse, on_hand, reserved) in rows {
            let shelf = WarehouseStock {
                on_hand: *on_hand,
                reserved: *reserved,
            };
            shelves
                .entry(sku.parse().unwrap())
                .or_default()
                .insert(warehouse.parse().unwrap(), shelf);
        }
        shelves
    }

    fn wish(sku: &str, quantity: u32) -> NewItem {
        NewItem {
            sku: sku.parse().unwrap(),
            quantity: NonZeroU32::new(quantity).unwrap(),
        }
    }

    fn plan(items: &[StockItem]) -> Vec<(String, String, u32)> {
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
    fn single_warehouse_with_all_items_gives_one_shipment() {
        let shelves = shelves(&[
            ("A", "east", 9, 0),
            ("A", "west", 5, 0),
            ("B", "west", 1, 0),
        ]);
        let items = allocate(&[wish("A", 5), wish("B", 1)], &shelves).unwrap();
        assert_eq!(
            plan(&items),
            [
                ("A".into(), "west".into(), 5),
                ("B".into(), "west".into(), 1)
            ]
        );
    }

    #[test]
    fn line_is_split_if_no_warehouse_has_enough() {
        let shelves = shelves(&[("A", "east", 3, 1), ("A", "west", 4, 0)]);
        let items = allocate(&[wish("A", 5)], &shelves).unwrap();
        assert_eq!(
            plan(&items),
            [
                ("A".into(), "east".into(), 1),
                ("A".into(), "west".into(), 4)
            ]
        );
    }

    #[test]
    fn number_of_shipments_is_minimal() {
        // The warehouse that fills most is not one of the two that fill everything.
        let shelves = shelves(&[
            ("A", "big", 4, 0),
            ("B", "big", 4, 0),
            ("A", "left", 6, 0),
            ("B", "right", 6, 0),
        ]);
        let items = allocate(&[wish("A", 6), wish("B", 6)], &shelves).unwrap();
        assert_eq!(
            plan(&items),
            [
                ("A".into(), "left".into(), 6),
                ("B".into(), "right".into(), 6)
            ]
        );
    }

    #[test]
    fn two_lines_of_one_sku_share_stock() {
        let shelves = shelves(&[("A", "east", 3, 0)]);
        assert!(allocate(&[wish("A", 2), wish("A", 1)], &shelves).is_ok());
        assert!(allocate(&[wish("A", 2), wish("A", 2)], &shelves).is_err());
    }

    #[test]
    fn shortage_lists_every_missing_sku() {
        let failure = allocate(
            &[wish("A", 1), wish("B", 2), wish("C", 1)],
            &shelves(&[("A", "e", 1, 1), ("B", "e", 1, 0), ("C", "e", 1, 0)]),
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
