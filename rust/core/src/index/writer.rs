//! The one writer: documents in, one commit out, all or nothing.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::batch::Batch;
use super::filter::Filter;
use super::generations::{next_generation, note_newest, read_newest};
use super::identity::{new_identity, random};
use super::metadata::{self, Layer, Update};
use super::open_segment::OpenSegment;
use super::pending::{Pending, check_gains};
use super::segment::Segment;
use super::segment_writer::{Shape, write_segment};
use super::shared::Shared;
use super::snapshot::{Snapshot, is_newest};
use super::{codec_file, garbage, tombstones};
use crate::codec::{Codec, CodecKind, CodecOptions, EncodedTokens};
use crate::error::{Error, Result};
use crate::format::names::{self, Data};
use crate::format::section::SectionKind;
use crate::format::{FileEntry, Manifest, PublishFailure, SegmentEntry, Tuning};
use crate::ids::{Id, IdKind, IdRef, Missing};
use crate::parallel::Execution;
use crate::storage::{Lock, Storage};

/// Token vectors that wait to be encoded, if so many come before a commit: enough to see whether the centroids suit them, and
/// to train others on, 32 for each of 16,384.
const WINDOW_TOKENS: usize = 1 << 19;
/// Bytes that these may take.
const WINDOW_BYTES: usize = 256 << 20;
/// Token vectors after which a segment is written.
pub(super) const SEGMENT_TOKENS: u64 = 4 << 20;
/// Documents after which a segment is written.
const SEGMENT_DOCUMENTS: usize = 4 << 20;
/// Bytes of codes, kept vectors, fixed dimensional encodings, texts and metadata after which a segment is written.
pub(super) const SEGMENT_BYTES: usize = 1 << 30;

/// Documents that are checked between two looks at whether to stop.
const STEP_DOCUMENTS: usize = 1024;

/// Documents that were checked and encoded, and are not yet in the writer: what takes time is done.
#[derive(Debug)]
pub struct Prepared<'a> {
    batch: Batch<'a>,
    upsert: bool,
    /// The codes of all documents that waited and of the batch, if both together fill the window.
    fitted: Option<Fitted>,
}

/// Codes of the documents that wait in a writer, and the codec that fits them.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) codec: Arc<Codec>,
    /// What stands in the place of all segments, if the codec is the first one that is trained.
    pub(super) segments: Option<Vec<OpenSegment>>,
    /// Of the documents that wait.
    pub(super) waiting: EncodedTokens,
    /// Of those that are on their way into the writer.
    pub(super) more: EncodedTokens,
}

