//! Messages to customers: which event gives which message, and their retries.
//!
//! A message is rendered anew for each attempt, by [`message_content`](super::message_content) and the templates.
//! It is retried for two days. Attempts are made by [`mail`](crate::mail).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::{
    event::EventData,
    id::{EventId, MessageId, OrderId, ReturnId, ShipmentId},
    message::{Message as Representation, MessageKind, MessageStatus},
};

use super::step::RetryPolicy;

/// Period for which a message is retried.
pub const RETRY_PERIOD: SignedDuration = SignedDuration::from_hours(48);
/// Backoff between attempts; limited by time, not by number.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first_delay: SignedDuration::from_secs(5),
    max_delay: SignedDuration::from_mins(30),
};
/// Number of attempts without a response to the message after which it is not sent again: the server may have
/// accepted it each time.
pub const MAX_UNCONFIRMED_ATTEMPTS: u32 = 5;
/// Maximum length of a stored error, in characters.
const MAX_ERROR_CHARS: usize = 300;
/// Reason of messages that were waiting when the customer was erased.
const ERASED_TEXT: &str = "the customer was erased";
/// Reason of messages that were waiting when messages were switched off.
pub const SWITCHED_OFF: &str = "messages were switched off before it was sent";

/// The topic of a message, beside the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageTopic {
    /// The order as a whole.
    Order,
    /// A shipment.
    Shipment(ShipmentId),
    /// A refund of so many minor units.
    Refund(i64),
    /// A return.
    Return(ReturnId),
}

/// The message that an event of an order gives; `None` for most events.
pub fn message_of(event_data: &EventData) -> Option<(MessageKind, MessageTopic)> {
    Some(match event_data {
        EventData::OrderProcessing {} => (MessageKind::OrderConfirmed, MessageTopic::Order),
        EventData::ShipmentShipped { shipment_id, .. } => (
            MessageKind::OrderShipped,
            MessageTopic::Shipment(*shipment_id),
        ),
        EventData::OrderDelivered {} => (MessageKind::OrderDelivered, MessageTopic::Order),
        EventData::OrderCancelled { .. } => (MessageKind::OrderCancelled, MessageTopic::Order),
        EventData::PaymentRefunded { amount, .. } => {
            (MessageKind::OrderRefunded, MessageTopic::Refund(*amount))
        }
        EventData::ReturnReceived { return_id, .. } => (
            MessageKind::ReturnReceived,
            MessageTopic::Return(*return_id),
        ),
        _ => return None,
    })
}

/// Types of the events that give messages.
pub const EVENT_TYPES: [&str; 6] = [
    "order.processing",
    "shipment.shipped",
    "order.delivered",
    "order.cancelled",
    "payment.refunded",
    "return.received",
];

/// A message to the customer of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// UUIDv7.
    pub id: MessageId,
    /// Id of the order.
    pub order_id: OrderId,
    /// Id of the event.
    pub event_id: EventId,
    /// Position of the event in the feed.
    #[serde(rename = "position")]
    pub event_position: i64,
    /// Kind.
    pub kind: MessageKind,
    /// Topic.
    pub topic: MessageTopic,
    /// Status.
    pub status: MessageStatus,
    /// Number of the next attempt, from 1; never reused.
    pub attempt: u32,
    /// Number of failures since it was created or resent.
    pub failures: u32,
    /// Number of these failures after which the mail server may have accepted it.
    #[serde(default, rename = "unconfirmed")]
    pub unconfirmed_attempts: u32,
    /// Number of times that it was resent.
    pub resends: u32,
    /// E-mail address of the last attempt.
    pub recipient: Option<String>,
    /// Subject of the last attempt.
    pub subject: Option<String>,
    /// Text part of the last attempt.
    pub text: Option<String>,
    /// Number of attempts that have ended.
    pub attempts: u32,
    /// Error of the last attempt, or the reason why nothing was sent.
    pub error: Option<String>,
    /// Time of the next attempt.
    pub due_at: Option<Timestamp>,
    /// Time at which it was created or last resent.
    #[serde(rename = "asked_at")]
    pub requested_at: Timestamp,
    /// Time at which the mail server accepted it.
    pub sent_at: Option<Timestamp>,
    /// Time of creation.
    pub created_at: Timestamp,
}

/// A rendered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentContent {
    /// E-mail address.
    pub recipient: String,
    /// Subject.
    pub subject: String,
    /// Text part.
    pub text: String,
}

/// Outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The mail server accepted the message.
    Sent,
    /// The mail server refused the recipient or the message for good.
    Bounced(String),
    /// The attempt failed, and may succeed later.
    Failed(String),
    /// The mail server did not respond to the message, and may have accepted it.
    Unconfirmed(String),
    /// The message can't be rendered.
    Unrenderable(String),
    /// Nothing is to be sent.
    NotSent(String),
}

