//! Pseudo-relevance feedback: the query is searched, its first hits say what else it is about, and it is asked again.
//!
//! This is ColBERT-PRF (Wang, Macdonald, Tonellotto and Ounis, *Pseudo-Relevance Feedback for Multiple Representation
//! Dense Retrieval*, ICTIR 2021). The token vectors of the first hits are clustered, and the means of the clusters that
//! are rarest in the collection join the query, weighted by their inverse document frequency. The paper looks up token
//! ids to know how rare a mean is. Here the cell of its nearest centroid says so: the index has a list of the documents
//! in each cell, and no token ids.

mod k_means;
mod options;

use std::cmp::Reverse;

use super::allowed::Allowed;
use super::batch::Rank;
use super::effort::Effort;
use super::options::SearchOptions;
use super::pass::pass;
use super::plan::Plan;
use super::prepare::Prepared;
use super::query::{MAX_QUERY_TOKENS, Query, check_queries};
use super::ranking::{Clock, Expansion, Ranking, Stats};
use super::rerank::in_document_order;
use super::rescore::rescore;
use super::score;
use super::top_k::{Hit, TopK, Wanted};
use crate::codec::{Codec, CodecKind};
use crate::error::{Error, Result};
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

pub use options::{Feedback, FeedbackMode, Weighting};

/// Token vectors times clusters, at most: with 128 dimensions a second or two of k-means.
const MAX_DISTANCES: u64 = 1 << 24;

/// Feedback with all that the queries of one filter share.
pub(super) struct TwoPasses<'a> {
    snapshot: &'a Snapshot,
    allowed: Allowed,
    feedback: &'a Feedback,
    first: Plan,
    /// Documents that the first pass finds.
    first_count: usize,
    second: Plan,
    wanted: Wanted<'a>,
}

impl<'a> TwoPasses<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        allowed: Allowed,
        feedback: &'a Feedback,
        wanted: Wanted<'a>,
        options: &SearchOptions,
    ) -> Result<Self> {
        feedback.validate()?;
        check_cells(snapshot)?;
        let (first_count, max_scored) = match feedback.mode {
            FeedbackMode::Ranker => (feedback.documents, options.max_scored),
            // All documents that will be scored again are hits here; many times as many need not be scored for that.
            FeedbackMode::Reranker => {
                let count = feedback.rescored.max(feedback.documents).max(wanted.count);
                let documents = snapshot.live_documents() as usize;
                let effort = Effort::choose(snapshot, 1, options);
                let usual = || effort.max_scored(1, documents).max(count);
                (count, Some(options.max_scored.unwrap_or_else(usual)))
            }
        };
        let narrow = SearchOptions {
            gather: options.gather,
            recall: options.recall,
            deviations: options.deviations,
            max_scored,
            probes: options.probes,
            threshold: options.threshold,
            ..SearchOptions::default()
        };
        let mut first = Plan::choose(snapshot, &allowed, first_count, &narrow);
        first.without_effect.retain(|&name| name != "max_scored" || options.max_scored.is_some());
        let second = Plan::choose(snapshot, &allowed, wanted.count, options);
        Ok(Self { snapshot, allowed, feedback, first, first_count, second, wanted })
    }

    /// Both passes for one query. Counts and seconds of the passes are summed.
    fn search(&self, query: Query<'_>, execution: &Execution) -> Result<Ranking> {
        let Self { snapshot, allowed, feedback, .. } = self;
        let Some(codec) = &snapshot.codec else { return Ok(Ranking::without_hits()) };
        let documents = Wanted { count: self.first_count, groups: None, rescore: None };
        let first = one(pass(snapshot, &[query], allowed, &self.first, documents, execution)?);
        let mut clock = Clock::start();
        let documents = &first.hits[..feedback.documents.min(first.hits.len())];
        feedback.check_distances(snapshot.tokens_of(documents.iter().map(|hit| hit.at)), documents.len())?;
        let points: Vec<Vec<f32>> =
            documents.iter().map(|hit| snapshot.decode_rotated(hit.at)).collect::<Result<_>>()?;
        let (live, seed) = (snapshot.live_documents(), snapshot.codec_options().seed);
        let frequency = |cell| snapshot.document_frequency(cell);
        let expansion = feedback.expand(codec, seed, query, &points.concat(), live, frequency)?;
        let own_weights = query.weights.map_or_else(|| vec![1.0; query.vectors.len() / codec.dim()], <[f32]>::to_vec);
        let weights = [&own_weights[..], &expansion.weights].concat();
        let vectors = [query.vectors, &expansion.vectors].concat();
        let expanded = Query { vectors: &vectors, weights: Some(&weights), ..query };
        let feedback_s = clock.lap();
        let second = match feedback.mode {
            FeedbackMode::Ranker => one(pass(snapshot, &[expanded], allowed, &self.second, self.wanted, execution)?),
            FeedbackMode::Reranker => score_again(snapshot, codec, expanded, &first.hits, self.wanted, execution)?,
        };
        let added = Stats { feedback_vectors: expansion.weights.len() as u64, feedback_s, ..Stats::default() };
        let stats = Stats { queries: 1, ..first.stats.add(second.stats).add(added) };
        Ok(Ranking { hits: second.hits, stats, expansion })
    }
}

