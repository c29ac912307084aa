//! Batches: gather, load, decide, save, commit, answer.
//!
//! Commands that wait at the same moment are decided together in one transaction; while one batch
//! commits, the next gathers. No timer is involved: a command that comes alone is decided alone.
//! Nothing is answered, and no step or event leaves, before the commit.
//!
//! While the database is away the batch is held and tried again, until its callers' time is up:
//! they are told a moment before that nothing was done, or that it is unknown. Who could not be
//! served in time is told so at once.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use shared::outcome::{Code, Failure, Told};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{self, Instant},
};
use uuid::Uuid;

use crate::{
    domain::{
        command::{Command, Needs, Trust},
        decide::{Rules, carry_out},
        stamp::Stamp,
        step::StepRow,
        world::World,
    },
    own_thread,
    relay::{Outbox, Rush},
    store::{Store, StoreError},
};

/// Commands of one batch at most: bounds how long the first one waits for the last.
const MAX_BATCH: usize = 256;
/// Commands that may wait for their batch: more would wait longer than their callers do.
const QUEUE: usize = 8192;
/// While callers wait, a batch takes the result of one step for so many of them…
const CALLERS_A_STEP: usize = 16;
/// …but at least so many, as long as there are.
const MIN_STEPS: usize = 4;
/// How often a step that waits for a rush to be over looks whether it is.
const RUSH_CHECK: Duration = Duration::from_millis(1);
/// A step that waits longer than this waits no more behind callers.
const LATE: SignedDuration = SignedDuration::from_secs(10);
/// Between attempts while the database is away: doubles from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Before its deadline a caller that waits in vain is told, so that the answer still arrives: this
/// part of the time it had left, but no longer than the second.
const MARGIN: (u32, Duration) = (8, Duration::from_millis(300));

/// Takes commands; clones share one engine, which ends when the last clone is gone.
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<Submission>,
    results: mpsc::Sender<Submission>,
    /// Microseconds that a batch takes, lately.
    pace_us: Arc<AtomicU64>,
    ended: watch::Receiver<()>,
}

struct Submission {
    command: Command,
    deadline: Option<Instant>,
    answer: oneshot::Sender<Result<Told, Undecided>>,
    ticket: Arc<Ticket>,
    /// A commit of it was not answered.
    may_be_done: bool,
    /// A step's result, and long overdue.
    is_late: bool,
}

type Decided = oneshot::Receiver<Result<Told, Undecided>>;

impl Submission {
    fn new(command: Command, deadline: Option<Instant>) -> (Self, Decided) {
        let (answer, decided) = oneshot::channel();
        let submission = Self {
            command,
            deadline,
            answer,
            ticket: Arc::default(),
            may_be_done: false,
            is_late: false,
        };
        (submission, decided)
    }
}

/// Why a command was not decided.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Undecided {
    /// Certain that nothing was done: the database is away, or there is too much to do.
    #[error("{0}")]
    Away(String),
    /// It may have been done: the database did not answer the commit.
    #[error("{0}")]
    Unknown(String),
    /// It can't be decided: a defect, of which nothing was kept.
    #[error("{0}")]
    Defect(String),
}

impl From<Undecided> for Failure {
    fn from(undecided: Undecided) -> Self {
        let message = undecided.to_string();
        match undecided {
            Undecided::Away(_) => Self::new(Code::Unavailable, message),
            Undecided::Unknown(_) => Self::new(Code::Timeout, message),
            Undecided::Defect(_) => Self::new(Code::Internal, message),
        }
    }
}

/// Whose a command is: a caller may take it back as long as no batch has it.
#[derive(Default)]
struct Ticket(AtomicU8);

impl Ticket {
    const WAITING: u8 = 0;
    const TAKEN: u8 = 1;
    const WITHDRAWN: u8 = 2;

    /// Into a batch; not if it was withdrawn.
    fn take(&self) -> bool {
        self.go(Self::WAITING, Self::TAKEN)
    }

    /// Out of a batch of which nothing was done.
    fn put_back(&self) {
        self.go(Self::TAKEN, Self::WAITING);
    }

    /// Nothing was done, and nothing will be.
    fn withdraw(&self) -> bool {
        self.go(Self::WAITING, Self::WITHDRAWN)
    }

