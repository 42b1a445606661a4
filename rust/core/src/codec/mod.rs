//! Token vectors to codes and back.
//!
//! A token vector `x` is rotated to `y = R x`, its nearest centroid `c` is taken off (residual codec) or not (flat
//! codec), and what is left over is kept as one small integer per dimension and one gain per token:
//!
//! ```text
//! y  ≈  centroid_unit · c  +  gain · level[code]
//! ```
//!
//! Centroids and levels are small integers, so that a dot product with an int8 query is exact integer arithmetic on
//! every CPU. The gain follows each residual's own norm, so the levels fit vectors the codec was never trained on, and
//! nothing but the centroids needs training. What is lost is measured in `benches/record`.

mod blocks;
mod random;
mod sample;
mod centroids;
mod pack;
mod residual;
mod rotation;
mod fde;

use half::bf16;
use latewood_kernels::{Bits, CodeQuery, DocumentCodes, Level, MAX_LEVEL, QueryLanes};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::parallel::Execution;

use blocks::block_tokens;
use sample::Sample;

pub use fde::{Anisotropy, EncodedFdes, Fde, FdeOptions, FdeParameters, FdeQuery};
pub(crate) use random::Random;
pub use residual::Quantizer;

/// Most centroids that a token's `u16` can name.
pub const MAX_CENTROIDS: usize = 1 << 16;
/// Token vectors on which a codec measures what its centroids leave over, to within a hundredth.
const MEASURED: usize = 4096;
/// Largest dimension. The sums of products would fit an i32 four times over; the rotation, `dim²` products for each vector,
/// is what makes larger ones slow.
pub const MAX_DIM: usize = 4096;

/// Values of the token vectors that fixed dimensional encodings look at before they encode any, at most.
const FDE_SAMPLE_VALUES: usize = 1 << 22;

/// Which codec an index uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodecKind {
    /// Nearest centroid plus quantised residual: the default; trained on the first vectors, and grown by later ones.
    Residual,
    /// Quantised vector without centroids: nothing to train and no gathering by cells; for reranking.
    Flat,
}

/// What the user may choose about a codec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecOptions {
    /// Residual or flat.
    pub kind: CodecKind,
    /// Bits per dimension: 1, 2, 4 or 8.
    pub bits: u8,
    /// Number of centroids, for good; `None` chooses by the number of token vectors, and adds some when the collection grows
    /// or changes.
    pub centroids: Option<usize>,
    /// Seed of the rotation and of k-means.
    pub seed: u64,
    /// Token vectors that an index holds before centroids are trained. Fewer would make poor centroids for all that
    /// follows; until then it keeps 8-bit codes without centroids, from which vectors come back nearly as they were.
    pub train_after: u64,
}

impl Default for CodecOptions {
    fn default() -> Self {
        Self { kind: CodecKind::Residual, bits: 4, centroids: None, seed: 42, train_after: 1 << 16 }
    }
}

impl CodecOptions {
    /// The codec of an index that holds too few token vectors to train centroids.
    #[must_use]
    pub fn untrained(&self) -> Self {
        Self { kind: CodecKind::Flat, bits: 8, centroids: None, ..self.clone() }
    }

    /// These options with the number of centroids settled for an index of at least this many token vectors.
    #[must_use]
    pub fn settled(&self, tokens: usize) -> Self {
        let default = (self.kind == CodecKind::Residual).then(|| default_centroids(tokens));
        Self { centroids: self.centroids.or(default), ..self.clone() }
    }

    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option.
    pub fn validate(&self) -> Result<()> {
        if Bits::from_u8(self.bits).is_none() {
            return Err(Error::invalid(format!("bits must be 1, 2, 4 or 8, not {}", self.bits)));
        }
        match (self.kind, self.centroids) {
            (CodecKind::Flat, Some(_)) => Err(Error::invalid("the flat codec has no centroids; leave centroids out")),
            (_, Some(count)) if count == 0 || count > MAX_CENTROIDS => {
                Err(Error::invalid(format!("centroids must lie between 1 and {MAX_CENTROIDS}, not {count}")))
            }
            _ => Ok(()),
        }
    }
}

