//! Random lives of an index against a plain map.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use half::f16;
use latewood_core::Error;
use latewood_core::codec::CodecKind;
use latewood_core::ids::{Id, Missing};
use latewood_core::index::{Filter, Index, Writer};
use latewood_core::storage::{FileStorage, MemoryStorage, Storage};
use proptest::prelude::*;
use serde_json::{Map, Value};
use support::{DIM, Document, add, assert_sound, content, document, execution, keeping, options};

/// What may happen to an index. Ids are small numbers, so that they meet.
#[derive(Clone, Debug)]
enum Operation {
    /// Ids with the number of tokens; `upsert` or plain.
    Add(Vec<(u8, usize)>, bool),
    Delete(Vec<u8>, bool),
    /// By a filter on the number that the metadata have.
    DeleteMatching(u64),
    /// Ids, what to put into or in the place of their metadata, whether in their place, whether missing ones are passed over.
    Update(Vec<u8>, usize, bool, bool),
    /// The same of documents whose number is at least this.
    UpdateMatching(u64, usize, bool),
    Commit,
    /// The writer is dropped without a commit.
    Forget,
    Reopen,
    Compact,
}

/// Metadata, and what may be merged into them: a number that filters ask for, objects in objects, and fields taken away.
const PATCHES: [&str; 5] = [
    r#"{"seed": 3, "tag": "a"}"#,
    r#"{"seed": null, "inner": {"a": 1, "b": null}}"#,
    r#"{"inner": {"b": [1, 2]}, "tag": "ü"}"#,
    r#"{"seed": 70, "inner": 5}"#,
    "{}",
];

fn operation() -> impl Strategy<Value = Operation> {
    let documents = prop::collection::vec((0..12_u8, 0..5_usize), 0..5);
    prop_oneof![
        3 => (documents, any::<bool>()).prop_map(|(documents, upsert)| Operation::Add(documents, upsert)),
        2 => (prop::collection::vec(0..12_u8, 0..4), any::<bool>()).prop_map(|(ids, skip)| Operation::Delete(ids, skip)),
        1 => (0..60_u64).prop_map(Operation::DeleteMatching),
        3 => (prop::collection::vec(0..12_u8, 0..4), 0..PATCHES.len(), any::<bool>(), any::<bool>())
            .prop_map(|(ids, patch, replace, skip)| Operation::Update(ids, patch, replace, skip)),
        1 => (0..60_u64, 0..PATCHES.len(), any::<bool>())
            .prop_map(|(least, patch, replace)| Operation::UpdateMatching(least, patch, replace)),
        3 => Just(Operation::Commit),
        1 => Just(Operation::Forget),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Compact),
    ]
}

/// How an index is kept.
#[derive(Clone, Copy, Debug)]
struct Setup {
    kind: CodecKind,
    integers: bool,
    disk: Option<bool>,
    train_after: u64,
    keeps: bool,
}

fn setup() -> impl Strategy<Value = Setup> {
    let kind = prop_oneof![Just(CodecKind::Residual), Just(CodecKind::Flat)];
    let disk = prop_oneof![2 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let train_after = prop_oneof![Just(0), Just(12)];
    (kind, any::<bool>(), disk, train_after, any::<bool>())
        .prop_map(|(kind, integers, disk, train_after, keeps)| Setup { kind, integers, disk, train_after, keeps })
}

/// Documents by id, in the order in which they were added.
#[derive(Clone, Debug, Default)]
struct Model {
    documents: Vec<Document>,
}

impl Model {
    fn remove(&mut self, id: &Id) -> bool {
        let before = self.documents.len();
        self.documents.retain(|document| document.id != *id);
        self.documents.len() < before
    }

    fn update(&mut self, chosen: impl Fn(&Document) -> bool, patch: &str, replace: bool) {
        for document in self.documents.iter_mut().filter(|document| chosen(document)) {
            let before = document.metadata.as_deref().map_or(Value::Null, |json| Value::Object(object(json)));
            let patch = Value::Object(object(patch));
            document.metadata = Some(if replace { patch } else { merge_patch(before, &patch) }.to_string());
        }
    }

    fn contains(&self, id: &Id) -> bool {
        self.documents.iter().any(|document| document.id == *id)
    }
}

/// The number in a document's metadata.
fn seed(document: &Document) -> Option<u64> {
    document.metadata.as_deref().map(object)?.get("seed")?.as_u64()
}

fn object(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).expect("an object")
}

