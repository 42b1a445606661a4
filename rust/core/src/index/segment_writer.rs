//! Documents from memory or from older segments → one segment file.

use std::collections::BTreeMap;
use std::ops::Range;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::columns::{Column, Joined, Views};
use super::id_table;
use super::postings::PostingData;
use super::strings::{Strings, append_ends};
use crate::codec::{Codec, CodecKind, EncodedFdes, EncodedTokens, Fde, mean_square_gain};
use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{KeptVectors, Manifest, SectionData, SegmentEntry, write_container};
use crate::ids::IdKind;
use crate::parallel::Execution;
use crate::storage::{Storage, bytes_of};

/// Documents whose cells are inverted between two looks at whether to stop.
const STEP_DOCUMENTS: usize = 1 << 14;

/// What the manifest and the codec say of a segment's sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of a token's codes; 0 before there is a codec.
    pub(crate) row_bytes: usize,
    /// Number of centroids; 0 before there is a codec.
    pub(crate) centroid_count: usize,
    /// Whether tokens have centroids at all.
    pub(crate) residual: bool,
    /// Components of a kept vector; 0 where none are kept.
    pub(crate) kept_dim: usize,
    /// Bytes of a document's fixed dimensional encoding; 0 without.
    pub(crate) fde_bytes: usize,
}

impl Shape {
    pub(crate) fn new(manifest: &Manifest, codec: Option<&Codec>) -> Self {
        let options = &manifest.codec_options;
        Self {
            row_bytes: codec.map_or(0, Codec::row_bytes),
            centroid_count: codec.map_or(0, Codec::centroid_count),
            residual: codec.map_or(options.kind, |codec| codec.parameters().kind) == CodecKind::Residual,
            kept_dim: manifest.keep_vectors.map_or(0, |KeptVectors::Float16| manifest.dim),
            fde_bytes: codec.and_then(Codec::fde).map_or(0, Fde::width),
        }
    }

    /// Whether what was encoded with a codec of another shape can be read with this one: a codec that grew keeps the centroids
    /// that it had.
    pub(crate) fn reads(self, other: Self) -> bool {
        (self.row_bytes, self.residual) == (other.row_bytes, other.residual)
            && other.centroid_count <= self.centroid_count
    }
}

/// What a segment states of itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentParameters {
    pub(crate) documents: u32,
    pub(crate) tokens: u64,
    pub(crate) row_bytes: usize,
    /// Of the codec, when the segment was written.
    pub(crate) centroids: usize,
    pub(crate) ids: IdKind,
    /// Of all its tokens, those of documents included that are deleted later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mean_square_gain: Option<f64>,
}

/// Documents of which the living ones go into a segment.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    /// First token of each document, `[documents + 1]`.
    pub(crate) offsets: &'a [u64],
    pub(crate) codes: &'a [u8],
    pub(crate) gains: &'a [u16],
    /// Empty for the flat codec, as are the cells.
    pub(crate) centroids: &'a [u16],
    pub(crate) cell_offsets: &'a [u32],
    pub(crate) cells: &'a [u16],
    /// Bits of float16, `[tokens, dim]`; empty where none are kept.
    pub(crate) vectors: &'a [u16],
    /// Rows and units of the fixed dimensional encodings, where the documents have them already.
    pub(crate) fdes: Option<(&'a [i8], &'a [f32])>,
    pub(crate) columns: Views<'a>,
    /// Metadata that stand in the place of those in the columns, by ordinal.
    pub(crate) metadata: BTreeMap<u32, &'a [u8]>,
    pub(crate) dead: &'a RoaringBitmap,
}

/// Codes of all documents of a segment under another codec than that of its file, with their cells.
#[derive(Debug)]
pub(crate) struct Recoded {
    tokens: EncodedTokens,
    cell_offsets: Vec<u32>,
    cells: Vec<u16>,
}

impl Recoded {
    /// `offsets` are those of the documents, `[documents + 1]`.
    pub(crate) fn new(tokens: EncodedTokens, offsets: &[u64]) -> Self {
        let (mut cell_offsets, mut cells) = (vec![0], Vec::new());
        append_cells(offsets, &tokens.centroids, &mut cell_offsets, &mut cells);
        Self { tokens, cell_offsets, cells }
    }

    /// The same documents with these codes.
    pub(crate) fn source<'a>(&'a self, documents: Source<'a>) -> Source<'a> {
        Source {
            codes: &self.tokens.codes,
            gains: &self.tokens.gains,
            centroids: &self.tokens.centroids,
            cell_offsets: &self.cell_offsets,
            cells: &self.cells,
            ..documents
        }
    }
}

