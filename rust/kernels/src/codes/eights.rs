//! Documents cut into eights, so that kernels work on full tiles whatever the documents' lengths, and their loops know
//! neither documents nor branches.
//!
//! An eight is eight successive tokens of one document. The last eight of a document ends at its last token and so may
//! repeat tokens of the one before: a maximum does not mind. Documents of fewer than eight tokens are copied, with their
//! first token repeated.

use super::{CodeQuery, DocumentCodes, weighted_sum};
#[cfg(target_arch = "aarch64")]
use crate::aarch64::prefetch;
use crate::aligned::Aligned;
use crate::lanes::LANES;
#[cfg(target_arch = "x86_64")]
use crate::x86::prefetch;

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
    /// Codes of eight tokens that come later, or any other address; never read.
    later: *const u8,
    pub(super) document: usize,
    /// How many of the first tokens have been seen already, or are seen again among the rest.
    pub(super) repeats: usize,
    /// Holds the document's first token.
    pub(super) opens: bool,
    /// Holds the document's last token.
    pub(super) closes: bool,
}

impl Eight<'_> {
    /// Asks for the codes of eight later tokens.
    ///
    /// A burst of requests would fill the line buffers and gain nothing, so callers spread them over their work.
    #[inline]
    pub(super) fn prefetch_later(&self) {
        (0..self.codes.len()).step_by(64).for_each(|byte| prefetch(self.later.wrapping_add(byte)));
    }

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
    query: &CodeQuery,
    documents: &[DocumentCodes],
    out: &mut [f32],
    mut score: impl FnMut(&Eight, &mut [[f32; LANES]]),
) {
    let mut maxima = Aligned::<f32>::zeroed(query.lanes.blocks() * LANES);
    let short = Short::new(query, documents);
    let mut reader = Reader::new(query, documents, &short, out);
    while let Some(eight) = reader.next() {
        if eight.opens {
            maxima.fill(f32::NEG_INFINITY);
        }
        score(&eight, maxima.as_chunks_mut::<LANES>().0);
        if eight.closes {
            out[eight.document] = weighted_sum(&maxima[..query.lanes.tokens()], query.weights);
        }
    }
}

/// Copies of the documents of fewer than eight tokens, in order, each with its first token repeated to make eight.
#[derive(Default)]
pub(super) struct Short {
    codes: Vec<u8>,
    gains: Vec<u16>,
    cells: Vec<u16>,
}

impl Short {
    pub(super) fn new(query: &CodeQuery, documents: &[DocumentCodes]) -> Self {
        let mut short = Self::default();
        for document in documents.iter().filter(|document| (1..EIGHT).contains(&document.gains.len())) {
            let repeats = EIGHT - document.gains.len();
            for token in (0..EIGHT).map(|token| token.saturating_sub(repeats)) {
                short.codes.extend(&document.codes[token * query.row_bytes()..(token + 1) * query.row_bytes()]);
                short.gains.push(document.gains[token]);
                short.cells.extend(document.centroids.get(token));
            }
        }
        short
    }
}

/// Cuts documents into eights.
pub(super) struct Reader<'a> {
    documents: &'a [DocumentCodes<'a>],
    short: &'a Short,
    /// Short documents read.
    short_read: usize,
    row_bytes: usize,
    document: usize,
    token: usize,
    ahead: Ahead<'a>,
}

impl<'a> Reader<'a> {
    /// Starts at the first document; sets the scores of empty ones.
    pub(super) fn new(
        query: &CodeQuery,
        documents: &'a [DocumentCodes<'a>],
        short: &'a Short,
        out: &mut [f32],
    ) -> Self {
        out.fill(f32::NEG_INFINITY);
        let row_bytes = query.row_bytes();
        let ahead = Ahead::new(row_bytes, documents);
        Self { documents, short, short_read: 0, row_bytes, document: 0, token: 0, ahead }
    }

    /// The next eight tokens.
    #[expect(clippy::inline_always, reason = "inlined into functions that enable wider registers")]
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Eight<'a>> {
        let document = loop {
            let document = self.documents.get(self.document)?;
            if !document.gains.is_empty() {
                break document;
            }
            self.document += 1;
        };
        let tokens = document.gains.len();
        let (codes, gains, cells, first) = if tokens < EIGHT {
            self.short_read += 1;
            (&self.short.codes[..], &self.short.gains[..], &self.short.cells[..], (self.short_read - 1) * EIGHT)
        } else {
            (document.codes, document.gains, document.centroids, self.token.min(tokens - EIGHT))
        };
        let closes = self.token + EIGHT >= tokens;
        let eight = Eight {
            codes: &codes[first * self.row_bytes..(first + EIGHT) * self.row_bytes],
            gains: gains[first..].first_chunk()?,
            cells: cells.get(first..first + EIGHT).unwrap_or_default(),
            later: self.ahead.next(),
            repeats: (self.token + EIGHT).saturating_sub(tokens),
            document: self.document,
            opens: self.token == 0,
            closes,
        };
        (self.document, self.token) = if closes { (self.document + 1, 0) } else { (self.document, self.token + EIGHT) };
        Some(eight)
    }
}

/// Tokens between those that are read and those that are prefetched meanwhile, at least: 6 KiB of 4-bit codes at depth 128.
const DISTANCE: usize = 96;

/// Walks over later documents, eight tokens at a time.
struct Ahead<'a> {
    documents: std::slice::Iter<'a, DocumentCodes<'a>>,
    /// Where the next codes start; never read.
    next: *const u8,
    /// Tokens of the current document still to come.
    tokens: usize,
    row_bytes: usize,
}

impl<'a> Ahead<'a> {
    fn new(row_bytes: usize, documents: &'a [DocumentCodes<'a>]) -> Self {
        let mut documents = documents.iter();
        let mut skipped = 0;
        while skipped < DISTANCE
            && let Some(document) = documents.next()
        {
            skipped += document.gains.len();
        }
        Self { documents, next: std::ptr::null(), tokens: 0, row_bytes }
    }

    #[inline]
    fn next(&mut self) -> *const u8 {
        if self.tokens == 0 {
            self.enter_next();
        }
        let now = self.next;
        self.next = now.wrapping_add(EIGHT * self.row_bytes);
        self.tokens = self.tokens.saturating_sub(EIGHT);
        now
    }

    fn enter_next(&mut self) {
        if let Some(document) = self.documents.find(|document| !document.gains.is_empty()) {
            (self.next, self.tokens) = (document.codes.as_ptr(), document.gains.len());
            (0..document.gains.len()).step_by(32).for_each(|token| prefetch(&raw const document.gains[token]));
            (0..document.centroids.len()).step_by(32).for_each(|token| prefetch(&raw const document.centroids[token]));
        }
    }
}
