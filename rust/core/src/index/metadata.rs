//! Metadata that documents got after their segment was written.
//!
//! A segment never changes. The commit that changes the metadata of some of its documents writes a file of these alone, each
//! with all of its metadata as it is then: a *layer* on the segment. The newest layer that has a document tells; without one
//! it is the segment itself. Layers are merged by the rule for segments, so that there are few, and go when their segment is
//! merged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::columns::Column;
use super::filter::{FieldValues, Fields, Filter};
use super::policy;
use super::strings::{StringBuffer, StringColumn};
use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{Container, DocumentsEntry, SectionData, write_container};
use crate::parallel::Execution;
use crate::storage::{Numbers, Storage, bytes_of};

/// Documents between two looks at whether to stop.
const STEP_DOCUMENTS: usize = 1024;

/// New metadata of some documents of a segment, in a file.
#[derive(Debug)]
pub(crate) struct Layer {
    container: Container,
    entry: DocumentsEntry,
    /// The documents, ascending.
    ordinals: Numbers<u32>,
    /// The same as a set.
    documents: RoaringBitmap,
    json: StringColumn,
    /// Of the metadata; a document is known by its position here.
    fields: Fields,
}

impl Layer {
    /// Opens a layer on a segment of `documents` documents, and checks what later reads rely on.
    pub(crate) fn open(
        storage: &dyn Storage,
        entry: &DocumentsEntry,
        documents: u32,
        execution: &Execution,
    ) -> Result<Self> {
        let container = Container::open_entry(storage, &entry.file, FileKind::Metadata, execution)?;
        let corrupt = |section: SectionKind, problem: &str| container.corrupt(section.name(), problem);
        let section = SectionKind::ChangedDocuments;
        let ordinals = container.required::<u32>(section, execution)?;
        let set = RoaringBitmap::from_sorted_iter(ordinals.iter().copied());
        let set = set.map_err(|_| corrupt(section, "the documents do not rise"))?;
        if ordinals.len() as u64 != u64::from(entry.documents) || set.max().is_some_and(|last| last >= documents) {
            return Err(corrupt(section, "it names other documents than the manifest counts"));
        }
        let (offsets, bytes) = (SectionKind::MetadataOffsets, SectionKind::Metadata);
        let json = StringColumn::open(&container, offsets, bytes, ordinals.len(), execution)?;
        let json = json.ok_or_else(|| corrupt(offsets, "the section is missing"))?;
        Ok(Self { container, entry: entry.clone(), ordinals, documents: set, json, fields: Fields::default() })
    }

    /// The manifest's entry.
    pub(crate) fn entry(&self) -> &DocumentsEntry {
        &self.entry
    }

    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    /// The documents that it has metadata of.
    pub(crate) fn documents(&self) -> &RoaringBitmap {
        &self.documents
    }

    /// Where a document stands in it, if it has metadata of the document.
    pub(crate) fn position(&self, ordinal: u32) -> Option<usize> {
        self.ordinals.binary_search(&ordinal).ok()
    }

    /// The metadata at a position.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn metadata(&self, position: usize) -> Result<String> {
        let corrupt = |_| self.corrupt(format!("that at position {position} is not UTF-8"));
        String::from_utf8(self.json.get(position)?.to_vec()).map_err(corrupt)
    }

    /// The values of each of these fields, by the positions of documents.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Interrupted`].
    pub(crate) fn fields<'p>(
        &self,
        paths: &BTreeSet<&'p str>,
        execution: &Execution,
    ) -> Result<HashMap<&'p str, Arc<FieldValues>>> {
        let metadata = |position: u32| self.metadata(position as usize).map(Some);
        self.fields.get(paths, self.ordinals.len() as u32, metadata, |problem| self.corrupt(problem), execution)
    }

    /// Those of the documents `among` that are in this layer and that the filter lets through.
    ///
    /// # Errors
    /// As [`Self::fields`].
    pub(crate) fn matching(
        &self,
        filter: &Filter,
        among: &RoaringBitmap,
        execution: &Execution,
    ) -> Result<RoaringBitmap> {
        let fields = self.fields(&filter.paths(), execution)?;
        positions_matching(&self.ordinals, among, |among| filter.matching(&fields, among, execution))
    }

    /// Reads everything again; all that is wrong.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn problems(&self, execution: &Execution) -> Result<Vec<Error>> {
        let mut problems = self.container.problems(execution)?;
        if problems.is_empty() {
            for position in 0..self.ordinals.len() {
                if position.is_multiple_of(STEP_DOCUMENTS) {
                    execution.check()?;
                }
                match self.json.get(position).map(|json| Column::Metadata.problem(json)) {
                    Ok(None) => {}
                    Ok(Some(problem)) => problems.push(self.corrupt(format!("that at position {position} {problem}"))),
                    Err(error) => problems.push(error),
                }
            }
        }
        Ok(problems)
    }

    /// Every document with its metadata, for a caller that has verified the file.
    pub(crate) fn as_they_are(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let json = self.json.as_they_are();
        self.ordinals.iter().enumerate().map(move |(position, &ordinal)| (ordinal, json.get(position)))
    }

    fn corrupt(&self, problem: String) -> Error {
        self.container.corrupt(SectionKind::Metadata.name(), problem)
    }
}

