//! Slots for clients that listen to the live event feed ([`crate::feed`]).
//!
//! Each listener needs a connection and memory, so their number is limited, in total and for each storefront:
//! no storefront can occupy all slots. A slot is released when its listener is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::{
    id::Storefront,
    outcome::{Code, Failure},
    request::{Caller, Role},
};

/// Maximum number of listeners of one gateway.
const MAX_LISTENERS: usize = 5_000;
/// Maximum number of listeners of one storefront.
const MAX_LISTENERS_PER_STOREFRONT: usize = 4_500;

/// The listener slots of this gateway.
#[derive(Default)]
pub(crate) struct ListenerSlots(Mutex<SlotCounts>);

#[derive(Default)]
struct SlotCounts {
    total_listeners: usize,
    by_storefront: HashMap<Storefront, usize>,
}

/// An occupied slot, released when dropped.
pub(crate) struct ListenerSlot {
    slots: Arc<ListenerSlots>,
    storefront: Option<Storefront>,
}

impl ListenerSlots {
    /// Takes a slot for `caller`. Operators and admins count for no storefront.
    ///
    /// # Errors
    /// `UNAVAILABLE` when all slots, or all slots of the caller's storefront, are occupied.
    pub(crate) fn acquire(self: &Arc<Self>, caller: &Caller) -> Result<ListenerSlot, Failure> {
        let mut counts = self.lock_counts();
        let occupied_failure = |limit: usize, scope: &str| {
            Failure::new(
                Code::Unavailable,
                format!("all {limit} listener slots{scope} are occupied; try again later"),
            )
        };
        if counts.total_listeners >= MAX_LISTENERS {
            return Err(occupied_failure(MAX_LISTENERS, ""));
        }
        let storefront = match caller.role {
            Role::Storefront => Some(caller.storefront.clone()),
            Role::Operator | Role::Admin => None,
        };
        if let Some(storefront) = &storefront {
            let count = counts.by_storefront.entry(storefront.clone()).or_default();
            if *count >= MAX_LISTENERS_PER_STOREFRONT {
                return Err(occupied_failure(
                    MAX_LISTENERS_PER_STOREFRONT,
                    " of this storefront",
                ));
            }
            *count += 1;
        }
        counts.total_listeners += 1;
        Ok(ListenerSlot {
            slots: Arc::clone(self),
            storefront,
        })
    }

    /// Whether there are no listeners.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock_counts().total_listeners == 0
    }

    fn lock_counts(&self) -> MutexGuard<'_, SlotCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ListenerSlot {
    fn drop(&mut self) {
        let mut counts = self.slots.lock_counts();
        counts.total_listeners -= 1;
        if let Some(storefront) = &self.storefront
            && let Some(count) = counts.by_storefront.get_mut(storefront)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_storefront.remove(storefront);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, storefront: &str) -> Caller {
        Caller {
            role,
            storefront: storefront.parse().unwrap(),
            actor: "a".to_owned(),
            intent: "event.listen".to_owned(),
            request_id: "r".to_owned(),
            trace_context: None,
        }
    }

    #[test]
    fn listener_slots_are_limited_per_storefront_and_in_total() {
        let slots = Arc::new(ListenerSlots::default());
        assert!(slots.is_empty());
        let (eu_caller, us_caller) = (
            caller(Role::Storefront, "eu"),
            caller(Role::Storefront, "us"),
        );
        let mut occupied_slots: Vec<_> = (0..MAX_LISTENERS_PER_STOREFRONT)
            .map(|_| slots.acquire(&eu_caller).unwrap())
            .collect();
        let failure = slots.acquire(&eu_caller).err().unwrap();
        assert_eq!(
            failure.message,
            "all 4500 listener slots of this storefront are occupied; try again later"
        );
        occupied_slots.push(slots.acquire(&us_caller).unwrap());
        // Operators count for no storefront, even if their credential names one.
        let operator_caller = caller(Role::Operator, "eu");
        occupied_slots.extend(
            (MAX_LISTENERS_PER_STOREFRONT + 1..MAX_LISTENERS)
                .map(|_| slots.acquire(&operator_caller).unwrap()),
        );
        assert_eq!(
            slots.acquire(&operator_caller).err().unwrap().message,
            "all 5000 listener slots are occupied; try again later"
        );

        occupied_slots.remove(0);
        occupied_slots.push(slots.acquire(&eu_caller).unwrap());
        drop(occupied_slots);
        assert!(slots.is_empty());
        assert!(slots.lock_counts().by_storefront.is_empty());
    }
}
