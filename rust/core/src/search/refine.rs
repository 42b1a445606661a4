//! Better estimates: MaxSim on the codes of each candidate's most promising tokens alone.

use latewood_kernels::{DocumentCodes, Level};

use super::descent::descend;
use super::gather::Candidate;
use super::prepare::Prepared;
use super::top_k::{Hit, Wanted};
use crate::error::Result;
use crate::index::Snapshot;
use crate::parallel::Execution;

/// Candidates refined between two looks at whether the rest is worth it.
const STEP: usize = 64;
/// Deviations fewer than were asked for. By how much codes exceed centroids is spread about evenly around its mean: on two sets
/// of real token vectors half of one less finds as much of the top 10 by codes, of two thirds of the documents.
const SPARED: f64 = 0.5;
/// Documents that one call of the kernel takes: their chosen codes stay in the second cache.
const BLOCK_DOCUMENTS: usize = 64;

/// The candidates that are likely to be among the best, with lower bounds of their scores in place of their estimates.
///
/// # Errors
/// [`crate::Error::Corrupt`], [`crate::Error::Interrupted`].
pub(super) fn refine(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    candidates: &mut [Candidate],
    deviations: f64,
    wanted: Wanted<'_>,
    execution: &Execution,
) -> Result<Vec<Candidate>> {
    let mut refined = Vec::new();
    descend(candidates, STEP, deviations - SPARED, wanted, |block| {
        let hits = estimate(query, snapshot, block, execution)?;
        refined.extend(hits.iter().map(|hit| Candidate { at: hit.at, estimate: hit.score }));
        Ok(hits)
    })?;
    Ok(refined)
}

fn estimate(
    query: &Prepared<'_>,
    snapshot: &Snapshot,
    candidates: &[Candidate],
    execution: &Execution,
) -> Result<Vec<Hit>> {
    let mut hits = Vec::with_capacity(candidates.len());
    let mut scores = [0.0; BLOCK_DOCUMENTS];
    for block in candidates.chunks(BLOCK_DOCUMENTS) {
        execution.check()?;
        let documents: Vec<DocumentCodes<'_>> =
            block.iter().map(|candidate| snapshot.document(candidate.at)).collect::<Result<_>>()?;
        let scores = &mut scores[..block.len()];
        latewood_kernels::maxsim_promising(Level::current(), &query.codes(), query.rows(), &documents, scores);
        hits.extend(block.iter().zip(scores).map(|(candidate, &mut score)| Hit { at: candidate.at, score }));
    }
    Ok(hits)
}
