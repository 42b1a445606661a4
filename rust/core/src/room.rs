//! Memory for as much as a caller has asked for.

use crate::error::{Error, Result};

/// An empty vector with room for so many values. One that grew by itself would end the process where there is none.
///
/// # Errors
/// [`Error::Invalid`] if the system has no memory for so many `things`.
pub fn room_for<T>(count: usize, things: &str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| {
        let gibibytes = count as f64 * size_of::<T>() as f64 / f64::from(1 << 30);
        Error::Invalid(format!("there is no memory for {count} {things} ({gibibytes:.1} GiB); ask for fewer at once"))
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told() {
        assert_eq!(room_for::<f32>(5, "scores").expect("little").capacity(), 5);
        let refused = room_for::<f32>(1 << 60, "scores").expect_err("more than any machine has");
        assert!(refused.to_string().contains("1152921504606846976 scores (4294967296.0 GiB)"), "{refused}");
    }
}
