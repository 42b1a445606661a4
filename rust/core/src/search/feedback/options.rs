//! How a query is expanded.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::search::query::LARGEST_WEIGHT;

/// What the expanded query is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedbackMode {
    /// The whole index.
    Ranker,
    /// The best documents of the first pass.
    Reranker,
}

/// How much the added vectors weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// In proportion to their inverse document frequencies, with a sum of `weight` times that of the query's own weights.
    Normalised,
    /// `weight` times their inverse document frequencies, as in the paper: in large collections, ten of them outweigh a
    /// query of thirty tokens.
    Raw,
}

/// How a query is expanded.
#[derive(Clone, Debug, Deserialize)]
pub struct Feedback {
    /// First hits whose token vectors are looked at.
    pub documents: usize,
    /// Clusters of those vectors, at most.
    pub clusters: usize,
    /// Means that join the query, at most: no more than make it [`crate::search::MAX_QUERY_TOKENS`] long.
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

impl Feedback {
    /// # Errors
    /// [`Error::Invalid`] naming the option.
    pub(super) fn validate(&self) -> Result<()> {
        let counts = [
            ("documents", self.documents),
            ("clusters", self.clusters),
            ("vectors", self.vectors),
            ("rescored", self.rescored),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::invalid(format!("{name} of feedback must be at least 1")));
        }
        if self.vectors > self.clusters {
            let Self { vectors, clusters, .. } = self;
            return Err(Error::invalid(format!(
                "feedback cannot add {vectors} vectors from {clusters} clusters; ask for more clusters or fewer vectors"
            )));
        }
        if !(0.0..=LARGEST_WEIGHT).contains(&self.weight) {
            let message = format!("weight of feedback must be a number of at least 0 and at most {LARGEST_WEIGHT}");
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}
