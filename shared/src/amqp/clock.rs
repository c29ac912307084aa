//! Corrects request deadlines for differences between the clocks of a gateway and its workers.
//!
//! A request carries its deadline as time of day. A worker refuses a request whose deadline has passed by the
//! worker's clock: it may have been delayed in a frozen broker or in the buffers of a frozen worker.
//! Both clocks therefore have to agree. Each reply carries the time at the worker. If it differs from the
//! gateway's time, later requests also carry the deadline by that worker's clock, and the difference is
//! logged once.
//!
//! [`super::rpc_client`] records the clocks; [`super::rpc_server`] evaluates the corrected deadlines.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    header,
    message::{Headers, unix_now},
};

/// Maximum round trip of a reply whose time is used: a slower reply gives the worker's time too imprecisely.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);
/// Smallest difference that is corrected.
const MIN_CORRECTION: Duration = Duration::from_millis(100);
/// A difference that exceeds this by more than the round trip is logged as a warning.
const WARN_DIFFERENCE: Duration = Duration::from_secs(2);
/// Maximum number of workers whose clocks are kept; each start of a worker counts as another worker.
const MAX_TRACKED_WORKERS: usize = 32;

/// The id of this process as a worker.
pub(super) fn worker_id() -> &'static str {
    static WORKER_ID: OnceLock<String> = OnceLock::new();
    WORKER_ID.get_or_init(|| {
        let mut new_id = Uuid::new_v4().simple().to_string();
        new_id.truncate(12);
        new_id
    })
}

/// Reply headers with the worker's id and its current time.
pub(super) fn worker_time_headers() -> Headers {
    Headers::from([
        (header::WORKER.to_owned(), worker_id().to_owned()),
        (
            header::WORKER_TIME.to_owned(),
            unix_now().as_millis().to_string(),
        ),
    ])
}

/// This worker's entry in [`header::WORKER_DEADLINES`], in Unix milliseconds.
pub(super) fn own_deadline(deadlines: &str) -> Option<u64> {
    let mut deadline_pairs = deadlines.split(',').filter_map(|pair| pair.split_once('='));
    let own_pair = deadline_pairs.find(|(worker, _)| *worker == worker_id());
    own_pair.and_then(|(_, deadline)| deadline.parse().ok())
}

/// The clocks of the workers that have replied.
#[derive(Default)]
pub(super) struct WorkerClocks(Mutex<HashMap<String, ClockSample>>);

/// The time at a worker at one instant of this process.
struct ClockSample {
    worker_time: Duration,
    measured_at: Instant,
    is_difference_logged: bool,
}

impl ClockSample {
    /// The worker's current time of day, at most one round trip late.
    fn current_worker_time(&self) -> Duration {
        self.worker_time + self.measured_at.elapsed()
    }
}

impl WorkerClocks {
    /// Records the `worker_time` of `worker` from a reply to a request that was sent `round_trip` ago.
    pub(super) fn record(&self, worker: &str, worker_time: Duration, round_trip: Duration) {
        if round_trip > MAX_ROUND_TRIP {
            return;
        }
        let mut samples_by_worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples_by_worker.len() >= MAX_TRACKED_WORKERS && !samples_by_worker.contains_key(worker)
        {
            let oldest_sample = samples_by_worker
                .iter()
                .min_by_key(|(_, sample)| sample.measured_at);
            if let Some(oldest_worker) = oldest_sample.map(|(worker, _)| worker.clone()) {
                samples_by_worker.remove(&oldest_worker);
            }
        }
        let was_difference_logged = samples_by_worker
            .get(worker)
            .is_some_and(|sample| sample.is_difference_logged);
        let (own_time, max_difference) = (unix_now(), WARN_DIFFERENCE + round_trip);
        let is_different = own_time.abs_diff(worker_time) > max_difference;
        if is_different && !was_difference_logged {
            let difference_seconds = worker_time.as_secs_f64() - own_time.as_secs_f64();
            tracing::warn!(
                worker,
                seconds = difference_seconds,
                "the worker's clock differs from this process's clock; synchronize both (requests carry corrected deadlines until then)"
            );
        }
        let sample = ClockSample {
            worker_time,
            measured_at: Instant::now(),
            is_difference_logged: is_different,
        };
        samples_by_worker.insert(worker.to_owned(), sample);
    }

    /// The value of [`header::WORKER_DEADLINES`] for a deadline in `remaining_time` from now; `None` if no worker's
    /// clock differs.
    pub(super) fn deadlines(&self, remaining_time: Duration) -> Option<String> {
        let samples_by_worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own_time = unix_now();
        let mut deadlines = String::new();
        for (worker, sample) in samples_by_worker.iter() {
            let remote_time = sample.current_worker_time();
            if remote_time.abs_diff(own_time) > MIN_CORRECTION {
                let separator = if deadlines.is_empty() { "" } else { "," };
                let deadline = (remote_time + remaining_time).as_millis();
                let _ = write!(deadlines, "{separator}{worker}={deadline}");
            }
        }
        (!deadlines.is_empty()).then_some(deadlines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_is_corrected_for_workers_with_a_differing_clock() {
        let clocks = WorkerClocks::default();
        clocks.record("same", unix_now(), Duration::from_millis(5));
        assert_eq!(clocks.deadlines(Duration::from_secs(5)), None);
        let hour = Duration::from_hours(1);
        clocks.record(worker_id(), unix_now() + hour, Duration::from_millis(5));
        // Ignored: the reply was too slow to give the worker's time.
        clocks.record(
            "slow",
            unix_now().saturating_sub(hour),
            Duration::from_secs(3),
        );
        let deadlines = clocks.deadlines(Duration::from_secs(5)).unwrap();
        assert!(!deadlines.contains("slow") && !deadlines.contains("same"));
        let local_deadline = Duration::from_millis(own_deadline(&deadlines).unwrap());
        let expected_deadline = unix_now() + hour + Duration::from_secs(5);
        assert!(local_deadline.abs_diff(expected_deadline) < Duration::from_secs(1));
        assert_eq!(own_deadline("x=1,y=2"), None);
    }
}
