//! Numbers that look random and are the same everywhere.

/// SplitMix64 (Steele, Lea and Flood 2014): small, seedable, the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// A number in `0..1`.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The sum of twelve uniform numbers less six: close enough to normal, and free of the platform's logarithm.
    pub(super) fn gaussian(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// At most `wanted` different numbers below `total`, ascending (Knuth's selection sampling).
    pub(super) fn sample(&mut self, total: usize, wanted: usize) -> Vec<usize> {
        let mut left = wanted.min(total);
        (0..total)
            .filter(|at| {
                let taken = self.below(total - at) < left;
                left -= usize::from(taken);
                taken
            })
            .collect()
    }
}
