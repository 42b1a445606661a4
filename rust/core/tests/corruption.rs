//! Damaged and hostile files: reported, or without effect; never a panic, never a read out of bounds.

#![expect(clippy::disallowed_methods, reason = "somebody else changes the files here")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use latewood_core::Error;
use latewood_core::codec::CodecKind;
use latewood_core::format::BLOCK_BYTES;
use latewood_core::format::header::{ENTRY_BYTES, Entry, FORMAT_VERSION, HEADER_BYTES, Header};
use latewood_core::format::names::{generation, manifest};
use latewood_core::format::section::SectionKind;
use latewood_core::ids::{Id, Missing};
use latewood_core::index::{Index, IndexOptions};
use latewood_core::storage::{FileStorage, MemoryStorage, Storage};
use support::{add, assert_sound, content, document, execution, found, keeping, options, random, string, try_content};
use xxhash_rust::xxh3::xxh3_64;

type Files = BTreeMap<String, Vec<u8>>;

/// An index of several segments, with deletions, texts and metadata.
fn files(kind: CodecKind, integers: bool) -> Files {
    files_of(options(kind, 0), integers)
}

fn files_of(options: IndexOptions, integers: bool) -> Files {
    let id = |n: u64| if integers { Id::Int(n as i64 - 3) } else { string(&format!("document {n}")) };
    let storage = MemoryStorage::new();
    let index = Index::create(Arc::new(storage.clone()), options).expect("created");
    let mut writer = index.writer(&execution()).expect("unlocked");
    let documents: Vec<_> = (0..9).map(|n| document(id(n), n as usize % 4, n)).collect();
    add(&mut writer, &documents, false).expect("added");
    writer.commit(&execution()).expect("committed");
    add(&mut writer, &[document(id(3), 5, 13), document(id(20), 2, 14), document(id(21), 1, 15)], true).expect("added");
    writer.delete(&[id(1), id(4)], false).expect("deleted");
    let patch = [r#"{"seed": 7, "changed": "ü"}"#.to_owned()];
    let updated = writer.update_metadata(&[id(0), id(2), id(8)], &patch, false, Missing::Error, &execution());
    assert_eq!(updated.expect("updated"), 3);
    writer.commit(&execution()).expect("committed");
    drop(writer);
    assert_sound(&index);
    assert!(storage.list().expect("listed").iter().any(|name| name.starts_with("metadata")));
    let names = storage.list().expect("listed");
    let files =
        names.into_iter().map(|name| (name.clone(), storage.open(&name, &execution()).expect("there").to_vec()));
    files.filter(|(name, _)| name != "LOCK" && name != "NEWEST").collect()
}

fn storage(files: &Files) -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::from_files(files.clone()))
}

/// Every kind of index, by what its segments hold.
fn kinds() -> [Files; 4] {
    let kept = files_of(keeping(options(CodecKind::Flat, 0)), true);
    [files(CodecKind::Residual, false), files(CodecKind::Residual, true), files(CodecKind::Flat, false), kept]
}

/// Opens a damaged index and sees that whoever reads what is damaged is told; whether opening told already.
fn assert_reported(original: &Files, damaged: Arc<dyn Storage>, what: &str) -> bool {
    let sound = Index::open(storage(original), &execution()).expect("sound").snapshot();
    let index = match Index::open(damaged, &execution()) {
        Ok(index) => index,
        Err(Error::Damaged { .. } | Error::NotAnIndex { .. }) => return true,
        Err(error) => panic!("{what}: {error:?}"),
    };
    let snapshot = index.snapshot();
    match try_content(&snapshot) {
        Ok(seen) => assert!(seen == content(&sound), "{what}: the content changed without a word"),
        Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{what}: {error:?}"),
    }
    match found(&snapshot) {
        Ok(seen) => assert!(seen == found(&sound).expect("sound"), "{what}: what is found changed without a word"),
        Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{what}: {error:?}"),
    }
    false
}

#[test]
fn a_flipped_bit_is_reported_or_has_no_effect() {
    for original in kinds() {
        for (name, bytes) in &original {
            for at in (0..bytes.len()).step_by(3) {
                let mut damaged = original.clone();
                damaged.get_mut(name).expect("there")[at] ^= 1 << (at % 8);
                assert_reported(&original, storage(&damaged), &format!("{name}, byte {at}"));
            }
        }
    }
}

