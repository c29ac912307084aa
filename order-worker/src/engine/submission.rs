//! A queued command, its deadline and its reply channel; and the pending replies of its caller.
//!
//! A caller gets a reply before its deadline: the result; `UNAVAILABLE` for a command that no batch has
//! claimed, which is cancelled; or `TIMEOUT`, if the outcome is unknown.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use shared::outcome::RpcReply;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use super::{CommitError, stopping_error};
use crate::domain::command::Command;

/// Index among the commands submitted together, and the result.
pub type IndexedReply = (usize, Result<RpcReply, CommitError>);

/// A queued command.
pub(super) struct Submission {
    pub(super) command: Command,
    pub(super) deadline: Option<Instant>,
    pub(super) ownership: Arc<Ownership>,
    /// Whether a commit with it had an unknown outcome.
    pub(super) may_be_committed: bool,
    /// Whether it is the result of a step that is long overdue.
    pub(super) is_overdue_result: bool,
    reply_sender: mpsc::UnboundedSender<Vec<IndexedReply>>,
    command_index: usize,
}

impl Submission {
    pub(super) fn new(
        command: Command,
        deadline: Option<Instant>,
        reply_sender: mpsc::UnboundedSender<Vec<IndexedReply>>,
        command_index: usize,
    ) -> Self {
        Self {
            command,
            deadline,
            ownership: Arc::default(),
            may_be_committed: false,
            is_overdue_result: false,
            reply_sender,
            command_index,
        }
    }

    /// Whether its caller still waits for the reply.
    pub(super) fn is_awaited(&self) -> bool {
        !self.reply_sender.is_closed()
    }
}

/// Sends the results of `batch`; commands submitted together are answered together.
pub(super) fn send_replies(
    batch: Vec<Submission>,
    outcomes: impl IntoIterator<Item = Result<RpcReply, CommitError>>,
) {
    let mut decided_submissions = batch.into_iter().zip(outcomes).peekable();
    while let Some((submission, outcome)) = decided_submissions.next() {
        let mut replies = vec![(submission.command_index, outcome)];
        let reply_channel = submission.reply_sender;
        while let Some((next_submission, outcome)) =
            decided_submissions.next_if(|(next_submission, _)| {
                next_submission.reply_sender.same_channel(&reply_channel)
            })
        {
            replies.push((next_submission.command_index, outcome));
        }
        let _ = reply_channel.send(replies);
    }
}

/// Ownership of a command: the caller can cancel it until a batch has claimed it.
#[derive(Default)]
pub(super) struct Ownership(AtomicU8);

impl Ownership {
    const OWNED_BY_CALLER: u8 = 0;
    const OWNED_BY_BATCH: u8 = 1;
    const CANCELLED_BY_CALLER: u8 = 2;

    /// Claims the command for a batch; fails if it was cancelled.
    pub(super) fn claim(&self) -> bool {
        self.transition(Self::OWNED_BY_CALLER, Self::OWNED_BY_BATCH)
    }

    /// Releases it from a batch that certainly had no effect.
    pub(super) fn release(&self) {
        self.transition(Self::OWNED_BY_BATCH, Self::OWNED_BY_CALLER);
    }

    /// Cancels the command; fails if a batch has claimed it.
    fn cancel(&self) -> bool {
        self.transition(Self::OWNED_BY_CALLER, Self::CANCELLED_BY_CALLER)
    }

