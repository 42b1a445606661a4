//! The quantiser of what a centroid leaves over: fixed levels, one gain per token.
//!
//! A rotated residual's components are close to Gaussian whatever the model, so one table of levels, Lloyd and Max's
//! for a normal distribution rounded to small integers, serves all of them; the gain carries the residual's own norm.
//! The bound |level| ≤ 32 below 8 bits lets the AVX2 kernel add two byte products in 16 bits.

use latewood_kernels::Bits;

/// Levels of a unit normal variable in steps of `1 / unit`; 8 bits use the integers -127..=127 themselves.
const LEVELS_1: [i8; 2] = [-32, 32];
const LEVELS_2: [i8; 4] = [-30, -9, 9, 30];
const LEVELS_4: [i8; 16] = [-32, -24, -19, -15, -11, -8, -5, -2, 2, 5, 8, 11, 15, 19, 24, 32];
/// Integer steps per standard deviation at which each table's distortion is least.
const UNIT_1: f32 = 40.106;
const UNIT_2: f32 = 19.86;
const UNIT_4: f32 = 11.7;
/// 127 steps for four standard deviations: beyond lies one component in 16,000.
const UNIT_8: f32 = 31.75;

/// Octaves that the 255 gains span: residuals from 1/64 to 8 times the mean norm of the training vectors.
const GAIN_OCTAVES: f32 = 9.0;
const LARGEST_GAIN: f32 = 8.0;

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
        let code = |half: i16| table.windows(2).filter(|pair| i16::from(pair[0]) + i16::from(pair[1]) <= half).count() as u8;
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

    /// The lowest gain and the quotient of neighbours, for vectors whose components have this standard deviation.
    #[must_use]
    pub fn gain_scale(&self, deviation: f32) -> (f32, f32) {
        let highest = LARGEST_GAIN * deviation / self.unit;
        (highest / GAIN_OCTAVES.exp2(), (GAIN_OCTAVES / 254.0).exp2())
    }

    /// Writes the code of every component and returns the number of the gain, or `None` if the residual is beyond the
    /// largest gain. Components of `codes` past the residual get the code of zero.
    ///
    /// The gain is the least-squares one, `<r, l> / <l, l>`, rounded to the table.
    pub fn quantize(&self, residual: &[f32], gains: &[f32; 256], codes: &mut [u8]) -> Option<u8> {
        let deviation = (residual.iter().map(|value| value * value).sum::<f32>() / residual.len() as f32).sqrt();
        let scale = if deviation > 0.0 { self.unit / deviation } else { 0.0 };
        let (mut along, mut squared) = (0.0_f32, 0.0_f32);
        codes.fill(self.code(0.0));
        for (code, &value) in codes.iter_mut().zip(residual) {
            *code = self.code(value * scale);
            let level = f32::from(self.level(*code));
            along += value * level;
            squared += level * level;
        }
        if deviation == 0.0 || squared == 0.0 {
            return Some(0);
        }
        let gain = along / squared;
        // Half a step above the last gain still rounds to it.
        if gain > gains[255] * (gains[255] / gains[254]).sqrt() {
            return None;
        }
        let above = gains.partition_point(|&known| known < gain).clamp(1, 255);
        let nearer_below = gain - gains[above - 1] < gains[above] - gain;
        Some((above - usize::from(nearer_below)) as u8)
    }

    fn code(&self, value: f32) -> u8 {
        if self.bits == Bits::Eight {
            (value.round_ties_even().clamp(-127.0, 127.0) as i16 + 128) as u8
        } else {
            self.nearest[((value * 2.0).floor().clamp(-128.0, 127.0) as i16 + 128) as usize]
        }
    }
}

/// The 256 gains: zero, then a geometric series. Repeated multiplication in float64 gives the same table on every CPU.
pub(super) fn gain_table(low: f32, ratio: f32) -> Box<[f32; 256]> {
    let mut gains = Box::new([0.0; 256]);
    let mut gain = f64::from(low);
    for entry in gains.iter_mut().skip(1) {
        *entry = gain as f32;
        gain *= f64::from(ratio);
    }
    gains
}

#[cfg(test)]
mod tests {
    use latewood_kernels::Bits;

    use super::{Quantizer, gain_table};

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
                assert!(got < distortion(&quantizer, quantizer.unit() * other) * 1.001, "{bits:?}: another unit is better");
            }
        }
        assert!(distortion(&Quantizer::new(Bits::Eight), Quantizer::new(Bits::Eight).unit()) < 1.5e-4);
    }

    #[test]
    fn levels_stay_in_the_kernels_range() {
        for bits in [Bits::One, Bits::Two, Bits::Four] {
            assert!(Quantizer::new(bits).levels().iter().all(|level| level.unsigned_abs() <= 32));
        }
    }

    #[test]
    fn gains_round_to_the_nearest_and_refuse_what_is_too_large() {
        let quantizer = Quantizer::new(Bits::Four);
        let (low, ratio) = quantizer.gain_scale(0.1);
        let gains = gain_table(low, ratio);
        let mut codes = [0; 32];
        let residual = |scale: f32| (0..32).map(|i| (i as f32 - 15.5) / 10.0 * scale).collect::<Vec<f32>>();
        assert_eq!(quantizer.quantize(&residual(0.0), &gains, &mut codes), Some(0));
        assert_eq!(quantizer.quantize(&residual(1e3), &gains, &mut codes), None);
        let gain = quantizer.quantize(&residual(0.1), &gains, &mut codes).expect("in range");
        let decoded: Vec<f32> = codes.iter().map(|&code| gains[usize::from(gain)] * f32::from(quantizer.level(code))).collect();
        for (value, back) in residual(0.1).iter().zip(decoded) {
            assert!((value - back).abs() < 0.03, "{value} came back as {back}");
        }
    }
}
