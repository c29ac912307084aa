//! RPC server: parses request messages into requests, callers and deadlines, and sends the reply envelopes.

mod reading;

use std::{borrow::Cow, time::Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(super) use self::reading::LATE_BY_MS;
pub use self::reading::caller;
use self::reading::{alone, batched};
use super::{
    batch::{self, Answer, BATCH},
    clock::worker_time,
    connection::{Away, Broker},
    consumer,
    message::{Headers, Incoming, Outgoing, Receipt},
    publisher::Replier,
    topology::REQUEST_QUEUE,
};
use crate::{
    etag::IfMatch,
    outcome::{Code, Failure, Outcome, RpcReply},
    request::{Caller, Request},
};

/// Names of request headers; all are optional.
pub mod header {
    /// `storefront`, `operator` or `admin`; default `storefront`.
    pub const ROLE: &str = "role";
    /// The storefront whose data the caller can see; default `default`.
    pub const STOREFRONT: &str = "storefront";
    /// Name of the credential.
    pub const ACTOR: &str = "actor";
    /// Purpose of the request.
    pub const INTENT: &str = "intent";
    /// Id of the HTTP request.
    pub const REQUEST_ID: &str = "request_id";
    /// Deadline of the request in Unix milliseconds.
    pub const DEADLINE: &str = "deadline";
    /// The same by the clocks of workers that differ from the sender's: `WORKER=MILLIS`, apart by commas.
    pub const WORKER_DEADLINES: &str = "worker_deadlines";
    /// The client's `Idempotency-Key`.
    pub const IDEMPOTENCY_KEY: &str = "idempotency_key";
    /// Required entity tags of the resource, as in HTTP's `If-Match`.
    pub const IF_MATCH: &str = "if_match";
    /// Trace context of the request (<https://www.w3.org/TR/trace-context/>).
    pub const TRACEPARENT: &str = "traceparent";
    /// On a reply: `true` when the reply was replayed from the idempotency record.
    pub const REPLAYED: &str = "idempotent_replayed";
    /// On a message of replies: the worker's id, new with each start.
    pub const WORKER: &str = "worker";
    /// On a message of replies: Unix milliseconds by the worker's clock.
    pub const WORKER_TIME: &str = "worker_time";
}

/// A delivered message: a single request, or a batch.
pub struct RequestMessage {
    message: Incoming,
}

/// A request of a message.
pub struct BatchEntry {
    /// Identifies the request in the reply.
    pub correlation_id: CorrelationId,
    /// The request, or the failure to reply with.
    pub request: Result<RpcRequest, Failure>,
}

/// The `correlation_id` that assigns a reply to a request of the message.
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

/// The reply queue of a message, and the receipt that settles it when all requests are answered.
pub struct ReplyTo {
    queue: Option<String>,
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
    /// Required entity tags of the resource.
    pub if_match: Option<IfMatch>,
    /// Identity of the message, for deduplication.
    pub identity: Option<Identity>,
    /// Time until which the request may be executed.
    pub deadline: Option<Instant>,
}

/// Idempotency key for requests without one from the client: makes a redelivered message return the first
/// result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The sender's message id: the same id is the same message, from whatever delivery.
    Named(String),
    /// Reply queue and correlation id, for messages without an id. Senders may reuse correlation ids, so this
    /// detects redeliveries only.
    Waiting {
        /// Reply queue and correlation id.
        place: String,
        /// Whether the broker marked the message as redelivered.
        is_redelivered: bool,
    },
}

impl Identity {
    /// The identity as text.
    pub fn name(&self) -> &str {
        match self {
            Self::Named(name) | Self::Waiting { place: name, .. } => name,
        }
    }
}

/// A reply message of at least this many bytes accepts no more replies.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// Maximum size of a reply. RabbitMQ 4 limits messages to 16 MiB by default and closes the channel of a larger
/// one, which would lose the replies behind it.
const MAX_ANSWER_BYTES: usize = 15 * 1024 * 1024;

