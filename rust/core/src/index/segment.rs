//! A segment: documents that never change, seen through the mapped sections of one file, and which of them are deleted.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use latewood_kernels::DocumentCodes;
use roaring::RoaringBitmap;

use super::columns::{Column, Columns};
use super::filter::{FieldValues, Fields, Filter};
use super::id_table;
use super::metadata::Layer;
use super::postings::Postings;
use super::segment_writer::{SegmentParameters, Shape, Source};
use super::strings::check_offsets;
use super::tombstones;
use crate::codec::{Codec, MAX_CENTROIDS};
use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{Blocks, Container, SegmentEntry, Sound};
use crate::ids::{Id, IdKind, IdRef};
use crate::parallel::Execution;
use crate::storage::{Numbers, Storage};

/// A segment of a snapshot.
///
/// Documents are named by their ordinal, `0..documents()`; an ordinal beyond them has no tokens, text or metadata.
#[derive(Clone, Debug)]
pub struct Segment {
    data: Arc<SegmentData>,
    entry: SegmentEntry,
    tombstones: RoaringBitmap,
    /// Metadata that documents got later, the newest last.
    layers: Vec<Arc<Layer>>,
}

/// What all snapshots share of a segment.
#[derive(Debug)]
struct SegmentData {
    container: Container,
    documents: u32,
    tokens: u64,
    row_bytes: usize,
    kept_dim: usize,
    mean_square_gain: Option<f64>,
    offsets: Numbers<u64>,
    codes: Blocks<u8>,
    gains: Blocks<u16>,
    /// Bits of float16; `None` where no vectors are kept.
    vectors: Option<Blocks<u16>>,
    cells: Option<CellSections>,
    fdes: Option<FdeSections>,
    ids: IdKind,
    id_table: Numbers<u32>,
    columns: Columns,
    /// Of the metadata.
    fields: Fields,
}

/// What a segment of the residual codec knows of its documents' centroids.
#[derive(Debug)]
struct CellSections {
    centroids: Blocks<u16>,
    offsets: Numbers<u32>,
    cells: Blocks<u16>,
    postings: Postings,
}

/// The fixed dimensional encodings of a segment's documents.
#[derive(Debug)]
struct FdeSections {
    bytes: usize,
    rows: Blocks<i8>,
    units: Blocks<f32>,
}

impl Segment {
    /// Opens a segment, with the deletions and changes of its manifest entry, and checks everything that later reads rely on.
    pub(crate) fn open(
        storage: &dyn Storage,
        entry: &SegmentEntry,
        shape: Shape,
        ids: IdKind,
        execution: &Execution,
    ) -> Result<Self> {
        let data = SegmentData::open(storage, entry, shape, ids, execution)?;
        let (tombstones, layers) = (RoaringBitmap::new(), Vec::new());
        // Without those of its files that an entry names, until they are opened.
        let bare = SegmentEntry { tombstones: None, metadata: Vec::new(), ..entry.clone() };
        Self { data: Arc::new(data), entry: bare, tombstones, layers }.reopen(storage, entry, execution)
    }

    /// The same documents under another manifest entry of the same file, with its deletions and changes.
    pub(crate) fn reopen(&self, storage: &dyn Storage, entry: &SegmentEntry, execution: &Execution) -> Result<Self> {
        let tombstones = if self.entry.tombstones == entry.tombstones {
            self.tombstones.clone()
        } else {
            tombstones::open(storage, entry, execution)?
        };
        let layer = |entry| match self.layers.iter().find(|layer| layer.entry() == entry) {
            Some(known) => Ok(Arc::clone(known)),
            None => Layer::open(storage, entry, self.documents(), execution).map(Arc::new),
        };
        let layers = entry.metadata.iter().map(layer).collect::<Result<_>>()?;
        Ok(self.updated(entry.clone(), tombstones, layers))
    }

