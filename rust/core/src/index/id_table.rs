//! From id to ordinal in one or two steps, straight from the mapped file.
//!
//! An open-addressing hash table: a power of two of u32 slots, at most half of them taken. An id begins at slot
//! `XXH3-64(its bytes) mod slots` and stands in the first free slot from there, going round at the end.

use crate::format::checksum;
use crate::ids::IdRef;

/// A slot that holds no ordinal.
pub(crate) const EMPTY: u32 = u32::MAX;

/// The hash of an id: of the little-endian bytes of an integer, of the UTF-8 of a string.
pub(crate) fn hash(id: IdRef<'_>) -> u64 {
    match id {
        IdRef::Int(value) => hash_integer(value),
        IdRef::Str(value) => checksum(value.as_bytes()),
    }
}

/// The hash of an integer id.
pub(crate) fn hash_integer(value: i64) -> u64 {
    checksum(&value.to_le_bytes())
}

/// The table of `documents` ids with these hashes, in the order of their ordinals.
pub(crate) fn build(documents: usize, hashes: impl Iterator<Item = u64>) -> Vec<u32> {
    let slots = (2 * documents).next_power_of_two();
    let mut table = vec![EMPTY; slots];
    for (ordinal, hash) in hashes.enumerate() {
        let mut slot = hash as usize & (slots - 1);
        while table[slot] != EMPTY {
            slot = (slot + 1) & (slots - 1);
        }
        table[slot] = ordinal as u32;
    }
    table
}

/// Ordinals at which an id with this hash may stand; never more than the table has slots.
pub(crate) fn candidates(table: &[u32], hash: u64) -> impl Iterator<Item = u32> {
    let slots = table.len();
    let first = (hash as usize) & slots.saturating_sub(1);
    let from_first = table.get(first..).unwrap_or_default();
    let around = table.get(..first).unwrap_or_default();
    from_first.iter().chain(around).copied().take_while(|&ordinal| ordinal != EMPTY)
}

/// Whether the table can be probed safely: a power of two of slots, enough of them, no foreign ordinal.
pub(crate) fn check(table: &[u32], documents: usize) -> Result<(), String> {
    if !table.len().is_power_of_two() || table.len() / 2 < documents {
        return Err(format!("{} slots for {documents} documents", table.len()));
    }
    if table.iter().any(|&ordinal| ordinal != EMPTY && ordinal as usize >= documents) {
        return Err("a slot holds an ordinal beyond the last document".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_found_where_it_stands() {
        for documents in [0_usize, 1, 2, 3, 1000] {
            let hashes = (0..documents).map(|value| hash_integer(value as i64));
            let table = build(documents, hashes);
            assert!(check(&table, documents).is_ok());
            for value in 0..documents {
                assert!(candidates(&table, hash_integer(value as i64)).any(|ordinal| ordinal as usize == value));
            }
        }
    }

    #[test]
    fn colliding_ids_go_round_the_end() {
        let table = build(4, [7, 7, 15, 7].into_iter());
        assert_eq!(candidates(&table, 7).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn hostile_tables_are_refused_and_probes_end() {
        assert!(check(&[], 0).is_err());
        assert!(check(&[EMPTY; 3], 1).is_err());
        assert!(check(&[EMPTY; 2], 2).is_err());
        assert!(check(&[1, EMPTY], 1).is_err());
        assert_eq!(candidates(&[0, 0, 0, 0], 2).count(), 4);
        assert_eq!(candidates(&[], 2).count(), 0);
    }
}
