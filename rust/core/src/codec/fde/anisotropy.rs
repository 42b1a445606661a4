//! How token vectors lie: whether they spread over all directions, as fixed dimensional encodings need.

use serde::{Deserialize, Serialize};

use super::options::FdeOptions;
use super::partitions::partitions;
use crate::error::Result;
use crate::parallel::Execution;

/// Steps towards the first principal direction.
const STEPS: usize = 32;
/// Largest share of the energy that a common mean may hold. Kept apart it may hold much, but then what is left must be above
/// what codes lose.
const MOST_IN_MEAN: f64 = 0.5;
const MOST_IN_MEAN_APART: f64 = 0.98;
/// Largest share of what is left that one direction may hold.
const MOST_IN_DIRECTION: f64 = 0.5;
/// Least share of the partitions that must in effect be filled.
const LEAST_FILLED: f64 = 0.25;

/// What a sample of token vectors shows. All values lie between 0 and 1.
///
/// Vectors of one checkpoint or another share so large a mean that all of them lie on the same side of nearly every
/// hyperplane, and that every dot product is nearly that of the mean with itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anisotropy {
    /// Norm of the mean vector, where the root of the mean squared norm is 1.
    pub mean_norm: f64,
    /// Share of the energy around the mean that lies in its first principal direction.
    pub first_direction: f64,
    /// Share of the partitions that are in effect filled if encodings are not centred: `1 / Σ p²` over the shares p of the
    /// tokens in each, by their number, over the mean of all repetitions.
    pub filled: f64,
    /// The same if they are.
    pub filled_centred: f64,
}

impl Anisotropy {
    /// The mean of rotated vectors, `[tokens, depth]`, and how they lie.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`].
    pub(super) fn measure(
        mut vectors: Vec<f32>,
        depth: usize,
        hyperplanes: &[f32],
        options: &FdeOptions,
        execution: &Execution,
    ) -> Result<(Vec<f32>, Self)> {
        execution.check()?;
        let tokens = (vectors.len() / depth).max(1) as f64;
        let mut sums = vec![0.0_f64; depth];
        for vector in vectors.chunks_exact(depth) {
            sums.iter_mut().zip(vector).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / tokens) as f32).collect();
        let energy = energy(&vectors) / tokens;
        let filled = |vectors: &[f32]| filled(&partitions(hyperplanes, options, depth, vectors), options);
        let uncentred = filled(&vectors);
        execution.check()?;
        for vector in vectors.chunks_exact_mut(depth) {
            vector.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
        }
        let mean_energy: f64 = mean.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let first_direction = first_direction(&vectors, depth, execution)?;
        if mean_energy > 0.0 {
            for vector in vectors.chunks_exact_mut(depth) {
                let along: f32 = vector.iter().zip(&mean).map(|(x, mean)| x * mean).sum::<f32>() / mean_energy as f32;
                vector.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= along * mean);
            }
        }
        let anisotropy = Self {
            mean_norm: share(mean_energy, energy).sqrt(),
            first_direction,
            filled: uncentred,
            filled_centred: filled(&vectors),
        };
        Ok((mean, anisotropy))
    }

    /// Why encodings of such vectors tell documents apart badly; `None` if they do it well.
    #[must_use]
    pub fn danger(&self, centred: bool) -> Option<String> {
        let filled = if centred { self.filled_centred } else { self.filled };
        if filled < LEAST_FILLED {
            let remedy = if self.filled_centred < LEAST_FILLED { "" } else { "; centred encodings would fill more" };
            return Some(format!("the token vectors fill {:.0} % of the partitions{remedy}", 100.0 * filled));
        }
        let in_mean = self.mean_norm * self.mean_norm;
        if in_mean > if centred { MOST_IN_MEAN_APART } else { MOST_IN_MEAN } {
            return Some(format!(
                "a mean that all token vectors share holds {:.0} % of their energy, so that little tells them apart",
                100.0 * in_mean
            ));
        }
        (self.first_direction > MOST_IN_DIRECTION).then(|| {
            let percent = 100.0 * self.first_direction;
            format!("one direction holds {percent:.0} % of what tells the token vectors apart")
        })
    }
}

/// The sum of all squares.
fn energy(vectors: &[f32]) -> f64 {
    vectors.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

/// The share of the energy of centred vectors in their first principal direction, by power iteration from the largest of
/// them.
fn first_direction(vectors: &[f32], depth: usize, execution: &Execution) -> Result<f64> {
    let norm = |vector: &&[f32]| energy(vector);
    let largest = vectors.chunks_exact(depth).max_by(|a, b| norm(a).total_cmp(&norm(b)));
    let mut direction: Vec<f64> = largest.unwrap_or_default().iter().map(|&x| f64::from(x)).collect();
    let mut found = 0.0;
    for _ in 0..STEPS {
        execution.check()?;
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            break;
        }
        for x in &mut direction {
            *x /= length;
        }
        let mut next = vec![0.0; depth];
        found = 0.0;
        for vector in vectors.chunks_exact(depth) {
            let along: f64 = vector.iter().zip(&direction).map(|(&x, y)| f64::from(x) * y).sum();
            found += along * along;
            next.iter_mut().zip(vector).for_each(|(sum, &x)| *sum += along * f64::from(x));
        }
        direction = next;
    }
    Ok(share(found, energy(vectors)))
}

/// The share of the partitions that are in effect filled, over the mean of all repetitions.
fn filled(partitions: &[u8], options: &FdeOptions) -> f64 {
    let (repetitions, count) = (options.repetitions, 1 << options.planes);
    let mut tokens = vec![0_u64; repetitions * count];
    for own in partitions.chunks_exact(repetitions) {
        for (repetition, &partition) in own.iter().enumerate() {
            tokens[repetition * count + usize::from(partition)] += 1;
        }
    }
    let all = (partitions.len() / repetitions) as f64;
    let effective = |tokens: &[u64]| {
        let squares: f64 = tokens.iter().map(|&tokens| (tokens as f64 / all).powi(2)).sum();
        if squares > 0.0 { 1.0 / (squares * count as f64) } else { 0.0 }
    };
    tokens.chunks_exact(count).map(effective).sum::<f64>() / repetitions as f64
}
