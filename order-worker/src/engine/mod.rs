//! The batch engine: collect, load, decide, save, commit, reply.
//!
//! Commands that are queued at the same time are decided together in one transaction; while one batch
//! commits, the next is collected. No timer is involved: a single command is decided alone. No reply, step or
//! event is sent before the commit.
//!
//! While the database is unavailable, the batch is kept and retried until the deadlines of its callers.
//! Shortly before its deadline, a caller gets `UNAVAILABLE` if nothing was done, or `TIMEOUT` if the outcome
//! is unknown. Requests that can't be served in time are refused at once.
//!
//! [`submission`] is a queued command, [`intake`] collects batches, [`decider`] decides them; [`task`] runs
//! requests of several commands. The business rules are in [`domain`](crate::domain).

mod decider;
mod intake;
mod submission;
pub(crate) mod task;

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

pub use self::submission::{IndexedReply, PendingReplies};
use self::{
    decider::Decider,
    intake::Intake,
    submission::{PendingReply, Submission},
};
use crate::{
    background::relay::Outbox,
    domain::{command::Command, decide::Rules},
    runtime::dedicated_thread,
    store::Store,
};

/// Maximum batch size: bounds the latency of the first command.
const MAX_BATCH: usize = 256;
/// Maximum number of queued commands; more would only exceed their deadlines.
const MAX_QUEUED: usize = 8192;
/// Step results older than this are no longer delayed in favour of requests.
const LATE_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// Failures are reported before the deadline of the caller, so that the reply still arrives: earlier by the
/// remaining time divided by the first value, and at most by the second value.
const REPLY_MARGIN: (u32, Duration) = (8, Duration::from_millis(300));

/// Accepts commands. Clones share one engine, which ends with its last clone.
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::UnboundedSender<Vec<Submission>>,
    step_results: mpsc::Sender<Submission>,
    /// Number of requests that are not in a batch yet.
    waiting_count: Arc<AtomicUsize>,
    /// Average duration of a batch in microseconds.
    average_batch_us: Arc<AtomicU64>,
    end_receiver: watch::Receiver<()>,
}

/// Reasons why a command was not decided.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// Nothing was done: the database is unavailable, or there is too much load.
    #[error("{0}")]
    Unavailable(String),
    /// The command may have been executed: the database did not answer the commit.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// The command can't be decided because of a defect; nothing was stored.
    #[error("{0}")]
    Internal(String),
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        let message = error.to_string();
        match error {
            CommitError::Unavailable(_) => Self::new(Code::Unavailable, message),
            CommitError::OutcomeUnknown(_) => Self::new(Code::Timeout, message),
            CommitError::Internal(_) => Self::new(Code::Internal, message),
        }
    }
}

impl Engine {
    /// Starts the engine over `store`.
    ///
    /// # Errors
    /// When its thread can't be created.
    pub fn start(store: Store, rules: Rules, outbox: Outbox) -> io::Result<Self> {
        let (requests, request_receiver) = mpsc::unbounded_channel();
        let (step_results, step_result_receiver) = mpsc::channel(MAX_QUEUED);
        let waiting_count = Arc::new(AtomicUsize::new(0));
        let average_batch_us = Arc::new(AtomicU64::new(0));
        let intake = Intake::new(
            request_receiver,
            Arc::clone(&waiting_count),
            step_result_receiver,
            outbox.activity(),
        );
        let decider = Decider::new(store, rules, outbox, Arc::clone(&average_batch_us));
        let (running_sender, end_receiver) = watch::channel(());
        dedicated_thread::spawn("engine", async move {
            decider.run(intake).await;
            drop(running_sender);
        })?;
        Ok(Self {
            requests,
            step_results,
            waiting_count,
            average_batch_us,
            end_receiver,
        })
    }

    /// Decides `command` before `deadline`.
    ///
    /// # Errors
    /// [`CommitError`], in time for the caller.
    pub async fn decide(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<RpcReply, CommitError> {
        self.decide_together(vec![(command, deadline)])
            .wait_for_only_reply()
            .await
    }

    /// Decides `commands`, each before its deadline.
    pub fn decide_together(&self, commands: Vec<(Command, Option<Instant>)>) -> PendingReplies {
        let (reply_sender, decided_replies) = mpsc::unbounded_channel();
        let (mut accepted_submissions, mut pending_replies) =
            (Vec::with_capacity(commands.len()), Vec::new());
        let mut refused_replies = Vec::new();
        let expected_start = Instant::now() + self.estimated_wait();
        let free_slots = MAX_QUEUED.saturating_sub(self.waiting_count.load(Ordering::Relaxed));
        for (index, (command, deadline)) in commands.into_iter().enumerate() {
            let reply_deadline = deadline.map(reply_deadline);
            let cannot_meet_deadline =
                reply_deadline.is_some_and(|reply_deadline| expected_start > reply_deadline);
            if cannot_meet_deadline || accepted_submissions.len() >= free_slots {
                refused_replies.push((index, Err(overloaded_error())));
                pending_replies.push(None);
                continue;
            }
            let submission = Submission::new(command, deadline, reply_sender.clone(), index);
            pending_replies.push(Some(PendingReply::new(&submission, reply_deadline)));
            accepted_submissions.push(submission);
        }
        if !accepted_submissions.is_empty() {
            self.waiting_count
                .fetch_add(accepted_submissions.len(), Ordering::Relaxed);
            // An engine that has ended drops its input, which the receivers notice.
            let _ = self.requests.send(accepted_submissions);
        }
        PendingReplies::new(decided_replies, pending_replies, refused_replies)
    }

    /// Decides the result of a step that was due at `due_at`, however long it takes.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn decide_result(
        &self,
        command: Command,
        due_at: Timestamp,
    ) -> Result<RpcReply, CommitError> {
        let (reply_sender, mut reply_receiver) = mpsc::unbounded_channel();
        let mut submission = Submission::new(command, None, reply_sender, 0);
        submission.is_overdue_result = Timestamp::now().duration_since(due_at) > LATE_AFTER;
        self.step_results
            .send(submission)
            .await
            .map_err(|_| stopping_error())?;
        let decided_reply = reply_receiver
            .recv()
            .await
            .and_then(|mut replies| replies.pop());
        decided_reply.map_or_else(|| Err(stopping_error()), |(_, outcome)| outcome)
    }

    /// Waits until the last clone is dropped and all accepted commands are decided.
    pub async fn end(self) {
        let mut end_receiver = self.end_receiver.clone();
        drop(self);
        while end_receiver.changed().await.is_ok() {}
    }

    /// Estimated waiting time of a new command.
    fn estimated_wait(&self) -> Duration {
        let waiting_count = self.waiting_count.load(Ordering::Relaxed);
        let waiting_batches = u64::try_from(waiting_count / MAX_BATCH).unwrap_or(u64::MAX);
        Duration::from_micros(
            waiting_batches.saturating_mul(self.average_batch_us.load(Ordering::Relaxed)),
        )
    }
}

/// The latest time for a failure to be sent, so that it arrives before `deadline`.
pub(crate) fn reply_deadline(deadline: Instant) -> Instant {
    let remaining_time = deadline.saturating_duration_since(Instant::now());
    deadline
        .checked_sub((remaining_time / REPLY_MARGIN.0).min(REPLY_MARGIN.1))
        .unwrap_or(deadline)
}

fn overloaded_error() -> CommitError {
    CommitError::Unavailable("too many requests are waiting; nothing was done".to_owned())
}

fn stopping_error() -> CommitError {
    CommitError::Unavailable("the worker is stopping".to_owned())
}
