//! Everything that can be wrong with an index, found by reading all of it.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use super::generations::{generations, newest};
use super::metadata::Layer;
use super::segment::Segment;
use super::segment_writer::Shape;
use super::{codec_file, tombstones};
use crate::codec::mean_square_gain;
use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{Container, DocumentsEntry, FileEntry, Manifest, SegmentEntry, names};
use crate::ids::IdKind;
use crate::parallel::Execution;
use crate::storage::Storage;

/// Documents looked at between two looks at whether to stop.
const STEP_DOCUMENTS: u32 = 256;

/// Reads every file of every generation that has a manifest; what is wrong with them, each problem once.
///
/// A commit that ends meanwhile takes older generations away: what is missing of those is no damage.
pub(crate) fn check(storage: &dyn Storage, execution: &Execution) -> Result<Vec<String>> {
    let mut checker = Checker { storage, execution, read: BTreeMap::new() };
    let mut problems: Vec<String> = Vec::new();
    let mut add = |problem: String| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    if let Err(error) = newest(storage) {
        // A folder without an index has nothing to be checked.
        if matches!(error, Error::NotAnIndex { .. }) {
            return Err(error);
        }
        add(broken(error)?.to_string());
    }
    for generation in generations(storage)? {
        let found = checker.generation(generation)?;
        if !found.is_empty() && generations(storage)?.contains(&generation) {
            found.into_iter().for_each(&mut add);
        }
    }
    Ok(problems)
}

/// An error that tells of damage; any other is one of reading.
fn broken(error: Error) -> Result<Error> {
    match error {
        Error::Interrupted => Err(error),
        Error::Io { ref source, .. } if source.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(error),
    }
}

struct Checker<'a> {
    storage: &'a dyn Storage,
    execution: &'a Execution,
    /// What is wrong with the files that were read already, for a newer generation.
    read: BTreeMap<String, Vec<String>>,
}

impl Checker<'_> {
    /// What is wrong with the files of one generation.
    fn generation(&mut self, generation: u64) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let manifest = match Manifest::read(self.storage, generation) {
            Ok(stored) => stored.manifest,
            Err(error) => return Ok(vec![broken(error)?.to_string()]),
        };
        match Container::open(self.storage, &names::manifest(generation), FileKind::Manifest, self.execution) {
            Ok(container) => found.extend(container.problems(self.execution)?.iter().map(Error::to_string)),
            Err(error) => found.push(broken(error)?.to_string()),
        }
        let codec = match codec_file::open(self.storage, &manifest, self.execution) {
            Ok(codec) => codec,
            Err(error) => return Ok(vec![broken(error)?.to_string()]),
        };
        if let Some(entry) = &manifest.codec {
            found.extend(self.container(entry, FileKind::Codec)?);
        }
        let shape = Shape::new(&manifest, codec.as_ref());
        let id_kind = manifest.id_kind.unwrap_or(IdKind::Int);
        for entry in &manifest.segments {
            if let Some(tombstones) = &entry.tombstones {
                found.extend(self.container(&tombstones.file, FileKind::Tombstones)?);
            }
            if let Err(error) = tombstones::open(self.storage, entry, self.execution) {
                found.push(broken(error)?.to_string());
            }
            for metadata in &entry.metadata {
                found.extend(self.layer(metadata, entry.documents)?);
            }
            found.extend(self.segment(entry, shape, id_kind)?);
        }
        Ok(found)
    }

    fn container(&mut self, entry: &FileEntry, kind: FileKind) -> Result<Vec<String>> {
        self.once(entry, |checker| {
            let container = Container::open_entry(checker.storage, entry, kind, checker.execution)?;
            container.problems(checker.execution)
        })
    }

    fn layer(&mut self, entry: &DocumentsEntry, documents: u32) -> Result<Vec<String>> {
        self.once(&entry.file, |checker| {
            let layer = Layer::open(checker.storage, entry, documents, checker.execution)?;
            layer.problems(checker.execution)
        })
    }

    fn segment(&mut self, entry: &SegmentEntry, shape: Shape, id_kind: IdKind) -> Result<Vec<String>> {
        self.once(&entry.file, |checker| {
            let file = SegmentEntry { tombstones: None, metadata: Vec::new(), ..entry.clone() };
            let segment = Segment::open(checker.storage, &file, shape, id_kind, checker.execution)?;
            segment_problems(&segment, checker.execution)
        })
    }

    fn once(&mut self, entry: &FileEntry, look: impl FnOnce(&Self) -> Result<Vec<Error>>) -> Result<Vec<String>> {
        if let Some(known) = self.read.get(&entry.name) {
            return Ok(known.clone());
        }
        let found = match look(self) {
            Ok(problems) => problems,
            Err(error) => vec![broken(error)?],
        };
        let found: Vec<String> = found.iter().map(Error::to_string).collect();
        self.read.insert(entry.name.clone(), found.clone());
        Ok(found)
    }
}

