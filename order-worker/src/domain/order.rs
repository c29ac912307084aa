//! The state of an order, and the amounts that follow from it: what is to be captured, to be refunded, or
//! written off.
//!
//! An order changes only by applying its next event (`apply_event`). The store keeps the state as JSON: field
//! names are stored names.

mod apply_event;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::{
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront, Warehouse},
    money::{Currency, Money},
    order::{
        Address, CancelReason, CancelledItem, InProgress, LineItem, Order as Representation,
        OrderStatus, Payment, PaymentStatus, Shipment, ShipmentStatus, StockItem,
    },
    outcome::Failure,
};

pub use self::apply_event::ReplayError;
use super::{step::StepRow, stock::subtract_items};

/// The complete state of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// `UUIDv7`, or `UUIDv8` if it is derived from an import line.
    pub id: OrderId,
    /// Order number, for people.
    pub number: i64,
    /// Storefront that sold the order.
    pub storefront: Storefront,
    /// Id of the customer.
    pub customer_id: CustomerId,
    /// Id of the order in the system that it was imported from.
    pub external_id: Option<String>,
    /// Status.
    pub status: OrderStatus,
    /// Reason for the cancellation.
    pub cancel_reason: Option<CancelReason>,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Total in minor units.
    pub total: i64,
    /// Line items.
    pub items: Vec<LineItem>,
    /// Whether it is waiting for approval.
    #[serde(default)]
    pub awaits_approval: bool,
    /// Whether its stock is still to be reserved.
    #[serde(default)]
    pub awaits_stock: bool,
    /// Reserved items that were neither shipped nor released.
    pub held: Vec<StockItem>,
    /// Shipping address.
    pub shipping_address: Option<Address>,
    /// Payment method: a token of the provider.
    pub payment_method: String,
    /// URL to which the provider redirects the customer after authentication, while that is outstanding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// Status and amounts of the payment.
    pub payment: Payment,
    /// Total amount to refund in minor units, whether refunded already or not.
    #[serde(default)]
    pub refund_due: i64,
    /// Discarded refunds in minor units: they are not refunded automatically, but an operator can request
    /// them again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refund_written_off: i64,
    /// Refunds requested by operators, in minor units; they do not count as refunds of returned items.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub goodwill: i64,
    /// Discarded captures in minor units, by the shipment that they were for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub written_off: BTreeMap<ShipmentId, i64>,
    /// Shipments, cancelled ones included.
    pub shipments: Vec<Shipment>,
    /// Metadata set by the client.
    pub metadata: Map<String, Value>,
    /// `sequence` of the last event.
    pub version: u64,
    /// Whether it is soft-deleted.
    pub is_deleted: bool,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Time of the soft deletion.
    pub deleted_at: Option<Timestamp>,
}

impl Order {
    /// Total amount to capture, in minor units: the value of the shipped items without written-off amounts.
    pub fn capture_due(&self) -> i64 {
        self.shipped_shipments()
            .map(|shipment| self.shipment_charge(shipment))
            .sum()
    }

    /// Amount that is still to be captured for shipped items, in minor units.
    pub fn capture_outstanding(&self) -> i64 {
        (self.capture_due() - self.payment.captured).max(0)
    }

    /// Whether no item remains to be shipped: the next capture is the last one.
    pub fn has_nothing_to_ship(&self) -> bool {
        self.held.is_empty()
    }

    /// Total amount that was captured or is still authorized, in minor units.
    pub fn collectable(&self) -> i64 {
        match self.payment.status {
            PaymentStatus::Authorized
            | PaymentStatus::Captured
            | PaymentStatus::PartiallyRefunded
            | PaymentStatus::Refunded => self.payment.authorized.max(self.payment.captured),
            PaymentStatus::Pending | PaymentStatus::Voided | PaymentStatus::Failed => 0,
        }
    }

    /// Amount of the order that can no longer be captured, in minor units, without cancelled items and
    /// written-off amounts.
    pub fn uncollectable(&self) -> i64 {
        let written_off: i64 = self.written_off.values().sum();
        (self.total - self.cancelled_value() - written_off - self.collectable()).max(0)
    }

