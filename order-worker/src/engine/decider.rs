//! Decides batches and commits them, with retries while the database is unavailable.

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
    submission::{Submission, answer},
};
use crate::{
    domain::{
        command::{Command, Trust},
        decide::{Rules, carry_out},
        needs::LoadSet,
        stamp::DecisionContext,
        step::StepRow,
        world::WorkingSet,
    },
    relay::Outbox,
    store::{Store, StoreError},
};

/// Delay between attempts while the database is unavailable: doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Decides and commits batches.
pub(super) struct Decider {
    store: Store,
    rules: Rules,
    outbox: Outbox,
    pace_us: Arc<AtomicU64>,
}

impl Decider {
    pub(super) fn new(store: Store, rules: Rules, outbox: Outbox, pace_us: Arc<AtomicU64>) -> Self {
        Self {
            store,
            rules,
            outbox,
            pace_us,
        }
    }

    pub(super) async fn run(self, mut intake: Intake) {
        loop {
            let batch = intake.gather().await;
            if batch.is_empty() {
                return;
            }
            let began = Instant::now();
            let size = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.commit_with_retry(batch).await;
            self.note_pace(began.elapsed());
            metrics::histogram!("engine_batch_size").record(size);
            metrics::histogram!("engine_batch_duration_seconds").record(began.elapsed());
        }
    }

    /// Exponential moving average of the batch duration.
    fn note_pace(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let pace = self.pace_us.load(Ordering::Relaxed) / 2 + took / 2;
        self.pace_us.store(pace, Ordering::Relaxed);
    }

    /// Decides and commits the batch, with retries while the database is unavailable.
    async fn commit_with_retry(&self, mut batch: Vec<Submission>) {
        let mut pause = BACKOFF.0;
        loop {
            batch.retain(|submission| submission.may_be_done || submission.ticket.take());
            if batch.is_empty() {
                return;
            }
            match self.decide_batch(&batch).await {
                Ok(outcomes) => {
                    if batch.iter().any(|submission| submission.may_be_done) {
                        self.resend().await;
                    }
                    return answer(batch, outcomes.into_iter().map(Ok));
                }
                // A smaller batch needs less.
                Err(StoreError::TooLarge) if batch.len() > 1 => {
                    let half = batch.len().div_ceil(2);
                    return self.commit_in_parts(batch, half).await;
                }
                Err(error) => match undecided(error) {
                    // One of the commands can't be decided: alone, each affects only itself.
                    CommitError::Internal(_) if batch.len() > 1 => {
                        return self.commit_in_parts(batch, 1).await;
                    }
                    defect @ CommitError::Internal(_) => return refuse(batch, &defect),
                    CommitError::Unavailable(_) => put_back(&batch),
                    unknown @ CommitError::OutcomeUnknown(_) => {
                        let (again, not_again) = batch.into_iter().partition(is_safe_to_repeat);
                        refuse(not_again, &unknown);
                        batch = again;
                        repeat_knowingly(&mut batch);
                    }
                },
            }
            // A command without a deadline waits as long as its caller does.
            time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
            let now = Instant::now();
            batch.retain(|submission| {
                submission.is_awaited() && submission.deadline.is_none_or(|deadline| now < deadline)
            });
        }
    }

    /// Decides the batch in parts of `size`, one after the other.
    async fn commit_in_parts(&self, mut batch: Vec<Submission>, size: usize) {
        put_back(&batch);
        while !batch.is_empty() {
            let rest = batch.split_off(size.min(batch.len()));
            Box::pin(self.commit_with_retry(batch)).await;
            batch = rest;
        }
    }

    /// Sends the steps of a commit whose outcome was unknown.
    async fn resend(&self) {
        if let Err(error) = self.store.release_leases(Timestamp::now()).await {
            tracing::warn!(%error, "steps of an unanswered commit are sent when their lease is over");
        }
    }

