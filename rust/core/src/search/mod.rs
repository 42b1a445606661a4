//! From query token vectors to ranked documents, in five calls, each timed here and nowhere else.

mod options;
mod batch;
mod allowed;
mod plan;
mod prepare;
mod gather;
mod prune;
mod score;
mod exhaustive;
mod top_k;
mod rerank;
mod feedback;
mod explain;

use std::time::Instant;

use serde::Serialize;

use crate::error::Result;
use crate::index::{Filter, Snapshot};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

pub use explain::explain;
pub use feedback::{Expansion, Feedback, FeedbackMode, Weighting};
pub use options::{SearchOptions, Selection};
pub use plan::{GatherKind, Plan, Source};
pub use rerank::{Candidates, RerankOptions, rerank};
pub use top_k::Hit;

use allowed::Allowed;
use batch::{Batch, Query, Rank};
use feedback::TwoPasses;
use prepare::Prepared;
use top_k::Wanted;

/// Token vectors of one query, at most. Beyond, the tables of a query outgrow every cache, and a search takes seconds.
pub const MAX_QUERY_TOKENS: usize = 4096;

/// Counts and seconds of a search or rerank, summed over its queries.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are the stages")]
pub struct Stats {
    pub queries: u64,
    pub gathered: u64,
    pub pruned: u64,
    pub scored: u64,
    pub scored_tokens: u64,
    pub feedback_vectors: u64,
    pub feedback_s: f64,
    pub prepare_s: f64,
    pub gather_s: f64,
    pub prune_s: f64,
    pub score_s: f64,
    pub top_k_s: f64,
}

impl Stats {
    fn add(mut self, other: Self) -> Self {
        self.queries += other.queries;
        self.gathered += other.gathered;
        self.pruned += other.pruned;
        self.scored += other.scored;
        self.scored_tokens += other.scored_tokens;
        self.feedback_vectors += other.feedback_vectors;
        self.feedback_s += other.feedback_s;
        self.prepare_s += other.prepare_s;
        self.gather_s += other.gather_s;
        self.prune_s += other.prune_s;
        self.score_s += other.score_s;
        self.top_k_s += other.top_k_s;
        self
    }
}

/// One query's hits, best first, and what finding them took.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// Best first; equal scores in document order.
    pub hits: Vec<Hit>,
    /// Counts and seconds.
    pub stats: Stats,
    /// What feedback added to the query; empty without feedback.
    pub expansion: Expansion,
}

/// What a search or rerank answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// One for each query.
    pub rankings: Vec<Ranking>,
    /// Sums over the queries.
    pub stats: Stats,
    /// How candidates were found.
    pub plan: Plan,
}

/// Seconds since the last lap.
struct Clock(Instant);

impl Clock {
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let seconds = (now - self.0).as_secs_f64();
        self.0 = now;
        seconds
    }
}

/// Ranks the snapshot's documents for every query; queries are shared out over the execution's threads.
///
/// `weights`, one for each query token of the batch, scale each token's part of the score.
///
/// # Errors
/// [`crate::Error::Dimension`], [`crate::Error::IdKind`] and [`crate::Error::Invalid`] for queries and options that cannot be searched with,
/// [`crate::Error::Corrupt`] for a damaged file, [`crate::Error::Interrupted`].
pub fn search(
    snapshot: &Snapshot,
    queries: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    options: &SearchOptions,
    execution: &Execution,
) -> Result<Answer> {
    let batch = Batch::new(snapshot, queries, weights, &options.selection)?;
    let named = options.ids.as_ref().map(|ids| Allowed::named(snapshot, ids)).transpose()?;
    let groups = options.selection.groups(snapshot, execution)?;
    let (groups, named) = (groups.as_ref(), named.as_deref());
    let wanted = options.selection.wanted(groups);
    let allowed = |filter: Option<&Filter>| Allowed::new(snapshot, filter, named, execution);
    match &options.feedback {
        Some(feedback) => batch
            .answer(groups, execution, |filter| TwoPasses::new(snapshot, allowed(filter)?, feedback, wanted, options)),
        None => batch.answer(groups, execution, |filter| {
            let allowed = allowed(filter)?;
            let plan = Plan::choose(snapshot, &allowed, wanted.count, options);
            Ok(OnePass { snapshot, allowed, plan, wanted })
        }),
    }
}

/// A search as the queries of one filter share it.
struct OnePass<'a> {
    snapshot: &'a Snapshot,
    allowed: Allowed,
    plan: Plan,
    wanted: Wanted<'a>,
}

impl Rank for OnePass<'_> {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn together(&self, queries: usize, threads: usize) -> usize {
        match (self.plan.gather, &self.snapshot.codec) {
            (Source::Found(GatherKind::Exact), Some(codec)) => exhaustive::together(codec, queries, threads),
            _ => 1,
        }
    }

    fn rank(&self, queries: &[Query<'_>], execution: &Execution) -> Result<Vec<Ranking>> {
        pass(self.snapshot, queries, &self.allowed, &self.plan, self.wanted, execution)
    }
}

/// The best hits for each query.
fn pass(
    snapshot: &Snapshot,
    queries: &[Query<'_>],
    allowed: &Allowed,
    plan: &Plan,
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Vec<Ranking>> {
    let Some(codec) = snapshot.codec.as_deref().filter(|_| plan.gather != Source::None) else {
        let stats = Stats { queries: 1, ..Stats::default() };
        return Ok(vec![Ranking { stats, ..Ranking::default() }; queries.len()]);
    };
    let Some(gather) = plan.gatherer() else {
        return exhaustive::search(snapshot, codec, queries, allowed, wanted, execution);
    };
    let rank = |&query: &Query<'_>| {
        let mut clock = Clock(Instant::now());
        let prepared = Prepared::new(codec, query);
        let prepare_s = clock.lap();
        let gathered = gather::gather(&*gather, &prepared, snapshot, allowed, wanted, execution)?;
        let (gather_s, found) = (clock.lap(), gathered.candidates.len());
        let most = plan.max_scored.unwrap_or(usize::MAX);
        let kept = prune::prune(&prepared, snapshot, gathered, most, wanted)?;
        let prune_s = clock.lap();
        let (best, scored) = score::score_candidates(&prepared, snapshot, &kept, wanted, execution)?;
        let score_s = clock.lap();
        let scored_tokens = score::tokens(snapshot, kept[..scored].iter().map(|candidate| candidate.at));
        let hits = best.into_hits();
        let stats = Stats {
            queries: 1,
            gathered: found as u64,
            pruned: (found - kept.len()) as u64,
            scored: scored as u64,
            scored_tokens,
            prepare_s,
            gather_s,
            prune_s,
            score_s,
            top_k_s: clock.lap(),
            ..Stats::default()
        };
        Ok(Ranking { hits, stats, expansion: Expansion::default() })
    };
    queries.iter().map(rank).collect()
}
