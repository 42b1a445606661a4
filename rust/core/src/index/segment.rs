//! A segment: documents that never change, seen through the mapped sections of one file, and which of them are deleted.

use std::ops::Range;
use std::sync::Arc;

use latewood_kernels::DocumentCodes;
use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::columns::{self, Columns};
use super::filter::Filter;
use super::id_table;
use super::postings::Postings;
use super::segment_writer::{Ids, SegmentParameters, Shape, Source};
use super::strings::{StringColumn, check_offsets};
use super::tombstones;
use crate::codec::MAX_CENTROIDS;
use crate::error::Result;
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{Container, SegmentEntry};
use crate::ids::{Id, IdKind, IdRef};
use crate::storage::{Column, Storage};

/// A segment of a snapshot.
///
/// Documents are named by their ordinal, `0..documents()`; an ordinal beyond them has no tokens, text or metadata.
#[derive(Clone, Debug)]
pub struct Segment {
    data: Arc<SegmentData>,
    entry: SegmentEntry,
    tombstones: RoaringBitmap,
}

/// What all snapshots share of a segment.
#[derive(Debug)]
struct SegmentData {
    container: Container,
    documents: u32,
    tokens: u64,
    row_bytes: usize,
    offsets: Column<u64>,
    codes: Column<u8>,
    gains: Column<u16>,
    centroids: Column<u16>,
    cell_offsets: Column<u32>,
    cells: Column<u16>,
    postings: Postings,
    ids: IdColumn,
    id_table: Column<u32>,
    texts: Option<(Column<u8>, StringColumn)>,
    metadata: Option<StringColumn>,
    truncated: Option<Column<u8>>,
    columns: Columns,
}

#[derive(Debug)]
enum IdColumn {
    Int(Column<i64>),
    Str(StringColumn),
}

impl Segment {
    /// Opens a segment, with the deletions of its manifest entry, and checks everything that later reads rely on.
    pub(crate) fn open(storage: &dyn Storage, entry: &SegmentEntry, shape: Shape, ids: IdKind) -> Result<Self> {
        let data = SegmentData::open(storage, entry, shape, ids)?;
        let mut segment = Self { data: Arc::new(data), entry: entry.clone(), tombstones: RoaringBitmap::new() };
        segment.tombstones = tombstones::open(storage, entry)?;
        Ok(segment)
    }

    /// The same documents under another manifest entry of the same file, with its deletions.
    pub(crate) fn reopen(&self, storage: &dyn Storage, entry: &SegmentEntry) -> Result<Self> {
        let tombstones = if self.entry.tombstones == entry.tombstones {
            self.tombstones.clone()
        } else {
            tombstones::open(storage, entry)?
        };
        Ok(Self { data: Arc::clone(&self.data), entry: entry.clone(), tombstones })
    }

    /// The same documents, with these deletions.
    pub(crate) fn with_tombstones(&self, entry: SegmentEntry, tombstones: RoaringBitmap) -> Self {
        Self { data: Arc::clone(&self.data), entry, tombstones }
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

    /// The codes of a document.
    #[must_use]
    pub fn document(&self, ordinal: u32) -> DocumentCodes<'_> {
        let data = &*self.data;
        let tokens = self.token_range(ordinal);
        DocumentCodes {
            codes: &data.codes[tokens.start * data.row_bytes..tokens.end * data.row_bytes],
            gains: &data.gains[tokens.clone()],
            centroids: data.centroids.get(tokens).unwrap_or_default(),
        }
    }

    /// Distinct centroids of each document, ascending, one document behind the other; empty for the flat codec.
    #[must_use]
    pub fn cells(&self) -> &[u16] {
        &self.data.cells
    }

    /// Where the cells of each document begin, `[documents + 1]`; empty for the flat codec.
    #[must_use]
    pub fn cell_offsets(&self) -> &[u32] {
        &self.data.cell_offsets
    }

