//! The portable kernel: products of pairs, written so that the compiler vectorises it for any target.

use super::queries::Queries;
use super::{DocumentCodes, decode};
use crate::aligned::Aligned;
use crate::centroid_scores::scalar::{Pair, Sums, lane_dots, spread};
use crate::lanes::LANES;

pub(super) fn maxsim(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    let (blocks, size) = (&queries.blocks, queries.stride * LANES);
    let mut pairs = Aligned::<i16>::zeroed(blocks.len() * size);
    pairs.chunks_exact_mut(size).zip(blocks).for_each(|(out, block)| block.widen(out));
    let mut levels = vec![0; queries.depth];
    let mut row_pairs = vec![Pair::default(); queries.depth / 2];
    let mut sums = Sums::default();
    let mut maxima = vec![[0.0; LANES]; blocks.len()];
    for (document, out) in documents.iter().zip(out.chunks_exact_mut(queries.len())) {
        if document.gains.is_empty() {
            out.fill(f32::NEG_INFINITY);
            continue;
        }
        maxima.fill([f32::NEG_INFINITY; LANES]);
        for (t, row) in document.codes.chunks_exact(queries.row_bytes).enumerate() {
            decode(queries.bits, queries.levels, row, &mut levels);
            spread(&levels, &mut row_pairs);
            let gain = super::gain(document.gains[t]);
            for ((block, pairs), maxima) in blocks.iter().zip(pairs.chunks_exact(size)).zip(&mut maxima) {
                lane_dots(pairs, &row_pairs, &mut sums);
                let mut values = [0.0; LANES];
                values.iter_mut().zip(sums.as_flattened()).for_each(|(value, &dot)| *value = gain * dot as f32);
                if let Some(last) = block.table.len().checked_sub(1) {
                    let coarse = &block.table[usize::from(document.centroids[t]).min(last)];
                    values.iter_mut().zip(coarse).for_each(|(value, coarse)| *value += coarse);
                }
                for (maximum, value) in maxima.iter_mut().zip(values) {
                    *maximum = if value > *maximum { value } else { *maximum };
                }
            }
        }
        queries.score(maxima.as_flattened(), out);
    }
}
