//! AMX: products of bfloat16 parts, 32 tokens × 32 lanes × 32 dimensions at a time. While the tiles multiply one step, the
//! vector units split the next.
//!
//! # Splitting
//! An f32 has 24 significant bits, a bfloat16 has 8 and the same exponents. So x = a + b + c without error, where a is x cut
//! off after 8 bits, b is x − a cut off likewise, and c is the rest; all have the sign of x, and nothing overflows, as
//! rounding could. |b| < 2^-7 |x| and |c| < 2^-15 |x|. f16 has 11 bits and no exponent as small as f32's smallest: c = 0.
//!
//! # Error
//! Of the nine products of parts six are added. Those left out, bc, cb and cc, come to less than 2^-21 |q||d|.
//! `tdpbf16ps` sums 16 products with fused multiply-adds, twice over, then adds both and the result to the sum: a product
//! takes part in at most 16 + 1 + 6 · ⌈dim / 32⌉ additions. Since parts share their number's sign, the magnitudes of all
//! products add up to at most Σ|q||d|, which the factor γ of the module's bound refers to.
//! In bfloat16 there is one part on each side, rounded instead of cut off, and γ counts 17 + ⌈dim / 32⌉ additions.
//!
//! It takes numbers below 2^-126 for zero, in parts and in results: of q and d less than 2^-126 is lost each, and of each of
//! at most 8 · dim results.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_UNORD_Q, _mm256_maskz_loadu_epi16, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtne2ps_pbh, _mm512_cvtph_ps, _mm512_maskz_loadu_ps,
    _mm512_max_ps, _mm512_set1_epi32, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_sub_ps, _mm512_ternarylogic_epi32,
};
use std::ops::Range;

use half::{bf16, f16};

use super::{FloatLanes, FloatVectors, Precision};
use crate::aligned::Aligned;
use crate::codes::weighted_sum;
use crate::lanes::LANES;
use crate::tiles::{PART, PARTS, ROWS, Session, products};
use crate::x86::{load_f32x16, store_f32x16};

/// Dimensions of one step.
const STEP: usize = 32;

/// Values of all parts of 32 rows, or lanes, in one step.
const STEP_VALUES: usize = PARTS * PART;

/// Values that a cache line holds at most.
const LINE: usize = 32;

/// The query's parts, `[block][step][part][half of the lanes][16][16 lanes][2 dimensions]`; pairs are 16 dimensions apart,
/// or neighbours if there is one part.
#[derive(Clone)]
pub(super) struct Parts {
    values: Aligned<u16>,
    /// How many are not zero everywhere; at least one, so that a document that is not finite shows.
    count: usize,
}

impl Parts {
    fn new(query: &FloatLanes) -> Self {
        let steps = query.dim.div_ceil(STEP);
        let kept = parts_kept(query.precision, PARTS);
        let mut values = Aligned::<u16>::zeroed(query.blocks().count() * steps * STEP_VALUES);
        let mut count = 1;
        for (lanes, parts) in query.blocks().zip(values.chunks_exact_mut(steps * STEP_VALUES)) {
            for (d, lanes) in lanes.as_chunks::<LANES>().0.iter().enumerate() {
                let (step, (pair, odd)) =
                    (d / STEP, if kept == 1 { (d % STEP / 2, d % 2) } else { (d % 16, d % STEP / 16) });
                let parts = &mut parts[step * STEP_VALUES..][..STEP_VALUES];
                for (lane, &x) in lanes.iter().enumerate() {
                    let mut rest = x;
                    for (index, part) in parts.chunks_exact_mut(PART).enumerate().take(kept) {
                        let cut = if kept == 1 {
                            bf16::from_f32(rest).to_f32()
                        } else {
                            f32::from_bits(rest.to_bits() & !0xFFFF)
                        };
                        rest -= cut;
                        part[lane / 16 * 512 + pair * 32 + lane % 16 * 2 + odd] = (cut.to_bits() >> 16) as u16;
                        if cut != 0.0 {
                            count = count.max(index + 1);
                        }
                    }
                }
            }
        }
        Self { values, count }
    }
}

/// How many of `all` parts of a number are multiplied.
fn parts_kept(precision: Precision, all: usize) -> usize {
    if precision == Precision::Bfloat16 { 1 } else { all }
}

/// Up to 32 successive tokens of one document.
#[derive(Clone, Copy)]
struct Run<'a> {
    document: FloatVectors<'a>,
    precision: Precision,
    later: FloatVectors<'a>,
    index: usize,
    start: usize,
    tokens: usize,
    dim: usize,
}

