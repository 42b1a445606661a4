//! From query token vectors to ranked documents, in five calls, each timed here and nowhere else.

mod prepare;
mod allowed;
mod gather;
mod plan;
mod prune;
mod score;
mod exhaustive;
mod top_k;
mod rerank;
mod feedback;
mod explain;

use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::ids::Id;
use crate::index::{Filter, Snapshot};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

pub use explain::explain;
pub use feedback::{Expansion, Feedback, FeedbackMode, Weighting};
pub use plan::{GatherKind, Plan, Source};
pub use rerank::{Candidates, RerankOptions, rerank};
pub use top_k::Hit;

use allowed::Allowed;
use feedback::TwoPasses;
use prepare::Prepared;

/// Token vectors of one query, at most. Beyond, the tables of a query outgrow every cache, and a search takes seconds.
pub const MAX_QUERY_TOKENS: usize = 4096;

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
}

impl Selection {
    /// How many of the best must be known.
    fn wanted(&self) -> usize {
        self.k.map_or(usize::MAX, |k| k.saturating_add(self.offset))
    }

    fn validate(&self, queries: usize) -> Result<()> {
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

    /// What is returned of the [`Self::wanted`] best hits of a query of so many token vectors of its own.
    fn select(&self, mut hits: Vec<Hit>, query_tokens: usize) -> Vec<Hit> {
        hits.drain(..self.offset.min(hits.len()));
        if self.length_normalize {
            hits.iter_mut().for_each(|hit| hit.score /= query_tokens as f32);
        }
        if let Some(least) = self.min_score {
            hits.truncate(hits.partition_point(|hit| f64::from(hit.score) >= least));
        }
        hits
    }

    fn select_all(&self, mut rankings: Vec<Ranking>, queries: &TokenMatrix<'_>) -> Vec<Ranking> {
        for (item, ranking) in rankings.iter_mut().enumerate() {
            ranking.hits = self.select(std::mem::take(&mut ranking.hits), queries.item_tokens(item));
        }
        rankings
    }
}

/// Reads filters as JSON texts: none, one, or a list of them.
fn read_filters<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<Filter>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Each(Vec<String>),
    }
    let texts = match Option::deserialize(from)? {
        None => Vec::new(),
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Each(texts)) => texts,
    };
    texts.iter().map(|text| Filter::from_json(text).map_err(serde::de::Error::custom)).collect()
}

/// What a search may choose; `None` leaves the choice to the index's size.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SearchOptions {
    /// Which documents are returned.
    #[serde(skip)]
    pub selection: Selection,
    /// How candidates are found.
    pub gather: Option<GatherKind>,
    /// Documents scored on their codes, at most; as many as are wanted always are.
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

/// One query: its token vectors `[tokens, dim]` and a weight for each token.
#[derive(Clone, Copy, Debug)]
struct Query<'a> {
    vectors: &'a [f32],
    weights: Option<&'a [f32]>,
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
/// [`Error::Dimension`], [`Error::IdKind`] and [`Error::Invalid`] for queries and options that cannot be searched with,
/// [`Error::Corrupt`] for a damaged file, [`Error::Interrupted`].
pub fn search(
    snapshot: &Snapshot,
    queries: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    options: &SearchOptions,
    execution: &Execution,
) -> Result<Answer> {
    options.selection.validate(queries.items())?;
    check_queries(snapshot, queries, weights)?;
    if options.selection.filters.len() > 1 || options.selection.group_by.is_some() {
        return Err(Error::invalid("several filters and group_by are not built yet"));
    }
    let wanted = options.selection.wanted();
    let allowed = Allowed::new(snapshot, options, execution)?;
    if let Some(feedback) = &options.feedback {
        let passes = TwoPasses::new(snapshot, &allowed, feedback, options)?;
        let (rankings, stats) = for_each_query(queries, weights, execution, |_, query| {
            passes.search(snapshot, query, &allowed, execution)
        })?;
        let rankings = options.selection.select_all(rankings, queries);
        return Ok(Answer { rankings, stats, plan: passes.plan().clone() });
    }
    let plan = Plan::choose(snapshot, &allowed, wanted, options);
    let (rankings, stats) = match (plan.gather, &snapshot.codec) {
        (Source::Found(GatherKind::Exact), Some(codec)) => {
            let together = exhaustive::together(codec, queries.items(), execution.threads());
            for_each_group(queries, weights, execution, together, |_, group| {
                exhaustive::search(snapshot, group, &allowed, wanted, execution)
            })
        }
        _ => for_each_query(queries, weights, execution, |_, query| {
            search_one(snapshot, query, &allowed, &plan, wanted, execution)
        }),
    }?;
    let rankings = options.selection.select_all(rankings, queries);
    Ok(Answer { rankings, stats, plan })
}

