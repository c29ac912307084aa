//! Application of events to an order: the only code that changes an order's state.
//!
//! Each event is applied at once when a decision records it, and again by `verify`, which compares the result
//! with the stored state.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Map;
use shared::{
    event::{Event, EventData, OrderField, OrderUpdated, RefundCause},
    id::{ShipmentId, Warehouse},
    order::{OrderStatus, Payment, PaymentStatus, Shipment, ShipmentStatus, StockItem},
};

use super::{Order, Transactions};
use crate::domain::{amounts, payment, step::Step, stock::subtract_items};

/// An event that can't be applied to the order: a defect, or corrupt data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {sequence} ({event_kind}) does not follow version {version}: {reason}")]
pub struct ReplayError {
    sequence: u64,
    event_kind: &'static str,
    version: u64,
    reason: &'static str,
}

impl Order {
    /// Applies `events` in sequence; `None` without events.
    ///
    /// # Errors
    /// The first event that can't be applied.
    pub fn fold<'a>(
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Option<Self>, ReplayError> {
        let mut order = None;
        for event in events {
            match &mut order {
                None => order = Some(Self::from_created(event)?),
                Some(order) => order.apply(event)?,
            }
        }
        Ok(order)
    }

    /// Applies `events` in sequence, with the transactions of `stored_order`: they begin with a summary if an earlier
    /// version of the worker stored the order without them. `None` without events.
    ///
    /// # Errors
    /// The first event that can't be applied.
    pub fn fold_with_transactions_of<'a>(
        stored_order: &Self,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Option<Self>, ReplayError> {
        let summarized_version = stored_order
            .transactions
            .as_ref()
            .and_then(Transactions::summarized_version);
        let mut order = None;
        for event in events {
            match &mut order {
                None => order = Some(Self::from_created(event)?),
                Some(order) => order.apply(event)?,
            }
            if let Some(order) = &mut order
                && (stored_order.transactions.is_none()
                    || summarized_version == Some(order.version))
            {
                order.transactions = None;
            }
        }
        Ok(order)
    }

    /// The order created by `event`.
    ///
    /// # Errors
    /// When the event is not `order.created` with sequence 1.
    pub fn from_created(event: &Event) -> Result<Self, ReplayError> {
        let replay_error = |reason| ReplayError {
            sequence: event.sequence,
            event_kind: event.event_data.kind(),
            version: 0,
            reason,
        };
        let EventData::OrderCreated(order_created) = &event.event_data else {
            return Err(replay_error(
                "the first event of an order must be order.created",
            ));
        };
        if event.sequence != 1 {
            return Err(replay_error(
                "the first event of an order must have sequence 1",
            ));
        }
        let order_created = order_created.as_ref().clone();
        Ok(Self {
            id: event
                .subject
                .parse()
                .map_err(|_| replay_error("its subject is not an order id"))?,
            number: order_created.number,
            storefront: order_created.storefront,
            customer_id: order_created.customer_id,
            external_id: order_created.external_id,
            status: OrderStatus::Pending,
            cancel_reason: None,
            currency: order_created.currency,
            total: order_created.total,
            items: order_created.items,
            shipping: order_created.shipping,
            discounts: order_created.discounts,
            tax_included: order_created.tax_included,
            awaits_approval: order_created.needs_approval,
            awaits_stock: order_created.awaits_stock,
            reserved_items: Vec::new(),
            shipping_address: order_created.shipping_address,
            payment_method: order_created.payment_method,
            return_url: order_created.return_url,
            payment: Payment {
                status: PaymentStatus::Pending,
                provider: order_created.payment_provider,
                reference: None,
                authorized: 0,
                captured: 0,
                refunded: 0,
                next_action: None,
            },
            transactions: Some(Transactions::default()),
            total_refund_due: 0,
            refund_written_off: 0,
            goodwill: 0,
            refunded_units: BTreeMap::new(),
            item_refunds: 0,
            shipping_refunded: false,
            written_off_by_shipment: BTreeMap::new(),
            shipments: Vec::new(),
            returns: Vec::new(),
            replaced_labels: BTreeMap::new(),
            awaited_labels: BTreeSet::new(),
            last_edit_number: 0,
            pending_edit: None,
            authorized_edit_number: 0,
            open_authorizations: BTreeMap::new(),
            edit_refunds: 0,
            metadata: order_created.metadata,
            note: None,
            tags: Vec::new(),
            version: 1,
            is_deleted: false,
            created_at: event.time,
            updated_at: event.time,
            deleted_at: None,
        })
    }

