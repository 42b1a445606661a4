//! The portable kernel: i16 lanes, written so that the compiler vectorises it for any target.

use super::{Bits, CodeQuery, DocumentCodes, decode, weighted_sum};
use crate::aligned::Aligned;
use crate::centroid_scores::scalar::lane_dots;
use crate::lanes::LANES;

pub(super) fn maxsim(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    let (lanes, rows) = (query.lanes, query.rows());
    let (blocks, size) = (lanes.blocks(), lanes.stored_depth() * LANES);
    let mut transposed = Aligned::<i16>::zeroed(blocks * size);
    transposed.chunks_exact_mut(size).enumerate().for_each(|(block, out)| lanes.transpose_block(block, out));
    let mut levels = vec![0; lanes.depth()];
    let mut dots = [0; LANES];
    let mut maxima = vec![[0.0; LANES]; blocks];
    for (document, out) in documents.iter().zip(out) {
        if document.gains.is_empty() {
            *out = f32::NEG_INFINITY;
            continue;
        }
        maxima.fill([f32::NEG_INFINITY; LANES]);
        for (t, row) in document.codes.chunks_exact(query.row_bytes()).enumerate() {
            decode(query, row, &mut levels);
            let gain = super::gain(document.gains[t]);
            for (block, maxima) in maxima.iter_mut().enumerate() {
                let transposed = &transposed[block * size..][..size];
                // 8 · 32 · 127 and 2 · 128 · 127 are both 32,512: that many products fit an i16.
                match query.bits {
                    Bits::Eight => lane_dots::<2>(transposed, &levels, &mut dots),
                    _ => lane_dots::<8>(transposed, &levels, &mut dots),
                }
                let mut values = dots.map(|dot| gain * dot as f32);
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
