//! One 32-byte maximum per cell, and eight scores of a table at a time.

use std::arch::x86_64::{
    __m256i, _mm256_add_ps, _mm256_cvtps_epi32, _mm256_extract_epi64, _mm256_loadu_si256, _mm256_max_epu8,
    _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permutevar8x32_epi32,
    _mm256_sad_epu8, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sub_ps,
};

use super::table::{Range, Steps};
use super::{AHEAD, RowTable, Span, prefetch_cells};
use crate::lanes::LANES;
use crate::x86::{load_f32x8, store_f32x8, store_u8x32};

/// Where the registers of a row of scores begin.
const PARTS: [usize; 4] = [0, 8, 16, 24];

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

#[target_feature(enable = "avx2")]
pub(super) fn range(rows: &[[f32; LANES]], weight: &[f32; LANES]) -> Range {
    let weight = PARTS.map(|part| load_f32x8(&weight[part..]));
    let mut high = [_mm256_set1_ps(f32::NEG_INFINITY); 4];
    let mut sum = [_mm256_setzero_ps(); 4];
    for row in rows {
        for (register, part) in PARTS.into_iter().enumerate() {
            let value = _mm256_mul_ps(load_f32x8(&row[part..]), weight[register]);
            sum[register] = _mm256_add_ps(sum[register], value);
            high[register] = _mm256_max_ps(value, high[register]);
        }
    }
    let mut range = Range { high: [0.0; LANES], sum: [0.0; LANES] };
    for (register, part) in PARTS.into_iter().enumerate() {
        store_f32x8(&mut range.high[part..], high[register]);
        store_f32x8(&mut range.sum[part..], sum[register]);
    }
    range
}

#[target_feature(enable = "avx2")]
pub(super) fn write(rows: &[[f32; LANES]], steps: &Steps, out: &mut [[u8; LANES]]) {
    let load = |lanes: &[f32; LANES]| PARTS.map(|part| load_f32x8(&lanes[part..]));
    let (weight, low, inverse) = (load(&steps.weight), load(&steps.low), load(&steps.inverse));
    let (least, most) = (_mm256_setzero_ps(), _mm256_set1_ps(255.0));
    // Packing works on halves of registers and leaves groups of four bytes in this order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (row, out) in rows.iter().zip(out) {
        let steps: [__m256i; 4] = std::array::from_fn(|register| {
            let value = _mm256_mul_ps(load_f32x8(&row[PARTS[register]..]), weight[register]);
            let value = _mm256_mul_ps(_mm256_sub_ps(value, low[register]), inverse[register]);
            // In this order of operands NaN becomes 0.
            _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(value, least), most))
        });
        let words = [_mm256_packs_epi32(steps[0], steps[1]), _mm256_packs_epi32(steps[2], steps[3])];
        store_u8x32(out, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words[0], words[1]), order));
    }
}