    /// The same documents, with these deletions and changes.
    pub(crate) fn updated(&self, entry: SegmentEntry, tombstones: RoaringBitmap, layers: Vec<Arc<Layer>>) -> Self {
        Self { data: Arc::clone(&self.data), entry, tombstones, layers }
    }

    /// The same documents, none of them deleted.
    pub(crate) fn without_tombstones(&self) -> Self {
        self.updated(self.entry.clone(), RoaringBitmap::new(), self.layers.clone())
    }

    /// Metadata that documents got after the segment was written, the newest last.
    pub(crate) fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The manifest's entry.
    pub(crate) fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    pub(crate) fn container(&self) -> &Container {
        &self.data.container
    }

    /// Number of documents, deleted ones included.
    #[must_use]
    pub fn documents(&self) -> u32 {
        self.data.documents
    }

    /// Number of documents that are not deleted.
    #[must_use]
    pub fn live_documents(&self) -> u32 {
        self.data.documents - self.tombstones.len() as u32
    }

    /// Number of token vectors, those of deleted documents included.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.data.tokens
    }

    /// Where the tokens of a document stand among all tokens of the segment.
    #[must_use]
    pub fn token_range(&self, ordinal: u32) -> Range<usize> {
        let at = ordinal as usize;
        self.data.offsets.get(at..at + 2).map_or(0..0, |ends| ends[0] as usize..ends[1] as usize)
    }

    /// Token vectors of the documents that are not in `dead`.
    #[must_use]
    pub fn living_tokens(&self, dead: &RoaringBitmap) -> u64 {
        let tokens = |ordinal| self.token_range(ordinal).len() as u64;
        self.data.tokens - dead.iter().map(tokens).sum::<u64>().min(self.data.tokens)
    }

    /// Mean of the squared gains of all tokens; `None` without a token, and in files from before it was kept.
    #[must_use]
    pub fn mean_square_gain(&self) -> Option<f64> {
        self.data.mean_square_gain
    }

    /// The codes of a document.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn document(&self, ordinal: u32) -> Result<DocumentCodes<'_>> {
        let data = &*self.data;
        let tokens = self.token_range(ordinal);
        // A range beyond all bytes is refused like any other that is not inside.
        let byte = |token: usize| token.saturating_mul(data.row_bytes);
        Ok(DocumentCodes {
            codes: data.codes.get(byte(tokens.start)..byte(tokens.end))?,
            gains: data.gains.get(tokens.clone())?,
            centroids: data.cells.as_ref().map_or(Ok(&[][..]), |cells| cells.centroids.get(tokens))?,
        })
    }

    /// The token vectors of a document as they were given, `[tokens, dim]`; `None` if the index does not keep them.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn vectors(&self, ordinal: u32) -> Result<Option<&[f16]>> {
        let Some(vectors) = &self.data.vectors else { return Ok(None) };
        let (tokens, dim) = (self.token_range(ordinal), self.data.kept_dim);
        let bits = vectors.get(tokens.start.saturating_mul(dim)..tokens.end.saturating_mul(dim))?;
        Ok(Some(bits.reinterpret_cast()))
    }

    /// The token vectors of a document, `[tokens, dim]`: the kept ones, or those that its codes stand for.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn decode(&self, ordinal: u32, codec: &Codec) -> Result<Vec<f32>> {
        if let Some(vectors) = self.vectors(ordinal)? {
            return Ok(vectors.to_f32_vec());
        }
        let document = self.document(ordinal)?;
        Ok(codec.decode(document.codes, document.gains, document.centroids))
    }

    /// The fixed dimensional encodings of neighbouring documents, `[documents, width]`, and what a unit of each stands for;
    /// `None` if the segment has none.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn fdes(&self, documents: Range<u32>) -> Result<Option<(&[i8], &[f32])>> {
        let Some(sections) = &self.data.fdes else { return Ok(None) };
        let documents = documents.start as usize..documents.end as usize;
        let bytes = documents.start * sections.bytes..documents.end * sections.bytes;
        Ok(Some((sections.rows.get(bytes)?, sections.units.get(documents)?)))
    }

    /// Whether every document that has tokens has a fixed dimensional encoding.
    #[must_use]
    pub fn has_fdes(&self) -> bool {
        self.data.fdes.is_some() || self.data.tokens == 0
    }

    /// Distinct centroids of each document, ascending, one document behind the other; empty for the flat codec.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn cells(&self) -> Result<&[u16]> {
        self.data.cells.as_ref().map_or(Ok(&[]), |sections| sections.cells.all())
    }

    /// Where the cells of each document begin, `[documents + 1]`; empty for the flat codec.
    #[must_use]
    pub fn cell_offsets(&self) -> &[u32] {
        self.data.cells.as_ref().map_or(&[], |sections| &sections.offsets)
    }

    /// Centroids that have a token in the segment, ascending; empty for the flat codec.
    #[must_use]
    pub fn listed_centroids(&self) -> &[u16] {
        self.data.cells.as_ref().map_or(&[], |sections| sections.postings.centroids())
    }

    /// Appends the ordinals of all documents, deleted ones included, that have a token in the cell of `centroid`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`]; `into` is then as it was before.
    pub fn postings(&self, centroid: u16, into: &mut Vec<u32>) -> Result<()> {
        self.data.cells.as_ref().map_or(Ok(()), |sections| sections.postings.read(centroid, into))
    }

    /// How many ordinals [`Self::postings`] appends.
    #[must_use]
    pub fn posting_length(&self, centroid: u16) -> u32 {
        self.data.cells.as_ref().map_or(0, |sections| sections.postings.length(centroid))
    }

    /// Number of documents, deleted ones left out, that have a token in the cell of `centroid`.
    ///
    /// # Errors
    /// As for [`Self::postings`].
    pub fn document_frequency(&self, centroid: u16) -> Result<u64> {
        if self.tombstones.is_empty() {
            return Ok(u64::from(self.posting_length(centroid)));
        }
        let mut listed = Vec::new();
        self.postings(centroid, &mut listed)?;
        Ok(listed.iter().filter(|&&ordinal| !self.tombstones.contains(ordinal)).count() as u64)
    }

    /// The id of a document.
    #[must_use]
    pub fn id(&self, ordinal: u32) -> Id {
        let (columns, column) = (&self.data.columns, Column::of_ids(self.data.ids));
        match self.data.ids {
            IdKind::Int => Id::Int(columns.integer(column, ordinal as usize).unwrap_or_default()),
            // `open` has seen that all ids are UTF-8.
            IdKind::Str => {
                let id = columns.string(column, ordinal as usize).unwrap_or_default();
                Id::Str(String::from_utf8_lossy(id).into_owned())
            }
        }
    }

    /// The document with this id, unless it is deleted.
    #[must_use]
    pub fn find<'a>(&self, id: impl Into<IdRef<'a>>) -> Option<u32> {
        let id = id.into();
        let mut candidates = id_table::candidates(&self.data.id_table, id_table::hash(id));
        let (columns, column) = (&self.data.columns, Column::of_ids(id.kind()));
        let found = candidates.find(|&ordinal| match id {
            IdRef::Int(id) => columns.integer(column, ordinal as usize) == Some(id),
            IdRef::Str(id) => columns.string(column, ordinal as usize).is_ok_and(|known| known == id.as_bytes()),
        });
        found.filter(|&ordinal| !self.tombstones.contains(ordinal))
    }

    /// The text of a document, if one was given.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn text(&self, ordinal: u32) -> Result<Option<String>> {
        let present = self.data.columns.flag(Column::TextPresent, ordinal as usize);
        if present { self.string(Column::Texts, ordinal).map(Some) } else { Ok(None) }
    }

    /// The metadata of a document, a JSON object, if some was given.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn metadata(&self, ordinal: u32) -> Result<Option<String>> {
        for layer in self.layers.iter().rev() {
            if let Some(position) = layer.position(ordinal) {
                return layer.metadata(position).map(some);
            }
        }
        self.own_metadata(ordinal)
    }

    /// The metadata that a document had when the segment was written.
    fn own_metadata(&self, ordinal: u32) -> Result<Option<String>> {
        self.string(Column::Metadata, ordinal).map(some)
    }

    /// A copy, which stays UTF-8 whatever becomes of the file under the map.
    fn string(&self, column: Column, ordinal: u32) -> Result<String> {
        let bytes = self.data.columns.string(column, ordinal as usize)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.corrupt_value(column, ordinal, "is not UTF-8"))
    }

    fn corrupt_value(&self, column: Column, ordinal: u32, problem: &str) -> Error {
        self.data.container.corrupt(column.section().name(), format!("that of document {ordinal} {problem}"))
    }

    /// Checks that the values of a document are what those of their columns must be.
    pub(crate) fn check_columns(&self, ordinal: u32) -> Result<()> {
        for column in Column::ALL {
            if let Some(problem) = column.problem(self.data.columns.string(column, ordinal as usize)?) {
                return Err(self.corrupt_value(column, ordinal, problem));
            }
        }
        Ok(())
    }

    /// Deleted documents.
    #[must_use]
    pub fn tombstones(&self) -> &RoaringBitmap {
        &self.tombstones
    }

    /// Whether the encoder cut the text of a document: its token vectors do not stand for all of it.
    #[must_use]
    pub fn is_truncated(&self, ordinal: u32) -> bool {
        ordinal < self.data.documents && self.data.columns.flag(Column::TextTruncated, ordinal as usize)
    }

    /// How many documents that are not deleted have a text that their encoder cut.
    #[must_use]
    pub fn live_truncated(&self) -> u64 {
        if !self.data.columns.has(Column::TextTruncated) {
            return 0;
        }
        let living = (0..self.data.documents).filter(|&ordinal| !self.tombstones.contains(ordinal));
        living.filter(|&ordinal| self.is_truncated(ordinal)).count() as u64
    }

    /// Documents that the filter lets through and that are not deleted.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if the metadata of a document is not JSON, [`crate::Error::Interrupted`].
    pub fn matching(&self, filter: &Filter, execution: &Execution) -> Result<RoaringBitmap> {
        let mut left = RoaringBitmap::new();
        left.insert_range(0..self.data.documents);
        left -= &self.tombstones;
        let mut found = RoaringBitmap::new();
        for layer in self.layers.iter().rev() {
            found |= layer.matching(filter, &left, execution)?;
            left -= layer.documents();
        }
        let fields = self.own_fields(&filter.paths(), execution)?;
        Ok(found | filter.matching(&fields, &left, execution)?)
    }

    /// The values of each of these fields in the metadata that documents had when the segment was written.
    ///
    /// # Errors
    /// As [`Self::matching`].
    pub(crate) fn own_fields<'p>(
        &self,
        paths: &BTreeSet<&'p str>,
        execution: &Execution,
    ) -> Result<HashMap<&'p str, Arc<FieldValues>>> {
        let data = &*self.data;
        let corrupt = |problem| data.container.corrupt(SectionKind::Metadata.name(), problem);
        data.fields.get(paths, data.documents, |ordinal| self.own_metadata(ordinal), corrupt, execution)
    }

    /// All documents, for a new segment; `dead` are those to leave out. The caller has verified the files.
    pub(crate) fn source<'a>(&'a self, dead: &'a RoaringBitmap) -> Source<'a> {
        let data = &*self.data;
        Source {
            offsets: &data.offsets,
            codes: data.codes.as_they_are(),
            gains: data.gains.as_they_are(),
            centroids: data.cells.as_ref().map_or(&[], |sections| sections.centroids.as_they_are()),
            cell_offsets: self.cell_offsets(),
            cells: data.cells.as_ref().map_or(&[], |sections| sections.cells.as_they_are()),
            vectors: data.vectors.as_ref().map_or(&[], Blocks::as_they_are),
            fdes: data.fdes.as_ref().map(|sections| (sections.rows.as_they_are(), sections.units.as_they_are())),
            columns: data.columns.as_they_are(),
            metadata: self.layers.iter().flat_map(|layer| layer.as_they_are()).collect(),
            dead,
        }
    }
}