    fn go(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Engine {
    /// Starts deciding over `store`.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(store: Store, rules: Rules, outbox: Outbox) -> io::Result<Self> {
        let (requests, callers) = mpsc::channel(QUEUE);
        let (results, steps) = mpsc::channel(QUEUE);
        let pace_us = Arc::new(AtomicU64::new(0));
        let rush = outbox.rush();
        let decider = Decider {
            store,
            rules,
            outbox,
            pace_us: Arc::clone(&pace_us),
        };
        let intake = Intake {
            callers,
            steps,
            is_late: false,
            rush,
        };
        let (running, ended) = watch::channel(());
        own_thread::spawn("engine", async move {
            decider.run(intake).await;
            drop(running);
        })?;
        Ok(Self {
            requests,
            results,
            pace_us,
            ended,
        })
    }

    /// Has `command` decided before `deadline`.
    ///
    /// # Errors
    /// [`Undecided`], in time for the caller to hear of it.
    pub async fn decide(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Told, Undecided> {
        let last_moment = deadline.map(last_moment);
        if last_moment.is_some_and(|moment| Instant::now() + self.expected_wait() > moment) {
            return Err(overloaded());
        }
        let (submission, mut decided) = Submission::new(command, deadline);
        let ticket = Arc::clone(&submission.ticket);
        self.requests
            .try_send(submission)
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => overloaded(),
                mpsc::error::TrySendError::Closed(_) => stopping(),
            })?;
        let (Some(deadline), Some(last_moment)) = (deadline, last_moment) else {
            return decided.await.unwrap_or_else(|_| Err(stopping()));
        };
        if let Ok(decided) = time::timeout_at(last_moment, &mut decided).await {
            return decided.unwrap_or_else(|_| Err(stopping()));
        }
        if ticket.withdraw() {
            return Err(Undecided::Away(
                "the database did not take it in time; nothing was done".to_owned(),
            ));
        }
        match time::timeout_at(deadline, decided).await {
            Ok(decided) => decided.unwrap_or_else(|_| Err(stopping())),
            Err(_) => Err(Undecided::Unknown("not decided in time".to_owned())),
        }
    }

    /// Has the result of a step that was due at `due_at` decided, however long that takes.
    ///
    /// # Errors
    /// [`Undecided`].
    pub async fn finish(&self, command: Command, due_at: Timestamp) -> Result<Told, Undecided> {
        let (mut submission, decided) = Submission::new(command, None);
        submission.is_late = Timestamp::now().duration_since(due_at) > LATE;
        self.results
            .send(submission)
            .await
            .map_err(|_| stopping())?;
        decided.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Waits until the last clone is gone, and what it was given is decided.
    pub async fn end(self) {
        let mut ended = self.ended.clone();
        drop(self);
        while ended.changed().await.is_ok() {}
    }

    /// How long a command that comes now waits for its answer, as things go.
    fn expected_wait(&self) -> Duration {
        let waiting = self.requests.max_capacity() - self.requests.capacity();
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

fn overloaded() -> Undecided {
    Undecided::Away("too many requests are waiting; nothing was done".to_owned())
}

fn stopping() -> Undecided {
    Undecided::Away("the worker is stopping".to_owned())
}

/// Where batches are gathered: callers first, as long as the flow of what they ordered does not fall
/// behind too far.
struct Intake {
    callers: mpsc::Receiver<Submission>,
    steps: mpsc::Receiver<Submission>,
    /// Results of steps are long overdue: they take their turn like callers.
    is_late: bool,
    rush: Arc<Rush>,
}

impl Intake {
    /// What waits now, or comes next; empty when nobody will come any more.
    async fn gather(&mut self) -> Vec<Submission> {
        let mut batch = Vec::new();
        loop {
            self.take(&mut batch);
            if !batch.is_empty() {
                return batch;
            }
            // In a rush, steps go along with callers only.
            let is_for_all = self.is_late || !self.rush.is_on();
            tokio::select! {
                Some(caller) = self.callers.recv() => batch.push(caller),
                Some(step) = self.steps.recv(), if is_for_all => batch.push(step),
                () = time::sleep(RUSH_CHECK), if !is_for_all => {}
                else => return batch,
            }
        }
    }

    /// Adds to `batch` what waits.
    fn take(&mut self, batch: &mut Vec<Submission>) {
        while batch.len() < MAX_BATCH
            && let Ok(caller) = self.callers.try_recv()
        {
            batch.push(caller);
        }
        let share = match batch.len() {
            _ if self.is_late => MAX_BATCH,
            0 if self.rush.is_on() => 0,
            0 => MAX_BATCH,
            callers => (callers / CALLERS_A_STEP).max(MIN_STEPS),
        };
        let callers = batch.len();
        while batch.len() < callers + share
            && let Ok(step) = self.steps.try_recv()
        {
            batch.push(step);
        }
        let mut steps = batch[callers..].iter().peekable();
        if steps.peek().is_some() {
            self.is_late = steps.any(|step| step.is_late);
        }
    }
}

/// What decides.
struct Decider {
    store: Store,
    rules: Rules,
    outbox: Outbox,
    pace_us: Arc<AtomicU64>,
}

impl Decider {
    async fn run(self, mut intake: Intake) {
        loop {
            let batch = intake.gather().await;
            if batch.is_empty() {
                return;
            }
            let began = Instant::now();
            let size = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.see_through(batch).await;
            self.note_pace(began.elapsed());
            metrics::histogram!("engine_batch_size").record(size);
            metrics::histogram!("engine_batch_duration_seconds").record(began.elapsed());
        }
    }

    /// Half of what a batch takes lately is what the last one took.
    fn note_pace(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let pace = self.pace_us.load(Ordering::Relaxed) / 2 + took / 2;
        self.pace_us.store(pace, Ordering::Relaxed);
    }

    /// Decides the batch, however long the database is away.
    async fn see_through(&self, mut batch: Vec<Submission>) {
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
                    return answer(batch, outcomes);
                }
                // One of them can't be decided: alone, each harms only itself.
                Err(Undecided::Defect(_)) if batch.len() > 1 => {
                    for submission in batch {
                        if !submission.may_be_done {
                            submission.ticket.put_back();
                        }
                        Box::pin(self.see_through(vec![submission])).await;
                    }
                    return;
                }
                Err(defect @ Undecided::Defect(_)) => return refuse(batch, &defect),
                Err(Undecided::Away(_)) => {
                    for submission in batch.iter().filter(|submission| !submission.may_be_done) {
                        submission.ticket.put_back();
                    }
                }
                Err(unknown @ Undecided::Unknown(_)) => {
                    let (again, not_again) = batch.into_iter().partition(is_safe_to_repeat);
                    refuse(not_again, &unknown);
                    batch = again;
                    repeat_knowingly(&mut batch);
                }
            }
            // Without a deadline a command waits as long as somebody waits for it.
            time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
            let now = Instant::now();
            batch.retain(|submission| {
                !submission.answer.is_closed()
                    && submission.deadline.is_none_or(|deadline| now < deadline)
            });
        }
    }

