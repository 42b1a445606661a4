//! 256-bit kernels: `maddubs` (AVX2) and `vpdpbusd` (AVX-VNNI).

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_dpbusd_avx_epi32,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_maskload_epi32, _mm256_max_ps, _mm256_mul_ps,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_shuffle_epi8,
    _mm256_srlv_epi32, _mm256_sub_epi16,
};

use super::batch::{Ahead, BATCH, Batch, Maxima, Reader};
use super::{Bits, CodeQuery, DocumentCodes};
use crate::aligned::Aligned;
use crate::lanes::LANES;
use crate::x86::{dots_i16, load_f32x8, load_i32x8, load_u8x32, store_f32x8, store_i32x8, store_u8x32};

/// What is added to levels so that they are unsigned.
const OFFSET: i32 = 32;

#[target_feature(enable = "avx2,fma")]
pub(super) fn maxsim(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    if query.bits == Bits::Eight {
        return maxsim_eight(query, documents, out);
    }
    let lanes = query.lanes;
    let (stride, depth) = (lanes.stored_depth(), lanes.depth());
    let starts: Vec<_> = (0..lanes.blocks()).map(|block| lanes.sums(block).map(|sum| -OFFSET * sum)).collect();
    let mut work = Work::new(query, documents, out);
    while work.read() {
        work.decode();
        for (block, start) in starts.iter().enumerate() {
            for token in 0..work.batch.tokens {
                work.touch(block, 1);
                let sums = dot_maddubs(&work.rows[token * stride..], lanes.block(block), depth, start);
                store_sums(&[sums], &mut work.sums[token * LANES..]);
            }
            work.fold(block);
        }
        work.batch.finish(query, &mut work.maxima, out);
    }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn maxsim_vnni(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    let lanes = query.lanes;
    let (stride, depth) = (lanes.stored_depth(), lanes.depth());
    let offset = if query.bits == Bits::Eight { 128 } else { OFFSET };
    let starts: Vec<_> = (0..lanes.blocks()).map(|block| lanes.sums(block).map(|sum| -offset * sum)).collect();
    let mut work = Work::new(query, documents, out);
    while work.read() {
        work.decode();
        for (block, start) in starts.iter().enumerate() {
            for three in 0..work.batch.tokens.div_ceil(3) {
                work.touch(block, 3);
                let rows = &work.rows[three * 3 * stride..];
                let sums = dot_vnni(rows, stride, lanes.block(block), depth, start);
                store_sums(&sums, &mut work.sums[three * 3 * LANES..]);
            }
            work.fold(block);
        }
        work.batch.finish(query, &mut work.maxima, out);
    }
}

/// 8-bit codes leave `maddubs` no room, so both sides are widened to i16.
#[target_feature(enable = "avx2,fma")]
fn maxsim_eight(query: &CodeQuery, documents: &[DocumentCodes], out: &mut [f32]) {
    let lanes = query.lanes;
    let (stride, depth) = (lanes.stored_depth(), lanes.depth());
    let mut pairs = Aligned::<i16>::zeroed(lanes.blocks() * stride * LANES);
    let blocks = pairs.chunks_exact_mut(stride * LANES);
    blocks.enumerate().for_each(|(block, out)| lanes.widen_block(block, out));
    let mut wide = Aligned::<i16>::zeroed((BATCH + 1) * stride);
    let mut work = Work::new(query, documents, out);
    while work.read() {
        widen_codes(&work.batch, depth, stride, &mut wide);
        for block in 0..lanes.blocks() {
            let pairs = &pairs[block * stride * LANES..];
            for pair in 0..work.batch.tokens.div_ceil(2) {
                work.touch(block, 2);
                let sums = dots_i16::<2>(pairs, &wide[pair * 2 * stride..], stride, depth);
                store_sums(&sums, &mut work.sums[pair * 2 * LANES..]);
            }
            work.fold(block);
        }
        work.batch.finish(query, &mut work.maxima, out);
    }
}

/// 8-bit codes of a batch as i16 levels, `stride` apart.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_codes(batch: &Batch, depth: usize, stride: usize, out: &mut [i16]) {
    let codes = batch.runs.iter().flat_map(|run| run.codes.chunks_exact(depth));
    for (codes, out) in codes.zip(out.chunks_exact_mut(stride)) {
        for (codes, out) in codes.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0) {
            // SAFETY: 16 readable and 16 · 2 writable bytes, by the types.
            unsafe {
                let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes.as_ptr().cast()));
                let wide = _mm256_sub_epi16(wide, _mm256_set1_epi16(128));
                std::arch::x86_64::_mm256_storeu_si256(out.as_mut_ptr().cast(), wide);
            }
        }
    }
}

