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
const REGULAR_SLOTS: usize = 64;
/// Maximum number of slots of a single endpoint that is not trusted. Half of them are allocated at once.
const SLOTS_PER_ENDPOINT: usize = 8;
/// Number of successes in a row after which an endpoint is trusted, the time for which it stays trusted, and
/// the number of slots that trusted endpoints may not use.
const TRUSTED_AFTER: u32 = 8;
const TRUSTED_FOR: Duration = Duration::from_secs(10);
const SLOTS_NOT_FOR_TRUSTED: usize = 16;
/// Maximum number of slots of a trusted endpoint.
const TRUSTED_SLOTS_PER_ENDPOINT: usize = 32;
/// Slots shared by slow endpoints.
const SLOW_SLOTS: usize = 192;
/// Total number of slots. An endpoint that becomes slow keeps its attempts in progress.
const ALL_SLOTS: usize = REGULAR_SLOTS + SLOW_SLOTS;
/// Response time from which on an endpoint is slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);
/// Time for which an endpoint stays slow, unless it responds quickly.
const SLOW_FOR: Duration = Duration::from_mins(10);
/// Number of refusals in a row after which an endpoint is paused.
const PAUSED_AFTER: u32 = 16;
/// Slots for trials of paused endpoints.
const TRIAL_SLOTS: usize = 32;
/// Minimum pause between trials. The pause is a tenth of the time for which the endpoint has refused.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause between trials.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// The attempts of this worker, by endpoint.
#[derive(Default)]
pub(super) struct DeliverySlots(Mutex<HashMap<EndpointId, EndpointState>>);

#[derive(Default)]
struct EndpointState {
    /// Start times of the attempts in progress.
    in_progress: Vec<Instant>,
    /// Time until which the endpoint counts as slow.
    slow_until: Option<Instant>,
    /// Refusals since the last success.
    refusals: Option<Refusals>,
    /// Number of quick successes since the last failure, and the time of the last one.
    successes: Option<(u32, Instant)>,
}

struct Refusals {
    refusal_count: u32,
    first_refusal: Instant,
    last_refusal: Instant,
    /// Time of the last trial.
    last_trial: Instant,
}

impl Refusals {
    /// The pause before the next trial.
    fn pause_time(&self) -> Duration {
        let refusing_time = self.last_refusal.duration_since(self.first_refusal);
        (refusing_time / 10).clamp(MIN_PAUSE, MAX_PAUSE)
    }
}

impl EndpointState {
    fn is_slow(&self, now: Instant) -> bool {
        let takes_long = |started_at: &Instant| now.duration_since(*started_at) >= SLOW_AFTER;
        self.slow_until.is_some_and(|slow_until| now < slow_until)
            || self.in_progress.iter().any(takes_long)
    }

    /// The refusals, if the endpoint is paused.
    fn refusals_if_paused(&self) -> Option<&Refusals> {
        let refusals = self.refusals.as_ref();
        refusals.filter(|refusals| refusals.refusal_count >= PAUSED_AFTER)
    }

    fn is_trusted(&self, now: Instant) -> bool {
        self.successes.is_some_and(|(success_count, last_success)| {
            success_count >= TRUSTED_AFTER && now.duration_since(last_success) < TRUSTED_FOR
        })
    }

    /// Whether nothing about the endpoint is worth remembering: no attempt is in progress, and neither slowness nor
    /// results are recent.
    fn can_be_forgotten(&self, now: Instant) -> bool {
        let is_old = |refusals: &Refusals| now.duration_since(refusals.last_refusal) >= SLOW_FOR;
        let is_unknown = !self.is_slow(now) && self.refusals.as_ref().is_none_or(is_old);
        let was_accepted_recently =
            |(_, last_success): (u32, Instant)| now.duration_since(last_success) < TRUSTED_FOR;
        self.in_progress.is_empty()
            && is_unknown
            && !self.successes.is_some_and(was_accepted_recently)
    }
}

