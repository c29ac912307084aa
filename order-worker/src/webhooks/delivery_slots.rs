//! Limits the concurrency of webhook attempts per endpoint, so that slow or dead endpoints don't delay the
//! others.
//!
//! Each attempt occupies one of a limited number of slots. An endpoint is slow while one of its attempts
//! takes long, and for some time after that. Slow endpoints share slots of their own; the more slow
//! endpoints, the fewer slots each. Endpoints that succeed repeatedly are trusted: they get more of the free
//! slots, so that distant endpoints reach a sufficient rate. An endpoint that refuses many deliveries in a
//! row is paused: it gets single trials until one succeeds. The state is in memory and per worker.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use shared::id::EndpointId;

/// Slots for endpoints that are not slow.
const PLACES: usize = 64;
/// Maximum number of slots of a single endpoint that is not trusted. Half of them are allocated at once.
const PLACES_EACH: usize = 8;
/// Number of successes in a row after which an endpoint is trusted, the time for which it stays trusted, and
/// the number of slots that trusted endpoints may not use.
const TAKEN: u32 = 8;
const TRUSTED: Duration = Duration::from_secs(10);
const SPARE: usize = 16;
/// Maximum number of slots of a trusted endpoint.
const MOST_EACH: usize = 32;
/// Slots shared by slow endpoints.
const SLOW_PLACES: usize = 192;
/// Total number of slots. An endpoint that becomes slow keeps its attempts in progress.
const PLACES_IN_ALL: usize = PLACES + SLOW_PLACES;
/// Response time from which on an endpoint is slow.
const SLOW: Duration = Duration::from_secs(2);
/// Time for which an endpoint stays slow, unless it responds quickly.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Number of refusals in a row after which an endpoint is paused.
const REFUSALS: u32 = 16;
/// Slots for trials of paused endpoints.
const TRIALS: usize = 32;
/// Minimum pause between trials. The pause is a tenth of the time for which the endpoint has refused.
const REST: Duration = Duration::from_secs(1);
/// Maximum pause between trials.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// The attempts of this worker, by endpoint.
#[derive(Default)]
pub(super) struct DeliverySlots(Mutex<HashMap<EndpointId, Attempts>>);

#[derive(Default)]
struct Attempts {
    /// Start times of the attempts in progress.
    under_way: Vec<Instant>,
    /// Time until which the endpoint counts as slow.
    slow_until: Option<Instant>,
    /// Refusals since the last success.
    refusals: Option<Refusals>,
    /// Number of quick successes since the last failure, and the time of the last one.
    taken: Option<(u32, Instant)>,
}

struct Refusals {
    count: u32,
    first: Instant,
    last: Instant,
    /// Time of the last trial.
    trial: Instant,
}

impl Refusals {
    /// The pause before the next trial.
    fn rest(&self) -> Duration {
        let refuses_for = self.last.duration_since(self.first);
        (refuses_for / 10).clamp(REST, LONGEST_REST)
    }
}

impl Attempts {
    fn is_slow(&self, now: Instant) -> bool {
        let lingers = |began: &Instant| now.duration_since(*began) >= SLOW;
        self.slow_until.is_some_and(|until| now < until) || self.under_way.iter().any(lingers)
    }

    /// The refusals, if the endpoint is paused.
    fn takes_nothing(&self) -> Option<&Refusals> {
        let refusals = self.refusals.as_ref();
        refusals.filter(|refusals| refusals.count >= REFUSALS)
    }

    fn is_trusted(&self, now: Instant) -> bool {
        self.taken
            .is_some_and(|(count, last)| count >= TAKEN && now.duration_since(last) < TRUSTED)
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        let is_old = |refusals: &Refusals| now.duration_since(refusals.last) >= REMEMBERED;
        let is_unknown = !self.is_slow(now) && self.refusals.as_ref().is_none_or(is_old);
        let was_taken = |(_, last): (u32, Instant)| now.duration_since(last) < TRUSTED;
        self.under_way.is_empty() && is_unknown && !self.taken.is_some_and(was_taken)
    }
}

