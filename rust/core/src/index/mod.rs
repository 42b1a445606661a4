//! An index: immutable segments, the manifest that names them, one writer, any number of readers.

mod check;
mod codec_file;
mod columns;
mod documents;
mod filter;
mod garbage;
mod groups;
mod id_table;
mod info;
mod merge;
mod pending;
mod postings;
mod scalar;
mod segment;
mod segment_writer;
mod snapshot;
mod strings;
mod tombstones;
mod writer;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};

use crate::codec::{CodecOptions, MAX_DIM};
use crate::error::{Error, Result};
use crate::format::{Manifest, Newest, Stored, names};
use crate::parallel::Execution;
use crate::storage::{Lock, Storage};

pub use documents::Location;
pub use filter::Filter;
pub(crate) use groups::{Group, Groups};
pub use info::Info;
pub use segment::Segment;
pub use snapshot::Snapshot;
pub use writer::{Batch, Prepared, Writer};

use snapshot::{generations, newest, open_newest, without_folder};

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

impl IndexOptions {
    /// Checks every option.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option.
    pub fn validate(&self) -> Result<()> {
        if self.dim == 0 || self.dim > MAX_DIM {
            return Err(Error::invalid(format!("dim must lie between 1 and {MAX_DIM}, not {}", self.dim)));
        }
        self.codec.validate()
    }
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
    /// Without a lock, which a forked child could find held by a thread that it does not have.
    current: ArcSwap<Snapshot>,
    /// Whether it was opened at a generation that was asked for.
    pinned: bool,
}

impl Shared {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Opens the newest generation, if it is another than the current one.
    fn refresh(&self) -> Result<bool> {
        if self.pinned {
            return Ok(false);
        }
        let current = self.snapshot();
        if is_newest(&*self.storage, &current) {
            return Ok(false);
        }
        let snapshot = open_newest(&*self.storage, Some(&current))?;
        let replaced = |problem: String| Error::Replaced { path: self.storage.place().to_owned(), problem };
        let (old, new) = (current.manifest(), snapshot.manifest());
        if old.index.is_some() && old.index != new.index {
            return Err(replaced("it was created at another time".to_owned()));
        }
        if (snapshot.generation, snapshot.checksum()) == (current.generation, current.checksum()) {
            return Ok(false);
        }
        if snapshot.generation <= current.generation {
            return Err(replaced(format!(
                "its newest generation is {}, and this object has seen generation {}",
                snapshot.generation, current.generation
            )));
        }
        if snapshot.descends_from(&current) == Some(false) {
            return Err(replaced(format!(
                "generation {}, which this object has seen, is not among the commits that the newest one comes from",
                current.generation
            )));
        }
        let snapshot = Arc::new(snapshot);
        // A commit of this process may have been quicker: nobody goes back.
        self.current.rcu(|now| Arc::clone(if now.generation < snapshot.generation { &snapshot } else { now }));
        Ok(true)
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        lock(&*self.storage)
    }
}

/// Whether a snapshot is that of the newest generation in the folder. Trouble makes it none: who opens it will tell.
fn is_newest(storage: &dyn Storage, snapshot: &Snapshot) -> bool {
    newest(storage).is_ok_and(|generation| generation == snapshot.generation)
        && Manifest::read(storage, snapshot.generation).is_ok_and(|stored| stored.checksum == snapshot.checksum())
}

fn lock(storage: &dyn Storage) -> Result<Box<dyn Lock>> {
    let lock = storage.try_lock(names::LOCK).map_err(|error| without_folder(storage, error))?;
    lock.ok_or_else(|| Error::Locked { path: storage.place().to_owned() })
}

impl Index {
    /// Creates an empty index in a folder that holds none.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Locked`] if somebody is creating one there, [`Error::Invalid`] for options out
    /// of range, [`Error::Io`].
    pub fn create(storage: Arc<dyn Storage>, options: IndexOptions) -> Result<Self> {
        options.validate()?;
        let IndexOptions { dim, codec, encoder } = options;
        let _lock = lock(&*storage)?;
        if !generations(&*storage)?.is_empty() || Newest::read(&*storage).is_some() {
            return Err(Error::AlreadyExists { path: storage.place().to_owned() });
        }
        let manifest = Manifest {
            generation: 1,
            index: Some(new_identity()?),
            ancestors: Vec::new(),
            dim,
            codec_options: codec,
            encoder,
            id_kind: None,
            codec: None,
            segments: Vec::new(),
            settings: Map::new(),
        };
        let stored = publish(&*storage, manifest, random()?).map_err(|error| match error {
            // Somebody whom no lock kept out was quicker.
            Error::Conflict { path, .. } => Error::AlreadyExists { path },
            other => other,
        })?;
        Ok(Self::new(storage, Snapshot::assemble(stored, None, Vec::new()), false))
    }

