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
/// within [`NEXT_CROWD`].
pub(crate) const CROWD: usize = 8;
const NEXT_CROWD: Duration = Duration::from_millis(50);
/// Time within which the next request is expected after a batch of fewer requests.
const NEXT_CALLER: Duration = Duration::from_millis(3);
/// Delay before the next step messages while requests are expected; meanwhile more steps collect for the same
/// message.
const STEPS_REST: BackgroundDelay = BackgroundDelay {
    times: 9,
    longest: Duration::from_millis(200),
};
/// Delay of event publishing under high load. Publishing costs the broker most, and no order waits for an
/// event.
const EVENTS_REST_BEHIND_A_CROWD: BackgroundDelay = BackgroundDelay {
    times: 30,
    longest: Duration::from_millis(500),
};
/// Delay of event publishing under lower load.
const EVENTS_REST: BackgroundDelay = BackgroundDelay {
    times: 4,
    longest: Duration::from_millis(200),
};

/// Recent load: requests and step results in the engine's last batches.
pub struct RequestActivity {
    start: Instant,
    until: BusyUntil,
}

/// Times until which more work is expected, in microseconds since the start.
#[derive(Default)]
struct BusyUntil {
    callers: AtomicU64,
    crowd: AtomicU64,
    flow: AtomicU64,
}

/// Delay for background work: a multiple of the time it has just worked, up to a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BackgroundDelay {
    /// Multiple of the time worked.
    times: u32,
    /// Maximum delay.
    longest: Duration,
}

impl RequestActivity {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            until: BusyUntil::default(),
        }
    }

    /// Records the number of requests and step results in a batch.
    pub(crate) fn note(&self, callers: usize, steps: usize) {
        self.until.note(self.now_us(), callers, steps);
    }

    /// Whether more requests are expected soon.
    pub(crate) fn is_on(&self) -> bool {
        self.now_us() < self.until.callers.load(Ordering::Relaxed)
    }

    /// Delay before the next step messages, if any.
    pub(crate) fn rest_of_steps(&self) -> Option<BackgroundDelay> {
        self.is_on().then_some(STEPS_REST)
    }

    /// Delay before the next events, if any.
    pub(crate) fn rest_of_events(&self) -> Option<BackgroundDelay> {
        self.until.rest_of_events(self.now_us())
    }

    fn now_us(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

impl BusyUntil {
    fn note(&self, now_us: u64, callers: usize, steps: usize) {
        let expect = |until_us: &AtomicU64, within| {
            until_us.fetch_max(now_us + micros(within), Ordering::Relaxed);
        };
        if callers >= CROWD {
            expect(&self.crowd, NEXT_CROWD);
            expect(&self.callers, NEXT_CROWD);
        } else if callers > 0 {
            expect(&self.callers, NEXT_CALLER);
        }
        if steps >= CROWD {
            expect(&self.flow, NEXT_CROWD);
        }
    }

    fn rest_of_events(&self, now_us: u64) -> Option<BackgroundDelay> {
        let is_before = |until_us: &AtomicU64| now_us < until_us.load(Ordering::Relaxed);
        if is_before(&self.crowd) {
            return Some(EVENTS_REST_BEHIND_A_CROWD);
        }
        (is_before(&self.callers) || is_before(&self.flow)).then_some(EVENTS_REST)
    }
}

impl BackgroundDelay {
    /// Sleeps, given the time just worked.
    pub(crate) async fn after(self, worked: Duration) {
        time::sleep((worked * self.times).min(self.longest)).await;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_publishing_is_delayed_while_requests_or_steps_are_expected() {
        for (callers, steps, rest, lasts) in [
            (0, CROWD - 1, None, NEXT_CROWD),
            (0, CROWD, Some(EVENTS_REST), NEXT_CROWD),
            (1, 0, Some(EVENTS_REST), NEXT_CALLER),
            (CROWD, 0, Some(EVENTS_REST_BEHIND_A_CROWD), NEXT_CROWD),
            (CROWD, CROWD, Some(EVENTS_REST_BEHIND_A_CROWD), NEXT_CROWD),
        ] {
            let until = BusyUntil::default();
            until.note(100, callers, steps);
            let over = 100 + micros(lasts);
            assert_eq!(until.rest_of_events(over - 1), rest, "{callers} {steps}");
            assert_eq!(until.rest_of_events(over), None, "{callers} {steps}");
        }
    }

    #[test]
    fn few_requests_do_not_shorten_the_delay_set_by_a_crowd() {
        let until = BusyUntil::default();
        until.note(0, CROWD, 0);
        until.note(1, 1, 0);
        let last = micros(NEXT_CROWD) - 1;
        assert_eq!(until.rest_of_events(last), Some(EVENTS_REST_BEHIND_A_CROWD));
    }
}
