//! A folder on a disk.
#![expect(clippy::disallowed_methods, reason = "Error::Io names the path, and keeps the system's number of the error")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Blob, Lock, NewFile, Storage};
use crate::error::{Error, Result};
use crate::parallel::Execution;

/// Bytes after which a file that is being written is synced: a sync cannot be interrupted, and so must not take long.
const SYNC_BYTES: usize = 32 << 20;

/// A folder on a disk, whose files are mapped or read.
#[derive(Clone, Debug)]
pub struct FileStorage {
    folder: PathBuf,
    mmap: bool,
}

impl FileStorage {
    /// The folder at `folder`, which need not exist yet. It stays that folder if the process goes to another one.
    /// `mmap: false` reads whole files into memory instead of mapping them: for disks on which somebody may shorten files
    /// under a reader.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that no folder can have.
    pub fn new(folder: impl AsRef<Path>, mmap: bool) -> Result<Self> {
        let folder = folder.as_ref();
        let absolute = std::path::absolute(folder);
        let absolute = absolute.map_err(|error| Error::invalid(format!("path {}: {error}", folder.display())))?;
        Ok(Self { folder: absolute, mmap })
    }

    /// Makes the folder, and those above it, if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made.
    pub fn make_folder(&self) -> Result<()> {
        if !self.folder.is_dir() {
            fs::create_dir_all(&self.folder).map_err(failed("create the folder", &self.folder))?;
            if let Some(parent) = self.folder.parent() {
                sync_folder(parent)?;
            }
        }
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io(action, path)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

/// Windows keeps names durable by itself and opens no folder for syncing.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> Result<()> {
    Ok(())
}

impl Storage for FileStorage {
    fn place(&self) -> &Path {
        &self.folder
    }

