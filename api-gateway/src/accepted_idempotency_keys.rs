//! Recent idempotency keys of orders that this gateway accepted with `Prefer: respond-async`.
//!
//! A different order with the same key is refused at once with `IDEMPOTENCY_CONFLICT`. This is an early
//! check, not a guarantee: the keys are in memory, and other gateways don't know them. The worker detects
//! every conflict and stores the second order as cancelled. Used by [`crate::worker_client`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

/// Maximum number of keys in memory; the oldest is dropped first.
const MAX_IDEMPOTENCY_KEYS: usize = 10_000;

/// The most recent idempotency keys of asynchronously accepted orders, each with its order id.
#[derive(Default)]
pub(crate) struct AcceptedIdempotencyKeys(Mutex<RecentIdempotencyKeys>);

#[derive(Default)]
struct RecentIdempotencyKeys {
    order_ids_by_key: HashMap<String, Uuid>,
    /// The keys from oldest to newest.
    keys_from_oldest: VecDeque<String>,
}

impl AcceptedIdempotencyKeys {
    /// Records that the order `order_id` is accepted with `idempotency_key`. Returns `false` if the key belongs to
    /// another order.
    pub(crate) fn record(&self, idempotency_key: String, order_id: Uuid) -> bool {
        let mut recent_keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(accepted_id) = recent_keys.order_ids_by_key.get(&idempotency_key) {
            return *accepted_id == order_id;
        }
        if recent_keys.keys_from_oldest.len() >= MAX_IDEMPOTENCY_KEYS
            && let Some(oldest_key) = recent_keys.keys_from_oldest.pop_front()
        {
            recent_keys.order_ids_by_key.remove(&oldest_key);
        }
        recent_keys
            .keys_from_oldest
            .push_back(idempotency_key.clone());
        recent_keys
            .order_ids_by_key
            .insert(idempotency_key, order_id);
        true
    }

    /// Removes the order `order_id`, which was not accepted after all.
    pub(crate) fn forget(&self, order_id: Uuid) {
        let mut recent_keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent_keys
            .order_ids_by_key
            .retain(|_, accepted_id| *accepted_id != order_id);
        let RecentIdempotencyKeys {
            order_ids_by_key,
            keys_from_oldest,
        } = &mut *recent_keys;
        keys_from_oldest.retain(|key| order_ids_by_key.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_one_order_and_the_oldest_keys_are_dropped() {
        let accepted_idempotency_keys = AcceptedIdempotencyKeys::default();
        let (one_id, other_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(accepted_idempotency_keys.record("a".to_owned(), one_id));
        assert!(accepted_idempotency_keys.record("a".to_owned(), one_id));
        assert!(!accepted_idempotency_keys.record("a".to_owned(), other_id));
        accepted_idempotency_keys.forget(one_id);
        assert!(accepted_idempotency_keys.record("a".to_owned(), other_id));
        for number in 0..MAX_IDEMPOTENCY_KEYS {
            assert!(accepted_idempotency_keys.record(number.to_string(), one_id));
        }
        assert!(accepted_idempotency_keys.record("a".to_owned(), one_id));
    }
}
