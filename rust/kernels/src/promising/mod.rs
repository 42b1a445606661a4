//! `MaxSim` over each document's most promising tokens: a score that never exceeds the whole one, and seldom falls short.
//!
//! The document token that is best for a query token nearly always lies in a cell that scores well for it, or for another
//! query token. So the token with the best centroid is chosen for each query token by the u8 rows of [`RowTable`], and the
//! document is scored on codes as if it had no others. A maximum over some of the tokens is at most that over all, so the
//! score is a lower bound to the bit; where it chooses well it is the score itself.
//!
//! # Bound
//! Choosing takes five instructions of 256 bits a token, so about two cycles; the chosen tokens cost what they do in
//! [`crate::maxsim_codes`]. Their codes lie anywhere in memory, so they are asked for as soon as they are chosen, and read
//! when all documents of the call have been chosen from.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

use crate::codes::{CodeQuery, DocumentCodes, maxsim_codes};
use crate::flood::RowTable;
use crate::lanes::LANES;
use crate::level::{Isa, Level};
use crate::prefetch;

/// Tokens that are chosen from at a time: a byte tells them apart. Of a longer document each run has its own best ones.
const RUN: usize = 256;

/// Scores documents by `MaxSim` over their most promising tokens, `out[document]`; one without tokens scores −inf.
///
/// A score is at most that of [`maxsim_codes`], and does not depend on the other documents. Same bits at every level.
///
/// # Panics
/// If lengths disagree, as in [`maxsim_codes`], or `table` is not of the query's tokens and rows, or has no row.
pub fn maxsim_promising(
    level: Level,
    query: &CodeQuery,
    table: &RowTable,
    documents: &[DocumentCodes],
    out: &mut [f32],
) {
    assert!(table.rows() > 0, "without centroids no token is more promising than another");
    assert_eq!(table.blocks(), query.lanes.blocks(), "the table must be of the query's tokens");
    let row_bytes = query.bits.row_bytes(query.lanes.depth());
    let mut tokens: Vec<u32> = Vec::new();
    let mut ends = Vec::with_capacity(documents.len());
    for (at, document) in documents.iter().enumerate() {
        query.check_document(document);
        if let Some(later) = documents.get(at + AHEAD) {
            later.centroids.chunks(LANES).for_each(|line| prefetch(line.as_ptr()));
        }
        let first = tokens.len();
        choose(level, table, query.weights, document.centroids, &mut tokens);
        // Whatever it is, a token is needed where no weight asks for one.
        if tokens.len() == first && !document.gains.is_empty() {
            tokens.push(0);
        }
        for &token in &tokens[first..] {
            let token = token as usize;
            prefetch(&raw const document.gains[token]);
            document.codes[token * row_bytes..][..row_bytes].chunks(64).for_each(|line| prefetch(line.as_ptr()));
        }
        ends.push(tokens.len());
    }
    let mut codes = Vec::with_capacity(tokens.len() * row_bytes);
    let mut gains = Vec::with_capacity(tokens.len());
    let mut centroids = Vec::with_capacity(tokens.len());
    let mut start = 0;
    for (document, &end) in documents.iter().zip(&ends) {
        for &token in &tokens[start..end] {
            let token = token as usize;
            codes.extend_from_slice(&document.codes[token * row_bytes..][..row_bytes]);
            gains.push(document.gains[token]);
            centroids.push(document.centroids[token]);
        }
        start = end;
    }
    let mut start = 0;
    let chosen: Vec<DocumentCodes> = ends
        .iter()
        .map(|&end| {
            let tokens = std::mem::replace(&mut start, end)..end;
            DocumentCodes {
                codes: &codes[tokens.start * row_bytes..tokens.end * row_bytes],
                gains: &gains[tokens.clone()],
                centroids: &centroids[tokens],
            }
        })
        .collect();
    maxsim_codes(level, std::slice::from_ref(query), &chosen, out);
}

/// Documents between the one that is chosen from and the one whose centroids are asked for.
const AHEAD: usize = 4;

/// Appends the tokens of a document that are the best of a run for one of the query's tokens of any weight, the first of equal
/// ones, ascending.
fn choose(level: Level, table: &RowTable, weights: &[f32], centroids: &[u16], tokens: &mut Vec<u32>) {
    for (run, centroids) in (0_u32..).step_by(RUN).zip(centroids.chunks(RUN)) {
        let mut chosen = [0_u64; RUN / 64];
        for block in 0..table.blocks() {
            let rows = table.block(block);
            let best = match level.0 {
                Isa::Scalar => scalar::best(rows, centroids),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: these levels exist only where detection found avx2.
                _ => unsafe { avx2::best(rows, centroids) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: these levels exist only where detection found neon.
                _ => unsafe { neon::best(rows, centroids) },
            };
            for (&place, &weight) in best.iter().zip(&weights[block * LANES..]) {
                if weight > 0.0 {
                    chosen[usize::from(place / 64)] |= 1 << (place % 64);
                }
            }
        }
        for (word, mut bits) in (run..).step_by(64).zip(chosen) {
            while bits != 0 {
                tokens.push(word + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}
