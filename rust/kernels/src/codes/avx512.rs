//! `vpdpbusd` on 512-bit registers: tiles of 8 tokens × 32 lanes, sixteen sums in registers.

use super::eights::{EIGHT, Eight, for_each_eight};
use super::queries::Queries;
use super::{Bits, DocumentCodes, MAX_LEVEL, gain};
use crate::aligned::Aligned;
use crate::lanes::LANES;
use crate::x86::{load_f32x16, load_i32x16, load_u8x64, store_f32x16, store_u8x64};
use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_add_epi8, _mm512_add_ps, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_broadcast_i64x4, _mm512_castsi512_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmsub_ps, _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_srlv_epi32,
    _mm512_xor_si512,
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn maxsim(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    match (queries.residual(), can_be_biased(queries)) {
        (false, false) => maxsim_with::<false, false>(queries, documents, out),
        (false, true) => maxsim_with::<false, true>(queries, documents, out),
        (true, false) => maxsim_with::<true, false>(queries, documents, out),
        (true, true) => maxsim_with::<true, true>(queries, documents, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn maxsim_with<const CENTROIDS: bool, const BIASED: bool>(
    queries: &Queries,
    documents: &[DocumentCodes],
    out: &mut [f32],
) {
    let &Queries { stride, depth, bits, ref blocks, .. } = queries;
    // `vpdpbusd` wants one side unsigned: levels are raised by `offset`, and offset · Σ q is taken off at the start.
    let offset = if bits == Bits::Eight { 128 } else { i32::from(MAX_LEVEL) };
    let decoder = Decoder::<false>::new(queries, if bits == Bits::Eight { 0 } else { MAX_LEVEL });
    let bias = if BIASED { BIAS.to_bits().cast_signed() } else { 0 };
    let starts: Vec<_> = blocks.iter().map(|block| block.start(offset).map(|start| start + bias)).collect();
    let mut rows = Aligned::zeroed(decoder.scratch(EIGHT));
    for_each_eight(queries, documents, out, |eight, maxima| {
        decoder.decode::<0>(eight, &mut rows);
        let gains = eight.gains.map(gain);
        for ((block, start), best) in blocks.iter().zip(&starts).zip(maxima) {
            let (lanes, table) = (block.values(), block.table);
            if CENTROIDS {
                eight.prefetch_centroid_scores(table);
            }
            if eight.repeats >= EIGHT / 2 {
                let sums = dot_tile::<4>(&rows[4 * stride..], stride, lanes, depth, start);
                fold::<4, CENTROIDS, BIASED>(eight, &gains, table, best, |token, half| sums[token][half]);
                continue;
            }
            // The commonest stride as a constant spares the loop its address arithmetic.
            let sums = if stride == 128 {
                dot_tile::<8>(&rows, 128, lanes, depth, start)
            } else {
                dot_tile::<8>(&rows, stride, lanes, depth, start)
            };
            fold::<8, CENTROIDS, BIASED>(eight, &gains, table, best, |token, half| sums[token][half]);
        }
    });
}

/// Sums of products of some tokens, `stride` bytes apart, with one block of the query.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_tile<const TOKENS: usize>(
    rows: &[u8],
    stride: usize,
    lanes: &[i8],
    depth: usize,
    start: &[i32; LANES],
) -> [[__m512i; 2]; TOKENS] {
    assert!(rows.len() >= (TOKENS - 1) * stride + depth && lanes.len() >= depth * LANES && depth.is_multiple_of(4));
    let mut sums = [[load_i32x16(start), load_i32x16(&start[16..])]; TOKENS];
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
    sums
}

/// Whether all sums stay within the reach of [`BIAS`].
fn can_be_biased(queries: &Queries) -> bool {
    let largest_level = if queries.bits == Bits::Eight { 128 } else { usize::from(MAX_LEVEL) };
    queries.depth * largest_level * 127 < 1 << 22
}

/// 1.5 · 2^23: a sum within ±2^22 that starts at this float's bits has the bits of the float `BIAS` + sum.
const BIAS: f32 = 12_582_912.0;

/// Turns the sums of an eight's last tokens into values and takes them into their document's maxima.
///
/// `sum` gives the sums of a token, counted from the first of those, for each half of the lanes; `BIASED` says that they
/// have started at the bits of [`BIAS`]. `table` is one block of the centroid scores.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn fold<const TOKENS: usize, const CENTROIDS: bool, const BIASED: bool>(
    eight: &Eight,
    gains: &[f32; EIGHT],
    table: &[[f32; LANES]],
    best: &mut [f32; LANES],
    sum: impl Fn(usize, usize) -> __m512i,
) {
    // A gain has eight significant bits and the bias two, so that the product is exact.
    let biases = gains.map(|gain| BIAS * gain);
    let centroids = if CENTROIDS { eight.centroid_scores(table) } else { None };
    for half in 0..2 {
        let values: [__m512; TOKENS] = std::array::from_fn(|at| {
            let token = EIGHT - TOKENS + at;
            let gain = _mm512_set1_ps(gains[token]);
            let fine = if BIASED {
                // Rounds gain · sum once, as a conversion and a multiplication do.
                _mm512_fmsub_ps(_mm512_castsi512_ps(sum(at, half)), gain, _mm512_set1_ps(biases[token]))
            } else {
                _mm512_mul_ps(_mm512_cvtepi32_ps(sum(at, half)), gain)
            };
            match centroids {
                Some(rows) => _mm512_add_ps(load_f32x16(&rows[token][half * 16..]), fine),
                None => fine,
            }
        });
        // In four chains, because each maximum takes four cycles to follow the one before.
        let most: [__m512; 4] = std::array::from_fn(|chain| {
            if TOKENS == 8 { _mm512_max_ps(values[chain], values[chain + TOKENS - 4]) } else { values[chain] }
        });
        let most = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
        let best = &mut best[half * 16..];
        store_f32x16(best, _mm512_max_ps(most, load_f32x16(best)));
    }
}

/// Turns codes into bytes; `VBMI` says that the CPU has `vpermb`.
pub(super) struct Decoder<const VBMI: bool> {
    bits: Bits,
    row_bytes: usize,
    stride: usize,
    /// Level of each code, raised by the offset, as often as it fits; for 8 bits what is flipped in each byte.
    levels: __m512i,
    mask: __m512i,
    /// Shifts that bring the planes of each output register to the low bits.
    shifts: [__m512i; 8],
    /// Output registers per 64 (or 32 or 16, broadcast) bytes of codes.
    outputs: usize,
}

impl<const VBMI: bool> Decoder<VBMI> {
    /// `offset` is added to each level below 8 bits, and flips bits (0 or 128) of each code at 8.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new(queries: &Queries, offset: u8) -> Self {
        let &Queries { bits, row_bytes, levels, stride, .. } = queries;
        let raise = _mm512_set1_epi8(offset.cast_signed());
        let levels = if bits == Bits::Eight {
            raise
        } else {
            let levels: [u8; 64] = std::array::from_fn(|at| levels[at % (1 << bits.get())].cast_unsigned());
            _mm512_add_epi8(load_u8x64(&levels), raise)
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
        Self { bits, row_bytes, stride, levels, mask, shifts, outputs }
    }

    /// Bytes that some rows take: a register may be written past the end of the last.
    pub(super) fn scratch(&self, rows: usize) -> usize {
        rows * self.stride + 64
    }

    /// Decodes eight tokens into rows `stride` bytes apart.
    ///
    /// `BITS` is their bits per dimension if it is known beforehand and the depth is 128, or 0: the tiles of AMX leave so
    /// little time that a call for every eight tokens shows. Bytes past the depth are arbitrary: the query is zero there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn decode<const BITS: u8>(&self, eight: &Eight, rows: &mut [u8]) {
        match BITS {
            1 => self.decode_spread::<16, 2>(eight, rows),
            2 => self.decode_spread::<32, 2>(eight, rows),
            4 => self.decode_nibbles(eight, rows),
            8 => self.decode_bytes(eight, rows),
            _ if self.bits == Bits::Four && self.row_bytes == 64 => self.decode_nibbles(eight, rows),
            _ => self.decode_other(eight, rows),
        }
    }

    /// Apart, so that the commonest shape is inlined.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn decode_other(&self, eight: &Eight, rows: &mut [u8]) {
        match (self.bits, self.row_bytes, self.outputs) {
            (Bits::Eight, row, _) if row == self.stride => self.decode_bytes(eight, rows),
            (Bits::Eight, ..) => self.decode_any(eight, rows),
            (_, 16, 1) => self.decode_spread::<16, 1>(eight, rows),
            (_, 16, 2) => self.decode_spread::<16, 2>(eight, rows),
            (_, 32, 1) => self.decode_spread::<32, 1>(eight, rows),
            (_, 32, 2) => self.decode_spread::<32, 2>(eight, rows),
            (_, 32, 4) => self.decode_spread::<32, 4>(eight, rows),
            _ => self.decode_any(eight, rows),
        }
    }

    /// 8-bit codes of whole rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn decode_bytes(&self, eight: &Eight, rows: &mut [u8]) {
        let codes = eight.codes.as_chunks::<64>().0.iter().zip(rows.as_chunks_mut::<64>().0);
        codes.for_each(|(codes, out)| store_u8x64(out, _mm512_xor_si512(load_u8x64(codes), self.levels)));
    }

    /// 4-bit codes at depth 128: one register in, two out.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn decode_nibbles(&self, eight: &Eight, rows: &mut [u8]) {
        let codes = &eight.codes.as_chunks::<64>().0.as_chunks::<EIGHT>().0[0];
        let rows = &mut rows.as_chunks_mut::<128>().0.as_chunks_mut::<EIGHT>().0[0];
        for (codes, out) in codes.iter().zip(rows) {
            let codes = load_u8x64(codes);
            store_u8x64(out, self.look_up(codes));
            store_u8x64(&mut out[64..], self.look_up(_mm512_srli_epi16::<4>(codes)));
        }
    }

    /// Rows of 16 or 32 bytes: spread over a register, so that each output holds four or two planes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn decode_spread<const ROW: usize, const OUTPUTS: usize>(&self, eight: &Eight, rows: &mut [u8]) {
        let rows = rows.as_chunks_mut::<64>().0.as_chunks_mut::<OUTPUTS>().0;
        for (codes, out) in eight.codes.as_chunks::<ROW>().0.iter().zip(rows) {
            let codes = if ROW == 16 {
                // SAFETY: 16 readable bytes, by the type.
                _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
            } else {
                // SAFETY: 32 readable bytes, by the type.
                _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) })
            };
            for (out, shifts) in out.iter_mut().zip(self.shifts) {
                store_u8x64(out, self.levels_of(codes, shifts));
            }
        }
    }

    /// Any width and depth, one plane after the other.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn decode_any(&self, eight: &Eight, rows: &mut [u8]) {
        for (token, codes) in eight.codes.chunks_exact(self.row_bytes).enumerate() {
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
        }
    }

    /// Bits of each byte at `shifts`, looked up. A shift of whole dwords brings foreign bits only above them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn levels_of(&self, codes: __m512i, shifts: __m512i) -> __m512i {
        self.look_up(_mm512_srlv_epi32(codes, shifts))
    }

    /// The level of the code in the low bits of each byte, whatever is above them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn look_up(&self, codes: __m512i) -> __m512i {
        if VBMI {
            let levels;
            // Not by an intrinsic, because a function with its feature could not be inlined here.
            // SAFETY: the type says that the instruction exists; it reads the low six bits of each byte, and no memory.
            unsafe {
                asm!(
                    "vpermb {levels}, {codes}, {table}",
                    levels = lateout(zmm_reg) levels,
                    codes = in(zmm_reg) codes,
                    table = in(zmm_reg) self.levels,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            return levels;
        }
        _mm512_shuffle_epi8(self.levels, _mm512_and_si512(codes, self.mask))
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
