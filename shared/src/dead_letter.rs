//! Dead letters: representation and requests.
//!
//! A dead letter is a step of an order that failed too often, or a message that could not be processed. Both
//! kinds can be redriven or discarded.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    amqp::message::Headers,
    body::{self, Fields},
    id::OrderId,
    order::{cursor, limit},
};

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// `ORDER_ID:STEP` for a step, a UUID for a message.
    pub id: String,
    /// Time at which the step or message became a dead letter.
    #[schema(value_type = String, format = DateTime)]
    pub died_at: Timestamp,
    /// Error of the last attempt.
    pub reason: String,
    /// The step or message.
    #[serde(flatten)]
    #[schema(value_type = DeadLetterSchema)]
    pub source: DeadLetterSource,
}

/// OpenAPI schema of [`DeadLetterSource`] as one object; `kind` determines which members are present.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it is only described")]
struct DeadLetterSchema {
    /// `step` or `message`.
    #[schema(example = "step")]
    kind: String,
    /// Id of the order (steps).
    order_id: Option<OrderId>,
    /// Number of the order (steps).
    order_number: Option<i64>,
    /// Name of the step (steps).
    step: Option<String>,
    /// Number of attempts (steps).
    attempts: Option<u32>,
    /// Id of the request that caused the step (steps).
    request_id: Option<String>,
    /// Recommended action for an operator (steps).
    advice: Option<String>,
    /// Queue that the message came from (messages).
    queue: Option<String>,
    /// The property `type` (messages).
    r#type: Option<String>,
    /// The property `message_id` (messages).
    message_id: Option<String>,
    /// Headers whose values are text or numbers (messages).
    headers: Option<Headers>,
    /// The payload, possibly truncated (messages).
    body: Option<String>,
    /// Whether `body` is base64-encoded because the payload is not UTF-8 (messages).
    is_base64: Option<bool>,
    /// Whether the payload was truncated (messages).
    is_cut: Option<bool>,
}

/// The step or message that became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeadLetterSource {
    /// A step of an order.
    Step {
        /// Id of the order.
        order_id: OrderId,
        /// Number of the order.
        #[serde(default)]
        order_number: i64,
        /// Name of the step.
        step: String,
        /// Number of attempts, including those before earlier redrives.
        attempts: u32,
        /// Id of the request that caused the step.
        request_id: String,
        /// Recommended action for an operator.
        advice: String,
    },
    /// A message.
    Message {
        /// Queue that the message came from.
        queue: String,
        /// The property `type`.
        #[serde(rename = "type")]
        message_type: String,
        /// The property `message_id`.
        message_id: Option<String>,
        /// Headers whose values are text or numbers.
        headers: Headers,
        /// The payload, possibly truncated.
        body: String,
        /// Whether `body` is base64-encoded because the payload is not UTF-8.
        is_base64: bool,
        /// Whether the payload was truncated; a truncated message can't be redriven.
        is_cut: bool,
    },
}

/// The kind of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterKind {
    /// A step of an order.
    Step,
    /// A message.
    Message,
}

impl FromStr for DeadLetterKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "step" => Ok(Self::Step),
            "message" => Ok(Self::Message),
            _ => Err("must be one of step, message".to_owned()),
        }
    }
}

/// The failed steps that a list of dead letters or retries is limited to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FailedStepFilter {
    /// Only steps of this kind: `capture_payment`, `request_shipment`…
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Only steps of the order with this number.
    #[serde(rename = "number", skip_serializing_if = "Option::is_none")]
    pub order_number: Option<i64>,
}

impl FailedStepFilter {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        let step = fields.optional("step", body::text(1..=100));
        let order_number = fields.optional("number", body::integer(1..=i64::MAX));
        Self { step, order_number }
    }

    /// Whether all steps are listed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `dead_letter.list`: dead letters, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListDeadLetters {
    /// Only dead letters of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<DeadLetterKind>,
    /// Only these steps, and no messages, unless it is empty.
    #[serde(flatten)]
    pub filter: FailedStepFilter,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListDeadLetters {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let kind = fields.optional("kind", body::parsed);
        let filter = FailedStepFilter::read(fields);
        let limit = limit(fields);
        let cursor = cursor(fields);
        Some(Self {
            kind,
            filter,
            limit,
            cursor,
        })
    }
}

/// `dead_letter.redrive`, `dead_letter.discard`: the id of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterRef {
    /// Id of the dead letter.
    pub id: String,
}

impl DeadLetterRef {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::text(1..=200));
        Some(Self { id: id? })
    }
}
