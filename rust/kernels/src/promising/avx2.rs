//! The best of 32 lanes in a register, with their places in another.

use std::arch::x86_64::{
    _mm256_add_epi8, _mm256_blendv_epi8, _mm256_cmpeq_epi8, _mm256_max_epu8, _mm256_set1_epi8, _mm256_setzero_si256,
};

use crate::lanes::LANES;
use crate::x86::{load_u8x32, store_u8x32};

#[target_feature(enable = "avx2")]
pub(super) fn best(rows: &[[u8; LANES]], centroids: &[u16]) -> [u8; LANES] {
    let last = rows.len() - 1;
    let (mut values, mut places, mut place) = (_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256());
    for &centroid in centroids {
        let larger = _mm256_max_epu8(values, load_u8x32(&rows[usize::from(centroid).min(last)]));
        places = _mm256_blendv_epi8(place, places, _mm256_cmpeq_epi8(larger, values));
        values = larger;
        place = _mm256_add_epi8(place, _mm256_set1_epi8(1));
    }
    let mut out = [0; LANES];
    store_u8x32(&mut out, places);
    out
}
