//! Slots for listeners of the live feed. Each listener costs a connection and some memory, so their number is
//! limited, and no storefront can occupy all slots.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::{
    id::Storefront,
    outcome::{Code, Failure},
    request::{Caller, Role},
};

/// Maximum number of listeners.
const PLACES: usize = 5_000;
/// Maximum number of listeners of one storefront; the rest is reserved for others.
const PLACES_EACH: usize = 4_500;

/// The slots of a gateway.
#[derive(Default)]
pub(crate) struct ListenerSlots(Mutex<SlotCounts>);

#[derive(Default)]
struct SlotCounts {
    all: usize,
    by_storefront: HashMap<Storefront, usize>,
}

/// An occupied slot; released when dropped.
pub(crate) struct ListenerSlot {
    places: Arc<ListenerSlots>,
    storefront: Option<Storefront>,
}

impl ListenerSlots {
    /// Takes a slot for `caller`.
    ///
    /// # Errors
    /// `UNAVAILABLE` when there is none.
    pub(crate) fn take(self: &Arc<Self>, caller: &Caller) -> Result<ListenerSlot, Failure> {
        let mut taken = self.taken();
        let full = |places: usize, whose: &str| {
            Failure::new(Code::Unavailable, format!("{places} listen already{whose}"))
        };
        if taken.all >= PLACES {
            return Err(full(PLACES, ""));
        }
        let storefront = match caller.role {
            Role::Storefront => Some(caller.storefront.clone()),
            Role::Operator | Role::Admin => None,
        };
        if let Some(storefront) = &storefront {
            let its = taken.by_storefront.entry(storefront.clone()).or_default();
            if *its >= PLACES_EACH {
                return Err(full(PLACES_EACH, " for this storefront"));
            }
            *its += 1;
        }
        taken.all += 1;
        Ok(ListenerSlot {
            places: Arc::clone(self),
            storefront,
        })
    }

    /// Whether there are no listeners.
    pub(crate) fn are_free(&self) -> bool {
        self.taken().all == 0
    }

    fn taken(&self) -> MutexGuard<'_, SlotCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ListenerSlot {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(storefront) = &self.storefront
            && let Some(its) = taken.by_storefront.get_mut(storefront)
        {
            *its -= 1;
            if *its == 0 {
                taken.by_storefront.remove(storefront);
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
            traceparent: None,
        }
    }

    #[test]
    fn listener_slots_are_limited_per_storefront_and_in_total() {
        let places = Arc::new(ListenerSlots::default());
        assert!(places.are_free());
        let (eu, us) = (
            caller(Role::Storefront, "eu"),
            caller(Role::Storefront, "us"),
        );
        let mut taken: Vec<_> = (0..PLACES_EACH)
            .map(|_| places.take(&eu).unwrap())
            .collect();
        let refused = places.take(&eu).err().unwrap();
        assert_eq!(refused.message, "4500 listen already for this storefront");
        taken.push(places.take(&us).unwrap());
        // Operators count for no storefront, whatever their credential names.
        let operator = caller(Role::Operator, "eu");
        taken.extend((PLACES_EACH + 1..PLACES).map(|_| places.take(&operator).unwrap()));
        assert_eq!(
            places.take(&operator).err().unwrap().message,
            "5000 listen already"
        );

        taken.remove(0);
        taken.push(places.take(&eu).unwrap());
        drop(taken);
        assert!(places.are_free());
        assert!(places.taken().by_storefront.is_empty());
    }
}
