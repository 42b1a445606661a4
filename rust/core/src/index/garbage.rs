//! Removal of files that belong to no generation any more.

use std::collections::BTreeSet;

use crate::format::{Manifest, names};
use crate::storage::Storage;

/// Removes the files of ours that belong to none of `kept`, the newest first: those of older generations and of writers
/// that died.
///
/// A file that was made for a generation beyond the newest stays: somebody may be about to commit it, or its manifest was
/// lost. What cannot be removed now, because a reader on Windows has it open, is removed after a later commit. Readers
/// elsewhere keep what they have open.
pub(crate) fn collect(storage: &dyn Storage, kept: &[&Manifest]) {
    let Some(newest) = kept.iter().map(|manifest| manifest.generation).max() else { return };
    let mut names: BTreeSet<String> = BTreeSet::new();
    for manifest in kept {
        names.insert(names::manifest(manifest.generation));
        names.extend(manifest.files().map(|file| file.name.clone()));
    }
    let Ok(present) = storage.list() else {
        return;
    };
    let over = |name: &String| names::made_for(name).is_some_and(|generation| generation <= newest);
    let (manifests, data): (Vec<String>, Vec<String>) = present
        .into_iter()
        .filter(|name| over(name) && !names.contains(name))
        .partition(|name| names::generation(name).is_some());
    // Manifests go first, and for good: at no moment is there one whose files are gone because of us.
    let gone = discard(storage, &manifests) && (manifests.is_empty() || storage.sync_folder().is_ok());
    if gone {
        discard(storage, &data);
    }
}

/// Removes files, as far as that is possible; whether all are gone. A later commit tries again.
pub(crate) fn discard(storage: &dyn Storage, names: &[String]) -> bool {
    let mut gone = true;
    for name in names {
        gone &= storage.remove(name).is_ok();
    }
    gone
}
