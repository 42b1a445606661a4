//! The quantiser of what a centroid leaves over: fixed levels, one gain per token.
//!
//! A rotated residual's components are close to Gaussian whatever the model, so one table of levels, Lloyd and Max's
//! for a normal distribution rounded to small integers, serves all of them; the gain carries the residual's own norm.
//! The bound |level| ≤ 21 below 8 bits lets the AVX2 kernel add three pairs of byte products in 16 bits.

use half::bf16;
use latewood_kernels::Bits;

/// Levels of a unit normal variable in steps of `1 / unit`; 8 bits use the integers -127..=127 themselves.
const LEVELS_1: [i8; 2] = [-1, 1];
const LEVELS_2: [i8; 4] = [-10, -3, 3, 10];
const LEVELS_4: [i8; 16] = [-20, -15, -12, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 12, 15, 20];
/// Integer steps per standard deviation at which each table's distortion is least.
const UNIT_1: f32 = 1.253_31;
const UNIT_2: f32 = 6.621;
const UNIT_4: f32 = 7.334;
/// 127 steps for four standard deviations: beyond lies one component in 16,000.
const UNIT_8: f32 = 31.75;
/// What the steps are multiplied with in search of a token's best: its components are few, and not quite normal.
const STEPS: [f32; 5] = [1.0, 0.94, 1.06, 0.88, 1.12];
/// 1.5 · 2²³: a sum with it is rounded to an integer, ties to even, whose two's complement is the sum's last byte.
const ROUNDING: f32 = 12_582_912.0;

/// Components to codes, for one number of bits.
#[derive(Clone, Debug)]
pub struct Quantizer {
    bits: Bits,
    levels: [i8; 16],
    unit: f32,
    /// Code of the level nearest to `x`, at index `floor(2x) + 128`: every midpoint of two integers is a multiple of ½.
    nearest: Box<[u8; 256]>,
}

impl Quantizer {
    /// The quantiser of `bits` bits.
    #[must_use]
    pub fn new(bits: Bits) -> Self {
        let (table, unit): (&[i8], f32) = match bits {
            Bits::One => (&LEVELS_1, UNIT_1),
            Bits::Two => (&LEVELS_2, UNIT_2),
            Bits::Four => (&LEVELS_4, UNIT_4),
            Bits::Eight => (&[], UNIT_8),
        };
        let mut levels = [0; 16];
        levels[..table.len()].copy_from_slice(table);
        let code =
            |half: i16| table.windows(2).filter(|pair| i16::from(pair[0]) + i16::from(pair[1]) <= half).count() as u8;
        let nearest = Box::new(std::array::from_fn(|index| code(index as i16 - 128)));
        Self { bits, levels, unit, nearest }
    }

    /// The integer level of each code below 8 bits, zero-padded to 16; at 8 bits the level is `code - 128`.
    #[must_use]
    pub fn levels(&self) -> &[i8; 16] {
        &self.levels
    }

    /// Integer steps per standard deviation.
    #[must_use]
    pub fn unit(&self) -> f32 {
        self.unit
    }

    /// The level that `code` stands for.
    #[must_use]
    pub fn level(&self, code: u8) -> i8 {
        if self.bits == Bits::Eight { (code ^ 0x80).cast_signed() } else { self.levels[usize::from(code & 15)] }
    }

