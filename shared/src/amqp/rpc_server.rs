//! RPC server of the worker: parses request messages and sends the reply envelopes.
//!
//! [`RequestMessage::read`] returns the requests of a message, each with its caller and deadline, and the
//! [`ReplyTo`] to answer them. An invalid request becomes a failure to reply with; it never affects the other
//! requests of its batch. `reading` has the parsing; the other end is [`super::rpc_client`].

mod reading;

use std::{borrow::Cow, time::Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::reading::caller;
use self::reading::{batch_entries, single_entry};
use super::{
    batch::{self, BATCH_MESSAGE_TYPE, BatchReply},
    clock::worker_time_headers,
    connection::{Broker, BrokerUnavailable},
    consumer, header,
    message::{Headers, Incoming, OutgoingMessage, Receipt},
    publisher::Replier,
    request_pause::RequestPause,
    topology::REQUEST_QUEUE,
};
use crate::{
    etag::IfMatch,
    outcome::{Code, Failure, Outcome, RpcReply},
    request::{Caller, Request},
};

/// A delivered request message: a single request, or a batch.
pub struct RequestMessage {
    message: Incoming,
}

/// One request of a message.
pub struct BatchEntry {
    /// Identifies the request in the reply.
    pub correlation_id: CorrelationId,
    /// The request, or the failure to reply with.
    pub request: Result<RpcRequest, Failure>,
}

/// The `correlation_id` that matches a reply with its request.
pub struct CorrelationId(Option<String>);

/// A reply and the request it belongs to.
pub struct EntryReply {
    /// Identifies the request.
    pub correlation_id: CorrelationId,
    /// The reply.
    pub reply: RpcReply,
}

impl EntryReply {
    /// Size of the reply in bytes; failures count as zero.
    pub fn bytes(&self) -> usize {
        let outcome = self.reply.outcome.as_ref();
        outcome.map_or(0, |json| json.text().len())
    }
}

/// The reply queue of a message, and the receipt that settles the message after all replies.
pub struct ReplyTo {
    reply_queue: Option<String>,
    /// Whether the replies are sent as a batch, as the requests were.
    is_batch: bool,
    receipt: Receipt,
}

/// A parsed request.
#[derive(Debug)]
pub struct RpcRequest {
    /// The operation.
    pub request: Request,
    /// The caller.
    pub caller: Caller,
    /// The client's idempotency key; not yet scoped to the caller.
    pub idempotency_key: Option<String>,
    /// Entity tags that the resource must match.
    pub if_match: Option<IfMatch>,
    /// Identity of the message, for deduplication.
    pub identity: Option<MessageIdentity>,
    /// Time until which the request may be executed.
    pub deadline: Option<Instant>,
}

/// Identifies a request message without a client's idempotency key, so that a redelivered message gets the
/// first result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageIdentity {
    /// The sender's message id: messages with the same id are the same message.
    MessageId(String),
    /// Reply queue and correlation id, for messages without an id. Senders may reuse correlation ids, so this
    /// detects redeliveries only.
    Correlation {
        /// `REPLY_QUEUE/CORRELATION_ID`.
        key: String,
        /// Whether the broker marked the message as redelivered.
        is_redelivered: bool,
    },
}

impl MessageIdentity {
    /// The identity as text, for logs and idempotency keys.
    pub fn key(&self) -> &str {
        match self {
            Self::MessageId(key) | Self::Correlation { key, .. } => key,
        }
    }
}

/// A reply message of at least this many bytes accepts no more replies.
pub const REPLY_MESSAGE_BYTES: usize = 1024 * 1024;
/// Maximum size of a reply in bytes. RabbitMQ 4 limits messages to 16 MiB by default and closes the channel
/// on a larger message, which would lose the replies after it.
const MAX_REPLY_BYTES: usize = 15 * 1024 * 1024;

/// Receives requests from [`REQUEST_QUEUE`] until `stop`, except during a pause.
pub fn receive_requests(
    broker: Broker,
    prefetch: u16,
    pause: RequestPause,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    // A classic queue has no delivery limit; that of a quorum queue would also drop requests that were delivered
    // together with an undecodable one.
    consumer::consume_with_pauses(
        broker,
        REQUEST_QUEUE,
        prefetch,
        consumer::UndecodableHandling::Discard,
        pause,
        stop,
    )
}

impl From<Incoming> for RequestMessage {
    fn from(message: Incoming) -> Self {
        Self { message }
    }
}

impl RequestMessage {
    /// Parses the message into its requests.
    pub fn read(self) -> (ReplyTo, Vec<BatchEntry>) {
        let message = self.message;
        let (is_batch, entries) = if message.kind == BATCH_MESSAGE_TYPE {
            match batch_entries(&message) {
                Ok(entries) => (true, entries),
                // The body is not a list of entries: one reply for the whole message.
                Err(failure) => {
                    let correlation_id = CorrelationId(message.correlation_id.clone());
                    let request = Err(failure);
                    (
                        false,
                        vec![BatchEntry {
                            correlation_id,
                            request,
                        }],
                    )
                }
            }
        } else {
            (false, vec![single_entry(&message)])
        };
        let reply_to = ReplyTo {
            reply_queue: message.reply_to,
            is_batch,
            receipt: message.receipt,
        };
        (reply_to, entries)
    }
}

