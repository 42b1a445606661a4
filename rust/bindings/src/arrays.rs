//! Numpy arrays and Python ids as the core wants them; the only user of the numpy crate's reading half.

use latewood_core::ids::{Id, IdRef};
use numpy::ndarray::Dimension;
use numpy::{
    Element, PyArray1, PyArrayMethods, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyBool;

use crate::errors::invalid;

/// Ragged token vectors as they come in: `values [tokens, dim]` float32 and `offsets [items + 1]` int64.
pub(crate) struct Ragged<'py> {
    values: PyReadonlyArray2<'py, f32>,
    offsets: PyReadonlyArray1<'py, i64>,
}

impl<'py> Ragged<'py> {
    pub(crate) fn new(values: PyReadonlyArray2<'py, f32>, offsets: PyReadonlyArray1<'py, i64>) -> Self {
        Self { values, offsets }
    }

    /// Components of a token vector.
    pub(crate) fn dim(&self) -> usize {
        self.values.shape()[1]
    }

    /// The values in row-major order.
    pub(crate) fn values(&self) -> PyResult<&[f32]> {
        slice(&self.values, "values")
    }

    pub(crate) fn offsets(&self) -> PyResult<&[i64]> {
        slice(&self.offsets, "offsets")
    }
}

/// The values of an array where they lie, or `None` unless they lie one after the other, the last axis fastest, each at
/// an address that its type allows. Nothing is borrowed in another way.
///
/// That they are of the type `T` in this machine's byte order, the array's own type says. The crate's `as_slice` alone
/// would not do: it takes arrays whose first axis is the fastest, too.
pub(crate) fn borrow<'a, T: Element, D: Dimension>(array: &'a PyReadonlyArray<'_, T, D>) -> Option<&'a [T]> {
    if array.is_c_contiguous() { array.as_slice().ok() } else { None }
}

/// The same, for an argument that has this name.
pub(crate) fn slice<'a, T: Element, D: Dimension>(
    array: &'a PyReadonlyArray<'_, T, D>,
    name: &str,
) -> PyResult<&'a [T]> {
    borrow(array).ok_or_else(|| invalid(array.py(), format!("{name} must be C-contiguous and aligned")))
}

/// An id that may stay where Python has it.
pub(crate) enum GivenId {
    Int(i64),
    Str(PyBackedStr),
}

impl<'a> From<&'a GivenId> for IdRef<'a> {
    fn from(given: &'a GivenId) -> Self {
        match given {
            GivenId::Int(value) => Self::Int(*value),
            GivenId::Str(text) => Self::Str(text),
        }
    }
}

impl From<GivenId> for Id {
    fn from(given: GivenId) -> Self {
        match given {
            GivenId::Int(value) => Self::Int(value),
            GivenId::Str(text) => Self::Str(text.to_string()),
        }
    }
}

/// Ids from an int64 array or a sequence of strings or of integers.
pub(crate) fn ids<I: From<GivenId>>(given: &Bound<'_, PyAny>) -> PyResult<Vec<I>> {
    if let Ok(array) = given.cast::<PyArray1<i64>>() {
        return Ok(slice(&array.readonly(), "ids")?.iter().map(|&value| GivenId::Int(value).into()).collect());
    }
    given.try_iter()?.map(|item| id(&item?)).collect()
}

/// One id.
pub(crate) fn id<I: From<GivenId>>(given: &Bound<'_, PyAny>) -> PyResult<I> {
    if let Ok(text) = given.extract() {
        return Ok(GivenId::Str(text).into());
    }
    let value = if given.is_instance_of::<PyBool>() { None } else { given.extract().ok() };
    value.map(|value| GivenId::Int(value).into()).ok_or_else(|| {
        let shown = given.repr().map_or_else(|_| "an id".to_owned(), |repr| repr.to_string());
        invalid(
            given.py(),
            format!("{shown} cannot be an id; ids are strings of Unicode text, or integers of 64 bits with a sign"),
        )
    })
}
