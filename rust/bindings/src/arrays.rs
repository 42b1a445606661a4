//! Numpy arrays and Python ids as the core wants them; the only user of the numpy crate's reading half.

use latewood_core::ids::{Id, IdRef};
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
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
        self.values.as_slice().map_err(|_| invalid(self.values.py(), "values must be C-contiguous"))
    }

    pub(crate) fn offsets(&self) -> PyResult<&[i64]> {
        slice(&self.offsets, "offsets")
    }
}

/// A one-dimensional array's values.
pub(crate) fn slice<'a, T: numpy::Element>(array: &'a PyReadonlyArray1<'_, T>, name: &str) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| invalid(array.py(), format!("{name} must be contiguous")))
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
        return Ok(array.readonly().as_array().iter().map(|&value| GivenId::Int(value).into()).collect());
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
        invalid(given.py(), format!("{shown} cannot be an id; ids are strings or 64-bit integers"))
    })
}
