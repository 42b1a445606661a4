//! AMX int8: batches of 32 tokens × 32 lanes, the next batch decoded and the last one folded while tiles multiply.

use super::avx512::{Decoder, fold, prefetch_centroids};
use super::batch::{Ahead, BATCH, Batch, Maxima, Reader};
use super::{Bits, CodeQuery, DocumentCodes};
use crate::aligned::Aligned;
use crate::lanes::{DEPTH_STEP, LANES};
use crate::tiles::{ROWS, Session};

/// One of the two batches in flight.
struct Stage<'a> {
    batch: Batch<'a>,
    rows: Aligned<u8>,
}

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn maxsim(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    const { assert!(BATCH == ROWS) };
    let lanes = query.lanes;
    // Tiles take both sides signed: no offset, and 8-bit codes become levels by flipping the top bit.
    let decoder = Decoder::new(query, if query.bits == Bits::Eight { 0x80 } else { 0 });
    let (stride, blocks) = (lanes.stored_depth(), lanes.blocks());
    let new_stage = || Stage { batch: Batch::new(), rows: Aligned::zeroed(decoder.scratch()) };
    let (mut now, mut next) = (new_stage(), new_stage());
    let (mut sums, mut last_sums) = (Aligned::<i32>::zeroed(BATCH * LANES), Aligned::<i32>::zeroed(BATCH * LANES));
    let mut maxima = Maxima::new(query);
    let mut ahead = Ahead::new(query, documents);
    let mut reader = Reader::new(query, documents, out);
    // SAFETY: the caller vouches for the permission.
    let session = unsafe { Session::start() };

    let mut more = reader.next(&mut now.batch);
    decoder.decode::<true>(&now.batch, &mut now.rows, &mut ahead);
    while more {
        prefetch_centroids(query, &now.batch);
        more = reader.next(&mut next.batch);
        for block in 0..blocks {
            session.multiply(&now.rows, stride, lanes.block(block), stride / DEPTH_STEP, &mut sums);
            if block > 0 {
                fold(query, &now.batch, &last_sums, block - 1, &mut maxima);
            }
            std::mem::swap(&mut sums, &mut last_sums);
        }
        decoder.decode::<true>(&next.batch, &mut next.rows, &mut ahead);
        if blocks > 0 {
            fold(query, &now.batch, &last_sums, blocks - 1, &mut maxima);
        }
        now.batch.finish(query, &mut maxima, out);
        std::mem::swap(&mut now, &mut next);
    }
}
