//! Every pair's dot product, `[tokens, tokens]`.
//!
//! # Bound
//! Half of the pairs, `tokens² · dim / 2` products, fused two registers a cycle: with AVX-512 145,000 cycles for 269 tokens
//! of 128 dimensions.

/// Columns computed together; half of the matrix is computed, by whole panels.
const PANEL: usize = 32;
/// Rows computed together at most; the number of rows is rounded up to it.
const ROWS: usize = 8;

/// Symmetric dot products of one item's vectors, and the memory they take.
#[derive(Default)]
pub(super) struct Similarities {
    tokens: usize,
    /// Row length: `tokens` rounded up to whole panels.
    stride: usize,
    values: Vec<f32>,
    padded: Vec<f32>,
    panel: Vec<f32>,
}

impl Similarities {
    /// Fills in the dot products of `vectors`, `[tokens, dim]`, row `i` first put through `convert(i, from, to)`.
    ///
    /// The sums run over the dimensions in order, fused where the CPU can, so they may differ in the last bit between a
    /// CPU that can and one that cannot. They are exact where components are integers and no two vectors' norms multiply
    /// to more than 2²⁴.
    #[inline(always)]
    pub(super) fn fill<const LANES: usize>(
        &mut self,
        vectors: &[f32],
        dim: usize,
        mut convert: impl FnMut(usize, &[f32], &mut [f32]),
    ) {
        self.tokens = vectors.len() / dim;
        self.stride = self.tokens.next_multiple_of(PANEL);
        let rows = self.tokens.next_multiple_of(ROWS);
        self.padded.resize(self.stride * dim, 0.0);
        self.padded[self.tokens * dim..].fill(0.0);
        let pairs = vectors.chunks_exact(dim).zip(self.padded.chunks_exact_mut(dim));
        pairs.enumerate().for_each(|(row, (from, to))| convert(row, from, to));
        self.panel.resize(dim * PANEL, 0.0);
        self.values.resize(self.stride * self.stride, 0.0);
        for first in (0..self.stride).step_by(PANEL) {
            let columns = &self.padded[first * dim..][..PANEL * dim];
            for (at, to) in self.panel.chunks_exact_mut(PANEL).enumerate() {
                to.iter_mut().zip(columns.chunks_exact(dim)).for_each(|(to, vector)| *to = vector[at]);
            }
            // The panel's rows that lie above its diagonal are the mirror image of what earlier panels gave.
            for row in (first..rows).step_by(ROWS) {
                let block = &self.padded[row * dim..][..ROWS * dim];
                if LANES >= 16 {
                    let products = tile::<LANES, ROWS, PANEL>(block, dim, &self.panel, 0);
                    store(&mut self.values, self.stride, (row, first), products);
                } else {
                    for (part, block) in block.chunks_exact(4 * dim).enumerate() {
                        for column in [0, 16] {
                            let products = tile::<LANES, 4, 16>(block, dim, &self.panel, column);
                            store(&mut self.values, self.stride, (row + 4 * part, first + column), products);
                        }
                    }
                }
            }
        }
    }

    /// Number of tokens.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Dot products of one token with all.
    #[inline(always)]
    pub(super) fn row(&self, token: usize) -> &[f32] {
        &self.values[token * self.stride..][..self.tokens]
    }
}

/// Writes a tile and its mirror image.
///
/// The mirror image is read from memory: a tile that is indexed by a variable would not be kept in registers.
#[inline(always)]
fn store<const V: usize, const W: usize>(
    values: &mut [f32],
    stride: usize,
    (row, column): (usize, usize),
    products: [[f32; W]; V],
) {
    for (values, products) in values[row * stride..].chunks_mut(stride).zip(products) {
        values[column..][..W].copy_from_slice(&products);
    }
    for at in column..column + W {
        for row in row..row + V {
            values[at * stride + row] = values[row * stride + at];
        }
    }
}

/// Products of `V` vectors with the `W` columns of a panel from `column` on.
///
/// Indexed as it is because this is the form that the compiler keeps in registers: with iterators over the vectors it
/// took ten times as long.
#[inline(always)]
fn tile<const LANES: usize, const V: usize, const W: usize>(
    vectors: &[f32],
    dim: usize,
    panel: &[f32],
    column: usize,
) -> [[f32; W]; V] {
    let fused = LANES > 4 || cfg!(target_arch = "aarch64");
    let mut sums = [[0.0_f32; W]; V];
    let vectors: [&[f32]; V] = std::array::from_fn(|vector| &vectors[vector * dim..][..dim]);
    for (at, row) in panel.chunks_exact(PANEL).enumerate().take(dim) {
        let row: &[f32; W] = row[column..].first_chunk().unwrap_or(&[0.0; W]);
        for v in 0..V {
            let x = vectors[v][at];
            for w in 0..W {
                sums[v][w] = if fused { x.mul_add(row[w], sums[v][w]) } else { sums[v][w] + x * row[w] };
            }
        }
    }
    sums
}
