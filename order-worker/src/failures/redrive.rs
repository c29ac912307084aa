//! Redrives failed steps and archived messages in bulk.
//!
//! Neighbours: [`retries`] lists steps that will be retried, [`dead_letters`] those that will not.

use std::time::Duration;

use shared::{
    dead_letter::FailedStepFilter,
    outcome::{Code, Failure, Json},
    page::MAX_LIMIT,
    request::Caller,
    retry::{RedriveAll, RedrivenAll},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    dead_letters::{self, DeadLetters},
    retries,
    step_id::parse_step_id,
};
use crate::{
    domain::{
        command::{Action, Command},
        step::{KINDS, StepKey},
    },
    engine::{Engine, reply_deadline},
    store::Store,
};

/// Time limit of one call; the client continues with the next call.
const MAX_CALL_DURATION: Duration = Duration::from_secs(2);

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
    async fn load_page(self, store: &Store, cursor: Option<&str>) -> Result<FailedPage, Failure> {
        let all_steps_filter = FailedStepFilter::default();
        match self {
            Self::Dead(_) => {
                let page = dead_letters::list_dead_letters(
                    store,
                    None,
                    &all_steps_filter,
                    cursor,
                    MAX_LIMIT,
                )
                .await?;
                let letter_ids = || page.data.iter().map(|dead_letter| &dead_letter.id);
                Ok(FailedPage {
                    steps: letter_ids()
                        .filter_map(|letter_id| parse_step_id(letter_id))
                        .collect(),
                    messages: letter_ids()
                        .filter_map(|letter_id| letter_id.parse().ok())
                        .collect(),
                    next_cursor: page.next_cursor,
                })
            }
            Self::Retrying => {
                let page =
                    retries::list_retries(store, &all_steps_filter, cursor, MAX_LIMIT).await?;
                let step_keys = page.data.iter().filter_map(|step| parse_step_id(&step.id));
                Ok(FailedPage {
                    steps: step_keys.collect(),
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
    failed_steps: FailedSteps<'_>,
) -> Result<Json, Failure> {
    caller.require_operator()?;
    if let Some(step) = &request.step
        && !KINDS.contains(&step.as_str())
    {
        let known_kinds = KINDS.join(", ");
        return Err(Failure::violation(
            "/step",
            format!("must be one of {known_kinds}"),
        ));
    }
    let time_limit = Instant::now() + MAX_CALL_DURATION;
    let stop_at = deadline.map_or(time_limit, |deadline| {
        reply_deadline(deadline).min(time_limit)
    });
    let store = store.up_to_date();
    let mut reply = RedrivenAll {
        redriven: 0,
        next_cursor: request.cursor,
    };
    loop {
        let FailedPage {
            steps: mut step_keys,
            messages,
            next_cursor,
        } = failed_steps
            .load_page(&store, reply.next_cursor.as_deref())
            .await?;
        step_keys.retain(|step_key| {
            request
                .step
                .as_ref()
                .is_none_or(|requested_kind| requested_kind == step_key.step.kind())
        });
        let commands = step_keys
            .into_iter()
            .map(|step_key| (redrive_command(caller, step_key), deadline));
        let decided_replies = engine
            .decide_together(commands.collect())
            .wait_for_all()
            .await;
        for decided_reply in decided_replies {
            match decided_reply
                .map_err(Failure::from)
                .and_then(|reply| reply.outcome)
            {
                Ok(_) => reply.redriven += 1,
                // The step was finished or redriven meanwhile, or a manual payment is to be refunded by hand.
                Err(failure) if matches!(failure.code, Code::NotFound | Code::InvalidState) => {}
                Err(failure) => return Err(failure),
            }
        }
        if let FailedSteps::Dead(dead_letters) = failed_steps
            && request.step.is_none()
        {
            reply.redriven += dead_letters.redrive_messages(&messages).await?;
        }
        reply.next_cursor = next_cursor;
        if reply.next_cursor.is_none() || Instant::now() >= stop_at {
            return Json::of(&reply);
        }
    }
}

fn redrive_command(caller: &Caller, step_key: StepKey) -> Command {
    Command::Request {
        caller: caller.clone(),
        idempotency: None,
        if_match: None,
        action: Action::RedriveStep(step_key),
    }
}
