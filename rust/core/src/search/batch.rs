//! A batch of queries: checked, shared out to threads, and what is returned of each selected.
//!
//! Queries with equal filters share what the filter lets through and how candidates are found.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use super::options::Selection;
use super::plan::{Plan, Source};
use super::query::{Query, check_queries};
use super::ranking::{Answer, Ranking, Stats};
use super::top_k::Wanted;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::index::{Filter, Groups, Snapshot};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

/// Filters that are held at a time, for each thread: what one lets through may take a bit for each document.
const FILTERS_PER_THREAD: usize = 16;

/// What ranks documents for the queries that have one filter.
pub(super) trait Rank: Send + Sync {
    /// How candidates are found.
    fn plan(&self) -> &Plan;

    /// How many queries are best ranked in one call, of so many on so many threads.
    fn together(&self, _queries: usize, _threads: usize) -> usize {
        1
    }

    /// The best hits for each of some queries.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Interrupted`], and what is wrong with a single query's candidates.
    fn rank(&self, queries: &[Query<'_>], execution: &Execution) -> Result<Vec<Ranking>>;
}

/// Queries that have one filter.
struct Share<'a> {
    filter: Option<&'a Filter>,
    items: Vec<usize>,
}

/// Checked queries, with a weight for each token, and what is wanted for each of them.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    queries: &'a TokenMatrix<'a>,
    weights: Option<&'a [f32]>,
    selection: &'a Selection,
}

impl<'a> Batch<'a> {
    /// Checks queries, weights and selection.
    ///
    /// # Errors
    /// As [`check_queries`]; [`Error::Invalid`] for a selection that cannot be.
    pub(super) fn new(
        snapshot: &Snapshot,
        queries: &'a TokenMatrix<'a>,
        weights: Option<&'a [f32]>,
        selection: &'a Selection,
    ) -> Result<Self> {
        check_queries(snapshot, queries, weights)?;
        selection.validate(queries.items())?;
        Ok(Self { queries, weights, selection })
    }

    /// Ranks every query by what `ranker` makes of its filter.
    ///
    /// # Errors
    /// Those of `ranker` and of [`Rank::rank`].
    pub(super) fn answer<R: Rank>(
        &self,
        wanted: Wanted<'_>,
        execution: &Execution,
        ranker: impl Fn(Option<&Filter>) -> Result<R> + Sync,
    ) -> Result<Answer> {
        let mut rankings = vec![Ranking::default(); self.queries.items()];
        let finished = |plan: &Plan| {
            let mut plan = Plan { rescore: wanted.rescore, ..plan.clone() };
            plan.without_effect.extend(wanted.groups.is_some_and(Groups::is_trivial).then_some("group_by"));
            Arc::new(plan)
        };
        let mut plans = vec![Arc::<Plan>::default(); self.queries.items()];
        let mut plan: Option<Arc<Plan>> = None;
        for shares in self.shares().chunks(FILTERS_PER_THREAD * execution.threads()) {
            let rankers = execution.map(shares, |share| ranker(share.filter))?;
            let mut tasks: Vec<(&R, &[usize])> = Vec::new();
            for (ranker, share) in rankers.iter().zip(shares) {
                let shared = finished(ranker.plan());
                share.items.iter().for_each(|&item| plans[item] = Arc::clone(&shared));
                if plan.as_ref().is_none_or(|plan| plan.gather == Source::None && shared.gather != Source::None) {
                    plan = Some(shared);
                }
                let together = ranker.together(share.items.len(), execution.threads());
                tasks.extend(share.items.chunks(together).map(|items| (ranker, items)));
            }
            let own = execution.for_one_of(tasks.len());
            let done = execution.map(&tasks, |(ranker, items)| {
                let queries: Vec<Query<'_>> = items.iter().map(|&item| self.query(item)).collect();
                ranker.rank(&queries, &own)
            })?;
            for ((_, items), done) in tasks.into_iter().zip(done) {
                items.iter().zip(done).for_each(|(&item, ranking)| rankings[item] = ranking);
            }
        }
        for (item, ranking) in rankings.iter_mut().enumerate() {
            let hits = mem::take(&mut ranking.hits);
            ranking.hits = self.selection.select(hits, self.queries.item_tokens(item));
        }
        let stats = rankings.iter().fold(Stats::default(), |sum, ranking| sum.add(ranking.stats));
        Ok(Answer { rankings, stats, plan: plan.unwrap_or_default(), plans })
    }

    fn query(&self, item: usize) -> Query<'a> {
        let weights = self.weights.map(|weights| &weights[self.queries.item_rows(item)]);
        Query { item, vectors: self.queries.item(item), weights }
    }

    /// Queries by filter, in the order of the first of each.
    fn shares(&self) -> Vec<Share<'a>> {
        let filters = &self.selection.filters;
        let asking = |filter: &'a Filter| Some(filter).filter(|filter| !filter.lets_all_through());
        if filters.len() <= 1 {
            return vec![Share {
                filter: filters.first().and_then(asking),
                items: (0..self.queries.items()).collect(),
            }];
        }
        let mut shares: Vec<Share<'a>> = Vec::new();
        let mut known: HashMap<Option<&Filter>, usize> = HashMap::new();
        for (item, filter) in filters.iter().map(asking).enumerate() {
            let share = *known.entry(filter).or_insert_with(|| {
                shares.push(Share { filter, items: Vec::new() });
                shares.len() - 1
            });
            shares[share].items.push(item);
        }
        shares
    }
}
