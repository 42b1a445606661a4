//! An index: immutable segments, the manifest that names them, one writer, any number of readers.

mod check;
mod codec_file;
mod columns;
mod compact;
mod documents;
mod filter;
mod garbage;
mod id_table;
mod info;
mod pending;
mod postings;
mod segment;
mod segment_writer;
mod snapshot;
mod strings;
mod tombstones;
mod writer;

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value};

use crate::codec::{CodecOptions, MAX_DIM};
use crate::error::{Error, Result};
use crate::format::{Manifest, names};
use crate::parallel::Execution;
use crate::storage::{Lock, Storage};

pub use documents::Location;
pub use filter::Filter;
pub use info::Info;
pub use segment::Segment;
pub use snapshot::Snapshot;
pub use writer::{Batch, Writer};

use snapshot::{generations, open_newest};

/// What is fixed when an index is created.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Components of a token vector.
    pub dim: usize,
    /// How the codec is trained, on the first documents.
    pub codec: CodecOptions,
    /// What is to be remembered of the encoder: data that the caller compares, never code.
    pub encoder: Option<Value>,
}

/// An index. Clones are the same index.
#[derive(Clone, Debug)]
pub struct Index {
    shared: Arc<Shared>,
}

/// What an index and its writer share.
#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    snapshot: Arc<Snapshot>,
    warnings: Vec<String>,
}

impl Shared {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, snapshot: Arc<Snapshot>, warnings: Vec<String>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { snapshot, warnings };
    }

    /// Opens the newest generation, if it is another than the current one.
    fn refresh(&self) -> Result<bool> {
        let current = self.current().snapshot;
        if generations(&*self.storage)?.first() == Some(&current.generation) {
            return Ok(false);
        }
        let (snapshot, warnings) = open_newest(&*self.storage, Some(&current))?;
        // A generation that is older than the current one is what is left after the newest was damaged.
        let changed = snapshot.generation != current.generation;
        self.set(if changed { Arc::new(snapshot) } else { current }, warnings);
        Ok(changed)
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        lock(&*self.storage)
    }
}

fn lock(storage: &dyn Storage) -> Result<Box<dyn Lock>> {
    storage.try_lock(names::LOCK)?.ok_or_else(|| Error::Locked { path: storage.place().to_owned() })
}

impl Index {
    /// Creates an empty index in a folder that holds none.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Locked`] if somebody is creating one there, [`Error::Invalid`] for options out
    /// of range, [`Error::Io`].
    pub fn create(storage: Arc<dyn Storage>, options: IndexOptions) -> Result<Self> {
        let IndexOptions { dim, codec, encoder } = options;
        if dim == 0 || dim > MAX_DIM {
            return Err(Error::invalid(format!("dim must lie between 1 and {MAX_DIM}, not {dim}")));
        }
        codec.validate()?;
        let _lock = lock(&*storage)?;
        if !generations(&*storage)?.is_empty() {
            return Err(Error::AlreadyExists { path: storage.place().to_owned() });
        }
        let manifest = Manifest {
            generation: 1,
            dim,
            codec_options: codec,
            encoder,
            id_kind: None,
            codec: None,
            segments: Vec::new(),
            settings: Map::new(),
        };
        manifest.publish(&*storage).map_err(|failure| {
            garbage::discard(&*storage, &[names::temporary_manifest(manifest.generation)]);
            failure.error
        })?;
        let snapshot = Arc::new(Snapshot::assemble(manifest, None, Vec::new()));
        Ok(Self::new(storage, snapshot, Vec::new()))
    }

    /// Opens an index at its newest generation that is whole.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`]; [`Error::Corrupt`] if no generation is whole; [`Error::FormatVersion`] if a newer version
    /// of this library wrote it; [`Error::Io`].
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let (snapshot, warnings) = open_newest(&*storage, None)?;
        Ok(Self::new(storage, Arc::new(snapshot), warnings))
    }

    fn new(storage: Arc<dyn Storage>, snapshot: Arc<Snapshot>, warnings: Vec<String>) -> Self {
        Self { shared: Arc::new(Shared { storage, current: RwLock::new(Current { snapshot, warnings }) }) }
    }

    /// The generation that readers see now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.current().snapshot
    }

    /// What was found wrong when the current generation was opened: newer generations that had to be passed over.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.shared.current().warnings
    }

    /// Goes over to the newest generation, which another process may have committed; whether that is another.
    ///
    /// # Errors
    /// As [`Self::open`]; the current generation then stays.
    pub fn refresh(&self) -> Result<bool> {
        self.shared.refresh()
    }

    /// The one writer, on the newest generation. Dropped without a commit, it leaves no trace.
    ///
    /// # Errors
    /// [`Error::Locked`] while there is another, in this process or elsewhere; as [`Self::refresh`].
    pub fn writer(&self) -> Result<Writer> {
        Writer::new(Arc::clone(&self.shared))
    }

    /// Rewrites all segments as one, or as few as the largest size of a segment allows, without deleted documents, and
    /// removes what no longer belongs to the index, the generation before included. The new generation.
    ///
    /// Codes are copied, not encoded again; the order of documents stays.
    ///
    /// # Errors
    /// [`Error::Locked`] while there is a writer; [`Error::Corrupt`] if a segment is damaged, before anything is
    /// written; [`Error::Interrupted`]; [`Error::Io`].
    pub fn compact(&self, execution: &Execution) -> Result<u64> {
        self.writer()?.compact(execution)
    }

    /// Counts and sizes of the current generation.
    #[must_use]
    pub fn info(&self) -> Info {
        Info::new(&*self.shared.storage, &self.snapshot())
    }

    /// Reads every file that a manifest names, from the storage, and tells all that is wrong; nothing if all is well.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or a file cannot be read.
    pub fn check(&self) -> Result<Vec<String>> {
        check::check(&*self.shared.storage)
    }
}