/// Result of an attempt: its outcome, and the content if it was rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageResult {
    /// The outcome.
    pub outcome: AttemptOutcome,
    /// The content.
    pub content: Option<SentContent>,
}

impl Message {
    /// A new message that is due at once.
    pub fn new(
        id: MessageId,
        order_id: OrderId,
        (event_id, event_position): (EventId, i64),
        (kind, topic): (MessageKind, MessageTopic),
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            order_id,
            event_id,
            event_position,
            kind,
            topic,
            status: MessageStatus::Pending,
            attempt: 1,
            failures: 0,
            unconfirmed_attempts: 0,
            resends: 0,
            recipient: None,
            subject: None,
            text: None,
            attempts: 0,
            error: None,
            due_at: Some(now),
            requested_at: now,
            sent_at: None,
            created_at: now,
        }
    }

    /// The `Message-ID` without its domain: the same for all attempts until it is resent, so that a mail server
    /// or a mailbox can recognize a repetition.
    pub fn header_id(&self) -> String {
        format!("{}.{}", self.id, self.resends)
    }

    /// Records the result of the attempt that ended at `now`. `jitter` is from 0 to 1.
    pub fn record_attempt(&mut self, result: &MessageResult, now: Timestamp, jitter: f64) {
        self.attempt += 1;
        self.due_at = None;
        let content = result.content.clone();
        (self.recipient, self.subject, self.text) = match content {
            Some(content) => (
                Some(content.recipient),
                Some(content.subject),
                Some(content.text),
            ),
            None => (None, None, None),
        };
        let (status, error) = match &result.outcome {
            AttemptOutcome::Sent => (MessageStatus::Sent, None),
            AttemptOutcome::Bounced(error) => (MessageStatus::Bounced, Some(error)),
            AttemptOutcome::Unrenderable(error) => (MessageStatus::Failed, Some(error)),
            AttemptOutcome::NotSent(reason) => (MessageStatus::NotSent, Some(reason)),
            AttemptOutcome::Failed(error) | AttemptOutcome::Unconfirmed(error) => {
                self.failures += 1;
                self.unconfirmed_attempts +=
                    u32::from(matches!(result.outcome, AttemptOutcome::Unconfirmed(_)));
                let is_last_attempt = self.unconfirmed_attempts >= MAX_UNCONFIRMED_ATTEMPTS
                    || now.duration_since(self.requested_at) >= RETRY_PERIOD;
                let retry_delay = RETRY_POLICY.delay(self.failures, jitter);
                match retry_delay.filter(|_| !is_last_attempt) {
                    Some(retry_delay) => {
                        self.due_at = Some(now + retry_delay);
                        (MessageStatus::Pending, Some(error))
                    }
                    None => (MessageStatus::Failed, Some(error)),
                }
            }
        };
        if status != MessageStatus::NotSent {
            self.attempts += 1;
        }
        self.status = status;
        self.error = error.map(|error| error.chars().take(MAX_ERROR_CHARS).collect());
        if status == MessageStatus::Sent {
            self.sent_at = Some(now);
        }
    }

    /// Schedules the message again, with another `Message-ID`.
    pub fn resend_now(&mut self, now: Timestamp) {
        self.status = MessageStatus::Pending;
        self.attempt += 1;
        self.failures = 0;
        self.unconfirmed_attempts = 0;
        self.resends += 1;
        self.remove_content();
        self.requested_at = now;
        self.due_at = Some(now);
    }

    /// Removes the customer's personal data. A message that waits is not sent, and the result of an attempt in
    /// progress is ignored.
    pub fn redact(&mut self) {
        self.remove_content();
        if self.status == MessageStatus::Pending {
            self.end_unsent(ERASED_TEXT);
        }
    }

    /// Ends a message that waits, without sending it.
    pub fn end_unsent(&mut self, reason: &str) {
        self.attempt += 1;
        self.status = MessageStatus::NotSent;
        self.error = Some(reason.to_owned());
        self.due_at = None;
    }

    /// The mail server's response, in `error`, may quote the address.
    fn remove_content(&mut self) {
        self.recipient = None;
        self.subject = None;
        self.text = None;
        self.error = None;
    }

    /// The message's representation.
    pub fn represent(&self) -> Representation {
        Representation {
            id: self.id,
            order_id: self.order_id,
            event_id: self.event_id,
            kind: self.kind,
            status: self.status,
            recipient: self.recipient.clone(),
            subject: self.subject.clone(),
            text: self.text.clone(),
            attempts: self.attempts,
            error: self.error.clone(),
            next_attempt_at: self.due_at,
            sent_at: self.sent_at,
            created_at: self.created_at,
        }
    }
}
