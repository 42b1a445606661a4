//! Reading and writing of containers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::checksum::{Hasher, checksum};
use super::header::{
    ALIGNMENT, ENTRY_BYTES, Entry, FORMAT_VERSION, FileKind, HEADER_BYTES, Header, MIN_READER, REQUIRED,
};
use super::manifest::FileEntry;
use super::section::SectionKind;
use crate::error::{Error, Result};
use crate::storage::{Blob, Column, Plain, Storage};

/// Bytes that are collected before they are handed to the storage.
const WRITE_BYTES: usize = 1 << 20;

/// A section to be written: its bytes in pieces.
pub(crate) struct SectionData<'a> {
    pub(crate) kind: SectionKind,
    pub(crate) pieces: Vec<&'a [u8]>,
}

impl<'a> SectionData<'a> {
    pub(crate) fn new(kind: SectionKind, bytes: &'a [u8]) -> Self {
        Self { kind, pieces: vec![bytes] }
    }

    fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    fn checksum(&self) -> u64 {
        let mut hasher = Hasher::default();
        self.pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish()
    }
}

/// Writes a container as a new file and makes its content durable. Its name is durable after the folder's sync.
///
/// # Errors
/// [`Error::Io`]; part of the file may be left.
pub(crate) fn write_container(
    storage: &dyn Storage,
    name: &str,
    kind: FileKind,
    sections: &[SectionData<'_>],
) -> Result<FileEntry> {
    let mut end = (HEADER_BYTES + sections.len() * ENTRY_BYTES) as u64;
    let mut table = Vec::with_capacity(sections.len() * ENTRY_BYTES);
    for section in sections {
        let flags = if section.kind.optional() { 0 } else { REQUIRED };
        let offset = end.next_multiple_of(ALIGNMENT);
        let length = section.length();
        let entry = Entry { kind: section.kind as u32, flags, offset, length, checksum: section.checksum() };
        table.extend_from_slice(&entry.encode());
        end = offset + length;
    }
    let mut header = Header {
        format_version: FORMAT_VERSION,
        min_reader: MIN_READER,
        file_kind: kind as u16,
        section_count: sections.len() as u16,
        file_length: end,
        checksum: 0,
    };
    header.checksum = header.expected_checksum(&table);

    let mut file = storage.create(name)?;
    let mut buffer = header.encode().to_vec();
    buffer.extend_from_slice(&table);
    let mut written = buffer.len() as u64;
    for section in sections {
        let padding = written.next_multiple_of(ALIGNMENT) - written;
        buffer.extend_from_slice(&[0; ALIGNMENT as usize][..padding as usize]);
        written += padding;
        for piece in &section.pieces {
            written += piece.len() as u64;
            if buffer.len() + piece.len() > WRITE_BYTES {
                file.write(&buffer)?;
                buffer.clear();
            }
            if piece.len() > WRITE_BYTES {
                file.write(piece)?;
            } else {
                buffer.extend_from_slice(piece);
            }
        }
    }
    if !buffer.is_empty() {
        file.write(&buffer)?;
    }
    file.sync()?;
    Ok(FileEntry { name: name.to_owned(), length: end, checksum: header.checksum })
}

/// An open container: header and table are sound, and every section lies inside the file.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    path: PathBuf,
    blob: Blob,
    checksum: u64,
    entries: Vec<Entry>,
}

impl Container {
    /// Opens a file and checks header and table: magic, kind, length, checksum, versions, and that the sections follow
    /// each other as they must.
    pub(crate) fn open(storage: &dyn Storage, name: &str, kind: FileKind) -> Result<Self> {
        let path = storage.path(name);
        let blob = storage.open(name)?;
        let corrupt = |problem: &str| Error::corrupt(&path, "header", problem);
        let (first, rest) = blob.split_first_chunk().ok_or_else(|| corrupt("it is shorter than a header"))?;
        let header = Header::decode(first).ok_or_else(|| corrupt("it does not begin as a file of latewood does"))?;
        let table_bytes = usize::from(header.section_count) * ENTRY_BYTES;
        let table = rest.get(..table_bytes).ok_or_else(|| corrupt("it ends inside the section table"))?;
        if header.checksum != header.expected_checksum(table) {
            return Err(corrupt("the checksum of header and section table does not match"));
        }
        if header.min_reader > FORMAT_VERSION {
            return Err(Error::FormatVersion { file: path, needed: header.min_reader, supported: FORMAT_VERSION });
        }
        if header.file_length != blob.len() as u64 {
            let problem = format!("it has {} bytes, its header says {}", blob.len(), header.file_length);
            return Err(corrupt(&problem));
        }
        if header.file_kind != kind as u16 {
            return Err(corrupt(&format!("it is a file of kind {}, not {kind:?}", header.file_kind)));
        }
        let (entries, _) = table.as_chunks::<ENTRY_BYTES>();
        let entries: Vec<Entry> = entries.iter().map(Entry::decode).collect();
        check_entries(&path, &header, &entries)?;
        Ok(Self { checksum: header.checksum, path, blob, entries })
    }