    /// Applies `event`.
    ///
    /// # Errors
    /// When the event is not the next one of the order, or is not an event of orders.
    #[expect(clippy::too_many_lines, reason = "one arm per event")]
    pub fn apply(&mut self, event: &Event) -> Result<(), ReplayError> {
        let (version, event_kind) = (self.version, event.event_data.kind());
        let replay_error = |reason| ReplayError {
            sequence: event.sequence,
            event_kind,
            version,
            reason,
        };
        if event.sequence != version + 1 {
            return Err(replay_error("a gap in the sequence"));
        }
        self.apply_to_transactions(event);
        match &event.event_data {
            EventData::OrderApproved {} => self.awaits_approval = false,
            EventData::OrderProcessing {} => self.status = OrderStatus::Processing,
            EventData::OrderShipped {} => self.status = OrderStatus::Shipped,
            EventData::OrderDelivered {} => self.status = OrderStatus::Delivered,
            EventData::OrderCancelled { reason, .. } => {
                self.status = OrderStatus::Cancelled;
                self.cancel_reason = Some(*reason);
                self.return_url = None;
                self.awaits_approval = false;
                self.awaits_stock = false;
                self.awaited_labels.clear();
                self.settle_manual_status();
            }
            EventData::OrderEditRequested(edit_requested) => {
                self.apply_edit_requested(edit_requested, event);
            }
            EventData::OrderEdited(order_edited) => self.apply_edited(order_edited),
            EventData::OrderEditRejected { edit_number, .. } => {
                self.apply_edit_rejected(*edit_number);
            }
            EventData::OrderDeleted {} => {
                self.is_deleted = true;
                self.deleted_at = Some(event.time);
            }
            EventData::OrderRedacted {} => self.redact(),
            EventData::OrderUpdated(order_updated) => self.update(order_updated),
            EventData::OrderRestored {} => {
                self.is_deleted = false;
                self.deleted_at = None;
            }
            EventData::PaymentPrepared {
                edit_number: Some(edit_number),
                ..
            }
            | EventData::PaymentAuthorized {
                edit_number: Some(edit_number),
                ..
            } => self.apply_payment_of_edit(*edit_number, &event.event_data),
            EventData::PaymentReleased { edit_number, .. } => {
                self.open_authorizations.remove(edit_number);
            }
            EventData::PaymentAuthorized { .. } => {
                self.return_url = None;
                payment::apply(&mut self.payment, &event.event_data);
            }
            EventData::PaymentPrepared { .. }
            | EventData::PaymentActionRequired { .. }
            | EventData::PaymentDeclined { .. }
            | EventData::PaymentVoided { .. }
            | EventData::RefundFailed { .. }
            | EventData::PaymentRefunded { .. } => {
                payment::apply(&mut self.payment, &event.event_data);
            }
            EventData::PaymentCaptured { .. } => {
                payment::apply(&mut self.payment, &event.event_data);
                self.settle_manual_status();
                self.restore_written_off();
            }
            EventData::RefundRequested { .. } => self.request_refund(&event.event_data),
            EventData::StepDiscarded { step, amount } => self.discard(step, amount.unwrap_or(0)),
            EventData::StockReserved {
                items,
                edit_number: Some(_),
            } => self.reserve_for_edit(items),
            EventData::StockReleased {
                items,
                edit_number: Some(_),
                ..
            } => self.release_from_edit(items),
            EventData::StockReserved {
                items,
                edit_number: None,
            } => {
                self.reserved_items.extend_from_slice(items);
                if self.awaits_stock {
                    self.awaits_stock = false;
                    self.assign_warehouses(items);
                }
            }
            EventData::StockReleased { items, .. } => self.release_items(items),
            EventData::ShipmentCreated { shipment } => self.add_shipment(shipment),
            EventData::ShipmentShipped {
                shipment_id, items, ..
            } => {
                self.release_items(items);
                self.update_shipment(*shipment_id, event)
                    .ok_or_else(|| replay_error("the order has no such shipment"))?;
            }
            EventData::ShipmentDelivered { shipment_id, .. }
            | EventData::ShipmentInTransit { shipment_id, .. }
            | EventData::ShipmentOutForDelivery { shipment_id, .. }
            | EventData::ShipmentFailed { shipment_id, .. }
            | EventData::ShipmentReturned { shipment_id, .. }
            | EventData::ShipmentCancelled { shipment_id, .. } => {
                self.update_shipment(*shipment_id, event)
                    .ok_or_else(|| replay_error("the order has no such shipment"))?;
            }
            EventData::ReturnRequested { .. }
            | EventData::ReturnApproved { .. }
            | EventData::ReturnRejected { .. }
            | EventData::ReturnCancelled { .. }
            | EventData::ReturnReceived { .. } => {
                self.apply_to_return(event)
                    .ok_or_else(|| replay_error("the order has no such return"))?;
            }
            // For the history only.
            EventData::StepRetried { .. }
            | EventData::StepDead { .. }
            | EventData::StepRedriven { .. }
            | EventData::StockLow { .. } => {}
            EventData::OrderCreated(_) => {
                return Err(replay_error("the order was created already"));
            }
            EventData::StockAdjusted { .. }
            | EventData::ProductCreated { .. }
            | EventData::ProductUpdated { .. }
            | EventData::ProductDeleted {} => {
                return Err(replay_error("it is an event of a product"));
            }
            EventData::CustomerUpdated { .. } => {
                return Err(replay_error("it is an event of a customer"));
            }
            EventData::EndpointCreated { .. }
            | EventData::EndpointUpdated { .. }
            | EventData::EndpointDisabled { .. }
            | EventData::EndpointDeleted {} => {
                return Err(replay_error("it is an event of an endpoint"));
            }
            EventData::ApiKeyCreated { .. } | EventData::ApiKeyRevoked { .. } => {
                return Err(replay_error("it is an event of an API key"));
            }
        }
        self.version = event.sequence;
        self.updated_at = event.time;
        Ok(())
    }

