//! Products: shared by all storefronts and never removed, only soft-deleted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::{
    id::Warehouse,
    money::Money,
    product::{NewProduct, Product as Representation, StockLevel},
};

use super::stock::WarehouseStock;

/// A product without its stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Details set by the operator.
    pub details: NewProduct,
    /// Whether it is soft-deleted.
    pub is_deleted: bool,
    /// Warehouses that it was removed from: they are not shown while nothing of it is there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed_from: BTreeSet<Warehouse>,
    /// The `sequence` of its last event.
    pub version: u64,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

impl Product {
    /// Price per unit.
    pub fn price(&self) -> Money {
        Money {
            amount: self.details.price,
            currency: self.details.currency,
        }
    }

    /// Whether `warehouse` counts as one that the product is in.
    pub fn is_in(&self, warehouse: &Warehouse, shelf: WarehouseStock) -> bool {
        shelf != WarehouseStock::default() || !self.removed_from.contains(warehouse)
    }

    /// The product as callers see it.
    pub fn represent(
        &self,
        shelves: Option<&BTreeMap<Warehouse, WarehouseStock>>,
    ) -> Representation {
        let NewProduct {
            sku,
            name,
            price,
            currency,
            image_urls,
            low_stock_at,
        } = self.details.clone();
        let stock = shelves
            .into_iter()
            .flatten()
            .filter(|(warehouse, shelf)| self.is_in(warehouse, **shelf))
            .map(|(warehouse, shelf)| StockLevel {
                warehouse: warehouse.clone(),
                on_hand: shelf.on_hand,
                reserved: shelf.reserved,
                available: shelf.available(),
            });
        Representation {
            sku,
            name,
            price,
            currency,
            image_urls,
            low_stock_at,
            stock: stock.collect(),
            is_deleted: self.is_deleted,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}
