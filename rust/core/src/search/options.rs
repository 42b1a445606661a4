//! What a search may choose, and what a rerank may choose as well.

use serde::Serialize;

use super::top_k::{Hit, Wanted};
use crate::error::{Error, Result};
use crate::ids::Id;
use crate::index::{Filter, Groups, Snapshot};
use crate::parallel::Execution;

/// How candidates are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GatherKind {
    /// Every document is scored on its codes.
    Exact,
    /// Every document is estimated by its cells' centroid scores.
    Flood,
    /// Documents in the cells nearest to each query token (PLAID), with imputation for cells not probed (WARP).
    Postings,
}

impl GatherKind {
    /// Every kind with the name users give it.
    pub const NAMES: [(&'static str, Self); 3] =
        [("exact", Self::Exact), ("flood", Self::Flood), ("postings", Self::Postings)];
}

/// Which of the ranked documents are returned, and with which score: what search and rerank share.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Hits wanted behind the `offset` best, or groups of them; `None` for all.
    pub k: Option<usize>,
    /// How many of the best are left out.
    pub offset: usize,
    /// Hits whose returned score is below are left out.
    pub min_score: Option<f64>,
    /// Divide each score, in float32, by the number of the query's own token vectors. The order is that of the undivided
    /// scores.
    pub length_normalize: bool,
    /// Only documents whose metadata match: no filter, one for all queries, or one for each.
    pub filters: Vec<Filter>,
    /// Only the best hit of each value of this metadata field, a path as in filters. A document without a value stands for
    /// itself; of several values, as lists have, the first counts; null and objects are none.
    pub group_by: Option<String>,
}

impl Selection {
    /// How many of the best must be found, and what counts as one.
    pub(super) fn wanted<'a>(&self, groups: Option<&'a Groups>) -> Wanted<'a> {
        Wanted { count: self.k.map_or(usize::MAX, |k| k.saturating_add(self.offset)), groups }
    }

    /// The groups of which only the best hits are returned.
    ///
    /// # Errors
    /// As [`Snapshot::matching`].
    pub(super) fn groups(&self, snapshot: &Snapshot, execution: &Execution) -> Result<Option<Groups>> {
        self.group_by.as_deref().map(|field| Groups::new(snapshot, field, execution)).transpose()
    }

    pub(super) fn validate(&self, queries: usize) -> Result<()> {
        if self.k == Some(0) {
            return Err(Error::invalid("k must be at least 1"));
        }
        let filters = self.filters.len();
        if filters > 1 && filters != queries {
            return Err(Error::invalid(format!(
                "{filters} filters for {queries} queries; give one for all, or one for each"
            )));
        }
        Ok(())
    }

    /// What is returned of the best hits, as many as are [`Self::wanted`], of a query of so many token vectors of its own.
    pub(super) fn select(&self, mut hits: Vec<Hit>, query_tokens: usize) -> Vec<Hit> {
        hits.drain(..self.offset.min(hits.len()));
        if self.length_normalize {
            for hit in &mut hits {
                hit.score /= query_tokens as f32;
            }
        }
        if let Some(least) = self.min_score {
            hits.truncate(hits.partition_point(|hit| f64::from(hit.score) >= least));
        }
        hits
    }
}

/// What the expanded query is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedbackMode {
    /// The whole index.
    Ranker,
    /// The best documents of the first pass.
    Reranker,
}

impl FeedbackMode {
    /// Every mode with the name users give it.
    pub const NAMES: [(&'static str, Self); 2] = [("ranker", Self::Ranker), ("reranker", Self::Reranker)];
}

/// How much the added vectors weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// In proportion to their inverse document frequencies, with a sum of `weight` times that of the query's own weights.
    Normalised,
    /// `weight` times their inverse document frequencies, as in the paper: in large collections, ten of them outweigh a
    /// query of thirty tokens.
    Raw,
}

impl Weighting {
    /// Every weighting with the name users give it.
    pub const NAMES: [(&'static str, Self); 2] = [("normalised", Self::Normalised), ("raw", Self::Raw)];
}

/// How a query is expanded.
#[derive(Clone, Debug)]
pub struct Feedback {
    /// First hits whose token vectors are looked at.
    pub documents: usize,
    /// Clusters of those vectors, at most.
    pub clusters: usize,
    /// Means that join the query, at most: no more than make it [`super::MAX_QUERY_TOKENS`] long.
    pub vectors: usize,
    /// Weight of the expansion; 0 leaves the query as it was.
    pub weight: f32,
    /// What `weight` multiplies.
    pub weighting: Weighting,
    /// What the expanded query is asked.
    pub mode: FeedbackMode,
    /// Of [`FeedbackMode::Reranker`]: documents of the first pass that are scored again, or as many as hits are wanted.
    pub rescored: usize,
}

/// What a search may choose; `None` leaves the choice to the index's size.
#[derive(Clone, Debug, Default)]
pub struct SearchOptions {
    /// Which documents are returned.
    pub selection: Selection,
    /// How candidates are found.
    pub gather: Option<GatherKind>,
    /// Documents scored on their codes, at most, unless more are wanted or too few groups are among them.
    pub max_scored: Option<usize>,
    /// Cells probed for each query token by [`GatherKind::Postings`].
    pub probes: Option<usize>,
    /// Least dot product of query token and centroid for a cell to be probed; the nearest cell always is.
    pub threshold: Option<f32>,
    /// Only these documents; ids of the index's kind that it does not have are passed over.
    pub ids: Option<Vec<Id>>,
    /// Ask a second time, with the query expanded by the first hits.
    pub feedback: Option<Feedback>,
}
