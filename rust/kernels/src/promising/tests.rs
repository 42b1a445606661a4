use super::*;
use crate::codes::Bits;
use crate::lanes::QueryLanes;
use crate::testing::{Guarded, Random};

const DEPTH: usize = 64;

/// Empty; one and two; whole eights and not; one token more and less than a run; several runs.
const LENGTHS: [usize; 9] = [0, 1, 2, 8, 61, 255, 256, 257, 700];

/// The place of the largest value, the first of equal ones.
fn best(values: &[u8]) -> usize {
    (0..values.len()).min_by_key(|&place| (u8::MAX - values[place], place)).unwrap_or(0)
}

#[test]
fn every_level_scores_by_the_tokens_that_are_promising() {
    let mut random = Random::new(31);
    for (tokens, rows) in [(1, 1), (7, 40), (32, 300), (33, 65), (80, 1000)] {
        let floats = random.floats(tokens * DEPTH);
        let lanes = QueryLanes::quantize(&floats, DEPTH);
        let scores = random.floats(lanes.blocks() * rows * LANES);
        let levels: [i8; 16] = std::array::from_fn(|code| code as i8 - 8);
        // A token without weight promises nothing.
        let weights: Vec<f32> = (0..tokens).map(|at| if at % 5 == 3 { 0.0 } else { random.float().abs() }).collect();
        let query =
            CodeQuery { lanes: &lanes, weights: &weights, bits: Bits::Four, levels: &levels, centroid_scores: &scores };
        let held: Vec<_> = LENGTHS
            .iter()
            .map(|&length| {
                let codes: Vec<u8> = (0..length * DEPTH / 2).map(|_| random.next() as u8).collect();
                // A centroid past the last row reads the last.
                let centroids: Vec<u16> = (0..length).map(|_| random.below(rows + 1) as u16).collect();
                let gains = vec![0x3C00_u16; length];
                (Guarded::new(&codes), Guarded::new(&gains), Guarded::new(&centroids))
            })
            .collect();
        let documents: Vec<DocumentCodes> =
            held.iter().map(|(codes, gains, centroids)| DocumentCodes { codes, gains, centroids }).collect();
        let table = RowTable::quantize(Level::current(), &scores, rows, tokens, &weights);
        let value = |document: &DocumentCodes, token: usize, lane: usize| {
            table.block(lane / LANES)[usize::from(document.centroids[token]).min(rows - 1)][lane % LANES]
        };
        let mut whole = vec![0.0; documents.len()];
        maxsim_codes(Level::current(), &[query], &documents, &mut whole);
        let expected: Vec<u32> = documents
            .iter()
            .map(|document| {
                let all: Vec<usize> = (0..document.gains.len()).collect();
                let mut chosen: Vec<usize> = all
                    .chunks(RUN)
                    .flat_map(|run| {
                        (0..tokens).filter(|&lane| weights[lane] > 0.0).map(move |lane| {
                            let values: Vec<u8> = run.iter().map(|&token| value(document, token, lane)).collect();
                            run[best(&values)]
                        })
                    })
                    .collect();
                chosen.sort_unstable();
                chosen.dedup();
                let codes: Vec<u8> = chosen
                    .iter()
                    .filter_map(|&token| document.codes.chunks(DEPTH / 2).nth(token))
                    .flatten()
                    .copied()
                    .collect();
                let gains: Vec<u16> = chosen.iter().map(|&token| document.gains[token]).collect();
                let centroids: Vec<u16> = chosen.iter().map(|&token| document.centroids[token]).collect();
                let part = DocumentCodes { codes: &codes, gains: &gains, centroids: &centroids };
                let mut out = [0.0];
                maxsim_codes(Level::current(), &[query], &[part], &mut out);
                out[0].to_bits()
            })
            .collect();
        for level in Level::available() {
            let mut out = vec![7.0; documents.len()];
            maxsim_promising(level, &query, &table, &documents, &mut out);
            assert!(out.iter().zip(&whole).all(|(part, whole)| part <= whole), "{level}: above the whole score");
            let bits: Vec<u32> = out.iter().map(|score| score.to_bits()).collect();
            assert_eq!(bits, expected, "{level}, {tokens} tokens, {rows} rows");
        }
    }
}

#[test]
#[should_panic(expected = "without centroids")]
fn a_codec_without_centroids_is_refused() {
    let lanes = QueryLanes::quantize(&[0.5; DEPTH], DEPTH);
    let query = CodeQuery { lanes: &lanes, weights: &[1.0], bits: Bits::Four, levels: &[0; 16], centroid_scores: &[] };
    let table = RowTable::quantize(Level::current(), &[], 0, 1, &[1.0]);
    maxsim_promising(Level::current(), &query, &table, &[], &mut []);
}
