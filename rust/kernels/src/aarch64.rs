//! Loads, stores and the int8 products that the aarch64 kernels share.
//!
//! The intrinsics for `sdot` (Rust 1.98), `smmla` and prefetching (both unstable) are newer than the compiler this crate asks
//! for, so the three instructions are inline assembly, here and nowhere else.
//!
//! # Tiles
//! Both products take eight rows × eight lanes at a time: sixteen registers of sums. A register of rows holds 16 bytes of one
//! row for `sdot` and 8 bytes of two rows for `smmla`. So eight rows fill `UNITS` registers, 8 or 4, at each step, and the
//! functions that both products share are generic over that number. A tile of rows is `[step][UNITS]` registers, and so is an
//! octet of lanes: `[step][4 fours][8 lanes][4 dims]` or `[step][8 lanes][8 dims]`. Both are read from front to back.
//! See [`Shape`] for the dimensions of a step.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, uint8x8_t, uint8x16_t, vcombine_u8, vdupq_n_s32, vld1_u8, vld1q_f32, vld1q_s8,
    vld1q_s32, vld1q_u8, vreinterpretq_s32_s64, vreinterpretq_s64_s32, vst1q_f32, vst1q_s8, vst1q_s32, vst1q_u8,
    vtrn1q_s64, vtrn2q_s64,
};
use std::arch::asm;

use crate::lanes::LANES;

/// Rows of a tile.
pub(crate) const ROWS: usize = 8;

/// Lanes of a tile.
pub(crate) const OCTET: usize = 8;

/// Bytes that one register holds.
pub(crate) type Register = [i8; 16];

macro_rules! loads {
    ($($name:ident, $vector:ty, $element:ty, $lanes:literal, $intrinsic:ident;)*) => {$(
        /// Reads one register.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(crate) fn $name(source: &[$element; $lanes]) -> $vector {
            // SAFETY: the array is as long as the register; the instruction asks for no alignment.
            unsafe { $intrinsic(source.as_ptr()) }
        }
    )*};
}

macro_rules! stores {
    ($($name:ident, $vector:ty, $element:ty, $lanes:literal, $intrinsic:ident;)*) => {$(
        /// Writes one register.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(crate) fn $name(target: &mut [$element; $lanes], vector: $vector) {
            // SAFETY: the array is as long as the register; the instruction asks for no alignment.
            unsafe { $intrinsic(target.as_mut_ptr(), vector) }
        }
    )*};
}

loads! {
    load_u8x8, uint8x8_t, u8, 8, vld1_u8;
    load_u8x16, uint8x16_t, u8, 16, vld1q_u8;
    load_i8x16, int8x16_t, i8, 16, vld1q_s8;
    load_i32x4, int32x4_t, i32, 4, vld1q_s32;
    load_f32x4, float32x4_t, f32, 4, vld1q_f32;
}

stores! {
    store_u8x16, uint8x16_t, u8, 16, vst1q_u8;
    store_i8x16, int8x16_t, i8, 16, vst1q_s8;
    store_i32x4, int32x4_t, i32, 4, vst1q_s32;
    store_f32x4, float32x4_t, f32, 4, vst1q_f32;
}

/// Adds to each sum the products of four int8 of `query` with the four of `row` at `FOUR`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const FOUR: usize>(mut sum: int32x4_t, query: int8x16_t, row: int8x16_t) -> int32x4_t {
    // SAFETY: `dotprod` is enabled; the instruction changes one register.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {query:v}.16b, {row:v}.4b[{four}]",
            sum = inlateout(vreg) sum,
            query = in(vreg) query,
            row = in(vreg) row,
            four = const FOUR,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Adds to `sum[2 · i + j]` the products of the eight int8 of half `i` of `rows` with those of half `j` of `query`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut sum: int32x4_t, rows: int8x16_t, query: int8x16_t) -> int32x4_t {
    // SAFETY: `i8mm` is enabled; the instruction changes one register.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {rows:v}.16b, {query:v}.16b",
            sum = inlateout(vreg) sum,
            rows = in(vreg) rows,
            query = in(vreg) query,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Asks for the cache line of an address, any address.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
    // SAFETY: a prefetch reads nothing and faults on no address.
    unsafe { asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags)) };
}

/// Sums of products of the last `N` of eight rows with eight lanes, at `UNITS` 8. Both sides are signed: nothing is to be
/// taken off.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn dots_sdot<const N: usize>(tile: &[Register], octet: &[Register]) -> [[int32x4_t; 2]; N] {
    let mut sums = [[vdupq_n_s32(0); 2]; N];
    for (rows, query) in tile.as_chunks::<ROWS>().0.iter().zip(octet.as_chunks::<8>().0) {
        let rows: [int8x16_t; N] = std::array::from_fn(|row| load_i8x16(&rows[ROWS - N + row]));
        add_four::<0, N>(&mut sums, [&query[0], &query[1]], &rows);
        add_four::<1, N>(&mut sums, [&query[2], &query[3]], &rows);
        add_four::<2, N>(&mut sums, [&query[4], &query[5]], &rows);
        add_four::<3, N>(&mut sums, [&query[6], &query[7]], &rows);
    }
    sums
}

