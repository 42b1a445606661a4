//! Filters on metadata, as they are written in JSON.
//!
//! ```json
//! {"lang": "en", "author.name": {"prefix": "Knu"}, "or": [{"year": {"gte": 2000}}, {"not": {"tag": ["a", "b"]}}]}
//! ```
//!
//! The grammar and its rules are in `docs/filters.md`. They come from two: a path finds all values that the names along
//! it lead to, and a condition holds if it does for one of these values; `ne` and `not` are the opposite of others.

mod fields;
mod scalar;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::parallel::Execution;

pub(crate) use fields::{FieldValues, Fields};
pub(crate) use scalar::Scalar;

use fields::Comparison;

const OPERATORS: [&str; 10] = ["eq", "ne", "in", "gt", "gte", "lt", "lte", "contains", "prefix", "exists"];

/// How deep filters may stand in each other.
const MAX_DEPTH: usize = 32;

/// Values of a list that are looked up between two looks at whether to stop.
const STEP_VALUES: usize = 1024;

/// Characters of a foreign name or value that a message shows.
const SHOWN: usize = 120;

/// A condition on the metadata of documents. Without any field it lets every document through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    expression: Expression,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    /// A path, and what one of its values must fulfil.
    Field(String, Condition),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Condition {
    Equal(Vec<Scalar>),
    Order(Comparison, Scalar),
    Prefix(String),
    Exists,
}

/// The fields of a segment that a filter asks for, by path.
pub(crate) type FilterFields<'a> = HashMap<&'a str, Arc<FieldValues>>;

impl Filter {
    /// Reads a filter from JSON text.
    ///
    /// # Errors
    /// As [`Self::parse`], and if the text is not JSON.
    pub fn from_json(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json).map_err(|error| {
            Error::invalid(format!(
                "filter is not JSON that can be read: {error}; filters may stand {MAX_DEPTH} deep in each other"
            ))
        })?;
        Self::parse(&value)
    }

    /// Reads a filter from JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, its place and what is wrong with it: an unknown operator, a value that an
    /// operator does not take; filters that stand too deep in each other.
    pub fn parse(value: &Value) -> Result<Self> {
        Ok(Self { expression: Expression::parse(value, "filter", 0)? })
    }

    /// Whether no field is asked for, wherever.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths().is_empty()
    }

    /// Whether nothing at all is asked.
    pub(crate) fn lets_all_through(&self) -> bool {
        matches!(&self.expression, Expression::All(parts) if parts.is_empty())
    }

    /// The paths that are asked for.
    pub(crate) fn paths(&self) -> BTreeSet<&str> {
        let mut paths = BTreeSet::new();
        self.expression.collect_paths(&mut paths);
        paths
    }

    /// Those of the documents `among` that pass; `fields` has a field for each of [`Self::paths`].
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn matching(
        &self,
        fields: &FilterFields<'_>,
        among: &RoaringBitmap,
        execution: &Execution,
    ) -> Result<RoaringBitmap> {
        self.expression.matching(fields, among, execution)
    }
}

/// The path that a field's name stands for. A backslash before it says that it is a field, whatever word it is.
pub(crate) fn path(name: &str) -> &str {
    name.strip_prefix('\\').unwrap_or(name)
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        Self::parse(&Value::Object(fields)).map_err(serde::de::Error::custom)
    }
}