impl SegmentData {
    fn open(
        storage: &dyn Storage,
        entry: &SegmentEntry,
        shape: Shape,
        id_kind: IdKind,
        execution: &Execution,
    ) -> Result<Self> {
        let container = Container::open_entry(storage, &entry.file, FileKind::Segment, execution)?;
        let corrupt = |section: SectionKind, problem: &str| container.corrupt(section.name(), problem);
        let json = container.required::<u8>(SectionKind::SegmentParameters, execution)?;
        let parameters: SegmentParameters = serde_json::from_slice(&json)
            .map_err(|error| corrupt(SectionKind::SegmentParameters, &error.to_string()))?;
        check_parameters(&parameters, entry, shape, id_kind)
            .map_err(|problem| corrupt(SectionKind::SegmentParameters, &problem))?;
        let SegmentParameters { documents, tokens, row_bytes, mean_square_gain, .. } = parameters;
        let count = documents as usize;

        let offsets = container.required::<u64>(SectionKind::DocumentOffsets, execution)?;
        check_offsets(&offsets, count, tokens).map_err(|problem| corrupt(SectionKind::DocumentOffsets, &problem))?;
        let codes = Blocks::<u8>::open(&container, SectionKind::Codes, Sound::anything(), execution)?;
        if Some(codes.len() as u64) != tokens.checked_mul(row_bytes as u64) {
            return Err(corrupt(SectionKind::Codes, "its length is not that of the segment's tokens"));
        }
        let finite = Sound { holds: |gains, _| are_finite(gains, BFLOAT16), limit: 0, problem: "one is not finite" };
        let gains = Blocks::<u16>::open(&container, SectionKind::Gains, finite, execution)?;
        if gains.len() as u64 != tokens {
            return Err(corrupt(SectionKind::Gains, "its length is not that of the segment's tokens"));
        }
        let vectors = (shape.kept_dim > 0).then(|| open_vectors(&container, tokens, shape.kept_dim, execution));
        let id_table = container.required(SectionKind::IdTable, execution)?;
        id_table::check(&id_table, count).map_err(|problem| corrupt(SectionKind::IdTable, &problem))?;
        let centroids = parameters.centroids;
        let cells = shape.residual.then(|| CellSections::open(&container, documents, tokens, centroids, execution));
        Ok(Self {
            documents,
            tokens,
            row_bytes,
            mean_square_gain,
            offsets,
            codes,
            gains,
            kept_dim: shape.kept_dim,
            vectors: vectors.transpose()?,
            cells: cells.transpose()?,
            fdes: FdeSections::open(&container, count, shape.fde_bytes, execution)?,
            ids: id_kind,
            id_table,
            columns: Columns::open(&container, count, id_kind, execution)?,
            fields: Fields::default(),
            container: container.clone(),
        })
    }
}

