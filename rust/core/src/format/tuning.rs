//! What is known of an index's recall: which share of the best documents a search finds, by how thoroughly it looks.

use serde::{Deserialize, Serialize};

/// How many times as many documents make a tuning stale, or as few.
const CHANGED: u64 = 2;

/// A point of a curve: looking so thoroughly finds such a share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Standard deviations above its estimate that a candidate may lie.
    pub deviations: f64,
    /// Share of the best documents by codes that was found.
    pub recall: f64,
}

/// The recall of searches for the `k` best, measured on one index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Hits that were wanted.
    pub k: usize,
    /// The share that searches look for unless they are asked otherwise.
    pub target: f64,
    /// Queries that it was measured with.
    pub queries: usize,
    /// Documents that the index had.
    pub documents: u64,
    /// Both numbers rise. Empty where every document is scored, however thoroughly one looks.
    pub curve: Vec<Measured>,
}

impl Tuning {
    /// Checks that the curve is one.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let within = |point: &Measured| point.deviations.is_finite() && (0.0..=1.0).contains(&point.recall);
        let rise = |pair: &[Measured]| pair[0].deviations < pair[1].deviations && pair[0].recall <= pair[1].recall;
        let share = self.target > 0.0 && self.target <= 1.0;
        if self.k == 0 || !share || !self.curve.iter().all(within) || !self.curve.windows(2).all(rise) {
            let problem = "a tuning must be for at least one hit, its target must lie above 0 and at most at 1, and its curve \
                           must rise";
            return Err(problem.to_owned());
        }
        Ok(())
    }

    /// Whether an index of so many documents has changed so much that this tells little of it.
    #[must_use]
    pub fn is_stale(&self, documents: u64) -> bool {
        let (fewer, more) = (self.documents.min(documents), self.documents.max(documents));
        more > CHANGED.saturating_mul(fewer)
    }
}

/// The least deviations that find this share, between the points of a curve; `None` where none of them does.
#[must_use]
pub fn deviations_for(curve: &[Measured], recall: f64) -> Option<f64> {
    let reaching = curve.iter().position(|point| point.recall >= recall)?;
    let (to, from) = (curve[reaching], reaching.checked_sub(1).map(|before| curve[before]));
    Some(from.map_or(to.deviations, |from| {
        let share = (recall - from.recall) / (to.recall - from.recall);
        from.deviations + share * (to.deviations - from.deviations)
    }))
}

/// The share that these deviations find, between the points of a curve, and that of the nearest one beyond them.
#[must_use]
pub fn recall_at(curve: &[Measured], deviations: f64) -> Option<f64> {
    let (first, last) = (curve.first()?, curve.last()?);
    let Some(pair) = curve.windows(2).find(|pair| (pair[0].deviations..=pair[1].deviations).contains(&deviations))
    else {
        return Some(if deviations < first.deviations { first.recall } else { last.recall });
    };
    let share = (deviations - pair[0].deviations) / (pair[1].deviations - pair[0].deviations);
    Some(pair[0].recall + share * (pair[1].recall - pair[0].recall))
}

#[cfg(test)]
mod tests {
    use super::{Measured, Tuning, deviations_for, recall_at};

    fn curve(points: &[(f64, f64)]) -> Vec<Measured> {
        points.iter().map(|&(deviations, recall)| Measured { deviations, recall }).collect()
    }

    #[test]
    fn a_curve_is_read_both_ways() {
        let curve = curve(&[(0.0, 0.5), (2.0, 0.9), (3.0, 0.9), (4.0, 1.0)]);
        for (deviations, recall) in [(0.0, 0.5), (1.0, 0.7), (2.0, 0.9), (3.5, 0.95), (4.0, 1.0)] {
            assert!((recall_at(&curve, deviations).expect("a curve") - recall).abs() < 1e-12, "{deviations}");
            assert!((deviations_for(&curve, recall).expect("reached") - deviations).abs() < 1e-12, "{recall}");
        }
        assert_eq!((recall_at(&curve, -9.0), recall_at(&curve, 9.0)), (Some(0.5), Some(1.0)));
        assert_eq!((deviations_for(&curve, 0.1), deviations_for(&curve[..3], 0.91)), (Some(0.0), None));
        assert_eq!((recall_at(&[], 1.0), deviations_for(&[], 0.5)), (None, None));
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        let check = |k, points: &[(f64, f64)]| {
            Tuning { k, target: 0.9, queries: 1, documents: 1, curve: curve(points) }.check()
        };
        assert!(check(1, &[(0.0, 0.5), (1.0, 0.5)]).is_ok());
        assert!(check(0, &[(0.0, 0.5)]).is_err());
        assert!(check(1, &[]).is_ok());
        for points in [&[(f64::NAN, 0.5)][..], &[(0.0, 1.5)], &[(0.0, 0.5), (0.0, 0.6)], &[(0.0, 0.5), (1.0, 0.4)]] {
            assert!(check(1, points).is_err(), "{points:?}");
        }
    }
}
