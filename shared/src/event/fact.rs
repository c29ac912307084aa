//! The closed set of what can happen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    id::{CustomerId, ShipmentId, Sku, Storefront, Warehouse},
    money::Currency,
    order::{Address, CancelReason, LineItem, OrderStatus, Shipment, StockItem},
    outcome::{Code, Failure},
    product::NewProduct,
    webhook::{DisabledReason, EndpointUrl},
};

/// What happened. The tag is the event's type, and its routing key on `order-events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventData {
    /// An order was accepted.
    #[serde(rename = "order.created")]
    OrderCreated(Box<OrderCreated>),
    /// The owner approved it.
    #[serde(rename = "order.approved")]
    OrderApproved {},
    /// Its payment is authorized; it is being fulfilled.
    #[serde(rename = "order.processing")]
    OrderProcessing {},
    /// All of its items left.
    #[serde(rename = "order.shipped")]
    OrderShipped {},
    /// All of its items arrived.
    #[serde(rename = "order.delivered")]
    OrderDelivered {},
    /// It will not be fulfilled.
    #[serde(rename = "order.cancelled")]
    OrderCancelled {
        /// Why.
        reason: CancelReason,
        /// Why, in the words of whoever asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Where it stood.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<OrderStatus>,
    },
    /// It was soft-deleted.
    #[serde(rename = "order.deleted")]
    OrderDeleted {},
    /// Its deletion was undone.
    #[serde(rename = "order.restored")]
    OrderRestored {},

    /// Its customer was erased: it says nothing of them any more, nor do the events before this.
    #[serde(rename = "order.redacted")]
    OrderRedacted {},

    /// The provider knows of the payment; nothing is held yet.
    #[serde(rename = "payment.prepared")]
    PaymentPrepared {
        /// Which provider.
        provider: String,
        /// The provider's id.
        reference: String,
    },
    /// The provider wants something of the customer first.
    #[serde(rename = "payment.action_required")]
    PaymentActionRequired {
        /// Type of the action at the provider.
        #[serde(rename = "type")]
        kind: String,
        /// URL to redirect the customer to, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// The provider holds the money for us.
    #[serde(rename = "payment.authorized")]
    PaymentAuthorized {
        /// Which provider.
        provider: String,
        /// The provider's id.
        reference: String,
        /// Minor units held.
        amount: i64,
    },
    /// The provider refused.
    #[serde(rename = "payment.declined")]
    PaymentDeclined {
        /// The provider's code.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The money was taken.
    #[serde(rename = "payment.captured")]
    PaymentCaptured {
        /// Minor units taken.
        amount: i64,
        /// The provider released the rest of the authorization: no more can be captured.
        #[serde(default, skip_serializing_if = "is_false")]
        is_final: bool,
    },
    /// The hold was given up; without a reference, there never was one.
    #[serde(rename = "payment.voided")]
    PaymentVoided {
        /// The provider's id.
        reference: Option<String>,
    },
    /// Some of what was taken is to be given back.
    #[serde(rename = "payment.refund_requested")]
    RefundRequested {
        /// Minor units, beside what was asked for before.
        amount: i64,
        /// Why, in the words of whoever asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The cause, for programs; absent from events of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<RefundCause>,
    },
    /// Money that was thought to be given back was not.
    #[serde(rename = "payment.refund_failed")]
    RefundFailed {
        /// Minor units.
        amount: i64,
    },
    /// Money was given back.
    #[serde(rename = "payment.refunded")]
    PaymentRefunded {
        /// Minor units given back by this refund.
        amount: i64,
    },

    /// Stock is held for the order.
    #[serde(rename = "stock.reserved")]
    StockReserved {
        /// What is held.
        items: Vec<StockItem>,
    },
    /// Stock is no longer held for the order.
    #[serde(rename = "stock.released")]
    StockReleased {
        /// What was held.
        items: Vec<StockItem>,
        /// The reason given by the caller, when the rest of a partly shipped order is cancelled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Somebody counted.
    #[serde(rename = "stock.adjusted")]
    StockAdjusted {
        /// Which product.
        sku: Sku,
        /// In which warehouse.
        warehouse: Warehouse,
        /// Units on the shelves now.
        on_hand: i64,
        /// Why, in the words of whoever did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The product was removed from this warehouse.
        #[serde(default, skip_serializing_if = "is_false")]
        is_removed: bool,
    },
    /// A product is about to run out.
    #[serde(rename = "stock.low")]
    StockLow {
        /// Which product.
        sku: Sku,
        /// Units that can still be promised, in all warehouses.
        available: i64,
        /// The product's `low_stock_at`.
        low_stock_at: i64,
    },

    /// The carrier knows of a parcel.
    #[serde(rename = "shipment.created")]
    ShipmentCreated {
        /// The parcel.
        shipment: Shipment,
    },
    /// A parcel was handed over: its items left the warehouse.
    #[serde(rename = "shipment.shipped")]
    ShipmentShipped {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// What left.
        items: Vec<StockItem>,
        /// Who carries it.
        carrier: String,
        /// The carrier's id for it.
        tracking_number: String,
        /// When it happened by the shipper's clock; absent: at the event's own time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A parcel is on its way.
    #[serde(rename = "shipment.in_transit")]
    ShipmentInTransit {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// When it happened by the shipper's clock; absent: at the event's own time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A parcel is on the last van.
    #[serde(rename = "shipment.out_for_delivery")]
    ShipmentOutForDelivery {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// When it happened by the shipper's clock; absent: at the event's own time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A parcel arrived.
    #[serde(rename = "shipment.delivered")]
    ShipmentDelivered {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// When it happened by the shipper's clock; absent: at the event's own time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A parcel could not be delivered.
    #[serde(rename = "shipment.failed")]
    ShipmentFailed {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// When it happened by the shipper's clock; absent: at the event's own time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A parcel came back.
    #[serde(rename = "shipment.returned")]
    ShipmentReturned {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// What is back on its shelves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<StockItem>,
        /// When it happened by the shipper's clock; absent: at the event's own time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
    },
    /// A parcel was withdrawn before it left.
    #[serde(rename = "shipment.cancelled")]
    ShipmentCancelled {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// The reason given by the caller.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },

    /// A step failed and will be tried again.
    #[serde(rename = "step.retried")]
    StepRetried {
        /// Which step.
        step: String,
        /// What went wrong.
        error: String,
        /// When it is tried again.
        due_at: Timestamp,
    },
    /// A step failed for good; it waits for an operator.
    #[serde(rename = "step.dead")]
    StepDead {
        /// Which step.
        step: String,
        /// What went wrong.
        error: String,
    },

    /// An operator had a dead step tried again.
    #[serde(rename = "step.redriven")]
    StepRedriven {
        /// Which step.
        step: String,
    },
    /// An operator let a dead step be.
    #[serde(rename = "step.discarded")]
    StepDiscarded {
        /// Which step.
        step: String,
        /// Minor units written off with it: of `refund_payment` they are no longer to be refunded, of
        /// `capture_payment` no longer to be captured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<i64>,
    },

    /// A product can be ordered.
    #[serde(rename = "product.created")]
    ProductCreated {
        /// The product.
        product: NewProduct,
    },
    /// A product changed.
    #[serde(rename = "product.updated")]
    ProductUpdated {
        /// The product as it is now.
        product: NewProduct,
    },
    /// A product can no longer be ordered.
    #[serde(rename = "product.deleted")]
    ProductDeleted {},

    /// An endpoint is told of events from now on.
    #[serde(rename = "webhook_endpoint.created")]
    EndpointCreated {
        /// Where.
        url: EndpointUrl,
    },
    /// Somebody changed an endpoint, or had its secret rotated.
    #[serde(rename = "webhook_endpoint.updated")]
    EndpointUpdated {
        /// Where.
        url: EndpointUrl,
    },
    /// The system gave an endpoint up.
    #[serde(rename = "webhook_endpoint.disabled")]
    EndpointDisabled {
        /// Where.
        url: EndpointUrl,
        /// Why.
        reason: DisabledReason,
    },
    /// An endpoint is not told of anything any more.
    #[serde(rename = "webhook_endpoint.deleted")]
    EndpointDeleted {},
}

/// The cause of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundCause {
    /// An operator requested it.
    Requested,
    /// A shipment was returned.
    Returned,
    /// The order was cancelled after its payment was captured.
    Cancelled,
    /// It was made at the provider.
    Provider,
}

/// All an order is made of at birth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderCreated {
    /// For people.
    pub number: i64,
    /// Who sold it.
    pub storefront: Storefront,
    /// Who bought it.
    pub customer_id: CustomerId,
    /// The importing system's id.
    pub external_id: Option<String>,
    /// Of every amount.
    pub currency: Currency,
    /// Minor units.
    pub total: i64,
    /// What was bought.
    pub items: Vec<LineItem>,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// Which provider is asked for the money.
    pub payment_provider: String,
    /// The provider's token.
    pub payment_method: String,
    /// URL to which the provider redirects the customer after authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// The caller's own data.
    pub metadata: Map<String, Value>,
    /// Nothing is done for it before the owner approves.
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_approval: bool,
    /// Its stock is taken when it is processed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub awaits_stock: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl EventData {
    /// Every type of event there is.
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

    /// What stands beside the type.
    ///
    /// # Errors
    /// `INTERNAL` if it can't be written as JSON, which no fact allows.
    pub fn data(&self) -> Result<String, Failure> {
        let unwritten =
            |why: &str| Failure::new(Code::Internal, format!("a fact can't be written: {why}"));
        let mut text =
            serde_json::to_string(self).map_err(|error| unwritten(&error.to_string()))?;
        // The type comes first, and is a plain word: what follows it is the data, to the last brace.
        let begin = r#","data":"#;
        let at = text.find(begin).ok_or_else(|| unwritten(&text))?;
        text.pop();
        text.drain(..at + begin.len());
        Ok(text)
    }

    /// The event's type.
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