impl CellSections {
    fn open(
        container: &Container,
        documents: u32,
        tokens: u64,
        centroid_count: usize,
        execution: &Execution,
    ) -> Result<Self> {
        let corrupt = |section: SectionKind, problem: &str| container.corrupt(section.name(), problem);
        let below = || Sound {
            holds: |ids: &[u16], count| ids.iter().max().is_none_or(|&largest| usize::from(largest) < count),
            limit: centroid_count,
            problem: "the codec has fewer centroids",
        };
        let centroids = Blocks::open(container, SectionKind::TokenCentroids, below(), execution)?;
        if centroids.len() as u64 != tokens {
            return Err(corrupt(SectionKind::TokenCentroids, "its length is not that of the segment's tokens"));
        }
        let cells = Blocks::open(container, SectionKind::Cells, below(), execution)?;
        if cells.len() > centroids.len() {
            return Err(corrupt(SectionKind::Cells, "there are more than tokens"));
        }
        let offsets = container.required(SectionKind::CellOffsets, execution)?;
        check_offsets(&offsets, documents as usize, cells.len() as u64)
            .map_err(|problem| corrupt(SectionKind::CellOffsets, &problem))?;
        let postings = Postings::open(container, documents, centroid_count, execution)?;
        Ok(Self { centroids, offsets, cells, postings })
    }
}

