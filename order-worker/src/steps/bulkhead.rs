//! A partner that does not answer, or takes its time, has only so many steps wait for it. The others are put
//! off, so that there is room for the steps of those who do answer, and for those that need nobody.
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

/// Calls to a partner at the same time. Each may be the only one of its message, and with this many
/// messages in hand for nothing there must be enough left for the others.
const PLACES: usize = 128;
/// Who takes longer to answer is slow; so long a step waits for a place before that is known.
const PATIENCE: Duration = Duration::from_secs(2);

const _: () = assert!(PLACES + 64 <= super::PREFETCH as usize);

/// The places for calls to one partner.
pub(super) struct Bulkhead {
    places: Semaphore,
    patience: Duration,
    /// Whether the last call took longer, or somebody waited for a place in vain since.
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

    /// Has `call` made when there is a place; `None` when there is none, and it was not made. Even a slow
    /// partner is called if there is one: that is how it is found to be quick again.
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
    async fn for_who_is_slow_only_so_many_wait_until_one_is_answered() {
        let bulkhead = Bulkhead {
            patience: Duration::from_millis(50),
            ..Bulkhead::new()
        };
        let hanging = join_all((0..PLACES).map(|_| bulkhead.call(pending::<()>())));
        let others = async {
            // Nothing is known of the partner yet, and then it is.
            assert_eq!(bulkhead.call(ready(())).await, None);
            assert!(bulkhead.is_slow.load(Ordering::Relaxed));
            assert_eq!(bulkhead.call(ready(())).await, None);
        };
        let Either::Right(_) = select(hanging, Box::pin(others)).await else {
            unreachable!("nobody answers")
        };
        // They were given up waiting for.
        assert_eq!(bulkhead.call(ready(1)).await, Some(1));
        assert!(!bulkhead.is_slow.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn for_who_is_slow_nobody_waits_without_a_place() {
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
    async fn for_who_answers_all_wait_their_turn() {
        let bulkhead = Bulkhead::new();
        let answers = join_all((0..3 * PLACES).map(|_| bulkhead.call(yield_now()))).await;
        assert!(answers.iter().all(Option::is_some));
    }
}
