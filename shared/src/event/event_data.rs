//! [`EventData`]: the closed set of event types and their data.
//!
//! Stored events must stay readable: new members are optional, and no type or member is renamed.
//! docs/asyncapi.json describes each type; a test compares it with this enum.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    id::{CustomerId, ShipmentId, Sku, Storefront, Warehouse},
    money::Currency,
    order::{
        Address, CancelReason, Discount, ItemQuantity, LineItem, OrderStatus, Shipment,
        ShippingCharge, StockItem,
    },
    outcome::{Code, Failure},
    product::NewProduct,
    webhook::{DisabledReason, EndpointUrl},
};

/// Type and data of an event. The tag is the event type and the routing key on `order-events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventData {
    /// An order was accepted.
    #[serde(rename = "order.created")]
    OrderCreated(Box<OrderCreated>),
    /// The order was approved.
    #[serde(rename = "order.approved")]
    OrderApproved {},
    /// The payment is authorized; fulfilment starts.
    #[serde(rename = "order.processing")]
    OrderProcessing {},
    /// All items were shipped.
    #[serde(rename = "order.shipped")]
    OrderShipped {},
    /// All items were delivered.
    #[serde(rename = "order.delivered")]
    OrderDelivered {},
    /// The order was cancelled.
    #[serde(rename = "order.cancelled")]
    OrderCancelled {
        /// Reason for the cancellation.
        reason: CancelReason,
        /// Free-text reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Status before the cancellation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<OrderStatus>,
    },
    /// The order was soft-deleted.
    #[serde(rename = "order.deleted")]
    OrderDeleted {},
    /// The soft deletion was undone.
    #[serde(rename = "order.restored")]
    OrderRestored {},

    /// The customer's personal data was erased from the order and from its earlier events.
    #[serde(rename = "order.redacted")]
    OrderRedacted {},

    /// The provider created a payment; no money is authorized yet.
    #[serde(rename = "payment.prepared")]
    PaymentPrepared {
        /// Payment provider.
        provider: String,
        /// Id of the payment at the provider.
        reference: String,
    },
    /// The customer has to complete an action first.
    #[serde(rename = "payment.action_required")]
    PaymentActionRequired {
        /// Type of the action at the provider.
        #[serde(rename = "type")]
        kind: String,
        /// URL to redirect the customer to, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// The provider authorized the payment.
    #[serde(rename = "payment.authorized")]
    PaymentAuthorized {
        /// Payment provider.
        provider: String,
        /// Id of the payment at the provider.
        reference: String,
        /// Authorized amount in minor units.
        amount: i64,
    },
    /// The provider declined the payment.
    #[serde(rename = "payment.declined")]
    PaymentDeclined {
        /// Error code of the provider.
        code: String,
        /// Error message of the provider.
        message: String,
    },
    /// The payment was captured.
    #[serde(rename = "payment.captured")]
    PaymentCaptured {
        /// Captured amount in minor units.
        amount: i64,
        /// The provider released the rest of the authorization: no more can be captured.
        #[serde(default, skip_serializing_if = "is_false")]
        is_final: bool,
    },
    /// The authorization was voided; without a reference, none existed.
    #[serde(rename = "payment.voided")]
    PaymentVoided {
        /// Id of the payment at the provider.
        reference: Option<String>,
    },
    /// A refund was requested.
    #[serde(rename = "payment.refund_requested")]
    RefundRequested {
        /// Amount in minor units, in addition to earlier refund requests.
        amount: i64,
        /// Free-text reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The cause, for programs; absent from events of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<RefundCause>,
        /// Refunded units, if units were requested instead of an amount.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<ItemQuantity>,
        /// The shipping charge is refunded.
        #[serde(default, skip_serializing_if = "is_false")]
        shipping: bool,
    },
    /// A refund that had succeeded was reversed.
    #[serde(rename = "payment.refund_failed")]
    RefundFailed {
        /// Amount in minor units.
        amount: i64,
    },
    /// A refund succeeded.
    #[serde(rename = "payment.refunded")]
    PaymentRefunded {
        /// Amount of this refund in minor units.
        amount: i64,
    },

    /// Stock was reserved for the order.
    #[serde(rename = "stock.reserved")]
    StockReserved {
        /// Reserved items.
        items: Vec<StockItem>,
    },
    /// Reserved stock was released.
    #[serde(rename = "stock.released")]
    StockReleased {
        /// Released items.
        items: Vec<StockItem>,
        /// The caller's reason if the rest of a partly shipped order was cancelled, or the warehouse that the
        /// items are shipped from instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A stock level was set or adjusted.
    #[serde(rename = "stock.adjusted")]
    StockAdjusted {
        /// SKU of the product.
        sku: Sku,
        /// Warehouse.
        warehouse: Warehouse,
        /// Units on hand after the change.
        on_hand: i64,
        /// Free-text reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The product was removed from this warehouse.
        #[serde(default, skip_serializing_if = "is_false")]
        is_removed: bool,
    },
    /// A product's available stock fell to its threshold.
    #[serde(rename = "stock.low")]
    StockLow {
        /// SKU of the product.
        sku: Sku,
        /// Available units in all warehouses.
        available: i64,
        /// The product's `low_stock_at`.
        low_stock_at: i64,
    },

    /// A shipment was created.
    #[serde(rename = "shipment.created")]
    ShipmentCreated {
        /// The shipment.
        shipment: Shipment,
    },
    /// A shipment was handed to the carrier.
    #[serde(rename = "shipment.shipped")]
    ShipmentShipped {
        /// Id of the shipment.
        shipment_id: ShipmentId,
        /// Shipped items.
        items: Vec<StockItem>,
        /// Carrier.
        carrier: String,
        /// The carrier's tracking number.
        tracking_number: String,
        /// Time of the occurrence by the carrier's clock; absent: the event's time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A shipment is in transit.
    #[serde(rename = "shipment.in_transit")]
    ShipmentInTransit {
        /// Id of the shipment.
        shipment_id: ShipmentId,
        /// Time of the occurrence by the carrier's clock; absent: the event's time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A shipment is out for delivery.
    #[serde(rename = "shipment.out_for_delivery")]
    ShipmentOutForDelivery {
        /// Id of the shipment.
        shipment_id: ShipmentId,
        /// Time of the occurrence by the carrier's clock; absent: the event's time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A shipment was delivered.
    #[serde(rename = "shipment.delivered")]
    ShipmentDelivered {
        /// Id of the shipment.
        shipment_id: ShipmentId,
        /// Time of the occurrence by the carrier's clock; absent: the event's time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A delivery attempt failed.
    #[serde(rename = "shipment.failed")]
    ShipmentFailed {
        /// Id of the shipment.
        shipment_id: ShipmentId,
        /// Time of the occurrence by the carrier's clock; absent: the event's time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A shipment was returned.
    #[serde(rename = "shipment.returned")]
    ShipmentReturned {
        /// Id of the shipment.
        shipment_id: ShipmentId,
        /// Items that were put back into stock.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<StockItem>,
        /// Time of the occurrence by the carrier's clock; absent: the event's time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A shipment was cancelled before it was shipped.
    #[serde(rename = "shipment.cancelled")]
    ShipmentCancelled {
        /// Id of the shipment.
        shipment_id: ShipmentId,
        /// The reason given by the caller.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },

    /// A step failed and will be retried.
    #[serde(rename = "step.retried")]
    StepRetried {
        /// The step.
        step: String,
        /// Error of the attempt.
        error: String,
        /// Time of the next attempt.
        due_at: Timestamp,
    },
    /// A step failed permanently and needs an operator.
    #[serde(rename = "step.dead")]
    StepDead {
        /// The step.
        step: String,
        /// Error of the last attempt.
        error: String,
    },

    /// An operator redrove a step that was dead or waiting for its next attempt.
    #[serde(rename = "step.redriven")]
    StepRedriven {
        /// The step.
        step: String,
    },
    /// An operator discarded a dead step.
    #[serde(rename = "step.discarded")]
    StepDiscarded {
        /// The step.
        step: String,
        /// Amount written off, in minor units: it will no longer be captured (`capture_payment`) or refunded
        /// (`refund_payment`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<i64>,
    },

    /// A product was created.
    #[serde(rename = "product.created")]
    ProductCreated {
        /// The product.
        product: NewProduct,
    },
    /// A product was changed.
    #[serde(rename = "product.updated")]
    ProductUpdated {
        /// The product after the change.
        product: NewProduct,
    },
    /// A product was deleted.
    #[serde(rename = "product.deleted")]
    ProductDeleted {},

    /// A webhook endpoint was created.
    #[serde(rename = "webhook_endpoint.created")]
    EndpointCreated {
        /// URL of the endpoint.
        url: EndpointUrl,
    },
    /// A webhook endpoint was changed, or its secret was rotated.
    #[serde(rename = "webhook_endpoint.updated")]
    EndpointUpdated {
        /// URL of the endpoint.
        url: EndpointUrl,
    },
    /// A webhook endpoint was disabled by the system.
    #[serde(rename = "webhook_endpoint.disabled")]
    EndpointDisabled {
        /// URL of the endpoint.
        url: EndpointUrl,
        /// Reason.
        reason: DisabledReason,
    },
    /// A webhook endpoint was deleted.
    #[serde(rename = "webhook_endpoint.deleted")]
    EndpointDeleted {},
}

/// The cause of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundCause {
    /// An operator requested the refund.
    Requested,
    /// A shipment was returned.
    Returned,
    /// The order was cancelled after its payment was captured.
    Cancelled,
    /// The refund was made at the provider.
    Provider,
}

/// The data with which an order is created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderCreated {
    /// Order number, for people.
    pub number: i64,
    /// Storefront that sold the order.
    pub storefront: Storefront,
    /// Id of the customer.
    pub customer_id: CustomerId,
    /// Id of the order in the system that it was imported from.
    pub external_id: Option<String>,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Total in minor units.
    pub total: i64,
    /// Line items.
    pub items: Vec<LineItem>,
    /// Shipping charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<ShippingCharge>,
    /// Discounts on the whole order; each line item has its share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discount>,
    /// Whether the taxes are contained in the prices.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tax_included: bool,
    /// Shipping address.
    pub shipping_address: Option<Address>,
    /// Payment provider.
    pub payment_provider: String,
    /// Payment method: a token of the provider.
    pub payment_method: String,
    /// URL to which the provider redirects the customer after authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// Metadata set by the client.
    pub metadata: Map<String, Value>,
    /// Whether the order needs approval before it is processed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_approval: bool,
    /// Whether stock is reserved later, when the order is processed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub awaits_stock: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl EventData {
    /// All event types.
    pub const KINDS: &[&str] = &[
        "order.created",
        "order.approved",
        "order.processing",
        "order.shipped",
        "order.delivered",
        "order.cancelled",
        "order.deleted",
        "order.restored",
        "order.redacted",
        "payment.prepared",
        "payment.action_required",
        "payment.authorized",
        "payment.declined",
        "payment.captured",
        "payment.voided",
        "payment.refund_requested",
        "payment.refund_failed",
        "payment.refunded",
        "stock.reserved",
        "stock.released",
        "stock.adjusted",
        "stock.low",
        "shipment.created",
        "shipment.shipped",
        "shipment.in_transit",
        "shipment.out_for_delivery",
        "shipment.delivered",
        "shipment.failed",
        "shipment.returned",
        "shipment.cancelled",
        "step.retried",
        "step.dead",
        "step.redriven",
        "step.discarded",
        "product.created",
        "product.updated",
        "product.deleted",
        "webhook_endpoint.created",
        "webhook_endpoint.updated",
        "webhook_endpoint.disabled",
        "webhook_endpoint.deleted",
    ];

    /// The event's `data` as JSON.
    ///
    /// # Errors
    /// `INTERNAL` if it can't be serialized, which does not happen for these types.
    pub fn data(&self) -> Result<String, Failure> {
        let not_serializable = |why: &str| {
            Failure::new(
                Code::Internal,
                format!("the event's data can't be serialized: {why}"),
            )
        };
        let mut text =
            serde_json::to_string(self).map_err(|error| not_serializable(&error.to_string()))?;
        // serde writes the tag first, without escapes; the data follows up to the last brace.
        let begin = r#","data":"#;
        let at = text.find(begin).ok_or_else(|| not_serializable(&text))?;
        text.pop();
        text.drain(..at + begin.len());
        Ok(text)
    }

    /// The event type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OrderCreated(_) => "order.created",
            Self::OrderApproved {} => "order.approved",
            Self::OrderProcessing {} => "order.processing",
            Self::OrderShipped {} => "order.shipped",
            Self::OrderDelivered {} => "order.delivered",
            Self::OrderCancelled { .. } => "order.cancelled",
            Self::OrderDeleted {} => "order.deleted",
            Self::OrderRestored {} => "order.restored",
            Self::OrderRedacted {} => "order.redacted",
            Self::PaymentPrepared { .. } => "payment.prepared",
            Self::PaymentActionRequired { .. } => "payment.action_required",
            Self::PaymentAuthorized { .. } => "payment.authorized",
            Self::PaymentDeclined { .. } => "payment.declined",
            Self::PaymentCaptured { .. } => "payment.captured",
            Self::PaymentVoided { .. } => "payment.voided",
            Self::RefundRequested { .. } => "payment.refund_requested",
            Self::RefundFailed { .. } => "payment.refund_failed",
            Self::PaymentRefunded { .. } => "payment.refunded",
            Self::StockReserved { .. } => "stock.reserved",
            Self::StockReleased { .. } => "stock.released",
            Self::StockAdjusted { .. } => "stock.adjusted",
            Self::StockLow { .. } => "stock.low",
            Self::ShipmentCreated { .. } => "shipment.created",
            Self::ShipmentShipped { .. } => "shipment.shipped",
            Self::ShipmentInTransit { .. } => "shipment.in_transit",
            Self::ShipmentOutForDelivery { .. } => "shipment.out_for_delivery",
            Self::ShipmentDelivered { .. } => "shipment.delivered",
            Self::ShipmentFailed { .. } => "shipment.failed",
            Self::ShipmentReturned { .. } => "shipment.returned",
            Self::ShipmentCancelled { .. } => "shipment.cancelled",
            Self::StepRetried { .. } => "step.retried",
            Self::StepDead { .. } => "step.dead",
            Self::StepRedriven { .. } => "step.redriven",
            Self::StepDiscarded { .. } => "step.discarded",
            Self::ProductCreated { .. } => "product.created",
            Self::ProductUpdated { .. } => "product.updated",
            Self::ProductDeleted {} => "product.deleted",
            Self::EndpointCreated { .. } => "webhook_endpoint.created",
            Self::EndpointUpdated { .. } => "webhook_endpoint.updated",
            Self::EndpointDisabled { .. } => "webhook_endpoint.disabled",
            Self::EndpointDeleted {} => "webhook_endpoint.deleted",
        }
    }
}
