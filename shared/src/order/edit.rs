//! Edits of orders: the pending edit as callers see it, and the reasons for which an edit is rejected.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Discount, PricedItem, ShippingCharge};

/// An edit that takes effect when its higher total was authorized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PendingEdit {
    /// Number of the edit among those of the order that needed an authorization, from 1.
    pub number: u32,
    /// Line items afterwards.
    pub items: Vec<PricedItem>,
    /// Shipping charge afterwards.
    pub shipping: Option<ShippingCharge>,
    /// Discounts on the whole order afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub discounts: Vec<Discount>,
    /// Total afterwards, in minor units.
    pub total: i64,
    /// Free-text reason.
    pub reason: Option<String>,
    /// Time of the request.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
}

/// The reason for which an edit was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EditRejectReason {
    /// The higher total was declined.
    PaymentDeclined,
    /// The payment requires an action of the customer, which an edit does not wait for.
    ActionRequired,
    /// The higher total was not authorized in time.
    Expired,
    /// An operator discarded the failed authorization.
    Failed,
    /// The edit was cancelled.
    Cancelled,
    /// The order was cancelled.
    OrderCancelled,
    /// The order was shipped before the edit took effect.
    Shipped,
    /// The order's payment was captured or ended before the edit took effect.
    PaymentChanged,
}
