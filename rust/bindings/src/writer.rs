//! The writer: one commit, all or nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use latewood_core::ids::{Id, Missing};
use latewood_core::index::{Batch, Writer};
use latewood_core::parallel::Execution;
use latewood_core::tokens::TokenMatrix;
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{self, Ragged};
use crate::detach::detached;
use crate::errors::{invalid, writer_closed};
use crate::options::{Word, read_filter};

/// Collects changes and commits them; holds the index's writer lock until closed.
#[pyclass(frozen, name = "Writer", module = "latewood._core")]
pub(crate) struct PyWriter {
    writer: Mutex<Option<Writer>>,
}

impl PyWriter {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer: Mutex::new(Some(writer)) }
    }

    /// Taken without waiting: a thread that waited here while holding the interpreter would stop the one that works.
    fn lock(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Option<Writer>>> {
        match self.writer.try_lock() {
            Ok(guard) => Ok(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Ok(PoisonError::into_inner(poisoned)),
            Err(std::sync::TryLockError::WouldBlock) => {
                Err(invalid(py, "this writer is at work in another thread; use one writer from one thread at a time"))
            }
        }
    }

    fn run<R: Send>(
        &self,
        py: Python<'_>,
        threads: Option<usize>,
        work: impl FnOnce(&mut Writer, &Execution) -> latewood_core::Result<R> + Send,
    ) -> PyResult<R> {
        let mut guard = self.lock(py)?;
        run_on(py, &mut guard, threads, work)
    }
}

#[pymethods]
impl PyWriter {
    /// Add documents, or with `upsert` add or replace them.
    #[pyo3(signature = (ids, values, offsets, *, texts=None, metadata=None, truncated=None, upsert=false, last=false, threads=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of an add")]
    fn add(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        values: PyReadonlyArray2<'_, f32>,
        offsets: PyReadonlyArray1<'_, i64>,
        texts: Option<Vec<Option<String>>>,
        metadata: Option<Vec<Option<String>>>,
        truncated: Option<Vec<bool>>,
        upsert: bool,
        last: bool,
        threads: Option<usize>,
    ) -> PyResult<()> {
        let ids: Vec<Id> = arrays::ids(ids)?;
        let ragged = Ragged::new(values, offsets);
        let (values, offsets, dim) = (ragged.values()?, ragged.offsets()?, ragged.dim());
        let mut guard = self.lock(py)?;
        // What a signal ends has added nothing; what is added, which is over at once, no signal ends.
        let prepared = run_on(py, &mut guard, threads, |writer, execution| {
            let name =
                |item: usize| ids.get(item).map_or_else(|| format!("document {item}"), |id| format!("document {id}"));
            let tokens = TokenMatrix::new(values, offsets, dim, name)?;
            writer.prepare(Batch { ids: ids.clone(), tokens, texts, metadata, truncated, last }, upsert, execution)
        })?;
        run_on(py, &mut guard, Some(1), |writer, _| writer.apply(prepared))
    }

    /// Number of the commit that it stands on, its own included; `None` once closed.
    #[getter]
    fn generation(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.lock(py)?.as_ref().map(Writer::generation))
    }

    /// Raise the error that any further use would.
    fn check_usable(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Some(1), |writer, _| writer.check_usable())
    }

    /// How many calls have changed something so far.
    #[getter]
    fn changes(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.as_ref().map_or(0, Writer::changes))
    }

    /// Check that documents of these ids can be added, before their vectors are there.
    #[pyo3(signature = (ids, *, upsert=false))]
    fn check_ids(&self, py: Python<'_>, ids: &Bound<'_, PyAny>, upsert: bool) -> PyResult<()> {
        let ids: Vec<Id> = arrays::ids(ids)?;
        self.run(py, Some(1), |writer, _| writer.check_ids(&ids, upsert))
    }

    /// Delete documents; the number that were there.
    #[pyo3(signature = (ids, *, missing))]
    fn delete(&self, py: Python<'_>, ids: &Bound<'_, PyAny>, missing: Word<Missing>) -> PyResult<usize> {
        let ids: Vec<Id> = arrays::ids(ids)?;
        self.run(py, Some(1), |writer, _| writer.delete(&ids, missing.0 == Missing::Skip))
    }

    /// Delete the documents that the filter lets through; how many there were.
    fn delete_matching(&self, py: Python<'_>, filter: &str) -> PyResult<usize> {
        let filter = read_filter(py, Some(filter))?;
        self.run(py, Some(1), |writer, execution| writer.delete_matching(&filter, execution))
    }

    /// Change metadata of documents; the number that were there.
    #[pyo3(signature = (ids, metadata, *, replace, missing))]
    fn update_metadata(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        metadata: Vec<String>,
        replace: bool,
        missing: Word<Missing>,
    ) -> PyResult<usize> {
        let ids: Vec<Id> = arrays::ids(ids)?;
        self.run(py, Some(1), |writer, execution| {
            writer.update_metadata(&ids, &metadata, replace, missing.0, execution)
        })
    }

    /// Change metadata of the documents that the filter lets through; how many there were.
    #[pyo3(signature = (filter, metadata, *, replace))]
    fn update_metadata_matching(&self, py: Python<'_>, filter: &str, metadata: &str, replace: bool) -> PyResult<usize> {
        let filter = read_filter(py, Some(filter))?;
        self.run(py, Some(1), |writer, execution| {
            writer.update_metadata_matching(&filter, metadata, replace, execution)
        })
    }

    /// Remember what was measured of the recall of searches: a tuning as JSON.
    fn set_tuning(&self, py: Python<'_>, tuning: &str) -> PyResult<()> {
        let tuning = serde_json::from_str(tuning).map_err(|error| invalid(py, error.to_string()))?;
        self.run(py, Some(1), |writer, _| writer.set_tuning(tuning))
    }

    /// Make the changes durable and visible; the new generation.
    fn commit(&self, py: Python<'_>) -> PyResult<u64> {
        self.run(py, None, Writer::commit)
    }

    /// Give up what is not committed and release the lock.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.lock(py)?.take();
        Ok(())
    }
}

/// Runs `work` on the writer in the slot, which stays empty if it panics.
fn run_on<R: Send>(
    py: Python<'_>,
    slot: &mut Option<Writer>,
    threads: Option<usize>,
    work: impl FnOnce(&mut Writer, &Execution) -> latewood_core::Result<R> + Send,
) -> PyResult<R> {
    let mut writer = slot.take().ok_or_else(|| writer_closed(py))?;
    detached(py, threads, move |execution| {
        let result = work(&mut writer, execution);
        // Not reached by a panic, which leaves the writer in an unknown state: it is closed.
        *slot = Some(writer);
        result
    })
}
