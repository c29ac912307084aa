//! Collects batches: requests first, but results of steps must not fall behind too far.
//!
//! Under load, step results join requests in groups. With fewer requests, a few join every second batch; and with very
//! few, which leave the engine time, more are decided together at intervals, so that they share commits.
//! Results that are overdue are treated like requests.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use super::{MAX_BATCH, submission::Submission};
use crate::runtime::priority::{HIGH_LOAD, RequestActivity};

/// Under load, one step result is decided per this many requests.
const REQUESTS_PER_STEP_RESULT: usize = 16;
/// Under load, step results are decided in groups of this size, so that their follow-up steps and messages
/// share batches.
const STEP_RESULTS_PER_GROUP: usize = 64;
/// With fewer requests than under load, at most this many step results join every second batch.
const STEP_RESULTS_WITH_REQUESTS: usize = 4;
/// Up to this many requests in a batch are very few: other batches leave the engine no time for more step results.
const VERY_FEW_REQUESTS: usize = 3;
/// With very few requests, at most this many step results are decided at once, alone or with the next requests.
const STEP_RESULTS_BETWEEN_REQUESTS: usize = 16;
/// With very few requests, time from one group of step results to the next: later ones share a batch, and so a commit.
const STEP_RESULTS_INTERVAL: Duration = Duration::from_millis(5);
/// More requests than this since the last group are as many as clients that order one after the other send: their
/// responses wait for each group, so the next group comes after [`LONG_STEP_RESULTS_INTERVAL`].
const MAX_REQUESTS_PER_INTERVAL: usize = 9;
const LONG_STEP_RESULTS_INTERVAL: Duration = Duration::from_millis(10);
/// Interval at which a waiting step result checks whether the load is over.
const LOAD_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// Collects commands into batches.
pub(super) struct Intake {
    requests: mpsc::UnboundedReceiver<Vec<Submission>>,
    /// Commands submitted together that did not fit into the last batch.
    queued_submissions: VecDeque<Submission>,
    /// Number of requests that are not in a batch yet.
    waiting_count: Arc<AtomicUsize>,
    step_results: mpsc::Receiver<Submission>,
    /// Whether step results are overdue and are treated like requests.
    are_results_late: bool,
    activity: Arc<RequestActivity>,
    /// Whether the last batch had many requests.
    was_under_load: bool,
    /// Number of requests since the last step results.
    requests_since_steps: usize,
    /// Time of the last step results.
    last_steps_at: Instant,
}

impl Intake {
    pub(super) fn new(
        request_receiver: mpsc::UnboundedReceiver<Vec<Submission>>,
        waiting_count: Arc<AtomicUsize>,
        step_result_receiver: mpsc::Receiver<Submission>,
        activity: Arc<RequestActivity>,
    ) -> Self {
        Self {
            requests: request_receiver,
            queued_submissions: VecDeque::new(),
            waiting_count,
            step_results: step_result_receiver,
            are_results_late: false,
            activity,
            was_under_load: false,
            requests_since_steps: 0,
            last_steps_at: Instant::now(),
        }
    }

    /// The next batch; empty when all senders are dropped.
    pub(super) async fn collect_batch(&mut self) -> Vec<Submission> {
        let mut first_step_result = None;
        loop {
            let batch = self.take_batch_now(first_step_result.take());
            if !batch.is_empty() {
                return batch;
            }
            // Under load, step results only join requests.
            let accepts_step_results = self.are_results_late
                || !self.activity.expects_requests()
                || !self.was_under_load && !self.is_soon_after_step_results();
            tokio::select! {
                Some(requests) = self.requests.recv() => self.queued_submissions.extend(requests),
                Some(step_result) = self.step_results.recv(), if accepts_step_results => {
                    first_step_result = Some(step_result);
                }
                () = time::sleep(LOAD_CHECK_INTERVAL), if !accepts_step_results => {}
                else => return batch,
            }
        }
    }

