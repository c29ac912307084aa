//! Orders: the representation that REST and RPC return, with its payment and shipments.
//!
//! `charge` has the discounts, taxes and the shipping charge, `edit` the pending edit, `request` the requests about
//! orders, `returns` the returns, `import` the bulk import, `label` the reply of a carrier, `list` the options of
//! lists, `tag` the tags, `transaction` the transactions of the payment, `accept` the message of an order that is
//! created asynchronously. The rules for orders are in the worker's domain module.

mod accept;
pub(crate) mod charge;
mod edit;
mod import;
mod label;
mod list;
mod request;
mod returns;
mod tag;
mod transaction;

use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::accept::{ACCEPT_ORDER, AcceptOrder};
pub use self::charge::{Discount, ShippingCharge, Tax, TaxRate};
pub use self::edit::{EditRejectReason, PendingEdit};
pub use self::import::{
    ImportLine, ImportOrders, ImportReport, ImportedOrder, MAX_LINES, RejectedLine,
};
pub use self::label::Label;
pub use self::list::{BoundedCount, MAX_COUNT, OrderCount, OrderSort, PaymentFilter};
pub use self::request::{
    AddressPatch, ApproveAll, ApprovedAll, CancelEdit, CancelOrder, CancelRemaining,
    CancelShipment, CountOrders, CreateOrder, CreateShipment, EditItem, EditOrder, GetOrder,
    ItemQuantity, ListOrders, MAX_ITEMS, NewItem, NotApproved, NotifyPayment, OrderHistory,
    OrderRef, QUANTITY_RANGE, RecordPayment, RefundOrder, RejectOrder, ReturnUrl, ShipmentUpdate,
    UpdateOrder, UpdateShipment,
};
pub(crate) use self::request::{address, cursor, cursor_by, limit, timestamp};
pub use self::returns::{
    CreateReturn, ListReturns, ReceiptRefund, ReceiveReturn, ReceivedItem, ReceivedQuantity,
    RejectOrCancelReturn, Return, ReturnRef, ReturnStatus, ReturnedItem, restocked_items,
};
pub use self::tag::{MAX_TAGS, Tag};
pub use self::transaction::{Transaction, TransactionKind, TransactionStatus};
use crate::{
    caller::Role,
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront, Warehouse},
    money::Currency,
};

/// An order as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-2345-7abc-8def-0123456789ab", "number": 42, "storefront": "eu",
    "customer_id": "0192f0c1-0000-7abc-8def-0123456789ab", "external_id": null,
    "status": "processing", "cancel_reason": null, "currency": "EUR",
    "subtotal": 3998, "discount_total": 0, "shipping_total": 0, "tax_total": 0, "total": 3998, "tax_included": false,
    "items": [{"sku": "TSHIRT", "name": "T-shirt", "quantity": 2, "unit_price": 1999, "warehouse": "berlin",
        "subtotal": 3998, "discount_total": 0, "tax_total": 0, "total": 3998}],
    "shipping": null,
    "shipping_address": {"name": "Ada Lovelace", "city": "Berlin", "country": "DE"},
    "payment": {"status": "authorized", "provider": "sandbox", "reference": "sandbox_1", "authorized": 3998, "captured": 0, "refunded": 0},
    "transactions": [{"id": "0192f0c1-2345-8abc-8def-0123456789ab", "kind": "authorization", "amount": 3998,
        "provider": "sandbox", "reference": "sandbox_1", "status": "success", "created_at": "2026-01-31T12:00:01Z"}],
    "shipments": [], "in_progress": {"step": "request_shipment:berlin", "attempt": 1, "due_at": "2026-01-31T12:00:00Z"},
    "metadata": {"cart": "42"}, "version": 4, "is_deleted": false,
    "created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:00:01Z", "deleted_at": null
}))]
pub struct Order {
    /// UUIDv7.
    pub id: OrderId,
    /// Order number for people, counted across all storefronts.
    pub number: i64,
    /// Storefront that sold the order.
    pub storefront: Storefront,
    /// Id of the customer.
    pub customer_id: CustomerId,
    /// Name of the customer, in lists only; empty once the customer's personal data was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub customer_name: Option<String>,
    /// Id of the order in the system that it was imported from.
    pub external_id: Option<String>,
    /// Status of the order.
    pub status: OrderStatus,
    /// Reason for the cancellation.
    pub cancel_reason: Option<CancelReason>,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Price of all units before discounts and added taxes, in minor units: the sum of the line items'.
    pub subtotal: i64,
    /// Discounts on line items and on the whole order, in minor units; without those on the shipping charge.
    pub discount_total: i64,
    /// Shipping charge after its discounts and before added taxes, in minor units.
    pub shipping_total: i64,
    /// All taxes, in minor units. They are contained in the other amounts if `tax_included` is set.
    pub tax_total: i64,
    /// `subtotal - discount_total + shipping_total`, plus `tax_total` unless `tax_included` is set; in minor
    /// units.
    pub total: i64,
    /// Whether the taxes are contained in the prices; otherwise they are added to them.
    pub tax_included: bool,
    /// Line items; each comes from one warehouse.
    pub items: Vec<PricedItem>,
    /// Shipping charge.
    pub shipping: Option<ShippingCharge>,
    /// Discounts on the whole order; each line item has its share in `order_discount`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub discounts: Vec<Discount>,
    /// Units of `items` that will not be shipped, because the rest of the order was cancelled after a part
    /// had been shipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub cancelled_items: Vec<CancelledItem>,
    /// Shipping address.
    pub shipping_address: Option<Address>,
    /// Payment.
    pub payment: Payment,
    /// Transactions of the payment, oldest first.
    pub transactions: Vec<Transaction>,
    /// Shipments.
    pub shipments: Vec<Shipment>,
    /// Returns, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub returns: Vec<Return>,
    /// Whether the order is waiting for approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub awaits_approval: bool,
    /// The edit whose higher total is being authorized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub pending_edit: Option<PendingEdit>,
    /// The step that is due or running; `null` if there is none.
    pub in_progress: Option<InProgress>,
    /// Metadata set by the client.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Note of the operators. Storefronts do not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub note: Option<String>,
    /// Tags, sorted. Storefronts do not see them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    pub tags: Vec<Tag>,
    /// The `sequence` of the order's last event; also its `ETag`.
    pub version: u64,
    /// Whether the order is soft-deleted.
    pub is_deleted: bool,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time of the last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Time of the soft deletion.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
}

