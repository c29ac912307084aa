//! Steps that failed and will be retried: operators list them and retry them at once. Redriving many steps
//! page by page is shared with [`dead_letters`], whose steps have used up their attempts.

use std::time::Duration;

use serde_json::json;
use shared::{
    outcome::{Code, Failure, Json, RpcReply},
    page::{MAX_LIMIT, Page},
    request::Caller,
    retry::{ListRetries, RedriveAll, RedrivenAll, RetriedStep, RetryRef},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::dead_letters::{self, CommandContext, DeadLetters, parse_step_id};
use crate::{
    domain::{
        command::{Action, Command},
        step::{KINDS, StepKey},
    },
    engine::{Engine, reply_deadline},
    store::{Store, StoreError},
};

/// Time limit of one call; the client continues with the next call.
const MAX_CALL_DURATION: Duration = Duration::from_secs(2);

/// Operations on steps that will be retried.
#[derive(Clone)]
pub struct Retries {
    store: Store,
    engine: Engine,
}

impl Retries {
    /// Creates the operations.
    pub fn new(store: Store, engine: Engine) -> Self {
        Self { store, engine }
    }

    /// Lists steps, oldest orders first.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `INVALID_REQUEST`, `UNAVAILABLE`.
    pub async fn list(&self, caller: &Caller, query: &ListRetries) -> Result<Json, Failure> {
        caller.require_operator()?;
        Json::of(&page(&self.store, query.cursor.as_deref(), query.limit).await?)
    }

    /// Retries a step now, with a new set of attempts.
    ///
    /// # Errors
    /// `FORBIDDEN` for storefronts, `NOT_FOUND`, `UNAVAILABLE`.
    pub async fn redrive(
        &self,
        context: CommandContext,
        RetryRef { id }: &RetryRef,
    ) -> Result<RpcReply, Failure> {
        context.caller.require_operator()?;
        let key = parse_step_id(id).ok_or_else(|| Failure::not_found("step", id))?;
        let deadline = context.deadline;
        let command = context.command(Action::RedriveStep(key));
        let RpcReply { outcome, is_replay } = self.engine.decide(command, deadline).await?;
        outcome?;
        let outcome = Json::of(&json!({"id": id, "status": "redriven"}));
        Ok(RpcReply { outcome, is_replay })
    }

    /// Retries all steps now, page by page, within a time limit.
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
            FailedSteps::Retrying,
        )
        .await
    }
}

/// The failed steps to redrive.
#[derive(Clone, Copy)]
pub(crate) enum FailedSteps<'a> {
    /// Dead steps, and archived messages.
    Dead(&'a DeadLetters),
    /// Steps that will be retried.
    Retrying,
}

/// A page of failed steps and archived messages, and the cursor of the next page.
struct FailedPage {
    steps: Vec<StepKey>,
    messages: Vec<Uuid>,
    next_cursor: Option<String>,
}

impl FailedSteps<'_> {
    /// Loads a page.
    async fn page(self, store: &Store, cursor: Option<&str>) -> Result<FailedPage, Failure> {
        match self {
            Self::Dead(_) => {
                let page = dead_letters::page(store, cursor, MAX_LIMIT).await?;
                let ids = || page.data.iter().map(|letter| &letter.id);
                Ok(FailedPage {
                    steps: ids().filter_map(|id| parse_step_id(id)).collect(),
                    messages: ids().filter_map(|id| id.parse().ok()).collect(),
                    next_cursor: page.next_cursor,
                })
            }
            Self::Retrying => {
                let page = page(store, cursor, MAX_LIMIT).await?;
                let keys = page.data.iter().filter_map(|step| parse_step_id(&step.id));
                Ok(FailedPage {
                    steps: keys.collect(),
                    messages: Vec::new(),
                    next_cursor: page.next_cursor,
                })
            }
        }
    }
}

/// Redrives failed steps now, optionally of one kind, page by page, within a time limit. Each step is a
/// command of its own, so an error does not undo the steps redriven before it.
///
/// # Errors
/// `FORBIDDEN` for storefronts, `INVALID_REQUEST`, `UNAVAILABLE`.
pub(crate) async fn redrive_all(
    store: &Store,
    engine: &Engine,
    caller: &Caller,
    request: RedriveAll,
    deadline: Option<Instant>,
    failed: FailedSteps<'_>,
) -> Result<Json, Failure> {
    caller.require_operator()?;
    if let Some(step) = &request.step
        && !KINDS.contains(&step.as_str())
    {
        let known = KINDS.join(", ");
        return Err(Failure::violation(
            "/step",
            format!("must be one of {known}"),
        ));
    }
    let time_limit = Instant::now() + MAX_CALL_DURATION;
    let until = deadline.map_or(time_limit, |deadline| {
        reply_deadline(deadline).min(time_limit)
    });
    let store = store.up_to_date();
    let mut reply = RedrivenAll {
        redriven: 0,
        next_cursor: request.cursor,
    };
    loop {
        let FailedPage {
            steps: mut keys,
            messages,
            next_cursor,
        } = failed.page(&store, reply.next_cursor.as_deref()).await?;
        keys.retain(|key| {
            request
                .step
                .as_ref()
                .is_none_or(|kind| kind == key.step.kind())
        });
        let commands = keys.into_iter().map(|key| (redrive(caller, key), deadline));
        let decided = engine.decide_together(commands.collect()).all().await;
        for result in decided {
            match result
                .map_err(Failure::from)
                .and_then(|reply| reply.outcome)
            {
                Ok(_) => reply.redriven += 1,
                // The step was finished or redriven meanwhile.
                Err(failure) if failure.code == Code::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        if let FailedSteps::Dead(letters) = failed
            && request.step.is_none()
        {
            reply.redriven += letters.redrive_messages(&messages).await?;
        }
        reply.next_cursor = next_cursor;
        if reply.next_cursor.is_none() || Instant::now() >= until {
            return Json::of(&reply);
        }
    }
}

fn redrive(caller: &Caller, key: StepKey) -> Command {
    Command::Request {
        caller: caller.clone(),
        idempotency: None,
        if_match: None,
        action: Action::RedriveStep(key),
    }
}

async fn page(
    store: &Store,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<RetriedStep>, Failure> {
    let after = cursor.map(read_cursor).transpose()?;
    let steps = store
        .retries(after.as_ref(), limit + 1)
        .await
        .map_err(store_failure)?;
    Ok(Page::from_rows(steps, limit, write_cursor))
}

/// Cursor of the list: order id and step.
pub type RetryCursor = (String, String);

fn write_cursor(step: &RetriedStep) -> String {
    step.id.clone()
}

fn read_cursor(cursor: &str) -> Result<RetryCursor, Failure> {
    parse_step_id(cursor)
        .map(|key| (key.order_id.to_string(), key.step.to_string()))
        .ok_or_else(|| Failure::violation("/cursor", "is not a cursor of this list"))
}

fn store_failure(error: StoreError) -> Failure {
    tracing::error!(%error, "failed steps could not be read");
    error.failure()
}
