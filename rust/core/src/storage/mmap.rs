//! Mapped files and arrays seen as bytes: the only `unsafe` code of this crate.
#![expect(unsafe_code, reason = "mapping a file and viewing bytes as numbers cannot be said in safe Rust")]

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::slice;

use memmap2::Mmap;

mod sealed {
    pub trait Sealed {}
}

/// A number without padding for which every bit pattern is a value.
pub trait Plain: Copy + sealed::Sealed + 'static {}

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

/// `bytes` as numbers, if their length is a whole number of them and they are aligned for them.
pub(super) fn cast<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    let first = bytes.as_ptr().cast::<T>();
    if !bytes.len().is_multiple_of(size_of::<T>()) || !first.is_aligned() {
        return None;
    }
    // SAFETY: the range is that of `bytes`, whose lifetime the result has; alignment and length were just checked;
    // `Plain` types take every bit pattern.
    Some(unsafe { slice::from_raw_parts(first, bytes.len() / size_of::<T>()) })
}

/// `values` as bytes.
pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: the range is that of `values`, whose lifetime the result has; `Plain` types have no padding, so that
    // every byte is initialised.
    unsafe { slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}