/// The slots available now, by kind of endpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SlotAllocation {
    /// Slots for endpoints that are not slow.
    pub(super) places: usize,
    /// Maximum number of these for a single endpoint.
    pub(super) each: usize,
    /// Endpoints that get none of these slots: at their limit, slow, or paused.
    pub(super) full: Vec<EndpointId>,
    /// Endpoints that are served after the others, since they have attempts in progress.
    pub(super) occupied: Vec<EndpointId>,
    /// Additional slots for trusted endpoints.
    pub(super) trusted_places: usize,
    /// Maximum number of these for a single endpoint.
    pub(super) trusted_each: usize,
    /// The trusted endpoints.
    pub(super) trusted: Vec<EndpointId>,
    /// Slots for slow endpoints.
    pub(super) slow_places: usize,
    /// Maximum number of these for a single endpoint.
    pub(super) slow_each: usize,
    /// The slow endpoints.
    pub(super) slow: Vec<EndpointId>,
    /// Paused endpoints that get a trial: one delivery each.
    pub(super) tried: Vec<EndpointId>,
}

impl DeliverySlots {
    /// Computes the available slots.
    pub(super) fn room(&self, now: Instant) -> SlotAllocation {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|_, attempts| !attempts.is_forgotten(now));
        let mut room = SlotAllocation {
            each: PLACES_EACH / 2,
            ..SlotAllocation::default()
        };
        let (mut taken, mut slow, mut trusted) = (0, Vec::new(), Vec::new());
        let (mut trials, mut rested) = (0, Vec::new());
        for (id, attempts) in endpoints.iter() {
            let count = attempts.under_way.len();
            if let Some(refusals) = attempts.takes_nothing() {
                trials += count;
                room.full.push(*id);
                if count == 0 && now.duration_since(refusals.last) >= refusals.rest() {
                    rested.push((refusals.trial, *id));
                }
            } else if attempts.is_slow(now) {
                slow.push((*id, count));
                room.full.push(*id);
            } else {
                taken += count;
                if attempts.is_trusted(now) {
                    trusted.push((*id, count));
                }
                if count > PLACES_EACH / 2 {
                    room.full.push(*id);
                } else {
                    room.occupied.push(*id);
                }
            }
        }
        let share = (SLOW_PLACES / slow.len().max(1)).clamp(1, PLACES_EACH);
        (room.slow_each, room.slow) = with_room(&slow, share);
        let slow_taken: usize = slow.iter().map(|(_, count)| count).sum();
        room.slow_places = SLOW_PLACES.saturating_sub(slow_taken);
        let left = PLACES_IN_ALL.saturating_sub(taken + slow_taken);
        room.places = PLACES.saturating_sub(taken).min(left);
        let share = (PLACES - SPARE) / trusted.len().max(1);
        (room.trusted_each, room.trusted) =
            with_room(&trusted, share.clamp(PLACES_EACH, MOST_EACH));
        room.trusted_places = room.places.saturating_sub(SPARE);
        // The endpoint whose last trial is the oldest comes first. The time of the trial is set even if no
        // delivery is due.
        rested.sort_unstable();
        rested.truncate(TRIALS.saturating_sub(trials));
        room.tried = rested.into_iter().map(|(_, id)| id).collect();
        for id in &room.tried {
            let attempts = endpoints.get_mut(id);
            if let Some(refusals) = attempts.and_then(|attempts| attempts.refusals.as_mut()) {
                refusals.trial = now;
            }
        }
        room
    }

    /// Occupies a slot until the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, id: EndpointId) -> SlotGuard {
        let began = Instant::now();
        self.began(id, began);
        SlotGuard {
            in_hand: Arc::clone(self),
            id,
            began,
            was_taken: None,
        }
    }

    fn began(&self, id: EndpointId, now: Instant) {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.entry(id).or_default().under_way.push(now);
    }

    fn end(&self, id: EndpointId, began: Instant, was_taken: Option<bool>, now: Instant) {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(attempts) = endpoints.get_mut(&id) else {
            return;
        };
        let index = attempts.under_way.iter().position(|other| *other == began);
        let Some(index) = index else {
            return;
        };
        attempts.under_way.swap_remove(index);
        let took_long = now.duration_since(began) >= SLOW;
        attempts.slow_until = took_long.then(|| now + REMEMBERED);
        match was_taken {
            None => {}
            Some(true) => {
                attempts.refusals = None;
                let before = attempts.taken.map_or(0, |(count, _)| count);
                attempts.taken = (!took_long).then(|| (before.saturating_add(1), now));
            }
            Some(false) => {
                attempts.taken = None;
                let refusals = attempts.refusals.get_or_insert(Refusals {
                    count: 0,
                    first: now,
                    last: now,
                    trial: now,
                });
                refusals.count = refusals.count.saturating_add(1);
                refusals.last = now;
            }
        }
    }
}

