//! 256-bit kernels: `maddubs` (AVX2) and `vpdpbusd` (AVX-VNNI).

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi8, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_dpbusd_avx_epi32,
    _mm256_loadu_si256, _mm256_maskload_epi32, _mm256_max_ps, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_srlv_epi32,
    _mm256_sub_epi16,
};

use super::eights::{EIGHT, Eight, for_each_eight};
use super::queries::Queries;
use super::{Bits, DocumentCodes, gain};
use crate::aligned::Aligned;
use crate::lanes::LANES;
use crate::x86::{OFFSET, dot_maddubs, dots_i16, load_f32x8, load_i32x8, load_u8x32, store_f32x8, store_u8x32};

#[target_feature(enable = "avx2,fma")]
pub(super) fn maxsim(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    if queries.bits == Bits::Eight {
        return maxsim_eight(queries, documents, out);
    }
    let &Queries { stride, depth, ref blocks, .. } = queries;
    let starts: Vec<_> = blocks.iter().map(|block| block.start(OFFSET)).collect();
    let decoder = Decoder::new(queries);
    let mut rows = decoder.scratch();
    for_each_eight(queries, documents, out, |eight, maxima| {
        decoder.decode(eight, &mut rows);
        for ((block, start), maxima) in blocks.iter().zip(&starts).zip(maxima) {
            let dot = |token: usize| [dot_maddubs(&rows[token * stride..], block.values(), depth, start)];
            fold(eight, block.table, maxima, dot);
        }
    });
}

#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn maxsim_vnni(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    let &Queries { stride, depth, ref blocks, .. } = queries;
    let offset = if queries.bits == Bits::Eight { 128 } else { OFFSET };
    let starts: Vec<_> = blocks.iter().map(|block| block.start(offset)).collect();
    let decoder = Decoder::new(queries);
    let mut rows = decoder.scratch();
    for_each_eight(queries, documents, out, |eight, maxima| {
        decoder.decode(eight, &mut rows);
        for ((block, start), maxima) in blocks.iter().zip(&starts).zip(maxima) {
            let dot = |token: usize| dot_vnni(&rows[token * stride..], stride, block.values(), depth, start);
            fold(eight, block.table, maxima, dot);
        }
    });
}

/// 8-bit codes leave `maddubs` no room, so both sides are widened to i16.
#[target_feature(enable = "avx2,fma")]
fn maxsim_eight(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    let &Queries { stride, depth, ref blocks, .. } = queries;
    let size = stride * LANES;
    let mut pairs = Aligned::<i16>::zeroed(blocks.len() * size);
    pairs.chunks_exact_mut(size).zip(blocks).for_each(|(out, block)| block.widen(out));
    let mut wide = Aligned::<i16>::zeroed((EIGHT + SPARE) * stride);
    for_each_eight(queries, documents, out, |eight, maxima| {
        widen_codes(eight, depth, stride, &mut wide);
        for ((block, pairs), maxima) in blocks.iter().zip(pairs.chunks_exact(size)).zip(maxima) {
            let dot = |token: usize| dots_i16::<2>(pairs, &wide[token * stride..], stride, depth);
            fold(eight, block.table, maxima, dot);
        }
    });
}

