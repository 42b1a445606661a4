//! The content of a file, mapped or owned, and the arrays of numbers in it: the only `unsafe` code of this crate.
#![expect(unsafe_code, reason = "mapping a file and viewing bytes as numbers cannot be said in safe Rust")]

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::Path;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

#[cfg(unix)]
use memmap2::Advice;
use memmap2::Mmap;

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
    pub(super) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::default());
        }
        let map = map(file)?;
        // Until `ask_ahead`: the system reads megabytes around a page that is missing, of which opening needs kilobytes.
        #[cfg(unix)]
        drop(map.advise(Advice::Random));
        Ok(Self(Arc::new(Bytes::Mapped(map))))
    }

    /// Has the system begin to read these parts, where they are not in memory, and read the others as it does by itself.
    #[cfg_attr(not(unix), expect(unused_variables, reason = "other systems take no advice"))]
    pub(crate) fn ask_ahead(&self, parts: impl IntoIterator<Item = Range<usize>>) {
        // Advice that the system does not take changes nothing but the time.
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &*self.0 {
            for part in parts {
                drop(map.advise_range(Advice::WillNeed, part.start, part.len()));
            }
            drop(map.advise(Advice::Normal));
        }
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

mod sealed {
    pub trait Sealed {}
}

/// A number without padding for which every bit pattern is a value.
pub trait Plain: Copy + Send + Sync + sealed::Sealed + 'static {}

macro_rules! plain {
    ($($number:ty)*) => {
        $(
            impl sealed::Sealed for $number {}
            impl Plain for $number {}
        )*
    };
}

plain!(u8 i8 u16 u32 u64 i64 f32);

/// Maps a whole file for reading.
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: files of an index are written once, under a name that no reader knows yet, and are afterwards only
    // unlinked, never truncated or written (`Storage::create`). Somebody else who shortens a mapped file makes reads
    // fault; `mmap: false` is for folders where that must be expected.
    unsafe { Mmap::map(file) }
}

/// `values` as bytes.
pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: the range is that of `values`, whose lifetime the result has; `Plain` types have no padding, so that
    // every byte is initialised.
    unsafe { slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// An array of little-endian numbers inside a [`Blob`].
#[derive(Clone)]
pub struct Numbers<T> {
    first: NonNull<T>,
    length: usize,
    /// Keeps what `first` points to.
    _blob: Blob,
}

impl<T: Plain> Numbers<T> {
    /// The numbers at `range` (in bytes), or `None` if that is no aligned, whole number of them inside the blob.
    #[must_use]
    pub fn new(blob: &Blob, range: Range<usize>) -> Option<Self> {
        let bytes = blob.get(range)?;
        let first = NonNull::from(bytes).cast::<T>();
        let whole = bytes.len().is_multiple_of(size_of::<T>()) && first.is_aligned();
        whole.then(|| Self { first, length: bytes.len() / size_of::<T>(), _blob: blob.clone() })
    }
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { first: NonNull::dangling(), length: 0, _blob: Blob::default() }
    }
}

impl<T: Plain> Deref for Numbers<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` has seen that this many aligned numbers lie inside the blob, which this value keeps and which
        // neither moves nor changes; `Plain` types take every bit pattern. The default is dangling, aligned and empty.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

impl<T> fmt::Debug for Numbers<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Numbers({} numbers)", self.length)
    }
}

// SAFETY: the pointer is only read through, and what it points to is shared and immutable.
unsafe impl<T: Plain> Send for Numbers<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Numbers<T> {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_column_is_whole_aligned_and_inside() {
        let blob = Blob::from([1_u8, 0, 2, 0, 3].as_slice());
        let column = Numbers::<u16>::new(&blob, 0..4).expect("whole");
        assert!(Numbers::<u16>::new(&blob, 0..5).is_none());
        assert!(Numbers::<u16>::new(&blob, 1..3).is_none());
        assert!(Numbers::<u8>::new(&blob, 0..6).is_none());
        drop(blob);
        assert_eq!(*column.clone(), [1, 2], "the column keeps its bytes");
        assert!(Numbers::<u32>::default().is_empty());
        assert_eq!(bytes_of(&[0x0201_u16, 0x0403]), [1, 2, 3, 4]);
    }

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
