use super::*;
use crate::lanes::LANES;
use crate::testing::{Guarded, Random};

/// Empty; one cell; one less and more than the four maxima side by side; long.
const LENGTHS: [usize; 8] = [0, 1, 3, 4, 5, 17, 130, 301];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_level_builds_the_same_table_and_sums() {
    let mut random = Random::new(21);
    for (tokens, rows) in [(1, 1), (31, 7), (32, 64), (33, 65), (128, 1000)] {
        let scores = Guarded::new(&random.floats(tokens_to_len(tokens, rows)));
        let weights: Vec<f32> = (0..tokens).map(|_| random.float().abs()).collect();
        let cells: Vec<u16> = (0..LENGTHS.iter().sum()).map(|_| random.below(rows + 1) as u16).collect();
        let cells = Guarded::new(&cells);
        let mut end = 0;
        let spans = LENGTHS.map(|length| {
            let start = end;
            end += length as u32;
            Span { start, end }
        });
        let truth = RowTable::quantize(Level::available().next().expect("scalar"), &scores, rows, tokens, &weights);
        let expected: Vec<u32> = spans
            .iter()
            .map(|span| {
                let lane = |block: usize, lane: usize| {
                    let values = span.cells(&cells).iter();
                    values.map(|&cell| u32::from(truth.block(block)[usize::from(cell).min(rows - 1)][lane])).max()
                };
                let lanes = (0..truth.blocks()).flat_map(|block| (0..LANES).map(move |lane| (block, lane)));
                lanes.map(|(block, index)| lane(block, index).unwrap_or(0)).sum()
            })
            .collect();
        for level in Level::available() {
            let table = RowTable::quantize(level, &scores, rows, tokens, &weights);
            assert_eq!(bits(&[table.step(), table.offset()]), bits(&[truth.step(), truth.offset()]), "{level}");
            assert!((0..table.blocks()).all(|block| table.block(block) == truth.block(block)), "{level}");
            let mut out = vec![7; spans.len()];
            flood(level, &table, &cells, &spans, &mut out);
            assert_eq!(out, expected, "{level}, {tokens} tokens, {rows} rows");
        }
    }
}

/// Half a step goes to the even byte, and what is no number or below the range to 0.
#[test]
fn every_level_rounds_alike() {
    // Their mean is 0 and their largest 255, which makes a step 1 and the lowest score 0.
    let column = [255.0, -255.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 253.5, -253.5];
    let bytes = [255, 0, 0, 0, 2, 0, 2, 0, 254, 0];
    for level in Level::available() {
        for lane in [0, 7, 8, 31] {
            let mut scores = vec![0.0; tokens_to_len(LANES, column.len())];
            for (row, score) in scores.as_chunks_mut::<LANES>().0.iter_mut().zip(column) {
                row[lane] = score;
                row[LANES - 1 - lane] = f32::NAN;
            }
            let table = RowTable::quantize(level, &scores, column.len(), LANES, &[1.0; LANES]);
            assert_eq!(table.step().to_bits(), 1.0_f32.to_bits(), "{level}");
            assert!(table.block(0).iter().map(|row| row[lane]).eq(bytes), "{level}, lane {lane}");
            assert!(table.block(0).iter().all(|row| row[LANES - 1 - lane] == 0), "{level}, lane {lane}");
        }
    }
}

fn tokens_to_len(tokens: usize, rows: usize) -> usize {
    tokens.div_ceil(LANES) * rows * LANES
}

/// Where a document's maximum lies above the mean, its quantised score is off by at most half a step per lane.
#[test]
fn a_sum_maps_back_to_the_score() {
    let mut random = Random::new(22);
    let (tokens, rows) = (40, 512);
    let scores = random.floats(tokens_to_len(tokens, rows));
    let weights = vec![0.5; tokens];
    let table = RowTable::quantize(Level::current(), &scores, rows, tokens, &weights);
    let cells: Vec<u16> = (0..200).map(|_| random.below(rows) as u16).collect();
    let mut out = [0];
    flood(Level::current(), &table, &cells, &[Span { start: 0, end: 200 }], &mut out);
    let exact: f32 = (0..tokens)
        .map(|j| {
            let score = |&cell: &u16| scores[(j / LANES * rows + usize::from(cell)) * LANES + j % LANES] * 0.5;
            cells.iter().map(score).fold(f32::NEG_INFINITY, f32::max)
        })
        .sum();
    let approximate = table.offset() + table.step() * out[0] as f32;
    assert!((approximate - exact).abs() <= table.step() * 0.51 * tokens as f32, "{approximate} {exact}");
}

#[test]
fn an_empty_table_scores_empty_documents() {
    for level in Level::available() {
        let table = RowTable::quantize(level, &[], 0, 3, &[1.0; 3]);
        let mut out = [5];
        flood(level, &table, &[], &[Span::default()], &mut out);
        assert_eq!(out, [0]);
        assert_eq!(table.offset().to_bits(), 0);
    }
}

#[test]
#[should_panic(expected = "range")]
fn a_span_beyond_the_cells_is_refused() {
    let table = RowTable::quantize(Level::current(), &[0.0; 32], 1, 1, &[1.0]);
    flood(Level::current(), &table, &[0], &[Span { start: 0, end: 2 }], &mut [0]);
}
