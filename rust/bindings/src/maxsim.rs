//! Exact MaxSim on anyone's float vectors.

use half::f16;
use latewood_core::maxsim as float_maxsim;
use latewood_core::tokens::{TokenMatrix, cut};
use latewood_kernels::{FloatVectors, Precision};
use numpy::{
    Element, IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use serde::Deserialize;

use crate::arrays::{self, Ragged};
use crate::detach::detached;
use crate::errors::to_python;
use crate::options::Word;

/// The words for how exact products are.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Products {
    Float32,
    Bfloat16,
}

impl From<Products> for Precision {
    fn from(products: Products) -> Self {
        match products {
            Products::Float32 => Self::Float32,
            Products::Bfloat16 => Self::Bfloat16,
        }
    }
}

/// MaxSim of every query with every document, `[queries · documents]`, or of query `i` with document `i`.
#[pyfunction]
#[pyo3(signature = (query_values, query_offsets, document_values, document_offsets, pairs, precision, threads))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of one call")]
pub(crate) fn maxsim<'py>(
    py: Python<'py>,
    query_values: PyReadonlyArray2<'py, f32>,
    query_offsets: PyReadonlyArray1<'py, i64>,
    document_values: PyReadonlyArray2<'py, f32>,
    document_offsets: PyReadonlyArray1<'py, i64>,
    pairs: bool,
    precision: Word<Products>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (queries, documents) =
        (Ragged::new(query_values, query_offsets), Ragged::new(document_values, document_offsets));
    let slices = cut(documents.values()?, documents.offsets()?, documents.dim());
    let slices = slices.map_err(|error| to_python(py, &error))?.into_iter().map(FloatVectors::F32).collect();
    score(py, &queries, slices, pairs, precision, threads)
}

/// As [`maxsim`] on documents that each are an array, read where they lie; `None` unless all are contiguous arrays
/// `[tokens, dim]` of float32, or all of float16, of the queries' dimensions.
#[pyfunction]
#[pyo3(signature = (query_values, query_offsets, documents, pairs, precision, threads))]
pub(crate) fn maxsim_arrays<'py>(
    py: Python<'py>,
    query_values: PyReadonlyArray2<'py, f32>,
    query_offsets: PyReadonlyArray1<'py, i64>,
    documents: Vec<Bound<'py, PyAny>>,
    pairs: bool,
    precision: Word<Products>,
    threads: Option<usize>,
) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
    let queries = Ragged::new(query_values, query_offsets);
    if let Some(arrays) = borrow::<f32>(&documents) {
        if let Some(slices) = slices(&arrays, queries.dim(), FloatVectors::F32) {
            return score(py, &queries, slices, pairs, precision, threads).map(Some);
        }
    } else if let Some(arrays) = borrow::<f16>(&documents)
        && let Some(slices) = slices(&arrays, queries.dim(), FloatVectors::F16)
    {
        return score(py, &queries, slices, pairs, precision, threads).map(Some);
    }
    Ok(None)
}

fn borrow<'py, T: Element>(documents: &[Bound<'py, PyAny>]) -> Option<Vec<PyReadonlyArray2<'py, T>>> {
    documents.iter().map(|document| document.cast::<PyArray2<T>>().ok()?.try_readonly().ok()).collect()
}

fn slices<'a, T: Element>(
    arrays: &'a [PyReadonlyArray2<'_, T>],
    dim: usize,
    vectors: fn(&'a [T]) -> FloatVectors<'a>,
) -> Option<Vec<FloatVectors<'a>>> {
    let slice = |array| arrays::borrow(array).map(vectors);
    arrays.iter().map(|array| if array.shape()[1] == dim { slice(array) } else { None }).collect()
}

fn score<'py>(
    py: Python<'py>,
    queries: &Ragged<'py>,
    documents: Vec<FloatVectors<'_>>,
    pairs: bool,
    Word(precision): Word<Products>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (values, offsets, dim) = (queries.values()?, queries.offsets()?, queries.dim());
    let scores = detached(py, threads, |execution| {
        let queries = TokenMatrix::new(values, offsets, dim, |item| format!("query {item}"))?;
        let score = if pairs { float_maxsim::maxsim_pairs } else { float_maxsim::maxsim };
        score(&queries, &documents, precision.into(), execution)
    })?;
    Ok(scores.into_pyarray(py))
}
