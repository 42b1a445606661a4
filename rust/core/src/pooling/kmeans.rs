//! Spherical k-means on pairwise similarities, in exact arithmetic.
//!
//! Directions are rounded to integer vectors of norm [`SCALE`], so that every dot product, and every sum of them, is an
//! integer that floats hold exactly. What is left to rounding is one square root, one division and one product a
//! comparison, which IEEE 754 fixes. So the labels are the same on every CPU, and the same as those of the tensor
//! version (`latewood.train.kmeans`), which computes them in whatever order its device likes.
//!
//! A centroid is never formed: with `S[j][i] = Σ_m∈j q_m · q_i`, token `i` is nearest to the centroid `j` of greatest
//! `S[j][i] / |Σ_m∈j q_m|`, and a token that moves changes two rows of `S`. This makes a step cheap for any dimension.

use latewood_kernels::{Level, Similarities};

use super::reductions::{first_at_most, minimum, norm};

/// Norm of the integer directions: the rounding may add up to √dim / 2, and its square must stay below 2²⁴ for all
/// dimensions up to 30,000 or so.
const SCALE: f64 = 4000.0;
/// Assignments at most; most texts settle sooner.
const ITERATIONS: usize = 10;

/// The memory that one item after another is clustered in.
#[derive(Default)]
pub(super) struct KMeans {
    /// As wide as the similarities that decide about them, for the sake of vector instructions.
    labels: Vec<u64>,
    /// Labels before the last step.
    before: Vec<u64>,
    /// Labels in the order of their first tokens.
    numbered: Vec<u32>,
    /// Each token's similarity to all tokens together.
    central: Vec<f64>,
    /// `S`, `[clusters, tokens]`.
    sums: Vec<f64>,
    /// One over the norm of each cluster's sum, or 0 for a sum of zero.
    inverse: Vec<f64>,
    members: Vec<u32>,
    /// Each token's similarity to its own centroid.
    own: Vec<f64>,
    /// Each token's greatest similarity to a start, infinite for starts.
    nearest: Vec<f32>,
}

impl KMeans {
    /// The cluster of each of `vectors`, `[tokens, dim]`, numbered as they first occur. `clusters` is below the number of
    /// tokens, and each has a member.
    #[inline(always)]
    pub(super) fn labels(
        &mut self,
        similarities: &mut Similarities,
        level: Level,
        vectors: &[f32],
        dim: usize,
        clusters: usize,
    ) -> &[u32] {
        let directions = similarities.vectors(vectors.len() / dim, dim);
        for (from, to) in vectors.chunks_exact(dim).zip(directions.chunks_exact_mut(dim)) {
            let norm = norm(from);
            let scale = if norm > 0.0 { SCALE / norm } else { 0.0 };
            to.iter_mut().zip(from).for_each(|(to, &value)| *to = round(f64::from(value) * scale));
        }
        similarities.multiply(level);
        self.start(similarities, clusters);
        for step in 0..ITERATIONS {
            self.assign(similarities.tokens());
            self.fill_empty();
            if step > 0 && self.labels == self.before {
                break;
            }
            self.update(similarities, step == 0);
            self.before.clone_from(&self.labels);
        }
        self.numbered.clear();
        self.numbered.extend(self.labels.iter().map(|&label| label as u32));
        renumber(&mut self.numbered, clusters);
        &self.numbered
    }