/// Appends the distinct centroids of documents, ascending, and where those of each end. `offsets` are where the tokens of each
/// document begin, from any number on.
pub(super) fn append_cells(offsets: &[u64], centroids: &[u16], cell_offsets: &mut Vec<u32>, cells: &mut Vec<u16>) {
    let mut distinct: Vec<u16> = Vec::new();
    let first = offsets.first().copied().unwrap_or_default();
    for ends in offsets.windows(2) {
        // The flat codec has no centroids, and so no cells.
        let tokens = (ends[0] - first) as usize..(ends[1] - first) as usize;
        distinct.clear();
        distinct.extend_from_slice(centroids.get(tokens).unwrap_or_default());
        distinct.sort_unstable();
        distinct.dedup();
        cells.extend_from_slice(&distinct);
        cell_offsets.push(cells.len() as u32);
    }
}

impl Source<'_> {
    fn documents(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Longest ranges of documents that are not deleted.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let end = self.documents();
        let mut next = 0;
        let dead = self.dead.iter().map(|dead| dead as usize).chain([end]);
        dead.filter_map(move |dead| {
            let run = next..dead;
            next = dead + 1;
            (!run.is_empty()).then_some(run)
        })
    }
}

/// Everything of a segment that is not a plain copy of its sources.
struct Assembly<'a> {
    documents: usize,
    offsets: Vec<u64>,
    codes: Vec<&'a [u8]>,
    gains: Vec<&'a [u16]>,
    centroids: Vec<&'a [u16]>,
    cell_offsets: Vec<u32>,
    cells: Vec<&'a [u16]>,
    vectors: Vec<&'a [u16]>,
    fdes: Vec<&'a [i8]>,
    fde_units: Vec<&'a [f32]>,
    columns: Joined<'a>,
}

