//! The portable kernel.

use super::{FloatLanes, FloatVectors, for_each_document, widen};
use crate::lanes::LANES;

pub(super) fn maxsim(query: &FloatLanes, documents: &[FloatVectors], out: &mut [f32]) {
    for_each_document(query, documents, out, widen, |lanes, tokens, best| {
        for token in tokens.chunks_exact(query.dim) {
            let mut sums = [0.0_f32; LANES];
            for (lane, &x) in lanes.as_chunks::<LANES>().0.iter().zip(token) {
                for (sum, &q) in sums.iter_mut().zip(lane) {
                    *sum += q * x;
                }
            }
            for (best, &value) in best.iter_mut().zip(&sums) {
                *best = if value > *best { value } else { *best };
            }
        }
    });
}
