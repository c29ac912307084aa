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

/// Behind a crowd of callers, a batch takes the result of one step for so many of them…
const CALLERS_A_STEP: usize = 16;
/// …and behind a few, so many: there is time for the flow between them.
const STEPS_FOR_A_FEW: usize = 4;
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
        }
    }

    /// What waits now, or comes next; empty when nobody will come any more.
    pub(super) async fn gather(&mut self) -> Vec<Submission> {
        let mut batch = Vec::new();
        loop {
            self.take(&mut batch);
            if !batch.is_empty() {
                return batch;
            }
            // In a rush, steps go along with callers only.
            let is_for_all = self.is_late || !self.rush.is_on();
            tokio::select! {
                Some(callers) = self.callers.recv() => self.left_over.extend(callers),
                Some(step) = self.steps.recv(), if is_for_all => batch.push(step),
                () = time::sleep(RUSH_CHECK), if !is_for_all => {}
                else => return batch,
            }
        }
    }

    /// Adds to `batch` what waits.
    fn take(&mut self, batch: &mut Vec<Submission>) {
        while self.left_over.len() < MAX_BATCH
            && let Ok(callers) = self.callers.try_recv()
        {
            self.left_over.extend(callers);
        }
        let room = MAX_BATCH.saturating_sub(batch.len());
        let taken = self.left_over.len().min(room);
        self.waiting.fetch_sub(taken, Ordering::Relaxed);
        batch.extend(self.left_over.drain(..taken));
        let share = match batch.len() {
            _ if self.is_late => MAX_BATCH,
            0 if self.rush.is_on() => 0,
            0 => MAX_BATCH,
            few if few < CROWD => STEPS_FOR_A_FEW,
            crowd => crowd.div_ceil(CALLERS_A_STEP),
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
