//! Documents in the cells nearest to each query token (PLAID, Santhanam et al. 2022, §4.1), summed up with WARP's
//! imputation (Scheerer et al. 2025, §4.2): where no probed cell of a query token holds the document, the score of the
//! best cell that was not probed stands in, which no other that was left out exceeds.

use std::cell::RefCell;
use std::mem;

use latewood_kernels::LANES;

use super::candidates::{Candidate, Estimate, Gather, Gathered};
use crate::error::{Error, Result};
use crate::index::{Location, Segment, Snapshot};
use crate::parallel::Execution;
use crate::search::allowed::Allowed;
use crate::search::prepare::Prepared;

pub(in crate::search) struct Postings {
    /// Cells for each query token.
    pub(in crate::search) probes: usize,
    /// Least dot product of query token and centroid.
    pub(in crate::search) threshold: f32,
}

/// A cell to visit for one query token, and what a document in it gains over the imputed score.
struct Probe {
    token: u32,
    centroid: u16,
    gain: f32,
}

/// What the probes so far have given a document.
#[derive(Clone, Copy, Default)]
struct Gained {
    sum: f32,
    /// The last query token that added to it, plus one; 0 for none.
    last_token: u32,
}

/// Sums by ordinal, kept between queries so that only what was touched is cleared.
#[derive(Default)]
struct Sums {
    gained: Vec<Gained>,
    touched: Vec<u32>,
    postings: Vec<u32>,
}

impl Sums {
    /// Adds one cell's gain to its documents.
    fn visit(&mut self, segment: &Segment, probe: &Probe) -> Result<()> {
        self.postings.clear();
        segment.postings(probe.centroid, &mut self.postings)?;
        let mut touched = self.touched.len();
        self.touched.resize(touched + self.postings.len(), 0);
        // Without branches, which no processor would guess.
        for &ordinal in &self.postings {
            let gained = &mut self.gained[ordinal as usize];
            self.touched[touched] = ordinal;
            touched += usize::from(gained.last_token == 0);
            // Probes of a token come best first, so the first to reach a document is its maximum.
            gained.sum += if gained.last_token == probe.token + 1 { 0.0 } else { probe.gain };
            gained.last_token = probe.token + 1;
        }
        self.touched.truncate(touched);
        Ok(())
    }
}

thread_local! {
    static SUMS: RefCell<Sums> = RefCell::default();
}

impl Gather for Postings {
    fn gather(
        &self,
        query: &Prepared<'_>,
        snapshot: &Snapshot,
        allowed: &Allowed,
        execution: &Execution,
    ) -> Result<Gathered> {
        let (probes, imputed) = self.probes(query);
        let mut candidates = Vec::new();
        SUMS.with_borrow_mut(|sums| {
            for (at, segment) in snapshot.segments.iter().enumerate() {
                let documents = segment.documents() as usize;
                if sums.gained.len() < documents {
                    sums.gained.resize(documents, Gained::default());
                }
                let visited = probes.chunks(LANES).try_for_each(|some| {
                    execution.check()?;
                    some.iter().try_for_each(|probe| sums.visit(segment, probe))
                });
                for ordinal in sums.touched.drain(..) {
                    let gained = mem::take(&mut sums.gained[ordinal as usize]);
                    let place = Location { segment: at as u32, ordinal };
                    if allowed.contains(snapshot, place) {
                        candidates.push(Candidate { at: place, estimate: imputed + gained.sum });
                    }
                }
                // Checked only now, so that a failure leaves the sums clear for the next query.
                visited?;
            }
            Ok::<(), Error>(())
        })?;
        Ok(Gathered { candidates, estimate: Estimate::Imputed })
    }
}

impl Postings {
    /// The probes of all query tokens, best first for each, and the sum of the imputed scores.
    fn probes(&self, query: &Prepared<'_>) -> (Vec<Probe>, f32) {
        let most = self.probes.min(query.centroid_count());
        let mut probes = Vec::with_capacity(query.tokens() * most);
        let mut imputed_sum = 0.0;
        for block in 0..query.tokens().div_ceil(LANES) {
            let best = best_rows(query.block_scores(block), most + 1);
            for (lane, best) in best.iter().enumerate().take(query.tokens() - block * LANES) {
                let token = block * LANES + lane;
                let scale = query.scale(token);
                let far = best.iter().skip(1).position(|&(score, _)| score * scale < self.threshold);
                let (chosen, rest) = best.split_at(far.map_or(best.len(), |far| far + 1).min(most));
                let imputed = rest.first().or(chosen.last()).map_or(0.0, |&(score, _)| score);
                let weight = query.weight(token);
                imputed_sum += imputed * weight;
                probes.extend(chosen.iter().map(|&(score, centroid)| Probe {
                    token: token as u32,
                    centroid,
                    gain: (score - imputed) * weight,
                }));
            }
        }
        (probes, imputed_sum)
    }
}

/// For each lane the `wanted` rows with the highest scores, best first, equal ones by row.
fn best_rows(scores: &[[f32; LANES]], wanted: usize) -> Vec<Vec<(f32, u16)>> {
    let mut best: Vec<Vec<(f32, u16)>> = vec![Vec::new(); LANES];
    let mut bar = [f32::NEG_INFINITY; LANES];
    for (row, scores) in scores.iter().enumerate() {
        // Almost every row is below all bars: one vector comparison settles it.
        if scores.iter().zip(&bar).map(|(score, bar)| u32::from(score > bar)).sum::<u32>() == 0 {
            continue;
        }
        for (lane, (&score, bar)) in scores.iter().zip(&mut bar).enumerate() {
            if score > *bar {
                let best = &mut best[lane];
                let place = best.partition_point(|&(known, _)| known >= score);
                best.insert(place, (score, row as u16));
                best.truncate(wanted);
                if best.len() == wanted {
                    *bar = best[wanted - 1].0;
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::{LANES, best_rows};

    #[test]
    fn the_best_rows_of_each_lane_in_order() {
        let score = |row: usize, lane: usize| ((row * 7 + lane * 3) % 11) as f32;
        let scores: Vec<[f32; LANES]> = (0..40).map(|row| std::array::from_fn(|lane| score(row, lane))).collect();
        for (lane, best) in best_rows(&scores, 5).into_iter().enumerate() {
            let mut expected: Vec<(f32, u16)> = (0..40).map(|row| (score(row, lane), row as u16)).collect();
            expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            expected.truncate(5);
            assert_eq!(best, expected, "lane {lane}");
        }
    }
}
