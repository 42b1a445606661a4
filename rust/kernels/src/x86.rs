//! Loads, stores, the prefetch and the i16 products that the x86 kernels share.

use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_storeu_ps, _mm256_storeu_si256, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_storeu_ps,
    _mm512_storeu_si512,
};

use crate::lanes::LANES;

macro_rules! loads_and_stores {
    ($feature:literal, $bytes:literal, $load:ident, $store:ident, $vector:ty, $element:ty, $load_intrinsic:ident, $store_intrinsic:ident) => {
        /// Reads one register from the start of `source`, which must hold one.
        #[inline]
        #[target_feature(enable = $feature)]
        pub(crate) fn $load(source: &[$element]) -> $vector {
            assert!(size_of_val(source) >= $bytes);
            // SAFETY: the length is checked; the instruction asks for no alignment.
            unsafe { $load_intrinsic(source.as_ptr().cast()) }
        }

        /// Writes one register to the start of `target`, which must hold one.
        #[inline]
        #[target_feature(enable = $feature)]
        pub(crate) fn $store(target: &mut [$element], vector: $vector) {
            assert!(size_of_val(target) >= $bytes);
            // SAFETY: the length is checked; the instruction asks for no alignment.
            unsafe { $store_intrinsic(target.as_mut_ptr().cast(), vector) }
        }
    };
}

/// Asks for the cache line of an address, any address.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
    // SAFETY: a prefetch reads nothing and faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Asks for the cache line of an address in the second cache, where more has room.
#[inline]
pub(crate) fn prefetch_l2<T>(address: *const T) {
    // SAFETY: a prefetch reads nothing and faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}

loads_and_stores!("avx2", 32, load_i32x8, store_i32x8, __m256i, i32, _mm256_loadu_si256, _mm256_storeu_si256);
loads_and_stores!("avx2", 32, load_f32x8, store_f32x8, __m256, f32, _mm256_loadu_ps, _mm256_storeu_ps);
loads_and_stores!("avx2", 32, load_u8x32, store_u8x32, __m256i, u8, _mm256_loadu_si256, _mm256_storeu_si256);
loads_and_stores!("avx512f", 64, load_i32x16, store_i32x16, __m512i, i32, _mm512_loadu_si512, _mm512_storeu_si512);
loads_and_stores!("avx512f", 64, load_f32x16, store_f32x16, __m512, f32, _mm512_loadu_ps, _mm512_storeu_ps);
loads_and_stores!("avx512f", 64, load_u8x64, store_u8x64, __m512i, u8, _mm512_loadu_si512, _mm512_storeu_si512);

/// Sums of `ROWS` rows of i16, `stride` apart, against one widened block.
///
/// `madd_epi16` adds two products of at most 128 · 128 in i32, which cannot overflow.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn dots_i16<const ROWS: usize>(
    pairs: &[i16],
    rows: &[i16],
    stride: usize,
    depth: usize,
) -> [[__m256i; 4]; ROWS] {
    assert!(pairs.len() >= depth * LANES && rows.len() >= (ROWS - 1) * stride + depth && depth.is_multiple_of(2));
    let mut sums = [[_mm256_setzero_si256(); 4]; ROWS];
    for pair in 0..depth / 2 {
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row · stride + 2 · pair + 2 ≤ rows.len(), asserted above.
            let value = unsafe { rows.as_ptr().add(row * stride + 2 * pair).cast::<i32>().read_unaligned() };
            let value = _mm256_set1_epi32(value);
            for (part, sum) in sums.iter_mut().enumerate() {
                // SAFETY: (pair + 1) · 64 ≤ pairs.len(), asserted above.
                let query = unsafe { _mm256_loadu_si256(pairs.as_ptr().add(pair * 2 * LANES + part * 16).cast()) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(value, query));
            }
        }
    }
    sums
}

/// What is added to levels and centroids, which lie within ±21, so that they are unsigned.
pub(crate) const OFFSET: i32 = 21;

/// Sums of products of one row with one block of the query, which comes from L1 as memory operands.
///
/// The row's values are raised by [`OFFSET`] to 0..=42 and the query's lie within ±127: three `maddubs` results add up to at most 6 · 42 · 127 = 32,004.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn dot_maddubs(row: &[u8], lanes: &[i8], depth: usize, start: &[i32; LANES]) -> [__m256i; 4] {
    assert!(row.len() >= depth && lanes.len() >= depth * LANES && depth.is_multiple_of(4));
    let mut sums: [__m256i; 4] = [0, 8, 16, 24].map(|lane| load_i32x8(&start[lane..]));
    let fours = depth / 4;
    for three in 0..fours / 3 {
        // SAFETY: 3 · three + 3 ≤ depth / 4, which both slices hold by the assertion.
        unsafe { add_maddubs::<3>(row.as_ptr().add(12 * three), lanes.as_ptr().add(12 * LANES * three), &mut sums) };
    }
    let done = fours / 3 * 3;
    // SAFETY: done + fours % 3 = depth / 4, which both slices hold by the assertion.
    unsafe {
        let (row, lanes) = (row.as_ptr().add(4 * done), lanes.as_ptr().add(4 * LANES * done));
        match fours % 3 {
            1 => add_maddubs::<1>(row, lanes, &mut sums),
            2 => add_maddubs::<2>(row, lanes, &mut sums),
            _ => {}
        }
    }
    sums
}

/// Adds `4 · FOURS` products to each lane; `FOURS` results of `maddubs` are added in i16.
///
/// # Safety
/// `row` is readable for `4 · FOURS` bytes and `lanes` for 32 times that.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_maddubs<const FOURS: usize>(row: *const u8, lanes: *const i8, sums: &mut [__m256i; 4]) {
    let values: [__m256i; FOURS] = std::array::from_fn(|four| {
        // SAFETY: the caller vouches for 4 · FOURS bytes. A broadcast of four bytes from memory costs no vector port.
        _mm256_set1_epi32(unsafe { row.add(4 * four).cast::<i32>().read_unaligned() })
    });
    for (part, sum) in sums.iter_mut().enumerate() {
        let product = |four: usize| {
            // SAFETY: the caller vouches for 4 · FOURS · 32 bytes.
            let query = unsafe { _mm256_loadu_si256(lanes.add(four * 4 * LANES + part * 32).cast()) };
            _mm256_maddubs_epi16(values[four], query)
        };
        let products = (1..FOURS).fold(product(0), |sum, four| _mm256_add_epi16(sum, product(four)));
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
    }
}
