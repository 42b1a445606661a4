//! Mapped files, and the arrays of numbers in them: the only `unsafe` code of this crate.
#![expect(unsafe_code, reason = "mapping a file and viewing bytes as numbers cannot be said in safe Rust")]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::slice;

use memmap2::Mmap;

use super::Blob;

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
pub(super) fn map(file: &File) -> io::Result<Mmap> {
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
pub struct Column<T> {
    first: NonNull<T>,
    length: usize,
    /// Keeps what `first` points to.
    _blob: Blob,
}

impl<T: Plain> Column<T> {
    /// The numbers at `range` (in bytes), or `None` if that is no aligned, whole number of them inside the blob.
    #[must_use]
    pub fn new(blob: &Blob, range: Range<usize>) -> Option<Self> {
        let bytes = blob.get(range)?;
        let first = NonNull::from(bytes).cast::<T>();
        let whole = bytes.len().is_multiple_of(size_of::<T>()) && first.is_aligned();
        whole.then(|| Self { first, length: bytes.len() / size_of::<T>(), _blob: blob.clone() })
    }
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self { first: NonNull::dangling(), length: 0, _blob: Blob::default() }
    }
}

impl<T: Plain> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` has seen that this many aligned numbers lie inside the blob, which this value keeps and which
        // neither moves nor changes; `Plain` types take every bit pattern. The default is dangling, aligned and empty.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

impl<T> fmt::Debug for Column<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Column({} numbers)", self.length)
    }
}

// SAFETY: the pointer is only read through, and what it points to is shared and immutable.
unsafe impl<T: Plain> Send for Column<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Column<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_whole_aligned_and_inside() {
        let blob = Blob::from([1_u8, 0, 2, 0, 3].as_slice());
        let column = Column::<u16>::new(&blob, 0..4).expect("whole");
        assert!(Column::<u16>::new(&blob, 0..5).is_none());
        assert!(Column::<u16>::new(&blob, 1..3).is_none());
        assert!(Column::<u8>::new(&blob, 0..6).is_none());
        drop(blob);
        assert_eq!(*column.clone(), [1, 2], "the column keeps its bytes");
        assert!(Column::<u32>::default().is_empty());
        assert_eq!(bytes_of(&[0x0201_u16, 0x0403]), [1, 2, 3, 4]);
    }
}
