//! On which side of each hyperplane a vector lies.

use latewood_kernels::{Level, rotate};

use super::options::FdeOptions;

/// The partition of each vector of `[tokens, depth]` in each repetition, `[tokens, repetitions]`: a bit for each hyperplane
/// that it lies above.
pub(super) fn partitions(hyperplanes: &[f32], options: &FdeOptions, depth: usize, vectors: &[f32]) -> Vec<u8> {
    let FdeOptions { repetitions, planes, .. } = *options;
    let tokens = vectors.len() / depth;
    if planes == 0 {
        return vec![0; tokens * repetitions];
    }
    let mut heights = vec![0.0; tokens * repetitions * planes];
    rotate(Level::current(), hyperplanes, depth, repetitions * planes, vectors, &mut heights);
    let partition = |heights: &[f32]| heights.iter().fold(0, |bits, &height| bits << 1 | u8::from(height > 0.0));
    heights.chunks_exact(planes).map(partition).collect()
}
