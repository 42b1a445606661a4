//! One query, and what is checked of queries anywhere.

use crate::error::{Error, Result};
use crate::index::Snapshot;
use crate::tokens::TokenMatrix;

/// Token vectors of one query, at most. Beyond, the tables of a query outgrow every cache, and a search takes seconds.
pub const MAX_QUERY_TOKENS: usize = 4096;

/// The largest weight: of so many tokens with the largest values that are encoded, no score becomes infinite.
pub(super) const LARGEST_WEIGHT: f32 = 1e6;

/// One query: its number in the batch, its token vectors `[tokens, dim]` and a weight for each token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) item: usize,
    pub(super) vectors: &'a [f32],
    pub(super) weights: Option<&'a [f32]>,
}

/// Checks what is said of queries anywhere: their dimension, size and number of tokens, and the weights of these.
///
/// # Errors
/// [`Error::Dimension`], [`Error::Invalid`].
pub(super) fn check_queries(snapshot: &Snapshot, queries: &TokenMatrix<'_>, weights: Option<&[f32]>) -> Result<()> {
    let expected = snapshot.dim();
    if queries.dim() != expected {
        return Err(Error::Dimension { thing: "the query".to_owned(), got: queries.dim(), expected });
    }
    queries.check_magnitude(|item| format!("query {item}"))?;
    if let Some(item) = (0..queries.items()).find(|&item| queries.item_tokens(item) == 0) {
        return Err(Error::invalid(format!("query {item} has no token vectors; a query needs at least one")));
    }
    if let Some(item) = (0..queries.items()).find(|&item| queries.item_tokens(item) > MAX_QUERY_TOKENS) {
        return Err(Error::invalid(format!(
            "query {item} has {} token vectors, and at most {MAX_QUERY_TOKENS} can be searched with; pool them to fewer, or \
             split the query",
            queries.item_tokens(item)
        )));
    }
    if let Some(weights) = weights {
        if weights.len() != queries.tokens() {
            return Err(Error::invalid(format!(
                "{} weights for {} query tokens; give one for each",
                weights.len(),
                queries.tokens()
            )));
        }
        if let Some(at) = weights.iter().position(|weight| !(0.0..=LARGEST_WEIGHT).contains(weight)) {
            return Err(Error::invalid(format!(
                "weight {} of query token {at} must be a number of at least 0 and at most {LARGEST_WEIGHT}; only their \
                 proportions change an order",
                weights[at]
            )));
        }
    }
    Ok(())
}
