//! Batches: gather, load, decide, save, commit, answer.
//!
//! Commands that wait at the same moment are decided together in one transaction; while one batch
//! commits, the next gathers. No timer is involved: a command that comes alone is decided alone.
//! Nothing is answered, and no step or event leaves, before the commit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use shared::outcome::{Code, Failure, Told};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    domain::{
        command::{Command, Needs},
        decide::{Rules, carry_out},
        stamp::Stamp,
        step::StepRow,
        world::World,
    },
    relay::Outbox,
    store::{Sqlite, StoreError},
};

/// Commands of one batch at most: bounds how long the first one waits for the last.
const MAX_BATCH: usize = 256;
/// Commands that may wait for their batch; the consumers' prefetch is the tighter bound.
const QUEUE: usize = 2048;

/// Takes commands; clones share one engine, which ends when the last clone is gone.
#[derive(Clone)]
pub struct Engine(mpsc::Sender<Submission>);

struct Submission {
    command: Command,
    deadline: Option<Instant>,
    answer: oneshot::Sender<Result<Told, Undecided>>,
}

/// Why a command was not decided.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Undecided {
    /// Certain that nothing was done: the database is away.
    #[error("{0}")]
    Away(String),
    /// It may have been done: the database did not answer the commit.
    #[error("{0}")]
    Unknown(String),
    /// Nobody waits for it any more; nothing was done.
    #[error("the deadline has passed")]
    TooLate,
    /// It can't be decided: a defect, of which nothing was kept.
    #[error("{0}")]
    Defect(String),
}

impl From<Undecided> for Failure {
    fn from(undecided: Undecided) -> Self {
        let message = undecided.to_string();
        match undecided {
            Undecided::Away(_) => Self::new(Code::Unavailable, message),
            Undecided::Unknown(_) | Undecided::TooLate => Self::new(Code::Timeout, message),
            Undecided::Defect(_) => Self::new(Code::Internal, message),
        }
    }
}

impl Engine {
    /// Starts deciding over `store`.
    pub fn start(store: Sqlite, rules: Rules, outbox: Outbox) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(store, rules, outbox, receiver));
        Self(sender)
    }

    /// Has `command` decided, unless `deadline` passes before its turn comes.
    ///
    /// # Errors
    /// [`Undecided`].
    pub async fn decide(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Told, Undecided> {
        let stopped = || Undecided::Away("the worker is stopping".to_owned());
        let (answer, decided) = oneshot::channel();
        let submission = Submission {
            command,
            deadline,
            answer,
        };
        self.0.send(submission).await.map_err(|_| stopped())?;
        decided.await.unwrap_or_else(|_| Err(stopped()))
    }
}

async fn run(
    store: Sqlite,
    rules: Rules,
    outbox: Outbox,
    mut submissions: mpsc::Receiver<Submission>,
) {
    let mut gathered = Vec::with_capacity(MAX_BATCH);
    while submissions.recv_many(&mut gathered, MAX_BATCH).await > 0 {
        let batch = refuse_late(&mut gathered);
        match decide_batch(&store, &rules, &outbox, &batch).await {
            Ok(outcomes) => answer(batch, outcomes),
            // One of them can't be decided: alone, each harms only itself.
            Err(Undecided::Defect(_)) if batch.len() > 1 => {
                for submission in batch {
                    let alone = vec![submission];
                    let outcomes = decide_batch(&store, &rules, &outbox, &alone).await;
                    answer_alike(alone, outcomes);
                }
            }
            Err(undecided) => answer_alike(batch, Err(undecided)),
        }
    }
}

/// Answers those whose deadline has passed, and takes the others.
fn refuse_late(gathered: &mut Vec<Submission>) -> Vec<Submission> {
    let now = Instant::now();
    let mut batch = Vec::with_capacity(gathered.len());
    for submission in gathered.drain(..) {
        if submission.deadline.is_some_and(|deadline| deadline <= now) {
            let _ = submission.answer.send(Err(Undecided::TooLate));
        } else {
            batch.push(submission);
        }
    }
    batch
}

fn answer(batch: Vec<Submission>, outcomes: Vec<Told>) {
    for (submission, outcome) in batch.into_iter().zip(outcomes) {
        let _ = submission.answer.send(Ok(outcome));
    }
}

fn answer_alike(batch: Vec<Submission>, outcomes: Result<Vec<Told>, Undecided>) {
    match outcomes {
        Ok(outcomes) => answer(batch, outcomes),
        Err(undecided) => {
            for submission in batch {
                let _ = submission.answer.send(Err(undecided.clone()));
            }
        }
    }
}

async fn decide_batch(
    store: &Sqlite,
    rules: &Rules,
    outbox: &Outbox,
    batch: &[Submission],
) -> Result<Vec<Told>, Undecided> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut needs = Needs::default();
    for submission in batch {
        needs.add(&submission.command);
    }
    let mut stamp = Stamp::new(Timestamp::now(), seed());
    let now = stamp.now();
    let decided = store
        .transact(needs, now, |world| {
            let outcomes = batch
                .iter()
                .map(|submission| {
                    let carried_out = || carry_out(world, &submission.command, rules, &mut stamp);
                    catch_unwind(AssertUnwindSafe(carried_out)).ok()
                })
                .collect::<Option<Vec<_>>>()?;
            Some((outcomes, due(world, now), !world.dirty.events.is_empty()))
        })
        .await;
    match decided {
        Ok((outcomes, steps, has_events)) => {
            outbox.steps(steps);
            if has_events {
                outbox.events();
            }
            Ok(outcomes)
        }
        Err(error) => Err(undecided(error)),
    }
}

/// The random half of a UUID.
fn seed() -> u64 {
    Uuid::now_v7().as_u64_pair().1
}

fn undecided(error: StoreError) -> Undecided {
    match error {
        StoreError::GivenUp => Undecided::Defect("the request could not be decided".to_owned()),
        StoreError::Damaged(_) => {
            tracing::error!(%error, "a batch can't be loaded or saved");
            Undecided::Defect("the request could not be decided".to_owned())
        }
        StoreError::Away(_) => {
            tracing::error!(%error, "a batch was not saved; nothing of it was done");
            Undecided::Away("the database is away".to_owned())
        }
        StoreError::Unknown(_) => {
            tracing::error!(%error, "it is unknown whether a batch was saved");
            Undecided::Unknown("the database did not answer the commit".to_owned())
        }
    }
}

/// The steps that the batch put and whose time has come.
fn due(world: &World, now: Timestamp) -> Vec<StepRow> {
    let put = world
        .dirty
        .steps
        .iter()
        .filter_map(|key| world.steps.get(key));
    put.filter(|row| !row.is_dead && row.due_at <= now)
        .cloned()
        .collect()
}