    fn transition(&self, from_state: u8, to_state: u8) -> bool {
        self.0
            .compare_exchange(from_state, to_state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Pending results of commands that were submitted together.
pub struct PendingReplies {
    reply_receiver: mpsc::UnboundedReceiver<Vec<IndexedReply>>,
    /// Commands without a result yet, by index.
    waiting_replies: Vec<Option<PendingReply>>,
    /// Failures that are not reported yet: of commands that were not queued, have expired or were dropped.
    refused_replies: Vec<IndexedReply>,
}

/// A reply that a caller waits for.
pub(super) struct PendingReply {
    ownership: Arc<Ownership>,
    deadline: Option<Instant>,
    /// Latest time for a failure to be sent.
    reply_deadline: Option<Instant>,
}

impl PendingReply {
    pub(super) fn new(submission: &Submission, reply_deadline: Option<Instant>) -> Self {
        Self {
            ownership: Arc::clone(&submission.ownership),
            deadline: submission.deadline,
            reply_deadline,
        }
    }

    /// Time at which the caller gets a reply in any case.
    fn report_at(&self) -> Option<Instant> {
        self.reply_deadline.or(self.deadline)
    }

    /// The failure to report at `now`, if the time for it has come.
    fn expired_error(&mut self, now: Instant) -> Option<CommitError> {
        if self
            .reply_deadline
            .is_some_and(|report_at| report_at <= now)
        {
            self.reply_deadline = None;
            if self.ownership.cancel() {
                return Some(CommitError::Unavailable(
                    "the database was not available in time; nothing was done".to_owned(),
                ));
            }
        }
        let is_past_deadline =
            self.reply_deadline.is_none() && self.deadline.is_some_and(|deadline| deadline <= now);
        is_past_deadline.then(not_decided_in_time)
    }

    /// The failure of a command that the engine dropped: it ends, or the deadline has passed.
    fn dropped_error(&self) -> CommitError {
        if self.ownership.cancel() {
            stopping_error()
        } else {
            not_decided_in_time()
        }
    }
}

fn not_decided_in_time() -> CommitError {
    CommitError::OutcomeUnknown(
        "the request was not decided in time; it may have been executed".to_owned(),
    )
}

impl PendingReplies {
    pub(super) fn new(
        reply_receiver: mpsc::UnboundedReceiver<Vec<IndexedReply>>,
        waiting_replies: Vec<Option<PendingReply>>,
        refused_replies: Vec<IndexedReply>,
    ) -> Self {
        Self {
            reply_receiver,
            waiting_replies,
            refused_replies,
        }
    }

    /// The next results by index; `None` when all results are known. Failures are reported before the deadlines.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<IndexedReply>> {
        loop {
            if !self.refused_replies.is_empty() {
                return Some(mem::take(&mut self.refused_replies));
            }
            if self.waiting_replies.iter().all(Option::is_none) {
                return None;
            }
            let next_report_at = self
                .waiting_replies
                .iter()
                .flatten()
                .filter_map(PendingReply::report_at)
                .min();
            let decided_replies = match next_report_at {
                None => Some(self.reply_receiver.recv().await),
                Some(next_report_at) => {
                    time::timeout_at(next_report_at, self.reply_receiver.recv())
                        .await
                        .ok()
                }
            };
            let Some(decided_replies) = decided_replies else {
                self.refuse_expired(Instant::now());
                continue;
            };
            let Some(mut decided_replies) = decided_replies else {
                self.refuse_pending(|pending_reply| Some(pending_reply.dropped_error()));
                continue;
            };
            // Drops results of commands that were reported as failed.
            decided_replies.retain(|(index, _)| {
                self.waiting_replies
                    .get_mut(*index)
                    .is_some_and(|waiting_reply| waiting_reply.take().is_some())
            });
            if !decided_replies.is_empty() {
                return Some(decided_replies);
            }
        }
    }

    /// All results, in order.
    pub async fn wait_for_all(mut self) -> Vec<Result<RpcReply, CommitError>> {
        let mut replies = Vec::with_capacity(self.waiting_replies.len());
        while let Some(decided_replies) = self.next().await {
            replies.extend(decided_replies);
        }
        replies.sort_unstable_by_key(|(index, _)| *index);
        replies.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// The result of the only command.
    pub async fn wait_for_only_reply(self) -> Result<RpcReply, CommitError> {
        let mut decided_replies = self.wait_for_all().await.into_iter();
        decided_replies
            .next()
            .unwrap_or_else(|| Err(stopping_error()))
    }

    fn refuse_expired(&mut self, now: Instant) {
        self.refuse_pending(|pending_reply| pending_reply.expired_error(now));
    }

    /// Reports the commands for which `failure_of` returns a failure.
    fn refuse_pending(&mut self, failure_of: impl Fn(&mut PendingReply) -> Option<CommitError>) {
        for (index, waiting_reply) in self.waiting_replies.iter_mut().enumerate() {
            if let Some(error) = waiting_reply.as_mut().and_then(&failure_of) {
                *waiting_reply = None;
                self.refused_replies.push((index, Err(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::{
        customer::CustomerRef,
        id::Storefront,
        outcome::{Code, Failure},
        request::{Caller, Role},
    };

    use super::*;
    use crate::domain::command::Action;

    fn test_command() -> Command {
        Command::Request {
            caller: Caller {
                role: Role::Admin,
                storefront: Storefront::default(),
                actor: String::new(),
                intent: String::new(),
                request_id: String::new(),
                trace_context: None,
            },
            idempotency: None,
            if_match: None,
            action: Action::VerifyCustomer(CustomerRef {
                id: uuid::Uuid::nil().into(),
            }),
        }
    }

    /// Three commands submitted together with this deadline, and their pending results.
    fn submit_three(time_limit: Duration) -> (Vec<Submission>, PendingReplies) {
        let (reply_sender, reply_receiver) = mpsc::unbounded_channel();
        let deadline = Instant::now() + time_limit;
        let submissions: Vec<_> = (0..3)
            .map(|index| {
                Submission::new(test_command(), Some(deadline), reply_sender.clone(), index)
            })
            .collect();
        let waiting_replies = submissions.iter();
        let waiting_replies =
            waiting_replies.map(|submission| Some(PendingReply::new(submission, Some(deadline))));
        let pending_replies =
            PendingReplies::new(reply_receiver, waiting_replies.collect(), Vec::new());
        (submissions, pending_replies)
    }

    fn refusals(count: usize) -> impl Iterator<Item = Result<RpcReply, CommitError>> {
        let new_refusal = || Err(Failure::new(Code::NotFound, "no customer")).into();
        std::iter::repeat_with(move || Ok(new_refusal())).take(count)
    }

    fn reply_indexes(decided_replies: Option<Vec<IndexedReply>>) -> Vec<usize> {
        let decided_replies = decided_replies.unwrap_or_default().into_iter();
        decided_replies.map(|(index, _)| index).collect()
    }

    #[tokio::test]
    async fn commands_submitted_together_are_answered_together() {
        let (mut first_submissions, mut first_replies) = submit_three(Duration::from_mins(1));
        let (other_submissions, mut other_replies) = submit_three(Duration::from_mins(1));
        let last_submission = first_submissions.pop();
        first_submissions.extend(other_submissions);
        send_replies(first_submissions, refusals(5));
        assert_eq!(reply_indexes(first_replies.next().await), [0, 1]);
        assert_eq!(reply_indexes(other_replies.next().await), [0, 1, 2]);
        assert!(other_replies.next().await.is_none());
        send_replies(last_submission.into_iter().collect(), refusals(1));
        assert_eq!(reply_indexes(first_replies.next().await), [2]);
        assert!(first_replies.next().await.is_none());
    }

    #[tokio::test]
    async fn deadline_gives_unavailable_or_outcome_unknown() {
        let (submissions, pending_replies) = submit_three(Duration::from_millis(20));
        assert!(submissions[1].ownership.claim());
        assert!(matches!(
            pending_replies.wait_for_all().await.as_slice(),
            [
                Err(CommitError::Unavailable(_)),
                Err(CommitError::OutcomeUnknown(_)),
                Err(CommitError::Unavailable(_))
            ]
        ));
        // A cancelled command can't be claimed.
        assert!(!submissions[0].ownership.claim());
    }

    #[tokio::test]
    async fn dropped_submissions_are_unavailable_unless_a_batch_has_claimed_them() {
        let (submissions, pending_replies) = submit_three(Duration::from_mins(1));
        assert!(submissions[1].ownership.claim());
        drop(submissions);
        assert!(matches!(
            pending_replies.wait_for_all().await.as_slice(),
            [
                Err(CommitError::Unavailable(_)),
                Err(CommitError::OutcomeUnknown(_)),
                Err(CommitError::Unavailable(_))
            ]
        ));
    }
}