/// The slots available now, by kind of endpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SlotAllocation {
    /// Slots for endpoints that are not slow.
    pub(super) free_slots: usize,
    /// Maximum number of these for a single endpoint.
    pub(super) slots_per_endpoint: usize,
    /// Endpoints that get none of these slots: at their limit, slow, or paused.
    pub(super) excluded_endpoints: Vec<EndpointId>,
    /// Endpoints that are served after the others, since they have attempts in progress.
    pub(super) occupied_endpoints: Vec<EndpointId>,
    /// Number of the free slots that trusted endpoints may use beyond their regular limit; the others are kept for
    /// endpoints that are not trusted.
    pub(super) trusted_free_slots: usize,
    /// Maximum number of these for a single endpoint.
    pub(super) slots_per_trusted_endpoint: usize,
    /// The trusted endpoints.
    pub(super) trusted_endpoints: Vec<EndpointId>,
    /// Slots for slow endpoints.
    pub(super) slow_free_slots: usize,
    /// Maximum number of these for a single endpoint.
    pub(super) slots_per_slow_endpoint: usize,
    /// The slow endpoints.
    pub(super) slow_endpoints: Vec<EndpointId>,
    /// Paused endpoints that get a trial: one delivery each.
    pub(super) trial_endpoints: Vec<EndpointId>,
}

