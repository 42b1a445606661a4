//! The one checksum of the format: XXH3 with 64 bits and seed 0.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

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
