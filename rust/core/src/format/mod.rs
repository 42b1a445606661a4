//! The bytes of every file. The document is `docs/format.md`; this is its code.
//!
//! Every file is one *container*: a header, a table of sections and the sections, with nothing between or behind them.
//! All byte offsets stand in [`header`].

#[cfg(target_endian = "big")]
compile_error!("latewood's files are little-endian and are mapped as they are; big-endian targets are not supported");

mod checksum;
mod file_entry;
mod container;
mod blocks;
pub mod header;
mod tuning;
mod manifest;
mod newest;
pub mod names;
pub mod section;

pub(crate) use blocks::{Blocks, Sound};
pub use checksum::BLOCK_BYTES;
pub(crate) use checksum::checksum;
pub(crate) use container::{Container, SectionData, write_container};
pub use file_entry::FileEntry;
pub use manifest::{DocumentsEntry, KeptVectors, Manifest, SegmentEntry};
pub(crate) use manifest::{PublishFailure, Stored};
pub(crate) use newest::Newest;
pub use tuning::{Measured, Tuning, deviations_for, recall_at};
