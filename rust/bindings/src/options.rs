//! The frozen dataclasses of options, taken apart by attribute. Python has checked them when they were made.

use latewood_core::index::Filter;
use latewood_core::search::{GatherKind, RerankOptions, SearchOptions, Selection};
use pyo3::prelude::*;

use crate::arrays;
use crate::errors::invalid;
use crate::feedback::{PyFeedback, named};
use crate::index::skip_missing;

/// What the options of a search and of a rerank share.
#[derive(FromPyObject)]
pub(crate) struct PySelection {
    k: Option<usize>,
    offset: usize,
    min_score: Option<f64>,
    length_normalize: bool,
    filters: Option<Vec<String>>,
    group_by: Option<String>,
    pub(crate) threads: Option<usize>,
}

impl PySelection {
    fn into_core(self, py: Python<'_>) -> PyResult<Selection> {
        let Self { k, offset, min_score, length_normalize, filters, group_by, threads: _ } = self;
        let filters = filters.unwrap_or_default();
        let place = |query| if filters.len() > 1 { format!("query {query}: ") } else { String::new() };
        let read = |(query, json): (usize, &String)| {
            Filter::from_json(json).map_err(|error| invalid(py, format!("{}{error}", place(query))))
        };
        let filters = filters.iter().enumerate().map(read).collect::<PyResult<_>>()?;
        Ok(Selection { k, offset, min_score, length_normalize, filters, group_by })
    }
}

/// What only a search has.
#[derive(FromPyObject)]
pub(crate) struct PySearchOptions<'py> {
    gather: Option<String>,
    max_scored: Option<usize>,
    probes: Option<usize>,
    threshold: Option<f32>,
    ids: Option<Bound<'py, PyAny>>,
    feedback: Option<PyFeedback>,
}

impl PySearchOptions<'_> {
    pub(crate) fn into_core(self, py: Python<'_>, selection: PySelection) -> PyResult<SearchOptions> {
        let Self { gather, max_scored, probes, threshold, ids, feedback } = self;
        Ok(SearchOptions {
            selection: selection.into_core(py)?,
            gather: gather.map(|name| named(py, "gather", &GatherKind::NAMES, &name)).transpose()?,
            max_scored,
            probes,
            threshold,
            ids: ids.as_ref().map(arrays::ids).transpose()?,
            feedback: feedback.map(|feedback| feedback.to_core(py)).transpose()?,
        })
    }
}

/// What only a rerank has.
#[derive(FromPyObject)]
pub(crate) struct PyRerankOptions {
    alpha: Option<f64>,
    beta: Option<usize>,
    missing: String,
}

impl PyRerankOptions {
    pub(crate) fn into_core(self, py: Python<'_>, selection: PySelection) -> PyResult<RerankOptions> {
        let Self { alpha, beta, missing } = self;
        let skip_missing = skip_missing(py, &missing)?;
        Ok(RerankOptions { selection: selection.into_core(py)?, alpha, beta, skip_missing })
    }
}
