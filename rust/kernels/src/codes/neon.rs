//! `sdot` and `smmla` on 128-bit registers: tiles of 8 tokens × 8 lanes, sixteen sums in registers.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, uint8x16_t, vaddq_f32, vandq_u8, vcvtq_f32_s32, vdupq_n_s8, vdupq_n_u8, veorq_u8,
    vmaxnmq_f32, vmulq_n_f32, vqtbl1q_s8, vreinterpretq_s8_u8, vshlq_u8,
};

use super::eights::{EIGHT, Eight, for_each_eight};
use super::queries::Queries;
use super::{Bits, DocumentCodes, gain};
use crate::aarch64::{OCTET, Register, Shape, dots_sdot, dots_smmla, load_f32x4, load_i8x16, store_f32x4};
use crate::aligned::Aligned;
use crate::lanes::LANES;

#[target_feature(enable = "neon,dotprod")]
pub(super) fn maxsim(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    let whole = |tile: &[Register], octet: &[Register]| dots_sdot(tile, octet);
    score::<8>(queries, documents, out, whole, |tile, octet| dots_sdot(tile, octet));
}

#[target_feature(enable = "neon,i8mm")]
pub(super) fn maxsim_i8mm(queries: &Queries, documents: &[DocumentCodes], out: &mut [f32]) {
    let whole = |tile: &[Register], octet: &[Register]| dots_smmla(tile, octet);
    score::<4>(queries, documents, out, whole, |tile, octet| dots_smmla(tile, octet));
}

/// `whole` gives the sums of a tile of eight tokens with eight lanes, `half` those of its last four tokens.
#[inline]
#[target_feature(enable = "neon")]
fn score<const UNITS: usize>(
    queries: &Queries,
    documents: &[DocumentCodes],
    out: &mut [f32],
    whole: impl Fn(&[Register], &[Register]) -> [[int32x4_t; 2]; EIGHT],
    half: impl Fn(&[Register], &[Register]) -> [[int32x4_t; 2]; EIGHT / 2],
) {
    let (blocks, decoder) = (&queries.blocks, Decoder::<UNITS>::new(queries));
    let shape = decoder.shape;
    let mut packed = Aligned::zeroed(blocks.len() * shape.block_registers());
    packed
        .chunks_exact_mut(shape.block_registers())
        .zip(blocks)
        .for_each(|(out, block)| shape.pack(block.values(), out));
    let mut tile = Aligned::zeroed(shape.registers());
    for_each_eight(queries, documents, out, |eight, maxima| {
        decoder.decode(eight, &mut tile);
        let gains = eight.gains.map(gain);
        for ((block, octets), maxima) in blocks.iter().zip(packed.chunks_exact(shape.block_registers())).zip(maxima) {
            let table = block.table;
            eight.prefetch_centroid_scores(table);
            let centroids = eight.centroid_scores(table);
            let octets = octets.chunks_exact(shape.registers()).zip(maxima.as_chunks_mut::<OCTET>().0);
            for (lane, (octet, best)) in (0..).step_by(OCTET).zip(octets) {
                if eight.repeats >= EIGHT / 2 {
                    fold(&half(&tile, octet), &gains, centroids, lane, best);
                } else {
                    fold(&whole(&tile, octet), &gains, centroids, lane, best);
                }
            }
        }
    });
}

/// Turns the sums of an eight's last tokens into values and takes them into the maxima of the eight lanes from `lane` on.
#[inline]
#[target_feature(enable = "neon")]
fn fold<const N: usize>(
    sums: &[[int32x4_t; 2]; N],
    gains: &[f32; EIGHT],
    centroids: Option<[&[f32; LANES]; EIGHT]>,
    lane: usize,
    best: &mut [f32; OCTET],
) {
    for (half, best) in best.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut most = load_f32x4(best);
        for (sums, token) in sums.iter().zip(EIGHT - N..) {
            let mut value = vmulq_n_f32(vcvtq_f32_s32(sums[half]), gains[token]);
            if let Some(rows) = centroids {
                value = vaddq_f32(load_f32x4(&rows[token].as_chunks().0[lane / 4 + half]), value);
            }
            // Where the value is NaN, what is there stays. Of two zeros the positive one stays, not the first: the sum
            // over lanes, which begins at zero, cannot tell them apart.
            most = vmaxnmq_f32(most, value);
        }
        store_f32x4(best, most);
    }
}

/// Turns codes into levels.
struct Decoder<const UNITS: usize> {
    bits: Bits,
    shape: Shape<UNITS>,
    levels: int8x16_t,
}

impl<const UNITS: usize> Decoder<UNITS> {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(queries: &Queries) -> Self {
        let shape = Shape { row_bytes: queries.row_bytes, planes: queries.bits.planes() };
        Self { bits: queries.bits, shape, levels: load_i8x16(queries.levels) }
    }

    /// Fills a tile with the levels of eight tokens.
    #[inline]
    #[target_feature(enable = "neon")]
    fn decode(&self, eight: &Eight, tile: &mut [Register]) {
        let row_bytes = self.shape.row_bytes;
        let rows = std::array::from_fn(|token| &eight.codes[token * row_bytes..(token + 1) * row_bytes]);
        match self.bits {
            Bits::One => self.shape.fill(rows, tile, |codes| self.levels::<1, 8>(codes)),
            Bits::Two => self.shape.fill(rows, tile, |codes| self.levels::<2, 4>(codes)),
            Bits::Four => self.shape.fill(rows, tile, |codes| self.levels::<4, 2>(codes)),
            Bits::Eight => {
                self.shape.fill(rows, tile, |codes| [vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)))]);
            }
        }
    }

    /// The levels of sixteen bytes of codes, plane by plane.
    #[inline]
    #[target_feature(enable = "neon")]
    fn levels<const BITS: i8, const PLANES: usize>(&self, codes: uint8x16_t) -> [int8x16_t; PLANES] {
        let mask = vdupq_n_u8((1 << BITS) - 1);
        std::array::from_fn(|plane| {
            // A shift by a negative number goes to the right. The last plane has nothing above it to mask.
            let codes = vshlq_u8(codes, vdupq_n_s8(-(plane as i8 * BITS)));
            vqtbl1q_s8(self.levels, if plane + 1 == PLANES { codes } else { vandq_u8(codes, mask) })
        })
    }
}
