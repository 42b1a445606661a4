//! AMX int8: runs of 32 tokens × 32 lanes. While the tiles multiply one run, the vector units decode the next and fold
//! the products of the last.

use super::avx512::{Decoder, fold};
use super::eights::{Ahead, EIGHT, Padded, Tokens, pad_short};
use super::{Bits, CodeQuery, DocumentCodes, weighted_sum};
use crate::aligned::Aligned;
use crate::lanes::{DEPTH_STEP, LANES};
use crate::tiles::{ROWS, Session};
use crate::x86::load_i32x16;

/// Eights per run: as many as fill the rows of one product.
const EIGHTS: usize = ROWS / EIGHT;

/// Up to 32 successive tokens of one document.
#[derive(Clone, Copy)]
struct Run<'a> {
    tokens: Tokens<'a>,
    start: usize,
    eights: usize,
    document: usize,
    /// Holds the document's last token.
    closes: bool,
}

/// Cuts documents into runs.
struct Runs<'a> {
    query: &'a CodeQuery<'a>,
    documents: std::iter::Enumerate<std::slice::Iter<'a, DocumentCodes<'a>>>,
    padded: std::slice::Iter<'a, Padded>,
    run: Option<Run<'a>>,
}

impl<'a> Runs<'a> {
    #[inline]
    fn next(&mut self) -> Option<Run<'a>> {
        let (tokens, start, document) = match self.run {
            Some(run) if !run.closes => (run.tokens, run.start + ROWS, run.document),
            _ => {
                let (index, document) = self.documents.find(|(_, document)| !document.gains.is_empty())?;
                (Tokens::new(self.query, document, &mut self.padded), 0, index)
            }
        };
        let left = tokens.count() - start;
        let run = Run { tokens, start, eights: left.div_ceil(EIGHT).min(EIGHTS), document, closes: left <= ROWS };
        self.run = Some(run);
        Some(run)
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
    let (mut last, mut now): (Option<Run>, Option<Run>) = (None, None);
    let [mut rows, mut next_rows] = [(); 2].map(|()| Aligned::<u8>::zeroed(decoder.scratch(ROWS)));
    let (mut sums, mut last_sums) = (Aligned::<i32>::zeroed(ROWS * LANES), Aligned::<i32>::zeroed(ROWS * LANES));
    let mut maxima = Aligned::<f32>::zeroed(blocks * LANES);
    let mut ahead = Ahead::new(query, documents);
    let padded = pad_short(query, documents);
    let mut runs = Runs { query, documents: documents.iter().enumerate(), padded: padded.iter(), run: None };
    out.fill(f32::NEG_INFINITY);
    // SAFETY: the caller vouches for the permission.
    let session = unsafe { Session::start() };

    // A run is decoded in one round, multiplied in the next and folded in the one after.
    loop {
        let next = runs.next();
        if next.is_none() && now.is_none() && last.is_none() {
            break;
        }
        for block in 0..blocks {
            let (folded, folded_block) = if block == 0 { (last, blocks - 1) } else { (now, block - 1) };
            let (table, folded_table) = (query.table(block), query.table(folded_block));
            let folded_sums: &[[[i32; LANES]; EIGHT]; EIGHTS] =
                last_sums.as_chunks().0.as_chunks().0.first_chunk().expect("32 rows");
            let best = &mut maxima.as_chunks_mut::<LANES>().0[folded_block];
            if folded.is_some_and(|run| run.start == 0) {
                best.fill(f32::NEG_INFINITY);
            }
            session.multiply(&rows, stride, lanes.block(block), steps, &mut sums, |eights| {
                for index in eights {
                    if block == 0
                        && let Some(run) = &next
                        && index < run.eights
                    {
                        decoder.decode(
                            &run.tokens.eight(run.start + index * EIGHT),
                            &mut next_rows[index * EIGHT * stride..],
                        );
                        ahead.prefetch();
                    }
                    if let Some(run) = &folded
                        && index < run.eights
                    {
                        let sums = &folded_sums[index];
                        let sum = |token: usize, half: usize| load_i32x16(&sums[token][half * 16..]);
                        fold::<8, CENTROIDS, false>(
                            &run.tokens.eight(run.start + index * EIGHT),
                            folded_table,
                            best,
                            sum,
                        );
                    }
                    if CENTROIDS
                        && let Some(run) = &now
                        && index < run.eights
                    {
                        run.tokens.eight(run.start + index * EIGHT).prefetch_centroid_scores(table);
                    }
                }
            });
            if block == 0
                && let Some(run) = &last
                && run.closes
            {
                out[run.document] = weighted_sum(&maxima[..lanes.tokens()], query.weights);
            }
            std::mem::swap(&mut sums, &mut last_sums);
        }
        (last, now) = (now, next);
        std::mem::swap(&mut rows, &mut next_rows);
    }
}
