//! The second stage: somebody else's candidates, scored by MaxSim, with the candidate pruning and early exit of
//! *Multivector Reranking in the Era of Strong First-Stage Retrievers* (Martinico et al., ECIR 2026).

use std::cmp::Ordering;

use serde::Deserialize;

use super::allowed::Allowed;
use super::batch::{Batch, Rank};
use super::options::Selection;
use super::plan::Plan;
use super::prepare::Prepared;
use super::query::Query;
use super::ranking::{Answer, Clock, Expansion, Ranking, Stats};
use super::rescore::rescore;
use super::score;
use super::top_k::{Hit, TopK, Wanted};
use crate::error::{Error, Result};
use crate::ids::{IdRef, Missing};
use crate::index::{Groups, Location, Snapshot};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

/// First-stage candidates of a batch of queries: those of query `i` are `offsets[i]..offsets[i + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// Ids of all queries' candidates.
    pub ids: &'a [IdRef<'a>],
    /// `[queries + 1]`.
    pub offsets: &'a [i64],
    /// First-stage scores, higher is better; without them the given order is the first stage's.
    pub scores: Option<&'a [f64]>,
}

/// One query's candidates that several snapshots have scored, in the order of all their documents.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// MaxSim on codes, one for each.
    pub scores: &'a [f32],
    /// The group of each, as [`Snapshot::group_names`] has it, where hits are grouped.
    pub groups: Option<&'a [Option<String>]>,
    /// Places in `scores`, in the order in which the first stage gave the candidates.
    pub given: &'a [i64],
    /// First-stage scores in that order, higher is better.
    pub first: Option<&'a [f64]>,
}

/// What a rerank may choose.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RerankOptions {
    /// Which candidates are returned.
    #[serde(skip)]
    pub selection: Selection,
    /// Candidate pruning: drop candidates whose first-stage score is below `s_k - alpha · |s_k|`, where `s_k` is the
    /// k-th best, or below an infinite `s_k`. Smaller prunes more.
    pub alpha: Option<f64>,
    /// Early exit: after the first k, stop once this many candidates in a row have not entered the best k.
    pub beta: Option<usize>,
    /// How many best candidates, or groups, `alpha` and `beta` work towards; those that are returned by default.
    pub prune_to: Option<usize>,
    /// What to do about candidates that the index does not have.
    pub missing: Missing,
}

impl RerankOptions {
    /// The places of those candidates that a rerank of all in one snapshot would score, which are the ones that it ranks.
    ///
    /// # Errors
    /// [`Error::Invalid`] for lists of different lengths.
    pub fn choose(&self, candidates: &Scored<'_>) -> Result<Vec<usize>> {
        let Scored { scores, groups, given, first } = *candidates;
        let lengths = [groups.map(<[_]>::len), Some(given.len()), first.map(<[_]>::len)];
        if lengths.into_iter().flatten().any(|length| length != scores.len())
            || given.iter().any(|&place| place < 0 || place >= scores.len() as i64)
        {
            return Err(Error::invalid("each candidate needs a score, a group and a place"));
        }
        let groups = groups.map(Groups::named);
        let count = self.prune_to.unwrap_or(self.selection.count());
        let towards = Wanted { count, groups: groups.as_ref(), rescore: None };
        let order = first_stage_order(given.len(), first);
        let found = Given {
            locations: order.iter().map(|&at| Location { segment: 0, ordinal: given[at] as u32 }).collect(),
            scores: first.map_or_else(Vec::new, |first| order.iter().map(|&at| first[at]).collect()),
        };
        let score = |documents: &[Location]| {
            Ok(documents.iter().map(|&at| Hit { at, score: scores[at.ordinal as usize] }).collect())
        };
        let kept = prune_candidates(&found, self.alpha, towards);
        let chosen = match self.beta {
            Some(beta) => score_until_exit(kept, towards, beta, score)?,
            None => score(kept)?,
        };
        Ok(chosen.into_iter().map(|hit| hit.at.ordinal as usize).collect())
    }

