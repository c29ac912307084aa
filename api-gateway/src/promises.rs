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

/// The ids of accepted orders by their keys, of the latest keys.
#[derive(Default)]
pub(crate) struct Promises(Mutex<Known>);

#[derive(Default)]
struct Known {
    ids: HashMap<String, Uuid>,
    /// In the order in which they came.
    keys: VecDeque<String>,
}

impl Promises {
    /// Notes that `id` is accepted under `key`; `false` if another one was.
    pub(crate) fn note(&self, key: String, id: Uuid) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.ids.get(&key) {
            return *before == id;
        }
        if known.keys.len() >= MAX_KEYS
            && let Some(oldest) = known.keys.pop_front()
        {
            known.ids.remove(&oldest);
        }
        known.keys.push_back(key.clone());
        known.ids.insert(key, id);
        true
    }

    /// Nothing was accepted under `id` after all.
    pub(crate) fn forget(&self, id: Uuid) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.ids.retain(|_, accepted| *accepted != id);
        let Known { ids, keys } = &mut *known;
        keys.retain(|key| ids.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_stands_for_one_order_and_few_are_remembered() {
        let promises = Promises::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(promises.note("a".to_owned(), one));
        assert!(promises.note("a".to_owned(), one));
        assert!(!promises.note("a".to_owned(), other));
        promises.forget(one);
        assert!(promises.note("a".to_owned(), other));
        for number in 0..MAX_KEYS {
            assert!(promises.note(number.to_string(), one));
        }
        assert!(promises.note("a".to_owned(), one));
    }
}
