//! One 32-byte maximum per cell.

use std::arch::x86_64::{
    __m256i, _mm256_extract_epi64, _mm256_loadu_si256, _mm256_max_epu8, _mm256_sad_epu8, _mm256_setzero_si256,
};

use super::{AHEAD, RowTable, Span, prefetch_cells};
use crate::lanes::LANES;

#[target_feature(enable = "avx2")]
pub(super) fn flood(table: &RowTable, cells: &[u16], documents: &[Span], out: &mut [u32]) {
    out.fill(0);
    for block in 0..table.blocks() {
        let rows = table.block(block);
        for (at, (span, out)) in documents.iter().zip(&mut *out).enumerate() {
            prefetch_cells(cells, documents.get(at + AHEAD));
            *out += document_sum(rows, span.cells(cells));
        }
    }
}

/// Four maxima side by side, so that loads of successive rows do not wait for each other's maximum.
#[inline]
#[target_feature(enable = "avx2")]
fn document_sum(rows: &[[u8; LANES]], cells: &[u16]) -> u32 {
    let last = rows.len() - 1;
    let row = |cell: u16| load(&rows[usize::from(cell).min(last)]);
    let mut maxima = [_mm256_setzero_si256(); 4];
    let (fours, tail) = cells.as_chunks::<4>();
    for four in fours {
        for (maximum, &cell) in maxima.iter_mut().zip(four) {
            *maximum = _mm256_max_epu8(*maximum, row(cell));
        }
    }
    for &cell in tail {
        maxima[0] = _mm256_max_epu8(maxima[0], row(cell));
    }
    let maximum = _mm256_max_epu8(_mm256_max_epu8(maxima[0], maxima[1]), _mm256_max_epu8(maxima[2], maxima[3]));
    let sums = _mm256_sad_epu8(maximum, _mm256_setzero_si256());
    let total = _mm256_extract_epi64::<0>(sums)
        + _mm256_extract_epi64::<1>(sums)
        + _mm256_extract_epi64::<2>(sums)
        + _mm256_extract_epi64::<3>(sums);
    total as u32
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(row: &[u8; LANES]) -> __m256i {
    // SAFETY: 32 readable bytes; `loadu` asks for no alignment.
    unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
}
