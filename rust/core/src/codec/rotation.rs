//! The random rotation that spreads every vector's energy evenly over the dimensions, so that one table of levels fits
//! them all (TurboQuant and RaBitQ rest on the same step).

use super::centroids::Random;

/// A random orthogonal `[dim, depth]` matrix: `dim` orthonormal rows whose last `depth - dim` entries are zero.
pub(super) fn draw(dim: usize, depth: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed ^ 0x726f_7461_7469_6f6e);
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(dim);
    while rows.len() < dim {
        let mut row: Vec<f64> = (0..dim).map(|_| random.gaussian()).collect();
        // Gram-Schmidt, twice: once leaves an error that grows with dim.
        for _ in 0..2 {
            for earlier in &rows {
                let along: f64 = earlier.iter().zip(&row).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(earlier).for_each(|(value, part)| *value -= along * part);
            }
        }
        let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        // A row that lies in the span of the others has nothing left but rounding: draw again.
        if norm > 1e-6 {
            for value in &mut row {
                *value /= norm;
            }
            rows.push(row);
        }
    }
    let padded = |row: &Vec<f64>| {
        row.iter().map(|&value| value as f32).chain(std::iter::repeat_n(0.0, depth - dim)).collect::<Vec<f32>>()
    };
    rows.iter().flat_map(padded).collect()
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn rows_are_orthonormal_and_padded_with_zeros() {
        for (dim, depth) in [(1, 32), (48, 64), (128, 128)] {
            let matrix = draw(dim, depth, 7);
            let row = |i: usize| &matrix[i * depth..(i + 1) * depth];
            for i in 0..dim {
                assert!(row(i)[dim..].iter().all(|&value| value == 0.0));
                for j in 0..=i {
                    let dot: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
                    assert!((dot - f32::from(i == j)).abs() < 1e-5, "dim {dim}: rows {i} and {j} give {dot}");
                }
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(draw(16, 32, 1), draw(16, 32, 1));
        assert_ne!(draw(16, 32, 1), draw(16, 32, 2));
    }
}
