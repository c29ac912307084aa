//! What can be asked about orders, and how each request's fields are read.

use std::{num::NonZeroU32, ops::RangeInclusive, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Address, OrderStatus, ShipmentStatus};
use crate::{
    body::{self, Fields},
    id::{CustomerId, OrderId, ShipmentId, Sku, Storefront},
    money::MAX_AMOUNT,
    outcome::Code,
    page::{DEFAULT_LIMIT, MAX_LIMIT},
    schema,
};

/// Line items of an order at most.
pub const MAX_ITEMS: usize = 500;
/// Units of one line item.
pub const QUANTITY: RangeInclusive<i64> = 1..=1_000_000;
/// Bytes of `metadata`, written as JSON, at most.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// `order.create`: the body of `POST /v1/orders`.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "customer_id": "0192f0c1-0000-7abc-8def-0123456789ab",
    "items": [{"sku": "TSHIRT", "quantity": 2}],
    "shipping_address": {"name": "Ada Lovelace", "line1": "Main Street 1", "city": "Berlin", "country": "DE"},
    "payment_method": "pm_ok", "expected_total": 3998, "metadata": {"cart": "42"}
}))]
pub struct CreateOrder {
    /// For whom.
    pub customer_id: CustomerId,
    /// What.
    #[schema(min_items = 1, max_items = 500)]
    pub items: Vec<NewItem>,
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::address, required = false)]
    pub shipping_address: Option<Address>,
    /// The payment provider's token. With the sandbox, `pm_ok` when absent; other providers need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
        example = "pm_ok"
    )]
    pub payment_method: Option<String>,
    /// Minor units the caller showed its customer; another total is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub expected_total: Option<i64>,
    /// The caller's own data.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(schema_with = schema::metadata, required = false)]
    pub metadata: Map<String, Value>,
    /// For operators and admins: on whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
}

/// A wish: so many of this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewItem {
    /// Which product.
    pub sku: Sku,
    /// How many.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub quantity: NonZeroU32,
}

impl CreateOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let customer_id = fields.required("customer_id", body::parsed);
        let items = fields.list("items", 1..=MAX_ITEMS, item);
        let shipping_address = fields.optional("shipping_address", address);
        let payment_method = fields.optional("payment_method", payment_method);
        let expected_total = fields.optional("expected_total", body::integer(0..=MAX_AMOUNT));
        let metadata = fields.optional("metadata", body::object(MAX_METADATA_BYTES));
        let storefront = fields.optional("storefront", body::parsed);
        Some(Self {
            customer_id: customer_id?,
            items: items?,
            shipping_address,
            payment_method,
            expected_total,
            metadata: metadata.unwrap_or_default(),
            storefront,
        })
    }
}

fn quantity(value: Value) -> Result<NonZeroU32, String> {
    let number = body::integer(QUANTITY)(value)?;
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| "must be positive".to_owned())
}

/// An address has at most 20 fields of at most 200 characters.
fn address(value: Value) -> Result<Address, String> {
    let Value::Object(map) = value else {
        return Err("must be an object".to_owned());
    };
    if map.len() > 20 {
        return Err("must have at most 20 fields".to_owned());
    }
    map.into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let name = body::text(1..=64)(Value::String(name))
                .map_err(|error| format!("field name {error}"))?;
            let text = body::text(0..=200)(value).map_err(|error| format!("{name} {error}"))?;
            Ok((name, text))
        })
        .collect()
}

/// A token of the provider's; a card number never gets further than this.
fn payment_method(value: Value) -> Result<String, String> {
    let token = body::text(1..=255)(value)?;
    let digits = token.chars().filter(char::is_ascii_digit).count();
    let is_card = (12..=19).contains(&digits)
        && token
            .chars()
            .all(|c| c.is_ascii_digit() || c == ' ' || c == '-');
    if is_card {
        return Err("looks like a card number; pass the payment provider's token".to_owned());
    }
    Ok(token)
}

/// `order.get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GetOrder {
    /// Which order.
    pub id: OrderId,
    /// For operators: also when soft-deleted.
    pub include_deleted: bool,
}

impl GetOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let include_deleted = fields.optional("include_deleted", body::boolean);
        Some(Self {
            id: id?,
            include_deleted: include_deleted.unwrap_or(false),
        })
    }
}

/// `order.delete`, `order.restore`: nothing but which order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderRef {
    /// Which order.
    pub id: OrderId,
}

