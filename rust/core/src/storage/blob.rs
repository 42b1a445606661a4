//! The content of a file, mapped or owned.

use std::fmt;
use std::io::{self, Read};
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;

use super::mmap::map;

/// Every section of a file begins at a multiple of this, in the file and in memory.
const ALIGNMENT: usize = 64;

/// The whole content of a file, aligned to 64 bytes and shared by all its clones. It never moves or changes.
#[derive(Clone)]
pub struct Blob(Arc<Bytes>);

enum Bytes {
    Mapped(Mmap),
    Owned { storage: Vec<u8>, start: usize },
}

impl Blob {
    /// Maps a file for reading.
    pub(super) fn map(file: &std::fs::File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::default());
        }
        Ok(Self(Arc::new(Bytes::Mapped(map(file)?))))
    }

    /// Whether these are the bytes of a file as they are now, and not a copy.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(&*self.0, Bytes::Mapped(_))
    }

    /// Reads `length` bytes into memory.
    ///
    /// # Errors
    /// The reader's, `UnexpectedEof` if it ends early, `OutOfMemory` if there is no room.
    pub(super) fn read(mut from: impl Read, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let room = length.checked_add(ALIGNMENT).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut storage: Vec<u8> = Vec::new();
        storage.try_reserve_exact(room).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let start = storage.as_ptr().addr().next_multiple_of(ALIGNMENT) - storage.as_ptr().addr();
        storage.resize(start + length, 0);
        from.read_exact(&mut storage[start..])?;
        Ok(Self(Arc::new(Bytes::Owned { storage, start })))
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        let mut storage: Vec<u8> = Vec::with_capacity(bytes.len() + ALIGNMENT);
        let start = storage.as_ptr().addr().next_multiple_of(ALIGNMENT) - storage.as_ptr().addr();
        storage.resize(start, 0);
        storage.extend_from_slice(bytes);
        Self(Arc::new(Bytes::Owned { storage, start }))
    }
}

impl Default for Blob {
    fn default() -> Self {
        Self::from([].as_slice())
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Owned { storage, start } => storage.get(*start..).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Blob({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_is_aligned() {
        for length in [0, 1, 63, 64, 65, 4097] {
            let bytes = vec![7_u8; length];
            assert_eq!(Blob::from(bytes.as_slice()).as_ptr().addr() % ALIGNMENT, 0);
            let read = Blob::read(bytes.as_slice(), length as u64).expect("enough bytes");
            assert_eq!(read.as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(*read, *bytes);
        }
        assert!(Blob::read([1_u8, 2].as_slice(), 3).is_err());
    }
}
