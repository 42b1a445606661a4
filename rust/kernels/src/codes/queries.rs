//! The queries of one call as the kernels walk them: block after block, whosever they are.

use super::{Bits, CodeQuery, weighted_sum};
use crate::lanes::{LANES, QueryLanes};

/// 32 lanes of a query and their part of its table of centroid scores.
pub(super) struct Block<'a> {
    lanes: &'a QueryLanes,
    index: usize,
    /// `[rows]`; empty for the flat codec.
    pub(super) table: &'a [[f32; LANES]],
}

impl<'a> Block<'a> {
    /// `[stride / 4][32][4]`.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(super) fn values(&self) -> &'a [i8] {
        self.lanes.block(self.index)
    }

    /// Where sums start if the other side is raised by `offset` to be unsigned: at `-offset · Σ q`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn start(&self, offset: i32) -> [i32; LANES] {
        self.lanes.sums(self.index).map(|sum| -offset * sum)
    }

    /// The values as pairs of i16, `[stride / 2][32][2]`.
    pub(super) fn widen(&self, out: &mut [i16]) {
        self.lanes.widen_block(self.index, out);
    }
}

/// Queries of like depth, bits and levels.
pub(super) struct Queries<'a> {
    all: &'a [CodeQuery<'a>],
    /// Those of the first query, those of the second, and so on.
    pub(super) blocks: Vec<Block<'a>>,
    pub(super) bits: Bits,
    pub(super) levels: &'a [i8; 16],
    pub(super) depth: usize,
    /// Bytes from one decoded row to the next.
    pub(super) stride: usize,
    pub(super) row_bytes: usize,
}

impl<'a> Queries<'a> {
    /// # Panics
    /// If one of the queries is not whole, or not like `first`, which has tokens if any has.
    pub(super) fn new(queries: &'a [CodeQuery<'a>], first: &CodeQuery<'a>) -> Self {
        let depth = first.lanes.depth();
        let mut blocks = Vec::with_capacity(queries.len() * first.lanes.blocks());
        for query in queries {
            query.check();
            let CodeQuery { lanes, bits, levels, centroid_scores, .. } = *query;
            assert!(
                (lanes.depth(), bits, levels) == (depth, first.bits, first.levels)
                    && (lanes.blocks() == 0 || query.rows() == first.rows()),
                "queries must agree in depth, bits, levels and rows of centroid scores"
            );
            let (tables, rows) = (centroid_scores.as_chunks::<LANES>().0, query.rows());
            blocks.extend((0..lanes.blocks()).map(|index| Block {
                lanes,
                index,
                table: &tables[index * rows..][..rows],
            }));
        }
        let stride = first.lanes.stored_depth();
        let (bits, levels) = (first.bits, first.levels);
        Self { all: queries, blocks, bits, levels, depth, stride, row_bytes: bits.row_bytes(depth) }
    }

    /// Number of queries.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether documents have centroids.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn residual(&self) -> bool {
        self.blocks.iter().any(|block| !block.table.is_empty())
    }

    /// Scores of a document from its maxima, `[blocks][32]`; one score per query.
    pub(super) fn score(&self, maxima: &[f32], out: &mut [f32]) {
        let mut blocks = 0;
        for (query, out) in self.all.iter().zip(out) {
            *out = weighted_sum(&maxima[blocks * LANES..][..query.weights.len()], query.weights);
            blocks += query.lanes.blocks();
        }
    }
}
