//! What a search may choose.

use serde::{Deserialize, Deserializer, Serialize};

use super::feedback::Feedback;
use super::top_k::{Hit, Wanted};
use crate::error::{Error, Result};
use crate::ids::Id;
use crate::index::{Filter, Groups, KeptVectors, Snapshot};
use crate::parallel::Execution;

/// How candidates are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GatherKind {
    /// Every document is scored on its codes.
    Exact,
    /// Every document is estimated by its cells' centroid scores.
    Flood,
    /// Documents in the cells nearest to each query token (PLAID), with imputation for cells not probed (WARP).
    Postings,
    /// Every document is estimated by its fixed dimensional encoding (MUVERA); only in an index that has them.
    Fde,
}

/// Whether hits are scored again, on kept vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rescore {
    /// They are, on float16 vectors.
    Float16,
    /// They have the scores of their codes.
    Off,
}

/// Which of the ranked documents are returned, and with which score: what search and rerank share.
#[derive(Clone, Debug, Default, Deserialize)]
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
    #[serde(rename = "filter", deserialize_with = "read_filters")]
    pub filters: Vec<Filter>,
    /// Only the best hit of each value of this metadata field, a path as in filters. A document without a value stands for
    /// itself; of several values, as lists have, the first counts; null and objects are none.
    pub group_by: Option<String>,
    /// Whether hits are scored again on the vectors that the index keeps; `None`: if it keeps some.
    pub rescore: Option<Rescore>,
}

impl Selection {
    /// How many of the best must be found.
    pub(super) fn count(&self) -> usize {
        self.k.map_or(usize::MAX, |k| k.saturating_add(self.offset))
    }

    /// How many of the best must be found, by which score, and what counts as one.
    ///
    /// # Errors
    /// As [`Rescore::resolve`].
    pub(super) fn wanted<'a>(&self, snapshot: &Snapshot, groups: Option<&'a Groups>) -> Result<Wanted<'a>> {
        Ok(Wanted { count: self.count(), groups, rescore: Rescore::resolve(self.rescore, snapshot)? })
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

impl Rescore {
    /// The vectors on which hits are scored again, if they are.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they are to be, and the index keeps none.
    pub fn resolve(asked: Option<Self>, snapshot: &Snapshot) -> Result<Option<KeptVectors>> {
        match (asked, snapshot.keep_vectors()) {
            (Some(Self::Off), _) => Ok(None),
            (Some(Self::Float16), None) => Err(Error::invalid(
                "rescore=\"float16\" needs vectors that the index has kept, and this one keeps codes alone; leave rescore out, \
                 or build the index anew with keep_vectors=\"float16\"",
            )),
            (Some(Self::Float16) | None, kept) => Ok(kept),
        }
    }
}

/// Reads filters as JSON texts: none, one for all queries, or a list with one for each.
fn read_filters<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<Filter>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Each(Vec<String>),
    }
    let read = |text: &str, place: &str| {
        Filter::from_json(text).map_err(|error| serde::de::Error::custom(format!("{place}{error}")))
    };
    match Option::deserialize(from)? {
        None => Ok(Vec::new()),
        Some(Texts::One(text)) => Ok(vec![read(&text, "")?]),
        Some(Texts::Each(texts)) => {
            texts.iter().enumerate().map(|(query, text)| read(text, &format!("query {query}: "))).collect()
        }
    }
}

/// What a search may choose; `None` leaves the choice to the index's size.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SearchOptions {
    /// Which documents are returned.
    #[serde(skip)]
    pub selection: Selection,
    /// How candidates are found.
    pub gather: Option<GatherKind>,
    /// The share of the best documents by codes that is to be found, above 0 and at most 1; the others of these options follow
    /// it.
    pub recall: Option<f64>,
    /// How many standard deviations above its estimate a candidate may lie; `max_scored` and `probes` follow it. Goes before
    /// `recall`.
    pub deviations: Option<f64>,
    /// Documents scored on their codes, at most, unless more are wanted or too few groups are among them.
    pub max_scored: Option<usize>,
    /// Cells probed for each query token by [`GatherKind::Postings`].
    pub probes: Option<usize>,
    /// Least dot product of query token and centroid for a cell to be probed; the nearest cell always is.
    pub threshold: Option<f32>,
    /// Only these documents; ids of the index's kind that it does not have are passed over.
    #[serde(skip)]
    pub ids: Option<Vec<Id>>,
    /// Ask a second time, with the query expanded by the first hits.
    pub feedback: Option<Feedback>,
}

impl SearchOptions {
    /// Whether the user has set a limit of a stage himself.
    pub(super) fn is_limited(&self) -> bool {
        self.max_scored.is_some() || self.probes.is_some() || self.threshold.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selection;

    #[test]
    fn a_bad_filter_of_several_names_its_query() {
        let problem = |filter| {
            let options = json!({"k": 1, "offset": 0, "length_normalize": false, "filter": filter});
            serde_json::from_value::<Selection>(options).expect_err("a bad filter").to_string()
        };
        let bad = r#"{"a": {"$gt": 1}}"#;
        assert!(problem(json!(bad)).starts_with("filter on \"a\""));
        assert!(problem(json!(["{}", bad])).starts_with("query 1: filter on \"a\""));
    }
}
