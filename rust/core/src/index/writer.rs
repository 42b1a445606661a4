//! The one writer: documents in, one commit out, all or nothing.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::pending::{Pending, check_gains, train};
use super::segment::Segment;
use super::segment_writer::{Shape, write_segment};
use super::snapshot::{Snapshot, generations};
use super::{Shared, codec_file, garbage, tombstones};
use crate::codec::{Codec, CodecKind, CodecOptions, EncodedTokens};
use crate::error::{Error, Result};
use crate::format::names::{self, Data};
use crate::format::{FileEntry, Manifest, PublishFailure, SegmentEntry};
use crate::ids::{Id, IdKind};
use crate::parallel::Execution;
use crate::storage::{Lock, Storage};
use crate::tokens::TokenMatrix;

/// Token vectors on which a codec is trained, if so many come before the first commit.
const TRAINING_TOKENS: usize = 1 << 20;
/// Bytes that these may take.
const TRAINING_BYTES: usize = 512 << 20;
/// Token vectors after which a segment is written.
const SEGMENT_TOKENS: u64 = 4 << 20;
/// Documents after which a segment is written.
const SEGMENT_DOCUMENTS: usize = 4 << 20;
/// Bytes of codes, texts and metadata after which a segment is written.
const SEGMENT_BYTES: usize = 1 << 30;

/// Documents to be added.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The id of each document.
    pub ids: Vec<Id>,
    /// The token vectors of each document; one without any is kept and never found.
    pub tokens: TokenMatrix<'a>,
    /// The text of each document.
    pub texts: Option<Vec<Option<String>>>,
    /// The metadata of each document, a JSON object.
    pub metadata: Option<Vec<Option<String>>>,
    /// Whether the encoder cut the text of each document.
    pub truncated: Option<Vec<bool>>,
}

/// A segment as this writer sees it.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) segment: Arc<Segment>,
    /// Documents that this writer has deleted.
    pub(super) deleted: RoaringBitmap,
}

