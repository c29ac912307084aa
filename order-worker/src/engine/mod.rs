//! Batches: gather, load, decide, save, commit, answer.
//!
//! Commands that wait at the same moment are decided together in one transaction; while one batch
//! commits, the next gathers. No timer is involved: a command that comes alone is decided alone.
//! Nothing is answered, and no step or event leaves, before the commit.
//!
//! While the database is away the batch is held and tried again, until its callers' time is up:
//! they are told a moment before that nothing was done, or that it is unknown. Who could not be
//! served in time is told so at once.
//!
//! [`submission`] is a command on its way, [`intake`] where batches are gathered, [`decider`] what
//! decides them.

mod decider;
mod intake;
mod submission;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use shared::outcome::{Code, Failure, RpcReply};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

pub use self::submission::{Decided, Decisions};
use self::{
    decider::Decider,
    intake::Intake,
    submission::{Submission, Waiting},
};
use crate::{
    dedicated_thread,
    domain::{command::Command, decide::Rules},
    relay::Outbox,
    store::Store,
};

/// Commands of one batch at most: bounds how long the first one waits for the last.
const MAX_BATCH: usize = 256;
/// Commands that may wait for their batch: more would wait longer than their callers do.
const QUEUE: usize = 8192;
/// A step that waits longer than this waits no more behind callers.
const LATE: SignedDuration = SignedDuration::from_secs(10);
/// Before its deadline a caller that waits in vain is told, so that the answer still arrives: this
/// part of the time it had left, but no longer than the second.
const MARGIN: (u32, Duration) = (8, Duration::from_millis(300));

/// Takes commands; clones share one engine, which ends when the last clone is gone.
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::UnboundedSender<Vec<Submission>>,
    results: mpsc::Sender<Submission>,
    /// Requests that no batch has yet.
    waiting: Arc<AtomicUsize>,
    /// Microseconds that a batch takes, lately.
    pace_us: Arc<AtomicU64>,
    ended: watch::Receiver<()>,
}

/// Why a command was not decided.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// Certain that nothing was done: the database is away, or there is too much to do.
    #[error("{0}")]
    Unavailable(String),
    /// It may have been done: the database did not answer the commit.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// It can't be decided: a defect, of which nothing was kept.
    #[error("{0}")]
    Internal(String),
}

impl From<CommitError> for Failure {
    fn from(undecided: CommitError) -> Self {
        let message = undecided.to_string();
        match undecided {
            CommitError::Unavailable(_) => Self::new(Code::Unavailable, message),
            CommitError::OutcomeUnknown(_) => Self::new(Code::Timeout, message),
            CommitError::Internal(_) => Self::new(Code::Internal, message),
        }
    }
}

impl Engine {
    /// Starts deciding over `store`.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(store: Store, rules: Rules, outbox: Outbox) -> io::Result<Self> {
        let (requests, callers) = mpsc::unbounded_channel();
        let (results, steps) = mpsc::channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let pace_us = Arc::new(AtomicU64::new(0));
        let intake = Intake::new(callers, Arc::clone(&waiting), steps, outbox.rush());
        let decider = Decider::new(store, rules, outbox, Arc::clone(&pace_us));
        let (running, ended) = watch::channel(());
        dedicated_thread::spawn("engine", async move {
            decider.run(intake).await;
            drop(running);
        })?;
        Ok(Self {
            requests,
            results,
            waiting,
            pace_us,
            ended,
        })
    }

    /// Has `command` decided before `deadline`.
    ///
    /// # Errors
    /// [`CommitError`], in time for the caller to hear of it.
    pub async fn decide(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<RpcReply, CommitError> {
        let decided = self.decide_together(vec![(command, deadline)]).all().await;
        decided
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(stopping()))
    }

    /// Has `commands` decided, each before its deadline, if it has one.
    pub fn decide_together(&self, commands: Vec<(Command, Option<Instant>)>) -> Decisions {
        let (answer, decided) = mpsc::unbounded_channel();
        let (mut submitted, mut waiting) = (Vec::with_capacity(commands.len()), Vec::new());
        let mut refused = Vec::new();
        let expected = Instant::now() + self.expected_wait();
        let room = QUEUE.saturating_sub(self.waiting.load(Ordering::Relaxed));
        for (place, (command, deadline)) in commands.into_iter().enumerate() {
            let last_moment = deadline.map(last_moment);
            let is_hopeless = last_moment.is_some_and(|moment| expected > moment);
            if is_hopeless || submitted.len() >= room {
                refused.push((place, Err(overloaded())));
                waiting.push(None);
                continue;
            }
            let submission = Submission::new(command, deadline, answer.clone(), place);
            waiting.push(Some(Waiting::new(&submission, last_moment)));
            submitted.push(submission);
        }
        if !submitted.is_empty() {
            self.waiting.fetch_add(submitted.len(), Ordering::Relaxed);
            // An engine that has ended drops what it gets, and that is the answer.
            let _ = self.requests.send(submitted);
        }
        Decisions::new(decided, waiting, refused)
    }

    /// Has the result of a step that was due at `due_at` decided, however long that takes.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn finish(
        &self,
        command: Command,
        due_at: Timestamp,
    ) -> Result<RpcReply, CommitError> {
        let (answer, mut decided) = mpsc::unbounded_channel();
        let mut submission = Submission::new(command, None, answer, 0);
        submission.is_late = Timestamp::now().duration_since(due_at) > LATE;
        self.results
            .send(submission)
            .await
            .map_err(|_| stopping())?;
        let decided = decided.recv().await.and_then(|mut decided| decided.pop());
        decided.map_or_else(|| Err(stopping()), |(_, outcome)| outcome)
    }

    /// Waits until the last clone is gone, and what it was given is decided.
    pub async fn end(self) {
        let mut ended = self.ended.clone();
        drop(self);
        while ended.changed().await.is_ok() {}
    }

    /// How long a command that comes now waits for its answer, as things go.
    fn expected_wait(&self) -> Duration {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let batches = u64::try_from(waiting / MAX_BATCH).unwrap_or(u64::MAX);
        Duration::from_micros(batches.saturating_mul(self.pace_us.load(Ordering::Relaxed)))
    }
}

/// When a caller has to be told, to hear of it by `deadline`.
pub(crate) fn last_moment(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    deadline
        .checked_sub((left / MARGIN.0).min(MARGIN.1))
        .unwrap_or(deadline)
}

fn overloaded() -> CommitError {
    CommitError::Unavailable("too many requests are waiting; nothing was done".to_owned())
}

fn stopping() -> CommitError {
    CommitError::Unavailable("the worker is stopping".to_owned())
}
