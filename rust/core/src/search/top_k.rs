//! The best hits, in an order that never depends on how they were found.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::index::{Groups, Location};

/// Hits that are kept beyond the wanted ones before they are sorted out.
const SPARE: usize = 4096;

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

/// How many hits are wanted: documents, or the best of each group.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// At least 1.
    pub(super) count: usize,
    pub(super) groups: Option<&'a Groups>,
}

impl Wanted<'_> {
    /// How many of these documents, from the first on, have as many hits among them as are wanted, if all have.
    pub(super) fn first_enough(&self, documents: impl IntoIterator<Item = Location>) -> Option<usize> {
        let mut groups = HashSet::new();
        let mut missing = self.count;
        let last = documents.into_iter().position(|at| {
            missing -= usize::from(self.groups.is_none_or(|known| groups.insert(known.of(at))));
            missing == 0
        });
        last.map(|last| last + 1)
    }
}

/// The best of the hits so far.
pub(super) struct TopK<'a> {
    wanted: Wanted<'a>,
    hits: Vec<Hit>,
}

impl<'a> TopK<'a> {
    pub(super) fn new(wanted: Wanted<'a>) -> Self {
        Self { wanted, hits: Vec::new() }
    }

    /// Takes hits of other documents.
    pub(super) fn extend(&mut self, hits: impl IntoIterator<Item = Hit>) {
        self.hits.extend(hits);
        // Seldom enough that it costs little for each document, however many are wanted.
        if self.hits.len() / 2 > self.wanted.count.max(SPARE) {
            self.sort();
        }
    }

    /// Takes the hit of another document, and tells whether that is among the best now. What came before is sorted.
    pub(super) fn enters(&mut self, hit: Hit) -> bool {
        let place = self.hits.partition_point(|known| known.order(&hit).is_le());
        if place >= self.wanted.count {
            return false;
        }
        if let Some(groups) = self.wanted.groups {
            let group = groups.of(hit.at);
            match self.hits.iter().position(|known| groups.of(known.at) == group) {
                Some(better) if better < place => return false,
                Some(worse) => drop(self.hits.remove(worse)),
                None => {}
            }
        }
        self.hits.insert(place, hit);
        self.hits.truncate(self.wanted.count);
        true
    }

    /// The best hits, best first.
    pub(super) fn sort(&mut self) -> &[Hit] {
        let count = self.wanted.count;
        if self.wanted.groups.is_none() && count < self.hits.len() {
            self.hits.select_nth_unstable_by(count, Hit::order);
            self.hits.truncate(count);
        }
        self.hits.sort_unstable_by(Hit::order);
        if let Some(groups) = self.wanted.groups {
            let mut known = HashSet::new();
            self.hits.retain(|hit| known.len() < count && known.insert(groups.of(hit.at)));
        }
        &self.hits
    }

    /// The last of the wanted hits, if there are so many.
    pub(super) fn last(&mut self) -> Option<Hit> {
        let last = self.wanted.count - 1;
        self.sort().get(last).copied()
    }

    pub(super) fn into_hits(mut self) -> Vec<Hit> {
        self.sort();
        self.hits
    }
}