fn open_vectors(container: &Container, tokens: u64, dim: usize, execution: &Execution) -> Result<Blocks<u16>> {
    let finite = Sound { holds: |vectors, _| are_finite(vectors, FLOAT16), limit: 0, problem: "one is not finite" };
    let vectors = Blocks::open(container, SectionKind::Vectors, finite, execution)?;
    if Some(vectors.len() as u64) != tokens.checked_mul(dim as u64) {
        let problem = "its length is not that of the segment's tokens";
        return Err(container.corrupt(SectionKind::Vectors.name(), problem));
    }
    Ok(vectors)
}

impl FdeSections {
    /// Those of a segment, unless an older version of this library wrote it, or wrote it before there was a codec.
    fn open(container: &Container, documents: usize, bytes: usize, execution: &Execution) -> Result<Option<Self>> {
        if bytes == 0 || !container.has(SectionKind::Fdes) {
            return Ok(None);
        }
        let rows = Blocks::<i8>::open(container, SectionKind::Fdes, Sound::anything(), execution)?;
        let finite = |units: &[f32], _| units.iter().all(|unit| unit.is_finite());
        let finite = Sound { holds: finite, limit: 0, problem: "one is not finite" };
        let units = Blocks::<f32>::open(container, SectionKind::FdeUnits, finite, execution)?;
        if Some(rows.len()) != documents.checked_mul(bytes) || units.len() != documents {
            let problem = "its length is not that of the segment's documents";
            return Err(container.corrupt(SectionKind::Fdes.name(), problem));
        }
        Ok(Some(Self { bytes, rows, units }))
    }
}

