//! Damaged and hostile files: reported, or without effect; never a panic, never a read out of bounds.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use latewood_core::Error;
use latewood_core::codec::CodecKind;
use latewood_core::format::header::{ENTRY_BYTES, Entry, HEADER_BYTES, Header};
use latewood_core::format::names::{generation, manifest};
use latewood_core::ids::Id;
use latewood_core::index::Index;
use latewood_core::storage::{MemoryStorage, Storage};
use support::{add, assert_sound, content, document, execution, found, options, random, string};
use xxhash_rust::xxh3::xxh3_64;

type Files = BTreeMap<String, Vec<u8>>;

/// An index of several segments, with deletions, texts and metadata.
fn files(kind: CodecKind, integers: bool) -> Files {
    let id = |n: u64| if integers { Id::Int(n as i64 - 3) } else { string(&format!("document {n}")) };
    let storage = MemoryStorage::new();
    let index = Index::create(Arc::new(storage.clone()), options(kind, 0)).expect("created");
    let mut writer = index.writer().expect("unlocked");
    let documents: Vec<_> = (0..9).map(|n| document(id(n), n as usize % 4, n)).collect();
    add(&mut writer, &documents, false).expect("added");
    writer.commit(&execution()).expect("committed");
    add(&mut writer, &[document(id(3), 5, 13), document(id(20), 2, 14), document(id(21), 1, 15)], true).expect("added");
    writer.delete(&[id(1), id(4)], false).expect("deleted");
    writer.commit(&execution()).expect("committed");
    drop(writer);
    assert_sound(&index);
    let names = storage.list().expect("listed");
    let files = names.into_iter().map(|name| (name.clone(), storage.open(&name).expect("there").to_vec()));
    files.filter(|(name, _)| name != "LOCK").collect()
}

fn storage(files: &Files) -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::from_files(files.clone()))
}

/// Every kind of index, by what its segments hold.
fn kinds() -> [Files; 3] {
    [files(CodecKind::Residual, false), files(CodecKind::Residual, true), files(CodecKind::Flat, false)]
}

/// Opens a damaged index and sees that the damage is reported or has no effect.
fn assert_reported(original: &Files, damaged: &Files, what: &str) {
    let sound = Index::open(storage(original)).expect("sound").snapshot();
    let index = match Index::open(storage(damaged)) {
        Ok(index) => index,
        Err(Error::Corrupt { .. } | Error::NotAnIndex { .. }) => return,
        Err(error) => panic!("{what}: {error:?}"),
    };
    let snapshot = index.snapshot();
    let same = content(&snapshot) == content(&sound)
        && found(&snapshot).is_ok_and(|seen| seen == found(&sound).expect("sound"))
        && snapshot.settings() == sound.settings();
    let reported = !index.warnings().is_empty() || !index.check().expect("readable").is_empty();
    assert!(same || reported, "{what}: the content changed without a word");
}

#[test]
fn a_flipped_bit_is_reported_or_has_no_effect() {
    for original in kinds() {
        for (name, bytes) in &original {
            for at in (0..bytes.len()).step_by(3) {
                let mut damaged = original.clone();
                damaged.get_mut(name).expect("there")[at] ^= 1 << (at % 8);
                assert_reported(&original, &damaged, &format!("{name}, byte {at}"));
            }
        }
    }
}

#[test]
fn a_truncated_or_longer_file_is_reported() {
    for original in kinds() {
        for (name, bytes) in &original {
            let lengths =
                (0..bytes.len()).step_by(61).chain([1, 63, 65, bytes.len().saturating_sub(1), bytes.len() + 1]);
            for length in lengths {
                let mut damaged = original.clone();
                damaged.get_mut(name).expect("there").resize(length, 0);
                let index = Index::open(storage(&damaged));
                let whole =
                    index.is_ok_and(|index| index.warnings().is_empty() && index.check().expect("readable").is_empty());
                assert!(!whole, "{name} of {length} bytes passes for whole");
                assert_reported(&original, &damaged, &format!("{name} cut to {length}"));
            }
        }
    }
}

