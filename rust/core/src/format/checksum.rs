//! The one checksum of the format, XXH3 with 64 bits and seed 0, and the blocks that each have one.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::error::Result;
use crate::parallel::Execution;

/// Bytes of a block; the last one of a section may be shorter. A larger one makes the first read of a document slower, and
/// a smaller one the file longer: eight bytes for each.
pub const BLOCK_BYTES: usize = 1 << 14;

/// Bytes that are read or written between two looks at whether to stop.
pub(super) const STEP_BYTES: usize = 1 << 20;

/// XXH3-64 of `bytes`.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The same over bytes that come in pieces.
#[derive(Default)]
pub(crate) struct Hasher(Xxh3Default);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// Blocks of a section of so many bytes.
pub(crate) fn block_count(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES as u64)
}

/// The checksums of the blocks of a section that comes in pieces.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub(crate) fn block_checksums(pieces: &[&[u8]], execution: &Execution) -> Result<Vec<u64>> {
    let mut checksums = Vec::new();
    let (mut hasher, mut filled) = (Hasher::default(), 0);
    for mut piece in pieces.iter().flat_map(|piece| piece.chunks(STEP_BYTES)) {
        execution.check()?;
        if filled == 0 {
            // Whole blocks need no state between pieces.
            let (blocks, rest) = piece.as_chunks::<BLOCK_BYTES>();
            checksums.extend(blocks.iter().map(|block| checksum(block)));
            piece = rest;
        }
        while !piece.is_empty() {
            let (head, tail) = piece.split_at(piece.len().min(BLOCK_BYTES - filled));
            hasher.update(head);
            filled += head.len();
            piece = tail;
            if filled == BLOCK_BYTES {
                checksums.push(hasher.finish());
                (hasher, filled) = (Hasher::default(), 0);
            }
        }
    }
    if filled > 0 {
        checksums.push(hasher.finish());
    }
    Ok(checksums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_change_the_checksums() {
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 5).map(|at| (at % 251) as u8).collect();
        let checksums = |pieces: &[&[u8]]| block_checksums(pieces, &Execution::undisturbed()).expect("not interrupted");
        let whole = checksums(&[&bytes]);
        assert_eq!(whole.len() as u64, block_count(bytes.len() as u64));
        assert_eq!(whole[1], checksum(&bytes[BLOCK_BYTES..2 * BLOCK_BYTES]));
        assert_eq!(whole[3], checksum(&bytes[3 * BLOCK_BYTES..]));
        for cut in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, bytes.len()] {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(checksums(&[head, &[], tail]), whole, "cut at {cut}");
        }
        assert!(checksums(&[]).is_empty());
        assert_eq!(block_count(0), 0);
    }
}
