//! The portable kernel, and the product of pairs that the portable `MaxSim` shares.

use super::Best;
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};

/// Two values of a row, four times over: what one SSE2 or NEON register multiplies with the pairs of four lanes.
pub(crate) type Pair = [i16; 8];

/// Sums of 32 lanes, in registers of four.
pub(crate) type Sums = [[i32; 4]; 8];

/// The row as pairs.
#[inline]
pub(crate) fn spread(row: &[i8], out: &mut [Pair]) {
    for (&[first, second], out) in row.as_chunks::<2>().0.iter().zip(out) {
        let (first, second) = (i16::from(first), i16::from(second));
        *out = [first, second, first, second, first, second, first, second];
    }
}

/// `Σ_d q[d] · row[d]` for each lane, exact: two products of at most 128 · 128 are added in i32.
///
/// `pairs` is one block from [`QueryLanes::widen_block`], at least as deep as `row`.
#[inline(never)]
pub(crate) fn lane_dots(pairs: &[i16], row: &[Pair], out: &mut Sums) {
    let mut sums = [[0; 4]; 8];
    for (queries, pair) in pairs.as_chunks::<8>().0.as_chunks::<8>().0.iter().zip(row) {
        for (sums, query) in sums.iter_mut().zip(queries) {
            let products = multiply_pairs(query, pair);
            for lane in 0..4 {
                sums[lane] += products[lane];
            }
        }
    }
    *out = sums;
}

/// In this shape, on arrays of one register, compilers find the instruction that multiplies and adds pairs.
#[expect(clippy::inline_always, reason = "the pattern is found only where it stands in the caller's loop")]
#[inline(always)]
fn multiply_pairs(query: &[i16; 8], pair: &Pair) -> [i32; 4] {
    let product = |d: usize| i32::from(query[d]) * i32::from(pair[d]);
    std::array::from_fn(|lane| product(2 * lane) + product(2 * lane + 1))
}

pub(super) fn scores(lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let mut pairs = Aligned::zeroed(lanes.stored_depth() * LANES);
    let mut spread_row = vec![Pair::default(); lanes.depth() / 2];
    let mut sums = Sums::default();
    let rows = centroids.chunks_exact(lanes.depth());
    for (block, out) in out.chunks_exact_mut((rows.len() * LANES).max(1)).enumerate() {
        lanes.widen_block(block, &mut pairs);
        for (row, out) in rows.clone().zip(out.as_chunks_mut::<LANES>().0) {
            spread(row, &mut spread_row);
            lane_dots(&pairs, &spread_row, &mut sums);
            out.iter_mut().zip(sums.as_flattened()).for_each(|(out, &sum)| *out = sum as f32 * unit);
        }
    }
}

pub(super) fn nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32], best: &mut [Best]) {
    let mut pairs = Aligned::zeroed(lanes.stored_depth() * LANES);
    let mut spread_row = vec![Pair::default(); lanes.depth() / 2];
    let mut sums = Sums::default();
    for (block, best) in best.iter_mut().enumerate() {
        lanes.widen_block(block, &mut pairs);
        for (row, (centroid, &bias)) in centroids.chunks_exact(lanes.depth()).zip(bias).enumerate() {
            spread(centroid, &mut spread_row);
            lane_dots(&pairs, &spread_row, &mut sums);
            for ((best, best_row), &dot) in best.dots.iter_mut().zip(&mut best.rows).zip(sums.as_flattened()) {
                let dot = dot.wrapping_sub(bias);
                (*best, *best_row) = if dot > *best { (dot, row as i32) } else { (*best, *best_row) };
            }
        }
    }
}
