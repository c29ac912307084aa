//! Events: what happened, as stored, published and read by others.
//!
//! [`EventData`] is the closed set of what can happen. An [`Event`] is a fact with its place in the
//! feed and in its subject's own sequence. [`CloudEvent`] is its form on `order-events` and in
//! feeds ([CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md)).

mod fact;
mod request;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    fact::{EventData, OrderCreated, RefundCause},
    request::{After, EventFilter, EventPage, ListEvents, MAX_EVENTS, MAX_WAIT_MS},
};
use crate::{
    id::{EventId, Storefront},
    outcome::Json,
};

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
    #[schema(value_type = EventPayload)]
    pub fact: EventData,
}

/// How a [`EventData`] is told: docs/asyncapi.json says what each type tells.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is only described")]
struct EventPayload {
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
    use serde_json::{Value, json};

    use super::*;
    use crate::order::CancelReason;

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
            fact: EventData::PaymentCaptured {
                amount: 5,
                is_final: false,
            },
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn a_fact_is_its_kind_and_its_data() {
        let note = "\",\"data\":{}";
        for fact in [
            EventData::OrderDeleted {},
            EventData::PaymentCaptured {
                amount: 5,
                is_final: false,
            },
            EventData::PaymentVoided { reference: None },
            EventData::OrderCancelled {
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