    fn validate(&self, candidates: &Candidates<'_>, queries: usize) -> Result<()> {
        let prunes = self.alpha.is_some() || self.beta.is_some();
        let problem = if prunes && self.selection.k.is_none() && self.prune_to.is_none() {
            "alpha and beta say when to stop looking for the best: give k or prune_to"
        } else if self.prune_to == Some(0) {
            "prune_to must be at least 1"
        } else if self.alpha.is_some() && candidates.scores.is_none() && !candidates.ids.is_empty() {
            "alpha compares first-stage scores: give scores"
        } else if self.alpha.is_some_and(|alpha| !alpha.is_finite() || alpha < 0.0) {
            "alpha must be a finite number of at least 0"
        } else if self.beta == Some(0) {
            "beta must be at least 1"
        } else if candidates.scores.is_some_and(|scores| scores.len() != candidates.ids.len()) {
            "scores must have one entry for each candidate"
        } else if candidates.scores.is_some_and(|scores| scores.iter().any(|score| score.is_nan())) {
            "a first-stage score is NaN"
        } else if candidates.offsets.len() != queries + 1
            || candidates.offsets.first() != Some(&0)
            || candidates.offsets.last() != Some(&(candidates.ids.len() as i64))
            || candidates.offsets.windows(2).any(|pair| pair[0] > pair[1])
        {
            "candidate offsets must start at 0, never fall, end at the number of candidates, and have one entry for \
             each query and one more"
        } else {
            return Ok(());
        };
        Err(Error::invalid(problem))
    }
}

/// Ranks each query's candidates by MaxSim on codes or kept vectors. A document without tokens scores negative infinity.
///
/// # Errors
/// [`Error::UnknownId`] unless missing candidates are skipped, [`Error::IdKind`] for one that the index cannot have,
/// [`Error::DuplicateId`] for a candidate given twice, and as for [`super::search`].
pub fn rerank(
    snapshot: &Snapshot,
    queries: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    candidates: Candidates<'_>,
    options: &RerankOptions,
    execution: &Execution,
) -> Result<Answer> {
    let batch = Batch::new(snapshot, queries, weights, &options.selection)?;
    options.validate(&candidates, queries.items())?;
    let groups = options.selection.groups(snapshot, execution)?;
    let wanted = options.selection.wanted(snapshot, groups.as_ref())?;
    batch.answer(wanted, execution, |filter| {
        let allowed = filter.map(|filter| Allowed::new(snapshot, Some(filter), None, execution)).transpose()?;
        Ok(Rerank { snapshot, candidates, options, allowed, plan: Plan::given(), wanted })
    })
}

/// A rerank as the queries of one filter share it.
struct Rerank<'a> {
    snapshot: &'a Snapshot,
    candidates: Candidates<'a>,
    options: &'a RerankOptions,
    /// Documents that the filter lets through.
    allowed: Option<Allowed>,
    plan: Plan,
    wanted: Wanted<'a>,
}

impl Rank for Rerank<'_> {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn rank(&self, queries: &[Query<'_>], execution: &Execution) -> Result<Vec<Ranking>> {
        queries.iter().map(|&query| self.rank_one(query, execution)).collect()
    }
}

