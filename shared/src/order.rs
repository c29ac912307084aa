//! Orders on the wire: the representation that REST and RPC answer, and in `request` what can be
//! asked about them.

mod accept;
mod import;
mod request;

use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::accept::{ACCEPT_ORDER, AcceptOrder};
pub use self::import::{
    ImportLine, ImportOrders, ImportReport, ImportedOrder, MAX_LINES, RejectedLine,
};
pub use self::request::{
    ApproveAll, ApprovedAll, CancelOrder, CancelRemaining, CancelShipment, CreateOrder,
    CreateShipment, GetOrder, ListOrders, MAX_ITEMS, MAX_METADATA_BYTES, NewItem, NotApproved,
    NotifyPayment, OrderHistory, OrderRef, QUANTITY, RefundOrder, RejectOrder, ReturnUrl,
    ShipmentUpdate, UpdateShipment,
};
pub(crate) use self::request::{cursor, cursor_by, limit};
use crate::{
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront, Warehouse},
    money::Currency,
};

/// An order as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-2345-7abc-8def-0123456789ab", "number": 42, "storefront": "eu",
    "customer_id": "0192f0c1-0000-7abc-8def-0123456789ab", "external_id": null,
    "status": "processing", "cancel_reason": null, "currency": "EUR", "total": 3998,
    "items": [{"sku": "TSHIRT", "name": "T-shirt", "quantity": 2, "unit_price": 1999, "warehouse": "berlin"}],
    "shipping_address": {"name": "Ada Lovelace", "city": "Berlin", "country": "DE"},
    "payment": {"status": "authorized", "provider": "sandbox", "reference": "sandbox_1", "authorized": 3998, "captured": 0, "refunded": 0},
    "shipments": [], "in_progress": {"step": "request_shipment:berlin", "attempt": 1, "due_at": "2026-01-31T12:00:00Z"},
    "metadata": {"cart": "42"}, "version": 4, "is_deleted": false,
    "created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:00:01Z", "deleted_at": null
}))]
pub struct Order {
    /// UUIDv7.
    pub id: OrderId,
    /// Counts up by storefront-independent order of acceptance; for people.
    pub number: i64,
    /// Who sold it.
    pub storefront: Storefront,
    /// Who bought it.
    pub customer_id: CustomerId,
    /// The importing system's id.
    pub external_id: Option<String>,
    /// Where the order stands.
    pub status: OrderStatus,
    /// Why it was cancelled.
    pub cancel_reason: Option<CancelReason>,
    /// Of `total` and of every price.
    pub currency: Currency,
    /// Sum of the items, in minor units.
    pub total: i64,
    /// What was bought, each line from one warehouse.
    pub items: Vec<LineItem>,
    /// Units of `items` that will not be shipped: the rest of the order was cancelled after a part had
    /// left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub cancelled_items: Vec<CancelledItem>,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// The money's side.
    pub payment: Payment,
    /// The goods' side.
    pub shipments: Vec<Shipment>,
    /// It waits for its owner's approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub awaits_approval: bool,
    /// The step that is due or under way; `null` when nothing is.
    pub in_progress: Option<InProgress>,
    /// The caller's own data.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// The `sequence` of the order's last event; also its `ETag`.
    pub version: u64,
    /// Soft-deleted.
    pub is_deleted: bool,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it was soft-deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
}

/// `pending → processing → shipped → delivered`, or `cancelled` from the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Stored; stock held; payment or approval outstanding.
    Pending,
    /// Payment authorized, being fulfilled.
    Processing,
    /// All items left.
    Shipped,
    /// All items arrived.
    Delivered,
    /// Will not be fulfilled; see `cancel_reason`.
    Cancelled,
}

impl OrderStatus {
    /// As it stands on the wire.
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

/// Why an order was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The storefront asked, for its customer.
    CustomerRequest,
    /// An operator asked.
    OperatorRequest,
    /// The payment provider refused.
    PaymentDeclined,
    /// Stock was gone when it was processed.
    OutOfStock,
    /// Payment did not arrive within the reservation's time.
    Expired,
    /// The owner did not approve.
    Rejected,
}

