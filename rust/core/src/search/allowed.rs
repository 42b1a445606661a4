//! Which documents a search may return: live, matching the filter, among the given ids.

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::ids::Id;
use crate::index::{Filter, Location, Snapshot};
use crate::parallel::Execution;

/// Documents that may be returned, by segment.
pub(super) struct Allowed {
    /// `None`: all live documents.
    chosen: Option<Vec<RoaringBitmap>>,
}

impl Allowed {
    /// The documents that the filter lets through, if there is one, and that are `named`, if some are.
    pub(super) fn new(
        snapshot: &Snapshot,
        filter: Option<&Filter>,
        named: Option<&[RoaringBitmap]>,
        execution: &Execution,
    ) -> Result<Self> {
        let matching = filter.map(|filter| snapshot.matching(filter, execution)).transpose()?;
        let chosen = match (matching, named) {
            (Some(matching), Some(named)) => Some(matching.iter().zip(named).map(|(a, b)| a & b).collect()),
            (matching, named) => matching.or_else(|| named.map(<[_]>::to_vec)),
        };
        Ok(Self { chosen })
    }

    /// The live documents of these ids, by segment; ids that the index does not have are passed over.
    pub(super) fn named(snapshot: &Snapshot, ids: &[Id]) -> Result<Vec<RoaringBitmap>> {
        let mut named = vec![RoaringBitmap::new(); snapshot.segments.len()];
        for id in ids {
            if let Some(at) = snapshot.look_up(id)? {
                named[at.segment as usize].insert(at.ordinal);
            }
        }
        Ok(named)
    }

    /// Documents of one segment that may be returned, ascending; documents without tokens never are.
    pub(super) fn ordinals<'a>(&'a self, snapshot: &'a Snapshot, segment: usize) -> Box<dyn Iterator<Item = u32> + 'a> {
        let part = &snapshot.segments[segment];
        let with_tokens = move |ordinal: &u32| !part.token_range(*ordinal).is_empty();
        match &self.chosen {
            Some(chosen) => Box::new(chosen[segment].iter().filter(with_tokens)),
            None if part.tombstones().is_empty() => Box::new((0..part.documents()).filter(with_tokens)),
            None => {
                let live = move |ordinal: &u32| !part.tombstones().contains(*ordinal);
                Box::new((0..part.documents()).filter(live).filter(with_tokens))
            }
        }
    }

    /// Whether a document that lives in the snapshot may be returned.
    pub(super) fn contains(&self, snapshot: &Snapshot, at: Location) -> bool {
        match &self.chosen {
            Some(chosen) => chosen[at.segment as usize].contains(at.ordinal),
            None => !snapshot.segments[at.segment as usize].tombstones().contains(at.ordinal),
        }
    }

    /// Number of documents that may be returned, counting those without tokens.
    pub(super) fn documents(&self, snapshot: &Snapshot) -> u64 {
        match &self.chosen {
            Some(chosen) => chosen.iter().map(RoaringBitmap::len).sum(),
            None => snapshot.live_documents(),
        }
    }
}
