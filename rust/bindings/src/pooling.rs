//! Pooling of token vectors: fewer of them for each text.

use latewood_core::pooling::{Budget, Method, Pooling};
use latewood_core::tokens::TokenMatrix;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::Ragged;
use crate::detach::detached;
use crate::errors::{invalid, to_python};
use crate::options::Word;

/// Values and offsets.
type Arrays<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>);

/// Pools each item.
#[pyfunction]
#[pyo3(signature = (
    values, offsets, method, *, count=None, fraction=None, factor=None, protected=0, normalize=true, threads=None
))]
#[expect(clippy::too_many_arguments, reason = "the Python package gives each a name")]
pub(crate) fn pool<'py>(
    py: Python<'py>,
    values: PyReadonlyArray2<'py, f32>,
    offsets: PyReadonlyArray1<'py, i64>,
    method: Word<Method>,
    count: Option<usize>,
    fraction: Option<f64>,
    factor: Option<f64>,
    protected: usize,
    normalize: bool,
    threads: Option<usize>,
) -> PyResult<Arrays<'py>> {
    let budget = match (count, fraction, factor) {
        (Some(count), None, None) => Budget::Count(count),
        (None, Some(fraction), None) => Budget::Fraction(fraction),
        (None, None, Some(factor)) => Budget::Factor(factor),
        _ => return Err(invalid(py, "give exactly one of count, fraction and factor")),
    };
    let pooling = Pooling::new(method.0, budget, protected, normalize).map_err(|error| to_python(py, &error))?;
    let ragged = Ragged::new(values, offsets);
    let (values, offsets, dim) = (ragged.values()?, ragged.offsets()?, ragged.dim());
    let pooled = detached(py, threads, |execution| {
        let tokens = TokenMatrix::new(values, offsets, dim, |item| format!("item {item}"))?;
        pooling.run(&tokens, execution)
    })?;
    let rows = pooled.values.len() / dim;
    Ok((pooled.values.into_pyarray(py).reshape([rows, dim])?, pooled.offsets.into_pyarray(py)))
}
