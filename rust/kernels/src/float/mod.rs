//! Exact float `MaxSim`: Σ over query tokens of the maximum over document tokens of the dot product, in f32.
//!
//! # Error
//! A dot product is summed over its `dim` dimensions in order, fused or not by level. With u = 2^-24 its error is at most
//! γ(dim) · Σ|q||d|, γ(n) = n·u / (1 − n·u) (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.1), which for unit
//! vectors is below 7.7e-6 at dim 128. Taking a maximum adds nothing; the sum over query tokens adds at most
//! γ(tokens/8 + 4) · Σ|maximum|. Levels differ from each other by at most twice that.
//!
//! # Bound
//! 32 lanes × dim fused multiply-adds a token: 256 `vfmadd` of 512 bits at dim 128 on two ports (128 cycles), 512 of 256
//! bits (256 cycles), 1,024 `fmla` of 128 bits.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

use crate::aligned::Aligned;
use crate::codes::weighted_sum;
use crate::lanes::LANES;
use crate::level::{Isa, Level};

/// Float query tokens in blocks of 32: `[block][dim][32 lanes]`, lanes past the last token zero.
#[derive(Clone)]
pub struct FloatLanes {
    values: Aligned<f32>,
    ones: Vec<f32>,
    dim: usize,
}

impl FloatLanes {
    /// Packs `values`, `[tokens, dim]`.
    ///
    /// # Panics
    /// If `dim` is 0 or `values` is not whole vectors.
    #[must_use]
    pub fn pack(values: &[f32], dim: usize) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "values must be whole vectors of dim");
        let tokens = values.len() / dim;
        let mut packed = Aligned::zeroed(tokens.div_ceil(LANES) * LANES * dim);
        for (token, vector) in values.chunks_exact(dim).enumerate() {
            let start = token / LANES * LANES * dim + token % LANES;
            packed[start..].iter_mut().step_by(LANES).zip(vector).for_each(|(out, &x)| *out = x);
        }
        Self { values: packed, ones: vec![1.0; tokens], dim }
    }

    /// Number of query tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ones.len()
    }

    /// Dimensions per token.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }
}

/// Scores documents, each `[tokens, dim]`, by exact `MaxSim`; −inf for a document without tokens.
///
/// Inputs are finite; a NaN product is never a maximum.
///
/// # Panics
/// If a document is not whole vectors or `out` is not one entry per document.
pub fn maxsim_float(level: Level, query: &FloatLanes, documents: &[&[f32]], out: &mut [f32]) {
    assert_eq!(documents.len(), out.len(), "one score per document");
    assert!(
        documents.iter().all(|document| document.len().is_multiple_of(query.dim)),
        "documents must be whole vectors"
    );
    match level.0 {
        Isa::Scalar => scalar::maxsim(query, documents, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these levels exist only where detection found avx2 and fma.
        Isa::Avx2 | Isa::AvxVnni => unsafe { avx2::maxsim(query, documents, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: all higher levels exist only where detection found avx512f and fma.
        _ => unsafe { avx512::maxsim(query, documents, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: these levels exist only where detection found neon.
        _ => unsafe { neon::maxsim(query, documents, out) },
    }
}

/// The walk that all levels share: `tile(lanes, document, dim, best)` takes a document into the maxima of one block.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inlined into functions that enable wider registers")]
fn for_each_document(
    query: &FloatLanes,
    documents: &[&[f32]],
    out: &mut [f32],
    mut tile: impl FnMut(&[f32], &[f32], &mut [f32; LANES]),
) {
    let mut maxima = vec![[0.0_f32; LANES]; query.tokens().div_ceil(LANES)];
    for (document, out) in documents.iter().zip(out) {
        if document.is_empty() {
            *out = f32::NEG_INFINITY;
            continue;
        }
        for (lanes, maxima) in query.values.chunks_exact(LANES * query.dim).zip(&mut maxima) {
            maxima.fill(f32::NEG_INFINITY);
            tile(lanes, document, maxima);
        }
        *out = weighted_sum(&maxima.as_flattened()[..query.tokens()], &query.ones);
    }
}