impl Expression {
    /// Reads a filter that stands at `place`, inside of `depth` others.
    fn parse(value: &Value, place: &str, depth: usize) -> Result<Self> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "filter: more than {MAX_DEPTH} filters stand in each other; make it flatter"
            )));
        }
        let fields = value.as_object().ok_or_else(|| {
            Error::invalid(format!(
                "{place} must be an object of fields, as in {{\"lang\": \"en\"}}, not {}",
                shown(value)
            ))
        })?;
        let mut all = Vec::with_capacity(fields.len());
        for (name, wanted) in fields {
            match name.as_str() {
                "and" => all.push(Self::All(Self::parse_list(name, wanted, place, depth)?)),
                "or" => all.push(Self::Any(Self::parse_list(name, wanted, place, depth)?)),
                "not" => all.push(Self::Not(Box::new(Self::parse(wanted, &format!("{place}.not"), depth + 1)?))),
                "$and" | "$or" | "$not" | "$nor" => return Err(dollar(name, place)),
                _ => Self::parse_field(name, wanted, place, &mut all)?,
            }
        }
        Ok(Self::All(all))
    }

    /// Reads the filters that `name`, which is "and" or "or", combines.
    fn parse_list(name: &str, wanted: &Value, place: &str, depth: usize) -> Result<Vec<Self>> {
        let filters = wanted.as_array().ok_or_else(|| {
            Error::invalid(format!(
                "{place}.{name} takes a list of filters, as in {{\"{name}\": [{{\"lang\": \"en\"}}]}}, not {}; a \
                 field of this name is written \"\\{name}\"",
                shown(wanted)
            ))
        })?;
        let parts = filters.iter().enumerate();
        parts.map(|(at, filter)| Self::parse(filter, &format!("{place}.{name}[{at}]"), depth + 1)).collect()
    }

    /// Reads what is asked of one field.
    fn parse_field(name: &str, wanted: &Value, place: &str, all: &mut Vec<Self>) -> Result<()> {
        let field = Field { path: path(name), place };
        match wanted {
            Value::Object(operators) if operators.is_empty() => {
                return Err(field.problem(format!("it asks for nothing; the operators are {}", OPERATORS.join(", "))));
            }
            Value::Object(operators) => {
                for (operator, operand) in operators {
                    all.push(field.parse(operator, operand)?);
                }
            }
            Value::Array(_) => all.push(field.parse("in", wanted)?),
            _ => all.push(field.parse("eq", wanted)?),
        }
        Ok(())
    }

    fn collect_paths<'a>(&'a self, paths: &mut BTreeSet<&'a str>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect_paths(paths)),
            Self::Not(part) => part.collect_paths(paths),
            Self::Field(path, _) => {
                paths.insert(path);
            }
        }
    }

    /// Those of the documents `among` that pass.
    fn matching(
        &self,
        fields: &FilterFields<'_>,
        among: &RoaringBitmap,
        execution: &Execution,
    ) -> Result<RoaringBitmap> {
        match self {
            Self::All(parts) => {
                let mut left = among.clone();
                for part in parts {
                    if left.is_empty() {
                        break;
                    }
                    left = part.matching(fields, &left, execution)?;
                }
                Ok(left)
            }
            Self::Any(parts) => {
                let mut found = RoaringBitmap::new();
                for part in parts {
                    found |= part.matching(fields, among, execution)?;
                }
                Ok(found)
            }
            Self::Not(part) => Ok(among - part.matching(fields, among, execution)?),
            Self::Field(path, condition) => {
                execution.check()?;
                condition.matching(&fields[path.as_str()], among, execution)
            }
        }
    }
}

impl Condition {
    /// Those of the documents `among` that have a value in `field` which fulfils this.
    fn matching(&self, field: &FieldValues, among: &RoaringBitmap, execution: &Execution) -> Result<RoaringBitmap> {
        let documents = match self {
            Self::Exists => return Ok(among & field.present()),
            Self::Order(comparison, bound) => field.compared(*comparison, bound).iter().collect(),
            Self::Prefix(prefix) => field.beginning_with(prefix).iter().collect(),
            Self::Equal(wanted) => {
                let mut found = RoaringBitmap::new();
                for (at, wanted) in wanted.iter().enumerate() {
                    if at.is_multiple_of(STEP_VALUES) {
                        execution.check()?;
                    }
                    if *wanted == Scalar::Null {
                        found |= among - field.present();
                        found |= field.null();
                    }
                    found.extend(field.equal(wanted));
                }
                found
            }
        };
        Ok(documents & among)
    }
}

/// A field of a filter, as messages name it.
struct Field<'a> {
    path: &'a str,
    place: &'a str,
}

