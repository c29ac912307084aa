//! Dead letters: steps and messages that failed for good. Operators list them, redrive them (try them again)
//! or discard them.
//!
//! - A step that used up its attempts stays as a dead row in `steps`.
//! - A message that could not be used arrives in `order-dead-letter-queue` and is archived unchanged, with
//!   the reason.
//! - A readable message that exceeded RabbitMQ's delivery limit is no dead letter: its worker crashed, or it
//!   was redelivered together with an undecodable message. It returns to its queue, up to [`MAX_RETURNS`]
//!   times.
//!
//! A message that lapin itself can't decode closes the connection of this queue's consumer, which takes one
//! message at a time, until RabbitMQ's delivery limit removes the message. Steps that will still be retried
//! are in [`retries`](super::retries).

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    amqp::{
        connection::Broker,
        consumer::{Undecodable, consume},
        message::{Headers, Incoming, Outgoing},
        publisher::{Publisher, Target},
        topology::{DEAD_LETTER_QUEUE, STEP_QUEUE},
    },
    dead_letter::{DeadLetter, DeadLetterRef, DeadLetterSource, ListDeadLetters},
    etag::IfMatch,
    order::{ACCEPT_ORDER, AcceptOrder},
    outcome::{Code, Failure, Json, RpcReply},
    page::Page,
    request::Caller,
    retry::RedriveAll,
};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::retries::{FailedSteps, redrive_all};
use crate::{
    domain::{
        command::{Action, Command, Idempotency},
        step::StepKey,
    },
    engine::{Engine, task},
    runtime::crash::{Point, point},
    steps::{DEAD_LETTER_REASON, message::StepMessage},
    store::{Store, StoreError},
};

/// One message at a time: an undecodable message must not cause other messages to be redelivered.
const PREFETCH: u16 = 1;
/// Maximum size of an archived payload.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Maximum number of payload characters that a list shows.
const MAX_LISTED_CHARS: usize = 2_000;
/// Delay between attempts while the database is unavailable.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of times that a readable message returns to its queue after RabbitMQ's delivery limit. Each
/// time allows twenty more deliveries; a message that crashes its worker every time must end eventually.
const MAX_RETURNS: u32 = 5;
/// Header that counts the returns.
const RETURN_COUNT_HEADER: &str = "returned";
/// RabbitMQ's reason for a message that was delivered too often.
const DELIVERY_LIMIT: &str = "delivery_limit";
/// Headers that RabbitMQ adds when it redelivers or dead-letters a message.
const BROKER_HEADERS: [&str; 6] = [
    "x-delivery-count",
    "x-acquired-count",
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
];

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