/// # Safety
/// The process has permission for tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn maxsim(query: &FloatLanes, documents: &[FloatVectors], out: &mut [f32]) {
    let parts = query.parts.get_or_init(|| Parts::new(query));
    let (dim, steps) = (query.dim, query.dim.div_ceil(STEP));
    let [mut rows, mut next_rows] = [(); 2].map(|()| Aligned::<u16>::zeroed(STEP_VALUES));
    let mut sums = Aligned::<f32>::zeroed(ROWS * LANES);
    let mut maxima = vec![[0.0_f32; LANES]; query.tokens().div_ceil(LANES)];
    out.fill(f32::NEG_INFINITY);
    let mut runs = documents.iter().enumerate().flat_map(|(index, document)| {
        let later = *documents.get(index + 1).unwrap_or(document);
        let tokens = document.len() / dim;
        (0..tokens).step_by(ROWS).map(move |start| Run {
            document: *document,
            precision: query.precision,
            later,
            index,
            start,
            tokens: (tokens - start).min(ROWS),
            dim,
        })
    });
    // SAFETY: the caller vouches for the permission.
    let session = unsafe { Session::start() };

    let mut next = runs.next();
    if let Some(run) = &next {
        run.split(0, 0..ROWS, &mut next_rows);
    }
    let mut before: Option<(Run, usize)> = None;
    let mut spoiled = false;
    while let Some(run) = next {
        next = runs.next();
        for block in 0..maxima.len() {
            for step in 0..steps {
                std::mem::swap(&mut rows, &mut next_rows);
                // What is split meanwhile: this run's next step, or its first again for the next block.
                let (ahead, ahead_step) = match (step + 1 < steps, block + 1 < maxima.len()) {
                    (true, _) => (Some(&run), step + 1),
                    (false, true) => (Some(&run), 0),
                    (false, false) => (next.as_ref(), 0),
                };
                let lanes = &parts.values[(block * steps + step) * STEP_VALUES..][..STEP_VALUES];
                let half = run.rows() == ROWS / 2;
                let shares = products(run.parts(), parts.count);
                let share_rows = ROWS.div_ceil(shares);
                let last = (step == 0).then_some(&mut *sums);
                session.add_parts((&rows, run.parts()), (lanes, parts.count), last, half, |share| {
                    if block == 0 {
                        let count = (run.tokens * dim).div_ceil(shares * steps).next_multiple_of(LINE);
                        run.later.prefetch(run.start * dim + (step * shares + share) * count, count);
                    }
                    if let Some(ahead) = ahead {
                        let rows = share * share_rows..((share + 1) * share_rows).min(ahead.rows());
                        ahead.split(ahead_step, rows, &mut next_rows);
                    }
                });
                if step == 0
                    && let Some((run, block)) = before
                {
                    spoiled = run.fold(query, (block, &sums), &mut maxima, spoiled, out);
                }
            }
            before = Some((run, block));
        }
    }
    if let Some((run, block)) = before {
        session.store(&mut sums);
        run.fold(query, (block, &sums), &mut maxima, spoiled, out);
    }
}