    /// Appends the ordinals of all documents, deleted ones included, that have a token in the cell of `centroid`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`]; `into` is then as it was before.
    pub fn postings(&self, centroid: u16, into: &mut Vec<u32>) -> Result<()> {
        let corrupt = |problem| self.data.container.corrupt(SectionKind::Postings.name(), problem);
        self.data.postings.read(centroid, into).map_err(corrupt)
    }

    /// How many ordinals [`Self::postings`] appends.
    #[must_use]
    pub fn posting_length(&self, centroid: u16) -> u32 {
        self.data.postings.length(centroid)
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
        match &self.data.ids {
            IdColumn::Int(ids) => Id::Int(ids.get(ordinal as usize).copied().unwrap_or_default()),
            // `open` has seen that all ids are UTF-8.
            IdColumn::Str(ids) => Id::Str(String::from_utf8_lossy(ids.view().get(ordinal as usize)).into_owned()),
        }
    }

    /// The document with this id, unless it is deleted.
    #[must_use]
    pub fn find<'a>(&self, id: impl Into<IdRef<'a>>) -> Option<u32> {
        let id = id.into();
        let mut candidates = id_table::candidates(&self.data.id_table, id_table::hash(id));
        let found = match (&self.data.ids, id) {
            (IdColumn::Int(ids), IdRef::Int(id)) => candidates.find(|&ordinal| ids[ordinal as usize] == id),
            (IdColumn::Str(ids), IdRef::Str(id)) => {
                candidates.find(|&ordinal| ids.view().get(ordinal as usize) == id.as_bytes())
            }
            _ => None,
        };
        found.filter(|&ordinal| !self.tombstones.contains(ordinal))
    }

    /// The text of a document, if one was given.
    #[must_use]
    pub fn text(&self, ordinal: u32) -> Option<&str> {
        let (present, texts) = self.data.texts.as_ref()?;
        let bits = present.get(ordinal as usize / 8)?;
        let present = bits >> (ordinal % 8) & 1 == 1;
        if present { std::str::from_utf8(texts.view().get(ordinal as usize)).ok() } else { None }
    }

    /// The metadata of a document, a JSON object, if some was given.
    #[must_use]
    pub fn metadata(&self, ordinal: u32) -> Option<&str> {
        let json = self.data.metadata.as_ref()?.view().get(ordinal as usize);
        if json.is_empty() { None } else { std::str::from_utf8(json).ok() }
    }

    /// Deleted documents.
    #[must_use]
    pub fn tombstones(&self) -> &RoaringBitmap {
        &self.tombstones
    }

    /// Whether the encoder cut the text of a document: its token vectors do not stand for all of it.
    #[must_use]
    pub fn is_truncated(&self, ordinal: u32) -> bool {
        let at = ordinal as usize;
        ordinal < self.data.documents
            && self.data.truncated.as_ref().is_some_and(|truncated| truncated[at / 8] >> (at % 8) & 1 == 1)
    }

    /// How many documents that are not deleted have a text that their encoder cut.
    #[must_use]
    pub fn live_truncated(&self) -> u64 {
        if self.data.truncated.is_none() {
            return 0;
        }
        let living = (0..self.data.documents).filter(|&ordinal| !self.tombstones.contains(ordinal));
        living.filter(|&ordinal| self.is_truncated(ordinal)).count() as u64
    }

    /// Documents that the filter lets through and that are not deleted.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if the metadata of a document is not JSON.
    pub fn matching(&self, filter: &Filter) -> Result<RoaringBitmap> {
        Ok(filter.matching(std::slice::from_ref(self))?.pop().unwrap_or_default())
    }

    /// The values of one field of the metadata.
    pub(crate) fn column(&self, field: &str) -> Result<Arc<columns::Column>> {
        let column = self.data.columns.get(field, self.data.documents, |ordinal| self.metadata(ordinal));
        column.map_err(|problem| self.data.container.corrupt(SectionKind::Metadata.name(), problem))
    }

    /// Whether [`Self::text`] tells what is stored.
    pub(crate) fn has_valid_text(&self, ordinal: u32) -> bool {
        let texts = self.data.texts.as_ref();
        texts.is_none_or(|(_, texts)| std::str::from_utf8(texts.view().get(ordinal as usize)).is_ok())
    }

    /// Whether [`Self::metadata`] tells what is stored, and that is a JSON object.
    pub(crate) fn has_valid_metadata(&self, ordinal: u32) -> bool {
        let json = self.data.metadata.as_ref().map_or(&[][..], |metadata| metadata.view().get(ordinal as usize));
        json.is_empty() || serde_json::from_slice::<Map<String, Value>>(json).is_ok()
    }

    /// All documents, for a new segment; `dead` are those to leave out.
    pub(crate) fn source<'a>(&'a self, dead: &'a RoaringBitmap) -> Source<'a> {
        let data = &*self.data;
        Source {
            offsets: &data.offsets,
            codes: &data.codes,
            gains: &data.gains,
            centroids: &data.centroids,
            cell_offsets: &data.cell_offsets,
            cells: &data.cells,
            ids: match &data.ids {
                IdColumn::Int(ids) => Ids::Int(ids),
                IdColumn::Str(ids) => Ids::Str(ids.view()),
            },
            texts: data.texts.as_ref().map(|(present, texts)| (&**present, texts.view())),
            metadata: data.metadata.as_ref().map(StringColumn::view),
            truncated: data.truncated.as_deref(),
            dead,
        }
    }
}

