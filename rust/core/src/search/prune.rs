//! Fewer candidates: the best by MaxSim over centroids go on to be scored on their codes.

use super::gather::{Candidate, Estimate, Gathered, estimate_by_centroids};
use super::prepare::Prepared;
use crate::error::Result;
use crate::index::Snapshot;

/// Candidates with imputed estimates that are estimated again by all their centroids, for each one that is scored.
const ESTIMATED_PER_SCORED: usize = 8;

/// The `keep` best candidates, best first.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(super) fn prune(query: &Prepared<'_>, snapshot: &Snapshot, gathered: Gathered, keep: usize) -> Result<Gathered> {
    let Gathered { mut candidates, estimate } = gathered;
    if estimate == Estimate::Imputed {
        cut(&mut candidates, keep.saturating_mul(ESTIMATED_PER_SCORED));
        candidates.sort_unstable_by_key(|candidate| candidate.at);
        estimate_by_centroids(query, snapshot, &mut candidates)?;
    }
    cut(&mut candidates, keep);
    candidates.sort_unstable_by(Candidate::order);
    Ok(Gathered { candidates, estimate: Estimate::CentroidMaxsim })
}

fn cut(candidates: &mut Vec<Candidate>, keep: usize) {
    if keep < candidates.len() {
        candidates.select_nth_unstable_by(keep, Candidate::order);
        candidates.truncate(keep);
    }
}
