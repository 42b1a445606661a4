//! What ends calls from outside: another thread, or a time that is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyTuple};

use crate::errors::{invalid, stopped};

/// The stops whose blocks the running code is in. Tasks of one thread each have their own, and what `asyncio.to_thread` runs
/// has those of its caller.
static ENTERED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Ends calls of the library from outside: from another thread, or when a time is over.
///
/// What is called in its block ends within a tenth of a second with `StoppedError`, having done nothing, once `set` was called
/// or the seconds are over, and what is called afterwards is not begun. The core's work looks for it, and so does encoding
/// by ONNX models, between two batches; other work that is to end so calls `Stop.check()` now and then. Blocks may lie in
/// each other, several threads may be in one, and an asyncio task's block is its own, and that of what it runs by
/// `asyncio.to_thread`.
///
/// Parameters
/// ----------
/// seconds : float, optional
///     At least 0, from now and not from the block's beginning; by default no time ends it.
///
/// Raises
/// ------
/// `InvalidInputError`
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import latewood
/// >>> with latewood.Stop(seconds=10):
/// ...     scores = latewood.maxsim(np.ones((3, 8)), [np.ones((5, 8))])
#[pyclass(name = "Stop", module = "latewood", frozen)]
#[derive(Clone)]
pub(crate) struct PyStop {
    set: Arc<AtomicBool>,
    deadline: Option<(f64, Instant)>,
}

#[pymethods]
impl PyStop {
    #[new]
    #[pyo3(signature = (seconds=None))]
    fn new(seconds: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let deadline = seconds.map(|given| -> PyResult<_> {
            let refused = || {
                let kind = given.get_type();
                let shown = given.repr().map_or_else(|_| kind.to_string(), |shown| shown.to_string());
                invalid(given.py(), format!("seconds must be a number, at least 0, or None; {shown} is given"))
            };
            if given.is_instance_of::<PyBool>() {
                return Err(refused());
            }
            let seconds = given.extract::<f64>().map_err(|_| refused())?;
            let length = Duration::try_from_secs_f64(seconds).map_err(|_| refused())?;
            Ok((seconds, Instant::now().checked_add(length).ok_or_else(refused)?))
        });
        Ok(Self { set: Arc::default(), deadline: deadline.transpose()? })
    }

    /// End what runs in its blocks, now and from now on. Any thread may call it, more than once.
    fn set(&self) {
        self.set.store(true, Ordering::Relaxed);
    }

    /// End the running code with `StoppedError`, if a block that it is in was stopped.
    #[staticmethod]
    fn check(py: Python<'_>) -> PyResult<()> {
        Stops::current(py)?.error().map_or(Ok(()), Err)
    }

    /// Whether it was set, or its time is over.
    #[getter]
    fn stopped(&self) -> bool {
        self.reason().is_some()
    }

    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = this.py();
        let inside = entered(py)?.iter().chain([this.clone().into_any()]).collect::<Vec<_>>();
        variable(py)?.call_method1("set", (PyTuple::new(py, inside)?,))?;
        Ok(this)
    }

    #[pyo3(signature = (_kind=None, _error=None, _traceback=None))]
    fn __exit__(
        this: Bound<'_, Self>,
        _kind: Option<Bound<'_, PyAny>>,
        _error: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = this.py();
        let mut inside = entered(py)?.iter().collect::<Vec<_>>();
        if let Some(last) = inside.iter().rposition(|stop| stop.is(&this)) {
            inside.remove(last);
        }
        variable(py)?.call_method1("set", (PyTuple::new(py, inside)?,))?;
        Ok(())
    }

    fn __repr__(&self) -> String {
        let limit = self.deadline.map_or_else(String::new, |(seconds, _)| format!("seconds={seconds}"));
        let state = if self.stopped() { "stopped" } else { "running" };
        format!("Stop({limit}: {state})").replace("(: ", "(")
    }
}

impl PyStop {
    /// Why calls end now, if they do.
    fn reason(&self) -> Option<String> {
        if self.set.load(Ordering::Relaxed) {
            return Some("stopped by Stop.set()".to_owned());
        }
        let (seconds, end) = self.deadline?;
        (Instant::now() >= end).then(|| format!("the {seconds} seconds of latewood.Stop are over"))
    }
}

/// The stops of the running code.
#[derive(Default)]
pub(crate) struct Stops(Vec<PyStop>);

impl Stops {
    pub(crate) fn current(py: Python<'_>) -> PyResult<Self> {
        entered(py)?.iter().map(|stop| Ok(stop.cast::<PyStop>()?.get().clone())).collect::<PyResult<_>>().map(Self)
    }

    /// A `StoppedError`, if the running code is to end.
    pub(crate) fn error(&self) -> Option<PyErr> {
        let reason = self.0.iter().find_map(PyStop::reason)?;
        Some(Python::attach(|py| stopped(py, &reason)))
    }
}

fn entered(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    Ok(variable(py)?.call_method0("get")?.cast_into::<PyTuple>()?)
}

fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let make = || -> PyResult<_> {
        let default = PyDict::new(py);
        default.set_item("default", PyTuple::empty(py))?;
        Ok(py.import("contextvars")?.getattr("ContextVar")?.call(("latewood.Stop",), Some(&default))?.unbind())
    };
    Ok(ENTERED.get_or_try_init(py, make)?.bind(py))
}
