//! Ranked documents on their way out.

use latewood_core::ids::{Id, IdKind};
use latewood_core::index::Snapshot;
use latewood_core::search::{Ranking, Stats};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Hits of a batch of queries: those of query `i` are rows `offsets[i]` to `offsets[i + 1]`, best first.
#[pyclass(frozen, name = "Results", module = "latewood._core")]
pub(crate) struct PyResults {
    ids: Vec<Id>,
    scores: Vec<f32>,
    offsets: Vec<i64>,
    stats: Stats,
}

impl PyResults {
    pub(crate) fn new(snapshot: &Snapshot, rankings: &[Ranking], stats: Stats) -> Self {
        let hits = || rankings.iter().flat_map(|ranking| &ranking.hits);
        let mut offsets = vec![0_i64];
        offsets.extend(rankings.iter().scan(0, |end, ranking| {
            *end += ranking.hits.len() as i64;
            Some(*end)
        }));
        Self {
            ids: hits().map(|hit| snapshot.id(hit.at)).collect(),
            scores: hits().map(|hit| hit.score).collect(),
            offsets,
            stats,
        }
    }
}

#[pymethods]
impl PyResults {
    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        ids_to_python(py, &self.ids)
    }

    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.scores)
    }

    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_slice(py, &self.offsets)
    }

    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = PyDict::new(py);
        let Stats { queries, gathered, pruned, scored, scored_tokens, prepare_s, gather_s, prune_s, score_s, top_k_s } =
            self.stats;
        let counts = [
            ("queries", queries),
            ("gathered", gathered),
            ("pruned", pruned),
            ("scored", scored),
            ("scored_tokens", scored_tokens),
        ];
        for (name, count) in counts {
            stats.set_item(name, count)?;
        }
        let seconds = [
            ("prepare_s", prepare_s),
            ("gather_s", gather_s),
            ("prune_s", prune_s),
            ("score_s", score_s),
            ("top_k_s", top_k_s),
        ];
        for (name, seconds) in seconds {
            stats.set_item(name, seconds)?;
        }
        Ok(stats)
    }
}

/// Integers as an int64 array, strings as a list.
pub(crate) fn ids_to_python<'py>(py: Python<'py>, ids: &[Id]) -> PyResult<Bound<'py, PyAny>> {
    if ids.first().is_some_and(|id| id.kind() == IdKind::Int) {
        let integer = |id: &Id| if let Id::Int(value) = id { *value } else { 0 };
        return Ok(ids.iter().map(integer).collect::<Vec<i64>>().into_pyarray(py).into_any());
    }
    let strings = ids.iter().filter_map(|id| if let Id::Str(text) = id { Some(text) } else { None });
    Ok(PyList::new(py, strings.collect::<Vec<_>>())?.into_any())
}
