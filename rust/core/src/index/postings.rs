//! Posting lists: from a centroid to the documents that have a token in its cell.
//!
//! A list is a sequence of varints, each the distance from the document before it less one; the first counts from -1.
//! Only centroids that have a list are named, so that a small segment is small whatever the number of centroids.

use crate::error::{Error, Result};
use crate::format::section::SectionKind;
use crate::format::{Blocks, Container, Sound};
use crate::parallel::Execution;
use crate::storage::Numbers;

use super::strings::check_offsets;

/// Low bits of a byte that belong to the number; the high one says that more bytes follow.
const VALUE_BITS: u32 = 7;
const MORE: u8 = 1 << VALUE_BITS;

/// The posting lists of a segment, as they stand in its sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PostingData {
    pub(crate) centroids: Vec<u16>,
    pub(crate) lengths: Vec<u32>,
    pub(crate) offsets: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl PostingData {
    /// Inverts the cells of documents, which `each` tells in the order of their ordinals, twice.
    ///
    /// # Errors
    /// That of `each`.
    pub(crate) fn build(centroid_count: usize, each: impl Fn(&mut dyn FnMut(u32, u16)) -> Result<()>) -> Result<Self> {
        // First every list's documents and bytes are counted, then it is written where it belongs.
        let mut lengths = vec![0_u32; centroid_count];
        let mut ends = vec![0_u64; centroid_count];
        let mut next = vec![0_u32; centroid_count];
        each(&mut |document, cell| {
            let cell = usize::from(cell);
            // A file from elsewhere may name a cell of a document twice.
            let Some(gap) = document.checked_sub(next[cell]) else { return };
            lengths[cell] += 1;
            ends[cell] += varint_bytes(gap) as u64;
            next[cell] = document + 1;
        })?;
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total - *end;
        }
        let mut bytes = vec![0; total as usize];
        let mut cursors = ends;
        next.fill(0);
        each(&mut |document, cell| {
            let cell = usize::from(cell);
            let Some(gap) = document.checked_sub(next[cell]) else { return };
            let at = &mut cursors[cell];
            *at += write_varint(gap, &mut bytes[*at as usize..]) as u64;
            next[cell] = document + 1;
        })?;
        let listed = || (0..centroid_count).filter(|&cell| lengths[cell] > 0);
        Ok(Self {
            centroids: listed().map(|cell| cell as u16).collect(),
            offsets: std::iter::once(0).chain(listed().map(|cell| cursors[cell])).collect(),
            lengths: listed().map(|cell| lengths[cell]).collect(),
            bytes,
        })
    }
}

/// The posting lists of an open segment.
#[derive(Debug)]
pub(crate) struct Postings {
    container: Container,
    centroids: Numbers<u16>,
    lengths: Numbers<u32>,
    offsets: Numbers<u64>,
    bytes: Blocks<u8>,
    documents: u32,
}

impl Postings {
    /// Opens the lists and checks their directory; the lists themselves are checked whenever they are read.
    pub(crate) fn open(
        container: &Container,
        documents: u32,
        centroid_count: usize,
        execution: &Execution,
    ) -> Result<Self> {
        let postings = Self {
            centroids: container.required(SectionKind::PostingCentroids, execution)?,
            lengths: container.required(SectionKind::PostingLengths, execution)?,
            offsets: container.required(SectionKind::PostingOffsets, execution)?,
            bytes: Blocks::open(container, SectionKind::Postings, Sound::anything(), execution)?,
            container: container.clone(),
            documents,
        };
        let Self { centroids, lengths, offsets, bytes, .. } = &postings;
        let corrupt = |section: SectionKind, problem: &str| container.corrupt(section.name(), problem);
        if centroids.windows(2).any(|pair| pair[0] >= pair[1])
            || centroids.last().is_some_and(|&last| usize::from(last) >= centroid_count)
        {
            return Err(corrupt(SectionKind::PostingCentroids, "the centroids do not rise, or the codec has fewer"));
        }
        check_offsets(offsets, centroids.len(), bytes.len() as u64)
            .map_err(|problem| corrupt(SectionKind::PostingOffsets, &problem))?;
        let within = |(&length, ends): (&u32, &[u64])| length <= documents && u64::from(length) <= ends[1] - ends[0];
        if lengths.len() != centroids.len() || !lengths.iter().zip(offsets.windows(2)).all(within) {
            return Err(corrupt(SectionKind::PostingLengths, "a list is longer than its bytes or the segment"));
        }
        Ok(postings)
    }

    /// Centroids that have a list, ascending.
    pub(crate) fn centroids(&self) -> &[u16] {
        &self.centroids
    }

    /// Documents in the list of a centroid.
    pub(crate) fn length(&self, centroid: u16) -> u32 {
        self.find(centroid).map_or(0, |list| self.lengths[list])
    }

