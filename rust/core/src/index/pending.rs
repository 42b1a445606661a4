//! Documents that a writer holds in memory until they fill a segment.

use std::collections::HashMap;

use half::f16;
use half::slice::HalfFloatSliceExt;
use roaring::RoaringBitmap;

use super::batch::Batch;
use super::columns::{Buffers, Column};
use super::filter::{Fields, Filter};
use super::metadata::Changes;
use super::segment::{BFLOAT16, are_finite};
use super::segment_writer::{Source, append_cells};
use crate::codec::EncodedTokens;
use crate::error::{Error, Result};
use crate::ids::{Id, IdKind};
use crate::parallel::Execution;

/// Documents in memory: the first as codes, those behind them as vectors that wait to be encoded.
#[derive(Debug)]
pub(super) struct Pending {
    /// Ordinals of those that are not deleted.
    places: HashMap<Id, u32>,
    columns: Buffers,
    offsets: Vec<u64>,
    /// `[tokens, dim]`, of the documents that wait.
    vectors: Vec<f32>,
    codes: Vec<u8>,
    gains: Vec<u16>,
    centroids: Vec<u16>,
    cell_offsets: Vec<u32>,
    cells: Vec<u16>,
    /// The same vectors in float16, if they are to be kept.
    kept: Option<Vec<f16>>,
    /// Metadata that were changed after the documents came in.
    changes: Changes,
    dead: RoaringBitmap,
}

impl Pending {
    /// None yet; `keeps` tells whether their vectors are kept beside the codes.
    pub(super) fn new(keeps: bool) -> Self {
        Self {
            places: HashMap::new(),
            columns: Buffers::default(),
            offsets: vec![0],
            vectors: Vec::new(),
            codes: Vec::new(),
            gains: Vec::new(),
            centroids: Vec::new(),
            cell_offsets: vec![0],
            cells: Vec::new(),
            kept: keeps.then(Vec::new),
            changes: Changes::default(),
            dead: RoaringBitmap::new(),
        }
    }

