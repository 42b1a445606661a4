//! Filters on metadata, as they are written in JSON.
//!
//! ```json
//! {"lang": "en", "year": {"gte": 2000, "lt": 2010}, "tag": ["a", "b"]}
//! ```
//!
//! Every field must hold (and). A document whose field is an array matches if one of its elements does. A field that a
//! document does not have is `null`. Values of different kinds are never equal and never in order.
//!
//! Numbers are compared by their exact value, `1` equals `1.0`. One that is written as a whole number may have any number
//! of digits; one with a fraction or an exponent is the double nearest to it, as JSON readers have it.
//!
//! Filters do not look inside objects. A name is that of one field, dots included. Two filters would match nothing for a
//! reason that nobody sees, and are refused: one on a name with a dot that no living document has, and one on a field
//! that is an object in some living documents and has a value to compare in none. Whether an object is null can be asked.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::columns::Column;
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::ids::Id;
use crate::parallel::Execution;

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
    /// A whole number beyond the range of the others: its sign and digits.
    Huge(String),
    /// A number with a fraction, or one that no double reaches.
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

    /// Documents of each segment that pass and are not deleted.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a condition that nothing can fulfil because its field is inside objects or is one,
    /// [`Error::Corrupt`] if the metadata of a document is not JSON.
    pub(crate) fn matching<S: Borrow<Segment>>(
        &self,
        segments: &[S],
        execution: &Execution,
    ) -> Result<Vec<RoaringBitmap>> {
        let mut matching: Vec<RoaringBitmap> = segments.iter().map(|segment| live(segment.borrow())).collect();
        for (field, condition) in &self.conditions {
            let columns = columns(segments, field, execution)?;
            if !has_values(segments, &columns) {
                check_nesting(segments, &columns, field, condition)?;
            }
            for ((matching, segment), column) in matching.iter_mut().zip(segments).zip(&columns) {
                *matching &= condition.matching(column, segment.borrow().documents());
            }
        }
        Ok(matching)
    }

    #[cfg(test)]
    pub(crate) fn conditions(&self) -> impl Iterator<Item = (&str, &Condition)> {
        self.conditions.iter().map(|(field, condition)| (field.as_str(), condition))
    }
}

fn live(segment: &Segment) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..segment.documents());
    all - segment.tombstones()
}

fn columns<S: Borrow<Segment>>(segments: &[S], field: &str, execution: &Execution) -> Result<Vec<Arc<Column>>> {
    segments.iter().map(|segment| segment.borrow().column(field, execution)).collect()
}

/// Whether a living document has a value that can be compared.
fn has_values<S: Borrow<Segment>>(segments: &[S], columns: &[Arc<Column>]) -> bool {
    let living = |(segment, column): (&S, &Arc<Column>)| column.holders_outside(segment.borrow().tombstones());
    segments.iter().zip(columns).any(living)
}

/// A living document whose field holds an object.
fn nested<S: Borrow<Segment>>(segments: &[S], columns: &[Arc<Column>]) -> Option<Id> {
    segments.iter().zip(columns).find_map(|(segment, column)| {
        let segment = segment.borrow();
        (column.nested() - segment.tombstones()).min().map(|ordinal| segment.id(ordinal))
    })
}

/// Refuses a condition on a field without values to compare, if objects are the reason.
fn check_nesting<S: Borrow<Segment>>(
    segments: &[S],
    columns: &[Arc<Column>],
    field: &str,
    condition: &Condition,
) -> Result<()> {
    let problem = if field.contains('.') {
        "no document has a field of this name".to_owned()
    } else if let Some(id) = nested(segments, columns).filter(|_| !condition.asks_only_for_null()) {
        format!("it is or holds an object in document {id} and has a value to compare in none")
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "filter on {field:?}: {problem}, and filters do not look inside objects; keep what they ask for in a field of its \
         own"
    )))
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
                match Scalar::from_json(operand) {
                    None | Some(Scalar::Null | Scalar::Bool(_)) => Err(Error::invalid(format!(
                        "filter on {field:?}: {operator} takes a string or a number, not {operand}"
                    ))),
                    Some(bound) => Ok(Self::Order(comparison, bound)),
                }
            }
        }
    }

    /// Whether this asks whether a field is there, and nothing else.
    fn asks_only_for_null(&self) -> bool {
        match self {
            Self::Any(wanted) => wanted.iter().all(|wanted| *wanted == Scalar::Null),
            Self::Not(unwanted) => *unwanted == Scalar::Null,
            Self::Order(..) => false,
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