impl DeliverySlots {
    /// Computes the available slots.
    pub(super) fn allocate(&self, now: Instant) -> SlotAllocation {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|_, endpoint_state| !endpoint_state.can_be_forgotten(now));
        let mut allocation = SlotAllocation {
            slots_per_endpoint: SLOTS_PER_ENDPOINT / 2,
            ..SlotAllocation::default()
        };
        let (mut slots_in_use, mut slow_endpoints, mut trusted_endpoints) =
            (0, Vec::new(), Vec::new());
        let (mut trials_in_progress, mut due_trials) = (0, Vec::new());
        for (endpoint_id, endpoint_state) in endpoints.iter() {
            let attempt_count = endpoint_state.in_progress.len();
            if let Some(refusals) = endpoint_state.refusals_if_paused() {
                trials_in_progress += attempt_count;
                allocation.excluded_endpoints.push(*endpoint_id);
                if attempt_count == 0
                    && now.duration_since(refusals.last_refusal) >= refusals.pause_time()
                {
                    due_trials.push((refusals.last_trial, *endpoint_id));
                }
            } else if endpoint_state.is_slow(now) {
                slow_endpoints.push((*endpoint_id, attempt_count));
                allocation.excluded_endpoints.push(*endpoint_id);
            } else {
                slots_in_use += attempt_count;
                if endpoint_state.is_trusted(now) {
                    trusted_endpoints.push((*endpoint_id, attempt_count));
                }
                if attempt_count > SLOTS_PER_ENDPOINT / 2 {
                    allocation.excluded_endpoints.push(*endpoint_id);
                } else {
                    allocation.occupied_endpoints.push(*endpoint_id);
                }
            }
        }
        let slots_per_slow_endpoint =
            (SLOW_SLOTS / slow_endpoints.len().max(1)).clamp(1, SLOTS_PER_ENDPOINT);
        (
            allocation.slots_per_slow_endpoint,
            allocation.slow_endpoints,
        ) = endpoints_with_free_slots(&slow_endpoints, slots_per_slow_endpoint);
        let slow_in_use: usize = slow_endpoints
            .iter()
            .map(|(_, attempt_count)| attempt_count)
            .sum();
        allocation.slow_free_slots = SLOW_SLOTS.saturating_sub(slow_in_use);
        let free_slots_in_total = ALL_SLOTS.saturating_sub(slots_in_use + slow_in_use);
        allocation.free_slots = REGULAR_SLOTS
            .saturating_sub(slots_in_use)
            .min(free_slots_in_total);
        let slots_per_trusted =
            (REGULAR_SLOTS - SLOTS_NOT_FOR_TRUSTED) / trusted_endpoints.len().max(1);
        (
            allocation.slots_per_trusted_endpoint,
            allocation.trusted_endpoints,
        ) = endpoints_with_free_slots(
            &trusted_endpoints,
            slots_per_trusted.clamp(SLOTS_PER_ENDPOINT, TRUSTED_SLOTS_PER_ENDPOINT),
        );
        allocation.trusted_free_slots = allocation.free_slots.saturating_sub(SLOTS_NOT_FOR_TRUSTED);
        // The endpoint whose last trial is the oldest comes first. The time of the trial is set even if no
        // delivery is due.
        due_trials.sort_unstable();
        due_trials.truncate(TRIAL_SLOTS.saturating_sub(trials_in_progress));
        allocation.trial_endpoints = due_trials
            .into_iter()
            .map(|(_, endpoint_id)| endpoint_id)
            .collect();
        for endpoint_id in &allocation.trial_endpoints {
            let endpoint_state = endpoints.get_mut(endpoint_id);
            if let Some(refusals) =
                endpoint_state.and_then(|endpoint_state| endpoint_state.refusals.as_mut())
            {
                refusals.last_trial = now;
            }
        }
        allocation
    }

    /// Occupies a slot until the returned guard is dropped.
    pub(super) fn occupy_slot(self: &Arc<Self>, endpoint_id: EndpointId) -> SlotGuard {
        let started_at = Instant::now();
        self.start_attempt(endpoint_id, started_at);
        SlotGuard {
            slots: Arc::clone(self),
            endpoint_id,
            started_at,
            was_accepted: None,
        }
    }

    fn start_attempt(&self, endpoint_id: EndpointId, now: Instant) {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints
            .entry(endpoint_id)
            .or_default()
            .in_progress
            .push(now);
    }

    fn end_attempt(
        &self,
        endpoint_id: EndpointId,
        started_at: Instant,
        was_accepted: Option<bool>,
        now: Instant,
    ) {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(endpoint_state) = endpoints.get_mut(&endpoint_id) else {
            return;
        };
        let attempt_index = endpoint_state
            .in_progress
            .iter()
            .position(|other_start| *other_start == started_at);
        let Some(attempt_index) = attempt_index else {
            return;
        };
        endpoint_state.in_progress.swap_remove(attempt_index);
        let was_slow = now.duration_since(started_at) >= SLOW_AFTER;
        endpoint_state.slow_until = was_slow.then(|| now + SLOW_FOR);
        match was_accepted {
            None => {}
            Some(true) => {
                endpoint_state.refusals = None;
                let success_count = endpoint_state.successes.map_or(0, |(count, _)| count);
                endpoint_state.successes =
                    (!was_slow).then(|| (success_count.saturating_add(1), now));
            }
            Some(false) => {
                endpoint_state.successes = None;
                let refusals = endpoint_state.refusals.get_or_insert(Refusals {
                    refusal_count: 0,
                    first_refusal: now,
                    last_refusal: now,
                    last_trial: now,
                });
                refusals.refusal_count = refusals.refusal_count.saturating_add(1);
                refusals.last_refusal = now;
            }
        }
    }
}

/// Half of `max_slots_per_endpoint`, and the `endpoints` (with their attempts in progress) for which that many
/// slots are free.
fn endpoints_with_free_slots(
    endpoints: &[(EndpointId, usize)],
    max_slots_per_endpoint: usize,
) -> (usize, Vec<EndpointId>) {
    let new_slots_per_endpoint = max_slots_per_endpoint.div_ceil(2);
    let has_free_slots = |(_, attempt_count): &&(EndpointId, usize)| {
        attempt_count + new_slots_per_endpoint <= max_slots_per_endpoint
    };
    let free_endpoints = endpoints
        .iter()
        .filter(has_free_slots)
        .map(|(endpoint_id, _)| *endpoint_id);
    (new_slots_per_endpoint, free_endpoints.collect())
}

