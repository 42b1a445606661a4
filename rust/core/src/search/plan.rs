//! How a search finds what it scores: the user's choice, or the cheapest way that the index's size allows.

use serde::Serialize;

use super::allowed::Allowed;
use super::gather::{Flood, Gather, Postings};
use super::options::{GatherKind, SearchOptions};
use crate::index::Snapshot;

/// Documents scored on their codes, at most, unless the user says otherwise.
pub(super) const MAX_SCORED: usize = 512;
/// At least this many for each hit wanted.
const SCORED_PER_HIT: usize = 20;
/// Cells probed for each query token, at least. On 9.1 M real token vectors and 16,384 centroids 2 find .974 of the top 10 by
/// codes, 4 find .983, 8 find .990, and 16 no more.
const PROBES: usize = 8;
/// Above this many token vectors of allowed documents, walking posting lists is cheaper than looking at every document.
const FLOOD_TOKENS: f64 = 2_000_000.0;

/// Where the candidates of a search or rerank came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// There is no document that may be returned.
    #[default]
    None,
    /// The caller gave them: a rerank.
    Given,
    /// They were found.
    #[serde(untagged)]
    Found(GatherKind),
}

/// How candidates are found, and which options that leaves without effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Where the candidates came from.
    pub gather: Source,
    /// Cells probed for each query token, by [`GatherKind::Postings`].
    pub probes: Option<usize>,
    /// Least dot product of query token and centroid for a cell to be probed, by [`GatherKind::Postings`], if there was one.
    pub threshold: Option<f32>,
    /// Documents scored on their codes, at most; `None` where all candidates were.
    pub max_scored: Option<usize>,
    /// Names of options that were given and could have no effect.
    pub without_effect: Vec<&'static str>,
}

/// Cells to probe for the `wanted` best: the further down a hit stands, the farther its tokens may lie from the query's. On the
/// same vectors the best 100 take 14 of them for .990, where 8 give .976.
fn probes(wanted: usize) -> usize {
    PROBES.max(2 * wanted.max(1).ilog2() as usize + 2)
}

impl Plan {
    /// The plan of a rerank.
    pub(super) fn given() -> Self {
        Self { gather: Source::Given, ..Self::default() }
    }

    /// The plan of a search for the `wanted` best.
    pub(super) fn choose(snapshot: &Snapshot, allowed: &Allowed, wanted: usize, options: &SearchOptions) -> Self {
        let documents = usize::try_from(allowed.documents(snapshot)).unwrap_or(usize::MAX);
        let usual = MAX_SCORED.max(wanted.saturating_mul(SCORED_PER_HIT));
        let most = options.max_scored.unwrap_or(usual).max(wanted);
        // As if those that a filter allows were as long as the others.
        let allowed_tokens = snapshot.tokens() as f64 * documents as f64 / snapshot.live_documents().max(1) as f64;
        let cells = snapshot.codec.as_ref().map_or(0, |codec| codec.centroid_count());
        let gather = match options.gather {
            _ if documents == 0 || snapshot.codec.is_none() => Source::None,
            _ if cells == 0 => Source::Found(GatherKind::Exact),
            Some(asked) => Source::Found(asked),
            None if documents <= most => Source::Found(GatherKind::Exact),
            None if allowed_tokens <= FLOOD_TOKENS => Source::Found(GatherKind::Flood),
            None => Source::Found(GatherKind::Postings),
        };
        let postings = gather == Source::Found(GatherKind::Postings);
        let found = postings || gather == Source::Found(GatherKind::Flood);
        let mut plan = Self {
            gather,
            probes: postings.then(|| options.probes.unwrap_or_else(|| probes(wanted)).min(cells)),
            threshold: options.threshold.filter(|_| postings),
            max_scored: found.then(|| most.min(documents)),
            without_effect: Vec::new(),
        };
        // Where it lets all documents be scored that otherwise would not be, it has had its effect.
        let opened = options.gather.is_none() && cells > 0 && documents > usual;
        let idle = [
            ("gather", options.gather.is_some_and(|asked| gather != Source::Found(asked))),
            ("max_scored", options.max_scored.is_some() && plan.max_scored.is_none() && !opened),
            ("probes", options.probes.is_some() && plan.probes.is_none()),
            ("threshold", options.threshold.is_some() && plan.threshold.is_none()),
        ];
        plan.without_effect.extend(idle.into_iter().filter_map(|(name, idle)| idle.then_some(name)));
        plan
    }

    /// What finds the candidates, where not all documents are.
    pub(super) fn gatherer(&self) -> Option<Box<dyn Gather>> {
        match self.gather {
            Source::Found(GatherKind::Flood) => Some(Box::new(Flood)),
            Source::Found(GatherKind::Postings) => Some(Box::new(Postings {
                probes: self.probes.unwrap_or(PROBES),
                threshold: self.threshold.unwrap_or(f32::NEG_INFINITY),
            })),
            Source::None | Source::Given | Source::Found(GatherKind::Exact) => None,
        }
    }
}
