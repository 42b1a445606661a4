//! `sdot` and `smmla` on 128-bit registers: tiles of 8 rows × 8 lanes, sixteen sums in registers.

use std::arch::aarch64::{
    int32x4_t, vbslq_s32, vcgtq_s32, vcvtq_f32_s32, vdupq_n_s32, vmaxq_s32, vmaxvq_u32, vmulq_n_f32,
    vreinterpretq_s8_u8, vsubq_s32,
};

use super::{Best, chunk_rows};
use crate::aarch64::{
    OCTET, ROWS, Register, Shape, dots_sdot, dots_smmla, load_i32x4, store_f32x4, store_i32x4, unsigned,
};
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};

/// Sums of eight rows with eight lanes.
type Sums = [[int32x4_t; 2]; ROWS];

/// Blocks whose packed copy is held at a time: at depth 128 they take 256 KiB of L2.
const GROUP: usize = 64;

#[target_feature(enable = "neon,dotprod")]
pub(super) fn scores(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    scores_with::<8>(lanes, centroids, unit, out, |tile, octet| dots_sdot(tile, octet));
}

#[target_feature(enable = "neon,i8mm")]
pub(super) fn scores_i8mm(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    scores_with::<4>(lanes, centroids, unit, out, |tile, octet| dots_smmla(tile, octet));
}

#[target_feature(enable = "neon,dotprod")]
pub(super) fn nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    nearest_with::<8>(lanes, centroids, bias, best, |tile, octet| dots_sdot(tile, octet));
}

#[target_feature(enable = "neon,i8mm")]
pub(super) fn nearest_i8mm(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    nearest_with::<4>(lanes, centroids, bias, best, |tile, octet| dots_smmla(tile, octet));
}

#[inline]
#[target_feature(enable = "neon")]
fn scores_with<const UNITS: usize>(
    lanes: &QueryLanes,
    centroids: &[i8],
    unit: f32,
    out: &mut [f32],
    dots: impl Fn(&[Register], &[Register]) -> Sums,
) {
    let rows = centroids.len() / lanes.depth();
    let out = out.as_chunks_mut::<LANES>().0;
    for_each_tile::<UNITS>(lanes, centroids, dots, |block, first, lane, sums| {
        let out = &mut out[block * rows..][first..rows];
        for (sums, out) in sums.iter().zip(out) {
            for (&sum, out) in sums.iter().zip(out[lane..].as_chunks_mut::<4>().0) {
                store_f32x4(out, vmulq_n_f32(vcvtq_f32_s32(sum), unit));
            }
        }
    });
}

#[inline]
#[target_feature(enable = "neon")]
fn nearest_with<const UNITS: usize>(
    lanes: &QueryLanes,
    centroids: &[i8],
    bias: &[i32],
    best: &mut [Best],
    dots: impl Fn(&[Register], &[Register]) -> Sums,
) {
    for_each_tile::<UNITS>(lanes, centroids, dots, |block, first, lane, sums| {
        // Past the last row it comes again, which beats nothing.
        let bias = std::array::from_fn(|row| bias[(first + row).min(bias.len() - 1)]);
        keep_best(&mut best[block], first, lane, sums, &bias);
    });
}

/// Takes eight rows into account in eight lanes. Most tiles beat no lane, so the rows are looked at one by one only if their
/// maximum does.
#[inline]
#[target_feature(enable = "neon")]
fn keep_best(best: &mut Best, first: usize, lane: usize, sums: &Sums, bias: &[i32; ROWS]) {
    let best_dots = best.dots[lane..].as_chunks_mut::<4>().0.iter_mut();
    let best_rows = best.rows[lane..].as_chunks_mut::<4>().0.iter_mut();
    for (half, (best_dots, best_rows)) in best_dots.zip(best_rows).take(2).enumerate() {
        let mut dots = load_i32x4(best_dots);
        let biased: [int32x4_t; ROWS] = std::array::from_fn(|row| vsubq_s32(sums[row][half], vdupq_n_s32(bias[row])));
        let highest = biased.iter().fold(biased[0], |highest, &sum| vmaxq_s32(highest, sum));
        if vmaxvq_u32(vcgtq_s32(highest, dots)) == 0 {
            continue;
        }
        let mut rows = load_i32x4(best_rows);
        for (row, sum) in biased.into_iter().enumerate() {
            rows = vbslq_s32(vcgtq_s32(sum, dots), vdupq_n_s32((first + row) as i32), rows);
            dots = vmaxq_s32(sum, dots);
        }
        store_i32x4(best_dots, dots);
        store_i32x4(best_rows, rows);
    }
}

/// Calls `take(block, first row, first lane, sums)` for tiles of rows, for each block in ascending order of rows. Past the
/// last row it comes again.
#[inline]
#[target_feature(enable = "neon")]
fn for_each_tile<const UNITS: usize>(
    lanes: &QueryLanes,
    centroids: &[i8],
    dots: impl Fn(&[Register], &[Register]) -> Sums,
    mut take: impl FnMut(usize, usize, usize, &Sums),
) {
    let depth = lanes.depth();
    let shape = Shape::<UNITS> { row_bytes: depth, planes: 1 };
    let chunk = chunk_rows(depth);
    let mut packed = Aligned::zeroed(lanes.blocks().min(GROUP) * shape.block_registers());
    let mut tiles = Aligned::zeroed(chunk / ROWS * shape.registers());
    for group in (0..lanes.blocks()).step_by(GROUP) {
        let blocks = group..(group + GROUP).min(lanes.blocks());
        let octets = packed.chunks_exact_mut(shape.block_registers());
        blocks.clone().zip(octets).for_each(|(block, out)| shape.pack(lanes.block(block), out));
        for (first, rows) in (0..).step_by(chunk).zip(unsigned(centroids).chunks(chunk * depth)) {
            for (rows, tile) in rows.chunks(ROWS * depth).zip(tiles.chunks_exact_mut(shape.registers())) {
                let last = rows.len() / depth - 1;
                let rows = std::array::from_fn(|row| &rows[row.min(last) * depth..][..depth]);
                shape.fill(rows, tile, |values| [vreinterpretq_s8_u8(values)]);
            }
            let count = (rows.len() / depth).div_ceil(ROWS);
            for (block, octets) in blocks.clone().zip(packed.chunks_exact(shape.block_registers())) {
                for (row, tile) in (first..).step_by(ROWS).zip(tiles.chunks_exact(shape.registers()).take(count)) {
                    for (lane, octet) in (0..).step_by(OCTET).zip(octets.chunks_exact(shape.registers())) {
                        take(block, row, lane, &dots(tile, octet));
                    }
                }
            }
        }
    }
}