impl OrderRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        Some(Self { id: id? })
    }
}

/// `order.cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "changed my mind"}))]
pub struct CancelOrder {
    /// Which order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Why, in the caller's words; kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl CancelOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self { id: id?, reason })
    }
}

/// `order.reject`: the owner does not approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"reason": "no delivery to this country"}))]
#[serde(deny_unknown_fields)]
pub struct RejectOrder {
    /// Which order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Why, in the owner's words; kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl RejectOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self { id: id?, reason })
    }
}

/// `order.approve_all`: everything that waits for it, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"all": true}))]
#[serde(deny_unknown_fields)]
pub struct ApproveAll {
    /// Must be true: nobody approves everything by accident.
    pub all: bool,
    /// Only of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Where the last call ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub cursor: Option<String>,
}

impl ApproveAll {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let all = fields.required("all", |value| {
            let is_meant = body::boolean(value)?;
            is_meant.then_some(true).ok_or("must be true".to_owned())
        });
        let storefront = fields.optional("storefront", body::parsed);
        let cursor = cursor(fields);
        Some(Self {
            all: all?,
            storefront,
            cursor,
        })
    }
}

/// What came of `order.approve_all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovedAll {
    /// So many were approved.
    pub approved: u64,
    /// These were not.
    pub failed: Vec<NotApproved>,
    /// Pass as `cursor` to go on; `null` when everything was looked at.
    pub next_cursor: Option<String>,
}

/// An order that was not approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotApproved {
    /// Which order.
    pub id: OrderId,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub detail: String,
}

/// `shipment.create`: goods were handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"items": [{"sku": "TSHIRT", "quantity": 1}], "carrier": "DHL", "tracking_number": "00340434161094042557"}))]
#[serde(deny_unknown_fields)]
pub struct CreateShipment {
    /// Of which order.
    #[schema(ignore)]
    pub id: OrderId,
    /// What left; absent: everything that is still here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 500)]
    pub items: Option<Vec<NewItem>>,
    /// Who carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub carrier: Option<String>,
    /// The carrier's id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub tracking_number: Option<String>,
}

impl CreateShipment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let items = fields.optional_list("items", 1..=MAX_ITEMS, item);
        let carrier = fields.optional("carrier", body::text(1..=100));
        let tracking_number = fields.optional("tracking_number", body::text(1..=100));
        Some(Self {
            id: id?,
            items: items?,
            carrier,
            tracking_number,
        })
    }
}

fn item(item: &mut Fields<'_>) -> Option<NewItem> {
    let sku = item.required("sku", body::parsed);
    let quantity = item.required("quantity", quantity);
    Some(NewItem {
        sku: sku?,
        quantity: quantity?,
    })
}

/// `order.refund`: gives back some of what was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"amount": 1999, "reason": "one came damaged"}))]
#[serde(deny_unknown_fields)]
pub struct RefundOrder {
    /// Which order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Minor units; absent: all that is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub amount: Option<i64>,
    /// Why, in the caller's words; kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl RefundOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let amount = fields.optional("amount", body::integer(1..=MAX_AMOUNT));
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self {
            id: id?,
            amount,
            reason,
        })
    }
}

/// `order.history`: a page of the order's events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderHistory {
    /// Which order.
    pub id: OrderId,
    /// For operators: also when soft-deleted.
    pub include_deleted: bool,
    /// Entries at most.
    pub limit: u32,
    /// Only events after this `sequence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl OrderHistory {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let include_deleted = fields.optional("include_deleted", body::boolean);
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self {
            id: id?,
            include_deleted: include_deleted.unwrap_or(false),
            limit,
            cursor,
        })
    }
}

/// `order.list`: which orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListOrders {
    /// Only the one that people call so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Only those that another system calls so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Only in this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<OrderStatus>,
    /// Only of this customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// Only with this product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<Sku>,
    /// Only of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Only created at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<Timestamp>,
    /// Only created before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// For operators: soft-deleted ones too.
    pub include_deleted: bool,
    /// Entries at most.
    pub limit: u32,
    /// Where the last page ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListOrders {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let number = fields.optional("number", body::integer(1..=i64::MAX));
        let external_id = fields.optional("external_id", body::text(1..=200));
        let status = fields.optional("status", body::parsed);
        let customer_id = fields.optional("customer_id", body::parsed);
        let sku = fields.optional("sku", body::parsed);
        let storefront = fields.optional("storefront", body::parsed);
        let created_after = fields.optional("created_after", time);
        let created_before = fields.optional("created_before", time);
        let include_deleted = fields.optional("include_deleted", body::boolean);
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self {
            number,
            external_id,
            status,
            customer_id,
            sku,
            storefront,
            created_after,
            created_before,
            include_deleted: include_deleted.unwrap_or(false),
            limit,
            cursor,
        })
    }
}

