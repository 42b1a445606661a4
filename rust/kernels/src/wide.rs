//! Plain code compiled for the registers of each level.

use crate::level::{Isa, Level};

/// Work that the compiler turns into vector instructions by itself, once for each register width.
///
/// `run`, and what it calls in its inner loops, must be `#[inline(always)]`: only what is inlined is compiled for the
/// wider registers. Nothing here changes what the code computes, `f32::mul_add` included.
pub trait Wide {
    /// What the work gives.
    type Output;

    /// Does the work. `LANES` is the number of float32 in a register: 4, 8 or 16. `f32::mul_add` is one instruction above 4,
    /// and on aarch64.
    fn run<const LANES: usize>(self) -> Self::Output;
}

/// Does `work` with the registers of `level`.
pub fn widely<W: Wide>(level: Level, work: W) -> W::Output {
    match level.0 {
        Isa::Scalar => work.run::<4>(),
        // NEON is part of the target: there is nothing to enable.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::I8mm => work.run::<4>(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these levels exist only where detection found avx2 and fma.
        Isa::Avx2 | Isa::AvxVnni => unsafe { avx2(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: all higher levels exist only where detection found these.
        _ => unsafe { avx512(work) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<W: Wide>(work: W) -> W::Output {
    work.run::<8>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn avx512<W: Wide>(work: W) -> W::Output {
    work.run::<16>()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Squares<'a>(&'a [f32]);

    impl Wide for Squares<'_> {
        type Output = (usize, f32);

        fn run<const LANES: usize>(self) -> Self::Output {
            (LANES, self.0.iter().fold(0.0, |sum, &value| value.mul_add(value, sum)))
        }
    }

    #[test]
    fn every_level_computes_the_same() {
        let values: Vec<f32> = (0..1000_u16).map(|value| f32::from(value).sqrt()).collect();
        let (_, expected) = Squares(&values).run::<1>();
        let mut before = 4;
        for level in Level::available() {
            let (lanes, sum) = widely(level, Squares(&values));
            assert!(lanes >= before, "{level} has {lanes} lanes, the level below {before}");
            assert_eq!(sum.to_bits(), expected.to_bits(), "{level}");
            before = lanes;
        }
    }
}
