//! How thoroughly a search looks: one number, from which the limits of every stage follow.

use super::options::SearchOptions;
use crate::codec::Codec;
use crate::format::{Measured, Tuning, deviations_for, recall_at};
use crate::index::Snapshot;

/// Standard deviations above its estimate that a candidate may lie, unless somebody asks otherwise.
pub(super) const USUAL: f64 = 4.0;
/// Documents scored on their codes at most, at the usual effort.
const MAX_SCORED: f64 = 512.0;
/// At least this many for each hit wanted.
const SCORED_PER_HIT: f64 = 20.0;
/// And for a single hit at least one of so many documents, for more hits as many more as the cube root of their number says: the more there
/// are, and the deeper a hit stands, the more are like it. On 60 M resampled token vectors a four hundredth of 566,000 documents finds
/// .988 of the top 10 and a two hundredth .998; that finds .981 of the top 100, and a hundredth .991.
const DOCUMENTS_PER_SCORED: f64 = 430.0;
/// Cells probed for each query token at least, at the usual effort. On 9.1 M real token vectors and 16,384 centroids 2 find .974
/// of the top 10 by codes, 4 find .983, 8 find .990, and 16 hardly more.
const PROBES: f64 = 10.0;

/// What to expect of an index that nobody has tuned: at most what 150 and 300 queries found of the top 10 and the top 100 by codes
/// on .4 M and 1.1 M real token vectors, and between 1 and the usual effort a hundredth or two less, as more documents hide more.
const USUAL_CURVE: &[Measured] = &[
    Measured { deviations: -2.0, recall: 0.59 },
    Measured { deviations: -1.0, recall: 0.67 },
    Measured { deviations: 0.0, recall: 0.7 },
    Measured { deviations: 1.0, recall: 0.79 },
    Measured { deviations: 2.0, recall: 0.86 },
    Measured { deviations: 2.5, recall: 0.92 },
    Measured { deviations: 3.0, recall: 0.96 },
    Measured { deviations: 3.5, recall: 0.98 },
    Measured { deviations: USUAL, recall: 0.99 },
    Measured { deviations: 5.0, recall: 0.997 },
];

/// Where the lengths of token vectors lie farther apart, nobody knows what to expect before it is measured: centroids have one length,
/// so estimates pass the long vectors over. On .8 M real token vectors whose lengths were made to differ by .1 the usual effort found
/// .997 of the top 10 as before, by .15 .98, by .2 .95 and by .3 .85.
const MOST_LENGTH_SPREAD: f32 = 0.125;

/// Hits for each one that was tuned for, up to which the tuning is relied on. On scientific abstracts what finds .95 of the top 10 finds
/// .85 of the top 100.
const MOST_HITS_PER_TUNED: usize = 2;

/// How thoroughly a search looks. One deviation more doubles the limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Standard deviations above its estimate that a candidate may lie; infinite if nothing less will do.
    pub(super) deviations: f64,
    /// The share of the best documents that this finds, as far as is known.
    pub(super) expected_recall: Option<f64>,
    /// How many documents the index had when that was measured.
    pub(super) tuned_documents: Option<u64>,
    /// Whether the index has changed much since.
    pub(super) stale_tuning: bool,
}

impl Effort {
    /// What was asked for, by the tuning for the next number of hits, or by what is usual.
    pub(super) fn choose(snapshot: &Snapshot, wanted: usize, options: &SearchOptions) -> Self {
        let mixed = |codec: &Codec| codec.parameters().length_spread > MOST_LENGTH_SPREAD;
        // Who sets a limit does not want everything to be scored.
        let usual =
            if !options.is_limited() && snapshot.codec.as_deref().is_some_and(mixed) { &[] } else { USUAL_CURVE };
        Self::by(&snapshot.manifest().tunings, usual, snapshot.live_documents(), wanted, options)
    }

