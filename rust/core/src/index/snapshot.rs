//! One generation of an index, open for reading.

use std::sync::Arc;

use serde_json::Value;

use super::codec_file;
use super::generations::{generations, is_broken, newest};
use super::segment::Segment;
use super::segment_writer::Shape;
use crate::codec::{Codec, CodecOptions, FdeOptions};
use crate::error::{Error, Result};
use crate::format::{KeptVectors, Manifest, Newest, Stored, names};
use crate::ids::IdKind;
use crate::parallel::Execution;
use crate::storage::Storage;

/// One generation of an index. It never changes; readers keep it for as long as they need it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Number of the commit that made it.
    pub generation: u64,
    /// The codec, from the first token vector on.
    pub codec: Option<Arc<Codec>>,
    /// Segments, in the order of their documents.
    pub segments: Vec<Arc<Segment>>,
    stored: Arc<Stored>,
}

impl Snapshot {
    /// Opens the files of a generation. Those that `known` has open already are not opened again.
    pub(crate) fn open(
        storage: &dyn Storage,
        generation: u64,
        known: Option<&Self>,
        execution: &Execution,
    ) -> Result<Self> {
        let stored = Manifest::read(storage, generation)?;
        let manifest = &stored.manifest;
        let codec = match known.filter(|known| known.manifest().codec == manifest.codec) {
            Some(known) => known.codec.clone(),
            None => codec_file::open(storage, manifest, execution)?.map(Arc::new),
        };
        let shape = Shape::new(manifest, codec.as_deref());
        let id_kind = manifest.id_kind.unwrap_or(IdKind::Int);
        // A segment was checked against one codec and one kind of id; it is checked again under others.
        let known = known.filter(|known| shape.reads(known.shape()) && known.id_kind() == manifest.id_kind);
        let mut segments = Vec::with_capacity(manifest.segments.len());
        for entry in &manifest.segments {
            let same_file = |segment: &&Arc<Segment>| {
                let known = segment.entry();
                (&known.file, known.documents, known.tokens) == (&entry.file, entry.documents, entry.tokens)
            };
            segments.push(match known.and_then(|known| known.segments.iter().find(same_file)) {
                Some(segment) if segment.entry() == entry => Arc::clone(segment),
                Some(segment) => Arc::new(segment.reopen(storage, entry, execution)?),
                None => Arc::new(Segment::open(storage, entry, shape, id_kind, execution)?),
            });
        }
        Ok(Self::assemble(stored, codec, segments))
    }

    /// A snapshot of what is open already.
    pub(crate) fn assemble(stored: Stored, codec: Option<Arc<Codec>>, segments: Vec<Arc<Segment>>) -> Self {
        Self { generation: stored.manifest.generation, codec, segments, stored: Arc::new(stored) }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.stored.manifest
    }

    /// Names of all files that the generation consists of; the last is its manifest, which names the others.
    #[must_use]
    pub fn file_names(&self) -> Vec<String> {
        let manifest = names::manifest(self.generation);
        self.manifest().files().map(|file| file.name.clone()).chain([manifest]).collect()
    }

