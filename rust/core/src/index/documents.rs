//! What a snapshot tells of single documents.

use half::f16;
use latewood_kernels::DocumentCodes;
use roaring::RoaringBitmap;

use super::filter::Filter;
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::ids::{Id, IdRef};
use crate::parallel::Execution;

/// Documents between two looks at whether to stop.
const STEP_DOCUMENTS: usize = 4096;

/// A document's place in a snapshot; the order of locations is the order in which documents were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Position of the segment in the snapshot.
    pub segment: u32,
    /// The document's ordinal in its segment.
    pub ordinal: u32,
}

impl Snapshot {
    /// Where the document with this id is.
    #[must_use]
    pub fn find<'a>(&self, id: impl Into<IdRef<'a>>) -> Option<Location> {
        let id = id.into();
        // Documents that are asked for are more often young than old.
        self.segments.iter().enumerate().rev().find_map(|(position, segment)| {
            segment.find(id).map(|ordinal| Location { segment: position as u32, ordinal })
        })
    }

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

    /// Live documents of each segment that the filter lets through.
    ///
    /// # Errors
    /// As [`super::Segment::matching`].
    pub fn matching(&self, filter: &Filter, execution: &Execution) -> Result<Vec<RoaringBitmap>> {
        self.segments.iter().map(|segment| segment.matching(filter, execution)).collect()
    }

    /// Number of live documents that the filter lets through.
    ///
    /// # Errors
    /// As [`Self::matching`].
    pub fn count(&self, filter: &Filter, execution: &Execution) -> Result<u64> {
        Ok(self.matching(filter, execution)?.iter().map(RoaringBitmap::len).sum())
    }

    /// Ids of all live documents that the filter lets through, in the order in which they were added.
    ///
    /// # Errors
    /// As [`Self::matching`].
    pub fn ids(&self, filter: &Filter, execution: &Execution) -> Result<Vec<Id>> {
        let mut ids = Vec::new();
        for (segment, matching) in self.segments.iter().zip(self.matching(filter, execution)?) {
            for (at, ordinal) in matching.into_iter().enumerate() {
                if at.is_multiple_of(STEP_DOCUMENTS) {
                    execution.check()?;
                }
                ids.push(segment.id(ordinal));
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
            if at.is_multiple_of(STEP_DOCUMENTS) {
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
    pub fn text_and_metadata(&self, at: Location) -> Result<(Option<String>, Option<String>)> {
        let segment = &self.segments[at.segment as usize];
        Ok((segment.text(at.ordinal)?, segment.metadata(at.ordinal)?))
    }

    /// Token vectors of all these documents.
    pub fn tokens_of(&self, documents: impl IntoIterator<Item = Location>) -> u64 {
        let tokens = |at: Location| self.segments[at.segment as usize].token_range(at.ordinal).len() as u64;
        documents.into_iter().map(tokens).sum()
    }

    /// The codes of the document at `at`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn document(&self, at: Location) -> Result<DocumentCodes<'_>> {
        self.segments[at.segment as usize].document(at.ordinal)
    }

    /// The document's token vectors as they were given, `[tokens, dim]`; `None` if the index does not keep them.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn vectors(&self, at: Location) -> Result<Option<&[f16]>> {
        self.segments[at.segment as usize].vectors(at.ordinal)
    }

    /// The document's token vectors, `[tokens, dim]`: the kept ones, or those that its codes stand for.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode(&self, at: Location) -> Result<Vec<f32>> {
        let Some(codec) = &self.codec else { return Ok(Vec::new()) };
        self.segments[at.segment as usize].decode(at.ordinal, codec)
    }

    /// What the codes of a document stand for, before the rotation is undone, `[tokens, depth]`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode_rotated(&self, at: Location) -> Result<Vec<f32>> {
        let Some(codec) = &self.codec else { return Ok(Vec::new()) };
        let document = self.document(at)?;
        Ok(codec.decode_rotated(document.codes, document.gains, document.centroids))
    }
}