impl Run<'_> {
    /// Whether it holds the document's last token.
    fn closes(&self) -> bool {
        (self.start + self.tokens) * self.dim == self.document.len()
    }

    /// Rows that are multiplied.
    fn rows(&self) -> usize {
        if self.tokens <= ROWS / 2 { ROWS / 2 } else { ROWS }
    }

    /// Parts of its numbers that can be other than zero.
    fn parts(&self) -> usize {
        let all = match self.document {
            FloatVectors::F32(_) => 3,
            FloatVectors::F16(_) => 2,
        };
        parts_kept(self.precision, all)
    }

    /// Takes sums, `[32 tokens][32]`, into the maxima of a block, and writes the score after the last.
    ///
    /// `spoiled` says whether this document had sums that are NaN, and so does the result.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn fold(
        &self,
        query: &FloatLanes,
        (block, sums): (usize, &[f32]),
        maxima: &mut [[f32; LANES]],
        spoiled: bool,
        out: &mut [f32],
    ) -> bool {
        let blocks = maxima.len();
        let best = &mut maxima[block];
        if self.start == 0 {
            best.fill(f32::NEG_INFINITY);
        }
        let mut highest = [load_f32x16(best), load_f32x16(&best[16..])];
        let mut unordered = 0;
        for sums in &sums.as_chunks::<LANES>().0[..self.tokens] {
            let sums = [load_f32x16(sums), load_f32x16(&sums[16..])];
            // NaN for sums that are infinite, too, as what rounds to infinity would make them.
            let finite = _mm512_sub_ps(sums[0], sums[0]);
            unordered |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(finite, finite);
            highest = [0, 1].map(|half| _mm512_max_ps(sums[half], highest[half]));
        }
        store_f32x16(best, highest[0]);
        store_f32x16(&mut best[16..], highest[1]);
        let spoiled = unordered != 0 || spoiled && (self.start, block) != (0, 0);
        if block + 1 == blocks && self.closes() {
            // A component that is not finite leaves a part that is NaN, and so are its token's sums with every lane; but
            // sums that overflow may be, too.
            out[self.index] = if spoiled && self.document.not_finite().is_some() {
                f32::NAN
            } else {
                weighted_sum(&maxima.as_flattened()[..query.tokens()], &query.weights)
            };
        }
        spoiled
    }

    /// Splits 32 dimensions of some rows; one past the last row repeats it.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn split(&self, step: usize, rows: Range<usize>, parts: &mut [u16]) {
        let width = (self.dim - step * STEP).min(STEP);
        let mask = u32::MAX >> (STEP - width);
        let (low, high) = (mask as u16, (mask >> 16) as u16);
        let load_f32 = |values: &[f32]| {
            // SAFETY: the masks leave `width` values, which the slice has; what is masked is not touched.
            unsafe {
                [
                    _mm512_maskz_loadu_ps(low, values.as_ptr()),
                    _mm512_maskz_loadu_ps(high, values.as_ptr().wrapping_add(16)),
                ]
            }
        };
        let load_f16 = |values: &[f16]| {
            let values: *const i16 = values.as_ptr().cast();
            // SAFETY: as above.
            let x = unsafe {
                [_mm256_maskz_loadu_epi16(low, values), _mm256_maskz_loadu_epi16(high, values.wrapping_add(16))]
            };
            x.map(|x| _mm512_cvtph_ps(x))
        };
        match (self.document, self.parts()) {
            (FloatVectors::F32(values), 1) => self.split_rows::<f32, 1>(values, step, rows, parts, load_f32),
            (FloatVectors::F32(values), _) => self.split_rows::<f32, 3>(values, step, rows, parts, load_f32),
            (FloatVectors::F16(values), 1) => self.split_rows::<f16, 1>(values, step, rows, parts, load_f16),
            (FloatVectors::F16(values), _) => self.split_rows::<f16, 2>(values, step, rows, parts, load_f16),
        }
    }

    /// One part is rounded, several are cut off.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn split_rows<T, const COUNT: usize>(
        &self,
        values: &[T],
        step: usize,
        rows: Range<usize>,
        parts: &mut [u16],
        load: impl Fn(&[T]) -> [__m512; 2],
    ) {
        assert!(parts.len() >= STEP_VALUES && rows.end <= ROWS && COUNT <= PARTS);
        let width = (self.dim - step * STEP).min(STEP);
        for row in rows {
            let token = self.start + row.min(self.tokens - 1);
            let mut x = load(&values[token * self.dim + step * STEP..][..width]);
            for part in 0..COUNT {
                let halves = if COUNT == 1 { rounded(x) } else { upper_halves(x) };
                // SAFETY: part < PARTS and row < ROWS: 64 bytes lie in `parts` by the assertion.
                unsafe { _mm512_storeu_si512(parts.as_mut_ptr().add(part * PART + row * STEP).cast(), halves) };
                x = x.map(|x| lower_part(x));
            }
        }
    }
}

/// What a bfloat16 leaves of a number, without error.
#[inline]
#[target_feature(enable = "avx512f")]
fn lower_part(x: __m512) -> __m512 {
    let cut = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(!0xFFFF));
    _mm512_sub_ps(x, _mm512_castsi512_ps(cut))
}

/// The numbers rounded to bfloat16, in order; NaN stays NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded([first, second]: [__m512; 2]) -> __m512i {
    // SAFETY: 32 times 16 bits either way.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) }
}

/// The numbers cut off to bfloat16: those of the first register in the even places, of the second in the odd ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn upper_halves([even, odd]: [__m512; 2]) -> __m512i {
    let even = _mm512_srli_epi32::<16>(_mm512_castps_si512(even));
    // even OR (odd AND mask).
    _mm512_ternarylogic_epi32::<0xF8>(even, _mm512_castps_si512(odd), _mm512_set1_epi32(!0xFFFF))
}
