//! Encodings against their definition, and against `MaxSim`.

use super::*;

const DIM: usize = 20;
const DEPTH: usize = 32;

/// Rotated vectors with a large common mean, padded.
fn vectors(random: &mut Random, tokens: usize) -> Vec<f32> {
    let component = |at: usize, value: f64| match at % DEPTH {
        3 => value + 6.0,
        at if at < DIM => value,
        _ => 0.0,
    };
    (0..tokens * DEPTH).map(|at| component(at, random.gaussian()) as f32).collect()
}

fn made(random: &mut Random, options: &FdeOptions) -> Fde {
    Fde::train(DIM, DEPTH, vectors(random, 300), options, 5, &Execution::undisturbed()).expect("trained")
}

fn options() -> Vec<FdeOptions> {
    let of = |(repetitions, planes, components)| {
        [true, false].map(|centred| FdeOptions { repetitions, planes, components, centred })
    };
    // Each component once, nearly so, only some of them, and all in each repetition.
    let all = [(5, 3, None), (3, 2, None), (2, 0, Some(5)), (4, 8, Some(7)), (3, 3, Some(DIM)), (2, 2, Some(99))];
    all.into_iter().flat_map(of).collect()
}

fn dot(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

#[test]
fn documents_are_encoded_by_the_definition() {
    let mut random = Random::new(3);
    for options in options() {
        let fde = made(&mut random, &options);
        let norm = dot(fde.mean(), fde.mean()).sqrt();
        for tokens in [0, 1, 2, 9, 40] {
            let mut rotated = vectors(&mut random, tokens);
            // The last is the first once more.
            let first: Vec<f32> = rotated.iter().take(DEPTH).copied().collect();
            let last = rotated.len() - first.len();
            rotated[last..].copy_from_slice(&first);
            let along = |token: &[f32]| dot(token, fde.mean()) / norm;
            let across = |token: &[f32]| -> Vec<f32> {
                let taken = if options.centred { along(token) / norm } else { 0.0 };
                token.iter().zip(fde.mean()).map(|(&x, &m)| (f64::from(x) - taken * f64::from(m)) as f32).collect()
            };
            let encoded = fde.document(&rotated);
            let mut encoded = encoded.iter();
            for repetition in 0..options.repetitions {
                let side = |token: &[f32], plane: usize| {
                    let column = repetition * options.planes + plane;
                    let count = options.repetitions * options.planes;
                    let normal: Vec<f32> = (0..DEPTH).map(|at| fde.hyperplanes()[at * count + column]).collect();
                    dot(token, &normal) > 0.0
                };
                let tokens: Vec<&[f32]> = rotated.chunks_exact(DEPTH).collect();
                for partition in 0..1 << options.planes {
                    let differing = |token: &[f32]| {
                        let across = across(token);
                        let wanted = |plane: &usize| partition >> (options.planes - 1 - plane) & 1 == 1;
                        (0..options.planes).filter(|plane| side(&across, *plane) != wanted(plane)).count()
                    };
                    let inside: Vec<&[f32]> = tokens.iter().copied().filter(|token| differing(token) == 0).collect();
                    let nearest = tokens.iter().copied().min_by_key(|token| differing(token));
                    let chosen = if inside.is_empty() { nearest.into_iter().collect() } else { inside };
                    let kept = options.components.unwrap_or(DIM.div_ceil(options.repetitions)).min(DIM);
                    let mean = |value: &dyn Fn(&[f32]) -> f64| {
                        let sum: f64 = chosen.iter().map(|token| value(token)).sum();
                        sum / chosen.len().max(1) as f64
                    };
                    for at in 0..kept {
                        let expected = mean(&|token| f64::from(across(token)[(repetition * kept + at) % DIM]));
                        let found = f64::from(*encoded.next().expect("a component"));
                        assert!((found - expected).abs() < 1e-4, "{options:?}: {found} instead of {expected}");
                    }
                    if options.centred {
                        let expected = mean(&|token| along(token) - norm);
                        let found = f64::from(*encoded.next().expect("a component"));
                        assert!((found - expected).abs() < 1e-4, "{options:?}: {found} instead of {expected}");
                    }
                }
            }
            assert!(encoded.next().is_none());
        }
    }
}

#[test]
fn no_product_exceeds_maxsim_and_that_with_one_token_is_maxsim() {
    let mut random = Random::new(4);
    let complete = |options: &FdeOptions| match options.components {
        None => DIM.is_multiple_of(options.repetitions),
        Some(kept) => kept >= DIM,
    };
    for options in options().iter().filter(|options| complete(options)) {
        let fde = made(&mut random, options);
        let times = (options.kept(DIM) * options.repetitions / DIM) as f64;
        for tokens in [1, 2, 30] {
            let (query, document) = (vectors(&mut random, 6), vectors(&mut random, tokens));
            let weights = [1.0, 0.0, 2.0, 0.5, 1.0, 1.0];
            let product = dot(&fde.query(&query, weights.into_iter()), &fde.document(&document)) / times;
            let best = |token: &[f32]| document.chunks_exact(DEPTH).map(|d| dot(token, d)).fold(f64::MIN, f64::max);
            // What encodings leave out because it is the same for every document.
            let left_out = |token: &[f32]| if options.centred { dot(token, fde.mean()) } else { 0.0 };
            let scored = query.chunks_exact(DEPTH).zip(weights);
            let maxsim: f64 = scored.map(|(q, weight)| f64::from(weight) * (best(q) - left_out(q))).sum();
            // With all components in each repetition, each of them holds for itself.
            if options.components.is_some() || tokens == 1 {
                assert!(product <= maxsim + 1e-2, "{options:?}, {tokens} tokens: {product}, and MaxSim is {maxsim}");
            }
            if tokens == 1 {
                assert!((product - maxsim).abs() < 1e-2, "{options:?}: {product} is not {maxsim}");
            }
        }
    }
}
