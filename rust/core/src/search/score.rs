//! MaxSim on codes: the score that is returned.

use latewood_kernels::{CodeQuery, DocumentCodes, LANES, Level};

use super::descent::descend;
use super::gather::Candidate;
use super::prepare::Prepared;
use super::top_k::{Hit, TopK, Wanted};
use crate::error::Result;
use crate::index::{Location, Snapshot};
use crate::parallel::Execution;

/// Documents handed to the kernel at once.
const BLOCK_DOCUMENTS: usize = 256;
/// Candidates scored between two looks at whether the rest is worth it.
const STEP: usize = 32;
/// Deviations more than were asked for. What score adds to refine is mostly nothing and seldom much, so that those to whom it adds
/// much lie many deviations out: on the same vectors half of one more finds .001 and .004 more, of a fifth more documents.
const ADDED: f64 = 0.5;

/// Scores candidates as [`descend`] has it. The best hits, and how many candidates were scored: those that come first now.
///
/// # Errors
/// As [`score_together`].
pub(super) fn score_candidates<'a>(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    candidates: &mut [Candidate],
    deviations: f64,
    wanted: Wanted<'a>,
    execution: &Execution,
) -> Result<(TopK<'a>, usize)> {
    descend(candidates, STEP, deviations + ADDED, wanted, |block| {
        let documents: Vec<Location> = block.iter().map(|candidate| candidate.at).collect();
        score(query, snapshot, &documents, execution)
    })
}

/// Scores every document; one without tokens scores negative infinity.
///
/// # Errors
/// As [`score_together`].
pub(super) fn score(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    documents: &[Location],
    execution: &Execution,
) -> Result<Vec<Hit>> {
    let hits = score_together(std::slice::from_ref(query), snapshot, documents, execution)?;
    Ok(hits.into_iter().next().unwrap_or_default())
}

/// The same for several queries.
///
/// # Errors
/// [`crate::Error::Corrupt`], [`crate::Error::Interrupted`].
pub(super) fn score_together(
    queries: &[Prepared<'_>],
    snapshot: &Snapshot,
    documents: &[Location],
    execution: &Execution,
) -> Result<Vec<Vec<Hit>>> {
    let codes: Vec<CodeQuery<'_>> = queries.iter().map(Prepared::codes).collect();
    let mut hits = vec![Vec::with_capacity(documents.len()); queries.len()];
    // Long queries see fewer documents at once, so that no block takes long.
    let lanes = queries.iter().map(|query| query.tokens().div_ceil(LANES)).max().unwrap_or(1);
    let width = (BLOCK_DOCUMENTS / lanes.max(1)).max(1);
    let mut scores = vec![0.0; width.min(documents.len()) * queries.len()];
    let mut views: Vec<DocumentCodes<'_>> = Vec::with_capacity(width.min(documents.len()));
    for block in documents.chunks(width) {
        execution.check()?;
        views.clear();
        for &at in block {
            views.push(snapshot.document(at)?);
        }
        let scores = &mut scores[..block.len() * queries.len()];
        latewood_kernels::maxsim_codes(Level::current(), &codes, &views, scores);
        for (&at, scores) in block.iter().zip(scores.chunks_exact(queries.len())) {
            hits.iter_mut().zip(scores).for_each(|(hits, &score)| hits.push(Hit { at, score }));
        }
    }
    Ok(hits)
}