    /// Appends the list of a centroid, ascending; on an error `into` is as it was before.
    pub(crate) fn read(&self, centroid: u16, into: &mut Vec<u32>) -> Result<()> {
        let Some(list) = self.find(centroid) else {
            return Ok(());
        };
        let (start, end) = (self.offsets[list] as usize, self.offsets[list + 1] as usize);
        let before = into.len();
        let bytes = self.bytes.get(start..end)?;
        read_list(bytes, self.lengths[list] as usize, self.documents, into).map_err(|problem| {
            into.truncate(before);
            self.corrupt(problem)
        })
    }

    /// An [`Error::Corrupt`] of the lists.
    pub(crate) fn corrupt(&self, problem: impl Into<String>) -> Error {
        self.container.corrupt(SectionKind::Postings.name(), problem)
    }

    /// Position of a centroid's list. Among `lists` ascending numbers below some K the number c stands at most K - lists
    /// before position c; the more centroids have a list, the shorter the search.
    fn find(&self, centroid: u16) -> Option<usize> {
        let lists = self.centroids.len();
        let last = usize::from(*self.centroids.last()?);
        let missing = (last + 1).saturating_sub(lists);
        let end = lists.min(usize::from(centroid) + 1);
        let start = usize::from(centroid).saturating_sub(missing).min(end);
        self.centroids[start..end].binary_search(&centroid).ok().map(|position| start + position)
    }
}

fn varint_bytes(value: u32) -> usize {
    (u32::BITS - value.leading_zeros()).div_ceil(VALUE_BITS).max(1) as usize
}

fn write_varint(mut value: u32, into: &mut [u8]) -> usize {
    let bytes = varint_bytes(value);
    for byte in &mut into[..bytes - 1] {
        *byte = value as u8 | MORE;
        value >>= VALUE_BITS;
    }
    into[bytes - 1] = value as u8;
    bytes
}

fn read_list(
    bytes: &[u8],
    length: usize,
    documents: u32,
    into: &mut Vec<u32>,
) -> std::result::Result<(), &'static str> {
    let mut rest = bytes;
    into.reserve(length.min(bytes.len()));
    // 64 bits hold the sum of a document and a distance, so that it can be compared before it is narrowed.
    let mut next = 0_u64;
    for _ in 0..length {
        let document = next + take_varint(&mut rest)?;
        if document >= u64::from(documents) {
            return Err("a list names a document beyond the last");
        }
        into.push(document as u32);
        next = document + 1;
    }
    if rest.is_empty() { Ok(()) } else { Err("bytes follow a list") }
}

fn take_varint(bytes: &mut &[u8]) -> std::result::Result<u64, &'static str> {
    // Which of one and two bytes it is, as nearly all are, no processor guesses: so there is no branch between them.
    if let &[first, second, ..] = *bytes
        && first & second & MORE == 0
    {
        let has_second = u64::from(first / MORE);
        *bytes = &bytes[1 + has_second as usize..];
        return Ok(u64::from(first & !MORE) | (u64::from(second) * has_second) << VALUE_BITS);
    }
    let mut value = 0_u64;
    let mut shift = 0;
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u64::from(byte & !MORE) << shift;
        if byte & MORE == 0 {
            return Ok(value);
        }
        shift += VALUE_BITS;
        if shift > u32::BITS {
            return Err("a number in a list is too long");
        }
    }
    Err("a list ends early")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_their_bytes() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX - 1] {
            let mut bytes = [0; 5];
            let written = write_varint(value, &mut bytes);
            let mut read = Vec::new();
            read_list(&bytes[..written], 1, u32::MAX, &mut read).expect("sound");
            assert_eq!(read, [value]);
        }
    }

    #[test]
    fn lists_are_the_inverse_of_cells() {
        let cells: [&[u16]; 5] = [&[1, 3], &[], &[0, 1, 2, 3], &[3], &[1]];
        let tell_all = |tell: &mut dyn FnMut(u32, u16)| {
            for (document, cells) in cells.iter().enumerate() {
                cells.iter().for_each(|&cell| tell(document as u32, cell));
            }
            Ok(())
        };
        let data = PostingData::build(6, tell_all).expect("nothing fails");
        assert_eq!(data.centroids, [0, 1, 2, 3]);
        assert_eq!(data.lengths, [1, 3, 1, 3]);
        let mut documents = Vec::new();
        for list in 0..4 {
            let bytes = &data.bytes[data.offsets[list] as usize..data.offsets[list + 1] as usize];
            read_list(bytes, data.lengths[list] as usize, 5, &mut documents).expect("sound");
        }
        assert_eq!(documents, [2, 0, 2, 4, 2, 0, 2, 3]);
        assert_eq!(PostingData::build(3, |_| Ok(())).expect("nothing fails").offsets, [0]);
    }

    #[test]
    fn hostile_lists_are_refused() {
        for (bytes, length, documents) in [
            (b"".as_slice(), 1, 9),
            (b"\x80", 1, 9),
            (b"\x09", 1, 9),
            (b"\x00\x00", 1, 9),
            (b"\x08\x00", 2, 9),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 1, u32::MAX),
            (b"\xff\xff\xff\xff\x7f", 1, u32::MAX),
        ] {
            assert!(read_list(bytes, length, documents, &mut Vec::new()).is_err(), "{bytes:?}");
        }
    }
}