impl Rerank<'_> {
    fn rank_one(&self, query: Query<'_>, execution: &Execution) -> Result<Ranking> {
        let Self { snapshot, wanted, options, .. } = *self;
        let mut clock = Clock::start();
        let given = self.locate(query.item)?;
        let gather_s = clock.lap();
        let towards = Wanted { count: options.prune_to.unwrap_or(wanted.count), ..wanted };
        let kept = prune_candidates(&given, options.alpha, towards);
        let prune_s = clock.lap();
        let prepare = |codec| Prepared::for_documents(codec, query, snapshot, kept);
        let prepared = snapshot.codec.as_deref().map(prepare).transpose()?;
        let prepare_s = clock.lap();
        let score = |documents: &[Location]| match &prepared {
            Some(prepared) => score::score(prepared, snapshot, documents, execution),
            // Without a codec no document has a token.
            None => Ok(documents.iter().map(|&at| Hit { at, score: f32::NEG_INFINITY }).collect()),
        };
        let scored = match options.beta {
            Some(beta) => score_until_exit(kept, towards, beta, score)?,
            None => score(&in_document_order(kept))?,
        };
        let score_s = clock.lap();
        let scored_tokens = snapshot.tokens_of(kept[..scored.len()].iter().copied());
        let count = scored.len();
        let mut best = TopK::new(wanted);
        best.extend(scored);
        let hits = best.into_hits();
        let stats = Stats {
            queries: 1,
            gathered: given.locations.len() as u64,
            pruned: (given.locations.len() - kept.len()) as u64,
            scored: count as u64,
            scored_tokens,
            prepare_s,
            gather_s,
            prune_s,
            score_s,
            top_k_s: clock.lap(),
            ..Stats::default()
        };
        rescore(Ranking { hits, stats, expansion: Expansion::default() }, query, snapshot, wanted, execution)
    }

    /// The candidates of a query that its filter lets through.
    fn locate(&self, item: usize) -> Result<Given> {
        let range = self.candidates.offsets[item] as usize..self.candidates.offsets[item + 1] as usize;
        let ids = &self.candidates.ids[range.clone()];
        let scores = self.candidates.scores.map(|scores| &scores[range]);
        let mut found: Vec<(Location, usize)> = Vec::with_capacity(ids.len());
        for position in first_stage_order(ids.len(), scores) {
            match self.snapshot.look_up(ids[position])? {
                Some(at) => found.push((at, position)),
                None if self.options.missing == Missing::Skip => {}
                None => {
                    let place = format!(" (candidate {position} of query {item})");
                    return Err(Error::UnknownId { id: ids[position].to_string(), place });
                }
            }
        }
        let mut sorted = found.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let ((_, first), (_, second)) = (pair[0], pair[1]);
            let whole = format!("the candidates of query {item}");
            return Err(Error::DuplicateId { id: ids[first].to_string(), whole, first, second });
        }
        if let Some(allowed) = &self.allowed {
            found.retain(|&(at, _)| allowed.contains(self.snapshot, at));
        }
        Ok(Given {
            locations: found.iter().map(|&(at, _)| at).collect(),
            scores: scores
                .map_or_else(Vec::new, |scores| found.iter().map(|&(_, position)| scores[position]).collect()),
        })
    }
}

/// Positions of `count` candidates, the best of the first stage first.
fn first_stage_order(count: usize, scores: Option<&[f64]>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if let Some(scores) = scores {
        // None is NaN; 0.0 and -0.0 are equal and stay as given.
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));
    }
    order
}

/// Candidates in first-stage order.
struct Given {
    locations: Vec<Location>,
    /// First-stage scores in the same order; empty if there are none.
    scores: Vec<f64>,
}

/// Candidate pruning. The threshold is never above `s_k`, so that the first that make the wanted ones stay; where there are
/// not so many, nothing is lost.
fn prune_candidates<'a>(given: &'a Given, alpha: Option<f64>, wanted: Wanted<'_>) -> &'a [Location] {
    let Some(alpha) = alpha else { return &given.locations };
    let Some(enough) = wanted.first_enough(given.locations.iter().copied()) else { return &given.locations };
    let Some(&kth) = given.scores.get(enough - 1) else { return &given.locations };
    // Of an infinite score there is no part to take off. Below a finite one lies a number, however large: it may overflow
    // here, and then every score is above it but negative infinity.
    let threshold = if kth.is_infinite() { kth } else { (kth - alpha * kth.abs()).max(f64::MIN) };
    &given.locations[..given.scores.partition_point(|&score| score >= threshold)]
}