impl SegmentData {
    fn open(storage: &dyn Storage, entry: &SegmentEntry, shape: Shape, id_kind: IdKind) -> Result<Self> {
        let container = Container::open_entry(storage, &entry.file, FileKind::Segment)?;
        let corrupt = |section: SectionKind, problem: &str| container.corrupt(section.name(), problem);
        let json = container.required::<u8>(SectionKind::SegmentParameters)?;
        let parameters: SegmentParameters = serde_json::from_slice(&json)
            .map_err(|error| corrupt(SectionKind::SegmentParameters, &error.to_string()))?;
        check_parameters(&parameters, entry, shape, id_kind)
            .map_err(|problem| corrupt(SectionKind::SegmentParameters, &problem))?;
        let SegmentParameters { documents, tokens, row_bytes, .. } = parameters;
        let count = documents as usize;

        let offsets = container.required::<u64>(SectionKind::DocumentOffsets)?;
        check_offsets(&offsets, count, tokens).map_err(|problem| corrupt(SectionKind::DocumentOffsets, &problem))?;
        let codes = container.required::<u8>(SectionKind::Codes)?;
        if Some(codes.len() as u64) != tokens.checked_mul(row_bytes as u64) {
            return Err(corrupt(SectionKind::Codes, "its length is not that of the segment's tokens"));
        }
        let gains = container.required::<u16>(SectionKind::Gains)?;
        if gains.len() as u64 != tokens || !are_finite(&gains) {
            return Err(corrupt(
                SectionKind::Gains,
                "its length is not that of the segment's tokens, or one is not finite",
            ));
        }
        let mut data = Self {
            documents,
            tokens,
            row_bytes,
            offsets,
            codes,
            gains,
            centroids: Column::default(),
            cell_offsets: Column::default(),
            cells: Column::default(),
            postings: Postings::default(),
            ids: open_ids(&container, id_kind, count)?,
            id_table: container.required(SectionKind::IdTable)?,
            texts: open_texts(&container, count)?,
            metadata: StringColumn::open(&container, SectionKind::MetadataOffsets, SectionKind::Metadata, count)?,
            truncated: open_truncated(&container, count)?,
            columns: Columns::default(),
            container: container.clone(),
        };
        id_table::check(&data.id_table, count).map_err(|problem| corrupt(SectionKind::IdTable, &problem))?;
        if shape.residual {
            data.open_cells(parameters.centroids)?;
        }
        Ok(data)
    }

