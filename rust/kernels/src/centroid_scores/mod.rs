//! int8 query tokens × int8 centroids: the table of scores, and the nearest centroid of many tokens.
//!
//! Both are one integer matrix product, `[32 lanes] × [rows]` at a time, exact in i32 at every level.
//!
//! # Why nothing overflows
//! Centroids lie within ±21, so that AVX2 may add three `maddubs` results in i16: 3 · 2 · (21 + 21) · 127 = 32,004. VNNI
//! wants one side unsigned: the query becomes `q + 128`, and 128 · Σ row is taken off where the sums start. |sum| ≤
//! 16,384 · 255 · 128 < 2^31. Rows beyond ±21 give sums that are wrong and differ between levels, and no other harm.
//!
//! # Bound
//! Per row and 32 lanes at depth 128: 64 `vpdpbusd` of 512 bits (32 cycles); 4 cycles with AMX; 299 AVX2 instructions on
//! three ports (100 cycles); 256 `sdot` or 128 `smmla`. Rows go in chunks that stay in L1 while every block of lanes passes over them.

pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

#[cfg(doc)]
use crate::MAX_LEVEL;
use crate::aligned::Aligned;
use crate::lanes::{LANES, QueryLanes};
use crate::level::{Isa, Level};

/// Bytes of centroids that stay in L1 while the blocks of lanes pass over them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const CHUNK_BYTES: usize = 16 << 10;

/// Rows per chunk: a multiple of 32, the most rows that any kernel takes at once.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn chunk_rows(depth: usize) -> usize {
    (CHUNK_BYTES / depth).next_multiple_of(32)
}

/// Rows that are brought together at a time where only some are wanted: they and their scores fit L1 at depth 128.
const GATHERED_ROWS: usize = 128;

