//! Reading and writing of containers.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checksum::{BLOCK_BYTES, Hasher, STEP_BYTES, block_checksums, block_count, checksum};
use super::file_entry::FileEntry;
use super::header::{
    ALIGNMENT, BLOCKS_SINCE, ENTRY_BYTES, Entry, FORMAT_VERSION, FileKind, HEADER_BYTES, Header, MIN_READER, REQUIRED,
};
use super::section::SectionKind;
use crate::error::{Error, Result};
use crate::parallel::Execution;
use crate::storage::{Blob, Numbers, Plain, Storage, bytes_of};

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
}

/// Writes a container as a new file and makes its content durable. Its name is durable after the folder's sync.
///
/// # Errors
/// [`Error::Io`], [`Error::Interrupted`]; part of the file may be left.
pub(crate) fn write_container(
    storage: &dyn Storage,
    name: &str,
    kind: FileKind,
    sections: &[SectionData<'_>],
    execution: &Execution,
) -> Result<FileEntry> {
    let checksums: Vec<Vec<u64>> =
        sections.iter().map(|section| block_checksums(&section.pieces, execution)).collect::<Result<_>>()?;
    let all_checksums = checksums.concat();
    let blocks = SectionData::new(SectionKind::BlockChecksums, bytes_of(&all_checksums));
    let entry_checksums = checksums.iter().map(|own| checksum(bytes_of(own)));
    let entry_checksums: Vec<u64> = std::iter::once(checksum(blocks.pieces[0])).chain(entry_checksums).collect();
    let sections: Vec<&SectionData<'_>> = std::iter::once(&blocks).chain(sections).collect();

    let mut end = (HEADER_BYTES + sections.len() * ENTRY_BYTES) as u64;
    let mut table = Vec::with_capacity(sections.len() * ENTRY_BYTES);
    for (section, checksum) in sections.iter().zip(entry_checksums) {
        let flags = if section.kind.optional() { 0 } else { REQUIRED };
        let offset = end.next_multiple_of(ALIGNMENT);
        let length = section.length();
        table.extend_from_slice(&Entry { kind: section.kind as u32, flags, offset, length, checksum }.encode());
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
        written += padding + section.length();
        for step in section.pieces.iter().flat_map(|piece| piece.chunks(STEP_BYTES)) {
            if buffer.len() + step.len() > STEP_BYTES {
                execution.check()?;
                file.write(&buffer)?;
                buffer.clear();
            }
            buffer.extend_from_slice(step);
        }
    }
    file.write(&buffer)?;
    file.sync()?;
    Ok(FileEntry { name: name.to_owned(), length: end, checksum: header.checksum })
}

/// An open container: header and table are sound, and every section lies inside the file. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Container(Arc<Open>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    blob: Blob,
    version: u16,
    checksum: u64,
    /// The first is that of the checksums of all others' blocks, in their order; format 1 had no such section.
    entries: Vec<Entry>,
}

impl Container {
    /// Opens a file and checks header and table: magic, kind, length, checksum, versions, and that the sections follow
    /// each other as they must.
    pub(crate) fn open(storage: &dyn Storage, name: &str, kind: FileKind, execution: &Execution) -> Result<Self> {
        let path = storage.path(name);
        let blob = storage.open(name, execution)?;
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
        let read_at_once = |entry: &&Entry| SectionKind::from_number(entry.kind).is_some_and(|kind| !kind.read_late());
        blob.ask_ahead(entries.iter().filter(read_at_once).map(place));
        let (version, checksum) = (header.format_version, header.checksum);
        if version >= BLOCKS_SINCE {
            check_block_checksums(&path, &blob, &entries)?;
        }
        Ok(Self(Arc::new(Open { path, blob, version, checksum, entries })))
    }

