//! Documents of another kind: the codebook grows, what is stored stays readable, and a call that fails has done nothing.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use latewood_core::Error;
use latewood_core::codec::{CodecKind, CodecOptions};
use latewood_core::index::{Index, IndexOptions};
use latewood_core::storage::MemoryStorage;
use support::{DIM, Document, Moment, Watched, add, assert_sound, content, document, execution, string};

const TOKENS: usize = 8;

fn create(storage: MemoryStorage) -> Index {
    let codec = CodecOptions { kind: CodecKind::Residual, bits: 4, centroids: None, seed: 7, train_after: 1200 };
    Index::create(
        Arc::new(storage),
        IndexOptions { dim: DIM, codec, keep_vectors: None, fde: None, encoder: None, trained: None },
    )
    .expect("created")
}

/// Documents whose vectors lie near a few directions of their kind.
fn of_kind(kind: u64, documents: std::ops::Range<u64>) -> Vec<Document> {
    let directions = document(string("directions"), 12, 1000 + kind).vectors;
    let near = |number: u64| {
        let mut one = document(string(&format!("{kind}-{number}")), TOKENS, number);
        for (token, vector) in one.vectors.chunks_mut(DIM).enumerate() {
            let direction = &directions[(number as usize * 5 + token) % 12 * DIM..][..DIM];
            vector.iter_mut().zip(direction).for_each(|(value, towards)| *value = 0.2 * *value + towards);
        }
        one
    };
    documents.map(near).collect()
}

fn centroids(index: &Index) -> usize {
    index.snapshot().codec.as_ref().expect("trained").centroid_count()
}

fn commit(index: &Index, documents: &[Document]) {
    let mut writer = index.writer(&execution()).expect("unlocked");
    add(&mut writer, documents, false).expect("added");
    writer.commit(&execution()).expect("committed");
}

#[test]
fn one_commit_of_another_kind_grows_the_codebook_and_changes_nothing_that_is_stored() {
    let index = create(MemoryStorage::new());
    commit(&index, &of_kind(1, 0..200));
    let (before, first) = (content(&index.snapshot()), centroids(&index));
    let old = index.snapshot();
    commit(&index, &of_kind(2, 0..200));
    assert!(centroids(&index) > first);
    assert!(index.info().drift.expect("known") < 1.25);
    assert_eq!(content(&index.snapshot())[..200], before, "codes of the first kind");
    assert_eq!(content(&old), before, "a reader of the commit before");
    assert_sound(&index);
    // More of the same kinds asks for nothing.
    let grown = centroids(&index);
    commit(&index, &[of_kind(1, 200..220), of_kind(2, 200..220)].concat());
    assert_eq!(centroids(&index), grown);
    // Another process has the segments open that are older than the growth.
    index.compact(&execution()).expect("compacted");
    assert_eq!(content(&index.snapshot())[..200], before, "compaction copies codes");
    assert_sound(&index);
}

#[test]
fn small_commits_of_another_kind_are_encoded_again_once_they_are_many() {
    let index = create(MemoryStorage::new());
    commit(&index, &of_kind(1, 0..200));
    let (before, first) = (content(&index.snapshot()), centroids(&index));
    let mut grown_at = Vec::new();
    // Of 16 token vectors each, which is less than 1,200 / 64. With 28 commits there are 2,048, which deserve 128 centroids.
    for step in 0..100 {
        let had = centroids(&index);
        commit(&index, &of_kind(2, step * 2..step * 2 + 2));
        if centroids(&index) > had {
            grown_at.push(step);
        }
    }
    assert_eq!((first, grown_at), (64, vec![27]));
    let drift = index.info().drift.expect("known");
    assert!(centroids(&index) > first && drift < 1.25, "{drift}");
    assert_eq!(content(&index.snapshot())[..200], before, "codes of the first kind");
    let cells =
        content(&index.snapshot())[200..].iter().flat_map(|(_, stored)| stored.centroids.clone()).collect::<Vec<_>>();
    let new = cells.iter().filter(|&&cell| usize::from(cell) >= first).count();
    assert!(new * 10 > cells.len() * 9, "{new} of {}", cells.len());
    assert_sound(&index);
}

