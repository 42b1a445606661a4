//! MaxSim on codes: the score that is returned.

use latewood_kernels::{DocumentCodes, Level};

use super::prepare::Prepared;
use super::top_k::Hit;
use crate::index::{Location, Snapshot};

/// Documents handed to the kernel at once.
const BLOCK_DOCUMENTS: usize = 256;

/// Scores every document; one without tokens scores negative infinity.
pub(super) fn score(query: &Prepared<'_>, snapshot: &Snapshot, documents: &[Location]) -> Vec<Hit> {
    let codes = query.codes();
    let mut hits = Vec::with_capacity(documents.len());
    let mut scores = [0.0; BLOCK_DOCUMENTS];
    for block in documents.chunks(BLOCK_DOCUMENTS) {
        let document = |at: &Location| snapshot.segments[at.segment as usize].document(at.ordinal);
        let views: Vec<DocumentCodes<'_>> = block.iter().map(document).collect();
        let scores = &mut scores[..block.len()];
        latewood_kernels::maxsim_codes(Level::current(), &codes, &views, scores);
        hits.extend(block.iter().zip(scores).map(|(&at, score)| Hit { at, score: *score }));
    }
    hits
}

/// Token vectors of all these documents.
pub(super) fn tokens(snapshot: &Snapshot, documents: &[Location]) -> u64 {
    let tokens = |at: &Location| snapshot.segments[at.segment as usize].token_range(at.ordinal).len() as u64;
    documents.iter().map(tokens).sum()
}