    fn list(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let entry = entry.map_err(failed("list", &self.folder))?;
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, name: &str, execution: &Execution) -> Result<Blob> {
        let path = self.path(name);
        let metadata = fs::metadata(&path).map_err(failed("open", &path))?;
        if !metadata.is_file() {
            // A pipe that somebody put there would let its reader wait for ever.
            return Err(failed("open", &path)(io::Error::other("it is no regular file")));
        }
        let file = File::open(&path).map_err(failed("open", &path))?;
        let length = file.metadata().map_err(failed("open", &path))?.len();
        if self.mmap {
            Blob::map(&file).map_err(failed("read", &path))
        } else {
            Blob::read(file, length, &path, execution)
        }
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>> {
        let path = self.path(name);
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                open()
            }
            other => other,
        };
        Ok(Box::new(DiskFile { file: file.map_err(failed("create", &path))?, path, unsynced: 0 }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let to = self.path(to);
        fs::rename(self.path(from), &to).map_err(failed("rename to", &to))
    }

    /// By a second name of the same file, which no system gives in place of another. A medium that knows no second names
    /// gets a rename after a look: two writers that publish at the same instant are then not kept apart.
    fn rename_new(&self, from: &str, to: &str) -> Result<bool> {
        let (old, new) = (self.path(from), self.path(to));
        match fs::hard_link(&old, &new) {
            Ok(()) => {
                // A second name does no harm: the next commit removes it.
                let _ = fs::remove_file(&old);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StorageFull) => {
                Err(failed("link", &new)(error))
            }
            Err(_) if fs::exists(&new).map_err(failed("look for", &new))? => Ok(false),
            Err(_) => self.rename(from, to).map(|()| true),
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    fn sync_folder(&self) -> Result<()> {
        sync_folder(&self.folder)
    }

    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>> {
        let path = self.path(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed("lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(FileLock { file, path, process: std::process::id() }))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }
}

struct DiskFile {
    file: File,
    path: PathBuf,
    /// Bytes written since the last sync.
    unsynced: usize,
}

impl NewFile for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(failed("write", &self.path))?;
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data().map_err(failed("sync", &self.path))?;
        }
        Ok(())
    }

    fn sync(self: Box<Self>) -> Result<()> {
        self.file.sync_all().map_err(failed("sync", &self.path))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct FileLock {
    file: File,
    path: PathBuf,
    process: u32,
}

impl Lock for FileLock {
    #[cfg(unix)]
    fn stands(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino()));
        match (identity(self.file.metadata()), identity(fs::metadata(&self.path))) {
            (Ok(held), Ok(there)) => held == there,
            _ => false,
        }
    }

    /// Windows lets nobody remove a file that is open.
    #[cfg(not(unix))]
    fn stands(&self) -> bool {
        self.path.exists()
    }
}

impl Drop for FileLock {
    /// Releases the lock even while a forked child still holds a copy of the handle; the child itself, whose copy is
    /// of the same lock, leaves it alone.
    fn drop(&mut self) {
        if std::process::id() == self.process {
            // Closing the handle releases the lock too, unless a child has it.
            let _ = self.file.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_renamed_listed_and_removed() {
        let execution = Execution::undisturbed();
        let folder = tempfile::tempdir().expect("a folder");
        let storage = FileStorage::new(folder.path().join("a").join("b"), true).expect("a path");
        storage.make_folder().expect("made");
        for (name, bytes) in [("empty", b"".as_slice()), ("full", b"hello")] {
            let mut file = storage.create(name).expect("created");
            file.write(bytes).expect("written");
            file.sync().expect("synced");
            for mmap in [true, false] {
                let blob =
                    FileStorage::new(storage.place(), mmap).expect("a path").open(name, &execution).expect("opened");
                assert_eq!(*blob, *bytes);
            }
        }
        let mapped = storage.open("full", &execution).expect("opened");
        storage.create("full").expect("created again").sync().expect("synced");
        assert_eq!(*mapped, *b"hello", "a reader keeps what it mapped");
        storage.rename("full", "other").expect("renamed");
        assert!(!storage.rename_new("empty", "other").expect("works"), "the name is taken");
        assert!(storage.rename_new("other", "third").expect("works"));
        storage.rename("third", "other").expect("renamed");
        storage.sync_folder().expect("synced");
        let mut names = storage.list().expect("listed");
        names.sort();
        assert_eq!(names, ["empty", "other"]);
        storage.remove("other").expect("removed");
        let error = storage.open("other", &execution).expect_err("gone").to_string();
        assert_eq!(error.matches("other").count(), 1, "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = FileStorage::new(folder.path(), true).expect("a path");
        let made = std::process::Command::new("mkfifo").arg(storage.path("pipe")).status().expect("run");
        assert!(made.success());
        fs::create_dir(storage.path("folder")).expect("made");
        for name in ["pipe", "folder"] {
            assert!(
                storage
                    .open(name, &Execution::undisturbed())
                    .expect_err("no file")
                    .to_string()
                    .contains("no regular file")
            );
        }
    }

    #[test]
    fn a_lock_is_held_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = FileStorage::new(folder.path(), true).expect("a path");
        let lock = storage.try_lock("LOCK").expect("works").expect("free");
        assert!(storage.try_lock("LOCK").expect("works").is_none());
        assert!(lock.stands());
        drop(lock);
        assert!(storage.try_lock("LOCK").expect("works").is_some());
    }

    #[test]
    fn a_lock_whose_file_was_removed_stands_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = FileStorage::new(folder.path(), true).expect("a path");
        let first = storage.try_lock("LOCK").expect("works").expect("free");
        storage.remove("LOCK").expect("removed");
        assert!(!first.stands());
        let second = storage.try_lock("LOCK").expect("works").expect("another file");
        assert!(second.stands() && !first.stands());
    }

    #[test]
    fn a_relative_folder_stays_where_it_was() {
        let storage = FileStorage::new("somewhere", true).expect("a path");
        assert!(storage.place().is_absolute());
        assert!(FileStorage::new("", true).is_err());
    }
}