    /// Opens an index at its newest generation.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`]; [`Error::Damaged`] if the newest generation is not whole; [`Error::FormatVersion`] if a newer
    /// version of this library wrote it; [`Error::Io`].
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let snapshot = open_newest(&*storage, None)?;
        Ok(Self::new(storage, snapshot, false))
    }

    /// Opens an index at a generation that is still there, to read it as it was then: it stays at it, and has no writer.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such generation, and as [`Self::open`].
    pub fn open_at(storage: Arc<dyn Storage>, generation: u64) -> Result<Self> {
        let present = generations(&*storage)?;
        if !present.contains(&generation) {
            let present: Vec<String> = present.iter().map(u64::to_string).collect();
            return Err(Error::invalid(format!(
                "{} has no generation {generation}; it has {}",
                storage.place().display(),
                if present.is_empty() { "none".to_owned() } else { present.join(", ") }
            )));
        }
        let snapshot = Snapshot::open(&*storage, generation, None)?;
        Ok(Self::new(storage, snapshot, true))
    }

    /// Goes back to an older generation for good, by committing it once more as the newest: `generation`, or the newest that
    /// is whole. Nothing is removed before the next commit. Without `generation`, an index whose newest generation is whole
    /// stays as it is.
    ///
    /// # Errors
    /// [`Error::Locked`] while there is a writer; [`Error::Damaged`] if no generation is whole; as [`Self::open_at`].
    pub fn recover(storage: Arc<dyn Storage>, generation: Option<u64>) -> Result<Self> {
        if let Err(error @ Error::NotAnIndex { .. }) = newest(&*storage) {
            return Err(error);
        }
        let lock = lock(&*storage)?;
        let sound = match (generation, open_newest(&*storage, None)) {
            (Some(asked), Ok(_) | Err(Error::Damaged { .. })) => asked,
            (None, Ok(newest)) => newest.generation,
            (None, Err(Error::Damaged { sound: Some(sound), .. })) => sound,
            (_, Err(error)) => return Err(error),
        };
        let snapshot = Self::open_at(Arc::clone(&storage), sound)?.snapshot();
        if is_newest(&*storage, &snapshot) {
            drop(lock);
            return Self::open(storage);
        }
        let (generation, ancestors) = (next_generation(&*storage)?, snapshot.lineage());
        let manifest = Manifest { generation, ancestors, ..snapshot.manifest().clone() };
        publish(&*storage, manifest, random()?)?;
        drop(lock);
        Self::open(storage)
    }

    fn new(storage: Arc<dyn Storage>, snapshot: Snapshot, pinned: bool) -> Self {
        Self { shared: Arc::new(Shared { storage, current: ArcSwap::from_pointee(snapshot), pinned }) }
    }

    /// The generation that readers see now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot()
    }

    /// Goes over to the newest generation, which another process may have committed; whether that is another.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::Replaced`] if the folder holds another index by now, or an older state of this one. The
    /// current generation then stays.
    pub fn refresh(&self) -> Result<bool> {
        self.shared.refresh()
    }

    /// The one writer, on the newest generation. Dropped without a commit, it leaves no trace.
    ///
    /// # Errors
    /// [`Error::Locked`] while there is another, in this process or elsewhere; [`Error::Invalid`] for an index that was
    /// opened at a generation; as [`Self::refresh`].
    pub fn writer(&self) -> Result<Writer> {
        Writer::new(Arc::clone(&self.shared), true)
    }

    /// A writer whose commits leave all segments as they are.
    ///
    /// # Errors
    /// As [`Self::writer`].
    pub fn writer_without_merging(&self) -> Result<Writer> {
        Writer::new(Arc::clone(&self.shared), false)
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
        Info::new(&self.snapshot())
    }

    /// Reads every file that a manifest names, from the storage, and tells all that is wrong; nothing if all is well.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or a file cannot be read, [`Error::Interrupted`].
    pub fn check(&self, execution: &Execution) -> Result<Vec<String>> {
        check::check(&*self.shared.storage, execution)
    }
}

/// A number that no other index or writer has.
fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| Error::io("draw a random number for", "latewood")(std::io::Error::other(error)))
}

fn new_identity() -> Result<String> {
    Ok(format!("{:016x}{:016x}", random()?, random()?))
}

/// The number of the next generation: above all that were committed, whatever became of them.
fn next_generation(storage: &dyn Storage) -> Result<u64> {
    let noted = Newest::read(storage).map(|note| note.generation);
    let last = generations(storage)?.first().copied().max(noted).unwrap_or_default();
    last.checked_add(1).ok_or_else(|| Error::invalid("the index has had 2^64 generations; rebuild it"))
}

/// Makes a manifest the newest generation, and notes that it is.
fn publish(storage: &dyn Storage, manifest: Manifest, writer: u64) -> Result<Stored> {
    let generation = manifest.generation;
    let stored = manifest.publish(storage, writer).map_err(|failure| {
        garbage::discard(storage, &[names::temporary_manifest(generation, writer)]);
        failure.error
    })?;
    note_newest(storage, &stored.manifest, writer);
    Ok(stored)
}

/// Notes which generation is the newest. The commit stands without the note.
fn note_newest(storage: &dyn Storage, manifest: &Manifest, writer: u64) {
    let note = Newest { index: manifest.index.clone(), generation: manifest.generation };
    if note.write(storage, writer).is_err() {
        garbage::discard(storage, &[names::temporary_newest(writer)]);
    }
}