/// The one writer of an index.
///
/// Changes are seen by nobody before [`Writer::commit`], and are forgotten if the writer is dropped without it.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    _lock: Box<dyn Lock>,
    process: u32,
    pub(super) base: Arc<Snapshot>,
    generation: u64,
    /// Files that this writer has made since the last commit.
    files: Vec<String>,
    codec: Option<Arc<Codec>>,
    id_kind: Option<IdKind>,
    /// Those of the base, then those written since.
    pub(super) segments: Vec<OpenSegment>,
    pending: Pending,
    settings: Map<String, Value>,
    failed: Option<&'static str>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self> {
        let lock = shared.lock()?;
        shared.refresh()?;
        let base = shared.current().snapshot;
        // A broken manifest that was passed over keeps its number.
        let newest = generations(&*shared.storage)?.first().copied().unwrap_or_default();
        let generation = next(newest.max(base.generation))?;
        let mut writer = Self {
            shared,
            _lock: lock,
            process: std::process::id(),
            base: Arc::clone(&base),
            generation,
            files: Vec::new(),
            codec: None,
            id_kind: None,
            segments: Vec::new(),
            pending: Pending::default(),
            settings: Map::new(),
            failed: None,
        };
        writer.rebase(base);
        Ok(writer)
    }

    /// Starts anew on a generation.
    fn rebase(&mut self, base: Arc<Snapshot>) {
        let open = |segment: &Arc<Segment>| OpenSegment { segment: Arc::clone(segment), deleted: RoaringBitmap::new() };
        self.segments = base.segments.iter().map(open).collect();
        self.codec.clone_from(&base.codec);
        self.id_kind = base.id_kind();
        self.settings = base.settings().clone();
        self.files.clear();
        self.base = base;
    }

    /// Adds documents; with `upsert`, documents of the same ids are replaced.
    ///
    /// A call that fails leaves the writer as it was before, unless it is [`Error::Io`]: then the writer takes no more
    /// changes.
    ///
    /// # Errors
    /// [`Error::DuplicateId`], [`Error::IdExists`], [`Error::IdKind`], [`Error::Dimension`],
    /// [`Error::Invalid`] naming the document for metadata that is no JSON object or a vector of absurd length,
    /// [`Error::Interrupted`],
    /// [`Error::WriterPoisoned`], [`Error::Io`].
    pub fn add(&mut self, batch: Batch<'_>, upsert: bool, execution: &Execution) -> Result<()> {
        self.check_usable()?;
        self.check_batch(&batch, upsert)?;
        let Some(id_kind) = batch.ids.first().map(Id::kind) else {
            return Ok(());
        };
        if self.is_untrained() && self.living_tokens() + batch.tokens.tokens() as u64 >= self.options().train_after {
            self.outgrow().map_err(|error| self.fail("taking documents back into memory", error))?;
        }
        let (trained, codes) = self.encode(&batch, id_kind, execution)?;
        self.id_kind = Some(id_kind);
        if let Some((codec, codes)) = trained {
            self.codec = Some(Arc::new(codec));
            self.pending.replace_vectors(codes);
        }
        if self.pending.tokens() + batch.tokens.tokens() as u64 > u64::from(u32::MAX) {
            // Each fits a segment, both together do not.
            self.write_pending()?;
        }
        if upsert {
            batch.ids.iter().for_each(|id| {
                self.remove(id);
            });
        }
        self.pending.push(batch, codes);
        let full = self.pending.tokens() >= SEGMENT_TOKENS
            || self.pending.documents() >= SEGMENT_DOCUMENTS
            || self.pending.bytes() >= SEGMENT_BYTES;
        if full && self.pending.vectors().is_empty() {
            self.write_pending()?;
        }
        Ok(())
    }

    /// Deletes documents, committed or not; how many there were.
    ///
    /// # Errors
    /// [`Error::UnknownId`] unless `skip_missing`, [`Error::IdKind`], [`Error::WriterPoisoned`]; nothing is deleted then.
    pub fn delete(&mut self, ids: &[Id], skip_missing: bool) -> Result<usize> {
        self.check_usable()?;
        for (position, id) in ids.iter().enumerate() {
            check_kind(id, self.id_kind)?;
            if !skip_missing && !self.contains(id) {
                return Err(Error::UnknownId { id: id.to_string(), place: format!(" (position {position})") });
            }
        }
        Ok(ids.iter().filter(|id| self.remove(id)).count())
    }

    /// Keeps a setting with the index; `null` removes it.
    ///
    /// # Errors
    /// [`Error::WriterPoisoned`].
    pub fn set(&mut self, name: &str, value: Value) -> Result<()> {
        self.check_usable()?;
        if value.is_null() {
            self.settings.remove(name);
        } else {
            self.settings.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// Makes all changes durable and visible, and returns the new generation, or the old one if there is no change.
    ///
    /// # Errors
    /// [`Error::Interrupted`] and [`Error::Invalid`] leave the writer as it was. After [`Error::Io`] it takes no
    /// more changes and the last commit stands; only if the folder could not be synced after the new manifest got its
    /// name may the new generation be the one that stands, whole.
    pub fn commit(&mut self, execution: &Execution) -> Result<u64> {
        self.check_usable()?;
        let written = self.segments.len() > self.base.segments.len();
        let deleted = self.segments.iter().any(|open| !open.deleted.is_empty());
        if !written && !deleted && self.pending.living() == 0 && self.settings == *self.base.settings() {
            return Ok(self.base.generation);
        }
        if !self.pending.vectors().is_empty() {
            let few = self.living_tokens() < self.options().train_after;
            let options = if few { self.options().untrained() } else { self.options().clone() };
            let codec = self.train(&[], &options, execution)?;
            let codes = self.pending.encode(&codec, self.kind(), execution)?;
            self.codec = Some(Arc::new(codec));
            self.pending.replace_vectors(codes);
        }
        execution.check()?;
        self.write_pending()?;
        let segments = std::mem::take(&mut self.segments);
        let previous = Arc::clone(&self.base);
        self.publish(segments)?;
        garbage::collect(self.storage(), &[&self.base, &previous]);
        Ok(self.base.generation)
    }

    /// Encodes a batch if there is a codec, or if there are now enough vectors to train one.
    ///
    /// The first value is a new codec with the codes of all documents that wait as vectors.
    #[expect(clippy::type_complexity, reason = "two optional results of one step")]
    fn encode(
        &self,
        batch: &Batch<'_>,
        id_kind: IdKind,
        execution: &Execution,
    ) -> Result<(Option<(Codec, EncodedTokens)>, Option<EncodedTokens>)> {
        if let Some(codec) = &self.codec {
            return Ok((None, Some(encode_batch(codec, batch, execution)?)));
        }
        let waiting = self.pending.vectors().len() + batch.tokens.values().len();
        // The flat codec has nothing to learn from vectors.
        let residual = self.options().kind == CodecKind::Residual;
        if residual && waiting / self.base.dim() < self.training_tokens() {
            return Ok((None, None));
        }
        let codec = self.train(batch.tokens.values(), self.options(), execution)?;
        let waiting = self.pending.encode(&codec, id_kind, execution)?;
        let codes = encode_batch(&codec, batch, execution)?;
        Ok((Some((codec, waiting)), Some(codes)))
    }

    fn train(&self, more: &[f32], options: &CodecOptions, execution: &Execution) -> Result<Codec> {
        let vectors = [self.pending.vectors(), more];
        train(vectors, self.base.dim(), self.training_tokens(), options, execution)
    }

    fn options(&self) -> &CodecOptions {
        self.base.codec_options()
    }

    /// Whether the codec still waits for enough token vectors to train centroids.
    fn is_untrained(&self) -> bool {
        self.codec.as_ref().is_some_and(|codec| codec.parameters().kind != self.options().kind)
    }

    /// Token vectors of the documents that would be there after a commit.
    fn living_tokens(&self) -> u64 {
        let living =
            |open: &OpenSegment| open.segment.source(&(open.segment.tombstones() | &open.deleted)).living_tokens();
        self.segments.iter().map(living).sum::<u64>() + self.pending.tokens()
    }

    /// Takes every document back into memory as vectors, for a codec that is to be trained on them.
    fn outgrow(&mut self) -> Result<()> {
        self.write_pending()?;
        let Some(codec) = self.codec.take() else { return Ok(()) };
        for OpenSegment { segment, deleted } in &mut self.segments {
            let dead = segment.tombstones() | &*deleted;
            self.pending.push_segment(segment, &dead, &codec)?;
            deleted.insert_range(0..segment.documents());
        }
        Ok(())
    }

    fn training_tokens(&self) -> usize {
        TRAINING_TOKENS.min(TRAINING_BYTES / size_of::<f32>() / self.base.dim()).max(1)
    }

    /// Writes what is in memory, codes or documents without a token, as a segment.
    fn write_pending(&mut self) -> Result<()> {
        if self.pending.living() > 0 {
            if self.codec.is_none() {
                self.pending.replace_vectors(EncodedTokens::default());
            }
            let name = self.new_file(Data::Segment);
            let result = self.write_segment_file(&name);
            let segment = result.map_err(|error| self.fail("writing a segment", error))?;
            self.segments.push(OpenSegment { segment: Arc::new(segment), deleted: RoaringBitmap::new() });
        }
        self.pending = Pending::default();
        Ok(())
    }

    fn write_segment_file(&self, name: &str) -> Result<Segment> {
        let (shape, kind) = (self.shape(), self.kind());
        let source = self.pending.source(kind, shape.residual);
        let entry = write_segment(self.storage(), name, shape, kind, &[source])?;
        Segment::open(self.storage(), &entry, shape, kind)
    }

    /// Commits these segments as the next generation, and goes on from there.
    pub(super) fn publish(&mut self, segments: Vec<OpenSegment>) -> Result<()> {
        let prepared = self.prepare(segments).map_err(|error| self.fail("writing a commit", error))?;
        let (manifest, segments) = prepared;
        self.files.push(names::temporary_manifest(manifest.generation));
        if let Err(PublishFailure { error, visible }) = manifest.publish(self.storage()) {
            if visible {
                // The manifest may be in its place, and then needs its files.
                self.files.clear();
            }
            return Err(self.fail("publishing a commit", error));
        }
        let snapshot = Arc::new(Snapshot::assemble(manifest, self.codec.clone(), segments));
        self.shared.set(Arc::clone(&snapshot), Vec::new());
        match next(snapshot.generation) {
            Ok(generation) => self.generation = generation,
            Err(_) => self.failed = Some("counting generations"),
        }
        self.rebase(snapshot);
        Ok(())
    }

    /// Writes all files of the next generation but its manifest, and makes their names durable.
    fn prepare(&mut self, segments: Vec<OpenSegment>) -> Result<(Manifest, Vec<Arc<Segment>>)> {
        let mut entries: Vec<SegmentEntry> = Vec::with_capacity(segments.len());
        let mut kept = Vec::with_capacity(segments.len());
        for OpenSegment { segment, deleted } in segments {
            let dead = segment.tombstones() | &deleted;
            if dead.len() == u64::from(segment.documents()) {
                continue;
            }
            if deleted.is_empty() {
                entries.push(segment.entry().clone());
                kept.push(segment);
                continue;
            }
            let name = self.new_file(Data::Tombstones);
            let entry = tombstones::write(self.storage(), &name, &dead)?;
            let entry = SegmentEntry { tombstones: Some(entry), ..segment.entry().clone() };
            kept.push(Arc::new(segment.with_tombstones(entry.clone(), dead)));
            entries.push(entry);
        }
        let codec = self.prepare_codec()?;
        self.storage().sync_folder()?;
        let manifest = Manifest {
            generation: self.generation,
            id_kind: self.id_kind,
            codec,
            segments: entries,
            settings: self.settings.clone(),
            ..self.base.manifest().clone()
        };
        Ok((manifest, kept))
    }

    fn prepare_codec(&mut self) -> Result<Option<FileEntry>> {
        match &self.codec {
            Some(codec) if !self.base.codec.as_ref().is_some_and(|known| Arc::ptr_eq(known, codec)) => {
                let codec = Arc::clone(codec);
                let name = self.new_file(Data::Codec);
                Ok(Some(codec_file::write(self.storage(), &name, &codec)?))
            }
            _ => Ok(self.base.manifest().codec.clone()),
        }
    }

    /// Forgets a document; whether there was one.
    fn remove(&mut self, id: &Id) -> bool {
        if self.pending.find(id).is_some() {
            self.pending.delete(id);
            return true;
        }
        let found = self.segments.iter_mut().rev().find_map(|open| {
            let ordinal = open.segment.find(id).filter(|&ordinal| !open.deleted.contains(ordinal))?;
            Some((open, ordinal))
        });
        found.is_some_and(|(open, ordinal)| open.deleted.insert(ordinal))
    }

    fn contains(&self, id: &Id) -> bool {
        let live = |open: &OpenSegment| open.segment.find(id).is_some_and(|ordinal| !open.deleted.contains(ordinal));
        self.pending.find(id).is_some() || self.segments.iter().rev().any(live)
    }

    fn check_batch(&self, batch: &Batch<'_>, upsert: bool) -> Result<()> {
        let documents = batch.ids.len();
        let lengths = [
            ("documents with token vectors", Some(batch.tokens.items())),
            ("texts", batch.texts.as_ref().map(Vec::len)),
            ("metadata", batch.metadata.as_ref().map(Vec::len)),
            ("marks of cut texts", batch.truncated.as_ref().map(Vec::len)),
        ];
        for (what, length) in lengths {
            if let Some(length) = length.filter(|&length| length != documents) {
                return Err(Error::invalid(format!("{documents} ids, but {length} {what}; they must be as many")));
            }
        }
        if batch.tokens.tokens() as u64 > u64::from(u32::MAX) || documents >= u32::MAX as usize {
            return Err(Error::invalid("a batch must have less than 2^32 documents and tokens; add it in parts"));
        }
        let Some(first) = batch.ids.first() else {
            return Ok(());
        };
        let (got, expected) = (batch.tokens.dim(), self.base.dim());
        if got != expected {
            return Err(Error::Dimension { thing: format!("document {first}"), got, expected });
        }
        batch.tokens.check_magnitude(|item| format!("document {}", batch.ids[item]))?;
        let mut positions: HashMap<&Id, usize> = HashMap::with_capacity(documents);
        for (second, id) in batch.ids.iter().enumerate() {
            check_kind(id, self.id_kind.or(Some(first.kind())))?;
            if let Some(first) = positions.insert(id, second) {
                return Err(Error::DuplicateId { id: id.to_string(), first, second });
            }
            if !upsert && self.contains(id) {
                return Err(Error::IdExists { id: id.to_string() });
            }
        }
        for (id, metadata) in batch.ids.iter().zip(batch.metadata.iter().flatten()) {
            let parsed = metadata.as_deref().map(serde_json::from_str::<Map<String, Value>>);
            if let Some(Err(error)) = parsed {
                return Err(Error::invalid(format!("metadata of document {id} is no JSON object: {error}")));
            }
        }
        Ok(())
    }

    fn check_usable(&self) -> Result<()> {
        match self.failed {
            Some(stage) => Err(Error::WriterPoisoned { stage: stage.to_owned() }),
            None => Ok(()),
        }
    }

    /// Takes no more changes after `error`, and gives back the room of what was written for them.
    fn fail(&mut self, stage: &'static str, error: Error) -> Error {
        self.failed = Some(stage);
        garbage::discard(self.storage(), &self.files);
        self.files.clear();
        error
    }

    /// The name of a new file.
    pub(super) fn new_file(&mut self, kind: Data) -> String {
        let name = names::data(kind, self.generation, self.files.len() as u32);
        self.files.push(name.clone());
        name
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.shared.storage
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::new(self.base.codec_options(), self.codec.as_deref())
    }

    /// The kind of the ids; before the first document it does not matter which.
    pub(super) fn kind(&self) -> IdKind {
        self.id_kind.unwrap_or(IdKind::Int)
    }
}

impl Drop for Writer {
    /// Removes the files of changes that were not committed. A forked child has a copy of the writer, but not its files.
    fn drop(&mut self) {
        if std::process::id() == self.process {
            garbage::discard(self.storage(), &self.files);
        }
    }
}

fn check_kind(id: &Id, expected: Option<IdKind>) -> Result<()> {
    match expected.filter(|&kind| kind != id.kind()) {
        Some(kind) => Err(Error::IdKind { id: id.to_string(), got: id.kind().name(), expected: kind.name() }),
        None => Ok(()),
    }
}

fn encode_batch(codec: &Codec, batch: &Batch<'_>, execution: &Execution) -> Result<EncodedTokens> {
    let encoded = codec.encode(&batch.tokens, execution)?;
    let lengths = (0..batch.ids.len()).map(|item| batch.tokens.item_tokens(item));
    check_gains(&encoded.gains, lengths, |item| batch.ids[item].to_string())?;
    Ok(encoded)
}

fn next(generation: u64) -> Result<u64> {
    generation.checked_add(1).ok_or_else(|| Error::invalid("the index has had 2^64 generations; rebuild it"))
}
