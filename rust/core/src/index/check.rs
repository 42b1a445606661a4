//! Everything that can be wrong with an index, found by reading all of it.

use std::collections::BTreeSet;

use super::segment::Segment;
use super::segment_writer::Shape;
use super::snapshot::generations;
use super::{codec_file, tombstones};
use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{Container, Manifest};
use crate::ids::IdKind;
use crate::storage::Storage;

/// Reads every file of every generation that has a manifest; what is wrong with them, each problem once.
pub(crate) fn check(storage: &dyn Storage) -> Result<Vec<String>> {
    let mut problems = Problems::default();
    let generations = generations(storage)?;
    if generations.is_empty() {
        return Err(Error::NotAnIndex { path: storage.place().to_owned() });
    }
    for generation in generations {
        if let Some(manifest) = problems.note(Manifest::read(storage, generation))? {
            check_generation(storage, &manifest, &mut problems)?;
        }
    }
    Ok(problems.found)
}

#[derive(Default)]
struct Problems {
    found: Vec<String>,
    /// Files that have been read already, for a newer generation.
    read: BTreeSet<String>,
}

impl Problems {
    /// Takes what is broken as a finding; what merely cannot be read stays an error.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Io { source, action, .. }) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(action, "index")(source))
            }
            Err(error) => {
                self.add(error.to_string());
                Ok(None)
            }
        }
    }

    fn add(&mut self, problem: String) {
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }
}

fn check_generation(storage: &dyn Storage, manifest: &Manifest, problems: &mut Problems) -> Result<()> {
    let Some(codec) = problems.note(codec_file::open(storage, manifest))? else {
        return Ok(());
    };
    if let Some(entry) = &manifest.codec
        && problems.read.insert(entry.name.clone())
        && let Some(container) = problems.note(Container::open_entry(storage, entry, FileKind::Codec))?
    {
        container.problems().iter().for_each(|problem| problems.add(problem.to_string()));
    }
    let shape = Shape::new(&manifest.codec_options, codec.as_ref());
    for entry in &manifest.segments {
        problems.note(tombstones::open(storage, entry))?;
        if let Some(tombstones) = &entry.tombstones
            && problems.read.insert(tombstones.file.name.clone())
            && let Some(container) =
                problems.note(Container::open_entry(storage, &tombstones.file, FileKind::Tombstones))?
        {
            container.problems().iter().for_each(|problem| problems.add(problem.to_string()));
        }
        if !problems.read.insert(entry.file.name.clone()) {
            continue;
        }
        let id_kind = manifest.id_kind.unwrap_or(IdKind::Int);
        let whole = crate::format::SegmentEntry { tombstones: None, ..entry.clone() };
        if let Some(segment) = problems.note(Segment::open(storage, &whole, shape, id_kind))? {
            segment.container().problems().iter().for_each(|problem| problems.add(problem.to_string()));
            check_segment(&segment, problems);
        }
    }
    Ok(())
}

/// What the checksums of a file that somebody else made do not tell: whether its sections agree with each other.
fn check_segment(segment: &Segment, problems: &mut Problems) {
    let corrupt =
        |section: SectionKind, problem: String| segment.container().corrupt(section.name(), problem).to_string();
    for ordinal in 0..segment.documents() {
        if segment.find(&segment.id(ordinal)) != Some(ordinal) {
            let problem = format!("document {ordinal} is not found by its id");
            problems.add(corrupt(SectionKind::IdTable, problem));
        }
        if !segment.has_valid_text(ordinal) {
            problems.add(corrupt(SectionKind::Texts, format!("that of document {ordinal} is not UTF-8")));
        }
        if !segment.has_valid_metadata(ordinal) {
            problems.add(corrupt(SectionKind::Metadata, format!("that of document {ordinal} is no JSON object")));
        }
    }
    let offsets = segment.cell_offsets();
    if offsets.is_empty() {
        return;
    }
    let mut distinct = Vec::new();
    for ordinal in 0..segment.documents() {
        distinct.clear();
        distinct.extend_from_slice(segment.document(ordinal).centroids);
        distinct.sort_unstable();
        distinct.dedup();
        let at = ordinal as usize;
        if segment.cells()[offsets[at] as usize..offsets[at + 1] as usize] != distinct {
            let problem = format!("those of document {ordinal} are not the centroids of its tokens");
            problems.add(corrupt(SectionKind::Cells, problem));
        }
    }
    if let Err(problem) = check_postings(segment) {
        problems.add(problem.to_string());
    }
}

/// Every cell stands in the list of its centroid, and nothing else does.
fn check_postings(segment: &Segment) -> Result<()> {
    let corrupt = |problem: String| segment.container().corrupt(SectionKind::Postings.name(), problem);
    let (cells, offsets) = (segment.cells(), segment.cell_offsets());
    let mut listed = 0;
    let mut list = Vec::new();
    for centroid in 0..=u16::MAX {
        list.clear();
        segment.postings(centroid, &mut list)?;
        listed += list.len();
        for &ordinal in &list {
            let own = &cells[offsets[ordinal as usize] as usize..offsets[ordinal as usize + 1] as usize];
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
