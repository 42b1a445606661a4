//! An index: immutable segments, the manifest that names them, one writer, any number of readers.

mod strings;
mod columns;
mod batch;
mod id_table;
mod postings;
mod filter;
mod segment_writer;
mod policy;
mod metadata;
mod tombstones;
mod segment;
mod codec_file;
mod identity;
mod garbage;
mod generations;
mod snapshot;
mod documents;
mod groups;
mod info;
mod check;
mod shared;
mod open_segment;
mod pending;
mod writer;
mod merge;
mod codebook;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::codec::{Codec, CodecKind, CodecOptions, FdeOptions, MAX_DIM};
use crate::error::{Error, Result};
use crate::format::names::{self, Data};
use crate::format::{Manifest, Newest};
use crate::parallel::Execution;
use crate::storage::Storage;

pub use crate::format::KeptVectors;
pub use batch::Batch;
pub use documents::Location;
pub use filter::Filter;
pub(crate) use groups::{Group, Groups};
pub use info::{FdeInfo, Info};
pub use segment::Segment;
pub use snapshot::Snapshot;
pub use writer::{Prepared, Writer};

use generations::{generations, newest, next_generation, publish};
use identity::{new_identity, random};
use shared::{Shared, lock};
use snapshot::{is_newest, open_newest, open_present};

/// How often to look again for an index that somebody is creating, which takes a few syncs of files.
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// What is fixed when an index is created.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Components of a token vector.
    pub dim: usize,
    /// How the codec is trained, on the first documents.
    pub codec: CodecOptions,
    /// How token vectors are kept beside their codes, for scores without the codes' error.
    pub keep_vectors: Option<KeptVectors>,
    /// How documents are encoded in a fixed number of dimensions, for [`crate::search::GatherKind::Fde`], if they are. Only
    /// with the residual codec: without centroids every document is scored.
    pub fde: Option<FdeOptions>,
    /// What is to be remembered of the encoder: data that the caller compares, never code.
    pub encoder: Option<Value>,
    /// A trained codec to begin with, that of another index: both then give the same document the same codes, and so the same
    /// score to the bit. It must be of the kind and bits of `codec`.
    pub trained: Option<Arc<Codec>>,
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
        if let Some(fde) = &self.fde {
            fde.validate(self.dim)?;
            if self.codec.kind == CodecKind::Flat {
                let problem = "the flat codec has no use for fde, because every document is scored; leave fde out";
                return Err(Error::invalid(problem));
            }
        }
        self.codec.validate()?;
        match &self.trained {
            Some(trained) if trained.dim() != self.dim => Err(Error::Dimension {
                thing: "the codec that the index is to begin with".to_owned(),
                got: trained.dim(),
                expected: self.dim,
            }),
            Some(trained) if !trained.is_of(&self.codec) => {
                Err(Error::invalid("the codec that the index is to begin with is not of its kind and bits"))
            }
            // An index may do without what the codec could encode.
            Some(trained)
                if self.fde.is_some() && trained.fde().map(|fde| &fde.parameters().options) != self.fde.as_ref() =>
            {
                let problem = "the codec that the index is to begin with has other fixed dimensional encodings, or none; \
                               give the fde of the index that it is of, or leave fde out";
                Err(Error::invalid(problem))
            }
            _ => Ok(()),
        }
    }
}

/// An index. Clones are the same index.
#[derive(Clone, Debug)]
pub struct Index {
    shared: Arc<Shared>,
}

impl Index {
    /// Creates an empty index in a folder that holds none.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Locked`] if somebody has been creating one there for long, [`Error::Invalid`] for
    /// options out of range, [`Error::Io`].
    pub fn create(storage: Arc<dyn Storage>, options: IndexOptions) -> Result<Self> {
        for _ in 0..LOOKS {
            match Self::begin(Arc::clone(&storage), options.clone(), false) {
                Err(Error::Locked { .. }) => thread::sleep(PAUSE),
                other => return other,
            }
        }
        Self::begin(storage, options, false)
    }

    /// Puts an empty index in the place of whatever is in the folder, by one commit: who has the old one open keeps it, and
    /// learns of the new one by [`Error::Replaced`]. Until the next commit [`Self::recover`] can go back to the old one.
    ///
    /// # Errors
    /// [`Error::Locked`] while somebody writes to the old one, [`Error::Invalid`] for options out of range, [`Error::Io`].
    pub fn overwrite(storage: Arc<dyn Storage>, options: IndexOptions) -> Result<Self> {
        Self::begin(storage, options, true)
    }