    /// Changes the fields that `order_updated` names.
    fn update(&mut self, order_updated: &OrderUpdated) {
        for field in &order_updated.changed {
            match field {
                OrderField::ShippingAddress => {
                    self.shipping_address
                        .clone_from(&order_updated.shipping_address);
                }
                OrderField::Metadata => self.metadata.clone_from(&order_updated.metadata),
                OrderField::Note => self.note.clone_from(&order_updated.note),
                OrderField::Tags => self.tags.clone_from(&order_updated.tags),
            }
        }
        self.replace_labels(&order_updated.replaced_labels);
    }

    /// The labels of `warehouses` are replaced by others, if any items are left there.
    pub(super) fn replace_labels(&mut self, warehouses: &[Warehouse]) {
        for warehouse in warehouses {
            *self.replaced_labels.entry(warehouse.clone()).or_default() += 1;
            if self
                .reserved_items
                .iter()
                .any(|item| item.warehouse == *warehouse)
            {
                self.awaited_labels.insert(warehouse.clone());
            } else {
                self.awaited_labels.remove(warehouse);
            }
        }
    }

    fn add_shipment(&mut self, shipment: &Shipment) {
        self.await_no_label_of(&shipment.items);
        self.shipments.push(shipment.clone());
    }

    /// No label is awaited any more in the warehouses of `items`: they were shipped, labelled or released.
    fn await_no_label_of(&mut self, items: &[StockItem]) {
        for item in items {
            self.awaited_labels.remove(&item.warehouse);
        }
    }

    /// Applies the next event to the transactions; they begin with a summary if the state has none.
    fn apply_to_transactions(&mut self, event: &Event) {
        let mut transactions = match self.transactions.take() {
            Some(transactions) => transactions,
            None => Transactions::summarize(self),
        };
        transactions.apply(event, self);
        self.transactions = Some(transactions);
    }

    /// Derives the status of a manual payment of which nothing was refunded: it stays pending until the whole total
    /// is received, or the order is cancelled.
    pub(super) fn settle_manual_status(&mut self) {
        if !self.is_paid_manually() || self.payment.captured == 0 || self.payment.refunded > 0 {
            return;
        }
        self.payment.status =
            if self.status == OrderStatus::Pending && self.outstanding_payment() > 0 {
                PaymentStatus::Pending
            } else {
                PaymentStatus::Captured
            };
    }

    /// Adds a requested amount to the refunds due, and marks units and the shipping charge as refunded. A request
    /// that repeats a discarded refund reinstates it first.
    fn request_refund(&mut self, request_data: &EventData) {
        let EventData::RefundRequested {
            amount,
            cause,
            items,
            refunds_shipping,
            ..
        } = request_data
        else {
            return;
        };
        self.total_refund_due += amount;
        match cause {
            Some(RefundCause::RequestedByOperator | RefundCause::MadeAtProvider) => {
                let restored_amount = (*amount).min(self.refund_written_off);
                self.refund_written_off -= restored_amount;
                if *cause == Some(RefundCause::RequestedByOperator) {
                    self.goodwill += amount - restored_amount;
                }
            }
            // The received units are counted by `return.received`.
            Some(RefundCause::ReturnReceived) => self.goodwill += amount,
            // This refund is not one for returned items, so a later return is refunded in full.
            Some(RefundCause::OrderEdited) => {
                self.goodwill += amount;
                self.edit_refunds += amount;
            }
            Some(RefundCause::ShipmentReturned | RefundCause::OrderCancelled) | None => {}
        }
        if !items.is_empty() {
            let shipping_amount = if *refunds_shipping {
                self.shipping_totals().total
            } else {
                0
            };
            self.item_refunds += amount - shipping_amount;
        }
        for item in items {
            let units = self.refunded_units.entry(item.sku.clone()).or_default();
            *units += u64::from(item.quantity.get());
        }
        self.shipping_refunded |= *refunds_shipping;
    }

