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
