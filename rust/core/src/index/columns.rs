//! One field of the metadata of a segment's documents, sorted by value: built when a filter first asks for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use roaring::RoaringBitmap;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::filter::{Comparison, Scalar};
use crate::error::{Error, Result};

/// The columns of a segment.
///
/// Nobody waits for anybody here: a forked child would wait for ever for a thread that it does not have. Two threads that
/// ask for a new field at once both build it.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    fields: ArcSwap<HashMap<String, Arc<Column>>>,
}

/// The values of one field, ascending, each with its documents, ascending.
#[derive(Debug, Default)]
pub(crate) struct Column {
    values: Vec<Scalar>,
    /// Where the documents of each value begin, `[values + 1]`.
    offsets: Vec<usize>,
    documents: Vec<u32>,
    /// Documents without the field, and those in which it is or holds null.
    null: RoaringBitmap,
    /// Documents in which the field is an object, or an array that holds one or another array.
    nested: RoaringBitmap,
}

impl Columns {
    /// The column of a field, built from `metadata` if it has not been asked for before; `corrupt` makes an error of what
    /// is wrong with that.
    pub(crate) fn get<'a>(
        &self,
        field: &str,
        documents: u32,
        metadata: impl Fn(u32) -> Result<Option<&'a str>>,
        corrupt: impl Fn(String) -> Error,
    ) -> Result<Arc<Column>> {
        if let Some(known) = self.fields.load().get(field) {
            return Ok(Arc::clone(known));
        }
        let column = Arc::new(Column::build(field, documents, metadata, corrupt)?);
        // Names that no document has, of which there is no end, are not kept.
        if !column.values.is_empty() {
            self.fields.rcu(|fields| {
                let mut fields = HashMap::clone(fields);
                fields.insert(field.to_owned(), Arc::clone(&column));
                fields
            });
        }
        Ok(column)
    }
}

impl Column {
    fn build<'a>(
        field: &str,
        documents: u32,
        metadata: impl Fn(u32) -> Result<Option<&'a str>>,
        corrupt: impl Fn(String) -> Error,
    ) -> Result<Self> {
        let mut column = Self::default();
        let mut pairs: Vec<(Scalar, u32)> = Vec::new();
        for document in 0..documents {
            let value = metadata(document)?.map_or(Ok(None), |json| pick(json, field));
            let value =
                value.map_err(|error| corrupt(format!("that of document {document} is no JSON object: {error}")))?;
            match value {
                None | Some(Value::Null) => {
                    column.null.insert(document);
                }
                Some(Value::Object(_)) => {
                    column.nested.insert(document);
                }
                Some(Value::Array(elements)) => {
                    if elements.iter().any(|element| element.is_object() || element.is_array()) {
                        column.nested.insert(document);
                    }
                    pairs.extend(elements.iter().filter_map(Scalar::from_json).map(|scalar| (scalar, document)));
                }
                Some(value) => pairs.extend(Scalar::from_json(&value).map(|scalar| (scalar, document))),
            }
        }
        pairs.sort_by(|(one, first), (other, second)| one.order(other).then(first.cmp(second)));
        pairs.dedup();
        column.offsets.push(0);
        for (value, document) in pairs {
            if value == Scalar::Null {
                column.null.insert(document);
                continue;
            }
            if column.values.last() != Some(&value) {
                column.values.push(value);
                column.offsets.push(column.documents.len());
            }
            column.documents.push(document);
            if let Some(end) = column.offsets.last_mut() {
                *end = column.documents.len();
            }
        }
        Ok(column)
    }

    /// Whether a document that is not among `dead` holds a value other than null.
    pub(crate) fn holders_outside(&self, dead: &RoaringBitmap) -> bool {
        self.documents.iter().any(|&document| !dead.contains(document))
    }

    /// Documents in which the field is, or holds, what no filter compares.
    pub(crate) fn nested(&self) -> &RoaringBitmap {
        &self.nested
    }

    /// Documents that hold `wanted`.
    pub(crate) fn equal(&self, wanted: &Scalar) -> RoaringBitmap {
        if *wanted == Scalar::Null {
            return self.null.clone();
        }
        let start = self.values.partition_point(|value| value.order(wanted).is_lt());
        let end = self.values.partition_point(|value| value.order(wanted).is_le());
        self.between(start, end)
    }

    /// Documents that hold a value of the kind of `bound` on the asked side of it.
    pub(crate) fn compared(&self, comparison: Comparison, bound: &Scalar) -> RoaringBitmap {
        let first = self.values.partition_point(|value| value.rank() < bound.rank());
        let last = self.values.partition_point(|value| value.rank() <= bound.rank());
        let before = self.values.partition_point(|value| value.order(bound).is_lt());
        let behind = self.values.partition_point(|value| value.order(bound).is_le());
        match comparison {
            Comparison::Greater => self.between(behind, last),
            Comparison::GreaterOrEqual => self.between(before, last),
            Comparison::Less => self.between(first, before),
            Comparison::LessOrEqual => self.between(first, behind),
        }
    }

    /// Documents of the values `start..end`.
    fn between(&self, start: usize, end: usize) -> RoaringBitmap {
        self.documents[self.offsets[start]..self.offsets[end]].iter().copied().collect()
    }
}

