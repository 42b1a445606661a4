use super::*;
use crate::testing::{Guarded, Random};

/// γ(n) = n·u / (1 − n·u): the error of a sum of n products in order, relative to the sum of magnitudes.
fn gamma(n: usize) -> f64 {
    let nu = n as f64 * f64::from(f32::EPSILON) / 2.0;
    nu / (1.0 - nu)
}

/// Scores at every level, held to the bound of the module's documentation for that level.
fn check(query: &[f32], documents: &[Vec<f32>], dim: usize) {
    check_in(Precision::Float32, query, documents, dim);
    check_in(Precision::Bfloat16, query, documents, dim);
}

fn check_in(precision: Precision, query: &[f32], documents: &[Vec<f32>], dim: usize) {
    let lanes = FloatLanes::pack(query, dim, precision);
    let singles: Vec<_> = documents.iter().map(|document| Guarded::new(document)).collect();
    let halves: Vec<_> = documents
        .iter()
        .map(|document| Guarded::new(&document.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>()))
        .collect();
    let singles: Vec<_> = singles.iter().map(|document| FloatVectors::F32(document)).collect();
    let halves: Vec<_> = halves.iter().map(|document| FloatVectors::F16(document)).collect();
    for documents in [singles, halves] {
        for level in Level::available() {
            let mut out = vec![0.0; documents.len()];
            maxsim_float(level, &lanes, &documents, &mut out);
            for (document, got) in documents.iter().zip(out) {
                let values: Vec<f32> = match document {
                    FloatVectors::F32(values) => values.to_vec(),
                    FloatVectors::F16(values) => values.iter().map(|x| x.to_f32()).collect(),
                };
                if values.is_empty() {
                    assert_eq!(got.to_bits(), f32::NEG_INFINITY.to_bits());
                } else if let Some((at, _)) = document.not_finite() {
                    assert!(got.is_nan(), "{level}, dim {dim}: {got} although component {at} is not finite");
                } else {
                    let (exact, bound) = exact(level, precision, query, &values, dim);
                    assert!(
                        (f64::from(got) - exact).abs() <= bound,
                        "{level}, dim {dim}: {got} is not {exact} ± {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn weights_scale_each_token_s_part() {
    let mut random = Random::new(11);
    let (query, document) = (random.floats(37 * 20), random.floats(9 * 20));
    let weights: Vec<f32> = (0..37).map(|token| token as f32 / 4.0).collect();
    let parts = query.chunks(20).zip(&weights);
    for level in Level::available() {
        let score = |lanes: &FloatLanes| {
            let mut out = [0.0];
            maxsim_float(level, lanes, &[FloatVectors::F32(&document)], &mut out);
            out[0]
        };
        let pack = |query: &[f32]| FloatLanes::pack(query, 20, Precision::Float32);
        let ones = pack(&query).weighted(&[1.0; 37]);
        assert_eq!(score(&ones).to_bits(), score(&pack(&query)).to_bits());
        let whole: f64 = parts.clone().map(|(token, &weight)| f64::from(weight) * f64::from(score(&pack(token)))).sum();
        let got = score(&pack(&query).weighted(&weights));
        assert!((f64::from(got) - whole).abs() <= 1e-5 * whole.abs(), "{level}: {got} is not {whole}");
    }
}

/// The score in f64 and its bound.
fn exact(level: Level, precision: Precision, query: &[f32], document: &[f32], dim: usize) -> (f64, f64) {
    let underflow = f64::from(f32::MIN_POSITIVE);
    let (factor, lost) = match (level.name(), precision) {
        ("amx", Precision::Float32) => (gamma(17 + 6 * dim.div_ceil(32)) + 2.0_f64.powi(-21), underflow),
        ("amx", Precision::Bfloat16) => {
            let rounding = 2.0_f64.powi(-7) + 2.0_f64.powi(-15);
            (rounding + gamma(17 + dim.div_ceil(32)) * (1.0 + rounding), underflow)
        }
        _ => (gamma(dim), 0.0),
    };
    let (mut score, mut bound, mut magnitude) = (0.0, 0.0, 0.0);
    for q in query.chunks_exact(dim) {
        let (mut best, mut widest) = (f64::NEG_INFINITY, 0.0_f64);
        for d in document.chunks_exact(dim) {
            let pairs = || q.iter().zip(d).map(|(&q, &d)| (f64::from(q), f64::from(d)));
            best = best.max(pairs().map(|(q, d)| q * d).sum());
            let products: f64 = pairs().map(|(q, d)| (q * d).abs()).sum();
            let magnitudes: f64 = pairs().map(|(q, d)| q.abs() + d.abs() + 8.0).sum();
            // Products below the smallest normal f32 lose a few of the smallest subnormal ones at any level.
            widest = widest.max(factor * products + lost * magnitudes + dim as f64 * 2.0_f64.powi(-149));
        }
        score += best;
        bound += widest;
        magnitude += best.abs();
    }
    (score, bound + gamma(query.len() / dim / 8 + 4) * (magnitude + bound) + 2.0_f64.powi(-149))
}

#[test]
fn every_level_stays_within_the_bound() {
    let mut random = Random::new(31);
    // One dimension; odd ones; common ones. One lane, a block plus one, several blocks. Runs that are half full, full, and
    // one more.
    for dim in [1, 7, 31, 33, 48, 100, 128, 320, 1024, 2048, 4096] {
        // What many tokens of the largest dimensions would add takes seconds.
        for tokens in [1, 8, 33, 128].into_iter().filter(|tokens| tokens * dim <= 1 << 17) {
            let query = random.floats(tokens * dim);
            let documents: Vec<_> =
                [0, 1, 2, 3, 7, 0, 8, 9, 16, 17, 31, 32, 33, 70].map(|length| random.floats(length * dim)).into();
            check(&query, &documents, dim);
        }
    }
}

#[test]
fn magnitudes_at_both_ends_stay_within_the_bound() {
    let mut random = Random::new(32);
    let dim = 100;
    // Powers of two of the query and of the documents: numbers and products that are subnormal or nearly overflow, and
    // rounding to bfloat16 of what is near the largest f32 would.
    for (q, d) in
        [(0, -120), (0, -130), (-60, -66), (-126, 0), (-140, 20), (100, -126), (100, 20), (-20, 127), (0, -16)]
    {
        let query: Vec<f32> = random.floats(33 * dim).iter().map(|x| scaled(*x, q)).collect();
        let documents: Vec<Vec<f32>> =
            [1, 20, 40].map(|length| random.floats(length * dim).iter().map(|x| scaled(*x, d)).collect()).into();
        check(&query, &documents, dim);
    }
    let largest = vec![f32::MAX, f32::MIN, 1.0];
    // Rounded to bfloat16 they would be infinite.
    check_in(Precision::Float32, &[1.0, 0.5, -1.0], std::slice::from_ref(&largest), 3);
    check_in(Precision::Float32, &largest, &[vec![0.5, 0.25, 1.0]], 3);
}

fn scaled(x: f32, exponent: i32) -> f32 {
    (f64::from(x) * 2.0_f64.powi(exponent)) as f32
}

#[test]
fn all_bits_of_a_number_count() {
    // Every part of every product: 1 + 2^-8 + 2^-16 + 2^-23 squared, and signs that leave the lowest bits alone.
    let x = 1.0 + 2.0_f32.powi(-8) + 2.0_f32.powi(-16) + f32::EPSILON;
    for dim in [2, 32, 64] {
        let query: Vec<f32> = (0..dim).map(|d| if d % 2 == 0 { x } else { -x }).collect();
        let documents = [vec![x; dim], query.clone(), (0..dim).map(|d| if d == 1 { 1.0 } else { x }).collect()];
        check(&query, &documents, dim);
    }
}

#[test]
fn a_document_that_is_not_finite_scores_nan_alone() {
    let mut random = Random::new(33);
    let dim = 40;
    for tokens in [0, 1, 40] {
        let query = random.floats(tokens * dim);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7F80_0001)] {
            for (token, component) in [(0, 0), (20, 39), (33, 32)] {
                let mut documents: Vec<Vec<f32>> = (0..3).map(|_| random.floats(34 * dim)).collect();
                documents[1][token * dim + component] = bad;
                check(&query, &documents, dim);
            }
        }
    }
    // Zeros do not hide it.
    check(&vec![0.0; dim], &[vec![f32::INFINITY; dim], vec![0.0; dim]], dim);
}

#[test]
fn overflow_is_not_taken_for_a_fault() {
    let query = FloatLanes::pack(&[f32::MAX, f32::MAX], 2, Precision::Float32);
    for level in Level::available() {
        let mut out = [0.0; 2];
        let documents = [&[f32::MAX, f32::MIN, 0.0, 0.5][..], &[f32::MAX, 0.0]].map(FloatVectors::F32);
        maxsim_float(level, &query, &documents, &mut out);
        assert!(out.iter().all(|score| *score >= f32::MAX / 2.0), "{level}: {out:?}");
    }
}

#[test]
fn every_f16_becomes_its_f32() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| x.is_finite()).collect();
    for level in Level::available() {
        let mut out = vec![0.0; halves.len()];
        let documents: Vec<_> = halves.chunks_exact(1).map(FloatVectors::F16).collect();
        maxsim_float(level, &FloatLanes::pack(&[1.0], 1, Precision::Float32), &documents, &mut out);
        assert!(out.iter().zip(&halves).all(|(out, half)| (*out - half.to_f32()).abs() < f32::MIN_POSITIVE), "{level}");
    }
}
