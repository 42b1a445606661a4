//! Options: dicts of plain values, which Python has checked, as the core's structs. Words become the core's choices here.

use latewood_core::index::Filter;
use latewood_core::search::{RerankOptions, Scored, SearchOptions};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pythonize::depythonize;
use serde::de::DeserializeOwned;

use crate::arrays;
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

    /// The places of those candidates of one query, scored elsewhere, that a rerank of all of them would score.
    #[pyo3(signature = (scores, given, *, first, groups))]
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python")]
    fn choose(
        &self,
        py: Python<'_>,
        scores: PyReadonlyArray1<'_, f32>,
        given: PyReadonlyArray1<'_, i64>,
        first: Option<PyReadonlyArray1<'_, f64>>,
        groups: Option<Vec<Option<String>>>,
    ) -> PyResult<Vec<usize>> {
        let candidates = Scored {
            scores: arrays::slice(&scores, "scores")?,
            groups: groups.as_deref(),
            given: arrays::slice(&given, "given")?,
            first: first.as_ref().map(|first| arrays::slice(first, "first")).transpose()?,
        };
        self.options.choose(&candidates).map_err(|error| to_python(py, &error))
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
