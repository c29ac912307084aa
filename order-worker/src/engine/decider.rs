//! Decides batches and commits them, with retries while the database is unavailable.
//!
//! Replies are sent after the commit, or when a command certainly had no effect. If the outcome of a commit
//! is unknown, only commands whose repetition is detected are repeated.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use shared::outcome::RpcReply;
use tokio::time::{self, Instant};
use uuid::Uuid;

use super::{
    CommitError,
    intake::Intake,
    submission::{Submission, send_replies},
};
use crate::{
    background::relay::Outbox,
    domain::{
        command::{Command, KeyOrigin},
        decide::{Rules, carry_out},
        decision_context::DecisionContext,
        load_set::LoadSet,
        step::StepRow,
        working_set::WorkingSet,
    },
    store::{Store, StoreError},
};

/// Shortest and longest delay between attempts while the database is unavailable; it doubles after each
/// attempt.
const BACKOFF_RANGE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Decides and commits batches.
pub(super) struct Decider {
    store: Store,
    rules: Rules,
    outbox: Outbox,
    average_batch_us: Arc<AtomicU64>,
}

impl Decider {
    pub(super) fn new(
        store: Store,
        rules: Rules,
        outbox: Outbox,
        average_batch_us: Arc<AtomicU64>,
    ) -> Self {
        Self {
            store,
            rules,
            outbox,
            average_batch_us,
        }
    }

    pub(super) async fn run(self, mut intake: Intake) {
        loop {
            let batch = intake.collect_batch().await;
            if batch.is_empty() {
                return;
            }
            let started_at = Instant::now();
            let batch_size = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.commit_with_retry(batch).await;
            self.record_batch_duration(started_at.elapsed());
            metrics::histogram!("engine_batch_size").record(batch_size);
            metrics::histogram!("engine_batch_duration_seconds").record(started_at.elapsed());
        }
    }

    /// Exponential moving average of the batch duration.
    fn record_batch_duration(&self, duration: Duration) {
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let average_us = self.average_batch_us.load(Ordering::Relaxed) / 2 + duration_us / 2;
        self.average_batch_us.store(average_us, Ordering::Relaxed);
    }

    /// Decides and commits the batch, with retries while the database is unavailable.
    async fn commit_with_retry(&self, mut batch: Vec<Submission>) {
        let mut retry_delay = BACKOFF_RANGE.0;
        loop {
            batch.retain(|submission| submission.may_be_committed || submission.ownership.claim());
            if batch.is_empty() {
                return;
            }
            match self.decide_batch(&batch).await {
                Ok(replies) => {
                    if batch.iter().any(|submission| submission.may_be_committed) {
                        self.release_step_leases().await;
                    }
                    return send_replies(batch, replies.into_iter().map(Ok));
                }
                // A smaller batch loads and writes less.
                Err(StoreError::TooLarge) if batch.len() > 1 => {
                    let half_len = batch.len().div_ceil(2);
                    return self.commit_in_parts(batch, half_len).await;
                }
                Err(store_error) => match commit_error(store_error) {
                    // One of the commands can't be decided: alone, each affects only itself.
                    CommitError::Internal(_) if batch.len() > 1 => {
                        return self.commit_in_parts(batch, 1).await;
                    }
                    internal_error @ CommitError::Internal(_) => {
                        return refuse_all(batch, &internal_error);
                    }
                    CommitError::Unavailable(_) => release_claims(&batch),
                    unknown_outcome @ CommitError::OutcomeUnknown(_) => {
                        let (repeatable_submissions, other_submissions) =
                            batch.into_iter().partition(is_safe_to_repeat);
                        refuse_all(other_submissions, &unknown_outcome);
                        batch = repeatable_submissions;
                        mark_possibly_committed(&mut batch);
                    }
                },
            }
            // A command without a deadline waits as long as its caller does.
            time::sleep(retry_delay).await;
            retry_delay = (retry_delay * 2).min(BACKOFF_RANGE.1);
            let checked_at = Instant::now();
            batch.retain(|submission| {
                submission.is_awaited()
                    && submission
                        .deadline
                        .is_none_or(|deadline| checked_at < deadline)
            });
        }
    }

    /// Decides the batch in parts of `part_size`, one after the other.
    async fn commit_in_parts(&self, mut batch: Vec<Submission>, part_size: usize) {
        release_claims(&batch);
        while !batch.is_empty() {
            let next_part = batch.split_off(part_size.min(batch.len()));
            Box::pin(self.commit_with_retry(batch)).await;
            batch = next_part;
        }
    }

    /// Releases the leases of steps, so that the steps of a commit whose outcome was unknown are sent.
    async fn release_step_leases(&self) {
        if let Err(error) = self.store.release_leases(Timestamp::now()).await {
            tracing::warn!(%error, "step leases could not be released; steps of an unconfirmed commit are sent when their leases expire");
        }
    }