/// Archives the messages of the dead-letter queue until `stop`.
pub async fn archive(
    store: Store,
    broker: Broker,
    publisher: Arc<Publisher>,
    stop: CancellationToken,
) {
    let mut deliveries = consume(
        broker,
        DEAD_LETTER_QUEUE,
        PREFETCH,
        Undecodable::LeaveToDeliveryLimit,
        stop.clone(),
    );
    while let Some(Some(delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
        if let Some(message) = returnable(&delivery) {
            let returned = stop
                .run_until_cancelled(return_to_queue(&publisher, message))
                .await;
            if returned.is_none() {
                return;
            }
            let message_id = &delivery.message_id;
            tracing::warn!(
                message_id,
                "returned a message to its queue after the delivery limit"
            );
            delivery.receipt.ack().await;
            continue;
        }
        let (queue, reason, message) = describe(&delivery);
        let archived = async {
            while let Err(error) = store
                .archive(&queue, &reason, &message, Timestamp::now())
                .await
            {
                tracing::error!(%error, "a dead letter could not be archived; trying again");
                time::sleep(RETRY_DELAY).await;
            }
        };
        // If `stop` comes first, the message is not acknowledged and is redelivered.
        if stop.run_until_cancelled(archived).await.is_none() {
            return;
        }
        tracing::warn!(
            queue,
            reason,
            message_id = delivery.message_id,
            "archived a dead letter"
        );
        point(Point::AfterArchived);
        delivery.receipt.ack().await;
    }
}

/// The reason why a message of the step queue can't be decoded, judged by its message type; `None` if it can.
fn decoding_error(delivery: &Incoming) -> Option<String> {
    if delivery.kind == ACCEPT_ORDER {
        return AcceptOrder::read(delivery).err().map(|error| error.message);
    }
    let (_, error) = StepMessage::read(delivery);
    error.map(|error| error.to_string())
}

/// The message to publish again, if the delivery limit was its only problem.
fn returnable(delivery: &Incoming) -> Option<Outgoing> {
    let header = |name: &str| delivery.headers.get(name).map(String::as_str);
    let returned: u32 = header(RETURN_COUNT_HEADER).map_or(Ok(0), str::parse).ok()?;
    let is_returnable = header("x-first-death-reason") == Some(DELIVERY_LIMIT)
        && header("x-first-death-queue") == Some(STEP_QUEUE)
        && returned < MAX_RETURNS
        && decoding_error(delivery).is_none();
    if !is_returnable {
        return None;
    }
    let mut headers = delivery.headers.clone();
    headers.retain(|name, _| !BROKER_HEADERS.contains(&name.as_str()));
    headers.insert(RETURN_COUNT_HEADER.to_owned(), (returned + 1).to_string());
    Some(Outgoing {
        kind: Some(delivery.kind.clone()),
        content_type: None,
        correlation_id: delivery.correlation_id.clone(),
        reply_to: delivery.reply_to.clone(),
        message_id: delivery.message_id.clone(),
        expiration: None,
        persistent: true,
        headers,
        body: delivery.body.clone(),
    })
}

/// Publishes `message` to the step queue; retries until the broker accepts it.
async fn return_to_queue(publisher: &Publisher, message: Outgoing) {
    let messages = [(Target::Queue(STEP_QUEUE), message)];
    while let Some(Err(error)) = publisher.publish(&messages).await.into_iter().next() {
        tracing::warn!(%error, "a message could not be returned to its queue; trying again");
        time::sleep(RETRY_DELAY).await;
    }
}

fn describe(delivery: &Incoming) -> (String, String, ArchivedMessage) {
    let header = |name: &str| delivery.headers.get(name).cloned();
    let queue = header("x-first-death-queue").unwrap_or_else(|| STEP_QUEUE.to_owned());
    let mut reason = header("x-first-death-reason").unwrap_or_else(|| "rejected".to_owned());
    if let Some(error) = header(DEAD_LETTER_REASON).or_else(|| decoding_error(delivery)) {
        reason = format!("{reason}: {error}");
    }
    let mut headers = delivery.headers.clone();
    headers.retain(|name, _| {
        !BROKER_HEADERS.contains(&name.as_str())
            && name != RETURN_COUNT_HEADER
            && name != DEAD_LETTER_REASON
    });
    let is_cut = delivery.body.len() > MAX_BODY_BYTES;
    let kept_bytes = &delivery.body[..delivery.body.len().min(MAX_BODY_BYTES)];
    let (body, is_base64) = match std::str::from_utf8(kept_bytes) {
        Ok(text) => (text.to_owned(), false),
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

impl ArchivedMessage {
    fn into_outgoing(self) -> Result<Outgoing, Failure> {
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
        Ok(Outgoing {
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

/// Operations on dead letters.
#[derive(Clone)]
pub struct DeadLetters {
    store: Store,
    engine: Engine,
    publisher: Arc<Publisher>,
}

/// The kind of dead letter that an id refers to.
enum DeadLetterId {
    Step(StepKey),
    Message(Uuid),
}

impl DeadLetters {
    /// Creates the operations; `publisher` sends redriven messages.
    pub fn new(store: Store, engine: Engine, publisher: Arc<Publisher>) -> Self {
        Self {
            store,
            engine,
            publisher,
        }
    }

    /// Lists dead letters, newest first.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `UNAVAILABLE`.
    pub async fn list(&self, caller: &Caller, query: &ListDeadLetters) -> Result<Json, Failure> {
        caller.require_operator()?;
        Json::of(&page(&self.store, query.cursor.as_deref(), query.limit).await?)
    }

    /// Redrives all dead letters, page by page, within a time limit: steps, and messages too unless the
    /// request names a kind of step. A message whose payload was truncated stays.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `INVALID_REQUEST`, `UNAVAILABLE`.
    pub async fn redrive_all(
        &self,
        caller: &Caller,
        request: RedriveAll,
        deadline: Option<Instant>,
    ) -> Result<Json, Failure> {
        redrive_all(
            &self.store,
            &self.engine,
            caller,
            request,
            deadline,
            FailedSteps::Dead(self),
        )
        .await
    }

    /// Publishes an archived message to its queue again and deletes it from the archive. `false` if it is not
    /// in the archive any more.
    async fn redrive_message(&self, id: Uuid) -> Result<bool, Failure> {
        let found = self.store.dead_message(id).await.map_err(store_failure)?;
        let Some((queue, message)) = found else {
            return Ok(false);
        };
        let messages = [(Target::Queue(&queue), message.into_outgoing()?)];
        let sent = self.publisher.publish(&messages).await;
        if let Some(Err(error)) = sent.into_iter().next() {
            return Err(Failure::new(Code::Unavailable, error.to_string()));
        }
        // After a crash at this point the message is still archived and may be redriven again. That is
        // harmless: a step whose message arrives twice is performed once.
        point(Point::AfterRedriven);
        self.store
            .remove_dead_message(id)
            .await
            .map_err(store_failure)?;
        Ok(true)
    }

    /// Redrives those of `messages` that are complete; returns their number.
    pub(crate) async fn redrive_messages(&self, messages: &[Uuid]) -> Result<u64, Failure> {
        let mut redriven = 0;
        for id in messages {
            match self.redrive_message(*id).await {
                Ok(true) => redriven += 1,
                Ok(false) => {}
                Err(failure) if failure.code == Code::InvalidState => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(redriven)
    }

    /// Redrives a dead letter.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `NOT_FOUND`, `INVALID_STATE` if its payload was truncated, `UNAVAILABLE`.
    pub async fn redrive(
        &self,
        context: CommandContext,
        letter: &DeadLetterRef,
    ) -> Result<RpcReply, Failure> {
        let is_replay = match parse_dead_letter_id(&context.caller, letter)? {
            DeadLetterId::Step(key) => self.decide(context, Action::RedriveStep(key)).await?,
            DeadLetterId::Message(id) => {
                let redriven = self.redrive_existing_message(id);
                return task::run(&self.engine, &context, None, redriven).await;
            }
        };
        let outcome = Json::of(&json!({"id": letter.id, "status": "redriven"}));
        Ok(RpcReply { outcome, is_replay })
    }

    /// Discards a dead letter.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `NOT_FOUND`, `UNAVAILABLE`.
    pub async fn discard(
        &self,
        context: CommandContext,
        letter: &DeadLetterRef,
    ) -> Result<RpcReply, Failure> {
        let is_replay = match parse_dead_letter_id(&context.caller, letter)? {
            DeadLetterId::Step(key) => self.decide(context, Action::DiscardStep(key)).await?,
            DeadLetterId::Message(id) => {
                let discarded = self.discard_message(id);
                return task::run(&self.engine, &context, None, discarded).await;
            }
        };
        let outcome = Json::of(&json!({"id": letter.id, "status": "discarded"}));
        Ok(RpcReply { outcome, is_replay })
    }

    async fn redrive_existing_message(&self, id: Uuid) -> Result<Json, Failure> {
        if !self.redrive_message(id).await? {
            return Err(Failure::not_found("dead letter", id));
        }
        Json::of(&json!({"id": id, "status": "redriven"}))
    }

    async fn discard_message(&self, id: Uuid) -> Result<Json, Failure> {
        if !self
            .store
            .remove_dead_message(id)
            .await
            .map_err(store_failure)?
        {
            return Err(Failure::not_found("dead letter", id));
        }
        Json::of(&json!({"id": id, "status": "discarded"}))
    }

    /// Decides a command; returns whether its result was replayed from the idempotency record.
    async fn decide(&self, context: CommandContext, action: Action) -> Result<bool, Failure> {
        let deadline = context.deadline;
        let decided = self.engine.decide(context.command(action), deadline);
        let RpcReply { outcome, is_replay } = decided.await?;
        outcome.map(|_| is_replay)
    }
}

/// Context of a command: caller, idempotency key, preconditions and deadline.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The caller.
    pub caller: Caller,
    /// Idempotency key, if there is one.
    pub idempotency: Option<Idempotency>,
    /// Entity tags of the order, from `If-Match`.
    pub if_match: Option<IfMatch>,
    /// Time by which the command must be decided.
    pub deadline: Option<Instant>,
}

impl CommandContext {
    /// The command for `action` in this context.
    pub fn command(self, action: Action) -> Command {
        Command::Request {
            caller: self.caller,
            idempotency: self.idempotency,
            if_match: self.if_match,
            action,
        }
    }
}

/// Parses a step id, `ORDER_ID:STEP`.
pub(crate) fn parse_step_id(id: &str) -> Option<StepKey> {
    let (order_id, step) = id.split_once(':')?;
    Some(StepKey {
        order_id: order_id.parse().ok()?,
        step: step.parse().ok()?,
    })
}

fn parse_dead_letter_id(
    caller: &Caller,
    DeadLetterRef { id }: &DeadLetterRef,
) -> Result<DeadLetterId, Failure> {
    caller.require_operator()?;
    let message = || id.parse().ok().map(DeadLetterId::Message);
    parse_step_id(id)
        .map(DeadLetterId::Step)
        .or_else(message)
        .ok_or_else(|| Failure::not_found("dead letter", id))
}

/// Up to `limit` dead letters after the cursor.
pub(crate) async fn page(
    store: &Store,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<DeadLetter>, Failure> {
    let after = cursor.map(read_cursor).transpose()?;
    let letters = store.dead_letters(after.as_ref(), limit + 1).await;
    Ok(Page::from_rows(
        letters.map_err(store_failure)?,
        limit,
        write_cursor,
    ))
}

/// Cursor of a dead-letter list: Unix milliseconds and id.
pub type DeadLetterCursor = (i64, String);

fn write_cursor(letter: &DeadLetter) -> String {
    format!("{}_{}", letter.died_at.as_millisecond(), letter.id)
}

fn read_cursor(cursor: &str) -> Result<DeadLetterCursor, Failure> {
    cursor
        .split_once('_')
        .filter(|(_, id)| parse_step_id(id).is_some() || id.parse::<Uuid>().is_ok())
        .and_then(|(died_at, id)| Some((died_at.parse().ok()?, id.to_owned())))
        .ok_or_else(|| Failure::violation("/cursor", "is not a cursor of this list"))
}

fn store_failure(error: StoreError) -> Failure {
    tracing::error!(%error, "the database operation on dead letters failed");
    error.failure()
}
