//! The portable kernel.

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
