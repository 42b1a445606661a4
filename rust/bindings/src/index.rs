//! The index: each method is one call of the core.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use latewood_core::codec::{CodecKind, CodecOptions, FdeOptions};
use latewood_core::ids::IdRef;
use latewood_core::index::{Index, IndexOptions, KeptVectors, Location, Snapshot};
use latewood_core::parallel::Execution;
use latewood_core::search::{self, Answer, Candidates, Evidence, Feedback, Rescore, SearchOptions};
use latewood_core::storage::{FileStorage, Storage};
use latewood_core::tokens::TokenMatrix;
use latewood_core::{Result, room_for};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pythonize::pythonize;

use crate::arrays::{self, GivenId, Ragged};
use crate::detach::detached;
use crate::errors::{invalid, to_python};
use crate::options::{PyRerankOptions, PySearchOptions, Word, read_filter};
use crate::results::{PyResults, explain, ids_to_python, text};
use crate::writer::PyWriter;

/// Stored vectors: flat values `[tokens, dim]` and offsets `[documents + 1]`.
type Vectors<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>);

/// Vectors `[n, dim]` and a weight for each.
type Weighted<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<f32>>);

/// Generation, names of files, signatures of the commit and its ancestors, identity of the index.
type Commit = (u64, Vec<String>, Vec<String>, Option<String>);

/// An index on disk, at the newest commit that was read.
#[pyclass(frozen, name = "Index", module = "latewood._core")]
pub(crate) struct PyIndex {
    index: Index,
    path: PathBuf,
}

impl PyIndex {
    /// Lets `make` turn the folder at `path` into an index.
    fn made(
        py: Python<'_>,
        path: &Path,
        mmap: bool,
        make: impl FnOnce(Arc<FileStorage>, &Execution) -> Result<Index> + Send,
    ) -> PyResult<Self> {
        let (index, path) = detached(py, None, |execution| {
            let storage = Arc::new(FileStorage::new(path, mmap)?);
            let path = storage.place().to_owned();
            Ok((make(storage, execution)?, path))
        })?;
        Ok(Self { index, path })
    }

    fn run<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Snapshot, &Execution) -> Result<R> + Send,
    ) -> PyResult<R> {
        detached(py, None, |execution| work(&self.index.snapshot(), execution))
    }
}

