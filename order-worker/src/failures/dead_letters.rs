//! Dead letters: steps and messages that failed for good. Operators list them, redrive them (try them again)
//! or discard them.
//!
//! A step that used up its attempts stays as a dead row in `steps`. Messages are archived by
//! [`archive`](super::archive). Steps that will still be retried are in [`retries`](super::retries).

use std::sync::Arc;

use serde_json::json;
use shared::{
    amqp::publisher::{Publisher, Target},
    dead_letter::{DeadLetter, DeadLetterKind, DeadLetterRef, FailedStepFilter, ListDeadLetters},
    outcome::{Code, Failure, Json, RpcReply},
    page::Page,
    request::Caller,
};
use uuid::Uuid;

use super::step_id::parse_step_id;
use crate::{
    domain::{command::Action, step::StepKey},
    engine::{
        Engine,
        task::{self, CommandContext},
    },
    runtime::crash::{Point, crash_at},
    store::{DeadLetterCursor, Store, StoreError},
};

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
        let ListDeadLetters {
            kind,
            filter,
            limit,
            cursor,
        } = query;
        Json::of(&list_dead_letters(&self.store, *kind, filter, cursor.as_deref(), *limit).await?)
    }

    /// Publishes an archived message to its queue again and deletes it from the archive. `false` if it is not
    /// in the archive any more.
    async fn redrive_message(&self, message_id: Uuid) -> Result<bool, Failure> {
        let dead_message = self
            .store
            .dead_message(message_id)
            .await
            .map_err(store_failure)?;
        let Some((queue, message)) = dead_message else {
            return Ok(false);
        };
        let messages = [(Target::Queue(&queue), message.into_outgoing()?)];
        let publish_results = self.publisher.publish(&messages).await;
        if let Some(Err(error)) = publish_results.into_iter().next() {
            return Err(Failure::new(Code::Unavailable, error.to_string()));
        }
        // After a crash at this point the message is still archived and may be redriven again. That is
        // harmless: a step whose message arrives twice is performed once.
        crash_at(Point::AfterRedriven);
        self.store
            .remove_dead_message(message_id)
            .await
            .map_err(store_failure)?;
        Ok(true)
    }

    /// Redrives those of `messages` whose payload is complete; returns their number.
    pub(crate) async fn redrive_messages(&self, messages: &[Uuid]) -> Result<u64, Failure> {
        let mut redriven_count = 0;
        for message_id in messages {
            match self.redrive_message(*message_id).await {
                Ok(true) => redriven_count += 1,
                Ok(false) => {}
                Err(failure) if failure.code == Code::InvalidState => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(redriven_count)
    }

    /// Redrives a dead letter.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `NOT_FOUND`, `INVALID_STATE` if its payload was truncated, `UNAVAILABLE`.
    pub async fn redrive(
        &self,
        context: CommandContext,
        dead_letter: &DeadLetterRef,
    ) -> Result<RpcReply, Failure> {
        let is_replay = match parse_dead_letter_id(&context.caller, dead_letter)? {
            DeadLetterId::Step(step_key) => {
                self.decide(context, Action::RedriveStep(step_key)).await?
            }
            DeadLetterId::Message(message_id) => {
                let redrive_future = self.redrive_existing_message(message_id);
                return task::run(&self.engine, &context, None, redrive_future).await;
            }
        };
        let outcome = Json::of(&json!({"id": dead_letter.id, "status": "redriven"}));
        Ok(RpcReply { outcome, is_replay })
    }

    /// Discards a dead letter.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `NOT_FOUND`, `UNAVAILABLE`.
    pub async fn discard(
        &self,
        context: CommandContext,
        dead_letter: &DeadLetterRef,
    ) -> Result<RpcReply, Failure> {
        let is_replay = match parse_dead_letter_id(&context.caller, dead_letter)? {
            DeadLetterId::Step(step_key) => {
                self.decide(context, Action::DiscardStep(step_key)).await?
            }
            DeadLetterId::Message(message_id) => {
                let discard_future = self.discard_message(message_id);
                return task::run(&self.engine, &context, None, discard_future).await;
            }
        };
        let outcome = Json::of(&json!({"id": dead_letter.id, "status": "discarded"}));
        Ok(RpcReply { outcome, is_replay })
    }

    async fn redrive_existing_message(&self, message_id: Uuid) -> Result<Json, Failure> {
        if !self.redrive_message(message_id).await? {
            return Err(Failure::not_found("dead letter", message_id));
        }
        Json::of(&json!({"id": message_id, "status": "redriven"}))
    }

    async fn discard_message(&self, message_id: Uuid) -> Result<Json, Failure> {
        if !self
            .store
            .remove_dead_message(message_id)
            .await
            .map_err(store_failure)?
        {
            return Err(Failure::not_found("dead letter", message_id));
        }
        Json::of(&json!({"id": message_id, "status": "discarded"}))
    }

    /// Decides a command; returns whether its result was replayed from the idempotency record.
    async fn decide(&self, context: CommandContext, action: Action) -> Result<bool, Failure> {
        let deadline = context.deadline;
        let decide_future = self.engine.decide(context.command(action), deadline);
        let RpcReply { outcome, is_replay } = decide_future.await?;
        outcome.map(|_| is_replay)
    }
}

fn parse_dead_letter_id(
    caller: &Caller,
    DeadLetterRef { id }: &DeadLetterRef,
) -> Result<DeadLetterId, Failure> {
    caller.require_operator()?;
    let parse_message_id = || id.parse().ok().map(DeadLetterId::Message);
    parse_step_id(id)
        .map(DeadLetterId::Step)
        .or_else(parse_message_id)
        .ok_or_else(|| Failure::not_found("dead letter", id))
}

/// Up to `limit` dead letters after the cursor.
pub(crate) async fn list_dead_letters(
    store: &Store,
    kind: Option<DeadLetterKind>,
    filter: &FailedStepFilter,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<DeadLetter>, Failure> {
    let after_cursor = cursor.map(read_cursor).transpose()?;
    let dead_letters = store.dead_letters(kind, filter, after_cursor.as_ref(), limit + 1);
    let dead_letters = dead_letters.await;
    Ok(Page::from_rows(
        dead_letters.map_err(store_failure)?,
        limit,
        write_cursor,
    ))
}

fn write_cursor(dead_letter: &DeadLetter) -> String {
    format!(
        "{}_{}",
        dead_letter.died_at.as_millisecond(),
        dead_letter.id
    )
}

fn read_cursor(cursor: &str) -> Result<DeadLetterCursor, Failure> {
    cursor
        .split_once('_')
        .filter(|(_, id_text)| parse_step_id(id_text).is_some() || id_text.parse::<Uuid>().is_ok())
        .and_then(|(died_at, id_text)| Some((died_at.parse().ok()?, id_text.to_owned())))
        .ok_or_else(|| Failure::violation("/cursor", "is not a cursor of this list"))
}

fn store_failure(error: StoreError) -> Failure {
    tracing::error!(%error, "the database operation on dead letters failed");
    error.failure()
}