/// Sums of products of one token with one block of the query; the query comes from L1 as memory operands.
///
/// Levels are 0..=64 and query values within ±127: two `maddubs` results add up to at most 4 · 64 · 127 = 32,512.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_maddubs(row: &[u8], lanes: &[i8], depth: usize, start: &[i32; LANES]) -> [__m256i; 4] {
    assert!(row.len() >= depth && lanes.len() >= depth * LANES && depth.is_multiple_of(8));
    let ones = _mm256_set1_epi16(1);
    let mut sums: [__m256i; 4] = [0, 8, 16, 24].map(|lane| load_i32x8(&start[lane..]));
    for eight in 0..depth / 8 {
        // Two loads, not one of eight bytes: a broadcast from memory costs no vector port.
        let value = |four: usize| {
            // SAFETY: 8 · eight + 4 · four + 4 ≤ row.len(), asserted above.
            _mm256_set1_epi32(unsafe { row.as_ptr().add(8 * eight + 4 * four).cast::<i32>().read_unaligned() })
        };
        let values = [value(0), value(1)];
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: (eight + 1) · 256 ≤ lanes.len(), asserted above.
            let query = unsafe {
                let query = lanes.as_ptr().add(eight * 8 * LANES + part * 32);
                [_mm256_loadu_si256(query.cast()), _mm256_loadu_si256(query.add(4 * LANES).cast())]
            };
            let first = _mm256_maddubs_epi16(values[0], query[0]);
            let second = _mm256_maddubs_epi16(values[1], query[1]);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_add_epi16(first, second), ones));
        }
    }
    sums
}

