//! What a snapshot tells of single documents.

use latewood_kernels::DocumentCodes;

use super::Snapshot;
use crate::error::{Error, Result};
use crate::ids::{Id, IdRef};
use crate::parallel::Execution;

/// Documents between two looks at whether to stop.
const STEP_DOCUMENTS: u32 = 4096;

/// A document's place in a snapshot; the order of locations is the order in which documents were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Position of the segment in the snapshot.
    pub segment: u32,
    /// The document's ordinal in its segment.
    pub ordinal: u32,
}

impl Snapshot {
    /// Where the document with this id is, if the index has it.
    ///
    /// # Errors
    /// [`Error::IdKind`] for an id that it cannot have, which is a mistake wherever missing documents are passed over.
    pub fn look_up<'a>(&self, id: impl Into<IdRef<'a>>) -> Result<Option<Location>> {
        let id = id.into();
        id.check_kind(self.id_kind())?;
        Ok(self.find(id))
    }

    /// Where the document with this id is.
    ///
    /// # Errors
    /// [`Error::UnknownId`], [`Error::IdKind`].
    pub fn locate<'a>(&self, id: impl Into<IdRef<'a>>) -> Result<Location> {
        let id = id.into();
        self.look_up(id)?.ok_or_else(|| Error::UnknownId { id: id.to_string(), place: String::new() })
    }

    /// The id of the document at `at`.
    #[must_use]
    pub fn id(&self, at: Location) -> Id {
        self.segments[at.segment as usize].id(at.ordinal)
    }

    /// Ids of all live documents, in the order in which they were added.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn ids(&self, execution: &Execution) -> Result<Vec<Id>> {
        let mut ids = Vec::with_capacity(self.live_documents() as usize);
        for segment in &self.segments {
            for ordinal in 0..segment.documents() {
                if ordinal % STEP_DOCUMENTS == 0 {
                    execution.check()?;
                }
                if !segment.tombstones().contains(ordinal) {
                    ids.push(segment.id(ordinal));
                }
            }
        }
        Ok(ids)
    }

    /// Whether there is a document with each of these ids.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn contains<'a>(
        &self,
        ids: impl IntoIterator<Item = impl Into<IdRef<'a>>>,
        execution: &Execution,
    ) -> Result<Vec<bool>> {
        let known = |(at, id): (usize, _)| {
            if at % STEP_DOCUMENTS as usize == 0 {
                execution.check()?;
            }
            Ok(self.find(id).is_some())
        };
        ids.into_iter().enumerate().map(known).collect()
    }

    /// The document's stored text and metadata, a JSON object.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn text_and_metadata(&self, at: Location) -> Result<(Option<&str>, Option<&str>)> {
        let segment = &self.segments[at.segment as usize];
        Ok((segment.text(at.ordinal)?, segment.metadata(at.ordinal)?))
    }

    /// The codes of the document at `at`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn document(&self, at: Location) -> Result<DocumentCodes<'_>> {
        self.segments[at.segment as usize].document(at.ordinal)
    }

    /// The document's token vectors, decoded: `[tokens, dim]`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode(&self, at: Location) -> Result<Vec<f32>> {
        let document = self.document(at)?;
        let decoded = self.codec.as_ref().map(|codec| codec.decode(document.codes, document.gains, document.centroids));
        Ok(decoded.unwrap_or_default())
    }
}
