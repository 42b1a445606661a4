use super::*;
use crate::testing::{Guarded, Random};

/// Model dims after padding to 32: the smallest; 48 and 64 as 64 (rows of 16 and 32 bytes at 2 and 4 bits); 96 (rows that
/// fill no register); 100 and 128 as 128 (one whole register at 4 bits); 320 (odd number of half tiles); 768, 1024, 2048 and
/// 4096 (several registers per plane; from 2048 on sums of 8-bit codes that no float holds).
const DEPTHS: [usize; 9] = [32, 64, 96, 128, 320, 768, 1024, 2048, 4096];

/// One lane; less than a block; one short of a block, a block, one more; a block and a half; several blocks.
const QUERY_TOKENS: [usize; 8] = [1, 8, 31, 32, 33, 48, 128, 512];

/// No token; one; one less and one more than one and two eights; several batches of 32 with a rest; many.
const DOCUMENT_TOKENS: [usize; 9] = [0, 1, 7, 8, 15, 16, 17, 130, 300];

const ALL_BITS: [Bits; 4] = [Bits::One, Bits::Two, Bits::Four, Bits::Eight];

/// Rows of the centroid table: small, so that the tests' table is.
const ROWS: usize = 19;

struct Stored {
    codes: Guarded<u8>,
    gains: Guarded<u16>,
    centroids: Guarded<u16>,
}

impl Stored {
    fn random(random: &mut Random, tokens: usize, row_bytes: usize, flat: bool) -> Self {
        let codes: Vec<u8> = (0..tokens * row_bytes).map(|_| random.next() as u8).collect();
        // bfloat16 from 2^-14 to 2^-7, the range of real gains.
        let gains: Vec<u16> = (0..tokens).map(|_| 0x3880 + random.next() as u16 % 0x400).collect();
        // Ids run past the table on purpose: they must read the last row.
        let centroids: Vec<u16> = (0..tokens).map(|_| random.below(ROWS + 2) as u16).collect();
        let centroids = if flat { &[][..] } else { &centroids };
        Self { codes: Guarded::new(&codes), gains: Guarded::new(&gains), centroids: Guarded::new(centroids) }
    }

    fn view(&self) -> DocumentCodes<'_> {
        DocumentCodes { codes: &self.codes, gains: &self.gains, centroids: &self.centroids }
    }
}

struct Tables {
    lanes: QueryLanes,
    weights: Vec<f32>,
    levels: [i8; 16],
    centroid_scores: Guarded<f32>,
}

impl Tables {
    fn random(random: &mut Random, tokens: usize, depth: usize, flat: bool) -> Self {
        let lanes = QueryLanes::quantize(&random.floats(tokens * depth), depth);
        let rows = if flat { 0 } else { ROWS };
        let mut centroid_scores = random.floats(lanes.blocks() * rows * LANES);
        for score in &mut centroid_scores {
            *score *= 3.0;
        }
        Self {
            weights: lanes.scales().to_vec(),
            levels: std::array::from_fn(|_| (random.below(43) as i8) - 21),
            centroid_scores: Guarded::new(&centroid_scores),
            lanes,
        }
    }

    fn query(&self, bits: Bits) -> CodeQuery<'_> {
        CodeQuery {
            lanes: &self.lanes,
            weights: &self.weights,
            bits,
            levels: &self.levels,
            centroid_scores: &self.centroid_scores,
        }
    }
}

/// The truth: every token score by [`token_scores`], then maximum and sum.
fn naive(query: &CodeQuery, document: &DocumentCodes) -> f32 {
    let tokens = query.lanes.tokens();
    let mut scores = vec![0.0; document.gains.len() * tokens];
    token_scores(query, document, &mut scores);
    if scores.is_empty() && document.gains.is_empty() {
        return f32::NEG_INFINITY;
    }
    let mut maxima = vec![f32::NEG_INFINITY; tokens];
    for row in scores.chunks_exact(tokens) {
        maxima.iter_mut().zip(row).for_each(|(best, &value)| *best = best.max(value));
    }
    weighted_sum(&maxima, query.weights)
}