impl Field<'_> {
    fn problem(&self, problem: impl std::fmt::Display) -> Error {
        Error::invalid(format!("{} on {}: {problem}", self.place, shown(&self.path.into())))
    }

    /// Reads what one operator asks.
    fn parse(&self, operator: &str, operand: &Value) -> Result<Expression> {
        let wrong = |takes: &str| self.problem(format!("{operator} takes {takes}, not {}", shown(operand)));
        let scalar = || Scalar::from_json(operand).ok_or_else(|| wrong("a string, a number, a boolean or null"));
        let is = |condition| Expression::Field(self.path.to_owned(), condition);
        let equal = |wanted| is(Condition::Equal(wanted));
        match operator {
            "eq" => Ok(equal(vec![scalar()?])),
            "ne" => Ok(Expression::Not(Box::new(equal(vec![scalar()?])))),
            "in" => {
                let wanted = operand.as_array().map(|values| values.iter().map(Scalar::from_json).collect());
                let wanted: Option<Option<Vec<_>>> = wanted;
                wanted.flatten().map(equal).ok_or_else(|| {
                    wrong("a list of strings, numbers, booleans or null (filters are combined by and, or and not)")
                })
            }
            "contains" => {
                let values = operand.as_array().map_or(std::slice::from_ref(operand), Vec::as_slice);
                let wanted: Option<Vec<_>> = values.iter().map(Scalar::from_json).collect();
                match wanted {
                    Some(wanted) if !wanted.is_empty() && !wanted.contains(&Scalar::Null) => {
                        Ok(Expression::All(wanted.into_iter().map(|one| equal(vec![one])).collect()))
                    }
                    _ => Err(wrong("a string, a number or a boolean, or a list of one or more")),
                }
            }
            "prefix" => match operand {
                Value::String(prefix) => Ok(is(Condition::Prefix(prefix.clone()))),
                _ => Err(wrong("a string")),
            },
            "exists" => match operand {
                Value::Bool(true) => Ok(is(Condition::Exists)),
                Value::Bool(false) => Ok(Expression::Not(Box::new(is(Condition::Exists)))),
                _ => Err(wrong("true or false")),
            },
            _ => {
                let comparison = match operator {
                    "gt" => Comparison::Greater,
                    "gte" => Comparison::GreaterOrEqual,
                    "lt" => Comparison::Less,
                    "lte" => Comparison::LessOrEqual,
                    unknown => return Err(self.unknown(unknown)),
                };
                match Scalar::from_json(operand) {
                    None | Some(Scalar::Null | Scalar::Bool(_)) => Err(wrong("a string or a number")),
                    Some(bound) => Ok(is(Condition::Order(comparison, bound))),
                }
            }
        }
    }

    fn unknown(&self, operator: &str) -> Error {
        let known = operator.strip_prefix('$').filter(|name| OPERATORS.contains(name));
        let remedy = match (operator.strip_prefix('$').unwrap_or(operator), known) {
            (_, Some(known)) => format!("write \"{known}\""),
            ("nin", _) => "write \"in\" inside of \"not\"".to_owned(),
            ("and" | "or" | "not", _) => {
                "filters are combined around fields, as in {\"not\": {\"lang\": \"en\"}}".to_owned()
            }
            _ => format!(
                "the operators are {}, and a field inside of an object is written with dots, {}",
                OPERATORS.join(", "),
                shown(&format!("{}.{operator}", self.path).into())
            ),
        };
        self.problem(format!("unknown operator {}; {remedy}", shown(&operator.into())))
    }
}

/// The error of a word of other libraries where one of ours belongs.
fn dollar(name: &str, place: &str) -> Error {
    let ours = match name {
        "$nor" => "\"not\" around \"or\"".to_owned(),
        _ => format!("\"{}\"", &name[1..]),
    };
    Error::invalid(format!("{place}: unknown word \"{name}\"; write {ours}, or \"\\{name}\" for a field of this name"))
}

