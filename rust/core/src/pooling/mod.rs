//! Pooling: fewer vectors for a text, each the mean of token vectors that point about the same way.
//!
//! ```text
//! token vectors -similarities-> every pair's dot product -k-means or Ward-> labels -means-> fewer vectors
//! ```
//!
//! Both ways of clustering see the vectors only through their pairwise dot products ([`Similarities`]): one pass over
//! `tokens² · dim / 2` products, after which a step of either costs `tokens²` at most.
//!
//! # Contract
//! * The result of an item depends on that item alone: not on its neighbours or the number of threads.
//! * k-means gives the same labels on every CPU. Ward's dot products are rounded, in another way where nothing fuses
//!   multiplication and addition, so nearly equal distances may be told apart differently there.
//! * A text of at most as many tokens as it may have vectors keeps them, in order.
//! * k-means gives as many vectors as were asked for; Ward's gives fewer where merges tie at the cut, as scipy's does.
//! * With `normalize`, every vector that comes out has unit length (or is zero), pooled or not.

#![expect(clippy::inline_always, reason = "what `widely` runs is compiled for the registers of its caller")]

mod reductions;
mod kmeans;
mod ward;

use latewood_kernels::{Level, Similarities, Wide, widely};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

use reductions::norm;

/// Tokens of one item that are clustered at most: every pair's similarity is held, 256 MiB of them here.
pub const MAX_TOKENS: usize = 8192;

/// How tokens are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Spherical k-means from a farthest-first start (CRISP, arXiv 2505.11471).
    KMeans,
    /// Ward's linkage on `1 - dot product`, cut at a number of clusters (Clavié et al., arXiv 2409.14683).
    Ward,
}

/// How many vectors a text may keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// This many, protected tokens among them; one beside the protected at least.
    Count(usize),
    /// This share of the tokens that are not protected, rounded down, one at least.
    Fraction(f64),
    /// One for each `factor` tokens that are not protected, rounded down as Python's `//` does, one at least.
    Factor(f64),
}

/// What is done to every item.
#[derive(Clone, Copy, Debug)]
pub struct Pooling {
    method: Method,
    budget: Budget,
    protected: usize,
    normalize: bool,
}

/// Ragged vectors that own their memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooled {
    /// `[vectors, dim]`.
    pub values: Vec<f32>,
    /// `[items + 1]`.
    pub offsets: Vec<i64>,
}

impl Pooling {
    /// Checks the budget. The first `protected` tokens of each item are kept beside the clusters, first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a count of 0, a fraction outside of 0 to 1 or a factor below 1.
    pub fn new(method: Method, budget: Budget, protected: usize, normalize: bool) -> Result<Self> {
        match budget {
            Budget::Count(0) => return Err(Error::invalid("a text needs at least 1 vector; 0 were asked for")),
            Budget::Fraction(share) if !(share > 0.0 && share <= 1.0) => {
                return Err(Error::invalid(format!("the fraction must be above 0 and at most 1, not {share}")));
            }
            Budget::Factor(factor) if !(factor >= 1.0 && factor.is_finite()) => {
                return Err(Error::invalid(format!("the factor must be at least 1, not {factor}")));
            }
            _ => {}
        }
        Ok(Self { method, budget, protected, normalize })
    }

    /// Pools every item.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an item with more than [`MAX_TOKENS`] tokens to cluster, [`Error::Interrupted`].
    pub fn run(&self, tokens: &TokenMatrix<'_>, execution: &Execution) -> Result<Pooled> {
        let dim = tokens.dim();
        let items: Vec<Vec<f32>> = execution.map_with(0..tokens.items(), Scratch::default, |scratch, item| {
            let vectors = tokens.item(item);
            let mut pooled = self.item(vectors, dim, scratch).ok_or_else(|| {
                Error::invalid(format!(
                    "item {item} has {} token vectors; at most {MAX_TOKENS} can be pooled together: split it",
                    tokens.item_tokens(item)
                ))
            })?;
            if self.normalize {
                pooled.chunks_exact_mut(dim).for_each(normalize);
            }
            Ok(pooled)
        })?;
        let mut offsets = Vec::with_capacity(items.len() + 1);
        offsets.push(0);
        let mut rows = 0;
        for item in &items {
            rows += item.len() / dim;
            offsets.push(rows as i64);
        }
        Ok(Pooled { values: items.concat(), offsets })
    }

    /// The vectors of one item, not normalised; `None` if there are too many of them.
    fn item(&self, vectors: &[f32], dim: usize, scratch: &mut Scratch) -> Option<Vec<f32>> {
        let count = vectors.len() / dim;
        let protected = self.protected.min(count);
        let (kept, rest) = vectors.split_at(protected * dim);
        let clusters = self.clusters(count - protected);
        if clusters >= count - protected {
            return Some(vectors.to_vec());
        }
        if count - protected > MAX_TOKENS {
            return None;
        }
        let mut pooled = kept.to_vec();
        let level = Level::current();
        let work = Work { level, method: self.method, vectors: rest, dim, clusters, scratch, out: &mut pooled };
        widely(level, work);
        Some(pooled)
    }

    /// Clusters that `tokens` tokens beside the protected ones are to form.
    fn clusters(&self, tokens: usize) -> usize {
        let clusters = match self.budget {
            Budget::Count(count) => count.saturating_sub(self.protected),
            Budget::Fraction(share) => (share * tokens as f64) as usize,
            Budget::Factor(factor) => floor_division(tokens as f64, factor) as usize,
        };
        clusters.max(1)
    }
}

/// What one thread needs for one item after another.
#[derive(Default)]
struct Scratch {
    similarities: Similarities,
    kmeans: kmeans::KMeans,
    ward: ward::Ward,
}

/// What is done to one item, with the CPU's widest registers.
struct Work<'a> {
    level: Level,
    method: Method,
    vectors: &'a [f32],
    dim: usize,
    clusters: usize,
    scratch: &'a mut Scratch,
    out: &'a mut Vec<f32>,
}

impl Wide for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const LANES: usize>(self) {
        let Scratch { similarities, kmeans, ward } = self.scratch;
        let labels = match self.method {
            Method::KMeans => kmeans.labels(similarities, self.level, self.vectors, self.dim, self.clusters),
            Method::Ward => ward.labels(similarities, self.level, self.vectors, self.dim, self.clusters),
        };
        means(self.vectors, self.dim, labels, self.out);
    }
}

/// `a // b` as Python rounds it, which is not always `(a / b).floor()`: 3.3 // 1.1 is 2.
fn floor_division(a: f64, b: f64) -> f64 {
    ((a - a % b) / b).round()
}

/// Appends the mean of the vectors of each label; every label below the largest one must occur.
#[inline(always)]
fn means(vectors: &[f32], dim: usize, labels: &[u32], out: &mut Vec<f32>) {
    let clusters = labels.iter().max().map_or(0, |&largest| largest as usize + 1);
    let mut sums = vec![0.0_f64; clusters * dim];
    let mut members = vec![0_u32; clusters];
    for (vector, &label) in vectors.chunks_exact(dim).zip(labels) {
        members[label as usize] += 1;
        let sum = &mut sums[label as usize * dim..][..dim];
        sum.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    for (sum, &members) in sums.chunks_exact(dim).zip(&members) {
        let count = f64::from(members.max(1));
        out.extend(sum.iter().map(|sum| (sum / count) as f32));
    }
}

fn normalize(vector: &mut [f32]) {
    let norm = norm(vector);
    if norm > 0.0 {
        for value in vector {
            *value = (f64::from(*value) / norm) as f32;
        }
    }
}

#[cfg(test)]
mod tests;
