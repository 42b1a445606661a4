//! What documents are grouped by: the first value of one field of their metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::documents::Location;
use super::filter::{self, FieldValues, Scalar};
use super::metadata::Layer;
use super::snapshot::Snapshot;
use crate::error::Result;
use crate::parallel::Execution;

/// The groups that the values of a metadata field make of a snapshot's documents.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Of each segment the newest layer first, and the segment itself last.
    segments: Vec<Vec<Values>>,
}

/// The values of the field in a layer, or in a segment as it was written.
#[derive(Debug)]
struct Values {
    layer: Option<Arc<Layer>>,
    field: Arc<FieldValues>,
    first: Arc<Vec<usize>>,
}

impl Values {
    fn new(layer: Option<Arc<Layer>>, field: Arc<FieldValues>) -> Self {
        let first = field.first();
        Self { layer, field, first }
    }

    /// Where a document stands here, if this says what its metadata are.
    fn position(&self, ordinal: u32) -> Option<usize> {
        self.layer.as_ref().map_or(Some(ordinal as usize), |layer| layer.position(ordinal))
    }
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
            let paths = BTreeSet::from([path]);
            let mut values = Vec::with_capacity(segment.layers().len() + 1);
            for layer in segment.layers().iter().rev() {
                let fields = layer.fields(&paths, execution)?;
                values.extend(fields.into_values().map(|field| Values::new(Some(Arc::clone(layer)), field)));
            }
            let fields = segment.own_fields(&paths, execution)?;
            values.extend(fields.into_values().map(|field| Values::new(None, field)));
            segments.push(values);
        }
        Ok(Self { segments })
    }

    /// The groups of documents of one segment that [`Snapshot::group_names`] has named, in their order.
    pub(crate) fn named(names: &[Option<String>]) -> Self {
        let first = names.iter().enumerate().map(|(at, name)| if name.is_some() { at } else { usize::MAX }).collect();
        let texts = names.iter().map(|name| Scalar::Text(name.clone().unwrap_or_default())).collect();
        let values = Values { layer: None, field: Arc::new(FieldValues::of(texts)), first: Arc::new(first) };
        Self { segments: vec![vec![values]] }
    }

    /// The group of a document.
    pub(crate) fn of(&self, at: Location) -> Group<'_> {
        let values = &self.segments[at.segment as usize];
        let value = values.iter().find_map(|values| {
            let position = values.position(at.ordinal)?;
            Some(values.first.get(position).and_then(|&place| values.field.value(place)))
        });
        value.flatten().map_or(Group::Alone(at), Group::Value)
    }

    /// Whether every document is alone.
    pub(crate) fn is_trivial(&self) -> bool {
        self.segments.iter().flatten().all(|values| values.first.is_empty())
    }
}

impl Snapshot {
    /// The group of each of some documents by a field, which is named as in filters: the same text for the same value in any
    /// snapshot, and `None` for a document that is its own group.
    ///
    /// # Errors
    /// As [`Snapshot::matching`].
    pub fn group_names(
        &self,
        field: &str,
        documents: impl IntoIterator<Item = Location>,
        execution: &Execution,
    ) -> Result<Vec<Option<String>>> {
        let groups = Groups::new(self, field, execution)?;
        let name = |at| match groups.of(at) {
            Group::Value(value) => Some(value.to_string()),
            Group::Alone(_) => None,
        };
        Ok(documents.into_iter().map(name).collect())
    }
}
