//! The portable kernel: products of pairs, written so that the compiler vectorises it for any target.

use super::{CodeQuery, DocumentCodes, decode, weighted_sum};
use crate::aligned::Aligned;
use crate::centroid_scores::scalar::{Pair, Sums, lane_dots, spread};
use crate::lanes::LANES;

pub(super) fn maxsim(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    let (lanes, rows) = (query.lanes, query.rows());
    let (blocks, size) = (lanes.blocks(), lanes.stored_depth() * LANES);
    let mut pairs = Aligned::<i16>::zeroed(blocks * size);
    pairs.chunks_exact_mut(size).enumerate().for_each(|(block, out)| lanes.widen_block(block, out));
    let mut levels = vec![0; lanes.depth()];
    let mut row_pairs = vec![Pair::default(); lanes.depth() / 2];
    let mut sums = Sums::default();
    let mut maxima = vec![[0.0; LANES]; blocks];
    for (document, out) in documents.iter().zip(out) {
        if document.gains.is_empty() {
            *out = f32::NEG_INFINITY;
            continue;
        }
        maxima.fill([f32::NEG_INFINITY; LANES]);
        for (t, row) in document.codes.chunks_exact(query.row_bytes()).enumerate() {
            decode(query, row, &mut levels);
            spread(&levels, &mut row_pairs);
            let gain = super::gain(document.gains[t]);
            for (block, maxima) in maxima.iter_mut().enumerate() {
                lane_dots(&pairs[block * size..][..size], &row_pairs, &mut sums);
                let mut values = [0.0; LANES];
                values.iter_mut().zip(sums.as_flattened()).for_each(|(value, &dot)| *value = gain * dot as f32);
                if rows > 0 {
                    let centroid = usize::from(document.centroids[t]).min(rows - 1);
                    let coarse = &query.centroid_scores.as_chunks::<LANES>().0[block * rows + centroid];
                    values.iter_mut().zip(coarse).for_each(|(value, coarse)| *value += coarse);
                }
                for (maximum, value) in maxima.iter_mut().zip(values) {
                    *maximum = if value > *maximum { value } else { *maximum };
                }
            }
        }
        *out = weighted_sum(&maxima.as_flattened()[..lanes.tokens()], query.weights);
    }
}