/// The products of four dimensions.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_four<const FOUR: usize, const N: usize>(
    sums: &mut [[int32x4_t; 2]; N],
    query: [&Register; 2],
    rows: &[int8x16_t; N],
) {
    for (half, query) in query.into_iter().enumerate() {
        let query = load_i8x16(query);
        for (sums, &row) in sums.iter_mut().zip(rows) {
            sums[half] = sdot::<FOUR>(sums[half], query, row);
        }
    }
}

/// As [`dots_sdot`], at `UNITS` 4; `N` is even.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(crate) fn dots_smmla<const N: usize>(tile: &[Register], octet: &[Register]) -> [[int32x4_t; 2]; N] {
    const PAIRS: usize = ROWS / 2;
    let first = PAIRS - N / 2;
    let mut sums = [[vdupq_n_s32(0); PAIRS]; PAIRS];
    for (rows, query) in tile.as_chunks::<PAIRS>().0.iter().zip(octet.as_chunks::<PAIRS>().0) {
        let query = query.each_ref().map(|two_lanes| load_i8x16(two_lanes));
        for pair in first..PAIRS {
            let row = load_i8x16(&rows[pair]);
            for (sum, query) in sums[pair].iter_mut().zip(query) {
                *sum = smmla(*sum, row, query);
            }
        }
    }
    // Each register holds two lanes of both rows.
    std::array::from_fn(|row| {
        let sums = sums[first + row / 2].map(|sum| vreinterpretq_s64_s32(sum));
        let of_row = |four: usize| match row % 2 {
            0 => vtrn1q_s64(sums[2 * four], sums[2 * four + 1]),
            _ => vtrn2q_s64(sums[2 * four], sums[2 * four + 1]),
        };
        [vreinterpretq_s32_s64(of_row(0)), vreinterpretq_s32_s64(of_row(1))]
    })
}

/// Which dimensions stand at each step of a tile.
///
/// A row is `row_bytes` bytes of codes of so many planes (see [`crate::codes`]), or of plain values as one plane. A register
/// of such bytes gives a step for each plane, one after the other. The last register of a row may reach past its end: there
/// the query is zero, whatever the tile holds.
#[derive(Clone, Copy)]
pub(crate) struct Shape<const UNITS: usize> {
    pub(crate) row_bytes: usize,
    pub(crate) planes: usize,
}

impl<const UNITS: usize> Shape<UNITS> {
    /// Bytes that a register takes of each row.
    const GROUP: usize = 2 * UNITS;

    /// Registers of a tile, and of an octet.
    pub(crate) fn registers(&self) -> usize {
        self.row_bytes.div_ceil(Self::GROUP) * self.planes * UNITS
    }

    /// Registers of a block of lanes: four octets.
    pub(crate) fn block_registers(&self) -> usize {
        self.registers() * LANES / OCTET
    }

    /// Lays out one block of the query.
    pub(crate) fn pack(&self, block: &[i8], out: &mut [Register]) {
        for (octet, out) in out.chunks_exact_mut(self.registers()).enumerate() {
            for (step, out) in out.chunks_exact_mut(UNITS).enumerate() {
                let (start, plane) = (step / self.planes * Self::GROUP, step % self.planes);
                for (at, out) in out.as_flattened_mut().as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    let (four, lane) = if UNITS == ROWS { (at / OCTET, at % OCTET) } else { (at % 2, at / 2) };
                    let byte = start + 4 * four;
                    // Rows are whole fours of bytes, since depth is a multiple of 32.
                    *out = if byte < self.row_bytes {
                        let dimension = plane * self.row_bytes + byte;
                        block.as_chunks::<4>().0[dimension / 4 * LANES + octet * OCTET + lane]
                    } else {
                        [0; 4]
                    };
                }
            }
        }
    }

    /// Lays out eight rows; `decode` gives the planes of a register.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn fill<const PLANES: usize>(
        &self,
        rows: [&[u8]; ROWS],
        tile: &mut [Register],
        decode: impl Fn(uint8x16_t) -> [int8x16_t; PLANES],
    ) {
        let steps = tile.as_chunks_mut::<UNITS>().0.as_chunks_mut::<PLANES>().0;
        for (start, planes) in (0..self.row_bytes).step_by(Self::GROUP).zip(steps) {
            for unit in 0..UNITS {
                let bytes = if UNITS == ROWS {
                    load_u8x16(&padded(&rows[unit][start..]))
                } else {
                    let [first, second] = [2 * unit, 2 * unit + 1].map(|row| padded(&rows[row][start..]));
                    vcombine_u8(load_u8x8(&first), load_u8x8(&second))
                };
                for (plane, values) in planes.iter_mut().zip(decode(bytes)) {
                    store_i8x16(&mut plane[unit], values);
                }
            }
        }
    }
}

/// The first bytes of a row, with zeros behind a shorter one.
#[inline]
fn padded<const BYTES: usize>(row: &[u8]) -> [u8; BYTES] {
    row.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; BYTES];
        padded[..row.len()].copy_from_slice(row);
        padded
    })
}

/// The same bytes as unsigned ones.
#[inline]
pub(crate) fn unsigned(values: &[i8]) -> &[u8] {
    // SAFETY: both are bytes, of which every value is valid.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}
