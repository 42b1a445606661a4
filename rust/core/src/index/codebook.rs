//! When an index gets its centroids, and when more of them: documents are encoded by a codec that fits them, and segments
//! that have drifted away from all centroids are encoded again.
//!
//! Centroids are to be trained on all kinds of documents, and a stream may bring one kind after the other. So what comes
//! before there are any is kept in flat codes of 8 bits, which lose next to nothing, until the stream's commit.
//!
//! Centroids are only ever added behind those that are there. Older segments then stay as they are, and so do readers of
//! older generations. Whether documents are far from all centroids is read off the gains of their codes: the squared gain
//! is the energy of what a centroid leaves over.

use std::ops::Range;
use std::sync::Arc;

use super::merge::groups;
use super::open_segment::OpenSegment;
use super::writer::{Fitted, SEGMENT_BYTES, SEGMENT_TOKENS, Writer};
use crate::codec::{Codec, CodecKind, CodecOptions, EncodedTokens, default_centroids, mean_square_gain};
use crate::error::Result;
use crate::parallel::Execution;

/// Token vectors of a stream that are kept in flat codes at most, and the bytes of these: until its commit ends, they and the codes
/// that take their place are both on disk.
const STAGED_TOKENS: u64 = 32 << 20;
const STAGED_BYTES: u64 = 4 << 30;
/// Documents are far from all centroids if these leave over so many times what they left over of vectors like those that they
/// were trained on. Measured on five collections of text: other halves of the same kind have 1 to 1.15 (1.7 where
/// their topics differ), other kinds 1.3 to 12.
const DRIFT: f64 = 1.25;
/// A window grows the codec by itself if it has this fraction of the token vectors that the first training needs: who waits for
/// more meanwhile encodes far from all centroids, and what that loses no later encoding brings back.
const GROWS_AFTER: u64 = 64;
/// Token vectors for each new centroid at least.
const TOKENS_PER_CENTROID: usize = 16;
/// Token vectors for each new centroid that training looks at.
const SAMPLED_PER_CENTROID: usize = 32;

impl Writer {
    /// Encodes all documents that wait, and `more` vectors, `[tokens, dim]`, by a codec that fits them: the present one, a
    /// grown one, or a new one. `last` if the commit brings no more. The writer stays as it is.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if all segments are to be encoded again, and one is damaged; [`crate::Error::Interrupted`];
    /// [`crate::Error::Io`].
    pub(super) fn fit(&mut self, more: &[f32], last: bool, execution: &Execution) -> Result<Fitted> {
        let tokens = self.living_tokens() + (more.len() / self.base.dim()) as u64;
        let (mut codec, is_new) = self.fitting_codec(more, tokens, last, execution)?;
        let outgrown = self.is_untrained() && is_new;
        let most = SEGMENT_TOKENS.min((SEGMENT_BYTES / self.base.dim()) as u64);
        let segments = outgrown.then(|| self.recoded(groups(&self.segments, most), &codec, execution)).transpose()?;
        // A new codec has seen of everything: what lies farther from its centroids than the rest gains nothing by more of them.
        let tokens = (!is_new).then_some(tokens);
        let waiting = self.encode_windows(self.pending.vectors(), tokens, &mut codec, execution)?;
        let more = self.encode_windows(more, tokens, &mut codec, execution)?;
        if is_new {
            let stored = segments.iter().flatten().filter_map(|open| open.segment.mean_square_gain());
            let encoded = [&waiting, &more].into_iter().filter_map(|codes| mean_square_gain(&codes.gains));
            codec = Arc::new(stored.chain(encoded).fold((*codec).clone(), Codec::with_near));
        }
        Ok(Fitted { codec, segments, waiting, more })
    }