/// What RFC 7396 makes of two values, in its own words.
fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = if let Value::Object(target) = target { target } else { Map::new() };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let own = target.remove(name).unwrap_or(Value::Null);
            target.insert(name.clone(), merge_patch(own, value));
        }
    }
    Value::Object(target)
}

struct Life {
    setup: Setup,
    storage: Arc<dyn Storage>,
    index: Index,
    writer: Option<Writer>,
    committed: Model,
    working: Model,
    seed: u64,
}

impl Life {
    fn id(&self, number: u8) -> Id {
        if self.setup.integers { Id::Int(i64::from(number) - 6) } else { Id::Str(format!("id {number}")) }
    }

    fn writer(&mut self) -> &mut Writer {
        let index = &self.index;
        self.writer.get_or_insert_with(|| index.writer(&execution()).expect("unlocked"))
    }

    fn run(&mut self, operation: &Operation) {
        match operation {
            Operation::Add(documents, upsert) => self.add(documents, *upsert),
            Operation::Delete(ids, skip) => self.delete(ids, *skip),
            Operation::DeleteMatching(least) => self.delete_matching(*least),
            Operation::Update(ids, patch, replace, skip) => self.update(ids, PATCHES[*patch], *replace, *skip),
            Operation::UpdateMatching(least, patch, replace) => self.update_matching(*least, PATCHES[*patch], *replace),
            Operation::Commit => {
                let before = self.index.snapshot().generation;
                let generation = self.writer().commit(&execution()).expect("committed");
                assert!(generation == before || generation == before + 1);
                self.committed = self.working.clone();
            }
            Operation::Forget => {
                self.writer = None;
                self.working = self.committed.clone();
            }
            Operation::Reopen => {
                self.index = Index::open(Arc::clone(&self.storage), &execution()).expect("opened");
                // A writer outlives the index that it was asked from.
                if self.writer.is_some() {
                    assert!(matches!(self.index.writer(&execution()), Err(Error::Locked { .. })));
                    self.writer = None;
                    self.working = self.committed.clone();
                }
            }
            Operation::Compact => match self.index.compact(&execution()) {
                Err(Error::Locked { .. }) => assert!(self.writer.is_some()),
                result => {
                    result.expect("compacted");
                    assert!(self.writer.is_none());
                    let snapshot = self.index.snapshot();
                    assert!(snapshot.segments.len() <= 1);
                    assert_eq!(snapshot.documents(), snapshot.live_documents());
                }
            },
        }
        self.compare();
    }

    fn add(&mut self, documents: &[(u8, usize)], upsert: bool) {
        let documents: Vec<Document> = documents
            .iter()
            .map(|&(number, tokens)| {
                self.seed += 1;
                document(self.id(number), tokens, self.seed)
            })
            .collect();
        let twice = (1..documents.len()).any(|at| documents[..at].iter().any(|other| other.id == documents[at].id));
        let exists = !upsert && documents.iter().any(|document| self.working.contains(&document.id));
        match add(self.writer(), &documents, upsert) {
            Err(Error::DuplicateId { .. }) => assert!(twice),
            Err(Error::IdExists { .. }) => assert!(exists),
            result => {
                result.expect("added");
                assert!(!twice && !exists);
                for document in documents {
                    self.working.remove(&document.id);
                    self.working.documents.push(document);
                }
            }
        }
    }

