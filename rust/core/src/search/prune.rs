//! Fewer candidates: the best by MaxSim over centroids go on to where their codes are read.

use std::collections::{HashMap, HashSet};

use super::gather::{Candidate, Estimate, Gathered, estimate_by_centroids};
use super::prepare::Prepared;
use super::top_k::Wanted;
use crate::error::Result;
use crate::index::{Group, Groups, Snapshot};

/// Candidates with other estimates that are estimated again by all their centroids, for each one that may be scored.
const ESTIMATED_PER_SCORED: usize = 8;
/// Candidates that may be refined, for each one that may be scored.
const REFINED_PER_SCORED: usize = 6;

/// The candidates to refine, in no order, where `most` may be scored.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(super) fn prune(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    gathered: Gathered,
    most: usize,
    wanted: Wanted<'_>,
) -> Result<Vec<Candidate>> {
    let Gathered { mut candidates, estimate } = gathered;
    if estimate != Estimate::CentroidMaxsim {
        cut(&mut candidates, most.saturating_mul(ESTIMATED_PER_SCORED), wanted);
        candidates.sort_unstable_by_key(|candidate| candidate.at);
        estimate_by_centroids(query, snapshot, &mut candidates)?;
    }
    cut(&mut candidates, most.saturating_mul(REFINED_PER_SCORED), wanted);
    Ok(candidates)
}

/// Leaves the `keep` best candidates, in no order. Where they are of fewer groups than wanted, the best one of each further
/// group stays too.
pub(super) fn cut(candidates: &mut Vec<Candidate>, keep: usize, wanted: Wanted<'_>) {
    if keep < candidates.len() {
        candidates.select_nth_unstable_by(keep, Candidate::order);
        let further = wanted.groups.map_or_else(Vec::new, |groups| {
            let (kept, rest) = candidates.split_at(keep);
            best_of_further_groups(kept, rest, groups, wanted.count)
        });
        candidates.truncate(keep);
        candidates.extend(further);
    }
}

/// The best of `rest` for as many groups as are missing in `kept` to make `count`.
fn best_of_further_groups(kept: &[Candidate], rest: &[Candidate], groups: &Groups, count: usize) -> Vec<Candidate> {
    let known: HashSet<Group<'_>> = kept.iter().map(|candidate| groups.of(candidate.at)).collect();
    let missing = count.saturating_sub(known.len());
    if missing == 0 {
        return Vec::new();
    }
    let mut best: HashMap<Group<'_>, Candidate> = HashMap::new();
    for candidate in rest {
        let group = groups.of(candidate.at);
        if !known.contains(&group) {
            let best = best.entry(group).or_insert(*candidate);
            if candidate.order(best).is_lt() {
                *best = *candidate;
            }
        }
    }
    let mut best: Vec<Candidate> = best.into_values().collect();
    best.sort_unstable_by(Candidate::order);
    best.truncate(missing);
    best
}
