//! Documents from memory or from older segments → one segment file.

use std::ops::Range;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::id_table;
use super::postings::PostingData;
use super::strings::Strings;
use crate::codec::{Codec, CodecKind, CodecOptions};
use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{SectionData, SegmentEntry, write_container};
use crate::ids::IdKind;
use crate::parallel::Execution;
use crate::storage::{Storage, bytes_of};

/// Documents whose cells are inverted between two looks at whether to stop.
const STEP_DOCUMENTS: usize = 1 << 14;

/// What the codec says of a segment's sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of a token's codes; 0 before there is a codec.
    pub(crate) row_bytes: usize,
    /// Number of centroids; 0 before there is a codec.
    pub(crate) centroid_count: usize,
    /// Whether tokens have centroids at all.
    pub(crate) residual: bool,
}

impl Shape {
    pub(crate) fn new(options: &CodecOptions, codec: Option<&Codec>) -> Self {
        Self {
            row_bytes: codec.map_or(0, Codec::row_bytes),
            centroid_count: codec.map_or(0, Codec::centroid_count),
            residual: codec.map_or(options.kind, |codec| codec.parameters().kind) == CodecKind::Residual,
        }
    }
}

/// The counts that a segment states of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentParameters {
    pub(crate) documents: u32,
    pub(crate) tokens: u64,
    pub(crate) row_bytes: usize,
    pub(crate) centroids: usize,
    pub(crate) ids: IdKind,
}

/// Ids of documents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ids<'a> {
    Int(&'a [i64]),
    Str(Strings<'a>),
}

/// Documents of which the living ones go into a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// First token of each document, `[documents + 1]`.
    pub(crate) offsets: &'a [u64],
    pub(crate) codes: &'a [u8],
    pub(crate) gains: &'a [u16],
    /// Empty for the flat codec, as are the cells.
    pub(crate) centroids: &'a [u16],
    pub(crate) cell_offsets: &'a [u32],
    pub(crate) cells: &'a [u16],
    pub(crate) ids: Ids<'a>,
    /// A bit for each document that has a text, and the texts.
    pub(crate) texts: Option<(&'a [u8], Strings<'a>)>,
    pub(crate) metadata: Option<Strings<'a>>,
    /// A bit for each document whose text its encoder cut.
    pub(crate) truncated: Option<&'a [u8]>,
    pub(crate) dead: &'a RoaringBitmap,
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

/// Arrays of several documents laid behind each other: where each document begins, and the pieces.
struct Joined<'a> {
    offsets: Vec<u64>,
    pieces: Vec<&'a [u8]>,
}

impl<'a> Joined<'a> {
    fn new() -> Self {
        Self { offsets: vec![0], pieces: Vec::new() }
    }

    /// Appends the strings of `run`; `None` if their offsets lead out of them.
    fn extend(&mut self, strings: Strings<'a>, run: &Range<usize>) -> Option<()> {
        let bytes = append_ends(&mut self.offsets, &strings.offsets[run.start..=run.end])?;
        self.pieces.push(strings.bytes.get(bytes)?);
        Some(())
    }

    /// Appends empty strings.
    fn skip(&mut self, documents: usize) {
        let end = self.end();
        self.offsets.resize(self.offsets.len() + documents, end);
    }

    fn end(&self) -> u64 {
        self.offsets.last().copied().unwrap_or_default()
    }