    /// Takes the waiting commands, and `first_step_result` if a step result arrived first.
    fn take_batch_now(&mut self, first_step_result: Option<Submission>) -> Vec<Submission> {
        while self.queued_submissions.len() < MAX_BATCH
            && let Ok(submissions) = self.requests.try_recv()
        {
            self.queued_submissions.extend(submissions);
        }
        let request_count = self.queued_submissions.len().min(MAX_BATCH);
        self.waiting_count
            .fetch_sub(request_count, Ordering::Relaxed);
        let mut batch: Vec<_> = self.queued_submissions.drain(..request_count).collect();
        let max_step_results = self.step_result_limit(request_count);
        batch.extend(first_step_result);
        while batch.len() < request_count + max_step_results
            && let Ok(step_result) = self.step_results.try_recv()
        {
            batch.push(step_result);
        }
        let mut step_submissions = batch[request_count..].iter().peekable();
        if step_submissions.peek().is_some() {
            self.last_steps_at = Instant::now();
            self.are_results_late =
                step_submissions.any(|step_submission| step_submission.is_overdue_result);
        }
        batch
    }

    /// Number of step results that may join this many requests.
    fn step_result_limit(&mut self, request_count: usize) -> usize {
        if request_count > 0 {
            self.was_under_load = request_count >= HIGH_LOAD;
        }
        let (max_step_results, requests_since_steps) = match request_count {
            _ if self.are_results_late => (MAX_BATCH, 0),
            0 if self.is_under_load() => (0, self.requests_since_steps),
            0 if !self.activity.expects_requests() => (MAX_BATCH, 0),
            very_few_or_none if very_few_or_none <= VERY_FEW_REQUESTS => {
                if self.is_soon_after_step_results() {
                    (0, self.requests_since_steps + very_few_or_none)
                } else {
                    (STEP_RESULTS_BETWEEN_REQUESTS, 0)
                }
            }
            few_requests if few_requests < HIGH_LOAD => {
                if self.requests_since_steps == 0 {
                    (0, few_requests)
                } else {
                    (STEP_RESULTS_WITH_REQUESTS, 0)
                }
            }
            many_requests => match self.requests_since_steps + many_requests {
                requests_since
                    if requests_since < STEP_RESULTS_PER_GROUP * REQUESTS_PER_STEP_RESULT =>
                {
                    (0, requests_since)
                }
                requests_since => (requests_since / REQUESTS_PER_STEP_RESULT, 0),
            },
        };
        self.requests_since_steps = requests_since_steps;
        max_step_results
    }

    /// Whether the interval since the last step results is not over yet.
    fn is_soon_after_step_results(&self) -> bool {
        self.last_steps_at.elapsed() < self.step_results_interval()
    }

    /// With very few requests, time from one group of step results to the next.
    fn step_results_interval(&self) -> Duration {
        if self.requests_since_steps > MAX_REQUESTS_PER_INTERVAL {
            LONG_STEP_RESULTS_INTERVAL
        } else {
            STEP_RESULTS_INTERVAL
        }
    }

    /// Whether there were many requests a moment ago.
    fn is_under_load(&self) -> bool {
        self.was_under_load && self.activity.expects_requests()
    }
}

#[cfg(test)]
mod tests {
    use shared::id::OrderId;
    use uuid::Uuid;

    use super::*;
    use crate::{
        background::relay::new_outbox,
        domain::{
            command::{Command, StepResult},
            step::{Step, StepKey},
        },
    };

    /// An intake, its request sender, and this many waiting step results.
    fn new_intake(
        waiting_result_count: usize,
    ) -> (
        Intake,
        mpsc::UnboundedSender<Vec<Submission>>,
        mpsc::Sender<Submission>,
    ) {
        let (request_sender, request_receiver) = mpsc::unbounded_channel();
        let (step_sender, step_result_receiver) = mpsc::channel(waiting_result_count);
        for _ in 0..waiting_result_count {
            assert!(step_sender.try_send(test_submission()).is_ok());
        }
        let activity = new_outbox().0.activity();
        let test_intake = Intake::new(
            request_receiver,
            Arc::default(),
            step_result_receiver,
            activity,
        );
        (test_intake, request_sender, step_sender)
    }

