//! The values that a path leads to in the metadata of a segment's documents, sorted: built when somebody first asks.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use roaring::{RoaringBitmap, RoaringTreemap};
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::scalar::Scalar;
use crate::error::{Error, Result};
use crate::parallel::Execution;

/// Documents whose metadata are read between two looks at whether to stop.
const STEP_DOCUMENTS: u32 = 1024;

/// The fields of a segment.
///
/// Nobody waits for anybody here: a forked child would wait for ever for a thread that it does not have. Two threads that
/// ask for a new path at once both build it.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    known: ArcSwap<HashMap<String, Arc<FieldValues>>>,
}

/// The values that one path leads to, ascending, each with its documents, ascending.
#[derive(Debug, Default)]
pub(crate) struct FieldValues {
    values: Vec<Scalar>,
    /// Where the documents of each value begin, `[values + 1]`.
    offsets: Vec<usize>,
    documents: Vec<u32>,
    /// Documents that have the field, whatever is in it.
    present: RoaringBitmap,
    /// Those of them in which it is or holds null.
    null: RoaringBitmap,
    /// Places in `documents` of values that are not the first of their document.
    later: RoaringTreemap,
    /// For each document the place of its first value in `values`, or one beyond all; made when somebody first asks.
    first: ArcSwapOption<Vec<usize>>,
}

/// An operator that compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Fields {
    /// The fields of `paths`. Those that have not been asked for before are built, all in one pass over `metadata`;
    /// `corrupt` makes an error of what is wrong with that.
    pub(crate) fn get<'p, S: AsRef<str>>(
        &self,
        paths: &BTreeSet<&'p str>,
        documents: u32,
        metadata: impl Fn(u32) -> Result<Option<S>>,
        corrupt: impl Fn(String) -> Error,
        execution: &Execution,
    ) -> Result<HashMap<&'p str, Arc<FieldValues>>> {
        let known = self.known.load();
        let (mut fields, mut new) = (HashMap::with_capacity(paths.len()), Vec::new());
        for &path in paths {
            match known.get(path) {
                Some(field) => drop(fields.insert(path, Arc::clone(field))),
                None => new.push(path),
            }
        }
        if new.is_empty() {
            return Ok(fields);
        }
        let built = build(&new, documents, metadata, corrupt, execution)?;
        let built: Vec<_> = new.into_iter().zip(built.into_iter().map(Arc::new)).collect();
        // Paths that no document has, of which there is no end, are not kept.
        let kept: Vec<_> = built.iter().filter(|(_, field)| !field.present.is_empty()).collect();
        if !kept.is_empty() {
            self.known.rcu(|known| {
                let mut known = HashMap::clone(known);
                known.extend(kept.iter().map(|(path, field)| ((*path).to_owned(), Arc::clone(field))));
                known
            });
        }
        fields.extend(built);
        Ok(fields)
    }
}

impl FieldValues {
    /// Values alone, in any order, for what asks for no documents.
    pub(crate) fn of(values: Vec<Scalar>) -> Self {
        Self { values, ..Self::default() }
    }

    /// Documents that have the field, whatever is in it.
    pub(crate) fn present(&self) -> &RoaringBitmap {
        &self.present
    }

    /// Documents in which the field is or holds null.
    pub(crate) fn null(&self) -> &RoaringBitmap {
        &self.null
    }

    /// Documents that hold `wanted`; null is not among the values.
    pub(crate) fn equal(&self, wanted: &Scalar) -> &[u32] {
        let start = self.values.partition_point(|value| value.order(wanted).is_lt());
        let end = self.values.partition_point(|value| value.order(wanted).is_le());
        self.between(start, end)
    }

    /// Documents that hold a text which begins with `prefix`; one may be there several times.
    pub(crate) fn beginning_with(&self, prefix: &str) -> &[u32] {
        let bound = Scalar::Text(prefix.to_owned());
        let start = self.values.partition_point(|value| value.order(&bound).is_lt());
        let begins = |value: &Scalar| matches!(value, Scalar::Text(text) if text.starts_with(prefix));
        let length = self.values[start..].partition_point(begins);
        self.between(start, start + length)
    }

    /// Documents that hold a value of the kind of `bound` on the asked side of it; one may be there several times.
    pub(crate) fn compared(&self, comparison: Comparison, bound: &Scalar) -> &[u32] {
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

    /// The value at a place that [`Self::first`] tells.
    pub(crate) fn value(&self, place: usize) -> Option<&Scalar> {
        self.values.get(place)
    }

    /// The place of each document's first value: null and objects are none, and a list stands for its elements. Documents
    /// behind the last that has one are left out.
    pub(crate) fn first(&self) -> Arc<Vec<usize>> {
        if let Some(known) = self.first.load_full() {
            return known;
        }
        let documents = self.documents.iter().max().map_or(0, |&last| last as usize + 1);
        let mut first = vec![usize::MAX; documents];
        for value in 0..self.values.len() {
            for place in self.offsets[value]..self.offsets[value + 1] {
                if !self.later.contains(place as u64) {
                    first[self.documents[place] as usize] = value;
                }
            }
        }
        let first = Arc::new(first);
        self.first.store(Some(Arc::clone(&first)));
        first
    }

    /// Documents of the values `start..end`.
    fn between(&self, start: usize, end: usize) -> &[u32] {
        &self.documents[self.offsets[start]..self.offsets[end]]
    }
}

/// What is found of one path, before it is sorted.
#[derive(Default)]
struct Found {
    /// A value, its document, and whether that has another before.
    pairs: Vec<(Scalar, u32, bool)>,
    present: RoaringBitmap,
    null: RoaringBitmap,
}

impl Found {
    /// Notes what the path leads to in a document. A list stands for its elements, and objects have no value.
    fn note(&mut self, value: &Value, document: u32) {
        match value {
            Value::Array(elements) => elements.iter().for_each(|element| self.note(element, document)),
            Value::Null => {
                self.null.insert(document);
            }
            value => {
                let later = self.pairs.last().is_some_and(|&(_, last, _)| last == document);
                self.pairs.extend(Scalar::from_json(value).map(|scalar| (scalar, document, later)));
            }
        }
    }

