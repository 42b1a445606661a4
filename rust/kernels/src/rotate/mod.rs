//! Vectors × matrix in float, the same bits at every level.
//!
//! Each output is summed over the input dimensions in order, one multiplication and one addition at a time and never fused.
//! Levels differ only in how many outputs they hold in registers, so they agree to the bit by construction, and the
//! compiler writes the vector code from one body.
//!
//! # Bound
//! 2 instructions per 16 (AVX-512) or 8 (AVX2) products: `dim · depth / 16` cycles a vector on two ports, 1,024 at 128 × 128.

use crate::level::{Isa, Level};

/// Rotates `input`, `[vectors, dim]`, by `matrix`, `[dim, depth]`: `out[n][j] = Σ_i input[n][i] · matrix[i][j]`.
///
/// `out` is `[vectors, depth]`; `depth` may exceed `dim` (columns of padding come out as the matrix has them).
///
/// # Panics
/// If `matrix` is not `[dim, depth]`, `input` not whole vectors or `out` not `[vectors, depth]`.
pub fn rotate(level: Level, matrix: &[f32], dim: usize, depth: usize, input: &[f32], out: &mut [f32]) {
    assert!(dim > 0 && depth > 0, "dim and depth must be positive");
    assert_eq!(matrix.len(), dim * depth, "matrix must be [dim, depth]");
    assert!(input.len().is_multiple_of(dim), "input must be whole vectors");
    assert_eq!(out.len(), input.len() / dim * depth, "out must be [vectors, depth]");
    match level.0 {
        Isa::Scalar => tiles::<2, 16>(matrix, dim, depth, input, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these levels exist only where detection found avx2.
        Isa::Avx2 | Isa::AvxVnni => unsafe { avx2(matrix, dim, depth, input, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: all higher levels exist only where detection found avx512f.
        _ => unsafe { avx512(matrix, dim, depth, input, out) },
        #[cfg(target_arch = "aarch64")]
        // The target itself has neon: sixteen sums fill half of its registers.
        _ => tiles::<4, 16>(matrix, dim, depth, input, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(matrix: &[f32], dim: usize, depth: usize, input: &[f32], out: &mut [f32]) {
    tiles::<4, 16>(matrix, dim, depth, input, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(matrix: &[f32], dim: usize, depth: usize, input: &[f32], out: &mut [f32]) {
    tiles::<8, 32>(matrix, dim, depth, input, out);
}

/// Tiles of `VECTORS` inputs × `WIDTH` outputs, and single vectors and outputs for what is left over.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inlined into functions that enable wider registers")]
fn tiles<const VECTORS: usize, const WIDTH: usize>(
    matrix: &[f32],
    dim: usize,
    depth: usize,
    input: &[f32],
    out: &mut [f32],
) {
    let inputs = input.chunks(VECTORS * dim);
    for (input, out) in inputs.zip(out.chunks_mut(VECTORS * depth)) {
        let whole = if input.len() == VECTORS * dim { depth / WIDTH * WIDTH } else { 0 };
        for column in (0..whole).step_by(WIDTH) {
            let mut sums = [[0.0_f32; WIDTH]; VECTORS];
            let mut vectors: [std::slice::Iter<f32>; VECTORS] =
                std::array::from_fn(|vector| input[vector * dim..][..dim].iter());
            for row in matrix.chunks_exact(depth) {
                let row: &[f32; WIDTH] = row[column..].first_chunk().unwrap_or(&[0.0; WIDTH]);
                for (sums, vector) in sums.iter_mut().zip(&mut vectors) {
                    let x = vector.next().copied().unwrap_or_default();
                    for (sum, m) in sums.iter_mut().zip(row) {
                        *sum += x * m;
                    }
                }
            }
            for (vector, sums) in sums.iter().enumerate() {
                out[vector * depth + column..][..WIDTH].copy_from_slice(sums);
            }
        }
        for (vector, out) in input.chunks_exact(dim).zip(out.chunks_exact_mut(depth)) {
            let out = &mut out[whole..];
            out.fill(0.0);
            for (x, row) in vector.iter().zip(matrix.chunks_exact(depth)) {
                for (sum, m) in out.iter_mut().zip(&row[whole..]) {
                    *sum += x * m;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guarded, Random};

    #[test]
    fn every_level_gives_the_bits_of_the_plain_loop() {
        let mut random = Random::new(41);
        // Common dims, and depths that are no whole tile; counts around the tiles of 2, 4 and 8 vectors.
        for (dim, depth) in [(1, 1), (48, 64), (100, 128), (128, 128), (320, 320), (96, 100), (2048, 96), (4096, 64)] {
            for vectors in [0, 1, 3, 8, 9, 17] {
                let matrix = Guarded::new(&random.floats(dim * depth));
                let input = Guarded::new(&random.floats(vectors * dim));
                let mut expected = vec![0.0_f32; vectors * depth];
                for n in 0..vectors {
                    for j in 0..depth {
                        for i in 0..dim {
                            expected[n * depth + j] += input[n * dim + i] * matrix[i * depth + j];
                        }
                    }
                }
                for level in Level::available() {
                    let mut out = Guarded::new(&vec![1.0; vectors * depth]);
                    rotate(level, &matrix, dim, depth, &input, &mut out);
                    let same = out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{level}, {dim} × {depth}, {vectors} vectors");
                }
            }
        }
    }
}
