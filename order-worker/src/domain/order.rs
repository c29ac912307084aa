//! The order: its state, what can be said of it, and in `fold` how each event changes it. Folding an order's
//! events gives its state; nothing else does.

mod fold;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::{
    id::{CustomerId, OrderId, Sku, Storefront, Warehouse},
    money::{Currency, Money},
    order::{
        Address, CancelReason, InProgress, LineItem, Order as Representation, OrderStatus, Payment,
        Shipment, ShipmentStatus, StockItem,
    },
    outcome::Failure,
};

pub use self::fold::Misfit;
use super::{step::StepRow, stock::take_away};

/// An order's whole state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// UUIDv7.
    pub id: OrderId,
    /// For people.
    pub number: i64,
    /// Who sold it.
    pub storefront: Storefront,
    /// Who bought it.
    pub customer_id: CustomerId,
    /// The importing system's id.
    pub external_id: Option<String>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why it was cancelled.
    pub cancel_reason: Option<CancelReason>,
    /// Of every amount.
    pub currency: Currency,
    /// Minor units.
    pub total: i64,
    /// What was bought.
    pub items: Vec<LineItem>,
    /// Nothing is done for it before the owner approves.
    #[serde(default)]
    pub awaits_approval: bool,
    /// Its stock is still to be taken.
    #[serde(default)]
    pub awaits_stock: bool,
    /// What it still holds in the warehouses: reserved and neither shipped nor released.
    pub held: Vec<StockItem>,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// The provider's token.
    pub payment_method: String,
    /// Where the customer goes on after having paid at a page of the provider's, as long as that is to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// The money's side.
    pub payment: Payment,
    /// Minor units that are to be given back in all, whether they have been or not.
    #[serde(default)]
    pub refund_due: i64,
    /// The goods' side.
    pub shipments: Vec<Shipment>,
    /// The caller's own data.
    pub metadata: Map<String, Value>,
    /// The last event's `sequence`.
    pub version: u64,
    /// Soft-deleted.
    pub is_deleted: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was soft-deleted.
    pub deleted_at: Option<Timestamp>,
}

impl Order {
    /// Minor units that may be taken: what has left, at its prices.
    pub fn capture_due(&self) -> i64 {
        self.left().map(|parcel| self.value(&parcel.items)).sum()
    }

    /// Minor units of what has come back.
    pub fn returned(&self) -> i64 {
        let back = self.parcels();
        let back = back.filter(|parcel| parcel.status == ShipmentStatus::Returned);
        back.map(|parcel| self.value(&parcel.items)).sum()
    }

    /// Minor units that `items` were bought for; lines of one product have one price.
    fn value(&self, items: &[StockItem]) -> i64 {
        let price = |sku: &Sku| self.items.iter().find(|line| line.sku == *sku);
        let value = items.iter().map(|item| {
            price(&item.sku).map_or(0, |line| line.unit_price * i64::from(item.quantity.get()))
        });
        value.sum()
    }

    /// Minor units that were taken and nobody has asked back yet.
    pub fn refundable(&self) -> i64 {
        self.payment.captured - self.refund_due.max(self.payment.refunded)
    }

    /// What it costs.
    pub fn price(&self) -> Money {
        Money {
            amount: self.total,
            currency: self.currency,
        }
    }

    /// The warehouses that its items come from.
    pub fn warehouses(&self) -> BTreeSet<Warehouse> {
        self.items
            .iter()
            .filter_map(|item| item.warehouse.clone())
            .collect()
    }

    /// Parcels that were not withdrawn.
    pub fn parcels(&self) -> impl Iterator<Item = &Shipment> {
        self.shipments
            .iter()
            .filter(|shipment| shipment.status != ShipmentStatus::Cancelled)
    }

    /// Parcels that have left.
    pub fn left(&self) -> impl Iterator<Item = &Shipment> {
        self.parcels().filter(|parcel| parcel.shipped_at.is_some())
    }

    /// What is held in `warehouse` and in no parcel yet.
    pub fn unannounced(&self, warehouse: &Warehouse) -> Vec<StockItem> {
        let mut left: Vec<StockItem> = self
            .held
            .iter()
            .filter(|item| item.warehouse == *warehouse)
            .cloned()
            .collect();
        for parcel in self.parcels().filter(|parcel| parcel.shipped_at.is_none()) {
            let items = parcel
                .items
                .iter()
                .filter(|item| item.warehouse == *warehouse);
            take_away(&mut left, &items.cloned().collect::<Vec<_>>());
        }
        left
    }

    /// Refuses what is only possible while nothing has left.
    ///
    /// # Errors
    /// `INVALID_STATE`, saying where the order stands.
    pub fn must_not_have_left(&self, verb: &str) -> Result<(), Failure> {
        let is_under_way = match self.status {
            OrderStatus::Shipped | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Processing | OrderStatus::Cancelled => {
                self.left().next().is_some()
            }
        };
        if is_under_way {
            let status = self.status.as_str();
            return Err(Failure::invalid_state(format!(
                "order {} is {status} and can't be {verb}: goods have left",
                self.id
            )));
        }
        Ok(())
    }

    /// The order as it is shown by itself: with the secret that its customer completes the payment with, if that is
    /// waited for.
    pub fn represent_by_itself(&self, steps: &[StepRow]) -> Representation {
        let mut order = self.represent(steps);
        if let Some(action) = &mut order.payment.next_action {
            let mut secrets = steps.iter().filter_map(|row| row.client_secret.as_ref());
            action.client_secret = secrets.next().cloned();
        }
        order
    }

    /// The order as callers see it. `steps` are its rows that are not done.
    pub fn represent<'a>(&self, steps: impl IntoIterator<Item = &'a StepRow>) -> Representation {
        let next = steps
            .into_iter()
            .filter(|row| !row.key.step.is_timer())
            .min_by_key(|row| (row.is_dead, row.due_at));
        Representation {
            id: self.id,
            number: self.number,
            storefront: self.storefront.clone(),
            customer_id: self.customer_id,
            external_id: self.external_id.clone(),
            status: self.status,
            cancel_reason: self.cancel_reason,
            currency: self.currency,
            total: self.total,
            items: self.items.clone(),
            shipping_address: self.shipping_address.clone(),
            payment: self.payment.clone(),
            shipments: self.shipments.clone(),
            awaits_approval: self.awaits_approval,
            in_progress: next.map(|row| InProgress {
                step: row.key.step.kind().to_owned(),
                attempt: row.attempt,
                due_at: row.due_at,
            }),
            metadata: self.metadata.clone(),
            version: self.version,
            is_deleted: self.is_deleted,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted_at: self.deleted_at,
        }
    }
}