fn bits_of(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|score| score.to_bits()).collect()
}

fn at(level: Level, query: &CodeQuery, documents: &[DocumentCodes]) -> Vec<u32> {
    let mut out = vec![0.0; documents.len()];
    maxsim_codes(level, &[*query], documents, &mut out);
    bits_of(&out)
}

fn check(random: &mut Random, depth: usize, tokens: usize, bits: Bits, flat: bool, lengths: &[usize]) {
    let tables = Tables::random(random, tokens, depth, flat);
    let query = tables.query(bits);
    let stored: Vec<_> =
        lengths.iter().map(|&length| Stored::random(random, length, bits.row_bytes(depth), flat)).collect();
    let documents: Vec<_> = stored.iter().map(Stored::view).collect();
    let expected: Vec<f32> = documents.iter().map(|document| naive(&query, document)).collect();
    for level in Level::available() {
        let got = at(level, &query, &documents);
        assert_eq!(got, bits_of(&expected), "{level}, depth {depth}, {tokens} query tokens, {bits:?}, flat {flat}");
    }
}

#[test]
fn every_level_equals_the_truth_at_every_depth_width_and_codec() {
    let mut random = Random::new(1);
    for depth in DEPTHS {
        for bits in ALL_BITS {
            for flat in [false, true] {
                check(&mut random, depth, 33, bits, flat, &[0, 1, 7, 17, 0]);
            }
        }
    }
}

#[test]
fn every_level_equals_the_truth_at_every_query_length() {
    let mut random = Random::new(2);
    for tokens in QUERY_TOKENS {
        for (bits, flat) in [(Bits::Four, false), (Bits::Eight, true)] {
            check(&mut random, 64, tokens, bits, flat, &[1, 15, 31, 8]);
        }
    }
}

#[test]
fn every_level_equals_the_truth_at_every_document_length() {
    let mut random = Random::new(3);
    for length in DOCUMENT_TOKENS {
        check(&mut random, 128, 32, Bits::Four, false, &[length]);
        check(&mut random, 128, 32, Bits::Two, true, &[length, length, 1, length]);
    }
}

#[test]
fn scores_do_not_depend_on_order_or_company() {
    let mut random = Random::new(4);
    for bits in ALL_BITS {
        let tables = Tables::random(&mut random, 40, 96, false);
        let query = tables.query(bits);
        let stored: Vec<_> = DOCUMENT_TOKENS
            .iter()
            .map(|&length| Stored::random(&mut random, length, bits.row_bytes(96), false))
            .collect();
        let documents: Vec<_> = stored.iter().map(Stored::view).collect();
        for level in Level::available() {
            let together = at(level, &query, &documents);
            let alone: Vec<u32> = documents.iter().map(|&document| at(level, &query, &[document])[0]).collect();
            let reversed: Vec<_> = documents.iter().rev().copied().collect();
            let mut reversed = at(level, &query, &reversed);
            reversed.reverse();
            assert_eq!(together, alone, "{level}");
            assert_eq!(together, reversed, "{level}");
        }
    }
}

