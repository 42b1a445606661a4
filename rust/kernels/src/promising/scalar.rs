//! The portable kernel.

use crate::lanes::LANES;

/// For each lane the place of the largest of the centroids' rows, the first of equal ones.
pub(super) fn best(rows: &[[u8; LANES]], centroids: &[u16]) -> [u8; LANES] {
    let last = rows.len() - 1;
    let mut values = [0; LANES];
    let mut places = [0; LANES];
    for (place, &centroid) in (0..=u8::MAX).zip(centroids) {
        let row = &rows[usize::from(centroid).min(last)];
        for lane in 0..LANES {
            if row[lane] > values[lane] {
                (values[lane], places[lane]) = (row[lane], place);
            }
        }
    }
    places
}
