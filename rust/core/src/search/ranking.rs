//! What a search or rerank answers, and what it took.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::plan::Plan;
use super::top_k::Hit;

/// Counts and seconds of a search or rerank, summed over its queries.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are the stages")]
pub struct Stats {
    pub queries: u64,
    pub gathered: u64,
    pub pruned: u64,
    pub refined: u64,
    pub scored: u64,
    pub scored_tokens: u64,
    pub rescored: u64,
    pub feedback_vectors: u64,
    pub feedback_s: f64,
    pub prepare_s: f64,
    pub gather_s: f64,
    pub prune_s: f64,
    pub refine_s: f64,
    pub score_s: f64,
    pub rescore_s: f64,
    pub top_k_s: f64,
}

impl Stats {
    pub(super) fn add(mut self, other: Self) -> Self {
        self.queries += other.queries;
        self.gathered += other.gathered;
        self.pruned += other.pruned;
        self.refined += other.refined;
        self.scored += other.scored;
        self.scored_tokens += other.scored_tokens;
        self.rescored += other.rescored;
        self.feedback_vectors += other.feedback_vectors;
        self.feedback_s += other.feedback_s;
        self.prepare_s += other.prepare_s;
        self.gather_s += other.gather_s;
        self.prune_s += other.prune_s;
        self.refine_s += other.refine_s;
        self.score_s += other.score_s;
        self.rescore_s += other.rescore_s;
        self.top_k_s += other.top_k_s;
        self
    }
}

/// What joined a query: vectors `[n, dim]` and a weight for each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expansion {
    /// `[n, dim]`, not of unit length.
    pub vectors: Vec<f32>,
    /// `[n]`.
    pub weights: Vec<f32>,
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

impl Ranking {
    /// That of a query which has nothing to rank.
    pub(super) fn without_hits() -> Self {
        Self { stats: Stats { queries: 1, ..Stats::default() }, ..Self::default() }
    }
}

/// What a search or rerank answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// One for each query.
    pub rankings: Vec<Ranking>,
    /// Sums over the queries.
    pub stats: Stats,
    /// How candidates were found: for the first of the filters that let some through.
    pub plan: Arc<Plan>,
    /// How they were found for each query.
    pub plans: Vec<Arc<Plan>>,
}

/// Seconds since the last lap.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let seconds = (now - self.0).as_secs_f64();
        self.0 = now;
        seconds
    }
}
