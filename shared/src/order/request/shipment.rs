//! Requests about shipments.
//!
//! An operator creates a shipment, or cancels one that has not been handed to the carrier. The carrier's
//! webhook, or an operator, updates its status.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    create::{ItemQuantity, MAX_ITEMS},
    timestamp,
};
use crate::{
    body::{self, Fields},
    id::{OrderId, ShipmentId, Warehouse},
    order::ShipmentStatus,
    schema,
    web_url::web_url_text,
};

/// `shipment.create`: items were handed to a carrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"items": [{"sku": "TSHIRT", "quantity": 1}], "carrier": "DHL", "tracking_number": "00340434161094042557"}))]
#[serde(deny_unknown_fields)]
pub struct CreateShipment {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Shipped items; absent: everything that has not been shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 500)]
    pub items: Option<Vec<ItemQuantity>>,
    /// Carrier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub carrier: Option<String>,
    /// The carrier's tracking number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub tracking_number: Option<String>,
    /// URL of the carrier's tracking page; absent: that of the label, if it is used under its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::tracking_url, required = false)]
    pub tracking_url: Option<String>,
    /// Warehouse from which the items are shipped; absent: the warehouses where they are reserved. With
    /// `items`, units that are reserved in another warehouse are taken from the available stock of this one
    /// instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<Warehouse>,
    /// Whether to ship items that are not paid for: no authorized amount is left for them, or the capture
    /// failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(default = false, required = false)]
    pub allow_unpaid: bool,
}

impl CreateShipment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let items = fields.optional_list("items", 1..=MAX_ITEMS, ItemQuantity::read);
        let carrier = fields.optional("carrier", carrier);
        let tracking_number = fields.optional("tracking_number", tracking_number);
        let tracking_url = fields.optional("tracking_url", web_url_text);
        let warehouse = fields.optional("warehouse", body::parsed);
        let allow_unpaid = fields.optional("allow_unpaid", body::boolean);
        Some(Self {
            id: id?,
            items: items?,
            carrier,
            tracking_number,
            tracking_url,
            warehouse,
            allow_unpaid: allow_unpaid.unwrap_or(false),
        })
    }
}

/// Reads the name of a carrier.
pub(crate) fn carrier(value: Value) -> Result<String, String> {
    body::visible_text(1..=100)(value)
}

/// Reads a tracking number.
pub(crate) fn tracking_number(value: Value) -> Result<String, String> {
    body::visible_text(1..=100)(value)
}

/// `shipment.cancel`: cancels a shipment that has not been handed to the carrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"reason": "wrong label"}))]
#[serde(deny_unknown_fields)]
pub struct CancelShipment {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Id of the shipment.
    #[schema(ignore)]
    pub shipment_id: ShipmentId,
    /// Free-text reason, kept in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl CancelShipment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let shipment_id = fields.required("shipment_id", body::parsed);
        let reason = fields.optional("reason", body::text(0..=500));
        Some(Self {
            id: id?,
            shipment_id: shipment_id?,
            reason,
        })
    }
}

/// `shipment.update`: an update of a shipment, from the carrier's webhook or an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpdateShipment {
    /// Id of the order.
    pub order_id: OrderId,
    /// Id of the shipment; absent: the shipments with `tracking_number`, or all of the order without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipment_id: Option<ShipmentId>,
    /// Type of the update: `shipment.delivered`…
    #[serde(rename = "type")]
    pub kind: ShipmentUpdate,
    /// Time of the update by the carrier's clock; absent: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The carrier's tracking number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking_number: Option<String>,
    /// Carrier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
}

impl UpdateShipment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let order_id = fields.required("order_id", body::parsed);
        let shipment_id = fields.optional("shipment_id", body::parsed);
        let kind = fields.required("type", body::parsed);
        let timestamp = fields.optional("timestamp", timestamp);
        let tracking_number = fields.optional("tracking_number", body::text(1..=100));
        let carrier = fields.optional("carrier", body::text(1..=100));
        Some(Self {
            order_id: order_id?,
            shipment_id,
            kind: kind?,
            timestamp,
            tracking_number,
            carrier,
        })
    }
}

/// Type of an update of a shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShipmentUpdate {
    /// Handed to the carrier.
    #[serde(rename = "shipment.shipped")]
    Shipped,
    /// In transit.
    #[serde(rename = "shipment.in_transit")]
    InTransit,
    /// Out for delivery.
    #[serde(rename = "shipment.out_for_delivery")]
    OutForDelivery,
    /// Delivered.
    #[serde(rename = "shipment.delivered")]
    Delivered,
    /// A delivery attempt failed.
    #[serde(rename = "shipment.failed")]
    Failed,
    /// Returned.
    #[serde(rename = "shipment.returned")]
    Returned,
}

impl ShipmentUpdate {
    /// All updates, in the usual order.
    pub const ALL: [Self; 6] = [
        Self::Shipped,
        Self::InTransit,
        Self::OutForDelivery,
        Self::Delivered,
        Self::Failed,
        Self::Returned,
    ];

    /// The update as in JSON.
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

    /// The shipment's status after the update.
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
