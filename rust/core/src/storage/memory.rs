//! Files that live in this process's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blob, Lock, NewFile, Storage};
use crate::error::{Error, Result};
use crate::parallel::Execution;

/// Files that live in this process's memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Blob>,
    locks: BTreeSet<String>,
}

impl MemoryStorage {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder with these files.
    #[must_use]
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let storage = Self::new();
        for (name, bytes) in files {
            storage.replace(&name, &bytes);
        }
        storage
    }

    /// Puts a file in place of another, as a test of corruption does.
    pub fn replace(&self, name: &str, bytes: &[u8]) {
        self.state().files.insert(name.to_owned(), Blob::from(bytes));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, action: &'static str, name: &str) -> Error {
        Error::io(action, self.path(name))(io::ErrorKind::NotFound.into())
    }
}

impl Storage for MemoryStorage {
    fn place(&self) -> &Path {
        Path::new("memory")
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }

    fn open(&self, name: &str, _execution: &Execution) -> Result<Blob> {
        let found = self.state().files.get(name).cloned();
        found.ok_or_else(|| self.missing("open", name))
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>> {
        self.state().files.insert(name.to_owned(), Blob::default());
        Ok(Box::new(MemoryFile { storage: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut state = self.state();
        let blob = state.files.remove(from).ok_or_else(|| self.missing("rename", from))?;
        state.files.insert(to.to_owned(), blob);
        Ok(())
    }

    fn rename_new(&self, from: &str, to: &str) -> Result<bool> {
        if self.state().files.contains_key(to) {
            return Ok(false);
        }
        self.rename(from, to).map(|()| true)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let removed = self.state().files.remove(name);
        removed.map(drop).ok_or_else(|| self.missing("remove", name))
    }

    fn sync_folder(&self) -> Result<()> {
        Ok(())
    }

    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>> {
        let free = self.state().locks.insert(name.to_owned());
        Ok(free.then(|| Box::new(MemoryLock { storage: self.clone(), name: name.to_owned() }) as Box<dyn Lock>))
    }
}

struct MemoryFile {
    storage: MemoryStorage,
    name: String,
    bytes: Vec<u8>,
}

impl NewFile for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(self: Box<Self>) -> Result<()> {
        self.storage.replace(&self.name, &self.bytes);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

#[derive(Debug)]
struct MemoryLock {
    storage: MemoryStorage,
    name: String,
}

impl Lock for MemoryLock {
    fn stands(&self) -> bool {
        true
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.storage.state().locks.remove(&self.name);
    }
}