/// An attempt in progress, which occupies a slot until it is dropped.
pub(super) struct SlotGuard {
    slots: Arc<DeliverySlots>,
    endpoint_id: EndpointId,
    started_at: Instant,
    was_accepted: Option<bool>,
}

impl SlotGuard {
    /// Records whether the endpoint accepted the delivery.
    pub(super) fn record(&mut self, was_accepted: bool) {
        self.was_accepted = Some(was_accepted);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.slots.end_attempt(
            self.endpoint_id,
            self.started_at,
            self.was_accepted,
            Instant::now(),
        );
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    struct SlotsFixture {
        slots: DeliverySlots,
        in_progress: Vec<(EndpointId, Instant)>,
        now: Instant,
    }

    impl SlotsFixture {
        fn new() -> Self {
            Self {
                slots: DeliverySlots::default(),
                in_progress: Vec::new(),
                now: Instant::now(),
            }
        }

        fn occupy_slot(&mut self, endpoint_id: EndpointId, attempt_count: usize) {
            for _ in 0..attempt_count {
                self.slots.start_attempt(endpoint_id, self.now);
                self.in_progress.push((endpoint_id, self.now));
            }
        }

        fn end_all(&mut self) {
            for (endpoint_id, started_at) in self.in_progress.drain(..) {
                self.slots
                    .end_attempt(endpoint_id, started_at, None, self.now);
            }
        }

        /// Ends all attempts in progress with this result.
        fn answer_all(&mut self, was_accepted: bool) {
            for (endpoint_id, started_at) in self.in_progress.drain(..) {
                self.slots
                    .end_attempt(endpoint_id, started_at, Some(was_accepted), self.now);
            }
        }

        fn allocate(&self) -> SlotAllocation {
            self.slots.allocate(self.now)
        }
    }

    fn new_endpoint_id() -> EndpointId {
        Uuid::now_v7().into()
    }

    #[test]
    fn endpoint_has_a_limit_of_concurrent_deliveries() {
        let (mut fixture, id) = (SlotsFixture::new(), new_endpoint_id());
        fixture.occupy_slot(id, 4);
        assert_eq!(fixture.allocate().occupied_endpoints, [id]);
        fixture.occupy_slot(id, 4);
        let allocation = fixture.allocate();
        assert_eq!(
            (
                allocation.free_slots,
                allocation.excluded_endpoints,
                allocation.slow_endpoints
            ),
            (REGULAR_SLOTS - 8, vec![id], vec![])
        );
        fixture.end_all();
        assert_eq!(fixture.allocate(), SlotsFixture::new().allocate());
    }

    #[test]
    fn fewer_successful_endpoints_get_more_slots_each() {
        for (endpoint_count, slots_each) in [(1, 32), (2, 24), (4, 12), (6, 8)] {
            let mut fixture = SlotsFixture::new();
            let mut endpoint_ids: Vec<_> = (0..endpoint_count).map(|_| new_endpoint_id()).collect();
            endpoint_ids.sort();
            for id in &endpoint_ids {
                fixture.occupy_slot(*id, 8);
            }
            fixture.answer_all(true);
            for round in 0..2 {
                let mut allocation = fixture.allocate();
                allocation.trusted_endpoints.sort();
                assert_eq!(
                    (
                        allocation.slots_per_trusted_endpoint,
                        &allocation.trusted_endpoints
                    ),
                    (slots_each / 2, &endpoint_ids)
                );
                assert_eq!(
                    allocation.trusted_free_slots,
                    48 - round * endpoint_count * slots_each / 2
                );
                for id in &endpoint_ids {
                    fixture.occupy_slot(*id, slots_each / 2);
                }
            }
            // Some slots stay reserved for endpoints that are not trusted.
            let allocation = fixture.allocate();
            assert_eq!(
                (
                    allocation.trusted_endpoints,
                    allocation.excluded_endpoints.len()
                ),
                (vec![], endpoint_count)
            );
            assert!(allocation.free_slots >= SLOTS_NOT_FOR_TRUSTED);

            // A single refusal ends the trust.
            fixture.answer_all(false);
            assert_eq!(fixture.allocate().trusted_endpoints, []);
        }
        let (mut fixture, id) = (SlotsFixture::new(), new_endpoint_id());
        fixture.occupy_slot(id, 8);
        fixture.answer_all(true);
        fixture.now += TRUSTED_FOR;
        assert_eq!(fixture.allocate(), SlotsFixture::new().allocate());
    }

    #[test]
    fn slow_endpoint_gives_up_its_slots_until_it_is_fast_again() {
        let (mut fixture, id) = (SlotsFixture::new(), new_endpoint_id());
        fixture.occupy_slot(id, 8);
        fixture.now += SLOW_AFTER;
        let allocation = fixture.allocate();
        assert_eq!(
            (allocation.free_slots, allocation.slow_free_slots),
            (REGULAR_SLOTS, SLOW_SLOTS - 8)
        );
        assert_eq!(
            (allocation.excluded_endpoints, allocation.slow_endpoints),
            (vec![id], vec![])
        );
        fixture.end_all();
        let allocation = fixture.allocate();
        assert_eq!(
            (allocation.excluded_endpoints, allocation.slow_endpoints),
            (vec![id], vec![id])
        );

        // An endpoint is no longer slow after a quick response, or after some time.
        fixture.occupy_slot(id, 1);
        fixture.end_all();
        assert_eq!(fixture.allocate(), SlotsFixture::new().allocate());
        fixture.occupy_slot(id, 1);
        fixture.now += SLOW_AFTER;
        fixture.end_all();
        fixture.now += SLOW_FOR;
        assert_eq!(fixture.allocate(), SlotsFixture::new().allocate());
    }

    #[test]
    fn slow_endpoints_share_their_slots() {
        for (endpoint_count, slots_each, half_limit) in
            [(1, 8, 4), (24, 8, 4), (48, 4, 2), (100, 1, 1)]
        {
            let mut fixture = SlotsFixture::new();
            for id in (0..endpoint_count).map(|_| new_endpoint_id()) {
                fixture.occupy_slot(id, 1);
            }
            fixture.now += SLOW_AFTER;
            fixture.end_all();
            for slots_in_use in (0..slots_each).step_by(half_limit) {
                let allocation = fixture.allocate();
                assert_eq!(
                    (
                        allocation.slots_per_slow_endpoint,
                        allocation.slow_endpoints.len()
                    ),
                    (half_limit, endpoint_count),
                    "{slots_in_use}"
                );
                for id in allocation.slow_endpoints {
                    fixture.occupy_slot(id, half_limit);
                }
            }
            assert_eq!(fixture.allocate().slow_endpoints, []);
        }
    }

    #[test]
    fn silent_endpoints_never_use_the_slots_of_others() {
        let mut fixture = SlotsFixture::new();
        let endpoint_ids: Vec<_> = (0..1_000).map(|_| new_endpoint_id()).collect();
        let mut untried_endpoints = endpoint_ids.iter();
        while !untried_endpoints.as_slice().is_empty() {
            while let free_slots @ 1.. = fixture.allocate().free_slots.min(4)
                && let Some(id) = untried_endpoints.next()
            {
                fixture.occupy_slot(*id, free_slots);
            }
            assert!(fixture.allocate().free_slots == 0 || untried_endpoints.as_slice().is_empty());
            fixture.now += SLOW_AFTER;
            fixture.end_all();
        }
        let allocation = fixture.allocate();
        assert_eq!(
            (allocation.free_slots, allocation.slow_endpoints.len()),
            (REGULAR_SLOTS, endpoint_ids.len())
        );
        for id in allocation
            .slow_endpoints
            .iter()
            .take(allocation.slow_free_slots)
        {
            fixture.occupy_slot(*id, 1);
        }
        let allocation = fixture.allocate();
        assert_eq!(
            (allocation.free_slots, allocation.slow_free_slots),
            (REGULAR_SLOTS, 0)
        );
    }

    #[test]
    fn failing_endpoint_is_probed_until_it_succeeds() {
        let (mut fixture, id) = (SlotsFixture::new(), new_endpoint_id());
        for _ in 0..2 {
            assert_eq!(fixture.allocate().excluded_endpoints, []);
            fixture.occupy_slot(id, 8);
            fixture.answer_all(false);
        }
        // Paused at first, then tried with one delivery at a time.
        let allocation = fixture.allocate();
        assert_eq!(
            (allocation.excluded_endpoints, allocation.trial_endpoints),
            (vec![id], vec![])
        );
        fixture.now += MIN_PAUSE;
        assert_eq!(fixture.allocate().trial_endpoints, [id]);
        fixture.occupy_slot(id, 1);
        assert_eq!(fixture.allocate().trial_endpoints, []);
        fixture.answer_all(false);
        assert_eq!(fixture.allocate().trial_endpoints, []);
        // The longer an endpoint has refused, the longer the pause.
        fixture.now += 300 * MIN_PAUSE;
        fixture.occupy_slot(id, 1);
        fixture.answer_all(false);
        fixture.now += 29 * MIN_PAUSE;
        assert_eq!(fixture.allocate().trial_endpoints, []);
        fixture.now += 2 * MIN_PAUSE;
        assert_eq!(fixture.allocate().trial_endpoints, [id]);
        // A delivery that was not sent does not count as a result.
        fixture.occupy_slot(id, 1);
        fixture.end_all();
        assert_eq!(fixture.allocate().trial_endpoints, [id]);
        fixture.occupy_slot(id, 1);
        fixture.answer_all(true);
        let allocation = fixture.allocate();
        assert_eq!(
            (allocation.occupied_endpoints, allocation.trial_endpoints),
            (vec![id], vec![])
        );
    }

    #[test]
    fn endpoint_that_refuses_some_deliveries_is_not_paused() {
        let (mut fixture, id) = (SlotsFixture::new(), new_endpoint_id());
        for _ in 0..10 {
            fixture.occupy_slot(id, 8);
            fixture.answer_all(false);
            fixture.occupy_slot(id, 1);
            fixture.answer_all(true);
        }
        assert_eq!(fixture.allocate().occupied_endpoints, [id]);
    }

    #[test]
    fn all_failing_endpoints_are_probed_in_turn() {
        let mut fixture = SlotsFixture::new();
        let mut failing_endpoints: Vec<_> = (0..100).map(|_| new_endpoint_id()).collect();
        for id in &failing_endpoints {
            fixture.occupy_slot(*id, 16);
        }
        fixture.answer_all(false);
        fixture.now += MIN_PAUSE;
        let mut tried_endpoints = Vec::new();
        for _ in 0..4 {
            let allocation = fixture.allocate();
            assert_eq!(allocation.free_slots, REGULAR_SLOTS);
            assert!(allocation.trial_endpoints.len() <= TRIAL_SLOTS);
            // No delivery was due, so no attempt was started.
            tried_endpoints.extend(allocation.trial_endpoints);
            fixture.now += Duration::from_millis(1);
        }
        tried_endpoints.truncate(failing_endpoints.len());
        tried_endpoints.sort();
        failing_endpoints.sort();
        assert_eq!(tried_endpoints, failing_endpoints);
        fixture.now += SLOW_FOR;
        assert_eq!(fixture.allocate(), SlotsFixture::new().allocate());
    }
}
