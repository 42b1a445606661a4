//! The best hits, in an order that never depends on how they were found.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use crate::index::{Group, Groups, KeptVectors, Location};

/// Hits that are kept beyond the wanted ones: before they are sorted out, and to be scored again.
const SPARE: usize = 4096;
/// Hits of a group that are kept to be scored again: its best by one score is among so many by another.
const ALTERNATES: usize = 8;

/// A scored document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Where the document is.
    pub at: Location,
    /// MaxSim on the stored codes, or on the kept vectors.
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
    /// The vectors on which hits are scored again, if they are: there must then be more of them to choose from.
    pub(super) rescore: Option<KeptVectors>,
}

impl Wanted<'_> {
    /// The same of hits that have the score that is returned.
    pub(super) fn without_rescoring(self) -> Self {
        Self { rescore: None, ..self }
    }

    /// How many documents, or groups, are kept, and how many documents of a group.
    fn kept(&self) -> (usize, usize) {
        match self.rescore {
            None => (self.count, 1),
            Some(_) => (self.count.saturating_add(self.count.max(SPARE)), ALTERNATES),
        }
    }

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
    /// How many there were when they were last sorted out.
    sorted: usize,
}

impl<'a> TopK<'a> {
    pub(super) fn new(wanted: Wanted<'a>) -> Self {
        Self { wanted, hits: Vec::new(), sorted: 0 }
    }

    /// Takes hits of other documents.
    pub(super) fn extend(&mut self, hits: impl IntoIterator<Item = Hit>) {
        self.hits.extend(hits);
        // Seldom enough that it costs little for each document, however many are kept.
        if self.hits.len() / 2 > self.sorted.max(SPARE) {
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
        let (count, alternates) = self.wanted.kept();
        if self.wanted.groups.is_none() && count < self.hits.len() {
            self.hits.select_nth_unstable_by(count, Hit::order);
            self.hits.truncate(count);
        }
        self.hits.sort_unstable_by(Hit::order);
        if let Some(groups) = self.wanted.groups {
            let mut known: HashMap<Group<'_>, usize> = HashMap::new();
            self.hits.retain(|hit| {
                let group = groups.of(hit.at);
                if known.len() == count && !known.contains_key(&group) {
                    return false;
                }
                let of_group = known.entry(group).or_insert(0);
                *of_group += 1;
                *of_group <= alternates
            });
        }
        self.sorted = self.hits.len();
        &self.hits
    }

    /// The last of the wanted hits, if there are so many.
    pub(super) fn last(&mut self) -> Option<Hit> {
        self.sort();
        let enough = self.wanted.first_enough(self.hits.iter().map(|hit| hit.at))?;
        Some(self.hits[enough - 1])
    }

    pub(super) fn into_hits(mut self) -> Vec<Hit> {
        self.sort();
        self.hits
    }
}
