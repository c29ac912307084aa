//! Returns in the state of an order: the units that can be returned, and the amounts of received units.
//!
//! Requested and approved returns reserve units by product. Received units are assigned to the shipments with
//! which they had left, so that a shipment that comes back through the carrier later is neither restocked nor
//! refunded for them again.

use std::{collections::BTreeMap, num::NonZeroU32};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::{
    event::{Event, EventData},
    id::{ReturnId, ShipmentId, Sku},
    order::{
        ReceivedItem, ReceivedQuantity, Return as Representation, ReturnStatus, ReturnedItem,
        Shipment, ShipmentStatus, StockItem,
    },
};

use super::Order;
use crate::domain::amounts::amount_of_first_units;

/// A return in the state of its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// `UUIDv7`.
    pub id: ReturnId,
    /// Number for people, such as `42-R1`.
    pub number: String,
    /// Status.
    pub status: ReturnStatus,
    /// Requested units.
    pub items: Vec<ReturnedItem>,
    /// Free text of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Reason for the rejection or cancellation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Received units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<ReceivedItem>,
    /// Refund in minor units, estimated until the receipt.
    pub refund_amount: i64,
    /// Amount that was kept from the refund, in minor units.
    #[serde(default)]
    pub fee: i64,
    /// Number of changes, from 1.
    pub version: u64,
    /// Time of the request.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

impl Return {
    /// Whether it contains free text, which may be personal data.
    fn has_free_text(&self) -> bool {
        let has_reason = |item: &ReturnedItem| item.reason.is_some();
        self.note.is_some() || self.reason.is_some() || self.items.iter().any(has_reason)
    }

    /// Requested units of a product.
    pub fn requested_units(&self, sku: &Sku) -> u64 {
        let returned_items = self.items.iter().filter(|item| item.sku == *sku);
        returned_items
            .map(|item| u64::from(item.quantity.get()))
            .sum()
    }
}

impl Order {
    /// The return with this id.
    pub fn find_return(&self, return_id: ReturnId) -> Option<&Return> {
        self.returns
            .iter()
            .find(|order_return| order_return.id == return_id)
    }

    /// A requested or approved return, if there is one.
    pub fn open_return(&self) -> Option<&Return> {
        self.returns
            .iter()
            .find(|order_return| order_return.status.is_open())
    }

    /// Whether a return contains free text, which may be personal data.
    pub fn has_return_texts(&self) -> bool {
        self.returns.iter().any(Return::has_free_text)
    }

    /// The representation of a return of this order.
    pub fn represent_return(&self, order_return: &Return) -> Representation {
        let order_return = order_return.clone();
        Representation {
            id: order_return.id,
            order_id: self.id,
            number: order_return.number,
            storefront: self.storefront.clone(),
            customer_id: self.customer_id,
            status: order_return.status,
            items: order_return.items,
            note: order_return.note,
            reason: order_return.reason,
            received: order_return.received,
            currency: self.currency,
            refund_amount: order_return.refund_amount,
            fee: order_return.fee,
            version: order_return.version,
            created_at: order_return.created_at,
            updated_at: order_return.updated_at,
        }
    }

    /// Received units of all returns.
    fn received_items(&self) -> impl Iterator<Item = &ReceivedItem> {
        self.returns
            .iter()
            .flat_map(|order_return| &order_return.received)
    }

    /// The items of a shipment without the units that were received through returns.
    pub fn unreturned_items(&self, shipment: &Shipment) -> Vec<StockItem> {
        let mut received_units: BTreeMap<&Sku, u32> = BTreeMap::new();
        for item in self.received_items() {
            if item.shipment_id == shipment.id {
                *received_units.entry(&item.sku).or_default() += item.quantity.get();
            }
        }
        let unreturned_items = shipment.items.iter().filter_map(|item| {
            let units_of_sku = received_units.entry(&item.sku).or_default();
            let received_count = item.quantity.get().min(*units_of_sku);
            *units_of_sku -= received_count;
            let quantity = NonZeroU32::new(item.quantity.get() - received_count)?;
            Some(StockItem {
                quantity,
                ..item.clone()
            })
        });
        unreturned_items.collect()
    }

