//! Foreground before background work: delays the sending of steps and the publishing of events while client
//! requests are arriving. The engine reports each batch to [`RequestActivity`]; the relay, the statistics and
//! the webhook dispatcher ask it for the length of their pauses. A delay is bounded, so background work
//! always proceeds.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{self, Instant};

/// A batch with at least this many requests, or step results, counts as high load. More are then expected
/// within [`HIGH_LOAD_WINDOW`].
pub(crate) const HIGH_LOAD: usize = 8;
const HIGH_LOAD_WINDOW: Duration = Duration::from_millis(50);
/// Time within which the next request is expected after a batch of fewer requests.
const REQUEST_WINDOW: Duration = Duration::from_millis(3);
/// Delay before the next step messages while requests are expected; meanwhile more steps collect for the same
/// message.
const STEPS_DELAY: BackgroundDelay = BackgroundDelay {
    pause_factor: 9,
    max_pause: Duration::from_millis(200),
};
/// Delay of event publishing under high load. Publishing costs the broker most, and no order waits for an
/// event.
const EVENTS_DELAY_UNDER_HIGH_LOAD: BackgroundDelay = BackgroundDelay {
    pause_factor: 30,
    max_pause: Duration::from_millis(500),
};
/// Delay of event publishing under lower load.
const EVENTS_DELAY: BackgroundDelay = BackgroundDelay {
    pause_factor: 4,
    max_pause: Duration::from_millis(200),
};

/// Recent load: requests and step results in the engine's last batches.
pub struct RequestActivity {
    started_at: Instant,
    busy_until: BusyUntil,
}

/// Times until which more work is expected, in microseconds since the start.
#[derive(Default)]
struct BusyUntil {
    request_window_end: AtomicU64,
    many_requests_until: AtomicU64,
    many_steps_until: AtomicU64,
}

/// Delay for background work: a multiple of the time it has just worked, up to a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BackgroundDelay {
    /// Multiple of the time worked.
    pause_factor: u32,
    /// Maximum delay.
    max_pause: Duration,
}

impl RequestActivity {
    pub(crate) fn new() -> Self {
        Self {
            started_at: Instant::now(),
            busy_until: BusyUntil::default(),
        }
    }

    /// Records the number of requests and step results in a batch.
    pub(crate) fn record_batch(&self, request_count: usize, step_result_count: usize) {
        self.busy_until
            .record_batch(self.now_us(), request_count, step_result_count);
    }

    /// Whether more requests are expected soon.
    pub(crate) fn expects_requests(&self) -> bool {
        self.now_us() < self.busy_until.request_window_end.load(Ordering::Relaxed)
    }

    /// Delay before the next step messages, if any.
    pub(crate) fn steps_delay(&self) -> Option<BackgroundDelay> {
        self.expects_requests().then_some(STEPS_DELAY)
    }

    /// Delay before the next events, if any.
    pub(crate) fn events_delay(&self) -> Option<BackgroundDelay> {
        self.busy_until.events_delay(self.now_us())
    }

    fn now_us(&self) -> u64 {
        as_micros(self.started_at.elapsed())
    }
}

impl BusyUntil {
    fn record_batch(&self, now_us: u64, request_count: usize, step_result_count: usize) {
        let extend_until = |until_us: &AtomicU64, duration| {
            until_us.fetch_max(now_us + as_micros(duration), Ordering::Relaxed);
        };
        if request_count >= HIGH_LOAD {
            extend_until(&self.many_requests_until, HIGH_LOAD_WINDOW);
            extend_until(&self.request_window_end, HIGH_LOAD_WINDOW);
        } else if request_count > 0 {
            extend_until(&self.request_window_end, REQUEST_WINDOW);
        }
        if step_result_count >= HIGH_LOAD {
            extend_until(&self.many_steps_until, HIGH_LOAD_WINDOW);
        }
    }

    fn events_delay(&self, now_us: u64) -> Option<BackgroundDelay> {
        let is_before = |until_us: &AtomicU64| now_us < until_us.load(Ordering::Relaxed);
        if is_before(&self.many_requests_until) {
            return Some(EVENTS_DELAY_UNDER_HIGH_LOAD);
        }
        (is_before(&self.request_window_end) || is_before(&self.many_steps_until))
            .then_some(EVENTS_DELAY)
    }
}

impl BackgroundDelay {
    /// Sleeps, given the time just worked.
    pub(crate) async fn sleep_after(self, work_time: Duration) {
        time::sleep((work_time * self.pause_factor).min(self.max_pause)).await;
    }
}

fn as_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::runtime::priority::*;

    #[test]
    fn event_publishing_is_delayed_while_requests_or_steps_are_expected() {
        for (requests, steps, delay, window) in [
            (0, HIGH_LOAD - 1, None, HIGH_LOAD_WINDOW),
            (0, HIGH_LOAD, Some(EVENTS_DELAY), HIGH_LOAD_WINDOW),
            (1, 0, Some(EVENTS_DELAY), REQUEST_WINDOW),
            (
                HIGH_LOAD,
                0,
                Some(EVENTS_DELAY_UNDER_HIGH_LOAD),
                HIGH_LOAD_WINDOW,
            ),
            (
                HIGH_LOAD,
                HIGH_LOAD,
                Some(EVENTS_DELAY_UNDER_HIGH_LOAD),
                HIGH_LOAD_WINDOW,
            ),
        ] {
            let busy_until = BusyUntil::default();
            busy_until.record_batch(100, requests, steps);
            let after_window = 100 + as_micros(window);
            assert_eq!(
                busy_until.events_delay(after_window - 1),
                delay,
                "{requests} {steps}"
            );
            assert_eq!(
                busy_until.events_delay(after_window),
                None,
                "{requests} {steps}"
            );
        }
    }

    #[test]
    fn few_requests_do_not_shorten_the_delay_set_by_many() {
        let busy_until = BusyUntil::default();
        busy_until.record_batch(0, HIGH_LOAD, 0);
        busy_until.record_batch(1, 1, 0);
        let last_micros = as_micros(HIGH_LOAD_WINDOW) - 1;
        assert_eq!(
            busy_until.events_delay(last_micros),
            Some(EVENTS_DELAY_UNDER_HIGH_LOAD)
        );
    }
}