/// The scalars of a codec, as the codec file holds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodecParameters {
    /// Residual or flat.
    pub kind: CodecKind,
    /// Components of a token vector.
    pub dim: usize,
    /// `dim` rounded up to a multiple of 32: components after rotation.
    pub depth: usize,
    /// Bits per dimension.
    pub bits: u8,
    /// Number of centroids; 0 for the flat codec.
    pub centroid_count: usize,
    /// What one unit of an int8 centroid stands for.
    pub centroid_unit: f32,
    /// How long the centroids are, which is how long the token vectors are that they were trained on: 1 for unit vectors,
    /// and in files from before it was kept.
    #[serde(default = "unit_length", skip_serializing_if = "is_unit_length")]
    pub centroid_length: f32,
    /// How far the lengths of the vectors that centroids were trained on lie from that, as a share of it: the root of the mean square, of
    /// the first training or of the growth where it was the most. 0 for vectors of one length, and in files from before it was kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub length_spread: f32,
    /// Token vectors that the centroids were trained on, from the first training and every growth.
    pub trained_tokens: u64,
    /// Mean of the squared gains of such token vectors as were held out of it: the energy of what the centroids leave over, up to a factor. `None` in
    /// files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_square_gain: Option<f64>,
}

fn unit_length() -> f32 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_unit_length(length: &f32) -> bool {
    length.to_bits() == unit_length().to_bits()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(spread: &f32) -> bool {
    spread.abs() <= 0.0
}

/// Codes of token vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedTokens {
    /// `[tokens, row_bytes]`.
    pub codes: Vec<u8>,
    /// `[tokens]`: each token's gain as bfloat16, the upper half of its float32 bits.
    pub gains: Vec<u16>,
    /// `[tokens]`: centroid of each token; empty for the flat codec.
    pub centroids: Vec<u16>,
}

impl EncodedTokens {
    /// Appends others of the same codec.
    pub fn append(&mut self, mut other: Self) {
        if self.gains.is_empty() {
            *self = other;
        } else {
            self.codes.append(&mut other.codes);
            self.gains.append(&mut other.gains);
            self.centroids.append(&mut other.centroids);
        }
    }
}

/// Mean of the squares of gains, bfloat16; `None` without one.
#[must_use]
pub fn mean_square_gain<'a>(gains: impl IntoIterator<Item = &'a u16>) -> Option<f64> {
    let square = |&gain: &u16| f64::from(bf16::from_bits(gain).to_f32()).powi(2);
    let add = |(count, sum): (u64, f64), gain| (count + 1, sum + square(gain));
    let (count, sum) = gains.into_iter().fold((0, 0.0), add);
    (count > 0).then(|| sum / count as f64)
}

/// A trained codec; immutable.
#[derive(Clone, Debug)]
pub struct Codec {
    parameters: CodecParameters,
    bits: Bits,
    quantizer: Quantizer,
    rotation: Vec<f32>,
    centroids: Vec<i8>,
    /// Half of each centroid's squared norm, for finding the nearest.
    biases: Vec<i32>,
    fde: Option<Fde>,
}

impl Codec {
    /// Draws the rotation and, for the residual codec, trains the centroids on the rows of `sample`, `[tokens, dim]` arrays
    /// that follow each other.
    ///
    /// The result depends on the sample, the options and nothing else: not on threads, not on the CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options out of range, [`Error::Interrupted`].
    pub fn train(sample: &[&[f32]], dim: usize, options: &CodecOptions, execution: &Execution) -> Result<Self> {
        options.validate()?;
        if dim == 0 || dim > MAX_DIM {
            return Err(Error::invalid(format!("dim must lie between 1 and {MAX_DIM}, not {dim}")));
        }
        let depth = dim.next_multiple_of(32);
        let rotation = rotation::draw(dim, depth, options.seed, execution)?;
        let sample = Sample::new(sample, dim);
        let tokens = sample.tokens();
        let (centroids, unit, centroid_length) = match options.kind {
            CodecKind::Flat => (Vec::new(), 1.0, unit_length()),
            CodecKind::Residual => {
                let count = options.settled(tokens).centroids.unwrap_or(1).min(tokens.max(1));
                let (rotation, seed) = (&*rotation, options.seed);
                let training = centroids::Training { dim, depth, rotation, fixed: None, count, seed };
                let (centroids, unit) = training.run(sample, execution)?;
                (centroids, unit, sample.typical_length(MEASURED, &mut Random::new(seed)))
            }
        };
        let parameters = CodecParameters {
            kind: options.kind,
            dim,
            depth,
            bits: options.bits,
            centroid_count: centroids.len() / depth,
            centroid_unit: unit * centroid_length,
            centroid_length,
            length_spread: 0.0,
            trained_tokens: 0,
            mean_square_gain: None,
        };
        Self::from_parts(parameters, rotation, centroids).map_err(Error::Invalid)?.measured(sample, execution)
    }