/// Writes a layer.
pub(crate) fn write(
    storage: &dyn Storage,
    name: &str,
    metadata: &BTreeMap<u32, &[u8]>,
    execution: &Execution,
) -> Result<DocumentsEntry> {
    let ordinals: Vec<u32> = metadata.keys().copied().collect();
    let mut json = StringBuffer::default();
    for own in metadata.values() {
        json.push(own);
    }
    let json = json.view();
    let sections = [
        SectionData::new(SectionKind::ChangedDocuments, bytes_of(&ordinals)),
        SectionData::new(SectionKind::MetadataOffsets, bytes_of(json.offsets)),
        SectionData::new(SectionKind::Metadata, json.bytes),
    ];
    let file = write_container(storage, name, FileKind::Metadata, &sections, execution)?;
    Ok(DocumentsEntry { file, documents: ordinals.len() as u32 })
}

/// How many of a segment's layers stay as they are, and what the new one holds: the changes, and what is in the other layers.
///
/// A layer that is damaged stays as it is: the commit does not depend on it, and whoever reads it is told.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn merged<'a>(
    layers: &'a [Arc<Layer>],
    changes: &'a Changes,
    dead: &RoaringBitmap,
    execution: &Execution,
) -> Result<(usize, BTreeMap<u32, &'a [u8]>)> {
    let documents = |layer: &Arc<Layer>| u64::from(layer.entry.documents);
    let sizes: Vec<u64> = layers.iter().map(documents).chain([changes.len() as u64]).collect();
    let mut kept = policy::tail(&sizes).min(layers.len());
    for (at, layer) in layers.iter().enumerate().skip(kept) {
        if !layer.problems(execution)?.is_empty() {
            kept = at + 1;
        }
    }
    let mut metadata: BTreeMap<u32, &[u8]> = layers[kept..].iter().flat_map(|layer| layer.as_they_are()).collect();
    metadata.extend(changes.iter());
    metadata.retain(|&ordinal, _| !dead.contains(ordinal));
    Ok((kept, metadata))
}

/// New metadata of some documents, in a writer's memory.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    metadata: BTreeMap<u32, String>,
    bytes: usize,
}

impl Changes {
    pub(crate) fn len(&self) -> usize {
        self.metadata.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.metadata.is_empty()
    }

    /// Bytes of all metadata.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The new metadata of a document, if it has any.
    pub(crate) fn get(&self, ordinal: u32) -> Option<&str> {
        self.metadata.get(&ordinal).map(String::as_str)
    }

    pub(crate) fn insert(&mut self, ordinal: u32, json: String) {
        self.bytes += json.len();
        self.bytes -= self.metadata.insert(ordinal, json).map_or(0, |before| before.len());
    }

    /// Every document with its metadata, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.metadata.iter().map(|(&ordinal, json)| (ordinal, json.as_bytes()))
    }

    /// The documents.
    pub(crate) fn documents(&self) -> RoaringBitmap {
        self.metadata.keys().copied().collect()
    }

    /// Those of the documents `among` that are in here and that the filter lets through.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn matching(
        &self,
        filter: &Filter,
        among: &RoaringBitmap,
        execution: &Execution,
    ) -> Result<RoaringBitmap> {
        let (ordinals, json): (Vec<u32>, Vec<&str>) =
            self.metadata.iter().map(|(&ordinal, json)| (ordinal, json.as_str())).unzip();
        let metadata = |position: u32| Ok(Some(json[position as usize]));
        let fields = Fields::default().get(&filter.paths(), json.len() as u32, metadata, Error::invalid, execution)?;
        positions_matching(&ordinals, among, |among| filter.matching(&fields, among, execution))
    }
}