/// The value of one field of a JSON object; the other fields are passed over.
fn pick(json: &str, field: &str) -> serde_json::Result<Option<Value>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = Pick(field).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

struct Pick<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::filter::Filter;

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

    fn matching(json: &str) -> Vec<u32> {
        let filter = Filter::from_json(json).expect("a filter");
        let columns = Columns::default();
        let mut all: RoaringBitmap = (0..8).collect();
        for (field, condition) in filter.conditions() {
            let column = columns.get(field, 8, |document| Ok(DOCUMENTS[document as usize]), Error::invalid);
            let column = column.expect("JSON");
            all &= condition.matching(&column, 8);
        }
        all.into_iter().collect()
    }

    #[test]
    fn equality() {
        assert_eq!(matching(r#"{"lang": "en"}"#), [0, 2, 6]);
        assert_eq!(matching(r#"{"lang": {"eq": "de"}}"#), [1]);
        assert_eq!(matching(r#"{"year": 2000}"#), [1]);
        assert_eq!(matching(r#"{"year": 9007199254740993}"#), [4]);
        assert_eq!(matching(r#"{"year": 9007199254740992}"#), [] as [u32; 0]);
        assert_eq!(matching(r#"{"ok": true}"#), [4]);
        assert_eq!(matching(r#"{"lang": null}"#), [3, 4, 7]);
        assert_eq!(matching(r#"{"tag": null}"#), [1, 4, 5, 6, 7]);
        assert_eq!(matching(r#"{"tag": "b"}"#), [0, 1]);
        assert_eq!(matching(r#"{"nowhere": 1}"#), [] as [u32; 0]);
        assert_eq!(matching(r#"{"nowhere": null}"#), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(matching("{}").len(), 8);
    }

    #[test]
    fn inequality_and_lists() {
        assert_eq!(matching(r#"{"lang": {"ne": "en"}}"#), [1, 3, 4, 5, 7]);
        assert_eq!(matching(r#"{"tag": {"ne": null}}"#), [0, 2, 3]);
        assert_eq!(matching(r#"{"tag": {"in": ["a", 7]}}"#), [0, 3]);
        assert_eq!(matching(r#"{"lang": ["de", null]}"#), [1, 3, 4, 7]);
        assert_eq!(matching(r#"{"lang": []}"#), [] as [u32; 0]);
    }

    #[test]
    fn ranges_keep_to_their_kind() {
        assert_eq!(matching(r#"{"year": {"gte": 2000, "lt": 2010}}"#), [1, 2]);
        assert_eq!(matching(r#"{"year": {"gt": 2000}}"#), [2, 4, 5]);
        assert_eq!(matching(r#"{"year": {"gt": 9007199254740992}}"#), [4, 5]);
        assert_eq!(matching(r#"{"year": {"lte": 1999.5}}"#), [0, 6]);
        assert_eq!(matching(r#"{"year": {"gte": "0"}}"#), [3]);
        assert_eq!(matching(r#"{"lang": {"gt": "de"}, "year": {"lt": 2000}}"#), [0, 6]);
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
        let json = |at: u32| Ok(Some(documents[at as usize].as_str()));
        let column = Column::build("n", documents.len() as u32, json, Error::invalid).expect("JSON");
        for &(row, number) in &written {
            for (operator, wanted) in [("eq", row..row + 1), ("lt", 0..row), ("gt", row + 1..NUMBERS.len())] {
                let filter = Filter::from_json(&format!("{{\"n\": {{\"{operator}\": {number}}}}}")).expect("a filter");
                let (_, condition) = filter.conditions().next().expect("one condition");
                let found = condition.matching(&column, documents.len() as u32);
                let rows: Vec<usize> = found.iter().map(|at| written[at as usize].0).collect();
                let expected: Vec<usize> =
                    written.iter().map(|&(row, _)| row).filter(|row| wanted.contains(row)).collect();
                assert_eq!(rows, expected, "{operator} {number}");
            }
        }
    }

    #[test]
    fn bad_filters_name_field_and_remedy() {
        for (json, words) in [
            (r#"{"year": {"above": 3}}"#, ["\"year\"", "\"above\"", "gte"]),
            (r#"{"year": {"gt": null}}"#, ["\"year\"", "gt", "number"]),
            (r#"{"year": {"eq": [1]}}"#, ["\"year\"", "eq", "string"]),
            (r#"{"year": {"in": 1}}"#, ["\"year\"", "in", "list"]),
            (r#"{"year": [[1]]}"#, ["\"year\"", "in", "list"]),
            ("[1]", ["object", "lang", "[1]"]),
            ("{", ["filter", "JSON", "EOF"]),
        ] {
            let message = Filter::from_json(json).expect_err("a bad filter").to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
        assert!(serde_json::from_str::<Filter>(r#"{"a": {"b": 1}}"#).is_err());
        assert!(serde_json::from_str::<Filter>(r#"{"a": 1}"#).is_ok());
    }

    #[test]
    fn broken_metadata_is_an_error() {
        let columns = Columns::default();
        assert!(columns.get("a", 1, |_| Ok(Some("{")), Error::invalid).is_err());
        assert!(columns.get("b", 1, |_| Ok(Some("[]")), Error::invalid).is_err());
    }
}