    /// This codec with up to `count` more centroids, trained on `sample` beside the present ones, which keep their numbers:
    /// codes of this codec are codes of the grown one.
    ///
    /// What the new centroids leave over of the sample counts as near from then on if `settles`, and the sample is large
    /// enough to say that its kind is no nearer to any. The result depends on the codec, the sample, `count` and `seed`
    /// alone.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn grow(
        &self,
        sample: &[&[f32]],
        count: usize,
        seed: u64,
        settles: bool,
        execution: &Execution,
    ) -> Result<Self> {
        let CodecParameters { dim, depth, centroid_count, centroid_unit, centroid_length, .. } = self.parameters;
        let sample = Sample::new(sample, dim);
        let fixed = centroids::Fixed { centroids: &self.centroids, unit: centroid_unit / centroid_length };
        let count = count.min(MAX_CENTROIDS - centroid_count);
        let training = centroids::Training { dim, depth, rotation: &self.rotation, fixed: Some(fixed), count, seed };
        let (centroids, _) = training.run(sample, execution)?;
        let parameters = CodecParameters { centroid_count: centroids.len() / depth, ..self.parameters.clone() };
        let grown = Self::from_parts(parameters, self.rotation.clone(), centroids).map_err(Error::Invalid)?;
        let measured = grown.measured(sample, execution)?;
        let mean_square_gain =
            if settles { measured.parameters.mean_square_gain } else { self.parameters.mean_square_gain };
        let parameters = CodecParameters { mean_square_gain, ..measured.parameters };
        Ok(Self { parameters, fde: self.fde.clone(), ..measured })
    }

    /// The same, with what is remembered of its training on `sample`. What one collection leaves over is not held against
    /// another that leaves less.
    fn measured(mut self, sample: Sample<'_>, execution: &Execution) -> Result<Self> {
        let chosen = sample.to_measure(MEASURED, &mut Random::new(MEASURED as u64));
        let encoded = self.encode(&sample.rows(&chosen), execution)?;
        self.parameters.trained_tokens += sample.tokens() as u64;
        // Only estimates by centroids go wrong where lengths differ.
        if self.parameters.centroid_count > 0 {
            let spread = sample.length_spread(&chosen, self.parameters.centroid_length);
            self.parameters.length_spread = self.parameters.length_spread.max(spread);
        }
        Ok(mean_square_gain(&encoded.gains).into_iter().fold(self, Self::with_near))
    }

    /// The same codec, for which token vectors with such a [`mean_square_gain`] lie near.
    #[must_use]
    pub fn with_near(mut self, gain: f64) -> Self {
        self.parameters.mean_square_gain = Some(self.parameters.mean_square_gain.map_or(gain, |known| known.max(gain)));
        self
    }

    /// A codec from what a file holds.
    ///
    /// # Errors
    /// The contradiction found, in words.
    pub fn from_parts(
        parameters: CodecParameters,
        rotation: Vec<f32>,
        centroids: Vec<i8>,
    ) -> std::result::Result<Self, String> {
        let CodecParameters { dim, depth, centroid_count, centroid_unit, centroid_length, .. } = parameters;
        let bits = Bits::from_u8(parameters.bits).ok_or_else(|| format!("{} bits per dimension", parameters.bits))?;
        if dim == 0 || dim > MAX_DIM || depth != dim.next_multiple_of(32) {
            return Err(format!("dimension {dim} with depth {depth}"));
        }
        if rotation.len() != dim * depth || !rotation.iter().all(|value| value.is_finite()) {
            return Err(format!("a rotation of {} values, or one that is not finite", rotation.len()));
        }
        let counted = match parameters.kind {
            CodecKind::Flat => centroid_count == 0,
            CodecKind::Residual => (1..=MAX_CENTROIDS).contains(&centroid_count),
        };
        if !counted || centroids.len() != centroid_count * depth {
            return Err(format!("{} centroid values for {centroid_count} centroids", centroids.len()));
        }
        if let Some(value) = centroids.iter().find(|value| value.unsigned_abs() > MAX_LEVEL) {
            return Err(format!("a centroid value of {value}, beyond ±{MAX_LEVEL}"));
        }
        if !centroid_unit.is_finite() || centroid_unit <= 0.0 {
            return Err(format!("a centroid unit of {centroid_unit}"));
        }
        // The nearest is looked for by direction.
        let unit = centroid_unit / centroid_length;
        if !unit.is_finite() || unit <= 0.0 {
            return Err(format!("centroids of length {centroid_length} in units of {centroid_unit}"));
        }
        if !parameters.length_spread.is_finite() || parameters.length_spread < 0.0 {
            return Err(format!("lengths spread by {}", parameters.length_spread));
        }
        let biases = centroids::biases(&centroids, unit, depth);
        Ok(Self { parameters, bits, quantizer: Quantizer::new(bits), rotation, centroids, biases, fde: None })
    }

    /// The codec, with fixed dimensional encodings of its vectors, which take what they must know of the collection from the rows
    /// of `sample`, `[tokens, dim]` arrays that follow each other.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options out of range, [`Error::Interrupted`].
    pub fn train_fde(self, sample: &[&[f32]], options: &FdeOptions, seed: u64, execution: &Execution) -> Result<Self> {
        let CodecParameters { dim, depth, .. } = self.parameters;
        let tokens: usize = sample.iter().map(|rows| rows.len() / dim).sum();
        let step = tokens.div_ceil((FDE_SAMPLE_VALUES / depth).max(1)).max(1);
        let chosen = sample.iter().flat_map(|rows| rows.chunks_exact(dim)).step_by(step);
        let chosen = self.rotate(&chosen.flatten().copied().collect::<Vec<f32>>());
        let fde = Fde::train(dim, depth, chosen, options, seed, execution)?;
        Ok(self.with_fde(Some(fde)))
    }

    /// Fixed dimensional encodings of documents, from the codes of their tokens, if the codec has them; `offsets`,
    /// `[documents + 1]`, say where each begins.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn encode_fdes(
        &self,
        (codes, gains, centroids): (&[u8], &[u16], &[u16]),
        offsets: &[u64],
        execution: &Execution,
    ) -> Result<Option<EncodedFdes>> {
        let Some(fde) = &self.fde else { return Ok(None) };
        let bytes = self.row_bytes();
        let vectors = |document: usize| {
            let (start, end) = (offsets[document] as usize, offsets[document + 1] as usize);
            // A file that changes under its reader may give wrong encodings, but no range that is not inside.
            let codes = codes.get(start.saturating_mul(bytes)..end.saturating_mul(bytes)).unwrap_or_default();
            let gains = gains.get(start..end).unwrap_or_default();
            self.decode_rotated(codes, gains, centroids.get(start..end).unwrap_or_default())
        };
        fde.encode_documents(offsets.len() - 1, vectors, execution).map(Some)
    }

    /// The codec, with what makes fixed dimensional encodings of its vectors, or without.
    #[must_use]
    pub fn with_fde(self, fde: Option<Fde>) -> Self {
        Self { fde, ..self }
    }

    /// What makes fixed dimensional encodings, if the index has them.
    #[must_use]
    pub fn fde(&self) -> Option<&Fde> {
        self.fde.as_ref()
    }

    /// The codec's scalars.
    #[must_use]
    pub fn parameters(&self) -> &CodecParameters {
        &self.parameters
    }

    /// The rotation, `[dim, depth]`: component `j` of a rotated vector is `Σ_i x[i] · rotation[i][j]`.
    #[must_use]
    pub fn rotation(&self) -> &[f32] {
        &self.rotation
    }

    /// The centroids, `[centroid_count, depth]`, in units of `centroid_unit`.
    #[must_use]
    pub fn centroids(&self) -> &[i8] {
        &self.centroids
    }

    /// Whether it is of the kind and bits that these options ask for.
    #[must_use]
    pub fn is_of(&self, options: &CodecOptions) -> bool {
        (self.parameters.kind, self.parameters.bits) == (options.kind, options.bits)
    }

    /// Number of centroids; 0 for the flat codec.
    #[must_use]
    pub fn centroid_count(&self) -> usize {
        self.parameters.centroid_count
    }

    /// Components of a token vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.parameters.dim
    }

    /// Components of a rotated token vector.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.parameters.depth
    }

    /// Bytes of a token's codes.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.bits.row_bytes(self.parameters.depth)
    }

    /// The kernels' view of a prepared query.
    #[must_use]
    pub fn query<'a>(&'a self, lanes: &'a QueryLanes, weights: &'a [f32], centroid_scores: &'a [f32]) -> CodeQuery<'a> {
        CodeQuery { lanes, weights, bits: self.bits, levels: self.quantizer.levels(), centroid_scores }
    }

    /// Rotates `[tokens, dim]` vectors to `[tokens, depth]`.
    #[must_use]
    pub fn rotate(&self, vectors: &[f32]) -> Vec<f32> {
        let CodecParameters { dim, depth, .. } = self.parameters;
        let mut rotated = vec![0.0; vectors.len() / dim * depth];
        latewood_kernels::rotate(Level::current(), &self.rotation, dim, depth, vectors, &mut rotated);
        rotated
    }

    /// Encodes vectors, `[tokens, dim]`.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn encode(&self, vectors: &[f32], execution: &Execution) -> Result<EncodedTokens> {
        let dim = self.dim();
        let count = vectors.len() / dim;
        let mut encoded = self.room(count);
        let block = block_tokens(self.depth());
        execution.map(vectors.chunks(block * dim).zip(self.blocks(&mut encoded)), |(vectors, mut into)| {
            self.encode_rotated(&mut self.rotate(vectors), &mut into);
            Ok(())
        })?;
        Ok(encoded)
    }

    /// Codes of another codec that has the same rotation, as codes of this one. Tokens whose nearest centroid is one that both
    /// have keep theirs.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn recode(&self, from: &Self, tokens: DocumentCodes<'_>, execution: &Execution) -> Result<EncodedTokens> {
        let (dim, depth, common) = (self.dim(), self.depth(), from.centroid_count());
        let mut encoded = self.room(tokens.gains.len());
        let block = block_tokens(depth);
        let codes = tokens.codes.chunks(block * from.row_bytes());
        // Flat codecs have no centroids.
        let centroids = tokens.centroids.chunks(block).chain(std::iter::repeat(&[][..]));
        let given = codes.zip(tokens.gains.chunks(block)).zip(centroids);
        execution.map(given.zip(self.blocks(&mut encoded)), |(((codes, gains), centroids), mut into)| {
            let mut rotated = from.decode_rotated(codes, gains, centroids);
            // Codes have no zero, which is what stands behind the last dimension.
            rotated.chunks_exact_mut(depth).for_each(|vector| vector[dim..].fill(0.0));
            self.encode_rotated(&mut rotated, &mut into);
            for (token, (new, &old)) in into.centroids.iter_mut().zip(centroids).enumerate() {
                if usize::from(*new) < common {
                    let row = token * self.row_bytes()..(token + 1) * self.row_bytes();
                    into.codes[row.clone()].copy_from_slice(&codes[row]);
                    into.gains[token] = gains[token];
                    *new = old;
                }
            }
            Ok(())
        })?;
        Ok(encoded)
    }

    fn room(&self, tokens: usize) -> EncodedTokens {
        EncodedTokens {
            codes: vec![0; tokens * self.row_bytes()],
            gains: vec![0; tokens],
            centroids: vec![0; if self.centroids.is_empty() { 0 } else { tokens }],
        }
    }

    /// Where the codes of each task's tokens go.
    fn blocks<'a>(&self, encoded: &'a mut EncodedTokens) -> impl Iterator<Item = Block<'a>> + Send + use<'a> {
        let block = block_tokens(self.depth());
        let codes = encoded.codes.chunks_mut(block * self.row_bytes());
        // Flat codecs have no centroid slice to share out: empty slices stand in for it.
        let centroids = encoded.centroids.chunks_mut(block).chain(std::iter::repeat_with(Default::default));
        codes.zip(encoded.gains.chunks_mut(block)).zip(centroids).map(|((codes, gains), centroids)| Block {
            codes,
            gains,
            centroids,
        })
    }

    /// Decodes token vectors, `[tokens, dim]`; what every score is computed on, up to the query's own int8 step.
    #[must_use]
    pub fn decode(&self, codes: &[u8], gains: &[u16], centroids: &[u16]) -> Vec<f32> {
        self.unrotate(&self.decode_rotated(codes, gains, centroids))
    }

    /// The same before the rotation is undone, `[tokens, depth]`: distances and dot products do not need that.
    #[must_use]
    pub fn decode_rotated(&self, codes: &[u8], gains: &[u16], centroids: &[u16]) -> Vec<f32> {
        let CodecParameters { depth, centroid_unit, .. } = self.parameters;
        let mut vectors = vec![0.0; gains.len() * depth];
        let rows = codes.chunks_exact(self.row_bytes()).zip(vectors.chunks_exact_mut(depth));
        for (token, (row, rotated)) in rows.enumerate() {
            let gain = bf16::from_bits(gains[token]).to_f32();
            for (at, value) in rotated.iter_mut().enumerate() {
                *value = gain * f32::from(self.quantizer.level(pack::code(row, at, self.bits)));
            }
            let first = centroids.get(token).map(|&centroid| usize::from(centroid) * depth);
            // One beyond the last was written over, under the map, after it had been verified.
            if let Some(centroid) = first.and_then(|first| self.centroids.get(first..first + depth)) {
                rotated.iter_mut().zip(centroid).for_each(|(value, &unit)| *value += centroid_unit * f32::from(unit));
            }
        }
        vectors
    }

    /// Vectors `[tokens, dim]` of rotated ones, `[tokens, depth]`.
    #[must_use]
    pub fn unrotate(&self, rotated: &[f32]) -> Vec<f32> {
        let depth = self.depth();
        let component = |row: &[f32], vector: &[f32]| row.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
        let vectors = rotated.chunks_exact(depth);
        vectors.flat_map(|vector| self.rotation.chunks_exact(depth).map(|row| component(row, vector))).collect()
    }

    /// The cell of each rotated vector of `[tokens, depth]`, its nearest centroid by direction; none for the flat codec.
    #[must_use]
    pub fn cells(&self, rotated: &[f32]) -> Vec<u16> {
        if self.centroids.is_empty() {
            return Vec::new();
        }
        let depth = self.depth();
        let mut points = rotated.to_vec();
        points.chunks_exact_mut(depth).for_each(centroids::normalize);
        let mut nearest = vec![0_u32; rotated.len() / depth];
        centroids::nearest(&points, depth, &self.centroids, &self.biases, &mut nearest);
        nearest.into_iter().map(|cell| cell as u16).collect()
    }

    /// Encodes the vectors of one task, `[tokens, depth]`, and leaves what their centroids leave over.
    fn encode_rotated(&self, rotated: &mut [f32], into: &mut Block<'_>) {
        let CodecParameters { dim, depth, centroid_unit, .. } = self.parameters;
        if !self.centroids.is_empty() {
            into.centroids.copy_from_slice(&self.cells(rotated));
            for (&cell, residual) in into.centroids.iter().zip(rotated.chunks_exact_mut(depth)) {
                let centroid = &self.centroids[usize::from(cell) * depth..][..depth];
                residual.iter_mut().zip(centroid).for_each(|(value, &unit)| *value -= centroid_unit * f32::from(unit));
            }
        }
        let mut row_codes = vec![0_u8; depth];
        let rows = into.codes.chunks_exact_mut(self.row_bytes()).zip(&mut *into.gains);
        for (residual, (row, gain)) in rotated.chunks_exact(depth).zip(rows) {
            *gain = self.quantizer.quantize(&residual[..dim], &mut row_codes);
            pack::pack(&row_codes, self.bits, row);
        }
    }
}