pub(crate) fn limit(fields: &mut Fields<'_>) -> u32 {
    fields
        .optional("limit", body::integer(1..=i64::from(MAX_LIMIT)))
        .and_then(|limit| u32::try_from(limit).ok())
        .unwrap_or(DEFAULT_LIMIT)
}

pub(crate) fn cursor(fields: &mut Fields<'_>) -> Option<String> {
    fields.optional("cursor", body::text(1..=200))
}

fn time(value: Value) -> Result<Timestamp, String> {
    body::string(value)?
        .parse()
        .map_err(|_| "must be an RFC 3339 time such as 2026-01-31T12:00:00Z".to_owned())
}

/// `shipment.update`: what the shipper's webhook tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpdateShipment {
    /// Which order.
    pub order_id: OrderId,
    /// Which parcel; absent: every parcel of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipment_id: Option<ShipmentId>,
    /// What happened, as the shipper names it: `shipment.delivered`…
    #[serde(rename = "type")]
    pub kind: ShipmentUpdate,
    /// When it happened, by the shipper's clock.
    pub timestamp: Timestamp,
    /// The shipper's id for the parcel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking_number: Option<String>,
    /// Who carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
}

impl UpdateShipment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let order_id = fields.required("order_id", body::parsed);
        let shipment_id = fields.optional("shipment_id", body::parsed);
        let kind = fields.required("type", body::parsed);
        let timestamp = fields.required("timestamp", time);
        let tracking_number = fields.optional("tracking_number", body::text(1..=100));
        let carrier = fields.optional("carrier", body::text(1..=100));
        Some(Self {
            order_id: order_id?,
            shipment_id,
            kind: kind?,
            timestamp: timestamp?,
            tracking_number,
            carrier,
        })
    }
}

/// `payment.notify`: the provider says that something happened to a payment. What, it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotifyPayment {
    /// For which order.
    pub order_id: OrderId,
    /// The provider's id of the payment.
    pub reference: String,
}

impl NotifyPayment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let order_id = fields.required("order_id", body::parsed);
        let reference = fields.required("reference", body::text(1..=255));
        Some(Self {
            order_id: order_id?,
            reference: reference?,
        })
    }
}

/// What can happen to a parcel once it is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShipmentUpdate {
    /// Handed over to the carrier.
    #[serde(rename = "shipment.shipped")]
    Shipped,
    /// On its way.
    #[serde(rename = "shipment.in_transit")]
    InTransit,
    /// On the last van.
    #[serde(rename = "shipment.out_for_delivery")]
    OutForDelivery,
    /// Arrived.
    #[serde(rename = "shipment.delivered")]
    Delivered,
    /// Could not be delivered.
    #[serde(rename = "shipment.failed")]
    Failed,
    /// Came back.
    #[serde(rename = "shipment.returned")]
    Returned,
}

impl ShipmentUpdate {
    /// Every update, in the order of a parcel's life.
    pub const ALL: [Self; 6] = [
        Self::Shipped,
        Self::InTransit,
        Self::OutForDelivery,
        Self::Delivered,
        Self::Failed,
        Self::Returned,
    ];

    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shipped => "shipment.shipped",
            Self::InTransit => "shipment.in_transit",
            Self::OutForDelivery => "shipment.out_for_delivery",
            Self::Delivered => "shipment.delivered",
            Self::Failed => "shipment.failed",
            Self::Returned => "shipment.returned",
        }
    }

    /// Where the parcel is afterwards.
    pub fn status(self) -> ShipmentStatus {
        match self {
            Self::Shipped => ShipmentStatus::Shipped,
            Self::InTransit => ShipmentStatus::InTransit,
            Self::OutForDelivery => ShipmentStatus::OutForDelivery,
            Self::Delivered => ShipmentStatus::Delivered,
            Self::Failed => ShipmentStatus::Failed,
            Self::Returned => ShipmentStatus::Returned,
        }
    }
}

impl FromStr for ShipmentUpdate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|update| update.as_str() == text)
            .ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}
