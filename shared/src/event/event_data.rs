//! [`EventData`]: the closed set of event types and their data.
//!
//! Stored events must stay readable: new members are optional, and no type or member is renamed.
//! docs/asyncapi.json describes each type; a test compares it with this enum.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::OrderUpdated;
use crate::{
    caller::Role,
    id::{CustomerId, ReturnId, ShipmentId, Sku, Storefront, Warehouse},
    json_text::json_text,
    money::Currency,
    order::{
        Address, CancelReason, Discount, EditRejectReason, ItemQuantity, LineItem, OrderStatus,
        ReceivedItem, ReturnedItem, Shipment, ShippingCharge, StockItem,
    },
    outcome::{Code, Failure},
    product::{NewProduct, ProductImage},
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
        #[serde(default, rename = "was", skip_serializing_if = "Option::is_none")]
        previous_status: Option<OrderStatus>,
    },
    /// The order was soft-deleted.
    #[serde(rename = "order.deleted")]
    OrderDeleted {},
    /// The soft deletion was undone.
    #[serde(rename = "order.restored")]
    OrderRestored {},

    /// An edit was requested whose higher total has to be authorized first.
    #[serde(rename = "order.edit_requested")]
    OrderEditRequested(Box<EditRequested>),
    /// An edit took effect.
    #[serde(rename = "order.edited")]
    OrderEdited(Box<OrderEdited>),
    /// A requested edit did not take effect: the order is unchanged.
    #[serde(rename = "order.edit_rejected")]
    OrderEditRejected {
        /// Number of the edit.
        #[serde(rename = "edit")]
        edit_number: u32,
        /// Reason of the rejection.
        reason: EditRejectReason,
        /// Error code of the payment provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Error message of the payment provider, or the caller's reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },

    /// The shipping address, the metadata, the note or the tags were changed.
    #[serde(rename = "order.updated")]
    OrderUpdated(Box<OrderUpdated>),
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
        /// Number of the edit that the payment is for; absent: the order as it was created.
        #[serde(default, rename = "edit", skip_serializing_if = "Option::is_none")]
        edit_number: Option<u32>,
    },
    /// The customer has to complete an action first.
    #[serde(rename = "payment.action_required")]
    PaymentActionRequired {
        /// Type of the action at the provider.
        #[serde(rename = "type")]
        action_type: String,
        /// URL to redirect the customer to, if there is one.
        #[serde(default, rename = "url", skip_serializing_if = "Option::is_none")]
        action_url: Option<String>,
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
        /// Number of the edit that the payment is for: it replaces the order's earlier payment.
        #[serde(default, rename = "edit", skip_serializing_if = "Option::is_none")]
        edit_number: Option<u32>,
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
        /// Reference of a payment that an operator has recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// Time at which a payment that an operator has recorded was received; absent: the event's time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received_at: Option<Timestamp>,
    },
    /// The authorization was voided; without a reference, none existed.
    #[serde(rename = "payment.voided")]
    PaymentVoided {
        /// Id of the payment at the provider.
        reference: Option<String>,
    },
    /// An authorization that is not the order's was voided: one that an edit replaced, or that of a rejected edit.
    #[serde(rename = "payment.released")]
    PaymentReleased {
        /// Id of the payment at the provider; absent if none existed.
        reference: Option<String>,
        /// Number of the edit that the payment was for; 0: the order as it was created.
        #[serde(rename = "edit")]
        edit_number: u32,
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
        #[serde(default, rename = "shipping", skip_serializing_if = "is_false")]
        refunds_shipping: bool,
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
        /// Reference of a refund that an operator has recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// Free-text reason, if an operator has recorded a refund that was due already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },

    /// Stock was reserved for the order.
    #[serde(rename = "stock.reserved")]
    StockReserved {
        /// Reserved items.
        items: Vec<StockItem>,
        /// Number of the pending edit that they are reserved for.
        #[serde(default, rename = "edit", skip_serializing_if = "Option::is_none")]
        edit_number: Option<u32>,
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
        /// Number of the rejected edit that they were reserved for.
        #[serde(default, rename = "edit", skip_serializing_if = "Option::is_none")]
        edit_number: Option<u32>,
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
        /// URL of the carrier's tracking page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tracking_url: Option<String>,
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

    /// A return was requested.
    #[serde(rename = "return.requested")]
    ReturnRequested {
        /// Id of the return.
        return_id: ReturnId,
        /// Number for people: the order's number and the number of the return within the order.
        #[serde(rename = "number")]
        return_number: String,
        /// Requested units.
        items: Vec<ReturnedItem>,
        /// Free text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Estimated refund in minor units.
        refund_amount: i64,
    },
    /// A return was approved.
    #[serde(rename = "return.approved")]
    ReturnApproved {
        /// Id of the return.
        return_id: ReturnId,
    },
    /// A return was rejected.
    #[serde(rename = "return.rejected")]
    ReturnRejected {
        /// Id of the return.
        return_id: ReturnId,
        /// Free-text reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A return was cancelled.
    #[serde(rename = "return.cancelled")]
    ReturnCancelled {
        /// Id of the return.
        return_id: ReturnId,
        /// Free-text reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The units of a return were received.
    #[serde(rename = "return.received")]
    ReturnReceived {
        /// Id of the return.
        return_id: ReturnId,
        /// Received units.
        items: Vec<ReceivedItem>,
        /// Refund in minor units; it follows as `payment.refund_requested` if it is not 0.
        refund_amount: i64,
        /// Part of the units' amount that is not refunded, in minor units.
        #[serde(default, skip_serializing_if = "is_zero")]
        fee: i64,
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
        /// The product after the change. Its `image_urls` are those on other servers.
        product: NewProduct,
        /// Its uploaded photos after the change, in their order; absent without photos.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<ProductImage>,
    },
    /// A product was deleted.
    #[serde(rename = "product.deleted")]
    ProductDeleted {},

    /// A customer was changed, verified, blocked, unblocked or erased. The values are personal data, so the
    /// event has the names of the changed fields only.
    #[serde(rename = "customer.updated")]
    CustomerUpdated {
        /// Names of the changed fields, as in the representation of the customer.
        changed: Vec<String>,
    },

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

    /// An API key was created.
    #[serde(rename = "api_key.created")]
    ApiKeyCreated {
        /// Name of the key.
        #[serde(rename = "name")]
        key_name: String,
        /// Role of the key.
        role: Role,
        /// Storefront that the key is limited to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        storefront: Option<Storefront>,
        /// First characters of the secret.
        prefix: String,
        /// Time from which the key is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// An API key was revoked.
    #[serde(rename = "api_key.revoked")]
    ApiKeyRevoked {
        /// Name of the key.
        #[serde(rename = "name")]
        key_name: String,
        /// First characters of the secret.
        prefix: String,
    },
}

/// The cause of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundCause {
    /// An operator requested the refund.
    #[serde(rename = "requested")]
    RequestedByOperator,
    /// A shipment was returned.
    #[serde(rename = "returned")]
    ShipmentReturned,
    /// The order was cancelled after its payment was captured.
    #[serde(rename = "cancelled")]
    OrderCancelled,
    /// The refund was made at the provider.
    #[serde(rename = "provider")]
    MadeAtProvider,
    /// The units of a return were received.
    #[serde(rename = "return")]
    ReturnReceived,
    /// An edit lowered the total below the captured amount.
    #[serde(rename = "edited")]
    OrderEdited,
}

/// An edit that was requested and takes effect when its total was authorized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRequested {
    /// Number of the edit among those of the order that needed an authorization, from 1.
    #[serde(rename = "edit")]
    pub edit_number: u32,
    /// Total afterwards, in minor units.
    pub total: i64,
    /// Line items afterwards.
    pub items: Vec<LineItem>,
    /// Shipping charge afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<ShippingCharge>,
    /// Discounts on the whole order afterwards; each line item has its share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discount>,
    /// Payment method, if it is another one than the order's: a token of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    /// Free-text reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An edit that took effect: the order afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEdited {
    /// Number of the edit, if its total had to be authorized first.
    #[serde(default, rename = "edit", skip_serializing_if = "Option::is_none")]
    pub edit_number: Option<u32>,
    /// Total in minor units.
    pub total: i64,
    /// Total before the edit, in minor units.
    pub previous_total: i64,
    /// Line items.
    pub items: Vec<LineItem>,
    /// Shipping charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<ShippingCharge>,
    /// Discounts on the whole order; each line item has its share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discount>,
    /// Products that are no longer in the order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Sku>,
    /// Warehouses whose label, requested for other items, is withdrawn and replaced by another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_labels: Vec<Warehouse>,
    /// Free-text reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(amount: &i64) -> bool {
    *amount == 0
}

impl EventData {
    /// A capture of `amount` minor units by the payment provider.
    pub fn captured(amount: i64, is_final: bool) -> Self {
        Self::PaymentCaptured {
            amount,
            is_final,
            reference: None,
            received_at: None,
        }
    }

    /// A refund of `amount` minor units by the payment provider.
    pub fn refunded(amount: i64) -> Self {
        Self::PaymentRefunded {
            amount,
            reference: None,
            reason: None,
        }
    }

    /// A request to refund `amount` minor units that is not for particular items.
    pub fn refund_requested(amount: i64, cause: RefundCause, reason: Option<String>) -> Self {
        Self::RefundRequested {
            amount,
            reason,
            cause: Some(cause),
            items: Vec::new(),
            refunds_shipping: false,
        }
    }

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
        "order.updated",
        "order.redacted",
        "order.edit_requested",
        "order.edited",
        "order.edit_rejected",
        "payment.prepared",
        "payment.action_required",
        "payment.authorized",
        "payment.declined",
        "payment.captured",
        "payment.voided",
        "payment.released",
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
        "return.requested",
        "return.approved",
        "return.rejected",
        "return.cancelled",
        "return.received",
        "step.retried",
        "step.dead",
        "step.redriven",
        "step.discarded",
        "product.created",
        "product.updated",
        "product.deleted",
        "customer.updated",
        "webhook_endpoint.created",
        "webhook_endpoint.updated",
        "webhook_endpoint.disabled",
        "webhook_endpoint.deleted",
        "api_key.created",
        "api_key.revoked",
    ];

    /// The event's `data` as JSON.
    ///
    /// # Errors
    /// `INTERNAL` if it can't be serialized, which does not happen for these types.
    pub fn data(&self) -> Result<String, Failure> {
        const EXPECTED_LENGTH: usize = 1_024;
        let serialization_failure = |message: &str| {
            Failure::new(
                Code::Internal,
                format!("the event's data can't be serialized: {message}"),
            )
        };
        let mut data_json = json_text(self, EXPECTED_LENGTH)
            .map_err(|error| serialization_failure(&error.to_string()))?;
        // serde writes the tag first, without escapes; the data follows up to the last brace.
        let data_prefix = r#","data":"#;
        let data_offset = data_json
            .find(data_prefix)
            .ok_or_else(|| serialization_failure(&data_json))?;
        data_json.pop();
        data_json.drain(..data_offset + data_prefix.len());
        Ok(data_json)
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
            Self::OrderUpdated(_) => "order.updated",
            Self::OrderRedacted {} => "order.redacted",
            Self::OrderEditRequested(_) => "order.edit_requested",
            Self::OrderEdited(_) => "order.edited",
            Self::OrderEditRejected { .. } => "order.edit_rejected",
            Self::PaymentPrepared { .. } => "payment.prepared",
            Self::PaymentActionRequired { .. } => "payment.action_required",
            Self::PaymentAuthorized { .. } => "payment.authorized",
            Self::PaymentDeclined { .. } => "payment.declined",
            Self::PaymentCaptured { .. } => "payment.captured",
            Self::PaymentVoided { .. } => "payment.voided",
            Self::PaymentReleased { .. } => "payment.released",
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
            Self::ReturnRequested { .. } => "return.requested",
            Self::ReturnApproved { .. } => "return.approved",
            Self::ReturnRejected { .. } => "return.rejected",
            Self::ReturnCancelled { .. } => "return.cancelled",
            Self::ReturnReceived { .. } => "return.received",
            Self::StepRetried { .. } => "step.retried",
            Self::StepDead { .. } => "step.dead",
            Self::StepRedriven { .. } => "step.redriven",
            Self::StepDiscarded { .. } => "step.discarded",
            Self::ProductCreated { .. } => "product.created",
            Self::ProductUpdated { .. } => "product.updated",
            Self::ProductDeleted {} => "product.deleted",
            Self::CustomerUpdated { .. } => "customer.updated",
            Self::EndpointCreated { .. } => "webhook_endpoint.created",
            Self::EndpointUpdated { .. } => "webhook_endpoint.updated",
            Self::EndpointDisabled { .. } => "webhook_endpoint.disabled",
            Self::EndpointDeleted {} => "webhook_endpoint.deleted",
            Self::ApiKeyCreated { .. } => "api_key.created",
            Self::ApiKeyRevoked { .. } => "api_key.revoked",
        }
    }
}
