use super::*;
use crate::testing::Random;

/// Around the rows of 4 and 8 and the panels of 32; a text of common length.
const TOKENS: [usize; 10] = [0, 1, 3, 7, 8, 9, 31, 32, 33, 150];

/// The lanes of a level.
struct Lanes;

impl Wide for Lanes {
    type Output = bool;

    fn run<const LANES: usize>(self) -> bool {
        fuses::<LANES>()
    }
}

/// The plain loop.
fn product(one: &[f32], other: &[f32], fused: bool) -> f32 {
    let pairs = one.iter().zip(other);
    pairs.fold(0.0, |sum, (&a, &b)| if fused { a.mul_add(b, sum) } else { sum + a * b })
}

fn assert_products(similarities: &mut Similarities, level: Level, vectors: &[f32], dim: usize, fused: bool) {
    let tokens = vectors.len() / dim;
    similarities.vectors(tokens, dim).copy_from_slice(vectors);
    similarities.multiply(level);
    assert_eq!(similarities.tokens(), tokens);
    for (token, vector) in vectors.chunks_exact(dim).enumerate() {
        let expected = vectors.chunks_exact(dim).map(|other| product(vector, other, fused).to_bits());
        let row = similarities.row(token).iter().map(|value| value.to_bits());
        assert!(row.eq(expected), "{level}, token {token} of {tokens}, {dim} dimensions");
    }
}

#[test]
fn every_level_gives_the_bits_of_the_plain_loop() {
    let mut random = Random::new(61);
    for level in Level::available() {
        // One after the other in the same memory, longer and shorter ones.
        let mut similarities = Similarities::default();
        for dim in [1, 48, 128, 1000, 4096] {
            for tokens in TOKENS {
                if tokens * tokens * dim <= 1 << 24 {
                    let vectors = random.floats(tokens * dim);
                    assert_products(&mut similarities, level, &vectors, dim, widely(level, Lanes));
                }
            }
        }
    }
}

#[test]
fn integers_are_exact_at_every_level() {
    let mut random = Random::new(62);
    // Norms of 4,096 at most, whose squares are 2^24.
    let (dim, tokens) = (64, 40);
    let vectors: Vec<f32> = (0..tokens * dim).map(|_| random.below(1025) as f32 - 512.0).collect();
    for level in Level::available() {
        assert_products(&mut Similarities::default(), level, &vectors, dim, false);
        assert_products(&mut Similarities::default(), level, &vectors, dim, true);
    }
}
