//! The second stage: somebody else's candidates, scored by MaxSim, with the candidate pruning and early exit of
//! *Multivector Reranking in the Era of Strong First-Stage Retrievers* (Martinico et al., ECIR 2026).

use std::cmp::Ordering;
use std::time::Instant;

use super::prepare::Prepared;
use super::top_k::{Hit, top_k};
use super::{Answer, Clock, Expansion, Plan, Query, Ranking, Selection, Stats, check_queries, for_each_query, score};
use crate::error::{Error, Result};
use crate::ids::IdRef;
use crate::index::{Location, Snapshot};
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

/// What a rerank may choose.
#[derive(Clone, Debug, Default)]
pub struct RerankOptions {
    /// Which candidates are returned.
    pub selection: Selection,
    /// Candidate pruning: drop candidates whose first-stage score is below `s_k - alpha · |s_k|`, where `s_k` is the
    /// k-th best, or below an infinite `s_k`. Smaller prunes more.
    pub alpha: Option<f64>,
    /// Early exit: after the first k, stop once this many candidates in a row have not entered the best k.
    pub beta: Option<usize>,
    /// Pass over candidates that the index does not have, instead of failing.
    pub skip_missing: bool,
}

impl RerankOptions {
    fn validate(&self, candidates: &Candidates<'_>, queries: usize) -> Result<()> {
        let problem = if self.selection.k.is_none() && (self.alpha.is_some() || self.beta.is_some()) {
            "alpha and beta say when to stop looking for the best k: give k"
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

/// Ranks each query's candidates by MaxSim on the stored codes. A document without tokens scores negative infinity.
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
    check_queries(snapshot, queries, weights)?;
    options.selection.validate(queries.items())?;
    options.validate(&candidates, queries.items())?;
    if !options.selection.filters.is_empty() || options.selection.group_by.is_some() {
        return Err(Error::invalid("filters and group_by in rerank are not built yet"));
    }
    let (rankings, stats) = for_each_query(queries, weights, execution, |item, query| {
        let range = candidates.offsets[item] as usize..candidates.offsets[item + 1] as usize;
        let ids = &candidates.ids[range.clone()];
        rerank_one(snapshot, item, query, ids, candidates.scores.map(|scores| &scores[range]), options, execution)
    })?;
    Ok(Answer { rankings: options.selection.select_all(rankings, queries), stats, plan: Plan::given() })
}

fn rerank_one(
    snapshot: &Snapshot,
    item: usize,
    query: Query<'_>,
    ids: &[IdRef<'_>],
    scores: Option<&[f64]>,
    options: &RerankOptions,
    execution: &Execution,
) -> Result<Ranking> {
    let mut clock = Clock(Instant::now());
    let given = locate(snapshot, item, ids, scores, options.skip_missing)?;
    let Some(codec) = &snapshot.codec else { return Ok(Ranking::default()) };
    let gather_s = clock.lap();
    let kept = prune_candidates(&given, options);
    let prune_s = clock.lap();
    let prepared = Prepared::for_documents(codec, query, snapshot, kept)?;
    let prepare_s = clock.lap();
    let wanted = options.selection.wanted();
    let scored = match options.beta {
        Some(beta) => score_until_exit(&prepared, snapshot, kept, wanted, beta, execution)?,
        None => score_in_document_order(&prepared, snapshot, kept, execution)?,
    };
    let score_s = clock.lap();
    let stats = Stats {
        queries: 1,
        gathered: given.locations.len() as u64,
        pruned: (given.locations.len() - kept.len()) as u64,
        scored: scored.len() as u64,
        scored_tokens: score::tokens(snapshot, scored.iter().map(|hit| hit.at)),
        feedback_vectors: 0,
        feedback_s: 0.0,
        prepare_s,
        gather_s,
        prune_s,
        score_s,
        top_k_s: 0.0,
    };
    let hits = top_k(scored, wanted);
    Ok(Ranking { hits, stats: Stats { top_k_s: clock.lap(), ..stats }, expansion: Expansion::default() })
}

/// Candidates in first-stage order.
struct Given {
    locations: Vec<Location>,
    /// First-stage scores in the same order; empty if there are none.
    scores: Vec<f64>,
}

fn locate(
    snapshot: &Snapshot,
    item: usize,
    ids: &[IdRef<'_>],
    scores: Option<&[f64]>,
    skip_missing: bool,
) -> Result<Given> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    if let Some(scores) = scores {
        // None is NaN; 0.0 and -0.0 are equal and stay as given.
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));
    }
    let mut given = Given { locations: Vec::with_capacity(ids.len()), scores: Vec::new() };
    for position in order {
        match snapshot.look_up(ids[position])? {
            Some(at) => {
                given.locations.push(at);
                given.scores.extend(scores.map(|scores| scores[position]));
            }
            None if skip_missing => {}
            None => {
                let place = format!(" (candidate {position} of query {item})");
                return Err(Error::UnknownId { id: ids[position].to_string(), place });
            }
        }
    }
    let mut sorted = given.locations.clone();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let id = snapshot.id(pair[0]);
        let mut positions = (0..ids.len()).filter(|&position| ids[position] == IdRef::from(&id));
        let (first, second) = (positions.next().unwrap_or(0), positions.next().unwrap_or(0));
        return Err(Error::DuplicateId { id: id.to_string(), first, second });
    }
    Ok(given)
}