/// Documents in the order of their codes in memory, which is the fastest to read.
pub(super) fn in_document_order(candidates: &[Location]) -> Vec<Location> {
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Early exit: the first that make the wanted ones are scored, then blocks of `beta` in first-stage order until `beta`
/// candidates in a row have not entered the best. What a block scores past the exit is thrown away, so the result is that of
/// one at a time.
fn score_until_exit(
    candidates: &[Location],
    wanted: Wanted<'_>,
    beta: usize,
    score: impl Fn(&[Location]) -> Result<Vec<Hit>>,
) -> Result<Vec<Hit>> {
    let enough = wanted.first_enough(candidates.iter().copied()).unwrap_or(candidates.len());
    let (first, rest) = candidates.split_at(enough);
    let mut scored = score(first)?;
    let mut best = TopK::new(wanted.without_rescoring());
    best.extend(scored.iter().copied());
    best.sort();
    let mut failures = 0;
    for block in rest.chunks(beta) {
        for hit in score(block)? {
            scored.push(hit);
            failures = if best.enters(hit) { 0 } else { failures + 1 };
            if failures == beta {
                return Ok(scored);
            }
        }
    }
    Ok(scored)
}

#[cfg(test)]
mod tests {
    use super::{Given, Location, RerankOptions, Scored, Selection, Wanted, prune_candidates};

    fn kept(scores: &[f64], k: usize, alpha: f64) -> usize {
        let locations = (0..scores.len() as u32).map(|ordinal| Location { segment: 0, ordinal }).collect();
        let given = Given { locations, scores: scores.to_vec() };
        prune_candidates(&given, Some(alpha), Wanted { count: k, groups: None, rescore: None }).len()
    }

    #[test]
    fn pruning_keeps_what_is_near_the_kth() {
        assert_eq!(kept(&[10.0, 9.0, 8.9, 8.0], 2, 0.05), 3);
        assert_eq!(kept(&[10.0, 9.0, 8.9, 8.0], 2, 0.0), 2);
        assert_eq!(kept(&[10.0, 9.0, 9.0, 8.0], 2, 0.0), 3, "ties with the k-th stay");
    }

    #[test]
    fn pruning_is_right_for_negative_scores_and_short_lists() {
        assert_eq!(kept(&[-1.0, -2.0, -2.05, -4.0], 2, 0.05), 3);
        assert_eq!(kept(&[5.0, 1.0], 10, 0.0), 2);
        assert_eq!(kept(&[], 10, 0.1), 0);
    }

    #[test]
    fn pruning_is_right_for_scores_at_the_ends_of_the_range() {
        const INFINITY: f64 = f64::INFINITY;
        for alpha in [0.0, 0.1, 1.0, f64::MAX] {
            assert_eq!(kept(&[INFINITY, INFINITY, 1e308, -1.0], 1, alpha), 2);
            assert_eq!(kept(&[3.0, -INFINITY, -INFINITY], 2, alpha), 3);
            assert_eq!(kept(&[5e-324, 5e-324, -INFINITY], 1, alpha), 2);
        }
        assert_eq!(kept(&[1e308, 9e307, 8e307], 1, 0.15), 2);
        assert_eq!(kept(&[1e308, -1e308, f64::MIN, -INFINITY], 1, 10.0), 3);
        assert_eq!(kept(&[f64::MIN, f64::MIN, -INFINITY], 1, 0.5), 2);
        assert_eq!(kept(&[0.0, -0.0, -5e-324], 1, 0.5), 2);
    }

    #[test]
    fn candidates_that_others_scored_are_chosen_as_if_scored_here() {
        let options = |alpha, beta| RerankOptions {
            selection: Selection { k: Some(1), ..Selection::default() },
            alpha,
            beta,
            ..RerankOptions::default()
        };
        let (given, first) = ([2, 0, 1, 3], [1.0, 9.0, 8.0, 8.0]);
        let candidates = Scored { scores: &[5.0, 6.0, 4.0, 5.5], groups: None, given: &given, first: Some(&first) };
        let chosen = |alpha, beta| options(alpha, beta).choose(&candidates).expect("a choice");
        assert_eq!(chosen(None, None), [0, 1, 3, 2], "the first stage's order");
        assert_eq!(chosen(Some(0.2), None), [0, 1, 3]);
        assert_eq!(chosen(None, Some(1)), [0, 1, 3], "one that fails after one that enters");
        let short = Scored { scores: &[5.0], ..candidates };
        assert!(options(None, Some(1)).choose(&short).is_err());
        let beyond = Scored { given: &[2, 0, 1, 4], ..candidates };
        assert!(options(None, Some(1)).choose(&beyond).is_err());
    }
}
