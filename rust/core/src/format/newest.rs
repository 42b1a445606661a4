//! A note of the generation that was committed last, beside its manifest: the loss of the manifest is noticed by it.

use serde::{Deserialize, Serialize};

use super::names;
use crate::error::{Error, Result};
use crate::parallel::Execution;
use crate::storage::Storage;

/// The content of the note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Newest {
    /// The index whose generation it is.
    pub(crate) index: Option<String>,
    pub(crate) generation: u64,
}

impl Newest {
    /// The note in a folder, if there is one that can be read: it helps, and nothing depends on it.
    pub(crate) fn read(storage: &dyn Storage) -> Option<Self> {
        // Not to be interrupted: to its callers that would look like no note. It is short.
        serde_json::from_slice(&storage.open(names::NEWEST, &Execution::undisturbed()).ok()?).ok()
    }

    /// Puts the note in place of the one before. It is not made durable: after a power cut an older one, or an empty file,
    /// may be there, which say less and nothing wrong.
    ///
    /// # Errors
    /// [`Error::Io`]; the note before stands.
    pub(crate) fn write(&self, storage: &dyn Storage, writer: u64) -> Result<()> {
        let json = serde_json::to_vec(self).map_err(|error| Error::invalid(error.to_string()))?;
        let temporary = names::temporary_newest(writer);
        let mut file = storage.create(&temporary)?;
        file.write(&json)?;
        file.close()?;
        storage.rename(&temporary, names::NEWEST)
    }
}
