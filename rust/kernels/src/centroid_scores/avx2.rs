//! 256-bit kernels: `maddubs` on raised rows (AVX2), `vpdpbusd` (AVX-VNNI).

use std::arch::x86_64::{
    __m256i, _mm256_blendv_epi8, _mm256_castsi256_ps, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_dpbusd_avx_epi32,
    _mm256_loadu_si256, _mm256_max_epi32, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_sub_epi32,
};

use super::{Best, chunk_rows};
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};
use crate::x86::{OFFSET, dot_maddubs, load_i32x8, store_f32x8, store_i32x8};

/// Blocks whose converted copy is held at a time.
const GROUP: usize = 64;

/// Rows per tile: twelve sums for AVX-VNNI; for AVX2 as many as are worth comparing at once.
const TILE_VNNI: usize = 3;
const TILE: usize = 2;

#[target_feature(enable = "avx2,fma")]
pub(super) fn scores(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let rows = centroids.len() / lanes.depth();
    let out = out.as_chunks_mut::<LANES>().0;
    for_each_tile(lanes, centroids, |block, first, sums| store_scores(sums, unit, &mut out[block * rows + first..]));
}

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn scores_vnni(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let rows = centroids.len() / lanes.depth();
    let out = out.as_chunks_mut::<LANES>().0;
    let take = |block: usize, first: usize, sums: &[[__m256i; 4]]| {
        store_scores(sums, unit, &mut out[block * rows + first..]);
    };
    for_each_tile_vnni(lanes, centroids, take);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    for_each_tile(lanes, centroids, |block, first, sums| keep_best(&mut best[block], first, sums, &bias[first..]));
}

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn nearest_vnni(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    let take = |block: usize, first: usize, sums: &[[__m256i; 4]]| {
        keep_best(&mut best[block], first, sums, &bias[first..]);
    };
    for_each_tile_vnni(lanes, centroids, take);
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_scores(sums: &[[__m256i; 4]], unit: f32, out: &mut [[f32; LANES]]) {
    let unit = _mm256_set1_ps(unit);
    for (sums, out) in sums.iter().zip(out) {
        for (&sum, out) in sums.iter().zip(out.as_chunks_mut::<8>().0) {
            store_f32x8(out, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), unit));
        }
    }
}

/// Takes a few rows into account. Most tiles beat no lane, so the rows are looked at one by one only if their maximum does.
#[inline]
#[target_feature(enable = "avx2")]
fn keep_best(best: &mut Best, first: usize, sums: &[[__m256i; 4]], bias: &[i32]) {
    for part in 0..4 {
        let lanes = part * 8;
        let mut dots = load_i32x8(&best.dots[lanes..]);
        let biased = |row: usize| _mm256_sub_epi32(sums[row][part], _mm256_set1_epi32(bias[row]));
        let mut highest = biased(0);
        for row in 1..sums.len() {
            highest = _mm256_max_epi32(highest, biased(row));
        }
        if _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(highest, dots))) == 0 {
            continue;
        }
        let mut rows = load_i32x8(&best.rows[lanes..]);
        for row in 0..sums.len() {
            let greater = _mm256_cmpgt_epi32(biased(row), dots);
            rows = _mm256_blendv_epi8(rows, _mm256_set1_epi32((first + row) as i32), greater);
            dots = _mm256_max_epi32(biased(row), dots);
        }
        store_i32x8(&mut best.dots[lanes..], dots);
        store_i32x8(&mut best.rows[lanes..], rows);
    }
}

