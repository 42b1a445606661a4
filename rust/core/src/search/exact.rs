//! Exact MaxSim on float vectors: nothing stored, nothing compressed.

use latewood_kernels::{FloatLanes, Level};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

/// Documents that one task scores.
const BLOCK_DOCUMENTS: usize = 64;

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
    execution.install(|| {
        for (item, scores) in scores.chunks_exact_mut(count.max(1)).enumerate() {
            let query = FloatLanes::pack(queries.item(item), queries.dim());
            let blocks = views.par_chunks(BLOCK_DOCUMENTS).zip(scores.par_chunks_mut(BLOCK_DOCUMENTS));
            blocks.try_for_each(|(documents, scores)| {
                execution.check()?;
                latewood_kernels::maxsim_float(Level::current(), &query, documents, scores);
                Ok(())
            })?;
        }
        Ok(())
    })?;
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
