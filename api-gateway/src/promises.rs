//! Idempotency keys under which this gateway has accepted orders lately with `Prefer: respond-async`: another
//! order under the same key is refused at once. This is a courtesy: a conflict that this gateway does not know
//! of is found by the worker, which stores the second order as cancelled.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

/// Keys that are remembered at most.
const MAX_KEYS: usize = 10_000;

/// The orders of accepted orders by their keys, of the latest keys.
#[derive(Default)]
pub(crate) struct AcceptedKeys(Mutex<RecentKeys>);

#[derive(Default)]
struct RecentKeys {
    orders: HashMap<String, Uuid>,
    /// In the order in which they came.
    keys: VecDeque<String>,
}

impl AcceptedKeys {
    /// Notes that `id` is accepted under `key`; `false` if another one was.
    pub(crate) fn record(&self, key: String, id: Uuid) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(accepted) = recent.orders.get(&key) {
            return *accepted == id;
        }
        if recent.keys.len() >= MAX_KEYS
            && let Some(oldest) = recent.keys.pop_front()
        {
            recent.orders.remove(&oldest);
        }
        recent.keys.push_back(key.clone());
        recent.orders.insert(key, id);
        true
    }

    /// Nothing was accepted under `id` after all.
    pub(crate) fn forget(&self, id: Uuid) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.orders.retain(|_, accepted| *accepted != id);
        let RecentKeys { orders, keys } = &mut *recent;
        keys.retain(|key| orders.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_stands_for_one_order_and_few_are_remembered() {
        let accepted_keys = AcceptedKeys::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(accepted_keys.record("a".to_owned(), one));
        assert!(accepted_keys.record("a".to_owned(), one));
        assert!(!accepted_keys.record("a".to_owned(), other));
        accepted_keys.forget(one);
        assert!(accepted_keys.record("a".to_owned(), other));
        for number in 0..MAX_KEYS {
            assert!(accepted_keys.record(number.to_string(), one));
        }
        assert!(accepted_keys.record("a".to_owned(), one));
    }
}