    /// Documents, deleted ones included.
    pub(super) fn documents(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Documents that are not deleted.
    pub(super) fn living(&self) -> usize {
        self.places.len()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Bytes of codes, kept vectors, texts and metadata.
    pub(super) fn bytes(&self) -> usize {
        let kept = self.kept.as_ref().map_or(0, |kept| size_of_val(&kept[..]));
        self.codes.len() + kept + self.columns.bytes() + self.changes.bytes()
    }

    /// Documents that are encoded: all but the last ones, which wait.
    pub(super) fn encoded(&self) -> usize {
        self.cell_offsets.len() - 1
    }

    /// Vectors of the documents that wait, `[tokens, dim]`.
    pub(super) fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    pub(super) fn find(&self, id: &Id) -> Option<u32> {
        self.places.get(id).copied()
    }

    pub(super) fn delete(&mut self, id: &Id) {
        if let Some(ordinal) = self.places.remove(id) {
            self.dead.insert(ordinal);
        }
    }

    /// Documents that the filter lets through and that are not deleted.
    pub(super) fn matching(&self, filter: &Filter, execution: &Execution) -> Result<RoaringBitmap> {
        let metadata = |ordinal: u32| Ok(self.metadata(ordinal));
        let documents = self.documents() as u32;
        let fields = Fields::default().get(&filter.paths(), documents, metadata, Error::invalid, execution)?;
        let mut living = RoaringBitmap::new();
        living.insert_range(0..documents);
        filter.matching(&fields, &(living - &self.dead), execution)
    }

    /// The metadata of a document.
    pub(super) fn metadata(&self, ordinal: u32) -> Option<&str> {
        self.changes.get(ordinal).or_else(|| {
            // It was text when it came in, empty where there was none.
            let json = std::str::from_utf8(self.columns.string(Column::Metadata, ordinal as usize));
            json.ok().filter(|json| !json.is_empty())
        })
    }

    pub(super) fn set_metadata(&mut self, ordinal: u32, json: String) {
        self.changes.insert(ordinal, json);
    }

    /// Deletes documents by their ordinals.
    pub(super) fn delete_all(&mut self, ordinals: &RoaringBitmap, id_kind: IdKind) {
        for ordinal in ordinals {
            self.delete(&self.id(id_kind, ordinal as usize));
        }
    }

    /// Appends documents, whose ids must be new, as vectors or, if none wait, with `encoded` as codes.
    pub(super) fn push(&mut self, batch: Batch<'_>, encoded: Option<EncodedTokens>) {
        let first = self.documents();
        for item in 0..batch.ids.len() {
            self.columns.push(|column| batch.value(column, item));
            self.offsets.push(self.tokens() + batch.tokens.item_tokens(item) as u64);
        }
        self.places.extend(batch.ids.into_iter().zip(first as u32..));
        if let Some(kept) = &mut self.kept {
            let before = kept.len();
            kept.resize(before + batch.tokens.values().len(), f16::ZERO);
            kept[before..].convert_from_f32_slice(batch.tokens.values());
        }
        match encoded {
            Some(encoded) => self.push_codes(encoded),
            None => self.vectors.extend_from_slice(batch.tokens.values()),
        }
    }

    /// Sees that codes of the documents that wait can be held.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the document.
    pub(super) fn check_codes(&self, encoded: &EncodedTokens, id_kind: IdKind) -> Result<()> {
        let first = self.encoded();
        let lengths = self.offsets[first..].windows(2).map(|ends| (ends[1] - ends[0]) as usize);
        check_gains(&encoded.gains, lengths, |item| self.id(id_kind, first + item).to_string())
    }

    /// Puts codes in the place of the vectors that wait.
    pub(super) fn replace_vectors(&mut self, encoded: EncodedTokens) {
        self.vectors = Vec::new();
        self.push_codes(encoded);
    }

    fn push_codes(&mut self, encoded: EncodedTokens) {
        let offsets = &self.offsets[self.encoded()..];
        append_cells(offsets, &encoded.centroids, &mut self.cell_offsets, &mut self.cells);
        append(&mut self.codes, encoded.codes);
        append(&mut self.gains, encoded.gains);
        append(&mut self.centroids, encoded.centroids);
    }

    fn id(&self, kind: IdKind, document: usize) -> Id {
        let column = Column::of_ids(kind);
        match kind {
            IdKind::Int => Id::Int(self.columns.integer(column, document).unwrap_or_default()),
            IdKind::Str => Id::Str(String::from_utf8_lossy(self.columns.string(column, document)).into_owned()),
        }
    }

    /// All documents, for a new segment.
    pub(super) fn source(&self, residual: bool) -> Source<'_> {
        Source {
            offsets: &self.offsets,
            codes: &self.codes,
            gains: &self.gains,
            centroids: &self.centroids,
            cell_offsets: if residual { &self.cell_offsets } else { &[] },
            cells: &self.cells,
            vectors: self.kept.as_deref().unwrap_or_default().reinterpret_cast(),
            fdes: None,
            columns: self.columns.views(),
            metadata: self.changes.iter().collect(),
            dead: &self.dead,
        }
    }
}

/// Vectors of finite numbers may still be so long that their gains are not; `name` is that of a document's id.
pub(super) fn check_gains(
    gains: &[u16],
    lengths: impl Iterator<Item = usize>,
    name: impl Fn(usize) -> String,
) -> Result<()> {
    let mut rest = gains;
    for (item, tokens) in lengths.enumerate() {
        let (own, others) = rest.split_at(tokens.min(rest.len()));
        if !are_finite(own, BFLOAT16) {
            let id = name(item);
            return Err(Error::invalid(format!("document {id} has a token vector too long to be held; normalise it")));
        }
        rest = others;
    }
    Ok(())
}

fn append<T>(to: &mut Vec<T>, mut from: Vec<T>) {
    if to.is_empty() {
        *to = from;
    } else {
        to.append(&mut from);
    }
}