/// Everything that is wrong with a segment and its layers: what the checksums tell, and, if they are right, whether its sections agree
/// with each other, as those of a file that somebody else made may not.
pub(super) fn segment_problems(segment: &Segment, execution: &Execution) -> Result<Vec<Error>> {
    let mut problems = segment.container().problems(execution)?;
    for layer in segment.layers() {
        problems.extend(layer.problems(execution)?);
    }
    if problems.is_empty() {
        // Deleted documents are in the file like all others.
        match check_sections(&segment.without_tombstones(), execution, &mut problems) {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            result => problems.extend(result.err()),
        }
    }
    Ok(problems)
}

fn check_sections(segment: &Segment, execution: &Execution, problems: &mut Vec<Error>) -> Result<()> {
    let corrupt = |section: SectionKind, problem: String| segment.container().corrupt(section.name(), problem);
    let (cells, offsets) = (segment.cells()?, segment.cell_offsets());
    let mut distinct = Vec::new();
    for ordinal in 0..segment.documents() {
        if ordinal % STEP_DOCUMENTS == 0 {
            execution.check()?;
        }
        if segment.find(&segment.id(ordinal)) != Some(ordinal) {
            problems.push(corrupt(SectionKind::IdTable, format!("document {ordinal} is not found by its id")));
        }
        problems.extend(segment.check_columns(ordinal).err());
        // Gains, codes, vectors and encodings are read too, and what must hold of their numbers is checked on the way.
        let document = segment.document(ordinal)?;
        segment.vectors(ordinal)?;
        segment.fdes(ordinal..ordinal + 1)?;
        let Some(ends) = offsets.get(ordinal as usize..ordinal as usize + 2) else { continue };
        distinct.clear();
        distinct.extend_from_slice(document.centroids);
        distinct.sort_unstable();
        distinct.dedup();
        if cells.get(ends[0] as usize..ends[1] as usize) != Some(&distinct) {
            let problem = format!("those of document {ordinal} are not the centroids of its tokens");
            problems.push(corrupt(SectionKind::Cells, problem));
        }
    }
    check_gains(segment)?;
    check_postings(segment, execution)
}

/// What a segment states of its gains is so, up to the last digits of the number in its JSON.
fn check_gains(segment: &Segment) -> Result<()> {
    let gains = |ordinal| segment.document(ordinal).map(|document| document.gains);
    let gains = (0..segment.documents()).map(gains).collect::<Result<Vec<_>>>()?;
    let stated = segment.mean_square_gain();
    let found = mean_square_gain(gains.into_iter().flatten());
    match stated.zip(found) {
        Some((stated, found)) if (stated - found).abs() > found.abs() * 1e-9 => {
            let problem = format!("the mean of the squared gains is {found}, and not {stated}");
            Err(segment.container().corrupt(SectionKind::SegmentParameters.name(), problem))
        }
        _ => Ok(()),
    }
}

/// Every cell stands in the list of its centroid, and nothing else does.
fn check_postings(segment: &Segment, execution: &Execution) -> Result<()> {
    let corrupt = |problem: String| segment.container().corrupt(SectionKind::Postings.name(), problem);
    let (cells, offsets) = (segment.cells()?, segment.cell_offsets());
    let mut listed = 0;
    let mut list = Vec::new();
    for &centroid in segment.listed_centroids() {
        execution.check()?;
        list.clear();
        segment.postings(centroid, &mut list)?;
        listed += list.len();
        for &ordinal in &list {
            let ends = offsets.get(ordinal as usize..ordinal as usize + 2);
            let own = ends.and_then(|ends| cells.get(ends[0] as usize..ends[1] as usize)).unwrap_or_default();
            if own.binary_search(&centroid).is_err() {
                return Err(corrupt(format!("document {ordinal} stands in list {centroid} without a token there")));
            }
        }
    }
    if listed != cells.len() {
        return Err(corrupt(format!("the lists have {listed} entries, the documents {} cells", cells.len())));
    }
    Ok(())
}