    fn open_cells(&mut self, centroid_count: usize) -> Result<()> {
        let container = &self.container;
        let below = |ids: &[u16]| ids.iter().max().is_none_or(|&largest| usize::from(largest) < centroid_count);
        let corrupt = |section: SectionKind, problem: &str| container.corrupt(section.name(), problem);
        self.centroids = container.required(SectionKind::TokenCentroids)?;
        if self.centroids.len() as u64 != self.tokens || !below(&self.centroids) {
            let problem = "its length is not that of the segment's tokens, or the codec has fewer centroids";
            return Err(corrupt(SectionKind::TokenCentroids, problem));
        }
        self.cells = container.required(SectionKind::Cells)?;
        if self.cells.len() > self.centroids.len() || !below(&self.cells) {
            return Err(corrupt(SectionKind::Cells, "there are more than tokens, or the codec has fewer centroids"));
        }
        self.cell_offsets = container.required(SectionKind::CellOffsets)?;
        check_offsets(&self.cell_offsets, self.documents as usize, self.cells.len() as u64)
            .map_err(|problem| corrupt(SectionKind::CellOffsets, &problem))?;
        self.postings = Postings::open(container, self.documents, centroid_count)?;
        Ok(())
    }
}

/// Whether every gain, a bfloat16, is a number: its exponent is not the largest.
pub(super) fn are_finite(gains: &[u16]) -> bool {
    const EXPONENT: u16 = 0x7f80;
    gains.iter().map(|gain| gain & EXPONENT).max() != Some(EXPONENT)
}

fn check_parameters(
    parameters: &SegmentParameters,
    entry: &SegmentEntry,
    shape: Shape,
    id_kind: IdKind,
) -> std::result::Result<(), String> {
    let SegmentParameters { documents, tokens, row_bytes, centroids, ids } = *parameters;
    if (documents, tokens) != (entry.documents, entry.tokens) {
        return Err("it counts other documents or tokens than the manifest".to_owned());
    }
    if documents == u32::MAX || tokens > u64::from(u32::MAX) {
        return Err(format!("{documents} documents or {tokens} tokens are too many"));
    }
    if ids != id_kind {
        return Err(format!("its ids are {}, those of the index {}", ids.name(), id_kind.name()));
    }
    // A segment without a single token may be older than the codec.
    if tokens > 0 && (row_bytes, centroids) != (shape.row_bytes, shape.centroid_count) {
        return Err("it was encoded with another codec".to_owned());
    }
    if centroids > MAX_CENTROIDS {
        return Err(format!("{centroids} centroids are too many"));
    }
    Ok(())
}

fn open_ids(container: &Container, kind: IdKind, documents: usize) -> Result<IdColumn> {
    if kind == IdKind::Int {
        let ids = container.required::<i64>(SectionKind::IntegerIds)?;
        if ids.len() != documents {
            return Err(container.corrupt(SectionKind::IntegerIds.name(), "its length is not that of the documents"));
        }
        return Ok(IdColumn::Int(ids));
    }
    let ids = StringColumn::open(container, SectionKind::StringIdOffsets, SectionKind::StringIds, documents)?;
    let ids = ids.ok_or_else(|| container.corrupt(SectionKind::StringIdOffsets.name(), "the section is missing"))?;
    if (0..documents).any(|document| std::str::from_utf8(ids.view().get(document)).is_err()) {
        return Err(container.corrupt(SectionKind::StringIds.name(), "an id is not UTF-8"));
    }
    Ok(IdColumn::Str(ids))
}

fn open_truncated(container: &Container, documents: usize) -> Result<Option<Column<u8>>> {
    let section = SectionKind::TextTruncated;
    let truncated = container.optional::<u8>(section)?;
    if truncated.as_ref().is_some_and(|truncated| truncated.len() != documents.div_ceil(8)) {
        return Err(container.corrupt(section.name(), "its length is not that of the documents"));
    }
    Ok(truncated)
}

fn open_texts(container: &Container, documents: usize) -> Result<Option<(Column<u8>, StringColumn)>> {
    let Some(texts) = StringColumn::open(container, SectionKind::TextOffsets, SectionKind::Texts, documents)? else {
        return Ok(None);
    };
    let present = container.required::<u8>(SectionKind::TextPresent)?;
    if present.len() != documents.div_ceil(8) {
        let problem = "its length is not that of the documents";
        return Err(container.corrupt(SectionKind::TextPresent.name(), problem));
    }
    Ok(Some((present, texts)))
}
