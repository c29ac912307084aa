//! Limits the number of messages per second, by a token bucket that holds the tokens of one second.

use std::{num::NonZeroU32, time::Instant};

/// A rate limit.
pub(super) struct RateLimiter {
    per_second: f64,
    tokens: f64,
    updated_at: Instant,
}

impl RateLimiter {
    /// A limiter that permits one message at `now`, and `per_second` messages per second from then on.
    pub(super) fn new(per_second: NonZeroU32, now: Instant) -> Self {
        Self {
            per_second: f64::from(per_second.get()),
            tokens: 1.0,
            updated_at: now,
        }
    }

    /// The number of messages that may be sent at `now`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to the rate"
    )]
    pub(super) fn available_permits(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.updated_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second);
        self.updated_at = now;
        self.tokens as usize
    }

    /// Takes a token for a message.
    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rate_limits_messages_per_second_and_saves_up_one_second() {
        let start = Instant::now();
        let time_after = |millis| start + Duration::from_millis(millis);
        let mut limiter = RateLimiter::new(NonZeroU32::new(4).unwrap(), start);
        assert_eq!(limiter.available_permits(time_after(0)), 1);
        limiter.take();
        assert_eq!(limiter.available_permits(time_after(100)), 0);
        assert_eq!(limiter.available_permits(time_after(250)), 1);
        limiter.take();
        let mut sent_count = 2;
        for millis in (250..10_250).step_by(50) {
            for _ in 0..limiter.available_permits(time_after(millis)) {
                limiter.take();
                sent_count += 1;
            }
        }
        assert!((40..=42).contains(&sent_count), "{sent_count}");
        assert_eq!(limiter.available_permits(time_after(3_600_000)), 4);
    }
}
