//! Codes of a token packed into bytes. With `planes = 8 / bits` and rows of `row_bytes`, plane `p` of byte `i` is
//! dimension `i + p · row_bytes`: one rule for every number of bits, and each plane unpacks to consecutive dimensions.

use latewood_kernels::Bits;

/// Packs `codes`, one byte a dimension, into `row`.
pub(super) fn pack(codes: &[u8], bits: Bits, row: &mut [u8]) {
    row.fill(0);
    for (plane, codes) in codes.chunks_exact(row.len()).enumerate() {
        let shift = plane as u32 * u32::from(bits.get());
        row.iter_mut().zip(codes).for_each(|(byte, code)| *byte |= code << shift);
    }
}

/// The code of dimension `at`.
pub(super) fn code(row: &[u8], at: usize, bits: Bits) -> u8 {
    let shift = (at / row.len()) as u32 * u32::from(bits.get());
    let mask = if bits.get() == 8 { u8::MAX } else { (1 << bits.get()) - 1 };
    row[at % row.len()] >> shift & mask
}

#[cfg(test)]
mod tests {
    use latewood_kernels::Bits;

    #[test]
    fn every_code_comes_back() {
        for bits in [Bits::One, Bits::Two, Bits::Four, Bits::Eight] {
            for depth in [32, 64, 96, 320] {
                let codes: Vec<u8> =
                    (0..depth).map(|i| (i * 37 % 251) as u8 & ((1_u16 << bits.get()) - 1) as u8).collect();
                let mut row = vec![0; bits.row_bytes(depth)];
                super::pack(&codes, bits, &mut row);
                let back: Vec<u8> = (0..depth).map(|at| super::code(&row, at, bits)).collect();
                assert_eq!(codes, back, "{bits:?} at depth {depth}");
            }
        }
    }
}