/// Metadata, if a document has some: there is no empty JSON.
fn some(json: String) -> Option<String> {
    Some(json).filter(|json| !json.is_empty())
}

/// The exponent's bits of a gain.
pub(super) const BFLOAT16: u16 = 0x7f80;
/// The exponent's bits of a component of a kept vector.
const FLOAT16: u16 = 0x7c00;

/// Whether every number is finite: its exponent, which has these bits, is not the largest.
pub(super) fn are_finite(numbers: &[u16], exponent: u16) -> bool {
    numbers.iter().map(|number| number & exponent).max() != Some(exponent)
}

fn check_parameters(
    parameters: &SegmentParameters,
    entry: &SegmentEntry,
    shape: Shape,
    id_kind: IdKind,
) -> std::result::Result<(), String> {
    let SegmentParameters { documents, tokens, row_bytes, centroids, ids, .. } = *parameters;
    if (documents, tokens) != (entry.documents, entry.tokens) {
        return Err("it counts other documents or tokens than the manifest".to_owned());
    }
    if documents == u32::MAX || tokens > u64::from(u32::MAX) {
        return Err(format!("{documents} documents or {tokens} tokens are too many"));
    }
    if ids != id_kind {
        return Err(format!("its ids are {}, those of the index {}", ids.name(), id_kind.name()));
    }
    // A segment without a single token may be older than the codec, others than its last growth.
    let own = Shape { row_bytes, centroid_count: centroids, ..shape };
    if tokens > 0 && !shape.reads(own) {
        return Err("it was encoded with another codec".to_owned());
    }
    if centroids > MAX_CENTROIDS {
        return Err(format!("{centroids} centroids are too many"));
    }
    Ok(())
}
