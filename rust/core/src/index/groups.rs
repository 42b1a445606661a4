//! What documents are grouped by: the first value of one field of their metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::documents::Location;
use super::filter::{self, FieldValues, Scalar};
use super::snapshot::Snapshot;
use crate::error::Result;
use crate::parallel::Execution;

/// The groups that the values of a metadata field make of a snapshot's documents.
#[derive(Debug)]
pub(crate) struct Groups {
    segments: Vec<(Arc<FieldValues>, Arc<Vec<usize>>)>,
}

/// What all documents of one group have in common. Numbers are the same if their exact values are, `1` and `1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Group<'a> {
    /// The first value that the path leads to.
    Value(&'a Scalar),
    /// A document without a value is its own group.
    Alone(Location),
}

impl Groups {
    /// The groups by a field, which is named as in filters.
    ///
    /// # Errors
    /// As [`super::Segment::matching`].
    pub(crate) fn new(snapshot: &Snapshot, field: &str, execution: &Execution) -> Result<Self> {
        let path = filter::path(field);
        let mut segments = Vec::with_capacity(snapshot.segments.len());
        for segment in &snapshot.segments {
            let fields = segment.fields(&BTreeSet::from([path]), execution)?;
            segments.extend(fields.into_values().map(|field| {
                let first = field.first();
                (field, first)
            }));
        }
        Ok(Self { segments })
    }

    /// The group of a document.
    pub(crate) fn of(&self, at: Location) -> Group<'_> {
        let (field, first) = &self.segments[at.segment as usize];
        let value = first.get(at.ordinal as usize).and_then(|&place| field.value(place));
        value.map_or(Group::Alone(at), Group::Value)
    }

    /// Whether every document is alone.
    pub(crate) fn is_trivial(&self) -> bool {
        self.segments.iter().all(|(_, first)| first.is_empty())
    }
}
