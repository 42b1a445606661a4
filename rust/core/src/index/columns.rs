//! What is kept of each document besides its token vectors: the table of columns, and a column in each of its states.
//!
//! ```text
//! Value ─push→ Buffers, in memory ─┐
//!                                  ├─→ Views ─extend→ Joined ─sections→ file ─open→ Columns
//! Columns of older segments ───────┘
//! ```
//!
//! A new column is an entry of [`Column`], with its form and its sections, and what [`super::Batch`] puts into it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Map;

use super::strings::{StringBuffer, StringColumn, Strings, append_ends};
use crate::error::Result;
use crate::format::section::SectionKind;
use crate::format::{Container, SectionData};
use crate::ids::IdKind;
use crate::parallel::Execution;
use crate::storage::{Numbers, bytes_of};

/// Documents whose ids are looked at between two looks at whether to stop.
const STEP_DOCUMENTS: usize = 1 << 14;

/// A column: a value for each document of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Ids, where they are integers.
    IntegerIds,
    /// Ids, where they are strings.
    StringIds,
    /// Whether the document has a text, be it an empty one.
    TextPresent,
    /// Texts.
    Texts,
    /// Metadata, JSON objects; empty for a document without any.
    Metadata,
    /// Whether the encoder cut the text.
    TextTruncated,
}

/// How the values of a column lie in a file.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// An i64 for each document.
    Integers(SectionKind),
    /// A bit for each document; missing where all are 0.
    Flags(SectionKind),
    /// UTF-8 for each document: where each begins, and the bytes; missing where all are empty.
    Strings(SectionKind, SectionKind),
}

impl Column {
    /// Every column, in the order of their sections in a file.
    pub(crate) const ALL: [Self; 6] =
        [Self::IntegerIds, Self::StringIds, Self::TextPresent, Self::Texts, Self::Metadata, Self::TextTruncated];

    fn form(self) -> Form {
        match self {
            Self::IntegerIds => Form::Integers(SectionKind::IntegerIds),
            Self::StringIds => Form::Strings(SectionKind::StringIdOffsets, SectionKind::StringIds),
            Self::TextPresent => Form::Flags(SectionKind::TextPresent),
            Self::Texts => Form::Strings(SectionKind::TextOffsets, SectionKind::Texts),
            Self::Metadata => Form::Strings(SectionKind::MetadataOffsets, SectionKind::Metadata),
            Self::TextTruncated => Form::Flags(SectionKind::TextTruncated),
        }
    }

    /// The column that ids of this kind are in: the one that every segment has.
    pub(crate) fn of_ids(kind: IdKind) -> Self {
        match kind {
            IdKind::Int => Self::IntegerIds,
            IdKind::Str => Self::StringIds,
        }
    }

    /// The section that its values are in.
    pub(crate) fn section(self) -> SectionKind {
        match self.form() {
            Form::Integers(section) | Form::Flags(section) | Form::Strings(_, section) => section,
        }
    }

    /// What is wrong with a string of this column, if something is.
    pub(crate) fn problem(self, string: &[u8]) -> Option<&'static str> {
        let Ok(text) = std::str::from_utf8(string) else { return Some("is not UTF-8") };
        let is_object = || serde_json::from_str::<Map<String, serde_json::Value>>(text).is_ok();
        let sound = self != Self::Metadata || text.is_empty() || is_object();
        (!sound).then_some("is no JSON object")
    }
}

/// One document's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Integer(i64),
    Flag(bool),
    String(&'a [u8]),
}

