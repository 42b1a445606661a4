//! From query token vectors to ranked documents, in six calls ([`pass`]) and, on kept vectors, a seventh ([`rescore`]).

mod query;
mod options;
mod allowed;
mod prepare;
mod gather;
mod effort;
mod plan;
mod prune;
mod descent;
mod refine;
mod score;
mod top_k;
mod ranking;
mod batch;
mod exhaustive;
mod pass;
mod rescore;
mod rerank;
mod feedback;
mod explain;

use crate::error::Result;
use crate::index::{Filter, Snapshot};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

pub use explain::explain;
pub use feedback::{Evidence, Feedback, FeedbackMode, Weighting, expand, frequencies};
pub use options::{GatherKind, Rescore, SearchOptions, Selection};
pub use plan::{Plan, Source};
pub use query::MAX_QUERY_TOKENS;
pub use ranking::{Answer, Expansion, Ranking, Stats};
pub use rerank::{Candidates, RerankOptions, Scored, rerank};
pub use top_k::Hit;

use allowed::Allowed;
use batch::Batch;
use feedback::TwoPasses;
use pass::OnePass;

/// Ranks the snapshot's documents for every query; queries are shared out over the execution's threads.
///
/// `weights`, one for each query token of the batch, scale each token's part of the score.
///
/// # Errors
/// [`crate::Error::Dimension`], [`crate::Error::IdKind`] and [`crate::Error::Invalid`] for queries and options that cannot be
/// searched with, [`crate::Error::Corrupt`] for a damaged file, [`crate::Error::Interrupted`].
pub fn search(
    snapshot: &Snapshot,
    queries: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    options: &SearchOptions,
    execution: &Execution,
) -> Result<Answer> {
    if options.gather == Some(GatherKind::Fde) {
        gather::check_fdes(snapshot)?;
    }
    let batch = Batch::new(snapshot, queries, weights, &options.selection)?;
    let named = options.ids.as_ref().map(|ids| Allowed::named(snapshot, ids)).transpose()?;
    let groups = options.selection.groups(snapshot, execution)?;
    let (groups, named) = (groups.as_ref(), named.as_deref());
    let wanted = options.selection.wanted(snapshot, groups)?;
    let allowed = |filter: Option<&Filter>| Allowed::new(snapshot, filter, named, execution);
    match &options.feedback {
        Some(feedback) => batch
            .answer(wanted, execution, |filter| TwoPasses::new(snapshot, allowed(filter)?, feedback, wanted, options)),
        None => batch.answer(wanted, execution, |filter| {
            let allowed = allowed(filter)?;
            let plan = Plan::choose(snapshot, &allowed, wanted.count, options);
            Ok(OnePass { snapshot, allowed, plan, wanted })
        }),
    }
}
