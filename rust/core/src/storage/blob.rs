//! The content of a file, mapped or owned.

use std::fmt;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::mmap::map;
use crate::error::{Error, Result};
use crate::parallel::Execution;

/// Every section of a file begins at a multiple of this, in the file and in memory.
const ALIGNMENT: usize = 64;

/// Bytes that are read into memory between two looks at whether to stop.
const STEP_BYTES: usize = 4 << 20;

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

    /// Reads the `length` bytes of the file at `path` into memory.
    ///
    /// # Errors
    /// [`Error::Io`]: the reader's, `UnexpectedEof` if it ends early, `OutOfMemory` if there is no room;
    /// [`Error::Interrupted`].
    pub(super) fn read(mut from: impl Read, length: u64, path: &Path, execution: &Execution) -> Result<Self> {
        let too_large = || Error::io("read", path)(io::ErrorKind::OutOfMemory.into());
        let length = usize::try_from(length).map_err(|_| too_large())?;
        let room = length.checked_add(ALIGNMENT).ok_or_else(too_large)?;
        let mut storage: Vec<u8> = Vec::new();
        storage.try_reserve_exact(room).map_err(|_| too_large())?;
        let start = storage.as_ptr().addr().next_multiple_of(ALIGNMENT) - storage.as_ptr().addr();
        storage.resize(start, 0);
        while storage.len() < start + length {
            execution.check()?;
            let read = storage.len();
            storage.resize((start + length).min(read + STEP_BYTES), 0);
            from.read_exact(&mut storage[read..]).map_err(Error::io("read", path))?;
        }
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
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn every_blob_is_aligned() {
        for length in [0, 1, 63, 64, 65, 4097, STEP_BYTES, 2 * STEP_BYTES + 1] {
            let bytes = vec![7_u8; length];
            assert_eq!(Blob::from(bytes.as_slice()).as_ptr().addr() % ALIGNMENT, 0);
            let read = read(&bytes, length as u64, &Execution::undisturbed()).expect("enough bytes");
            assert_eq!(read.as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(*read, *bytes);
        }
        assert!(read(&[1, 2], 3, &Execution::undisturbed()).is_err());
    }

    #[test]
    fn reading_can_be_interrupted_between_two_steps() {
        let execution = Execution::undisturbed();
        let stop = execution.stop_flag();
        let mut steps = 0;
        let endless = ReadFrom(|bytes: &mut [u8]| {
            steps += 1;
            stop.store(steps == 2, Ordering::Relaxed);
            bytes.len()
        });
        let interrupted = Blob::read(endless, 1 << 30, Path::new("large"), &execution);
        assert!(matches!(interrupted, Err(Error::Interrupted)));
        assert_eq!(steps, 2, "the rest was not read");
    }

    /// A reader that is told how to fill each buffer.
    struct ReadFrom<F>(F);

    impl<F: FnMut(&mut [u8]) -> usize> Read for ReadFrom<F> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok((self.0)(buffer))
        }
    }

    fn read(bytes: &[u8], length: u64, execution: &Execution) -> Result<Blob> {
        Blob::read(bytes, length, Path::new("somewhere"), execution)
    }
}
