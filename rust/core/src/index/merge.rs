//! Many segments → few, without their deleted documents: within commits by a policy, and all at once by compaction.

use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::check::segment_problems;
use super::garbage;
use super::segment::Segment;
use super::segment_writer::write_segment;
use super::writer::{OpenSegment, Writer};
use crate::error::{Error, Result};
use crate::format::names::Data;
use crate::parallel::Execution;

/// Token vectors that compaction puts into one segment at most. Codes are copied from file to file; memory is needed
/// for the posting lists, about a byte for each token.
const COMPACTED_TOKENS: u64 = 1 << 28;
/// Token vectors and documents that one commit merges at most: what a writer puts into a segment by itself.
const MERGED: u64 = 4 << 20;

/// What a segment adds to a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    /// Token vectors and documents that would be copied.
    living: u64,
    /// Those that would be left out.
    dead: u64,
}

/// Which neighbours a commit merges, so that the number of segments grows with the logarithm of their size while each
/// document is copied about as often as that.
///
/// Every segment stays larger than all that follow it together: when a commit breaks that, the segments from there on
/// become one (the logarithmic method of Bentley and Saxe, 1980, on neighbours, since segments are in the order of their
/// documents). A document that is copied so finds itself in a segment of at least twice the size. A segment of which half
/// is deleted is copied by itself. No more than [`MERGED`] is copied for one commit.
fn plan(sizes: &[Size]) -> Vec<Range<usize>> {
    let mut room = MERGED;
    let mut after = 0;
    let mut tail = sizes.len();
    for (at, size) in sizes.iter().enumerate().rev() {
        if size.living + after > room {
            break;
        }
        if size.living <= after {
            tail = at;
        }
        after += size.living;
    }
    // One alone is larger than the nothing that follows it.
    let tail = if sizes.len() - tail > 1 { tail } else { sizes.len() };
    room -= sizes[tail..].iter().map(|size| size.living).sum::<u64>();
    let mut merges = Vec::new();
    for (at, size) in sizes[..tail].iter().enumerate() {
        if size.dead > 0 && size.dead >= size.living && size.living <= room {
            room -= size.living;
            merges.push(at..at + 1);
        }
    }
    if tail < sizes.len() {
        merges.push(tail..sizes.len());
    }
    merges
}

impl Writer {
    /// Merges what the policy asks for. What cannot be merged, for want of room or because a segment is damaged, stays as it
    /// is: the commit does not depend on it, and whoever reads what is damaged is told.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(super) fn merge_some(&mut self, execution: &Execution) -> Result<()> {
        let size = |open: &OpenSegment| {
            let dead = open.dead();
            let living = open.segment.living_tokens(&dead);
            let documents = u64::from(open.segment.documents()) - dead.len();
            Size { living: living + documents, dead: open.segment.tokens() - living + dead.len() }
        };
        let sizes: Vec<Size> = self.segments.iter().map(size).collect();
        // From the last on, so that the places of those before stay right.
        for range in plan(&sizes).into_iter().rev() {
            match self.merge(range.clone(), execution) {
                Ok(merged) => drop(self.segments.splice(range, merged)),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// See [`super::Index::compact`].
    pub(super) fn compact(mut self, execution: &Execution) -> Result<u64> {
        let tidy = |open: &OpenSegment| open.segment.tombstones().is_empty();
        if self.segments.len() > 1 || !self.segments.iter().all(tidy) {
            for group in groups(&self.segments).into_iter().rev() {
                let merged = self.merge(group.clone(), execution).map_err(|error| self.cause(error))?;
                self.segments.splice(group, merged);
            }
            self.publish(execution)?;
        }
        garbage::collect(self.storage(), &[self.base.manifest()]);
        Ok(self.base.generation)
    }

    /// One segment with the living documents of some neighbours; none if there are none.
    fn merge(&mut self, range: Range<usize>, execution: &Execution) -> Result<Option<OpenSegment>> {
        execution.check()?;
        let group = &self.segments[range];
        let dead: Vec<RoaringBitmap> = group.iter().map(OpenSegment::dead).collect();
        let living = |(open, dead): (&OpenSegment, &RoaringBitmap)| u64::from(open.segment.documents()) > dead.len();
        if !group.iter().zip(&dead).any(living) {
            return Ok(None);
        }
        if let [open] = group
            && dead[0].is_empty()
        {
            return Ok(Some(OpenSegment::new(Arc::clone(&open.segment))));
        }
        // Copied bytes get a new checksum, which would pass for sound what is not.
        for open in group {
            if let Some(problem) = segment_problems(&open.segment, execution)?.into_iter().next() {
                return Err(problem);
            }
        }
        let segments: Vec<Arc<Segment>> = group.iter().map(|open| Arc::clone(&open.segment)).collect();
        let sources: Vec<_> = segments.iter().zip(&dead).map(|(segment, dead)| segment.source(dead)).collect();
        let (name, shape, kind) = (self.new_file(Data::Segment), self.shape(), self.kind());
        let merged = write_segment(self.storage(), &name, shape, kind, &sources, execution)
            .and_then(|entry| Segment::open(self.storage(), &entry, shape, kind, execution));
        match merged {
            Ok(segment) => Ok(Some(OpenSegment::new(Arc::new(segment)))),
            Err(error) => {
                garbage::discard(self.storage(), &[name]);
                Err(error)
            }
        }
    }
}

/// Neighbours whose living tokens fit one segment together.
fn groups(segments: &[OpenSegment]) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut tokens, mut documents) = (0, 0, 0);
    for (position, open) in segments.iter().enumerate() {
        let dead = open.dead();
        let (more, living) = (open.segment.living_tokens(&dead), u64::from(open.segment.documents()) - dead.len());
        if position > start && (tokens + more > COMPACTED_TOKENS || documents + living > COMPACTED_TOKENS) {
            groups.push(start..position);
            (start, tokens, documents) = (position, 0, 0);
        }
        tokens += more;
        documents += living;
    }
    groups.push(start..segments.len());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(sizes: &[Size]) -> Vec<(usize, usize)> {
        plan(sizes).into_iter().map(|range| (range.start, range.end)).collect()
    }