/// Calls `take(block, first row, sums)` for tiles of rows, for each block in ascending order of rows.
#[inline]
#[target_feature(enable = "avx2")]
fn for_each_tile(lanes: &QueryLanes, centroids: &[i8], mut take: impl FnMut(usize, usize, &[[__m256i; 4]])) {
    let depth = lanes.depth();
    let rows = centroids.len() / depth;
    let starts = lanes.starts(OFFSET);
    // One spare row, so that a tile of two may start at the last one.
    let mut raised = Aligned::<u8>::zeroed((chunk_rows(depth) + 1) * depth);
    for chunk in (0..rows).step_by(chunk_rows(depth)) {
        let end = (chunk + chunk_rows(depth)).min(rows);
        let values = &centroids[chunk * depth..end * depth];
        raised.iter_mut().zip(values).for_each(|(out, &c)| *out = c.wrapping_add(OFFSET as i8).cast_unsigned());
        for (block, start) in starts.iter().enumerate() {
            for row in (chunk..end).step_by(TILE) {
                let dot =
                    |at: usize| dot_maddubs(&raised[(row - chunk + at) * depth..], lanes.block(block), depth, start);
                take(block, row, &[dot(0), dot(1)][..TILE.min(end - row)]);
            }
        }
    }
}

/// As [`for_each_tile`], with the query raised by 128 and 128 · Σ row taken off at the start.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn for_each_tile_vnni(lanes: &QueryLanes, centroids: &[i8], mut take: impl FnMut(usize, usize, &[[__m256i; 4]])) {
    let depth = lanes.depth();
    let sum = |row: &[i8]| row.iter().map(|&c| i32::from(c)).sum::<i32>();
    let starts: Vec<i32> = centroids.chunks_exact(depth).map(|row| -128 * sum(row)).collect();
    let rows = starts.len();
    let size = lanes.stored_depth() * LANES;
    let mut raised = Aligned::<u8>::zeroed(lanes.blocks().min(GROUP) * size);
    for group in (0..lanes.blocks()).step_by(GROUP) {
        let blocks = group..(group + GROUP).min(lanes.blocks());
        for (block, raised) in blocks.clone().zip(raised.chunks_exact_mut(size)) {
            raised.iter_mut().zip(lanes.block(block)).for_each(|(out, &q)| *out = q.cast_unsigned() ^ 0x80);
        }
        for chunk in (0..rows).step_by(chunk_rows(depth)) {
            let end = (chunk + chunk_rows(depth)).min(rows);
            for (block, raised) in blocks.clone().zip(raised.chunks_exact(size)) {
                let mut row = chunk;
                while row + TILE_VNNI <= end {
                    let sums = dot_vnni::<TILE_VNNI>(&centroids[row * depth..], depth, raised, &starts[row..]);
                    take(block, row, &sums);
                    row += TILE_VNNI;
                }
                for row in row..end {
                    take(block, row, &dot_vnni::<1>(&centroids[row * depth..], depth, raised, &starts[row..]));
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot_vnni<const ROWS: usize>(centroids: &[i8], depth: usize, raised: &[u8], starts: &[i32]) -> [[__m256i; 4]; ROWS] {
    assert!(centroids.len() >= ROWS * depth && raised.len() >= depth * LANES && depth.is_multiple_of(4));
    let starts: [__m256i; ROWS] = std::array::from_fn(|row| _mm256_set1_epi32(starts[row]));
    let mut sums = starts.map(|start| [start; 4]);
    for four in 0..depth / 4 {
        let values: [__m256i; ROWS] = std::array::from_fn(|row| {
            // SAFETY: row · depth + 4 · four + 4 ≤ centroids.len(), asserted above.
            _mm256_set1_epi32(unsafe { centroids.as_ptr().add(row * depth + 4 * four).cast::<i32>().read_unaligned() })
        });
        // Lanes outside, rows inside: one register of the query at a time is all that is left beside twelve sums.
        for part in 0..4 {
            // SAFETY: (four + 1) · 128 ≤ raised.len(), asserted above.
            let query = unsafe { _mm256_loadu_si256(raised.as_ptr().add(four * 4 * LANES + part * 32).cast()) };
            for (sums, value) in sums.iter_mut().zip(values) {
                sums[part] = _mm256_dpbusd_avx_epi32(sums[part], query, value);
            }
        }
    }
    sums
}