    /// The content makes no difference here.
    fn test_submission() -> Submission {
        let command = Command::FinishStep {
            key: StepKey {
                order_id: OrderId::from(Uuid::now_v7()),
                step: Step::ExpireOrder,
            },
            attempt: 1,
            result: StepResult::NoExternalCall,
        };
        Submission::new(command, None, mpsc::unbounded_channel().0, 0)
    }

    /// The number of step results in the batch of this many requests.
    async fn decide_requests(
        intake: &mut Intake,
        request_sender: &mpsc::UnboundedSender<Vec<Submission>>,
        request_count: usize,
    ) -> usize {
        intake
            .waiting_count
            .fetch_add(request_count, Ordering::Relaxed);
        let submissions = (0..request_count).map(|_| test_submission()).collect();
        assert!(request_sender.send(submissions).is_ok());
        intake.collect_batch().await.len() - request_count
    }

    #[tokio::test]
    async fn under_load_one_step_result_is_taken_per_sixteen_requests() {
        let (mut intake, request_sender, _steps) = new_intake(1_000);
        let mut step_result_counts = Vec::new();
        for _ in 0..100 {
            step_result_counts.push(decide_requests(&mut intake, &request_sender, 32).await);
        }
        step_result_counts.retain(|step_result_count| *step_result_count > 0);
        assert_eq!(step_result_counts, [STEP_RESULTS_PER_GROUP; 3]);
    }

    #[tokio::test]
    async fn few_step_results_join_every_second_batch_of_few_requests() {
        let (mut intake, request_sender, _steps) = new_intake(1_000);
        let mut step_result_counts = Vec::new();
        for request_count in [VERY_FEW_REQUESTS + 1, HIGH_LOAD - 1, 5, 5] {
            step_result_counts
                .push(decide_requests(&mut intake, &request_sender, request_count).await);
        }
        let joining_count = STEP_RESULTS_WITH_REQUESTS;
        assert_eq!(step_result_counts, [0, joining_count, 0, joining_count]);
    }

    #[tokio::test]
    async fn a_group_of_step_results_joins_very_few_requests_after_an_interval() {
        let (mut intake, request_sender, _steps) = new_intake(1_000);
        let mut step_result_counts = Vec::new();
        let (now, hour) = (Instant::now(), Duration::from_hours(1));
        for last_steps_at in [now + hour, now - STEP_RESULTS_INTERVAL, now + hour] {
            intake.last_steps_at = last_steps_at;
            step_result_counts
                .push(decide_requests(&mut intake, &request_sender, VERY_FEW_REQUESTS).await);
        }
        assert_eq!(step_result_counts, [0, STEP_RESULTS_BETWEEN_REQUESTS, 0]);
    }

    #[tokio::test]
    async fn interval_is_longer_after_many_requests() {
        let (mut intake, request_sender, _steps) = new_intake(1);
        intake.last_steps_at = Instant::now() + Duration::from_hours(1);
        for interval in [STEP_RESULTS_INTERVAL, LONG_STEP_RESULTS_INTERVAL] {
            for _ in 0..MAX_REQUESTS_PER_INTERVAL / VERY_FEW_REQUESTS {
                decide_requests(&mut intake, &request_sender, VERY_FEW_REQUESTS).await;
            }
            assert_eq!(intake.step_results_interval(), interval);
        }
    }

    #[tokio::test]
    async fn without_requests_all_step_results_are_taken() {
        let (mut intake, _callers, _steps) = new_intake(200);
        assert_eq!(intake.collect_batch().await.len(), 200);
    }
}
