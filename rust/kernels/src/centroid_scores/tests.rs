use super::*;
use crate::testing::{Guarded, Random};

/// The smallest; one tile; a tile and a half (96, padded); whole tiles; an odd number of half tiles; more than a chunk holds.
const DEPTHS: [usize; 8] = [32, 64, 96, 128, 320, 1024, 2048, 4096];

/// One row; one less and one more than the tiles of 2, 3, 8 and 32 rows; more than one chunk at depth 128 and up.
const ROWS: [usize; 9] = [1, 2, 3, 7, 9, 31, 33, 64, 133];

fn centroids(random: &mut Random, rows: usize, depth: usize) -> Guarded<i8> {
    let values: Vec<i8> = (0..rows * depth).map(|_| random.below(43) as i8 - 21).collect();
    Guarded::new(&values)
}

fn dot(lanes: &QueryLanes, token: usize, row: &[i8]) -> i32 {
    row.iter().enumerate().map(|(d, &c)| i32::from(c) * i32::from(lanes.get(token, d))).sum()
}

fn naive_nearest(lanes: &QueryLanes, centroids: &[i8], bias: &[i32]) -> Vec<u32> {
    let rows = centroids.chunks_exact(lanes.depth());
    let nearest = |token| {
        let mut best = (0, i32::MIN);
        for (k, row) in rows.clone().enumerate() {
            let dot = dot(lanes, token, row) - bias.get(k).copied().unwrap_or(0);
            if dot > best.1 {
                best = (k as u32, dot);
            }
        }
        best.0
    };
    (0..lanes.tokens()).map(nearest).collect()
}

fn check(random: &mut Random, depth: usize, rows: usize, tokens: usize) {
    let lanes = QueryLanes::quantize(&random.floats(tokens * depth), depth);
    let centroids = centroids(random, rows, depth);
    let mut expected = vec![0.0_f32; lanes.blocks() * rows * LANES];
    for token in 0..tokens {
        for (k, row) in centroids.chunks_exact(depth).enumerate() {
            expected[(token / LANES * rows + k) * LANES + token % LANES] = dot(&lanes, token, row) as f32 * 0.003;
        }
    }
    let bias: Vec<i32> = (0..rows).map(|_| random.below(20_000) as i32 - 10_000).collect();
    let nearest = [naive_nearest(&lanes, &centroids, &[]), naive_nearest(&lanes, &centroids, &bias)];
    for level in Level::available() {
        let mut out = vec![1.0; expected.len()];
        centroid_scores(level, &lanes, &centroids, 0.003, &mut out);
        let same = out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "scores at {level}, depth {depth}, {rows} rows, {tokens} tokens");
        let mut out = vec![1.0; expected.len()];
        let wanted: Vec<u16> = (0..rows as u16).filter(|row| row % 3 != 1).collect();
        centroid_scores_of(level, &lanes, &centroids, &wanted, 0.003, &mut out);
        for (at, (scores, expected)) in out.as_chunks::<LANES>().0.iter().zip(expected.as_chunks().0).enumerate() {
            let expected = if at % rows % 3 == 1 { &[1.0; LANES] } else { expected };
            let same = scores.map(f32::to_bits) == expected.map(f32::to_bits);
            assert!(same, "row {at} of some at {level}, depth {depth}, {rows} rows, {tokens} tokens");
        }
        for (bias, nearest) in [&[][..], &bias].iter().zip(&nearest) {
            let mut out = vec![u32::MAX; tokens];
            nearest_centroids(level, &lanes, &centroids, bias, &mut out);
            assert_eq!(&out, nearest, "{level}, depth {depth}, {rows} rows, {tokens} tokens");
        }
    }
}

#[test]
fn every_level_equals_the_truth_at_every_depth_and_row_count() {
    let mut random = Random::new(11);
    for depth in DEPTHS {
        for rows in ROWS {
            check(&mut random, depth, rows, 33);
        }
    }
}

#[test]
fn every_level_equals_the_truth_at_every_number_of_tokens() {
    let mut random = Random::new(12);
    // One lane; a block less and plus one; more than the 64 blocks that are converted at a time.
    for tokens in [0, 1, 8, 31, 32, 48, 65, 2080] {
        check(&mut random, 64, 40, tokens);
    }
}

#[test]
fn among_equals_the_lowest_row_wins() {
    let mut random = Random::new(13);
    let row = centroids(&mut random, 1, 64);
    let lanes = QueryLanes::quantize(&random.floats(5 * 64), 64);
    let same: Vec<i8> = row.repeat(70);
    for level in Level::available() {
        let mut out = [9; 5];
        nearest_centroids(level, &lanes, &same, &[], &mut out);
        assert_eq!(out, [0; 5], "{level}");
    }
}

#[test]
fn nothing_overflows_at_the_extreme() {
    for (depth, value) in
        [1024, 2048, 4096, crate::lanes::MAX_DEPTH].into_iter().flat_map(|depth| [(depth, -21_i8), (depth, 21)])
    {
        let lanes = QueryLanes::quantize(&[vec![1.0; depth], vec![-1.0; depth]].concat(), depth);
        let centroids = vec![value; depth];
        let product = depth as i32 * 127 * i32::from(value);
        for level in Level::available() {
            let mut out = [0.0; LANES];
            centroid_scores(level, &lanes, &centroids, 1.0, &mut out);
            assert_eq!(
                [out[0], out[1]].map(f32::to_bits),
                [product as f32, -product as f32].map(f32::to_bits),
                "{level}"
            );
        }
    }
}

#[test]
fn no_centroids_give_no_scores() {
    let lanes = QueryLanes::quantize(&[1.0; 32], 32);
    for level in Level::available() {
        centroid_scores(level, &lanes, &[], 1.0, &mut []);
    }
}
