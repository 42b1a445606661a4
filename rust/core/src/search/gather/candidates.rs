//! What is found, and how what finds it is called.

use std::cmp::Ordering;

use crate::error::Result;
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;
use crate::search::allowed::Allowed;
use crate::search::prepare::Prepared;

/// A document that may be a hit, with an estimate of its score.
#[derive(Clone, Copy, Debug)]
pub(in crate::search) struct Candidate {
    pub(in crate::search) at: Location,
    pub(in crate::search) estimate: f32,
}

impl Candidate {
    /// Better estimates first, equal ones in document order.
    pub(in crate::search) fn order(&self, other: &Self) -> Ordering {
        other.estimate.total_cmp(&self.estimate).then(self.at.cmp(&other.at))
    }
}

/// What a gatherer found.
pub(in crate::search) struct Gathered {
    pub(in crate::search) candidates: Vec<Candidate>,
    /// What the estimates are.
    pub(in crate::search) estimate: Estimate,
}

/// What a candidate's estimate is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::search) enum Estimate {
    /// MaxSim with each token vector replaced by its centroid.
    CentroidMaxsim,
    /// The same over probed cells only, with a bound in place of the others.
    Imputed,
    /// The dot product of fixed dimensional encodings: good for an order, and on no scale that others have.
    Fde,
}

/// A way to find candidates.
pub(in crate::search) trait Gather: Send + Sync {
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
