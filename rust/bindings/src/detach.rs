//! The only door out of the interpreter: everything that takes time goes through here, with the interpreter's lock
//! released, panics turned into exceptions and Ctrl-C heard.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use latewood_core::parallel::Execution;
use pyo3::prelude::*;

use crate::errors::{internal, to_python};
use crate::stop::Stops;

/// Runs `work` without the interpreter's lock. Now and then, if it takes long, it lets the interpreter look for signals; an
/// exception that a signal's handler raises ends it and is raised here, and so does a stop that the caller is in.
pub(crate) fn detached<R: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    work: impl FnOnce(&Execution) -> latewood_core::Result<R> + Send,
) -> PyResult<R> {
    let stops = Stops::current(py)?;
    if let Some(error) = stops.error() {
        return Err(error);
    }
    let signal: Arc<Mutex<Option<PyErr>>> = Arc::default();
    let heard = Arc::clone(&signal);
    let listen = move || {
        let Some(error) = Python::attach(|py| py.check_signals().err()).or_else(|| stops.error()) else { return false };
        heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        true
    };
    let outcome = py.detach(|| {
        catch_unwind(AssertUnwindSafe(|| {
            let execution = Execution::new(threads)?.listening(listen);
            work(&execution)
        }))
    });
    if let Some(error) = signal.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    match outcome {
        Ok(result) => result.map_err(|error| to_python(py, &error)),
        Err(panic) => Err(internal(py, &message(panic.as_ref()))),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".to_owned())
}
