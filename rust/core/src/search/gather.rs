//! Candidates for a query: every way to find them, behind one trait, and the choice between them.

mod flood;
mod postings;

use std::cmp::Ordering;

use super::allowed::Allowed;
use super::prepare::Prepared;
use super::{GatherKind, SearchOptions};
use crate::error::Result;
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;

use flood::Flood;
use postings::Postings;

/// Documents scored on their codes, at most, unless the user says otherwise.
pub(super) const CANDIDATES: usize = 512;
/// At least this many candidates for each hit wanted.
const CANDIDATES_PER_HIT: usize = 8;
/// Cells probed for each query token: on 1.4 M real token vectors 2 find .986 of the exact top 10, 4 find .988, and 16
/// no more.
const PROBES: usize = 4;
/// Above this many token vectors, walking posting lists is cheaper than looking at every document.
const FLOOD_TOKENS: u64 = 2_000_000;

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

/// How a search finds what it scores.
pub(super) enum Plan {
    /// Every allowed document is scored.
    Exhaustive,
    /// A gatherer finds candidates, of which so many are scored at most.
    Candidates(Box<dyn Gather>, usize),
}

impl Plan {
    /// The user's choice, or the cheapest way that the index's size allows.
    pub(super) fn choose(snapshot: &Snapshot, allowed: &Allowed, options: &SearchOptions) -> Self {
        let candidates =
            options.candidates.unwrap_or(CANDIDATES.max(options.k.saturating_mul(CANDIDATES_PER_HIT))).max(options.k);
        let flat = snapshot.codec.as_ref().is_none_or(|codec| codec.centroid_count() == 0);
        let few = options.gather.is_none() && allowed.documents(snapshot) <= candidates as u64;
        if flat || few {
            return Self::Exhaustive;
        }
        // Posting lists name documents that a filter does not allow: too few of the others would be among the candidates.
        let flood = snapshot.tokens() <= FLOOD_TOKENS || allowed.is_restricted();
        let by_size = if flood { GatherKind::Flood } else { GatherKind::Postings };
        let gather: Box<dyn Gather> = match options.gather.unwrap_or(by_size) {
            GatherKind::Exact => return Self::Exhaustive,
            GatherKind::Flood => Box::new(Flood),
            GatherKind::Postings => Box::new(Postings {
                probes: options.probes.unwrap_or(PROBES),
                threshold: options.threshold.unwrap_or(f32::NEG_INFINITY),
            }),
        };
        Self::Candidates(gather, candidates)
    }
}
