//! The portable kernel, and the i16 product that the portable `MaxSim` shares.

use super::Best;
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};

/// Lanes that are held at once: one register of the narrowest vector units, SSE2 and NEON.
const WIDTH: usize = 8;

/// `Σ_d transposed[d][lane] · row[d]` for each lane, exact.
///
/// `GROUP` products are added in i16 before they are widened; the caller proves that they fit. `transposed` is
/// `[depth][32]` from [`QueryLanes::transpose_block`], at least as deep as `row`, whose length is a multiple of 32.
#[inline]
pub(crate) fn lane_dots<const GROUP: usize>(transposed: &[i16], row: &[i8]) -> [i32; LANES] {
    let mut sums = [0_i32; LANES];
    let groups = transposed.as_chunks::<LANES>().0.as_chunks::<GROUP>().0;
    for (queries, values) in groups.iter().zip(row.as_chunks::<GROUP>().0) {
        let values = values.map(i16::from);
        for part in 0..LANES / WIDTH {
            let mut group = [0_i16; WIDTH];
            for (query, &value) in queries.iter().zip(&values) {
                for lane in 0..WIDTH {
                    group[lane] = group[lane].wrapping_add(query[part * WIDTH + lane].wrapping_mul(value));
                }
            }
            for lane in 0..WIDTH {
                sums[part * WIDTH + lane] += i32::from(group[lane]);
            }
        }
    }
    sums
}

pub(super) fn scores(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let mut transposed = Aligned::zeroed(lanes.stored_depth() * LANES);
    let rows = centroids.chunks_exact(lanes.depth());
    for (block, out) in out.chunks_exact_mut((rows.len() * LANES).max(1)).enumerate() {
        lanes.transpose_block(block, &mut transposed);
        for (row, out) in rows.clone().zip(out.as_chunks_mut::<LANES>().0) {
            *out = lane_dots::<2>(&transposed, row).map(|dot| dot as f32 * unit);
        }
    }
}

pub(super) fn nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    let mut transposed = Aligned::zeroed(lanes.stored_depth() * LANES);
    for (block, best) in best.iter_mut().enumerate() {
        lanes.transpose_block(block, &mut transposed);
        for (row, (centroid, &bias)) in centroids.chunks_exact(lanes.depth()).zip(bias).enumerate() {
            let dots = lane_dots::<2>(&transposed, centroid).map(|dot| dot.wrapping_sub(bias));
            for lane in 0..LANES {
                if dots[lane] > best.dots[lane] {
                    best.dots[lane] = dots[lane];
                    best.rows[lane] = row as i32;
                }
            }
        }
    }
}
