//! Exact k-means of the few hundred token vectors of a query's first hits.
//!
//! The codec's own k-means is for millions of vectors: it rounds to integers and keeps every cell filled. Here plain
//! Euclidean means are wanted, and the number of vectors is small. Each distance and each mean is summed in one fixed
//! order, so that the clusters are the same on every CPU.

use crate::codec::Random;

/// Assignments to the nearest mean, at most; most runs settle earlier.
const ITERATIONS: usize = 20;
/// Partial sums of a distance: a fixed order that leaves the compiler room for any width of vector.
const LANES: usize = 16;

/// Clusters that have members.
#[derive(Debug, PartialEq)]
pub(super) struct Clusters {
    /// `[clusters, depth]`.
    pub(super) means: Vec<f32>,
    /// Members of each.
    pub(super) sizes: Vec<usize>,
}

/// Clusters `points`, `[tokens, depth]` with a depth that is a multiple of 32: at most `wanted`, fewer where there are
/// fewer different points or where a cluster loses its last member.
pub(super) fn k_means(points: &[f32], depth: usize, wanted: usize, seed: u64) -> Clusters {
    let mut means = starts(points, depth, wanted, seed);
    let mut assigned = vec![usize::MAX; points.len() / depth];
    let mut sizes = Vec::new();
    for _ in 0..ITERATIONS {
        if !assign(points, depth, &means, &mut assigned) {
            break;
        }
        sizes = update(points, depth, &assigned, &mut means);
    }
    let filled = || means.chunks_exact(depth).zip(&sizes).filter(|&(_, &size)| size > 0);
    Clusters {
        means: filled().flat_map(|(mean, _)| mean).copied().collect(),
        sizes: filled().map(|(_, &size)| size).collect(),
    }
}

/// Different points to start from, each drawn with a probability in proportion to its squared distance from those
/// before (k-means++, Arthur and Vassilvitskii 2007).
fn starts(points: &[f32], depth: usize, wanted: usize, seed: u64) -> Vec<f32> {
    let rows: Vec<&[f32]> = points.chunks_exact(depth).collect();
    let wanted = wanted.min(rows.len());
    let mut random = Random::new(seed);
    let mut chosen = Vec::new();
    let mut next = (!rows.is_empty()).then(|| random.below(rows.len()));
    let mut distances = vec![f32::INFINITY; rows.len()];
    while let Some(start) = next.filter(|_| chosen.len() < wanted * depth) {
        chosen.extend_from_slice(rows[start]);
        for (known, row) in distances.iter_mut().zip(&rows) {
            *known = known.min(distance(row, rows[start]));
        }
        let total: f64 = distances.iter().map(|&distance| f64::from(distance)).sum();
        let target = random.uniform() * total;
        let mut sum = 0.0;
        // A point that is chosen already has no distance, and so no part of the sum to be met in.
        next = distances.iter().position(|&distance| {
            sum += f64::from(distance);
            sum > target
        });
    }
    chosen
}

/// Finds the nearest mean of each point, the first of equals; whether any changed.
fn assign(points: &[f32], depth: usize, means: &[f32], assigned: &mut [usize]) -> bool {
    let mut changed = false;
    for (point, assigned) in points.chunks_exact(depth).zip(assigned) {
        let mut best = (f32::INFINITY, 0);
        for (cluster, mean) in means.chunks_exact(depth).enumerate() {
            let distance = distance(point, mean);
            if distance < best.0 {
                best = (distance, cluster);
            }
        }
        changed |= *assigned != best.1;
        *assigned = best.1;
    }
    changed
}

/// Moves each mean to the middle of its points, and counts them. A mean without points stays where it is.
fn update(points: &[f32], depth: usize, assigned: &[usize], means: &mut [f32]) -> Vec<usize> {
    let mut sums = vec![0.0_f32; means.len()];
    let mut sizes = vec![0; means.len() / depth];
    for (point, &cluster) in points.chunks_exact(depth).zip(assigned) {
        sizes[cluster] += 1;
        sums[cluster * depth..][..depth].iter_mut().zip(point).for_each(|(sum, value)| *sum += value);
    }
    let filled = sizes.iter().enumerate().filter(|&(_, &size)| size > 0);
    for (cluster, &size) in filled {
        let rows = cluster * depth..(cluster + 1) * depth;
        means[rows.clone()].iter_mut().zip(&sums[rows]).for_each(|(mean, sum)| *mean = sum / size as f32);
    }
    sizes
}

/// Squared Euclidean distance.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::{assign, k_means, starts, update};

    const DEPTH: usize = 32;

    /// Points on one axis.
    fn points(places: &[f32]) -> Vec<f32> {
        places.iter().flat_map(|&place| std::iter::once(place).chain(std::iter::repeat_n(0.0, DEPTH - 1))).collect()
    }

    fn places(points: &[f32]) -> Vec<f32> {
        points.iter().step_by(DEPTH).copied().collect()
    }

    #[test]
    fn groups_are_found() {
        for seed in 0..20 {
            let clusters = k_means(&points(&[1.0, 9.0, 1.5, 30.0, 9.5, 0.5]), DEPTH, 3, seed);
            let mut found: Vec<(f32, usize)> = places(&clusters.means).into_iter().zip(clusters.sizes).collect();
            found.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert_eq!(found, [(1.0, 3), (9.25, 2), (30.0, 1)], "seed {seed}");
        }
    }

    #[test]
    fn fewer_different_points_make_fewer_clusters() {
        let clusters = k_means(&points(&[2.0, 4.0, 2.0, 4.0, 2.0]), DEPTH, 4, 7);
        assert_eq!(clusters.sizes.iter().sum::<usize>(), 5);
        assert_eq!(clusters.sizes.len(), 2);
        assert_eq!(k_means(&points(&[3.0]), DEPTH, 24, 7).sizes, [1]);
        assert_eq!(k_means(&points(&[3.0, 5.0]), DEPTH, usize::MAX, 7).sizes, [1, 1]);
        assert_eq!(k_means(&[], DEPTH, 24, 7).sizes, [0_usize; 0]);
        assert_eq!(starts(&points(&[1.0, 1.0]), DEPTH, 2, 7).len(), DEPTH);
    }

    #[test]
    fn a_cluster_without_members_stays_and_takes_none_from_the_others() {
        let points = points(&[1.0, 3.0]);
        let mut means = self::points(&[2.0, 100.0]);
        let mut assigned = vec![usize::MAX; 2];
        assert!(assign(&points, DEPTH, &means, &mut assigned));
        assert_eq!(update(&points, DEPTH, &assigned, &mut means), [2, 0]);
        assert_eq!(places(&means), [2.0, 100.0]);
        assert!(!assign(&points, DEPTH, &means, &mut assigned));
    }

    #[test]
    fn the_seed_decides() {
        let spread: Vec<f32> = (0_u16..60).map(|at| f32::from(at * at % 61)).collect();
        assert_eq!(k_means(&points(&spread), DEPTH, 5, 1), k_means(&points(&spread), DEPTH, 5, 1));
        assert_ne!(k_means(&points(&spread), DEPTH, 5, 1), k_means(&points(&spread), DEPTH, 5, 2));
    }
}