    /// Opens the file that a manifest names, and sees that it is the very same.
    pub(crate) fn open_entry(
        storage: &dyn Storage,
        entry: &FileEntry,
        kind: FileKind,
        execution: &Execution,
    ) -> Result<Self> {
        let container = Self::open(storage, &entry.name, kind, execution).map_err(|error| match error {
            Error::Io { path, source, .. } if source.kind() == ErrorKind::NotFound => Error::corrupt(
                path,
                "header",
                "the manifest names the file, and it is missing; a copy may still be under way",
            ),
            other => other,
        })?;
        if (container.0.blob.len() as u64, container.0.checksum) != (entry.length, entry.checksum) {
            return Err(container.corrupt("header", "it is not the file that the manifest names"));
        }
        Ok(container)
    }

    /// An [`Error::Corrupt`] of this file.
    pub(crate) fn corrupt(&self, section: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::corrupt(&self.0.path, section, problem)
    }

    /// The error of a block that is not what was written.
    pub(crate) fn damaged_block(&self, kind: SectionKind, block: usize) -> Error {
        damaged_block(&self.0.path, kind.name(), block)
    }

    /// Version of the format that the file was written in.
    pub(crate) fn version(&self) -> u16 {
        self.0.version
    }

    /// The checksum of header and section table, which stands for the whole content.
    pub(crate) fn checksum(&self) -> u64 {
        self.0.checksum
    }

    /// Whether the file was read into memory, where nobody changes it.
    pub(crate) fn is_in_memory(&self) -> bool {
        !self.0.blob.is_mapped()
    }

    /// Whether the file has a section of this kind.
    pub(crate) fn has(&self, kind: SectionKind) -> bool {
        self.find(kind).is_some()
    }

    /// The section of this kind, verified, if the file has one.
    pub(crate) fn optional<T: Plain>(&self, kind: SectionKind, execution: &Execution) -> Result<Option<Numbers<T>>> {
        let Some(at) = self.find(kind) else { return Ok(None) };
        self.verify(at, execution)?;
        self.column(at, kind).map(Some)
    }

    /// The section of this kind, verified.
    pub(crate) fn required<T: Plain>(&self, kind: SectionKind, execution: &Execution) -> Result<Numbers<T>> {
        self.optional(kind, execution)?.ok_or_else(|| self.missing(kind))
    }

    /// The section of this kind with the checksums of its blocks, by which the caller verifies it; without them, it is
    /// verified as far as it must be before it is used.
    pub(super) fn lazily<T: Plain>(
        &self,
        kind: SectionKind,
        execution: &Execution,
    ) -> Result<(Numbers<T>, Option<Numbers<u64>>)> {
        let at = self.find(kind).ok_or_else(|| self.missing(kind))?;
        if self.0.version < BLOCKS_SINCE {
            if !kind.checked_late() {
                self.verify(at, execution)?;
            }
            return Ok((self.column(at, kind)?, None));
        }
        let checksums = Numbers::new(&self.0.blob, self.place_of_checksums(at));
        Ok((self.column(at, kind)?, Some(checksums.ok_or_else(|| self.missing(SectionKind::BlockChecksums))?)))
    }