/// The ordinals at those positions that `matching` finds among the positions of the documents `among`.
fn positions_matching(
    ordinals: &[u32],
    among: &RoaringBitmap,
    matching: impl FnOnce(&RoaringBitmap) -> Result<RoaringBitmap>,
) -> Result<RoaringBitmap> {
    let positions = ordinals.iter().zip(0..).filter(|(ordinal, _)| among.contains(**ordinal));
    let found = matching(&positions.map(|(_, position)| position).collect())?;
    Ok(found.into_iter().filter_map(|position| ordinals.get(position as usize).copied()).collect())
}

/// What becomes of a document's metadata.
#[derive(Clone, Debug)]
pub(crate) enum Update {
    /// This stands in their place: a JSON object.
    Replace(String),
    /// These fields are put into them.
    Merge(Map<String, Value>),
}

impl Update {
    /// Reads an update; `whose` it is, for messages.
    ///
    /// # Errors
    /// [`Error::Invalid`] for JSON that is no object.
    pub(crate) fn read(json: &str, replace: bool, whose: impl FnOnce() -> String) -> Result<Self> {
        let fields = serde_json::from_str(json)
            .map_err(|error| Error::invalid(format!("{} is no JSON object: {error}", whose())))?;
        Ok(if replace { Self::Replace(json.to_owned()) } else { Self::Merge(fields) })
    }

    /// The metadata of a document that had `before`.
    ///
    /// # Errors
    /// What is wrong with `before`, in words.
    pub(crate) fn apply(&self, before: Option<&str>) -> std::result::Result<String, String> {
        match self {
            Self::Replace(json) => Ok(json.clone()),
            Self::Merge(patch) => {
                let before = before.map_or(Ok(Map::new()), serde_json::from_str);
                let mut fields = before.map_err(|error| format!("is no JSON object: {error}"))?;
                merge(&mut fields, patch);
                Ok(Value::Object(fields).to_string())
            }
        }
    }
}

/// Puts the fields of `patch` into `fields`, those of objects within them too; null takes a field away (RFC 7396).
fn merge(fields: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(fields.remove(name)),
            Value::Object(inner) => {
                let field = fields.entry(name.as_str()).or_insert(Value::Null);
                if !field.is_object() {
                    *field = Value::Object(Map::new());
                }
                if let Value::Object(own) = field {
                    merge(own, inner);
                }
            }
            value => drop(fields.insert(name.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, replace: bool) -> Result<Update> {
        Update::read(json, replace, || "it".to_owned())
    }

    /// The examples of RFC 7396, appendix A, whose results are objects, and what they leave open.
    #[test]
    fn patches_merge_as_the_standard_says() {
        for (before, patch, after) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"a":1}"#, r#"{"a":{"b":2}}"#, r#"{"a":{"b":2}}"#),
            (r#"{"a":12345678901234567890123}"#, r#"{"b":1.0}"#, r#"{"a":12345678901234567890123,"b":1.0}"#),
            (r#"{"a":1}"#, "{}", r#"{"a":1}"#),
        ] {
            let update = read(patch, false).expect("an object");
            assert_eq!(update.apply(Some(before)).expect("an object"), after, "{before} and {patch}");
        }
        let update = read(r#"{"a":{"b":null,"c":1}}"#, false).expect("an object");
        assert_eq!(update.apply(None).expect("nothing before"), r#"{"a":{"c":1}}"#);
        assert!(update.apply(Some("[]")).is_err());
        let replacing = read(r#"{"b":null}"#, true).expect("an object");
        assert_eq!(replacing.apply(Some(r#"{"a":1}"#)).expect("as it is"), r#"{"b":null}"#);
        for json in ["[]", "1", "{", "", "null"] {
            assert!(matches!(read(json, true), Err(Error::Invalid(_))), "{json}");
        }
    }

    #[test]
    fn changes_count_their_bytes_and_match_filters() {
        let (mut changes, execution) = (Changes::default(), Execution::undisturbed());
        for (ordinal, json) in [(7, r#"{"a":1}"#), (9, r#"{"a":2}"#), (2, "{}"), (9, r#"{"a":1}"#)] {
            changes.insert(ordinal, json.to_owned());
        }
        assert_eq!((changes.len(), changes.bytes()), (3, 16));
        let filter = Filter::from_json(r#"{"a": 1}"#).expect("a filter");
        let among = |ordinals: &[u32]| ordinals.iter().copied().collect();
        let found = |ordinals: &[u32]| changes.matching(&filter, &among(ordinals), &execution).expect("JSON");
        assert_eq!(found(&[2, 7, 8, 9]), among(&[7, 9]));
        assert_eq!(found(&[2, 9]), among(&[9]));
    }
}