/// Half of `share`, and the `endpoints` (with their attempts in progress) for which that many slots are free.
fn with_room(endpoints: &[(EndpointId, usize)], share: usize) -> (usize, Vec<EndpointId>) {
    let each = share.div_ceil(2);
    let has_room = |(_, count): &&(EndpointId, usize)| count + each <= share;
    let ids = endpoints.iter().filter(has_room).map(|(id, _)| *id);
    (each, ids.collect())
}

/// An attempt in progress, which occupies a slot until it is dropped.
pub(super) struct SlotGuard {
    in_hand: Arc<DeliverySlots>,
    id: EndpointId,
    began: Instant,
    was_taken: Option<bool>,
}

impl SlotGuard {
    /// Records whether the endpoint accepted the delivery.
    pub(super) fn answered(&mut self, was_taken: bool) {
        self.was_taken = Some(was_taken);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.in_hand
            .end(self.id, self.began, self.was_taken, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    struct Fixture {
        in_hand: DeliverySlots,
        under_way: Vec<(EndpointId, Instant)>,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                in_hand: DeliverySlots::default(),
                under_way: Vec::new(),
                now: Instant::now(),
            }
        }

        fn begin(&mut self, id: EndpointId, attempts: usize) {
            for _ in 0..attempts {
                self.in_hand.began(id, self.now);
                self.under_way.push((id, self.now));
            }
        }

        fn end_all(&mut self) {
            for (id, began) in self.under_way.drain(..) {
                self.in_hand.end(id, began, None, self.now);
            }
        }

        /// Ends all attempts in progress with this result.
        fn answer_all(&mut self, was_taken: bool) {
            for (id, began) in self.under_way.drain(..) {
                self.in_hand.end(id, began, Some(was_taken), self.now);
            }
        }

        fn room(&self) -> SlotAllocation {
            self.in_hand.room(self.now)
        }
    }

    fn new_endpoint_id() -> EndpointId {
        Uuid::now_v7().into()
    }

    #[test]
    fn endpoint_has_a_limit_of_concurrent_deliveries() {
        let (mut fixture, id) = (Fixture::new(), new_endpoint_id());
        fixture.begin(id, 4);
        assert_eq!(fixture.room().occupied, [id]);
        fixture.begin(id, 4);
        let room = fixture.room();
        assert_eq!(
            (room.places, room.full, room.slow),
            (PLACES - 8, vec![id], vec![])
        );
        fixture.end_all();
        assert_eq!(fixture.room(), Fixture::new().room());
    }

    #[test]
    fn fewer_successful_endpoints_get_more_slots_each() {
        for (endpoints, each) in [(1, 32), (2, 24), (4, 12), (6, 8)] {
            let mut fixture = Fixture::new();
            let mut crowd: Vec<_> = (0..endpoints).map(|_| new_endpoint_id()).collect();
            crowd.sort();
            for id in &crowd {
                fixture.begin(*id, 8);
            }
            fixture.answer_all(true);
            for half in 0..2 {
                let mut room = fixture.room();
                room.trusted.sort();
                assert_eq!((room.trusted_each, &room.trusted), (each / 2, &crowd));
                assert_eq!(room.trusted_places, 48 - half * endpoints * each / 2);
                for id in &crowd {
                    fixture.begin(*id, each / 2);
                }
            }
            // Some slots stay reserved for endpoints that are not trusted.
            let room = fixture.room();
            assert_eq!((room.trusted, room.full.len()), (vec![], endpoints));
            assert!(room.places >= SPARE);

            // A single refusal ends the trust.
            fixture.answer_all(false);
            assert_eq!(fixture.room().trusted, []);
        }
        let (mut fixture, id) = (Fixture::new(), new_endpoint_id());
        fixture.begin(id, 8);
        fixture.answer_all(true);
        fixture.now += TRUSTED;
        assert_eq!(fixture.room(), Fixture::new().room());
    }

    #[test]
    fn slow_endpoint_gives_up_its_slots_until_it_is_fast_again() {
        let (mut fixture, id) = (Fixture::new(), new_endpoint_id());
        fixture.begin(id, 8);
        fixture.now += SLOW;
        let room = fixture.room();
        assert_eq!((room.places, room.slow_places), (PLACES, SLOW_PLACES - 8));
        assert_eq!((room.full, room.slow), (vec![id], vec![]));
        fixture.end_all();
        let room = fixture.room();
        assert_eq!((room.full, room.slow), (vec![id], vec![id]));

        // An endpoint is no longer slow after a quick response, or after some time.
        fixture.begin(id, 1);
        fixture.end_all();
        assert_eq!(fixture.room(), Fixture::new().room());
        fixture.begin(id, 1);
        fixture.now += SLOW;
        fixture.end_all();
        fixture.now += REMEMBERED;
        assert_eq!(fixture.room(), Fixture::new().room());
    }