/// The values of several documents.
#[derive(Clone, Copy, Debug)]
enum View<'a> {
    Integers(&'a [i64]),
    Flags(&'a [u8]),
    Strings(Strings<'a>),
}

/// The values of several documents in every column that there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Views<'a>([Option<View<'a>>; Column::ALL.len()]);

/// A column that grows.
#[derive(Clone, Debug)]
enum Buffer {
    Integers(Vec<i64>),
    Flags { bits: Vec<u8>, count: usize },
    Strings(StringBuffer),
}

/// The columns of documents in memory.
#[derive(Clone, Debug)]
pub(crate) struct Buffers([Buffer; Column::ALL.len()]);

impl Default for Buffers {
    fn default() -> Self {
        Self(Column::ALL.map(|column| match column.form() {
            Form::Integers(_) => Buffer::Integers(Vec::new()),
            Form::Flags(_) => Buffer::Flags { bits: Vec::new(), count: 0 },
            Form::Strings(..) => Buffer::Strings(StringBuffer::default()),
        }))
    }
}

impl Buffers {
    /// Appends a document: its value in each column, `None` for that of ids of another kind.
    pub(crate) fn push<'a>(&mut self, value: impl Fn(Column) -> Option<Value<'a>>) {
        for (column, buffer) in Column::ALL.into_iter().zip(&mut self.0) {
            match (buffer, value(column)) {
                (Buffer::Integers(integers), Some(Value::Integer(integer))) => integers.push(integer),
                (Buffer::Flags { bits, count }, Some(Value::Flag(flag))) => {
                    bits.resize(*count / 8 + 1, 0);
                    bits[*count / 8] |= u8::from(flag) << (*count % 8);
                    *count += 1;
                }
                (Buffer::Strings(strings), Some(Value::String(string))) => strings.push(string),
                _ => {}
            }
        }
    }

    /// The id of a document.
    pub(crate) fn integer(&self, column: Column, document: usize) -> Option<i64> {
        match &self.0[column as usize] {
            Buffer::Integers(integers) => integers.get(document).copied(),
            _ => None,
        }
    }

    /// A document's string; empty if there is none.
    pub(crate) fn string(&self, column: Column, document: usize) -> &[u8] {
        match &self.0[column as usize] {
            Buffer::Strings(strings) => strings.view().get(document),
            _ => &[],
        }
    }

    /// Bytes of all strings.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|buffer| if let Buffer::Strings(strings) = buffer { strings.bytes() } else { 0 }).sum()
    }

    pub(crate) fn views(&self) -> Views<'_> {
        let mut views = [None; Column::ALL.len()];
        for (view, buffer) in views.iter_mut().zip(&self.0) {
            *view = match buffer {
                Buffer::Integers(integers) => (!integers.is_empty()).then_some(View::Integers(integers)),
                Buffer::Flags { bits, .. } => (!bits.is_empty()).then_some(View::Flags(bits)),
                Buffer::Strings(strings) => (!strings.is_empty()).then_some(View::Strings(strings.view())),
            };
        }
        Views(views)
    }
}

/// A column of several runs of documents, laid behind each other.
#[derive(Debug)]
enum JoinedColumn<'a> {
    Integers(Vec<&'a [i64]>),
    Flags { bits: Vec<u8>, count: usize },
    Strings { offsets: Vec<u64>, pieces: Vec<&'a [u8]> },
}

impl<'a> JoinedColumn<'a> {
    /// Appends the values of `run`, or none, which are 0 or empty; `None` if the offsets of strings lead out of them.
    fn extend(&mut self, view: Option<View<'a>>, run: &Range<usize>) -> Option<()> {
        match (self, view) {
            (Self::Integers(pieces), Some(View::Integers(integers))) => pieces.push(integers.get(run.clone())?),
            // No ids of this kind.
            (Self::Integers(_), _) => {}
            (Self::Flags { bits, count }, view) => {
                let from = if let Some(View::Flags(from)) = view { from } else { &[] };
                copy_bits(bits, *count, from, run);
                *count += run.len();
            }
            (Self::Strings { offsets, pieces }, Some(View::Strings(strings))) => {
                let bytes = append_ends(offsets, strings.offsets.get(run.start..=run.end)?)?;
                pieces.push(strings.bytes.get(bytes)?);
            }
            (Self::Strings { offsets, .. }, _) => {
                let end = offsets.last().copied().unwrap_or_default();
                offsets.resize(offsets.len() + run.len(), end);
            }
        }
        Some(())
    }

    /// Appends a string.
    fn push(&mut self, string: &'a [u8]) {
        if let Self::Strings { offsets, pieces } = self {
            offsets.push(offsets.last().copied().unwrap_or_default() + string.len() as u64);
            pieces.push(string);
        }
    }
}

/// The columns of a new segment: several runs of documents behind each other.
#[derive(Debug)]
pub(crate) struct Joined<'a>([JoinedColumn<'a>; Column::ALL.len()]);

impl Default for Joined<'_> {
    fn default() -> Self {
        Self(Column::ALL.map(|column| match column.form() {
            Form::Integers(_) => JoinedColumn::Integers(Vec::new()),
            Form::Flags(_) => JoinedColumn::Flags { bits: Vec::new(), count: 0 },
            Form::Strings(..) => JoinedColumn::Strings { offsets: vec![0], pieces: Vec::new() },
        }))
    }
}

impl<'a> Joined<'a> {
    /// Appends the documents of `run`, those in `metadata` with these; `None` if the offsets of strings lead out of them.
    pub(crate) fn extend(
        &mut self,
        views: &Views<'a>,
        run: &Range<usize>,
        metadata: &BTreeMap<u32, &'a [u8]>,
    ) -> Option<()> {
        for (column, (joined, view)) in Column::ALL.into_iter().zip(self.0.iter_mut().zip(views.0)) {
            if column == Column::Metadata {
                let mut start = run.start;
                for (&changed, json) in metadata.range(run.start as u32..run.end as u32) {
                    joined.extend(view, &(start..changed as usize))?;
                    joined.push(json);
                    start = changed as usize + 1;
                }
                joined.extend(view, &(start..run.end))?;
            } else {
                joined.extend(view, run)?;
            }
        }
        Some(())
    }

