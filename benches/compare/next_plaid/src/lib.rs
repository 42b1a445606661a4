//! next-plaid for Python: an index of arrays, and searches that give ids and scores.

use ndarray::{Array2, ArrayView2};
use next_plaid::{IndexConfig, MmapIndex, SearchParameters, UpdateConfig};
use numpy::{PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

type Answer = (Vec<i64>, Vec<f32>);

/// Write an index of the documents `values[offsets[i]:offsets[i + 1]]`, or add them to the one that is there. `metadata`
/// is one JSON object for each; `binary` keeps a sign for each dimension.
#[pyfunction]
#[pyo3(signature = (folder, values, offsets, bits, metadata=None, binary=false))]
fn build(
    folder: &str,
    values: PyReadonlyArray2<'_, f32>,
    offsets: PyReadonlyArray1<'_, i64>,
    bits: usize,
    metadata: Option<Vec<String>>,
    binary: bool,
) -> PyResult<()> {
    let (dim, values, offsets) = (values.as_array().ncols(), values.as_slice()?, offsets.as_slice()?);
    let documents = offsets
        .windows(2)
        .map(|bounds| array(&values[bounds[0] as usize * dim..bounds[1] as usize * dim], dim))
        .collect::<PyResult<Vec<_>>>()?;
    let rows = metadata.map(|rows| rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<Vec<_>, _>>());
    let rows = rows.transpose().map_err(failed)?;
    let config = IndexConfig { nbits: bits, binary, ..IndexConfig::default() };
    MmapIndex::update_or_create_with_metadata(
        &documents,
        folder,
        &config,
        &UpdateConfig::default(),
        rows.as_deref(),
    )
    .map_err(failed)?;
    Ok(())
}

/// An index that stands.
#[pyclass(frozen)]
struct Index(MmapIndex);

#[pymethods]
impl Index {
    #[new]
    fn open(folder: &str) -> PyResult<Self> {
        let mut index = MmapIndex::load(folder).map_err(failed)?;
        index.prewarm_residual_lut_sidecar().map_err(failed)?;
        Ok(Self(index))
    }

    /// Decode the token vectors of documents.
    fn vectors<'py>(&self, python: Python<'py>, ids: Vec<i64>) -> PyResult<Vec<Bound<'py, PyArray2<f32>>>> {
        let found = self.0.reconstruct(&ids).map_err(failed)?;
        found
            .into_iter()
            .map(|document| {
                let rows: Vec<Vec<f32>> = document.rows().into_iter().map(|row| row.to_vec()).collect();
                PyArray2::from_vec2(python, &rows).map_err(failed)
            })
            .collect()
    }

    /// Search for one query, or for several at once on rayon's threads; what is not given is the crate's default.
    #[pyo3(signature = (queries, k, n_ivf_probe=None, n_full_scores=None, threshold=true))]
    fn search(
        &self,
        queries: Vec<PyReadonlyArray2<'_, f32>>,
        k: usize,
        n_ivf_probe: Option<usize>,
        n_full_scores: Option<usize>,
        threshold: bool,
    ) -> PyResult<Vec<Answer>> {
        let default = SearchParameters::default();
        let parameters = SearchParameters {
            top_k: k,
            n_ivf_probe: n_ivf_probe.unwrap_or(default.n_ivf_probe),
            n_full_scores: n_full_scores.unwrap_or(default.n_full_scores),
            centroid_score_threshold: default.centroid_score_threshold.filter(|_| threshold),
            ..default
        };
        let queries: Vec<Array2<f32>> = queries.iter().map(|query| owned(query.as_array())).collect();
        let found = self.0.search_batch(&queries, &parameters, queries.len() > 1, None).map_err(failed)?;
        Ok(found.into_iter().map(|result| (result.passage_ids, result.scores)).collect())
    }
}

// numpy's crate may have another ndarray than next-plaid has.
fn owned(query: numpy::ndarray::ArrayView2<'_, f32>) -> Array2<f32> {
    Array2::from_shape_fn(query.dim(), |place| query[place])
}

/// Delete documents; those that come after them get smaller numbers.
#[pyfunction]
fn delete(folder: &str, ids: Vec<i64>) -> PyResult<usize> {
    MmapIndex::load(folder).and_then(|mut index| index.delete(&ids)).map_err(failed)
}

fn array(values: &[f32], dim: usize) -> PyResult<Array2<f32>> {
    ArrayView2::from_shape((values.len() / dim, dim), values).map(|view| view.to_owned()).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

#[pymodule]
fn next_plaid_arm(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Index>()?;
    module.add_function(wrap_pyfunction!(build, module)?)?;
    module.add_function(wrap_pyfunction!(delete, module)?)
}
