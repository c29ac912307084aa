//! Limits the number of calls to a slow partner. Further steps are postponed, so that there is capacity for
//! steps of other partners and for those without a partner.
//!
//! The pattern is Nygard's (Release It!, *Bulkheads* and *Circuit Breaker*).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{self, Instant},
};

/// Maximum number of concurrent calls to a partner. Each may occupy one message, and enough messages must be
/// left for other steps.
const PLACES: usize = 128;
/// A call that takes longer marks the partner as slow; also the maximum wait for a permit while it is not.
const PATIENCE: Duration = Duration::from_secs(2);

const _: () = assert!(PLACES + 64 <= super::PREFETCH as usize);

/// The permits for calls to one partner.
pub(super) struct Bulkhead {
    places: Semaphore,
    patience: Duration,
    /// Whether the last call was slow, or waiting for a permit has timed out since.
    is_slow: AtomicBool,
}

impl Bulkhead {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(PLACES),
            patience: PATIENCE,
            is_slow: AtomicBool::new(false),
        }
    }

    /// Makes `call` if there is a permit; returns `None` otherwise. A slow partner is called as well when there
    /// is one, which is how its recovery is noticed.
    pub(super) async fn call<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let _place = self.place().await?;
        let asked = Instant::now();
        let answer = call.await;
        self.is_slow
            .store(asked.elapsed() >= self.patience, Ordering::Relaxed);
        Some(answer)
    }

    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.places.try_acquire() {
            return Some(place);
        }
        if self.is_slow.load(Ordering::Relaxed) {
            return None;
        }
        let place = time::timeout(self.patience, self.places.acquire()).await;
        if place.is_err() {
            self.is_slow.store(true, Ordering::Relaxed);
        }
        place.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::future::{Either, join_all, select};
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn slow_provider_gets_limited_calls_until_one_succeeds() {
        let bulkhead = Bulkhead {
            patience: Duration::from_millis(50),
            ..Bulkhead::new()
        };
        let hanging = join_all((0..PLACES).map(|_| bulkhead.call(pending::<()>())));
        let others = async {
            // The first call waits, until the partner is known to be slow.
            assert_eq!(bulkhead.call(ready(())).await, None);
            assert!(bulkhead.is_slow.load(Ordering::Relaxed));
            assert_eq!(bulkhead.call(ready(())).await, None);
        };
        let Either::Right(_) = select(hanging, Box::pin(others)).await else {
            unreachable!("nobody answers")
        };
        // The calls were dropped.
        assert_eq!(bulkhead.call(ready(1)).await, Some(1));
        assert!(!bulkhead.is_slow.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn call_to_a_slow_provider_fails_without_a_free_permit() {
        let bulkhead = Bulkhead {
            patience: Duration::from_millis(50),
            ..Bulkhead::new()
        };
        assert_eq!(
            bulkhead.call(time::sleep(bulkhead.patience)).await,
            Some(())
        );
        let hanging = join_all((0..PLACES).map(|_| bulkhead.call(pending::<()>())));
        let Either::Right((None, _)) = select(hanging, Box::pin(bulkhead.call(ready(())))).await
        else {
            unreachable!("there is no place")
        };
    }

    #[tokio::test]
    async fn calls_to_a_responsive_provider_wait_for_a_permit() {
        let bulkhead = Bulkhead::new();
        let answers = join_all((0..3 * PLACES).map(|_| bulkhead.call(yield_now()))).await;
        assert!(answers.iter().all(Option::is_some));
    }
}