    fn sizes(living: &[u64]) -> Vec<Size> {
        living.iter().map(|&living| Size { living, dead: 0 }).collect()
    }

    #[test]
    fn a_segment_stays_larger_than_all_that_follow() {
        assert!(plan(&[]).is_empty());
        assert!(plan(&sizes(&[5])).is_empty());
        assert!(plan(&sizes(&[100, 40, 20, 7])).is_empty());
        assert_eq!(planned(&sizes(&[100, 41, 20, 20])), [(2, 4)]);
        assert_eq!(planned(&sizes(&[100, 40, 25, 20])), [(1, 4)]);
        assert_eq!(planned(&sizes(&[1, 1, 1, 1, 1000])), [(0, 5)], "small ones before a large one go with it");
        assert_eq!(planned(&sizes(&[0, 0])), [(0, 2)]);
    }

    #[test]
    fn what_one_commit_copies_is_bounded() {
        assert!(plan(&sizes(&[MERGED, MERGED])).is_empty());
        assert_eq!(planned(&sizes(&[MERGED, 3, 3])), [(1, 3)]);
        let half_dead = Size { living: MERGED / 2, dead: MERGED };
        assert_eq!(planned(&[half_dead, half_dead, half_dead]), [(1, 3)], "the last two take all the room");
    }

    #[test]
    fn a_segment_with_more_dead_than_living_is_copied() {
        let large = Size { living: 1000, dead: 0 };
        assert_eq!(planned(&[Size { living: 3000, dead: 3000 }, large, Size { living: 1, dead: 0 }]), [(0, 1)]);
        assert!(plan(&[Size { living: 3001, dead: 3000 }, large]).is_empty());
        assert_eq!(planned(&[Size { living: 0, dead: 1 }]), [(0, 1)]);
    }

    #[test]
    fn ten_thousand_small_commits_leave_few_segments_and_copy_little() {
        let (mut segments, mut copied, mut most) = (Vec::new(), 0, 0);
        for _ in 0..10_000 {
            segments.push(Size { living: 150, dead: 0 });
            for range in plan(&segments).into_iter().rev() {
                let living = segments[range.clone()].iter().map(|size| size.living).sum();
                copied += living;
                segments.splice(range, [Size { living, dead: 0 }]);
            }
            most = most.max(segments.len());
        }
        assert_eq!(segments.iter().map(|size| size.living).sum::<u64>(), 1_500_000);
        assert!(most <= 14, "{most} segments");
        // Fewer than log2(10,000) copies of each document.
        assert!(copied < 14 * 1_500_000, "{copied} copied");
    }
}