#[test]
fn a_writer_that_merges_nothing_rewrites_nothing_and_compaction_catches_up() {
    let index = create(MemoryStorage::new());
    commit(&index, &of_kind(1, 0..200));
    let first = centroids(&index);
    for step in 0..80 {
        let mut writer = index.writer_without_merging(&execution()).expect("unlocked");
        add(&mut writer, &of_kind(2, step * 2..step * 2 + 2), false).expect("added");
        writer.commit(&execution()).expect("committed");
    }
    assert_eq!((centroids(&index), index.snapshot().segments.len()), (first, 81));
    assert!(index.info().drift.expect("known") > 1.25);
    index.compact(&execution()).expect("compacted");
    assert!(centroids(&index) > first && index.info().drift.expect("known") < 1.25);
    assert_eq!(content(&index.snapshot()).len(), 360);
    assert_sound(&index);
}

#[test]
fn a_commit_that_grows_the_codebook_may_be_interrupted_and_is_done_by_the_next() {
    let small = |step: u64| of_kind(2, step * 10..step * 10 + 10);
    let undisturbed = create(MemoryStorage::new());
    commit(&undisturbed, &of_kind(1, 0..200));
    (0..2).for_each(|step| commit(&undisturbed, &small(step)));

    let own = execution();
    let (opened, stop) = (Arc::new(AtomicUsize::new(usize::MAX / 2)), own.stop_flag());
    let (left, stops) = (Arc::clone(&opened), Arc::clone(&stop));
    let watcher = move |moment| {
        if moment == Moment::Opening && left.fetch_sub(1, Ordering::Relaxed) == 0 {
            stops.store(true, Ordering::Relaxed);
        }
    };
    let files = MemoryStorage::new();
    create(files.clone());
    let storage = Arc::new(Watched { files, locks: true, watcher: Arc::new(watcher) });
    let index = Index::open(storage, &execution()).expect("opened");
    commit(&index, &of_kind(1, 0..200));
    let (before, first) = (content(&index.snapshot()), centroids(&index));
    let mut writer = index.writer(&execution()).expect("unlocked");
    add(&mut writer, &small(0), false).expect("added");
    // Before anything is done, then when the first file is opened, then at the second, and so on.
    stop.store(true, Ordering::Relaxed);
    let mut interrupted = 0;
    while let Err(error) = writer.commit(&own) {
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!(content(&index.snapshot()), before);
        opened.store(interrupted, Ordering::Relaxed);
        stop.store(false, Ordering::Relaxed);
        interrupted += 1;
    }
    opened.store(usize::MAX / 2, Ordering::Relaxed);
    assert!(interrupted >= 2, "{interrupted}");
    drop(writer);
    assert!(centroids(&index) > first);
    commit(&index, &small(1));
    assert_eq!(content(&index.snapshot()), content(&undisturbed.snapshot()));
    assert_sound(&index);
}

#[test]
fn a_writer_that_is_dropped_teaches_the_codebook_nothing() {
    let index = create(MemoryStorage::new());
    commit(&index, &of_kind(1, 0..200));
    let (before, first) = (content(&index.snapshot()), centroids(&index));
    let mut writer = index.writer(&execution()).expect("unlocked");
    add(&mut writer, &of_kind(2, 0..200), false).expect("waits");
    let stopped = execution();
    stopped.stop_flag().store(true, Ordering::Relaxed);
    assert!(matches!(writer.commit(&stopped), Err(Error::Interrupted)));
    drop(writer);
    assert_eq!((content(&index.snapshot()), centroids(&index)), (before, first));
    assert_sound(&index);
}

#[test]
fn an_index_begins_with_the_codec_of_another() {
    let other = create(MemoryStorage::new());
    commit(&other, &of_kind(1, 0..200));
    let trained = other.snapshot().codec.clone();
    let codec = other.snapshot().codec_options().clone();
    let make = |dim, codec, trained| {
        Index::create(
            Arc::new(MemoryStorage::new()),
            IndexOptions { dim, codec, keep_vectors: None, fde: None, encoder: None, trained },
        )
    };
    let index = make(DIM, codec.clone(), trained.clone()).expect("created");
    assert_sound(&index);
    // One document is far from what trains a codec, and gets the codes that it has in the other.
    commit(&index, &of_kind(1, 50..51));
    let (own, theirs) = (content(&index.snapshot()), content(&other.snapshot()));
    assert_eq!(own[0], theirs[50]);
    assert!(matches!(make(DIM + 1, codec.clone(), trained.clone()), Err(Error::Dimension { .. })));
    let eight = CodecOptions { bits: 8, ..codec };
    assert!(matches!(make(DIM, eight, trained), Err(Error::Invalid(_))));
}