/// Scores of query tokens against centroids: `out[block][row][lane] = (Σ q · c) as f32 · unit`.
///
/// `centroids` is `[rows, depth]`, within ±[`MAX_LEVEL`]; `out` is `[blocks][rows][32]`, zero in lanes past the last token.
///
/// # Panics
/// If `centroids` is not whole rows or `out` has another length.
pub fn centroid_scores(level: Level, lanes: &QueryLanes, centroids: &[i8], unit: f32, out: &mut [f32]) {
    let rows = count_rows(lanes, centroids);
    assert_eq!(out.len(), lanes.blocks() * rows * LANES, "out must be [blocks][rows][32]");
    match level.0 {
        Isa::Scalar => scalar::scores(lanes, centroids, unit, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avx2; lengths are checked above.
        Isa::Avx2 => unsafe { avx2::scores(lanes, centroids, unit, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avxvnni and avx2; lengths are checked above.
        Isa::AvxVnni => unsafe { avx2::scores_vnni(lanes, centroids, unit, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avx512f, bw, vl and vnni; lengths are checked above.
        Isa::Avx512Vnni => unsafe { avx512::scores(lanes, centroids, unit, out) },
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: this level exists only where the system gave permission for tiles; lengths are checked above.
        Isa::Amx => unsafe { amx::scores(lanes, centroids, unit, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: this level exists only where detection found neon and dotprod; lengths are checked above.
        Isa::Neon => unsafe { neon::scores(lanes, centroids, unit, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: this level exists only where detection found neon and i8mm; lengths are checked above.
        Isa::I8mm => unsafe { neon::scores_i8mm(lanes, centroids, unit, out) },
    }
}

/// The same for the rows that are named: `out[block][row]` for each of `rows`. The others stay as they are.
///
/// # Panics
/// As [`centroid_scores()`], and if a row is past the last.
pub fn centroid_scores_of(
    level: Level,
    lanes: &QueryLanes,
    centroids: &[i8],
    rows: &[u16],
    unit: f32,
    out: &mut [f32],
) {
    let (depth, all) = (lanes.depth(), count_rows(lanes, centroids));
    assert_eq!(out.len(), lanes.blocks() * all * LANES, "out must be [blocks][rows][32]");
    let mut packed = Aligned::zeroed(GATHERED_ROWS.min(rows.len()) * depth);
    let mut scores = Aligned::zeroed(lanes.blocks() * GATHERED_ROWS.min(rows.len()) * LANES);
    let out = out.as_chunks_mut::<LANES>().0;
    for rows in rows.chunks(GATHERED_ROWS) {
        let packed = &mut packed[..rows.len() * depth];
        for (packed, &row) in packed.chunks_exact_mut(depth).zip(rows) {
            packed.copy_from_slice(&centroids[usize::from(row) * depth..][..depth]);
        }
        let scores = &mut scores[..lanes.blocks() * rows.len() * LANES];
        centroid_scores(level, lanes, packed, unit, scores);
        for (block, scores) in scores.as_chunks::<LANES>().0.chunks_exact(rows.len()).enumerate() {
            rows.iter().zip(scores).for_each(|(&row, scores)| out[block * all + usize::from(row)] = *scores);
        }
    }
}

/// For each token the row with the largest `Σ q · c - bias[row]`; among equals the lowest row.
///
/// `centroids` is `[rows, depth]`, within ±[`MAX_LEVEL`].
/// `bias` has one entry per row or is empty. Differences are taken in i32 and must fit it.
///
/// # Panics
/// If `centroids` is not whole rows, has no row, `bias` has another length, or `out` is not one entry per token.
pub fn nearest_centroids(level: Level, lanes: &QueryLanes, centroids: &[i8], bias: &[i32], out: &mut [u32]) {
    let rows = count_rows(lanes, centroids);
    assert!(rows > 0 && i32::try_from(rows).is_ok(), "there must be at least one centroid and fewer than 2^31");
    assert!(bias.is_empty() || bias.len() == rows, "one bias per centroid");
    assert_eq!(out.len(), lanes.tokens(), "one result per token");
    let zeros;
    let bias = if bias.is_empty() {
        zeros = vec![0; rows];
        &zeros
    } else {
        bias
    };
    let mut best = vec![Best::default(); lanes.blocks()];
    match level.0 {
        Isa::Scalar => scalar::nearest(lanes, centroids, bias, &mut best),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avx2; lengths are checked above.
        Isa::Avx2 => unsafe { avx2::nearest(lanes, centroids, bias, &mut best) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avxvnni and avx2; lengths are checked above.
        Isa::AvxVnni => unsafe { avx2::nearest_vnni(lanes, centroids, bias, &mut best) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level exists only where detection found avx512f, bw, vl and vnni; lengths are checked above.
        Isa::Avx512Vnni => unsafe { avx512::nearest(lanes, centroids, bias, &mut best) },
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: this level exists only where the system gave permission for tiles; lengths are checked above.
        Isa::Amx => unsafe { amx::nearest(lanes, centroids, bias, &mut best) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: this level exists only where detection found neon and dotprod; lengths are checked above.
        Isa::Neon => unsafe { neon::nearest(lanes, centroids, bias, &mut best) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: this level exists only where detection found neon and i8mm; lengths are checked above.
        Isa::I8mm => unsafe { neon::nearest_i8mm(lanes, centroids, bias, &mut best) },
    }
    for (best, out) in best.iter().zip(out.chunks_mut(LANES)) {
        out.iter_mut().zip(best.rows).for_each(|(out, row)| *out = row.cast_unsigned());
    }
}

fn count_rows(lanes: &QueryLanes, centroids: &[i8]) -> usize {
    assert!(centroids.len().is_multiple_of(lanes.depth()), "centroids must be whole rows of depth");
    centroids.len() / lanes.depth()
}

/// The best row so far of each lane of a block.
#[derive(Clone)]
#[repr(C, align(64))]
struct Best {
    dots: [i32; LANES],
    rows: [i32; LANES],
}

impl Default for Best {
    fn default() -> Self {
        Self { dots: [i32::MIN; LANES], rows: [0; LANES] }
    }
}