    /// The number that tells the index from others; those of old formats have none.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.manifest().index.as_deref()
    }

    /// The ancestors of a commit that is made from this one: its own signature, and those of the ones before it.
    #[must_use]
    pub fn lineage(&self) -> Vec<String> {
        self.stored.lineage()
    }

    /// Whether this commit was made from the other one; `None` if that lies too far back to be known.
    pub(crate) fn descends_from(&self, other: &Self) -> Option<bool> {
        self.stored.descends_from(&other.stored)
    }

    /// The checksum of the manifest's file.
    pub(crate) fn checksum(&self) -> u64 {
        self.stored.checksum
    }

    /// Version of the format that the generation was written in.
    #[must_use]
    pub fn format_version(&self) -> u16 {
        self.stored.version
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape::new(self.manifest(), self.codec.as_deref())
    }

    /// Number of documents, deleted ones included.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.documents())).sum()
    }

    /// Number of documents that are not deleted.
    #[must_use]
    pub fn live_documents(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.live_documents())).sum()
    }

    /// Number of token vectors, those of deleted documents included.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.segments.iter().map(|segment| segment.tokens()).sum()
    }

    /// Number of live documents that have a token in the cell of `centroid`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for posting lists that changed under the reader.
    pub fn document_frequency(&self, centroid: u16) -> Result<u64> {
        self.segments.iter().map(|segment| segment.document_frequency(centroid)).sum()
    }

    /// Components of a token vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.manifest().dim
    }

    /// How the codec is, or will be, trained.
    #[must_use]
    pub fn codec_options(&self) -> &CodecOptions {
        &self.manifest().codec_options
    }

    /// How token vectors are kept beside their codes, if they are.
    #[must_use]
    pub fn keep_vectors(&self) -> Option<KeptVectors> {
        self.manifest().keep_vectors
    }

    /// How documents are, or will be, encoded in a fixed number of dimensions, if the index was created with that.
    #[must_use]
    pub fn fde_options(&self) -> Option<&FdeOptions> {
        self.manifest().fde.as_ref()
    }

    /// What is remembered of the encoder.
    #[must_use]
    pub fn encoder(&self) -> Option<&Value> {
        self.manifest().encoder.as_ref()
    }

    /// Kind of the ids, from the first document on.
    #[must_use]
    pub fn id_kind(&self) -> Option<IdKind> {
        self.manifest().id_kind
    }
}

/// Opens the newest generation.
///
/// # Errors
/// [`Error::Damaged`] if that is not whole: an older one would be without documents that are there. [`Error::NotAnIndex`];
/// what else keeps a file from being read, one of a newer format above all.
pub(crate) fn open_newest(storage: &dyn Storage, known: Option<&Snapshot>, execution: &Execution) -> Result<Snapshot> {
    loop {
        let generation = newest(storage).or_else(|error| Err(damaged(storage, error, execution)?))?;
        match Snapshot::open(storage, generation, known, execution) {
            Ok(snapshot) => return Ok(snapshot),
            Err(error) if !is_broken(&error) => return Err(error),
            // A commit in between may have removed the generation, or files of it.
            Err(error) if newest(storage).ok() == Some(generation) => return Err(damaged(storage, error, execution)?),
            Err(_) => {}
        }
    }
}

/// The error of a newest generation that is broken, with the newest one that is whole.
///
/// # Errors
/// [`Error::Interrupted`] while that is looked for.
fn damaged(storage: &dyn Storage, error: Error, execution: &Execution) -> Result<Error> {
    if !is_broken(&error) {
        return Ok(error);
    }
    let present = generations(storage).unwrap_or_default();
    let noted = Newest::read(storage).map(|note| note.generation);
    let Some(generation) = present.first().copied().max(noted) else { return Ok(error) };
    let mut sound = None;
    for older in present {
        match Snapshot::open(storage, older, None, execution) {
            Ok(_) => {
                sound = Some(older);
                break;
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(_) => {}
        }
    }
    Ok(Error::Damaged { generation, sound, source: Box::new(error) })
}

/// Opens a generation that somebody asks for by its number.
pub(crate) fn open_present(
    storage: &dyn Storage,
    generation: u64,
    known: Option<&Snapshot>,
    execution: &Execution,
) -> Result<Snapshot> {
    let present = generations(storage)?;
    if !present.contains(&generation) {
        let present: Vec<String> = present.iter().map(u64::to_string).collect();
        return Err(Error::invalid(format!(
            "{} has no generation {generation}; it has {}",
            storage.place().display(),
            if present.is_empty() { "none".to_owned() } else { present.join(", ") }
        )));
    }
    Snapshot::open(storage, generation, known, execution)
}

/// Whether a snapshot is that of the newest generation in the folder. Trouble makes it none: who opens it will tell.
pub(crate) fn is_newest(storage: &dyn Storage, snapshot: &Snapshot) -> bool {
    newest(storage).is_ok_and(|generation| generation == snapshot.generation)
        && Manifest::read(storage, snapshot.generation).is_ok_and(|stored| stored.checksum == snapshot.checksum())
}
