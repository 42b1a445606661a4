//! Centroid-row `MaxSim`: a document's score from the u8 rows of its tokens' centroids alone.
//!
//! `sum = Σ_lanes max over the document's cells of row[cell][lane]`, one 32-byte maximum per cell and block.
//!
//! # Bound
//! One row is half a cache line. From L2 a line comes every two cycles or so; the instructions per cell (load id, clamp,
//! shift, maximum) take one cycle. A sum is at most 255 · 32 · blocks, far below 2^32.

mod scalar;
mod table;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

pub use table::RowTable;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::lanes::LANES;
use crate::level::{Isa, Level};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::prefetch;

/// The cells of one document: `cells[start..end]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First cell.
    pub start: u32,
    /// One past the last cell.
    pub end: u32,
}

impl Span {
    fn cells(self, cells: &[u16]) -> &[u16] {
        &cells[self.start as usize..self.end as usize]
    }
}

/// Documents between the one that is summed and the one whose cells are asked for: of a few documents here and there no
/// prefetcher of the machine knows where the next one lies.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const AHEAD: usize = 8;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline]
fn prefetch_cells(cells: &[u16], later: Option<&Span>) {
    let later = later.map_or(&[][..], |span| span.cells(cells));
    later.chunks(LANES).for_each(|line| prefetch(line.as_ptr()));
}

/// Approximate `MaxSim` of documents: `out[i] = Σ_lanes max over cells[span i] of table row`, 0 for an empty span.
///
/// A cell past the last row reads the last row. [`RowTable::step`] and [`RowTable::offset`] turn a sum into a score.
///
/// # Panics
/// If `out` is not one entry per document, a span does not lie within `cells`, or the table has no row while a span is not
/// empty.
pub fn flood(level: Level, table: &RowTable, cells: &[u16], documents: &[Span], out: &mut [u32]) {
    assert_eq!(documents.len(), out.len(), "one sum per document");
    if table.rows() == 0 {
        assert!(documents.iter().all(|span| span.cells(cells).is_empty()), "a table without rows scores no cell");
        out.fill(0);
        return;
    }
    match level.0 {
        Isa::Scalar => scalar::flood(table, cells, documents, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these levels exist only where detection found avx2. A row is 32 bytes, so wider registers gain nothing.
        _ => unsafe { avx2::flood(table, cells, documents, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: these levels exist only where detection found neon.
        _ => unsafe { neon::flood(table, cells, documents, out) },
    }
}
