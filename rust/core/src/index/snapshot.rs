//! One generation of an index, open for reading.

use std::io::ErrorKind;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::codec_file;
use super::documents::Location;
use super::segment::Segment;
use super::segment_writer::Shape;
use crate::codec::{Codec, CodecOptions};
use crate::error::{Error, Result};
use crate::format::{Manifest, Newest, Stored, names};
use crate::ids::{IdKind, IdRef};
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
        let shape = Shape::new(&manifest.codec_options, codec.as_deref());
        let id_kind = manifest.id_kind.unwrap_or(IdKind::Int);
        // A segment was checked against one codec and one kind of id; it is checked again under others.
        let known = known.filter(|known| known.shape() == shape && known.id_kind() == manifest.id_kind);
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

    /// The ancestors of a commit that is made from this one.
    pub(crate) fn lineage(&self) -> Vec<String> {
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
        Shape::new(&self.manifest().codec_options, self.codec.as_deref())
    }

    /// Where the document with this id is.
    #[must_use]
    pub fn find<'a>(&self, id: impl Into<IdRef<'a>>) -> Option<Location> {
        let id = id.into();
        // Documents that are asked for are more often young than old.
        self.segments.iter().enumerate().rev().find_map(|(position, segment)| {
            segment.find(id).map(|ordinal| Location { segment: position as u32, ordinal })
        })
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

    /// Settings that are kept with the index.
    #[must_use]
    pub fn settings(&self) -> &Map<String, Value> {
        &self.manifest().settings
    }
}

/// Generations that have a manifest, newest first.
///
/// # Errors
/// [`Error::NotAnIndex`] if there is no folder, [`Error::Io`].
pub(crate) fn generations(storage: &dyn Storage) -> Result<Vec<u64>> {
    let names = storage.list().map_err(|error| without_folder(storage, error))?;
    let mut generations: Vec<u64> = names.iter().filter_map(|name| names::generation(name)).collect();
    generations.sort_unstable_by(|one, other| other.cmp(one));
    Ok(generations)
}

/// The newest generation.
///
/// # Errors
/// [`Error::NotAnIndex`]; [`Error::Corrupt`] if a later generation was committed, whose manifest is not there.
pub(crate) fn newest(storage: &dyn Storage) -> Result<u64> {
    // Read first: what it names was there before, and newer ones only come.
    let note = Newest::read(storage);
    let newest = generations(storage)?.first().copied();
    match note.map(|note| note.generation).filter(|&noted| Some(noted) > newest) {
        Some(noted) => {
            Err(Error::corrupt(storage.path(&names::manifest(noted)), "header", "it was committed, and is not there"))
        }
        None => newest.ok_or_else(|| Error::NotAnIndex { path: storage.place().to_owned() }),
    }
}

/// A folder that is missing holds no index.
pub(crate) fn without_folder(storage: &dyn Storage, error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            Error::NotAnIndex { path: storage.place().to_owned() }
        }
        other => other,
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

/// The newest manifest, whatever the files that it names are like.
///
/// # Errors
/// As for [`open_newest`].
pub(crate) fn read_newest(storage: &dyn Storage) -> Result<Stored> {
    loop {
        let generation = newest(storage)?;
        match Manifest::read(storage, generation) {
            // A commit in between may have removed it.
            Err(error) if is_broken(&error) && newest(storage).ok() != Some(generation) => {}
            other => return other,
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

fn is_broken(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } => true,
        Error::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}
