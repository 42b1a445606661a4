//! A segment as a writer sees it: with what it has deleted and changed.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::filter::Filter;
use super::metadata::Changes;
use super::segment::Segment;
use super::segment_writer::Source;
use crate::error::Result;
use crate::parallel::Execution;

/// A segment as a writer sees it.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) segment: Arc<Segment>,
    /// Documents that the writer has deleted.
    pub(super) deleted: RoaringBitmap,
    /// Metadata that it has changed.
    pub(super) changes: Changes,
}

impl OpenSegment {
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, deleted: RoaringBitmap::new(), changes: Changes::default() }
    }

    /// Whether the writer has neither deleted nor changed anything.
    pub(super) fn is_unchanged(&self) -> bool {
        self.deleted.is_empty() && self.changes.is_empty()
    }

    /// Token vectors of the documents that are not deleted.
    pub(super) fn living_tokens(&self) -> u64 {
        self.segment.living_tokens(&self.dead())
    }

    /// All deleted documents.
    pub(super) fn dead(&self) -> RoaringBitmap {
        self.segment.tombstones() | &self.deleted
    }

    /// The document with this id, unless it is deleted.
    pub(super) fn find(&self, id: &crate::ids::Id) -> Option<u32> {
        self.segment.find(id).filter(|&ordinal| !self.deleted.contains(ordinal))
    }

    /// The metadata of a document.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub(super) fn metadata(&self, ordinal: u32) -> Result<Option<String>> {
        self.changes.get(ordinal).map_or_else(|| self.segment.metadata(ordinal), |json| Ok(Some(json.to_owned())))
    }

    /// Documents that the filter lets through and that are not deleted.
    ///
    /// # Errors
    /// As [`Segment::matching`].
    pub(super) fn matching(&self, filter: &Filter, execution: &Execution) -> Result<RoaringBitmap> {
        let unchanged = self.segment.matching(filter, execution)?;
        if self.changes.is_empty() {
            return Ok(unchanged - &self.deleted);
        }
        let mut living = RoaringBitmap::new();
        living.insert_range(0..self.segment.documents());
        let changed = self.changes.matching(filter, &(living - self.dead()), execution)?;
        Ok((unchanged - self.changes.documents() - &self.deleted) | changed)
    }

    /// All documents, for a new segment; `dead` are those to leave out. The caller has verified the files.
    pub(super) fn source<'a>(&'a self, dead: &'a RoaringBitmap) -> Source<'a> {
        let mut source = self.segment.source(dead);
        source.metadata.extend(self.changes.iter());
        source
    }
}
