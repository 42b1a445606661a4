//! Why a document scored as it did: every query token's dot product with every document token.

use super::prepare::Prepared;
use super::query::{Query, check_queries};
use crate::error::Result;
use crate::index::{Location, Snapshot};
use crate::tokens::TokenMatrix;

/// Weighted dot products as the score counts them, `[query tokens, document tokens]`: each row's maximum is that query
/// token's part of the score.
///
/// # Errors
/// As for [`super::search`].
pub fn explain(
    snapshot: &Snapshot,
    query: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    at: Location,
) -> Result<Vec<f32>> {
    check_queries(snapshot, query, weights)?;
    let Some(codec) = &snapshot.codec else { return Ok(Vec::new()) };
    let prepared =
        Prepared::for_documents(codec, Query { item: 0, vectors: query.values(), weights }, snapshot, &[at])?;
    let document = snapshot.document(at)?;
    let (rows, tokens) = (query.tokens(), document.gains.len());
    let mut by_document_token = vec![0.0; rows * tokens];
    latewood_kernels::token_scores(&prepared.codes(), &document, &mut by_document_token);
    let entry = |at: usize| by_document_token[at % tokens * rows + at / tokens] * prepared.weight(at / tokens);
    Ok((0..rows * tokens).map(entry).collect())
}
