//! The generations that a folder has: which is the newest, and how another one becomes it.

use std::io::ErrorKind;

use super::garbage;
use crate::error::{Error, Result};
use crate::format::{Manifest, Newest, Stored, names};
use crate::storage::Storage;

/// Generations that have a manifest, newest first.
///
/// # Errors
/// [`Error::NotAnIndex`] if there is no folder, [`Error::Io`].
pub(crate) fn generations(storage: &dyn Storage) -> Result<Vec<u64>> {
    let names = storage.list().map_err(|error| without_folder(storage, error))?;
    let mut generations: Vec<u64> = names.iter().filter_map(|name| names::generation(name)).collect();
    generations.sort_unstable_by(|one, other| other.cmp(one));
    Ok(generations)
}

/// The newest generation.
///
/// # Errors
/// [`Error::NotAnIndex`]; [`Error::Corrupt`] if a later generation was committed, whose manifest is not there.
pub(crate) fn newest(storage: &dyn Storage) -> Result<u64> {
    // Read first: what it names was there before, and newer ones only come.
    let note = Newest::read(storage);
    let newest = generations(storage)?.first().copied();
    match note.map(|note| note.generation).filter(|&noted| Some(noted) > newest) {
        Some(noted) => {
            Err(Error::corrupt(storage.path(&names::manifest(noted)), "header", "it was committed, and is not there"))
        }
        None => newest.ok_or_else(|| Error::NotAnIndex { path: storage.place().to_owned() }),
    }
}

/// A folder that is missing holds no index.
pub(crate) fn without_folder(storage: &dyn Storage, error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            Error::NotAnIndex { path: storage.place().to_owned() }
        }
        other => other,
    }
}

/// The newest manifest, whatever the files that it names are like.
///
/// # Errors
/// As [`newest`], and as [`Manifest::read`].
pub(crate) fn read_newest(storage: &dyn Storage) -> Result<Stored> {
    loop {
        let generation = newest(storage)?;
        match Manifest::read(storage, generation) {
            // A commit in between may have removed it.
            Err(error) if is_broken(&error) && newest(storage).ok() != Some(generation) => {}
            other => return other,
        }
    }
}

pub(crate) fn is_broken(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } => true,
        Error::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

/// The number of the next generation: above all that were committed, whatever became of them.
pub(crate) fn next_generation(storage: &dyn Storage) -> Result<u64> {
    let noted = Newest::read(storage).map(|note| note.generation);
    let last = generations(storage)?.first().copied().max(noted).unwrap_or_default();
    last.checked_add(1).ok_or_else(|| Error::invalid("the index has had 2^64 generations; rebuild it"))
}

/// Makes a manifest the newest generation, and notes that it is.
pub(crate) fn publish(storage: &dyn Storage, manifest: Manifest, writer: u64) -> Result<Stored> {
    let generation = manifest.generation;
    let stored = manifest.publish(storage, writer).map_err(|failure| {
        garbage::discard(storage, &[names::temporary_manifest(generation, writer)]);
        failure.error
    })?;
    note_newest(storage, &stored.manifest, writer);
    Ok(stored)
}

/// Notes which generation is the newest. The commit stands without the note.
pub(crate) fn note_newest(storage: &dyn Storage, manifest: &Manifest, writer: u64) {
    let note = Newest { index: manifest.index.clone(), generation: manifest.generation };
    if note.write(storage, writer).is_err() {
        garbage::discard(storage, &[names::temporary_newest(writer)]);
    }
}