    /// Opens the file that a manifest names, and sees that it is the very same.
    pub(crate) fn open_entry(storage: &dyn Storage, entry: &FileEntry, kind: FileKind) -> Result<Self> {
        let container = Self::open(storage, &entry.name, kind).map_err(|error| match error {
            Error::Io { path, source, .. } if source.kind() == ErrorKind::NotFound => {
                Error::corrupt(path, "header", "the manifest names the file, but it is missing")
            }
            other => other,
        })?;
        if (container.blob.len() as u64, container.checksum) != (entry.length, entry.checksum) {
            return Err(container.corrupt("header", "it is not the file that the manifest names"));
        }
        Ok(container)
    }

    /// An [`Error::Corrupt`] of this file.
    pub(crate) fn corrupt(&self, section: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::corrupt(&self.path, section, problem)
    }

    /// The section of this kind, if the file has one.
    pub(crate) fn optional<T: Plain>(&self, kind: SectionKind) -> Result<Option<Column<T>>> {
        let Some(entry) = self.entries.iter().find(|entry| entry.kind == kind as u32) else {
            return Ok(None);
        };
        // `check_entries` has seen that both fit the file.
        let start = entry.offset as usize;
        let column = Column::new(&self.blob, start..start + entry.length as usize);
        let column = column.ok_or_else(|| self.corrupt(kind.name(), "its length is no whole number of elements"))?;
        if !kind.checked_late() {
            self.verify(entry)?;
        }
        Ok(Some(column))
    }

    /// The section of this kind.
    pub(crate) fn required<T: Plain>(&self, kind: SectionKind) -> Result<Column<T>> {
        self.optional(kind)?.ok_or_else(|| self.corrupt(kind.name(), "the section is missing"))
    }

    /// Bytes of each section, and of what stands around them.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sections: u64 = self.entries.iter().map(|entry| entry.length).sum();
        let named = self.entries.iter().map(|entry| (name_of(entry), entry.length));
        named.chain([("headers", self.blob.len() as u64 - sections)])
    }

    /// Everything that the checksums of all sections, and the zeros between them, bring to light.
    pub(crate) fn problems(&self) -> Vec<Error> {
        let mut problems: Vec<Error> = self.entries.iter().filter_map(|entry| self.verify(entry).err()).collect();
        let mut end = HEADER_BYTES + self.entries.len() * ENTRY_BYTES;
        for entry in &self.entries {
            if self.blob[end..entry.offset as usize].iter().any(|&byte| byte != 0) {
                problems.push(self.corrupt(name_of(entry), "the padding before it is not zero"));
            }
            end = (entry.offset + entry.length) as usize;
        }
        problems
    }

    fn verify(&self, entry: &Entry) -> Result<()> {
        let start = entry.offset as usize;
        let bytes = &self.blob[start..start + entry.length as usize];
        if checksum(bytes) == entry.checksum {
            Ok(())
        } else {
            Err(self.corrupt(name_of(entry), "its checksum does not match"))
        }
    }
}

fn name_of(entry: &Entry) -> &'static str {
    SectionKind::from_number(entry.kind).map_or("of a newer version", SectionKind::name)
}

/// Sections are known or optional, occur once, begin where the one before ends, rounded up to the alignment, and the
/// last one ends with the file.
fn check_entries(path: &Path, header: &Header, entries: &[Entry]) -> Result<()> {
    let corrupt = |entry: &Entry, problem: &str| Error::corrupt(path, name_of(entry), problem);
    let mut end = (HEADER_BYTES + entries.len() * ENTRY_BYTES) as u64;
    for (position, entry) in entries.iter().enumerate() {
        let known = SectionKind::from_number(entry.kind).is_some();
        if entry.flags & !REQUIRED != 0 || !known && entry.flags & REQUIRED != 0 {
            // Only a newer version may have sections that this one does not know.
            if header.format_version > FORMAT_VERSION {
                let (needed, supported) = (header.format_version, FORMAT_VERSION);
                return Err(Error::FormatVersion { file: path.to_owned(), needed, supported });
            }
            let problem = format!("unknown kind {} or flags {:#x} of a section", entry.kind, entry.flags);
            return Err(corrupt(entry, &problem));
        }
        if known && entries[..position].iter().any(|other| other.kind == entry.kind) {
            return Err(corrupt(entry, "the section occurs twice"));
        }
        if Some(entry.offset) != end.checked_next_multiple_of(ALIGNMENT) {
            return Err(corrupt(entry, "it does not begin where the section before it ends"));
        }
        end = entry.offset.checked_add(entry.length).ok_or_else(|| corrupt(entry, "its length is absurd"))?;
        if end > header.file_length {
            return Err(corrupt(entry, "it ends behind the end of the file"));
        }
    }
    if end != header.file_length {
        return Err(Error::corrupt(path, "header", "bytes follow the last section"));
    }
    Ok(())
}
