//! One byte string for each document: offsets and bytes, on disk, in memory and borrowed.

use std::ops::Range;

use crate::error::Result;
use crate::format::section::SectionKind;
use crate::format::{Blocks, Container, Sound};
use crate::parallel::Execution;
use crate::storage::Numbers;

/// Borrowed strings: string `i` is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strings<'a> {
    pub(crate) offsets: &'a [u64],
    pub(crate) bytes: &'a [u8],
}

impl<'a> Strings<'a> {
    /// The string of a document; empty if there is no such document.
    pub(crate) fn get(&self, document: usize) -> &'a [u8] {
        let ends = self.offsets.get(document..document + 2);
        ends.and_then(|ends| self.bytes.get(ends[0] as usize..ends[1] as usize)).unwrap_or_default()
    }
}

/// Strings inside a file, verified when they are read.
#[derive(Debug)]
pub(crate) struct StringColumn {
    offsets: Numbers<u64>,
    bytes: Blocks<u8>,
}

impl StringColumn {
    /// The strings of `documents` documents, if the file has these sections.
    pub(crate) fn open(
        container: &Container,
        offsets: SectionKind,
        bytes: SectionKind,
        documents: usize,
        execution: &Execution,
    ) -> Result<Option<Self>> {
        let Some(starts) = container.optional::<u64>(offsets, execution)? else {
            return Ok(None);
        };
        let bytes = Blocks::open(container, bytes, Sound::anything(), execution)?;
        check_offsets(&starts, documents, bytes.len() as u64)
            .map_err(|problem| container.corrupt(offsets.name(), problem))?;
        Ok(Some(Self { offsets: starts, bytes }))
    }

    /// The string of a document; empty if there is no such document.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub(crate) fn get(&self, document: usize) -> Result<&[u8]> {
        let ends = self.offsets.get(document..document + 2);
        ends.map_or(Ok(&[]), |ends| self.bytes.get(ends[0] as usize..ends[1] as usize))
    }

    /// All strings, once every block of them is sound.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], [`crate::Error::Interrupted`].
    pub(crate) fn verified(&self, execution: &Execution) -> Result<Strings<'_>> {
        Ok(Strings { offsets: &self.offsets, bytes: self.bytes.verified(execution)? })
    }

    /// All strings, for a caller that has verified the file.
    pub(crate) fn as_they_are(&self) -> Strings<'_> {
        Strings { offsets: &self.offsets, bytes: self.bytes.as_they_are() }
    }
}

/// Strings that grow.
#[derive(Clone, Debug)]
pub(crate) struct StringBuffer {
    offsets: Vec<u64>,
    bytes: Vec<u8>,
}

impl Default for StringBuffer {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl StringBuffer {
    pub(crate) fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.offsets.push(self.bytes.len() as u64);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.len() == 1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn view(&self) -> Strings<'_> {
        Strings { offsets: &self.offsets, bytes: &self.bytes }
    }
}

/// Whether `offsets` cut `total` elements into `parts` parts, one behind the other.
pub(crate) fn check_offsets<T: Copy + Ord + Into<u64>>(
    offsets: &[T],
    parts: usize,
    total: u64,
) -> std::result::Result<(), String> {
    if offsets.len().checked_sub(1) != Some(parts) {
        return Err(format!("{} offsets do not bound {parts} documents", offsets.len()));
    }
    let first: u64 = offsets[0].into();
    let last: u64 = offsets[parts].into();
    if first != 0 || last != total {
        return Err(format!("the offsets run from {first} to {last}, not from 0 to {total}"));
    }
    if offsets.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err("the offsets fall".to_owned());
    }
    Ok(())
}

/// Appends where each document of a run ends, and gives the range of what they are the ends of; `None` if they do not rise:
/// somebody wrote over them, under the map.
pub(crate) fn append_ends<T: Copy + Into<u64> + TryFrom<u64>>(to: &mut Vec<T>, run: &[T]) -> Option<Range<usize>> {
    let (base, first) = ((*to.last()?).into(), (*run.first()?).into());
    let mut last = first;
    for &end in &run[1..] {
        let end = end.into();
        if end < last {
            return None;
        }
        last = end;
        to.push(T::try_from(base.checked_add(end - first)?).ok()?);
    }
    Some(first as usize..last as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_rise_from_zero_to_the_total() {
        assert!(check_offsets(&[0_u64, 2, 2, 5], 3, 5).is_ok());
        assert!(check_offsets(&[0_u64], 0, 0).is_ok());
        assert!(check_offsets::<u64>(&[], 0, 0).is_err());
        assert!(check_offsets(&[0_u64, 2, 5], 3, 5).is_err());
        assert!(check_offsets(&[1_u64, 2, 5], 2, 5).is_err());
        assert!(check_offsets(&[0_u64, 6, 5], 2, 5).is_err());
        assert!(check_offsets(&[0_u32, 4], 1, 5).is_err());
    }

    #[test]
    fn a_missing_document_has_an_empty_string() {
        let mut buffer = StringBuffer::default();
        buffer.push(b"ab");
        buffer.push(b"");
        assert_eq!(buffer.view().get(0), b"ab");
        assert_eq!(buffer.view().get(1), b"");
        assert_eq!(buffer.view().get(2), b"");
    }

    #[test]
    fn offsets_that_were_written_over_are_noticed() {
        let mut ends = vec![0_u32, 7];
        assert_eq!(append_ends(&mut ends, &[3, 3, 5]), Some(3..5));
        assert_eq!(ends, [0, 7, 7, 9]);
        assert_eq!(append_ends(&mut ends, &[3, 5, 4]), None);
        assert_eq!(append_ends(&mut ends, &[0, u32::MAX]), None);
    }
}
