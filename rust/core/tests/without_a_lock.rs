//! Two writers at once, as on a file system whose locks do nothing: another one acts at the instant of a commit.

mod support;

use std::sync::{Arc, Mutex};

use latewood_core::codec::CodecKind;
use latewood_core::ids::Id;
use latewood_core::index::{Index, IndexOptions};
use latewood_core::storage::MemoryStorage;
use latewood_core::{Error, Result};
use support::{Moment, Watched, add, assert_sound, document, execution, options};

type Act = Box<dyn FnOnce() + Send>;

/// A folder without locks in which somebody acts once: right before a file is opened, or right before or right after a
/// manifest gets its name.
struct Shared {
    files: MemoryStorage,
    opening: Arc<Mutex<Option<Act>>>,
    before: Arc<Mutex<Option<Act>>>,
    after: Arc<Mutex<Option<Act>>>,
}

impl Shared {
    fn storage(&self) -> Watched {
        let (opening, before, after) = (Arc::clone(&self.opening), Arc::clone(&self.before), Arc::clone(&self.after));
        let watcher = move |moment| match moment {
            Moment::Opening => act(&opening),
            Moment::Publishing => act(&before),
            Moment::Published => act(&after),
        };
        Watched { files: self.files.clone(), locks: false, watcher: Arc::new(watcher) }
    }
}

fn act(moment: &Mutex<Option<Act>>) {
    let act = moment.lock().expect("sound").take();
    if let Some(act) = act {
        act();
    }
}

fn commit(index: &Index, id: i64) -> Result<u64> {
    let mut writer = index.writer(&execution())?;
    add(&mut writer, &[document(Id::Int(id), 3, id as u64)], false)?;
    writer.commit(&execution())
}

/// An index with document 0, seen by a writer without a lock, and by another.
fn shared(options: IndexOptions) -> (Shared, Index, Index) {
    let files = MemoryStorage::new();
    let other = Index::create(Arc::new(files.clone()), options).expect("created");
    commit(&other, 0).expect("committed");
    let shared = Shared { files, opening: Arc::default(), before: Arc::default(), after: Arc::default() };
    let own = Index::open(Arc::new(shared.storage()), &execution()).expect("opened");
    (shared, own, other)
}

fn ids(shared: &Shared) -> Vec<Id> {
    let index = Index::open(Arc::new(shared.files.clone()), &execution()).expect("opens");
    assert_sound(&index);
    support::content(&index.snapshot()).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn others_go_on_from_a_commit_at_once() {
    for commits in [1, 2, 30] {
        let (shared, own, other) = shared(options(CodecKind::Flat, 0));
        let act: Act = Box::new(move || {
            for id in 0..commits {
                other.refresh(&execution()).expect("refreshed");
                commit(&other, 100 + id).expect("committed");
            }
        });
        *shared.after.lock().expect("sound") = Some(act);
        let committed = commit(&own, 1);
        let found = ids(&shared);
        assert_eq!(found.len(), 2 + commits as usize, "nothing is lost");
        // After so many commits nobody knows any more; all that can be done is not to harm them.
        assert_eq!(committed.is_ok(), commits <= 16, "{committed:?}");
    }
}

#[test]
fn a_manifest_whose_number_others_have_left_behind_is_taken_back() {
    for commits in [2, 5, 30] {
        let (shared, own, other) = shared(options(CodecKind::Flat, 0));
        let act: Act = Box::new(move || {
            for id in 0..commits {
                commit(&other, 100 + id).expect("committed");
            }
            other.compact(&execution()).expect("compacted");
        });
        *shared.before.lock().expect("sound") = Some(act);
        assert!(matches!(commit(&own, 1), Err(Error::Conflict { .. })));
        let found = ids(&shared);
        assert_eq!(found.len(), 1 + commits as usize);
        assert!(!found.contains(&Id::Int(1)));
    }
}

#[test]
fn others_may_remove_what_training_has_written() {
    let (shared, own, other) = shared(options(CodecKind::Residual, 30));
    let mut writer = own.writer(&execution()).expect("opened");
    add(&mut writer, &[document(Id::Int(1), 40, 1)], false).expect("added");
    // The first file that this commit opens is the segment that it has encoded again.
    let act: Act = Box::new(move || assert!(commit(&other, 2).is_ok()));
    *shared.opening.lock().expect("sound") = Some(act);
    let committed = writer.commit(&execution());
    assert!(matches!(committed, Err(Error::Conflict { .. })), "{committed:?}");
    assert_eq!(ids(&shared), [Id::Int(0), Id::Int(2)]);
}
