//! `vpdpbusd` on 512-bit registers: tiles of 8 tokens × 32 lanes, sixteen sums in registers.

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_add_epi8, _mm512_add_ps, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_broadcast_i64x4, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_si512,
    _mm512_maskz_loadu_epi8, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_srlv_epi32, _mm512_xor_si512,
};

use super::batch::{Ahead, BATCH, Batch, Maxima, Reader, prefetch};
use super::{Bits, CodeQuery, DocumentCodes};
use crate::aligned::Aligned;
use crate::lanes::LANES;
use crate::x86::{load_f32x16, load_i32x16, load_u8x64, store_f32x16, store_i32x16, store_u8x64};

/// Tokens per tile.
const TILE: usize = 8;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn maxsim(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    let lanes = query.lanes;
    // `vpdpbusd` wants one side unsigned: levels are raised by `offset`, and offset · Σ q is taken off at the start.
    let offset = if query.bits == Bits::Eight { 128 } else { 32 };
    let decoder = Decoder::new(query, if query.bits == Bits::Eight { 0 } else { 32 });
    let starts: Vec<_> = (0..lanes.blocks()).map(|block| lanes.sums(block).map(|sum| -offset * sum)).collect();
    let stride = lanes.stored_depth();
    let mut rows = Aligned::zeroed(decoder.scratch());
    let mut sums = Aligned::<i32>::zeroed(BATCH * LANES);
    let mut maxima = Maxima::new(query);
    let mut batch = Batch::new();
    let mut ahead = Ahead::new(query, documents);
    let mut reader = Reader::new(query, documents, out);
    while reader.next(&mut batch) {
        prefetch_centroids(query, &batch);
        decoder.decode::<false>(&batch, &mut rows, &mut ahead);
        for (block, start) in starts.iter().enumerate() {
            for tile in 0..batch.tokens.div_ceil(TILE) {
                if block == 0 {
                    (0..TILE).for_each(|_| ahead.touch());
                }
                let rows = &rows[tile * TILE * stride..];
                let sums = &mut sums.as_chunks_mut::<LANES>().0.as_chunks_mut::<TILE>().0[tile];
                dot_tile(rows, stride, lanes.block(block), lanes.depth(), start, sums);
            }
            fold(query, &batch, &sums, block, &mut maxima);
        }
        batch.finish(query, &mut maxima, out);
    }
}

/// Asks for the rows of centroid scores that [`fold`] will add.
#[inline]
pub(super) fn prefetch_centroids(query: &CodeQuery, batch: &Batch) {
    if !query.centroid_scores.is_empty() {
        let rows = query.rows();
        for block in 0..query.lanes.blocks() {
            for &cell in &batch.cells[..batch.tokens] {
                let row = (block * rows + cell as usize) * LANES;
                prefetch(&raw const query.centroid_scores[row]);
                prefetch(&raw const query.centroid_scores[row + 16]);
            }
        }
    }
}

