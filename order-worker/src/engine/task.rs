//! Requests that take more than one command, or none: erasing a customer, approving all orders, redriving
//! dead messages. They honour `Idempotency-Key` and `If-Match` by the same rules as a request that is one
//! command: the engine checks both before the task, and records the result after it.
//!
//! A task that is interrupted has no recorded result; the client asks again under the same key, and the
//! task, which is safe to repeat, goes on.

use shared::outcome::{Code, Failure, Json, RpcReply};

use super::Engine;
use crate::{
    domain::command::{Action, Command, KeyOrigin, ResourceRef},
    failures::dead_letters::CommandContext,
};

/// Runs `task` under the key and the condition of `asking`. `target` is what `If-Match` is about; without
/// one only `*` is met.
///
/// # Errors
/// `UNAVAILABLE` and `TIMEOUT` when the engine could not decide; the task may have been done.
pub(crate) async fn run(
    engine: &Engine,
    asking: &CommandContext,
    target: Option<ResourceRef>,
    task: impl Future<Output = Result<Json, Failure>>,
) -> Result<RpcReply, Failure> {
    let key = asking.idempotency.as_ref();
    let key = key.filter(|key| key.key_origin == KeyOrigin::Client);
    if key.is_none() && asking.if_match.is_none() {
        return Ok(task.await.into());
    }
    let command = |if_match, action| Command::Request {
        caller: asking.caller.clone(),
        idempotency: key.cloned(),
        if_match,
        action,
    };
    let begin = command(asking.if_match.clone(), Action::BeginTask { target });
    let begun = engine.decide(begin, asking.deadline).await?;
    if begun.is_replay || begun.outcome.is_err() {
        return Ok(begun);
    }
    let outcome = task.await;
    let is_undecided = matches!(
        &outcome,
        Err(Failure {
            code: Code::Unavailable | Code::Timeout | Code::Internal | Code::VersionMismatch,
            ..
        })
    );
    if key.is_none() || is_undecided {
        return Ok(outcome.into());
    }
    let end = command(None, Action::EndTask { outcome });
    Ok(engine.decide(end, asking.deadline).await?)
}
