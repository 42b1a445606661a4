//! Candidates for a query: every way to find them, behind one trait.

mod candidates;
mod fde;
mod flood;
mod postings;

use super::allowed::Allowed;
use super::prepare::Prepared;
use super::top_k::Wanted;
use crate::error::Result;
use crate::index::Snapshot;
use crate::parallel::Execution;

pub(super) use candidates::{Candidate, Estimate, Gather, Gathered};
pub(super) use fde::{Fde, check_fdes};
pub(super) use flood::Flood;
pub(super) use postings::Postings;

/// Candidates for the query: at least so many, if there are as many, and of as many groups as are wanted. Cells that were not
/// probed may hold more than the others.
///
/// # Errors
/// As [`Gather::gather`].
pub(super) fn gather(
    by: &dyn Gather,
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    allowed: &Allowed,
    least: usize,
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Gathered> {
    let found = by.gather(query, snapshot, allowed, execution)?;
    let documents = found.candidates.iter().map(|candidate| candidate.at);
    let enough = found.estimate == Estimate::CentroidMaxsim
        || found.candidates.len() >= least && (wanted.groups.is_none() || wanted.first_enough(documents).is_some());
    if enough { Ok(found) } else { Flood.gather(query, snapshot, allowed, execution) }
}

/// Replaces the estimates of candidates, which are in document order, by MaxSim over all their centroids.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(super) fn estimate_by_centroids(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    candidates: &mut [Candidate],
) -> Result<()> {
    for block in candidates.chunk_by_mut(|a, b| a.at.segment == b.at.segment) {
        let segment = &snapshot.segments[block[0].at.segment as usize];
        let ordinals: Vec<u32> = block.iter().map(|candidate| candidate.at.ordinal).collect();
        let estimates = flood::estimate(query.rows(), segment, &ordinals)?;
        block.iter_mut().zip(estimates).for_each(|(candidate, estimate)| candidate.estimate = estimate);
    }
    Ok(())
}
