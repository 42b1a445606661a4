//! Options: dicts of plain values, which Python has checked, as the core's structs. Words become the core's choices here.

use latewood_core::search::{RerankOptions, SearchOptions};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pythonize::depythonize;
use serde::de::DeserializeOwned;

use crate::errors::invalid;

/// The options of a search, and its threads.
pub(crate) fn of_search(options: &Bound<'_, PyDict>) -> PyResult<(SearchOptions, Option<usize>)> {
    let own: SearchOptions = read(options)?;
    Ok((SearchOptions { selection: read(options)?, ..own }, threads(options)?))
}

/// The options of a rerank, and its threads.
pub(crate) fn of_rerank(options: &Bound<'_, PyDict>) -> PyResult<(RerankOptions, Option<usize>)> {
    let own: RerankOptions = read(options)?;
    Ok((RerankOptions { selection: read(options)?, ..own }, threads(options)?))
}

/// One of the words that stand for a choice.
pub(crate) fn word<T: DeserializeOwned>(word: &Bound<'_, PyString>) -> PyResult<T> {
    read(word)
}

fn threads(options: &Bound<'_, PyDict>) -> PyResult<Option<usize>> {
    options.get_item("threads")?.map_or(Ok(None), |threads| threads.extract())
}

fn read<T: DeserializeOwned>(from: &Bound<'_, PyAny>) -> PyResult<T> {
    depythonize(from).map_err(|error| invalid(from.py(), error.to_string()))
}

/// The choice that has this name.
pub(crate) fn named<T: Copy>(py: Python<'_>, option: &str, names: &[(&str, T)], name: &str) -> PyResult<T> {
    names.iter().find(|(known, _)| *known == name).map(|(_, choice)| *choice).ok_or_else(|| {
        let known = names.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        invalid(py, format!("{option} {name:?} is unknown; choose one of {known}"))
    })
}
