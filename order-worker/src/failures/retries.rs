//! Steps that failed and will be retried: operators list them and retry them at once.

use serde_json::json;
use shared::{
    dead_letter::FailedStepFilter,
    outcome::{Failure, Json, RpcReply},
    page::Page,
    request::Caller,
    retry::{ListRetries, RetriedStep, RetryRef},
};

use super::step_id::parse_step_id;
use crate::{
    domain::command::Action,
    engine::{Engine, task::CommandContext},
    store::{RetryCursor, Store, StoreError},
};

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
        Json::of(
            &list_retries(
                &self.store,
                &query.filter,
                query.cursor.as_deref(),
                query.limit,
            )
            .await?,
        )
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
        let step_key = parse_step_id(id).ok_or_else(|| Failure::not_found("step", id))?;
        let deadline = context.deadline;
        let command = context.command(Action::RedriveStep(step_key));
        let RpcReply { outcome, is_replay } = self.engine.decide(command, deadline).await?;
        outcome?;
        let outcome = Json::of(&json!({"id": id, "status": "redriven"}));
        Ok(RpcReply { outcome, is_replay })
    }
}

pub(super) async fn list_retries(
    store: &Store,
    filter: &FailedStepFilter,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<RetriedStep>, Failure> {
    let after_cursor = cursor.map(read_cursor).transpose()?;
    let retried_steps = store
        .retries(filter, after_cursor.as_ref(), limit + 1)
        .await
        .map_err(store_failure)?;
    Ok(Page::from_rows(retried_steps, limit, write_cursor))
}

fn write_cursor(step: &RetriedStep) -> String {
    step.id.clone()
}

fn read_cursor(cursor: &str) -> Result<RetryCursor, Failure> {
    parse_step_id(cursor)
        .map(|step_key| (step_key.order_id.to_string(), step_key.step.to_string()))
        .ok_or_else(|| Failure::violation("/cursor", "is not a cursor of this list"))
}

fn store_failure(error: StoreError) -> Failure {
    tracing::error!(%error, "the list of steps that wait for a retry could not be read");
    error.failure()
}
