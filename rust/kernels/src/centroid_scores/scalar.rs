//! The portable kernel, and the i16 product that the portable `MaxSim` shares.

use super::Best;
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};

/// `Σ_d transposed[d][lane] · row[d]` for each lane, exact.
///
/// `GROUP` products are added in i16 before they are widened; the caller proves that they fit. `transposed` is
/// `[depth][32]` from [`QueryLanes::transpose_block`], at least as deep as `row`, whose length is a multiple of 32.
///
/// The loop over lanes is innermost and runs over slices, not arrays: a loop of known length would be unrolled before the
/// vectoriser sees it.
#[inline(never)]
pub(crate) fn lane_dots<const GROUP: usize>(transposed: &[i16], row: &[i8], sums: &mut [i32]) {
    let lanes = sums.len();
    sums.fill(0);
    for (queries, values) in transposed.chunks_exact(LANES * GROUP).zip(row.as_chunks::<GROUP>().0) {
        let values = values.map(i16::from);
        let queries: [&[i16]; GROUP] = std::array::from_fn(|d| &queries[d * LANES..][..lanes]);
        for (lane, sum) in sums.iter_mut().enumerate() {
            let product = |d: usize| queries[d][lane].wrapping_mul(values[d]);
            *sum += i32::from((0..GROUP).fold(0_i16, |group, d| group.wrapping_add(product(d))));
        }
    }
}

pub(super) fn scores(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let mut transposed = Aligned::zeroed(lanes.stored_depth() * LANES);
    let mut dots = [0; LANES];
    let rows = centroids.chunks_exact(lanes.depth());
    for (block, out) in out.chunks_exact_mut((rows.len() * LANES).max(1)).enumerate() {
        lanes.transpose_block(block, &mut transposed);
        for (row, out) in rows.clone().zip(out.as_chunks_mut::<LANES>().0) {
            lane_dots::<2>(&transposed, row, &mut dots);
            *out = dots.map(|dot| dot as f32 * unit);
        }
    }
}

pub(super) fn nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    let mut transposed = Aligned::zeroed(lanes.stored_depth() * LANES);
    let mut dots = [0; LANES];
    for (block, best) in best.iter_mut().enumerate() {
        lanes.transpose_block(block, &mut transposed);
        for (row, (centroid, &bias)) in centroids.chunks_exact(lanes.depth()).zip(bias).enumerate() {
            lane_dots::<2>(&transposed, centroid, &mut dots);
            for ((best, best_row), &dot) in best.dots.iter_mut().zip(&mut best.rows).zip(&dots) {
                let dot = dot.wrapping_sub(bias);
                (*best, *best_row) = if dot > *best { (dot, row as i32) } else { (*best, *best_row) };
            }
        }
    }
}
