"""The folder under an open index: another index, an older state, another place; and two writers without a lock."""

import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest

from latewood import Index
from latewood.errors import (
    CommitConflictError,
    IndexExistsError,
    IndexNotFoundError,
    IndexReplacedError,
    LatewoodError,
)
from strategies import make_corpus

V = make_corpus(43, dim=16, documents=30, queries=2, document_tokens=(2, 6)).documents
W = make_corpus(44, dim=8, documents=30, queries=2, document_tokens=(2, 6)).documents

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps open files from being removed")


def assert_told(index: Index, documents: int) -> None:
    """Every write and the refresh say that the folder is another; reading goes on."""
    for call in (
        index.refresh,
        index.writer,
        lambda: index.add([900], vectors=V[:1]),
        lambda: index.delete([1], missing="skip"),
        index.compact,
    ):
        with pytest.raises(IndexReplacedError, match="open it again"):
            call()
    assert len(index) == documents
    assert len(index.search(V[0], 2)) == 2


@posix
def test_rebuilt_in_place(tmp_path: Path) -> None:
    old = Index.create(tmp_path / "x", dim=16)
    old.add([1, 2, 3], vectors=V[:3])
    shutil.rmtree(tmp_path / "x")
    with pytest.raises(IndexNotFoundError):
        old.refresh()
    new = Index.create(tmp_path / "x", dim=8)
    new.add(range(20), vectors=W[:20])
    assert_told(old, 3)
    assert (len(Index.open(tmp_path / "x")), new.check()) == (20, [])


@posix
def test_rebuilt_in_place_under_an_open_writer(tmp_path: Path) -> None:
    old = Index.create(tmp_path / "x", dim=16)
    old.add([1], vectors=V[:1])
    writer = old.writer()
    writer.add([2], vectors=V[1:2])
    shutil.rmtree(tmp_path / "x")
    new = Index.create(tmp_path / "x", dim=16)
    new.add(range(100, 110), vectors=V[:10])
    with pytest.raises(IndexReplacedError, match="lock"):
        writer.commit()
    writer.close()
    assert (len(Index.open(tmp_path / "x")), new.check()) == (10, [])


@posix
def test_an_older_state_put_back(tmp_path: Path) -> None:
    path, backup = tmp_path / "x", tmp_path / "backup"
    index = Index.create(path, dim=16)
    index.add(range(5), vectors=V[:5])
    shutil.copytree(path, backup)
    index.add(range(5, 10), vectors=V[5:10])
    shutil.rmtree(path)
    shutil.copytree(backup, path)
    assert_told(index, 10)
    # The same number of commits, and other documents.
    other = Index.open(path)
    other.add(range(50, 53), vectors=V[10:13])
    assert other.generation == index.generation
    assert_told(index, 10)
    assert (len(Index.open(path)), other.check()) == (8, [])


@posix
def test_an_older_state_that_has_gone_on_in_another_way(tmp_path: Path) -> None:
    path, backup = tmp_path / "x", tmp_path / "backup"
    index = Index.create(path, dim=16)
    index.add(range(5), vectors=V[:5])
    shutil.copytree(path, backup)
    index.add(range(5, 10), vectors=V[5:10])
    shutil.rmtree(path)
    shutil.copytree(backup, path)
    for number in range(4):
        Index.open(path).add([50 + number], vectors=V[10:11])
    assert_told(index, 10)
    assert (len(Index.open(path)), Index.open(path).check()) == (9, [])


@posix
def test_a_newer_copy_of_the_same_index_is_taken_up(tmp_path: Path) -> None:
    path, copy = tmp_path / "x", tmp_path / "copy"
    index = Index.create(path, dim=16)
    index.add(range(5), vectors=V[:5])
    shutil.copytree(path, copy)
    Index.open(copy).add([7], vectors=V[5:6])
    shutil.rmtree(path)
    copy.rename(path)
    assert index.refresh()
    index.add([8], vectors=V[6:7])
    assert (len(Index.open(path)), index.check()) == (7, [])


