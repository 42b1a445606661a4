//! Fused multiply-adds on 512-bit registers, 8 tokens × 32 lanes at a time.

use std::arch::x86_64::{
    __m512, _mm256_loadu_si256, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_set1_ps,
    _mm512_setzero_ps,
};

use half::f16;

use super::{FloatLanes, FloatVectors, for_each_document};
use crate::lanes::LANES;
use crate::x86::{load_f32x16, store_f32x16};

/// Tokens that share each load of the query.
const TILE: usize = 8;

#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
fn take<const TOKENS: usize>(lanes: &[f32], tile: &[f32], dim: usize, best: &mut [f32; LANES]) {
    assert!(lanes.len() >= dim * LANES && tile.len() >= TOKENS * dim);
    let mut sums: [[__m512; 2]; TOKENS] = [[_mm512_setzero_ps(); 2]; TOKENS];
    for d in 0..dim {
        // SAFETY: (d + 1) · 32 ≤ lanes.len(), asserted above.
        let query: [__m512; 2] =
            std::array::from_fn(|part| unsafe { _mm512_loadu_ps(lanes.as_ptr().add(d * LANES + part * 16)) });
        for (token, sums) in sums.iter_mut().enumerate() {
            // SAFETY: token · dim + d < tile.len(), asserted above.
            let value = _mm512_set1_ps(unsafe { *tile.as_ptr().add(token * dim + d) });
            for (sum, query) in sums.iter_mut().zip(query) {
                *sum = _mm512_fmadd_ps(query, value, *sum);
            }
        }
    }
    for part in 0..2 {
        let best = &mut best[part * 16..];
        let highest = sums.iter().fold(load_f32x16(best), |highest, sums| _mm512_max_ps(sums[part], highest));
        store_f32x16(best, highest);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen(values: &[f16], out: &mut [f32]) {
    let ((registers, tail), (out, out_tail)) = (values.as_chunks::<16>(), out.as_chunks_mut::<16>());
    for (register, out) in registers.iter().zip(out) {
        // SAFETY: 256 bits, of no alignment.
        store_f32x16(out, _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(register.as_ptr().cast()) }));
    }
    super::widen(tail, out_tail);
}