    /// Grows the codec if the collection has outgrown it, or if there are `train_after` token vectors in segments that lie far
    /// from all centroids; those are encoded again. Whether anything has changed.
    ///
    /// # Errors
    /// As [`Self::fit`]; the writer then stays as it was.
    pub(super) fn adapt(&mut self, execution: &Execution) -> Result<bool> {
        let Some(codec) = self.codec.clone().filter(|_| !self.is_untrained()) else { return Ok(false) };
        let is_far = |open: &OpenSegment| open.living_tokens() > 0 && is_far(&codec, open.segment.mean_square_gain());
        let far: Vec<usize> = (0..self.segments.len()).filter(|&at| is_far(&self.segments[at])).collect();
        let tokens = self.living_tokens();
        let outgrown = has_outgrown(&codec, tokens);
        let learnt: Vec<usize> = if outgrown { (0..self.segments.len()).collect() } else { far.clone() };
        let given: u64 = learnt.iter().map(|&at| self.segments[at].living_tokens()).sum();
        let count = self.new_centroids(&codec, given, tokens);
        if count == 0 || far.is_empty() && !outgrown || given < self.options().train_after {
            return Ok(false);
        }
        let sample = self.sample(&learnt, &codec, given / (count * SAMPLED_PER_CENTROID) as u64, execution)?;
        let grown = self.grown(&codec, &[&sample], count, true, execution)?;
        let recoded = self.recoded(far.iter().map(|&at| at..at + 1), &grown, execution)?;
        for (&at, recoded) in far.iter().zip(recoded) {
            self.segments[at] = recoded;
        }
        self.codec = Some(grown);
        Ok(true)
    }

    /// The codec with which encoding begins, trained or grown on a sample of everything that waits if it has to be; and whether
    /// it is a new one. `tokens` are those that the index will have.
    fn fitting_codec(
        &self,
        more: &[f32],
        tokens: u64,
        last: bool,
        execution: &Execution,
    ) -> Result<(Arc<Codec>, bool)> {
        let given = [self.pending.vectors(), more];
        let options = self.options();
        let dim = self.base.dim();
        let enough = options.kind == CodecKind::Flat || self.is_trained_at(tokens, last);
        match &self.codec {
            None => {
                let options = if enough { options.clone() } else { options.untrained() };
                Ok((self.trained(&given, &options, execution)?, true))
            }
            Some(codec) if !self.is_untrained() => {
                let vectors = given.iter().map(|vectors| vectors.len() / dim).sum::<usize>() as u64;
                let count = self.new_centroids(codec, vectors, tokens);
                // Few vectors do not settle it: the commit asks all segments.
                let settles = codec.centroid_count() + count >= default_centroids(tokens as usize);
                let codec = if count > 0 && settles && has_outgrown(codec, tokens) {
                    self.grown(codec, &given, count, vectors >= options.train_after, execution)?
                } else {
                    Arc::clone(codec)
                };
                Ok((codec, false))
            }
            Some(codec) if !enough => Ok((Arc::clone(codec), false)),
            Some(codec) => {
                // The same share of the documents that are stored and of those that wait.
                let step = tokens / self.window_tokens() as u64;
                let everything: Vec<usize> = (0..self.segments.len()).collect();
                let stored = self.sample(&everything, codec, step, execution)?;
                let rows = given.iter().flat_map(|vectors| vectors.chunks_exact(dim));
                let waiting: Vec<f32> = rows.step_by(step.max(1) as usize).flatten().copied().collect();
                Ok((self.trained(&[&stored, &waiting], &options.settled(tokens as usize), execution)?, true))
            }
        }
    }

    /// Whether centroids are trained once there are so many token vectors.
    pub(super) fn is_trained_at(&self, tokens: u64, last: bool) -> bool {
        let staged = STAGED_TOKENS.min(STAGED_BYTES / self.base.dim() as u64);
        tokens >= self.options().train_after && (last || tokens >= staged)
    }

    fn trained(&self, sample: &[&[f32]], options: &CodecOptions, execution: &Execution) -> Result<Arc<Codec>> {
        let codec = Codec::train(sample, self.base.dim(), options, execution)?;
        // Until there are centroids every document is scored.
        match self.base.fde_options().filter(|_| options.kind == CodecKind::Residual) {
            Some(fde) => codec.train_fde(sample, fde, options.seed, execution).map(Arc::new),
            None => Ok(Arc::new(codec)),
        }
    }

