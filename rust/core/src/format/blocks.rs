//! Sections in blocks with a checksum each: a reader verifies what it touches, once, and no more.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::checksum::{BLOCK_BYTES, STEP_BYTES, checksum};
use super::container::Container;
use super::section::SectionKind;
use crate::error::Result;
use crate::parallel::Execution;
use crate::storage::{Numbers, Plain, bytes_of};

/// What must hold of every number of a section, besides their checksums.
pub(crate) struct Sound<T> {
    /// Whether it holds of these numbers, given the limit.
    pub(crate) holds: fn(&[T], usize) -> bool,
    pub(crate) limit: usize,
    /// What is wrong if it does not.
    pub(crate) problem: &'static str,
}

impl<T> Sound<T> {
    /// Nothing: every number will do.
    pub(crate) fn anything() -> Self {
        Self { holds: |_, _| true, limit: 0, problem: "" }
    }
}

/// The numbers of a large section, whose blocks are verified when they are first read.
pub(crate) struct Blocks<T> {
    column: Numbers<T>,
    container: Container,
    kind: SectionKind,
    sound: Sound<T>,
    /// Checksum of each block.
    checksums: Numbers<u64>,
    /// A bit for each block that was found sound.
    seen: Box<[AtomicU64]>,
    /// Blocks that were not yet; 0 too where there is nothing to verify.
    unseen: AtomicUsize,
}

impl<T: Plain> Blocks<T> {
    /// The section of a container, which must have it. Where it lies in memory already, or has no checksums of blocks, as
    /// in format 1, all that can be verified is verified now.
    pub(crate) fn open(
        container: &Container,
        kind: SectionKind,
        sound: Sound<T>,
        execution: &Execution,
    ) -> Result<Self> {
        let (column, checksums) = container.lazily::<T>(kind, execution)?;
        let without_blocks = checksums.is_none();
        let checksums = checksums.unwrap_or_default();
        let seen = (0..checksums.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let unseen = AtomicUsize::new(checksums.len());
        let blocks = Self { column, container: container.clone(), kind, sound, checksums, seen, unseen };
        if without_blocks {
            for numbers in blocks.column.chunks(STEP_BYTES / size_of::<T>()) {
                execution.check()?;
                blocks.check_sound(numbers)?;
            }
        } else if blocks.container.is_in_memory() {
            blocks.verified(execution)?;
        }
        Ok(blocks)
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        self.column.len()
    }

    /// The numbers at `range`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if a block of them is damaged, or the range is not inside the section: the file changed
    /// under the reader.
    pub(crate) fn get(&self, range: Range<usize>) -> Result<&[T]> {
        let numbers = self.column.get(range.clone()).ok_or_else(|| self.corrupt("it changed while it was read"))?;
        if self.unseen.load(Ordering::Relaxed) > 0 && !numbers.is_empty() {
            self.verify_at(&range)?;
        }
        Ok(numbers)
    }

    /// All numbers.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn all(&self) -> Result<&[T]> {
        self.get(0..self.column.len())
    }

    /// All numbers, however long it takes to verify them.
    ///
    /// # Errors
    /// As [`Self::get`]; [`crate::Error::Interrupted`].
    pub(crate) fn verified(&self, execution: &Execution) -> Result<&[T]> {
        let step = STEP_BYTES / size_of::<T>();
        for start in (0..self.column.len()).step_by(step) {
            execution.check()?;
            self.get(start..self.column.len().min(start + step))?;
        }
        Ok(&self.column)
    }

    /// All numbers, for a caller that has verified the file.
    pub(crate) fn as_they_are(&self) -> &[T] {
        &self.column
    }

    /// Verifies the blocks of a range that is not empty, as far as they have not been.
    fn verify_at(&self, range: &Range<usize>) -> Result<()> {
        let bytes = range.start * size_of::<T>()..range.end * size_of::<T>();
        for block in bytes.start / BLOCK_BYTES..=(bytes.end - 1) / BLOCK_BYTES {
            if self.seen[block / 64].load(Ordering::Relaxed) >> (block % 64) & 1 == 0 {
                self.verify(block)?;
            }
        }
        Ok(())
    }

    #[cold]
    fn verify(&self, block: usize) -> Result<()> {
        let per_block = BLOCK_BYTES / size_of::<T>();
        let numbers = &self.column[block * per_block..self.column.len().min((block + 1) * per_block)];
        if checksum(bytes_of(numbers)) != self.checksums[block] {
            return Err(self.container.damaged_block(self.kind, block));
        }
        self.check_sound(numbers)?;
        let before = self.seen[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
        if before >> (block % 64) & 1 == 0 {
            self.unseen.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn check_sound(&self, numbers: &[T]) -> Result<()> {
        if (self.sound.holds)(numbers, self.sound.limit) { Ok(()) } else { Err(self.corrupt(self.sound.problem)) }
    }

    fn corrupt(&self, problem: &str) -> crate::Error {
        self.container.corrupt(self.kind.name(), problem)
    }
}

impl<T> fmt::Debug for Blocks<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Blocks({})", self.kind.name())
    }
}
