//! Many segments → few, without their deleted documents: within commits by a policy, and all at once by compaction.

use std::ops::Range;
use std::sync::Arc;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use latewood_kernels::DocumentCodes;
use roaring::RoaringBitmap;

use super::check::segment_problems;
use super::garbage;
use super::open_segment::OpenSegment;
use super::policy::{Size, plan};
use super::segment::Segment;
use super::segment_writer::{Recoded, Shape, Source, write_segment};
use super::writer::Writer;
use crate::codec::{Codec, EncodedTokens};
use crate::error::{Error, Result};
use crate::format::names::Data;
use crate::parallel::Execution;

/// Token vectors that compaction puts into one segment at most. Codes are copied from file to file; memory is needed
/// for the posting lists, about a byte for each token.
const COMPACTED_TOKENS: u64 = 1 << 28;
/// Kept vectors that are encoded again at a time.
const BLOCK_TOKENS: usize = 1 << 16;

impl Writer {
    /// Grows the codec if the documents ask for it, and merges what the policy asks for. What cannot be rewritten, for want of
    /// room or because a segment is damaged, stays as it is: the commit does not depend on it, and whoever reads what is
    /// damaged is told.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(super) fn merge_some(&mut self, execution: &Execution) -> Result<()> {
        if matches!(self.adapt(execution), Err(Error::Interrupted)) {
            return Err(Error::Interrupted);
        }
        let size = |open: &OpenSegment| {
            let dead = open.dead();
            let living = open.living_tokens();
            let documents = u64::from(open.segment.documents()) - dead.len();
            Size { living: living + documents, dead: open.segment.tokens() - living + dead.len() }
        };
        let sizes: Vec<Size> = self.segments.iter().map(size).collect();
        // From the last on, so that the places of those before stay right.
        for range in plan(&sizes).into_iter().rev() {
            match self.merge(range.clone(), None, execution) {
                Ok(merged) => drop(self.segments.splice(range, merged)),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// See [`super::Index::compact`].
    pub(super) fn compact(mut self, execution: &Execution) -> Result<u64> {
        let tidy = |open: &OpenSegment| open.segment.tombstones().is_empty() && open.segment.layers().is_empty();
        let adapted = self.adapt(execution)?;
        if adapted || self.segments.len() > 1 || !self.segments.iter().all(tidy) {
            for group in groups(&self.segments, COMPACTED_TOKENS).into_iter().rev() {
                let merged = self.merge(group.clone(), None, execution)?;
                self.segments.splice(group, merged);
            }
            self.publish(execution)?;
        }
        garbage::collect(self.storage(), &[self.base.manifest()]);
        Ok(self.base.generation)
    }

    /// One segment with the living documents of some neighbours; none if there are none. With `codec` it gets that one's codes,
    /// which are all in memory until it is written, in the place of those of the present codec.
    pub(super) fn merge(
        &mut self,
        range: Range<usize>,
        codec: Option<&Codec>,
        execution: &Execution,
    ) -> Result<Option<OpenSegment>> {
        execution.check()?;
        let name = self.new_file(Data::Segment);
        let group = &self.segments[range];
        let dead: Vec<RoaringBitmap> = group.iter().map(OpenSegment::dead).collect();
        let living = |(open, dead): (&OpenSegment, &RoaringBitmap)| u64::from(open.segment.documents()) > dead.len();
        if !group.iter().zip(&dead).any(living) {
            return Ok(None);
        }
        if let [open] = group
            && codec.is_none()
            && dead[0].is_empty()
            && open.is_unchanged()
            && open.segment.layers().is_empty()
        {
            return Ok(Some(OpenSegment::new(Arc::clone(&open.segment))));
        }
        // Copied bytes get a new checksum, which would pass for sound what is not.
        for open in group {
            if let Some(problem) = segment_problems(&open.segment, execution)?.into_iter().next() {
                return Err(problem);
            }
        }
        let sources = group.iter().zip(&dead).map(|(open, dead)| open.source(dead));
        let (codec, recoded) = match (codec, self.codec()) {
            (Some(codec), Some(present)) => {
                let recode =
                    |source: Source<'_>| Ok(Recoded::new(recode(&source, present, codec, execution)?, source.offsets));
                (Some(codec), sources.clone().map(recode).collect::<Result<Vec<_>>>()?)
            }
            (_, present) => (present, Vec::new()),
        };
        let shape = Shape::new(self.base.manifest(), codec);
        let sources: Vec<_> = if recoded.is_empty() {
            sources.collect()
        } else {
            sources.zip(&recoded).map(|(source, recoded)| recoded.source(source)).collect()
        };
        let kind = self.kind();
        let merged = write_segment(self.storage(), &name, shape, codec, kind, &sources, execution)
            .and_then(|entry| Segment::open(self.storage(), &entry, shape, kind, execution));
        match merged {
            Ok(segment) => Ok(Some(OpenSegment::new(Arc::new(segment)))),
            Err(error) => {
                let error = self.cause(error);
                garbage::discard(self.storage(), &[name]);
                Err(error)
            }
        }
    }
}

/// The codes of a segment by another codec: of its vectors, where they are kept, else of what its present codes stand for.
fn recode(source: &Source<'_>, present: &Codec, codec: &Codec, execution: &Execution) -> Result<EncodedTokens> {
    if source.vectors.is_empty() {
        let tokens = DocumentCodes { codes: source.codes, gains: source.gains, centroids: source.centroids };
        return codec.recode(present, tokens, execution);
    }
    let vectors: &[f16] = source.vectors.reinterpret_cast();
    let mut encoded = EncodedTokens::default();
    for block in vectors.chunks(BLOCK_TOKENS * codec.dim()) {
        encoded.append(codec.encode(&block.to_f32_vec(), execution)?);
    }
    Ok(encoded)
}

/// Neighbours that have at most so many living tokens, and documents, together.
pub(super) fn groups(segments: &[OpenSegment], most: u64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut tokens, mut documents) = (0, 0, 0);
    for (position, open) in segments.iter().enumerate() {
        let dead = open.dead();
        let (more, living) = (open.living_tokens(), u64::from(open.segment.documents()) - dead.len());
        if position > start && (tokens + more > most || documents + living > most) {
            groups.push(start..position);
            (start, tokens, documents) = (position, 0, 0);
        }
        tokens += more;
        documents += living;
    }
    groups.push(start..segments.len());
    groups
}
