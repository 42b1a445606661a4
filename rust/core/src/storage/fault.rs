//! A disk that fails, fills up or loses power at a chosen operation.
//!
//! It keeps apart what a process sees (*live*) and what a power cut leaves (*durable*): a file's bytes become durable
//! by its sync, the names of files by the folder's. After a cut the disk may hold anything between the two, as
//! [`Survivors`] lists.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blob, Lock, MemoryStorage, NewFile, Storage};
use crate::error::{Error, Result};
use crate::parallel::Execution;

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails once, with an input/output error.
    Error,
    /// It and all that write after it fail, for want of room; removing files works.
    NoSpace,
    /// It fails half done, and everything after it fails: the power is gone.
    Crash,
}

/// What a power cut leaves of the operations that were not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Nothing.
    Nothing,
    /// Names, but not the bytes of files: what journals of metadata do.
    Names,
    /// Names, and the first half of each file's bytes.
    NamesAndHalf,
    /// Everything.
    Everything,
}

impl Survivors {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Names, Self::NamesAndHalf, Self::Everything];
}

/// A disk that fails at a chosen operation; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultStorage {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    locks: BTreeSet<String>,
    operations: usize,
    fault: Option<(usize, Fault)>,
    dead: bool,
    full: bool,
}

/// What an operation that has been let through is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Half,
}

impl FaultStorage {
    /// An empty disk that does not fail.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the operation after `operations` others fail, counted from the first of this disk.
    pub fn fail_at(&self, operations: usize, fault: Fault) {
        self.state().fault = Some((operations, fault));
    }

