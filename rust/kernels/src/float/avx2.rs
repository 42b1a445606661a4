//! Fused multiply-adds on 256-bit registers, 3 tokens × 32 lanes at a time.

use std::arch::x86_64::{
    __m256, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_set1_ps,
    _mm256_setzero_ps,
};

use half::f16;

use super::{FloatLanes, FloatVectors, for_each_document};
use crate::lanes::LANES;
use crate::x86::{load_f32x8, store_f32x8};

/// Tokens that share each load of the query.
const TILE: usize = 3;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn maxsim(query: &FloatLanes, documents: &[FloatVectors], out: &mut [f32]) {
    let dim = query.dim;
    for_each_document(
        query,
        documents,
        out,
        |from, to| widen(from, to),
        |lanes, tokens, best| {
            let tiles = tokens.chunks_exact(TILE * dim);
            for token in tiles.remainder().chunks_exact(dim) {
                take::<1>(lanes, token, dim, best);
            }
            for tile in tiles {
                take::<TILE>(lanes, tile, dim, best);
            }
        },
    );
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn take<const TOKENS: usize>(lanes: &[f32], tile: &[f32], dim: usize, best: &mut [f32; LANES]) {
    assert!(lanes.len() >= dim * LANES && tile.len() >= TOKENS * dim);
    let mut sums: [[__m256; 4]; TOKENS] = [[_mm256_setzero_ps(); 4]; TOKENS];
    for d in 0..dim {
        // SAFETY: (d + 1) · 32 ≤ lanes.len(), asserted above.
        let query: [__m256; 4] =
            std::array::from_fn(|part| unsafe { _mm256_loadu_ps(lanes.as_ptr().add(d * LANES + part * 8)) });
        for (token, sums) in sums.iter_mut().enumerate() {
            // SAFETY: token · dim + d < tile.len(), asserted above.
            let value = _mm256_set1_ps(unsafe { *tile.as_ptr().add(token * dim + d) });
            for (sum, query) in sums.iter_mut().zip(query) {
                *sum = _mm256_fmadd_ps(query, value, *sum);
            }
        }
    }
    for part in 0..4 {
        let best = &mut best[part * 8..];
        let highest = sums.iter().fold(load_f32x8(best), |highest, sums| _mm256_max_ps(sums[part], highest));
        store_f32x8(best, highest);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen(values: &[f16], out: &mut [f32]) {
    let ((registers, tail), (out, out_tail)) = (values.as_chunks::<8>(), out.as_chunks_mut::<8>());
    for (register, out) in registers.iter().zip(out) {
        // SAFETY: 128 bits, of no alignment.
        store_f32x8(out, _mm256_cvtph_ps(unsafe { _mm_loadu_si128(register.as_ptr().cast()) }));
    }
    super::widen(tail, out_tail);
}
