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
use crate::relay::{CROWD, Rush};

/// Behind a crowd of callers, the result of one step is decided for so many of them…
const CALLERS_A_STEP: usize = 16;
/// …so many at a time: what follows from them, at partners and in messages, is shared by as many.
const STEPS_BEHIND_A_CROWD: usize = 64;
/// Few callers are on their way for longer than it takes to decide so many steps: these go in between,
/// and nobody waits long for them.
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
    rush: Arc<Rush>,
    /// Whether the last callers were a crowd.
    was_crowd: bool,
    /// Callers of crowds since steps last went along.
    since_steps: usize,
}

impl Intake {
    pub(super) fn new(
        callers: mpsc::UnboundedReceiver<Vec<Submission>>,
        waiting: Arc<AtomicUsize>,
        steps: mpsc::Receiver<Submission>,
        rush: Arc<Rush>,
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
        match callers {
            _ if self.is_late => MAX_BATCH,
            0 if self.is_crowded() => 0,
            0 if self.rush.is_on() => STEPS_BETWEEN_A_FEW,
            0 => MAX_BATCH,
            few if few < CROWD => 0,
            crowd => {
                self.since_steps += crowd;
                let share = self.since_steps / CALLERS_A_STEP;
                if share < STEPS_BEHIND_A_CROWD {
                    return 0;
                }
                self.since_steps = 0;
                share
            }
        }
    }

    /// Whether a crowd of callers was here just now.
    fn is_crowded(&self) -> bool {
        self.was_crowd && self.rush.is_on()
    }
}