    fn delete(&mut self, ids: &[u8], skip_missing: bool) {
        let ids: Vec<Id> = ids.iter().map(|&number| self.id(number)).collect();
        let missing = ids.iter().any(|id| !self.working.contains(id));
        match self.writer().delete(&ids, skip_missing) {
            Err(Error::UnknownId { .. }) => assert!(missing && !skip_missing),
            result => {
                let deleted = result.expect("deleted");
                assert!(skip_missing || !missing);
                assert_eq!(deleted, ids.iter().filter(|id| self.working.remove(id)).count());
            }
        }
    }

    fn delete_matching(&mut self, least: u64) {
        let filter = format!("{{\"or\": [{{\"seed\": {{\"gte\": {least}}}}}, {{\"seed\": {{\"exists\": false}}}}]}}");
        let filter = Filter::from_json(&filter).expect("a filter");
        let deleted = self.writer().delete_matching(&filter, &execution()).expect("deleted");
        let before = self.working.documents.len();
        // A field that is null is there, and is no number.
        let there =
            |document: &Document| document.metadata.as_deref().is_some_and(|json| object(json).contains_key("seed"));
        self.working.documents.retain(|document| there(document) && seed(document).is_none_or(|seed| seed < least));
        assert_eq!(deleted, before - self.working.documents.len());
    }

    fn update(&mut self, ids: &[u8], patch: &str, replace: bool, skip_missing: bool) {
        let ids: Vec<Id> = ids.iter().map(|&number| self.id(number)).collect();
        let twice = (1..ids.len()).any(|at| ids[..at].contains(&ids[at]));
        let absent = ids.iter().any(|id| !self.working.contains(id));
        let missing = if skip_missing { Missing::Skip } else { Missing::Error };
        // One for each id, or one for all.
        let metadata = vec![patch.to_owned(); if ids.len().is_multiple_of(2) { ids.len() } else { 1 }];
        match self.writer().update_metadata(&ids, &metadata, replace, missing, &execution()) {
            Err(Error::DuplicateId { .. }) => assert!(twice),
            Err(Error::UnknownId { .. }) => assert!(absent && !skip_missing),
            result => {
                let updated = result.expect("updated");
                assert!(!twice && (skip_missing || !absent));
                assert_eq!(updated, ids.iter().filter(|id| self.working.contains(id)).count());
                let chosen = |document: &Document| ids.contains(&document.id);
                self.working.update(chosen, patch, replace);
            }
        }
    }

    fn update_matching(&mut self, least: u64, patch: &str, replace: bool) {
        let filter = Filter::from_json(&format!("{{\"seed\": {{\"gte\": {least}}}}}")).expect("a filter");
        let updated = self.writer().update_metadata_matching(&filter, patch, replace, &execution()).expect("updated");
        let chosen = |document: &Document| seed(document).is_some_and(|seed| seed >= least);
        assert_eq!(updated, self.working.documents.iter().filter(|document| chosen(document)).count());
        self.working.update(chosen, patch, replace);
    }

