//! Where batches are gathered: callers first, as long as the flow of what they ordered does not fall
//! behind too far.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time};

use super::{MAX_BATCH, submission::Submission};
use crate::priority::{CROWD, RequestActivity};

/// Behind a crowd of callers, the result of one step is decided for so many of them…
const CALLERS_A_STEP: usize = 16;
/// …so many at a time: what follows from them, at partners and in messages, is shared by as many.
const STEPS_BEHIND_A_CROWD: usize = 64;
/// Few callers are on their way for longer than it takes to decide so many steps: these go in between,
/// and nobody waits long for them. If the next callers are there before, as many go along with these.
const STEPS_BETWEEN_A_FEW: usize = 4;
/// How often a step that waits for a rush to be over looks whether it is.
const RUSH_CHECK: Duration = Duration::from_millis(1);

/// What waits to be decided.
pub(super) struct Intake {
    callers: mpsc::UnboundedReceiver<Vec<Submission>>,
    /// Of those who asked together some may go with the next batch only.
    left_over: VecDeque<Submission>,
    /// Callers that no batch has yet.
    waiting: Arc<AtomicUsize>,
    steps: mpsc::Receiver<Submission>,
    /// Results of steps are long overdue: they take their turn like callers.
    is_late: bool,
    rush: Arc<RequestActivity>,
    /// Whether the last callers were a crowd.
    was_crowd: bool,
    /// Callers since steps last had their turn.
    since_steps: usize,
}

impl Intake {
    pub(super) fn new(
        callers: mpsc::UnboundedReceiver<Vec<Submission>>,
        waiting: Arc<AtomicUsize>,
        steps: mpsc::Receiver<Submission>,
        rush: Arc<RequestActivity>,
    ) -> Self {
        Self {
            callers,
            left_over: VecDeque::new(),
            waiting,
            steps,
            is_late: false,
            rush,
            was_crowd: false,
            since_steps: 0,
        }
    }

    /// What waits now, or comes next; empty when nobody will come any more.
    pub(super) async fn gather(&mut self) -> Vec<Submission> {
        let mut first_step = None;
        loop {
            let batch = self.take(first_step.take());
            if !batch.is_empty() {
                return batch;
            }
            // In the rush of a crowd, steps go along with callers only.
            let is_for_all = self.is_late || !self.is_crowded();
            tokio::select! {
                Some(callers) = self.callers.recv() => self.left_over.extend(callers),
                Some(step) = self.steps.recv(), if is_for_all => first_step = Some(step),
                () = time::sleep(RUSH_CHECK), if !is_for_all => {}
                else => return batch,
            }
        }
    }

    /// What waits, with the step that came before.
    fn take(&mut self, first_step: Option<Submission>) -> Vec<Submission> {
        while self.left_over.len() < MAX_BATCH
            && let Ok(callers) = self.callers.try_recv()
        {
            self.left_over.extend(callers);
        }
        let callers = self.left_over.len().min(MAX_BATCH);
        self.waiting.fetch_sub(callers, Ordering::Relaxed);
        let mut batch: Vec<_> = self.left_over.drain(..callers).collect();
        let share = self.share_of_steps(callers);
        batch.extend(first_step);
        while batch.len() < callers + share
            && let Ok(step) = self.steps.try_recv()
        {
            batch.push(step);
        }
        let mut steps = batch[callers..].iter().peekable();
        if steps.peek().is_some() {
            self.is_late = steps.any(|step| step.is_late);
        }
        batch
    }

    /// How many steps may go along with so many callers.
    fn share_of_steps(&mut self, callers: usize) -> usize {
        if callers > 0 {
            self.was_crowd = callers >= CROWD;
        }
        let (share, since_steps) = match callers {
            _ if self.is_late => (MAX_BATCH, 0),
            0 if self.is_crowded() => (0, self.since_steps),
            0 if self.rush.is_on() => (STEPS_BETWEEN_A_FEW, 0),
            0 => (MAX_BATCH, 0),
            few if few < CROWD && self.since_steps == 0 => (0, few),
            few if few < CROWD => (STEPS_BETWEEN_A_FEW, 0),
            crowd => match self.since_steps + crowd {
                since if since < STEPS_BEHIND_A_CROWD * CALLERS_A_STEP => (0, since),
                since => (since / CALLERS_A_STEP, 0),
            },
        };
        self.since_steps = since_steps;
        share
    }

    /// Whether a crowd of callers was here just now.
    fn is_crowded(&self) -> bool {
        self.was_crowd && self.rush.is_on()
    }
}

#[cfg(test)]
mod tests {
    use shared::id::OrderId;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{
            command::{Command, StepResult},
            step::{Step, StepKey},
        },
        relay::outbox,
    };

    /// An intake, its callers' end, and one at which so many steps wait.
    fn intake(
        waiting_steps: usize,
    ) -> (
        Intake,
        mpsc::UnboundedSender<Vec<Submission>>,
        mpsc::Sender<Submission>,
    ) {
        let (callers, received) = mpsc::unbounded_channel();
        let (steps, results) = mpsc::channel(waiting_steps);
        for _ in 0..waiting_steps {
            assert!(steps.try_send(submission()).is_ok());
        }
        let rush = outbox().0.rush();
        let intake = Intake::new(received, Arc::default(), results, rush);
        (intake, callers, steps)
    }

    /// What it is makes no difference here.
    fn submission() -> Submission {
        let command = Command::Finish {
            key: StepKey {
                order_id: OrderId::from(Uuid::now_v7()),
                step: Step::ExpireOrder,
            },
            attempt: 1,
            result: StepResult::TimeIsUp,
        };
        Submission::new(command, None, mpsc::unbounded_channel().0, 0)
    }

    /// How many steps go along when so many callers come, again and again.
    async fn steps_behind(callers: usize, times: usize) -> Vec<usize> {
        let (mut intake, asking, _steps) = intake(1_000);
        let mut behind = Vec::new();
        for _ in 0..times {
            intake.waiting.fetch_add(callers, Ordering::Relaxed);
            let come = (0..callers).map(|_| submission()).collect();
            assert!(asking.send(come).is_ok());
            behind.push(intake.gather().await.len() - callers);
        }
        behind
    }

    #[tokio::test]
    async fn behind_a_crowd_goes_one_step_for_sixteen_callers_and_many_at_a_time() {
        let mut behind = steps_behind(32, 100).await;
        behind.retain(|steps| *steps > 0);
        assert_eq!(behind, [STEPS_BEHIND_A_CROWD; 3]);
    }

    #[tokio::test]
    async fn few_callers_go_alone_but_never_twice_in_a_row() {
        let behind = steps_behind(3, 4).await;
        assert_eq!(behind, [0, STEPS_BETWEEN_A_FEW, 0, STEPS_BETWEEN_A_FEW]);
    }

    #[tokio::test]
    async fn without_callers_all_steps_go() {
        let (mut intake, _callers, _steps) = intake(200);
        assert_eq!(intake.gather().await.len(), 200);
    }
}
