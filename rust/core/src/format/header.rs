//! Header and section table of a container: the only byte offsets of the format.

use super::checksum::Hasher;

/// First bytes of every file: one that no text begins with, the name, and line ends that a careless transfer changes.
pub const MAGIC: [u8; 8] = *b"\x89LATEWD\n";
/// Version of the format that this build writes.
pub const FORMAT_VERSION: u16 = 2;
/// Oldest reader that understands what this build writes.
pub const MIN_READER: u16 = 2;
/// First version whose files have a checksum for each block of their sections.
pub(super) const BLOCKS_SINCE: u16 = 2;
/// Sections begin at multiples of this.
pub const ALIGNMENT: u64 = 64;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
const MAGIC_OFFSET: usize = 0;
const FORMAT_VERSION_OFFSET: usize = 8;
const MIN_READER_OFFSET: usize = 10;
const FILE_KIND_OFFSET: usize = 12;
const SECTION_COUNT_OFFSET: usize = 14;
const FILE_LENGTH_OFFSET: usize = 16;
/// From here to the checksum every byte is 0.
const RESERVED_OFFSET: usize = 24;
const CHECKSUM_OFFSET: usize = 56;

/// Bytes of an entry of the section table.
pub const ENTRY_BYTES: usize = 32;
const ENTRY_KIND_OFFSET: usize = 0;
const ENTRY_FLAGS_OFFSET: usize = 4;
const ENTRY_OFFSET_OFFSET: usize = 8;
const ENTRY_LENGTH_OFFSET: usize = 16;
const ENTRY_CHECKSUM_OFFSET: usize = 24;

/// Flag of a section: a reader that does not know its kind must not use the file.
pub const REQUIRED: u32 = 1;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FileKind {
    /// What belongs to one generation.
    Manifest = 1,
    /// A trained codec.
    Codec = 2,
    /// Documents.
    Segment = 3,
    /// Deleted documents of one segment.
    Tombstones = 4,
    /// Changed metadata of documents of one segment.
    Metadata = 5,
}

/// The header of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the format that the file was written in.
    pub format_version: u16,
    /// Oldest version whose readers understand the file.
    pub min_reader: u16,
    /// A [`FileKind`].
    pub file_kind: u16,
    /// Entries of the section table.
    pub section_count: u16,
    /// Bytes of the whole file.
    pub file_length: u64,
    /// Of the header up to this field, and the section table.
    pub checksum: u64,
}

/// An entry of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A [`super::section::SectionKind`], or one of a newer version.
    pub kind: u32,
    /// [`REQUIRED`] or 0.
    pub flags: u32,
    /// Of the section's first byte in the file.
    pub offset: u64,
    /// Bytes of the section.
    pub length: u64,
    /// Of the checksums of the section's blocks; of its bytes in [`super::section::SectionKind::BlockChecksums`], and
    /// everywhere in format 1.
    pub checksum: u64,
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[offset..offset + N]);
    value
}

impl Header {
    /// Reads the fields; what they say is still to be checked.
    ///
    /// `None` if the magic is another or a reserved byte is not 0.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let ours = bytes[MAGIC_OFFSET..FORMAT_VERSION_OFFSET] == MAGIC;
        let reserved = bytes[RESERVED_OFFSET..CHECKSUM_OFFSET].iter().all(|&byte| byte == 0);
        (ours && reserved).then(|| Self {
            format_version: u16::from_le_bytes(field(bytes, FORMAT_VERSION_OFFSET)),
            min_reader: u16::from_le_bytes(field(bytes, MIN_READER_OFFSET)),
            file_kind: u16::from_le_bytes(field(bytes, FILE_KIND_OFFSET)),
            section_count: u16::from_le_bytes(field(bytes, SECTION_COUNT_OFFSET)),
            file_length: u64::from_le_bytes(field(bytes, FILE_LENGTH_OFFSET)),
            checksum: u64::from_le_bytes(field(bytes, CHECKSUM_OFFSET)),
        })
    }

    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[MAGIC_OFFSET..FORMAT_VERSION_OFFSET].copy_from_slice(&MAGIC);
        bytes[FORMAT_VERSION_OFFSET..MIN_READER_OFFSET].copy_from_slice(&self.format_version.to_le_bytes());
        bytes[MIN_READER_OFFSET..FILE_KIND_OFFSET].copy_from_slice(&self.min_reader.to_le_bytes());
        bytes[FILE_KIND_OFFSET..SECTION_COUNT_OFFSET].copy_from_slice(&self.file_kind.to_le_bytes());
        bytes[SECTION_COUNT_OFFSET..FILE_LENGTH_OFFSET].copy_from_slice(&self.section_count.to_le_bytes());
        bytes[FILE_LENGTH_OFFSET..RESERVED_OFFSET].copy_from_slice(&self.file_length.to_le_bytes());
        bytes[CHECKSUM_OFFSET..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// The checksum that belongs to this header and `table`.
    #[must_use]
    pub fn expected_checksum(&self, table: &[u8]) -> u64 {
        let mut hasher = Hasher::default();
        hasher.update(&self.encode()[..CHECKSUM_OFFSET]);
        hasher.update(table);
        hasher.finish()
    }
}

impl Entry {
    /// Reads the fields; what they say is still to be checked.
    #[must_use]
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        Self {
            kind: u32::from_le_bytes(field(bytes, ENTRY_KIND_OFFSET)),
            flags: u32::from_le_bytes(field(bytes, ENTRY_FLAGS_OFFSET)),
            offset: u64::from_le_bytes(field(bytes, ENTRY_OFFSET_OFFSET)),
            length: u64::from_le_bytes(field(bytes, ENTRY_LENGTH_OFFSET)),
            checksum: u64::from_le_bytes(field(bytes, ENTRY_CHECKSUM_OFFSET)),
        }
    }

    /// The bytes of the entry.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[ENTRY_KIND_OFFSET..ENTRY_FLAGS_OFFSET].copy_from_slice(&self.kind.to_le_bytes());
        bytes[ENTRY_FLAGS_OFFSET..ENTRY_OFFSET_OFFSET].copy_from_slice(&self.flags.to_le_bytes());
        bytes[ENTRY_OFFSET_OFFSET..ENTRY_LENGTH_OFFSET].copy_from_slice(&self.offset.to_le_bytes());
        bytes[ENTRY_LENGTH_OFFSET..ENTRY_CHECKSUM_OFFSET].copy_from_slice(&self.length.to_le_bytes());
        bytes[ENTRY_CHECKSUM_OFFSET..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_entry_survive_their_bytes() {
        let header = Header {
            format_version: 0x0102,
            min_reader: 0x0304,
            file_kind: 0x0506,
            section_count: 0x0708,
            file_length: 0x090a_0b0c_0d0e_0f10,
            checksum: 0x1112_1314_1516_1718,
        };
        let mut bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        bytes[RESERVED_OFFSET] = 1;
        assert_eq!(Header::decode(&bytes), None);
        let entry = Entry { kind: 1, flags: 2, offset: 3, length: 4, checksum: 5 };
        assert_eq!(Entry::decode(&entry.encode()), entry);
    }
}