impl ReplyTo {
    /// Sends replies to the caller's reply queue, if there is one.
    ///
    /// # Errors
    /// [`BrokerUnavailable`] when they could not be sent.
    pub async fn reply(
        &self,
        replier: &Replier,
        replies: Vec<EntryReply>,
    ) -> Result<(), BrokerUnavailable> {
        let Some(reply_queue) = &self.reply_queue else {
            for failure in replies
                .iter()
                .filter_map(|entry_reply| entry_reply.reply.outcome.as_ref().err())
            {
                tracing::warn!(%failure, "a request without reply_to failed");
            }
            return Ok(());
        };
        let replies = replies.into_iter().map(limit_size);
        if self.is_batch {
            for replies in split_into_messages(replies) {
                replier.reply(reply_queue, &batch_message(replies)).await?;
            }
        } else {
            for reply in replies {
                replier.reply(reply_queue, &single_message(reply)).await?;
            }
        }
        Ok(())
    }

    /// Requeues the message, after its requests were executed but the replies could not be sent.
    pub async fn requeue(self) {
        self.receipt.requeue().await;
    }

    /// Acknowledges the message, after all replies were sent. If the worker dies before that, the message is
    /// redelivered and the recorded results are sent again.
    pub async fn ack(self) {
        self.receipt.ack().await;
    }
}

/// Groups replies into messages of about [`REPLY_MESSAGE_BYTES`].
fn split_into_messages(replies: impl Iterator<Item = EntryReply>) -> Vec<Vec<EntryReply>> {
    let mut messages: Vec<Vec<EntryReply>> = Vec::new();
    let mut free_bytes = 0;
    for reply in replies {
        if free_bytes == 0 {
            free_bytes = REPLY_MESSAGE_BYTES;
            messages.push(Vec::new());
        }
        free_bytes = free_bytes.saturating_sub(reply.bytes());
        if let Some(message) = messages.last_mut() {
            message.push(reply);
        }
    }
    messages
}

/// The reply, or a failure if the reply is too large to send.
fn limit_size(reply: EntryReply) -> EntryReply {
    let reply_bytes = reply.bytes();
    if reply_bytes <= MAX_REPLY_BYTES {
        return reply;
    }
    let failure = Failure::new(
        Code::Internal,
        format!(
            "the reply has {reply_bytes} bytes, more than the maximum of {MAX_REPLY_BYTES}; request a smaller page"
        ),
    );
    tracing::error!(%failure, "a reply exceeds the maximum size; an error is sent instead");
    EntryReply {
        reply: Err(failure).into(),
        ..reply
    }
}

/// The message with `replies` as a batch.
fn batch_message(replies: Vec<EntryReply>) -> OutgoingMessage {
    let body_bytes = replies.iter().map(EntryReply::bytes).sum();
    let replies = replies.into_iter().map(
        |EntryReply {
             correlation_id,
             reply,
         }| BatchReply {
            correlation_id: correlation_id.0.map(Cow::Owned),
            headers: reply_headers(reply.is_replay),
            body: Outcome::from(reply.outcome),
        },
    );
    OutgoingMessage {
        kind: Some(BATCH_MESSAGE_TYPE.to_owned()),
        headers: worker_time_headers(),
        body: batch::to_json_array(&replies.collect::<Vec<_>>(), body_bytes),
        ..OutgoingMessage::default()
    }
}

/// The message with a single reply.
fn single_message(
    EntryReply {
        correlation_id,
        reply,
    }: EntryReply,
) -> OutgoingMessage {
    let mut headers = worker_time_headers();
    headers.extend(reply_headers(reply.is_replay));
    OutgoingMessage {
        correlation_id: correlation_id.0,
        headers,
        body: batch::to_json(&Outcome::from(reply.outcome)),
        ..OutgoingMessage::default()
    }
}

fn reply_headers(is_replay: bool) -> Headers {
    if is_replay {
        Headers::from([(header::REPLAYED.to_owned(), "true".to_owned())])
    } else {
        Headers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Json;

    fn entry_reply(bytes: usize) -> EntryReply {
        let reply = Json::of(&"x".repeat(bytes.saturating_sub(2))).into();
        EntryReply {
            correlation_id: CorrelationId(None),
            reply,
        }
    }

    #[test]
    fn replies_are_split_into_messages_by_size() {
        let sizes_by_message = |sizes: &[usize]| -> Vec<Vec<usize>> {
            let messages = split_into_messages(sizes.iter().map(|size| entry_reply(*size)));
            let sizes = messages
                .iter()
                .map(|message| message.iter().map(EntryReply::bytes));
            sizes.map(Iterator::collect).collect()
        };
        assert_eq!(sizes_by_message(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(sizes_by_message(&[2, 9, 2]), [[2, 9, 2]]);
        let full_size = REPLY_MESSAGE_BYTES;
        assert_eq!(
            sizes_by_message(&[full_size - 1, 5 * full_size, 2, full_size, 2]),
            [
                vec![full_size - 1, 5 * full_size],
                vec![2, full_size],
                vec![2]
            ]
        );
    }

    #[test]
    fn oversized_reply_is_replaced_by_an_error() {
        for (size, is_sendable) in [(MAX_REPLY_BYTES, true), (MAX_REPLY_BYTES + 1, false)] {
            let reply = limit_size(entry_reply(size)).reply;
            let code = reply.outcome.err().map(|failure| failure.code);
            assert_eq!(code, (!is_sendable).then_some(Code::Internal));
        }
    }
}
