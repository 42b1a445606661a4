//! Fused `MaxSim` on codes: decode, multiply, maximum and sum, without an uncompressed token in memory beyond L1.
//!
//! For document token `t` and query token (lane) `j`
//!
//! ```text
//! v[t][j] = T[k_t][j] + gain_t · (i32 Σ_d q[j][d] · level[t][d]) as f32          (flat codec: no T)
//! score   = Σ_j weight_j · max_t v[t][j]                                             (`weighted_sum`'s order)
//! ```
//!
//! Several queries may be scored at once: a document is then read and decoded once for all of them.
//!
//! The sum of products is an exact integer; the rest is one conversion, one multiplication and one addition, each rounded
//! once and never fused. So every level gives the same bits. A maximum replaces the best so far only where it is greater.
//!
//! # Codes
//! A token is `row_bytes = depth · bits / 8` bytes. With `planes = 8 / bits`, plane `p` of byte `i` (its bits
//! `p·bits .. p·bits + bits`) is the code of dimension `i + p·row_bytes`. The level of a code is `levels[code]` (of
//! magnitude at most 21) for 1, 2 and 4 bits and `code - 128` for 8 bits.
//!
//! # Why nothing overflows
//! * AVX2 adds three `maddubs` results in i16: 3 · 2 · (21 + 21) · 127 = 32,004 ≤ 32,767.
//! * Sums in i32: depth · 255 · 128 ≤ 16,384 · 32,640 < 2^31.
//!
//! # Bound
//! 32 lanes × depth multiply-adds per token: at depth 128 that is 64 `vpdpbusd` of 512 bits (32 cycles on two ports),
//! 128 of 256 bits (64 cycles), 128 · 7 / 3 AVX2 instructions on three ports (100 cycles), or 4 `tdpbssd` per 16 tokens
//! (4 cycles a token). Decoding costs 5 instructions of 512 bits per token, the maximum 4 (6 with centroids). On aarch64 it is
//! 256 `sdot` or 128 `smmla`, 16 or 20 instructions of 128 bits for decoding 4 bits, and 24 or 32 for the maximum (8 more with
//! centroids).

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod eights;
mod queries;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

use crate::lanes::{LANES, QueryLanes};
use crate::level::{Isa, Level};
use queries::Queries;

/// Bits per dimension of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// One bit: two levels.
    One,
    /// Two bits: four levels.
    Two,
    /// Four bits: sixteen levels.
    Four,
    /// Eight bits: level = code − 128.
    Eight,
}

impl Bits {
    /// 1, 2, 4 or 8.
    #[must_use]
    pub fn from_u8(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            4 => Some(Self::Four),
            8 => Some(Self::Eight),
            _ => None,
        }
    }

    /// The number of bits.
    #[must_use]
    pub fn get(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// Dimensions per byte: 8 / bits.
    #[must_use]
    pub fn planes(self) -> usize {
        8 / usize::from(self.get())
    }

    /// Bytes of one token's codes.
    #[must_use]
    pub fn row_bytes(self, depth: usize) -> usize {
        depth * usize::from(self.get()) / 8
    }
}

/// One document's tokens as stored.
#[derive(Clone, Copy, Debug)]
pub struct DocumentCodes<'a> {
    /// `[tokens, row_bytes]`.
    pub codes: &'a [u8],
    /// `[tokens]`: what one unit of a level is worth, as bfloat16: the upper half of a float32.
    pub gains: &'a [u16],
    /// `[tokens]`: row of the table of centroid scores; not read by the flat codec. An id past the last row reads the last.
    pub centroids: &'a [u16],
}

/// A query with the tables that decode documents for it.
#[derive(Clone, Copy)]
pub struct CodeQuery<'a> {
    /// int8 query tokens.
    pub lanes: &'a QueryLanes,
    /// One weight per query token; its int8 scale belongs in it.
    pub weights: &'a [f32],
    /// Bits per dimension of the codes.
    pub bits: Bits,
    /// Level of each code, of magnitude at most 21; not read at 8 bits.
    pub levels: &'a [i8; 16],
    /// `[blocks][rows][32]` from [`crate::centroid_scores()`], or empty for the flat codec.
    pub centroid_scores: &'a [f32],
}

/// The largest magnitude of a level below 8 bits and of a centroid's components; see "Why nothing overflows".
pub const MAX_LEVEL: u8 = 21;

impl CodeQuery<'_> {
    /// Rows of the table of centroid scores; 0 for the flat codec.
    fn rows(&self) -> usize {
        self.centroid_scores.len() / (self.lanes.blocks() * LANES).max(1)
    }

    fn check(&self) {
        assert_eq!(self.weights.len(), self.lanes.tokens(), "one weight per query token");
        assert!(self.levels.iter().all(|level| level.unsigned_abs() <= MAX_LEVEL), "levels must lie within ±21");
        assert_eq!(
            self.centroid_scores.len(),
            self.lanes.blocks() * self.rows() * LANES,
            "centroid scores must be [blocks][rows][32]"
        );
    }

    pub(crate) fn check_document(&self, document: &DocumentCodes) {
        let tokens = document.gains.len();
        let row_bytes = self.bits.row_bytes(self.lanes.depth());
        assert_eq!(document.codes.len(), tokens * row_bytes, "codes must be [tokens, row_bytes]");
        assert!(self.centroid_scores.is_empty() || document.centroids.len() == tokens, "one centroid per token");
    }
}