/// 8-bit codes as i16 levels, `stride` apart.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_codes(eight: &Eight, depth: usize, stride: usize, out: &mut [i16]) {
    for (codes, out) in eight.codes.chunks_exact(depth).zip(out.chunks_exact_mut(stride)) {
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

/// Sums of products of three tokens, `stride` bytes apart, with one block of the query: twelve sums in registers.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot_vnni(rows: &[u8], stride: usize, lanes: &[i8], depth: usize, start: &[i32; LANES]) -> [[__m256i; 4]; 3] {
    assert!(rows.len() >= 2 * stride + depth && lanes.len() >= depth * LANES && depth.is_multiple_of(4));
    let start: [__m256i; 4] = [0, 8, 16, 24].map(|lane| load_i32x8(&start[lane..]));
    let mut sums = [start; 3];
    for four in 0..depth / 4 {
        let values: [__m256i; 3] = std::array::from_fn(|token| {
            // SAFETY: token · stride + 4 · four + 4 ≤ rows.len(), asserted above.
            _mm256_set1_epi32(unsafe { rows.as_ptr().add(token * stride + 4 * four).cast::<i32>().read_unaligned() })
        });
        // Lanes outside, tokens inside: one register of the query at a time is all that is left beside twelve sums.
        for part in 0..4 {
            // SAFETY: (four + 1) · 128 ≤ lanes.len(), asserted above.
            let query = unsafe { _mm256_loadu_si256(lanes.as_ptr().add(four * 4 * LANES + part * 32).cast()) };
            for (sums, value) in sums.iter_mut().zip(values) {
                sums[part] = _mm256_dpbusd_avx_epi32(sums[part], value, query);
            }
        }
    }
    sums
}

/// Rows past an eight that a tile of tokens may reach into: tiles hold three tokens at most.
const SPARE: usize = 2;

/// Takes eight tokens into their document's maxima of one block; `dot` gives the sums of the `TOKENS` rows from one on.
#[inline]
#[target_feature(enable = "avx2")]
fn fold<const TOKENS: usize>(
    eight: &Eight,
    table: &[[f32; LANES]],
    maxima: &mut [f32; LANES],
    dot: impl Fn(usize) -> [[__m256i; 4]; TOKENS],
) {
    let gains = eight.gains.map(gain);
    let centroids = eight.centroid_scores(table);
    let mut best = [0, 8, 16, 24].map(|lane| load_f32x8(&maxima[lane..]));
    for first in (eight.repeats..EIGHT).step_by(TOKENS) {
        for (sums, token) in dot(first).iter().zip(first..EIGHT) {
            let gain = _mm256_set1_ps(gains[token]);
            let mut values = sums.map(|sum| _mm256_mul_ps(_mm256_cvtepi32_ps(sum), gain));
            if let Some(rows) = centroids {
                for (value, row) in values.iter_mut().zip(rows[token].as_chunks::<8>().0) {
                    *value = _mm256_add_ps(load_f32x8(row), *value);
                }
            }
            for (best, value) in best.iter_mut().zip(values) {
                *best = _mm256_max_ps(value, *best);
            }
        }
    }
    for (part, best) in best.into_iter().enumerate() {
        store_f32x8(&mut maxima[part * 8..], best);
    }
}

/// Turns codes into unsigned bytes: level + 21, or the 8-bit code itself.
struct Decoder {
    bits: Bits,
    row_bytes: usize,
    stride: usize,
    levels: __m256i,
    mask: __m256i,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(queries: &Queries) -> Self {
        // SAFETY: 16 readable bytes.
        let levels = unsafe { _mm_loadu_si128(queries.levels.as_ptr().cast()) };
        Self {
            bits: queries.bits,
            row_bytes: queries.row_bytes,
            stride: queries.stride,
            levels: _mm256_add_epi8(_mm256_broadcastsi128_si256(levels), _mm256_set1_epi8(OFFSET as i8)),
            mask: _mm256_set1_epi8(((1_u32 << queries.bits.get()) - 1) as i8),
        }
    }

    /// Room for eight tokens, and for a register that is written past them.
    fn scratch(&self) -> Aligned<u8> {
        Aligned::zeroed((EIGHT + SPARE) * self.stride + 32)
    }

