//! Random numbers that a seed determines, so that failures are reproducible.

/// `SplitMix64`, a pseudorandom number generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap()
    }

    /// Whether something happens that happens in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// An amount in minor units below `bound`.
    pub(crate) fn amount(&mut self, bound: i64) -> i64 {
        i64::try_from(self.below(usize::try_from(bound.max(0)).unwrap())).unwrap()
    }

    /// A quantity from 1 to `maximum`.
    pub(crate) fn quantity(&mut self, maximum: u32) -> u32 {
        1 + u32::try_from(self.below(maximum.max(1) as usize)).unwrap()
    }

    /// One of `values`.
    pub(crate) fn pick<T: Clone>(&mut self, values: &[T]) -> Option<T> {
        values.get(self.below(values.len())).cloned()
    }
}