    #[test]
    fn slow_endpoints_share_their_slots() {
        for (endpoints, each, half) in [(1, 8, 4), (24, 8, 4), (48, 4, 2), (100, 1, 1)] {
            let mut fixture = Fixture::new();
            for id in (0..endpoints).map(|_| new_endpoint_id()) {
                fixture.begin(id, 1);
            }
            fixture.now += SLOW;
            fixture.end_all();
            for under_way in (0..each).step_by(half) {
                let room = fixture.room();
                assert_eq!(
                    (room.slow_each, room.slow.len()),
                    (half, endpoints),
                    "{under_way}"
                );
                for id in room.slow {
                    fixture.begin(id, half);
                }
            }
            assert_eq!(fixture.room().slow, []);
        }
    }

    #[test]
    fn silent_endpoints_never_use_the_slots_of_others() {
        let mut fixture = Fixture::new();
        let crowd: Vec<_> = (0..1_000).map(|_| new_endpoint_id()).collect();
        let mut unknown = crowd.iter();
        while !unknown.as_slice().is_empty() {
            while let places @ 1.. = fixture.room().places.min(4)
                && let Some(id) = unknown.next()
            {
                fixture.begin(*id, places);
            }
            assert!(fixture.room().places == 0 || unknown.as_slice().is_empty());
            fixture.now += SLOW;
            fixture.end_all();
        }
        let room = fixture.room();
        assert_eq!((room.places, room.slow.len()), (PLACES, crowd.len()));
        for id in room.slow.iter().take(room.slow_places) {
            fixture.begin(*id, 1);
        }
        let room = fixture.room();
        assert_eq!((room.places, room.slow_places), (PLACES, 0));
    }

    #[test]
    fn failing_endpoint_is_probed_until_it_succeeds() {
        let (mut fixture, id) = (Fixture::new(), new_endpoint_id());
        for _ in 0..2 {
            assert_eq!(fixture.room().full, []);
            fixture.begin(id, 8);
            fixture.answer_all(false);
        }
        // Paused at first, then tried with one delivery at a time.
        let room = fixture.room();
        assert_eq!((room.full, room.tried), (vec![id], vec![]));
        fixture.now += REST;
        assert_eq!(fixture.room().tried, [id]);
        fixture.begin(id, 1);
        assert_eq!(fixture.room().tried, []);
        fixture.answer_all(false);
        assert_eq!(fixture.room().tried, []);
        // The longer an endpoint has refused, the longer the pause.
        fixture.now += 300 * REST;
        fixture.begin(id, 1);
        fixture.answer_all(false);
        fixture.now += 29 * REST;
        assert_eq!(fixture.room().tried, []);
        fixture.now += 2 * REST;
        assert_eq!(fixture.room().tried, [id]);
        // A delivery that was not sent does not count as a result.
        fixture.begin(id, 1);
        fixture.end_all();
        assert_eq!(fixture.room().tried, [id]);
        fixture.begin(id, 1);
        fixture.answer_all(true);
        let room = fixture.room();
        assert_eq!((room.occupied, room.tried), (vec![id], vec![]));
    }

    #[test]
    fn endpoint_that_refuses_some_deliveries_is_not_paused() {
        let (mut fixture, id) = (Fixture::new(), new_endpoint_id());
        for _ in 0..10 {
            fixture.begin(id, 8);
            fixture.answer_all(false);
            fixture.begin(id, 1);
            fixture.answer_all(true);
        }
        assert_eq!(fixture.room().occupied, [id]);
    }

    #[test]
    fn all_failing_endpoints_are_probed_in_turn() {
        let mut fixture = Fixture::new();
        let mut crowd: Vec<_> = (0..100).map(|_| new_endpoint_id()).collect();
        for id in &crowd {
            fixture.begin(*id, 16);
        }
        fixture.answer_all(false);
        fixture.now += REST;
        let mut tried = Vec::new();
        for _ in 0..4 {
            let room = fixture.room();
            assert_eq!(room.places, PLACES);
            assert!(room.tried.len() <= TRIALS);
            // No delivery was due, so no attempt was started.
            tried.extend(room.tried);
            fixture.now += Duration::from_millis(1);
        }
        tried.truncate(crowd.len());
        tried.sort();
        crowd.sort();
        assert_eq!(tried, crowd);
        fixture.now += REMEMBERED;
        assert_eq!(fixture.room(), Fixture::new().room());
    }
}