/// Sums of products of three tokens, `stride` bytes apart, with one block of the query: twelve sums in registers.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot_vnni(rows: &[u8], stride: usize, lanes: &[i8], depth: usize, start: &[i32; LANES]) -> [[__m256i; 4]; 3] {
    assert!(rows.len() >= 2 * stride + depth && lanes.len() >= depth * LANES && depth.is_multiple_of(4));
    let start: [__m256i; 4] = [0, 8, 16, 24].map(|lane| load_i32x8(&start[lane..]));
    let mut sums = [start; 3];
    for four in 0..depth / 4 {
        for (token, sums) in sums.iter_mut().enumerate() {
            // SAFETY: token · stride + 4 · four + 4 ≤ rows.len(), asserted above.
            let value = unsafe { rows.as_ptr().add(token * stride + 4 * four).cast::<i32>().read_unaligned() };
            let value = _mm256_set1_epi32(value);
            for (part, sum) in sums.iter_mut().enumerate() {
                // SAFETY: (four + 1) · 128 ≤ lanes.len(), asserted above.
                let query = unsafe { _mm256_loadu_si256(lanes.as_ptr().add(four * 4 * LANES + part * 32).cast()) };
                *sum = _mm256_dpbusd_avx_epi32(*sum, value, query);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_sums<const TOKENS: usize>(sums: &[[__m256i; 4]; TOKENS], out: &mut [i32]) {
    let out = &mut out.as_chunks_mut::<LANES>().0.as_chunks_mut::<TOKENS>().0[0];
    for (sums, out) in sums.iter().zip(out) {
        for (part, &sum) in sums.iter().enumerate() {
            store_i32x8(&mut out[part * 8..], sum);
        }
    }
}

/// The scratch of one call, and the steps that both kernels share.
struct Work<'a> {
    query: &'a CodeQuery<'a>,
    decoder: Decoder,
    rows: Aligned<u8>,
    sums: Aligned<i32>,
    maxima: Maxima,
    batch: Batch<'a>,
    reader: Reader<'a>,
    ahead: Ahead<'a>,
}

/// Spare rows at the end of a batch: tiles of three start at up to two rows before the end.
const SPARE: usize = 2;

impl<'a> Work<'a> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(query: &'a CodeQuery<'a>, documents: &'a [DocumentCodes<'a>], out: &mut [f32]) -> Self {
        Self {
            query,
            decoder: Decoder::new(query),
            rows: Aligned::zeroed((BATCH + SPARE) * query.lanes.stored_depth() + 32),
            sums: Aligned::zeroed((BATCH + SPARE) * LANES),
            maxima: Maxima::new(query),
            batch: Batch::new(),
            reader: Reader::new(query, documents, out),
            ahead: Ahead::new(query, documents),
        }
    }

    fn read(&mut self) -> bool {
        self.reader.next(&mut self.batch)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode(&mut self) {
        self.decoder.decode(&self.batch, &mut self.rows);
    }

    #[inline]
    fn touch(&mut self, block: usize, tokens: usize) {
        if block == 0 {
            (0..tokens).for_each(|_| self.ahead.touch());
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn fold(&mut self, block: usize) {
        let rows = self.query.rows();
        if rows == 0 {
            fold::<false>(&[], &self.batch, &self.sums, block, &mut self.maxima);
        } else {
            let table = &self.query.centroid_scores.as_chunks::<LANES>().0[block * rows..][..rows];
            fold::<true>(table, &self.batch, &self.sums, block, &mut self.maxima);
        }
    }
}

/// Turns the sums of a batch into values and takes them into the maxima of each run.
#[inline]
#[target_feature(enable = "avx2")]
fn fold<const CENTROIDS: bool>(table: &[[f32; LANES]], batch: &Batch, sums: &[i32], block: usize, maxima: &mut Maxima) {
    let sums = sums.as_chunks::<LANES>().0;
    for (index, run) in batch.runs.iter().enumerate() {
        let slot = maxima.slot(index, block);
        if run.opens {
            slot.fill(f32::NEG_INFINITY);
        }
        let mut best = [0, 8, 16, 24].map(|lane| load_f32x8(&slot[lane..]));
        let tokens = run.start..run.start + run.tokens;
        let tokens = sums[tokens.clone()].iter().zip(&batch.gains[tokens.clone()]).zip(&batch.cells[tokens]);
        for ((sums, &gain), &cell) in tokens {
            let gain = _mm256_set1_ps(gain);
            for (part, best) in best.iter_mut().enumerate() {
                let mut value = _mm256_mul_ps(_mm256_cvtepi32_ps(load_i32x8(&sums[part * 8..])), gain);
                if CENTROIDS {
                    value = _mm256_add_ps(load_f32x8(&table[cell as usize][part * 8..]), value);
                }
                *best = _mm256_max_ps(value, *best);
            }
        }
        for (part, best) in best.into_iter().enumerate() {
            store_f32x8(&mut slot[part * 8..], best);
        }
    }
}

/// Turns codes into unsigned bytes: level + 32, or the 8-bit code itself.
struct Decoder {
    bits: Bits,
    row_bytes: usize,
    stride: usize,
    levels: __m256i,
    mask: __m256i,
    shifts: [__m256i; 8],
    outputs: usize,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(query: &CodeQuery) -> Self {
        let (bits, row_bytes) = (query.bits, query.row_bytes());
        // SAFETY: 16 readable bytes.
        let levels = unsafe { _mm_loadu_si128(query.levels.as_ptr().cast()) };
        let levels = _mm256_add_epi8(_mm256_broadcastsi128_si256(levels), _mm256_set1_epi8(OFFSET as i8));
        let mask = _mm256_set1_epi8(((1_u32 << bits.get()) - 1) as i8);
        // Rows of 16 bytes are read into both halves, so that an output holds two planes.
        let planes_per_output = if row_bytes == 16 { 2 } else { 1 };
        let shifts = std::array::from_fn(|output| {
            let shifts: [i32; 8] = std::array::from_fn(|dword| {
                let plane = output * planes_per_output + dword * planes_per_output / 8;
                (plane * usize::from(bits.get())) as i32 & 31
            });
            load_i32x8(&shifts)
        });
        let outputs = bits.planes().div_ceil(planes_per_output);
        Self { bits, row_bytes, stride: query.lanes.stored_depth(), levels, mask, shifts, outputs }
    }

    /// Decodes a batch into rows `stride` bytes apart. Bytes past the depth are arbitrary: the query is zero there.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode(&self, batch: &Batch, rows: &mut [u8]) {
        let codes = batch.runs.iter().flat_map(|run| run.codes.chunks_exact(self.row_bytes));
        for (token, codes) in codes.enumerate() {
            self.decode_row(codes, &mut rows[token * self.stride..][..self.stride + 32]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode_row(&self, codes: &[u8], out: &mut [u8]) {
        if self.bits == Bits::Eight {
            out[..codes.len()].copy_from_slice(codes);
        } else if self.row_bytes == 16 {
            // SAFETY: 16 readable bytes.
            let codes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) });
            for (output, &shifts) in self.shifts[..self.outputs].iter().enumerate() {
                store_u8x32(&mut out[output * 32..], self.levels_of(codes, shifts));
            }
        } else {
            for (plane, &shifts) in self.shifts[..self.outputs].iter().enumerate() {
                for (start, codes) in (0..).step_by(32).zip(codes.chunks(32)) {
                    // What a register writes past its plane, the next one overwrites.
                    let levels = self.levels_of(load_up_to_32(codes), shifts);
                    store_u8x32(&mut out[plane * self.row_bytes + start..], levels);
                }
            }
        }
    }

    /// Bits of each byte at `shifts`, looked up. A shift of whole dwords brings foreign bits only above the mask.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn levels_of(&self, codes: __m256i, shifts: __m256i) -> __m256i {
        let codes = _mm256_and_si256(_mm256_srlv_epi32(codes, shifts), self.mask);
        _mm256_shuffle_epi8(self.levels, codes)
    }
}

/// Rows are whole dwords (depth is a multiple of 32), so a mask of dwords reads all of the tail and nothing beyond.
#[inline]
#[target_feature(enable = "avx2")]
fn load_up_to_32(codes: &[u8]) -> __m256i {
    if codes.len() >= 32 {
        return load_u8x32(codes);
    }
    let dwords = _mm256_set1_epi32((codes.len() / 4) as i32);
    let mask = _mm256_cmpgt_epi32(dwords, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    // SAFETY: only the masked dwords are read, and the slice holds them.
    unsafe { _mm256_maskload_epi32(codes.as_ptr().cast(), mask) }
}
