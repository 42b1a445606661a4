//! Centroid scores as u8 rows.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::scalar;
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
            Isa::Scalar => quantize(scores, rows, weights, scalar::range, scalar::write),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these levels exist only where detection found avx2.
            _ => unsafe { quantize_avx2(scores, rows, weights) },
            #[cfg(target_arch = "aarch64")]
            // The target itself has neon, so the portable code is written with it already.
            _ => quantize(scores, rows, weights, scalar::range, scalar::write),
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
    // Closures, which may be called where the level is on: its functions themselves are no `Fn`.
    let range = |rows: &[[f32; LANES]], weight: &[f32; LANES]| avx2::range(rows, weight);
    let write = |rows: &[[f32; LANES]], steps: &Steps, out: &mut [[u8; LANES]]| avx2::write(rows, steps, out);
    quantize(scores, rows, weights, range, write)
}

/// Of one block, a lane each: the largest weighted score, and the sum of all.
pub(super) struct Range {
    pub(super) high: [f32; LANES],
    pub(super) sum: [f32; LANES],
}

/// How weighted scores of one block become bytes, a lane each: `(score · weight - low) · inverse`, rounded half to even and
/// clamped to 0..=255.
pub(super) struct Steps {
    pub(super) weight: [f32; LANES],
    pub(super) low: [f32; LANES],
    pub(super) inverse: [f32; LANES],
}

/// `range` and `write` go over the rows of a block: lane by lane and row after row, so that every level has the same bits.
fn quantize(
    scores: &[f32],
    rows: usize,
    weights: &[f32],
    range: impl Fn(&[[f32; LANES]], &[f32; LANES]) -> Range,
    write: impl Fn(&[[f32; LANES]], &Steps, &mut [[u8; LANES]]),
) -> RowTable {
    let blocks = weights.len().div_ceil(LANES);
    let mut lane_weights = vec![[0.0_f32; LANES]; blocks];
    lane_weights.as_flattened_mut()[..weights.len()].copy_from_slice(weights);
    let scores = scores.as_chunks::<LANES>().0;
    let ranges: Vec<Range> =
        (0..blocks).map(|block| range(&scores[block * rows..][..rows], &lane_weights[block])).collect();
    let uppers = ranges.iter().flat_map(|range| range.high.iter().zip(&range.sum));
    let uppers = uppers.map(|(high, sum)| high - sum / rows as f32);
    let widest = uppers.fold(0.0_f32, |widest, upper| if upper > widest { upper } else { widest });
    let step = widest / 255.0;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let mut values = Aligned::zeroed(blocks * rows * LANES);
    let mut offset = 0.0;
    let out = values.as_chunks_mut::<LANES>().0;
    for block in 0..blocks {
        let low = ranges[block].high.map(|high| high - 255.0 * step);
        // Lanes past the last query token have no low: they hold zero and add nothing.
        let tokens = (weights.len() - block * LANES).min(LANES);
        if rows > 0 {
            offset = low[..tokens].iter().fold(offset, |offset, low| offset + low);
        }
        let mut steps = Steps { weight: lane_weights[block], low, inverse: [0.0; LANES] };
        steps.inverse[..tokens].fill(inverse);
        write(&scores[block * rows..][..rows], &steps, &mut out[block * rows..][..rows]);
    }
    RowTable { values, blocks, rows, step, offset }
}
