//! Down a list of candidates, the best estimate first, for as long as it is likely to be worth it.

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

/// Candidates that are put in order at first, at least; then twice as many as are, and so on: most queries are done long
/// before the last one.
const ORDERED: usize = 256;

/// Values candidates, the best estimate first, as many as are wanted and then `step` at a time, until the next one would have
/// to exceed its estimate by more than the others did, their mean and `deviations` standard deviations, to be among the best. The
/// best hits, and how many were valued: these come first now, in order.
///
/// Each query says so by its own candidates: clear ones need a few dozen and muddled ones all of them, and what is true of one
/// collection is not of another.
///
/// # Errors
/// Those of `value`.
pub(super) fn descend<'a>(
    candidates: &mut [Candidate],
    step: usize,
    deviations: f64,
    wanted: Wanted<'a>,
    mut value: impl FnMut(&[Candidate]) -> Result<Vec<Hit>>,
) -> Result<(TopK<'a>, usize)> {
    let mut best = TopK::new(wanted);
    let mut excess = Excess::default();
    let (mut ordered, mut valued) = (0, 0);
    let mut next = step.max(wanted.count).min(candidates.len());
    while valued < next {
        if ordered < next {
            ordered = order_further(candidates, ordered, next);
        }
        let block = &candidates[valued..next];
        let last = best.last().map(|last| f64::from(last.score));
        if last.is_some_and(|last| f64::from(block[0].estimate) + excess.most(deviations) < last) {
            break;
        }
        let hits = value(block)?;
        for (candidate, hit) in block.iter().zip(&hits) {
            excess.take(f64::from(hit.score) - f64::from(candidate.estimate));
        }
        best.extend(hits);
        (valued, next) = (next, next.saturating_add(step).min(candidates.len()));
    }
    Ok((best, valued))
}

/// Puts candidates in order up to `least` or further, where the first `ordered` are; up to which they are then.
fn order_further(candidates: &mut [Candidate], ordered: usize, least: usize) -> usize {
    let end = least.max(3 * ordered).max(ORDERED).min(candidates.len());
    let rest = &mut candidates[ordered..];
    if end - ordered < rest.len() {
        rest.select_nth_unstable_by(end - ordered, Candidate::order);
    }
    rest[..end - ordered].sort_unstable_by(Candidate::order);
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::index::Location;

    /// However far one looks, it is down the order that a full sort would give.
    #[test]
    fn candidates_are_valued_in_order() {
        for (count, step, wanted) in
            [(0, 8, 10), (1, 8, 10), (700, 64, 10), (5000, 64, 10), (5000, 7, 1), (5000, 64, 999)]
        {
            // Scattered, with equal ones.
            let candidate = |ordinal: u32| Candidate {
                at: Location { segment: ordinal % 2, ordinal },
                estimate: (ordinal * 7919 % 503) as f32,
            };
            let all: Vec<Candidate> = (0..count).map(candidate).collect();
            let mut sorted = all.clone();
            sorted.sort_by(Candidate::order);
            for far in [0, 1, 300, 1000, 5000, 5001] {
                let (mut candidates, mut seen) = (all.clone(), Vec::new());
                let wanted = Wanted { count: wanted, groups: None, rescore: None };
                let descent = descend(&mut candidates, step, f64::INFINITY, wanted, |block| {
                    seen.extend(block.iter().map(|candidate| candidate.at));
                    let hits = block.iter().map(|candidate| Hit { at: candidate.at, score: candidate.estimate });
                    if seen.len() < far { Ok(hits.collect()) } else { Err(Error::Interrupted) }
                });
                if let Ok((best, valued)) = descent {
                    assert_eq!(valued, all.len());
                    assert_eq!(best.into_hits().len(), wanted.count.min(all.len()));
                }
                let places =
                    |candidates: &[Candidate]| candidates.iter().map(|candidate| candidate.at).collect::<Vec<_>>();
                assert!(seen.len() >= far.min(all.len()));
                assert_eq!(seen, places(&sorted[..seen.len()]));
                assert_eq!(seen, places(&candidates[..seen.len()]));
            }
        }
    }
}
