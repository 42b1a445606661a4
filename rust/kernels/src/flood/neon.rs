//! Two 16-byte maxima per cell.

use std::arch::aarch64::{uint8x16_t, vaddlvq_u8, vdupq_n_u8, vmaxq_u8};

use super::{AHEAD, RowTable, Span, prefetch_cells};
use crate::aarch64::load_u8x16;
use crate::lanes::LANES;

#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
fn document_sum(rows: &[[u8; LANES]], cells: &[u16]) -> u32 {
    let last = rows.len() - 1;
    let row = |cell: u16| {
        let halves = rows[usize::from(cell).min(last)].as_chunks().0;
        [load_u8x16(&halves[0]), load_u8x16(&halves[1])]
    };
    let mut maxima = [[vdupq_n_u8(0); 2]; 4];
    let (fours, tail) = cells.as_chunks::<4>();
    for four in fours {
        for (maximum, &cell) in maxima.iter_mut().zip(four) {
            *maximum = larger(*maximum, row(cell));
        }
    }
    for &cell in tail {
        maxima[0] = larger(maxima[0], row(cell));
    }
    let [low, high] = larger(larger(maxima[0], maxima[1]), larger(maxima[2], maxima[3]));
    u32::from(vaddlvq_u8(low)) + u32::from(vaddlvq_u8(high))
}

#[inline]
#[target_feature(enable = "neon")]
fn larger(a: [uint8x16_t; 2], b: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    [vmaxq_u8(a[0], b[0]), vmaxq_u8(a[1], b[1])]
}
