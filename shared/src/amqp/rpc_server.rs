//! The worker's end of RPC: what a delivered message asks for, on whose behalf, until when; and
//! the envelope that answers it.

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

/// Names of the headers of a request; all are optional.
pub mod header {
    /// `storefront`, `operator` or `admin`; default `storefront`.
    pub const ROLE: &str = "role";
    /// Whose data the caller sees; default `default`.
    pub const STOREFRONT: &str = "storefront";
    /// The credential's name.
    pub const ACTOR: &str = "actor";
    /// What the caller wants.
    pub const INTENT: &str = "intent";
    /// The HTTP request's id.
    pub const REQUEST_ID: &str = "request_id";
    /// Unix milliseconds after which nobody waits for the answer.
    pub const DEADLINE: &str = "deadline";
    /// The same by the clocks of workers that differ from the sender's: `WORKER=MILLIS`, apart by commas.
    pub const WORKER_DEADLINES: &str = "worker_deadlines";
    /// The client's `Idempotency-Key`.
    pub const IDEMPOTENCY_KEY: &str = "idempotency_key";
    /// What the thing to be changed must be like: entity tags as HTTP's `If-Match` has them.
    pub const IF_MATCH: &str = "if_match";
    /// The trace that the request is part of (<https://www.w3.org/TR/trace-context/>).
    pub const TRACEPARENT: &str = "traceparent";
    /// On a reply: `true` when this answer was given before.
    pub const REPLAYED: &str = "idempotent_replayed";
    /// On a message of replies: the worker's id, new with each start.
    pub const WORKER: &str = "worker";
    /// On a message of replies: Unix milliseconds by the worker's clock.
    pub const WORKER_TIME: &str = "worker_time";
}

/// A delivered message: one request, or a batch of them.
pub struct RequestMessage {
    message: Incoming,
}

/// A request of a message.
pub struct BatchEntry {
    /// Whom to answer.
    pub correlation_id: CorrelationId,
    /// What it asks; whatever is wrong with it becomes the answer.
    pub request: Result<RpcRequest, Failure>,
}

/// Which of a message's requests an answer belongs to: its `correlation_id`.
pub struct CorrelationId(Option<String>);

/// What is told to whom.
pub struct EntryReply {
    /// Whose question it was.
    pub correlation_id: CorrelationId,
    /// The answer.
    pub reply: RpcReply,
}

impl EntryReply {
    /// How large the answer is; failures are small.
    pub fn bytes(&self) -> usize {
        let outcome = self.reply.outcome.as_ref();
        outcome.map_or(0, |json| json.text().len())
    }
}

/// Where the answers go, and the receipt that settles the message once all are given.
pub struct ReplyTo {
    reply_to: Option<String>,
    /// Answers travel as the questions came: alone, or together.
    is_batch: bool,
    receipt: Receipt,
}

/// What a delivered message asks for.
#[derive(Debug)]
pub struct RpcRequest {
    /// What.
    pub request: Request,
    /// On whose behalf.
    pub caller: Caller,
    /// The client's own key, scoped to the caller by whoever uses it.
    pub idempotency_key: Option<String>,
    /// What the thing to be changed must be like.
    pub if_match: Option<IfMatch>,
    /// Tells this message from every other.
    pub identity: Option<Identity>,
    /// After this nobody waits for the answer.
    pub deadline: Option<Instant>,
}

/// The idempotency key of last resort: what was done for a message is found again when the broker
/// delivers it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The sender named the message: the same name is the same message, however it comes.
    Named(String),
    /// The sender did not, but told where it waits and for what. Who reuses a correlation id means
    /// another request, so this tells only of redeliveries.
    Waiting {
        /// Reply queue and correlation id.
        place: String,
        /// Whether the broker delivered the message before.
        is_redelivered: bool,
    },
}

impl Identity {
    /// What the message is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Named(name) | Self::Waiting { place: name, .. } => name,
        }
    }
}

/// A message that has this many bytes of answers takes no more of them.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// RabbitMQ 4 takes 16 MiB a message, unless it is told otherwise. Should one be larger, it closes the
/// channel, and the answers behind it are lost as well.
const MAX_ANSWER_BYTES: usize = 15 * 1024 * 1024;

/// Requests from [`REQUEST_QUEUE`], until `stop`.
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
    /// Reads the message: one question, or as many as the batch has parts.
    pub fn read(self) -> (ReplyTo, Vec<BatchEntry>) {
        let message = self.message;
        let (is_batch, entries) = if message.kind == BATCH {
            match batched(&message) {
                Ok(entries) => (true, entries),
                // Nobody can be told apart: one answer for all, as to a message that can't be read.
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
            reply_to: message.reply_to,
            is_batch,
            receipt: message.receipt,
        };
        (reply_to, entries)
    }
}

impl ReplyTo {
    /// Sends the answers to where the asker listens, if it does.
    ///
    /// # Errors
    /// [`Away`] when they could not be sent.
    pub async fn reply(&self, replier: &Replier, answers: Vec<EntryReply>) -> Result<(), Away> {
        let Some(reply_to) = &self.reply_to else {
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
                replier.reply(reply_to, &together(answers)).await?;
            }
        } else {
            for answer in answers {
                replier.reply(reply_to, &envelope(answer)).await?;
            }
        }
        Ok(())
    }

    /// Leaves the message to be delivered again: what it asks for is done, but not answered.
    pub async fn leave(self) {
        self.receipt.requeue().await;
    }

    /// Settles the message, after all of it was answered: a worker that dies in between is asked
    /// again and finds what it did by the requests' ids.
    pub async fn settle(self) {
        self.receipt.ack().await;
    }
}

/// Answers as they travel: no message goes on beyond [`MESSAGE_BYTES`].
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

/// The answer, or that it can't be sent.
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
    fn a_message_with_many_bytes_takes_no_more_answers() {
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
    fn an_answer_that_no_message_can_hold_is_answered_all_the_same() {
        for (size, fits) in [(MAX_ANSWER_BYTES, true), (MAX_ANSWER_BYTES + 1, false)] {
            let reply = small_enough(answer(size)).reply;
            let code = reply.outcome.err().map(|failure| failure.code);
            assert_eq!(code, (!fits).then_some(Code::Internal));
        }
    }
}
