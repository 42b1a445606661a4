//! MaxSim on float vectors, without an index: nothing stored, nothing compressed.

use latewood_kernels::{FloatLanes, FloatVectors, Level, Precision};

use crate::error::{Error, Result};
use crate::parallel::Execution;
use crate::room::room_for;
use crate::tokens::TokenMatrix;

/// Scores that one task computes, about: enough that the kernel can fetch documents ahead.
const TASK_SCORES: usize = 64;
/// Documents that one task scores at least: few enough to stay in cache while every query passes over them.
const MIN_DOCUMENTS: usize = 4;
/// Queries held in packed form at a time.
const BLOCK_QUERIES: usize = 256;

/// MaxSim of every query with every document, `[queries, documents]`, its products of this precision. A document without tokens
/// scores negative infinity, a query without tokens 0.
///
/// Documents are whole vectors of the queries' dimension, each as it lies in memory.
///
/// # Errors
/// [`Error::Invalid`] if a document is not whole vectors, or for more scores than there is memory for; [`Error::NotFinite`] for
/// NaN and infinities in a document, unless there are no queries; [`Error::Interrupted`].
pub fn maxsim(
    queries: &TokenMatrix<'_>,
    documents: &[FloatVectors<'_>],
    precision: Precision,
    execution: &Execution,
) -> Result<Vec<f32>> {
    check(queries.dim(), documents)?;
    let count = documents.len();
    let mut scores = room_for(queries.items() * count, "scores")?;
    scores.resize(queries.items() * count, 0.0);
    for first in (0..queries.items()).step_by(BLOCK_QUERIES) {
        let items = first..(first + BLOCK_QUERIES).min(queries.items());
        let packed: Vec<FloatLanes> =
            items.map(|item| FloatLanes::pack(queries.item(item), queries.dim(), precision)).collect();
        let width = count.div_ceil(4 * execution.threads()).min(TASK_SCORES / packed.len()).max(MIN_DOCUMENTS);
        // `[queries, documents]` of each block of documents.
        let score = |documents: &[FloatVectors<'_>]| {
            let mut scores = vec![0.0; packed.len() * documents.len()];
            for (query, scores) in packed.iter().zip(scores.chunks_exact_mut(documents.len())) {
                latewood_kernels::maxsim_float(Level::current(), query, documents, scores);
            }
            Ok(scores)
        };
        let blocks: Vec<Vec<f32>> = execution.map(documents.chunks(width), score)?;
        for (block, block_scores) in blocks.iter().enumerate() {
            let start = block * width;
            let width = width.min(count - start);
            for (query, row) in block_scores.chunks_exact(width).enumerate() {
                scores[(first + query) * count + start..][..width].copy_from_slice(row);
            }
        }
    }
    refuse_not_finite(queries.dim(), documents, &scores)?;
    Ok(scores)
}

/// MaxSim of query `i` with document `i`.
///
/// # Errors
/// As for [`maxsim`], and [`Error::Invalid`] if there are not as many documents as queries.
pub fn maxsim_pairs(
    queries: &TokenMatrix<'_>,
    documents: &[FloatVectors<'_>],
    precision: Precision,
    execution: &Execution,
) -> Result<Vec<f32>> {
    check(queries.dim(), documents)?;
    if queries.items() != documents.len() {
        return Err(Error::invalid(format!(
            "{} queries and {} documents do not make pairs",
            queries.items(),
            documents.len()
        )));
    }
    let pair = |item: usize| {
        let query = FloatLanes::pack(queries.item(item), queries.dim(), precision);
        let mut score = [0.0];
        latewood_kernels::maxsim_float(Level::current(), &query, &documents[item..=item], &mut score);
        Ok(score[0])
    };
    let scores: Vec<f32> = execution.map(0..queries.items(), pair)?;
    refuse_not_finite(queries.dim(), documents, &scores)?;
    Ok(scores)
}

fn check(dim: usize, documents: &[FloatVectors<'_>]) -> Result<()> {
    match documents.iter().position(|document| !document.len().is_multiple_of(dim)) {
        None => Ok(()),
        Some(item) => Err(Error::invalid(format!("document {item} is not whole vectors of dimension {dim}"))),
    }
}

/// The kernel marks a document that is not finite by the score NaN, which finite ones have only where they overflow.
fn refuse_not_finite(dim: usize, documents: &[FloatVectors<'_>], scores: &[f32]) -> Result<()> {
    if !scores.iter().any(|score| score.is_nan()) {
        return Ok(());
    }
    for (item, document) in documents.iter().enumerate() {
        if let Some((at, value)) = document.not_finite() {
            let thing = format!("document {item}");
            return Err(Error::NotFinite { thing, token: at / dim, dimension: at % dim, value });
        }
    }
    Ok(())
}