impl Rank for TwoPasses<'_> {
    /// How the documents are found that the hits come from.
    fn plan(&self) -> &Plan {
        match self.feedback.mode {
            FeedbackMode::Ranker => &self.second,
            FeedbackMode::Reranker => &self.first,
        }
    }

    fn rank(&self, queries: &[Query<'_>], execution: &Execution) -> Result<Vec<Ranking>> {
        queries.iter().map(|&query| self.search(query, execution)).collect()
    }
}

/// The ranking of a single query.
fn one(rankings: Vec<Ranking>) -> Ranking {
    rankings.into_iter().next().unwrap_or_default()
}

/// The hits of the first pass by the scores of the expanded query.
fn score_again(
    snapshot: &Snapshot,
    codec: &Codec,
    query: Query<'_>,
    hits: &[Hit],
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Ranking> {
    let mut clock = Clock::start();
    let prepared = Prepared::new(codec, query);
    let prepare_s = clock.lap();
    let documents: Vec<Location> = hits.iter().map(|hit| hit.at).collect();
    let mut best = TopK::new(wanted);
    best.extend(score::score(&prepared, snapshot, &in_document_order(&documents), execution)?);
    let score_s = clock.lap();
    let hits = best.into_hits();
    let (scored, scored_tokens) = (documents.len() as u64, snapshot.tokens_of(documents));
    let counts = Stats { scored, scored_tokens, prepare_s, score_s, ..Stats::default() };
    let stats = Stats { top_k_s: clock.lap(), ..counts };
    rescore(Ranking { hits, stats, expansion: Expansion::default() }, query, snapshot, wanted, execution)
}

/// What a query is expanded from where the documents are in several snapshots of one codec.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Token vectors of the first hits, best first, as [`Snapshot::decode_rotated`] has them: `[tokens, depth]`.
    pub points: &'a [f32],
    /// How many hits these are.
    pub hits: usize,
    /// Live documents of all snapshots.
    pub documents: u64,
    /// How many of them have a token in each cell: sums of [`frequencies`].
    pub frequencies: &'a [u64],
}

/// How many of the snapshot's live documents have a token in each cell.
///
/// # Errors
/// [`Error::Invalid`] for a codec without cells; [`Error::Corrupt`], [`Error::Interrupted`].
pub fn frequencies(snapshot: &Snapshot, execution: &Execution) -> Result<Vec<u64>> {
    check_cells(snapshot)?;
    let cells = snapshot.codec.as_ref().map_or(0, |codec| codec.centroid_count());
    let frequency = |cell| {
        execution.check()?;
        snapshot.document_frequency(cell as u16)
    };
    (0..cells).map(frequency).collect()
}

/// What joins one query, by the codec of a snapshot that needs no documents.
///
/// # Errors
/// [`Error::Invalid`] for options, queries and evidence that cannot be.
pub fn expand(
    snapshot: &Snapshot,
    query: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    feedback: &Feedback,
    evidence: Evidence<'_>,
) -> Result<Expansion> {
    feedback.validate()?;
    check_cells(snapshot)?;
    check_queries(snapshot, query, weights)?;
    let Some(codec) = &snapshot.codec else { return Ok(Expansion::default()) };
    if !evidence.points.len().is_multiple_of(codec.depth()) || evidence.frequencies.len() != codec.centroid_count() {
        return Err(Error::invalid("what the query is expanded from was made by another codec"));
    }
    feedback.check_distances((evidence.points.len() / codec.depth()) as u64, evidence.hits)?;
    let asked = Query { item: 0, vectors: query.values(), weights };
    let frequency = |cell| Ok(evidence.frequencies[usize::from(cell)]);
    feedback.expand(codec, snapshot.codec_options().seed, asked, evidence.points, evidence.documents, frequency)
}