#[pymethods]
impl PyIndex {
    /// Create an index in an empty or missing folder.
    #[staticmethod]
    #[pyo3(signature = (path, dim, *, codec, bits, centroids, seed, train_after, codec_from, keep_vectors, fde,
                        encoder, overwrite, mmap))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a constructor")]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        dim: usize,
        codec: Word<CodecKind>,
        bits: u8,
        centroids: Option<usize>,
        seed: u64,
        train_after: u64,
        codec_from: Option<PyRef<'_, Self>>,
        keep_vectors: Option<Word<KeptVectors>>,
        fde: Option<Word<FdeOptions>>,
        encoder: Option<&str>,
        overwrite: bool,
        mmap: bool,
    ) -> PyResult<Self> {
        let encoder = encoder
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| invalid(py, format!("the encoder's fingerprint is not JSON: {error}")))?;
        let options = IndexOptions {
            dim,
            codec: CodecOptions { kind: codec.0, bits, centroids, seed, train_after },
            keep_vectors: keep_vectors.map(|word| word.0),
            fde: fde.map(|word| word.0),
            encoder,
            trained: codec_from.and_then(|other| other.index.snapshot().codec.clone()),
        };
        Self::made(py, &path, mmap, |storage, _| {
            options.validate()?;
            storage.make_folder()?;
            if overwrite { Index::overwrite(storage, options) } else { Index::create(storage, options) }
        })
    }

    /// Open an existing index, at its newest commit or at another one that is still there.
    #[staticmethod]
    #[pyo3(signature = (path, *, generation=None, mmap=true))]
    fn open(py: Python<'_>, path: PathBuf, generation: Option<u64>, mmap: bool) -> PyResult<Self> {
        Self::made(py, &path, mmap, |storage, execution| match generation {
            Some(generation) => Index::open_at(storage, generation, execution),
            None => Index::open(storage, execution),
        })
    }

    /// The commit that is read, as an index that stays at it.
    fn pinned(&self) -> Self {
        Self { index: self.index.pinned(), path: self.path.clone() }
    }

    /// Go back to an older commit for good.
    #[staticmethod]
    #[pyo3(signature = (path, *, generation=None, mmap=true))]
    fn recover(py: Python<'_>, path: PathBuf, generation: Option<u64>, mmap: bool) -> PyResult<Self> {
        Self::made(py, &path, mmap, |storage, execution| Index::recover(storage, generation, execution))
    }

    /// The index's folder.
    #[getter]
    fn path(&self) -> OsString {
        self.path.clone().into_os_string()
    }

    /// Number of the commit that is read.
    #[getter]
    fn generation(&self) -> u64 {
        self.index.snapshot().generation
    }

    /// Components of a token vector.
    #[getter]
    fn dim(&self) -> usize {
        self.index.snapshot().dim()
    }

    /// The encoder's fingerprint as JSON.
    #[getter]
    fn encoder(&self) -> Option<String> {
        self.index.snapshot().encoder().map(ToString::to_string)
    }

    fn __len__(&self) -> usize {
        self.index.snapshot().live_documents() as usize
    }

    /// Begin a commit.
    #[pyo3(signature = (*, merge=true))]
    fn writer(&self, py: Python<'_>, merge: bool) -> PyResult<PyWriter> {
        let index = &self.index;
        let open = |execution: &Execution| {
            if merge { index.writer(execution) } else { index.writer_without_merging(execution) }
        };
        Ok(PyWriter::new(detached(py, None, open)?))
    }

    /// Take up the newest commit.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, None, |execution| self.index.refresh(execution))
    }

    /// The commit that is read: its generation, the names of its files, its signature with those of its ancestors, and what
    /// tells the index from others.
    fn commit(&self, py: Python<'_>) -> PyResult<Commit> {
        self.run(py, |snapshot, _| {
            let identity = snapshot.identity().map(str::to_owned);
            Ok((snapshot.generation, snapshot.file_names(), snapshot.lineage(), identity))
        })
    }

    /// What the index holds.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let info = detached(py, None, |_| Ok(self.index.info()))?;
        Ok(pythonize(py, &info)?)
    }

    /// Verify every checksum and count.
    fn check(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        detached(py, None, |execution| self.index.check(execution))
    }

    /// Merge all segments, leaving out deleted documents.
    #[pyo3(signature = (threads=None))]
    fn compact(&self, py: Python<'_>, threads: Option<usize>) -> PyResult<u64> {
        detached(py, threads, |execution| self.index.compact(execution))
    }

    /// Which of these ids the index has.
    fn contains<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let ids: Vec<GivenId> = arrays::ids(ids)?;
        let known = self.run(py, |snapshot, execution| snapshot.contains(&ids, execution))?;
        Ok(known.into_pyarray(py))
    }

    /// Ids of all live documents that the filter lets through, in the order in which they were added.
    #[pyo3(signature = (filter=None))]
    fn ids<'py>(&self, py: Python<'py>, filter: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let filter = read_filter(py, filter)?;
        let ids = self.run(py, |snapshot, execution| snapshot.ids(&filter, execution))?;
        ids_to_python(py, &ids)
    }

    /// Number of live documents that the filter lets through.
    #[pyo3(signature = (filter=None))]
    fn count(&self, py: Python<'_>, filter: Option<&str>) -> PyResult<u64> {
        let filter = read_filter(py, filter)?;
        self.run(py, |snapshot, execution| snapshot.count(&filter, execution))
    }

    /// Text and metadata of each id.
    fn documents(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<Vec<(Option<String>, Option<String>)>> {
        let ids: Vec<GivenId> = arrays::ids(ids)?;
        self.run(py, |snapshot, execution| {
            let document = |id| {
                execution.check()?;
                snapshot.text_and_metadata(snapshot.locate(id)?)
            };
            ids.iter().map(document).collect()
        })
    }

    /// Token vectors of each id: the kept ones, or those that the codes stand for.
    fn vectors<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Vectors<'py>> {
        self.decoded(py, ids, Snapshot::dim, Snapshot::decode)
    }

    /// What the codes of each id stand for, before the rotation is undone: what `expand` takes.
    fn rotated_vectors<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Vectors<'py>> {
        let depth = |snapshot: &Snapshot| snapshot.codec.as_ref().map_or(1, |codec| codec.depth());
        self.decoded(py, ids, depth, Snapshot::decode_rotated)
    }

    /// How many live documents have a token in each cell.
    fn frequencies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        Ok(self.run(py, search::frequencies)?.into_pyarray(py))
    }

    /// What joins one query by feedback, from hits and frequencies of other indexes of this one's codec.
    #[pyo3(signature = (query_values, weights, feedback, *, points, hits, documents, frequencies))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn expand<'py>(
        &self,
        py: Python<'py>,
        query_values: PyReadonlyArray2<'py, f32>,
        weights: Option<PyReadonlyArray1<'py, f32>>,
        feedback: Word<Feedback>,
        points: PyReadonlyArray2<'py, f32>,
        hits: usize,
        documents: u64,
        frequencies: PyReadonlyArray1<'py, u64>,
    ) -> PyResult<Weighted<'py>> {
        let (tokens, dim) = (query_values.shape()[0], query_values.shape()[1]);
        let values = arrays::slice(&query_values, "query")?;
        let weights = weights.as_ref().map(|weights| arrays::slice(weights, "weights")).transpose()?;
        let evidence = Evidence {
            points: arrays::slice(&points, "points")?,
            hits,
            documents,
            frequencies: arrays::slice(&frequencies, "frequencies")?,
        };
        let added = self.run(py, |snapshot, _| {
            let offsets = [0, tokens as i64];
            let query = TokenMatrix::new(values, &offsets, dim, |_| "the query".to_owned())?;
            search::expand(snapshot, &query, weights, &feedback.0, evidence)
        })?;
        let rows = added.weights.len();
        Ok((added.vectors.into_pyarray(py).reshape([rows, dim])?, added.weights.into_pyarray(py)))
    }

    /// The best documents for each query.
    #[pyo3(signature = (query_values, query_offsets, weights, ids, options))]
    fn search(
        &self,
        py: Python<'_>,
        query_values: PyReadonlyArray2<'_, f32>,
        query_offsets: PyReadonlyArray1<'_, i64>,
        weights: Option<PyReadonlyArray1<'_, f32>>,
        ids: Option<&Bound<'_, PyAny>>,
        options: &PySearchOptions,
    ) -> PyResult<PyResults> {
        let PySearchOptions { options, threads } = options;
        let options = SearchOptions { ids: ids.map(arrays::ids).transpose()?, ..options.clone() };
        let queries = Ragged::new(query_values, query_offsets);
        self.rank(py, &queries, weights.as_ref(), *threads, |snapshot, queries, weights, execution| {
            search::search(snapshot, queries, weights, &options, execution)
        })
    }

    /// Each query's candidates, best first.
    #[pyo3(signature = (query_values, query_offsets, weights, candidate_ids, candidate_offsets, candidate_scores, options))]
    #[expect(clippy::too_many_arguments, reason = "the arrays of two ragged batches")]
    fn rerank(
        &self,
        py: Python<'_>,
        query_values: PyReadonlyArray2<'_, f32>,
        query_offsets: PyReadonlyArray1<'_, i64>,
        weights: Option<PyReadonlyArray1<'_, f32>>,
        candidate_ids: &Bound<'_, PyAny>,
        candidate_offsets: PyReadonlyArray1<'_, i64>,
        candidate_scores: Option<PyReadonlyArray1<'_, f64>>,
        options: &PyRerankOptions,
    ) -> PyResult<PyResults> {
        let PyRerankOptions { options, threads } = options;
        let ids: Vec<GivenId> = arrays::ids(candidate_ids)?;
        let ids: Vec<IdRef<'_>> = ids.iter().map(IdRef::from).collect();
        let scores = candidate_scores.as_ref().map(|scores| arrays::slice(scores, "scores")).transpose()?;
        let candidates =
            Candidates { ids: &ids, offsets: arrays::slice(&candidate_offsets, "candidate offsets")?, scores };
        let queries = Ragged::new(query_values, query_offsets);
        self.rank(py, &queries, weights.as_ref(), *threads, |snapshot, queries, weights, execution| {
            search::rerank(snapshot, queries, weights, candidates, options, execution)
        })
    }

    /// Weighted dot products of every query token with every token of one document, and the document's text.
    #[pyo3(signature = (query_values, id, weights=None, rescore=None))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        query_values: PyReadonlyArray2<'py, f32>,
        id: &Bound<'py, PyAny>,
        weights: Option<PyReadonlyArray1<'py, f32>>,
        rescore: Option<Word<Rescore>>,
    ) -> PyResult<(Bound<'py, PyArray2<f32>>, Option<String>)> {
        let id: GivenId = arrays::id(id)?;
        let snapshot = self.index.snapshot();
        let at = snapshot.locate(&id).map_err(|error| to_python(py, &error))?;
        let on = Rescore::resolve(rescore.map(|word| word.0), &snapshot).map_err(|error| to_python(py, &error))?;
        Ok((explain(py, &snapshot, query_values, weights, at, on)?, text(py, &snapshot, at)?))
    }
}