/// The one writer of an index.
///
/// Changes are seen by nobody before [`Writer::commit`], and are forgotten if the writer is dropped without it.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    lock: Box<dyn Lock>,
    process: u32,
    /// In the names of its files, so that no other writer has the same.
    nonce: u64,
    /// Whether commits merge segments.
    merges: bool,
    pub(super) base: Arc<Snapshot>,
    generation: u64,
    /// Files that this writer has made since the last commit.
    files: Vec<String>,
    pub(super) codec: Option<Arc<Codec>>,
    id_kind: Option<IdKind>,
    /// Those of the base, then those written since.
    pub(super) segments: Vec<OpenSegment>,
    pub(super) pending: Pending,
    tunings: Vec<Tuning>,
    changes: u64,
    failed: Option<&'static str>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, merges: bool, execution: &Execution) -> Result<Self> {
        if shared.pinned {
            return Err(Error::invalid(
                "this index was opened at a generation, and is for reading only; open it without generation= to write, or \
                 go back to that generation with Index.recover",
            ));
        }
        let lock = shared.lock()?;
        shared.refresh(execution)?;
        let base = shared.snapshot();
        let mut writer = Self {
            lock,
            process: std::process::id(),
            nonce: random()?,
            merges,
            base: Arc::clone(&base),
            generation: next_generation(&*shared.storage)?,
            shared,
            files: Vec::new(),
            codec: None,
            id_kind: None,
            segments: Vec::new(),
            pending: Pending::new(base.keep_vectors().is_some()),
            tunings: Vec::new(),
            changes: 0,
            failed: None,
        };
        writer.rebase(base);
        Ok(writer)
    }

    /// The generation that it stands on: the newest one, its own commits included.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.base.generation
    }

    /// How many calls have changed something so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Starts anew on a generation.
    fn rebase(&mut self, base: Arc<Snapshot>) {
        self.segments = base.segments.iter().map(|segment| OpenSegment::new(Arc::clone(segment))).collect();
        self.codec.clone_from(&base.codec);
        self.id_kind = base.id_kind();
        self.tunings.clone_from(&base.manifest().tunings);
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
    /// [`Error::Invalid`] naming the document for metadata that is no JSON object, a vector of absurd length, or one that is to
    /// be kept and lies beyond float16,
    /// [`Error::Interrupted`], [`Error::Corrupt`] if the codec is to be trained and a document cannot be read,
    /// [`Error::WriterPoisoned`], [`Error::Forked`], [`Error::Io`].
    pub fn add(&mut self, batch: Batch<'_>, upsert: bool, execution: &Execution) -> Result<()> {
        let prepared = self.prepare(batch, upsert, execution)?;
        self.apply(prepared)
    }

    /// The first part of [`Self::add`], which takes its time and may be interrupted: no document has been added yet.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn prepare<'a>(&mut self, batch: Batch<'a>, upsert: bool, execution: &Execution) -> Result<Prepared<'a>> {
        self.check_usable()?;
        self.check_batch(&batch, upsert, execution)?;
        if batch.ids.is_empty() {
            return Ok(Prepared { batch, upsert, fitted: None });
        }
        let full = self.pending.tokens() >= SEGMENT_TOKENS
            || self.pending.documents() >= SEGMENT_DOCUMENTS
            || self.pending.bytes() + self.pending.documents() * self.shape().fde_bytes >= SEGMENT_BYTES
            // Each fits a segment, both together do not.
            || self.pending.tokens() + batch.tokens.tokens() as u64 > u64::from(u32::MAX)
            // Nothing is to be encoded again but segments.
            || self.is_untrained() && self.pending.encoded() > 0;
        if full {
            self.encode_waiting(false, execution)?;
            self.write_pending(execution)?;
        }
        let waiting = (self.pending.vectors().len() + batch.tokens.values().len()) / self.base.dim();
        // The flat codec has nothing to learn from vectors.
        if self.options().kind == CodecKind::Residual && waiting < self.window_tokens() {
            return Ok(Prepared { batch, upsert, fitted: None });
        }
        let fitted = self.fit(batch.tokens.values(), batch.last, execution)?;
        self.pending.check_codes(&fitted.waiting, self.kind())?;
        let lengths = (0..batch.ids.len()).map(|item| batch.tokens.item_tokens(item));
        check_gains(&fitted.more.gains, lengths, |item| batch.ids[item].to_string())?;
        Ok(Prepared { batch, upsert, fitted: Some(fitted) })
    }

    /// The second part of [`Self::add`], which is over at once. Nothing may have changed since the first.
    ///
    /// # Errors
    /// [`Error::WriterPoisoned`], [`Error::Forked`].
    pub fn apply(&mut self, prepared: Prepared<'_>) -> Result<()> {
        self.check_usable()?;
        let Prepared { batch, upsert, fitted } = prepared;
        let Some(id_kind) = batch.ids.first().map(Id::kind) else { return Ok(()) };
        self.changes += 1;
        self.id_kind = Some(id_kind);
        let codes = fitted.map(|fitted| self.take(fitted));
        if upsert {
            batch.ids.iter().for_each(|id| {
                self.remove(id);
            });
        }
        self.pending.push(batch, codes);
        Ok(())
    }

    /// Deletes documents, committed or not; how many there were.
    ///
    /// # Errors
    /// [`Error::UnknownId`] unless `skip_missing`, [`Error::IdKind`], [`Error::WriterPoisoned`]; nothing is deleted then.
    pub fn delete(&mut self, ids: &[Id], skip_missing: bool) -> Result<usize> {
        self.check_usable()?;
        for (position, id) in ids.iter().enumerate() {
            IdRef::from(id).check_kind(self.id_kind)?;
            if !skip_missing && !self.contains(id) {
                return Err(unknown(id, position));
            }
        }
        let deleted = ids.iter().filter(|id| self.remove(id)).count();
        self.changes += u64::from(deleted > 0);
        Ok(deleted)
    }

    /// Deletes the documents that the filter lets through, committed or not; how many there were.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that asks for no field, [`Error::Corrupt`] if metadata cannot be read,
    /// [`Error::Interrupted`], [`Error::WriterPoisoned`], [`Error::Forked`]; nothing is deleted then.
    pub fn delete_matching(&mut self, filter: &Filter, execution: &Execution) -> Result<usize> {
        self.check_usable()?;
        check_asks(filter, "delete")?;
        let (found, pending) = self.matching(filter, execution)?;
        let deleted = found.iter().map(RoaringBitmap::len).sum::<u64>() + pending.len();
        for (open, found) in self.segments.iter_mut().zip(found) {
            open.deleted |= found;
        }
        self.pending.delete_all(&pending, self.kind());
        self.changes += u64::from(deleted > 0);
        Ok(deleted as usize)
    }

    /// Changes the metadata of documents, committed or not; how many there were. `metadata` are JSON objects, one for each id or
    /// one for all. They stand in the place of the old ones if `replace`, else they are merged into them (RFC 7396): fields
    /// are added or overwritten, those of objects within them too, and null takes a field away.
    ///
    /// # Errors
    /// [`Error::UnknownId`] unless missing ids are passed over, [`Error::IdKind`], [`Error::DuplicateId`], [`Error::Invalid`]
    /// for metadata that are no JSON objects or not as many as the ids, [`Error::Corrupt`] if the old ones cannot be read,
    /// [`Error::Interrupted`], [`Error::WriterPoisoned`], [`Error::Forked`]; nothing is changed then.
    pub fn update_metadata(
        &mut self,
        ids: &[Id],
        metadata: &[String],
        replace: bool,
        missing: Missing,
        execution: &Execution,
    ) -> Result<usize> {
        self.check_usable()?;
        if metadata.len() != 1 && metadata.len() != ids.len() {
            return Err(Error::invalid(format!(
                "{} ids, but {} metadata; they must be as many, or one for all",
                ids.len(),
                metadata.len()
            )));
        }
        let mut positions: HashMap<&Id, usize> = HashMap::with_capacity(ids.len());
        let mut updated = Vec::with_capacity(ids.len());
        let mut update = None;
        for (position, id) in ids.iter().enumerate() {
            if position % STEP_DOCUMENTS == 0 {
                execution.check()?;
            }
            IdRef::from(id).check_kind(self.id_kind)?;
            if let Some(first) = positions.insert(id, position) {
                return Err(Error::DuplicateId {
                    id: id.to_string(),
                    whole: "this batch".into(),
                    first,
                    second: position,
                });
            }
            if let Some(json) = metadata.get(position) {
                let whose =
                    || if metadata.len() == 1 { "metadata".to_owned() } else { format!("metadata of document {id}") };
                update = Some(Update::read(json, replace, whose)?);
            }
            match (self.find(id), &update) {
                (Some(place), Some(update)) => updated.push((place, self.updated(place, update)?)),
                _ if missing == Missing::Skip => {}
                _ => return Err(unknown(id, position)),
            }
        }
        Ok(self.apply_metadata(updated))
    }

    /// Changes the metadata of the documents that the filter lets through, committed or not, in one way; how many there were.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that asks for no field, and as [`Self::update_metadata`]; nothing is changed then.
    pub fn update_metadata_matching(
        &mut self,
        filter: &Filter,
        metadata: &str,
        replace: bool,
        execution: &Execution,
    ) -> Result<usize> {
        self.check_usable()?;
        check_asks(filter, "update")?;
        let update = Update::read(metadata, replace, || "metadata".to_owned())?;
        let (found, pending) = self.matching(filter, execution)?;
        let in_segments = found
            .iter()
            .enumerate()
            .flat_map(|(segment, found)| found.iter().map(move |ordinal| Place { segment: Some(segment), ordinal }));
        let places = in_segments.chain(pending.iter().map(|ordinal| Place { segment: None, ordinal }));
        let mut updated = Vec::new();
        for (at, place) in places.enumerate() {
            if at % STEP_DOCUMENTS == 0 {
                execution.check()?;
            }
            updated.push((place, self.updated(place, &update)?));
        }
        Ok(self.apply_metadata(updated))
    }

    /// The new metadata of a document.
    fn updated(&self, place: Place, update: &Update) -> Result<String> {
        let before = match (update, place.segment) {
            // Old ones that cannot be read are no reason not to replace them.
            (Update::Replace(_), _) => None,
            (_, Some(segment)) => self.segments[segment].metadata(place.ordinal)?,
            (_, None) => self.pending.metadata(place.ordinal).map(str::to_owned),
        };
        update.apply(before.as_deref()).map_err(|problem| {
            let at = place.segment.map(|segment| &self.segments[segment].segment);
            let problem = format!("that of document {} {problem}", place.ordinal);
            at.map_or_else(
                || Error::invalid(&problem),
                |segment| segment.container().corrupt(SectionKind::Metadata.name(), &problem),
            )
        })
    }

    /// Puts in new metadata, which is over at once; of how many documents.
    fn apply_metadata(&mut self, updated: Vec<(Place, String)>) -> usize {
        let count = updated.len();
        for (Place { segment, ordinal }, json) in updated {
            match segment {
                Some(segment) => self.segments[segment].changes.insert(ordinal, json),
                None => self.pending.set_metadata(ordinal, json),
            }
        }
        self.changes += u64::from(count > 0);
        count
    }

    /// Remembers what was measured of the recall of searches, in place of what is known for as many hits.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no [`Tuning`], [`Error::WriterPoisoned`], [`Error::Forked`].
    pub fn set_tuning(&mut self, tuning: Tuning) -> Result<()> {
        self.check_usable()?;
        tuning.check().map_err(Error::Invalid)?;
        self.tunings.retain(|known| known.k != tuning.k);
        self.tunings.push(tuning);
        self.changes += 1;
        Ok(())
    }

    /// Documents that the filter lets through, of each segment and in memory.
    fn matching(&self, filter: &Filter, execution: &Execution) -> Result<(Vec<RoaringBitmap>, RoaringBitmap)> {
        let found = self.segments.iter().map(|open| open.matching(filter, execution)).collect::<Result<_>>()?;
        Ok((found, self.pending.matching(filter, execution)?))
    }

    /// Where a document is that is not deleted.
    fn find(&self, id: &Id) -> Option<Place> {
        let pending = self.pending.find(id).map(|ordinal| Place { segment: None, ordinal });
        pending.or_else(|| {
            let segments = self.segments.iter().enumerate().rev();
            segments
                .map(|(segment, open)| (segment, open.find(id)))
                .find_map(|(segment, ordinal)| Some(Place { segment: Some(segment), ordinal: ordinal? }))
        })
    }

    /// Makes all changes durable and visible, and returns the new generation, or the old one if there is no change.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Invalid`] and [`Error::Forked`] leave the writer as it was. After [`Error::Io`], and
    /// [`Error::Conflict`] and [`Error::Replaced`] if somebody else has changed the folder meanwhile, it takes no more changes
    /// and the last commit stands; only if the folder could not be synced after the new manifest got its name may the new
    /// generation be the one that stands, whole.
    pub fn commit(&mut self, execution: &Execution) -> Result<u64> {
        self.check_usable()?;
        // Segments that an interrupted commit has written, or merged, count.
        let same = |(open, base): (&OpenSegment, &Arc<Segment>)| Arc::ptr_eq(&open.segment, base);
        let written =
            self.segments.len() != self.base.segments.len() || !self.segments.iter().zip(&self.base.segments).all(same);
        let changed =
            !self.segments.iter().all(OpenSegment::is_unchanged) || self.tunings != self.base.manifest().tunings;
        if !written && !changed && self.pending.living() == 0 {
            return Ok(self.base.generation);
        }
        if self.is_untrained() && self.pending.encoded() > 0 {
            // Nothing is to be encoded again but segments.
            self.write_pending(execution)?;
        }
        self.encode_waiting(true, execution)?;
        self.write_pending(execution)?;
        if self.merges {
            self.merge_some(execution)?;
        }
        let previous = Arc::clone(&self.base);
        self.publish(execution)?;
        garbage::collect(self.storage(), &[self.base.manifest(), previous.manifest()]);
        Ok(self.base.generation)
    }

    /// Encodes the documents that wait; `last` if the commit brings no more.
    fn encode_waiting(&mut self, last: bool, execution: &Execution) -> Result<()> {
        let trains = self.is_untrained() && self.is_trained_at(self.living_tokens(), last);
        if trains || !self.pending.vectors().is_empty() {
            let fitted = self.fit(&[], last, execution)?;
            self.pending.check_codes(&fitted.waiting, self.kind())?;
            self.take(fitted);
        } else if self.pending.encoded() < self.pending.documents() {
            // They have no token.
            self.pending.replace_vectors(EncodedTokens::default());
        }
        Ok(())
    }

    fn no_documents(&self) -> Pending {
        Pending::new(self.base.keep_vectors().is_some())
    }

    /// Goes over to a codec and what it has encoded; the codes that are of no document of the writer yet.
    fn take(&mut self, fitted: Fitted) -> EncodedTokens {
        let Fitted { codec, segments, waiting, more } = fitted;
        self.codec = Some(codec);
        if let Some(segments) = segments {
            self.segments = segments;
        }
        self.pending.replace_vectors(waiting);
        more
    }

    pub(super) fn options(&self) -> &CodecOptions {
        self.base.codec_options()
    }

    /// Whether the codec still waits for enough token vectors to train centroids.
    pub(super) fn is_untrained(&self) -> bool {
        self.codec.as_ref().is_some_and(|codec| codec.parameters().kind != self.options().kind)
    }

    /// Token vectors of the documents that would be there after a commit.
    pub(super) fn living_tokens(&self) -> u64 {
        self.segments.iter().map(OpenSegment::living_tokens).sum::<u64>() + self.pending.tokens()
    }

    pub(super) fn window_tokens(&self) -> usize {
        WINDOW_TOKENS.min(WINDOW_BYTES / size_of::<f32>() / self.base.dim()).max(1)
    }

    /// Writes what is in memory, of which nothing waits, as a segment.
    fn write_pending(&mut self, execution: &Execution) -> Result<()> {
        if self.pending.living() > 0 {
            let name = self.new_file(Data::Segment);
            match self.write_segment_file(&name, execution) {
                Ok(segment) => self.segments.push(OpenSegment::new(Arc::new(segment))),
                Err(error) => {
                    garbage::discard(self.storage(), &[name]);
                    return Err(self.fail("writing a segment", self.cause(error)));
                }
            }
        }
        self.pending = self.no_documents();
        Ok(())
    }

    fn write_segment_file(&self, name: &str, execution: &Execution) -> Result<Segment> {
        let (shape, kind) = (self.shape(), self.kind());
        let source = self.pending.source(shape.residual);
        let entry = write_segment(self.storage(), name, shape, self.codec(), kind, &[source], execution)?;
        Segment::open(self.storage(), &entry, shape, kind, execution)
    }

    /// Commits the segments as the next generation, and goes on from there.
    pub(super) fn publish(&mut self, execution: &Execution) -> Result<()> {
        let (manifest, segments) =
            self.write_commit(execution).map_err(|error| self.fail("writing a commit", self.cause(error)))?;
        self.check_place().map_err(|error| self.fail("publishing a commit", error))?;
        let generation = manifest.generation;
        self.files.push(names::temporary_manifest(generation, self.nonce));
        let stored = match manifest.publish(self.storage(), self.nonce) {
            Ok(stored) => stored,
            Err(PublishFailure { error, visible }) => {
                if visible {
                    // The manifest may be in its place, and then needs its files.
                    self.files.clear();
                }
                return Err(self.fail("publishing a commit", error));
            }
        };
        // Where locks do nothing, a writer that stood still for long can publish a number that others have left behind. If it
        // was in time, others may have gone on from its commit already.
        match read_newest(self.storage()).map(|newest| newest.descends_from(&stored)) {
            Ok(Some(true)) | Err(_) => {}
            Ok(known) => {
                // What may be part of a later commit stays.
                match known {
                    Some(_) => self.files.push(names::manifest(generation)),
                    None => self.files.clear(),
                }
                let path = self.storage().place().to_owned();
                return Err(self.fail("publishing a commit", Error::Conflict { path, generation }));
            }
        }
        note_newest(self.storage(), &stored.manifest, self.nonce);
        let snapshot = Arc::new(Snapshot::assemble(stored, self.codec.clone(), segments));
        self.shared.current.store(Arc::clone(&snapshot));
        match generation.checked_add(1) {
            Some(next) => self.generation = next,
            None => self.failed = Some("counting generations"),
        }
        self.rebase(snapshot);
        Ok(())
    }

    /// Sees that the folder is the one that was opened, and that nobody has committed since.
    fn check_place(&self) -> Result<()> {
        let path = || self.storage().place().to_owned();
        if !self.lock.stands() {
            let problem = "the file of this writer's lock was removed or replaced".to_owned();
            return Err(Error::Replaced { path: path(), problem });
        }
        if is_newest(self.storage(), &self.base) {
            Ok(())
        } else {
            Err(Error::Conflict { path: path(), generation: self.generation })
        }
    }

    /// Why a file could not be written. Another writer's commit, where locks do nothing, takes away what this one has begun.
    pub(super) fn cause(&self, error: Error) -> Error {
        match (&error, self.check_place()) {
            (
                Error::Corrupt { .. } | Error::Io { .. },
                Err(changed @ (Error::Conflict { .. } | Error::Replaced { .. })),
            ) => changed,
            _ => error,
        }
    }

    /// Writes all files of the next generation but its manifest, and makes their names durable.
    fn write_commit(&mut self, execution: &Execution) -> Result<(Manifest, Vec<Arc<Segment>>)> {
        let mut entries: Vec<SegmentEntry> = Vec::with_capacity(self.segments.len());
        let mut kept = Vec::with_capacity(self.segments.len());
        for at in 0..self.segments.len() {
            let open = &self.segments[at];
            let (segment, dead) = (Arc::clone(&open.segment), open.dead());
            if dead.len() == u64::from(segment.documents()) {
                continue;
            }
            if open.is_unchanged() {
                entries.push(segment.entry().clone());
                kept.push(segment);
                continue;
            }
            let mut entry = segment.entry().clone();
            if !open.deleted.is_empty() {
                let name = self.new_file(Data::Tombstones);
                entry.tombstones = Some(tombstones::write(self.storage(), &name, &dead, execution)?);
            }
            let layers = self.write_layer(at, &dead, execution)?;
            entry.metadata = layers.iter().map(|layer| layer.entry().clone()).collect();
            kept.push(Arc::new(segment.updated(entry.clone(), dead, layers)));
            entries.push(entry);
        }
        let codec = self.prepare_codec(execution)?;
        execution.check()?;
        self.storage().sync_folder()?;
        // An index of format 1 has no identity yet.
        let index = match &self.base.manifest().index {
            Some(known) => known.clone(),
            None => new_identity()?,
        };
        let manifest = Manifest {
            generation: self.generation,
            index: Some(index),
            ancestors: self.base.lineage(),
            id_kind: self.id_kind,
            codec,
            tunings: self.tunings.clone(),
            segments: entries,
            ..self.base.manifest().clone()
        };
        Ok((manifest, kept))
    }

    /// The layers of a segment, with a new one of the metadata that this writer has changed.
    fn write_layer(&mut self, at: usize, dead: &RoaringBitmap, execution: &Execution) -> Result<Vec<Arc<Layer>>> {
        let mut layers = self.segments[at].segment.layers().to_vec();
        if self.segments[at].changes.is_empty() {
            return Ok(layers);
        }
        let name = self.new_file(Data::Metadata);
        let OpenSegment { segment, changes, .. } = &self.segments[at];
        let older = if self.merges { segment.layers() } else { &[] };
        let (kept, metadata) = metadata::merged(older, changes, dead, execution)?;
        if !metadata.is_empty() {
            let entry = metadata::write(self.storage(), &name, &metadata, execution)?;
            let layer = Layer::open(self.storage(), &entry, segment.documents(), execution)?;
            layers.truncate(if self.merges { kept } else { layers.len() });
            layers.push(Arc::new(layer));
        }
        Ok(layers)
    }

    fn prepare_codec(&mut self, execution: &Execution) -> Result<Option<FileEntry>> {
        match &self.codec {
            Some(codec) if !self.base.codec.as_ref().is_some_and(|known| Arc::ptr_eq(known, codec)) => {
                let codec = Arc::clone(codec);
                let name = self.new_file(Data::Codec);
                Ok(Some(codec_file::write(self.storage(), &name, &codec, execution)?))
            }
            _ => Ok(self.base.manifest().codec.clone()),
        }
    }

    /// Forgets a document; whether there was one.
    fn remove(&mut self, id: &Id) -> bool {
        match self.find(id) {
            Some(Place { segment: Some(segment), ordinal }) => self.segments[segment].deleted.insert(ordinal),
            Some(Place { segment: None, .. }) => {
                self.pending.delete(id);
                true
            }
            None => false,
        }
    }

    /// Checks that documents of these ids can be added, before their vectors are there.
    ///
    /// # Errors
    /// [`Error::IdKind`], and without `upsert` [`Error::IdExists`].
    pub fn check_ids(&self, ids: &[Id], upsert: bool) -> Result<()> {
        ids.iter().try_for_each(|id| self.check_new(id, ids[0].kind(), upsert))
    }

    fn check_new(&self, id: &Id, kind: IdKind, upsert: bool) -> Result<()> {
        IdRef::from(id).check_kind(self.id_kind.or(Some(kind)))?;
        if !upsert && self.contains(id) { Err(Error::IdExists { id: id.to_string() }) } else { Ok(()) }
    }

    fn contains(&self, id: &Id) -> bool {
        self.find(id).is_some()
    }

    fn check_batch(&self, batch: &Batch<'_>, upsert: bool, execution: &Execution) -> Result<()> {
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
        let name = |item: usize| format!("document {}", batch.ids[item]);
        batch.tokens.check_magnitude(name)?;
        if self.base.keep_vectors().is_some() {
            batch.tokens.check_float16(name)?;
        }
        let mut positions: HashMap<&Id, usize> = HashMap::with_capacity(documents);
        for (second, id) in batch.ids.iter().enumerate() {
            if second % STEP_DOCUMENTS == 0 {
                execution.check()?;
            }
            if let Some(first) = positions.insert(id, second) {
                return Err(Error::DuplicateId { id: id.to_string(), whole: "this batch".into(), first, second });
            }
            self.check_new(id, first.kind(), upsert)?;
        }
        for (at, (id, metadata)) in batch.ids.iter().zip(batch.metadata.iter().flatten()).enumerate() {
            if at % STEP_DOCUMENTS == 0 {
                execution.check()?;
            }
            let parsed = metadata.as_deref().map(serde_json::from_str::<Map<String, Value>>);
            if let Some(Err(error)) = parsed {
                return Err(Error::invalid(format!("metadata of document {id} is no JSON object: {error}")));
            }
        }
        Ok(())
    }

    /// Whether it takes changes.
    ///
    /// # Errors
    /// [`Error::WriterPoisoned`] after a failure, [`Error::Forked`] in another process than its own.
    pub fn check_usable(&self) -> Result<()> {
        let child = std::process::id();
        if child != self.process {
            return Err(Error::Forked { owner: self.process, child });
        }
        match self.failed {
            Some(stage) => Err(Error::WriterPoisoned { stage: stage.to_owned() }),
            None => Ok(()),
        }
    }

    /// Takes no more changes after `error`, unless it is an interruption, and gives back the room of what was written for
    /// them.
    fn fail(&mut self, stage: &'static str, error: Error) -> Error {
        if matches!(error, Error::Interrupted) {
            return error;
        }
        self.failed = Some(stage);
        garbage::discard(self.storage(), &self.files);
        self.files.clear();
        error
    }

    /// The name of a new file.
    pub(super) fn new_file(&mut self, kind: Data) -> String {
        let name = names::data(kind, self.generation, self.files.len() as u32, self.nonce);
        self.files.push(name.clone());
        name
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.shared.storage
    }

    pub(super) fn codec(&self) -> Option<&Codec> {
        self.codec.as_deref()
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::new(self.base.manifest(), self.codec.as_deref())
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

/// Where a document is: in a segment, or in memory.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: Option<usize>,
    ordinal: u32,
}

fn unknown(id: &Id, position: usize) -> Error {
    Error::UnknownId { id: id.to_string(), place: format!(" (position {position})") }
}

/// Refuses a filter that lets every document through, which is rarely meant where documents are changed.
fn check_asks(filter: &Filter, verb: &str) -> Result<()> {
    if filter.is_empty() {
        return Err(Error::invalid(format!(
            "this filter asks for no field and would {verb} every document; if that is meant, {verb} by their ids"
        )));
    }
    Ok(())
}
