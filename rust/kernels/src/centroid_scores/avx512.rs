//! `vpdpbusd` on 512-bit registers: tiles of 8 rows × 32 lanes, sixteen sums in registers.

use std::arch::x86_64::{
    __m512i, _mm512_cmpgt_epi32_mask, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_si512,
    _mm512_mask_mov_epi32, _mm512_max_epi32, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_xor_si512,
};

use super::{Best, chunk_rows};
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};
use crate::x86::{load_i32x16, load_u8x64, store_f32x16, store_i32x16, store_u8x64};

/// Rows per tile.
const TILE: usize = 8;

/// Blocks whose unsigned copy is held at a time: at depth 128 they take 256 KiB of L2.
const GROUP: usize = 64;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn scores(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let unit = _mm512_set1_ps(unit);
    let starts = starts(centroids, lanes.depth(), &[]);
    let out = out.as_chunks_mut::<LANES>().0;
    for_each_tile(lanes, centroids, &starts, |block, first, sums| {
        let out = &mut out[block * starts.len() + first..];
        for (sums, out) in sums.iter().zip(out) {
            store_f32x16(out, _mm512_mul_ps(_mm512_cvtepi32_ps(sums[0]), unit));
            store_f32x16(&mut out[16..], _mm512_mul_ps(_mm512_cvtepi32_ps(sums[1]), unit));
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    let starts = starts(centroids, lanes.depth(), bias);
    for_each_tile(lanes, centroids, &starts, |block, first, sums| keep_best(&mut best[block], first, sums));
}

/// Takes a few rows into account. Most tiles beat no lane, so the rows are looked at one by one only if their maximum does.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn keep_best(best: &mut Best, first: usize, sums: &[[__m512i; 2]]) {
    let mut highest = sums[0];
    for sums in &sums[1..] {
        highest = [_mm512_max_epi32(highest[0], sums[0]), _mm512_max_epi32(highest[1], sums[1])];
    }
    for (half, highest) in highest.into_iter().enumerate() {
        let mut dots = load_i32x16(&best.dots[half * 16..]);
        if _mm512_cmpgt_epi32_mask(highest, dots) == 0 {
            continue;
        }
        let mut rows = load_i32x16(&best.rows[half * 16..]);
        for (row, sums) in sums.iter().enumerate() {
            let greater = _mm512_cmpgt_epi32_mask(sums[half], dots);
            rows = _mm512_mask_mov_epi32(rows, greater, _mm512_set1_epi32((first + row) as i32));
            dots = _mm512_max_epi32(sums[half], dots);
        }
        store_i32x16(&mut best.dots[half * 16..], dots);
        store_i32x16(&mut best.rows[half * 16..], rows);
    }
}

/// Where the sums of each row start: -128 · Σ row for the raised query, and the bias.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn starts(centroids: &[i8], depth: usize, bias: &[i32]) -> Vec<i32> {
    let sum = |row: &[i8]| row.iter().map(|&c| i32::from(c)).sum::<i32>();
    let mut starts: Vec<i32> = centroids.chunks_exact(depth).map(|row| -128 * sum(row)).collect();
    starts.iter_mut().zip(bias).for_each(|(start, bias)| *start = start.wrapping_sub(*bias));
    starts
}

/// Calls `take(block, first row, sums)` for tiles of up to 8 rows, for each block in ascending order of rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn for_each_tile(
    lanes: &QueryLanes,
    centroids: &[i8],
    starts: &[i32],
    mut take: impl FnMut(usize, usize, &[[__m512i; 2]]),
) {
    let (depth, rows) = (lanes.depth(), starts.len());
    let size = lanes.stored_depth() * LANES;
    let mut raised = Aligned::<u8>::zeroed(lanes.blocks().min(GROUP) * size);
    for group in (0..lanes.blocks()).step_by(GROUP) {
        let blocks = group..(group + GROUP).min(lanes.blocks());
        for (block, raised) in blocks.clone().zip(raised.chunks_exact_mut(size)) {
            raise(lanes.block(block), raised);
        }
        for chunk in (0..rows).step_by(chunk_rows(depth)) {
            let end = (chunk + chunk_rows(depth)).min(rows);
            for (block, raised) in blocks.clone().zip(raised.chunks_exact(size)) {
                let mut row = chunk;
                while row + TILE <= end {
                    take(block, row, &dot_tile::<TILE>(&centroids[row * depth..], depth, raised, &starts[row..]));
                    row += TILE;
                }
                for row in row..end {
                    take(block, row, &dot_tile::<1>(&centroids[row * depth..], depth, raised, &starts[row..]));
                }
            }
        }
    }
}

/// The query as `q + 128`, since `vpdpbusd` wants one side unsigned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn raise(lanes: &[i8], out: &mut [u8]) {
    for (lanes, out) in lanes.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<64>().0) {
        let lanes = load_u8x64(&lanes.map(i8::cast_unsigned));
        store_u8x64(out, _mm512_xor_si512(lanes, _mm512_set1_epi8(i8::MIN)));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_tile<const ROWS: usize>(centroids: &[i8], depth: usize, raised: &[u8], starts: &[i32]) -> [[__m512i; 2]; ROWS] {
    assert!(centroids.len() >= ROWS * depth && raised.len() >= depth * LANES && depth.is_multiple_of(4));
    let starts: [__m512i; ROWS] = std::array::from_fn(|row| _mm512_set1_epi32(starts[row]));
    let mut sums = starts.map(|start| [start; 2]);
    for four in 0..depth / 4 {
        // SAFETY: (four + 1) · 128 ≤ raised.len(), asserted above.
        let query = unsafe {
            let query = raised.as_ptr().add(four * 4 * LANES);
            [_mm512_loadu_si512(query.cast()), _mm512_loadu_si512(query.add(64).cast())]
        };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row · depth + 4 · four + 4 ≤ centroids.len(), asserted above.
            let value = unsafe { centroids.as_ptr().add(row * depth + 4 * four).cast::<i32>().read_unaligned() };
            let value = _mm512_set1_epi32(value);
            sums[0] = _mm512_dpbusd_epi32(sums[0], query[0], value);
            sums[1] = _mm512_dpbusd_epi32(sums[1], query[1], value);
        }
    }
    sums
}
