//! Documents cut into eights, so that kernels work on full tiles whatever the documents' lengths, and their loops know
//! neither documents nor branches.
//!
//! An eight is eight successive tokens of one document. The last eight of a document ends at its last token and so may
//! repeat tokens of the one before: a maximum does not mind. Documents of fewer than eight tokens are copied, with their
//! first token repeated.

use super::DocumentCodes;
use super::queries::Queries;
use crate::aligned::Aligned;
use crate::lanes::LANES;
use crate::prefetch;

/// Tokens that are decoded, multiplied and folded at a time.
pub(super) const EIGHT: usize = 8;

/// Eight tokens of one document.
#[derive(Clone, Copy)]
pub(super) struct Eight<'a> {
    /// `[8, row_bytes]`.
    pub(super) codes: &'a [u8],
    pub(super) gains: &'a [u16; EIGHT],
    /// Empty for the flat codec.
    cells: &'a [u16],
    /// How many of the first tokens have been seen already, or are seen again among the rest.
    pub(super) repeats: usize,
}

impl Eight<'_> {
    /// The rows of a block of centroid scores that the tokens' values need; an id past the last row reads the last.
    #[inline]
    pub(super) fn centroid_scores<'t>(&self, table: &'t [[f32; LANES]]) -> Option<[&'t [f32; LANES]; EIGHT]> {
        let cells: &[u16; EIGHT] = self.cells.first_chunk()?;
        let last = table.len().checked_sub(1)?;
        Some(cells.map(|cell| &table[usize::from(cell).min(last)]))
    }

    /// Asks for them.
    #[inline]
    pub(super) fn prefetch_centroid_scores(&self, table: &[[f32; LANES]]) {
        for row in self.centroid_scores(table).into_iter().flatten() {
            prefetch(row.as_ptr());
            prefetch(row[16..].as_ptr());
        }
    }
}

/// Reads the documents eight tokens at a time and writes their scores; `score` takes an eight into the running maxima of
/// its document, `[blocks][32]`.
#[inline]
pub(super) fn for_each_eight(
    queries: &Queries,
    documents: &[DocumentCodes],
    out: &mut [f32],
    mut score: impl FnMut(&Eight, &mut [[f32; LANES]]),
) {
    let mut maxima = Aligned::<f32>::zeroed(queries.blocks.len() * LANES);
    let mut ahead = Ahead::new(queries.row_bytes, documents);
    let padded = pad_short(queries.row_bytes, documents);
    let mut padded = padded.iter();
    for (document, out) in documents.iter().zip(out.chunks_exact_mut(queries.len())) {
        let tokens = Tokens::new(queries.row_bytes, document, &mut padded);
        maxima.fill(f32::NEG_INFINITY);
        for token in (0..tokens.count()).step_by(EIGHT) {
            ahead.prefetch();
            score(&tokens.eight(token), maxima.as_chunks_mut::<LANES>().0);
        }
        if tokens.count() == 0 {
            out.fill(f32::NEG_INFINITY);
        } else {
            queries.score(&maxima, out);
        }
    }
}

/// A copy of a document of fewer than eight tokens, its first token repeated to make eight.
pub(super) struct Padded {
    codes: Vec<u8>,
    gains: [u16; EIGHT],
    cells: Vec<u16>,
}

/// Copies of those documents, in order.
pub(super) fn pad_short(row_bytes: usize, documents: &[DocumentCodes]) -> Vec<Padded> {
    let short = documents.iter().filter(|document| (1..EIGHT).contains(&document.gains.len()));
    let pad = |document: &DocumentCodes| {
        let tokens: [usize; EIGHT] = std::array::from_fn(|token| (token + document.gains.len()).saturating_sub(EIGHT));
        let codes = tokens.iter().flat_map(|token| &document.codes[token * row_bytes..][..row_bytes]);
        Padded {
            codes: codes.copied().collect(),
            gains: tokens.map(|token| document.gains[token]),
            cells: tokens.iter().filter_map(|&token| document.centroids.get(token).copied()).collect(),
        }
    };
    short.map(pad).collect()
}

/// One document, from which eights are cut.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    codes: &'a [u8],
    gains: &'a [u16],
    cells: &'a [u16],
    row_bytes: usize,
    /// As many as the document has.
    count: usize,
}

impl<'a> Tokens<'a> {
    /// No tokens.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(super) fn none(row_bytes: usize) -> Self {
        Self { codes: &[], gains: &[], cells: &[], row_bytes, count: 0 }
    }

    /// Takes the next of `padded` in place of a short document.
    #[inline]
    pub(super) fn new(
        row_bytes: usize,
        document: &DocumentCodes<'a>,
        padded: &mut std::slice::Iter<'a, Padded>,
    ) -> Self {
        let count = document.gains.len();
        match (1..EIGHT).contains(&count).then(|| padded.next()).flatten() {
            Some(Padded { codes, gains, cells }) => Self { codes, gains, cells, row_bytes, count },
            None => Self { codes: document.codes, gains: document.gains, cells: document.centroids, row_bytes, count },
        }
    }

    /// Tokens of the document.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The eight that holds a token whose number is a multiple of eight.
    #[inline]
    pub(super) fn eight(&self, token: usize) -> Eight<'a> {
        let first = token.min(self.gains.len() - EIGHT);
        Eight {
            codes: &self.codes[first * self.row_bytes..(first + EIGHT) * self.row_bytes],
            gains: self.gains[first..].first_chunk().expect("the last eight ends with the document"),
            cells: self.cells.get(first..first + EIGHT).unwrap_or_default(),
            repeats: (token + EIGHT).saturating_sub(self.count),
        }
    }
}

/// Tokens between those that are read and those that are prefetched meanwhile, at least: 6 KiB of 4-bit codes at depth 128.
const DISTANCE: usize = 96;

/// Walks over later documents, eight tokens at a time.
pub(super) struct Ahead<'a> {
    documents: std::slice::Iter<'a, DocumentCodes<'a>>,
    /// Where the next codes start; never read.
    next: *const u8,
    /// Tokens of the current document still to come.
    tokens: usize,
    row_bytes: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(row_bytes: usize, documents: &'a [DocumentCodes<'a>]) -> Self {
        let mut documents = documents.iter();
        let mut skipped = 0;
        while skipped < DISTANCE
            && let Some(document) = documents.next()
        {
            skipped += document.gains.len();
        }
        Self { documents, next: std::ptr::null(), tokens: 0, row_bytes }
    }

    /// Asks for the codes of eight later tokens.
    ///
    /// A burst of requests would fill the line buffers and gain nothing, so callers spread them over their work.
    #[inline]
    pub(super) fn prefetch(&mut self) {
        if self.tokens == 0 {
            self.enter_next();
        }
        let bytes = EIGHT * self.row_bytes;
        (0..bytes).step_by(64).for_each(|byte| prefetch(self.next.wrapping_add(byte)));
        self.next = self.next.wrapping_add(bytes);
        self.tokens = self.tokens.saturating_sub(EIGHT);
    }

    fn enter_next(&mut self) {
        if let Some(document) = self.documents.find(|document| !document.gains.is_empty()) {
            (self.next, self.tokens) = (document.codes.as_ptr(), document.gains.len());
            (0..document.gains.len()).step_by(32).for_each(|token| prefetch(&raw const document.gains[token]));
            (0..document.centroids.len()).step_by(32).for_each(|token| prefetch(&raw const document.centroids[token]));
        }
    }
}
