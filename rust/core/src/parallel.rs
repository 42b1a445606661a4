//! Threads and interruption: the one place that owns a thread pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// How a long operation runs: on how many threads, and whether it has been asked to stop.
#[derive(Clone, Debug)]
pub struct Execution {
    pool: Arc<ThreadPool>,
    stop: Arc<AtomicBool>,
}

type Pools = Vec<(u32, usize, Arc<ThreadPool>)>;

static POOLS: Mutex<Pools> = Mutex::new(Vec::new());

impl Execution {
    /// Runs on `threads` threads, or on one for each core if `None`.
    ///
    /// A pool belongs to the process that made it: after `fork` the child gets a new one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for zero threads, [`Error::Io`] if the system gives no thread.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        if threads == Some(0) {
            return Err(Error::invalid("threads must be at least 1"));
        }
        let threads =
            threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
        let process = std::process::id();
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pools.iter().find(|(owner, size, _)| (*owner, *size) == (process, threads));
        let pool = if let Some((_, _, pool)) = known {
            Arc::clone(pool)
        } else {
            let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("latewood-{i}"));
            let pool = builder
                .build()
                .map_err(|error| Error::io("start threads for", "latewood")(std::io::Error::other(error)))?;
            let pool = Arc::new(pool);
            // A pool inherited through fork has no threads: joining it, as its drop would, waits for ever.
            pools.iter().filter(|(owner, _, _)| *owner != process).for_each(|(_, _, dead)| {
                std::mem::forget(Arc::clone(dead));
            });
            pools.retain(|(owner, _, _)| *owner == process);
            pools.push((process, threads, Arc::clone(&pool)));
            pool
        };
        Ok(Self { pool, stop: Arc::new(AtomicBool::new(false)) })
    }

    /// Runs `work` inside the pool, so that rayon's parallel iterators use its threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The flag that another thread sets to stop this operation.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Called between blocks of work.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once the operation has been asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
