//! Every allowed document scored, for several queries at once: each is read and decoded once for all of them.

use super::allowed::Allowed;
use super::prepare::Prepared;
use super::query::Query;
use super::ranking::{Clock, Expansion, Ranking, Stats};
use super::score;
use super::top_k::{Hit, TopK, Wanted};
use crate::codec::Codec;
use crate::error::Result;
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;

/// Queries scored together: with 32 tokens of 128 dimensions each, as many as fit into L1 beside everything else.
const TOGETHER: usize = 6;
/// Documents that one task scores: of their hits only the best are held on to.
const BLOCK_DOCUMENTS: usize = 4096;

/// How many queries of a batch to score together on so many threads.
///
/// Only one if there are centroids: the tables of several queries do not fit into L2 together, and reading them from
/// beyond costs more than decoding.
pub(super) fn together(codec: &Codec, queries: usize, threads: usize) -> usize {
    if codec.centroid_count() > 0 { 1 } else { queries.div_ceil(threads).clamp(1, TOGETHER) }
}

/// The best documents for each query.
///
/// # Errors
/// [`crate::Error::Corrupt`], [`crate::Error::Interrupted`].
pub(super) fn search(
    snapshot: &Snapshot,
    codec: &Codec,
    queries: &[Query<'_>],
    allowed: &Allowed,
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Vec<Ranking>> {
    let mut clock = Clock::start();
    let prepared: Vec<_> = queries.iter().map(|&query| Prepared::new(codec, query)).collect();
    let prepare_s = clock.lap();
    let located = |segment: usize| {
        let at = move |ordinal| Location { segment: segment as u32, ordinal };
        allowed.ordinals(snapshot, segment).map(at)
    };
    let documents: Vec<Location> = (0..snapshot.segments.len()).flat_map(located).collect();
    let gather_s = clock.lap();
    let mut best: Vec<TopK<'_>> = queries.iter().map(|_| TopK::new(wanted)).collect();
    let blocks = execution.map(documents.chunks(BLOCK_DOCUMENTS), |block| {
        let scored = score::score_together(&prepared, snapshot, block, execution)?;
        let best_of = |hits| {
            let mut best = TopK::new(wanted);
            best.extend(hits);
            best.into_hits()
        };
        Ok(scored.into_iter().map(best_of).collect::<Vec<_>>())
    })?;
    for block in blocks {
        best.iter_mut().zip(block).for_each(|(best, hits)| best.extend(hits));
    }
    let score_s = clock.lap();
    let hits: Vec<Vec<Hit>> = best.into_iter().map(TopK::into_hits).collect();
    // Seconds are those of all queries together: each has its share.
    let share = 1.0 / queries.len() as f64;
    let stats = Stats {
        queries: 1,
        gathered: documents.len() as u64,
        scored: documents.len() as u64,
        scored_tokens: snapshot.tokens_of(documents.iter().copied()),
        prepare_s: prepare_s * share,
        gather_s: gather_s * share,
        score_s: score_s * share,
        top_k_s: clock.lap() * share,
        ..Stats::default()
    };
    Ok(hits.into_iter().map(|hits| Ranking { hits, stats, expansion: Expansion::default() }).collect())
}
