//! Every pair's dot product of one item's vectors, `[tokens, tokens]`: a matrix times itself, of which half is computed.
//!
//! Each product is summed over the dimensions in order, fused where the CPU can, from one body that the compiler writes
//! vector code for. So all levels that fuse agree to the bit, and so do all that do not. All agree where components are
//! integers and no two vectors' norms multiply to more than 2²⁴: then every sum is exact.
//!
//! # Bound
//! Half of the pairs, `tokens² · dim / 2` products, fused two registers a cycle: with AVX-512 145,000 cycles for 269 tokens
//! of 128 dimensions.

#![expect(clippy::inline_always, reason = "what `widely` runs is compiled for the registers of its caller")]

use crate::level::Level;
use crate::wide::{Wide, widely};

/// Columns computed together; half of the matrix is computed, by whole panels.
const PANEL: usize = 32;
/// Rows computed together at most; the number of rows is rounded up to it.
const ROWS: usize = 8;

/// Symmetric dot products of one item's vectors, and the memory they take, for one item after the other.
#[derive(Default)]
pub struct Similarities {
    tokens: usize,
    dim: usize,
    /// Row length: `tokens` rounded up to whole panels.
    stride: usize,
    values: Vec<f32>,
    /// `[stride, dim]`, zeros behind the last token.
    padded: Vec<f32>,
    panel: Vec<f32>,
}

impl Similarities {
    /// Room for the vectors of the next item, `[tokens, dim]`, to be written before [`Self::multiply`]; what is in it is
    /// left over from other items.
    pub fn vectors(&mut self, tokens: usize, dim: usize) -> &mut [f32] {
        (self.tokens, self.dim, self.stride) = (tokens, dim, tokens.next_multiple_of(PANEL));
        self.padded.resize(self.stride * dim, 0.0);
        let (vectors, behind) = self.padded.split_at_mut(tokens * dim);
        behind.fill(0.0);
        vectors
    }

    /// Computes the dot products of the vectors.
    pub fn multiply(&mut self, level: Level) {
        self.panel.resize(self.dim * PANEL, 0.0);
        self.values.resize(self.stride * self.stride, 0.0);
        if self.dim > 0 {
            widely(level, Multiply(self));
        }
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Dot products of one token with all, `[tokens]`.
    ///
    /// # Panics
    /// If there is no such token.
    #[must_use]
    #[inline(always)]
    pub fn row(&self, token: usize) -> &[f32] {
        &self.values[token * self.stride..][..self.tokens]
    }
}

struct Multiply<'a>(&'a mut Similarities);

impl Wide for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const LANES: usize>(self) {
        let Similarities { tokens, dim, stride, values, padded, panel } = self.0;
        let (dim, stride, rows) = (*dim, *stride, tokens.next_multiple_of(ROWS));
        for first in (0..stride).step_by(PANEL) {
            let columns = &padded[first * dim..][..PANEL * dim];
            for (at, to) in panel.chunks_exact_mut(PANEL).enumerate() {
                to.iter_mut().zip(columns.chunks_exact(dim)).for_each(|(to, vector)| *to = vector[at]);
            }
            // The panel's rows that lie above its diagonal are the mirror image of what earlier panels gave.
            for row in (first..rows).step_by(ROWS) {
                let block = &padded[row * dim..][..ROWS * dim];
                if LANES >= 16 {
                    let products = tile::<LANES, ROWS, PANEL>(block, dim, panel, 0);
                    store(values, stride, (row, first), products);
                } else {
                    for (part, block) in block.chunks_exact(4 * dim).enumerate() {
                        for column in [0, 16] {
                            let products = tile::<LANES, 4, 16>(block, dim, panel, column);
                            store(values, stride, (row + 4 * part, first + column), products);
                        }
                    }
                }
            }
        }
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
    let fused = fuses::<LANES>();
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

/// Whether `f32::mul_add` is an instruction among registers of so many lanes.
#[inline(always)]
fn fuses<const LANES: usize>() -> bool {
    LANES > 4 || cfg!(target_arch = "aarch64")
}

#[cfg(test)]
mod tests;
