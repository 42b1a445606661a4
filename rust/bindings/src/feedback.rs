//! `latewood.Feedback` as the core has it.

use latewood_core::search::{Feedback, FeedbackMode, Weighting};
use pyo3::prelude::*;

use crate::errors::invalid;

/// The attributes of the dataclass.
#[derive(FromPyObject)]
pub(crate) struct PyFeedback {
    documents: usize,
    clusters: usize,
    vectors: usize,
    weight: f32,
    weighting: String,
    mode: String,
    rescored: usize,
}

impl PyFeedback {
    pub(crate) fn to_core(&self, py: Python<'_>) -> PyResult<Feedback> {
        let Self { documents, clusters, vectors, weight, rescored, .. } = *self;
        let weighting = named(py, "weighting", &Weighting::NAMES, &self.weighting)?;
        let mode = named(py, "mode", &FeedbackMode::NAMES, &self.mode)?;
        Ok(Feedback { documents, clusters, vectors, weight, weighting, mode, rescored })
    }
}

/// The choice that has this name.
pub(crate) fn named<T: Copy>(py: Python<'_>, option: &str, names: &[(&str, T)], name: &str) -> PyResult<T> {
    names.iter().find(|(known, _)| *known == name).map(|(_, choice)| *choice).ok_or_else(|| {
        let known = names.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        invalid(py, format!("{option} {name:?} is unknown; choose one of {known}"))
    })
}