/// JSON for a message: short, whatever it is.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::Fields;
    use super::*;

    const DOCUMENTS: [Option<&str>; 8] = [
        Some(r#"{"lang": "en", "year": 1999, "tag": ["a", "b"]}"#),
        Some(r#"{"lang": "de", "year": 2000.0, "tag": ["b", null]}"#),
        Some(r#"{"lang": "en", "year": 2005.5, "tag": []}"#),
        Some(r#"{"lang": null, "year": "2005", "tag": "a"}"#),
        Some(r#"{"year": 9007199254740993, "ok": true}"#),
        Some(r#"{"lang": {"code": "en"}, "year": 1e300, "ok": false}"#),
        Some(r#"{"lang": "x", "year": -3, "lang": "en"}"#),
        None,
    ];

    const NESTED: [Option<&str>; 8] = [
        Some(r#"{"a": {"b": {"c": 1}}}"#),
        Some(r#"{"a.b": {"c": 2}}"#),
        Some(r#"{"a": {"b.c": 3}, "a.b.c": 4}"#),
        Some(r#"{"a": [{"b": {"c": 5}}, {"b": [{"c": [6, [7]]}]}, 8]}"#),
        Some(r#"{"a": {"b": {"c": null}}}"#),
        Some(r#"{"a": {"b": 9}, "and": 1, "\\": 2}"#),
        Some(r#"{"a": {"b": {"c": {}}}, "a.b": {"c": []}}"#),
        Some(r#"{"a": {"b": {"c": 1}}, "a": {"b": {"d": 1}}, "": {"": 3}}"#),
    ];

    fn matching(documents: &[Option<&str>], json: &str) -> Vec<u32> {
        let filter = Filter::from_json(json).expect("a filter");
        let (count, execution) = (documents.len() as u32, Execution::undisturbed());
        let metadata = |document| Ok(documents[document as usize]);
        let fields = Fields::default().get(&filter.paths(), count, metadata, Error::invalid, &execution);
        let all: RoaringBitmap = (0..count).collect();
        let found = filter.matching(&fields.expect("JSON"), &all, &execution);
        found.expect("not interrupted").into_iter().collect()
    }

    fn flat(json: &str) -> Vec<u32> {
        matching(&DOCUMENTS, json)
    }

    fn nested(json: &str) -> Vec<u32> {
        matching(&NESTED, json)
    }

    const NONE: [u32; 0] = [];
    const EVERY: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

    #[test]
    fn equality() {
        assert_eq!(flat(r#"{"lang": "en"}"#), [0, 2, 6]);
        assert_eq!(flat(r#"{"lang": {"eq": "de"}}"#), [1]);
        assert_eq!(flat(r#"{"year": 2000}"#), [1]);
        assert_eq!(flat(r#"{"year": 9007199254740993}"#), [4]);
        assert_eq!(flat(r#"{"year": 9007199254740992}"#), NONE);
        assert_eq!(flat(r#"{"ok": true}"#), [4]);
        assert_eq!(flat(r#"{"lang": null}"#), [3, 4, 7]);
        assert_eq!(flat(r#"{"tag": null}"#), [1, 4, 5, 6, 7]);
        assert_eq!(flat(r#"{"tag": "b"}"#), [0, 1]);
        assert_eq!(flat(r#"{"nowhere": 1}"#), NONE);
        assert_eq!(flat(r#"{"nowhere": null}"#), EVERY);
        assert_eq!(flat("{}"), EVERY);
    }

    #[test]
    fn inequality_and_lists() {
        assert_eq!(flat(r#"{"lang": {"ne": "en"}}"#), [1, 3, 4, 5, 7]);
        assert_eq!(flat(r#"{"tag": {"ne": null}}"#), [0, 2, 3]);
        assert_eq!(flat(r#"{"tag": {"in": ["a", 7]}}"#), [0, 3]);
        assert_eq!(flat(r#"{"lang": ["de", null]}"#), [1, 3, 4, 7]);
        assert_eq!(flat(r#"{"lang": []}"#), NONE);
        assert_eq!(flat(r#"{"tag": {"contains": "b"}}"#), [0, 1]);
        assert_eq!(flat(r#"{"tag": {"contains": ["b", "a"]}}"#), [0]);
    }

    #[test]
    fn ranges_keep_to_their_kind() {
        assert_eq!(flat(r#"{"year": {"gte": 2000, "lt": 2010}}"#), [1, 2]);
        assert_eq!(flat(r#"{"year": {"gt": 2000}}"#), [2, 4, 5]);
        assert_eq!(flat(r#"{"year": {"gt": 9007199254740992}}"#), [4, 5]);
        assert_eq!(flat(r#"{"year": {"lte": 1999.5}}"#), [0, 6]);
        assert_eq!(flat(r#"{"year": {"gte": "0"}}"#), [3]);
        assert_eq!(flat(r#"{"lang": {"gt": "de"}, "year": {"lt": 2000}}"#), [0, 6]);
    }

    #[test]
    fn prefixes_and_presence() {
        assert_eq!(flat(r#"{"lang": {"prefix": "e"}}"#), [0, 2, 6]);
        assert_eq!(flat(r#"{"lang": {"prefix": ""}}"#), [0, 1, 2, 6]);
        assert_eq!(flat(r#"{"lang": {"prefix": "en "}}"#), NONE);
        assert_eq!(flat(r#"{"year": {"prefix": "2"}}"#), [3]);
        assert_eq!(flat(r#"{"lang": {"exists": true}}"#), [0, 1, 2, 3, 5, 6]);
        assert_eq!(flat(r#"{"tag": {"exists": true}}"#), [0, 1, 2, 3]);
        assert_eq!(flat(r#"{"tag": {"exists": false}}"#), [4, 5, 6, 7]);
    }

    #[test]
    fn combinations() {
        assert_eq!(flat(r#"{"or": [{"lang": "de"}, {"tag": "a"}, {"nowhere": 1}]}"#), [0, 1, 3]);
        assert_eq!(flat(r#"{"and": [{"lang": "en"}, {"year": {"gt": 0}}], "tag": {"exists": true}}"#), [0, 2]);
        assert_eq!(flat(r#"{"not": {"lang": "en", "year": 1999}}"#), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(flat(r#"{"not": {"or": [{"lang": "en"}, {"not": {"ok": {"exists": true}}}]}}"#), [4, 5]);
        assert_eq!(flat(r#"{"and": []}"#), EVERY);
        assert_eq!(flat(r#"{"or": []}"#), NONE);
        assert_eq!(flat(r#"{"not": {}}"#), NONE);
    }

    #[test]
    fn paths_lead_through_objects_lists_and_names_with_dots() {
        assert_eq!(nested(r#"{"a.b.c": {"exists": true}}"#), [0, 1, 2, 3, 4, 6]);
        for (value, document) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 3)] {
            assert_eq!(nested(&format!("{{\"a.b.c\": {value}}}")), [document]);
        }
        assert_eq!(nested(r#"{"a.b.c": null}"#), [4, 5, 7]);
        assert_eq!(nested(r#"{"a": 8}"#), [3]);
        assert_eq!(nested(r#"{"a.b": 9}"#), [5]);
        assert_eq!(nested(r#"{"a.b.c": {"ne": 1}}"#), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(nested(r#"{".": 3}"#), [7]);
        assert_eq!(nested(r#"{"\\and": 1}"#), [5]);
        assert_eq!(nested(r#"{"\\\\": 2}"#), [5]);
        for path in ["a.", "a.b.", "b.c", ".b", "a..b", "a.b.c.d"] {
            assert_eq!(nested(&format!("{{\"{path}\": {{\"exists\": true}}}}")), NONE, "{path}");
        }
    }

    /// Numbers in ascending order, with other ways to write each; those of different rows are neighbours.
    const NUMBERS: [&[&str]; 19] = [
        &["-1e400", "-1e500"],
        &["-1000000000000000000000000000000000000000000"],
        &["-999999999999999999999999999999999999999999"],
        &["-170141183460469231731687303715884105729"],
        &["-170141183460469231731687303715884105728", "-1.7014118346046923e38"],
        &["-9223372036854775809"],
        &["-1", "-1.0", "-10e-1"],
        &["0", "-0", "0.0", "-0.0", "1e-400"],
        &["5e-324"],
        &["0.1", "1e-1", "0.1000000000000000055511151231257827"],
        &["9007199254740992", "9007199254740992.0"],
        &["9007199254740993"],
        &["18446744073709551615"],
        &["18446744073709551616", "18446744073709551616.0"],
        &["99999999999999991611392", "1e23"],
        &["100000000000000000000000"],
        &["170141183460469231731687303715884105727"],
        &["170141183460469231731687303715884105728", "1.7014118346046923e38"],
        &["1e400", "1e500"],
    ];

    #[test]
    fn numbers_of_any_size_compare_by_their_exact_value() {
        let rows = NUMBERS.iter().enumerate();
        let written: Vec<(usize, &str)> = rows.flat_map(|(row, forms)| forms.iter().map(move |&n| (row, n))).collect();
        let documents: Vec<String> = written.iter().map(|(_, number)| format!("{{\"n\": {number}}}")).collect();
        let documents: Vec<Option<&str>> = documents.iter().map(|json| Some(json.as_str())).collect();
        for &(row, number) in &written {
            for (operator, wanted) in [("eq", row..row + 1), ("lt", 0..row), ("gt", row + 1..NUMBERS.len())] {
                let found = matching(&documents, &format!("{{\"n\": {{\"{operator}\": {number}}}}}"));
                let rows: Vec<usize> = found.into_iter().map(|at| written[at as usize].0).collect();
                let expected: Vec<usize> =
                    written.iter().map(|&(row, _)| row).filter(|row| wanted.contains(row)).collect();
                assert_eq!(rows, expected, "{operator} {number}");
            }
        }
    }

    #[test]
    fn bad_filters_name_field_place_and_remedy() {
        for (json, words) in [
            (r#"{"year": {"above": 3}}"#, ["filter on \"year\"", "\"above\"", "gte"]),
            (r#"{"year": {"$gte": 3}}"#, ["filter on \"year\"", "\"$gte\"", "write \"gte\""]),
            (r#"{"year": {"nin": [3]}}"#, ["filter on \"year\"", "\"nin\"", "inside of \"not\""]),
            (r#"{"year": {"not": {"gt": 3}}}"#, ["filter on \"year\"", "\"not\"", "around fields"]),
            (r#"{"author": {"name": "x"}}"#, ["filter on \"author\"", "\"name\"", "\"author.name\""]),
            (r#"{"year": {"gt": null}}"#, ["\"year\"", "gt", "number"]),
            (r#"{"year": {"gt": [1]}}"#, ["\"year\"", "gt", "a string or a number"]),
            (r#"{"year": {"eq": [1]}}"#, ["\"year\"", "eq", "string"]),
            (r#"{"year": {"in": 1}}"#, ["\"year\"", "in", "list"]),
            (r#"{"year": [[1]]}"#, ["\"year\"", "in", "list"]),
            (r#"{"must": [{"year": 1}]}"#, ["\"must\"", "in", "and, or and not"]),
            (r#"{"year": {}}"#, ["\"year\"", "nothing", "gte"]),
            (r#"{"year": {"exists": 1}}"#, ["\"year\"", "exists", "true or false"]),
            (r#"{"year": {"prefix": 1}}"#, ["\"year\"", "prefix", "string"]),
            (r#"{"year": {"contains": []}}"#, ["\"year\"", "contains", "one or more"]),
            (r#"{"year": {"contains": null}}"#, ["\"year\"", "contains", "one or more"]),
            (r#"{"and": {"a": 1}}"#, ["filter.and", "list of filters", "\"\\and\""]),
            (r#"{"or": [{"a": 1}, 3]}"#, ["filter.or[1]", "object", "3"]),
            (r#"{"not": [{"a": 1}]}"#, ["filter.not", "object", "lang"]),
            (r#"{"or": [{"not": {"a": {"eq": {}}}}]}"#, ["filter.or[0].not on \"a\"", "eq", "string"]),
            (r#"{"$or": [{"a": 1}]}"#, ["\"$or\"", "write \"or\"", "\"\\$or\""]),
            (r#"{"not": {"$nor": [{"a": 1}]}}"#, ["filter.not", "\"$nor\"", "around \"or\""]),
            ("[1]", ["object", "lang", "[1]"]),
            ("{", ["filter", "JSON", "EOF"]),
        ] {
            let message = Filter::from_json(json).expect_err("a bad filter").to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
        let long = "x".repeat(100_000);
        for json in [format!("{{\"{long}\": {{\"{long}\": 1}}}}"), format!("{{\"not\": \"{long}\"}}")] {
            let message = Filter::from_json(&json).expect_err("a bad filter").to_string();
            assert!(message.len() < 1000);
        }
        assert!(serde_json::from_str::<Filter>(r#"{"a": {"b": 1}}"#).is_err());
        assert!(serde_json::from_str::<Filter>(r#"{"a": 1}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| {
            let json = [r#"{"or": [{}, "#.repeat(depth), r#"{"a": 1}"#.to_owned(), "]}".repeat(depth)].concat();
            Filter::from_json(&json)
        };
        assert!(deep(MAX_DEPTH).is_ok());
        for depth in [MAX_DEPTH + 1, 100, 100_000] {
            assert!(deep(depth).expect_err("too deep").to_string().contains("32"));
        }
    }

    #[test]
    fn whether_a_field_is_asked_for() {
        for json in ["{}", r#"{"and": []}"#, r#"{"not": {"or": [{}, {"and": [{}]}]}}"#] {
            assert!(Filter::from_json(json).expect("a filter").is_empty());
        }
        assert!(!Filter::from_json(r#"{"not": {"a": 1}}"#).expect("a filter").is_empty());
    }
}
