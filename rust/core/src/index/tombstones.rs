//! Deleted documents of a segment: a Roaring bitmap in a file of its own.

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{Container, DocumentsEntry, SectionData, SegmentEntry, write_container};
use crate::parallel::Execution;
use crate::storage::Storage;

/// Reads the deletions of a segment.
pub(crate) fn open(storage: &dyn Storage, segment: &SegmentEntry, execution: &Execution) -> Result<RoaringBitmap> {
    let Some(entry) = &segment.tombstones else {
        return Ok(RoaringBitmap::new());
    };
    let container = Container::open_entry(storage, &entry.file, FileKind::Tombstones, execution)?;
    let section = SectionKind::Tombstones;
    let bytes = container.required::<u8>(section, execution)?;
    let corrupt = |problem: String| container.corrupt(section.name(), problem);
    let mut rest: &[u8] = &bytes;
    let bitmap = RoaringBitmap::deserialize_from(&mut rest).map_err(|error| corrupt(error.to_string()))?;
    if !rest.is_empty() {
        return Err(corrupt("bytes follow the bitmap".to_owned()));
    }
    if bitmap.len() != u64::from(entry.documents) || bitmap.max().is_some_and(|last| last >= segment.documents) {
        return Err(corrupt("it names other documents than the manifest counts".to_owned()));
    }
    Ok(bitmap)
}

/// Writes the deletions of a segment.
pub(crate) fn write(
    storage: &dyn Storage,
    name: &str,
    bitmap: &RoaringBitmap,
    execution: &Execution,
) -> Result<DocumentsEntry> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut bytes).map_err(Error::io("serialise", storage.path(name)))?;
    let section = SectionData::new(SectionKind::Tombstones, &bytes);
    let file = write_container(storage, name, FileKind::Tombstones, &[section], execution)?;
    Ok(DocumentsEntry { file, documents: bitmap.len() as u32 })
}