    /// Readers see the last commit, document for document, in the order of adding.
    fn compare(&self) {
        let snapshot = self.index.snapshot();
        let seen = content(&snapshot);
        assert_eq!(seen.len() as u64, snapshot.live_documents());
        let ids: Vec<&Id> = seen.iter().map(|(id, _)| id).collect();
        let expected: Vec<&Id> = self.committed.documents.iter().map(|document| &document.id).collect();
        assert_eq!(ids, expected);
        let truncated = self.committed.documents.iter().filter(|document| document.truncated).count();
        assert_eq!(self.index.info().truncated_documents, truncated as u64);
        for (filter, chosen) in [
            (r#"{"seed": {"gte": 20}}"#, (|metadata| metadata["seed"].as_u64() >= Some(20)) as fn(&Value) -> bool),
            (r#"{"seed": {"exists": false}}"#, |metadata| metadata.get("seed").is_none()),
            (r#"{"inner.b": 2}"#, |metadata| metadata["inner"]["b"] == serde_json::json!([1, 2])),
            (r#"{"tag": ["a", "ü"]}"#, |metadata| metadata["tag"] == "a" || metadata["tag"] == "ü"),
        ] {
            let filter = Filter::from_json(filter).expect("a filter");
            let metadata = |document: &Document| {
                document.metadata.as_deref().map_or(Value::Null, |json| Value::Object(object(json)))
            };
            let documents = self.committed.documents.iter().filter(|document| chosen(&metadata(document)));
            let expected: Vec<Id> = documents.map(|document| document.id.clone()).collect();
            assert_eq!(snapshot.ids(&filter, &execution()).expect("read"), expected);
        }
        let seen: BTreeMap<_, _> = seen.into_iter().collect();
        for document in &self.committed.documents {
            let stored = &seen[&document.id];
            assert_eq!(stored.text, document.text);
            let metadata = |json: &Option<String>| json.as_deref().map(object);
            assert_eq!(metadata(&stored.metadata), metadata(&document.metadata));
            assert_eq!(stored.truncated, document.truncated);
            let tokens = document.vectors.len() / DIM;
            assert_eq!(stored.gains.len(), tokens);
            let halves = || document.vectors.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
            assert_eq!(stored.vectors, self.setup.keeps.then(halves));
            if tokens > 0 {
                let codec = snapshot.codec.as_ref().expect("there are tokens");
                let decoded = codec.decode(&stored.codes, &stored.gains, &stored.centroids);
                for (one, other) in decoded.chunks_exact(DIM).zip(document.vectors.chunks_exact(DIM)) {
                    // Of unit vectors: the codes are those of this document, whatever codecs they have gone through.
                    let distance: f32 = one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
                    assert!(distance < 0.1, "squared distance {distance}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn an_index_is_a_map_of_documents(setup in setup(), operations in prop::collection::vec(operation(), 1..30)) {
        let folder = tempfile::tempdir().expect("a folder");
        let storage: Arc<dyn Storage> = match setup.disk {
            Some(mmap) => {
                let storage = FileStorage::new(folder.path().join("index"), mmap).expect("a path");
                storage.make_folder().expect("made");
                Arc::new(storage)
            }
            None => Arc::new(MemoryStorage::new()),
        };
        let options = options(setup.kind, setup.train_after);
        let options = if setup.keeps { keeping(options) } else { options };
        let index = Index::create(Arc::clone(&storage), options).expect("created");
        let (committed, working) = (Model::default(), Model::default());
        let mut life = Life { setup, storage, index, writer: None, committed, working, seed: 0 };
        for operation in &operations {
            life.run(operation);
        }
        assert_sound(&life.index);
        life.writer = None;
        life.index.compact(&execution()).expect("compacted");
        life.compare();
        assert_sound(&life.index);
        let reopened = Index::open(Arc::clone(&life.storage), &execution()).expect("opened");
        prop_assert_eq!(content(&reopened.snapshot()), content(&life.index.snapshot()));
    }
}

#[test]
fn an_interrupted_deletion_by_filter_deletes_nothing() {
    let index = Index::create(Arc::new(MemoryStorage::new()), options(CodecKind::Flat, 0)).expect("created");
    let mut writer = index.writer(&execution()).expect("unlocked");
    let documents: Vec<Document> = (1..4).map(|number| document(Id::Int(number), 1, number as u64)).collect();
    add(&mut writer, &documents, false).expect("added");
    writer.commit(&execution()).expect("committed");
    let more: Vec<Document> = (5..8).map(|number| document(Id::Int(number), 1, number as u64)).collect();
    add(&mut writer, &more, false).expect("added");
    let filter = Filter::from_json(r#"{"seed": {"gte": 2}}"#).expect("a filter");
    let (stopped, changes) = (execution(), writer.changes());
    stopped.stop_flag().store(true, Ordering::Relaxed);
    assert!(matches!(writer.delete_matching(&filter, &stopped), Err(Error::Interrupted)));
    assert_eq!(writer.changes(), changes);
    assert_eq!(writer.delete_matching(&filter, &execution()).expect("deleted"), 5);
    writer.commit(&execution()).expect("committed");
    assert_eq!(
        index.snapshot().ids(&Filter::from_json("{}").expect("a filter"), &execution()).expect("read"),
        [Id::Int(1)]
    );
}
