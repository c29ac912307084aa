//! Claims of steps: one attempt of a step at a time. The next attempt waits until the one before has ended.
//!
//! The commit that decides an attempt sends the message of the step's next attempt, or of a new step of the
//! same kind. That message may arrive before the attempt has received the result of its own commit; dropping
//! it would delay the step until its lease expires.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use crate::domain::step::StepKey;

/// The steps in progress in this process; clones share them.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashMap<StepKey, StepLock>>>);

type StepLock = Arc<tokio::sync::Mutex<()>>;

impl Claims {
    /// Claims the step unless an attempt is in progress.
    pub(super) fn try_claim(&self, key: &StepKey) -> Option<Claim> {
        let mut locks = self.locks();
        let step_lock = Arc::clone(locks.entry(key.clone()).or_default());
        let lock_guard = step_lock.try_lock_owned().ok()?;
        Some(self.claim_of(key, lock_guard))
    }

    /// Claims the step as soon as no other attempt is in progress, in the order of the calls.
    pub(super) async fn claim(&self, key: &StepKey) -> Claim {
        let step_lock = Arc::clone(self.locks().entry(key.clone()).or_default());
        let lock_guard = step_lock.lock_owned().await;
        self.claim_of(key, lock_guard)
    }

    fn claim_of(&self, key: &StepKey, lock_guard: OwnedMutexGuard<()>) -> Claim {
        Claim {
            claims: self.clone(),
            key: key.clone(),
            guard: Some(lock_guard),
        }
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<StepKey, StepLock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claimed step; dropping the claim lets the next attempt begin.
pub(super) struct Claim {
    claims: Claims,
    key: StepKey,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Claim {
    /// Key of the claimed step.
    pub(super) fn key(&self) -> &StepKey {
        &self.key
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut locks = self.claims.locks();
        self.guard = None;
        // Locks are cloned only under the lock of the map, so a lock that only the map holds has no waiting
        // claim.
        if locks
            .get(&self.key)
            .is_some_and(|step_lock| Arc::strong_count(step_lock) == 1)
        {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::join};

    use super::*;
    use crate::domain::step::Step;

    fn key() -> StepKey {
        StepKey {
            order_id: "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap(),
            step: Step::AuthorizePayment,
        }
    }

    #[tokio::test]
    async fn later_attempt_waits_for_the_earlier_one_and_then_runs() {
        let (claims, key) = (Claims::default(), key());
        let first_claim = claims.try_claim(&key).unwrap();
        assert!(claims.try_claim(&key).is_none());
        let mut second_claim = Box::pin(claims.claim(&key));
        assert!((&mut second_claim).now_or_never().is_none());
        let ((), second_claim) = join(async { drop(first_claim) }, second_claim).await;
        assert!(claims.try_claim(&key).is_none());
        drop(second_claim);
        assert!(claims.locks().is_empty());
    }

    #[tokio::test]
    async fn different_steps_do_not_wait_for_each_other() {
        let claims = Claims::default();
        let _claim = claims.claim(&key()).await;
        let other_key = StepKey {
            step: Step::VoidPayment,
            ..key()
        };
        assert!(claims.try_claim(&other_key).is_some());
    }
}