impl CancelReason {
    /// Every reason there is.
    pub const ALL: [Self; 6] = [
        Self::CustomerRequest,
        Self::OperatorRequest,
        Self::PaymentDeclined,
        Self::OutOfStock,
        Self::Expired,
        Self::Rejected,
    ];

    /// As it stands on the wire.
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

/// One line: some units of a product, from one warehouse, at the price of the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LineItem {
    /// Which product.
    pub sku: Sku,
    /// Its name when it was bought.
    pub name: String,
    /// How many.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
    /// Minor units each, fixed at creation.
    pub unit_price: i64,
    /// Where they are held and leave from; `null` as long as none are.
    pub warehouse: Option<Warehouse>,
}

/// Units of a product that an order will not ship.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CancelledItem {
    /// Which product.
    pub sku: Sku,
    /// How many.
    #[schema(minimum = 1)]
    pub quantity: u64,
}

/// Some units of a product in one warehouse: what is reserved, released or shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StockItem {
    /// Which product.
    pub sku: Sku,
    /// In which warehouse.
    pub warehouse: Warehouse,
    /// How many.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
}

/// An address: text by field. Common fields are `name`, `line1`, `line2`, `city`, `postal_code`,
/// `region` and `country`; others are kept as they are.
pub type Address = BTreeMap<String, String>;

/// The money's side of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Payment {
    /// Where the payment stands.
    pub status: PaymentStatus,
    /// Which provider holds it.
    pub provider: String,
    /// The provider's id.
    pub reference: Option<String>,
    /// Minor units the provider holds for us.
    pub authorized: i64,
    /// Minor units taken.
    pub captured: i64,
    /// Minor units given back.
    pub refunded: i64,
    /// What the customer has to do before the provider goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<NextAction>,
}

/// What the customer has to do before the provider goes on: to authenticate, most often. The order waits
/// for it, no longer than its stock is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NextAction {
    /// As the provider calls it: `use_stripe_sdk`, `redirect_to_url`…
    #[serde(rename = "type")]
    pub kind: String,
    /// URL to redirect the customer to, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Secret with which a storefront completes the payment in the customer's browser (Stripe.js:
    /// `handleNextAction`). Shown by `GET /v1/orders/{id}` only, never in lists or events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Not asked, or not answered.
    Pending,
    /// Held for us.
    Authorized,
    /// Taken.
    Captured,
    /// The hold was given up; nothing was taken.
    Voided,
    /// Some of what was taken was given back.
    PartiallyRefunded,
    /// All that was taken was given back.
    Refunded,
    /// Refused.
    Failed,
}

/// A parcel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Shipment {
    /// UUIDv7.
    pub id: ShipmentId,
    /// Where the parcel is.
    pub status: ShipmentStatus,
    /// Who carries it.
    pub carrier: String,
    /// The carrier's id for it.
    pub tracking_number: String,
    /// What is in it.
    pub items: Vec<StockItem>,
    /// When it left.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub shipped_at: Option<Timestamp>,
    /// When it arrived.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<Timestamp>,
}

/// Where a parcel is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentStatus {
    /// Announced to the carrier; still here.
    LabelCreated,
    /// Handed over.
    Shipped,
    /// On its way.
    InTransit,
    /// On the last van.
    OutForDelivery,
    /// Arrived.
    Delivered,
    /// Could not be delivered.
    Failed,
    /// Came back.
    Returned,
    /// Withdrawn before it left.
    Cancelled,
}

/// The step that is due or under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InProgress {
    /// Which step.
    pub step: String,
    /// Which attempt, counted from 1.
    pub attempt: u32,
    /// When it is due; in the past while it is under way.
    #[schema(value_type = String, format = DateTime)]
    pub due_at: Timestamp,
}
