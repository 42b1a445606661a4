//! Changed metadata: what a change costs, who sees it, and what becomes of its files.

mod support;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use latewood_core::Error;
use latewood_core::codec::CodecKind;
use latewood_core::ids::{Id, Missing};
use latewood_core::index::{Filter, Index, Snapshot, Writer};
use latewood_core::search::{self, SearchOptions, Selection};
use latewood_core::storage::{FileStorage, MemoryStorage, Storage};
use latewood_core::tokens::TokenMatrix;
use support::{DIM, add, assert_sound, document, execution, options};

/// An index of documents 0 to `count` in one segment, with metadata `{"n": …, "page": …}`.
fn index(storage: &Arc<dyn Storage>, count: i64) -> Index {
    let index = Index::create(Arc::clone(storage), options(CodecKind::Flat, 0)).expect("created");
    let mut writer = index.writer(&execution()).expect("unlocked");
    let mut documents: Vec<_> = (0..count).map(|n| document(Id::Int(n), 1, n as u64 + 1)).collect();
    for (document, n) in documents.iter_mut().zip(0..) {
        document.metadata = Some(format!("{{\"n\": {n}, \"page\": {}}}", n / 2));
    }
    add(&mut writer, &documents, false).expect("added");
    writer.commit(&execution()).expect("committed");
    index
}

fn update(writer: &mut Writer, ids: &[i64], patch: &str) -> Result<usize, Error> {
    let ids: Vec<Id> = ids.iter().copied().map(Id::Int).collect();
    writer.update_metadata(&ids, &[patch.to_owned()], false, Missing::Error, &execution())
}

fn commit(index: &Index, ids: &[i64], patch: &str) {
    let mut writer = index.writer(&execution()).expect("unlocked");
    update(&mut writer, ids, patch).expect("updated");
    writer.commit(&execution()).expect("committed");
}

fn ids(snapshot: &Snapshot, filter: &str) -> Vec<i64> {
    let found = snapshot.ids(&Filter::from_json(filter).expect("a filter"), &execution()).expect("read");
    found.into_iter().map(|id| if let Id::Int(id) = id { id } else { panic!("{id}") }).collect()
}

fn metadata(snapshot: &Snapshot, id: i64) -> String {
    let at = snapshot.find(&Id::Int(id)).expect("there");
    snapshot.text_and_metadata(at).expect("sound").1.expect("there")
}

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

fn layers(storage: &dyn Storage) -> Vec<(String, usize)> {
    let names = storage.list().expect("listed").into_iter().filter(|name| name.starts_with("metadata"));
    names.map(|name| (name.clone(), storage.open(&name, &execution()).expect("there").len())).collect()
}

