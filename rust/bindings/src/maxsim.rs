//! Exact MaxSim on anyone's float vectors.

use latewood_core::parallel::Execution;
use latewood_core::search::exact;
use latewood_core::tokens::TokenMatrix;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::Ragged;
use crate::detach::{detached, interruptible};
use crate::errors::to_python;

/// MaxSim of every query with every document.
#[pyfunction]
#[pyo3(signature = (query_values, query_offsets, document_values, document_offsets, threads=None))]
pub(crate) fn maxsim<'py>(
    py: Python<'py>,
    query_values: PyReadonlyArray2<'py, f32>,
    query_offsets: PyReadonlyArray1<'py, i64>,
    document_values: PyReadonlyArray2<'py, f32>,
    document_offsets: PyReadonlyArray1<'py, i64>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let (queries, documents) =
        (Ragged::new(query_values, query_offsets), Ragged::new(document_values, document_offsets));
    let execution = Execution::new(threads).map_err(|error| to_python(py, &error))?;
    let (query_matrix, document_matrix) = matrices(py, &queries, &documents)?;
    let scores = interruptible(py, &execution, |execution| exact::maxsim(&query_matrix, &document_matrix, execution))?;
    scores.into_pyarray(py).reshape([query_matrix.items(), document_matrix.items()])
}

/// MaxSim of query `i` with document `i`.
#[pyfunction]
#[pyo3(signature = (query_values, query_offsets, document_values, document_offsets, threads=None))]
pub(crate) fn maxsim_pairs<'py>(
    py: Python<'py>,
    query_values: PyReadonlyArray2<'py, f32>,
    query_offsets: PyReadonlyArray1<'py, i64>,
    document_values: PyReadonlyArray2<'py, f32>,
    document_offsets: PyReadonlyArray1<'py, i64>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (queries, documents) =
        (Ragged::new(query_values, query_offsets), Ragged::new(document_values, document_offsets));
    let execution = Execution::new(threads).map_err(|error| to_python(py, &error))?;
    let (query_matrix, document_matrix) = matrices(py, &queries, &documents)?;
    let scores =
        interruptible(py, &execution, |execution| exact::maxsim_pairs(&query_matrix, &document_matrix, execution))?;
    Ok(scores.into_pyarray(py))
}

fn matrices<'a>(
    py: Python<'_>,
    queries: &'a Ragged<'_>,
    documents: &'a Ragged<'_>,
) -> PyResult<(TokenMatrix<'a>, TokenMatrix<'a>)> {
    let matrix = |ragged: &'a Ragged<'_>, kind: &'static str| {
        let (values, offsets, dim) = (ragged.values()?, ragged.offsets()?, ragged.dim());
        detached(py, || TokenMatrix::new(values, offsets, dim, |item| format!("{kind} {item}")))
    };
    Ok((matrix(queries, "query")?, matrix(documents, "document")?))
}
