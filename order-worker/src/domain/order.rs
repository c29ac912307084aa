//! The state of an order, and the amounts that follow from it: what is to be captured, to be refunded, or
//! written off.
//!
//! An order changes only by applying its next event (`apply_event`). The store keeps the state as JSON: field
//! names are stored names.

mod apply_event;
mod edit;
mod format;
mod returns;
mod transactions;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::{
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront, Warehouse},
    money::{Currency, Money},
    order::{
        Address, CancelReason, CancelledItem, Discount, InProgress, LineItem,
        Order as Representation, OrderStatus, Payment, PaymentStatus, PricedItem, Shipment,
        ShipmentStatus, ShippingCharge, StockItem, Tag,
    },
    outcome::Failure,
};

pub use self::{
    apply_event::ReplayError,
    edit::PendingEdit,
    returns::Return,
    transactions::{MAX_TRANSACTIONS, Transactions},
};
use super::{
    amounts::{Totals, amount_of_first_units},
    payment::MANUAL,
    step::{LabelId, StepRow},
    stock::subtract_items,
};

/// The complete state of an order.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about an order"
)]
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
    /// Shipping charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<ShippingCharge>,
    /// Discounts on the whole order, for information: each line item has its share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discount>,
    /// Whether the taxes are contained in the prices.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tax_included: bool,
    /// Whether it is waiting for approval.
    #[serde(default)]
    pub awaits_approval: bool,
    /// Whether its stock is still to be reserved.
    #[serde(default)]
    pub awaits_stock: bool,
    /// Reserved items that were neither shipped nor released.
    #[serde(rename = "held")]
    pub reserved_items: Vec<StockItem>,
    /// Shipping address.
    pub shipping_address: Option<Address>,
    /// Payment method: a token of the provider.
    pub payment_method: String,
    /// URL to which the provider redirects the customer after authentication, while that is outstanding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// Status and amounts of the payment.
    pub payment: Payment,
    /// Transactions of the payment; absent from states that earlier versions have stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Transactions>,
    /// Total amount to refund in minor units, whether refunded already or not.
    #[serde(default, rename = "refund_due")]
    pub total_refund_due: i64,
    /// Discarded refunds in minor units: they are not refunded automatically, but an operator can request
    /// them again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refund_written_off: i64,
    /// Refunds requested by operators, also by receiving a return, in minor units; they do not count as refunds
    /// of returned shipments.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub goodwill: i64,
    /// Units whose refund was requested by operators, or that were received through returns and refunded, by
    /// product; returned shipments are not counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refunded_units: BTreeMap<Sku, u64>,
    /// Share of the total of these units in minor units, whether a part of it was kept as a fee or not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub item_refunds: i64,
    /// Whether the refund of the shipping charge was requested by an operator.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shipping_refunded: bool,
    /// Discarded captures in minor units, by the shipment that they were for.
    #[serde(
        default,
        rename = "written_off",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub written_off_by_shipment: BTreeMap<ShipmentId, i64>,
    /// Shipments, cancelled ones included.
    pub shipments: Vec<Shipment>,
    /// Returns in the order of their requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returns: Vec<Return>,
    /// Number of replaced labels by warehouse.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced_labels: BTreeMap<Warehouse, u32>,
    /// Warehouses whose label was replaced and has no successor yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub awaited_labels: BTreeSet<Warehouse>,
    /// Number of the last edit that needed an authorization; 0: none did.
    #[serde(default, rename = "edits", skip_serializing_if = "is_zero_edits")]
    pub last_edit_number: u32,
    /// The edit whose higher total is being authorized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_edit: Option<Box<PendingEdit>>,
    /// Number of the edit that the payment was authorized for; 0: the order as it was created.
    #[serde(
        default,
        rename = "authorization",
        skip_serializing_if = "is_zero_edits"
    )]
    pub authorized_edit_number: u32,
    /// Authorizations that are not the order's and still have to be voided: the ids at the provider, where one is
    /// known, by number of the edit; 0: the order as it was created.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub open_authorizations: BTreeMap<u32, Option<String>>,
    /// Refunds because of edits that lowered the total below the captured amount, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub edit_refunds: i64,
    /// Metadata set by the client.
    pub metadata: Map<String, Value>,
    /// Note of the operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Tags, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
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
    /// Total amount to capture, in minor units: the shipped units' share of the total and the shipping charge,
    /// without written-off amounts.
    pub fn total_to_capture(&self) -> i64 {
        self.total_to_capture_with(&[])
    }

    /// Total amount to capture in minor units once `items_to_ship` are shipped, too.
    pub fn total_to_capture_with(&self, items_to_ship: &[StockItem]) -> i64 {
        let shipped_items = self
            .shipped_shipments()
            .flat_map(|shipment| &shipment.items);
        let units_by_sku = units_by_sku(shipped_items.chain(items_to_ship));
        if units_by_sku.is_empty() {
            return 0;
        }
        // The shipping charge is captured with the first shipment.
        self.value_of_first_units(&units_by_sku) + self.shipping_totals().total
            - self.total_written_off()
    }

    /// Written-off amounts of shipped items, in minor units.
    fn total_written_off(&self) -> i64 {
        let written_off_amount_of =
            |shipment: &Shipment| self.written_off_by_shipment.get(&shipment.id).copied();
        self.shipped_shipments()
            .filter_map(written_off_amount_of)
            .sum()
    }

    /// The totals of the shipping charge.
    pub fn shipping_totals(&self) -> Totals {
        Totals::of_shipping(self.shipping.as_ref(), self.tax_included)
    }

    /// The sum of all parts of the total, in minor units.
    pub fn sum_of_parts(&self) -> i64 {
        let item_totals = Totals::of_lines(&self.items, self.tax_included);
        item_totals
            .total
            .saturating_add(self.shipping_totals().total)
    }

    /// Total and quantity of the line items of each product.
    fn product_totals(&self) -> BTreeMap<&Sku, (i64, u64)> {
        let mut amounts_by_sku = BTreeMap::<&Sku, (i64, u64)>::new();
        for line in &self.items {
            let (total_amount, quantity) = amounts_by_sku.entry(&line.sku).or_default();
            *total_amount += Totals::of_line(line, self.tax_included).total;
            *quantity += u64::from(line.quantity.get());
        }
        amounts_by_sku
    }

    /// Total and quantity of the line items of one product.
    fn product_total(&self, sku: &Sku) -> (i64, u64) {
        let lines = self.items.iter().filter(|line| line.sku == *sku);
        lines.fold((0, 0), |(total_amount, quantity), line| {
            let line_total = Totals::of_line(line, self.tax_included).total;
            (
                total_amount + line_total,
                quantity + u64::from(line.quantity.get()),
            )
        })
    }

    /// Share of the total, in minor units, of the first `units` units of each product.
    fn value_of_first_units(&self, units_by_sku: &BTreeMap<&Sku, u64>) -> i64 {
        let amounts_by_sku = self.product_totals();
        let product_values = units_by_sku.iter().map(|(sku, units)| {
            let (total_amount, quantity) = amounts_by_sku.get(sku).copied().unwrap_or_default();
            amount_of_first_units(total_amount, *units, quantity)
        });
        product_values.sum()
    }

    /// Amount that is still to be captured for shipped items, in minor units.
    pub fn outstanding_capture(&self) -> i64 {
        (self.total_to_capture() - self.payment.captured).max(0)
    }

    /// Whether no item remains to be shipped: the next capture is the last one.
    pub fn has_nothing_to_ship(&self) -> bool {
        self.reserved_items.is_empty()
    }

    /// Total amount that was captured or is still authorized, in minor units.
    pub fn collectable_amount(&self) -> i64 {
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
    pub fn uncollectable_amount(&self) -> i64 {
        let written_off_total: i64 = self.written_off_by_shipment.values().sum();
        (self.total - self.cancelled_value() - written_off_total - self.collectable_amount()).max(0)
    }

    /// Value of the items that were cancelled after a part had been shipped, in minor units.
    fn cancelled_value(&self) -> i64 {
        let cancelled_items = self.cancelled_items();
        if cancelled_items.is_empty() {
            return 0;
        }
        let amounts_by_sku = self.product_totals();
        let cancelled_values = cancelled_items.iter().map(|item| {
            let (total_amount, quantity) =
                amounts_by_sku.get(&item.sku).copied().unwrap_or_default();
            total_amount
                - amount_of_first_units(
                    total_amount,
                    quantity.saturating_sub(item.quantity),
                    quantity,
                )
        });
        cancelled_values.sum()
    }

    /// Value of shipped items that was neither captured nor written off and that no further capture can
    /// collect, in minor units.
    pub fn uncollectable_shipped(&self) -> i64 {
        let collected_amount = if self.has_nothing_to_ship() {
            self.payment.captured
        } else {
            self.collectable_amount()
        };
        (self.total_to_capture() - collected_amount).max(0)
    }

    /// Amount that the customer was charged for returned shipments, in minor units, without what operators
    /// refunded. The shipping charge is part of it if everything came back.
    pub fn returned_value(&self) -> i64 {
        let returned_items_value = self.charged_for(&[ShipmentStatus::Returned]);
        let is_returned = |shipment: &Shipment| shipment.status == ShipmentStatus::Returned;
        let is_everything_returned = self.reserved_items.is_empty()
            && self.uncancelled_shipments().next().is_some()
            && self.uncancelled_shipments().all(is_returned);
        if is_everything_returned && !self.shipping_refunded {
            returned_items_value + self.shipping_totals().total
        } else {
            returned_items_value
        }
        .max(0)
    }

    /// Amount charged for the units of the shipments in one of `statuses`, in minor units, without written-off
    /// amounts and units that operators refunded.
    fn charged_for(&self, statuses: &[ShipmentStatus]) -> i64 {
        let has_status = |shipment: &&Shipment| statuses.contains(&shipment.status);
        let (mut charged_items, mut written_off_amount) = (Vec::new(), 0);
        for shipment in self.uncancelled_shipments().filter(has_status) {
            // Units that were received through returns are refunded by these.
            let unreturned_items = self.unreturned_items(shipment);
            if !unreturned_items.is_empty() {
                charged_items.extend(unreturned_items);
                written_off_amount += self.unsubtracted_write_off(shipment.id);
            }
        }
        if charged_items.is_empty() {
            return 0;
        }
        // Refunds by operators are subtracted as a sum. So units that came back and units that were refunded
        // add up to their exact share of the product's total, in whatever order that happened.
        let shipped_units = self.shipped_units();
        let mut units_by_sku = units_by_sku(&charged_items);
        for (sku, refunded_units) in &self.refunded_units {
            *units_by_sku.entry(sku).or_default() += refunded_units;
        }
        for (sku, units) in &mut units_by_sku {
            *units = (*units).min(shipped_units.get(sku).copied().unwrap_or(0));
        }
        self.value_of_first_units(&units_by_sku) - self.item_refunds - written_off_amount
    }

    /// Shipped units by product.
    fn shipped_units(&self) -> BTreeMap<&Sku, u64> {
        let shipped_shipments = self.shipped_shipments();
        units_by_sku(shipped_shipments.flat_map(|shipment| &shipment.items))
    }

    /// Units of a product that an operator can still refund: they were shipped, and neither refunded nor, if
    /// `refunds_returns`, returned.
    pub fn refundable_units(&self, sku: &Sku, refunds_returns: bool) -> u64 {
        let shipped_units = self.shipped_units().get(sku).copied().unwrap_or(0);
        shipped_units.saturating_sub(self.refunded_or_returned(sku, refunds_returns))
    }

    /// Amount of the next `units` units of a product that an operator refunds, in minor units.
    pub fn refund_of_units(&self, sku: &Sku, units: u64, refunds_returns: bool) -> i64 {
        let (total_amount, quantity) = self.product_total(sku);
        let units_before = self.refunded_or_returned(sku, refunds_returns);
        amount_of_first_units(total_amount, units_before + units, quantity)
            - amount_of_first_units(total_amount, units_before, quantity)
    }

    /// Units of a product that operators refunded or, if `refunds_returns`, that were returned as shipments.
    fn refunded_or_returned(&self, sku: &Sku, refunds_returns: bool) -> u64 {
        let returned_units = self
            .uncancelled_shipments()
            .filter(|shipment| refunds_returns && shipment.status == ShipmentStatus::Returned)
            .filter(|shipment| shipment.items.iter().any(|item| item.sku == *sku))
            .flat_map(|shipment| self.unreturned_items(shipment))
            .filter(|item| item.sku == *sku);
        let returned_count: u64 = returned_units
            .map(|item| u64::from(item.quantity.get()))
            .sum();
        self.refunded_units.get(sku).copied().unwrap_or(0) + returned_count
    }

    /// Amounts charged for the shipped shipments in the order of shipping, in minor units, without written-off
    /// amounts. The first one has the shipping charge.
    fn shipment_charges(&self) -> Vec<(ShipmentId, i64)> {
        let mut shipped_shipments: Vec<&Shipment> = self.shipped_shipments().collect();
        shipped_shipments.sort_by_key(|shipment| (shipment.shipped_at, shipment.id));
        let (mut units_by_sku, mut charged_amount) =
            (BTreeMap::new(), -self.shipping_totals().total);
        let charges = shipped_shipments.into_iter().map(|shipment| {
            for item in &shipment.items {
                *units_by_sku.entry(&item.sku).or_default() += u64::from(item.quantity.get());
            }
            let charged_total = self.value_of_first_units(&units_by_sku);
            let charge = charged_total - charged_amount;
            charged_amount = charged_total;
            let written_off_amount = self
                .written_off_by_shipment
                .get(&shipment.id)
                .copied()
                .unwrap_or(0);
            (shipment.id, charge - written_off_amount)
        });
        charges.collect()
    }

    /// Ordered units that will not be shipped, because they were cancelled after a part had been shipped.
    pub fn cancelled_items(&self) -> Vec<CancelledItem> {
        let is_in_fulfillment = match self.status {
            OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Cancelled => false,
        };
        let mut cancelled_units: BTreeMap<&Sku, u64> = BTreeMap::new();
        if is_in_fulfillment && !self.awaits_stock {
            for line in &self.items {
                *cancelled_units.entry(&line.sku).or_default() += u64::from(line.quantity.get());
            }
        }
        let shipped_items = self
            .shipped_shipments()
            .flat_map(|shipment| &shipment.items);
        for item in self.reserved_items.iter().chain(shipped_items) {
            if let Some(cancelled_count) = cancelled_units.get_mut(&item.sku) {
                *cancelled_count = cancelled_count.saturating_sub(item.quantity.get().into());
            }
        }
        let cancelled_items = cancelled_units
            .into_iter()
            .filter(|(_, quantity)| *quantity > 0);
        cancelled_items
            .map(|(sku, quantity)| CancelledItem {
                sku: sku.clone(),
                quantity,
            })
            .collect()
    }

    /// Captured amount whose refund was not requested yet, in minor units.
    pub fn refundable_amount(&self) -> i64 {
        self.payment.captured - self.total_refund_due.max(self.payment.refunded)
    }

    /// Amount that may be refunded without a request of an operator, in minor units: discarded refunds are
    /// excluded.
    pub fn refundable_automatically(&self) -> i64 {
        self.refundable_amount() - self.refund_written_off
    }

    /// Amount charged for returned shipments whose refund was not requested yet, in minor units.
    pub fn return_refund_due(&self) -> i64 {
        let requested_refunds = self.total_refund_due + self.refund_written_off - self.goodwill;
        (self.returned_value() - requested_refunds).min(self.refundable_automatically())
    }

    /// Whether the order needs no further processing: it was delivered or cancelled, or each of its shipments
    /// was delivered, returned by the carrier or in returns, or lost and refunded; and no return is open.
    pub fn is_closed(&self) -> bool {
        let is_fulfilled = match self.status {
            OrderStatus::Cancelled | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Processing => false,
            OrderStatus::Shipped => self.is_settled(),
        };
        is_fulfilled && self.open_return().is_none()
    }

    /// Whether no shipment is in transit and no capture or refund is outstanding.
    fn is_settled(&self) -> bool {
        use ShipmentStatus::{Delivered, Failed, Returned};
        // A shipment whose units have all come back through returns needs no report of the carrier.
        let is_finished = |shipment: &Shipment| {
            matches!(shipment.status, Delivered | Failed | Returned)
                || (shipment.shipped_at.is_some() && self.unreturned_items(shipment).is_empty())
        };
        let settled_refunds = self.payment.refunded + self.refund_written_off;
        let is_lost = |shipment: &Shipment| shipment.status == Failed;
        let lost_refund_due = if self.uncancelled_shipments().any(is_lost) {
            self.charged_for(&[Failed, Returned])
                .min(self.payment.captured)
        } else {
            0
        };
        self.uncancelled_shipments().all(is_finished)
            && self.outstanding_capture() == 0
            && self.payment.refunded >= self.total_refund_due
            && settled_refunds >= lost_refund_due
    }

    /// Whether it is paid outside of a payment provider, and an operator records the payments.
    pub fn is_paid_manually(&self) -> bool {
        self.payment.provider == MANUAL
    }

    /// Amount that the customer still has to pay, if the order is paid manually, in minor units.
    pub fn outstanding_payment(&self) -> i64 {
        match self.status {
            OrderStatus::Cancelled => 0,
            OrderStatus::Pending
            | OrderStatus::Processing
            | OrderStatus::Shipped
            | OrderStatus::Delivered => (self.total - self.payment.captured).max(0),
        }
    }

    /// Amount of the refunds that were requested and not made yet, in minor units.
    pub fn outstanding_refund(&self) -> i64 {
        (self.total_refund_due - self.payment.refunded).max(0)
    }

    /// The transactions of the payment, or their summary.
    pub fn transactions(&self) -> Cow<'_, Transactions> {
        match &self.transactions {
            Some(transactions) => Cow::Borrowed(transactions),
            None => Cow::Owned(Transactions::summarize(self)),
        }
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
    pub fn uncancelled_shipments(&self) -> impl Iterator<Item = &Shipment> {
        self.shipments
            .iter()
            .filter(|shipment| shipment.status != ShipmentStatus::Cancelled)
    }

    /// Shipments that were neither cancelled nor shipped.
    pub fn unshipped_shipments(&self) -> impl Iterator<Item = &Shipment> {
        self.uncancelled_shipments()
            .filter(|shipment| shipment.shipped_at.is_none())
    }

    /// The current label of `warehouse`.
    pub fn label_id(&self, warehouse: &Warehouse) -> LabelId {
        LabelId {
            warehouse: warehouse.clone(),
            replaced: self.replaced_labels.get(warehouse).copied().unwrap_or(0),
        }
    }

    /// Whether the customer's personal data was erased from it. Every other order has a payment method, apart from
    /// an asynchronous one that was refused because it has none.
    pub fn is_redacted(&self) -> bool {
        self.payment_method.is_empty()
    }

    /// Shipments that have left their warehouse.
    pub fn shipped_shipments(&self) -> impl Iterator<Item = &Shipment> {
        self.uncancelled_shipments()
            .filter(|shipment| shipment.shipped_at.is_some())
    }

    /// Reserved items in `warehouse` that are in no shipment yet.
    pub fn unlabelled_items(&self, warehouse: &Warehouse) -> Vec<StockItem> {
        let mut unlabelled_items: Vec<StockItem> = self
            .reserved_items
            .iter()
            .filter(|item| item.warehouse == *warehouse)
            .cloned()
            .collect();
        for shipment in self.unshipped_shipments() {
            let items = shipment
                .items
                .iter()
                .filter(|item| item.warehouse == *warehouse);
            subtract_items(&mut unlabelled_items, &items.cloned().collect::<Vec<_>>());
        }
        unlabelled_items
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
        let mut representation = self.represent(steps);
        if let Some(action) = &mut representation.payment.next_action {
            let mut client_secrets = steps
                .iter()
                .filter_map(|step_row| step_row.client_secret.as_ref());
            action.client_secret = client_secrets.next().cloned();
        }
        representation
    }

    /// The representation of the order. `steps` are its unfinished steps.
    pub fn represent<'a>(&self, steps: impl IntoIterator<Item = &'a StepRow>) -> Representation {
        let next_step = steps
            .into_iter()
            .filter(|step_row| !step_row.key.step.is_timer_or_check())
            .min_by_key(|step_row| (step_row.is_dead, step_row.due_at));
        let item_totals = Totals::of_lines(&self.items, self.tax_included);
        let shipping_totals = self.shipping_totals();
        Representation {
            id: self.id,
            number: self.number,
            storefront: self.storefront.clone(),
            customer_id: self.customer_id,
            customer_name: None,
            external_id: self.external_id.clone(),
            status: self.status,
            cancel_reason: self.cancel_reason,
            currency: self.currency,
            subtotal: item_totals.subtotal,
            discount_total: item_totals.discount_total,
            shipping_total: shipping_totals.subtotal - shipping_totals.discount_total,
            tax_total: item_totals.tax_total + shipping_totals.tax_total,
            total: self.total,
            tax_included: self.tax_included,
            items: self.items.iter().map(|line| self.priced(line)).collect(),
            shipping: self.shipping.clone(),
            discounts: self.discounts.clone(),
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
            transactions: self
                .transactions()
                .represent(self.id, &self.payment.provider),
            shipments: self.shipments.clone(),
            returns: self
                .returns
                .iter()
                .map(|order_return| self.represent_return(order_return))
                .collect(),
            awaits_approval: self.awaits_approval,
            pending_edit: self.represent_pending_edit(),
            in_progress: next_step.map(|step_row| InProgress {
                step: step_row.key.step.kind().to_owned(),
                attempt: step_row.attempt,
                due_at: step_row.due_at,
            }),
            metadata: self.metadata.clone(),
            note: self.note.clone(),
            tags: self.tags.clone(),
            version: self.version,
            is_deleted: self.is_deleted,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted_at: self.deleted_at,
        }
    }

    /// The line item with its totals.
    fn priced(&self, line: &LineItem) -> PricedItem {
        let line_totals = Totals::of_line(line, self.tax_included);
        let line = line.clone();
        PricedItem {
            sku: line.sku,
            name: line.name,
            quantity: line.quantity,
            unit_price: line.unit_price,
            warehouse: line.warehouse,
            discounts: line.discounts,
            order_discount: line.order_discount,
            taxes: line.taxes,
            subtotal: line_totals.subtotal,
            discount_total: line_totals.discount_total,
            tax_total: line_totals.tax_total,
            total: line_totals.total,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero_edits(edit_number: &u32) -> bool {
    *edit_number == 0
}

/// Units by product.
fn units_by_sku<'a>(items: impl IntoIterator<Item = &'a StockItem>) -> BTreeMap<&'a Sku, u64> {
    let mut units_by_sku = BTreeMap::new();
    for item in items {
        *units_by_sku.entry(&item.sku).or_default() += u64::from(item.quantity.get());
    }
    units_by_sku
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(amount: &i64) -> bool {
    *amount == 0
}
