//! A query made ready for every later stage: rotated, in int8, and scored against all centroids once.

use std::cell::RefCell;

use latewood_kernels::{CodeQuery, LANES, Level, QueryLanes, RowTable};

use super::Query;
use crate::codec::Codec;

thread_local! {
    /// Centroid scores take up to megabytes; fresh pages for every query would cost more than the scores.
    static SPARE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A query against one codec.
pub(super) struct Prepared<'a> {
    codec: &'a Codec,
    lanes: QueryLanes,
    /// Scale of each int8 query token times its weight: what turns a lane's maximum into its part of the score.
    weights: Vec<f32>,
    /// `[blocks][centroids][32]`, before weights; empty for the flat codec.
    centroid_scores: Vec<f32>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(codec: &'a Codec, query: Query<'_>) -> Self {
        let lanes = QueryLanes::quantize(&codec.rotate(query.vectors), codec.depth());
        let weight = |token: usize| query.weights.map_or(1.0, |weights| weights[token]);
        let weights = lanes.scales().iter().enumerate().map(|(token, scale)| scale * weight(token)).collect();
        let mut centroid_scores = SPARE.take();
        centroid_scores.resize(lanes.blocks() * codec.centroid_count() * LANES, 0.0);
        if codec.centroid_count() > 0 {
            let unit = codec.parameters().centroid_unit;
            latewood_kernels::centroid_scores(Level::current(), &lanes, codec.centroids(), unit, &mut centroid_scores);
        }
        Self { codec, lanes, weights, centroid_scores }
    }

    /// The kernels' view.
    pub(super) fn codes(&self) -> CodeQuery<'_> {
        self.codec.query(&self.lanes, &self.weights, &self.centroid_scores)
    }

    /// Centroid scores as bytes, for flood and prune.
    pub(super) fn rows(&self) -> RowTable {
        let (rows, tokens) = (self.codec.centroid_count(), self.lanes.tokens());
        RowTable::quantize(Level::current(), &self.centroid_scores, rows, tokens, &self.weights)
    }

    /// Query tokens.
    pub(super) fn tokens(&self) -> usize {
        self.lanes.tokens()
    }

    /// Number of centroids.
    pub(super) fn centroid_count(&self) -> usize {
        self.codec.centroid_count()
    }

    /// Scores of all centroids for the query tokens of `block`, `[centroids][32]`, before weights.
    pub(super) fn block_scores(&self, block: usize) -> &[[f32; LANES]] {
        let rows = self.codec.centroid_count();
        &self.centroid_scores.as_chunks::<LANES>().0[block * rows..(block + 1) * rows]
    }

    /// What turns a centroid score of query token `token` into its part of the document's score.
    pub(super) fn weight(&self, token: usize) -> f32 {
        self.weights[token]
    }

    /// The scale of query token `token`, without the user's weight.
    pub(super) fn scale(&self, token: usize) -> f32 {
        self.lanes.scales()[token]
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.centroid_scores));
    }
}
