//! The best by their codes once more, by MaxSim on the vectors that the index keeps: the score that is returned then.

use latewood_kernels::{FloatLanes, FloatVectors, LANES, Level, Precision};

use super::descent::descend;
use super::effort::USUAL;
use super::gather::Candidate;
use super::query::Query;
use super::ranking::{Clock, Ranking, Stats};
use super::top_k::{Hit, Wanted};
use crate::error::Result;
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;

/// Documents scored again between two looks at whether the rest is worth it.
const STEP: usize = 4;
/// Documents handed to the kernel at once, of a query of one block of lanes: a few tenths of a millisecond.
const BLOCK_DOCUMENTS: usize = 32;

/// Scores the hits of a ranking again where that is wanted: the best by their codes first, until the next one would have to
/// gain far more than the others did to be among the wanted ones. All that stay have a score of the new kind.
///
/// # Errors
/// [`crate::Error::Corrupt`], [`crate::Error::Interrupted`].
pub(super) fn rescore(
    ranking: Ranking,
    query: Query<'_>,
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Ranking> {
    if wanted.rescore.is_none() || ranking.hits.is_empty() {
        return Ok(ranking);
    }
    let mut clock = Clock::start();
    let lanes = pack(query, snapshot.dim());
    let mut candidates: Vec<Candidate> =
        ranking.hits.iter().map(|hit| Candidate { at: hit.at, estimate: hit.score }).collect();
    let (best, rescored) = descend(&mut candidates, STEP, USUAL, wanted.without_rescoring(), |block| {
        let documents: Vec<Location> = block.iter().map(|candidate| candidate.at).collect();
        score(&lanes, snapshot, &documents, execution)
    })?;
    let hits = best.into_hits();
    let stats = Stats { rescored: rescored as u64, rescore_s: clock.lap(), ..Stats::default() };
    Ok(Ranking { hits, stats: ranking.stats.add(stats), ..ranking })
}

/// MaxSim on kept vectors, as [`crate::maxsim::maxsim`] has it.
fn score(lanes: &FloatLanes, snapshot: &Snapshot, documents: &[Location], execution: &Execution) -> Result<Vec<Hit>> {
    let vectors = |&at| Ok(FloatVectors::F16(snapshot.vectors(at)?.unwrap_or_default()));
    let mut scores = vec![0.0; documents.len()];
    let width = (BLOCK_DOCUMENTS / lanes.tokens().div_ceil(LANES)).max(1);
    for (block, scores) in documents.chunks(width).zip(scores.chunks_mut(width)) {
        execution.check()?;
        let views: Vec<FloatVectors<'_>> = block.iter().map(vectors).collect::<Result<_>>()?;
        latewood_kernels::maxsim_float(Level::current(), lanes, &views, scores);
    }
    Ok(documents.iter().zip(scores).map(|(&at, score)| Hit { at, score }).collect())
}

/// Weighted dot products of each query token with each kept vector of a document, `[query tokens, document tokens]`.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(super) fn dot_products(query: Query<'_>, snapshot: &Snapshot, at: Location) -> Result<Vec<f32>> {
    let dim = snapshot.dim();
    // What one token has as MaxSim with another is their dot product.
    let tokens: Vec<FloatVectors<'_>> =
        snapshot.vectors(at)?.unwrap_or_default().chunks_exact(dim).map(FloatVectors::F16).collect();
    let mut products = vec![0.0; query.vectors.len() / dim * tokens.len()];
    if tokens.is_empty() {
        return Ok(products);
    }
    for (token, row) in products.chunks_exact_mut(tokens.len()).enumerate() {
        let weights = query.weights.map(|weights| &weights[token..=token]);
        let lanes = pack(Query { vectors: &query.vectors[token * dim..][..dim], weights, ..query }, dim);
        latewood_kernels::maxsim_float(Level::current(), &lanes, &tokens, row);
    }
    Ok(products)
}

fn pack(query: Query<'_>, dim: usize) -> FloatLanes {
    let lanes = FloatLanes::pack(query.vectors, dim, Precision::Float32);
    match query.weights {
        Some(weights) => lanes.weighted(weights),
        None => lanes,
    }
}