    /// Decodes eight tokens into rows `stride` bytes apart. Bytes past the depth are arbitrary: the query is zero there.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode(&self, eight: &Eight, rows: &mut [u8]) {
        match self.bits {
            Bits::One if self.row_bytes == 16 => self.decode_spread::<1, 4>(eight, rows),
            Bits::One => self.decode_planes::<1, 8>(eight, rows),
            Bits::Two if self.row_bytes == 16 => self.decode_spread::<2, 2>(eight, rows),
            Bits::Two => self.decode_planes::<2, 4>(eight, rows),
            Bits::Four if self.row_bytes == 64 => {
                let rows = rows.as_chunks_mut::<128>().0;
                eight
                    .codes
                    .as_chunks::<64>()
                    .0
                    .iter()
                    .zip(rows)
                    .for_each(|(codes, out)| self.decode_nibbles(codes, out));
            }
            Bits::Four if self.row_bytes == 16 => self.decode_spread::<4, 1>(eight, rows),
            Bits::Four => self.decode_planes::<4, 2>(eight, rows),
            Bits::Eight => {
                let codes = eight.codes.chunks_exact(self.row_bytes);
                codes
                    .zip(rows.chunks_exact_mut(self.stride))
                    .for_each(|(codes, out)| out[..codes.len()].copy_from_slice(codes));
            }
        }
    }

    /// 4-bit codes at depth 128: two registers in, four out.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode_nibbles(&self, codes: &[u8; 64], out: &mut [u8; 128]) {
        for start in [0, 32] {
            let codes = load_u8x32(&codes[start..]);
            let low = _mm256_and_si256(codes, self.mask);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), self.mask);
            store_u8x32(&mut out[start..], _mm256_shuffle_epi8(self.levels, low));
            store_u8x32(&mut out[64 + start..], _mm256_shuffle_epi8(self.levels, high));
        }
    }

    /// Rows of 16 bytes: twice in a register, so that each output holds two planes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode_spread<const BITS: i32, const OUTPUTS: usize>(&self, eight: &Eight, rows: &mut [u8]) {
        let upper = _mm256_setr_epi32(0, 0, 0, 0, BITS, BITS, BITS, BITS);
        let rows = rows.as_chunks_mut::<32>().0.chunks_exact_mut(self.stride / 32);
        for (codes, out) in eight.codes.as_chunks::<16>().0.iter().zip(rows) {
            // SAFETY: 16 readable bytes, by the type.
            let codes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) });
            for (output, out) in out.iter_mut().take(OUTPUTS).enumerate() {
                // A shift of whole dwords brings foreign bits only above the mask.
                let shifts = _mm256_add_epi32(upper, _mm256_set1_epi32(2 * BITS * output as i32));
                let codes = _mm256_and_si256(_mm256_srlv_epi32(codes, shifts), self.mask);
                store_u8x32(out, _mm256_shuffle_epi8(self.levels, codes));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode_planes<const BITS: i32, const PLANES: usize>(&self, eight: &Eight, rows: &mut [u8]) {
        for (token, codes) in eight.codes.chunks_exact(self.row_bytes).enumerate() {
            let out = &mut rows[token * self.stride..][..self.stride + 32];
            let mut decode = |start: usize, mut codes: __m256i| {
                for plane in 0..PLANES {
                    let levels = _mm256_shuffle_epi8(self.levels, _mm256_and_si256(codes, self.mask));
                    // What a register writes past a short plane, the next plane overwrites.
                    store_u8x32(&mut out[plane * self.row_bytes + start..], levels);
                    codes = _mm256_srli_epi16::<BITS>(codes);
                }
            };
            // The last register ends where the row does, and may repeat bytes of the one before.
            if let Some(last) = self.row_bytes.checked_sub(32) {
                for start in (0..last).step_by(32) {
                    decode(start, load_u8x32(&codes[start..]));
                }
                decode(last, load_u8x32(&codes[last..]));
            } else {
                decode(0, load_less_than_32(codes));
            }
        }
    }
}

/// Rows are whole dwords (depth is a multiple of 32), so a mask of dwords reads all of the tail and nothing beyond.
#[inline]
#[target_feature(enable = "avx2")]
fn load_less_than_32(codes: &[u8]) -> __m256i {
    let dwords = _mm256_set1_epi32((codes.len() / 4) as i32);
    let mask = _mm256_cmpgt_epi32(dwords, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    // SAFETY: only the masked dwords are read, and the slice holds them.
    unsafe { _mm256_maskload_epi32(codes.as_ptr().cast(), mask) }
}
