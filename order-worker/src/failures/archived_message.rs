//! A dead-lettered message as it is archived, with everything needed to publish it again.
//!
//! [`describe`] makes it from a delivery of the dead-letter queue; [`archive`](super::archive) stores it and
//! [`dead_letters`](super::dead_letters) publishes it again.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use shared::{
    amqp::{
        message::{Headers, Incoming, OutgoingMessage},
        topology::STEP_QUEUE,
    },
    dead_letter::DeadLetterSource,
    order::{ACCEPT_ORDER, AcceptOrder},
    outcome::{Code, Failure},
};

use crate::steps::{DEAD_LETTER_REASON, message::StepMessage};

/// Maximum size of an archived payload.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Maximum number of payload characters that a list shows.
const MAX_LISTED_CHARS: usize = 2_000;
/// Headers that RabbitMQ adds when it redelivers or dead-letters a message.
pub(super) const BROKER_HEADERS: [&str; 6] = [
    "x-delivery-count",
    "x-acquired-count",
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
];
/// Header that counts the returns.
pub(super) const RETURN_COUNT_HEADER: &str = "returned";

/// An archived message, with everything needed to publish it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedMessage {
    kind: String,
    message_id: Option<String>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    headers: Headers,
    body: String,
    is_base64: bool,
    is_cut: bool,
}

impl ArchivedMessage {
    pub(super) fn into_outgoing(self) -> Result<OutgoingMessage, Failure> {
        if self.is_cut {
            return Err(Failure::invalid_state(format!(
                "the message was larger than {MAX_BODY_BYTES} bytes; its archived payload is truncated and can't be sent again"
            )));
        }
        let body = if self.is_base64 {
            BASE64_STANDARD
                .decode(&self.body)
                .map_err(|error| Failure::new(Code::Internal, error.to_string()))?
        } else {
            self.body.into_bytes()
        };
        Ok(OutgoingMessage {
            kind: Some(self.kind),
            content_type: None,
            correlation_id: self.correlation_id,
            reply_to: self.reply_to,
            message_id: self.message_id,
            expiration: None,
            persistent: true,
            headers: self.headers,
            body,
        })
    }

    /// The representation for operators, with at most [`MAX_LISTED_CHARS`] characters of the payload.
    pub fn represent(self, queue: String) -> DeadLetterSource {
        let is_long = self.body.chars().count() > MAX_LISTED_CHARS;
        DeadLetterSource::Message {
            queue,
            message_type: self.kind,
            message_id: self.message_id,
            headers: self.headers,
            body: if is_long {
                self.body.chars().take(MAX_LISTED_CHARS).collect()
            } else {
                self.body
            },
            is_base64: self.is_base64,
            is_cut: self.is_cut,
        }
    }
}

/// The reason why a message of the step queue can't be decoded, judged by its message type; `None` if it can.
pub(super) fn decoding_error(delivery: &Incoming) -> Option<String> {
    if delivery.kind == ACCEPT_ORDER {
        return AcceptOrder::read(delivery).err().map(|error| error.message);
    }
    let (_, error) = StepMessage::read(delivery);
    error.map(|error| error.to_string())
}

pub(super) fn describe(delivery: &Incoming) -> (String, String, ArchivedMessage) {
    let header_value = |header_name: &str| delivery.headers.get(header_name).cloned();
    let queue = header_value("x-first-death-queue").unwrap_or_else(|| STEP_QUEUE.to_owned());
    let mut reason = header_value("x-first-death-reason").unwrap_or_else(|| "rejected".to_owned());
    if let Some(error) = header_value(DEAD_LETTER_REASON).or_else(|| decoding_error(delivery)) {
        reason = format!("{reason}: {error}");
    }
    let mut headers = delivery.headers.clone();
    headers.retain(|header_name, _| {
        !BROKER_HEADERS.contains(&header_name.as_str())
            && header_name != RETURN_COUNT_HEADER
            && header_name != DEAD_LETTER_REASON
    });
    let is_cut = delivery.body.len() > MAX_BODY_BYTES;
    let kept_bytes = &delivery.body[..delivery.body.len().min(MAX_BODY_BYTES)];
    let (body, is_base64) = match std::str::from_utf8(kept_bytes) {
        Ok(body_text) => (body_text.to_owned(), false),
        Err(_) => (BASE64_STANDARD.encode(kept_bytes), true),
    };
    let message = ArchivedMessage {
        kind: delivery.kind.clone(),
        message_id: delivery.message_id.clone(),
        correlation_id: delivery.correlation_id.clone(),
        reply_to: delivery.reply_to.clone(),
        headers,
        body,
        is_base64,
        is_cut,
    };
    (queue, reason, message)
}
