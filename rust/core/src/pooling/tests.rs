use super::{Budget, Method, Pooled, Pooling, floor_division};
use crate::error::Error;
use crate::parallel::Execution;
use crate::tokens::TokenMatrix;

fn pool(pooling: &Pooling, values: &[f32], offsets: &[i64], dim: usize, threads: usize) -> Pooled {
    let tokens = TokenMatrix::new(values, offsets, dim, |item| format!("item {item}")).expect("good tokens");
    pooling.run(&tokens, &Execution::new(Some(threads)).expect("a pool")).expect("pooled")
}

/// Unit vectors of a fixed pattern, around a few directions.
fn vectors(count: usize, dim: usize) -> Vec<f32> {
    let mut state = 7_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24) - 0.5
    };
    let mut values = Vec::with_capacity(count * dim);
    for token in 0..count {
        let vector: Vec<f64> =
            (0..dim).map(|at| ((token * token % 7 * dim + at) as f64 * 1.7).sin() + 0.8 * noise()).collect();
        let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        values.extend(vector.iter().map(|value| (value / norm) as f32));
    }
    values
}

const METHODS: [Method; 2] = [Method::KMeans, Method::Ward];

#[test]
fn separate_groups_become_their_means() {
    // Tokens of two directions in turn; the second group is twice as large.
    let values = [1.0, 0.0, 0.0, 1.0, 0.1, 1.0, 1.0, 0.1, 0.0, 2.0, 0.1, 2.0_f32];
    for method in METHODS {
        let pooling = Pooling::new(method, Budget::Count(2), 0, false).expect("a pooling");
        let mut pooled = pool(&pooling, &values, &[0, 6], 2, 1).values;
        if pooled[0] < pooled[1] {
            pooled.rotate_left(2);
        }
        let expected = [1.0, 0.05, 0.05, 1.5];
        let near = pooled.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6);
        assert!(near, "{method:?}: {pooled:?}");
    }
}

#[test]
fn threads_and_neighbours_do_not_matter() {
    let dim = 48;
    let counts = [40, 1, 0, 130, 33, 7];
    let values = vectors(counts.iter().sum(), dim);
    let mut offsets = vec![0];
    for count in counts {
        offsets.push(offsets[offsets.len() - 1] + count as i64);
    }
    for method in METHODS {
        let pooling = Pooling::new(method, Budget::Fraction(0.25), 1, true).expect("a pooling");
        let all = pool(&pooling, &values, &offsets, dim, 1);
        assert_eq!(all, pool(&pooling, &values, &offsets, dim, 3));
        for (item, &count) in counts.iter().enumerate() {
            let own = &values[offsets[item] as usize * dim..][..count * dim];
            let alone = pool(&pooling, own, &[0, count as i64], dim, 1);
            let among = &all.values[all.offsets[item] as usize * dim..all.offsets[item + 1] as usize * dim];
            assert_eq!(alone.values, among, "{method:?}, item {item}");
        }
    }
}

#[test]
fn equal_and_zero_vectors_are_no_trouble() {
    for values in [[1.0_f32, 0.0].repeat(9), [0.0_f32, 0.0].repeat(9), [-3e38_f32, 3e38].repeat(9)] {
        for clusters in 1..9 {
            let pooling = Pooling::new(Method::KMeans, Budget::Count(clusters), 0, true).expect("a pooling");
            assert_eq!(pool(&pooling, &values, &[0, 9], 2, 1).offsets, [0, clusters as i64]);
            let pooling = Pooling::new(Method::Ward, Budget::Count(clusters), 0, true).expect("a pooling");
            let pooled = pool(&pooling, &values, &[0, 9], 2, 1);
            assert!((1..=clusters as i64).contains(&pooled.offsets[1]));
            assert!(pooled.values.iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn short_texts_and_protected_tokens_are_kept() {
    let dim = 32;
    let values = vectors(20, dim);
    for method in METHODS {
        let pooling = Pooling::new(method, Budget::Count(20), 0, false).expect("a pooling");
        assert_eq!(pool(&pooling, &values, &[0, 20], dim, 1).values, values);
        let pooling = Pooling::new(method, Budget::Count(5), 2, false).expect("a pooling");
        let pooled = pool(&pooling, &values, &[0, 20], dim, 1);
        assert_eq!(pooled.offsets, [0, 5]);
        assert_eq!(pooled.values[..2 * dim], values[..2 * dim]);
    }
}

#[test]
fn budgets_are_checked() {
    for budget in [
        Budget::Count(0),
        Budget::Fraction(0.0),
        Budget::Fraction(1.1),
        Budget::Fraction(f64::NAN),
        Budget::Factor(0.9),
        Budget::Factor(f64::INFINITY),
    ] {
        assert!(matches!(Pooling::new(Method::Ward, budget, 0, true), Err(Error::Invalid(_))), "{budget:?}");
    }
}

#[test]
fn division_rounds_as_in_python() {
    for (a, b, expected) in [(7.0, 2.0, 3.0), (8.0, 2.0, 4.0), (3.3, 1.1, 2.0), (299.0, 1.3, 229.0), (1.0, 2.0, 0.0)] {
        assert_eq!(floor_division(a, b).to_bits(), f64::to_bits(expected), "{a} // {b}");
    }
}
