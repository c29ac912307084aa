//! Products: shared by all storefronts and never removed, only soft-deleted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::{
    id::{ImageId, Warehouse},
    money::Money,
    product::{NewProduct, Product as Representation, ProductImage, StockLevel},
};

use super::stock::WarehouseStock;

/// A product without its stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Details set by the operator.
    pub details: NewProduct,
    /// Uploaded photos in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ProductImage>,
    /// Whether it is soft-deleted.
    pub is_deleted: bool,
    /// Warehouses that the product was removed from; they are hidden as long as they have no stock of it.
    #[serde(
        default,
        rename = "removed_from",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub removed_warehouses: BTreeSet<Warehouse>,
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

    /// The photo with this id.
    pub fn image(&self, id: ImageId) -> Option<&ProductImage> {
        self.images.iter().find(|image| image.id == id)
    }

    /// Whether `warehouse` is listed for the product: it has stock of it, or the product was not removed from
    /// it.
    pub fn is_stocked_in(&self, warehouse: &Warehouse, stock_level: WarehouseStock) -> bool {
        stock_level != WarehouseStock::default() || !self.removed_warehouses.contains(warehouse)
    }

    /// The representation of the product.
    pub fn represent(
        &self,
        stock_levels: Option<&BTreeMap<Warehouse, WarehouseStock>>,
    ) -> Representation {
        let NewProduct {
            sku,
            name,
            price,
            currency,
            image_urls,
            low_stock_at,
        } = self.details.clone();
        let photo_urls = self.images.iter().map(|image| image.url.clone());
        let image_urls = photo_urls.chain(image_urls).collect();
        let stock = stock_levels
            .into_iter()
            .flatten()
            .filter(|(warehouse, stock_level)| self.is_stocked_in(warehouse, **stock_level))
            .map(|(warehouse, stock_level)| StockLevel {
                warehouse: warehouse.clone(),
                on_hand: stock_level.on_hand,
                reserved: stock_level.reserved,
                available: stock_level.available(),
            });
        Representation {
            sku,
            name,
            price,
            currency,
            image_urls,
            images: self.images.clone(),
            low_stock_at,
            stock: stock.collect(),
            is_deleted: self.is_deleted,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}
