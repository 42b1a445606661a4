//! Each kernel at each level: `cargo bench -p latewood-benches --bench kernels`.
//!
//! Corpus: seeded, normal residuals (see `lib.rs`); 32 query tokens × 128 dimensions unless the name says otherwise. Pool
//! `l2` is about 0.6 MB and stays in L2; pool `dram` is 192 MB of documents in random order, a slice of it per iteration.
//! Throughput is in elements: document tokens, cells, rows or vectors. Every level's answer is compared with scalar's
//! before it is timed.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use latewood_benches::{Corpus, Random, machine, normal_levels};
use latewood_kernels::{
    Bits, CodeQuery, DocumentCodes, FloatLanes, FloatVectors, Level, QueryLanes, RowTable, Span, centroid_scores,
    flood, maxsim_codes, maxsim_float, nearest_centroids, rotate,
};

const DEPTH: usize = 128;
const QUERY: usize = 32;
const CENTROIDS: usize = 4096;

/// Query tables that outlive the queries that borrow them.
struct Tables {
    lanes: QueryLanes,
    levels: [i8; 16],
    scores: Vec<f32>,
}

impl Tables {
    fn new(random: &mut Random, tokens: usize, depth: usize, bits: Bits, residual: bool) -> Self {
        let lanes = QueryLanes::quantize(&random.unit_vectors(tokens, depth), depth);
        let rows = if residual { CENTROIDS } else { 0 };
        let scores = (0..lanes.blocks() * rows * 32).map(|_| random.normal() * 1000.0).collect();
        Self { lanes, levels: normal_levels(bits).0, scores }
    }

    fn query(&self, bits: Bits) -> CodeQuery<'_> {
        CodeQuery {
            lanes: &self.lanes,
            weights: self.lanes.scales(),
            bits,
            levels: &self.levels,
            centroid_scores: &self.scores,
        }
    }
}

