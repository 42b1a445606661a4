//! Filters on metadata, as they are written in JSON.
//!
//! ```json
//! {"lang": "en", "year": {"gte": 2000, "lt": 2010}, "tag": ["a", "b"]}
//! ```
//!
//! Every field must hold (and). A document whose field is an array matches if one of its elements does. A field that a
//! document does not have is `null`. Numbers are compared by value, `1` equals `1.0`; values of different kinds are
//! never equal and never in order.

use std::cmp::Ordering;

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::columns::Column;
use crate::error::{Error, Result};

const OPERATORS: &str = "eq, ne, in, gt, gte, lt, lte";

/// A condition on the metadata of documents. Without any field it lets every document through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    conditions: Vec<(String, Condition)>,
}

/// A value that metadata may hold and filters may ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    /// A number without a fraction, however it was written.
    Whole(i128),
    /// A number with a fraction, or one beyond the range of the others.
    Fraction(f64),
    Text(String),
}

/// What one operator asks of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Any(Vec<Scalar>),
    Not(Scalar),
    Order(Comparison, Scalar),
}

/// An operator that compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Filter {
    /// Reads a filter from JSON text.
    ///
    /// # Errors
    /// As [`Self::parse`], and if the text is not JSON.
    pub fn from_json(json: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| Error::invalid(format!("filter is not JSON: {error}")))?;
        Self::parse(&value)
    }

    /// Reads a filter from JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field and what is wrong with it: an unknown operator, a value that cannot be
    /// compared.
    pub fn parse(value: &Value) -> Result<Self> {
        let fields = value.as_object().ok_or_else(|| {
            Error::invalid(format!("filter must be an object of fields, as in {{\"lang\": \"en\"}}, not {value}"))
        })?;
        let mut conditions = Vec::new();
        for (field, wanted) in fields {
            match wanted {
                Value::Object(operators) => {
                    for (operator, operand) in operators {
                        conditions.push((field.clone(), Condition::parse(field, operator, operand)?));
                    }
                }
                Value::Array(_) => conditions.push((field.clone(), Condition::parse(field, "in", wanted)?)),
                _ => conditions.push((field.clone(), Condition::parse(field, "eq", wanted)?)),
            }
        }
        Ok(Self { conditions })
    }

    /// Whether every document passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    pub(crate) fn conditions(&self) -> impl Iterator<Item = (&str, &Condition)> {
        self.conditions.iter().map(|(field, condition)| (field.as_str(), condition))
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        Self::parse(&Value::Object(fields)).map_err(serde::de::Error::custom)
    }
}

impl Condition {
    fn parse(field: &str, operator: &str, operand: &Value) -> Result<Self> {
        let scalar = || {
            Scalar::from_json(operand).ok_or_else(|| {
                Error::invalid(format!(
                    "filter on {field:?}: {operator} takes a string, a number, a boolean or null, not {operand}"
                ))
            })
        };
        match operator {
            "eq" => Ok(Self::Any(vec![scalar()?])),
            "ne" => Ok(Self::Not(scalar()?)),
            "in" => {
                let wanted = operand.as_array().map(|values| values.iter().map(Scalar::from_json).collect());
                let wanted: Option<Option<Vec<_>>> = wanted;
                wanted.flatten().map(Self::Any).ok_or_else(|| {
                    Error::invalid(format!(
                        "filter on {field:?}: in takes a list of strings, numbers, booleans or null, not {operand}"
                    ))
                })
            }
            _ => {
                let comparison = match operator {
                    "gt" => Comparison::Greater,
                    "gte" => Comparison::GreaterOrEqual,
                    "lt" => Comparison::Less,
                    "lte" => Comparison::LessOrEqual,
                    unknown => {
                        return Err(Error::invalid(format!(
                            "filter on {field:?}: unknown operator {unknown:?}; the operators are {OPERATORS}"
                        )));
                    }
                };
                match scalar()? {
                    bound @ (Scalar::Whole(_) | Scalar::Fraction(_) | Scalar::Text(_)) => {
                        Ok(Self::Order(comparison, bound))
                    }
                    Scalar::Null | Scalar::Bool(_) => Err(Error::invalid(format!(
                        "filter on {field:?}: {operator} takes a string or a number, not {operand}"
                    ))),
                }
            }
        }
    }

    /// Documents of a segment whose field, `column`, fulfils this.
    pub(crate) fn matching(&self, column: &Column, documents: u32) -> RoaringBitmap {
        match self {
            Self::Any(wanted) => {
                wanted.iter().map(|wanted| column.equal(wanted)).fold(RoaringBitmap::new(), |all, one| all | one)
            }
            Self::Not(unwanted) => {
                let mut all = RoaringBitmap::new();
                all.insert_range(0..documents);
                all - column.equal(unwanted)
            }
            Self::Order(comparison, bound) => column.compared(*comparison, bound),
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
        // Every f64 below this is a whole number or close enough to 0 to be compared with one exactly.
        const LARGEST: f64 = (1_u128 << 100) as f64;
        if let Some(whole) = number.as_i128() {
            return Self::Whole(whole);
        }
        let value = number.as_f64().unwrap_or_default();
        if value.fract() == 0.0 && value.abs() < LARGEST { Self::Whole(value as i128) } else { Self::Fraction(value) }
    }

    /// Values of one kind are in order; kinds stand in a fixed order, so that a sorted array holds each in one stretch.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Whole(one), Self::Whole(other)) => one.cmp(other),
            (Self::Fraction(one), Self::Fraction(other)) => one.total_cmp(other),
            // A fraction is never equal to a whole number. Below 2⁵³, where fractions are, whole numbers convert
            // exactly; above 2¹⁰⁰ every whole number of JSON is smaller.
            (Self::Whole(one), Self::Fraction(other)) => (*one as f64).total_cmp(other),
            (Self::Fraction(one), Self::Whole(other)) => one.total_cmp(&(*other as f64)),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// Place of this value's kind among the kinds.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Whole(_) | Self::Fraction(_) => 2,
            Self::Text(_) => 3,
        }
    }
}
