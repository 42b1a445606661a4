//! The six calls: one pass from queries to their best documents.

use super::allowed::Allowed;
use super::batch::Rank;
use super::options::GatherKind;
use super::plan::{Plan, Source};
use super::prepare::Prepared;
use super::query::Query;
use super::ranking::{Clock, Expansion, Ranking, Stats};
use super::rescore::rescore;
use super::top_k::Wanted;
use super::{exhaustive, gather, prune, refine, score};
use crate::error::Result;
use crate::index::Snapshot;
use crate::parallel::Execution;

/// A search as the queries of one filter share it.
pub(super) struct OnePass<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) allowed: Allowed,
    pub(super) plan: Plan,
    pub(super) wanted: Wanted<'a>,
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
pub(super) fn pass(
    snapshot: &Snapshot,
    queries: &[Query<'_>],
    allowed: &Allowed,
    plan: &Plan,
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Vec<Ranking>> {
    let Some(codec) = snapshot.codec.as_deref().filter(|_| plan.gather != Source::None) else {
        return Ok(vec![Ranking::without_hits(); queries.len()]);
    };
    let Some(gather) = plan.gatherer() else {
        let rankings = exhaustive::search(snapshot, codec, queries, allowed, wanted, execution)?;
        let again = |(ranking, &query)| rescore(ranking, query, snapshot, wanted, execution);
        return rankings.into_iter().zip(queries).map(again).collect();
    };
    let rank = |&query: &Query<'_>| {
        let mut clock = Clock::start();
        let prepared = Prepared::new(codec, query);
        let prepare_s = clock.lap();
        let most = plan.max_scored.unwrap_or(usize::MAX);
        let gathered = gather::gather(&*gather, &prepared, snapshot, allowed, most, wanted, execution)?;
        let (gather_s, found) = (clock.lap(), gathered.candidates.len());
        let mut kept = prune::prune(&prepared, snapshot, gathered, most, wanted)?;
        let prune_s = clock.lap();
        let mut refined = refine::refine(&prepared, snapshot, &mut kept, plan.reach(), wanted, execution)?;
        let refined_documents = refined.len() as u64;
        prune::cut(&mut refined, most, wanted);
        let refine_s = clock.lap();
        let (best, scored) =
            score::score_candidates(&prepared, snapshot, &mut refined, plan.reach(), wanted, execution)?;
        let score_s = clock.lap();
        let scored_tokens = snapshot.tokens_of(refined[..scored].iter().map(|candidate| candidate.at));
        let hits = best.into_hits();
        let stats = Stats {
            queries: 1,
            gathered: found as u64,
            pruned: (found - kept.len()) as u64,
            refined: refined_documents,
            scored: scored as u64,
            scored_tokens,
            prepare_s,
            gather_s,
            prune_s,
            refine_s,
            score_s,
            top_k_s: clock.lap(),
            ..Stats::default()
        };
        rescore(Ranking { hits, stats, expansion: Expansion::default() }, query, snapshot, wanted, execution)
    };
    queries.iter().map(rank).collect()
}