fn check(query: &CodeQuery, documents: &[DocumentCodes]) {
    let scores = |level| {
        let mut out = vec![0.0; documents.len()];
        maxsim_codes(level, query, documents, &mut out);
        out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let mut levels = Level::available();
    let truth = levels.next().map(scores);
    assert!(levels.all(|level| Some(scores(level)) == truth), "levels disagree");
}

fn time_documents(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    query: &CodeQuery,
    documents: &[DocumentCodes],
    at_once: usize,
) {
    check(query, &documents[..at_once.min(8)]);
    let tokens: usize = documents[..at_once].iter().map(|document| document.gains.len()).sum();
    group.throughput(Throughput::Elements(tokens as u64));
    let mut out = vec![0.0; at_once];
    for level in Level::available() {
        let mut slices = documents.chunks_exact(at_once).cycle();
        group.bench_function(BenchmarkId::new(name, level), |bencher| {
            bencher.iter(|| maxsim_codes(level, query, slices.next().unwrap_or(documents), black_box(&mut out)));
        });
    }
}

fn codes(criterion: &mut Criterion) {
    println!("{}; levels: {}", machine(), Level::available().map(Level::name).collect::<Vec<_>>().join(", "));
    let mut group = criterion.benchmark_group("codes");
    let mut random = Random::new(1);
    let mut case = |bits: Bits, depth: usize, tokens: usize, length: usize, residual: bool, pool: usize| {
        let documents = (pool / (bits.row_bytes(depth) * length)).max(1);
        let tables = Tables::new(&mut random, tokens, depth, bits, residual);
        let corpus = Corpus::new(&mut random, documents, length, depth, bits, CENTROIDS);
        let shuffled = corpus.shuffled(&mut random);
        let place = if pool > 1 << 24 { "dram" } else { "l2" };
        let codec = if residual { "residual" } else { "flat" };
        let name = format!("{}bit/{codec}/q{tokens}x{depth}/len{length}/{place}", bits.get());
        time_documents(&mut group, &name, &tables.query(bits), &shuffled, (13_000 / length).clamp(1, documents));
    };
    let (cached, memory) = (600_000, 192_000_000);
    for residual in [false, true] {
        for bits in [Bits::Four, Bits::Two, Bits::One, Bits::Eight] {
            case(bits, DEPTH, QUERY, 130, residual, cached);
        }
        case(Bits::Four, DEPTH, QUERY, 130, residual, memory);
    }
    for length in [16, 300] {
        case(Bits::Four, DEPTH, QUERY, length, false, cached);
        case(Bits::Four, DEPTH, QUERY, length, false, memory);
    }
    for depth in [64, 96, 320] {
        case(Bits::Four, depth, QUERY, 130, false, cached);
    }
    for tokens in [8, 48, 128] {
        case(Bits::Four, DEPTH, tokens, 130, false, cached);
    }
}

fn centroids(criterion: &mut Criterion) {
    let mut random = Random::new(2);
    let rows: Vec<i8> = (0..CENTROIDS * DEPTH).map(|_| (random.normal() * 5.0).clamp(-21.0, 21.0) as i8).collect();
    let lanes = QueryLanes::quantize(&random.unit_vectors(QUERY, DEPTH), DEPTH);
    let many = QueryLanes::quantize(&random.unit_vectors(256, DEPTH), DEPTH);
    let mut scores = vec![0.0; CENTROIDS * 32];
    let mut nearest = vec![0; many.tokens()];

    let mut group = criterion.benchmark_group("centroids");
    group.throughput(Throughput::Elements(CENTROIDS as u64));
    for level in Level::available() {
        group.bench_function(BenchmarkId::new("scores", level), |bencher| {
            bencher.iter(|| centroid_scores(level, &lanes, &rows, 1e-4, black_box(&mut scores)));
        });
    }
    group.throughput(Throughput::Elements((CENTROIDS * many.blocks()) as u64));
    for level in Level::available() {
        group.bench_function(BenchmarkId::new("nearest", level), |bencher| {
            bencher.iter(|| nearest_centroids(level, &many, &rows, &[], black_box(&mut nearest)));
        });
    }
}

fn floods(criterion: &mut Criterion) {
    let mut random = Random::new(3);
    let corpus = Corpus::new(&mut random, 7_692, 130, DEPTH, Bits::One, CENTROIDS);
    let scores: Vec<f32> = (0..CENTROIDS * 32).map(|_| random.normal()).collect();
    let spans: Vec<Span> =
        (0..7_692).map(|document| Span { start: document * 130, end: document * 130 + 130 }).collect();
    let mut sums = vec![0; spans.len()];

    let mut group = criterion.benchmark_group("flood");
    for level in Level::available() {
        group.throughput(Throughput::Elements(corpus.centroids().len() as u64));
        let table = RowTable::quantize(level, &scores, CENTROIDS, QUERY, &[1.0; QUERY]);
        group.bench_function(BenchmarkId::new("cells", level), |bencher| {
            bencher.iter(|| flood(level, &table, corpus.centroids(), &spans, black_box(&mut sums)));
        });
        group.throughput(Throughput::Elements(CENTROIDS as u64));
        group.bench_function(BenchmarkId::new("table", level), |bencher| {
            bencher.iter(|| RowTable::quantize(level, black_box(&scores), CENTROIDS, QUERY, &[1.0; QUERY]));
        });
    }
}

fn floats(criterion: &mut Criterion) {
    let mut random = Random::new(4);
    let vectors = random.unit_vectors(1300, DEPTH);
    let query = FloatLanes::pack(&random.unit_vectors(QUERY, DEPTH), DEPTH);
    let halves: Vec<f16> = vectors.iter().map(|&x| f16::from_f32(x)).collect();
    let singles: Vec<_> = vectors.chunks_exact(130 * DEPTH).map(FloatVectors::F32).collect();
    let halves: Vec<_> = halves.chunks_exact(130 * DEPTH).map(FloatVectors::F16).collect();
    let mut scores = vec![0.0; singles.len()];
    let matrix = random.unit_vectors(DEPTH, DEPTH);
    let mut rotated = vec![0.0; vectors.len()];

    let mut group = criterion.benchmark_group("float");
    group.throughput(Throughput::Elements(1300));
    for level in Level::available() {
        for (name, documents) in [("maxsim f32", &singles), ("maxsim f16", &halves)] {
            group.bench_function(BenchmarkId::new(name, level), |bencher| {
                bencher.iter(|| maxsim_float(level, &query, documents, black_box(&mut scores)));
            });
        }
        group.bench_function(BenchmarkId::new("rotate", level), |bencher| {
            bencher.iter(|| rotate(level, &matrix, DEPTH, DEPTH, &vectors, black_box(&mut rotated)));
        });
    }
}

criterion_group!(benches, codes, centroids, floods, floats);
criterion_main!(benches);
