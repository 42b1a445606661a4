//! Ragged token vectors: a flat `[tokens, dim]` array and the offsets at which documents begin.

use half::f16;

use crate::error::{Error, Result};

/// The largest magnitude that is encoded.
const LARGEST: f32 = 1e12;

/// A batch of documents or queries as token vectors, checked once on entry.
///
/// `values` is `[tokens, dim]`, row-major, float32; document `i` owns rows `offsets[i]..offsets[i + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct TokenMatrix<'a> {
    values: &'a [f32],
    offsets: &'a [i64],
    dim: usize,
}

impl<'a> TokenMatrix<'a> {
    /// Checks shape, offsets and finiteness.
    ///
    /// `name` tells how the caller calls item `i` ("document \"a\"", "query 3"), for messages.
    ///
    /// # Errors
    /// [`Error::Invalid`] for offsets that do not cover the rows in order, [`Error::NotFinite`] for NaN and infinities.
    pub fn new(values: &'a [f32], offsets: &'a [i64], dim: usize, name: impl Fn(usize) -> String) -> Result<Self> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::invalid(format!("{} values do not make rows of dimension {dim}", values.len())));
        }
        check_offsets(offsets, values.len() / dim)?;
        if let Some(at) = first(values, |value| !value.is_finite()) {
            let (item, token) = Self { values, offsets, dim }.locate(at / dim);
            return Err(Error::NotFinite { thing: name(item), token, dimension: at % dim, value: values[at] });
        }
        Ok(Self { values, offsets, dim })
    }

    /// Checks that no value is too large to be encoded: far below the largest float32, so that neither norms nor scores
    /// become infinite.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the place.
    pub fn check_magnitude(&self, name: impl Fn(usize) -> String) -> Result<()> {
        self.check_within(LARGEST, "encoded", name)
    }

    /// Checks that float16 has every value, but for rounding.
    ///
    /// # Errors
    /// As [`Self::check_magnitude`].
    pub fn check_float16(&self, name: impl Fn(usize) -> String) -> Result<()> {
        self.check_within(f16::MAX.to_f32(), "kept as float16", name)
    }

    fn check_within(&self, largest: f32, what: &str, name: impl Fn(usize) -> String) -> Result<()> {
        let Some(at) = first(self.values, |value| value.abs() > largest) else { return Ok(()) };
        let (item, token) = self.locate(at / self.dim);
        Err(Error::invalid(format!(
            "{} has {:e} in dimension {} of token {token}, and what is {what} must lie within ±{largest:e}; scale its \
             vectors, to unit length if scores are to be cosines",
            name(item),
            self.values[at],
            at % self.dim,
        )))
    }

    /// Number of documents or queries.
    #[must_use]
    pub fn items(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of token vectors in all items together.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Components of a token vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All token vectors, `[tokens, dim]`.
    #[must_use]
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Token vectors of one item, `[its tokens, dim]`.
    #[must_use]
    pub fn item(&self, item: usize) -> &'a [f32] {
        let rows = self.item_rows(item);
        &self.values[rows.start * self.dim..rows.end * self.dim]
    }

    /// Rows of one item.
    #[must_use]
    pub fn item_rows(&self, item: usize) -> std::ops::Range<usize> {
        self.offsets[item] as usize..self.offsets[item + 1] as usize
    }

    /// Number of token vectors of one item.
    #[must_use]
    pub fn item_tokens(&self, item: usize) -> usize {
        self.item_rows(item).len()
    }

    /// The item that owns row `row`, and the row's place in it.
    #[must_use]
    pub fn locate(&self, row: usize) -> (usize, usize) {
        let item = self.offsets.partition_point(|&offset| offset <= row as i64) - 1;
        (item, row - self.offsets[item] as usize)
    }
}

/// Position of the first value for which `bad` holds. Whole blocks are looked at without a branch, as fast as memory is.
fn first(values: &[f32], bad: impl Fn(&f32) -> bool) -> Option<usize> {
    const BLOCK: usize = 1024;
    let block = values.chunks(BLOCK).position(|block| block.iter().fold(false, |any, value| any | bad(value)))?;
    values[block * BLOCK..].iter().position(bad).map(|at| block * BLOCK + at)
}

/// Cuts `values`, `[tokens, dim]`, into documents at `offsets`.
///
/// # Errors
/// [`Error::Invalid`] for offsets that do not cover the rows in order.
pub fn cut<'a, T>(values: &'a [T], offsets: &[i64], dim: usize) -> Result<Vec<&'a [T]>> {
    check_offsets(offsets, values.len() / dim.max(1))?;
    Ok(offsets.windows(2).map(|pair| &values[pair[0] as usize * dim..pair[1] as usize * dim]).collect())
}

fn check_offsets(offsets: &[i64], tokens: usize) -> Result<()> {
    let ordered = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if !ordered || offsets.first() != Some(&0) || offsets.last() != Some(&(tokens as i64)) {
        return Err(Error::invalid(format!(
            "offsets must start at 0, never fall, and end at the number of token vectors ({tokens})"
        )));
    }
    Ok(())
}
