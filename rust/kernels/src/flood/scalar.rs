//! The portable kernel.

use super::table::{Range, Steps};
use super::{RowTable, Span};
use crate::lanes::LANES;

pub(super) fn flood(table: &RowTable, cells: &[u16], documents: &[Span], out: &mut [u32]) {
    let last = table.rows() - 1;
    for (span, out) in documents.iter().zip(out) {
        *out = 0;
        for block in 0..table.blocks() {
            let rows = table.block(block);
            let mut maxima = [0_u8; LANES];
            for &cell in span.cells(cells) {
                let row = &rows[usize::from(cell).min(last)];
                maxima.iter_mut().zip(row).for_each(|(maximum, &value)| *maximum = value.max(*maximum));
            }
            *out += maxima.iter().map(|&maximum| u32::from(maximum)).sum::<u32>();
        }
    }
}

pub(super) fn range(rows: &[[f32; LANES]], weight: &[f32; LANES]) -> Range {
    let mut range = Range { high: [f32::NEG_INFINITY; LANES], sum: [0.0; LANES] };
    for row in rows {
        for lane in 0..LANES {
            let value = row[lane] * weight[lane];
            range.sum[lane] += value;
            range.high[lane] = if value > range.high[lane] { value } else { range.high[lane] };
        }
    }
    range
}

#[expect(clippy::manual_clamp, reason = "`clamp` keeps NaN")]
pub(super) fn write(rows: &[[f32; LANES]], steps: &Steps, out: &mut [[u8; LANES]]) {
    for (row, out) in rows.iter().zip(out) {
        for lane in 0..LANES {
            let value = (row[lane] * steps.weight[lane] - steps.low[lane]) * steps.inverse[lane];
            // Adding 2^23 rounds half to even and leaves the integer in the low bits.
            out[lane] = (value.max(0.0).min(255.0) + 8_388_608.0).to_bits() as u8;
        }
    }
}
