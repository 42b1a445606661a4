//! Every document is estimated by the centroids of its tokens: one 32-byte maximum a cell.

use latewood_kernels::{Level, RowTable, Span};

use super::candidates::{Candidate, Estimate, Gather, Gathered};
use crate::error::Result;
use crate::index::{Location, Segment, Snapshot};
use crate::parallel::Execution;
use crate::search::allowed::Allowed;
use crate::search::prepare::Prepared;

/// Documents estimated by one call of the kernel.
const BLOCK_DOCUMENTS: usize = 1024;

pub(in crate::search) struct Flood;

impl Gather for Flood {
    fn gather(
        &self,
        query: &Prepared<'_>,
        snapshot: &Snapshot,
        allowed: &Allowed,
        execution: &Execution,
    ) -> Result<Gathered> {
        let rows = query.rows();
        let mut candidates = Vec::new();
        for segment in 0..snapshot.segments.len() {
            let ordinals: Vec<u32> = allowed.ordinals(snapshot, segment).collect();
            let blocks = execution
                .map(ordinals.chunks(BLOCK_DOCUMENTS), |block| estimate(rows, &snapshot.segments[segment], block))?;
            let found = ordinals.iter().zip(blocks.iter().flatten());
            let at = |ordinal| Location { segment: segment as u32, ordinal };
            candidates.extend(found.map(|(&ordinal, &estimate)| Candidate { at: at(ordinal), estimate }));
        }
        Ok(Gathered { candidates, estimate: Estimate::CentroidMaxsim })
    }
}

/// MaxSim of each document with its token vectors replaced by their centroids, to a byte a query token.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(in crate::search) fn estimate(rows: &RowTable, segment: &Segment, ordinals: &[u32]) -> Result<Vec<f32>> {
    let (cells, offsets) = (segment.cells()?, segment.cell_offsets());
    // A file that changes under its reader may give wrong estimates, but no span that is not inside.
    let span = |&ordinal: &u32| {
        let end = offsets[ordinal as usize + 1].min(cells.len() as u32);
        Span { start: offsets[ordinal as usize].min(end), end }
    };
    let spans: Vec<Span> = ordinals.iter().map(span).collect();
    let mut sums = vec![0_u32; spans.len()];
    latewood_kernels::flood(Level::current(), rows, cells, &spans, &mut sums);
    Ok(sums.iter().map(|&sum| rows.offset() + rows.step() * sum as f32).collect())
}
