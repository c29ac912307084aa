//! A queued command, its deadline and its reply channel.

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

use super::{CommitError, stopping};
use crate::domain::command::Command;

/// Index among the commands submitted together, and the result.
pub type Decided = (usize, Result<RpcReply, CommitError>);

/// A queued command.
pub(super) struct Submission {
    pub(super) command: Command,
    pub(super) deadline: Option<Instant>,
    pub(super) ticket: Arc<Ownership>,
    /// Whether a commit with it had an unknown outcome.
    pub(super) may_be_done: bool,
    /// Whether it is the result of a step that is long overdue.
    pub(super) is_late: bool,
    answer: mpsc::UnboundedSender<Vec<Decided>>,
    place: usize,
}

impl Submission {
    pub(super) fn new(
        command: Command,
        deadline: Option<Instant>,
        answer: mpsc::UnboundedSender<Vec<Decided>>,
        place: usize,
    ) -> Self {
        Self {
            command,
            deadline,
            ticket: Arc::default(),
            may_be_done: false,
            is_late: false,
            answer,
            place,
        }
    }

    /// Whether its caller still waits.
    pub(super) fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// Sends the results of `batch`; commands submitted together are answered together.
pub(super) fn answer(
    batch: Vec<Submission>,
    outcomes: impl IntoIterator<Item = Result<RpcReply, CommitError>>,
) {
    let mut all = batch.into_iter().zip(outcomes).peekable();
    while let Some((submission, outcome)) = all.next() {
        let mut together = vec![(submission.place, outcome)];
        let asker = submission.answer;
        while let Some((next, outcome)) = all.next_if(|(next, _)| next.answer.same_channel(&asker))
        {
            together.push((next.place, outcome));
        }
        let _ = asker.send(together);
    }
}

/// Ownership of a command: the caller can cancel it until a batch has claimed it.
#[derive(Default)]
pub(super) struct Ownership(AtomicU8);

impl Ownership {
    const WAITING: u8 = 0;
    const TAKEN: u8 = 1;
    const WITHDRAWN: u8 = 2;

    /// Claims the command for a batch; fails if it was cancelled.
    pub(super) fn take(&self) -> bool {
        self.go(Self::WAITING, Self::TAKEN)
    }

    /// Releases it from a batch that certainly had no effect.
    pub(super) fn put_back(&self) {
        self.go(Self::TAKEN, Self::WAITING);
    }

    /// Cancels the command; fails if a batch has claimed it.
    fn withdraw(&self) -> bool {
        self.go(Self::WAITING, Self::WITHDRAWN)
    }