    /// All integers of a column.
    pub(crate) fn integers(&self, column: Column) -> impl Iterator<Item = i64> {
        let pieces =
            if let JoinedColumn::Integers(pieces) = &self.0[column as usize] { pieces.as_slice() } else { &[] };
        pieces.iter().copied().flatten().copied()
    }

    /// Where the strings of a column begin, and their bytes in one piece.
    pub(crate) fn strings(&self, column: Column) -> (&[u64], Vec<u8>) {
        match &self.0[column as usize] {
            JoinedColumn::Strings { offsets, pieces } => (offsets, pieces.concat()),
            _ => (&[], Vec::new()),
        }
    }

    /// The sections of a column, none if it holds nothing and is not `required`.
    pub(crate) fn sections(&'a self, column: Column, required: bool) -> Vec<SectionData<'a>> {
        match (column.form(), &self.0[column as usize]) {
            (Form::Integers(section), JoinedColumn::Integers(pieces)) if required || !pieces.is_empty() => {
                vec![SectionData { kind: section, pieces: pieces.iter().map(|piece| bytes_of(piece)).collect() }]
            }
            (Form::Flags(section), JoinedColumn::Flags { bits, .. })
                if required || bits.iter().any(|&byte| byte != 0) =>
            {
                vec![SectionData::new(section, bits)]
            }
            (Form::Strings(first, second), JoinedColumn::Strings { offsets, pieces })
                if required || offsets.last() > Some(&0) =>
            {
                let bytes = SectionData { kind: second, pieces: pieces.clone() };
                vec![SectionData::new(first, bytes_of(offsets)), bytes]
            }
            _ => Vec::new(),
        }
    }
}

/// Appends the bits of `run` to the `count` that are in `to`; zeros where there are none.
fn copy_bits(to: &mut Vec<u8>, count: usize, from: &[u8], run: &Range<usize>) {
    to.resize((count + run.len()).div_ceil(8), 0);
    for (at, bit) in (count..).zip(run.clone()) {
        to[at / 8] |= (from.get(bit / 8).copied().unwrap_or_default() >> (bit % 8) & 1) << (at % 8);
    }
}

/// A column in a file.
#[derive(Debug)]
enum StoredColumn {
    Integers(Numbers<i64>),
    Flags(Numbers<u8>),
    Strings(StringColumn),
}

/// The columns of an open segment.
#[derive(Debug)]
pub(crate) struct Columns([Option<StoredColumn>; Column::ALL.len()]);

impl Columns {
    /// Opens the columns that the file has. That of the ids must be there, and all ids must be UTF-8; other strings are
    /// looked at when they are read.
    pub(crate) fn open(container: &Container, documents: usize, ids: IdKind, execution: &Execution) -> Result<Self> {
        let mut columns = Self([const { None }; Column::ALL.len()]);
        for (column, stored) in Column::ALL.into_iter().zip(&mut columns.0) {
            *stored = open(container, column, documents, execution)?;
        }
        let column = Column::of_ids(ids);
        let corrupt = |problem: &str| container.corrupt(column.section().name(), problem);
        match &columns.0[column as usize] {
            None => return Err(corrupt("the section is missing")),
            Some(StoredColumn::Strings(ids)) => {
                let ids = ids.verified(execution)?;
                for document in 0..documents {
                    if document.is_multiple_of(STEP_DOCUMENTS) {
                        execution.check()?;
                    }
                    if std::str::from_utf8(ids.get(document)).is_err() {
                        return Err(corrupt("an id is not UTF-8"));
                    }
                }
            }
            Some(_) => {}
        }
        Ok(columns)
    }

    /// Whether any document has a value here that is not 0 or empty.
    pub(crate) fn has(&self, column: Column) -> bool {
        self.0[column as usize].is_some()
    }

    /// A document's integer, if there is one.
    pub(crate) fn integer(&self, column: Column, document: usize) -> Option<i64> {
        match &self.0[column as usize] {
            Some(StoredColumn::Integers(integers)) => integers.get(document).copied(),
            _ => None,
        }
    }

    /// A document's flag; false if there is none.
    pub(crate) fn flag(&self, column: Column, document: usize) -> bool {
        match &self.0[column as usize] {
            Some(StoredColumn::Flags(bits)) => {
                bits.get(document / 8).is_some_and(|byte| byte >> (document % 8) & 1 == 1)
            }
            _ => false,
        }
    }

