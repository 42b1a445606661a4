//! How a search finds what it scores: the user's choice, or the cheapest way that the index's size allows.

use serde::Serialize;

use super::allowed::Allowed;
use super::effort::Effort;
use super::gather::{Fde, Flood, Gather, Postings};
use super::options::{GatherKind, SearchOptions};
use crate::index::{KeptVectors, Snapshot};

/// Up to this many token vectors of allowed documents, scoring all of them takes no longer than choosing.
const EXACT_TOKENS: f64 = 32_768.0;
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
    /// How many standard deviations above its estimate a candidate might lie; `None` where all candidates were scored.
    pub deviations: Option<f64>,
    /// The share of the best documents by codes that searches of this kind find, as far as that was measured.
    pub expected_recall: Option<f64>,
    /// How many documents the index had when that was measured; `None` where it was not.
    pub tuned_documents: Option<u64>,
    /// Whether it had half as many or fewer then, or twice as many.
    pub stale_tuning: bool,
    /// The vectors that the returned scores are MaxSim on; `None`: the codes.
    pub rescore: Option<KeptVectors>,
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
        let effort = Effort::choose(snapshot, wanted, options);
        let usual = effort.max_scored(wanted, documents);
        let most = options.max_scored.unwrap_or(usual).max(wanted);
        let share = documents as f64 / snapshot.live_documents().max(1) as f64;
        // As if those that a filter allows were as long as the others, and as good.
        let allowed_tokens = snapshot.tokens() as f64 * share;
        let deep = (wanted as f64 / share) as usize;
        let cells = snapshot.codec.as_ref().map_or(0, |codec| codec.centroid_count());
        let few = allowed_tokens <= EXACT_TOKENS;
        let gather = match options.gather {
            _ if documents == 0 || snapshot.codec.is_none() => Source::None,
            _ if cells == 0 => Source::Found(GatherKind::Exact),
            Some(asked) => Source::Found(asked),
            None if documents <= most || few && options.max_scored.is_none() || effort.deviations.is_infinite() => {
                Source::Found(GatherKind::Exact)
            }
            None if allowed_tokens <= FLOOD_TOKENS => Source::Found(GatherKind::Flood),
            None => Source::Found(GatherKind::Postings),
        };
        let postings = gather == Source::Found(GatherKind::Postings);
        let found = !matches!(gather, Source::None | Source::Found(GatherKind::Exact));
        let mut plan = Self {
            gather,
            probes: postings.then(|| options.probes.unwrap_or_else(|| effort.probes(deep)).min(cells)),
            threshold: options.threshold.filter(|_| postings),
            max_scored: found.then(|| most.min(documents)),
            deviations: found.then_some(effort.deviations),
            expected_recall: match gather {
                Source::Found(GatherKind::Exact) => Some(1.0),
                // Limits of the user's own are not what was measured, and neither are encodings.
                Source::Found(GatherKind::Flood | GatherKind::Postings) if !options.is_limited() => {
                    effort.expected_recall
                }
                Source::None | Source::Given | Source::Found(_) => None,
            },
            tuned_documents: effort.tuned_documents,
            stale_tuning: effort.stale_tuning,
            ..Self::default()
        };
        // Where it lets all documents be scored that otherwise would not be, it has had its effect.
        let opened = options.gather.is_none() && cells > 0 && documents > usual && !few;
        let asked = options.gather.is_some() || cells == 0 || few;
        let idle = [
            ("gather", options.gather.is_some_and(|asked| gather != Source::Found(asked))),
            ("max_scored", options.max_scored.is_some() && plan.max_scored.is_none() && !opened),
            ("deviations", options.deviations.is_some() && plan.deviations.is_none() && (asked || documents <= wanted)),
            ("probes", options.probes.is_some() && plan.probes.is_none()),
            ("threshold", options.threshold.is_some() && plan.threshold.is_none()),
        ];
        plan.without_effect.extend(idle.into_iter().filter_map(|(name, idle)| idle.then_some(name)));
        plan
    }

    /// How many standard deviations above its estimate a candidate may lie.
    pub(super) fn reach(&self) -> f64 {
        self.deviations.unwrap_or(f64::INFINITY)
    }

    /// What finds the candidates, where not all documents are.
    pub(super) fn gatherer(&self) -> Option<Box<dyn Gather>> {
        match self.gather {
            Source::Found(GatherKind::Flood) => Some(Box::new(Flood)),
            Source::Found(GatherKind::Fde) => Some(Box::new(Fde)),
            Source::Found(GatherKind::Postings) => Some(Box::new(Postings {
                probes: self.probes.unwrap_or(usize::MAX),
                threshold: self.threshold.unwrap_or(f32::NEG_INFINITY),
            })),
            Source::None | Source::Given | Source::Found(GatherKind::Exact) => None,
        }
    }
}