    /// Value of the items that were cancelled after a part had been shipped, in minor units.
    fn cancelled_value(&self) -> i64 {
        let cancelled = self.cancelled_items();
        let values = cancelled.iter().map(|item| {
            let line = self.items.iter().find(|line| line.sku == item.sku);
            let quantity = i64::try_from(item.quantity).unwrap_or(i64::MAX);
            line.map_or(0, |line| line.unit_price.saturating_mul(quantity))
        });
        values.sum()
    }

    /// Value of shipped items that was neither captured nor written off and that no further capture can
    /// collect, in minor units.
    pub fn uncollectable_shipped(&self) -> i64 {
        let collected = if self.has_nothing_to_ship() {
            self.payment.captured
        } else {
            self.collectable()
        };
        (self.capture_due() - collected).max(0)
    }

    /// Amount that the customer was charged for returned shipments, in minor units.
    pub fn returned_value(&self) -> i64 {
        self.charged_for(&[ShipmentStatus::Returned])
    }

    /// Amount charged for the shipments in one of `statuses`, in minor units.
    fn charged_for(&self, statuses: &[ShipmentStatus]) -> i64 {
        let active_shipments = self.active_shipments();
        let active_shipments =
            active_shipments.filter(|shipment| statuses.contains(&shipment.status));
        active_shipments
            .map(|shipment| self.shipment_charge(shipment))
            .sum()
    }

    /// Amount charged for a shipment, in minor units: its value without the written-off amount.
    fn shipment_charge(&self, shipment: &Shipment) -> i64 {
        let written_off = self.written_off.get(&shipment.id).copied().unwrap_or(0);
        self.value_of(&shipment.items) - written_off
    }

    /// Value of `items` at the order's prices, in minor units; all line items of a product have the same
    /// price.
    pub fn value_of(&self, items: &[StockItem]) -> i64 {
        let line_of = |sku: &Sku| self.items.iter().find(|line| line.sku == *sku);
        let values = items.iter().map(|item| {
            line_of(&item.sku).map_or(0, |line| line.unit_price * i64::from(item.quantity.get()))
        });
        values.sum()
    }

    /// Ordered units that will not be shipped, because they were cancelled after a part had been shipped.
    pub fn cancelled_items(&self) -> Vec<CancelledItem> {
        let is_in_fulfillment = match self.status {
            OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Cancelled => false,
        };
        let mut missing: BTreeMap<&Sku, u64> = BTreeMap::new();
        if is_in_fulfillment && !self.awaits_stock {
            for line in &self.items {
                *missing.entry(&line.sku).or_default() += u64::from(line.quantity.get());
            }
        }
        let shipped = self
            .shipped_shipments()
            .flat_map(|shipment| &shipment.items);
        for item in self.held.iter().chain(shipped) {
            if let Some(units) = missing.get_mut(&item.sku) {
                *units = units.saturating_sub(item.quantity.get().into());
            }
        }
        let missing = missing.into_iter().filter(|(_, quantity)| *quantity > 0);
        missing
            .map(|(sku, quantity)| CancelledItem {
                sku: sku.clone(),
                quantity,
            })
            .collect()
    }

    /// Captured amount whose refund was not requested yet, in minor units.
    pub fn refundable(&self) -> i64 {
        self.payment.captured - self.refund_due.max(self.payment.refunded)
    }

    /// Amount that may be refunded without a request of an operator, in minor units: discarded refunds are
    /// excluded.
    pub fn refundable_automatically(&self) -> i64 {
        self.refundable() - self.refund_written_off
    }

    /// Amount charged for returned shipments whose refund was not requested yet, in minor units.
    pub fn return_refund_due(&self) -> i64 {
        let requested = self.refund_due + self.refund_written_off - self.goodwill;
        (self.returned_value() - requested).min(self.refundable_automatically())
    }

