//! AMX int8: runs of 32 tokens × 32 lanes. While the tiles multiply one run, the vector units decode the next and fold
//! the products of the last.

use super::avx512::{Decoder, fold};
use super::eights::{Ahead, EIGHT, Eight, Padded, Tokens, pad_short};
use super::queries::Queries;
use super::{Bits, DocumentCodes, gain};
use crate::aligned::Aligned;
use crate::lanes::LANES;
use crate::tiles::{ROWS, Session};
use crate::x86::load_i32x16;

/// Eights per run: as many as fill the rows of one product.
const EIGHTS: usize = ROWS / EIGHT;

/// Runs in flight: one is decoded, one multiplied, one waits in the tiles or to be folded, one is folded.
const IN_FLIGHT: usize = 4;

/// Up to 32 successive tokens of one document.
#[derive(Clone, Copy)]
struct Run<'a> {
    tokens: Tokens<'a>,
    start: usize,
    /// None where documents have not begun or have ended.
    eights: usize,
    document: usize,
    /// Holds the document's last token.
    closes: bool,
}

impl<'a> Run<'a> {
    #[inline]
    fn eight(&self, index: usize) -> Eight<'a> {
        self.tokens.eight(self.start + index * EIGHT)
    }
}

/// Cuts documents into runs.
struct Runs<'a> {
    row_bytes: usize,
    documents: std::iter::Enumerate<std::slice::Iter<'a, DocumentCodes<'a>>>,
    padded: std::slice::Iter<'a, Padded>,
    run: Run<'a>,
}

impl<'a> Runs<'a> {
    fn new(row_bytes: usize, documents: &'a [DocumentCodes<'a>], padded: &'a [Padded]) -> Self {
        let run = Run { tokens: Tokens::none(row_bytes), start: 0, eights: 0, document: 0, closes: true };
        Self { row_bytes, documents: documents.iter().enumerate(), padded: padded.iter(), run }
    }

    /// The next run; one of no eights after the last.
    #[inline]
    fn next(&mut self) -> &Run<'a> {
        let run = &mut self.run;
        run.start += ROWS;
        if run.closes {
            (run.start, run.eights) = (0, 0);
            let Some((index, document)) = self.documents.find(|(_, document)| !document.gains.is_empty()) else {
                return run;
            };
            (run.tokens, run.document) = (Tokens::new(self.row_bytes, document, &mut self.padded), index);
        }
        let left = run.tokens.count() - run.start;
        (run.eights, run.closes) = (left.div_ceil(EIGHT).min(EIGHTS), left <= ROWS);
        run
    }
}

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn maxsim(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    // SAFETY: as the caller's.
    unsafe {
        match (queries.depth, queries.bits) {
            (128, Bits::One) => maxsim_at::<1>(queries, documents, out),
            (128, Bits::Two) => maxsim_at::<2>(queries, documents, out),
            (128, Bits::Four) => maxsim_at::<4>(queries, documents, out),
            (128, Bits::Eight) => maxsim_at::<8>(queries, documents, out),
            _ => maxsim_at::<0>(queries, documents, out),
        }
    }
}

/// `BITS` as for [`Decoder::decode`].
///
/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn maxsim_at<const BITS: u8>(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    // SAFETY: as the caller's.
    unsafe {
        if queries.residual() {
            maxsim_with::<BITS, true>(queries, documents, out);
        } else {
            maxsim_with::<BITS, false>(queries, documents, out);
        }
    }
}

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn maxsim_with<const BITS: u8, const CENTROIDS: bool>(
    queries: &Queries,
    documents: &[DocumentCodes],
    out: &mut [f32],
) {
    let &Queries { bits, row_bytes, ref blocks, .. } = queries;
    // Tiles take both sides signed: no offset, and 8-bit codes become levels by flipping the top bit.
    let decoder = Decoder::<true>::new(queries, if bits == Bits::Eight { 0x80 } else { 0 });
    let stride = if BITS > 0 { 128 } else { queries.stride };
    let [mut rows, mut next_rows] = [(); 2].map(|()| Aligned::<u8>::zeroed(decoder.scratch(ROWS)));
    let [mut last_sums, mut older_sums] = [(); 2].map(|()| Aligned::<i32>::zeroed(ROWS * LANES));
    // As floats in memory, because a broadcast from there takes no vector port.
    let mut gains = Aligned::<f32>::zeroed(IN_FLIGHT * ROWS);
    let mut maxima = Aligned::<f32>::zeroed(blocks.len() * LANES);
    let mut ahead = Ahead::new(row_bytes, documents);
    let padded = pad_short(row_bytes, documents);
    let mut runs = Runs::new(row_bytes, documents, &padded);
    let mut flight = [runs.run; IN_FLIGHT];
    out.fill(f32::NEG_INFINITY);
    // SAFETY: the caller vouches for the permission.
    let session = unsafe { Session::start() };

    // Each run is decoded in one round and multiplied, block by block, in the next; a product is stored while the one
    // after it is multiplied, and folded while the one after that is.
    for round in 0.. {
        flight[(round + 1) % IN_FLIGHT] = *runs.next();
        if flight.iter().all(|run| run.eights == 0) {
            break;
        }
        let [now, next] = [0, 1].map(|ahead| &flight[(round + ahead) % IN_FLIGHT]);
        for (place, block) in blocks.iter().enumerate() {
            // Two products back.
            let (back, folded_place) = match place {
                0 | 1 if blocks.len() == 1 => (2, 0),
                0 | 1 => (1, blocks.len() + place - 2),
                _ => (0, place - 2),
            };
            let slot = (round + IN_FLIGHT - back) % IN_FLIGHT;
            let (folded, folded_table) = (&flight[slot], blocks[folded_place].table);
            let best = &mut maxima.as_chunks_mut::<LANES>().0[folded_place];
            if folded.start == 0 {
                best.fill(f32::NEG_INFINITY);
            }
            let sums: &[[[i32; LANES]; EIGHT]; EIGHTS] =
                older_sums.as_chunks().0.as_chunks().0.first_chunk().expect("32 rows");
            let half = now.eights <= EIGHTS / 2;
            session.multiply(&rows, stride, block.values(), half, &mut last_sums, |eights| {
                for index in eights {
                    if place == 0 && index < next.eights {
                        let eight = next.eight(index);
                        decoder.decode::<BITS>(&eight, &mut next_rows[index * EIGHT * stride..]);
                        gains.as_chunks_mut().0[(round + 1) % IN_FLIGHT * EIGHTS + index] = eight.gains.map(gain);
                        ahead.prefetch();
                    }
                    if index < folded.eights {
                        let sum = |token: usize, half: usize| load_i32x16(&sums[index][token][half * 16..]);
                        let gains = &gains.as_chunks().0[slot * EIGHTS + index];
                        fold::<8, CENTROIDS, false>(&folded.eight(index), gains, folded_table, best, sum);
                    }
                    if CENTROIDS && index < now.eights {
                        now.eight(index).prefetch_centroid_scores(block.table);
                    }
                }
            });
            if folded.closes && folded.eights > 0 && folded_place + 1 == blocks.len() {
                queries.score(&maxima, &mut out[folded.document * queries.len()..]);
            }
            std::mem::swap(&mut last_sums, &mut older_sums);
        }
        std::mem::swap(&mut rows, &mut next_rows);
    }
}