    fn by(tunings: &[Tuning], usual: &[Measured], documents: u64, wanted: usize, options: &SearchOptions) -> Self {
        let apart = |tuning: &Tuning| tuning.k.max(wanted) as f64 / tuning.k.min(wanted).max(1) as f64;
        let tuned = tunings.iter().min_by(|one, other| apart(one).total_cmp(&apart(other)));
        let stale_tuning = tuned.is_some_and(|tuning| tuning.is_stale(documents));
        let measured = tuned.map(|tuning| &tuning.curve[..]).filter(|curve| !curve.is_empty());
        // What was measured on far fewer documents, or for far fewer hits, promises too much; then a search goes by whichever
        // curve promises less.
        let deeper = tuned.is_some_and(|tuning| wanted > tuning.k.saturating_mul(MOST_HITS_PER_TUNED));
        let unmeasured = (stale_tuning || deeper || measured.is_none()).then_some(usual);
        let curves = || measured.into_iter().chain(unmeasured);
        let needed = |recall| curves().map(move |curve| deviations_for(curve, recall).unwrap_or(f64::INFINITY));
        let deviations = match (options.deviations, options.recall, tuned) {
            (Some(deviations), ..) => deviations,
            // Queries that were measured tell nothing certain of others.
            (None, Some(recall), _) if recall >= 1.0 => f64::INFINITY,
            (None, Some(recall), _) => needed(recall).fold(f64::NEG_INFINITY, f64::max),
            (None, None, Some(tuning)) => needed(tuning.target).fold(f64::NEG_INFINITY, f64::max),
            (None, None, None) if usual.is_empty() => f64::INFINITY,
            (None, None, None) => USUAL,
        };
        Self {
            deviations,
            expected_recall: curves().filter_map(|curve| recall_at(curve, deviations)).reduce(f64::min),
            tuned_documents: tuned.map(|tuning| tuning.documents),
            stale_tuning,
        }
    }

    /// Documents scored on their codes at most, for the `wanted` best of so many documents.
    pub(super) fn max_scored(self, wanted: usize, documents: usize) -> usize {
        let wanted = wanted as f64;
        let like_the_best = documents as f64 / DOCUMENTS_PER_SCORED * wanted.cbrt();
        (self.factor() * MAX_SCORED.max(wanted * SCORED_PER_HIT).max(like_the_best)).ceil() as usize
    }

    /// Cells to probe for each query token: the further down a hit stands, the farther its tokens may lie from the query's. On
    /// the same vectors the best 100 take 16 of them for .99, where 8 find .976.
    pub(super) fn probes(self, wanted: usize) -> usize {
        let deep = f64::from(2 * wanted.max(1).ilog2() + 4);
        (self.factor() * PROBES.max(deep)).ceil() as usize
    }

