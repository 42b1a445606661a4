//! Token vectors to learn from, where they lie.

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
