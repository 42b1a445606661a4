//! Many segments → few, without their deleted documents.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::garbage;
use super::segment::Segment;
use super::segment_writer::write_segment;
use super::writer::{OpenSegment, Writer};
use crate::error::Result;
use crate::format::names::Data;
use crate::parallel::Execution;

/// Token vectors that compaction puts into one segment at most. Codes are copied from file to file; memory is needed
/// for the posting lists, about a byte for each token.
const MERGED_TOKENS: u64 = 1 << 28;

impl Writer {
    /// See [`super::Index::compact`].
    pub(super) fn compact(mut self, execution: &Execution) -> Result<u64> {
        let segments = self.base.segments.clone();
        let merged = segments.len() > 1 || segments.iter().any(|segment| !segment.tombstones().is_empty());
        if merged {
            let mut results = Vec::new();
            for group in groups(&segments) {
                execution.check()?;
                results.extend(self.merge(group)?);
            }
            self.publish(results)?;
        }
        garbage::collect(self.storage(), &[&self.base]);
        Ok(self.base.generation)
    }

    /// One segment with the living documents of `group`; none if there are none.
    fn merge(&mut self, group: &[Arc<Segment>]) -> Result<Option<OpenSegment>> {
        let open = |segment| Some(OpenSegment { segment, deleted: RoaringBitmap::new() });
        if group.iter().all(|segment| segment.live_documents() == 0) {
            return Ok(None);
        }
        if let [segment] = group
            && segment.tombstones().is_empty()
        {
            return Ok(open(Arc::clone(segment)));
        }
        // Copied bytes get a new checksum, which would pass for sound what is not.
        for segment in group {
            if let Some(problem) = segment.container().problems().into_iter().next() {
                return Err(problem);
            }
        }
        let (name, shape, kind) = (self.new_file(Data::Segment), self.shape(), self.kind());
        let sources: Vec<_> = group.iter().map(|segment| segment.source(segment.tombstones())).collect();
        let result = write_segment(self.storage(), &name, shape, kind, &sources)
            .and_then(|entry| Segment::open(self.storage(), &entry, shape, kind));
        Ok(open(Arc::new(result?)))
    }
}

/// Neighbours whose living tokens fit one segment together.
fn groups(segments: &[Arc<Segment>]) -> Vec<&[Arc<Segment>]> {
    let mut groups = Vec::new();
    let (mut start, mut tokens, mut documents) = (0, 0, 0);
    for (position, segment) in segments.iter().enumerate() {
        let more = segment.source(segment.tombstones()).living_tokens();
        let living = u64::from(segment.live_documents());
        if position > start && (tokens + more > MERGED_TOKENS || documents + living > MERGED_TOKENS) {
            groups.push(&segments[start..position]);
            (start, tokens, documents) = (position, 0, 0);
        }
        tokens += more;
        documents += living;
    }
    groups.push(&segments[start..]);
    groups
}
