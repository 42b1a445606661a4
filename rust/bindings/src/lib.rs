//! The Python extension module `latewood._core`: arrays in and out, one door out of the interpreter, one error map.
//!
//! Nothing is computed here. The public API, with its defaults and documentation, is the Python package.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

mod arrays;
mod detach;
mod errors;
mod index;
mod maxsim;
mod options;
mod pooling;
mod results;
mod stop;
mod writer;

/// The module's list of names.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use latewood_kernels::Level;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::index::PyIndex;
    #[pymodule_export]
    use crate::maxsim::{maxsim, maxsim_arrays};
    #[pymodule_export]
    use crate::options::{PyRerankOptions, PySearchOptions};
    #[pymodule_export]
    use crate::pooling::pool;
    #[pymodule_export]
    use crate::results::PyResults;
    #[pymodule_export]
    use crate::stop::PyStop;
    #[pymodule_export]
    use crate::writer::PyWriter;

    /// Names of the SIMD levels that this CPU runs, slowest first.
    #[pyfunction]
    fn simd_levels() -> Vec<&'static str> {
        Level::available().map(Level::name).collect()
    }

    /// Name of the SIMD level in use.
    #[pyfunction]
    fn simd_level() -> &'static str {
        Level::current().name()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::errors::register(module)?;
        // Settled before the first call: none can meet a level that is not there, and no fork a decision half made.
        Level::requested().map_err(|unavailable| crate::errors::invalid(module.py(), unavailable.to_string()))?;
        let _ = Level::current();
        Ok(())
    }
}
