//! The exception tree and the one map from the core's errors to it.

use std::path::Path;

use latewood_core::Error;
use pyo3::exceptions::{
    PyException, PyFileExistsError, PyFileNotFoundError, PyKeyError, PyKeyboardInterrupt, PyOSError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// The exceptions, in the order of [`register`].
#[derive(Clone, Copy)]
enum Kind {
    Latewood,
    InvalidInput,
    Dimension,
    DuplicateId,
    UnknownId,
    IndexNotFound,
    IndexExists,
    IndexLocked,
    CorruptIndex,
    IndexReplaced,
    FormatVersion,
    Writer,
    CommitConflict,
    Storage,
    Stopped,
    Internal,
}

/// `errno.ENOENT` and `errno.EEXIST`, the same on every system.
const NO_ENTRY: i32 = 2;
const EXISTS: i32 = 17;

static TYPES: PyOnceLock<Vec<Py<PyType>>> = PyOnceLock::new();

/// Makes the exception types and adds them to the module.
///
/// They are made here and not by a macro because most have two bases: the library's and the one that Python users
/// already catch.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let types = TYPES.get_or_try_init(py, || make_types(py))?;
    for exception in types {
        let exception = exception.bind(py);
        module.add(exception.name()?.extract::<String>()?.as_str(), exception)?;
    }
    Ok(())
}

fn make_types<'py>(py: Python<'py>) -> PyResult<Vec<Py<PyType>>> {
    let root = make_type("LatewoodError", "Base of every error of this library.", vec![py.get_type::<PyException>()])?;
    let child = |name: &str, doc: &str, other: Option<Bound<'py, PyType>>| {
        make_type(name, doc, std::iter::once(root.clone()).chain(other).collect())
    };
    let value_error = Some(py.get_type::<PyValueError>());
    let invalid = child("InvalidInputError", "Input that cannot be used; the message names it.", value_error)?;
    let under_invalid = |name: &str, doc: &str| make_type(name, doc, vec![invalid.clone()]);
    let writer = child("WriterError", "A writer that failed or was closed; the last commit stands.", None)?;
    let types = [
        root.clone(),
        invalid.clone(),
        under_invalid("DimensionError", "Vectors of another dimension than the index's.")?,
        under_invalid("DuplicateIdError", "An id given twice, or added although the index has it.")?,
        child("UnknownIdError", "An id that the index does not have.", Some(py.get_type::<PyKeyError>()))?,
        child("IndexNotFoundError", "No index at this path.", Some(py.get_type::<PyFileNotFoundError>()))?,
        child("IndexExistsError", "An index is already at this path.", Some(py.get_type::<PyFileExistsError>()))?,
        child("IndexLockedError", "Another writer holds the index.", None)?,
        child("CorruptIndexError", "A file contradicts its checksum or its own counts.", None)?,
        child("IndexReplacedError", "The folder holds another index, or an older state, than the one opened.", None)?,
        child("FormatVersionError", "A file of a newer format than this build reads.", None)?,
        writer.clone(),
        make_type("CommitConflictError", "Another writer, which no lock kept out, committed first.", vec![writer])?,
        child("StorageError", "The operating system refused to read or write.", Some(py.get_type::<PyOSError>()))?,
        child("StoppedError", "A call that `latewood.Stop` ended; it has done nothing.", None)?,
        child("InternalError", "A defect of this library; please report it.", None)?,
    ];
    Ok(types.into_iter().map(Bound::unbind).collect())
}

fn make_type<'py>(name: &str, doc: &str, bases: Vec<Bound<'py, PyType>>) -> PyResult<Bound<'py, PyType>> {
    let py = bases[0].py();
    let namespace = PyDict::new(py);
    namespace.set_item("__doc__", doc)?;
    namespace.set_item("__module__", "latewood._core")?;
    // KeyError prints the repr of its message, and OSError puts a number before it; these are sentences.
    let sentence = c"lambda error: getattr(error, 'strerror', None) or Exception.__str__(error)";
    // Without a namespace of its own it would keep that of the program's `__main__`, and these types last for ever: at its end
    // none of the program's objects would be let go, and a file that it had left open would lose what was not written yet.
    let own = PyDict::new(py);
    namespace.set_item("__str__", py.eval(sentence, Some(&own), None)?)?;
    let made = py.get_type::<PyType>().call1((name, PyTuple::new(py, bases)?, namespace))?;
    Ok(made.cast_into::<PyType>()?)
}

fn raise(py: Python<'_>, kind: Kind, arguments: impl pyo3::PyErrArguments + 'static) -> PyErr {
    match TYPES.get(py) {
        Some(types) => PyErr::from_type(types[kind as usize].bind(py).clone(), arguments),
        None => PyErr::new::<PyException, _>(arguments),
    }
}

/// As `raise`, for the kinds that are an `OSError`, whose attributes `errno`, `strerror` and `filename` are set by position.
fn raise_os_error(py: Python<'_>, kind: Kind, number: Option<i32>, message: String, path: &Path) -> PyErr {
    // The last one is what Windows calls its number; other systems pass over it.
    raise(py, kind, (number, message, path.as_os_str().to_owned(), number))
}

/// The exception for an error of the core.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    let kind = match error {
        Error::NotFinite { .. } | Error::Invalid(_) | Error::IdKind { .. } => Kind::InvalidInput,
        Error::Dimension { .. } => Kind::Dimension,
        Error::DuplicateId { .. } | Error::IdExists { .. } => Kind::DuplicateId,
        Error::UnknownId { .. } => Kind::UnknownId,
        Error::NotAnIndex { path } => {
            return raise_os_error(py, Kind::IndexNotFound, Some(NO_ENTRY), message, path);
        }
        Error::AlreadyExists { path } => {
            return raise_os_error(py, Kind::IndexExists, Some(EXISTS), message, path);
        }
        Error::Locked { .. } => Kind::IndexLocked,
        Error::Corrupt { .. } | Error::Damaged { .. } => Kind::CorruptIndex,
        Error::Replaced { .. } => Kind::IndexReplaced,
        Error::Conflict { .. } => Kind::CommitConflict,
        Error::FormatVersion { .. } => Kind::FormatVersion,
        Error::WriterPoisoned { .. } | Error::Forked { .. } => Kind::Writer,
        Error::Io { source, path, .. } => {
            return raise_os_error(py, Kind::Storage, source.raw_os_error(), message, path);
        }
        Error::Interrupted => return PyErr::new::<PyKeyboardInterrupt, _>(message),
        // The core's enum is open to new variants; until one is mapped it is still the library's error.
        _ => Kind::Latewood,
    };
    raise(py, kind, message)
}

/// An `InternalError`.
pub(crate) fn internal(py: Python<'_>, message: &str) -> PyErr {
    raise(py, Kind::Internal, format!("internal error: {message}; please report it with the call that led here"))
}

/// A `StoppedError`.
pub(crate) fn stopped(py: Python<'_>, reason: &str) -> PyErr {
    raise(py, Kind::Stopped, format!("{reason}; the call has done nothing"))
}

/// An `InvalidInputError`.
pub(crate) fn invalid(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, Kind::InvalidInput, message.into())
}

/// A `WriterError`.
pub(crate) fn writer_closed(py: Python<'_>) -> PyErr {
    raise(py, Kind::Writer, "this writer is closed; open a new one with index.writer()")
}
