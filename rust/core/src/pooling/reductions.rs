//! One number of many, in lanes so that the compiler makes vector instructions of it.

/// The least value, in lanes so that it takes vector instructions.
#[inline(always)]
pub(super) fn minimum<T: Copy + PartialOrd>(values: &[T]) -> T {
    let less = |a: T, b: T| if b < a { b } else { a };
    let mut lanes = [values[0]; 32];
    let (chunks, rest) = values.as_chunks::<32>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &value)| *lane = less(*lane, value));
    }
    // One after the other, each comparison would wait for the one before.
    let fours: [T; 8] =
        std::array::from_fn(|at| less(less(lanes[at], lanes[at + 8]), less(lanes[at + 16], lanes[at + 24])));
    rest.iter().chain(&fours).fold(values[0], |least, &value| less(least, value))
}

/// Place of the first value that is at most `bound`, 0 if there is none; by whole chunks first, for the same reason.
#[inline(always)]
pub(super) fn first_at_most<T: Copy + PartialOrd>(values: &[T], bound: T) -> usize {
    let (chunks, _) = values.as_chunks::<32>();
    let mut start = 0;
    for chunk in chunks {
        let mut any = false;
        for &value in chunk {
            any |= value <= bound;
        }
        if any {
            break;
        }
        start += 32;
    }
    start + values[start..].iter().position(|&value| value <= bound).unwrap_or(0)
}

/// Length of a vector, without overflow or underflow for any finite float32.
#[inline(always)]
pub(super) fn norm(vector: &[f32]) -> f64 {
    let (chunks, rest) = vector.as_chunks::<16>();
    let mut sums = [0.0_f64; 16];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += f64::from(value) * f64::from(value));
    }
    let rest = rest.iter().map(|&value| f64::from(value) * f64::from(value));
    (sums.iter().sum::<f64>() + rest.sum::<f64>()).sqrt()
}
