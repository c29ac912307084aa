//! Clocks of workers, as a gateway knows them from their replies.
//!
//! A request carries its deadline as time of day, and a worker refuses it once that has passed by the worker's
//! clock, wherever the request was meanwhile: in a frozen broker, or in the buffers of a frozen worker. So both
//! clocks have to agree. Each reply says what time it is at the worker; where that differs from the gateway's
//! clock, requests carry the deadline by that worker's clock as well, and the difference is logged once.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    message::{Headers, unix_now},
    rpc_server::header,
};

/// A reply that took longer says too little about the worker's clock.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);
/// Differences below are not worth correcting.
const CORRECTED: Duration = Duration::from_millis(100);
/// From this difference on an operator is told.
const TOLERANCE: Duration = Duration::from_secs(2);
/// Workers that are remembered; each start of a worker is one.
const MAX_WORKERS: usize = 32;

/// The id of this process as a worker.
pub(super) fn worker_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let mut id = Uuid::new_v4().simple().to_string();
        id.truncate(12);
        id
    })
}

/// The headers by which a reply says what time it is at the worker.
pub(super) fn worker_time() -> Headers {
    Headers::from([
        (header::WORKER.to_owned(), worker_id().to_owned()),
        (
            header::WORKER_TIME.to_owned(),
            unix_now().as_millis().to_string(),
        ),
    ])
}

/// The deadline by the clock of this worker, out of [`header::WORKER_DEADLINES`].
pub(super) fn own_deadline(deadlines: &str) -> Option<u64> {
    let mut pairs = deadlines.split(',').filter_map(|pair| pair.split_once('='));
    let own = pairs.find(|(worker, _)| *worker == worker_id());
    own.and_then(|(_, deadline)| deadline.parse().ok())
}

/// The clocks of the workers that have replied.
#[derive(Default)]
pub(super) struct WorkerClocks(Mutex<HashMap<String, Sample>>);

/// The time at a worker, at an instant of this process.
struct Sample {
    time: Duration,
    at: Instant,
    is_reported: bool,
}

impl Sample {
    /// The worker's time of day now: at most a round trip late.
    fn now(&self) -> Duration {
        self.time + self.at.elapsed()
    }
}

impl WorkerClocks {
    /// Learns from a reply to a request that was sent `round_trip` ago.
    pub(super) fn learn(&self, worker: &str, time: Duration, round_trip: Duration) {
        if round_trip > MAX_ROUND_TRIP {
            return;
        }
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.len() >= MAX_WORKERS && !workers.contains_key(worker) {
            let oldest = workers.iter().min_by_key(|(_, sample)| sample.at);
            if let Some(oldest) = oldest.map(|(worker, _)| worker.clone()) {
                workers.remove(&oldest);
            }
        }
        let known = workers.get(worker).is_some_and(|known| known.is_reported);
        let (ours, tolerance) = (unix_now(), TOLERANCE + round_trip);
        let is_off = ours.abs_diff(time) > tolerance;
        if is_off && !known {
            let seconds = time.as_secs_f64() - ours.as_secs_f64();
            tracing::warn!(
                worker,
                seconds,
                "the worker's clock differs from ours: synchronise both; requests carry corrected deadlines until then"
            );
        }
        let sample = Sample {
            time,
            at: Instant::now(),
            is_reported: is_off,
        };
        workers.insert(worker.to_owned(), sample);
    }

    /// Deadlines in `left` from now by the clocks of workers that differ from ours.
    pub(super) fn deadlines(&self, left: Duration) -> Option<String> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = unix_now();
        let mut deadlines = String::new();
        for (worker, sample) in workers.iter() {
            let theirs = sample.now();
            if theirs.abs_diff(ours) > CORRECTED {
                let separator = if deadlines.is_empty() { "" } else { "," };
                let deadline = (theirs + left).as_millis();
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
        clocks.learn("same", unix_now(), Duration::from_millis(5));
        assert_eq!(clocks.deadlines(Duration::from_secs(5)), None);
        let hour = Duration::from_hours(1);
        clocks.learn(worker_id(), unix_now() + hour, Duration::from_millis(5));
        // Says nothing: it may have been stamped long ago.
        clocks.learn(
            "slow",
            unix_now().saturating_sub(hour),
            Duration::from_secs(3),
        );
        let deadlines = clocks.deadlines(Duration::from_secs(5)).unwrap();
        assert!(!deadlines.contains("slow") && !deadlines.contains("same"));
        let own = Duration::from_millis(own_deadline(&deadlines).unwrap());
        let expected = unix_now() + hour + Duration::from_secs(5);
        assert!(own.abs_diff(expected) < Duration::from_secs(1));
        assert_eq!(own_deadline("x=1,y=2"), None);
    }
}