#[test]
fn swapped_and_missing_files_are_reported() {
    let original = files(CodecKind::Residual, false);
    for name in original.keys() {
        if generation(name).is_none() {
            let mut damaged = original.clone();
            damaged.remove(name);
            assert_reported(&original, &damaged, &format!("{name} is missing"));
        }
        for other in original.keys().filter(|other| other > &name) {
            let mut damaged = original.clone();
            damaged.insert(name.clone(), original[other].clone());
            damaged.insert(other.clone(), original[name].clone());
            let index = Index::open(storage(&damaged));
            let reported =
                index.is_ok_and(|index| index.warnings().is_empty() && index.check().expect("readable").is_empty());
            assert!(!reported, "{name} and {other} are swapped");
        }
    }
}

#[test]
fn a_damaged_newest_generation_is_passed_over() {
    let original = files(CodecKind::Residual, false);
    let newest = original.keys().rfind(|name| name.starts_with("MANIFEST")).expect("there").clone();
    let mut damaged = original.clone();
    damaged.get_mut(&newest).expect("there")[70] ^= 1;
    let index = Index::open(storage(&damaged)).expect("the one before is whole");
    assert_eq!(index.snapshot().generation, 2);
    assert!(index.warnings()[0].contains(&newest), "{:?}", index.warnings());
    let mut writer = index.writer().expect("unlocked");
    add(&mut writer, &[document(string("later"), 1, 5)], false).expect("added");
    assert_eq!(writer.commit(&execution()).expect("committed"), 4, "the number of the damaged one is not used again");
    assert_sound(&index);
}

/// Gives every section, the header and the manifest's entry the checksums of the bytes that are there.
fn sign(files: &mut Files, name: &str) {
    let bytes = files.get_mut(name).expect("there");
    let (Some(mut header), Some(length)) =
        (bytes.first_chunk().and_then(Header::decode), bytes.len().checked_sub(HEADER_BYTES))
    else {
        return;
    };
    let table = usize::from(header.section_count) * ENTRY_BYTES;
    if table > length {
        return;
    }
    for at in (HEADER_BYTES..HEADER_BYTES + table).step_by(ENTRY_BYTES) {
        let mut entry = Entry::decode(bytes[at..].first_chunk().expect("inside"));
        let end = entry.offset.saturating_add(entry.length);
        if let Some(section) = bytes.get(entry.offset as usize..end as usize) {
            entry.checksum = xxh3_64(section);
            bytes[at..at + ENTRY_BYTES].copy_from_slice(&entry.encode());
        }
    }
    header.checksum = header.expected_checksum(&bytes[HEADER_BYTES..HEADER_BYTES + table]);
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    if name.starts_with("MANIFEST") {
        return;
    }
    let (length, checksum) = (bytes.len() as u64, header.checksum);
    let manifests: Vec<String> = files.keys().filter(|other| other.starts_with("MANIFEST")).cloned().collect();
    for manifest in manifests {
        rewrite_manifest(files, &manifest, |json| replace_entry(json, name, length, checksum));
    }
}

fn replace_entry(json: &mut serde_json::Value, name: &str, length: u64, checksum: u64) {
    match json {
        serde_json::Value::Object(fields) if fields.get("name").is_some_and(|value| value == name) => {
            fields.insert("length".to_owned(), length.into());
            fields.insert("checksum".to_owned(), format!("{checksum:016x}").into());
        }
        serde_json::Value::Object(fields) => {
            fields.values_mut().for_each(|value| replace_entry(value, name, length, checksum));
        }
        serde_json::Value::Array(values) => {
            for value in values {
                replace_entry(value, name, length, checksum);
            }
        }
        _ => {}
    }
}

/// Puts other JSON into a manifest, its only section, and signs it.
fn rewrite_manifest(files: &mut Files, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let bytes = files.get_mut(name).expect("there");
    let mut entry = Entry::decode(bytes[HEADER_BYTES..].first_chunk().expect("inside"));
    let Ok(mut json) = serde_json::from_slice(&bytes[entry.offset as usize..]) else {
        return;
    };
    change(&mut json);
    bytes.truncate(entry.offset as usize);
    bytes.extend_from_slice(&serde_json::to_vec(&json).expect("JSON"));
    entry.length = bytes.len() as u64 - entry.offset;
    bytes[HEADER_BYTES..HEADER_BYTES + ENTRY_BYTES].copy_from_slice(&entry.encode());
    let mut header = Header::decode(bytes.first_chunk().expect("inside")).expect("ours");
    header.file_length = bytes.len() as u64;
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    sign(files, name);
}

