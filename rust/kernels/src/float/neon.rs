//! Fused multiply-adds on 128-bit registers, 3 tokens × 32 lanes at a time.

use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_n_f32, vmaxnmq_f32};

use super::{FloatLanes, FloatVectors, for_each_document, widen};
use crate::aarch64::{load_f32x4, store_f32x4};
use crate::lanes::LANES;

/// Tokens that share each load of the query.
const TILE: usize = 3;

#[target_feature(enable = "neon")]
pub(super) fn maxsim(query: &FloatLanes, documents: &[FloatVectors], out: &mut [f32]) {
    let dim = query.dim;
    for_each_document(query, documents, out, widen, |lanes, tokens, best| {
        let tiles = tokens.chunks_exact(TILE * dim);
        for token in tiles.remainder().chunks_exact(dim) {
            take::<1>(lanes, token, dim, best);
        }
        for tile in tiles {
            take::<TILE>(lanes, tile, dim, best);
        }
    });
}

#[inline]
#[target_feature(enable = "neon")]
fn take<const TOKENS: usize>(lanes: &[f32], tile: &[f32], dim: usize, best: &mut [f32; LANES]) {
    let tokens: [&[f32]; TOKENS] = std::array::from_fn(|token| &tile[token * dim..][..dim]);
    let mut sums: [[float32x4_t; 8]; TOKENS] = [[vdupq_n_f32(0.0); 8]; TOKENS];
    for (d, query) in lanes.as_chunks::<LANES>().0[..dim].iter().enumerate() {
        let values = tokens.map(|token| token[d]);
        for (part, query) in query.as_chunks().0.iter().enumerate() {
            let query = load_f32x4(query);
            for (sums, value) in sums.iter_mut().zip(values) {
                sums[part] = vfmaq_n_f32(sums[part], query, value);
            }
        }
    }
    for (part, best) in best.as_chunks_mut().0.iter_mut().enumerate() {
        // A NaN is never a maximum.
        let highest = sums.iter().fold(load_f32x4(best), |highest, sums| vmaxnmq_f32(highest, sums[part]));
        store_f32x4(best, highest);
    }
}