@posix
def test_a_symbolic_link_that_is_switched(tmp_path: Path) -> None:
    for name, documents in (("one", 3), ("two", 5)):
        Index.create(tmp_path / name, dim=16).add(range(documents), vectors=V[:documents])
    link = tmp_path / "current"
    link.symlink_to("one")
    index = Index.open(link)
    link.unlink()
    link.symlink_to("two")
    assert_told(index, 3)
    assert len(Index.open(tmp_path / "one")) == 3
    assert len(Index.open(tmp_path / "two")) == 5


@posix
def test_two_writers_whose_lock_was_removed(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x", dim=16)
    index.add(range(3), vectors=V[:3])
    first = index.writer()
    first.add([10], vectors=V[3:4])
    (tmp_path / "x" / "LOCK").unlink()
    second = Index.open(tmp_path / "x").writer()
    second.add([20], vectors=V[4:5])
    with pytest.raises(IndexReplacedError, match="lock"):
        first.commit()
    second.commit()
    first.close()
    second.close()
    assert list(Index.open(tmp_path / "x").ids()) == [0, 1, 2, 20]
    assert index.check() == []


def test_two_writers_whose_locks_do_nothing(tmp_path: Path) -> None:
    """As `fcntl` locks on some network file systems: a copy of the folder's files under another lock, put back."""
    path = tmp_path / "x"
    index = Index.create(path, dim=16)
    index.add(range(3), vectors=V[:3])
    twin = tmp_path / "twin"
    shutil.copytree(path, twin)
    other = Index.open(twin)
    other.add([20], vectors=V[4:5])
    with index.writer() as writer:
        writer.add([10], vectors=V[3:4])
        for file in twin.iterdir():
            if file.name != "LOCK":
                shutil.copy(file, path)
        with pytest.raises(CommitConflictError, match="generation 3"):
            writer.commit()
        writer.close()
    assert list(Index.open(path).ids()) == [0, 1, 2, 20]
    assert Index.open(path).check() == []


def test_going_back_is_told_to_who_saw_what_was_given_up(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x", dim=16)
    index.add([1, 2], vectors=V[:2])
    before = Index.open(tmp_path / "x")
    index.add([3], vectors=V[2:3])
    recovered = Index.recover(tmp_path / "x", generation=2)
    assert_told(index, 3)
    assert before.refresh()
    assert list(before.ids()) == list(recovered.ids()) == [1, 2]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Index.create("x", dim=16).add([0], vectors=V[:1])
    monkeypatch.chdir(tmp_path / "here")
    index = Index.open("x")
    assert index.path == str(tmp_path / "here" / "x")
    monkeypatch.chdir(tmp_path / "there")
    index.add([1, 2], vectors=V[1:3])
    assert len(Index.open("x")) == 1
    assert len(Index.open(tmp_path / "here" / "x")) == 3
    assert pickle.loads(pickle.dumps(index)).path == index.path


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Index.create("~/x", dim=8).path == str(tmp_path / "x")
    assert Index.open(Path("~") / "x").dim == 8


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_path_that_is_not_unicode(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe"
    index = Index.create(os.fsdecode(name), dim=16)
    index.add([1], vectors=V[:1])
    for same in (index.path, name):
        assert len(Index.open(os.fsdecode(same))) == 1
    copy = pickle.loads(pickle.dumps(index))
    assert (len(copy), copy.path, copy.info()["path"]) == (1, index.path, index.path)
    with pytest.raises(IndexExistsError) as caught:
        Index.create(os.fsdecode(name), dim=8)
    assert isinstance(caught.value, LatewoodError)


def test_an_index_opened_at_a_generation_stays_there_when_pickled(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x", dim=16)
    index.add([1], vectors=V[:1])
    index.add([2], vectors=V[1:2])
    old = pickle.loads(pickle.dumps(Index.open(tmp_path / "x", generation=2)))
    assert (old.generation, len(old)) == (2, 1)
