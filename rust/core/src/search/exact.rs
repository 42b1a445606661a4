//! Exact MaxSim on float vectors: nothing stored, nothing compressed.

use latewood_kernels::{FloatLanes, Level};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

/// Documents that one task scores: few enough to stay in cache while every query passes over them.
const BLOCK_DOCUMENTS: usize = 4;
/// Queries held in packed form at a time.
const BLOCK_QUERIES: usize = 256;

/// MaxSim of every query with every document, `[queries, documents]`, float32 throughout. A document without tokens
/// scores negative infinity, a query without tokens 0.
///
/// # Errors
/// [`Error::Dimension`] if the two differ, [`Error::Interrupted`].
pub fn maxsim(queries: &TokenMatrix<'_>, documents: &TokenMatrix<'_>, execution: &Execution) -> Result<Vec<f32>> {
    check(queries, documents)?;
    let count = documents.items();
    let views: Vec<&[f32]> = (0..count).map(|item| documents.item(item)).collect();
    let mut scores = vec![0.0; queries.items() * count];
    for first in (0..queries.items()).step_by(BLOCK_QUERIES) {
        let items = first..(first + BLOCK_QUERIES).min(queries.items());
        let packed: Vec<FloatLanes> = items.map(|item| FloatLanes::pack(queries.item(item), queries.dim())).collect();
        // `[queries, documents]` of each block of documents.
        let blocks: Vec<Vec<f32>> = execution.install(|| {
            let score = |documents: &[&[f32]]| {
                execution.check()?;
                let mut scores = vec![0.0; packed.len() * documents.len()];
                for (query, scores) in packed.iter().zip(scores.chunks_exact_mut(documents.len())) {
                    latewood_kernels::maxsim_float(Level::current(), query, documents, scores);
                }
                Ok(scores)
            };
            views.par_chunks(BLOCK_DOCUMENTS).map(score).collect::<Result<_>>()
        })?;
        for (block, block_scores) in blocks.iter().enumerate() {
            let start = block * BLOCK_DOCUMENTS;
            let width = BLOCK_DOCUMENTS.min(count - start);
            for (query, row) in block_scores.chunks_exact(width).enumerate() {
                scores[(first + query) * count + start..][..width].copy_from_slice(row);
            }
        }
    }
    Ok(scores)
}

/// MaxSim of query `i` with document `i`.
///
/// # Errors
/// As for [`maxsim`], and [`Error::Invalid`] if there are not as many documents as queries.
pub fn maxsim_pairs(queries: &TokenMatrix<'_>, documents: &TokenMatrix<'_>, execution: &Execution) -> Result<Vec<f32>> {
    check(queries, documents)?;
    if queries.items() != documents.items() {
        return Err(Error::invalid(format!(
            "{} queries and {} documents do not make pairs",
            queries.items(),
            documents.items()
        )));
    }
    let pair = |item: usize| {
        execution.check()?;
        let query = FloatLanes::pack(queries.item(item), queries.dim());
        let mut score = [0.0];
        latewood_kernels::maxsim_float(Level::current(), &query, &[documents.item(item)], &mut score);
        Ok(score[0])
    };
    execution.install(|| (0..queries.items()).into_par_iter().map(pair).collect())
}

fn check(queries: &TokenMatrix<'_>, documents: &TokenMatrix<'_>) -> Result<()> {
    if queries.dim() == documents.dim() {
        return Ok(());
    }
    Err(Error::invalid(format!("queries have dimension {}, documents {}", queries.dim(), documents.dim())))
}
