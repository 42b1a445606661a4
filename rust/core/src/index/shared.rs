//! What an index and its writer share: the folder, and the generation that readers see.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::generations::without_folder;
use super::snapshot::{Snapshot, is_newest, open_newest};
use crate::error::{Error, Result};
use crate::format::names;
use crate::parallel::Execution;
use crate::storage::{Lock, Storage};

/// What an index and its writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    /// Without a lock, which a forked child could find held by a thread that it does not have.
    pub(super) current: ArcSwap<Snapshot>,
    /// Whether it was opened at a generation that was asked for.
    pub(super) pinned: bool,
}

impl Shared {
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Opens the newest generation, if it is another than the current one.
    pub(super) fn refresh(&self, execution: &Execution) -> Result<bool> {
        if self.pinned {
            return Ok(false);
        }
        let current = self.snapshot();
        if is_newest(&*self.storage, &current) {
            return Ok(false);
        }
        let snapshot = open_newest(&*self.storage, Some(&current), execution)?;
        let replaced = |problem: String| Error::Replaced { path: self.storage.place().to_owned(), problem };
        let (old, new) = (current.manifest(), snapshot.manifest());
        if old.index.is_some() && old.index != new.index {
            return Err(replaced("it was created at another time".to_owned()));
        }
        if (snapshot.generation, snapshot.checksum()) == (current.generation, current.checksum()) {
            return Ok(false);
        }
        if snapshot.generation <= current.generation {
            return Err(replaced(format!(
                "its newest generation is {}, and this object has seen generation {}",
                snapshot.generation, current.generation
            )));
        }
        if snapshot.descends_from(&current) == Some(false) {
            return Err(replaced(format!(
                "generation {}, which this object has seen, is not among the commits that the newest one comes from",
                current.generation
            )));
        }
        let snapshot = Arc::new(snapshot);
        // A commit of this process may have been quicker: nobody goes back.
        self.current.rcu(|now| Arc::clone(if now.generation < snapshot.generation { &snapshot } else { now }));
        Ok(true)
    }

    pub(super) fn lock(&self) -> Result<Box<dyn Lock>> {
        lock(&*self.storage)
    }
}

/// The lock of the one writer.
///
/// # Errors
/// [`Error::Locked`] while somebody holds it, [`Error::NotAnIndex`] if there is no folder.
pub(super) fn lock(storage: &dyn Storage) -> Result<Box<dyn Lock>> {
    let lock = storage.try_lock(names::LOCK).map_err(|error| without_folder(storage, error))?;
    lock.ok_or_else(|| Error::Locked { path: storage.place().to_owned() })
}