fn search_one(
    snapshot: &Snapshot,
    query: Query<'_>,
    allowed: &Allowed,
    plan: &Plan,
    k: usize,
    execution: &Execution,
) -> Result<Ranking> {
    let Some(codec) = snapshot.codec.as_ref().filter(|_| plan.gather != Source::None) else {
        return Ok(Ranking::default());
    };
    let Some(gather) = plan.gatherer() else {
        let rankings = exhaustive::search(snapshot, &[query], allowed, k, execution)?;
        return Ok(rankings.into_iter().next().unwrap_or_default());
    };
    let mut clock = Clock(Instant::now());
    let prepared = Prepared::new(codec, query);
    let prepare_s = clock.lap();
    let gathered = gather.gather(&prepared, snapshot, allowed, execution)?;
    let (gather_s, found) = (clock.lap(), gathered.candidates.len());
    let kept = prune::prune(&prepared, snapshot, gathered, plan.max_scored.unwrap_or(usize::MAX))?;
    let prune_s = clock.lap();
    let scored = score::score_candidates(&prepared, snapshot, &kept, k, execution)?;
    let score_s = clock.lap();
    let (counted, tokens) = (scored.len(), score::tokens(snapshot, scored.iter().map(|hit| hit.at)));
    let hits = top_k::top_k(scored, k);
    let stats = Stats {
        queries: 1,
        gathered: found as u64,
        pruned: (found - kept.candidates.len()) as u64,
        scored: counted as u64,
        scored_tokens: tokens,
        prepare_s,
        gather_s,
        prune_s,
        score_s,
        top_k_s: clock.lap(),
        ..Stats::default()
    };
    Ok(Ranking { hits, stats, expansion: Expansion::default() })
}

/// Runs `one` for every query of a batch.
fn for_each_query(
    queries: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    execution: &Execution,
    one: impl Fn(usize, Query<'_>) -> Result<Ranking> + Sync,
) -> Result<(Vec<Ranking>, Stats)> {
    for_each_group(queries, weights, execution, 1, |first, group| Ok(vec![one(first, group[0])?]))
}

/// Runs `many` for every so many queries of a batch, with the number of the first; in order, if on one thread.
fn for_each_group(
    queries: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    execution: &Execution,
    size: usize,
    many: impl Fn(usize, &[Query<'_>]) -> Result<Vec<Ranking>> + Sync,
) -> Result<(Vec<Ranking>, Stats)> {
    let query = |item: usize| {
        let weights = weights.map(|weights| &weights[queries.item_rows(item)]);
        Query { vectors: queries.item(item), weights }
    };
    let run = |group: usize| {
        let items = group * size..queries.items().min((group + 1) * size);
        many(items.start, &items.map(query).collect::<Vec<_>>())
    };
    let groups = queries.items().div_ceil(size);
    let rankings: Vec<Ranking> = execution.map(0..groups, run)?.into_iter().flatten().collect();
    let stats = rankings.iter().fold(Stats::default(), |sum, ranking| sum.add(ranking.stats));
    Ok((rankings, stats))
}

fn check_queries(snapshot: &Snapshot, queries: &TokenMatrix<'_>, weights: Option<&[f32]>) -> Result<()> {
    let expected = snapshot.dim();
    if queries.dim() != expected {
        return Err(Error::Dimension { thing: "the query".to_owned(), got: queries.dim(), expected });
    }
    queries.check_magnitude(|item| format!("query {item}"))?;
    if let Some(item) = (0..queries.items()).find(|&item| queries.item_tokens(item) == 0) {
        return Err(Error::invalid(format!("query {item} has no token vectors; a query needs at least one")));
    }
    if let Some(item) = (0..queries.items()).find(|&item| queries.item_tokens(item) > MAX_QUERY_TOKENS) {
        return Err(Error::invalid(format!(
            "query {item} has {} token vectors, and at most {MAX_QUERY_TOKENS} can be searched with; pool them to fewer, or \
             split the query",
            queries.item_tokens(item)
        )));
    }
    if let Some(weights) = weights {
        if weights.len() != queries.tokens() {
            return Err(Error::invalid(format!(
                "{} weights for {} query tokens; give one for each",
                weights.len(),
                queries.tokens()
            )));
        }
        if let Some(at) = weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(Error::invalid(format!(
                "weight {} of query token {at} must be a finite number of at least 0",
                weights[at]
            )));
        }
    }
    Ok(())
}