    /// Shipped units of a product that have not come back, neither through returns nor through the carrier.
    pub fn unreturned_units(&self, sku: &Sku) -> u64 {
        let unreturned_items = self
            .shipped_shipments()
            .filter(|shipment| shipment.status != ShipmentStatus::Returned)
            .filter(|shipment| shipment.items.iter().any(|item| item.sku == *sku))
            .flat_map(|shipment| self.unreturned_items(shipment));
        let items_of_sku = unreturned_items.filter(|item| item.sku == *sku);
        items_of_sku
            .map(|item| u64::from(item.quantity.get()))
            .sum()
    }

    /// Units of a product for which a return can be requested: they were shipped, have not come back, and are in
    /// no open return.
    pub fn returnable_units(&self, sku: &Sku) -> u64 {
        let open_returns = self
            .returns
            .iter()
            .filter(|order_return| order_return.status.is_open());
        let requested_units: u64 = open_returns
            .map(|order_return| order_return.requested_units(sku))
            .sum();
        self.unreturned_units(sku).saturating_sub(requested_units)
    }

    /// Written-off amount of a shipment that was not subtracted from the refund of a return yet, in minor
    /// units.
    pub(super) fn unsubtracted_write_off(&self, shipment_id: ShipmentId) -> i64 {
        let items_of_shipment = self
            .received_items()
            .filter(|item| item.shipment_id == shipment_id);
        let subtracted_amount: i64 = items_of_shipment.map(|item| item.unpaid).sum();
        let written_off_amount = self
            .written_off_by_shipment
            .get(&shipment_id)
            .copied()
            .unwrap_or(0);
        (written_off_amount - subtracted_amount).max(0)
    }

    /// Assigns `received_quantities`, which have come back, to shipments, and values them: to delivered shipments
    /// first, then in the order of shipping. With `is_to_be_refunded`, units that were not refunded before count as
    /// refunded, at their share of the order's total. Units that were not shipped, or have come back already, are
    /// left out.
    pub fn receive_units(
        &self,
        received_quantities: &[ReceivedQuantity],
        is_to_be_refunded: bool,
        refunds_returns: bool,
    ) -> Vec<ReceivedItem> {
        let mut shipments: Vec<&Shipment> = self
            .shipped_shipments()
            .filter(|shipment| shipment.status != ShipmentStatus::Returned)
            .collect();
        shipments.sort_by_key(|shipment| {
            let is_delivered = shipment.status == ShipmentStatus::Delivered;
            (!is_delivered, shipment.shipped_at, shipment.id)
        });
        let mut unreturned_items: Vec<(ShipmentId, StockItem, u32)> = Vec::new();
        for shipment in shipments {
            let shipment_items = self.unreturned_items(shipment).into_iter();
            unreturned_items.extend(shipment_items.map(|item| {
                let unreturned_count = item.quantity.get();
                (shipment.id, item, unreturned_count)
            }));
        }
        let shipped_units = self.shipped_units();
        let mut refunded_units_by_sku: BTreeMap<&Sku, u64> = BTreeMap::new();
        let mut write_offs: BTreeMap<ShipmentId, i64> = BTreeMap::new();
        let mut received_items = Vec::new();
        for item in received_quantities {
            let mut unassigned_units = item.quantity.get();
            for (shipment_id, shipped_item, remaining_units) in &mut unreturned_items {
                if shipped_item.sku != item.sku {
                    continue;
                }
                let Some(quantity) = NonZeroU32::new(unassigned_units.min(*remaining_units)) else {
                    continue;
                };
                unassigned_units -= quantity.get();
                *remaining_units -= quantity.get();
                let refunded_units = refunded_units_by_sku
                    .entry(&item.sku)
                    .or_insert_with(|| self.refunded_or_returned(&item.sku, refunds_returns));
                let shipped_units_of_sku = shipped_units.get(&item.sku).copied().unwrap_or(0);
                let newly_refunded_units = if is_to_be_refunded {
                    u64::from(quantity.get())
                        .min(shipped_units_of_sku.saturating_sub(*refunded_units))
                } else {
                    0
                };
                let (product_amount, ordered_units) = self.product_total(&item.sku);
                let value =
                    amount_of_first_units(
                        product_amount,
                        *refunded_units + newly_refunded_units,
                        ordered_units,
                    ) - amount_of_first_units(product_amount, *refunded_units, ordered_units);
                *refunded_units += newly_refunded_units;
                let write_off = write_offs
                    .entry(*shipment_id)
                    .or_insert_with(|| self.unsubtracted_write_off(*shipment_id));
                let unpaid_amount = value.min(*write_off);
                *write_off -= unpaid_amount;
                let warehouse = item.warehouse.as_ref().unwrap_or(&shipped_item.warehouse);
                received_items.push(ReceivedItem {
                    shipment_id: *shipment_id,
                    sku: item.sku.clone(),
                    quantity,
                    restock: item.restock,
                    warehouse: item.restock.then(|| warehouse.clone()),
                    refunded_units: u32::try_from(newly_refunded_units).unwrap_or(u32::MAX),
                    value,
                    unpaid: unpaid_amount,
                });
            }
        }
        received_items
    }

