//! next-plaid for Python: an index of arrays, and searches that give ids and scores.

use ndarray::{Array2, ArrayView2};
use next_plaid::{IndexConfig, MmapIndex, SearchParameters, UpdateConfig};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

type Answer = (Vec<i64>, Vec<f32>);

/// Write an index of the documents `values[offsets[i]:offsets[i + 1]]`.
#[pyfunction]
fn build(
    folder: &str,
    values: PyReadonlyArray2<'_, f32>,
    offsets: PyReadonlyArray1<'_, i64>,
    bits: usize,
) -> PyResult<()> {
    let (dim, values, offsets) = (values.as_array().ncols(), values.as_slice()?, offsets.as_slice()?);
    let documents = offsets
        .windows(2)
        .map(|bounds| array(&values[bounds[0] as usize * dim..bounds[1] as usize * dim], dim))
        .collect::<PyResult<Vec<_>>>()?;
    let config = IndexConfig { nbits: bits, ..IndexConfig::default() };
    MmapIndex::update_or_create(&documents, folder, &config, &UpdateConfig::default()).map_err(failed)?;
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

fn array(values: &[f32], dim: usize) -> PyResult<Array2<f32>> {
    ArrayView2::from_shape((values.len() / dim, dim), values).map(|view| view.to_owned()).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

#[pymodule]
fn next_plaid_arm(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Index>()?;
    module.add_function(wrap_pyfunction!(build, module)?)
}
