//! Where an index's files live: a trait of a few operations, and a disk, a memory and a failing disk behind it.
//!
//! The operations are the ones that the commit protocol of `docs/format.md` is written in. Files are written once,
//! from front to back, and never changed afterwards, so that a reader may map them without a lock.

mod mmap;
pub mod fs;
pub mod memory;
#[cfg(feature = "testing")]
pub mod fault;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::parallel::Execution;

pub use fs::FileStorage;
pub use memory::MemoryStorage;
pub use mmap::{Blob, Numbers, Plain};

pub(crate) use mmap::bytes_of;

/// A folder of write-once files.
///
/// Names are plain file names, without a path. Every error names the file by [`Storage::path`].
pub trait Storage: fmt::Debug + Send + Sync {
    /// The folder, for messages.
    fn place(&self) -> &Path;

    /// Names of all files.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] if the folder cannot be read.
    fn list(&self) -> Result<Vec<String>>;

    /// The whole content of a file. The file must not change any more.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`], of kind `NotFound` if there is no such file; [`crate::error::Error::Interrupted`] while
    /// it is read into memory.
    fn open(&self, name: &str, execution: &Execution) -> Result<Blob>;

    /// A new, empty file. One that is there already is unlinked first, never truncated: a reader may have mapped it.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    fn create(&self, name: &str) -> Result<Box<dyn NewFile>>;

    /// Gives a file another name, atomically, in place of the file that may have it.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Gives a file another name, atomically, unless a file has it: whether it got the name.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    fn rename_new(&self, from: &str, to: &str) -> Result<bool>;

    /// Removes a file. Readers that have it open keep their content.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    fn remove(&self, name: &str) -> Result<()>;

    /// Makes the names of all files durable.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    fn sync_folder(&self) -> Result<()>;

    /// Takes an exclusive lock that is released when the value is dropped or its process dies; `None` if somebody,
    /// in this process or another, holds it. Where locks of files do nothing, everybody gets it.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] if locks do not work here.
    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>>;

    /// The file's place, for messages.
    fn path(&self, name: &str) -> PathBuf {
        self.place().join(name)
    }
}

/// A file that is being written.
pub trait NewFile: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`]; the file is then of no use.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the content durable and closes the file.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`]; the file is then of no use, and the sync must not be tried again: the system may
    /// have dropped the pages that it failed to write.
    fn sync(self: Box<Self>) -> Result<()>;

    /// Closes the file without making the content durable: after a power cut it may be empty.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    fn close(self: Box<Self>) -> Result<()>;
}

/// A held lock.
pub trait Lock: fmt::Debug + Send + Sync {
    /// Whether who asks for the lock now would ask for this one: not if its file was removed, or stands in another folder
    /// by now.
    fn stands(&self) -> bool;
}
