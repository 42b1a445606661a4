use super::*;
use crate::testing::{Guarded, Random};

/// γ(n) = n·u / (1 − n·u): the error of a sum of n products in order, relative to the sum of magnitudes.
fn gamma(n: usize) -> f64 {
    let nu = n as f64 * f64::from(f32::EPSILON) / 2.0;
    nu / (1.0 - nu)
}

#[test]
fn every_level_stays_within_the_bound() {
    let mut random = Random::new(31);
    // One dimension; odd ones; common ones. One lane, a block plus one, several blocks.
    for dim in [1, 7, 48, 100, 128, 320, 1024] {
        for tokens in [1, 8, 33, 128] {
            let values = Guarded::new(&random.floats(tokens * dim));
            let query = FloatLanes::pack(&values, dim);
            let stored: Vec<_> =
                [0, 1, 2, 3, 7, 8, 9, 31].map(|length| Guarded::new(&random.floats(length * dim))).into();
            let documents: Vec<_> = stored.iter().map(|document| FloatVectors::F32(document)).collect();
            for level in Level::available() {
                let mut out = vec![0.0; documents.len()];
                maxsim_float(level, &query, &documents, &mut out);
                assert_eq!(out[0].to_bits(), f32::NEG_INFINITY.to_bits());
                for (document, &got) in stored.iter().zip(&out).skip(1) {
                    let (exact, bound) = exact(&values, document, dim);
                    assert!(
                        (f64::from(got) - exact).abs() <= bound,
                        "{level}, dim {dim}: {got} is not {exact} ± {bound}"
                    );
                }
            }
        }
    }
}

/// The score in f64 and the bound of the module's documentation.
fn exact(query: &[f32], document: &[f32], dim: usize) -> (f64, f64) {
    let (mut score, mut bound, mut magnitude) = (0.0, 0.0, 0.0);
    for q in query.chunks_exact(dim) {
        let (mut best, mut widest) = (f64::NEG_INFINITY, 0.0_f64);
        for d in document.chunks_exact(dim) {
            let products = || q.iter().zip(d).map(|(q, d)| f64::from(*q) * f64::from(*d));
            best = best.max(products().sum());
            widest = widest.max(products().map(f64::abs).sum());
        }
        score += best;
        bound += gamma(dim) * widest;
        magnitude += best.abs();
    }
    (score, bound + gamma(query.len() / dim / 8 + 4) * (magnitude + bound))
}
