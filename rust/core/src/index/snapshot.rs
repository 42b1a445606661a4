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
use crate::format::{Manifest, names};
use crate::ids::{IdKind, IdRef};
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
    manifest: Arc<Manifest>,
}

impl Snapshot {
    /// Opens the files of a generation. Those that `known` has open already are not opened again.
    pub(crate) fn open(storage: &dyn Storage, generation: u64, known: Option<&Self>) -> Result<Self> {
        Self::from_manifest(storage, Manifest::read(storage, generation)?, known)
    }

    /// The same, of a manifest that has just been read or written.
    pub(crate) fn from_manifest(storage: &dyn Storage, manifest: Manifest, known: Option<&Self>) -> Result<Self> {
        let codec = match known.filter(|known| known.manifest.codec == manifest.codec) {
            Some(known) => known.codec.clone(),
            None => codec_file::open(storage, &manifest)?.map(Arc::new),
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
                Some(segment) => Arc::new(segment.reopen(storage, entry)?),
                None => Arc::new(Segment::open(storage, entry, shape, id_kind)?),
            });
        }
        Ok(Self::assemble(manifest, codec, segments))
    }

    /// A snapshot of what is open already.
    pub(crate) fn assemble(manifest: Manifest, codec: Option<Arc<Codec>>, segments: Vec<Arc<Segment>>) -> Self {
        Self { generation: manifest.generation, codec, segments, manifest: Arc::new(manifest) }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape::new(&self.manifest.codec_options, self.codec.as_deref())
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
        self.manifest.dim
    }

    /// How the codec is, or will be, trained.
    #[must_use]
    pub fn codec_options(&self) -> &CodecOptions {
        &self.manifest.codec_options
    }

    /// What is remembered of the encoder.
    #[must_use]
    pub fn encoder(&self) -> Option<&Value> {
        self.manifest.encoder.as_ref()
    }

    /// Kind of the ids, from the first document on.
    #[must_use]
    pub fn id_kind(&self) -> Option<IdKind> {
        self.manifest.id_kind
    }

    /// Settings that are kept with the index.
    #[must_use]
    pub fn settings(&self) -> &Map<String, Value> {
        &self.manifest.settings
    }
}

/// Generations that have a manifest, newest first.
pub(crate) fn generations(storage: &dyn Storage) -> Result<Vec<u64>> {
    let mut generations: Vec<u64> = storage.list()?.iter().filter_map(|name| names::generation(name)).collect();
    generations.sort_unstable_by(|one, other| other.cmp(one));
    Ok(generations)
}

/// Opens the newest generation that is whole, and tells which newer ones are not.
///
/// A generation is passed over if a file of it is missing or corrupt; any other trouble, a file of a newer format
/// above all, is an error, because falling back would hide documents that are there.
pub(crate) fn open_newest(storage: &dyn Storage, known: Option<&Snapshot>) -> Result<(Snapshot, Vec<String>)> {
    let nothing = || Error::NotAnIndex { path: storage.place().to_owned() };
    loop {
        let generations = match generations(storage) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Err(nothing()),
            other => other?,
        };
        let newest = *generations.first().ok_or_else(nothing)?;
        let mut warnings = Vec::new();
        let mut first_error = None;
        for generation in generations {
            match Snapshot::open(storage, generation, known) {
                Ok(snapshot) => {
                    // A commit in between may have removed files of the generation that failed.
                    if first_error.is_none() || !outdated(storage, newest)? {
                        return Ok((snapshot, warnings));
                    }
                    break;
                }
                Err(error) if is_broken(&error) => {
                    warnings.push(format!("generation {generation} was passed over: {error}"));
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match first_error {
            Some(error) if !outdated(storage, newest)? => return Err(error),
            _ => {}
        }
    }
}

fn outdated(storage: &dyn Storage, newest: u64) -> Result<bool> {
    Ok(generations(storage)?.first().is_none_or(|&now| now > newest))
}

fn is_broken(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } => true,
        Error::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}
