//! Exact float `MaxSim`: Σ over query tokens of the maximum over document tokens of the dot product, in f32.
//!
//! Documents are f32 or f16, which becomes f32 without loss on its way into the registers.
//!
//! # Error
//! Let u = 2^-24, γ(n) = n·u / (1 − n·u) (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.1). All below holds
//! where no Σ|q||d| reaches the largest f32.
//!
//! A dot product is summed over its `dim` dimensions in order, fused or not by level: its error is at most γ(dim) · Σ|q||d|,
//! which for unit vectors is below 7.7e-6 at dim 128. AMX multiplies parts (see `amx.rs`): its error is at most
//! (γ(17 + 6 · ⌈dim / 32⌉) + 2^-21) · Σ|q||d| + 2^-126 · Σ(|q| + |d| + 8), below 2.9e-6 there. Taking a maximum adds
//! nothing; the sum over query tokens adds at most γ(tokens/8 + 4) · Σ|maximum|. Levels differ from each other by at most
//! twice that.
//!
//! With [`Precision::Bfloat16`], AMX rounds both sides to 8 significant bits first, which changes each number by at most 2^-8
//! of itself and each product by less than 2^-7 + 2^-15: that comes to Σ|q||d| of it, 0.0079 for unit vectors at worst. Numbers
//! beyond bfloat16's largest, 3.39e38, become infinite.
//!
//! # Bound
//! 32 lanes × dim fused multiply-adds a token: 256 `vfmadd` of 512 bits at dim 128 on two ports (128 cycles), 512 of 256
//! bits (256 cycles), 1,024 `fmla` of 128 bits. AMX: 48 cycles for f32, 40 for f16, 8 in bfloat16.

mod scalar;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

use half::f16;

#[cfg(target_arch = "aarch64")]
use crate::aarch64::prefetch;
use crate::aligned::Aligned;
use crate::codes::weighted_sum;
use crate::lanes::LANES;
use crate::level::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::x86::prefetch_l2 as prefetch;

/// Tokens that pass all blocks of the query together: 12 KiB of f32 at dim 128, and whole tiles at every level.
const CHUNK: usize = 24;

/// How exact products are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As f32 has them.
    Float32,
    /// Where a CPU multiplies bfloat16 faster, as bfloat16 has them; sums are f32. Elsewhere as f32.
    Bfloat16,
}

/// Float query tokens in blocks of 32: `[block][dim][32 lanes]`, lanes past the last token zero.
#[derive(Clone)]
pub struct FloatLanes {
    values: Aligned<f32>,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    parts: std::sync::OnceLock<amx::Parts>,
    weights: Vec<f32>,
    dim: usize,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    precision: Precision,
}

impl FloatLanes {
    /// Packs `values`, `[tokens, dim]`, for products of this precision.
    ///
    /// # Panics
    /// If `dim` is 0 or `values` is not whole vectors.
    #[must_use]
    #[cfg_attr(
        not(all(target_arch = "x86_64", target_os = "linux")),
        expect(unused_variables, reason = "AMX alone uses it")
    )]
    pub fn pack(values: &[f32], dim: usize, precision: Precision) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "values must be whole vectors of dim");
        let tokens = values.len() / dim;
        let mut packed = Aligned::zeroed(tokens.div_ceil(LANES) * LANES * dim);
        for (token, vector) in values.chunks_exact(dim).enumerate() {
            let start = token / LANES * LANES * dim + token % LANES;
            packed[start..].iter_mut().step_by(LANES).zip(vector).for_each(|(out, &x)| *out = x);
        }
        Self {
            values: packed,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            parts: std::sync::OnceLock::new(),
            weights: vec![1.0; tokens],
            dim,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            precision,
        }
    }

    /// The same query with a weight for each token, which scales its part of the score.
    ///
    /// # Panics
    /// If there is not one weight for each token.
    #[must_use]
    pub fn weighted(mut self, weights: &[f32]) -> Self {
        self.weights.copy_from_slice(weights);
        self
    }

    /// Number of query tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.weights.len()
    }

    /// Dimensions per token.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    fn blocks(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(LANES * self.dim)
    }
}

/// The token vectors of one document, `[tokens, dim]`, as the caller stores them.
#[derive(Clone, Copy, Debug)]
pub enum FloatVectors<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
}

