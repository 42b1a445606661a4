//! Token vectors to learn from, where they lie.
//!
//! A sixteenth of them is held out of training, so that what the centroids leave over of vectors that they have not seen can
//! be measured: of those that they were fitted to it is less by up to half. What is held out are stretches of a few documents,
//! since the tokens of one document resemble each other.

use super::random::Random;

/// Token vectors of a stretch.
const STRETCH: usize = 256;
/// Of so many stretches the last is held out.
const STRETCHES: usize = 16;

/// The squares of the components of shorter vectors are beyond float32.
const SHORTEST: f32 = 1e-20;
/// Lengths that lie less far apart are one.
const LEAST_SPREAD: f32 = 0.04;

/// Token vectors `[tokens, dim]` in pieces that follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    pieces: &'a [&'a [f32]],
    dim: usize,
}

impl<'a> Sample<'a> {
    pub(super) fn new(pieces: &'a [&'a [f32]], dim: usize) -> Self {
        Self { pieces, dim }
    }

    pub(super) fn tokens(self) -> usize {
        self.pieces.iter().map(|rows| rows.len() / self.dim).sum()
    }

    /// About `wanted` different tokens to train on, ascending.
    pub(super) fn to_learn(self, wanted: usize, random: &mut Random) -> Vec<usize> {
        let mut chosen = random.sample(self.tokens(), wanted);
        chosen.retain(|&token| !is_held_out(token));
        chosen
    }

    /// At most `wanted` different tokens that are held out, ascending; of all where there are too few to hold any out.
    pub(super) fn to_measure(self, wanted: usize, random: &mut Random) -> Vec<usize> {
        let held: Vec<usize> = (0..self.tokens()).filter(|&token| is_held_out(token)).collect();
        if held.is_empty() {
            return random.sample(self.tokens(), wanted);
        }
        random.sample(held.len(), wanted).into_iter().map(|at| held[at]).collect()
    }

    /// The median length of so many vectors that are not zero, to five binary digits: those that are unit vectors but for
    /// rounding have 1.
    pub(super) fn typical_length(self, wanted: usize, random: &mut Random) -> f32 {
        let mut lengths: Vec<f64> = self.lengths(&random.sample(self.tokens(), wanted)).collect();
        lengths.sort_by(f64::total_cmp);
        let median = lengths.get(lengths.len() / 2).map_or(1.0, |&length| length as f32);
        let rounded = f32::from_bits((median.to_bits() + (1 << 18)) & !((1 << 19) - 1));
        rounded.max(SHORTEST)
    }

    /// How far the lengths of some tokens that are not zero lie from `typical`, as a share of it: the root of the mean square; 0 where
    /// it may be rounding, as of vectors of one length that come in half precision.
    pub(super) fn length_spread(self, tokens: &[usize], typical: f32) -> f32 {
        let square = |length: f64| (length / f64::from(typical) - 1.0).powi(2);
        let (count, sum) =
            self.lengths(tokens).fold((0, 0.0), |(count, sum), length| (count + 1, sum + square(length)));
        let spread = (sum / f64::from(count.max(1))).sqrt() as f32;
        if spread < LEAST_SPREAD { 0.0 } else { spread.min(f32::MAX) }
    }

    fn lengths(self, tokens: &[usize]) -> impl Iterator<Item = f64> {
        let square = move |&token: &usize| self.row(token).iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        tokens.iter().map(move |token| square(token).sqrt()).filter(|&length| length > 0.0)
    }

    /// The vectors of some tokens, one behind the other.
    pub(super) fn rows(self, tokens: &[usize]) -> Vec<f32> {
        tokens.iter().flat_map(|&token| self.row(token)).copied().collect()
    }

    fn row(self, mut at: usize) -> &'a [f32] {
        for rows in self.pieces {
            let count = rows.len() / self.dim;
            if at < count {
                return &rows[at * self.dim..][..self.dim];
            }
            at -= count;
        }
        &[]
    }
}

fn is_held_out(token: usize) -> bool {
    token / STRETCH % STRETCHES == STRETCHES - 1
}
