//! The only door out of the interpreter: everything that takes time goes through here, with the interpreter's lock
//! released, panics turned into exceptions and Ctrl-C heard.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use latewood_core::parallel::Execution;
use pyo3::prelude::*;

use crate::errors::{internal, to_python};

/// How often a long operation lets the interpreter look for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs `work`, which is over in milliseconds, without the interpreter's lock.
pub(crate) fn detached<R: Send>(py: Python<'_>, work: impl FnOnce() -> latewood_core::Result<R> + Send) -> PyResult<R> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(|error| to_python(py, &error)),
        Err(panic) => Err(internal(py, &message(panic.as_ref()))),
    }
}

/// Runs `work`, which may take long, on a thread of its own, while this one listens for signals.
pub(crate) fn interruptible<R: Send>(
    py: Python<'_>,
    execution: &Execution,
    work: impl FnOnce(&Execution) -> latewood_core::Result<R> + Send,
) -> PyResult<R> {
    let mut signal = None;
    let outcome = py.detach(|| {
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let worker = scope.spawn(move || {
                let result = work(execution);
                // The receiver outlives this thread: it waits below until the result is sent.
                let _ = sender.send(());
                result
            });
            while receiver.recv_timeout(SIGNAL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let heard = Python::attach(|py| py.check_signals().err());
                if let Some(error) = heard
                    && signal.is_none()
                {
                    signal = Some(error);
                    execution.stop_flag().store(true, Ordering::Relaxed);
                }
            }
            worker.join()
        })
    });
    match (outcome, signal) {
        (_, Some(signal)) => Err(signal),
        (Ok(result), None) => result.map_err(|error| to_python(py, &error)),
        (Err(panic), None) => Err(internal(py, &message(panic.as_ref()))),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".to_owned())
}
