//! Collects batches: requests first, but results of steps must not fall behind too far.

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
use crate::priority::{HIGH_LOAD, RequestActivity};

/// Under load, one step result is decided per this many requests…
const CALLERS_A_STEP: usize = 16;
/// …in groups of this size, so that their follow-up steps and messages are shared.
const STEPS_BEHIND_A_CROWD: usize = 64;
/// Between a few requests, this many step results are decided as a batch of their own, and at most as many join
/// the next requests.
const STEPS_BETWEEN_A_FEW: usize = 4;
/// Interval at which a waiting step result checks whether the load is over.
const RUSH_CHECK: Duration = Duration::from_millis(1);

/// Collects commands into batches.
pub(super) struct Intake {
    callers: mpsc::UnboundedReceiver<Vec<Submission>>,
    /// Commands submitted together that did not fit into the last batch.
    left_over: VecDeque<Submission>,
    /// Number of requests that are not in a batch yet.
    waiting: Arc<AtomicUsize>,
    steps: mpsc::Receiver<Submission>,
    /// Whether step results are overdue and are treated like requests.
    is_late: bool,
    activity: Arc<RequestActivity>,
    /// Whether the last batch had many requests.
    was_crowd: bool,
    /// Number of requests since the last step results.
    since_steps: usize,
}

impl Intake {
    pub(super) fn new(
        callers: mpsc::UnboundedReceiver<Vec<Submission>>,
        waiting: Arc<AtomicUsize>,
        steps: mpsc::Receiver<Submission>,
        activity: Arc<RequestActivity>,
    ) -> Self {
        Self {
            callers,
            left_over: VecDeque::new(),
            waiting,
            steps,
            is_late: false,
            activity,
            was_crowd: false,
            since_steps: 0,
        }
    }

    /// The next batch; empty when all senders are gone.
    pub(super) async fn gather(&mut self) -> Vec<Submission> {
        let mut first_step = None;
        loop {
            let batch = self.take(first_step.take());
            if !batch.is_empty() {
                return batch;
            }
            // Under load, step results only join requests.
            let is_for_all = self.is_late || !self.is_crowded();
            tokio::select! {
                Some(callers) = self.callers.recv() => self.left_over.extend(callers),
                Some(step) = self.steps.recv(), if is_for_all => first_step = Some(step),
                () = time::sleep(RUSH_CHECK), if !is_for_all => {}
                else => return batch,
            }
        }
    }

    /// Takes the waiting commands, and the step result that came first.
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

    /// Number of step results that may join this many requests.
    fn share_of_steps(&mut self, callers: usize) -> usize {
        if callers > 0 {
            self.was_crowd = callers >= HIGH_LOAD;
        }
        let (share, since_steps) = match callers {
            _ if self.is_late => (MAX_BATCH, 0),
            0 if self.is_crowded() => (0, self.since_steps),
            0 if self.activity.expects_requests() => (STEPS_BETWEEN_A_FEW, 0),
            0 => (MAX_BATCH, 0),
            few if few < HIGH_LOAD && self.since_steps == 0 => (0, few),
            few if few < HIGH_LOAD => (STEPS_BETWEEN_A_FEW, 0),
            crowd => match self.since_steps + crowd {
                since if since < STEPS_BEHIND_A_CROWD * CALLERS_A_STEP => (0, since),
                since => (since / CALLERS_A_STEP, 0),
            },
        };
        self.since_steps = since_steps;
        share
    }

    /// Whether there were many requests a moment ago.
    fn is_crowded(&self) -> bool {
        self.was_crowd && self.activity.expects_requests()
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

    /// An intake, its request sender, and this many waiting step results.
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
        let activity = outbox().0.activity();
        let intake = Intake::new(received, Arc::default(), results, activity);
        (intake, callers, steps)
    }

    /// The content makes no difference here.
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

    /// The number of step results in each of several batches with this many requests.
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
    async fn under_load_one_step_result_is_taken_per_sixteen_requests() {
        let mut behind = steps_behind(32, 100).await;
        behind.retain(|steps| *steps > 0);
        assert_eq!(behind, [STEPS_BEHIND_A_CROWD; 3]);
    }

    #[tokio::test]
    async fn few_requests_alternate_with_batches_of_step_results() {
        let behind = steps_behind(3, 4).await;
        assert_eq!(behind, [0, STEPS_BETWEEN_A_FEW, 0, STEPS_BETWEEN_A_FEW]);
    }

    #[tokio::test]
    async fn without_requests_all_step_results_are_taken() {
        let (mut intake, _callers, _steps) = intake(200);
        assert_eq!(intake.gather().await.len(), 200);
    }
}