    /// Operations so far that change the disk or make it durable.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    /// Whether the chosen operation has been reached.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let state = self.state();
        state.fault.is_some_and(|(at, _)| state.operations > at)
    }

    /// What is on the disk after a power cut now.
    #[must_use]
    pub fn after_power_cut(&self, survivors: Survivors) -> MemoryStorage {
        let state = self.state();
        let names = if survivors == Survivors::Nothing { &state.durable } else { &state.live };
        let bytes = |content: &Content| match survivors {
            Survivors::Nothing | Survivors::Names => content.durable.clone(),
            // Bytes that were synced are there in any case.
            Survivors::NamesAndHalf => {
                let kept = content.durable.len().max(content.live.len() / 2);
                content.live[..kept].to_vec()
            }
            Survivors::Everything => content.live.clone(),
        };
        MemoryStorage::from_files(names.iter().map(|(name, &at)| (name.clone(), bytes(&state.contents[at]))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self, action: &'static str, name: &str, takes_room: bool) -> Result<Outcome> {
        let failed = |kind: io::ErrorKind| Err(Error::io(action, self.path(name))(kind.into()));
        let mut state = self.state();
        if state.dead {
            return failed(io::ErrorKind::BrokenPipe);
        }
        let now = state.operations;
        state.operations += 1;
        match state.fault {
            Some((at, Fault::Error)) if at == now => return failed(io::ErrorKind::Other),
            Some((at, Fault::NoSpace)) if at == now => state.full = true,
            Some((at, Fault::Crash)) if at == now => {
                state.dead = true;
                return Ok(Outcome::Half);
            }
            _ => {}
        }
        if state.full && takes_room { failed(io::ErrorKind::StorageFull) } else { Ok(Outcome::Done) }
    }

    fn crashed(&self, name: &str) -> Error {
        Error::io("crash at", self.path(name))(io::ErrorKind::BrokenPipe.into())
    }

    fn missing(&self, name: &str) -> Error {
        Error::io("find", self.path(name))(io::ErrorKind::NotFound.into())
    }
}

impl Storage for FaultStorage {
    fn place(&self) -> &Path {
        Path::new("faulty")
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.state().live.keys().cloned().collect())
    }

    fn open(&self, name: &str, _execution: &Execution) -> Result<Blob> {
        let state = self.state();
        let at = state.live.get(name).ok_or_else(|| self.missing(name))?;
        Ok(Blob::from(state.contents[*at].live.as_slice()))
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>> {
        let outcome = self.operation("create", name, true)?;
        let mut state = self.state();
        let at = state.contents.len();
        state.contents.push(Content::default());
        state.live.insert(name.to_owned(), at);
        if outcome == Outcome::Half {
            return Err(self.crashed(name));
        }
        Ok(Box::new(FaultFile { storage: self.clone(), name: name.to_owned(), at }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let outcome = self.operation("rename", to, false)?;
        let mut state = self.state();
        let at = state.live.remove(from).ok_or_else(|| self.missing(from))?;
        state.live.insert(to.to_owned(), at);
        if outcome == Outcome::Half { Err(self.crashed(to)) } else { Ok(()) }
    }

    fn rename_new(&self, from: &str, to: &str) -> Result<bool> {
        if self.state().live.contains_key(to) {
            return Ok(false);
        }
        self.rename(from, to).map(|()| true)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let outcome = self.operation("remove", name, false)?;
        self.state().live.remove(name).ok_or_else(|| self.missing(name))?;
        if outcome == Outcome::Half { Err(self.crashed(name)) } else { Ok(()) }
    }

    fn sync_folder(&self) -> Result<()> {
        if self.operation("sync", ".", false)? == Outcome::Half {
            return Err(self.crashed("."));
        }
        let mut state = self.state();
        state.durable = state.live.clone();
        Ok(())
    }

    fn try_lock(&self, name: &str) -> Result<Option<Box<dyn Lock>>> {
        let free = self.state().locks.insert(name.to_owned());
        Ok(free.then(|| Box::new(FaultLock { storage: self.clone(), name: name.to_owned() }) as Box<dyn Lock>))
    }
}

struct FaultFile {
    storage: FaultStorage,
    name: String,
    at: usize,
}

impl NewFile for FaultFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let outcome = self.storage.operation("write", &self.name, true)?;
        let written = if outcome == Outcome::Half { &bytes[..bytes.len() / 2] } else { bytes };
        self.storage.state().contents[self.at].live.extend_from_slice(written);
        if outcome == Outcome::Half { Err(self.storage.crashed(&self.name)) } else { Ok(()) }
    }

    fn sync(self: Box<Self>) -> Result<()> {
        if self.storage.operation("sync", &self.name, true)? == Outcome::Half {
            return Err(self.storage.crashed(&self.name));
        }
        let content = &mut self.storage.state().contents[self.at];
        content.durable = content.live.clone();
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct FaultLock {
    storage: FaultStorage,
    name: String,
}

impl Lock for FaultLock {
    fn stands(&self) -> bool {
        true
    }
}

impl Drop for FaultLock {
    fn drop(&mut self) {
        self.storage.state().locks.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_survives() {
        let execution = Execution::undisturbed();
        let disk = FaultStorage::new();
        let mut file = disk.create("a").expect("created");
        file.write(b"1234").expect("written");
        assert!(disk.after_power_cut(Survivors::Nothing).list().expect("listed").is_empty());
        let half = disk.after_power_cut(Survivors::NamesAndHalf);
        assert_eq!(*half.open("a", &execution).expect("there"), *b"12");
        assert!(disk.after_power_cut(Survivors::Names).open("a", &execution).expect("there").is_empty());
        file.sync().expect("synced");
        disk.sync_folder().expect("synced");
        disk.rename("a", "b").expect("renamed");
        assert_eq!(*disk.after_power_cut(Survivors::Nothing).open("a", &execution).expect("the old name"), *b"1234");
        assert_eq!(*disk.after_power_cut(Survivors::Names).open("b", &execution).expect("the new name"), *b"1234");
        assert_eq!(disk.operations(), 5);
    }

    #[test]
    fn faults_strike_where_they_are_told() {
        let disk = FaultStorage::new();
        disk.fail_at(1, Fault::Error);
        let mut file = disk.create("a").expect("the first works");
        assert!(file.write(b"1").is_err() && disk.has_failed());
        assert!(file.write(b"1").is_ok(), "an error strikes once");
        disk.fail_at(disk.operations(), Fault::NoSpace);
        assert!(file.write(b"1").is_err() && disk.create("b").is_err());
        assert!(disk.remove("a").is_ok(), "a full disk lets files go");
        let disk = FaultStorage::new();
        disk.fail_at(0, Fault::Crash);
        assert!(disk.create("a").is_err() && disk.sync_folder().is_err());
    }
}
