//! AMX int8: 32 rows × 32 lanes at a time, the last sums taken while the tiles multiply the next.

use std::arch::x86_64::{
    __m512i, _mm512_cvtepi32_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_sub_epi32,
};

use super::avx512::keep_best;
use super::{Best, chunk_rows};
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};
use crate::tiles::{ROWS, Session};
use crate::x86::{load_i32x16, store_f32x16};

/// Rows whose sums are taken at a time.
const QUARTER: usize = ROWS / 4;

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
        if let Ok(sums) = <&[_; QUARTER]>::try_from(sums) {
            keep_best(
                best,
                first,
                &std::array::from_fn::<_, QUARTER, _>(|row| biased_row(&sums[row], bias[first + row])),
            );
            return;
        }
        for (row, sums) in (first..).zip(sums) {
            keep_best(best, row, &[biased_row(sums, bias[row])]);
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

/// Calls `take(block, first row, sums)` for up to 8 rows at a time, for each block in ascending order of rows.
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
    let [mut last_sums, mut older_sums] = [(); 2].map(|()| Aligned::<i32>::zeroed(ROWS * LANES));
    // SAFETY: the caller vouches for the permission.
    let session = unsafe { Session::start() };
    // A quarter of a tile: its rows are eights, or what is left of the last.
    let mut take = |tile: Option<(usize, usize, usize)>, quarter: usize, sums: &[i32]| {
        if let Some((block, row, count)) = tile
            && let Some(rest) = count.checked_sub(quarter * QUARTER)
        {
            let sums = &sums.as_chunks::<LANES>().0[quarter * QUARTER..][..QUARTER.min(rest)];
            take(block, row + quarter * QUARTER, sums);
        }
    };
    let [mut older, mut last] = [None; 2];
    for first in (0..rows).step_by(size) {
        let end = (first + size).min(rows);
        let given = &centroids[first * depth..end * depth];
        // Whole tiles of whole steps are read where they lie.
        let chunk = if depth == stride && (end - first).is_multiple_of(ROWS) {
            as_bytes(given)
        } else {
            for (row, out) in given.chunks_exact(depth).zip(chunk.chunks_exact_mut(stride)) {
                out.iter_mut().zip(row).for_each(|(out, c)| *out = c.cast_unsigned());
            }
            &chunk
        };
        for block in 0..lanes.blocks() {
            for row in (first..end).step_by(ROWS) {
                let tile = &chunk[(row - first) * stride..];
                session.multiply(tile, stride, lanes.block(block), false, &mut last_sums, |quarters| {
                    quarters.for_each(|quarter| take(older, quarter, &older_sums));
                });
                (older, last) = (last, Some((block, row, ROWS.min(end - row))));
                std::mem::swap(&mut last_sums, &mut older_sums);
            }
        }
    }
    (0..4).for_each(|quarter| take(older, quarter, &older_sums));
    session.store(&mut last_sums);
    (0..4).for_each(|quarter| take(last, quarter, &last_sums));
}

fn as_bytes(values: &[i8]) -> &[u8] {
    // SAFETY: i8 and u8 have the same size and alignment, and every bit pattern is a value of both.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}