    async fn decide_batch(&self, batch: &[Submission]) -> Result<Vec<RpcReply>, StoreError> {
        let mut needs = LoadSet::default();
        for submission in batch {
            needs.add(&submission.command);
        }
        let stamp = DecisionContext::new(Timestamp::now(), seed());
        let now = stamp.now();
        let (outcomes, steps, has_events) = self
            .store
            .transact(&needs, now, |world| {
                let mut stamp = stamp.clone();
                let outcomes = batch
                    .iter()
                    .map(|submission| {
                        let carried_out =
                            || carry_out(world, &submission.command, &self.rules, &mut stamp);
                        catch_unwind(AssertUnwindSafe(carried_out)).ok()
                    })
                    .collect::<Option<Vec<_>>>()?;
                Some((outcomes, due(world, now), !world.dirty.events.is_empty()))
            })
            .await?;
        let is_caller =
            |submission: &&Submission| matches!(submission.command, Command::Request { .. });
        let callers = batch.iter().filter(is_caller).count();
        self.outbox.record_batch(callers, batch.len() - callers);
        self.outbox.steps(steps);
        if has_events {
            self.outbox.events();
        }
        Ok(outcomes)
    }
}

/// Releases commands that certainly had no effect, so that callers can be told.
fn put_back(batch: &[Submission]) {
    for submission in batch.iter().filter(|submission| !submission.may_be_done) {
        submission.ticket.put_back();
    }
}

fn refuse(batch: Vec<Submission>, why: &CommitError) {
    let outcomes = vec![Err(why.clone()); batch.len()];
    answer(batch, outcomes);
}

/// Whether repeating the command after an unknown outcome detects that it was executed.
fn is_safe_to_repeat(submission: &Submission) -> bool {
    match &submission.command {
        Command::Finish { .. } | Command::FinishDelivery { .. } => true,
        Command::Request { idempotency, .. } => idempotency.is_some(),
    }
}

/// After an unknown outcome, a first delivery has to look for an earlier result.
fn repeat_knowingly(batch: &mut [Submission]) {
    for submission in batch {
        submission.may_be_done = true;
        if let Command::Request {
            idempotency: Some(idempotency),
            ..
        } = &mut submission.command
            && idempotency.trust == Trust::FirstDelivery
        {
            idempotency.trust = Trust::Message;
        }
    }
}

/// The random half of a UUID.
fn seed() -> u64 {
    Uuid::now_v7().as_u64_pair().1
}

fn undecided(error: StoreError) -> CommitError {
    match error {
        StoreError::Aborted => CommitError::Internal("the request could not be decided".to_owned()),
        StoreError::Corrupt(_)
        | StoreError::Invalid(_)
        | StoreError::Failed(_)
        | StoreError::TooLarge => {
            tracing::error!(%error, "a batch can't be loaded or saved");
            CommitError::Internal("the request could not be decided".to_owned())
        }
        StoreError::Unavailable(_) | StoreError::ReadOnly(_) => {
            tracing::error!(%error, "a batch was not saved; nothing of it was done; trying again");
            CommitError::Unavailable("the database is away".to_owned())
        }
        // Conflicts with other transactions don't last this long: it conflicts with itself.
        StoreError::Conflict(_) => {
            tracing::error!(%error, "a batch can't be saved beside what is there");
            CommitError::Internal("the request could not be decided".to_owned())
        }
        StoreError::OutcomeUnknown(_) => {
            tracing::error!(%error, "it is unknown whether a batch was saved; looking again");
            CommitError::OutcomeUnknown("the database did not answer the commit".to_owned())
        }
    }
}

/// The due steps that the batch scheduled.
fn due(world: &WorkingSet, now: Timestamp) -> Vec<StepRow> {
    let put = world
        .dirty
        .steps
        .iter()
        .filter_map(|key| world.steps.get(key));
    put.filter(|row| !row.is_dead && row.due_at <= now)
        .cloned()
        .collect()
}