/// Sums of products of 8 tokens, `stride` bytes apart, with one block of the query.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_tile(
    rows: &[u8],
    stride: usize,
    lanes: &[i8],
    depth: usize,
    start: &[i32; LANES],
    out: &mut [[i32; LANES]; TILE],
) {
    assert!(rows.len() >= (TILE - 1) * stride + depth && lanes.len() >= depth * LANES && depth.is_multiple_of(4));
    let mut sums = [[load_i32x16(start), load_i32x16(&start[16..])]; TILE];
    for four in 0..depth / 4 {
        // SAFETY: (four + 1) · 128 ≤ lanes.len(), asserted above.
        let query = unsafe {
            let query = lanes.as_ptr().add(four * 4 * LANES);
            [_mm512_loadu_si512(query.cast()), _mm512_loadu_si512(query.add(64).cast())]
        };
        for (token, sums) in sums.iter_mut().enumerate() {
            // SAFETY: token · stride + 4 · four + 4 ≤ rows.len(), asserted above.
            let value = unsafe { rows.as_ptr().add(token * stride + 4 * four).cast::<i32>().read_unaligned() };
            let value = _mm512_set1_epi32(value);
            sums[0] = _mm512_dpbusd_epi32(sums[0], value, query[0]);
            sums[1] = _mm512_dpbusd_epi32(sums[1], value, query[1]);
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        store_i32x16(out, sums[0]);
        store_i32x16(&mut out[16..], sums[1]);
    }
}

/// Turns the sums of a batch into values and takes them into the maxima of each run.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn fold(query: &CodeQuery, batch: &Batch, sums: &[i32], block: usize, maxima: &mut Maxima) {
    if query.centroid_scores.is_empty() {
        fold_with::<false>(&[], batch, sums, block, maxima);
    } else {
        let rows = query.rows();
        let table = &query.centroid_scores.as_chunks::<LANES>().0[block * rows..][..rows];
        fold_with::<true>(table, batch, sums, block, maxima);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn fold_with<const CENTROIDS: bool>(
    table: &[[f32; LANES]],
    batch: &Batch,
    sums: &[i32],
    block: usize,
    maxima: &mut Maxima,
) {
    let sums = sums.as_chunks::<LANES>().0;
    for (index, run) in batch.runs.iter().enumerate() {
        let slot = maxima.slot(index, block);
        let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
        let mut best = if run.opens { [lowest; 2] } else { [load_f32x16(slot.as_slice()), load_f32x16(&slot[16..])] };
        let tokens = run.start..run.start + run.tokens;
        let tokens = sums[tokens.clone()].iter().zip(&batch.gains[tokens.clone()]).zip(&batch.cells[tokens]);
        for ((sums, &gain), &cell) in tokens {
            let gain = _mm512_set1_ps(gain);
            for (half, best) in best.iter_mut().enumerate() {
                let mut value = _mm512_mul_ps(_mm512_cvtepi32_ps(load_i32x16(&sums[half * 16..])), gain);
                if CENTROIDS {
                    value = _mm512_add_ps(load_f32x16(&table[cell as usize][half * 16..]), value);
                }
                *best = _mm512_max_ps(value, *best);
            }
        }
        store_f32x16(slot, best[0]);
        store_f32x16(&mut slot[16..], best[1]);
    }
}

/// Turns codes into bytes.
pub(super) struct Decoder {
    bits: Bits,
    row_bytes: usize,
    stride: usize,
    /// Level of each code, raised by the offset, four times over; for 8 bits what is flipped in each byte.
    levels: __m512i,
    mask: __m512i,
    /// Shifts that bring the planes of each output register to the low bits.
    shifts: [__m512i; 8],
    /// Output registers per 64 (or 32 or 16, broadcast) bytes of codes.
    outputs: usize,
}

impl Decoder {
    /// `offset` is added to each level below 8 bits, and flips bits (0 or 128) of each code at 8.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new(query: &CodeQuery, offset: u8) -> Self {
        let (bits, row_bytes) = (query.bits, query.row_bytes());
        let raise = _mm512_set1_epi8(offset.cast_signed());
        let levels = if bits == Bits::Eight {
            raise
        } else {
            // SAFETY: 16 readable bytes.
            let levels = unsafe { _mm_loadu_si128(query.levels.as_ptr().cast()) };
            _mm512_add_epi8(_mm512_broadcast_i32x4(levels), raise)
        };
        let mask = _mm512_set1_epi8(((1_u32 << bits.get()) - 1) as i8);
        // An output register holds 64 / row_bytes planes if rows are 16 or 32 bytes, else one.
        let planes_per_output = if row_bytes == 16 || row_bytes == 32 { 64 / row_bytes } else { 1 };
        let shifts = std::array::from_fn(|output| {
            let shifts: [i32; 16] = std::array::from_fn(|dword| {
                let plane = output * planes_per_output + dword * planes_per_output / 16;
                (plane * usize::from(bits.get())) as i32 & 31
            });
            load_i32x16(&shifts)
        });
        let outputs = bits.planes().div_ceil(planes_per_output);
        Self { bits, row_bytes, stride: query.lanes.stored_depth(), levels, mask, shifts, outputs }
    }

    /// Bytes of scratch for one batch: a register may be written past the end of the last row.
    pub(super) fn scratch(&self) -> usize {
        BATCH * self.stride + 64
    }

    /// Decodes a batch into rows `stride` bytes apart, prefetching one later token for each if `TOUCH`.
    ///
    /// Bytes past the depth are arbitrary: the query is zero there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn decode<const TOUCH: bool>(&self, batch: &Batch, rows: &mut [u8], ahead: &mut Ahead) {
        for run in &batch.runs {
            let rows = &mut rows[run.start * self.stride..];
            match (self.bits, self.row_bytes, self.outputs) {
                (Bits::Eight, row, _) if row == self.stride => self.decode_bytes::<TOUCH>(run.codes, rows, ahead),
                (Bits::Eight, ..) => self.decode_any::<TOUCH>(run.codes, rows, ahead),
                (Bits::Four, 64, _) => self.decode_nibbles::<TOUCH>(run.codes, rows, ahead),
                (_, 16, 1) => self.decode_spread::<16, 1, TOUCH>(run.codes, rows, ahead),
                (_, 16, 2) => self.decode_spread::<16, 2, TOUCH>(run.codes, rows, ahead),
                (_, 32, 1) => self.decode_spread::<32, 1, TOUCH>(run.codes, rows, ahead),
                (_, 32, 2) => self.decode_spread::<32, 2, TOUCH>(run.codes, rows, ahead),
                (_, 32, 4) => self.decode_spread::<32, 4, TOUCH>(run.codes, rows, ahead),
                _ => self.decode_any::<TOUCH>(run.codes, rows, ahead),
            }
        }
    }

    /// 8-bit codes whose rows follow each other as the scratch rows do.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn decode_bytes<const TOUCH: bool>(&self, codes: &[u8], rows: &mut [u8], ahead: &mut Ahead) {
        for (codes, out) in codes.chunks_exact(self.row_bytes).zip(rows.chunks_exact_mut(self.stride)) {
            for (codes, out) in codes.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<64>().0) {
                store_u8x64(out, _mm512_xor_si512(load_u8x64(codes), self.levels));
            }
            if TOUCH {
                ahead.touch();
            }
        }
    }

    /// 4-bit codes at depth 128: one register in, two out.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn decode_nibbles<const TOUCH: bool>(&self, codes: &[u8], rows: &mut [u8], ahead: &mut Ahead) {
        for (codes, out) in codes.as_chunks::<64>().0.iter().zip(rows.as_chunks_mut::<128>().0) {
            let codes = load_u8x64(codes);
            let low = _mm512_and_si512(codes, self.mask);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), self.mask);
            store_u8x64(out, _mm512_shuffle_epi8(self.levels, low));
            store_u8x64(&mut out[64..], _mm512_shuffle_epi8(self.levels, high));
            if TOUCH {
                ahead.touch();
            }
        }
    }

    /// Rows of 16 or 32 bytes: spread over a register, so that each output holds four or two planes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn decode_spread<const ROW: usize, const OUTPUTS: usize, const TOUCH: bool>(
        &self,
        codes: &[u8],
        rows: &mut [u8],
        ahead: &mut Ahead,
    ) {
        let rows = rows.as_chunks_mut::<64>().0.as_chunks_mut::<OUTPUTS>().0;
        for (codes, out) in codes.as_chunks::<ROW>().0.iter().zip(rows) {
            let codes = if ROW == 16 {
                // SAFETY: 16 readable bytes, by the type.
                _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
            } else {
                // SAFETY: 32 readable bytes, by the type.
                _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) })
            };
            for (output, out) in out.iter_mut().enumerate() {
                store_u8x64(out, self.levels_of(codes, self.shifts[output]));
            }
            if TOUCH {
                ahead.touch();
            }
        }
    }

    /// Any width and depth, one plane after the other.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn decode_any<const TOUCH: bool>(&self, codes: &[u8], rows: &mut [u8], ahead: &mut Ahead) {
        for (token, codes) in codes.chunks_exact(self.row_bytes).enumerate() {
            let out = &mut rows[token * self.stride..];
            for (plane, &shifts) in self.shifts[..self.outputs].iter().enumerate() {
                for (start, codes) in (0..).step_by(64).zip(codes.chunks(64)) {
                    let codes = load_up_to_64(codes);
                    let eight = self.bits == Bits::Eight;
                    let levels =
                        if eight { _mm512_xor_si512(codes, self.levels) } else { self.levels_of(codes, shifts) };
                    // What a register writes past its plane, the next one overwrites.
                    store_u8x64(&mut out[plane * self.row_bytes + start..], levels);
                }
            }
            if TOUCH {
                ahead.touch();
            }
        }
    }

    /// Bits of each byte at `shifts`, looked up. A shift of whole dwords brings foreign bits only above the mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn levels_of(&self, codes: __m512i, shifts: __m512i) -> __m512i {
        let codes = _mm512_and_si512(_mm512_srlv_epi32(codes, shifts), self.mask);
        _mm512_shuffle_epi8(self.levels, codes)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_up_to_64(codes: &[u8]) -> __m512i {
    match codes.len() {
        0 => _mm512_setzero_si512(),
        length @ 1..64 => {
            // SAFETY: only the masked bytes are read, and the slice holds them.
            unsafe { _mm512_maskz_loadu_epi8(u64::MAX >> (64 - length), codes.as_ptr().cast()) }
        }
        _ => load_u8x64(codes),
    }
}