    fn begin(storage: Arc<dyn Storage>, options: IndexOptions, overwrite: bool) -> Result<Self> {
        options.validate()?;
        let IndexOptions { dim, codec, keep_vectors, fde, encoder, trained } = options;
        let lock = lock(&*storage);
        let exists = !generations(&*storage)?.is_empty() || Newest::read(&*storage).is_some();
        // Told whether there is a lock or not: the index that is there may have a writer, or be for reading only.
        if exists && !overwrite {
            return Err(Error::AlreadyExists { path: storage.place().to_owned() });
        }
        let _lock = lock?;
        let trained = trained.map(|codec| match fde {
            None if codec.fde().is_some() => Arc::new(Codec::clone(&codec).with_fde(None)),
            _ => codec,
        });
        let (generation, nonce) = (next_generation(&*storage)?, random()?);
        let name = names::data(Data::Codec, generation, 0, nonce);
        let write = |codec: &Arc<Codec>| {
            let entry = codec_file::write(&*storage, &name, codec, &Execution::undisturbed())?;
            storage.sync_folder().map(|()| entry)
        };
        let codec_file = trained.as_ref().map(write).transpose().inspect_err(|_| {
            garbage::discard(&*storage, std::slice::from_ref(&name));
        })?;
        let manifest = Manifest {
            generation,
            index: Some(new_identity()?),
            ancestors: Vec::new(),
            dim,
            codec_options: codec,
            keep_vectors,
            fde,
            encoder,
            id_kind: None,
            codec: codec_file,
            tunings: Vec::new(),
            segments: Vec::new(),
        };
        let stored = publish(&*storage, manifest, nonce).map_err(|error| match error {
            // Somebody whom no lock kept out was quicker.
            Error::Conflict { path, .. } => Error::AlreadyExists { path },
            other => other,
        })?;
        Ok(Self::new(storage, Snapshot::assemble(stored, trained, Vec::new()), false))
    }

    /// Opens an index at its newest generation.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`]; [`Error::Damaged`] if the newest generation is not whole; [`Error::FormatVersion`] if a newer
    /// version of this library wrote it; [`Error::Interrupted`]; [`Error::Io`].
    pub fn open(storage: Arc<dyn Storage>, execution: &Execution) -> Result<Self> {
        let snapshot = open_newest(&*storage, None, execution)?;
        Ok(Self::new(storage, snapshot, false))
    }

    /// Opens an index at a generation that is still there, to read it as it was then: it stays at it, and has no writer.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such generation, and as [`Self::open`].
    pub fn open_at(storage: Arc<dyn Storage>, generation: u64, execution: &Execution) -> Result<Self> {
        let snapshot = open_present(&*storage, generation, None, execution)?;
        Ok(Self::new(storage, snapshot, true))
    }

    /// The commit that is read now, as an index of its own that stays at it, whatever becomes of the folder.
    #[must_use]
    pub fn pinned(&self) -> Self {
        let (storage, current) = (Arc::clone(&self.shared.storage), ArcSwap::new(self.snapshot()));
        Self { shared: Arc::new(Shared { storage, current, pinned: true }) }
    }

    /// Goes back to an older generation for good, by committing it once more as the newest: `generation`, or the newest that
    /// is whole. Nothing is removed before the next commit. Without `generation`, an index whose newest generation is whole
    /// stays as it is.
    ///
    /// # Errors
    /// [`Error::Locked`] while there is a writer; [`Error::Damaged`] if no generation is whole; as [`Self::open_at`].
    /// [`Error::Interrupted`] before anything has been changed.
    pub fn recover(storage: Arc<dyn Storage>, generation: Option<u64>, execution: &Execution) -> Result<Self> {
        if let Err(error @ Error::NotAnIndex { .. }) = newest(&*storage) {
            return Err(error);
        }
        let _lock = lock(&*storage)?;
        let snapshot = match (generation, open_newest(&*storage, None, execution)) {
            (None, Ok(newest)) => newest,
            (Some(asked), Ok(newest)) => open_present(&*storage, asked, Some(&newest), execution)?,
            (Some(asked), Err(Error::Damaged { .. })) | (None, Err(Error::Damaged { sound: Some(asked), .. })) => {
                open_present(&*storage, asked, None, execution)?
            }
            (_, Err(error)) => return Err(error),
        };
        if is_newest(&*storage, &snapshot) {
            return Ok(Self::new(storage, snapshot, false));
        }
        let (generation, ancestors) = (next_generation(&*storage)?, snapshot.lineage());
        let manifest = Manifest { generation, ancestors, ..snapshot.manifest().clone() };
        // Nothing interrupts it from here on: the commit stands.
        let stored = publish(&*storage, manifest, random()?)?;
        Ok(Self::new(storage, Snapshot::assemble(stored, snapshot.codec, snapshot.segments), false))
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
    pub fn refresh(&self, execution: &Execution) -> Result<bool> {
        self.shared.refresh(execution)
    }

    /// The one writer, on the newest generation. Dropped without a commit, it leaves no trace.
    ///
    /// # Errors
    /// [`Error::Locked`] while there is another, in this process or elsewhere; [`Error::Invalid`] for an index that was
    /// opened at a generation; as [`Self::refresh`].
    pub fn writer(&self, execution: &Execution) -> Result<Writer> {
        Writer::new(Arc::clone(&self.shared), true, execution)
    }

    /// A writer whose commits leave all segments as they are.
    ///
    /// # Errors
    /// As [`Self::writer`].
    pub fn writer_without_merging(&self, execution: &Execution) -> Result<Writer> {
        Writer::new(Arc::clone(&self.shared), false, execution)
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
        self.writer(execution)?.compact(execution)
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
