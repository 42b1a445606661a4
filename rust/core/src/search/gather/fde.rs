//! Every document is estimated by one dot product of fixed dimensional encodings.

use super::candidates::{Candidate, Estimate, Gather, Gathered};
use crate::codec::CodecKind;
use crate::error::{Error, Result};
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;
use crate::search::allowed::Allowed;
use crate::search::prepare::Prepared;

/// Documents estimated by one call of the kernel, at most.
const BLOCK_DOCUMENTS: usize = 1024;

pub(in crate::search) struct Fde;

impl Gather for Fde {
    fn gather(
        &self,
        query: &Prepared<'_>,
        snapshot: &Snapshot,
        allowed: &Allowed,
        execution: &Execution,
    ) -> Result<Gathered> {
        let query = query.fde().ok_or_else(without_fdes)?;
        let mut candidates = Vec::new();
        for segment in 0..snapshot.segments.len() {
            let mut ordinals = allowed.ordinals(snapshot, segment).peekable();
            while let Some(first) = ordinals.next() {
                execution.check()?;
                // Neighbours lie side by side.
                let mut run = first..first + 1;
                while run.len() < BLOCK_DOCUMENTS && ordinals.next_if_eq(&run.end).is_some() {
                    run.end += 1;
                }
                let (rows, units) = snapshot.segments[segment].fdes(run.clone())?.ok_or_else(without_fdes)?;
                let at = |ordinal| Location { segment: segment as u32, ordinal };
                let found = run.zip(query.estimate(rows, units));
                candidates.extend(found.map(|(ordinal, estimate)| Candidate { at: at(ordinal), estimate }));
            }
        }
        Ok(Gathered { candidates, estimate: Estimate::Fde })
    }
}

/// Sees that there are encodings of every document, where not all documents are scored anyway.
///
/// # Errors
/// [`Error::Invalid`].
pub(in crate::search) fn check_fdes(snapshot: &Snapshot) -> Result<()> {
    // Without centroids every document is scored, and none encoded.
    let trained = snapshot.codec.as_ref().is_some_and(|codec| codec.centroid_count() > 0);
    let encoded = !trained || snapshot.segments.iter().all(|segment| segment.has_fdes());
    let flat = snapshot.codec_options().kind == CodecKind::Flat;
    if flat || snapshot.fde_options().is_some() && encoded { Ok(()) } else { Err(without_fdes()) }
}

fn without_fdes() -> Error {
    Error::invalid(
        "this index has no fixed dimensional encodings for gather=\"fde\"; create it with fde=True, or leave gather out",
    )
}