#[test]
fn a_flipped_bit_of_a_mapped_file_is_reported_when_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut late = 0;
    for original in kinds() {
        for (name, bytes) in &original {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        for (name, bytes) in &original {
            for at in (0..bytes.len()).step_by(13) {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                fs::write(folder.path().join(name), &damaged).expect("written");
                let mapped = Arc::new(FileStorage::new(folder.path(), true).expect("a path"));
                let at_open = assert_reported(&original, mapped.clone(), &format!("{name}, byte {at}"));
                if !at_open {
                    late += 1;
                    let problems = Index::open(mapped, &execution())
                        .expect("opened before")
                        .check(&execution())
                        .expect("readable");
                    assert!(!problems.is_empty(), "{name}, byte {at}");
                }
            }
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        for name in original.keys() {
            fs::remove_file(folder.path().join(name)).expect("removed");
        }
    }
    assert!(late > 100, "codes, gains, cells, postings, vectors, texts and metadata are verified when they are read");
}

#[test]
fn a_file_that_changes_under_its_reader_makes_no_panic() {
    for original in kinds() {
        for (name, bytes) in original.iter().filter(|(name, _)| generation(name).is_none()) {
            for value in [0x00, 0x01, 0x7f, 0xff] {
                let folder = tempfile::tempdir().expect("a folder");
                for (name, bytes) in &original {
                    fs::write(folder.path().join(name), bytes).expect("written");
                }
                let index = Index::open(Arc::new(FileStorage::new(folder.path(), true).expect("a path")), &execution())
                    .expect("sound");
                let snapshot = index.snapshot();
                // What is verified once is not verified again.
                let _ = (try_content(&snapshot).expect("sound"), found(&snapshot).expect("sound"));
                overwrite(&folder.path().join(name), &vec![value; bytes.len()]);
                let _ = try_content(&snapshot);
                let _ = found(&snapshot);
                let _ = index.check(&execution());
                let _ = index.compact(&execution());
            }
        }
    }
}

/// Changes a file where it lies, so that who has mapped it sees the change.
fn overwrite(path: &std::path::Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).open(path).expect("there");
    file.write_all(bytes).expect("written");
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
                let index = Index::open(storage(&damaged), &execution());
                let whole = index.is_ok_and(|index| index.check(&execution()).expect("readable").is_empty());
                assert!(!whole, "{name} of {length} bytes passes for whole");
                assert_reported(&original, storage(&damaged), &format!("{name} cut to {length}"));
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
            assert_reported(&original, storage(&damaged), &format!("{name} is missing"));
        }
        for other in original.keys().filter(|other| other > &name) {
            let mut damaged = original.clone();
            damaged.insert(name.clone(), original[other].clone());
            damaged.insert(other.clone(), original[name].clone());
            let index = Index::open(storage(&damaged), &execution());
            let whole = index.is_ok_and(|index| index.check(&execution()).expect("readable").is_empty());
            assert!(!whole, "{name} and {other} are swapped");
        }
    }
}

/// An index whose newest generation, the third, has a damaged manifest.
fn damaged_newest() -> (String, Arc<MemoryStorage>) {
    let mut files = files(CodecKind::Residual, false);
    let newest = files.keys().rfind(|name| name.starts_with("MANIFEST")).expect("there").clone();
    files.get_mut(&newest).expect("there")[70] ^= 1;
    (newest, storage(&files))
}

#[test]
fn a_damaged_newest_generation_is_an_error_that_names_the_newest_sound_one() {
    let (newest, damaged) = damaged_newest();
    let error = Index::open(damaged.clone(), &execution()).expect_err("damaged");
    assert!(matches!(error, Error::Damaged { generation: 3, sound: Some(2), .. }), "{error:?}");
    assert!(error.to_string().contains(&newest), "{error}");
    let older = Index::open_at(damaged.clone(), 2, &execution()).expect("whole");
    assert_eq!(older.snapshot().generation, 2);
    assert!(!older.refresh(&execution()).expect("stays where it is"));
    assert!(matches!(older.writer(&execution()), Err(Error::Invalid(_))));
    assert!(matches!(Index::open_at(damaged.clone(), 3, &execution()), Err(Error::Corrupt { .. })));
    assert!(matches!(Index::open_at(damaged, 7, &execution()), Err(Error::Invalid(_))));
}