    /// Removes personal data. The pages behind the URLs of a shipment name the recipient; the references that
    /// operators have recorded with manual payments may name the customer.
    fn redact(&mut self) {
        self.shipping_address = None;
        self.metadata = Map::new();
        self.note = None;
        self.payment_method = String::new();
        self.return_url = None;
        for shipment in &mut self.shipments {
            shipment.tracking_url = None;
            shipment.label_url = None;
        }
        self.redact_returns();
        if self.is_paid_manually()
            && let Some(transactions) = &mut self.transactions
        {
            transactions.remove_references();
        }
    }

    /// Writes off `amount`, which `step` was to capture or refund.
    fn discard(&mut self, step: &str, amount: i64) {
        match step.parse() {
            Ok(Step::RefundPayment) => {
                self.total_refund_due -= amount;
                self.refund_written_off += amount;
            }
            Ok(Step::CapturePayment) => self.write_off_capture(amount),
            Ok(Step::VoidAuthorization(edit_number)) => {
                self.open_authorizations.remove(&edit_number);
            }
            _ => {}
        }
    }

    /// Writes off `amount` of the shipped items. Captures pay for shipments in the order of shipping, so the
    /// unpaid amount belongs to the latest shipments.
    fn write_off_capture(&mut self, mut amount: i64) {
        for (shipment_id, charge) in self.shipment_charges().into_iter().rev() {
            let written_off_part = charge.min(amount);
            if written_off_part > 0 {
                *self.written_off_by_shipment.entry(shipment_id).or_default() += written_off_part;
                amount -= written_off_part;
            }
        }
    }

    /// Reinstates written-off amounts that the provider captured after all.
    fn restore_written_off(&mut self) {
        let mut excess_amount = self.payment.captured - self.total_to_capture();
        self.written_off_by_shipment
            .retain(|_, written_off_amount| {
                let restored_amount = (*written_off_amount).min(excess_amount.max(0));
                excess_amount -= restored_amount;
                *written_off_amount -= restored_amount;
                *written_off_amount > 0
            });
    }

    /// Assigns each line item to the warehouse in which its units are reserved.
    fn assign_warehouses(&mut self, reserved_items: &[StockItem]) {
        self.items = amounts::assign_warehouses(&self.items, reserved_items);
    }

    /// Removes `items` from the reserved items.
    fn release_items(&mut self, items: &[StockItem]) {
        self.await_no_label_of(items);
        subtract_items(&mut self.reserved_items, items);
    }

    /// Updates a shipment; `None` if the order has no such shipment.
    fn update_shipment(&mut self, id: ShipmentId, event: &Event) -> Option<()> {
        let shipment = self
            .shipments
            .iter_mut()
            .find(|shipment| shipment.id == id)?;
        shipment.status = match &event.event_data {
            EventData::ShipmentShipped {
                carrier,
                tracking_number,
                tracking_url,
                occurred_at,
                ..
            } => {
                shipment.carrier.clone_from(carrier);
                shipment.tracking_number.clone_from(tracking_number);
                shipment.tracking_url.clone_from(tracking_url);
                shipment.shipped_at = Some(occurred_at.unwrap_or(event.time));
                ShipmentStatus::Shipped
            }
            EventData::ShipmentDelivered { occurred_at, .. } => {
                shipment.delivered_at = Some(occurred_at.unwrap_or(event.time));
                ShipmentStatus::Delivered
            }
            EventData::ShipmentInTransit { .. } => ShipmentStatus::InTransit,
            EventData::ShipmentOutForDelivery { .. } => ShipmentStatus::OutForDelivery,
            EventData::ShipmentFailed { .. } => ShipmentStatus::Failed,
            EventData::ShipmentReturned { .. } => ShipmentStatus::Returned,
            EventData::ShipmentCancelled { .. } => ShipmentStatus::Cancelled,
            _ => return None,
        };
        Some(())
    }
}
