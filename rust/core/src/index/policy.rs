//! What is merged when: the policy for segments and for layers of metadata.

use std::ops::Range;

/// Token vectors and documents that one commit merges at most: what a writer puts into a segment by itself.
const MERGED: u64 = 4 << 20;

/// What a segment adds to a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Token vectors and documents that would be copied.
    pub(super) living: u64,
    /// Those that would be left out.
    pub(super) dead: u64,
}

/// Where the neighbours begin that are merged, so that their number grows with the logarithm of their sizes while each element
/// is copied about as often as that; behind all of them if none are.
///
/// Each stays larger than all that follow it together: when the last one breaks that, those from there on become one (the
/// logarithmic method of Bentley and Saxe, 1980, on neighbours, since they are in the order of their documents or of time).
/// An element that is copied so finds itself in one of at least twice the size. No more than [`MERGED`] are copied.
pub(super) fn tail(sizes: &[u64]) -> usize {
    let (mut after, mut tail) = (0, sizes.len());
    for (at, &size) in sizes.iter().enumerate().rev() {
        if size + after > MERGED {
            break;
        }
        if size <= after {
            tail = at;
        }
        after += size;
    }
    // One alone is larger than the nothing that follows it.
    if sizes.len() - tail > 1 { tail } else { sizes.len() }
}

/// Which neighbours a commit merges: by [`tail`], and by itself a segment of which half is deleted. No more than [`MERGED`] is
/// copied for one commit.
pub(super) fn plan(sizes: &[Size]) -> Vec<Range<usize>> {
    let living: Vec<u64> = sizes.iter().map(|size| size.living).collect();
    let tail = tail(&living);
    let mut room = MERGED;
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
