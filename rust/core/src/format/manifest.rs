//! The manifest: which files make up one generation of the index.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::container::{Container, SectionData, write_container};
use super::file_entry::FileEntry;
use super::header::{FORMAT_VERSION, FileKind};
use super::names::{self, Data};
use super::section::SectionKind;
use super::tuning::Tuning;
use crate::codec::{CodecOptions, FdeOptions, MAX_DIM};
use crate::error::{Error, Result};
use crate::ids::IdKind;
use crate::parallel::Execution;
use crate::storage::Storage;

/// A file about some documents of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentsEntry {
    /// The file.
    pub file: FileEntry,
    /// How many documents it names.
    pub documents: u32,
}

/// How token vectors are kept beside their codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptVectors {
    /// As IEEE 754 half precision numbers.
    Float16,
}

/// A segment of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The segment's file.
    pub file: FileEntry,
    /// Documents, deleted ones included.
    pub documents: u32,
    /// Token vectors, those of deleted documents included.
    pub tokens: u64,
    /// Which documents are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstones: Option<DocumentsEntry>,
    /// Metadata that documents got later, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<DocumentsEntry>,
}

/// The content of one generation of the index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number of the commit that made it; its name says the same.
    pub generation: u64,
    /// The index that it belongs to: a number drawn when that was created. Format 1 had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// The commits before it, the latest first and no more than [`Self::ANCESTORS`]: the checksum of each manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// Components of a token vector.
    pub dim: usize,
    /// How the codec is, or will be, trained.
    pub codec_options: CodecOptions,
    /// How token vectors are kept beside their codes, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_vectors: Option<KeptVectors>,
    /// How documents are encoded in a fixed number of dimensions, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fde: Option<FdeOptions>,
    /// What the user wants remembered of the encoder; data only, never code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Value>,
    /// Kind of the ids, from the first document on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_kind: Option<IdKind>,
    /// The codec's file, from the first token vector on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<FileEntry>,
    /// What was measured of the recall of searches, for some numbers of hits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunings: Vec<Tuning>,
    /// Segments, in the order of their documents.
    pub segments: Vec<SegmentEntry>,
}

/// Why a manifest was not published for certain.
#[derive(Debug)]
pub(crate) struct PublishFailure {
    pub(crate) error: Error,
    /// Whether the manifest may have got its name: readers may have seen it, so that its files must stay.
    pub(crate) visible: bool,
}

/// A manifest as it stands in the folder.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) manifest: Manifest,
    /// The checksum in its header.
    pub(crate) checksum: u64,
    /// Version of the format that it was written in.
    pub(crate) version: u16,
}

impl Stored {
    /// The ancestors of a manifest that is made from this one.
    pub(crate) fn lineage(&self) -> Vec<String> {
        let own = std::iter::once(self.signature());
        own.chain(self.manifest.ancestors.iter().cloned()).take(Manifest::ANCESTORS).collect()
    }

    /// Whether this commit was made from the other one; `None` if that lies too far back to be known.
    pub(crate) fn descends_from(&self, other: &Self) -> Option<bool> {
        let own = self.signature() == other.signature();
        if own || self.manifest.ancestors.contains(&other.signature()) {
            return Some(true);
        }
        let commits_between = self.manifest.generation.saturating_sub(other.manifest.generation);
        (commits_between <= Manifest::ANCESTORS as u64).then_some(false)
    }

