//! Limits the number of concurrent calls to the payment providers, and to the carrier. While the provider is
//! slow, further steps are postponed, so that there is capacity for steps of other providers and for those
//! without a call.
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

/// Maximum number of concurrent calls to payment providers. Each may occupy one message, and enough messages
/// must be left for other steps.
pub(super) const MAX_PAYMENT_CALLS: usize = 128;
/// Maximum number of concurrent calls to the carrier.
pub(super) const MAX_CARRIER_CALLS: usize = 64;
/// A call that takes longer marks the provider as slow. Also the maximum wait for a permit while the provider
/// is not slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);

const _: () = assert!(MAX_PAYMENT_CALLS + MAX_CARRIER_CALLS + 64 <= super::PREFETCH as usize);

/// The permits for calls to one provider.
pub(super) struct Bulkhead {
    permits: Semaphore,
    slow_after: Duration,
    /// Whether the last call was slow, or waiting for a permit has timed out since.
    is_slow: AtomicBool,
}

impl Bulkhead {
    pub(super) fn new(max_calls: usize) -> Self {
        Self {
            permits: Semaphore::new(max_calls),
            slow_after: SLOW_AFTER,
            is_slow: AtomicBool::new(false),
        }
    }

    /// Makes `call` if there is a permit; returns `None` otherwise. A slow provider is called, too, when
    /// there is a permit, which is how its recovery is noticed.
    pub(super) async fn call<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let _permit = self.acquire_permit().await?;
        let started_at = Instant::now();
        let call_result = call.await;
        self.is_slow
            .store(started_at.elapsed() >= self.slow_after, Ordering::Relaxed);
        Some(call_result)
    }

    async fn acquire_permit(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Some(permit);
        }
        if self.is_slow.load(Ordering::Relaxed) {
            return None;
        }
        let permit = time::timeout(self.slow_after, self.permits.acquire()).await;
        if permit.is_err() {
            self.is_slow.store(true, Ordering::Relaxed);
        }
        permit.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::future::{Either, join_all, select};
    use tokio::task::yield_now;

    use super::*;

    const MAX_CALLS: usize = 8;

    #[tokio::test]
    async fn slow_provider_gets_limited_calls_until_one_succeeds() {
        let bulkhead = Bulkhead {
            slow_after: Duration::from_millis(50),
            ..Bulkhead::new(MAX_CALLS)
        };
        let hanging_calls = join_all((0..MAX_CALLS).map(|_| bulkhead.call(pending::<()>())));
        let other_calls = async {
            // The first call waits until the provider is known to be slow.
            assert_eq!(bulkhead.call(ready(())).await, None);
            assert!(bulkhead.is_slow.load(Ordering::Relaxed));
            assert_eq!(bulkhead.call(ready(())).await, None);
        };
        let Either::Right(_) = select(hanging_calls, Box::pin(other_calls)).await else {
            unreachable!("the provider never answers")
        };
        // The calls were dropped.
        assert_eq!(bulkhead.call(ready(1)).await, Some(1));
        assert!(!bulkhead.is_slow.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn call_to_a_slow_provider_fails_without_a_free_permit() {
        let bulkhead = Bulkhead {
            slow_after: Duration::from_millis(50),
            ..Bulkhead::new(MAX_CALLS)
        };
        assert_eq!(
            bulkhead.call(time::sleep(bulkhead.slow_after)).await,
            Some(())
        );
        let hanging_calls = join_all((0..MAX_CALLS).map(|_| bulkhead.call(pending::<()>())));
        let Either::Right((None, _)) =
            select(hanging_calls, Box::pin(bulkhead.call(ready(())))).await
        else {
            unreachable!("there is no free permit")
        };
    }

    #[tokio::test]
    async fn calls_to_a_responsive_provider_wait_for_a_permit() {
        let bulkhead = Bulkhead::new(MAX_CALLS);
        let call_results = join_all((0..3 * MAX_CALLS).map(|_| bulkhead.call(yield_now()))).await;
        assert!(call_results.iter().all(Option::is_some));
    }
}