/// Where the codes of one task's tokens go.
struct Block<'a> {
    codes: &'a mut [u8],
    gains: &'a mut [u16],
    centroids: &'a mut [u16],
}

/// The number of centroids for an index that trains on this many tokens, a power of two.
///
/// More centroids make better estimates, so that fewer documents need scoring, but every query pays for its table of
/// centroid scores. Measured on a million tokens the two balance from 4,096 to 16,384; reranking favours the low end,
/// and so do we: 4·√tokens, at least 4,096 for the sake of what is added later, never fewer than 16 tokens a cell.
pub(crate) fn default_centroids(tokens: usize) -> usize {
    let wanted = (4.0 * (tokens as f64).sqrt()).log2().round().clamp(12.0, 14.0) as u32;
    let supported = (tokens / 16).max(1).ilog2();
    1 << wanted.min(supported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_back_from_their_codes_at_every_dimension() {
        let execution = Execution::new(None).expect("threads");
        for dim in [1, 100, 128, 1024, 2048, MAX_DIM] {
            let mut random = Random::new(dim as u64);
            let tokens = 12;
            let mut values: Vec<f32> = (0..tokens * dim).map(|_| random.gaussian() as f32).collect();
            values.chunks_exact_mut(dim).for_each(centroids::normalize);
            // The rotation of the largest dimension takes seconds.
            let kinds = [(CodecKind::Residual, 4, 0.03), (CodecKind::Flat, 8, 0.001)];
            for (kind, bits, most) in kinds.into_iter().take(if dim == MAX_DIM { 1 } else { 2 }) {
                let options = CodecOptions { kind, bits, ..CodecOptions::default() };
                let codec = Codec::train(&[&values], dim, &options, &execution).expect("trained");
                let encoded = codec.encode(&values, &execution).expect("encoded");
                let decoded = codec.decode(&encoded.codes, &encoded.gains, &encoded.centroids);
                for (one, other) in decoded.chunks_exact(dim).zip(values.chunks_exact(dim)) {
                    let distance: f32 = one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
                    assert!(distance < most, "{dim} dimensions, {kind:?}: squared distance {distance}");
                }
            }
        }
    }

    #[test]
    fn lengths_that_differ_are_remembered() {
        let execution = Execution::new(None).expect("threads");
        let (tokens, dim) = (4000, 48);
        let mut random = Random::new(3);
        let mut values: Vec<f32> = (0..tokens * dim).map(|_| random.gaussian() as f32).collect();
        let lengths: Vec<f32> = (0..tokens).map(|_| random.gaussian() as f32).collect();
        values.chunks_exact_mut(dim).for_each(centroids::normalize);
        let options = CodecOptions { centroids: Some(16), ..CodecOptions::default() };
        let of = |spread: f32, length: f32| -> Vec<f32> {
            let rows = values.chunks_exact(dim).zip(&lengths);
            rows.flat_map(|(row, z)| row.iter().map(move |value| value * length * (1.0 + spread * z))).collect()
        };
        for length in [1e-5_f32, 1.0, 7.0] {
            let near = Codec::train(&[&of(0.001, length)], dim, &options, &execution).expect("trained");
            assert_eq!(near.parameters.length_spread.to_bits(), 0);
            assert!(!serde_json::to_string(&near.parameters).expect("JSON").contains("length_spread"));
            let apart = Codec::train(&[&of(0.2, length)], dim, &options, &execution).expect("trained");
            let spread = apart.parameters.length_spread;
            assert!((spread - 0.2).abs() < 0.03, "{spread} at {length}");
            let written = serde_json::to_string(&apart.parameters).expect("JSON");
            assert_eq!(serde_json::from_str::<CodecParameters>(&written).expect("parameters"), apart.parameters);
            // Others that are twice as long lie apart from what was there, however alike they are.
            let grown = near.grow(&[&of(0.0, 2.0 * length)], 4, 1, true, &execution).expect("grown");
            assert!((grown.parameters.length_spread - 1.0).abs() < 0.05);
            let flat = CodecOptions { kind: CodecKind::Flat, ..CodecOptions::default() };
            let flat = Codec::train(&[&of(0.2, length)], dim, &flat, &execution).expect("trained");
            assert_eq!(flat.parameters.length_spread.to_bits(), 0);
            let kept = apart.grow(&[&of(0.0, length)], 4, 1, true, &execution).expect("grown");
            assert_eq!(kept.parameters.length_spread.to_bits(), spread.to_bits());
        }
        let mut parameters = Codec::train(&[&values], dim, &options, &execution).expect("trained").parameters;
        parameters.length_spread = f32::NAN;
        assert!(
            Codec::from_parts(parameters, vec![0.0; dim * 64], vec![0; 16 * 64])
                .is_err_and(|why| why.contains("spread"))
        );
    }

    #[test]
    fn vectors_of_any_length_come_back_from_their_codes() {
        let execution = Execution::new(None).expect("threads");
        let (tokens, dim) = (400, 48);
        let mut random = Random::new(7);
        let directions: Vec<f32> = (0..tokens * dim).map(|_| random.gaussian() as f32).collect();
        let options = CodecOptions { centroids: Some(16), ..CodecOptions::default() };
        for length in [1e-15_f32, 1e-5, 0.02, 1.0, 30.0, 1e9] {
            let mut values = directions.clone();
            values.chunks_exact_mut(dim).for_each(centroids::normalize);
            for value in &mut values {
                *value *= length;
            }
            // Padding that nobody has taken out says nothing of the others.
            values[..60 * dim].fill(0.0);
            let codec = Codec::train(&[&values], dim, &options, &execution).expect("trained");
            let grown = codec.grow(&[&values], 4, 1, true, &execution).expect("grown");
            let known = &grown.parameters;
            let of_unit_vectors = length.to_bits() == unit_length().to_bits();
            assert_eq!(is_unit_length(&known.centroid_length), of_unit_vectors);
            let written = serde_json::to_string(known).expect("JSON");
            assert_eq!(written.contains("centroid_length"), !of_unit_vectors);
            let read = serde_json::from_str(&written).expect("parameters");
            assert_eq!(*known, read);
            let again = Codec::from_parts(read, grown.rotation.clone(), grown.centroids.clone()).expect("whole");
            for codec in [&codec, &grown, &again] {
                let encoded = codec.encode(&values, &execution).expect("encoded");
                let decoded = codec.decode(&encoded.codes, &encoded.gains, &encoded.centroids);
                for (one, other) in decoded.chunks_exact(dim).zip(values.chunks_exact(dim)).skip(60) {
                    let part = |(a, b): (&f32, &f32)| f64::from((a - b) / length).powi(2);
                    let distance: f64 = one.iter().zip(other).map(part).sum();
                    assert!(distance < 0.03, "vectors of length {length}: squared distance {distance}");
                }
            }
        }
    }

    #[test]
    fn vectors_too_short_for_a_direction_are_as_good_as_zeros() {
        let execution = Execution::undisturbed();
        for value in [0.0, f32::MIN_POSITIVE / 1e6, 1e-30] {
            let values = vec![value; 32 * 100];
            let codec = Codec::train(&[&values], 32, &CodecOptions::default(), &execution).expect("trained");
            let encoded = codec.encode(&values, &execution).expect("encoded");
            let decoded = codec.decode(&encoded.codes, &encoded.gains, &encoded.centroids);
            assert!(decoded.iter().all(|value| value.abs() < 1e-20), "{decoded:?}");
        }
    }

    #[test]
    fn dimensions_beyond_the_largest_are_refused() {
        for dim in [0, MAX_DIM + 1] {
            let trained = Codec::train(&[], dim, &CodecOptions::default(), &Execution::undisturbed());
            assert!(matches!(trained, Err(Error::Invalid(_))), "{dim}");
        }
    }
}
