//! Ranked documents on their way out.

use std::sync::Arc;

use latewood_core::ids::{Id, IdKind};
use latewood_core::index::{KeptVectors, Location, Snapshot};
use latewood_core::search::{self, Answer, Hit, Plan, Ranking, Stats};
use latewood_core::tokens::TokenMatrix;
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pythonize::pythonize;

use crate::arrays::{self, Ragged};
use crate::detach::detached;
use crate::errors::{invalid, to_python};

/// Hits of a batch of queries: those of query `i` are rows `offsets[i]` to `offsets[i + 1]`, best first.
#[pyclass(frozen, name = "Results", module = "latewood._core")]
pub(crate) struct PyResults {
    /// What the hits were found in, whatever the index has become since.
    snapshot: Arc<Snapshot>,
    hits: Vec<Hit>,
    offsets: Vec<i64>,
    /// Of each query.
    own_stats: Vec<Stats>,
    stats: Stats,
    plan: Arc<Plan>,
    /// Of each query.
    own_plans: Vec<Arc<Plan>>,
    added: Added,
}

/// What feedback added to the queries: to query `i`, rows `offsets[i]` to `offsets[i + 1]` of `[n, dim]`.
struct Added {
    dim: usize,
    vectors: Vec<f32>,
    weights: Vec<f32>,
    offsets: Vec<i64>,
}

/// Id, score, text and metadata of each hit; and offsets.
type Rows<'py> = (Vec<(Bound<'py, PyAny>, f32, Option<String>, Option<String>)>, Vec<i64>);

/// Added vectors `[n, dim]`, their weights `[n]` and offsets `[queries + 1]`.
type AddedArrays<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<i64>>);

impl PyResults {
    pub(crate) fn new(snapshot: Arc<Snapshot>, answer: Answer) -> Self {
        let Answer { rankings, stats, plan, plans } = answer;
        let flat = |part: fn(&Ranking) -> &Vec<f32>| rankings.iter().flat_map(part).copied().collect();
        let added = Added {
            dim: snapshot.dim(),
            vectors: flat(|ranking| &ranking.expansion.vectors),
            weights: flat(|ranking| &ranking.expansion.weights),
            offsets: ends(&rankings, |ranking| ranking.expansion.weights.len()),
        };
        Self {
            snapshot,
            hits: rankings.iter().flat_map(|ranking| &ranking.hits).copied().collect(),
            offsets: ends(&rankings, |ranking| ranking.hits.len()),
            own_stats: rankings.iter().map(|ranking| ranking.stats).collect(),
            stats,
            plan,
            own_plans: plans,
            added,
        }
    }

    /// Where the document of a hit is.
    fn at(&self, py: Python<'_>, hit: usize) -> PyResult<Location> {
        let found = self.hits.get(hit).map(|hit| hit.at);
        found.ok_or_else(|| invalid(py, format!("there is no hit {hit}")))
    }
}

#[pymethods]
impl PyResults {
    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        ids_to_python(py, &self.hits.iter().map(|hit| self.snapshot.id(hit.at)).collect::<Vec<_>>())
    }

    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.hits.iter().map(|hit| hit.score).collect::<Vec<_>>().into_pyarray(py)
    }

    /// Id, score, text and metadata of each hit, and the offsets.
    fn rows<'py>(&self, py: Python<'py>, with_documents: bool) -> PyResult<Rows<'py>> {
        let row = |hit: &Hit| {
            let id = match self.snapshot.id(hit.at) {
                Id::Int(value) => value.into_bound_py_any(py),
                Id::Str(text) => text.into_bound_py_any(py),
            }?;
            let document = if with_documents { self.snapshot.text_and_metadata(hit.at) } else { Ok((None, None)) };
            let (text, metadata) = document.map_err(|error| to_python(py, &error))?;
            Ok((id, hit.score, text, metadata))
        };
        Ok((self.hits.iter().map(row).collect::<PyResult<_>>()?, self.offsets.clone()))
    }

    /// The group of each hit by a field of its metadata, as a text; None for one that is its own group.
    fn groups(&self, py: Python<'_>, field: &str) -> PyResult<Vec<Option<String>>> {
        let documents = self.hits.iter().map(|hit| hit.at);
        detached(py, None, |execution| self.snapshot.group_names(field, documents, execution))
    }

    /// Text of one hit.
    fn text(&self, py: Python<'_>, hit: usize) -> PyResult<Option<String>> {
        text(py, &self.snapshot, self.at(py, hit)?)
    }

    /// Weighted dot products of every query token with every token of one hit, as it was when it was found.
    #[pyo3(signature = (query_values, hit, weights=None))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        query_values: PyReadonlyArray2<'py, f32>,
        hit: usize,
        weights: Option<PyReadonlyArray1<'py, f32>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        explain(py, &self.snapshot, query_values, weights, self.at(py, hit)?, self.plan.rescore)
    }

    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_slice(py, &self.offsets)
    }

    #[getter]
    fn added<'py>(&self, py: Python<'py>) -> PyResult<AddedArrays<'py>> {
        let Added { dim, vectors, weights, offsets } = &self.added;
        let vectors = PyArray1::from_slice(py, vectors).reshape([weights.len(), *dim])?;
        Ok((vectors, PyArray1::from_slice(py, weights), PyArray1::from_slice(py, offsets)))
    }

    /// Counts and seconds, of one query or of all.
    #[pyo3(signature = (query=None))]
    fn stats<'py>(&self, py: Python<'py>, query: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        let stats = query.and_then(|query| self.own_stats.get(query)).unwrap_or(&self.stats);
        Ok(pythonize(py, stats)?)
    }

    /// How candidates were found, for one query or for the first that has any.
    #[pyo3(signature = (query=None))]
    fn plan<'py>(&self, py: Python<'py>, query: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        let plan = query.and_then(|query| self.own_plans.get(query)).unwrap_or(&self.plan);
        Ok(pythonize(py, &**plan)?)
    }
}

/// Weighted dot products, `[query tokens, document tokens]`, of one query with one document.
pub(crate) fn explain<'py>(
    py: Python<'py>,
    snapshot: &Snapshot,
    query_values: PyReadonlyArray2<'py, f32>,
    weights: Option<PyReadonlyArray1<'py, f32>>,
    at: Location,
    on: Option<KeptVectors>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let tokens = query_values.shape()[0];
    let offsets = PyArray1::from_vec(py, vec![0, tokens as i64]);
    let query = Ragged::new(query_values, offsets.readonly());
    let (values, offsets, dim) = (query.values()?, query.offsets()?, query.dim());
    let weights = weights.as_ref().map(|weights| arrays::slice(weights, "weights")).transpose()?;
    let matrix = detached(py, None, |_| {
        let query = TokenMatrix::new(values, offsets, dim, |_| "the query".to_owned())?;
        search::explain(snapshot, &query, weights, at, on)
    })?;
    let columns = matrix.len().checked_div(tokens).unwrap_or(0);
    matrix.into_pyarray(py).reshape([tokens, columns])
}

/// The text of one document.
pub(crate) fn text(py: Python<'_>, snapshot: &Snapshot, at: Location) -> PyResult<Option<String>> {
    Ok(snapshot.text_and_metadata(at).map_err(|error| to_python(py, &error))?.0)
}

/// Running sums of `count`, from 0.
fn ends(rankings: &[Ranking], count: impl Fn(&Ranking) -> usize) -> Vec<i64> {
    let sums = rankings.iter().scan(0, |end, ranking| {
        *end += count(ranking) as i64;
        Some(*end)
    });
    std::iter::once(0).chain(sums).collect()
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