    fn go(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Pending results of commands that were submitted together.
pub struct Decisions {
    decided: mpsc::UnboundedReceiver<Vec<Decided>>,
    /// Commands without a result yet, by index.
    waiting: Vec<Option<Waiting>>,
    /// Commands that were refused without being queued.
    refused: Vec<Decided>,
}

/// A caller waiting for a result.
pub(super) struct Waiting {
    ticket: Arc<Ownership>,
    deadline: Option<Instant>,
    /// Latest time for a failure to be sent.
    last_moment: Option<Instant>,
}

impl Waiting {
    pub(super) fn new(submission: &Submission, last_moment: Option<Instant>) -> Self {
        Self {
            ticket: Arc::clone(&submission.ticket),
            deadline: submission.deadline,
            last_moment,
        }
    }

    /// Time at which the caller needs a result in any case.
    fn moment(&self) -> Option<Instant> {
        self.last_moment.or(self.deadline)
    }

    /// The failure to report at `now`, if it is time.
    fn give_up(&mut self, now: Instant) -> Option<CommitError> {
        if self.last_moment.is_some_and(|moment| moment <= now) {
            self.last_moment = None;
            if self.ticket.withdraw() {
                return Some(CommitError::Unavailable(
                    "the database did not take it in time; nothing was done".to_owned(),
                ));
            }
        }
        let is_over =
            self.last_moment.is_none() && self.deadline.is_some_and(|deadline| deadline <= now);
        is_over.then(|| CommitError::OutcomeUnknown("not decided in time".to_owned()))
    }
}

impl Decisions {
    pub(super) fn new(
        decided: mpsc::UnboundedReceiver<Vec<Decided>>,
        waiting: Vec<Option<Waiting>>,
        refused: Vec<Decided>,
    ) -> Self {
        Self {
            decided,
            waiting,
            refused,
        }
    }

    /// The next results by index; `None` when all results are known. Failures are reported before the deadlines.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<Decided>> {
        loop {
            if !self.refused.is_empty() {
                return Some(mem::take(&mut self.refused));
            }
            if self.waiting.iter().all(Option::is_none) {
                return None;
            }
            let moment = self
                .waiting
                .iter()
                .flatten()
                .filter_map(Waiting::moment)
                .min();
            let decided = match moment {
                None => Some(self.decided.recv().await),
                Some(moment) => time::timeout_at(moment, self.decided.recv()).await.ok(),
            };
            let Some(decided) = decided else {
                self.give_up(Instant::now());
                continue;
            };
            let Some(mut decided) = decided else {
                self.refuse(|_| Some(stopping()));
                continue;
            };
            // Drops results of commands that were reported as failed.
            decided.retain(|(place, _)| {
                self.waiting
                    .get_mut(*place)
                    .is_some_and(|waiting| waiting.take().is_some())
            });
            if !decided.is_empty() {
                return Some(decided);
            }
        }
    }

    /// All results, in order.
    pub async fn all(mut self) -> Vec<Result<RpcReply, CommitError>> {
        let mut all = Vec::with_capacity(self.waiting.len());
        while let Some(decided) = self.next().await {
            all.extend(decided);
        }
        all.sort_unstable_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn give_up(&mut self, now: Instant) {
        self.refuse(|waiting| waiting.give_up(now));
    }

    /// Reports the commands for which `why` returns a failure.
    fn refuse(&mut self, why: impl Fn(&mut Waiting) -> Option<CommitError>) {
        for (place, waiting) in self.waiting.iter_mut().enumerate() {
            if let Some(why) = waiting.as_mut().and_then(&why) {
                *waiting = None;
                self.refused.push((place, Err(why)));
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

    fn command() -> Command {
        Command::Request {
            caller: Caller {
                role: Role::Admin,
                storefront: Storefront::default(),
                actor: String::new(),
                intent: String::new(),
                request_id: String::new(),
                traceparent: None,
            },
            idempotency: None,
            if_match: None,
            action: Action::VerifyCustomer(CustomerRef {
                id: uuid::Uuid::nil().into(),
            }),
        }
    }

    /// Three commands submitted together with this deadline, and their pending results.
    fn three(wait: Duration) -> (Vec<Submission>, Decisions) {
        let (answer, decided) = mpsc::unbounded_channel();
        let deadline = Instant::now() + wait;
        let submissions: Vec<_> = (0..3)
            .map(|place| Submission::new(command(), Some(deadline), answer.clone(), place))
            .collect();
        let waiting = submissions.iter();
        let waiting = waiting.map(|submission| Some(Waiting::new(submission, Some(deadline))));
        let decisions = Decisions::new(decided, waiting.collect(), Vec::new());
        (submissions, decisions)
    }

    fn refusals(count: usize) -> impl Iterator<Item = Result<RpcReply, CommitError>> {
        let refusal = || Err(Failure::new(Code::NotFound, "nobody")).into();
        std::iter::repeat_with(move || Ok(refusal())).take(count)
    }

    fn places(decided: Option<Vec<Decided>>) -> Vec<usize> {
        let decided = decided.unwrap_or_default().into_iter();
        decided.map(|(place, _)| place).collect()
    }

    #[tokio::test]
    async fn commands_submitted_together_are_answered_together() {
        let (mut first, mut decisions) = three(Duration::from_mins(1));
        let (others, mut others_decisions) = three(Duration::from_mins(1));
        let last = first.pop();
        first.extend(others);
        answer(first, refusals(5));
        assert_eq!(places(decisions.next().await), [0, 1]);
        assert_eq!(places(others_decisions.next().await), [0, 1, 2]);
        assert!(others_decisions.next().await.is_none());
        answer(last.into_iter().collect(), refusals(1));
        assert_eq!(places(decisions.next().await), [2]);
        assert!(decisions.next().await.is_none());
    }

    #[tokio::test]
    async fn deadline_gives_unavailable_or_outcome_unknown() {
        let (submissions, decisions) = three(Duration::from_millis(20));
        assert!(submissions[1].ticket.take());
        assert!(matches!(
            decisions.all().await.as_slice(),
            [
                Err(CommitError::Unavailable(_)),
                Err(CommitError::OutcomeUnknown(_)),
                Err(CommitError::Unavailable(_))
            ]
        ));
        // A cancelled command can't be claimed.
        assert!(!submissions[0].ticket.take());
    }

    #[tokio::test]
    async fn dropped_submissions_are_answered_as_unavailable() {
        let (submissions, mut decisions) = three(Duration::from_mins(1));
        drop(submissions);
        assert_eq!(places(decisions.next().await), [0, 1, 2]);
        assert!(decisions.next().await.is_none());
    }
}