/// The float that a bfloat16 is the upper half of.
fn gain(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// Scores documents by `MaxSim`, `out[document][query]`; a document without tokens scores −inf.
///
/// A score does not depend on the other queries and documents. Dispatches once for all of them; later documents are
/// prefetched while earlier ones are scored.
///
/// # Panics
/// If lengths disagree (`weights`, `out`, or a document's `codes`, `gains`, `centroids`), a level exceeds ±21, or the
/// queries differ in depth, bits, levels or rows of centroid scores.
pub fn maxsim_codes(level: Level, queries: &[CodeQuery], documents: &[DocumentCodes], out: &mut [f32]) {
    assert_eq!(documents.len() * queries.len(), out.len(), "out must be [documents, queries]");
    // Of a query without tokens nobody knows whether there are centroids.
    let Some(first) = queries.iter().max_by_key(|query| query.lanes.blocks()) else { return };
    for document in documents {
        first.check_document(document);
    }
    let query = &Queries::new(queries, first);
    if query.blocks.is_empty() {
        for (out, document) in out.chunks_exact_mut(queries.len()).zip(documents) {
            out.fill(if document.gains.is_empty() { f32::NEG_INFINITY } else { 0.0 });
        }
        return;
    }
    match level.0 {
        Isa::Scalar => scalar::maxsim(query, documents, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avx2; lengths are checked above.
        Isa::Avx2 => unsafe { avx2::maxsim(query, documents, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avxvnni and avx2; lengths are checked above.
        Isa::AvxVnni => unsafe { avx2::maxsim_vnni(query, documents, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avx512f, bw, vl and vnni; lengths are checked above.
        Isa::Avx512Vnni => unsafe { avx512::maxsim(query, documents, out) },
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: this level exists only where the system gave permission for tiles; lengths are checked above.
        Isa::Amx => unsafe { amx::maxsim(query, documents, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: this level exists only where detection found neon and dotprod; lengths are checked above.
        Isa::Neon => unsafe { neon::maxsim(query, documents, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: this level exists only where detection found neon and i8mm; lengths are checked above.
        Isa::I8mm => unsafe { neon::maxsim_i8mm(query, documents, out) },
    }
}

/// The single products behind a score: `out[t][j] = v[t][j]` for every document token and query token, without weights.
///
/// The maximum over `t` is bit for bit what [`maxsim_codes`] takes. Slow and plain; meant for explanations.
///
/// # Panics
/// As [`maxsim_codes`], and if `out` is not `[document tokens][query tokens]`.
pub fn token_scores(query: &CodeQuery, document: &DocumentCodes, out: &mut [f32]) {
    query.check();
    query.check_document(document);
    let (lanes, rows) = (query.lanes, query.rows());
    assert_eq!(out.len(), document.gains.len() * lanes.tokens(), "out must be [document tokens][query tokens]");
    let mut levels = vec![0; lanes.depth()];
    for (t, out) in out.chunks_exact_mut(lanes.tokens().max(1)).enumerate() {
        let row_bytes = query.bits.row_bytes(lanes.depth());
        decode(query.bits, query.levels, &document.codes[t * row_bytes..][..row_bytes], &mut levels);
        let gain = gain(document.gains[t]);
        for (j, out) in out.iter_mut().enumerate() {
            let dot: i32 = levels.iter().enumerate().map(|(d, &l)| i32::from(l) * i32::from(lanes.get(j, d))).sum();
            let fine = gain * dot as f32;
            *out = if rows == 0 {
                fine
            } else {
                let centroid = usize::from(document.centroids[t]).min(rows - 1);
                query.centroid_scores[(j / LANES * rows + centroid) * LANES + j % LANES] + fine
            };
        }
    }
}

/// Σ weight · maximum in the one order that all levels share: eight strided sums, then folded by halves.
///
/// # Panics
/// If the slices differ in length.
#[must_use]
pub fn weighted_sum(maxima: &[f32], weights: &[f32]) -> f32 {
    assert_eq!(maxima.len(), weights.len(), "one weight per maximum");
    let mut sums = [0.0_f32; 8];
    let (maxima, maxima_tail) = maxima.as_chunks::<8>();
    let (weights, weights_tail) = weights.as_chunks::<8>();
    for (maximum, weight) in maxima.iter().zip(weights) {
        for ((sum, m), w) in sums.iter_mut().zip(maximum).zip(weight) {
            *sum += m * w;
        }
    }
    for ((sum, m), w) in sums.iter_mut().zip(maxima_tail).zip(weights_tail) {
        *sum += m * w;
    }
    let fours: [f32; 4] = std::array::from_fn(|i| sums[i] + sums[i + 4]);
    (fours[0] + fours[2]) + (fours[1] + fours[3])
}

/// The levels of one token, plainly.
fn decode(bits: Bits, levels: &[i8; 16], row: &[u8], out: &mut [i8]) {
    if bits == Bits::Eight {
        out.iter_mut().zip(row).for_each(|(level, &code)| *level = (code ^ 0x80).cast_signed());
        return;
    }
    let mask = (1 << bits.get()) - 1;
    for (plane, out) in out.chunks_exact_mut(row.len()).enumerate() {
        for (level, &byte) in out.iter_mut().zip(row) {
            *level = levels[usize::from(byte >> (plane as u8 * bits.get()) & mask)];
        }
    }
}
