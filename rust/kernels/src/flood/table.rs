//! Centroid scores as u8 rows.

use crate::aligned::Aligned;
use crate::lanes::LANES;
use crate::level::{Isa, Level};

/// u8 rows `[blocks][rows][32]` with the affine map between a sum of lanes and a score.
///
/// Lane `j` of row `k` holds `round((w_j · s_jk - low_j) / step)`, clamped to 0..=255, with one `step` for all lanes so
/// that sums stay comparable, `low_j = high_j - 255 · step` and `high_j = max_k w_j · s_jk`. The step is chosen so that the
/// lane with the longest upper half, from its mean to its maximum, fills the 255 steps. What lies below is clamped to 0:
/// the maximum over a document's tokens hardly ever falls below the mean over all centroids, and a document for which it
/// does is a bad one either way.
#[derive(Clone)]
pub struct RowTable {
    values: Aligned<u8>,
    blocks: usize,
    rows: usize,
    step: f32,
    offset: f32,
}

impl RowTable {
    /// Quantises `scores`, `[blocks][rows][32]` from [`crate::centroid_scores()`], under one weight ≥ 0 per token.
    ///
    /// The same bits at every level.
    ///
    /// # Panics
    /// If lengths disagree: `scores` is `tokens.div_ceil(32) · rows · 32` long, `weights` is `tokens` long.
    #[must_use]
    pub fn quantize(level: Level, scores: &[f32], rows: usize, tokens: usize, weights: &[f32]) -> Self {
        assert_eq!(scores.len(), tokens.div_ceil(LANES) * rows * LANES, "scores must be [blocks][rows][32]");
        assert_eq!(weights.len(), tokens, "one weight per query token");
        match level.0 {
            Isa::Scalar => quantize(scores, rows, weights),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these levels exist only where detection found avx2.
            _ => unsafe { quantize_avx2(scores, rows, weights) },
            #[cfg(target_arch = "aarch64")]
            // The target itself has neon, so the portable code is written with it already.
            _ => quantize(scores, rows, weights),
        }
    }

    /// What one unit of a sum is worth.
    #[must_use]
    pub fn step(&self) -> f32 {
        self.step
    }

    /// The score of sum 0: `score ≈ offset + step · sum`.
    #[must_use]
    pub fn offset(&self) -> f32 {
        self.offset
    }

    /// Number of rows, one per centroid.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of 32 query tokens.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The rows of one block.
    pub(crate) fn block(&self, block: usize) -> &[[u8; LANES]] {
        &self.values.as_chunks::<LANES>().0[block * self.rows..][..self.rows]
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn quantize_avx2(scores: &[f32], rows: usize, weights: &[f32]) -> RowTable {
    quantize(scores, rows, weights)
}

/// Lane by lane and row after row, so that vectorising it changes no bit.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inlined into a function that enables wider registers")]
#[expect(clippy::manual_clamp, reason = "`clamp` keeps NaN")]
fn quantize(scores: &[f32], rows: usize, weights: &[f32]) -> RowTable {
    let blocks = weights.len().div_ceil(LANES);
    let mut lane_weights = vec![[0.0_f32; LANES]; blocks];
    lane_weights.as_flattened_mut()[..weights.len()].copy_from_slice(weights);
    let mut highs = vec![[f32::NEG_INFINITY; LANES]; blocks];
    let mut widest = 0.0_f32;
    let scores = scores.as_chunks::<LANES>().0;
    for block in 0..blocks {
        let (weights, high) = (&lane_weights[block], &mut highs[block]);
        let mut sums = [0.0_f32; LANES];
        for row in &scores[block * rows..][..rows] {
            for lane in 0..LANES {
                let value = row[lane] * weights[lane];
                sums[lane] += value;
                high[lane] = if value > high[lane] { value } else { high[lane] };
            }
        }
        for lane in 0..LANES {
            let upper = high[lane] - sums[lane] / rows as f32;
            widest = if upper > widest { upper } else { widest };
        }
    }
    let step = widest / 255.0;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let mut values = Aligned::zeroed(blocks * rows * LANES);
    let mut offset = 0.0;
    let out = values.as_chunks_mut::<LANES>().0;
    for block in 0..blocks {
        let low = highs[block].map(|high| high - 255.0 * step);
        // Lanes past the last query token have no low: they hold zero and add nothing.
        let tokens = (weights.len() - block * LANES).min(LANES);
        if rows > 0 {
            offset = low[..tokens].iter().fold(offset, |offset, low| offset + low);
        }
        let mut live = [0.0_f32; LANES];
        live[..tokens].fill(inverse);
        let weights = &lane_weights[block];
        for (row, out) in scores[block * rows..][..rows].iter().zip(&mut out[block * rows..][..rows]) {
            for lane in 0..LANES {
                let steps = (row[lane] * weights[lane] - low[lane]) * live[lane];
                // Adding 2^23 rounds half to even and leaves the integer in the low bits.
                out[lane] = (steps.max(0.0).min(255.0) + 8_388_608.0).to_bits() as u8;
            }
        }
    }
    RowTable { values, blocks, rows, step, offset }
}