    fn push_sections(&'a self, offsets: SectionKind, bytes: SectionKind, sections: &mut Vec<SectionData<'a>>) {
        sections.push(SectionData::new(offsets, bytes_of(&self.offsets)));
        sections.push(SectionData { kind: bytes, pieces: self.pieces.clone() });
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
    integers: Vec<&'a [i64]>,
    strings: Joined<'a>,
    present: Vec<u8>,
    texts: Joined<'a>,
    metadata: Joined<'a>,
    truncated: Vec<u8>,
}

impl<'a> Assembly<'a> {
    /// `None` if what a source holds leads out of it.
    fn new(sources: &[Source<'a>], row_bytes: usize) -> Option<Self> {
        let mut assembly = Self {
            documents: 0,
            offsets: vec![0],
            codes: Vec::new(),
            gains: Vec::new(),
            centroids: Vec::new(),
            cell_offsets: vec![0],
            cells: Vec::new(),
            integers: Vec::new(),
            strings: Joined::new(),
            present: Vec::new(),
            texts: Joined::new(),
            metadata: Joined::new(),
            truncated: Vec::new(),
        };
        for source in sources {
            for run in source.runs() {
                assembly.extend(source, &run, row_bytes)?;
            }
        }
        Some(assembly)
    }

    /// Appends the documents of `run`; `None` if what the source holds leads out of it.
    fn extend(&mut self, source: &Source<'a>, run: &Range<usize>, row_bytes: usize) -> Option<()> {
        let tokens = append_ends(&mut self.offsets, &source.offsets[run.start..=run.end])?;
        let bytes = tokens.start.checked_mul(row_bytes)?..tokens.end.checked_mul(row_bytes)?;
        self.codes.push(source.codes.get(bytes)?);
        self.gains.push(source.gains.get(tokens.clone())?);
        if !source.cell_offsets.is_empty() {
            self.centroids.push(source.centroids.get(tokens)?);
            let cells = append_ends(&mut self.cell_offsets, &source.cell_offsets[run.start..=run.end])?;
            self.cells.push(source.cells.get(cells)?);
        }
        match source.ids {
            Ids::Int(ids) => self.integers.push(&ids[run.clone()]),
            Ids::Str(ids) => self.strings.extend(ids, run)?,
        }
        match source.metadata {
            Some(metadata) => self.metadata.extend(metadata, run)?,
            None => self.metadata.skip(run.len()),
        }
        match source.texts {
            Some((_, texts)) => self.texts.extend(texts, run)?,
            None => self.texts.skip(run.len()),
        }
        copy_bits(&mut self.present, self.documents, source.texts.map(|(present, _)| present), run);
        copy_bits(&mut self.truncated, self.documents, source.truncated, run);
        self.documents += run.len();
        Some(())
    }

    fn tokens(&self) -> u64 {
        self.offsets.last().copied().unwrap_or_default()
    }

    fn id_table(&self, kind: IdKind) -> Vec<u32> {
        match kind {
            IdKind::Int => {
                let ids = self.integers.iter().copied().flatten();
                id_table::build(self.documents, ids.map(|&id| id_table::hash_integer(id)))
            }
            IdKind::Str => {
                let bytes = self.strings.pieces.concat();
                let ids = Strings { offsets: &self.strings.offsets, bytes: &bytes };
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
    id_kind: IdKind,
    sources: &[Source<'_>],
    execution: &Execution,
) -> Result<SegmentEntry> {
    let assembly = Assembly::new(sources, shape.row_bytes).ok_or_else(|| {
        Error::corrupt(storage.path(name), "header", "a file that it was to be made from was written over meanwhile")
    })?;
    let parameters = SegmentParameters {
        documents: assembly.documents as u32,
        tokens: assembly.tokens(),
        row_bytes: shape.row_bytes,
        centroids: shape.centroid_count,
        ids: id_kind,
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
    match id_kind {
        IdKind::Int => sections.push(pieces(SectionKind::IntegerIds, &assembly.integers)),
        IdKind::Str => {
            assembly.strings.push_sections(SectionKind::StringIdOffsets, SectionKind::StringIds, &mut sections);
        }
    }
    sections.push(SectionData::new(SectionKind::IdTable, bytes_of(&table)));
    if shape.residual {
        sections.push(SectionData::new(SectionKind::Postings, &postings.bytes));
    }
    sections.push(SectionData { kind: SectionKind::Codes, pieces: assembly.codes.clone() });
    if assembly.present.iter().any(|&bits| bits != 0) {
        sections.push(SectionData::new(SectionKind::TextPresent, &assembly.present));
        assembly.texts.push_sections(SectionKind::TextOffsets, SectionKind::Texts, &mut sections);
    }
    if assembly.metadata.end() > 0 {
        assembly.metadata.push_sections(SectionKind::MetadataOffsets, SectionKind::Metadata, &mut sections);
    }
    if assembly.truncated.iter().any(|&bits| bits != 0) {
        sections.push(SectionData::new(SectionKind::TextTruncated, &assembly.truncated));
    }
    let file = write_container(storage, name, FileKind::Segment, &sections, execution)?;
    Ok(SegmentEntry { file, documents: parameters.documents, tokens: parameters.tokens, tombstones: None })
}

/// Appends where each document of a run ends, and gives the range of what they are the ends of; `None` if they do not rise:
/// somebody wrote over them, under the map.
fn append_ends<T: Copy + Into<u64> + TryFrom<u64>>(to: &mut Vec<T>, run: &[T]) -> Option<Range<usize>> {
    let (base, first) = ((*to.last()?).into(), (*run.first()?).into());
    let mut last = first;
    for &end in &run[1..] {
        let end = end.into();
        if end < last {
            return None;
        }
        last = end;
        to.push(T::try_from(base.checked_add(end - first)?).ok()?);
    }
    Some(first as usize..last as usize)
}

/// Appends the bits of `run` to the `count` that are in `to`; zeros where there are none.
fn copy_bits(to: &mut Vec<u8>, count: usize, from: Option<&[u8]>, run: &Range<usize>) {
    to.resize((count + run.len()).div_ceil(8), 0);
    for (at, bit) in (count..).zip(run.clone()) {
        to[at / 8] |= from.map_or(0, |from| from[bit / 8] >> (bit % 8) & 1) << (at % 8);
    }
}

fn pieces<'a, T: crate::storage::Plain>(kind: SectionKind, arrays: &[&'a [T]]) -> SectionData<'a> {
    SectionData { kind, pieces: arrays.iter().map(|array| bytes_of(array)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_were_written_over_are_noticed() {
        let mut ends = vec![0_u32, 7];
        assert_eq!(append_ends(&mut ends, &[3, 3, 5]), Some(3..5));
        assert_eq!(ends, [0, 7, 7, 9]);
        assert_eq!(append_ends(&mut ends, &[3, 5, 4]), None);
        assert_eq!(append_ends(&mut ends, &[0, u32::MAX]), None);
    }
}