#[test]
fn queries_together_score_as_each_alone() {
    let mut random = Random::new(5);
    for (bits, flat) in [(Bits::Four, true), (Bits::Four, false), (Bits::Two, false), (Bits::Eight, true)] {
        // A query without tokens, of part of a block, of whole blocks; first, in the middle and last.
        for lengths in [vec![32, 32], vec![0, 33, 5], vec![7, 0, 64, 32, 1, 0], vec![20; 9]] {
            let depth = 128;
            let tables: Vec<_> =
                lengths.iter().map(|&tokens| Tables::random(&mut random, tokens, depth, flat)).collect();
            let levels = tables[0].levels;
            let queries: Vec<_> =
                tables.iter().map(|tables| CodeQuery { levels: &levels, ..tables.query(bits) }).collect();
            let stored: Vec<_> = DOCUMENT_TOKENS
                .iter()
                .map(|&length| Stored::random(&mut random, length, bits.row_bytes(depth), flat))
                .collect();
            let documents: Vec<_> = stored.iter().map(Stored::view).collect();
            for level in Level::available() {
                let mut together = vec![0.0; documents.len() * queries.len()];
                maxsim_codes(level, &queries, &documents, &mut together);
                for (at_query, query) in queries.iter().enumerate() {
                    let column: Vec<f32> = together.iter().skip(at_query).step_by(queries.len()).copied().collect();
                    assert_eq!(bits_of(&column), at(level, query, &documents), "{level} {bits:?} {lengths:?}");
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "must agree")]
fn queries_must_be_of_one_kind() {
    let mut random = Random::new(6);
    let tables = Tables::random(&mut random, 3, 64, true);
    let (four, two) = (tables.query(Bits::Four), tables.query(Bits::Two));
    maxsim_codes(Level::current(), &[four, two], &[], &mut []);
}

/// The largest sums there are: query ±127, levels ±21 (or codes 0 and 255), equal and opposite signs, up to the largest depth.
#[test]
fn nothing_overflows_at_the_extreme() {
    for (depth, sign) in
        [1024, 2048, 4096, crate::lanes::MAX_DEPTH].into_iter().flat_map(|depth| [(depth, 1.0), (depth, -1.0)])
    {
        let lanes = QueryLanes::quantize(&vec![sign; 32 * depth], depth);
        assert!(lanes.block(0)[..depth].iter().all(|q| q.unsigned_abs() == 127));
        for bits in ALL_BITS {
            let codes: Vec<u8> = [0x00, 0xFF].iter().flat_map(|&byte| vec![byte; bits.row_bytes(depth)]).collect();
            let mut levels = [0; 16];
            (levels[0], levels[(1 << (bits.get().min(4))) - 1]) = (-21, 21);
            let query = CodeQuery { lanes: &lanes, weights: &[1.0; 32], bits, levels: &levels, centroid_scores: &[] };
            let largest = if bits == Bits::Eight { if sign > 0.0 { 127 } else { 128 } } else { 21 };
            for level in Level::available() {
                let document = DocumentCodes { codes: &codes, gains: &[0x3f80, 0x3f80], centroids: &[] };
                let mut out = [0.0];
                maxsim_codes(level, &[query], &[document], &mut out);
                let expected = (depth as i32 * 127 * largest) as f32 * 32.0;
                assert_eq!(out[0].to_bits(), expected.to_bits(), "{level} {bits:?} {depth} {sign}");
            }
        }
    }
}

#[test]
fn a_query_without_tokens_scores_zero_and_an_empty_document_minus_infinity() {
    let lanes = QueryLanes::quantize(&[], 64);
    let query = CodeQuery { lanes: &lanes, weights: &[], bits: Bits::Four, levels: &[0; 16], centroid_scores: &[] };
    let codes = [0; 32];
    let full = DocumentCodes { codes: &codes, gains: &[0], centroids: &[] };
    let empty = DocumentCodes { codes: &[], gains: &[], centroids: &[] };
    for level in Level::available() {
        let mut out = [1.0; 2];
        maxsim_codes(level, &[query], &[full, empty], &mut out);
        assert_eq!(bits_of(&out), bits_of(&[0.0, f32::NEG_INFINITY]), "{level}");
    }
}

#[test]
fn weighted_sum_has_one_order() {
    let (maxima, weights) = ([1e8, 1.0, 1.0, 1.0, -1e8, 1.0, 1.0, 1.0, 3.0], [1.0; 9]);
    // Lane 0 holds 1e8 + 3 = 100000003 (rounded to 1e8) before the fold takes -1e8 off.
    assert_eq!(weighted_sum(&maxima, &weights).to_bits(), 6.0_f32.to_bits());
}

mod random_shapes {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_level_equals_the_truth(
            seed: u64,
            depth in 1_usize..=12,
            tokens in 1_usize..=70,
            bits in prop::sample::select(ALL_BITS.to_vec()),
            flat: bool,
            lengths in prop::collection::vec(0_usize..40, 1..12),
        ) {
            check(&mut Random::new(seed), depth * 32, tokens, bits, flat, &lengths);
        }
    }
}