impl Feedback {
    /// Refuses what would take longer than anybody waits for.
    fn check_distances(&self, tokens: u64, hits: usize) -> Result<()> {
        if tokens.saturating_mul(tokens.min(self.clusters as u64)) <= MAX_DISTANCES {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "feedback cannot put {tokens} token vectors of {hits} documents into {} clusters in reasonable time; ask for \
             fewer documents or clusters",
            self.clusters
        )))
    }

    /// What joins `query`, from the rotated token vectors `points` of its first hits; rarest first. `frequency` says how
    /// many of the `live` documents have a token in a cell.
    fn expand(
        &self,
        codec: &Codec,
        seed: u64,
        query: Query<'_>,
        points: &[f32],
        live: u64,
        frequency: impl Fn(u16) -> Result<u64>,
    ) -> Result<Expansion> {
        let depth = codec.depth();
        let clusters = k_means::k_means(points, depth, self.clusters, seed);
        let frequencies: Vec<u64> = codec.cells(&clusters.means).into_iter().map(frequency).collect::<Result<_>>()?;
        // Of two that are equally rare, the one that stands for more tokens.
        let mut order: Vec<usize> = (0..frequencies.len()).collect();
        order.sort_by_key(|&cluster| (frequencies[cluster], Reverse(clusters.sizes[cluster]), cluster));
        let room = MAX_QUERY_TOKENS.saturating_sub(query.vectors.len() / codec.dim());
        order.truncate(self.vectors.min(room));
        let means: Vec<f32> = order.iter().flat_map(|&at| &clusters.means[at * depth..][..depth]).copied().collect();
        let rarity: Vec<f64> = order.iter().map(|&cluster| inverse_frequency(live, frequencies[cluster])).collect();
        Ok(Expansion { vectors: codec.unrotate(&means), weights: self.weights(&rarity, query, codec.dim()) })
    }

    fn weights(&self, rarity: &[f64], query: Query<'_>, dim: usize) -> Vec<f32> {
        let scale = match self.weighting {
            Weighting::Raw => 1.0,
            Weighting::Normalised => {
                let asked = query.weights.map_or((query.vectors.len() / dim) as f64, |weights| {
                    weights.iter().map(|&weight| f64::from(weight)).sum()
                });
                let total: f64 = rarity.iter().sum();
                // Vectors that every document has say nothing, however they are scaled.
                if total > 0.0 { asked / total } else { 0.0 }
            }
        };
        rarity.iter().map(|rarity| (f64::from(self.weight) * scale * rarity) as f32).collect()
    }
}

/// Only the residual codec, once trained, has cells whose documents can be counted.
fn check_cells(snapshot: &Snapshot) -> Result<()> {
    let options = snapshot.codec_options();
    if options.kind == CodecKind::Flat {
        return Err(Error::invalid(
            "feedback needs to know how many documents are in each cell, and the flat codec has no cells; \
             create the index with codec=\"residual\"",
        ));
    }
    if snapshot.codec.as_ref().is_none_or(|codec| codec.centroid_count() == 0) {
        return Err(Error::invalid(format!(
            "feedback needs to know how many documents are in each cell, and this index of {} token vectors trains its \
             cells at {}; add documents, or create it with a smaller train_after",
            snapshot.tokens(),
            options.train_after
        )));
    }
    Ok(())
}

/// `ln((documents + 1) / (with + 1))`.
fn inverse_frequency(documents: u64, with: u64) -> f64 {
    ln((documents + 1) as f64 / (with + 1) as f64)
}

/// The natural logarithm of `x`, at least 1, by `2 artanh((x - 1) / (x + 1))`: a platform's own may differ in its last
/// bit from another's, and with it the weights.
fn ln(x: f64) -> f64 {
    let (mut fraction, mut halvings) = (x, 0.0);
    while fraction > std::f64::consts::SQRT_2 {
        fraction *= 0.5;
        halvings += 1.0;
    }
    let t = (fraction - 1.0) / (fraction + 1.0);
    // |t| < 0.1716, so that what is left out after t^25 is below 1e-20.
    let series = (0..13).rev().fold(0.0, |sum, term| sum * t * t + 1.0 / f64::from(2 * term + 1));
    halvings * std::f64::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::{Feedback, FeedbackMode, Query, Weighting, inverse_frequency, ln};

    fn feedback(weighting: Weighting) -> Feedback {
        let mode = FeedbackMode::Ranker;
        Feedback { documents: 3, clusters: 24, vectors: 10, weight: 0.5, weighting, mode, rescored: 1000 }
    }

    #[test]
    fn the_logarithm_is_the_logarithm() {
        for x in [1.0, 1.5, std::f64::consts::SQRT_2, 2.0, 3.0, 10.0, 1e6, 4e9, 1.8e19] {
            assert!((ln(x) - f64::ln(x)).abs() <= 4.0 * f64::EPSILON * f64::ln(x), "{x}");
        }
        assert_eq!(inverse_frequency(9, 9).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn normalised_weights_share_what_the_query_weighs() {
        let query = Query { item: 0, vectors: &[0.0; 8], weights: None };
        assert_eq!(feedback(Weighting::Raw).weights(&[6.0, 2.0], query, 2), [3.0, 1.0]);
        assert_eq!(feedback(Weighting::Normalised).weights(&[6.0, 2.0], query, 2), [1.5, 0.5]);
        let weighted = Query { weights: Some(&[1.0, 0.0, 0.5, 0.5]), ..query };
        assert_eq!(feedback(Weighting::Normalised).weights(&[6.0, 2.0], weighted, 2), [0.75, 0.25]);
        assert_eq!(feedback(Weighting::Normalised).weights(&[0.0, 0.0], query, 2), [0.0, 0.0]);
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let good = feedback(Weighting::Raw);
        assert!(good.validate().is_ok());
        for bad in [
            Feedback { documents: 0, ..good.clone() },
            Feedback { clusters: 0, ..good.clone() },
            Feedback { vectors: 0, ..good.clone() },
            Feedback { rescored: 0, ..good.clone() },
            Feedback { vectors: 25, ..good.clone() },
            Feedback { weight: -0.1, ..good.clone() },
            Feedback { weight: f32::NAN, ..good.clone() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