    fn sorted(mut self) -> FieldValues {
        self.pairs.sort_by(|one, other| one.0.order(&other.0).then((one.1, one.2).cmp(&(other.1, other.2))));
        self.pairs.dedup_by(|one, kept| (&one.0, one.1) == (&kept.0, kept.1));
        let mut field =
            FieldValues { offsets: vec![0], present: self.present, null: self.null, ..FieldValues::default() };
        for (value, document, later) in self.pairs {
            if later {
                field.later.insert(field.documents.len() as u64);
            }
            if field.values.last() != Some(&value) {
                field.values.push(value);
                field.offsets.push(field.documents.len());
            }
            field.documents.push(document);
            if let Some(end) = field.offsets.last_mut() {
                *end = field.documents.len();
            }
        }
        field
    }
}

/// The field of each of `paths`, which ascend.
fn build<S: AsRef<str>>(
    paths: &[&str],
    documents: u32,
    metadata: impl Fn(u32) -> Result<Option<S>>,
    corrupt: impl Fn(String) -> Error,
    execution: &Execution,
) -> Result<Vec<FieldValues>> {
    let mut found: Vec<Found> = paths.iter().map(|_| Found::default()).collect();
    for document in 0..documents {
        if document.is_multiple_of(STEP_DOCUMENTS) {
            execution.check()?;
        }
        let Some(json) = metadata(document)? else { continue };
        let fields = pick(json.as_ref(), paths)
            .map_err(|error| corrupt(format!("that of document {document} is no JSON object: {error}")))?;
        for (name, value) in &fields {
            for (at, rest) in after_each(paths, name) {
                follow(value, rest, &mut |value| {
                    found[at].present.insert(document);
                    found[at].note(value, document);
                });
            }
        }
    }
    let sorted = found.into_iter().map(|found| {
        execution.check()?;
        Ok(found.sorted())
    });
    sorted.collect()
}

/// Gives `found` all values to which `rest`, what is left of a path behind a name, leads from the value of that name.
///
/// Names may have dots themselves, so each name is taken off the path as a whole. A list leads where its elements do.
fn follow(value: &Value, rest: &str, found: &mut impl FnMut(&Value)) {
    let Some(path) = rest.strip_prefix('.') else { return found(value) };
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| follow(element, rest, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(rest) = after(path, name) {
                    follow(value, rest, found);
                }
            }
        }
        _ => {}
    }
}

/// What is left of a path that begins with a name: nothing, or a dot and names.
fn after<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    path.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Those of `paths`, which ascend, that begin with a name, by position, and what is left of each.
fn after_each<'p>(paths: &[&'p str], name: &str) -> impl Iterator<Item = (usize, &'p str)> {
    let first = paths.partition_point(|&path| path < name);
    let beginning = paths[first..].iter().take_while(move |path| path.starts_with(name));
    beginning.enumerate().filter_map(move |(at, path)| Some((first + at, after(path, name)?)))
}

/// The fields of a JSON object that `paths`, which ascend, begin with; the others are passed over.
fn pick(json: &str, paths: &[&str]) -> serde_json::Result<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let fields = Pick(paths).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(fields)
}

struct Pick<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if after_each(self.0, &name).next().is_some() {
                // Of several fields of one name the last one counts, as everywhere in JSON.
                fields.insert(name.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_metadata_is_an_error() {
        let (fields, execution) = (Fields::default(), Execution::undisturbed());
        for json in ["{", "[]", "{} x", r#"{"a": }"#] {
            let found = fields.get(&BTreeSet::from(["a"]), 1, |_| Ok(Some(json)), Error::invalid, &execution);
            assert!(found.is_err(), "{json}");
        }
    }

    #[test]
    fn fields_are_built_once_and_only_kept_if_there_is_something() {
        let (fields, execution) = (Fields::default(), Execution::undisturbed());
        let get = |paths: &[&str], json| {
            let paths = paths.iter().copied().collect();
            let found = fields.get(&paths, 1, |_| Ok(Some(json)), Error::invalid, &execution).expect("JSON");
            assert_eq!(found.len(), paths.len());
        };
        get(&["a", "a.b", "c"], r#"{"a": {"b": []}}"#);
        get(&["a", "a.b"], "no JSON: it is not read again");
        let known: BTreeSet<String> = fields.known.load().keys().cloned().collect();
        assert_eq!(known, BTreeSet::from(["a".to_owned(), "a.b".to_owned()]));
    }

    #[test]
    fn building_can_be_interrupted() {
        let execution = Execution::undisturbed();
        execution.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let found = Fields::default().get(&BTreeSet::from(["a"]), 1, |_| Ok(None::<&str>), Error::invalid, &execution);
        assert!(matches!(found, Err(Error::Interrupted)));
    }
}