    /// Whether the order needs no further processing: it was delivered or cancelled, or each of its shipments
    /// was delivered, returned, or lost and refunded.
    pub fn is_closed(&self) -> bool {
        match self.status {
            OrderStatus::Cancelled | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Processing => false,
            OrderStatus::Shipped => self.is_settled(),
        }
    }

    /// Whether no shipment is in transit and no capture or refund is outstanding.
    fn is_settled(&self) -> bool {
        use ShipmentStatus::{Delivered, Failed, Returned};
        let is_finished =
            |shipment: &Shipment| matches!(shipment.status, Delivered | Failed | Returned);
        let refunded_or_discarded = self.payment.refunded + self.refund_written_off;
        let is_lost = |shipment: &Shipment| shipment.status == Failed;
        let lost_refund_due = if self.active_shipments().any(is_lost) {
            self.charged_for(&[Failed, Returned])
                .min(self.payment.captured)
        } else {
            0
        };
        self.active_shipments().all(is_finished)
            && self.capture_outstanding() == 0
            && self.payment.refunded >= self.refund_due
            && refunded_or_discarded >= lost_refund_due
    }

    /// Total with its currency.
    pub fn total_price(&self) -> Money {
        Money {
            amount: self.total,
            currency: self.currency,
        }
    }

    /// Warehouses of the line items.
    pub fn warehouses(&self) -> BTreeSet<Warehouse> {
        self.items
            .iter()
            .filter_map(|item| item.warehouse.clone())
            .collect()
    }

    /// Shipments that were not cancelled.
    pub fn active_shipments(&self) -> impl Iterator<Item = &Shipment> {
        self.shipments
            .iter()
            .filter(|shipment| shipment.status != ShipmentStatus::Cancelled)
    }

    /// Shipments that have left their warehouse.
    pub fn shipped_shipments(&self) -> impl Iterator<Item = &Shipment> {
        self.active_shipments()
            .filter(|shipment| shipment.shipped_at.is_some())
    }

    /// Reserved items in `warehouse` that are in no shipment yet.
    pub fn unlabelled_items(&self, warehouse: &Warehouse) -> Vec<StockItem> {
        let mut unlabelled: Vec<StockItem> = self
            .held
            .iter()
            .filter(|item| item.warehouse == *warehouse)
            .cloned()
            .collect();
        for shipment in self
            .active_shipments()
            .filter(|shipment| shipment.shipped_at.is_none())
        {
            let items = shipment
                .items
                .iter()
                .filter(|item| item.warehouse == *warehouse);
            subtract_items(&mut unlabelled, &items.cloned().collect::<Vec<_>>());
        }
        unlabelled
    }

    /// Checks that nothing was shipped.
    ///
    /// # Errors
    /// `INVALID_STATE`, naming the order's status.
    pub fn ensure_not_shipped(&self, verb: &str) -> Result<(), Failure> {
        let has_shipped_items = match self.status {
            OrderStatus::Shipped | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Processing | OrderStatus::Cancelled => {
                self.shipped_shipments().next().is_some()
            }
        };
        if has_shipped_items {
            let status = self.status.as_str();
            return Err(Failure::invalid_state(format!(
                "order {} is {status} and can't be {verb}: some of its items were shipped",
                self.id
            )));
        }
        Ok(())
    }

    /// The representation for a lookup of this order alone: it contains the client secret that completes the
    /// payment, while an action of the customer is required.
    pub fn represent_with_secret(&self, steps: &[StepRow]) -> Representation {
        let mut order = self.represent(steps);
        if let Some(action) = &mut order.payment.next_action {
            let mut secrets = steps.iter().filter_map(|row| row.client_secret.as_ref());
            action.client_secret = secrets.next().cloned();
        }
        order
    }

    /// The representation of the order. `steps` are its unfinished steps.
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
            cancelled_items: self.cancelled_items(),
            shipping_address: self.shipping_address.clone(),
            payment: Payment {
                // Once the order is no longer pending, no action of the customer is required.
                next_action: self
                    .payment
                    .next_action
                    .clone()
                    .filter(|_| self.status == OrderStatus::Pending),
                ..self.payment.clone()
            },
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

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(amount: &i64) -> bool {
    *amount == 0
}