    fn factor(self) -> f64 {
        (self.deviations - USUAL).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::{Effort, USUAL, USUAL_CURVE};
    use crate::format::{Measured, Tuning, deviations_for};
    use crate::search::SearchOptions;

    #[test]
    fn limits_follow_the_deviations() {
        let effort =
            |deviations| Effort { deviations, expected_recall: None, tuned_documents: None, stale_tuning: false };
        assert_eq!((effort(USUAL).max_scored(10, 1000), effort(USUAL).probes(10)), (512, 10));
        assert_eq!((effort(USUAL).max_scored(100, 1000), effort(USUAL).probes(100)), (2000, 16));
        assert_eq!((effort(USUAL + 1.0).max_scored(10, 1000), effort(USUAL + 1.0).probes(10)), (1024, 20));
        assert_eq!([1, 10, 100].map(|wanted| effort(USUAL).max_scored(wanted, 600_000)), [1396, 3007, 6477]);
        assert_eq!((effort(-60.0).max_scored(10, 1000), effort(-60.0).probes(10)), (1, 1));
        assert_eq!((effort(f64::MAX).max_scored(1, 1000), effort(f64::MAX).probes(1)), (usize::MAX, usize::MAX));
        assert_eq!(effort(USUAL).max_scored(usize::MAX, 1000), usize::MAX);
    }

    fn tuning(k: usize, target: f64, documents: u64, curve: &[(f64, f64)]) -> Tuning {
        let curve = curve.iter().map(|&(deviations, recall)| Measured { deviations, recall }).collect();
        Tuning { k, target, queries: 1, documents, curve }
    }

    #[test]
    fn the_tuning_of_the_next_number_of_hits_counts() {
        let tunings = [11, 15, 100].map(|k| tuning(k, 0.9, 1000, &[(k as f64, 0.9)]));
        let chosen =
            |wanted| Effort::by(&tunings, USUAL_CURVE, 1000, wanted, &SearchOptions::default()).deviations as usize;
        assert_eq!([1, 11, 12, 14, 15, 30, 50, 1000].map(chosen), [11, 11, 11, 15, 15, 15, 100, 100]);
    }

    #[test]
    fn a_tuning_of_another_size_is_not_relied_on() {
        let asking = |documents, tuned: &Tuning, recall| {
            let options = SearchOptions { recall, ..SearchOptions::default() };
            Effort::by(std::slice::from_ref(tuned), USUAL_CURVE, documents, 10, &options)
        };
        let eager = tuning(10, 0.9, 1000, &[(-2.0, 0.8), (0.0, 0.95), (1.0, 1.0)]);
        let usual = deviations_for(USUAL_CURVE, 0.9).expect("known");
        for (documents, stale) in [(499, true), (500, false), (2000, false), (2001, true), (1_000_000, true)] {
            let effort = asking(documents, &eager, None);
            assert_eq!(effort.stale_tuning, stale);
            assert!((effort.deviations - if stale { usual } else { -2.0 / 3.0 }).abs() < 1e-12);
            assert!((effort.expected_recall.expect("known") - 0.9).abs() < 1e-12);
            assert!(asking(documents, &eager, Some(1.0)).deviations.is_infinite());
        }
        let thorough = tuning(10, 0.9, 1000, &[(2.0, 0.5), (6.0, 0.9)]);
        assert!((asking(9000, &thorough, None).deviations - 6.0).abs() < 1e-12);
        let unmeasured = asking(1000, &tuning(10, 0.99, 1000, &[]), None);
        assert_eq!((unmeasured.deviations, unmeasured.expected_recall), (USUAL, Some(0.99)));
    }

    #[test]
    fn a_tuning_for_few_hits_is_not_relied_on_for_many() {
        let eager = tuning(10, 0.9, 1000, &[(-2.0, 0.8), (0.0, 0.95)]);
        let usual = deviations_for(USUAL_CURVE, 0.9).expect("known");
        for (wanted, deviations) in [(1, -2.0 / 3.0), (20, -2.0 / 3.0), (21, usual), (1000, usual)] {
            let effort = Effort::by(std::slice::from_ref(&eager), USUAL_CURVE, 1000, wanted, &SearchOptions::default());
            assert!((effort.deviations - deviations).abs() < 1e-12);
            assert!((effort.expected_recall.expect("known") - 0.9).abs() < 1e-12);
            assert!(!effort.stale_tuning);
        }
        let thorough = tuning(10, 0.9, 1000, &[(2.0, 0.5), (6.0, 0.9)]);
        let effort = Effort::by(&[thorough], USUAL_CURVE, 1000, 100, &SearchOptions::default());
        assert!((effort.deviations - 6.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_expected_of_lengths_that_differ() {
        let asking = |tunings: &[Tuning], recall, deviations| {
            let options = SearchOptions { recall, deviations, ..SearchOptions::default() };
            Effort::by(tunings, &[], 1000, 10, &options)
        };
        for (recall, deviations) in [(None, None), (Some(0.1), None), (Some(1.0), None)] {
            let effort = asking(&[], recall, deviations);
            assert_eq!((effort.deviations, effort.expected_recall), (f64::INFINITY, None));
        }
        assert!((asking(&[], None, Some(3.0)).deviations - 3.0).abs() < 1e-12);
        let measured = tuning(10, 0.9, 1000, &[(2.0, 0.5), (6.0, 0.9)]);
        assert!((asking(std::slice::from_ref(&measured), None, None).deviations - 6.0).abs() < 1e-12);
        assert!((asking(&[measured], Some(0.7), None).deviations - 4.0).abs() < 1e-12);
        let of_another_size = tuning(10, 0.9, 1, &[(2.0, 0.5), (6.0, 0.9)]);
        assert!(asking(&[of_another_size], None, None).deviations.is_infinite());
    }
}
