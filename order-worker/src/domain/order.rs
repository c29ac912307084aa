//! The state of an order, and in `fold` how events change it. The state is the fold of the order's events.

mod fold;

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

pub use self::fold::ReplayError;
use super::{step::StepRow, stock::subtract_items};

/// The complete state of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// UUIDv7.
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
    /// The money's side.
    pub payment: Payment,
    /// Total amount to refund in minor units, whether refunded already or not.
    #[serde(default)]
    pub refund_due: i64,
    /// Minor units of discarded refunds: no automatic refund pays them, a requested one may.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refund_written_off: i64,
    /// Minor units of the refunds that operators requested: no part of a return's refund.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub goodwill: i64,
    /// Minor units of shipments that left and whose capture was discarded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub written_off: BTreeMap<ShipmentId, i64>,
    /// The goods' side.
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
    /// Minor units to be captured in all: the value of what has left, without what was written off.
    pub fn capture_due(&self) -> i64 {
        self.left().map(|parcel| self.charge(parcel)).sum()
    }

    /// Minor units that are still to be captured for what has left.
    pub fn capture_outstanding(&self) -> i64 {
        (self.capture_due() - self.payment.captured).max(0)
    }

    /// Whether nothing is left to be shipped: what is captured now is captured last.
    pub fn has_all_left(&self) -> bool {
        self.held.is_empty()
    }

    /// Minor units that can be captured in all, or were.
    pub fn collectable(&self) -> i64 {
        match self.payment.status {
            PaymentStatus::Authorized
            | PaymentStatus::Captured
            | PaymentStatus::PartiallyRefunded
            | PaymentStatus::Refunded => self.payment.authorized.max(self.payment.captured),
            PaymentStatus::Pending | PaymentStatus::Voided | PaymentStatus::Failed => 0,
        }
    }

    /// Minor units of the order that can't be captured any more and were neither cancelled nor written off.
    pub fn uncollectable(&self) -> i64 {
        let written_off: i64 = self.written_off.values().sum();
        (self.total - self.cancelled_value() - written_off - self.collectable()).max(0)
    }

    /// Minor units of the items that were cancelled after a part had been shipped.
    fn cancelled_value(&self) -> i64 {
        let cancelled = self.cancelled_items();
        let value = cancelled.iter().map(|item| {
            let line = self.items.iter().find(|line| line.sku == item.sku);
            let quantity = i64::try_from(item.quantity).unwrap_or(i64::MAX);
            line.map_or(0, |line| line.unit_price.saturating_mul(quantity))
        });
        value.sum()
    }

    /// Minor units of what has left that were neither captured nor written off, and that no capture to
    /// come can collect.
    pub fn unpaid(&self) -> i64 {
        let collected = if self.has_all_left() {
            self.payment.captured
        } else {
            self.collectable()
        };
        (self.capture_due() - collected).max(0)
    }

    /// Minor units that returned shipments were charged for.
    pub fn returned(&self) -> i64 {
        self.charged(&[ShipmentStatus::Returned])
    }

    /// Minor units that the customer is charged for the shipments in one of `statuses`.
    fn charged(&self, statuses: &[ShipmentStatus]) -> i64 {
        let active_shipments = self.active_shipments();
        let active_shipments = active_shipments.filter(|parcel| statuses.contains(&parcel.status));
        active_shipments.map(|parcel| self.charge(parcel)).sum()
    }

    /// Minor units that the customer is charged for a shipment.
    fn charge(&self, parcel: &Shipment) -> i64 {
        let written_off = self.written_off.get(&parcel.id).copied().unwrap_or(0);
        self.value(&parcel.items) - written_off
    }

    /// Minor units that `items` were bought for; lines of one product have one price.
    pub fn value(&self, items: &[StockItem]) -> i64 {
        let price = |sku: &Sku| self.items.iter().find(|line| line.sku == *sku);
        let value = items.iter().map(|item| {
            price(&item.sku).map_or(0, |line| line.unit_price * i64::from(item.quantity.get()))
        });
        value.sum()
    }

    /// Units of what was bought that will never leave: the rest was cancelled after a part had left.
    pub fn cancelled_items(&self) -> Vec<CancelledItem> {
        let is_under_way = match self.status {
            OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Cancelled => false,
        };
        let mut missing: BTreeMap<&Sku, u64> = BTreeMap::new();
        if is_under_way && !self.awaits_stock {
            for line in &self.items {
                *missing.entry(&line.sku).or_default() += u64::from(line.quantity.get());
            }
        }
        let left = self.left().flat_map(|parcel| &parcel.items);
        for item in self.held.iter().chain(left) {
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

    /// Minor units that were taken and nobody has asked back yet.
    pub fn refundable(&self) -> i64 {
        self.payment.captured - self.refund_due.max(self.payment.refunded)
    }

    /// Minor units that may be refunded without a request: what was written off is not.
    pub fn refundable_automatically(&self) -> i64 {
        self.refundable() - self.refund_written_off
    }

    /// Minor units of returned shipments whose refund was not requested yet.
    pub fn return_refund_due(&self) -> i64 {
        let requested = self.refund_due + self.refund_written_off - self.goodwill;
        (self.returned() - requested).min(self.refundable_automatically())
    }

    /// Whether nothing more happens to the order: it was delivered or cancelled, or each of its shipments
    /// arrived, came back, or was lost and refunded.
    pub fn is_over(&self) -> bool {
        match self.status {
            OrderStatus::Cancelled | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Processing => false,
            OrderStatus::Shipped => self.is_settled(),
        }
    }

    /// Whether no shipment is on its way and no money is outstanding.
    fn is_settled(&self) -> bool {
        use ShipmentStatus::{Delivered, Failed, Returned};
        let is_at_rest = |parcel: &Shipment| matches!(parcel.status, Delivered | Failed | Returned);
        let refunded = self.payment.refunded + self.refund_written_off;
        let is_lost = |parcel: &Shipment| parcel.status == Failed;
        let lost_due = if self.active_shipments().any(is_lost) {
            self.charged(&[Failed, Returned]).min(self.payment.captured)
        } else {
            0
        };
        self.active_shipments().all(is_at_rest)
            && self.capture_outstanding() == 0
            && self.payment.refunded >= self.refund_due
            && refunded >= lost_due
    }

    /// What it costs.
    pub fn price(&self) -> Money {
        Money {
            amount: self.total,
            currency: self.currency,
        }
    }

    /// The warehouses of its items.
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

    /// Shipments that were shipped.
    pub fn left(&self) -> impl Iterator<Item = &Shipment> {
        self.active_shipments()
            .filter(|parcel| parcel.shipped_at.is_some())
    }

    /// Reserved items in `warehouse` that are in no shipment yet.
    pub fn unlabelled_items(&self, warehouse: &Warehouse) -> Vec<StockItem> {
        let mut left: Vec<StockItem> = self
            .held
            .iter()
            .filter(|item| item.warehouse == *warehouse)
            .cloned()
            .collect();
        for parcel in self
            .active_shipments()
            .filter(|parcel| parcel.shipped_at.is_none())
        {
            let items = parcel
                .items
                .iter()
                .filter(|item| item.warehouse == *warehouse);
            subtract_items(&mut left, &items.cloned().collect::<Vec<_>>());
        }
        left
    }

    /// Checks that nothing was shipped.
    ///
    /// # Errors
    /// `INVALID_STATE`, naming the order's status.
    pub fn ensure_not_shipped(&self, verb: &str) -> Result<(), Failure> {
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
            cancelled_items: self.cancelled_items(),
            shipping_address: self.shipping_address.clone(),
            payment: Payment {
                // Only an order that waits for its customer has something for them to do.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(amount: &i64) -> bool {
    *amount == 0
}
