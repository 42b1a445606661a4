//! One long int8 row times many: exact integers, the same at every level.
//!
//! # Bound
//! Each row is read once and used once, so memory is the bound. From DRAM one core of a shared Xeon read 8.0 GB/s with the
//! compiler's `vpmaddwd` and AVX-512, 7.0 with AVX2, and 10.9 with `vpdpbusd` by hand; from L2 they were 34, 18 and 61. A kernel
//! by hand would thus gain a third where there is most to read, and is not worth its code yet.

#![expect(clippy::inline_always, reason = "what `widely` runs is compiled for the registers of its caller")]

use crate::level::Level;
use crate::wide::{Wide, widely};

/// The longest row: 2¹⁶ · 128 · 128 < 2³¹, so no sum of products leaves an i32.
pub const MAX_ROW: usize = 1 << 16;

/// Dot products of `query` with each of `rows`, `[out.len(), query.len()]`.
///
/// # Panics
/// If the query is empty or longer than [`MAX_ROW`], or `rows` is not as many rows as `out` has entries.
pub fn row_products(level: Level, query: &[i8], rows: &[i8], out: &mut [i32]) {
    assert!((1..=MAX_ROW).contains(&query.len()), "a row must have between 1 and {MAX_ROW} components");
    assert_eq!(rows.len(), query.len() * out.len(), "one row for each product");
    // Widened once: half of the conversions are then left to do for each row.
    let query: Vec<i16> = query.iter().map(|&value| i16::from(value)).collect();
    widely(level, Products { query: &query, rows, out });
}

struct Products<'a> {
    query: &'a [i16],
    rows: &'a [i8],
    out: &'a mut [i32],
}

impl Wide for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const LANES: usize>(self) {
        for (row, out) in self.rows.chunks_exact(self.query.len()).zip(self.out) {
            *out = row.iter().zip(self.query).map(|(&a, &b)| i32::from(i16::from(a)) * i32::from(b)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guarded, Random};

    #[test]
    fn every_level_gives_the_plain_sums() {
        let mut random = Random::new(7);
        // One component, tails of every register width, a common dimension, and the longest row at its extremes.
        for (width, extreme) in [(1, false), (31, false), (97, false), (2560, false), (10_240, false), (MAX_ROW, true)]
        {
            let mut values = |count: usize| -> Vec<i8> {
                random.floats(count).iter().map(|x| if extreme { -128 } else { (x * 127.0) as i8 }).collect()
            };
            for rows in [0, 1, 5] {
                let (query, data) = (Guarded::new(&values(width)), Guarded::new(&values(width * rows)));
                let product =
                    |row: &[i8]| row.iter().zip(&*query).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum::<i64>();
                let expected: Vec<i64> = data.chunks_exact(width).map(product).collect();
                for level in Level::available() {
                    let mut out = Guarded::new(&vec![1; rows]);
                    row_products(level, &query, &data, &mut out);
                    let out: Vec<i64> = out.iter().map(|&sum| i64::from(sum)).collect();
                    assert_eq!(out, expected, "{level}, {rows} rows of {width}");
                }
            }
        }
    }
}
