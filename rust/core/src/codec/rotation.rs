//! The random rotation that spreads every vector's energy evenly over the dimensions, so that one table of levels fits
//! them all (TurboQuant and RaBitQ rest on the same step).

use latewood_kernels::Level;

use super::random::Random;
use crate::error::Result;
use crate::parallel::Execution;

/// Rows that are made orthogonal to each other one by one, and to all earlier rows together: products of matrices, which a
/// kernel computes.
const BLOCK: usize = 128;
/// Rows of which one thread takes off what lies along earlier ones.
const ROWS: usize = 32;

/// A random orthogonal `[dim, depth]` matrix: `dim` orthonormal rows whose last `depth - dim` entries are zero.
///
/// Gram and Schmidt's method on random rows, each block twice, because once leaves an error that grows with `dim`.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub(super) fn draw(dim: usize, depth: usize, seed: u64, execution: &Execution) -> Result<Vec<f32>> {
    let mut random = Random::new(seed ^ 0x726f_7461_7469_6f6e);
    let mut earlier: Vec<Block> = Vec::with_capacity(dim.div_ceil(BLOCK));
    for first in (0..dim).step_by(BLOCK) {
        let mut rows: Vec<Vec<f64>> = (first..dim.min(first + BLOCK)).map(|_| draw_row(&mut random, dim)).collect();
        take_off(&mut rows, &earlier, execution)?;
        for at in 0..rows.len() {
            execution.check()?;
            let (before, rest) = rows.split_at_mut(at);
            while !orthonormalize(&mut rest[0], before) {
                rest[0] = draw_row(&mut random, dim);
                take_off(&mut rest[..1], &earlier, execution)?;
            }
        }
        take_off(&mut rows, &earlier, execution)?;
        earlier.push(Block::new(&rows));
    }
    let rows = earlier.iter().flat_map(|block| block.rows.chunks_exact(dim));
    Ok(rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, depth - dim))).collect())
}

fn draw_row(random: &mut Random, dim: usize) -> Vec<f64> {
    (0..dim).map(|_| random.gaussian()).collect()
}

/// Makes a row orthogonal to others that are orthonormal, and of unit length; whether anything but rounding was left.
fn orthonormalize(row: &mut [f64], others: &[Vec<f64>]) -> bool {
    for _ in 0..2 {
        for other in others {
            let along: f64 = other.iter().zip(&*row).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(other).for_each(|(value, part)| *value -= along * part);
        }
    }
    normalize(row)
}

fn normalize(row: &mut [f64]) -> bool {
    let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
    if norm > 1e-6 {
        for value in row {
            *value /= norm;
        }
    }
    norm > 1e-6
}

/// Rows that are done.
struct Block {
    /// `[rows, dim]`.
    rows: Vec<f32>,
    /// `[dim, rows]`.
    columns: Vec<f32>,
}

impl Block {
    fn new(rows: &[Vec<f64>]) -> Self {
        let dim = rows[0].len();
        Self {
            rows: rows.iter().flatten().map(|&value| value as f32).collect(),
            columns: (0..dim).flat_map(|at| rows.iter().map(move |row| row[at] as f32)).collect(),
        }
    }
}

/// Takes off rows what lies along those of the blocks, and makes them unit vectors again. Without blocks they stay as they are.
fn take_off(rows: &mut [Vec<f64>], blocks: &[Block], execution: &Execution) -> Result<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    let (level, dim) = (Level::current(), rows[0].len());
    execution.map(rows.chunks_mut(ROWS), |rows| {
        for block in blocks {
            execution.check()?;
            let own: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
            let count = block.rows.len() / dim;
            let mut along = vec![0.0; rows.len() * count];
            latewood_kernels::rotate(level, &block.columns, dim, count, &own, &mut along);
            let mut parts = vec![0.0; own.len()];
            latewood_kernels::rotate(level, &block.rows, count, dim, &along, &mut parts);
            for (row, parts) in rows.iter_mut().zip(parts.chunks_exact(dim)) {
                row.iter_mut().zip(parts).for_each(|(value, &part)| *value -= f64::from(part));
            }
        }
        for row in rows {
            normalize(row);
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(dim: usize, depth: usize, seed: u64) -> Vec<f32> {
        draw(dim, depth, seed, &Execution::undisturbed()).expect("not interrupted")
    }

    #[test]
    fn rows_are_orthonormal_and_padded_with_zeros() {
        // One block, a block and one row, and many blocks, of which every row is looked at beside some others.
        for (dim, depth) in [(1, 32), (48, 64), (128, 128), (129, 160), (400, 416), (2048, 2048)] {
            let matrix = drawn(dim, depth, 7);
            let row = |i: usize| &matrix[i * depth..(i + 1) * depth];
            for i in 0..dim {
                assert!(row(i)[dim..].iter().all(|&value| value == 0.0));
                for j in (0..i).step_by(if dim > 400 { 61 } else { 1 }).chain([i]) {
                    let dot: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
                    assert!((dot - f32::from(i == j)).abs() < 1e-5, "dim {dim}: rows {i} and {j} give {dot}");
                }
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(drawn(16, 32, 1), drawn(16, 32, 1));
        assert_ne!(drawn(16, 32, 1), drawn(16, 32, 2));
    }

    #[test]
    fn drawing_can_be_interrupted() {
        let execution = Execution::undisturbed();
        execution.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(draw(16, 32, 1, &execution).is_err());
    }
}
