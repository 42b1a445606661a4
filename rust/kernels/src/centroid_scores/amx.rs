//! AMX int8: 32 rows × 32 lanes at a time, the last sums taken while the tiles multiply the next.

use std::arch::x86_64::{
    __m512i, _mm512_cvtepi32_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_sub_epi32,
};

use super::avx512::keep_best;
use super::{Best, chunk_rows};
use crate::aligned::Aligned;
use crate::lanes::{DEPTH_STEP, LANES, QueryLanes};
use crate::tiles::{ROWS, Session};
use crate::x86::{load_i32x16, store_f32x16};

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn scores(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let unit = _mm512_set1_ps(unit);
    let rows = centroids.len() / lanes.depth();
    let out = out.as_chunks_mut::<LANES>().0;
    let take = |block: usize, first: usize, sums: &[[i32; LANES]]| {
        for (sums, out) in sums.iter().zip(&mut out[block * rows + first..]) {
            store_f32x16(out, _mm512_mul_ps(_mm512_cvtepi32_ps(load_i32x16(sums)), unit));
            store_f32x16(&mut out[16..], _mm512_mul_ps(_mm512_cvtepi32_ps(load_i32x16(&sums[16..])), unit));
        }
    };
    // SAFETY: the caller vouches for the permission.
    unsafe { for_each_tile(lanes, centroids, take) }
}

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    let take = |block: usize, first: usize, sums: &[[i32; LANES]]| {
        let best = &mut best[block];
        let (eights, rest) = sums.as_chunks::<8>();
        for (eight, sums) in eights.iter().enumerate() {
            let first = first + eight * 8;
            let mut biased = [[_mm512_setzero_si512(); 2]; 8];
            biased
                .iter_mut()
                .zip(sums)
                .zip(&bias[first..])
                .for_each(|((out, sums), &bias)| *out = biased_row(sums, bias));
            keep_best(best, first, &biased);
        }
        let first = first + eights.len() * 8;
        for (row, sums) in rest.iter().enumerate() {
            keep_best(best, first + row, &[biased_row(sums, bias[first + row])]);
        }
    };
    // SAFETY: the caller vouches for the permission.
    unsafe { for_each_tile(lanes, centroids, take) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn biased_row(sums: &[i32; LANES], bias: i32) -> [__m512i; 2] {
    let bias = _mm512_set1_epi32(bias);
    [_mm512_sub_epi32(load_i32x16(sums), bias), _mm512_sub_epi32(load_i32x16(&sums[16..]), bias)]
}

/// Calls `take(block, first row, sums)` for tiles of up to 32 rows, for each block in ascending order of rows.
///
/// # Safety
/// The process has permission for tiles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn for_each_tile(lanes: &QueryLanes, centroids: &[i8], mut take: impl FnMut(usize, usize, &[[i32; LANES]])) {
    let (depth, stride) = (lanes.depth(), lanes.stored_depth());
    let rows = centroids.len() / depth;
    let size = chunk_rows(depth);
    let mut chunk = Aligned::<u8>::zeroed(size * stride);
    let mut sums = [Aligned::<i32>::zeroed(ROWS * LANES), Aligned::zeroed(ROWS * LANES)];
    // SAFETY: the caller vouches for the permission.
    let session = unsafe { Session::start() };
    let mut pending = None;
    for first in (0..rows).step_by(size) {
        let end = (first + size).min(rows);
        for (row, out) in centroids[first * depth..end * depth].chunks_exact(depth).zip(chunk.chunks_exact_mut(stride))
        {
            out.iter_mut().zip(row).for_each(|(out, c)| *out = c.cast_unsigned());
        }
        for block in 0..lanes.blocks() {
            for row in (first..end).step_by(ROWS) {
                let tile = &chunk[(row - first) * stride..];
                let [now, last] = &mut sums;
                session.multiply(tile, stride, lanes.block(block), stride / DEPTH_STEP, now, |quarters| {
                    if quarters.start == 0
                        && let Some((block, row, count)) = pending
                    {
                        take(block, row, &last.as_chunks::<LANES>().0[..count]);
                    }
                });
                pending = Some((block, row, ROWS.min(end - row)));
                sums.swap(0, 1);
            }
        }
    }
    if let Some((block, row, count)) = pending {
        take(block, row, &sums[1].as_chunks::<LANES>().0[..count]);
    }
}