/// Does everything with an index that its files may be hostile to; errors are welcome.
fn use_up(files: &Files) {
    let Ok(index) = Index::open(storage(files)) else {
        return;
    };
    let snapshot = index.snapshot();
    let _ = content(&snapshot);
    let _ = found(&snapshot);
    let _ = index.check();
    let _ = serde_json::to_string(&index.info());
    let _ = snapshot.find(&string("document 2")).or_else(|| snapshot.find(&Id::Int(2)));
    if let Ok(mut writer) = index.writer() {
        let _ = writer.delete(&[string("document 2")], true);
        let _ = add(&mut writer, &[document(string("document 3"), 2, 77)], true);
        let _ = writer.commit(&execution());
    }
    let _ = index.compact(&execution());
    let _ = content(&index.snapshot());
    let _ = found(&index.snapshot());
}

#[test]
fn hostile_bytes_with_right_checksums_do_no_harm() {
    for original in kinds() {
        for (name, bytes) in &original {
            let mut numbers = random(bytes.len() as u64);
            for at in (0..bytes.len()).step_by(5) {
                let mut hostile = original.clone();
                let file = hostile.get_mut(name).expect("there");
                let chosen = numbers.next().expect("endless");
                file[at] =
                    [0, 1, 0x7f, 0x80, 0xff, file[at].wrapping_add(1), chosen as u8][(chosen >> 32) as usize % 7];
                if chosen.is_multiple_of(3) {
                    // A whole number at once: counts and offsets are eight bytes.
                    let start = at / 8 * 8;
                    let end = bytes.len().min(start + 8);
                    file[start..end].copy_from_slice(&(chosen >> (chosen % 64)).to_le_bytes()[..end - start]);
                }
                sign(&mut hostile, name);
                use_up(&hostile);
            }
        }
    }
}

#[test]
fn hostile_manifests_are_refused() {
    let original = files(CodecKind::Residual, false);
    let newest = original.keys().rfind(|name| name.starts_with("MANIFEST")).expect("there").clone();
    let changes: [(&str, serde_json::Value); 12] = [
        ("/generation", 7.into()),
        ("/dim", 0.into()),
        ("/dim", 24.into()),
        ("/dim", u64::MAX.into()),
        ("/codec_options/bits", 3.into()),
        ("/codec_options/kind", "flat".into()),
        ("/codec/name", "../codec-1.lwd".into()),
        ("/segments/0/file/name", "segment-/../../etc/passwd.lwd".into()),
        ("/segments/0/documents", 8.into()),
        ("/segments/0/tokens", u64::MAX.into()),
        ("/segments/0/tombstones/documents", 1.into()),
        ("/id_kind", "int".into()),
    ];
    for (place, value) in changes {
        let mut hostile = original.clone();
        rewrite_manifest(&mut hostile, &newest, |json| *json.pointer_mut(place).expect("there") = value.clone());
        assert_reported(&original, &hostile, place);
        let index = Index::open(storage(&hostile)).expect("the generation before is whole");
        assert_eq!(index.snapshot().generation, 2, "{place} = {value}");
    }
    // The same with the right value changes nothing: the refusals above are those of the values.
    let mut same = original.clone();
    rewrite_manifest(&mut same, &newest, |json| *json.pointer_mut("/generation").expect("there") = 3.into());
    assert_sound(&Index::open(storage(&same)).expect("whole"));
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let original = files(CodecKind::Residual, false);
    for name in original.keys() {
        let mut newer = original.clone();
        let bytes = newer.get_mut(name).expect("there");
        let mut header = Header::decode(bytes.first_chunk().expect("inside")).expect("ours");
        (header.format_version, header.min_reader) = (9, 8);
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        sign(&mut newer, name);
        match Index::open(storage(&newer)) {
            Err(Error::FormatVersion { needed: 8, supported: 1, .. }) => {}
            Ok(_) => assert_eq!(*name, manifest(2), "only the generation before is not opened"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}
