//! Values that metadata may hold and filters may ask for, and their order.
//!
//! Numbers are compared by their exact value, `1` equals `1.0`. One that is written as a whole number may have any number
//! of digits; one with a fraction or an exponent is the double nearest to it, as JSON readers have it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;

use serde_json::{Number, Value};

/// A value that metadata may hold and filters may ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    /// A number without a fraction, however it was written.
    Whole(i128),
    /// A whole number beyond the range of the others: its sign and digits.
    Huge(String),
    /// A number with a fraction, or one that no double reaches.
    Fraction(f64),
    Text(String),
}

/// None is NaN.
impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        mem::discriminant(self).hash(state);
        match self {
            Self::Null => {}
            Self::Bool(value) => value.hash(state),
            Self::Whole(value) => value.hash(state),
            // Equal ones have equal bits: zero is a whole number.
            Self::Fraction(value) => value.to_bits().hash(state),
            Self::Huge(text) | Self::Text(text) => text.hash(state),
        }
    }
}

/// As JSON has it: equal values, and no others, are the same text.
impl fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Bool(value) => value.fmt(formatter),
            Self::Whole(value) => value.fmt(formatter),
            Self::Huge(digits) => formatter.write_str(digits),
            Self::Fraction(value) => value.fmt(formatter),
            Self::Text(text) => write!(formatter, "\"{text}\""),
        }
    }
}

impl Scalar {
    /// The value, unless it is an array or an object.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(number) => Some(Self::from_number(number)),
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn from_number(number: &Number) -> Self {
        /// The first double beyond the range of `i128`; the smallest in it is the negative of this.
        const LIMIT: f64 = (1_u128 << 127) as f64;
        let written = number.as_str();
        if let Ok(whole) = written.parse() {
            return Self::Whole(whole);
        }
        if written.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::Huge(written.to_owned());
        }
        // A number of JSON is one of Rust; beyond all doubles it is infinite.
        let value: f64 = written.parse().unwrap_or_default();
        if value.fract() != 0.0 || value.is_infinite() {
            Self::Fraction(value)
        } else if (-LIMIT..LIMIT).contains(&value) {
            Self::Whole(value as i128)
        } else {
            Self::Huge(format!("{value:.0}"))
        }
    }

    /// Values of one kind are in order; kinds stand in a fixed order, so that a sorted array holds each in one stretch.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Whole(one), Self::Whole(other)) => one.cmp(other),
            (Self::Huge(one), Self::Huge(other)) => order_of_digits(one, other),
            (Self::Fraction(one), Self::Fraction(other)) => one.total_cmp(other),
            // A fraction is never equal to a whole number, and below 2⁵³, where fractions are, whole numbers convert
            // exactly.
            (Self::Whole(one), Self::Fraction(other)) => (*one as f64).total_cmp(other),
            (Self::Fraction(one), Self::Whole(other)) => one.total_cmp(&(*other as f64)),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()).then_with(|| self.reach().cmp(&other.reach())),
        }
    }

    /// How far from zero a number is, if that alone puts it before or behind those of another kind.
    fn reach(&self) -> i8 {
        match self {
            Self::Huge(digits) if digits.starts_with('-') => -1,
            Self::Huge(_) => 1,
            Self::Fraction(value) if value.is_infinite() => 2 * value.signum() as i8,
            _ => 0,
        }
    }

    /// Place of this value's kind among the kinds.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Whole(_) | Self::Huge(_) | Self::Fraction(_) => 2,
            Self::Text(_) => 3,
        }
    }
}

/// Order of whole numbers by their digits, which begin with no zero.
fn order_of_digits(one: &str, other: &str) -> Ordering {
    let by_digits = |one: &str, other: &str| one.len().cmp(&other.len()).then_with(|| one.cmp(other));
    match (one.strip_prefix('-'), other.strip_prefix('-')) {
        (None, None) => by_digits(one, other),
        (Some(one), Some(other)) => by_digits(other, one),
        (one, _) => {
            if one.is_some() {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scalar;

    #[test]
    fn what_is_equal_and_nothing_else_has_the_same_text() {
        let json = [
            "null",
            "true",
            "false",
            "0",
            "-0.0",
            "1",
            "1.0",
            "1e0",
            "-1",
            "0.5",
            "5e-1",
            "1e30",
            "1000000000000000000000000000000",
            "1e300",
            "-1e300",
            "1e999",
            "-1e999",
            "\"1\"",
            "\"true\"",
            "\"null\"",
            "\"\"",
            "\"\\\"\"",
            "\"1e999\"",
            "\"inf\"",
        ];
        let read = |text: &str| Scalar::from_json(&serde_json::from_str(text).expect("JSON")).expect("a scalar");
        let values: Vec<Scalar> = json.into_iter().map(read).collect();
        for one in &values {
            for other in &values {
                assert_eq!(one == other, one.to_string() == other.to_string(), "{one:?} {other:?}");
            }
        }
    }
}