#[test]
fn going_back_removes_nothing_before_the_next_commit() {
    let (newest, damaged) = damaged_newest();
    let before = damaged.list().expect("listed");
    let older = content(&Index::open_at(damaged.clone(), 2, &execution()).expect("whole").snapshot());
    let index = Index::recover(damaged.clone(), None, &execution()).expect("recovered");
    assert_eq!(index.snapshot().generation, 4, "the number of the damaged one is not used again");
    assert_eq!(content(&index.snapshot()), older);
    let after = damaged.list().expect("listed");
    assert!(before.iter().all(|name| after.contains(name)));
    let again = Index::recover(damaged.clone(), None, &execution()).expect("nothing to do");
    assert_eq!(again.snapshot().generation, 4);
    let mut writer = index.writer(&execution()).expect("unlocked");
    add(&mut writer, &[document(string("later"), 1, 5)], false).expect("added");
    assert_eq!(writer.commit(&execution()).expect("committed"), 5);
    assert_sound(&index);
    assert!(!damaged.list().expect("listed").contains(&newest));
}

#[test]
fn a_whole_newest_generation_can_be_gone_back_from() {
    let storage = storage(&files(CodecKind::Flat, true));
    assert_eq!(Index::recover(storage.clone(), None, &execution()).expect("whole").snapshot().generation, 3);
    let older = content(&Index::open_at(storage.clone(), 2, &execution()).expect("whole").snapshot());
    let index = Index::recover(storage, Some(2), &execution()).expect("recovered");
    assert_eq!((index.snapshot().generation, content(&index.snapshot())), (4, older));
    assert_sound(&index);
}