impl Order {
    /// The order as callers of `role` see it: note and tags are for operators and admins.
    #[must_use]
    pub fn visible_to(self, role: Role) -> Self {
        match role {
            Role::Operator | Role::Admin => self,
            Role::Storefront => Self {
                note: None,
                tags: Vec::new(),
                ..self
            },
        }
    }
}

/// Status of an order: `pending → processing → shipped → delivered`; `cancelled` is reached from `pending` or
/// `processing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// The order is stored and its stock reserved; payment or approval is outstanding.
    Pending,
    /// Payment authorized; being fulfilled.
    Processing,
    /// All items were shipped.
    Shipped,
    /// All items were delivered.
    Delivered,
    /// Cancelled; see `cancel_reason`.
    Cancelled,
}

impl OrderStatus {
    /// The status as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }
}

impl FromStr for OrderStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [
            Self::Pending,
            Self::Processing,
            Self::Shipped,
            Self::Delivered,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| "must be pending, processing, shipped, delivered or cancelled".to_owned())
    }
}

/// Reason for a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Requested by the storefront for its customer.
    CustomerRequest,
    /// Requested by an operator.
    OperatorRequest,
    /// The payment was declined.
    PaymentDeclined,
    /// Stock was not available when the order was processed.
    OutOfStock,
    /// The payment was not authorized before the reservation expired.
    Expired,
    /// The order was not approved.
    Rejected,
}

impl CancelReason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::CustomerRequest,
        Self::OperatorRequest,
        Self::PaymentDeclined,
        Self::OutOfStock,
        Self::Expired,
        Self::Rejected,
    ];

    /// The reason as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CustomerRequest => "customer_request",
            Self::OperatorRequest => "operator_request",
            Self::PaymentDeclined => "payment_declined",
            Self::OutOfStock => "out_of_stock",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }
}

/// A line item as stored and in events: units of a product from one warehouse, at the price set by the order or
/// its last edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Name of the product at the time of the order.
    pub name: String,
    /// Number of units.
    pub quantity: NonZeroU32,
    /// Price per unit in minor units, set by the order or its last edit.
    pub unit_price: i64,
    /// Warehouse that the units are reserved in and shipped from; `null` until they are reserved.
    pub warehouse: Option<Warehouse>,
    /// Discounts on these units together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discount>,
    /// Share of the discounts on the whole order, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub order_discount: i64,
    /// Taxes on these units together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taxes: Vec<Tax>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(amount: &i64) -> bool {
    *amount == 0
}

