//! AMX int8: batches of 32 tokens × 32 lanes. While the tiles multiply one batch, the vector units decode the next and
//! fold the products of the last.

use super::avx512::{Decoder, fold};
use super::eights::{EIGHT, Eight, Reader, Short};
use super::{Bits, CodeQuery, DocumentCodes, weighted_sum};
use crate::aligned::Aligned;
use crate::lanes::{DEPTH_STEP, LANES};
use crate::tiles::{ROWS, Session};
use crate::x86::load_i32x16;

/// Eights per batch: as many as fill the rows of one product.
const EIGHTS: usize = ROWS / EIGHT;

/// One of the batches in flight.
struct Batch<'a> {
    eights: [Option<Eight<'a>>; EIGHTS],
    /// Which of the batch's documents each eight belongs to.
    slots: [usize; EIGHTS],
    rows: Aligned<u8>,
}

impl<'a> Batch<'a> {
    fn new(scratch: usize) -> Self {
        Self { eights: [None; EIGHTS], slots: [0; EIGHTS], rows: Aligned::zeroed(scratch) }
    }

    /// Takes the next eights; false when there are none.
    #[inline]
    fn read(&mut self, reader: &mut Reader<'a>) -> bool {
        let mut slot = 0;
        for (eight, out) in self.eights.iter_mut().zip(&mut self.slots) {
            *eight = reader.next();
            *out = slot;
            slot += usize::from(eight.is_some_and(|eight| eight.closes));
        }
        !self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.eights[0].is_none()
    }

    fn eights(&self) -> impl Iterator<Item = (&Eight<'a>, usize)> {
        self.eights.iter().flatten().zip(self.slots)
    }
}

/// Running maxima `[slot][block][32]` of a batch's documents; slot 0 starts with what the batch before left open.
struct Maxima {
    values: Aligned<f32>,
    stride: usize,
}

impl Maxima {
    fn new(query: &CodeQuery) -> Self {
        let stride = query.lanes.blocks() * LANES;
        Self { values: Aligned::zeroed(EIGHTS * stride), stride }
    }

    #[inline]
    fn slot(&mut self, slot: usize, block: usize) -> &mut [f32; LANES] {
        let blocks = self.stride / LANES;
        &mut self.values.as_chunks_mut::<LANES>().0[slot * blocks + block]
    }

    /// Makes room for the documents that begin in this batch.
    #[inline]
    fn open(&mut self, batch: &Batch) {
        for (_, slot) in batch.eights().filter(|(eight, _)| eight.opens) {
            self.values[slot * self.stride..(slot + 1) * self.stride].fill(f32::NEG_INFINITY);
        }
    }

    /// Writes the scores of the documents that end in this batch and carries an open one's maxima to the next.
    #[inline]
    fn close(&mut self, batch: &Batch, query: &CodeQuery, out: &mut [f32]) {
        for (eight, slot) in batch.eights().filter(|(eight, _)| eight.closes) {
            let maxima = &self.values[slot * self.stride..][..query.lanes.tokens()];
            out[eight.document] = weighted_sum(maxima, query.weights);
        }
        let (last, slot) = (batch.eights[EIGHTS - 1], batch.slots[EIGHTS - 1]);
        if slot > 0 && last.is_some_and(|last| !last.closes) {
            self.values.copy_within(slot * self.stride..(slot + 1) * self.stride, 0);
        }
    }
}

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn maxsim(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    // SAFETY: as the caller's.
    unsafe {
        if query.rows() == 0 {
            maxsim_with::<false>(query, documents, out);
        } else {
            maxsim_with::<true>(query, documents, out);
        }
    }
}

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn maxsim_with<const CENTROIDS: bool>(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    let lanes = query.lanes;
    // Tiles take both sides signed: no offset, and 8-bit codes become levels by flipping the top bit.
    let decoder = Decoder::new(query, if query.bits == Bits::Eight { 0x80 } else { 0 });
    let (stride, blocks) = (lanes.stored_depth(), lanes.blocks());
    let steps = stride / DEPTH_STEP;
    let mut batches = [(); 3].map(|()| Batch::new(decoder.scratch(ROWS)));
    let [mut last, mut now, mut next] = batches.each_mut();
    let (mut sums, mut last_sums) = (Aligned::<i32>::zeroed(ROWS * LANES), Aligned::<i32>::zeroed(ROWS * LANES));
    let mut maxima = Maxima::new(query);
    let short = Short::new(query, documents);
    let mut reader = Reader::new(query, documents, &short, out);
    // SAFETY: the caller vouches for the permission.
    let session = unsafe { Session::start() };

    // A batch is decoded in one round, multiplied in the next and folded in the one after.
    while next.read(&mut reader) || !now.is_empty() || !last.is_empty() {
        for block in 0..blocks {
            let (folded, folded_block) = if block == 0 { (&*last, blocks - 1) } else { (&*now, block - 1) };
            let (table, folded_table) = (query.table(block), query.table(folded_block));
            let folded_sums = last_sums.as_chunks::<LANES>().0.as_chunks::<EIGHT>().0;
            session.multiply(&now.rows, stride, lanes.block(block), steps, &mut sums, |eights| {
                for index in eights {
                    if block == 0
                        && let Some(eight) = &next.eights[index]
                    {
                        decoder.decode(eight, &mut next.rows[index * EIGHT * stride..]);
                        eight.prefetch_later();
                    }
                    if let Some(eight) = &folded.eights[index] {
                        let sums = &folded_sums[index];
                        let sum = |token: usize, half: usize| load_i32x16(&sums[token][half * 16..]);
                        let best = maxima.slot(folded.slots[index], folded_block);
                        fold::<8, CENTROIDS, false>(eight, folded_table, best, sum);
                    }
                    if CENTROIDS && let Some(eight) = &now.eights[index] {
                        eight.prefetch_centroid_scores(table);
                    }
                }
            });
            if block == 0 {
                maxima.close(last, query, out);
                maxima.open(now);
            }
            std::mem::swap(&mut sums, &mut last_sums);
        }
        (last, now, next) = (now, next, last);
    }
}