    /// Bytes of each section, and of what stands around them.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sections: u64 = self.0.entries.iter().map(|entry| entry.length).sum();
        let named = self.0.entries.iter().map(|entry| (name_of(entry), entry.length));
        named.chain([("headers", self.0.blob.len() as u64 - sections)])
    }

    /// Reads every byte again; everything that the checksums, and the zeros between sections, bring to light.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn problems(&self, execution: &Execution) -> Result<Vec<Error>> {
        let mut problems = Vec::new();
        let mut end = HEADER_BYTES + self.0.entries.len() * ENTRY_BYTES;
        for (at, entry) in self.0.entries.iter().enumerate() {
            match self.verify(at, execution) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                found => problems.extend(found.err()),
            }
            if self.0.blob[end..entry.offset as usize].iter().any(|&byte| byte != 0) {
                problems.push(self.corrupt(name_of(entry), "the padding before it is not zero"));
            }
            end = (entry.offset + entry.length) as usize;
        }
        Ok(problems)
    }

    fn find(&self, kind: SectionKind) -> Option<usize> {
        self.0.entries.iter().position(|entry| entry.kind == kind as u32)
    }

    fn missing(&self, kind: SectionKind) -> Error {
        self.corrupt(kind.name(), "the section is missing")
    }

    fn column<T: Plain>(&self, at: usize, kind: SectionKind) -> Result<Numbers<T>> {
        let column = Numbers::new(&self.0.blob, place(&self.0.entries[at]));
        column.ok_or_else(|| self.corrupt(kind.name(), "its length is no whole number of elements"))
    }

    /// Where the checksums of a section's blocks stand in the file. Only for files that have them.
    fn place_of_checksums(&self, at: usize) -> Range<usize> {
        let blocks = |entries: &[Entry]| -> u64 { entries.iter().map(|entry| block_count(entry.length)).sum() };
        let first = self.0.entries[0].offset as usize + blocks(&self.0.entries[1..at]) as usize * CHECKSUM_BYTES;
        first..first + blocks(&self.0.entries[at..=at]) as usize * CHECKSUM_BYTES
    }

    /// Compares the section's bytes with their checksums.
    fn verify(&self, at: usize, execution: &Execution) -> Result<()> {
        let entry = &self.0.entries[at];
        let bytes = &self.0.blob[place(entry)];
        let whole = || self.corrupt(name_of(entry), "its checksum does not match");
        if self.0.version < BLOCKS_SINCE || at == 0 {
            let mut hasher = Hasher::default();
            for step in bytes.chunks(STEP_BYTES) {
                execution.check()?;
                hasher.update(step);
            }
            return if hasher.finish() == entry.checksum { Ok(()) } else { Err(whole()) };
        }
        let checksums = &self.0.blob[self.place_of_checksums(at)];
        if checksum(checksums) != entry.checksum {
            return Err(whole());
        }
        let (checksums, _) = checksums.as_chunks::<CHECKSUM_BYTES>();
        for (block, (bytes, expected)) in bytes.chunks(BLOCK_BYTES).zip(checksums).enumerate() {
            if block % (STEP_BYTES / BLOCK_BYTES) == 0 {
                execution.check()?;
            }
            if checksum(bytes) != u64::from_le_bytes(*expected) {
                return Err(damaged_block(&self.0.path, name_of(entry), block));
            }
        }
        Ok(())
    }
}

/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = size_of::<u64>();

/// Where a section stands in the file; `check_entries` has seen that it is inside.
fn place(entry: &Entry) -> Range<usize> {
    entry.offset as usize..(entry.offset + entry.length) as usize
}

fn damaged_block(path: &Path, section: &str, block: usize) -> Error {
    let first = block * BLOCK_BYTES;
    Error::corrupt(path, section, format!("the checksum of its bytes from {first} on does not match"))
}

/// The first section must be that of the checksums of the others' blocks, sound, and with as many as there are blocks.
fn check_block_checksums(path: &Path, blob: &Blob, entries: &[Entry]) -> Result<()> {
    let corrupt = |problem: &str| Error::corrupt(path, SectionKind::BlockChecksums.name(), problem);
    let (first, others) = entries.split_first().ok_or_else(|| corrupt("the section is missing"))?;
    if first.kind != SectionKind::BlockChecksums as u32 {
        return Err(corrupt("it is not the first section"));
    }
    let blocks: u64 = others.iter().map(|entry| block_count(entry.length)).sum();
    if Some(first.length) != blocks.checked_mul(CHECKSUM_BYTES as u64) {
        return Err(corrupt("there are not as many as the other sections have blocks"));
    }
    if checksum(&blob[place(first)]) == first.checksum { Ok(()) } else { Err(corrupt("its checksum does not match")) }
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
