//! A query made ready for every later stage: rotated, in int8, and scored against all centroids once.

use std::cell::RefCell;
use std::sync::OnceLock;

use latewood_kernels::{CodeQuery, LANES, Level, QueryLanes, RowTable};

use super::query::Query;
use crate::codec::{Codec, FdeQuery};
use crate::error::Result;
use crate::index::{Location, Snapshot};

/// Tokens per cell up to which it is cheaper to score only the cells in which there are any. Measured on 1.0 M real token
/// vectors with 4,096 and 16,384 cells: between 1.2 and 2 with AVX-512 and AMX, where 0.4 of the cells have tokens; above 4.8
/// with AVX2.
const FEW_TOKENS: f64 = 1.5;

thread_local! {
    /// Centroid scores take up to megabytes; fresh pages for every query would cost more than the scores.
    static SPARE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A query against one codec.
pub(super) struct Prepared<'a> {
    codec: &'a Codec,
    /// Token vectors, `[tokens, depth]`.
    rotated: Vec<f32>,
    lanes: QueryLanes,
    /// Scale of each int8 query token times its weight: what turns a lane's maximum into its part of the score.
    weights: Vec<f32>,
    /// `[blocks][centroids][32]`, before weights; empty for the flat codec.
    centroid_scores: Vec<f32>,
    /// The same as bytes, once a stage has asked for them.
    rows: OnceLock<RowTable>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(codec: &'a Codec, query: Query<'_>) -> Self {
        Self::with_scores(codec, query, |lanes, unit, scores| {
            latewood_kernels::centroid_scores(Level::current(), lanes, codec.centroids(), unit, scores);
        })
    }

    /// For these documents alone: where they have few tokens, only the cells of those are scored.
    pub(super) fn for_documents(
        codec: &'a Codec,
        query: Query<'_>,
        snapshot: &Snapshot,
        documents: &[Location],
    ) -> Result<Self> {
        let count = codec.centroid_count();
        if snapshot.tokens_of(documents.iter().copied()) as f64 > FEW_TOKENS * count as f64 {
            return Ok(Self::new(codec, query));
        }
        let mut named = vec![false; count];
        for &at in documents {
            for &centroid in snapshot.document(at)?.centroids {
                named[usize::from(centroid).min(count - 1)] = true;
            }
        }
        // Without a branch, which could not be foretold.
        let mut cells = vec![0; count];
        let mut found = 0;
        for (cell, &named) in named.iter().enumerate() {
            cells[found] = cell as u16;
            found += usize::from(named);
        }
        cells.truncate(found);
        Ok(Self::with_scores(codec, query, |lanes, unit, scores| {
            // Nobody may read what an earlier query left in the rows between: tests would see it.
            if cfg!(debug_assertions) {
                scores.fill(f32::NAN);
            }
            latewood_kernels::centroid_scores_of(Level::current(), lanes, codec.centroids(), &cells, unit, scores);
        }))
    }

    fn with_scores(codec: &'a Codec, query: Query<'_>, scores: impl FnOnce(&QueryLanes, f32, &mut [f32])) -> Self {
        let rotated = codec.rotate(query.vectors);
        let lanes = QueryLanes::quantize(&rotated, codec.depth());
        let weight = |token: usize| query.weights.map_or(1.0, |weights| weights[token]);
        let weights = lanes.scales().iter().enumerate().map(|(token, scale)| scale * weight(token)).collect();
        let mut centroid_scores = SPARE.take();
        centroid_scores.resize(lanes.blocks() * codec.centroid_count() * LANES, 0.0);
        if codec.centroid_count() > 0 {
            scores(&lanes, codec.parameters().centroid_unit, &mut centroid_scores);
        }
        Self { codec, rotated, lanes, weights, centroid_scores, rows: OnceLock::new() }
    }

    /// The kernels' view.
    pub(super) fn codes(&self) -> CodeQuery<'_> {
        self.codec.query(&self.lanes, &self.weights, &self.centroid_scores)
    }

    /// Centroid scores as bytes, for flood, prune and refine.
    pub(super) fn rows(&self) -> &RowTable {
        self.rows.get_or_init(|| {
            let (rows, tokens) = (self.codec.centroid_count(), self.lanes.tokens());
            RowTable::quantize(Level::current(), &self.centroid_scores, rows, tokens, &self.weights)
        })
    }

    /// The query in a fixed number of dimensions, if the codec encodes so.
    pub(super) fn fde(&self) -> Option<FdeQuery> {
        // A token that is all zero scores nothing, whatever its weight.
        let weight = |token| if self.scale(token) > 0.0 { self.weight(token) / self.scale(token) } else { 0.0 };
        self.codec.fde().map(|fde| fde.encode_query(&self.rotated, (0..self.tokens()).map(weight)))
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
