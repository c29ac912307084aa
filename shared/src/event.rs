//! Events: what happened, as stored, published and read by others.
//!
//! [`Fact`] is the closed set of what can happen. An [`Event`] is a fact with its place in the
//! feed and in its subject's own sequence. [`CloudEvent`] is its form on `order-events` and in
//! feeds ([CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md)).

mod request;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::request::{After, EventFilter, EventPage, ListEvents, MAX_EVENTS, MAX_WAIT_MS};
use crate::{
    id::{CustomerId, EventId, ShipmentId, Sku, Storefront, Warehouse},
    money::Currency,
    order::{Address, CancelReason, LineItem, NextAction, OrderStatus, Shipment, StockItem},
    outcome::{Code, Failure, Json},
    product::NewProduct,
    webhook::{DisabledReason, EndpointUrl},
};

/// What happened. The tag is the event's type, and its routing key on `order-events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Fact {
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
        /// What.
        #[serde(flatten)]
        action: NextAction,
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
    },
    /// A parcel is on its way.
    #[serde(rename = "shipment.in_transit")]
    ShipmentInTransit {
        /// Which parcel.
        shipment_id: ShipmentId,
    },
    /// A parcel is on the last van.
    #[serde(rename = "shipment.out_for_delivery")]
    ShipmentOutForDelivery {
        /// Which parcel.
        shipment_id: ShipmentId,
    },
    /// A parcel arrived.
    #[serde(rename = "shipment.delivered")]
    ShipmentDelivered {
        /// Which parcel.
        shipment_id: ShipmentId,
    },
    /// A parcel could not be delivered.
    #[serde(rename = "shipment.failed")]
    ShipmentFailed {
        /// Which parcel.
        shipment_id: ShipmentId,
    },
    /// A parcel came back.
    #[serde(rename = "shipment.returned")]
    ShipmentReturned {
        /// Which parcel.
        shipment_id: ShipmentId,
        /// What is back on its shelves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<StockItem>,
    },
    /// A parcel was withdrawn before it left.
    #[serde(rename = "shipment.cancelled")]
    ShipmentCancelled {
        /// Which parcel.
        shipment_id: ShipmentId,
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

impl Fact {
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

/// A fact with its place: the row of the outbox and audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// UUIDv7.
    pub id: EventId,
    /// The order's id, or the product's sku.
    pub subject: String,
    /// Counts up from 1 by subject.
    pub sequence: u64,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Whose order; products belong to none.
    pub storefront: Option<Storefront>,
    /// On whose behalf, and why.
    #[serde(flatten)]
    pub origin: Origin,
    /// What happened.
    #[serde(flatten)]
    #[schema(value_type = Told)]
    pub fact: Fact,
}

/// How a [`Fact`] is told: docs/asyncapi.yaml says what each type tells.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is only described")]
struct Told {
    /// What happened.
    #[schema(example = "order.created")]
    r#type: String,
    /// The facts.
    #[schema(value_type = Object)]
    data: Json,
}

/// Where a change came from; carried on every hop, stored with every event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Origin {
    /// Who: a credential's name, `shipper`, or `worker` for the flow itself.
    pub actor: String,
    /// What they wanted: `order.create`, `authorize_payment`…
    pub intent: String,
    /// The id of the HTTP request that started it.
    pub request_id: String,
    /// Which attempt of a step, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Of which trace what follows is a part ([`crate::trace`]). It goes with the steps; events are kept
    /// longer than any trace.
    #[serde(skip)]
    pub traceparent: Option<String>,
}

/// The version of the CloudEvents format.
pub const SPEC_VERSION: &str = "1.0";
/// What events call this system.
pub const SOURCE: &str = "/orders";

/// An event in the CloudEvents 1.0 JSON format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "specversion": "1.0", "id": "0192f0c1-2345-7002-8def-0123456789ab", "source": "/orders",
    "type": "payment.captured", "subject": "0192f0c1-2345-7abc-8def-0123456789ab",
    "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json",
    "sequence": "00000000000000000007", "position": "1042", "storefront": "eu",
    "actor": "worker", "intent": "capture_payment", "requestid": "checkout-42", "data": {"amount": 3998}
}))]
pub struct CloudEvent {
    /// [`SPEC_VERSION`].
    #[schema(value_type = String)]
    pub specversion: Cow<'static, str>,
    /// Unique and sortable.
    pub id: EventId,
    /// [`SOURCE`].
    #[schema(value_type = String)]
    pub source: Cow<'static, str>,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// To which order or product.
    pub subject: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Always `application/json`.
    #[schema(value_type = String)]
    pub datacontenttype: Cow<'static, str>,
    /// Place among the subject's events, zero-padded so that text order is number order
    /// ([sequence extension](https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md)).
    pub sequence: String,
    /// Place in the feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Whose order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Who.
    pub actor: String,
    /// What they wanted.
    pub intent: String,
    /// The id of the HTTP request that started it.
    pub requestid: String,
    /// The facts.
    #[schema(value_type = Object)]
    pub data: Json,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_survives_its_json() {
        let event = Event {
            id: "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap(),
            subject: "o-1".to_owned(),
            sequence: 3,
            time: "2026-01-31T12:00:00Z".parse().unwrap(),
            storefront: Some(Storefront::default()),
            origin: Origin {
                actor: "worker".to_owned(),
                intent: "authorize_payment".to_owned(),
                request_id: "r-1".to_owned(),
                attempt: Some(2),
                traceparent: None,
            },
            fact: Fact::PaymentCaptured { amount: 5 },
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn a_fact_is_its_kind_and_its_data() {
        let note = "\",\"data\":{}";
        for fact in [
            Fact::OrderDeleted {},
            Fact::PaymentCaptured { amount: 5 },
            Fact::PaymentVoided { reference: None },
            Fact::OrderCancelled {
                reason: CancelReason::CustomerRequest,
                note: Some(note.to_owned()),
                was: None,
            },
        ] {
            let whole = serde_json::to_value(&fact).unwrap();
            let data: Value = serde_json::from_str(&fact.data().unwrap()).unwrap();
            assert_eq!(whole, json!({"type": fact.kind(), "data": data}));
        }
    }
}