    /// Applies an event of a return; `None` if the order has no such return.
    pub(super) fn apply_to_return(&mut self, event: &Event) -> Option<()> {
        let return_id = match &event.event_data {
            EventData::ReturnRequested {
                return_id,
                return_number,
                items,
                note,
                refund_amount,
            } => {
                self.returns.push(Return {
                    id: *return_id,
                    number: return_number.clone(),
                    status: ReturnStatus::Requested,
                    items: items.clone(),
                    note: note.clone(),
                    reason: None,
                    received: Vec::new(),
                    refund_amount: *refund_amount,
                    fee: 0,
                    version: 1,
                    created_at: event.time,
                    updated_at: event.time,
                });
                return Some(());
            }
            EventData::ReturnApproved { return_id }
            | EventData::ReturnRejected { return_id, .. }
            | EventData::ReturnCancelled { return_id, .. }
            | EventData::ReturnReceived { return_id, .. } => *return_id,
            _ => return None,
        };
        let order_return = self
            .returns
            .iter_mut()
            .find(|order_return| order_return.id == return_id)?;
        order_return.version += 1;
        order_return.updated_at = event.time;
        match &event.event_data {
            EventData::ReturnApproved { .. } => order_return.status = ReturnStatus::Approved,
            EventData::ReturnRejected { reason, .. } => {
                order_return.status = ReturnStatus::Rejected;
                order_return.reason.clone_from(reason);
            }
            EventData::ReturnCancelled { reason, .. } => {
                order_return.status = ReturnStatus::Cancelled;
                order_return.reason.clone_from(reason);
            }
            EventData::ReturnReceived {
                items,
                refund_amount,
                fee,
                ..
            } => {
                order_return.status = ReturnStatus::Received;
                order_return.received.clone_from(items);
                order_return.refund_amount = *refund_amount;
                order_return.fee = *fee;
                for item in items.iter().filter(|item| item.refunded_units > 0) {
                    let refunded_count = self.refunded_units.entry(item.sku.clone()).or_default();
                    *refunded_count += u64::from(item.refunded_units);
                    self.item_refunds += item.value;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Removes the free texts of the returns.
    pub(super) fn redact_returns(&mut self) {
        for order_return in &mut self.returns {
            order_return.note = None;
            order_return.reason = None;
            for item in &mut order_return.items {
                item.reason = None;
            }
            order_return.version += 1;
        }
    }
}