impl PyIndex {
    /// What `decode` gives of each id, in rows of `width` components.
    fn decoded<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        width: fn(&Snapshot) -> usize,
        decode: fn(&Snapshot, Location) -> Result<Vec<f32>>,
    ) -> PyResult<Vectors<'py>> {
        let ids: Vec<GivenId> = arrays::ids(ids)?;
        let (values, offsets, width) = self.run(py, |snapshot, execution| {
            let width = width(snapshot);
            let documents: Vec<Location> = ids.iter().map(|id| snapshot.locate(id)).collect::<Result<_>>()?;
            let count = snapshot.tokens_of(documents.iter().copied()) as usize * width;
            let (mut values, mut offsets) = (room_for(count, "components of token vectors")?, vec![0_i64]);
            for &at in &documents {
                execution.check()?;
                values.extend(decode(snapshot, at)?);
                offsets.push((values.len() / width) as i64);
            }
            Ok((values, offsets, width))
        })?;
        let rows = values.len() / width;
        Ok((values.into_pyarray(py).reshape([rows, width])?, offsets.into_pyarray(py)))
    }

    /// What search and rerank share: check the queries, leave the interpreter, wrap the rankings.
    fn rank(
        &self,
        py: Python<'_>,
        queries: &Ragged<'_>,
        weights: Option<&PyReadonlyArray1<'_, f32>>,
        threads: Option<usize>,
        work: impl FnOnce(&Snapshot, &TokenMatrix<'_>, Option<&[f32]>, &Execution) -> Result<Answer> + Send,
    ) -> PyResult<PyResults> {
        let (values, offsets, dim) = (queries.values()?, queries.offsets()?, queries.dim());
        let weights = weights.map(|weights| arrays::slice(weights, "weights")).transpose()?;
        detached(py, threads, |execution| {
            let snapshot = self.index.snapshot();
            let queries = TokenMatrix::new(values, offsets, dim, |item| format!("query {item}"))?;
            Ok(PyResults::new(Arc::clone(&snapshot), work(&snapshot, &queries, weights, execution)?))
        })
    }
}
