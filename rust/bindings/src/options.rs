//! Options: dicts of plain values, which Python has checked, as the core's structs. Words become the core's choices here.

use latewood_core::index::Filter;
use latewood_core::search::{RerankOptions, SearchOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pythonize::depythonize;
use serde::de::DeserializeOwned;

use crate::errors::{invalid, to_python};

/// The options of a search, and its threads.
#[pyclass(frozen, name = "SearchOptions", module = "latewood._core")]
pub(crate) struct PySearchOptions {
    pub(crate) options: SearchOptions,
    pub(crate) threads: Option<usize>,
}

#[pymethods]
impl PySearchOptions {
    #[new]
    fn new(values: &Bound<'_, PyDict>) -> PyResult<Self> {
        let own: SearchOptions = read(values)?;
        Ok(Self { options: SearchOptions { selection: read(values)?, ..own }, threads: threads(values)? })
    }
}

/// The options of a rerank, and its threads.
#[pyclass(frozen, name = "RerankOptions", module = "latewood._core")]
pub(crate) struct PyRerankOptions {
    pub(crate) options: RerankOptions,
    pub(crate) threads: Option<usize>,
}

#[pymethods]
impl PyRerankOptions {
    #[new]
    fn new(values: &Bound<'_, PyDict>) -> PyResult<Self> {
        let own: RerankOptions = read(values)?;
        Ok(Self { options: RerankOptions { selection: read(values)?, ..own }, threads: threads(values)? })
    }
}

/// A choice of the core, by the word that stands for it, or by a dict of plain values.
pub(crate) struct Word<T>(pub(crate) T);

impl<'py, T: DeserializeOwned> FromPyObject<'_, 'py> for Word<T> {
    type Error = PyErr;

    fn extract(word: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        read(&word).map(Self)
    }
}

/// A filter from JSON; without one, the filter that lets every document through.
pub(crate) fn read_filter(py: Python<'_>, json: Option<&str>) -> PyResult<Filter> {
    Filter::from_json(json.unwrap_or("{}")).map_err(|error| to_python(py, &error))
}

fn threads(values: &Bound<'_, PyDict>) -> PyResult<Option<usize>> {
    values.get_item("threads")?.map_or(Ok(None), |threads| threads.extract())
}

fn read<T: DeserializeOwned>(from: &Bound<'_, PyAny>) -> PyResult<T> {
    depythonize(from).map_err(|error| invalid(from.py(), error.to_string()))
}
