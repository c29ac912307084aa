//! Events: stored in the event log, published on `order-events`, and returned by the event feed.
//!
//! [`EventData`] is the closed set of event types with their data. An [`Event`] adds the subject, its
//! sequence, the time and the origin; this is the stored form. [`CloudEvent`] is the form on `order-events`,
//! in the feed and in webhooks ([CloudEvents
//! 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md)). `order_updated` has the event that
//! storefronts see only a part of, `request` the requests for the feed.

mod event_data;
mod order_updated;
mod request;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    event_data::{EditRequested, EventData, OrderCreated, OrderEdited, RefundCause},
    order_updated::{OrderField, OrderUpdated, has_internal_fields},
    request::{EventFilter, EventPage, FEED_PAGE_SIZE, FeedPosition, ListEvents, MAX_WAIT_MS},
};
use crate::{
    id::{EventId, Storefront},
    outcome::Json,
    trace_context::TraceContext,
};

/// Types of the events that only admins see, in the feed and in the live stream. They are not published to the broker
/// or sent to webhook endpoints.
pub const ADMIN_EVENT_TYPES: [&str; 2] = ["api_key.created", "api_key.revoked"];

/// Whether only admins see events of this type.
pub fn is_for_admins(kind: &str) -> bool {
    ADMIN_EVENT_TYPES.contains(&kind)
}

/// An event as stored in the event log and outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// UUIDv7: unique and sortable by time.
    pub id: EventId,
    /// Id of the order, customer, webhook endpoint or API key, or SKU of the product.
    pub subject: String,
    /// Number of the event within its subject, from 1.
    pub sequence: u64,
    /// Time of the change.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Storefront of the order, customer or webhook endpoint; `null` for products and API keys.
    pub storefront: Option<Storefront>,
    /// Origin of the change.
    #[serde(flatten)]
    pub origin: Origin,
    /// Type and data of the event.
    #[serde(flatten)]
    #[schema(value_type = EventPayload)]
    pub event_data: EventData,
}

impl Event {
    /// The event as storefronts see it. Note and tags are for operators; an event that changed nothing else
    /// remains, without data, so that the versions of the order have no gaps.
    #[must_use]
    pub fn for_storefronts(mut self) -> Self {
        if let EventData::OrderUpdated(order_updated) = &mut self.event_data {
            order_updated.hide_internal_fields();
        }
        self
    }
}

/// OpenAPI schema of [`EventData`]: `type` and `data`. docs/asyncapi.json describes each type.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is only described")]
struct EventPayload {
    /// Event type.
    #[schema(example = "order.created")]
    r#type: String,
    /// Event data.
    #[schema(value_type = Object)]
    data: Json,
}

/// Origin of a change; passed on with every request and step, and stored with every event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Origin {
    /// Actor: the name of a credential, `shipper` for the carrier's webhook, or `worker` for the workflow
    /// itself.
    pub actor: String,
    /// Purpose: `order.create`, `authorize_payment`…
    pub intent: String,
    /// Id of the HTTP request that caused the change.
    pub request_id: String,
    /// Attempt of the step, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Trace context of the request that caused the change. Passed on to steps, and part of [`CloudEvent`].
    #[serde(skip)]
    pub trace_context: Option<TraceContext>,
}

/// The version of the CloudEvents format.
pub const SPEC_VERSION: &str = "1.0";
/// The CloudEvents `source` of this system.
pub const SOURCE: &str = "/orders";

/// An event in the CloudEvents 1.0 JSON format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "specversion": "1.0", "id": "0192f0c1-2345-7002-8def-0123456789ab", "source": "/orders",
    "type": "payment.captured", "subject": "0192f0c1-2345-7abc-8def-0123456789ab",
    "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json",
    "sequence": "00000000000000000007", "position": "1042", "storefront": "eu",
    "actor": "worker", "intent": "capture_payment", "requestid": "checkout-42",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "data": {"amount": 3998}
}))]
pub struct CloudEvent {
    /// [`SPEC_VERSION`].
    #[schema(value_type = String)]
    pub specversion: Cow<'static, str>,
    /// Unique id, sortable by time.
    pub id: EventId,
    /// [`SOURCE`].
    #[schema(value_type = String)]
    pub source: Cow<'static, str>,
    /// Event type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Id of the order, customer, webhook endpoint or API key, or SKU of the product.
    pub subject: String,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Always `application/json`.
    #[schema(value_type = String)]
    pub datacontenttype: Cow<'static, str>,
    /// Number of the event within its subject, zero-padded so that text order is numeric order ([sequence
    /// extension](https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md)).
    pub sequence: String,
    /// Position in the feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Storefront of the order, customer or webhook endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Actor: see [`Origin::actor`].
    pub actor: String,
    /// Purpose of the change: `order.create`, `authorize_payment`…
    pub intent: String,
    /// Id of the HTTP request that caused the event.
    pub requestid: String,
    /// Trace context of the request that caused the event ([distributed tracing
    /// extension](https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Data of tracing systems about the same trace, if the request had `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// Event data.
    #[schema(value_type = Object)]
    pub data: Json,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::order::CancelReason;

    #[test]
    fn event_round_trips_through_json() {
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
                trace_context: None,
            },
            event_data: EventData::captured(5, false),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn event_data_serializes_as_type_and_data() {
        let note = "\",\"data\":{}";
        for event_data in [
            EventData::OrderDeleted {},
            EventData::captured(5, false),
            EventData::PaymentVoided { reference: None },
            EventData::OrderCancelled {
                reason: CancelReason::CustomerRequest,
                note: Some(note.to_owned()),
                previous_status: None,
            },
        ] {
            let event_json = serde_json::to_value(&event_data).unwrap();
            let data: Value = serde_json::from_str(&event_data.data().unwrap()).unwrap();
            assert_eq!(event_json, json!({"type": event_data.kind(), "data": data}));
        }
    }
}