    /// Writes the code of every component and returns the gain as the upper half of its float32 bits (bfloat16).
    /// Components of `codes` past the residual get the code of zero.
    ///
    /// Of a few steps around the best for a normal variable the one whose levels lie nearest to the residual, and the
    /// least-squares gain for them, `<r, l> / <l, l>`: a twelfth less squared error at 4 bits and 128 dimensions. At 8 bits
    /// the rounding of the gain itself would cost more than a fit brings: there the steps are what the gain says.
    pub fn quantize(&self, residual: &[f32], codes: &mut [u8]) -> u16 {
        let deviation = (residual.iter().map(|value| value * value).sum::<f32>() / residual.len() as f32).sqrt();
        codes.fill(self.code(0.0));
        if deviation == 0.0 {
            return 0;
        }
        if self.bits == Bits::Eight {
            let gain = bf16::from_f32(deviation / self.unit);
            if gain.to_f32() > 0.0 {
                for (code, &value) in codes.iter_mut().zip(residual) {
                    *code = self.code(value / gain.to_f32());
                }
            }
            return gain.to_bits();
        }
        // The squared error is |r|² - <r, l>² / <l, l>, and its first term the same for all.
        let fit = |factor: f32| {
            let scale = self.unit * factor / deviation;
            let (mut along, mut squared) = (0.0_f32, 0.0_f32);
            for &value in residual {
                let level = f32::from(self.level(self.code(value * scale)));
                along += value * level;
                squared += level * level;
            }
            let gain = if squared > 0.0 { along / squared } else { 0.0 };
            (scale, gain, along * gain)
        };
        let better = |best: (f32, f32, f32), other: (f32, f32, f32)| if other.2 > best.2 { other } else { best };
        let (scale, gain, _) = STEPS.into_iter().map(fit).fold((0.0, 0.0, f32::NEG_INFINITY), better);
        for (code, &value) in codes.iter_mut().zip(residual) {
            *code = self.code(value * scale);
        }
        bf16::from_f32(gain).to_bits()
    }

    fn code(&self, value: f32) -> u8 {
        if self.bits == Bits::Eight {
            (value.clamp(-127.0, 127.0) + ROUNDING).to_bits() as u8 ^ 0x80
        } else {
            self.nearest[((value * 2.0).floor().clamp(-128.0, 127.0) as i16 + 128) as usize]
        }
    }
}

#[cfg(test)]
mod tests {
    use latewood_kernels::{Bits, MAX_LEVEL};

    use half::bf16;

    use super::Quantizer;

    /// Mean squared error of quantising a unit normal variable, by numerical integration.
    fn distortion(quantizer: &Quantizer, unit: f32) -> f64 {
        let step = 1e-3;
        let error = |i: i32| {
            let x = f64::from(i) * step;
            let level = f64::from(quantizer.level(quantizer.code(x as f32 * unit))) / f64::from(unit);
            (x - level).powi(2) * (-x * x / 2.0).exp() * step / std::f64::consts::TAU.sqrt()
        };
        (-6000..=6000).map(error).sum()
    }

    #[test]
    fn integer_levels_lose_little_against_lloyd_and_max() {
        // Max (1960), table I: the least distortion of a unit normal variable for 2, 4 and 16 levels.
        for (bits, ideal) in [(Bits::One, 0.3634), (Bits::Two, 0.1175), (Bits::Four, 0.009_497)] {
            let quantizer = Quantizer::new(bits);
            let got = distortion(&quantizer, quantizer.unit());
            assert!(got < ideal * 1.03, "{bits:?}: {got} against {ideal}");
            for other in [0.97, 1.03] {
                assert!(
                    got < distortion(&quantizer, quantizer.unit() * other) * 1.001,
                    "{bits:?}: another unit is better"
                );
            }
        }
        assert!(distortion(&Quantizer::new(Bits::Eight), Quantizer::new(Bits::Eight).unit()) < 1.5e-4);
    }

    #[test]
    fn levels_stay_in_the_kernels_range() {
        for bits in [Bits::One, Bits::Two, Bits::Four] {
            assert!(Quantizer::new(bits).levels().iter().all(|level| level.unsigned_abs() <= MAX_LEVEL));
        }
    }

    #[test]
    fn residuals_of_any_size_come_back() {
        let quantizer = Quantizer::new(Bits::Four);
        let mut codes = [0; 32];
        for scale in [0.0, 1e-20, 1e-3, 1.0, 1e10] {
            let residual: Vec<f32> = (0..32).map(|i| (i as f32 - 15.5) / 10.0 * scale).collect();
            let gain = bf16::from_bits(quantizer.quantize(&residual, &mut codes)).to_f32();
            for (value, code) in residual.iter().zip(codes) {
                let back = gain * f32::from(quantizer.level(code));
                assert!((value - back).abs() <= 0.3 * scale, "{value} came back as {back}");
            }
        }
    }
}