    async fn decide_batch(&self, batch: &[Submission]) -> Result<Vec<RpcReply>, StoreError> {
        let mut load_set = LoadSet::default();
        for submission in batch {
            load_set.add(&submission.command);
        }
        let context = DecisionContext::new(Timestamp::now(), random_seed());
        let now = context.now();
        let (replies, steps_to_send, has_events) = self
            .store
            .transact(&load_set, now, |working_set| {
                let mut context = context.clone();
                let replies = batch
                    .iter()
                    .map(|submission| {
                        let execute_command = || {
                            carry_out(working_set, &submission.command, &self.rules, &mut context)
                        };
                        catch_unwind(AssertUnwindSafe(execute_command)).ok()
                    })
                    .collect::<Option<Vec<_>>>()?;
                Some((
                    replies,
                    due_steps(working_set, now),
                    !working_set.changes.events.is_empty(),
                ))
            })
            .await?;
        let is_request =
            |submission: &&Submission| matches!(submission.command, Command::Request { .. });
        let request_count = batch.iter().filter(is_request).count();
        self.outbox
            .record_batch(request_count, batch.len() - request_count);
        self.outbox.send_steps(steps_to_send);
        if has_events {
            self.outbox.announce_events();
        }
        Ok(replies)
    }
}

/// Releases commands that certainly had no effect, so that their callers can cancel them.
fn release_claims(batch: &[Submission]) {
    for submission in batch
        .iter()
        .filter(|submission| !submission.may_be_committed)
    {
        submission.ownership.release();
    }
}

/// Refuses the commands of `batch` with `commit_error`. A command of an earlier commit whose outcome is unknown is
/// never reported as not executed.
fn refuse_all(batch: Vec<Submission>, commit_error: &CommitError) {
    let outcome_of = |submission: &Submission| match commit_error {
        CommitError::Internal(_) if submission.may_be_committed => Err(outcome_unknown()),
        commit_error => Err(commit_error.clone()),
    };
    let outcomes: Vec<_> = batch.iter().map(outcome_of).collect();
    send_replies(batch, outcomes);
}

fn outcome_unknown() -> CommitError {
    CommitError::OutcomeUnknown(
        "the database did not answer the commit; the request may have been executed".to_owned(),
    )
}

/// Whether repeating the command after an unknown outcome detects that it was executed.
fn is_safe_to_repeat(submission: &Submission) -> bool {
    match &submission.command {
        Command::FinishStep { .. }
        | Command::FinishDelivery { .. }
        | Command::FinishMessage { .. } => true,
        Command::Request { idempotency, .. } => idempotency.is_some(),
    }
}

/// After an unknown outcome, even a first delivery has to look for a recorded reply.
fn mark_possibly_committed(batch: &mut [Submission]) {
    for submission in batch {
        submission.may_be_committed = true;
        if let Command::Request {
            idempotency: Some(idempotency),
            ..
        } = &mut submission.command
            && idempotency.key_origin == KeyOrigin::FirstMessageDelivery
        {
            idempotency.key_origin = KeyOrigin::Message;
        }
    }
}

/// The random half of a UUID.
fn random_seed() -> u64 {
    Uuid::now_v7().as_u64_pair().1
}

fn commit_error(store_error: StoreError) -> CommitError {
    match store_error {
        StoreError::Aborted => CommitError::Internal(
            "the request could not be processed because of an internal error; nothing was done"
                .to_owned(),
        ),
        StoreError::Corrupt(_)
        | StoreError::Invalid(_)
        | StoreError::Failed(_)
        | StoreError::TooLarge => {
            tracing::error!(error = %store_error, "a batch can't be loaded or saved");
            CommitError::Internal(
                "the request could not be processed because of an internal error; nothing was done"
                    .to_owned(),
            )
        }
        StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::TooManySearches => {
            tracing::error!(error = %store_error, "a batch is not saved because the database is unavailable; retrying");
            CommitError::Unavailable("the database is unavailable".to_owned())
        }
        // The store has retried conflicts with other transactions. A larger batch is decided in parts afterwards.
        StoreError::Conflict(_) => {
            tracing::error!(error = %store_error, "saving a batch still conflicts after all retries");
            CommitError::Internal(
                "the request could not be processed because of an internal error; nothing was done"
                    .to_owned(),
            )
        }
        StoreError::OutcomeUnknown(_) => {
            tracing::error!(error = %store_error, "the outcome of a commit is unknown; repeating the commands that recognize an earlier execution");
            outcome_unknown()
        }
    }
}

/// The due steps that the batch scheduled.
fn due_steps(working_set: &WorkingSet, now: Timestamp) -> Vec<StepRow> {
    let scheduled_steps = working_set
        .changes
        .steps
        .iter()
        .filter_map(|key| working_set.steps.get(key));
    scheduled_steps
        .filter(|row| !row.is_dead && row.due_at <= now)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use shared::id::OrderId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::domain::{
        command::StepResult,
        step::{Step, StepKey},
    };

    #[test]
    fn command_that_may_be_committed_is_not_refused_as_not_executed() {
        let (reply_sender, mut decided_replies) = mpsc::unbounded_channel();
        let submissions = [false, true].into_iter().enumerate();
        let submissions = submissions.map(|(index, may_be_committed)| {
            let order_id: OrderId = Uuid::nil().into();
            let command = Command::FinishStep {
                key: StepKey {
                    order_id,
                    step: Step::ExpireOrder,
                },
                attempt: 1,
                result: StepResult::NoExternalCall,
            };
            let mut submission = Submission::new(command, None, reply_sender.clone(), index);
            submission.may_be_committed = may_be_committed;
            submission
        });
        refuse_all(
            submissions.collect(),
            &commit_error(StoreError::Corrupt("a row".to_owned())),
        );
        let replies = decided_replies.try_recv().unwrap();
        assert!(
            matches!(
                replies.as_slice(),
                [
                    (0, Err(CommitError::Internal(_))),
                    (1, Err(CommitError::OutcomeUnknown(_)))
                ]
            ),
            "{replies:?}"
        );
    }
}
