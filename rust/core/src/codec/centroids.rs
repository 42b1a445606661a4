//! Spherical k-means in the rotated space: seeded, sampled, bounded in memory, and the same on any number of threads.
//!
//! Tokens are assigned by exact integer dot products with int8 centroids, each centroid is summed by one task in token
//! order, and only then normalised; so neither threads nor the CPU change a bit of the result.
//!
//! Centroids can be trained beside others that stay as they are: then those are fixed points of the same k-means, and the
//! new ones begin where the fixed ones serve worst.

use std::collections::BTreeSet;

use latewood_kernels::{Level, MAX_LEVEL, QueryLanes};

use super::blocks::block_tokens;
use super::random::Random;
use super::sample::Sample;
use crate::error::Result;
use crate::parallel::Execution;

/// Token vectors sampled for each centroid: more moves centroids by less than their int8 step.
pub(super) const SAMPLE_PER_CENTROID: usize = 32;
const ITERATIONS: usize = 6;
/// A cell that holds this many times the mean gives one of its tokens to an empty cell.
const GIANT: usize = 4;
/// Cells whose means one task computes.
const BLOCK_CELLS: usize = 64;
/// Integer steps of a squared distance.
const ENERGY_STEPS: f32 = (1 << 20) as f32;
/// Draws for each wanted point at most.
const DRAWS: usize = 4;

/// Centroids as a codec holds them: `[count, depth]`, in units of `unit`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed<'a> {
    pub(super) centroids: &'a [i8],
    pub(super) unit: f32,
}

/// What one training run needs.
pub(super) struct Training<'a> {
    pub(super) dim: usize,
    pub(super) depth: usize,
    /// `[dim, depth]`.
    pub(super) rotation: &'a [f32],
    /// Centroids that are there and stay as they are; the first training has none.
    pub(super) fixed: Option<Fixed<'a>>,
    /// New centroids that are wanted.
    pub(super) count: usize,
    pub(super) seed: u64,
}

