//! The k best hits, in an order that never depends on how they were found.

use std::cmp::Ordering;

use crate::index::Location;

/// A scored document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Where the document is.
    pub at: Location,
    /// MaxSim on the stored codes.
    pub score: f32,
}

impl Hit {
    /// Higher scores first, equal ones in document order.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.at.cmp(&other.at))
    }
}

/// The `k` best, best first.
pub(super) fn top_k(mut hits: Vec<Hit>, k: usize) -> Vec<Hit> {
    if k < hits.len() {
        hits.select_nth_unstable_by(k, Hit::order);
        hits.truncate(k);
    }
    hits.sort_unstable_by(Hit::order);
    hits
}
