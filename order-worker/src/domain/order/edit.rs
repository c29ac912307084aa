//! Edits of an order: the pending edit, and the authorizations that edits leave behind.
//!
//! An edit with a higher total than is authorized is pending until a new payment over that total is authorized.
//! The additional units are reserved for the edit meanwhile, apart from those of the order. The field names of
//! [`PendingEdit`] are stored names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::{
    event::{EditRequested, Event, EventData, OrderEdited},
    order::{
        Discount, LineItem, PaymentStatus, PendingEdit as Representation, ShippingCharge, StockItem,
    },
    outcome::Failure,
};

use super::Order;
use crate::domain::{amounts::Totals, payment, stock::subtract_items};

/// An edit whose higher total is being authorized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEdit {
    /// Number of the edit, from 1.
    pub number: u32,
    /// Total afterwards, in minor units.
    pub total: i64,
    /// Line items afterwards.
    pub items: Vec<LineItem>,
    /// Shipping charge afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<ShippingCharge>,
    /// Discounts on the whole order afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discount>,
    /// Additional units that are reserved for the edit.
    pub reserved: Vec<StockItem>,
    /// Payment method, if it is another one than the order's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    /// Id of the new payment at the provider, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Free-text reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time of the request.
    pub requested_at: Timestamp,
}

impl Order {
    /// Whether the edit with this number is pending.
    pub fn has_pending_edit(&self, edit_number: u32) -> bool {
        let pending_edit = self.pending_edit.as_ref();
        pending_edit.is_some_and(|edit| edit.number == edit_number)
    }

    /// Checks that no edit is pending.
    ///
    /// # Errors
    /// `INVALID_STATE`, naming the edit.
    pub fn ensure_no_pending_edit(&self) -> Result<(), Failure> {
        let Some(edit) = &self.pending_edit else {
            return Ok(());
        };
        Err(Failure::invalid_state(format!(
            "order {} has a pending edit ({}, requested at {}): wait until its total of {} minor units is authorized, or cancel the edit",
            self.id, edit.number, edit.requested_at, edit.total
        )))
    }

    /// Amount that pays for an edited order without another authorization, in minor units: what is authorized or
    /// captured, without what was refunded because of earlier edits.
    pub fn payable_amount(&self) -> i64 {
        self.collectable_amount() - self.edit_refunds
    }

    /// The sum of all parts of the pending edit's total, in minor units; `None` without a pending edit.
    pub fn sum_of_pending_edit(&self) -> Option<i64> {
        let edit = self.pending_edit.as_ref()?;
        let item_totals = Totals::of_lines(&edit.items, self.tax_included);
        let shipping_totals = Totals::of_shipping(edit.shipping.as_ref(), self.tax_included);
        Some(item_totals.total.saturating_add(shipping_totals.total))
    }

    /// The pending edit as callers see it.
    pub(super) fn represent_pending_edit(&self) -> Option<Representation> {
        let edit = self.pending_edit.as_ref()?;
        Some(Representation {
            number: edit.number,
            items: edit.items.iter().map(|line| self.priced(line)).collect(),
            shipping: edit.shipping.clone(),
            discounts: edit.discounts.clone(),
            total: edit.total,
            reason: edit.reason.clone(),
            requested_at: edit.requested_at,
        })
    }

    /// Applies `order.edit_requested`.
    pub(super) fn apply_edit_requested(&mut self, edit_requested: &EditRequested, event: &Event) {
        let new_edit = edit_requested.clone();
        self.last_edit_number = new_edit.edit_number;
        self.pending_edit = Some(Box::new(PendingEdit {
            number: new_edit.edit_number,
            total: new_edit.total,
            items: new_edit.items,
            shipping: new_edit.shipping,
            discounts: new_edit.discounts,
            reserved: Vec::new(),
            payment_method: new_edit.payment_method,
            reference: None,
            reason: new_edit.reason,
            requested_at: event.time,
        }));
    }

    /// Applies `order.edited`. Without anything to pay, the authorization is no longer the order's.
    pub(super) fn apply_edited(&mut self, order_edited: &OrderEdited) {
        if let Some(edit) = self.pending_edit.take() {
            self.reserved_items.extend(edit.reserved);
            if let Some(payment_method) = edit.payment_method {
                self.payment_method = payment_method;
            }
        }
        self.items.clone_from(&order_edited.items);
        self.shipping.clone_from(&order_edited.shipping);
        self.discounts.clone_from(&order_edited.discounts);
        self.total = order_edited.total;
        if order_edited.total == 0 && self.payment.status == PaymentStatus::Authorized {
            self.abandon_authorization();
            self.payment.status = PaymentStatus::Pending;
            self.payment.authorized = 0;
        }
        self.replace_labels(&order_edited.replaced_labels);
        self.settle_manual_status();
    }

    /// Applies `order.edit_rejected`. The new payment may be authorized at this moment.
    pub(super) fn apply_edit_rejected(&mut self, edit_number: u32) {
        if let Some(edit) = self.pending_edit.take_if(|edit| edit.number == edit_number) {
            self.open_authorizations.insert(edit_number, edit.reference);
        }
    }

    /// Applies the payment of an edit: the new payment was created or authorized. The earlier authorization is no
    /// longer the order's.
    pub(super) fn apply_payment_of_edit(&mut self, edit_number: u32, event_data: &EventData) {
        match event_data {
            EventData::PaymentPrepared {
                reference: payment_reference,
                ..
            } => {
                if let Some(edit) = &mut self.pending_edit
                    && edit.number == edit_number
                {
                    edit.reference = Some(payment_reference.clone());
                }
            }
            EventData::PaymentAuthorized { .. } => {
                if self.payment.status == PaymentStatus::Authorized {
                    self.abandon_authorization();
                }
                self.authorized_edit_number = edit_number;
                payment::apply(&mut self.payment, event_data);
            }
            _ => {}
        }
    }

    /// The present authorization is no longer the order's, and still has to be voided.
    fn abandon_authorization(&mut self) {
        let payment_reference = self.payment.reference.take();
        self.open_authorizations
            .insert(self.authorized_edit_number, payment_reference);
    }

    /// Adds units that are reserved for the pending edit.
    pub(super) fn reserve_for_edit(&mut self, items: &[StockItem]) {
        if let Some(edit) = &mut self.pending_edit {
            edit.reserved.extend_from_slice(items);
        }
    }

    /// Removes units that were reserved for the pending edit.
    pub(super) fn release_from_edit(&mut self, items: &[StockItem]) {
        if let Some(edit) = &mut self.pending_edit {
            subtract_items(&mut edit.reserved, items);
        }
    }
}