impl Training<'_> {
    /// All centroids as int8, `[centroids, depth]`, the fixed ones first, and the unit that turns them into floats. There are
    /// fewer new ones than wanted if fewer tokens differ from the fixed ones.
    pub(super) fn run(&self, sample: Sample<'_>, execution: &Execution) -> Result<(Vec<i8>, f32)> {
        let mut random = Random::new(self.seed);
        if sample.tokens() == 0 {
            return Ok(self.fixed.map_or((vec![0; self.depth], 1.0), |fixed| (fixed.centroids.to_vec(), fixed.unit)));
        }
        let chosen = sample.to_learn(self.count * SAMPLE_PER_CENTROID, &mut random);
        let points = self.rotate_chosen(sample, &chosen, execution)?;
        let mut assigned = vec![0_u32; chosen.len()];
        let starts = match self.fixed {
            None => random.sample(chosen.len(), self.count),
            Some(fixed) => self.far_points(&points, fixed, &mut assigned, &mut random, execution)?,
        };
        let mut centroids: Vec<f32> =
            starts.iter().flat_map(|&at| &points[at * self.depth..][..self.depth]).copied().collect();
        for _ in 0..if starts.is_empty() { 0 } else { ITERATIONS } {
            let (units, unit) = self.units(&centroids);
            let biases = biases(&units, unit, self.depth);
            self.assign(&points, &units, &biases, &mut assigned, execution)?;
            let cells = Cells::new(&assigned, units.len() / self.depth - starts.len(), starts.len());
            self.update(&points, &cells, &mut centroids, execution)?;
            self.reseed(&points, &cells, &mut centroids, &mut random);
        }
        Ok(self.units(&centroids))
    }

    /// Different points, drawn with a probability in proportion to their squared distance from the nearest fixed centroid: the
    /// start of k-means++ (Arthur and Vassilvitskii 2007), all of them drawn at once. None lies on a fixed centroid.
    fn far_points(
        &self,
        points: &[f32],
        fixed: Fixed<'_>,
        assigned: &mut [u32],
        random: &mut Random,
        execution: &Execution,
    ) -> Result<Vec<usize>> {
        let Fixed { centroids, unit } = fixed;
        self.assign(points, centroids, &biases(centroids, unit, self.depth), assigned, execution)?;
        let mut total = 0;
        let ends: Vec<usize> = points
            .chunks_exact(self.depth)
            .zip(&*assigned)
            .map(|(point, &cell)| {
                let centroid = &centroids[cell as usize * self.depth..][..self.depth];
                let part = |(value, &units): (&f32, &i8)| (value - unit * f32::from(units)).powi(2);
                // Of unit vectors, at most 4; as an integer it sums up exactly.
                total += (point.iter().zip(centroid).map(part).sum::<f32>() * ENERGY_STEPS) as usize;
                total
            })
            .collect();
        let mut drawn = BTreeSet::new();
        // Draws that meet a point again are lost; where few points are far, there are few to be drawn.
        for _ in 0..if total == 0 { 0 } else { DRAWS * self.count } {
            if drawn.len() == self.count {
                break;
            }
            let at = random.below(total);
            drawn.insert(ends.partition_point(|&end| end <= at));
        }
        Ok(drawn.into_iter().collect())
    }

    /// Fixed centroids and these new ones, `[new, depth]`, as integers of one unit.
    fn units(&self, centroids: &[f32]) -> (Vec<i8>, f32) {
        let (fixed, unit) =
            self.fixed.map_or_else(|| (&[][..], fitting_unit(centroids)), |fixed| (fixed.centroids, fixed.unit));
        let limit = f32::from(MAX_LEVEL);
        let new = centroids.iter().map(|value| (value / unit).round_ties_even().clamp(-limit, limit) as i8);
        (fixed.iter().copied().chain(new).collect(), unit)
    }

    fn rotate_chosen(&self, sample: Sample<'_>, chosen: &[usize], execution: &Execution) -> Result<Vec<f32>> {
        let mut points = vec![0.0; chosen.len() * self.depth];
        let block = block_tokens(self.depth);
        let blocks = chosen.chunks(block).zip(points.chunks_mut(block * self.depth));
        execution.map(blocks, |(chosen, points)| {
            let mut block = sample.rows(chosen);
            block.chunks_exact_mut(self.dim).for_each(normalize);
            latewood_kernels::rotate(Level::current(), self.rotation, self.dim, self.depth, &block, points);
            Ok(())
        })?;
        Ok(points)
    }

    fn assign(
        &self,
        points: &[f32],
        centroids: &[i8],
        biases: &[i32],
        assigned: &mut [u32],
        execution: &Execution,
    ) -> Result<()> {
        let block = block_tokens(self.depth);
        let blocks = points.chunks(block * self.depth).zip(assigned.chunks_mut(block));
        execution.map(blocks, |(points, assigned)| {
            nearest(points, self.depth, centroids, biases, assigned);
            Ok(())
        })?;
        Ok(())
    }

    fn update(&self, points: &[f32], cells: &Cells, centroids: &mut [f32], execution: &Execution) -> Result<()> {
        let blocks = centroids.chunks_mut(BLOCK_CELLS * self.depth).enumerate();
        execution.map(blocks, |(block, centroids)| {
            for (cell, centroid) in (block * BLOCK_CELLS..).zip(centroids.chunks_exact_mut(self.depth)) {
                let members = cells.members(cell);
                if members.is_empty() {
                    continue;
                }
                centroid.fill(0.0);
                for &member in members {
                    let point = &points[member as usize * self.depth..][..self.depth];
                    centroid.iter_mut().zip(point).for_each(|(sum, value)| *sum += value);
                }
                normalize(centroid);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Empty cells start again from tokens of the largest ones, so that no centroid is wasted and none holds half the
    /// collection's tokens (RepCONC's observation that unbalanced cells cost recall).
    fn reseed(&self, points: &[f32], cells: &Cells, centroids: &mut [f32], random: &mut Random) {
        let mut largest: Vec<usize> = (0..cells.count).filter(|&cell| cells.members(cell).len() > 1).collect();
        largest.sort_by_key(|&cell| (std::cmp::Reverse(cells.members(cell).len()), cell));
        let empty = (0..cells.count).filter(|&cell| cells.members(cell).is_empty());
        // A giant may seed several cells; each other large cell seeds one.
        let mean = cells.tokens() / cells.count + 1;
        let donors =
            largest.iter().flat_map(|&cell| std::iter::repeat_n(cell, 1 + cells.members(cell).len() / (GIANT * mean)));
        for (cell, donor) in empty.zip(donors) {
            let members = cells.members(donor);
            let member = members[random.below(members.len())] as usize;
            centroids[cell * self.depth..][..self.depth].copy_from_slice(&points[member * self.depth..][..self.depth]);
        }
    }
}

/// Tokens of the new cells, grouped by cell, in token order within each.
struct Cells {
    /// New cells.
    count: usize,
    order: Vec<u32>,
    /// Where each cell's tokens begin, `[first + count + 1]`.
    starts: Vec<usize>,
    /// Fixed cells, which come before the new ones.
    first: usize,
}

impl Cells {
    fn new(assigned: &[u32], first: usize, count: usize) -> Self {
        let mut starts = vec![0; first + count + 1];
        for &cell in assigned {
            starts[cell as usize + 1] += 1;
        }
        for cell in 0..first + count {
            starts[cell + 1] += starts[cell];
        }
        let mut next = starts.clone();
        let mut order = vec![0; assigned.len()];
        for (token, &cell) in assigned.iter().enumerate() {
            order[next[cell as usize]] = token as u32;
            next[cell as usize] += 1;
        }
        Self { count, order, starts, first }
    }

    /// Tokens of the new cells.
    fn tokens(&self) -> usize {
        self.order.len() - self.starts[self.first]
    }

    /// Tokens of a new cell.
    fn members(&self, cell: usize) -> &[u32] {
        &self.order[self.starts[self.first + cell]..self.starts[self.first + cell + 1]]
    }
}

/// Components further out than this many times their root mean square are cut: fewer than one in a million.
const REACH: f32 = 5.0;

/// Centroids of unit vectors have larger ones: below are those of vectors too short to have a direction, which are zeros.
const SMALLEST_UNIT: f32 = 1e-6;

/// One unit for all centroids as small integers, so that dot products with different ones compare.
///
/// A coarse step costs next to nothing: what it loses, the residual takes up.
fn fitting_unit(centroids: &[f32]) -> f32 {
    let largest = centroids.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let squares: f64 = centroids.iter().map(|value| f64::from(value * value)).sum();
    let mean_square = (squares / centroids.len().max(1) as f64) as f32;
    let unit = largest.min(REACH * mean_square.sqrt()) / f32::from(MAX_LEVEL);
    if unit > SMALLEST_UNIT { unit } else { 1.0 }
}

/// What one int8 step of a unit vector's component is worth in [`nearest`].
fn point_unit(depth: usize) -> f32 {
    REACH / (depth as f32).sqrt() / 127.0
}

/// Half of each centroid's squared norm in the units of [`nearest`]'s dot products.
pub(super) fn biases(centroids: &[i8], unit: f32, depth: usize) -> Vec<i32> {
    let scale = f64::from(unit) / (2.0 * f64::from(point_unit(depth)));
    let square = |row: &[i8]| row.iter().map(|&value| i32::from(value) * i32::from(value)).sum::<i32>();
    centroids.chunks_exact(depth).map(|row| (f64::from(square(row)) * scale).round() as i32).collect()
}

/// For each of `points`, unit vectors `[tokens, depth]`, the centroid that leaves the shortest residual:
/// `|x - c|²` is least where `x · c - |c|² / 2` is largest. Without the second term, rounding that makes a centroid
/// longer would make it win.
pub(super) fn nearest(points: &[f32], depth: usize, centroids: &[i8], biases: &[i32], out: &mut [u32]) {
    let lanes = QueryLanes::quantize_at(points, depth, point_unit(depth));
    latewood_kernels::nearest_centroids(Level::current(), &lanes, centroids, biases, out);
}

pub(super) fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 {
        for value in vector {
            *value /= norm;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fixed, Training, biases, nearest};
    use crate::codec::random::Random;
    use crate::codec::rotation;
    use crate::codec::sample::Sample;
    use crate::parallel::Execution;

    /// Points around a few directions, as token vectors are.
    fn clustered(tokens: usize, dim: usize, groups: usize) -> Vec<f32> {
        let mut random = Random::new(3);
        let directions: Vec<f32> = (0..groups * dim).map(|_| random.gaussian() as f32).collect();
        (0..tokens)
            .flat_map(|token| {
                let direction = &directions[(token * token % groups) * dim..][..dim];
                direction.iter().map(|value| value + 0.2 * random.gaussian() as f32).collect::<Vec<f32>>()
            })
            .collect()
    }

    #[test]
    fn threads_do_not_change_the_centroids() {
        let (dim, depth) = (48, 64);
        let sample = clustered(3000, dim, 40);
        let rotation = rotation::draw(dim, depth, 5, &Execution::undisturbed()).expect("not interrupted");
        let training = Training { dim, depth, rotation: &rotation, fixed: None, count: 64, seed: 9 };
        let run = |threads| {
            let execution = Execution::new(Some(threads)).expect("a pool");
            training.run(Sample::new(&[&sample], dim), &execution).expect("trained")
        };
        let one = run(1);
        assert_eq!(one.0.len(), 64 * depth);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn no_cell_is_wasted_and_clusters_are_found() {
        let (dim, depth) = (128, 128);
        let sample = clustered(4000, dim, 25);
        let rotation = rotation::draw(dim, depth, 5, &Execution::undisturbed()).expect("not interrupted");
        let training = Training { dim, depth, rotation: &rotation, fixed: None, count: 32, seed: 1 };
        let execution = Execution::new(Some(1)).expect("a pool");
        let (centroids, unit) = training.run(Sample::new(&[&sample], dim), &execution).expect("trained");
        let chosen: Vec<usize> = (0..4000).collect();
        let points =
            training.rotate_chosen(Sample::new(&[&sample], dim), &chosen, &execution).expect("not interrupted");
        let mut assigned = vec![0; 4000];
        nearest(&points, depth, &centroids, &biases(&centroids, unit, depth), &mut assigned);
        let mut used = vec![0; 32];
        let mut similarity = 0.0;
        for (point, &cell) in points.chunks_exact(depth).zip(&assigned) {
            let centroid = &centroids[cell as usize * depth..][..depth];
            used[cell as usize] += 1;
            similarity += centroid.iter().zip(point).map(|(c, x)| f32::from(*c) * unit * x).sum::<f32>() / 4000.0;
        }
        assert!(used.iter().all(|&members| members > 0), "{used:?}");
        assert!(similarity > 0.95, "mean similarity to the nearest centroid {similarity}");
    }
    #[test]
    fn new_centroids_come_where_the_fixed_ones_serve_worst_and_move_none_of_them() {
        let (dim, depth) = (128, 128);
        let all = clustered(4000, dim, 25);
        // The first centroids see nothing of the clusters that only later tokens belong to.
        let (early, late): (Vec<_>, Vec<_>) =
            all.chunks(dim).enumerate().partition(|(token, _)| token * token % 25 < 5);
        let rows =
            |tokens: Vec<(usize, &[f32])>| tokens.into_iter().flat_map(|(_, row)| row.to_vec()).collect::<Vec<_>>();
        let (early, late) = (rows(early), rows(late));
        let rotation = rotation::draw(dim, depth, 5, &Execution::undisturbed()).expect("not interrupted");
        let first = Training { dim, depth, rotation: &rotation, fixed: None, count: 8, seed: 1 };
        let one = Execution::new(Some(1)).expect("a pool");
        let (centroids, unit) = first.run(Sample::new(&[&early], dim), &one).expect("trained");
        let fixed = Some(Fixed { centroids: &centroids, unit });
        let growth = Training { dim, depth, rotation: &rotation, fixed, count: 12, seed: 1 };
        let grow = |execution| growth.run(Sample::new(&[&early, &late], dim), execution).expect("grown");
        let (grown, same_unit) = grow(&one);
        assert_eq!((&grown[..centroids.len()], same_unit.to_bits()), (&*centroids, unit.to_bits()));
        assert_eq!(grown.len(), 20 * depth);
        assert_eq!(grown, grow(&Execution::new(Some(5)).expect("a pool")).0, "threads");
        let sample = [&*early, &*late];
        let chosen: Vec<usize> = (0..4000).collect();
        let points = first.rotate_chosen(Sample::new(&sample, dim), &chosen, &one).expect("not interrupted");
        let mut assigned = vec![0; 4000];
        nearest(&points, depth, &grown, &biases(&grown, unit, depth), &mut assigned);
        let (own, new) = assigned.split_at(early.len() / dim);
        assert!(own.iter().filter(|&&cell| cell < 8).count() * 10 > own.len() * 9, "early tokens keep their centroids");
        assert!(new.iter().filter(|&&cell| cell >= 8).count() * 10 > new.len() * 9, "late ones get their own");
        // Tokens that lie on centroids need no others.
        let nothing = Training { count: 4, ..growth }.run(Sample::new(&[], dim), &one).expect("nothing to learn");
        assert_eq!(nothing.0, centroids);
    }
}
