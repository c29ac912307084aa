//! Dead letters on the wire: what could not be done, and waits for an operator.
//!
//! There are two kinds: a step of an order that failed too often, and a message that could not be
//! used at all. Both can be redriven, or discarded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    amqp::message::Headers,
    body::{self, Fields},
    id::OrderId,
    order::{cursor, limit},
};

/// What could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// `ORDER_ID:STEP` of a step, a UUID of a message.
    pub id: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub died_at: Timestamp,
    /// Why.
    pub reason: String,
    /// What.
    #[serde(flatten)]
    #[schema(value_type = Described)]
    pub what: Dead,
}

/// [`Dead`] as one object: `kind` says which of its members are there.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is only described")]
struct Described {
    /// `step` or `message`.
    #[schema(example = "step")]
    kind: String,
    /// Of a step: of which order.
    order_id: Option<OrderId>,
    /// Which step.
    step: Option<String>,
    /// How often it was attempted.
    attempts: Option<u32>,
    /// The request that led to it.
    request_id: Option<String>,
    /// What an operator can do about it.
    advice: Option<String>,
    /// Of a message: the queue that it was taken from.
    queue: Option<String>,
    /// The property `type`.
    r#type: Option<String>,
    /// The property `message_id`.
    message_id: Option<String>,
    /// The headers that are text or numbers.
    headers: Option<Headers>,
    /// The payload, or its beginning.
    body: Option<String>,
    /// Whether `body` is the payload in base64, because that is no text.
    is_base64: Option<bool>,
    /// Whether the payload was too large to be kept whole.
    is_cut: Option<bool>,
}

/// What is dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Dead {
    /// A step of an order.
    Step {
        /// Of which order.
        order_id: OrderId,
        /// Which step.
        step: String,
        /// How often it was attempted, earlier redrives included.
        attempts: u32,
        /// The request that led to it.
        request_id: String,
        /// What an operator can do about it.
        advice: String,
    },
    /// A message.
    Message {
        /// The queue that it was taken from.
        queue: String,
        /// The property `type`.
        #[serde(rename = "type")]
        message_type: String,
        /// The property `message_id`.
        message_id: Option<String>,
        /// The headers that are text or numbers.
        headers: Headers,
        /// The payload, or its beginning.
        body: String,
        /// Whether `body` is the payload in base64, because that is no text.
        is_base64: bool,
        /// Whether the payload was too large to be kept whole; it can't be redriven then.
        is_cut: bool,
    },
}

/// `dead_letter.list`: the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListDeadLetters {
    /// Entries at most.
    pub limit: u32,
    /// What the last page ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListDeadLetters {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self { limit, cursor })
    }
}

/// `dead_letter.redrive`, `dead_letter.discard`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterRef {
    /// Which.
    pub id: String,
}

impl DeadLetterRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::text(1..=200));
        Some(Self { id: id? })
    }
}
