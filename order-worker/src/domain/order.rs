//! The order: its state, and how each event changes it. Folding an order's events gives its
//! state; nothing else does.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::{
    event::{Event, Fact},
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront, Warehouse},
    money::{Currency, Money},
    order::{
        Address, CancelReason, InProgress, LineItem, Order as Representation, OrderStatus, Payment,
        PaymentStatus, Shipment, ShipmentStatus, StockItem,
    },
    outcome::Failure,
};

use super::{payment, step::StepRow, stock::take_away};

/// Why a row of the event log does not fit the order it is applied to: a defect, or damage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {sequence} ({kind}) does not follow version {version}: {why}")]
pub struct Misfit {
    sequence: u64,
    kind: &'static str,
    version: u64,
    why: &'static str,
}

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
    /// The state that `events`, in their order, say.
    ///
    /// # Errors
    /// The first event that does not fit.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Option<Self>, Misfit> {
        let mut order = None;
        for event in events {
            match &mut order {
                None => order = Some(Self::born(event)?),
                Some(order) => order.apply(event)?,
            }
        }
        Ok(order)
    }

    /// The order that `event` says was created.
    ///
    /// # Errors
    /// When it says something else.
    pub fn born(event: &Event) -> Result<Self, Misfit> {
        let misfit = |why| Misfit {
            sequence: event.sequence,
            kind: event.fact.kind(),
            version: 0,
            why,
        };
        let Fact::OrderCreated(created) = &event.fact else {
            return Err(misfit("an order begins with order.created"));
        };
        if event.sequence != 1 {
            return Err(misfit("an order begins with 1"));
        }
        let created = created.as_ref().clone();
        Ok(Self {
            id: event
                .subject
                .parse()
                .map_err(|_| misfit("the subject is not an order's id"))?,
            number: created.number,
            storefront: created.storefront,
            customer_id: created.customer_id,
            external_id: created.external_id,
            status: OrderStatus::Pending,
            cancel_reason: None,
            currency: created.currency,
            total: created.total,
            items: created.items,
            awaits_approval: created.needs_approval,
            awaits_stock: created.awaits_stock,
            held: Vec::new(),
            shipping_address: created.shipping_address,
            payment_method: created.payment_method,
            payment: Payment {
                status: PaymentStatus::Pending,
                provider: created.payment_provider,
                reference: None,
                authorized: 0,
                captured: 0,
                refunded: 0,
                next_action: None,
            },
            refund_due: 0,
            shipments: Vec::new(),
            metadata: created.metadata,
            version: 1,
            is_deleted: false,
            created_at: event.time,
            updated_at: event.time,
            deleted_at: None,
        })
    }

    /// Changes the order as `event` says.
    ///
    /// # Errors
    /// When the event is not the next one of this order, or can't happen to an order.
    pub fn apply(&mut self, event: &Event) -> Result<(), Misfit> {
        let (version, kind) = (self.version, event.fact.kind());
        let misfit = |why| Misfit {
            sequence: event.sequence,
            kind,
            version,
            why,
        };
        if event.sequence != version + 1 {
            return Err(misfit("a gap"));
        }
        match &event.fact {
            Fact::OrderApproved {} => self.awaits_approval = false,
            Fact::OrderProcessing {} => self.status = OrderStatus::Processing,
            Fact::OrderShipped {} => self.status = OrderStatus::Shipped,
            Fact::OrderDelivered {} => self.status = OrderStatus::Delivered,
            Fact::OrderCancelled { reason, .. } => {
                self.status = OrderStatus::Cancelled;
                self.cancel_reason = Some(*reason);
                self.awaits_approval = false;
                self.awaits_stock = false;
            }
            Fact::OrderDeleted {} => {
                self.is_deleted = true;
                self.deleted_at = Some(event.time);
            }
            Fact::OrderRedacted {} => {
                self.shipping_address = None;
                self.metadata = Map::new();
                self.payment_method = String::new();
            }
            Fact::OrderRestored {} => {
                self.is_deleted = false;
                self.deleted_at = None;
            }
            Fact::PaymentPrepared { .. }
            | Fact::PaymentActionRequired { .. }
            | Fact::PaymentAuthorized { .. }
            | Fact::PaymentDeclined { .. }
            | Fact::PaymentCaptured { .. }
            | Fact::PaymentVoided { .. }
            | Fact::RefundFailed { .. }
            | Fact::PaymentRefunded { .. } => payment::apply(&mut self.payment, &event.fact),
            Fact::RefundRequested { amount, reason: _ } => self.refund_due += amount,
            Fact::StockReserved { items } => {
                self.held.extend_from_slice(items);
                if self.awaits_stock {
                    self.awaits_stock = false;
                    self.place(items);
                }
            }
            Fact::StockReleased { items } => self.let_go(items),
            Fact::ShipmentCreated { shipment } => self.shipments.push(shipment.clone()),
            Fact::ShipmentShipped {
                shipment_id, items, ..
            } => {
                self.let_go(items);
                self.move_shipment(*shipment_id, event)
                    .ok_or_else(|| misfit("no such shipment"))?;
            }
            Fact::ShipmentDelivered { shipment_id }
            | Fact::ShipmentInTransit { shipment_id }
            | Fact::ShipmentOutForDelivery { shipment_id }
            | Fact::ShipmentFailed { shipment_id }
            | Fact::ShipmentReturned { shipment_id, .. }
            | Fact::ShipmentCancelled { shipment_id } => {
                self.move_shipment(*shipment_id, event)
                    .ok_or_else(|| misfit("no such shipment"))?;
            }
            // For the history; the order stays as it is.
            Fact::StepRetried { .. }
            | Fact::StepDead { .. }
            | Fact::StepRedriven { .. }
            | Fact::StepDiscarded { .. }
            | Fact::StockLow { .. } => {}
            Fact::OrderCreated(_) => return Err(misfit("it exists already")),
            Fact::StockAdjusted { .. }
            | Fact::ProductCreated { .. }
            | Fact::ProductUpdated { .. }
            | Fact::ProductDeleted {} => return Err(misfit("it is about a product")),
            Fact::EndpointCreated { .. }
            | Fact::EndpointUpdated { .. }
            | Fact::EndpointDisabled { .. }
            | Fact::EndpointDeleted {} => return Err(misfit("it is about an endpoint")),
        }
        self.version = event.sequence;
        self.updated_at = event.time;
        Ok(())
    }

    /// Each line comes from where its units are held.
    fn place(&mut self, held: &[StockItem]) {
        let lines = held.iter().filter_map(|item| {
            let line = self.items.iter().find(|line| line.sku == item.sku)?;
            Some(LineItem {
                quantity: item.quantity,
                warehouse: Some(item.warehouse.clone()),
                ..line.clone()
            })
        });
        self.items = lines.collect();
    }

    /// `items` are no longer held.
    fn let_go(&mut self, items: &[StockItem]) {
        take_away(&mut self.held, items);
    }

    /// One of its parcels is where `event` says; `None` if it is not one of its parcels.
    fn move_shipment(&mut self, id: ShipmentId, event: &Event) -> Option<()> {
        let shipment = self
            .shipments
            .iter_mut()
            .find(|shipment| shipment.id == id)?;
        shipment.status = match &event.fact {
            Fact::ShipmentShipped {
                carrier,
                tracking_number,
                ..
            } => {
                shipment.carrier.clone_from(carrier);
                shipment.tracking_number.clone_from(tracking_number);
                shipment.shipped_at = Some(event.time);
                ShipmentStatus::Shipped
            }
            Fact::ShipmentDelivered { .. } => {
                shipment.delivered_at = Some(event.time);
                ShipmentStatus::Delivered
            }
            Fact::ShipmentInTransit { .. } => ShipmentStatus::InTransit,
            Fact::ShipmentOutForDelivery { .. } => ShipmentStatus::OutForDelivery,
            Fact::ShipmentFailed { .. } => ShipmentStatus::Failed,
            Fact::ShipmentReturned { .. } => ShipmentStatus::Returned,
            Fact::ShipmentCancelled { .. } => ShipmentStatus::Cancelled,
            _ => return None,
        };
        Some(())
    }

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