/// A line item with its totals, as callers see it: units of a product from one warehouse, at the price set by
/// the order or its last edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = LineItem)]
pub struct PricedItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Name of the product at the time of the order.
    pub name: String,
    /// Number of units.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
    /// Price per unit in minor units, set by the order or its last edit.
    pub unit_price: i64,
    /// Warehouse that the units are reserved in and shipped from; `null` until they are reserved.
    pub warehouse: Option<Warehouse>,
    /// Discounts on these units together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub discounts: Vec<Discount>,
    /// Share of the discounts on the whole order, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub order_discount: i64,
    /// Taxes on these units together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub taxes: Vec<Tax>,
    /// `quantity × unit_price`, in minor units.
    pub subtotal: i64,
    /// `discounts` and `order_discount` together, in minor units.
    pub discount_total: i64,
    /// Taxes, in minor units.
    pub tax_total: i64,
    /// `subtotal - discount_total`, plus `tax_total` unless the order's `tax_included` is set; in minor units.
    pub total: i64,
}

/// Units of a product that an order will not ship.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CancelledItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Number of units.
    #[schema(minimum = 1)]
    pub quantity: u64,
}

/// Units of a product in one warehouse, which are reserved, released or shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StockItem {
    /// SKU of the product.
    pub sku: Sku,
    /// Warehouse.
    pub warehouse: Warehouse,
    /// Number of units.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
}

/// An address: text by field name. Common fields are `name`, `line1`, `line2`, `city`, `postal_code`,
/// `region` and `country`; others are stored unchanged.
pub type Address = BTreeMap<String, String>;

/// The payment of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Payment {
    /// Status of the payment.
    pub status: PaymentStatus,
    /// Payment provider.
    pub provider: String,
    /// Id of the payment at the provider.
    pub reference: Option<String>,
    /// Authorized amount in minor units.
    pub authorized: i64,
    /// Captured amount in minor units.
    pub captured: i64,
    /// Refunded amount in minor units.
    pub refunded: i64,
    /// Action that the customer has to complete first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<NextAction>,
}

/// An action that the customer has to complete before the payment can be authorized, usually authentication.
/// The order waits for it as long as its stock is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NextAction {
    /// Type of the action at the provider: `use_stripe_sdk`, `redirect_to_url`…
    #[serde(rename = "type")]
    pub action_type: String,
    /// URL to redirect the customer to, if there is one.
    #[serde(default, rename = "url", skip_serializing_if = "Option::is_none")]
    pub action_url: Option<String>,
    /// Secret with which a storefront completes the payment in the customer's browser (Stripe.js:
    /// `handleNextAction`). Shown by `GET /v1/orders/{id}` only, never in lists or events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}

/// Status of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Not authorized yet.
    Pending,
    /// Authorized.
    Authorized,
    /// Captured.
    Captured,
    /// The authorization was voided; nothing was captured.
    Voided,
    /// Partially refunded.
    PartiallyRefunded,
    /// Fully refunded.
    Refunded,
    /// Declined.
    Failed,
}

/// A shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Shipment {
    /// UUIDv7.
    pub id: ShipmentId,
    /// Status of the shipment.
    pub status: ShipmentStatus,
    /// Carrier.
    pub carrier: String,
    /// The carrier's tracking number.
    pub tracking_number: String,
    /// URL of the carrier's tracking page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    pub tracking_url: Option<String>,
    /// URL of the label to print.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    pub label_url: Option<String>,
    /// Items of the shipment.
    pub items: Vec<StockItem>,
    /// Time at which it was handed to the carrier.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub shipped_at: Option<Timestamp>,
    /// Time of delivery.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<Timestamp>,
}

/// Status of a shipment.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentStatus {
    /// The carrier has been informed of the shipment; it has not been handed over.
    LabelCreated,
    /// Handed to the carrier.
    Shipped,
    /// In transit.
    InTransit,
    /// Out for delivery.
    OutForDelivery,
    /// Delivered.
    Delivered,
    /// A delivery attempt failed.
    Failed,
    /// Returned.
    Returned,
    /// Cancelled before it was shipped.
    Cancelled,
}

/// The step that is due or running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InProgress {
    /// Name of the step.
    pub step: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Time at which it is due; in the past while it runs.
    #[schema(value_type = String, format = DateTime)]
    pub due_at: Timestamp,
}