    fn signature(&self) -> String {
        format!("{:016x}", self.checksum)
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

impl Manifest {
    /// How many of the commits before it a manifest remembers.
    pub(crate) const ANCESTORS: usize = 16;

    /// Reads the manifest of `generation`. That is over at once, and nothing interrupts it: a writer that looks whether it
    /// was published must find out.
    pub(crate) fn read(storage: &dyn Storage, generation: u64) -> Result<Stored> {
        let execution = Execution::undisturbed();
        let container = Container::open(storage, &names::manifest(generation), FileKind::Manifest, &execution)?;
        let section = SectionKind::Manifest;
        let bytes = container.required::<u8>(section, &execution)?;
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| container.corrupt(section.name(), error.to_string()))?;
        manifest.check(generation).map_err(|problem| container.corrupt(section.name(), problem))?;
        Ok(Stored { manifest, checksum: container.checksum(), version: container.version() })
    }

    /// Writes the manifest under the temporary name of `writer`, gives it its own unless another manifest has that, and
    /// makes the name durable.
    ///
    /// # Errors
    /// A [`PublishFailure`], which tells whether readers may have seen the manifest: [`Error::Conflict`] if another writer
    /// has committed this generation, [`Error::Io`].
    pub(crate) fn publish(self, storage: &dyn Storage, writer: u64) -> std::result::Result<Stored, PublishFailure> {
        let temporary = names::temporary_manifest(self.generation, writer);
        let write = || {
            let json = serde_json::to_vec(&self).map_err(|error| Error::invalid(error.to_string()))?;
            let section = SectionData::new(SectionKind::Manifest, &json);
            write_container(storage, &temporary, FileKind::Manifest, &[section], &Execution::undisturbed())
        };
        let entry = write().map_err(|error| PublishFailure { error, visible: false })?;
        match storage.rename_new(&temporary, &names::manifest(self.generation)) {
            Ok(true) => {}
            Err(error) if !is_gone(&error) => return Err(PublishFailure { error, visible: true }),
            // Another writer has it, or has gone far beyond and cleared away what this one has written.
            Ok(false) | Err(_) => {
                let error = Error::Conflict { path: storage.place().to_owned(), generation: self.generation };
                return Err(PublishFailure { error, visible: false });
            }
        }
        storage.sync_folder().map_err(|error| PublishFailure { error, visible: true })?;
        Ok(Stored { manifest: self, checksum: entry.checksum, version: FORMAT_VERSION })
    }

    /// All files that the manifest names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let segments = self.segments.iter().flat_map(|segment| {
            let about = segment.tombstones.iter().chain(&segment.metadata);
            std::iter::once(&segment.file).chain(about.map(|entry| &entry.file))
        });
        self.codec.iter().chain(segments)
    }

    fn check(&self, generation: u64) -> std::result::Result<(), String> {
        if self.generation != generation {
            return Err(format!("it is the manifest of generation {}", self.generation));
        }
        if self.dim == 0 || self.dim > MAX_DIM {
            return Err(format!("dim is {}", self.dim));
        }
        self.codec_options.validate().map_err(|error| error.to_string())?;
        self.tunings.iter().try_for_each(Tuning::check)?;
        self.fde.as_ref().map_or(Ok(()), |fde| fde.validate(self.dim)).map_err(|error| error.to_string())?;
        if let Some(codec) = self.codec.as_ref().filter(|codec| !Data::Codec.owns(&codec.name)) {
            return Err(format!("{:?} is no name of a codec", codec.name));
        }
        for segment in &self.segments {
            if !Data::Segment.owns(&segment.file.name) {
                return Err(format!("{:?} is no name of a segment", segment.file.name));
            }
            if let Some(tombstones) = &segment.tombstones {
                if !Data::Tombstones.owns(&tombstones.file.name) {
                    return Err(format!("{:?} is no name of tombstones", tombstones.file.name));
                }
                if tombstones.documents > segment.documents {
                    return Err(format!("more documents of {} are deleted than it has", segment.file.name));
                }
            }
            if let Some(metadata) = segment.metadata.iter().find(|metadata| !Data::Metadata.owns(&metadata.file.name)) {
                return Err(format!("{:?} is no name of metadata", metadata.file.name));
            }
        }
        let mut names: Vec<&str> = self.files().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[one, other]| one == other) {
            return Err(format!("{name:?} occurs twice"));
        }
        if !self.segments.is_empty() && self.id_kind.is_none() {
            return Err("it has segments but no kind of id".to_owned());
        }
        Ok(())
    }
}
