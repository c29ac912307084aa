//! Messages to customers: e-mails about their orders, made from events.
//!
//! A message belongs to an order, and to the event that it is about. There is at most one of each kind for an
//! event.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Fields},
    id::{EventId, MessageId, OrderId},
    order::{cursor_by, limit},
};

/// The kind of a message.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// The payment is authorized, and the order is being processed.
    OrderConfirmed,
    /// A shipment was handed to the carrier.
    OrderShipped,
    /// All items were delivered.
    OrderDelivered,
    /// The order was cancelled.
    OrderCancelled,
    /// A refund succeeded.
    OrderRefunded,
    /// The units of a return were received.
    ReturnReceived,
}

impl MessageKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::OrderConfirmed,
        Self::OrderShipped,
        Self::OrderDelivered,
        Self::OrderCancelled,
        Self::OrderRefunded,
        Self::ReturnReceived,
    ];

    /// The kind as in JSON; also the name of its templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderConfirmed => "order_confirmed",
            Self::OrderShipped => "order_shipped",
            Self::OrderDelivered => "order_delivered",
            Self::OrderCancelled => "order_cancelled",
            Self::OrderRefunded => "order_refunded",
            Self::ReturnReceived => "return_received",
        }
    }
}

impl FromStr for MessageKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| "is not a kind of message".to_owned())
    }
}

/// Status of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// Waiting for its first or next attempt.
    Pending,
    /// The mail server accepted it.
    Sent,
    /// The mail server refused the recipient or the message permanently (5xx).
    Bounced,
    /// The message could not be rendered, or all attempts failed; it can be resent.
    Failed,
    /// The message was not sent; `error` has the reason.
    NotSent,
}

impl MessageStatus {
    /// All statuses.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Sent,
        Self::Bounced,
        Self::Failed,
        Self::NotSent,
    ];

    /// The status as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Bounced => "bounced",
            Self::Failed => "failed",
            Self::NotSent => "not_sent",
        }
    }
}

impl FromStr for MessageStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let matching_status = Self::ALL.into_iter().find(|status| status.as_str() == text);
        matching_status
            .ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// A message to the customer of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "0192f0c1-2345-7003-8def-0123456789ab", "order_id": "0192f0c1-2345-7abc-8def-0123456789ab",
    "event_id": "0192f0c1-2345-7002-8def-0123456789ab", "kind": "order_confirmed", "status": "sent",
    "recipient": "ada@example.com", "subject": "Order 1001 is confirmed", "text": "Hello Ada…",
    "attempts": 1, "error": null, "next_attempt_at": null, "sent_at": "2026-01-31T12:00:01Z",
    "created_at": "2026-01-31T12:00:00Z"
}))]
pub struct Message {
    /// UUIDv7.
    pub id: MessageId,
    /// Id of the order.
    pub order_id: OrderId,
    /// Id of the event that the message is about.
    pub event_id: EventId,
    /// Kind.
    pub kind: MessageKind,
    /// Status.
    pub status: MessageStatus,
    /// E-mail address of the last attempt; `null` before it, and after the customer's erasure.
    pub recipient: Option<String>,
    /// Subject of the last attempt.
    pub subject: Option<String>,
    /// Text part of the last attempt.
    pub text: Option<String>,
    /// Number of attempts.
    pub attempts: u32,
    /// Error of the last attempt, or the reason why nothing was sent.
    pub error: Option<String>,
    /// Time of the next attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// Time at which the mail server accepted it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A message in the list of all orders' messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ListedMessage {
    /// Number of the order.
    pub order_number: i64,
    /// The message.
    #[serde(flatten)]
    pub message: Message,
}

/// `message.list_all`: the messages of all orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListAllMessages {
    /// Only messages with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<MessageStatus>,
    /// Only messages of this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// The number of an order, or the beginning of the recipient's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListAllMessages {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let status = fields.optional("status", body::parsed);
        let order_id = fields.optional("order_id", body::parsed);
        let q = fields.optional("q", body::visible_text(1..=254));
        let limit = limit(fields);
        let cursor = cursor_by::<MessageId>(fields);
        Some(Self {
            status,
            order_id,
            q,
            limit,
            cursor,
        })
    }
}

/// `message.list`: the messages of an order, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListMessages {
    /// Id of the order.
    pub id: OrderId,
    /// Maximum number of entries.
    pub limit: u32,
    /// Cursor of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ListMessages {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let limit = limit(fields);
        let cursor = cursor_by::<MessageId>(fields);
        Some(Self {
            id: id?,
            limit,
            cursor,
        })
    }
}

/// `message.resend`: sends a message again that is not waiting for an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResendMessage {
    /// Id of the order.
    pub id: OrderId,
    /// Id of the message.
    pub message_id: MessageId,
}

impl ResendMessage {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let message_id = fields.required("message_id", body::parsed);
        Some(Self {
            id: id?,
            message_id: message_id?,
        })
    }
}
