//! Query tokens as int8, packed once for the kernels of every level.

use crate::aligned::Aligned;

/// Query tokens per block: one 32-byte row of a score table, two AVX-512 registers of sums.
pub const LANES: usize = 32;

/// Dimensions in one tile row; stored depth is a multiple of it, so that no kernel needs a tail.
pub(crate) const DEPTH_STEP: usize = 64;

/// The largest depth: 16,384 · 255 · 128 < 2^31, so no sum of products leaves an i32.
pub(crate) const MAX_DEPTH: usize = 16_384;

/// int8 query tokens in blocks of [`LANES`]: `[block][depth / 4][32 lanes][4 dims]`, 64-byte aligned.
///
/// This is the order that `vpdpbusd` and the B tiles of AMX read; AVX2 and scalar kernels make do with it. Lanes past the
/// last token and dimensions past `depth` are zero.
#[derive(Clone)]
pub struct QueryLanes {
    values: Aligned<i8>,
    sums: Vec<i32>,
    scales: Vec<f32>,
    tokens: usize,
    depth: usize,
    stored_depth: usize,
}

impl QueryLanes {
    /// Quantises `values`, `[tokens, depth]`, symmetrically with one scale per token: max |x| / 127.
    ///
    /// `value ≈ scale · int8`, rounded half to even; a zero token has scale 0.
    ///
    /// # Panics
    /// If `depth` is not a multiple of 32 in `32..=16384`, or `values` is not whole rows.
    #[must_use]
    pub fn quantize(values: &[f32], depth: usize) -> Self {
        Self::pack(values, depth, |token| token.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0)
    }

    /// Quantises `values`, `[tokens, depth]`, with one common scale; what lies beyond ±127 saturates.
    ///
    /// # Panics
    /// As [`QueryLanes::quantize`].
    #[must_use]
    pub fn quantize_at(values: &[f32], depth: usize, scale: f32) -> Self {
        Self::pack(values, depth, |_| scale)
    }

    fn pack(values: &[f32], depth: usize, scale_of: impl Fn(&[f32]) -> f32) -> Self {
        assert!(depth.is_multiple_of(32) && (32..=MAX_DEPTH).contains(&depth), "depth must be a multiple of 32");
        assert!(values.len().is_multiple_of(depth), "values must be whole rows of depth");
        let tokens = values.len() / depth;
        let stored_depth = depth.next_multiple_of(DEPTH_STEP);
        let mut lanes = Self {
            values: Aligned::zeroed(tokens.div_ceil(LANES) * LANES * stored_depth),
            sums: vec![0; tokens.next_multiple_of(LANES)],
            scales: Vec::with_capacity(tokens),
            tokens,
            depth,
            stored_depth,
        };
        for (token, row) in values.chunks_exact(depth).enumerate() {
            let scale = scale_of(row);
            lanes.scales.push(scale);
            if scale > 0.0 {
                let start = token / LANES * LANES * stored_depth + token % LANES * 4;
                let fours = lanes.values[start..].chunks_mut(4 * LANES);
                let mut sum = 0;
                for (four, x) in fours.zip(row.as_chunks::<4>().0) {
                    let quantized = x.map(|x| round_to_i8(x / scale));
                    four[..4].copy_from_slice(&quantized);
                    sum += quantized.iter().map(|&q| i32::from(q)).sum::<i32>();
                }
                lanes.sums[token] = sum;
            }
        }
        lanes
    }

    /// Number of query tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Dimensions per token.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Blocks of [`LANES`] tokens, the last one filled up with zero tokens.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.tokens.div_ceil(LANES)
    }

    /// What one int8 unit of each token is worth.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The int8 value of dimension `dimension` of token `token`.
    pub(crate) fn get(&self, token: usize, dimension: usize) -> i8 {
        let block = token / LANES * LANES * self.stored_depth;
        self.values[block + dimension / 4 * 4 * LANES + token % LANES * 4 + dimension % 4]
    }

    /// Depth rounded up to a multiple of [`DEPTH_STEP`]: a block holds `stored_depth / 4` groups of 32 × 4 bytes.
    pub(crate) fn stored_depth(&self) -> usize {
        self.stored_depth
    }

    /// One block, `[stored_depth / 4][32][4]`.
    pub(crate) fn block(&self, block: usize) -> &[i8] {
        let size = LANES * self.stored_depth;
        &self.values[block * size..][..size]
    }

    /// Sum of the int8 values of each lane of a block.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn sums(&self, block: usize) -> &[i32; LANES] {
        &self.sums.as_chunks::<LANES>().0[block]
    }

    /// Where the sums of each block start if the other side is raised by `offset` to be unsigned: at `-offset · Σ q`.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn starts(&self, offset: i32) -> Vec<[i32; LANES]> {
        (0..self.blocks()).map(|block| self.sums(block).map(|sum| -offset * sum)).collect()
    }

    /// One block as pairs of i16, `[depth / 2][32 lanes][2]`: the operand of a multiplication that adds pairs in i32.
    pub(crate) fn widen_block(&self, block: usize, out: &mut [i16]) {
        let fours = self.block(block).as_chunks::<{ 4 * LANES }>().0;
        for (four, out) in fours.iter().zip(out.as_chunks_mut::<{ 4 * LANES }>().0) {
            for (lane, values) in four.as_chunks::<4>().0.iter().enumerate() {
                for (d, &value) in values.iter().enumerate() {
                    out[d / 2 * 2 * LANES + lane * 2 + d % 2] = i16::from(value);
                }
            }
        }
    }
}

/// Rounds to the nearest integer, half to even, within ±127.
#[inline]
#[expect(clippy::manual_clamp, reason = "`clamp` keeps NaN")]
fn round_to_i8(x: f32) -> i8 {
    // Adding 1.5·2^23 leaves no fraction bits, so the FPU rounds half to even and the integer is in the low bits.
    // `max` and `min` (not `clamp`) so that NaN becomes -127.
    (x.max(-127.0).min(127.0) + 12_582_912.0).to_bits() as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantize_rounds_half_to_even_and_packs_by_fours() {
        // 33 tokens reach a second block; depth 96 is stored as 128.
        let depth = 96;
        let mut values = vec![0.0; 33 * depth];
        values[32 * depth..][..6].copy_from_slice(&[127.0, 0.5, 1.5, -0.5, -2.5, -127.0]);
        let lanes = QueryLanes::quantize(&values, depth);
        assert_eq!((lanes.tokens(), lanes.blocks(), lanes.stored_depth()), (33, 2, 128));
        assert_eq!(lanes.scales()[..32], [0.0; 32]);
        assert_eq!(lanes.scales()[32].to_bits(), 1.0_f32.to_bits());
        let got: Vec<i8> = (0..7).map(|d| lanes.get(32, d)).collect();
        assert_eq!(got, [127, 0, 2, 0, -2, -127, 0]);
        assert_eq!(lanes.block(1)[..4], [127, 0, 2, 0]);
        assert_eq!(lanes.block(1)[128..132], [-2, -127, 0, 0]);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(lanes.sums(1)[0], 0);
        assert!(lanes.block(1).iter().skip(132).all(|&q| q == 0));
    }

    #[test]
    fn a_common_scale_saturates() {
        let mut values = vec![0.0; 32];
        values[..4].copy_from_slice(&[1e9, -1e9, 0.02, f32::NAN]);
        let lanes = QueryLanes::quantize_at(&values, 32, 0.01);
        assert_eq!([0, 1, 2, 3].map(|d| lanes.get(0, d)), [127, -127, 2, -127]);
    }
}
