//! Tokens of successive documents in batches, so that kernels work on full tiles whatever the documents' lengths.

use super::{CodeQuery, DocumentCodes, weighted_sum};
use crate::aligned::Aligned;
use crate::lanes::LANES;

/// Tokens per batch: four tiles of the AVX-512 kernel, two tiles of AMX; decoded at depth 128 they take 4 KiB.
pub(super) const BATCH: usize = 32;

/// Successive tokens of one document inside a batch.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) document: usize,
    /// Position of the first token in the batch.
    pub(super) start: usize,
    pub(super) tokens: usize,
    pub(super) codes: &'a [u8],
    /// Holds the document's first token.
    pub(super) opens: bool,
    /// Holds the document's last token.
    pub(super) closes: bool,
}

/// Up to [`BATCH`] tokens: their codes, and what a sum of products needs to become a value.
#[repr(C, align(64))]
pub(super) struct Batch<'a> {
    pub(super) gains: [f32; BATCH],
    /// Row of the table of centroid scores; below `rows` always, 0 for the flat codec.
    pub(super) cells: [u32; BATCH],
    pub(super) runs: Vec<Run<'a>>,
    pub(super) tokens: usize,
}

impl Batch<'_> {
    pub(super) fn new() -> Self {
        Self { gains: [0.0; BATCH], cells: [0; BATCH], runs: Vec::with_capacity(BATCH), tokens: 0 }
    }

    /// Writes the scores of the documents that end in this batch and carries the open one's maxima to the next.
    pub(super) fn finish(&self, query: &CodeQuery, maxima: &mut Maxima, out: &mut [f32]) {
        for (index, run) in self.runs.iter().enumerate() {
            if run.closes {
                let maxima = &maxima.values[index * maxima.stride..][..query.lanes.tokens()];
                out[run.document] = weighted_sum(maxima, query.weights);
            }
        }
        if let Some((index, run)) = self.runs.iter().enumerate().next_back()
            && index > 0
            && !run.closes
        {
            maxima.values.copy_within(index * maxima.stride..(index + 1) * maxima.stride, 0);
        }
    }
}

/// Running maxima `[run][block][32]`; run 0 starts with what the batch before left open.
pub(super) struct Maxima {
    values: Aligned<f32>,
    stride: usize,
}

impl Maxima {
    pub(super) fn new(query: &CodeQuery) -> Self {
        let stride = query.lanes.blocks() * LANES;
        Self { values: Aligned::zeroed(BATCH * stride), stride }
    }

    #[inline]
    pub(super) fn slot(&mut self, run: usize, block: usize) -> &mut [f32; LANES] {
        let blocks = self.stride / LANES;
        &mut self.values.as_chunks_mut::<LANES>().0[run * blocks + block]
    }
}

/// Cuts documents into batches.
pub(super) struct Reader<'a> {
    documents: &'a [DocumentCodes<'a>],
    row_bytes: usize,
    rows: usize,
    document: usize,
    token: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first document; sets the scores of empty ones.
    pub(super) fn new(query: &'a CodeQuery<'a>, documents: &'a [DocumentCodes<'a>], out: &mut [f32]) -> Self {
        out.fill(f32::NEG_INFINITY);
        Self { documents, row_bytes: query.row_bytes(), rows: query.rows(), document: 0, token: 0 }
    }

    /// Fills `batch` with the next tokens; false when there are none.
    #[inline]
    pub(super) fn next(&mut self, batch: &mut Batch<'a>) -> bool {
        batch.runs.clear();
        batch.tokens = 0;
        while batch.tokens < BATCH
            && let Some(document) = self.documents.get(self.document)
        {
            let length = document.gains.len();
            let (first, start) = (self.token, batch.tokens);
            let tokens = (length - first).min(BATCH - start);
            let closes = first + tokens == length;
            if tokens > 0 {
                for (out, &gain) in batch.gains[start..].iter_mut().zip(&document.gains[first..first + tokens]) {
                    *out = super::gain(gain);
                }
                if self.rows > 0 {
                    let last = (self.rows - 1) as u32;
                    for (out, &cell) in batch.cells[start..].iter_mut().zip(&document.centroids[first..first + tokens])
                    {
                        *out = u32::from(cell).min(last);
                    }
                }
                let codes = &document.codes[first * self.row_bytes..][..tokens * self.row_bytes];
                batch.runs.push(Run { document: self.document, start, tokens, codes, opens: first == 0, closes });
                batch.tokens += tokens;
            }
            (self.document, self.token) = if closes { (self.document + 1, 0) } else { (self.document, first + tokens) };
        }
        batch.tokens > 0
    }
}

/// Tokens between the one that is decoded and the one that is prefetched, at least: 6 KiB of 4-bit codes at depth 128.
const DISTANCE: usize = 96;

/// Walks over later documents and asks for their cache lines, one token for each token that is decoded.
///
/// A burst of requests would fill the line buffers and gain nothing, so callers spread [`Ahead::touch`] over their work.
pub(super) struct Ahead<'a> {
    documents: std::slice::Iter<'a, DocumentCodes<'a>>,
    /// Where the next token to ask for starts; never read.
    next: *const u8,
    /// Tokens of the current document still to ask for.
    tokens: usize,
    row_bytes: usize,
    row_lines: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(query: &CodeQuery, documents: &'a [DocumentCodes<'a>]) -> Self {
        let mut documents = documents.iter();
        let mut skipped = 0;
        while skipped < DISTANCE
            && let Some(document) = documents.next()
        {
            skipped += document.gains.len();
        }
        let row_bytes = query.row_bytes();
        Self { documents, next: std::ptr::null(), tokens: 0, row_bytes, row_lines: row_bytes.div_ceil(64) }
    }

    /// Asks for the codes of one token.
    #[inline]
    pub(super) fn touch(&mut self) {
        if self.tokens == 0 && !self.enter_next() {
            return;
        }
        for line in 0..self.row_lines {
            prefetch(self.next.wrapping_add(line * 64));
        }
        self.next = self.next.wrapping_add(self.row_bytes);
        self.tokens -= 1;
    }

    #[cold]
    fn enter_next(&mut self) -> bool {
        let Some(document) = self.documents.find(|document| !document.gains.is_empty()) else {
            return false;
        };
        (self.next, self.tokens) = (document.codes.as_ptr(), document.gains.len());
        (0..document.gains.len()).step_by(32).for_each(|token| prefetch(&raw const document.gains[token]));
        (0..document.centroids.len()).step_by(32).for_each(|token| prefetch(&raw const document.centroids[token]));
        true
    }
}

/// Asks for the cache line of an address, any address.
#[inline]
pub(super) fn prefetch<T>(address: *const T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing and faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}