impl<'a> Assembly<'a> {
    /// `None` if what a source holds leads out of it.
    fn new(sources: &[Source<'a>], shape: Shape) -> Option<Self> {
        let mut assembly = Self {
            documents: 0,
            offsets: vec![0],
            codes: Vec::new(),
            gains: Vec::new(),
            centroids: Vec::new(),
            cell_offsets: vec![0],
            cells: Vec::new(),
            vectors: Vec::new(),
            fdes: Vec::new(),
            fde_units: Vec::new(),
            columns: Joined::default(),
        };
        for source in sources {
            for run in source.runs() {
                assembly.extend(source, &run, shape)?;
            }
        }
        Some(assembly)
    }

    /// Appends the documents of `run`; `None` if what the source holds leads out of it.
    fn extend(&mut self, source: &Source<'a>, run: &Range<usize>, shape: Shape) -> Option<()> {
        let tokens = append_ends(&mut self.offsets, &source.offsets[run.start..=run.end])?;
        let rows = |width: usize| Some(tokens.start.checked_mul(width)?..tokens.end.checked_mul(width)?);
        self.codes.push(source.codes.get(rows(shape.row_bytes)?)?);
        self.vectors.push(source.vectors.get(rows(shape.kept_dim)?)?);
        self.gains.push(source.gains.get(tokens.clone())?);
        if !source.cell_offsets.is_empty() {
            self.centroids.push(source.centroids.get(tokens)?);
            let cells = append_ends(&mut self.cell_offsets, &source.cell_offsets[run.start..=run.end])?;
            self.cells.push(source.cells.get(cells)?);
        }
        if let Some((rows, units)) = source.fdes {
            self.fdes.push(rows.get(run.start.checked_mul(shape.fde_bytes)?..run.end.checked_mul(shape.fde_bytes)?)?);
            self.fde_units.push(units.get(run.clone())?);
        }
        self.columns.extend(&source.columns, run, &source.metadata)?;
        self.documents += run.len();
        Some(())
    }

    fn tokens(&self) -> u64 {
        self.offsets.last().copied().unwrap_or_default()
    }

    fn id_table(&self, kind: IdKind) -> Vec<u32> {
        match kind {
            IdKind::Int => {
                let ids = self.columns.integers(Column::of_ids(kind));
                id_table::build(self.documents, ids.map(id_table::hash_integer))
            }
            IdKind::Str => {
                let (offsets, bytes) = self.columns.strings(Column::of_ids(kind));
                let ids = Strings { offsets, bytes: &bytes };
                let hashes = (0..self.documents).map(|document| crate::format::checksum(ids.get(document)));
                id_table::build(self.documents, hashes)
            }
        }
    }

    fn postings(&self, centroid_count: usize, execution: &Execution) -> Result<PostingData> {
        PostingData::build(centroid_count, |tell| {
            let mut cells = self.cells.iter().copied().flatten();
            for (document, ends) in self.cell_offsets.windows(2).enumerate() {
                if document % STEP_DOCUMENTS == 0 {
                    execution.check()?;
                }
                let count = (ends[1] - ends[0]) as usize;
                cells.by_ref().take(count).for_each(|&cell| tell(document as u32, cell));
            }
            Ok(())
        })
    }
}

/// The encodings of the documents of each source that has none yet.
fn missing_fdes(
    sources: &[Source<'_>],
    codec: Option<&Codec>,
    execution: &Execution,
) -> Result<Vec<Option<EncodedFdes>>> {
    let encode = |source: &Source<'_>| match codec.filter(|_| source.fdes.is_none()) {
        Some(codec) => codec.encode_fdes((source.codes, source.gains, source.centroids), source.offsets, execution),
        None => Ok(None),
    };
    sources.iter().map(encode).collect()
}

/// Writes the living documents of `sources`, in their order, as the segment `name`.
///
/// The caller has made sure that their ids are distinct, that documents and tokens number less than 2³², and that
/// offsets, cells and centroids are sound, as those of an open segment are.
///
/// # Errors
/// [`Error::Io`], [`Error::Interrupted`]; part of the file may be left. [`Error::Corrupt`] if the sources changed since they
/// were opened.
pub(crate) fn write_segment(
    storage: &dyn Storage,
    name: &str,
    shape: Shape,
    codec: Option<&Codec>,
    id_kind: IdKind,
    sources: &[Source<'_>],
    execution: &Execution,
) -> Result<SegmentEntry> {
    let fdes = missing_fdes(sources, codec, execution)?;
    let mut sources = sources.to_vec();
    for (source, own) in sources.iter_mut().zip(&fdes) {
        source.fdes = source.fdes.or(own.as_ref().map(|own| (&*own.rows, &*own.units)));
    }
    let assembly = Assembly::new(&sources, shape).ok_or_else(|| {
        Error::corrupt(storage.path(name), "header", "a file that it was to be made from was written over meanwhile")
    })?;
    let parameters = SegmentParameters {
        documents: assembly.documents as u32,
        tokens: assembly.tokens(),
        row_bytes: shape.row_bytes,
        centroids: shape.centroid_count,
        ids: id_kind,
        mean_square_gain: mean_square_gain(assembly.gains.iter().copied().flatten()),
    };
    let json = serde_json::to_vec(&parameters).map_err(|error| Error::invalid(error.to_string()))?;
    let table = assembly.id_table(id_kind);
    let postings =
        if shape.residual { assembly.postings(shape.centroid_count, execution)? } else { PostingData::default() };

    // What every opening reads stands first, in one stretch of the file.
    let mut sections = vec![
        SectionData::new(SectionKind::SegmentParameters, &json),
        SectionData::new(SectionKind::DocumentOffsets, bytes_of(&assembly.offsets)),
        pieces(SectionKind::Gains, &assembly.gains),
    ];
    if shape.residual {
        sections.push(pieces(SectionKind::TokenCentroids, &assembly.centroids));
        sections.push(SectionData::new(SectionKind::CellOffsets, bytes_of(&assembly.cell_offsets)));
        sections.push(pieces(SectionKind::Cells, &assembly.cells));
        sections.push(SectionData::new(SectionKind::PostingCentroids, bytes_of(&postings.centroids)));
        sections.push(SectionData::new(SectionKind::PostingLengths, bytes_of(&postings.lengths)));
        sections.push(SectionData::new(SectionKind::PostingOffsets, bytes_of(&postings.offsets)));
    }
    let ids = Column::of_ids(id_kind);
    sections.extend(assembly.columns.sections(ids, true));
    sections.push(SectionData::new(SectionKind::IdTable, bytes_of(&table)));
    if shape.residual {
        sections.push(SectionData::new(SectionKind::Postings, &postings.bytes));
    }
    sections.push(SectionData { kind: SectionKind::Codes, pieces: assembly.codes.clone() });
    if shape.fde_bytes > 0 {
        sections.push(pieces(SectionKind::Fdes, &assembly.fdes));
        sections.push(pieces(SectionKind::FdeUnits, &assembly.fde_units));
    }
    for column in Column::ALL.into_iter().filter(|&column| column != ids) {
        sections.extend(assembly.columns.sections(column, false));
    }
    if shape.kept_dim > 0 {
        sections.push(pieces(SectionKind::Vectors, &assembly.vectors));
    }
    let file = write_container(storage, name, FileKind::Segment, &sections, execution)?;
    Ok(SegmentEntry {
        file,
        documents: parameters.documents,
        tokens: parameters.tokens,
        tombstones: None,
        metadata: Vec::new(),
    })
}

fn pieces<'a, T: crate::storage::Plain>(kind: SectionKind, arrays: &[&'a [T]]) -> SectionData<'a> {
    SectionData { kind, pieces: arrays.iter().map(|array| bytes_of(array)).collect() }
}
