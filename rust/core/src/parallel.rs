//! Threads and interruption: the one place that owns a thread pool.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// How often a long operation asks its listener whether to stop.
const LISTEN_INTERVAL: Duration = Duration::from_millis(50);

/// The threads of this process, one for each core. Without a lock: a forked child may find a lock held for ever by a
/// thread that it does not have.
static POOL: ArcSwapOption<Pool> = ArcSwapOption::const_empty();

#[derive(Debug)]
struct Pool {
    process: u32,
    threads: ThreadPool,
}

impl Pool {
    /// The pool of this process. After `fork` the child makes one of its own.
    fn current() -> Result<Arc<Self>> {
        let process = std::process::id();
        let known = POOL.load_full();
        if let Some(known) = known.as_ref().filter(|known| known.process == process) {
            return Ok(Arc::clone(known));
        }
        let threads = ThreadPoolBuilder::new().num_threads(processors()).thread_name(|i| format!("latewood-{i}"));
        let threads = threads
            .build()
            .map_err(|error| Error::io("start threads for", "latewood")(std::io::Error::other(error)))?;
        let pool = Arc::new(Self { process, threads });
        let replaced = POOL.compare_and_swap(&known, Some(Arc::clone(&pool)));
        match &*replaced {
            // Another thread was quicker.
            Some(other) if other.process == process => Ok(Arc::clone(other)),
            _ => {
                // A pool inherited through fork has no threads: joining it, as its drop would, waits for ever.
                mem::forget(known);
                Ok(pool)
            }
        }
    }
}

/// Processors that this process may use. Asking the system takes longer than a small rerank, so it is asked once.
fn processors() -> usize {
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let found = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
            KNOWN.store(found, Ordering::Relaxed);
            found
        }
        known => known,
    }
}

/// How a long operation runs: on how many threads, and whether it has been asked to stop.
#[derive(Clone, Debug)]
pub struct Execution {
    threads: usize,
    stop: Arc<AtomicBool>,
    listener: Option<Arc<Listener>>,
}

/// Asked now and then, by the thread that began the operation, whether to stop it.
struct Listener {
    thread: ThreadId,
    start: Instant,
    /// When it was asked last, in nanoseconds since the start.
    asked: AtomicU64,
    stops: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Listener({:?})", self.thread)
    }
}

impl Execution {
    /// Runs on up to `threads` threads of the process, or on all if `None`. There is one for each processor, and no call
    /// uses more than that.
    ///
    /// # Errors
    /// [`Error::Invalid`] for zero threads.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        if threads == Some(0) {
            return Err(Error::invalid("threads must be at least 1"));
        }
        let most = processors();
        let threads = threads.map_or(most, |threads| threads.min(most));
        Ok(Self { threads, stop: Arc::new(AtomicBool::new(false)), listener: None })
    }

    /// Runs on this thread alone, and nothing stops it: for work that is over at once.
    #[must_use]
    pub fn undisturbed() -> Self {
        Self { threads: 1, stop: Arc::new(AtomicBool::new(false)), listener: None }
    }

    /// The same, asking `stops` about twenty times a second, on this thread, whether to stop.
    #[must_use]
    pub fn listening(self, stops: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let (thread, start) = (thread::current().id(), Instant::now());
        let listener = Listener { thread, start, asked: AtomicU64::new(0), stops: Box::new(stops) };
        Self { listener: Some(Arc::new(listener)), ..self }
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// For one of so many tasks that run side by side: what runs in it has the threads to itself if it is alone, else one.
    #[must_use]
    pub fn for_one_of(&self, tasks: usize) -> Self {
        Self { threads: if tasks <= 1 { self.threads } else { 1 }, ..self.clone() }
    }

    /// The flag that another thread sets to stop this operation.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Called between blocks of work that take milliseconds.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once the operation has been asked to stop.
    pub fn check(&self) -> Result<()> {
        if let Some(listener) = &self.listener
            && listener.thread == thread::current().id()
        {
            let now = listener.start.elapsed();
            if now.saturating_sub(Duration::from_nanos(listener.asked.load(Ordering::Relaxed))) >= LISTEN_INTERVAL {
                if (listener.stops)() {
                    self.stop.store(true, Ordering::Relaxed);
                }
                listener.asked.store(listener.start.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
        }
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Runs `work` for every task, on this thread and others of the pool; the results in the order of the tasks.
    ///
    /// Between tasks it looks whether it is to stop. Tasks are begun in their order, and none after one has failed.
    ///
    /// # Errors
    /// The first task's, in their order, of those that failed; [`Error::Interrupted`]; [`Error::Io`] if the system gives
    /// no thread.
    pub fn map<T: Send, R: Send>(
        &self,
        tasks: impl IntoIterator<Item = T, IntoIter: Send>,
        work: impl Fn(T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        self.map_with(tasks, || (), |(), task| work(task))
    }

    /// The same with room that the tasks of one thread share, one after the other.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_with<T: Send, S, R: Send>(
        &self,
        tasks: impl IntoIterator<Item = T, IntoIter: Send>,
        room: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let tasks = tasks.into_iter();
        if self.threads == 1 || tasks.size_hint().1.is_some_and(|most| most <= 1) {
            let mut room = room();
            return tasks.map(|task| self.check().and_then(|()| work(&mut room, task))).collect();
        }
        let helpers = tasks.size_hint().1.map_or(self.threads, |most| most.min(self.threads)) - 1;
        let queue = Mutex::new(tasks.enumerate());
        let failed = AtomicBool::new(false);
        let done: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::new());
        let worker = || {
            let mut room = room();
            let mut own = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let Some((position, task)) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
                let result = self.check().and_then(|()| work(&mut room, task));
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                own.push((position, result));
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
        };
        Pool::current()?.threads.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| worker());
            }
            worker();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|&(position, _)| position);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_tasks() {
        for threads in [Some(1), Some(2), None] {
            let execution = Execution::new(threads).expect("threads");
            let squares = execution.map(0..1000, |task| Ok(task * task)).expect("no task fails");
            assert!(squares.iter().enumerate().all(|(task, &square)| square == task * task));
            assert!(execution.map(0..0, |task: usize| Ok(task)).expect("nothing to do").is_empty());
        }
    }

    #[test]
    fn the_first_failure_is_told_and_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let execution = Execution::new(None).expect("threads");
        let result = execution.map(0..100_000, |task| {
            begun.fetch_add(1, Ordering::Relaxed);
            if task >= 7 { Err(Error::invalid(format!("task {task}"))) } else { Ok(()) }
        });
        assert_eq!(result.expect_err("a task fails").to_string(), "task 7");
        assert!(begun.into_inner() < 100);
    }

    #[test]
    fn no_call_uses_more_threads_than_there_are_processors() {
        assert_eq!(Execution::new(Some(usize::MAX)).expect("capped").threads(), processors());
        assert!(Execution::new(Some(0)).is_err());
        let seen = Mutex::new(std::collections::HashSet::new());
        let execution = Execution::new(Some(1)).expect("one");
        let note = |_| {
            seen.lock().expect("sound").insert(thread::current().id());
            Ok(())
        };
        execution.map(0..100, note).expect("no task fails");
        assert_eq!(seen.into_inner().expect("sound").len(), 1);
    }

    #[test]
    fn a_listener_stops_work_on_every_thread() {
        let execution = Execution::new(None).expect("threads").listening(|| true);
        let start = Instant::now();
        let result = execution.map(0..u64::MAX, |_| {
            thread::sleep(Duration::from_millis(1));
            Ok(())
        });
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(start.elapsed() >= LISTEN_INTERVAL, "it is asked now and then only");
    }
}
