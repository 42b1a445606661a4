//! Candidates for a query: every way to find them, behind one trait.

mod flood;
mod postings;

use std::cmp::Ordering;

use super::allowed::Allowed;
use super::prepare::Prepared;
use super::top_k::Wanted;
use crate::error::Result;
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;

pub(super) use flood::Flood;
pub(super) use postings::Postings;

/// A document that may be a hit, with an estimate of its score.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) at: Location,
    pub(super) estimate: f32,
}

impl Candidate {
    /// Better estimates first, equal ones in document order.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        other.estimate.total_cmp(&self.estimate).then(self.at.cmp(&other.at))
    }
}

/// What a gatherer found.
pub(super) struct Gathered {
    pub(super) candidates: Vec<Candidate>,
    /// What the estimates are.
    pub(super) estimate: Estimate,
}

/// What a candidate's estimate is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Estimate {
    /// MaxSim with each token vector replaced by its centroid.
    CentroidMaxsim,
    /// The same over probed cells only, with a bound in place of the others.
    Imputed,
}

/// A way to find candidates.
pub(super) trait Gather: Send + Sync {
    /// Candidates for the query among the allowed documents.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], [`crate::Error::Interrupted`].
    fn gather(
        &self,
        query: &Prepared<'_>,
        snapshot: &Snapshot,
        allowed: &Allowed,
        execution: &Execution,
    ) -> Result<Gathered>;
}

/// Candidates for the query, of as many groups as are wanted: cells that were not probed may hold more than the others.
///
/// # Errors
/// As [`Gather::gather`].
pub(super) fn gather(
    by: &dyn Gather,
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    allowed: &Allowed,
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Gathered> {
    let found = by.gather(query, snapshot, allowed, execution)?;
    let documents = found.candidates.iter().map(|candidate| candidate.at);
    if wanted.groups.is_none() || found.estimate == Estimate::CentroidMaxsim || wanted.first_enough(documents).is_some()
    {
        return Ok(found);
    }
    Flood.gather(query, snapshot, allowed, execution)
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
    let rows = query.rows();
    for block in candidates.chunk_by_mut(|a, b| a.at.segment == b.at.segment) {
        let segment = &snapshot.segments[block[0].at.segment as usize];
        let ordinals: Vec<u32> = block.iter().map(|candidate| candidate.at.ordinal).collect();
        let estimates = flood::estimate(&rows, segment, &ordinals)?;
        block.iter_mut().zip(estimates).for_each(|(candidate, estimate)| candidate.estimate = estimate);
    }
    Ok(())
}