    /// A document's string; empty if there is none.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub(crate) fn string(&self, column: Column, document: usize) -> Result<&[u8]> {
        match &self.0[column as usize] {
            Some(StoredColumn::Strings(strings)) => strings.get(document),
            _ => Ok(&[]),
        }
    }

    /// All values, for a caller that has verified the file.
    pub(crate) fn as_they_are(&self) -> Views<'_> {
        let mut views = [None; Column::ALL.len()];
        for (view, stored) in views.iter_mut().zip(&self.0) {
            *view = stored.as_ref().map(|stored| match stored {
                StoredColumn::Integers(integers) => View::Integers(integers),
                StoredColumn::Flags(bits) => View::Flags(bits),
                StoredColumn::Strings(strings) => View::Strings(strings.as_they_are()),
            });
        }
        Views(views)
    }
}

fn open(
    container: &Container,
    column: Column,
    documents: usize,
    execution: &Execution,
) -> Result<Option<StoredColumn>> {
    let check = |length: usize, expected: usize| {
        let problem = "its length is not that of the documents";
        if length == expected { Ok(()) } else { Err(container.corrupt(column.section().name(), problem)) }
    };
    Ok(match column.form() {
        Form::Integers(section) => {
            let integers = container.optional(section, execution)?;
            integers.as_ref().map_or(Ok(()), |integers: &Numbers<i64>| check(integers.len(), documents))?;
            integers.map(StoredColumn::Integers)
        }
        Form::Flags(section) => {
            let bits = container.optional(section, execution)?;
            bits.as_ref().map_or(Ok(()), |bits: &Numbers<u8>| check(bits.len(), documents.div_ceil(8)))?;
            bits.map(StoredColumn::Flags)
        }
        Form::Strings(offsets, bytes) => {
            StringColumn::open(container, offsets, bytes, documents, execution)?.map(StoredColumn::Strings)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_column_once() {
        for (position, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, position);
            assert!(Column::ALL[..position].iter().all(|other| other.section() != column.section()));
            assert!(column.section().optional() || [IdKind::Int, IdKind::Str].map(Column::of_ids).contains(&column));
        }
    }

    #[test]
    fn values_survive_their_way_into_a_segment() {
        let mut buffers = Buffers::default();
        for number in 0..21_u8 {
            let text = format!("{number}").repeat(usize::from(number % 3));
            buffers.push(|column| match column {
                Column::IntegerIds => Some(Value::Integer(i64::from(number))),
                Column::StringIds => None,
                Column::TextPresent => Some(Value::Flag(number % 3 == 1)),
                Column::TextTruncated => Some(Value::Flag(false)),
                Column::Texts => Some(Value::String(text.as_bytes())),
                Column::Metadata => Some(Value::String(b"")),
            });
        }
        let (views, mut joined) = (buffers.views(), Joined::default());
        let changed =
            BTreeMap::from([(5, b"left out".as_slice()), (7, b"first"), (9, b""), (17, b"last"), (20, b"one")]);
        for run in [3..4, 7..18, 20..21] {
            joined.extend(&views, &run, &changed).expect("inside");
        }
        let kept: Vec<u8> = (3..4).chain(7..18).chain(20..21).collect();
        assert!(joined.integers(Column::IntegerIds).eq(kept.iter().map(|&number| i64::from(number))));
        let (offsets, bytes) = joined.strings(Column::Texts);
        let texts = Strings { offsets, bytes: &bytes };
        for (document, number) in kept.iter().enumerate() {
            assert_eq!(texts.get(document), format!("{number}").repeat(usize::from(number % 3)).as_bytes());
        }
        let (offsets, bytes) = joined.strings(Column::Metadata);
        let metadata = Strings { offsets, bytes: &bytes };
        for (document, &number) in kept.iter().enumerate() {
            assert_eq!(
                metadata.get(document),
                changed.get(&u32::from(number)).copied().unwrap_or_default(),
                "{number}"
            );
        }
        let JoinedColumn::Flags { bits, count } = &joined.0[Column::TextPresent as usize] else { panic!("flags") };
        assert_eq!(*count, kept.len());
        for (document, number) in kept.iter().enumerate() {
            assert_eq!(bits[document / 8] >> (document % 8) & 1 == 1, number % 3 == 1);
        }
        let written = Column::ALL.map(|column| joined.sections(column, false).len());
        assert_eq!(written, [1, 0, 1, 2, 2, 0], "what holds nothing is left out");
        assert_eq!(joined.sections(Column::TextTruncated, true).len(), 1);
    }
}