    /// Encodes `vectors` window by window; if the codec may grow, for an index of so many tokens, it does at each window that
    /// lies far from all centroids.
    fn encode_windows(
        &self,
        vectors: &[f32],
        tokens: Option<u64>,
        codec: &mut Arc<Codec>,
        execution: &Execution,
    ) -> Result<EncodedTokens> {
        let mut encoded = EncodedTokens::default();
        for window in vectors.chunks(self.window_tokens() * self.base.dim()) {
            let mut codes = codec.encode(window, execution)?;
            let given = codes.gains.len() as u64;
            let count = tokens.map_or(0, |tokens| self.new_centroids(codec, given, tokens));
            if count > 0 && is_far(codec, mean_square_gain(&codes.gains)) {
                *codec = self.grown(codec, &[window], count, given >= self.options().train_after, execution)?;
                codes = codec.encode(window, execution)?;
            }
            encoded.append(codes);
        }
        Ok(encoded)
    }

    /// How many more centroids `given` token vectors of `tokens` in the index may get: their share of all, and at least what all
    /// lack; none for few vectors, and where the number of centroids was chosen by the user.
    fn new_centroids(&self, codec: &Codec, given: u64, tokens: u64) -> usize {
        let options = self.options();
        let fixed = options.centroids.is_some() || codec.parameters().kind == CodecKind::Flat;
        if fixed || given < options.train_after / GROWS_AFTER {
            return 0;
        }
        let wanted = default_centroids(tokens as usize);
        let share = wanted as u64 * given / tokens.max(1);
        let lacking = wanted.saturating_sub(codec.centroid_count());
        lacking.max(share as usize).min(given as usize / TOKENS_PER_CENTROID)
    }

    fn grown(
        &self,
        codec: &Codec,
        sample: &[&[f32]],
        count: usize,
        settles: bool,
        execution: &Execution,
    ) -> Result<Arc<Codec>> {
        codec.grow(sample, count, self.options().seed, settles, execution).map(Arc::new)
    }

    /// Neighbouring segments merged, with their living documents encoded by `codec`.
    fn recoded(
        &mut self,
        groups: impl IntoIterator<Item = Range<usize>>,
        codec: &Codec,
        execution: &Execution,
    ) -> Result<Vec<OpenSegment>> {
        let recoded = groups.into_iter().map(|group| self.merge(group, Some(codec), execution));
        recoded.filter_map(Result::transpose).collect()
    }

    /// Vectors of every `step`-th living document of some segments, `[tokens, dim]`.
    fn sample(&self, segments: &[usize], codec: &Codec, step: u64, execution: &Execution) -> Result<Vec<f32>> {
        let living = segments.iter().flat_map(|&at| {
            let OpenSegment { segment, .. } = &self.segments[at];
            let dead = self.segments[at].dead();
            (0..segment.documents())
                .filter(move |&ordinal| !dead.contains(ordinal))
                .map(move |ordinal| (segment, ordinal))
        });
        let chosen: Vec<_> = living.step_by(step.max(1) as usize).collect();
        let decoded = execution.map(chosen, |(segment, ordinal)| segment.decode(ordinal, codec))?;
        Ok(decoded.concat())
    }
}

/// Whether an index of so many token vectors deserves twice the centroids.
fn has_outgrown(codec: &Codec, tokens: u64) -> bool {
    default_centroids(tokens as usize) >= 2 * codec.centroid_count()
}

/// Whether tokens with these gains lie far from all centroids. What is not known is not far.
fn is_far(codec: &Codec, mean_square_gain: Option<f64>) -> bool {
    let trained = codec.parameters().mean_square_gain;
    mean_square_gain.zip(trained).is_some_and(|(now, trained)| now > DRIFT * trained)
}