#[test]
fn a_manifest_that_somebody_removed_is_missed() {
    let storage = MemoryStorage::new();
    let index = Index::create(Arc::new(storage.clone()), options(CodecKind::Flat, 0)).expect("created");
    let mut writer = index.writer(&execution()).expect("unlocked");
    add(&mut writer, &[document(string("a"), 1, 5)], false).expect("added");
    assert_eq!(writer.commit(&execution()).expect("committed"), 2);
    drop(writer);
    storage.remove(&manifest(2)).expect("removed");
    for result in [
        Index::open(Arc::new(storage.clone()), &execution()).map(drop),
        index.refresh(&execution()).map(drop),
        index.writer(&execution()).map(drop),
    ] {
        let error = result.expect_err("the newest manifest is gone");
        assert!(matches!(error, Error::Damaged { generation: 2, sound: Some(1), .. }), "{error:?}");
    }
    assert_eq!(index.check(&execution()).expect("readable").len(), 1);
    assert_eq!(Index::recover(Arc::new(storage), None, &execution()).expect("recovered").snapshot().generation, 3);
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
    let entry_at = |section: usize| HEADER_BYTES + section * ENTRY_BYTES;
    let entry = |bytes: &[u8], section: usize| Entry::decode(bytes[entry_at(section)..].first_chunk().expect("inside"));
    let section_bytes = |bytes: &[u8], entry: &Entry| {
        let end = entry.offset.saturating_add(entry.length);
        bytes.get(entry.offset as usize..end as usize).map(<[u8]>::to_vec)
    };
    // The first section has the checksums of all others' blocks, and their entries those of these checksums.
    let sections = usize::from(header.section_count);
    let mut cursor = if sections > 0 { entry(bytes, 0).offset as usize } else { 0 };
    for section in (1..sections).chain(0..sections.min(1)) {
        let mut entry = entry(bytes, section);
        let Some(own) = section_bytes(bytes, &entry) else { continue };
        entry.checksum = if section == 0 {
            xxh3_64(&own)
        } else {
            let checksums: Vec<u8> = own.chunks(BLOCK_BYTES).flat_map(|block| xxh3_64(block).to_le_bytes()).collect();
            if let Some(place) = bytes.get_mut(cursor..cursor + checksums.len()) {
                place.copy_from_slice(&checksums);
            }
            cursor += checksums.len();
            xxh3_64(&checksums)
        };
        bytes[entry_at(section)..entry_at(section + 1)].copy_from_slice(&entry.encode());
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

/// Puts other JSON into a manifest, its second and last section, and signs it.
fn rewrite_manifest(files: &mut Files, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let bytes = files.get_mut(name).expect("there");
    let place = HEADER_BYTES + ENTRY_BYTES;
    let mut entry = Entry::decode(bytes[place..].first_chunk().expect("inside"));
    let Some(Ok(mut json)) = bytes.get(entry.offset as usize..).map(serde_json::from_slice) else {
        return;
    };
    change(&mut json);
    bytes.truncate(entry.offset as usize);
    bytes.extend_from_slice(&serde_json::to_vec(&json).expect("JSON"));
    entry.length = bytes.len() as u64 - entry.offset;
    bytes[place..place + ENTRY_BYTES].copy_from_slice(&entry.encode());
    let mut header = Header::decode(bytes.first_chunk().expect("inside")).expect("ours");
    header.file_length = bytes.len() as u64;
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    sign(files, name);
}

/// Does everything with an index that its files may be hostile to; errors are welcome.
fn use_up(files: &Files) {
    let Ok(index) = Index::open(storage(files), &execution()) else {
        return;
    };
    let snapshot = index.snapshot();
    let _ = try_content(&snapshot);
    let _ = found(&snapshot);
    let _ = index.check(&execution());
    let _ = serde_json::to_string(&index.info());
    let _ = snapshot.find(&string("document 2")).or_else(|| snapshot.find(&Id::Int(2)));
    if let Ok(mut writer) = index.writer(&execution()) {
        let _ = writer.delete(&[string("document 2")], true);
        let patch = [r#"{"seed": 1}"#.to_owned()];
        let ids = [string("document 0"), string("document 5")];
        let _ = writer.update_metadata(&ids, &patch, false, Missing::Skip, &execution());
        let _ = add(&mut writer, &[document(string("document 3"), 2, 77)], true);
        let _ = writer.commit(&execution());
    }
    let _ = index.compact(&execution());
    let _ = try_content(&index.snapshot());
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
    let changes: [(&str, serde_json::Value); 14] = [
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
        ("/segments/0/metadata/0/documents", 2.into()),
        ("/segments/0/metadata/0/file/name", "tombstones-1.lwd".into()),
        ("/id_kind", "int".into()),
    ];
    for (place, value) in changes {
        let mut hostile = original.clone();
        rewrite_manifest(&mut hostile, &newest, |json| *json.pointer_mut(place).expect("there") = value.clone());
        let error = Index::open(storage(&hostile), &execution()).expect_err("refused");
        assert!(matches!(error, Error::Damaged { generation: 3, sound: Some(2), .. }), "{place} = {value}: {error}");
    }
    // The same with the right value changes nothing: the refusals above are those of the values. Nor do fields that this
    // version does not know: settings, which nobody read, were there once.
    let mut same = original.clone();
    rewrite_manifest(&mut same, &newest, |json| {
        *json.pointer_mut("/generation").expect("there") = 3.into();
        json["settings"] = serde_json::json!({"gather": "flood"});
    });
    assert_sound(&Index::open(storage(&same), &execution()).expect("whole"));
}

#[test]
fn vectors_that_a_manifest_names_and_no_segment_has_are_missed() {
    let original = files(CodecKind::Residual, false);
    let newest = original.keys().rfind(|name| name.starts_with("MANIFEST")).expect("there").clone();
    for kept in ["float16", "float8"] {
        let mut hostile = original.clone();
        rewrite_manifest(&mut hostile, &newest, |json| json["keep_vectors"] = kept.into());
        let error = Index::open(storage(&hostile), &execution()).expect_err("refused");
        assert!(matches!(error, Error::Damaged { generation: 3, sound: Some(2), .. }), "{kept}: {error}");
    }
}

#[test]
fn a_kept_vector_that_is_not_finite_is_damage() {
    let mut hostile = files_of(keeping(options(CodecKind::Flat, 0)), true);
    let name = hostile.keys().find(|name| name.starts_with("segment")).expect("there").clone();
    let bytes = hostile.get_mut(&name).expect("there");
    let header = Header::decode(bytes.first_chunk().expect("inside")).expect("ours");
    let entry = (0..usize::from(header.section_count))
        .map(|at| Entry::decode(bytes[HEADER_BYTES + at * ENTRY_BYTES..].first_chunk().expect("inside")))
        .find(|entry| entry.kind == SectionKind::Vectors as u32)
        .expect("kept");
    bytes[entry.offset as usize..][..2].copy_from_slice(&0x7c00_u16.to_le_bytes());
    sign(&mut hostile, &name);
    let error = Index::open(storage(&hostile), &execution()).expect_err("refused");
    assert!(error.to_string().contains("vectors"), "{error}");
    assert!(error.to_string().contains("not finite"), "{error}");
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
        match Index::open(storage(&newer), &execution()) {
            Err(Error::FormatVersion { needed: 8, supported: FORMAT_VERSION, .. }) => {}
            Ok(_) => assert_eq!(*name, manifest(2), "only the generation before is not opened"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}