    /// Steps of a commit that was not answered were not sent.
    async fn resend(&self) {
        if let Err(error) = self.store.release_leases(Timestamp::now()).await {
            tracing::warn!(%error, "steps of an unanswered commit are sent when their lease is over");
        }
    }

    async fn decide_batch(&self, batch: &[Submission]) -> Result<Vec<Told>, Undecided> {
        let mut needs = Needs::default();
        for submission in batch {
            needs.add(&submission.command);
        }
        let stamp = Stamp::new(Timestamp::now(), seed());
        let now = stamp.now();
        let decided = self
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
            .await;
        match decided {
            Ok((outcomes, steps, has_events)) => {
                let is_caller = |submission: &&Submission| {
                    matches!(submission.command, Command::Request { .. })
                };
                self.outbox.served(batch.iter().filter(is_caller).count());
                self.outbox.steps(steps);
                if has_events {
                    self.outbox.events();
                }
                Ok(outcomes)
            }
            Err(error) => Err(undecided(error)),
        }
    }
}

fn answer(batch: Vec<Submission>, outcomes: Vec<Told>) {
    for (submission, outcome) in batch.into_iter().zip(outcomes) {
        let _ = submission.answer.send(Ok(outcome));
    }
}

fn refuse(batch: Vec<Submission>, why: &Undecided) {
    for submission in batch {
        let _ = submission.answer.send(Err(why.clone()));
    }
}

/// Whether deciding the command again, after it may have been done, finds that it was.
fn is_safe_to_repeat(submission: &Submission) -> bool {
    match &submission.command {
        Command::Finish { .. } | Command::FinishDelivery { .. } => true,
        Command::Request { idempotency, .. } => idempotency.is_some(),
    }
}

/// A first delivery that may have been done is none any more.
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

fn undecided(error: StoreError) -> Undecided {
    match error {
        StoreError::GivenUp => Undecided::Defect("the request could not be decided".to_owned()),
        StoreError::Damaged(_) => {
            tracing::error!(%error, "a batch can't be loaded or saved");
            Undecided::Defect("the request could not be decided".to_owned())
        }
        StoreError::Away(_) | StoreError::Refusing(_) => {
            tracing::error!(%error, "a batch was not saved; nothing of it was done; trying again");
            Undecided::Away("the database is away".to_owned())
        }
        // In the way of others it can't be for so long: it is in its own way.
        StoreError::Conflict(_) => {
            tracing::error!(%error, "a batch can't be saved beside what is there");
            Undecided::Defect("the request could not be decided".to_owned())
        }
        StoreError::Unknown(_) => {
            tracing::error!(%error, "it is unknown whether a batch was saved; looking again");
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
