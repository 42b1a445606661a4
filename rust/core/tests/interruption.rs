//! Ctrl-C while an index is opened: the call ends, and everything is as it was.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use latewood_core::codec::CodecKind;
use latewood_core::index::Index;
use latewood_core::parallel::Execution;
use latewood_core::storage::{MemoryStorage, Storage};
use latewood_core::{Error, Result};
use support::{Moment, Watched, add, assert_sound, content, document, execution, options, string};

fn commit(index: &Index, first: u64) {
    let mut writer = index.writer_without_merging(&execution()).expect("unlocked");
    let documents: Vec<_> = (first..first + 5).map(|n| document(string(&format!("d{n}")), 3, n)).collect();
    add(&mut writer, &documents, false).expect("added");
    writer.delete(&[string("d1")], true).expect("deleted");
    writer.commit(&execution()).expect("committed");
}

fn bytes(files: &MemoryStorage) -> Vec<(String, Vec<u8>)> {
    let names = files.list().expect("listed");
    names.into_iter().map(|name| (name.clone(), files.open(&name, &execution()).expect("there").to_vec())).collect()
}

/// Makes a call that is interrupted when it opens its first file, then one at its second file, and so on. It gets an index
/// that has not seen the newest commit, and its folder, whose newest segment is missing if `damaged`.
fn interrupt_at_every_file<R>(damaged: bool, call: impl Fn(&Index, Arc<dyn Storage>, &Execution) -> Result<R>) {
    let mut interrupted = 0;
    for at in 0.. {
        let files = MemoryStorage::new();
        let other = Index::create(Arc::new(files.clone()), options(CodecKind::Residual, 0)).expect("created");
        commit(&other, 0);
        let own = execution();
        let (opened, stop) = (Arc::new(AtomicUsize::new(0)), own.stop_flag());
        let (count, stops) = (Arc::clone(&opened), Arc::clone(&stop));
        let watcher = move |moment| {
            if moment == Moment::Opening && count.fetch_add(1, Ordering::Relaxed) == at {
                stops.store(true, Ordering::Relaxed);
            }
        };
        let storage = Arc::new(Watched { files: files.clone(), locks: true, watcher: Arc::new(watcher) });
        let index = Index::open(storage.clone(), &execution()).expect("opened");
        let seen = content(&index.snapshot());
        commit(&other, 5);
        if damaged {
            let segments = files.list().expect("listed").into_iter().filter(|name| name.starts_with("segment"));
            files.remove(&segments.max().expect("there")).expect("removed");
        }
        let before = bytes(&files);
        opened.store(0, Ordering::Relaxed);
        stop.store(false, Ordering::Relaxed);
        match call(&index, storage, &own) {
            Err(Error::Interrupted) => interrupted += 1,
            // The interruption came when there was nothing left to interrupt, or not at all.
            result => {
                result.map(drop).expect("done");
                if opened.load(Ordering::Relaxed) <= at {
                    assert!(interrupted > 2, "{interrupted} of {at} files");
                    return;
                }
                continue;
            }
        }
        assert_eq!(bytes(&files), before, "at file {at}");
        assert_eq!((index.snapshot().generation, content(&index.snapshot())), (2, seen.clone()), "at file {at}");
        if !damaged {
            drop(index.writer(&execution()).expect("unlocked"));
            assert_eq!(content(&index.snapshot()).len(), 9);
            assert_sound(&index);
        }
    }
}

#[test]
fn opening_is_interrupted_and_changes_nothing() {
    interrupt_at_every_file(false, |_, storage, execution| Index::open(storage, execution));
    interrupt_at_every_file(false, |_, storage, execution| Index::open_at(storage, 3, execution));
}

#[test]
fn taking_up_another_commit_is_interrupted_and_changes_nothing() {
    interrupt_at_every_file(false, |index, _, execution| index.refresh(execution));
    interrupt_at_every_file(false, |index, _, execution| index.writer(execution));
}

#[test]
fn going_back_is_interrupted_and_changes_nothing_or_is_done() {
    for damaged in [false, true] {
        for generation in [None, Some(2)] {
            interrupt_at_every_file(damaged, |_, storage, execution| {
                let index = Index::recover(storage, generation, execution)?;
                assert_eq!(index.snapshot().generation, if (damaged, generation) == (false, None) { 3 } else { 4 });
                Ok(())
            });
        }
    }
}

#[test]
fn a_listener_is_asked_while_files_are_opened() {
    let files = MemoryStorage::new();
    commit(&Index::create(Arc::new(files.clone()), options(CodecKind::Flat, 0)).expect("created"), 0);
    let watcher = |_| thread::sleep(Duration::from_millis(100));
    let storage = Arc::new(Watched { files, locks: true, watcher: Arc::new(watcher) });
    assert!(Index::open(storage.clone(), &execution().listening(|| false)).is_ok());
    assert!(matches!(Index::open(storage, &execution().listening(|| true)), Err(Error::Interrupted)));
}
