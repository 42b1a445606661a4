//! Down a list of candidates, the best estimate first, for as long as it is likely to be worth it.

use std::iter;

use super::gather::Candidate;
use super::top_k::{Hit, TopK, Wanted};
use crate::error::Result;

/// How far the values of candidates lie above their estimates.
#[derive(Default)]
struct Excess {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Excess {
    fn take(&mut self, excess: f64) {
        self.count += 1.0;
        self.sum += excess;
        self.squares += excess * excess;
    }

    /// What hardly any candidate exceeds.
    fn most(&self, deviations: f64) -> f64 {
        let mean = self.sum / self.count;
        mean + deviations * (self.squares / self.count - mean * mean).max(0.0).sqrt()
    }
}

/// Values candidates, the best estimate first, as many as are wanted and then `step` at a time, until the next one would have
/// to exceed its estimate by more than the others did, their mean and `deviations` standard deviations, to be among the best. The
/// best hits, and how many were valued.
///
/// Each query says so by its own candidates: clear ones need a few dozen and muddled ones all of them, and what is true of one
/// collection is not of another.
///
/// # Errors
/// Those of `value`.
pub(super) fn descend<'a>(
    candidates: &[Candidate],
    step: usize,
    deviations: f64,
    wanted: Wanted<'a>,
    mut value: impl FnMut(&[Candidate]) -> Result<Vec<Hit>>,
) -> Result<(TopK<'a>, usize)> {
    let mut best = TopK::new(wanted);
    let mut excess = Excess::default();
    let mut valued = 0;
    let (first, rest) = candidates.split_at(step.max(wanted.count).min(candidates.len()));
    for block in iter::once(first).chain(rest.chunks(step)).filter(|block| !block.is_empty()) {
        let last = best.last().map(|last| f64::from(last.score));
        if last.is_some_and(|last| f64::from(block[0].estimate) + excess.most(deviations) < last) {
            break;
        }
        let hits = value(block)?;
        for (candidate, hit) in block.iter().zip(&hits) {
            excess.take(f64::from(hit.score) - f64::from(candidate.estimate));
        }
        valued += hits.len();
        best.extend(hits);
    }
    Ok((best, valued))
}