    /// Farthest-first: the token nearest to the mean direction, then again and again the one that is least similar to all
    /// starts so far (Gonzalez 1985); the first of equals.
    #[inline(always)]
    fn start(&mut self, similarities: &Similarities, clusters: usize) {
        let tokens = similarities.tokens();
        self.central.clear();
        self.central.resize(tokens, 0.0);
        for token in 0..tokens {
            let row = similarities.row(token);
            self.central.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let (mut at, mut most) = (0, f64::NEG_INFINITY);
        for (token, &similarity) in self.central.iter().enumerate() {
            if similarity > most {
                (at, most) = (token, similarity);
            }
        }
        self.nearest.clear();
        self.nearest.resize(tokens, f32::NEG_INFINITY);
        self.sums.clear();
        self.inverse.clear();
        for _ in 0..clusters {
            let row = similarities.row(at);
            self.sums.extend(row.iter().map(|&value| f64::from(value)));
            self.inverse.push(inverse_root(f64::from(row[at])));
            for (nearest, &value) in self.nearest.iter_mut().zip(row) {
                *nearest = if value > *nearest { value } else { *nearest };
            }
            self.nearest[at] = f32::INFINITY;
            let least = minimum(&self.nearest);
            at = first_at_most(&self.nearest, least);
        }
    }

    /// Each token goes to the centroid it is most similar to; the first of equals.
    #[inline(always)]
    fn assign(&mut self, tokens: usize) {
        self.labels.clear();
        self.labels.resize(tokens, 0);
        self.own.clear();
        self.own.resize(tokens, f64::NEG_INFINITY);
        for ((cluster, sums), &inverse) in self.sums.chunks_exact(tokens).enumerate().zip(&self.inverse) {
            for ((label, own), &sum) in self.labels.iter_mut().zip(&mut self.own).zip(sums) {
                let similarity = sum * inverse;
                let better = similarity > *own;
                *label = if better { cluster as u64 } else { *label };
                *own = if better { similarity } else { *own };
            }
        }
    }

    /// An empty cluster takes the token that is least similar to its centroid, from a cluster that keeps another.
    #[inline(always)]
    fn fill_empty(&mut self) {
        self.members.clear();
        self.members.resize(self.inverse.len(), 0);
        for &label in &self.labels {
            self.members[label as usize] += 1;
        }
        for cluster in 0..self.members.len() {
            if self.members[cluster] > 0 {
                continue;
            }
            let mut taken = None;
            let mut least = f64::INFINITY;
            for (token, (&label, &own)) in self.labels.iter().zip(&self.own).enumerate() {
                if own < least && self.members[label as usize] > 1 {
                    (taken, least) = (Some(token), own);
                }
            }
            if let Some(token) = taken {
                self.members[self.labels[token] as usize] -= 1;
                self.labels[token] = cluster as u64;
                self.members[cluster] = 1;
                self.own[token] = f64::INFINITY;
            }
        }
    }

    /// Brings sums and norms up to date. Sums are integers, so adding what moved is as exact as adding everything.
    #[inline(always)]
    fn update(&mut self, similarities: &Similarities, anew: bool) {
        let tokens = similarities.tokens();
        if anew {
            self.sums.fill(0.0);
        }
        for token in 0..tokens {
            let (row, to) = (similarities.row(token), self.labels[token] as usize);
            if !anew {
                let from = self.before[token] as usize;
                if from == to {
                    continue;
                }
                let sums = &mut self.sums[from * tokens..][..tokens];
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum -= f64::from(value));
            }
            let sums = &mut self.sums[to * tokens..][..tokens];
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        self.inverse.fill(0.0);
        for (token, &label) in self.labels.iter().enumerate() {
            self.inverse[label as usize] += self.sums[label as usize * tokens + token];
        }
        self.inverse.iter_mut().for_each(|square| *square = inverse_root(*square));
    }
}

/// Rounds half to even: adding 1.5 · 2⁵² leaves no bits for a fraction. A library call where there is no instruction for
/// it would take longer than all the rest.
#[inline(always)]
fn round(value: f64) -> f32 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    ((value + SHIFT) - SHIFT) as f32
}

fn inverse_root(square: f64) -> f64 {
    if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 }
}

/// Numbers clusters by their first member, so that pooled vectors stand in the order of the text.
fn renumber(labels: &mut [u32], clusters: usize) {
    let mut numbers = vec![u32::MAX; clusters];
    let mut next = 0;
    for label in labels {
        let number = &mut numbers[*label as usize];
        if *number == u32::MAX {
            *number = next;
            next += 1;
        }
        *label = *number;
    }
}