impl FloatVectors<'_> {
    /// Number of components of all tokens together.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "what is asked for is a number of components")]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// The first component that is NaN or infinite, and its position.
    #[must_use]
    pub fn not_finite(&self) -> Option<(usize, f32)> {
        let first = |values: &mut dyn Iterator<Item = f32>| values.enumerate().find(|(_, x)| !x.is_finite());
        match self {
            Self::F32(values) => first(&mut values.iter().copied()),
            Self::F16(values) => first(&mut values.iter().map(|x| x.to_f32())),
        }
    }

    /// Whether every component is finite; by exponents and without an early exit, so that it takes whole registers.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "inlined into functions that enable wider registers")]
    fn finite(&self) -> bool {
        match self {
            Self::F32(values) => !values.iter().fold(false, |any, x| any | (x.to_bits() & 0x7F80_0000 == 0x7F80_0000)),
            Self::F16(values) => !values.iter().fold(false, |any, x| any | (x.to_bits() & 0x7C00 == 0x7C00)),
        }
    }

    /// Asks for `count` components from `start` on.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "part of the kernels' inner loops")]
    fn prefetch(&self, start: usize, count: usize) {
        if start < self.len() {
            let (values, line): (*const u8, usize) = match self {
                Self::F32(values) => (values[start..].as_ptr().cast(), 16),
                Self::F16(values) => (values[start..].as_ptr().cast(), 32),
            };
            (0..count.div_ceil(line)).for_each(|line| prefetch(values.wrapping_add(64 * line)));
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn prefetch<T>(_: *const T) {}

/// Scores documents by exact `MaxSim`: −inf for one without tokens, NaN for one with a component that is not finite.
///
/// The query is finite. A NaN product, which finite vectors have if they overflow, is never a maximum.
///
/// # Panics
/// If a document is not whole vectors or `out` is not one entry per document.
pub fn maxsim_float(level: Level, query: &FloatLanes, documents: &[FloatVectors], out: &mut [f32]) {
    assert_eq!(documents.len(), out.len(), "one score per document");
    assert!(
        documents.iter().all(|document| document.len().is_multiple_of(query.dim)),
        "documents must be whole vectors"
    );
    match level.0 {
        Isa::Scalar => scalar::maxsim(query, documents, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these levels exist only where detection found avx2, fma and f16c.
        Isa::Avx2 | Isa::AvxVnni => unsafe { avx2::maxsim(query, documents, out) },
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: this level exists only where detection found AVX-512 F, BW and VL, and permission for tiles.
        Isa::Amx if query.tokens() > 0 => unsafe { amx::maxsim(query, documents, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: all higher levels exist only where detection found avx512f and fma.
        _ => unsafe { avx512::maxsim(query, documents, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: these levels exist only where detection found neon.
        _ => unsafe { neon::maxsim(query, documents, out) },
    }
}

/// The walk of all levels but AMX: `tile(lanes, tokens, best)` takes up to [`CHUNK`] tokens into the maxima of one block.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inlined into functions that enable wider registers")]
fn for_each_document(
    query: &FloatLanes,
    documents: &[FloatVectors],
    out: &mut [f32],
    widen: impl Fn(&[f16], &mut [f32]),
    tile: impl Fn(&[f32], &[f32], &mut [f32; LANES]),
) {
    let chunk = CHUNK * query.dim;
    let mut widened = Aligned::<f32>::zeroed(chunk);
    let mut maxima = vec![[0.0_f32; LANES]; query.tokens().div_ceil(LANES)];
    for (index, (document, out)) in documents.iter().zip(out).enumerate() {
        let later = documents.get(index + 1).unwrap_or(document);
        if document.len() == 0 {
            *out = f32::NEG_INFINITY;
            continue;
        }
        if !document.finite() {
            *out = f32::NAN;
            continue;
        }
        maxima.fill([f32::NEG_INFINITY; LANES]);
        let mut start = 0;
        let mut take = |tokens: &[f32]| {
            later.prefetch(start, tokens.len());
            start += tokens.len();
            for (lanes, maxima) in query.blocks().zip(&mut maxima) {
                tile(lanes, tokens, maxima);
            }
        };
        match document {
            FloatVectors::F32(values) => values.chunks(chunk).for_each(take),
            FloatVectors::F16(values) => {
                for values in values.chunks(chunk) {
                    let widened = &mut widened[..values.len()];
                    widen(values, widened);
                    take(widened);
                }
            }
        }
        *out = weighted_sum(&maxima.as_flattened()[..query.tokens()], &query.weights);
    }
}

/// f16 to f32 without a test, so that the compiler vectorises it: the bits where f32 has them, and then the difference of
/// the exponents' bias as an exact product, which is right for subnormal numbers too. Not for infinities and NaN.
#[inline]
fn widen(values: &[f16], out: &mut [f32]) {
    const BIAS: f32 = f32::from_bits((127 + 112) << 23);
    for (out, x) in out.iter_mut().zip(values) {
        let bits = u32::from(x.to_bits());
        let magnitude = f32::from_bits((bits & 0x7FFF) << 13) * BIAS;
        *out = f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16);
    }
}