/// Receives requests from [`REQUEST_QUEUE`] until `stop`.
pub fn requests(
    broker: Broker,
    prefetch: u16,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    // A classic queue has no delivery limit.
    consumer::consume(
        broker,
        REQUEST_QUEUE,
        prefetch,
        consumer::Undecodable::Discard,
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
        let (is_batch, entries) = if message.kind == BATCH {
            match batched(&message) {
                Ok(entries) => (true, entries),
                // The entries can't be told apart: one reply for the whole message.
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
            (false, vec![alone(&message)])
        };
        let reply_to = ReplyTo {
            queue: message.reply_to,
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
    /// [`Away`] when they could not be sent.
    pub async fn reply(&self, replier: &Replier, answers: Vec<EntryReply>) -> Result<(), Away> {
        let Some(queue) = &self.queue else {
            for failure in answers
                .iter()
                .filter_map(|answer| answer.reply.outcome.as_ref().err())
            {
                tracing::warn!(%failure, "a request without reply_to failed");
            }
            return Ok(());
        };
        let answers = answers.into_iter().map(small_enough);
        if self.is_batch {
            for answers in in_messages(answers) {
                replier.reply(queue, &together(answers)).await?;
            }
        } else {
            for answer in answers {
                replier.reply(queue, &envelope(answer)).await?;
            }
        }
        Ok(())
    }

    /// Requeues the message: its requests were executed, but the replies could not be sent.
    pub async fn leave(self) {
        self.receipt.requeue().await;
    }

    /// Acknowledges the message, after all replies were sent. If the worker dies before that, the message is
    /// redelivered and the recorded results are sent again.
    pub async fn settle(self) {
        self.receipt.ack().await;
    }
}

/// Groups replies into messages of about [`MESSAGE_BYTES`].
fn in_messages(answers: impl Iterator<Item = EntryReply>) -> Vec<Vec<EntryReply>> {
    let mut messages: Vec<Vec<EntryReply>> = Vec::new();
    let mut room = 0;
    for answer in answers {
        if room == 0 {
            room = MESSAGE_BYTES;
            messages.push(Vec::new());
        }
        room = room.saturating_sub(answer.bytes());
        if let Some(message) = messages.last_mut() {
            message.push(answer);
        }
    }
    messages
}

/// The reply, or a failure if the reply is too large to send.
fn small_enough(answer: EntryReply) -> EntryReply {
    let bytes = answer.bytes();
    if bytes <= MAX_ANSWER_BYTES {
        return answer;
    }
    let failure = Failure::new(
        Code::Internal,
        format!("the answer has {bytes} bytes, more than the {MAX_ANSWER_BYTES} that can be sent"),
    );
    tracing::error!(%failure, "an answer is too large for the broker");
    EntryReply {
        reply: Err(failure).into(),
        ..answer
    }
}

fn together(answers: Vec<EntryReply>) -> Outgoing {
    let bytes = answers.iter().map(EntryReply::bytes).sum();
    let answers = answers.into_iter().map(
        |EntryReply {
             correlation_id,
             reply,
         }| Answer {
            correlation_id: correlation_id.0.map(Cow::Owned),
            headers: reply_headers(reply.is_replay),
            body: Outcome::from(reply.outcome),
        },
    );
    Outgoing {
        kind: Some(BATCH.to_owned()),
        headers: worker_time(),
        body: batch::together(&answers.collect::<Vec<_>>(), bytes),
        ..Outgoing::default()
    }
}

fn envelope(
    EntryReply {
        correlation_id,
        reply,
    }: EntryReply,
) -> Outgoing {
    let mut headers = worker_time();
    headers.extend(reply_headers(reply.is_replay));
    Outgoing {
        correlation_id: correlation_id.0,
        headers,
        body: batch::json(&Outcome::from(reply.outcome)),
        ..Outgoing::default()
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

    fn answer(bytes: usize) -> EntryReply {
        let reply = Json::of(&"x".repeat(bytes.saturating_sub(2))).into();
        EntryReply {
            correlation_id: CorrelationId(None),
            reply,
        }
    }

    #[test]
    fn replies_are_split_into_messages_by_size() {
        let travel = |sizes: &[usize]| -> Vec<Vec<usize>> {
            let messages = in_messages(sizes.iter().map(|size| answer(*size)));
            let sizes = messages
                .iter()
                .map(|message| message.iter().map(EntryReply::bytes));
            sizes.map(Iterator::collect).collect()
        };
        assert_eq!(travel(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(travel(&[2, 9, 2]), [[2, 9, 2]]);
        let full = MESSAGE_BYTES;
        assert_eq!(
            travel(&[full - 1, 5 * full, 2, full, 2]),
            [vec![full - 1, 5 * full], vec![2, full], vec![2]]
        );
    }

    #[test]
    fn oversized_reply_is_replaced_by_an_error() {
        for (size, fits) in [(MAX_ANSWER_BYTES, true), (MAX_ANSWER_BYTES + 1, false)] {
            let reply = small_enough(answer(size)).reply;
            let code = reply.outcome.err().map(|failure| failure.code);
            assert_eq!(code, (!fits).then_some(Code::Internal));
        }
    }
}
