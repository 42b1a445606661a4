//! The portable kernel.

use super::{FloatLanes, for_each_document};
use crate::lanes::LANES;

pub(super) fn maxsim(query: &FloatLanes, documents: &[&[f32]], out: &mut [f32]) {
    for_each_document(query, documents, out, |lanes, document, best| {
        for token in document.chunks_exact(query.dim) {
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
