//! What the benches share: seeded synthetic corpora with the code distributions of real ones, and the machine's name.

use latewood_kernels::{Bits, DocumentCodes};

/// Levels of 1, 2 and 4 bits: Lloyd–Max for a normal distribution, rounded to integers, and the standard deviation in
/// their units.
#[must_use]
pub fn normal_levels(bits: Bits) -> ([i8; 16], f32) {
    let mut levels = [0; 16];
    let (values, deviation): (&[i8], f32) = match bits {
        Bits::One => (&[-1, 1], 1.25),
        Bits::Two => (&[-10, -3, 3, 10], 6.6),
        Bits::Four => (&[-20, -15, -12, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 12, 15, 20], 7.3),
        Bits::Eight => (&[], 32.0),
    };
    levels[..values.len()].copy_from_slice(values);
    (levels, deviation)
}

/// A small random generator (xorshift64*), the same on every machine.
pub struct Random(u64);

impl Random {
    /// A generator whose numbers depend on `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 56 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.bits() as usize % bound
    }

    /// Standard normal, as the sum of four uniforms (near enough for codes, and cheap).
    pub fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|part| (bits >> (part * 14)) & 0x3FFF).sum();
        (sum as f32 / 16_384.0 - 2.0) * 1.732
    }

    /// `count` unit vectors of `dim` dimensions.
    pub fn unit_vectors(&mut self, count: usize, dim: usize) -> Vec<f32> {
        let mut vectors: Vec<f32> = (0..count * dim).map(|_| self.normal()).collect();
        for vector in vectors.chunks_exact_mut(dim) {
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            for x in vector {
                *x /= norm;
            }
        }
        vectors
    }
}

/// Stored documents: normal residuals in the layout of the codec, random centroids and gains.
pub struct Corpus {
    codes: Vec<u8>,
    gains: Vec<u16>,
    centroids: Vec<u16>,
    offsets: Vec<usize>,
    row_bytes: usize,
}

impl Corpus {
    /// Documents of so many tokens; `centroids` is how many rows ids are drawn from.
    #[must_use]
    pub fn new(random: &mut Random, lengths: &[usize], depth: usize, bits: Bits, centroids: usize) -> Self {
        let row_bytes = bits.row_bytes(depth);
        let (levels, deviation) = normal_levels(bits);
        let table: Vec<u8> = (0..4096).map(|_| code(&levels, bits, random.normal() * deviation)).collect();
        let count = lengths.iter().sum();
        let mut byte = || {
            let random = random.bits() as usize;
            let code = |plane: usize| table[random >> (plane * 7) & 0xFFF] << (plane * usize::from(bits.get()));
            (0..bits.planes()).fold(0, |byte, plane| byte | code(plane))
        };
        let codes = (0..count * row_bytes).map(|_| byte()).collect();
        Self {
            codes,
            // bfloat16 from 2^-9 to 2^-8: gains of unit vectors spread little.
            gains: (0..count).map(|_| 0x3B00 + random.below(0x80) as u16).collect(),
            centroids: (0..count).map(|_| random.below(centroids) as u16).collect(),
            offsets: std::iter::once(0)
                .chain(lengths.iter().scan(0, |end, length| {
                    *end += length;
                    Some(*end)
                }))
                .collect(),
            row_bytes,
        }
    }

    /// The documents in random order, so that none follows its neighbour in memory.
    #[must_use]
    pub fn shuffled(&self, random: &mut Random) -> Vec<DocumentCodes<'_>> {
        let mut documents: Vec<_> = self
            .offsets
            .windows(2)
            .map(|ends| DocumentCodes {
                codes: &self.codes[ends[0] * self.row_bytes..ends[1] * self.row_bytes],
                gains: &self.gains[ends[0]..ends[1]],
                centroids: &self.centroids[ends[0]..ends[1]],
            })
            .collect();
        for last in (1..documents.len()).rev() {
            documents.swap(last, random.below(last + 1));
        }
        documents
    }

    /// Centroid of every token.
    #[must_use]
    pub fn centroids(&self) -> &[u16] {
        &self.centroids
    }
}

/// The code whose level is nearest to `value`.
fn code(levels: &[i8; 16], bits: Bits, value: f32) -> u8 {
    if bits == Bits::Eight {
        return (value.round().clamp(-127.0, 127.0) as i8).cast_unsigned() ^ 0x80;
    }
    let codes = 0..1_u8 << bits.get();
    let distance = |&code: &u8| (f32::from(levels[usize::from(code)]) - value).abs();
    codes.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// The processor's name as the operating system gives it.
#[must_use]
pub fn machine() -> String {
    let name = fs_name().unwrap_or_else(|| "unknown processor".to_owned());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    format!("{name}, {threads} threads")
}

fn fs_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.to_owned())
}
