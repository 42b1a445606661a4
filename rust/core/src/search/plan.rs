//! How a search finds what it scores: the user's choice, or the cheapest way that the index's size allows.

use serde::Serialize;

use super::allowed::Allowed;
use super::gather::{Fde, Flood, Gather, Postings};
use super::options::{GatherKind, SearchOptions};
use crate::index::Snapshot;

/// Documents scored on their codes, at most, unless the user says otherwise.
pub(super) const MAX_SCORED: usize = 512;
/// At least this many for each hit wanted.
const SCORED_PER_HIT: usize = 8;
/// Cells probed for each query token: on 1.4 M real token vectors 2 find .986 of the exact top 10, 4 find .988, and 16
/// no more.
const PROBES: usize = 4;
/// Above this many token vectors, walking posting lists is cheaper than looking at every document.
const FLOOD_TOKENS: u64 = 2_000_000;

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
        let cells = snapshot.codec.as_ref().map_or(0, |codec| codec.centroid_count());
        let gather = match options.gather {
            _ if documents == 0 || snapshot.codec.is_none() => Source::None,
            _ if cells == 0 => Source::Found(GatherKind::Exact),
            Some(asked) => Source::Found(asked),
            None if documents <= most => Source::Found(GatherKind::Exact),
            // Posting lists name documents that a filter does not allow: too few of the others would be among the
            // candidates.
            None if snapshot.tokens() <= FLOOD_TOKENS || allowed.is_restricted() => Source::Found(GatherKind::Flood),
            None => Source::Found(GatherKind::Postings),
        };
        let postings = gather == Source::Found(GatherKind::Postings);
        let found = !matches!(gather, Source::None | Source::Found(GatherKind::Exact));
        let mut plan = Self {
            gather,
            probes: postings.then(|| options.probes.unwrap_or(PROBES).min(cells)),
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
            Source::Found(GatherKind::Fde) => Some(Box::new(Fde)),
            Source::Found(GatherKind::Postings) => Some(Box::new(Postings {
                probes: self.probes.unwrap_or(PROBES),
                threshold: self.threshold.unwrap_or(f32::NEG_INFINITY),
            })),
            Source::None | Source::Given | Source::Found(GatherKind::Exact) => None,
        }
    }
}
