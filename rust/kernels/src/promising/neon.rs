//! The best of 32 lanes in two registers, with their places in two others.

use std::arch::aarch64::{vaddq_u8, vbslq_u8, vcgtq_u8, vdupq_n_u8, vmaxq_u8};

use crate::aarch64::{load_u8x16, store_u8x16};
use crate::lanes::LANES;

#[target_feature(enable = "neon")]
pub(super) fn best(rows: &[[u8; LANES]], centroids: &[u16]) -> [u8; LANES] {
    let last = rows.len() - 1;
    let mut values = [vdupq_n_u8(0); 2];
    let mut places = [vdupq_n_u8(0); 2];
    let mut place = vdupq_n_u8(0);
    for &centroid in centroids {
        let halves = rows[usize::from(centroid).min(last)].as_chunks().0;
        for ((value, at), half) in values.iter_mut().zip(&mut places).zip(halves) {
            let half = load_u8x16(half);
            *at = vbslq_u8(vcgtq_u8(half, *value), place, *at);
            *value = vmaxq_u8(*value, half);
        }
        place = vaddq_u8(place, vdupq_n_u8(1));
    }
    let mut out = [0; LANES];
    for (places, out) in places.into_iter().zip(out.as_chunks_mut().0) {
        store_u8x16(out, places);
    }
    out
}
