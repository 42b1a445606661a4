//! A commit is all or nothing, whatever fails in whichever operation.
//!
//! A scripted life of an index is run once for each of its disk operations, which fails with an error, for want of
//! room, or with a power cut. After each failure the disk is looked at as a power cut could leave it, from "only what
//! was synced" to "everything": the index must open there with the content of the last commit that returned or of the
//! one that was under way, and must take the next commit.

mod support;

use std::sync::Arc;

use latewood_core::codec::CodecKind;
use latewood_core::ids::Missing;
use latewood_core::index::{Index, Writer};
use latewood_core::storage::Storage;
use latewood_core::storage::fault::{Fault, FaultStorage, Survivors};
use latewood_core::{Error, Result};
use support::{Content, Stored, add, assert_sound, content, document, execution, keeping, options, string};

/// Reached by the second commit of the life, which so replaces the codec and every segment.
const TRAIN_AFTER: u64 = 10;

/// Creates an index and changes it in every way. `committed` is told the content after each step that changes the disk.
fn live(storage: &FaultStorage, committed: &mut dyn FnMut(Content)) -> Result<()> {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let index = Index::create(Arc::clone(&storage), keeping(options(CodecKind::Residual, TRAIN_AFTER)))?;
    let mut committed = |index: &Index| committed(content(&index.snapshot()));
    committed(&index);

    let mut writer = index.writer(&execution())?;
    let first: Vec<_> = (0..6).map(|n| document(string(&format!("d{n}")), n as usize % 4, n)).collect();
    add(&mut writer, &first, false)?;
    writer.commit(&execution())?;
    committed(&index);

    add(&mut writer, &[document(string("d1"), 3, 21), document(string("e"), 2, 22)], true)?;
    writer.delete(&[string("d2"), string("d5")], false)?;
    update(&mut writer, &["d3", "e"], r#"{"changed": 1}"#)?;
    writer.commit(&execution())?;
    committed(&index);
    update(&mut writer, &["d0", "d4"], r#"{"changed": 2}"#)?;
    writer.commit(&execution())?;
    committed(&index);
    drop(writer);

    let mut writer = Index::open(Arc::clone(&storage), &execution())?.writer(&execution())?;
    add(&mut writer, &[document(string("f"), 1, 31)], false)?;
    writer.delete(&[string("e")], false)?;
    update(&mut writer, &["d0", "d1", "f"], r#"{"changed": 3, "seed": null}"#)?;
    writer.commit(&execution())?;
    index.refresh(&execution())?;
    committed(&index);
    drop(writer);

    index.compact(&execution())?;
    committed(&index);

    let mut writer = index.writer(&execution())?;
    writer.delete(&[string("d0"), string("d1"), string("d3"), string("d4"), string("f")], false)?;
    add(&mut writer, &[document(string("g"), 4, 41)], false)?;
    writer.commit(&execution())?;
    committed(&index);
    drop(writer);

    let index = Index::overwrite(storage, options(CodecKind::Flat, 0))?;
    committed(&index);
    let mut writer = index.writer(&execution())?;
    add(&mut writer, &[document(string("h"), 2, 51)], false)?;
    writer.commit(&execution())?;
    committed(&index);
    Ok(())
}

/// Changes metadata, in a segment or in memory.
fn update(writer: &mut Writer, ids: &[&str], patch: &str) -> Result<()> {
    let ids: Vec<_> = ids.iter().map(|id| string(id)).collect();
    writer.update_metadata(&ids, &[patch.to_owned()], false, Missing::Error, &execution()).map(drop)
}

/// The content after each step, and the number of disk operations, of a life without a failure.
fn undisturbed() -> (Vec<Content>, usize) {
    let disk = FaultStorage::new();
    let mut contents = Vec::new();
    live(&disk, &mut |content| contents.push(content)).expect("no failure");
    assert_eq!(contents.len(), 9);
    assert_eq!(contents[1].len(), 6);
    assert_eq!(contents[2].len(), 5);
    let changed = |step: usize, change: &str| {
        let has = |stored: &Stored| stored.metadata.as_ref().is_some_and(|metadata| metadata.contains(change));
        contents[step].iter().filter(|(_, stored)| has(stored)).count()
    };
    assert_eq!([changed(2, "\"changed\":1"), changed(3, "\"changed\":2"), changed(4, "\"changed\":3")], [2, 2, 3]);
    assert_eq!(contents[4], contents[5], "compaction changes no content");
    assert_eq!(contents[6..].iter().map(Content::len).collect::<Vec<_>>(), [1, 0, 1], "another is in its place");
    (contents, disk.operations())
}

/// Opens an index and sees that it is whole and takes a commit.
fn assert_usable(storage: Arc<dyn Storage>, contents: &[Content], allowed: &[usize], when: &str) {
    let index = match Index::open(Arc::clone(&storage), &execution()) {
        Err(Error::NotAnIndex { .. }) if allowed[0] == 0 => {
            // Nothing was created yet; it can be, now.
            Index::create(storage, options(CodecKind::Residual, TRAIN_AFTER)).expect("creatable");
            return;
        }
        other => other.unwrap_or_else(|error| panic!("{when}: {error}")),
    };
    let seen = content(&index.snapshot());
    let known = allowed.iter().filter_map(|&step| step.checked_sub(1)).any(|step| contents.get(step) == Some(&seen));
    assert!(known, "{when}: the content is that of neither commit");
    assert_sound(&index);

    let mut writer = index.writer(&execution()).expect("unlocked");
    add(&mut writer, &[document(string("later"), 2, 99)], false).expect("added");
    writer.commit(&execution()).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_sound(&index);
    let names = storage.list().expect("listed");
    let kept: Vec<_> = names.iter().filter(|name| name.starts_with("MANIFEST")).collect();
    assert_eq!(kept.len(), 2, "{when}: {names:?}");
    assert_eq!(content(&index.snapshot()).len(), seen.len() + 1, "{when}");
}

fn disturbed(fault: Fault) {
    let (contents, operations) = undisturbed();
    for at in 0..operations {
        let disk = FaultStorage::new();
        disk.fail_at(at, fault);
        let mut steps = 0;
        let result = live(&disk, &mut |_| steps += 1);
        assert!(disk.has_failed());
        // Only merges, the note of the newest generation and the removal of old files may fail without a word.
        assert!(result.is_err() || steps == contents.len(), "{fault:?} at {at}");
        for survivors in Survivors::ALL {
            let left = Arc::new(disk.after_power_cut(survivors));
            let when = format!("{fault:?} at {at} of {operations}, {survivors:?} survives");
            assert_usable(left, &contents, &[steps, steps + 1], &when);
        }
    }
}

#[test]
fn a_power_cut_leaves_the_last_or_the_next_commit() {
    disturbed(Fault::Crash);
}

#[test]
fn an_error_leaves_the_last_or_the_next_commit() {
    disturbed(Fault::Error);
}

#[test]
fn a_full_disk_leaves_the_last_or_the_next_commit() {
    disturbed(Fault::NoSpace);
}

#[test]
fn a_failed_writer_is_poisoned_and_gives_its_room_back() {
    let script = |disk: &FaultStorage, fault: Option<usize>| {
        let index = Index::create(Arc::new(disk.clone()), options(CodecKind::Residual, TRAIN_AFTER)).expect("created");
        let mut writer = index.writer(&execution()).expect("unlocked");
        add(&mut writer, &[document(string("a"), 3, 1)], false).expect("added");
        writer.commit(&execution()).expect("committed");
        let before = (disk.list().expect("listed"), disk.operations());
        add(&mut writer, &[document(string("b"), 3, 2)], false).expect("added");
        writer.delete(&[string("a")], false).expect("deleted");
        if let Some(fault) = fault {
            disk.fail_at(before.1 + fault, Fault::NoSpace);
        }
        let result = writer.commit(&execution());
        (index, writer, before, result)
    };
    let disk = FaultStorage::new();
    let (_, _, before, result) = script(&disk, None);
    result.expect("no failure");
    for fault in 0..disk.operations() - before.1 {
        let disk = FaultStorage::new();
        let (index, mut writer, before, result) = script(&disk, Some(fault));
        let Err(error) = result else {
            continue;
        };
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
            "{error}"
        );
        assert_eq!(content(&index.snapshot()).len(), 1, "readers stay where they were");
        assert_eq!(disk.list().expect("listed"), before.0, "what was written is removed");
        let add_again = add(&mut writer, &[document(string("c"), 1, 3)], false);
        assert!(matches!(add_again, Err(Error::WriterPoisoned { .. })));
        assert!(matches!(writer.commit(&execution()), Err(Error::WriterPoisoned { .. })));
        assert!(matches!(index.writer(&execution()), Err(Error::Locked { .. })), "until it is dropped");
        drop(writer);
        assert!(index.writer(&execution()).is_ok());
    }
}

#[test]
fn what_is_there_is_told_by_who_has_the_lock_and_who_has_not() {
    let disk: Arc<dyn Storage> = Arc::new(FaultStorage::new());
    let begin = |overwrite: bool| {
        let (disk, options) = (Arc::clone(&disk), options(CodecKind::Flat, 0));
        if overwrite { Index::overwrite(disk, options) } else { Index::create(disk, options) }
    };
    let creator = disk.try_lock("LOCK").expect("a lock");
    assert!(matches!(begin(false), Err(Error::Locked { .. })), "somebody is creating one");
    assert!(matches!(begin(true), Err(Error::Locked { .. })));
    drop(creator);
    let index = begin(false).expect("created");
    let _writer = index.writer(&execution()).expect("unlocked");
    assert!(matches!(begin(false), Err(Error::AlreadyExists { .. })), "it is there, whoever writes to it");
    assert!(matches!(begin(true), Err(Error::Locked { .. })), "it has a writer");
}
