//! Random numbers that a seed determines, so that failures are reproducible.

/// `SplitMix64`, a pseudorandom number generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `upper_bound`; 0 if that is 0.
    pub(crate) fn random_below(&mut self, upper_bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed_state = self.0;
        mixed_state = (mixed_state ^ (mixed_state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed_state = (mixed_state ^ (mixed_state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed_state ^ (mixed_state >> 31)) % upper_bound.max(1) as u64).unwrap()
    }

    /// Whether something happens that happens in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.random_below(100) < percent
    }

    /// An amount in minor units below `upper_bound`.
    pub(crate) fn random_amount(&mut self, upper_bound: i64) -> i64 {
        i64::try_from(self.random_below(usize::try_from(upper_bound.max(0)).unwrap())).unwrap()
    }

    /// A quantity from 1 to `maximum`.
    pub(crate) fn random_quantity(&mut self, maximum: u32) -> u32 {
        1 + u32::try_from(self.random_below(maximum.max(1) as usize)).unwrap()
    }

    /// One of `values`.
    pub(crate) fn pick<T: Clone>(&mut self, values: &[T]) -> Option<T> {
        values.get(self.random_below(values.len())).cloned()
    }
}
