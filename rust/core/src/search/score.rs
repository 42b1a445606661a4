//! MaxSim on codes: the score that is returned.

use latewood_kernels::{CodeQuery, DocumentCodes, LANES, Level};

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
/// How many standard deviations above what its estimate promises a candidate may lie. Measured on 1.4 M real token
/// vectors: with 2.5, 173 documents scored on average hold .988 of the exact top 10; a fixed number must be 256.
const DEVIATIONS: f64 = 2.5;

/// Scores candidates, the best estimate first, until the next one would have to exceed its estimate by more than
/// [`DEVIATIONS`] standard deviations of what the scored ones did, over their mean, to be among the best. The best hits, and
/// how many candidates were scored.
///
/// Clear queries need a few dozen candidates and muddled ones all of them; a fixed number would be wrong for both.
///
/// # Errors
/// [`crate::Error::Corrupt`], [`crate::Error::Interrupted`].
pub(super) fn score_candidates<'a>(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    candidates: &[Candidate],
    wanted: Wanted<'a>,
    execution: &Execution,
) -> Result<(TopK<'a>, usize)> {
    let score = |documents: &[Location]| score(query, snapshot, documents, execution);
    score_until_settled(candidates, STEP.max(wanted.count), wanted, score)
}

/// Scores candidates by `score`, first as many as are wanted and then `step` at a time, until the stop of
/// [`score_candidates`].
///
/// # Errors
/// Those of `score`.
pub(super) fn score_until_settled<'a>(
    candidates: &[Candidate],
    step: usize,
    wanted: Wanted<'a>,
    score: impl Fn(&[Location]) -> Result<Vec<Hit>>,
) -> Result<(TopK<'a>, usize)> {
    let mut best = TopK::new(wanted);
    let mut scored = 0;
    let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
    let (first, rest) = candidates.split_at(step.max(wanted.count).min(candidates.len()));
    for block in std::iter::once(first).chain(rest.chunks(step)).filter(|block| !block.is_empty()) {
        if let Some(last) = best.last() {
            let count = scored as f64;
            let mean = sum / count;
            let deviation = (squares / count - mean * mean).max(0.0).sqrt();
            if f64::from(block[0].estimate) + mean + DEVIATIONS * deviation < f64::from(last.score) {
                break;
            }
        }
        let documents: Vec<Location> = block.iter().map(|candidate| candidate.at).collect();
        let hits = score(&documents)?;
        for (candidate, hit) in block.iter().zip(&hits) {
            let error = f64::from(hit.score) - f64::from(candidate.estimate);
            sum += error;
            squares += error * error;
        }
        scored += hits.len();
        best.extend(hits);
    }
    Ok((best, scored))
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
