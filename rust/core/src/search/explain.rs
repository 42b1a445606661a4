//! Why a document scored as it did: every query token's dot product with every document token.

use super::prepare::Prepared;
use super::query::{Query, check_queries};
use super::rescore::dot_products;
use crate::error::Result;
use crate::index::{KeptVectors, Location, Snapshot};
use crate::tokens::TokenMatrix;

/// Weighted dot products as the score counts them, on codes or on kept vectors, `[query tokens, document tokens]`: each row's
/// maximum is that query token's part of the score.
///
/// # Errors
/// As for [`super::search`].
pub fn explain(
    snapshot: &Snapshot,
    query: &TokenMatrix<'_>,
    weights: Option<&[f32]>,
    at: Location,
    on: Option<KeptVectors>,
) -> Result<Vec<f32>> {
    check_queries(snapshot, query, weights)?;
    let asked = Query { item: 0, vectors: query.values(), weights };
    if on.is_some() {
        return dot_products(asked, snapshot, at);
    }
    let Some(codec) = &snapshot.codec else { return Ok(Vec::new()) };
    let prepared = Prepared::for_documents(codec, asked, snapshot, &[at])?;
    let document = snapshot.document(at)?;
    let (rows, tokens) = (query.tokens(), document.gains.len());
    let mut by_document_token = vec![0.0; rows * tokens];
    latewood_kernels::token_scores(&prepared.codes(), &document, &mut by_document_token);
    let entry = |at: usize| by_document_token[at % tokens * rows + at / tokens] * prepared.weight(at / tokens);
    Ok((0..rows * tokens).map(entry).collect())
}
