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
    Bits, CodeQuery, DocumentCodes, FloatLanes, FloatVectors, Level, Precision, QueryLanes, RowTable, Span,
    centroid_scores, flood, maxsim_codes, maxsim_float, nearest_centroids, rotate,
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

fn check(queries: &[CodeQuery], documents: &[DocumentCodes]) {
    let scores = |level| {
        let mut out = vec![0.0; documents.len() * queries.len()];
        maxsim_codes(level, queries, documents, &mut out);
        out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let mut levels = Level::available();
    let truth = levels.next().map(scores);
    assert!(levels.all(|level| Some(scores(level)) == truth), "levels disagree");
}

fn time_documents(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    queries: &[CodeQuery],
    documents: &[DocumentCodes],
    at_once: usize,
) {
    check(queries, &documents[..at_once.min(8)]);
    let tokens: usize = documents.iter().map(|document| document.gains.len()).sum();
    // Of ragged documents some slices hold more than others.
    let mean = (tokens * at_once / documents.len()) as u64;
    group.throughput(Throughput::Elements(mean * queries.len() as u64));
    let mut out = vec![0.0; at_once * queries.len()];
    for level in Level::available() {
        let mut slices = documents.chunks_exact(at_once).cycle();
        group.bench_function(BenchmarkId::new(name, level), |bencher| {
            bencher.iter(|| maxsim_codes(level, queries, slices.next().unwrap_or(documents), black_box(&mut out)));
        });
    }
}

fn codes(criterion: &mut Criterion) {
    println!("{}; levels: {}", machine(), Level::available().map(Level::name).collect::<Vec<_>>().join(", "));
    let mut group = criterion.benchmark_group("codes");
    let mut random = Random::new(1);
    let mut time = |case: &Case| {
        let &Case { bits, depth, queries, tokens, length, residual, pool } = case;
        let lengths = lengths(&mut random, pool / bits.row_bytes(depth), length);
        let tables: Vec<Tables> =
            (0..queries).map(|_| Tables::new(&mut random, tokens, depth, bits, residual)).collect();
        let corpus = Corpus::new(&mut random, &lengths, depth, bits, CENTROIDS);
        let shuffled = corpus.shuffled(&mut random);
        let queries: Vec<CodeQuery> = tables.iter().map(|tables| tables.query(bits)).collect();
        let at_once = (100 * lengths.len() / lengths.iter().sum::<usize>().div_ceil(130)).clamp(1, lengths.len());
        time_documents(&mut group, &case.name(), &queries, &shuffled, at_once);
    };
    for residual in [false, true] {
        for bits in [Bits::Four, Bits::Two, Bits::One, Bits::Eight] {
            time(&Case { bits, residual, ..CASE });
        }
        time(&Case { residual, pool: IN_MEMORY, ..CASE });
        time(&Case { residual, queries: 8, ..CASE });
    }
    time(&Case { queries: 8, pool: IN_MEMORY, ..CASE });
    for length in [Length::Of(16), Length::Of(300), Length::Ragged] {
        time(&Case { length, ..CASE });
        time(&Case { length, pool: IN_MEMORY, ..CASE });
    }
    // 48 dimensions are stored as 64.
    for depth in [64, 96, 320] {
        time(&Case { depth, ..CASE });
    }
    for tokens in [8, 48, 128] {
        time(&Case { tokens, ..CASE });
    }
}

/// Tokens of each document.
#[derive(Clone, Copy)]
enum Length {
    Of(usize),
    /// 1 to 300, short ones more often.
    Ragged,
}

/// Lengths of documents with about so many tokens together.
fn lengths(random: &mut Random, tokens: usize, length: Length) -> Vec<usize> {
    match length {
        Length::Of(length) => vec![length; (tokens / length).max(1)],
        Length::Ragged => {
            let mut left = tokens;
            std::iter::from_fn(|| {
                let length = 1 + random.below(300) * random.below(300) / 300;
                left = left.checked_sub(length)?;
                Some(length)
            })
            .collect()
        }
    }
}

/// What is varied one at a time.
#[derive(Clone, Copy)]
struct Case {
    bits: Bits,
    depth: usize,
    /// Queries scored together, and tokens of each.
    queries: usize,
    tokens: usize,
    length: Length,
    residual: bool,
    /// Bytes of codes to draw documents from.
    pool: usize,
}

const IN_L2: usize = 600_000;
const IN_MEMORY: usize = 192_000_000;

const CASE: Case = Case {
    bits: Bits::Four,
    depth: DEPTH,
    queries: 1,
    tokens: QUERY,
    length: Length::Of(130),
    residual: false,
    pool: IN_L2,
};

impl Case {
    fn name(&self) -> String {
        let Self { bits, depth, queries, tokens, length, residual, pool } = *self;
        let codec = if residual { "residual" } else { "flat" };
        let length = match length {
            Length::Of(length) => format!("len{length}"),
            Length::Ragged => "ragged".to_owned(),
        };
        let place = if pool == IN_L2 { "l2" } else { "dram" };
        format!("{}bit/{codec}/{queries}q{tokens}x{depth}/{length}/{place}", bits.get())
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
    // As many cells as real documents have, each another number: no processor foresees where one ends.
    let lengths: Vec<usize> = (0..7_692).map(|_| 40 + random.below(100)).collect();
    let corpus = Corpus::new(&mut random, &lengths, DEPTH, Bits::One, CENTROIDS);
    let scores: Vec<f32> = (0..CENTROIDS * 32).map(|_| random.normal()).collect();
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as u32;
        Some((*end, length as u32))
    });
    let spans: Vec<Span> = ends.map(|(end, length)| Span { start: end - length, end }).collect();
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
    let query = random.unit_vectors(QUERY, DEPTH);
    let [exact, rounded] =
        [Precision::Float32, Precision::Bfloat16].map(|precision| FloatLanes::pack(&query, DEPTH, precision));
    let halves: Vec<f16> = vectors.iter().map(|&x| f16::from_f32(x)).collect();
    let singles: Vec<_> = vectors.chunks_exact(130 * DEPTH).map(FloatVectors::F32).collect();
    let halves: Vec<_> = halves.chunks_exact(130 * DEPTH).map(FloatVectors::F16).collect();
    let mut scores = vec![0.0; singles.len()];
    let matrix = random.unit_vectors(DEPTH, DEPTH);
    let mut rotated = vec![0.0; vectors.len()];

    let mut group = criterion.benchmark_group("float");
    group.throughput(Throughput::Elements(1300));
    for level in Level::available() {
        for (name, query, documents) in [
            ("maxsim f32", &exact, &singles),
            ("maxsim f16", &exact, &halves),
            ("maxsim f32 in bfloat16", &rounded, &singles),
            ("maxsim f16 in bfloat16", &rounded, &halves),
        ] {
            group.bench_function(BenchmarkId::new(name, level), |bencher| {
                bencher.iter(|| maxsim_float(level, query, documents, black_box(&mut scores)));
            });
        }
        group.bench_function(BenchmarkId::new("rotate", level), |bencher| {
            bencher.iter(|| rotate(level, &matrix, DEPTH, DEPTH, &vectors, black_box(&mut rotated)));
        });
    }
}

criterion_group!(benches, codes, centroids, floods, floats);
criterion_main!(benches);