/// Candidate pruning. The threshold is never above `s_k`, so that the first k stay; lists shorter than k lose nothing.
fn prune_candidates<'a>(given: &'a Given, options: &RerankOptions) -> &'a [Location] {
    let Some(alpha) = options.alpha else { return &given.locations };
    let Some(&kth) = given.scores.get(options.selection.wanted() - 1) else { return &given.locations };
    // Of an infinite score there is no part to take off. Below a finite one lies a number, however large: it may overflow
    // here, and then every score is above it but negative infinity.
    let threshold = if kth.is_infinite() { kth } else { (kth - alpha * kth.abs()).max(f64::MIN) };
    &given.locations[..given.scores.partition_point(|&score| score >= threshold)]
}

/// Documents in the order of their codes in memory, which is the fastest to read.
pub(super) fn score_in_document_order(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    candidates: &[Location],
    execution: &Execution,
) -> Result<Vec<Hit>> {
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable();
    score::score(query, snapshot, &sorted, execution)
}

/// Early exit: the first k are scored, then blocks of `beta` in first-stage order until `beta` candidates in a row have
/// not entered the best k. What a block scores past the exit is thrown away, so the result is that of one at a time.
fn score_until_exit(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    candidates: &[Location],
    k: usize,
    beta: usize,
    execution: &Execution,
) -> Result<Vec<Hit>> {
    let (first, rest) = candidates.split_at(k.min(candidates.len()));
    let mut scored = score::score(query, snapshot, first, execution)?;
    let mut best = top_k(scored.clone(), k);
    let mut failures = 0;
    for block in rest.chunks(beta) {
        for hit in score::score(query, snapshot, block, execution)? {
            scored.push(hit);
            let place = best.partition_point(|known| known.order(&hit).is_le());
            if place < k {
                best.insert(place, hit);
                best.truncate(k);
                failures = 0;
            } else {
                failures += 1;
                if failures == beta {
                    return Ok(scored);
                }
            }
        }
    }
    Ok(scored)
}

#[cfg(test)]
mod tests {
    use super::{Given, Location, RerankOptions, Selection, prune_candidates};

    fn kept(scores: &[f64], k: usize, alpha: f64) -> usize {
        let locations = (0..scores.len() as u32).map(|ordinal| Location { segment: 0, ordinal }).collect();
        let given = Given { locations, scores: scores.to_vec() };
        prune_candidates(
            &given,
            &RerankOptions {
                selection: Selection { k: Some(k), ..Selection::default() },
                alpha: Some(alpha),
                ..RerankOptions::default()
            },
        )
        .len()
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
}