#[test]
fn a_change_costs_what_it_changes_and_not_what_there_is() {
    let storage = memory();
    let index = index(&storage, 4000);
    let before = storage.list().expect("listed");
    commit(&index, &[7], r#"{"n": 70000}"#);
    let size = |name: &String| storage.open(name, &execution()).expect("there").len();
    let new: usize = storage.list().expect("listed").iter().filter(|name| !before.contains(name)).map(size).sum();
    assert!(new < 4096, "{new} bytes for one document");
    assert_eq!(index.snapshot().segments.len(), 1);
    assert_eq!(metadata(&index.snapshot(), 7), r#"{"n":70000,"page":3}"#);
}

#[test]
fn many_changes_leave_few_files_and_compaction_none() {
    let storage = memory();
    let index = index(&storage, 300);
    let mut most = 0;
    for n in 0..100 {
        commit(&index, &[n, 299 - n % 7], &format!("{{\"round\": {n}}}"));
        // Those of this generation and of the one before.
        most = most.max(layers(&*storage).len());
    }
    assert!(most <= 16, "{most} files");
    assert_sound(&index);
    let snapshot = index.snapshot();
    for n in 0..100 {
        assert_eq!(ids(&snapshot, &format!("{{\"round\": {n}, \"n\": {{\"lt\": 200}}}}")), [n]);
    }
    assert_eq!(ids(&snapshot, r#"{"round": 99, "n": {"gte": 200}}"#), [298]);
    index.compact(&execution()).expect("compacted");
    assert!(layers(&*storage).is_empty());
    assert_sound(&index);
    assert_eq!(ids(&index.snapshot(), r#"{"round": {"exists": true}}"#).len(), 107);
    assert_eq!(metadata(&index.snapshot(), 298), metadata(&snapshot, 298));
}

#[test]
fn who_reads_an_older_commit_sees_its_metadata() {
    let storage = memory();
    let index = index(&storage, 10);
    let filter = r#"{"n": {"lt": 3}}"#;
    // Fields are built here, and must not be those that the changed documents are looked for in.
    let old = index.snapshot();
    assert_eq!(ids(&old, filter), [0, 1, 2]);
    commit(&index, &[1], r#"{"n": 11}"#);
    let middle = index.snapshot();
    assert_eq!(ids(&middle, filter), [0, 2]);
    commit(&index, &[5, 1], r#"{"n": 2}"#);
    let new = index.snapshot();
    assert_eq!(ids(&new, filter), [0, 1, 2, 5]);
    let reopened = Index::open(storage, &execution()).expect("opened").snapshot();
    assert_eq!(ids(&reopened, filter), [0, 1, 2, 5]);
    assert_eq!((ids(&old, filter), ids(&middle, filter)), (vec![0, 1, 2], vec![0, 2]));
    let seen = |snapshot: &Snapshot| metadata(snapshot, 1);
    assert_eq!(
        [seen(&old), seen(&middle), seen(&new)],
        [r#"{"n": 1, "page": 0}"#, r#"{"n":11,"page":0}"#, r#"{"n":2,"page":0}"#]
    );
}

#[test]
fn groups_are_made_of_the_metadata_as_they_are() {
    let index = index(&memory(), 10);
    let pages = |snapshot: &Snapshot| {
        let query = vec![0.1; DIM];
        let tokens = TokenMatrix::new(&query, &[0, 1], DIM, |_| "the query".to_owned()).expect("sound");
        let selection = Selection { k: Some(100), group_by: Some("page".to_owned()), ..Selection::default() };
        let options = SearchOptions { selection, ..SearchOptions::default() };
        search::search(snapshot, &tokens, None, &options, &execution()).expect("found").rankings[0].hits.len()
    };
    let old = index.snapshot();
    assert_eq!(pages(&old), 5);
    commit(&index, &[0, 2, 4], r#"{"page": 9}"#);
    assert_eq!(pages(&index.snapshot()), 6);
    // A document without a value is alone.
    commit(&index, &[9, 0], r#"{"page": null}"#);
    assert_eq!(pages(&index.snapshot()), 8);
    commit(&index, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], r#"{"page": 1}"#);
    assert_eq!(pages(&index.snapshot()), 1);
    assert_eq!(pages(&old), 5);
}

#[test]
fn a_writer_sees_its_own_changes() {
    let index = index(&memory(), 4);
    let mut writer = index.writer(&execution()).expect("unlocked");
    let mut fifth = document(Id::Int(4), 2, 4);
    fifth.metadata = None;
    add(&mut writer, &[fifth], false).expect("added");
    assert_eq!(update(&mut writer, &[4, 0], r#"{"n": 100}"#).expect("updated"), 2);
    let filter = Filter::from_json(r#"{"n": {"gte": 100}}"#).expect("a filter");
    let raise = |writer: &mut Writer, patch: &str| {
        writer.update_metadata_matching(&filter, patch, false, &execution()).expect("updated")
    };
    assert_eq!(raise(&mut writer, r#"{"n": 101}"#), 2);
    assert_eq!(update(&mut writer, &[3], r#"{"n": 100}"#).expect("updated"), 1);
    writer.delete(&[Id::Int(0)], false).expect("deleted");
    assert_eq!(raise(&mut writer, r#"{"n": 102}"#), 2);
    assert!(matches!(update(&mut writer, &[0], "{}"), Err(Error::UnknownId { .. })));
    assert_eq!(writer.delete_matching(&filter, &execution()).expect("deleted"), 2);
    assert_eq!(raise(&mut writer, "{}"), 0);
    writer.commit(&execution()).expect("committed");
    assert_eq!(ids(&index.snapshot(), "{}"), [1, 2]);
    assert_sound(&index);
}

#[test]
fn a_call_that_fails_or_is_interrupted_changes_nothing() {
    let index = index(&memory(), 3000);
    let mut writer = index.writer(&execution()).expect("unlocked");
    let all: Vec<Id> = (0..3000).map(Id::Int).collect();
    let patch = |json: &str| vec![json.to_owned()];
    let mut call = |ids: &[Id], metadata: &[String]| {
        writer.update_metadata(ids, metadata, true, Missing::Error, &execution()).expect_err("refused")
    };
    assert!(matches!(call(&[Id::Int(1), Id::Int(3001)], &patch("{}")), Error::UnknownId { .. }));
    assert!(matches!(call(&[Id::Int(1), Id::Int(1)], &patch("{}")), Error::DuplicateId { .. }));
    assert!(matches!(call(&[Id::Int(1), Id::Str("1".to_owned())], &patch("{}")), Error::IdKind { .. }));
    let second = [patch("{}"), patch("[]")].concat();
    let error = call(&all[..2], &second);
    assert!(matches!(&error, Error::Invalid(message) if message.contains("metadata of document 1 ")), "{error}");
    assert!(matches!(call(&all[..3], &second), Error::Invalid(_)));
    let stopped = execution();
    stopped.stop_flag().store(true, Ordering::Relaxed);
    let interrupted = writer.update_metadata(&all, &patch("{}"), true, Missing::Error, &stopped);
    assert!(matches!(interrupted, Err(Error::Interrupted)));
    let filter = Filter::from_json(r#"{"n": {"gte": 0}}"#).expect("a filter");
    assert!(matches!(writer.update_metadata_matching(&filter, "{}", true, &stopped), Err(Error::Interrupted)));
    let nothing = Filter::from_json("{}").expect("a filter");
    assert!(matches!(writer.update_metadata_matching(&nothing, "{}", true, &execution()), Err(Error::Invalid(_))));
    assert_eq!(writer.changes(), 0);
    assert_eq!(writer.commit(&execution()).expect("nothing to commit"), 2);
}

#[test]
fn a_writer_that_merges_nothing_leaves_all_files_and_the_next_one_catches_up() {
    let storage = memory();
    let index = index(&storage, 50);
    for n in 0..12 {
        let mut writer = index.writer_without_merging(&execution()).expect("unlocked");
        update(&mut writer, &[n], r#"{"n": 99}"#).expect("updated");
        writer.commit(&execution()).expect("committed");
    }
    assert_eq!(layers(&*storage).len(), 12);
    commit(&index, &[20], r#"{"n": 99}"#);
    // Those of the generation before stay until the next commit.
    commit(&index, &[21], r#"{"n": 99}"#);
    assert!(layers(&*storage).len() <= 4, "{:?}", layers(&*storage));
    assert_eq!(ids(&index.snapshot(), r#"{"n": 99}"#).len(), 14);
}

#[test]
fn a_damaged_file_stays_as_it_is_and_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::new(folder.path(), true).expect("a path"));
    let index = index(&storage, 50);
    commit(&index, &[3], r#"{"n": 99}"#);
    drop(index);
    let (name, length) = layers(&*storage).remove(0);
    let damage = |value: u8| {
        let mut file = fs::OpenOptions::new().write(true).open(folder.path().join(&name)).expect("there");
        file.seek(SeekFrom::Start(length as u64 - 2)).expect("inside");
        file.write_all(&[value]).expect("written");
    };
    damage(b'x');
    let index = Index::open(Arc::clone(&storage), &execution()).expect("its metadata are not read yet");
    // Of two layers of one document each, the second would take in the first.
    commit(&index, &[4], r#"{"n": 99}"#);
    let snapshot = index.snapshot();
    assert_eq!(layers(&*storage).len(), 2);
    assert_eq!(metadata(&snapshot, 4), r#"{"n":99,"page":2}"#);
    let corrupt = |result: Result<(), Error>| {
        let error = result.expect_err("damaged").to_string();
        assert!(error.contains(&name) && error.contains("metadata"), "{error}");
    };
    corrupt(snapshot.text_and_metadata(snapshot.find(&Id::Int(3)).expect("there")).map(drop));
    corrupt(snapshot.ids(&Filter::from_json(r#"{"n": 99}"#).expect("a filter"), &execution()).map(drop));
    corrupt(index.compact(&execution()).map(drop));
    let mut writer = index.writer(&execution()).expect("unlocked");
    corrupt(update(&mut writer, &[3], r#"{"n": 1}"#).map(drop));
    drop(writer);
    assert_eq!(index.check(&execution()).expect("readable").len(), 1);
    damage(b'4');
    assert_eq!(index.check(&execution()).expect("readable").len(), 1, "another byte than was written");
    damage(b'1');
    assert_sound(&index);
}
