//! Time and ids for the decisions of a batch, passed in from outside: the same commands over the same working
//! set with the same context lead to the same decisions.

use jiff::Timestamp;
use uuid::{Builder, Uuid};

/// A point in time with a generator of ids and jitter.
#[derive(Debug, Clone)]
pub struct DecisionContext {
    now: Timestamp,
    seed: u64,
    generated_id_count: u16,
}

impl DecisionContext {
    /// A context for `now`, truncated to milliseconds as it is stored.
    pub fn new(now: Timestamp, seed: u64) -> Self {
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        Self {
            now,
            seed,
            generated_id_count: 0,
        }
    }

    /// The time of the decision.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A new UUIDv7. Up to 4,095 ids of one context sort in the order of generation.
    pub fn new_id<T: From<Uuid>>(&mut self) -> T {
        let now_ms = u64::try_from(self.now.as_millisecond()).unwrap_or_default();
        let mut id_bytes = [0; 10];
        // The 12 bits after the time are a counter, the rest is random (RFC 9562, section 6.2, method 1).
        self.generated_id_count = self.generated_id_count.wrapping_add(1);
        id_bytes[..2].copy_from_slice(&self.generated_id_count.to_be_bytes());
        id_bytes[2..].copy_from_slice(&self.random_number().to_be_bytes());
        Builder::from_unix_timestamp_millis(now_ms, &id_bytes)
            .into_uuid()
            .into()
    }

    /// A number from 0 to 1.
    pub fn random_jitter(&mut self) -> f64 {
        f64::from(u32::try_from(self.random_number() >> 32).unwrap_or_default())
            / f64::from(u32::MAX)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn random_number(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed_state = self.seed;
        mixed_state = (mixed_state ^ (mixed_state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed_state = (mixed_state ^ (mixed_state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed_state ^ (mixed_state >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::domain::decision_context::*;

    #[test]
    fn ids_are_unique_sorted_and_version_7() {
        let mut context = DecisionContext::new("2026-01-31T12:00:00.123456Z".parse().unwrap(), 7);
        let ids: Vec<Uuid> = (0..4000).map(|_| context.new_id()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert_eq!(context.now().to_string(), "2026-01-31T12:00:00.123Z");
    }
}
