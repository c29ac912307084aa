//! Requests that take more than one command, or none: erasing a customer, approving all orders, redriving
//! archived messages. `Idempotency-Key` and `If-Match` apply to them as to a request with one command: the
//! engine checks both before the task and records the result after it.
//!
//! An interrupted task has no recorded result. The client repeats the request with the same key, and the task
//! runs again; every task is safe to repeat.

use shared::{
    etag::IfMatch,
    outcome::{Code, Failure, Json, RpcReply},
    request::Caller,
};
use tokio::time::Instant;

use super::Engine;
use crate::domain::command::{Action, Command, Idempotency, KeyOrigin, MessageKey, ResourceRef};

/// Context of a command: caller, idempotency key, preconditions and deadline.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The caller.
    pub caller: Caller,
    /// Idempotency key, if there is one.
    pub idempotency: Option<Idempotency>,
    /// Key of the message of an import, whatever its idempotency key is.
    pub message_key: Option<MessageKey>,
    /// Required entity tags of the resource, from `If-Match`.
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

/// Runs `task` under the idempotency key and the precondition of `context`. `target_resource` is the resource that
/// `If-Match` refers to; without a target only `If-Match: *` is fulfilled.
///
/// # Errors
/// `UNAVAILABLE` and `TIMEOUT` when the engine could not decide; the task may have been executed.
pub(crate) async fn run(
    engine: &Engine,
    context: &CommandContext,
    target_resource: Option<ResourceRef>,
    task: impl Future<Output = Result<Json, Failure>>,
) -> Result<RpcReply, Failure> {
    let client_key = context.idempotency.as_ref();
    let client_key = client_key.filter(|client_key| client_key.key_origin == KeyOrigin::Client);
    if client_key.is_none() && context.if_match.is_none() {
        return Ok(task.await.into());
    }
    let command = |if_match, action| Command::Request {
        caller: context.caller.clone(),
        idempotency: client_key.cloned(),
        if_match,
        action,
    };
    let begin_command = command(
        context.if_match.clone(),
        Action::BeginTask {
            target: target_resource,
        },
    );
    let start_reply = engine.decide(begin_command, context.deadline).await?;
    if start_reply.is_replay || start_reply.outcome.is_err() {
        return Ok(start_reply);
    }
    let task_outcome = task.await;
    let is_undecided = matches!(
        &task_outcome,
        Err(Failure {
            code: Code::Unavailable | Code::Timeout | Code::Internal | Code::VersionMismatch,
            ..
        })
    );
    if client_key.is_none() || is_undecided {
        return Ok(task_outcome.into());
    }
    let end_command = command(
        None,
        Action::EndTask {
            outcome: task_outcome,
        },
    );
    Ok(engine.decide(end_command, context.deadline).await?)
}

/// Reserves the client's key for the operation of `context`. For a request whose reply is not recorded: the
/// lines of an import are identified one by one, so that a corrected file can be sent under the same key.
///
/// # Errors
/// `IDEMPOTENCY_CONFLICT` when the key was used for another operation, `UNAVAILABLE`, `TIMEOUT`.
pub(crate) async fn claim_key(engine: &Engine, context: &CommandContext) -> Result<(), Failure> {
    let Some(idempotency) = &context.idempotency else {
        return Ok(());
    };
    if idempotency.key_origin != KeyOrigin::Client {
        return Ok(());
    }
    let claim_command = Command::Request {
        caller: context.caller.clone(),
        idempotency: Some(Idempotency {
            key: format!("{}/claim", idempotency.key),
            fingerprint: String::new(),
            ..idempotency.clone()
        }),
        if_match: None,
        action: Action::BeginTask { target: None },
    };
    let claim_reply = engine.decide(claim_command, context.deadline).await?;
    claim_reply.outcome.map(drop)
}
