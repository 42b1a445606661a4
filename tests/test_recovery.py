"""A commit that cannot be used is an error; going back is asked for, and nothing is removed before it is."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latewood import Hit, Index
from latewood.errors import CorruptIndexError, InvalidInputError, StorageError
from strategies import make_corpus

CORPUS = make_corpus(41, dim=32, documents=40, queries=3, document_tokens=(3, 9))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three generations: empty, 30 documents, 40 documents."""
    path = tmp_path / "index"
    index = Index.create(path, dim=32, train_after=0)
    index.add(range(30), vectors=CORPUS.documents[:30], texts=[f"text {n}" for n in range(30)])
    index.add(range(30, 40), vectors=CORPUS.documents[30:], metadata=[{"n": n} for n in range(10)], merge=False)
    return path


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def remove(path: Path) -> None:
    path.unlink()


SPOILT: dict[str, Callable[[Path], None]] = {
    "manifest cut": lambda folder: cut(newest(folder, "MANIFEST-*"), 8),
    "manifest flipped": lambda folder: flip(newest(folder, "MANIFEST-*"), 70),
    "manifest removed": lambda folder: remove(newest(folder, "MANIFEST-*")),
    "segment missing": lambda folder: remove(newest(folder, "segment-*")),
    "segment empty": lambda folder: cut(newest(folder, "segment-*"), 0),
    "segment flipped": lambda folder: flip(newest(folder, "segment-*"), 70),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("mmap", [True, False])
def test_a_commit_that_cannot_be_used_is_an_error_everywhere(
    folder: Path, spoil: Callable[[Path], None], mmap: bool
) -> None:
    shutil.copytree(folder, folder.with_name("before"))
    live = Index.open(folder.with_name("before"))
    spoil(folder)
    files = sorted(path.name for path in folder.iterdir())
    with pytest.raises(CorruptIndexError, match=r"(?s)generation 3.*generation=2.*Index\.recover"):
        Index.open(folder, mmap=mmap)
    # An object that was opened when there were two generations only.
    reader = Index.open(folder, generation=2)
    assert len(reader) == 30
    assert reader.generation == 2
    assert not reader.refresh()
    with pytest.raises(InvalidInputError, match="for reading only"):
        reader.add([77], vectors=CORPUS.documents[:1])
    assert sorted(path.name for path in folder.iterdir()) == files, "nothing is removed"
    assert len(live) == 40


def test_a_live_object_is_told(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    live = Index.open(folder)
    live.add([50], vectors=CORPUS.documents[:1])
    assert live.generation == 4
    flip(newest(folder, "MANIFEST-*"), 70)
    for call in (live.refresh, live.writer, lambda: live.add([51], vectors=CORPUS.documents[:1]), live.compact):
        with pytest.raises(CorruptIndexError, match="MANIFEST-00000000000000000004"):
            call()
    assert len(live) == 41, "what is open can still be read"
    assert len(live.search(CORPUS.queries[0], 3)) == 3


def test_going_back_for_good(folder: Path) -> None:
    lost = newest(folder, "segment-*")
    lost.rename(folder.with_name("kept"))
    index = Index.recover(folder)
    assert (len(index), index.generation) == (30, 4)
    assert Index.open(folder).ids().tolist() == list(range(30))  # type: ignore[union-attr]
    assert newest(folder, "MANIFEST-*3").exists(), "what was given up stays until the next commit"
    index.add([99], vectors=CORPUS.documents[:1])
    assert Index.open(folder).check() == []
    assert len(Index.open(folder)) == 31


def test_a_copy_that_is_completed_later_is_whole(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    segment = newest(folder, "segment-*")
    for path in folder.iterdir():
        if path != segment:
            shutil.copy(path, copy)
    with pytest.raises(CorruptIndexError, match=rf"{re.escape(segment.name)}.*copy may still be under way"):
        Index.open(copy)
    with pytest.raises(CorruptIndexError):
        Index.open(copy)
    shutil.copy(segment, copy)
    index = Index.open(copy)
    index.add([500], vectors=CORPUS.documents[:1])
    assert (len(index), Index.open(copy).check()) == (41, [])


@pytest.mark.parametrize("order", ["LOCK NEWEST MANIFEST", "NEWEST MANIFEST segment"])
def test_a_half_copied_folder_is_noticed(folder: Path, tmp_path: Path, order: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for prefix in order.split():
        for path in folder.glob(f"{prefix}*"):
            if path != newest(folder, "MANIFEST-*"):
                shutil.copy(path, copy)
    with pytest.raises(CorruptIndexError, match="MANIFEST-00000000000000000003"):
        Index.open(copy)


def test_recover_leaves_a_whole_index_alone(folder: Path) -> None:
    files = sorted(path.name for path in folder.iterdir())
    assert len(Index.recover(folder)) == 40
    assert sorted(path.name for path in folder.iterdir()) == files
    assert len(Index.recover(folder, generation=2)) == 30
    with pytest.raises(InvalidInputError, match=r"no generation 9; it has 4, 3, 2"):
        Index.recover(folder, generation=9)


def test_nothing_is_whole(folder: Path) -> None:
    for path in folder.glob("MANIFEST-*"):
        flip(path, 70)
    for call in (Index.open, Index.recover):
        with pytest.raises(CorruptIndexError, match="generation 3"):
            call(folder)


def reads_as_before(folder: Path, mmap: bool, right: list[Hit]) -> bool:
    """Read everything: it is what it was, or damage is told."""
    try:
        index = Index.open(folder, mmap=mmap)
        documents = index.documents(range(40))
        found = index.search(CORPUS.queries[0], 40, gather="exact")
        vectors = index.vectors(range(40))
    except CorruptIndexError:
        return False
    assert [document.text for document in documents[:2]] == ["text 0", "text 1"]
    assert found == right
    assert len(vectors) == 40
    return True


def test_damage_in_codes_is_an_error_when_they_are_read(folder: Path) -> None:
    right = Index.open(folder).search(CORPUS.queries[0], 40, gather="exact")
    segment = newest(folder, "segment-*2-*")
    size = segment.stat().st_size
    told = 0
    for position in range(0, size, size // 150):
        flip(segment, position)
        for mmap in (True, False):
            if not reads_as_before(folder, mmap, right):
                told += 1
                with pytest.raises(CorruptIndexError, match=segment.name):
                    Index.open(folder).compact()
        flip(segment, position)
    assert told > 200
    assert Index.open(folder).check() == []


def test_compaction_says_what_check_says(folder: Path) -> None:
    segment = newest(folder, "segment-*2-*")
    flip(segment, segment.stat().st_size - 5)
    index = Index.open(folder)
    problems = index.check()
    with pytest.raises(CorruptIndexError) as caught:
        index.compact()
    assert str(caught.value) == problems[0]
    assert len(problems) == 1


def test_training_does_not_take_damage_for_documents(tmp_path: Path) -> None:
    """The commit that trains encodes everything again: what is damaged would get a right checksum."""
    index = Index.create(tmp_path / "index", dim=32, train_after=120)
    index.add(range(10), vectors=CORPUS.documents[:10])
    assert index.info()["codec"]["kind"] == "flat"
    segment = newest(tmp_path / "index", "segment-*")
    flip(segment, segment.stat().st_size - 5)
    index = Index.open(index.path)
    with pytest.raises(CorruptIndexError, match="codes"):
        index.add(range(10, 40), vectors=CORPUS.documents[10:40])
    assert len(Index.open(index.path)) == 10
    flip(segment, segment.stat().st_size - 5)
    index.add(range(10, 40), vectors=CORPUS.documents[10:40])
    assert index.info()["codec"]["kind"] == "residual"


def test_a_text_with_a_bad_byte_is_an_error(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=32)
    index.add(["a"], vectors=CORPUS.documents[:1], texts=["one two three"])
    segment = newest(tmp_path / "index", "segment-*")
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b"two", b"t\xffo"))
    for mmap in (True, False):
        with pytest.raises(CorruptIndexError, match="texts"):
            Index.open(index.path, mmap=mmap).documents(["a"])


def test_a_damaged_segment_is_left_out_of_merges(folder: Path) -> None:
    segment = newest(folder, "segment-*2-*")
    flip(segment, segment.stat().st_size - 5)
    index = Index.open(folder)
    for number in range(50, 60):
        index.add([number], vectors=CORPUS.documents[:1])
    assert len(Index.open(folder)) == 50
    assert all(segment.name in problem for problem in index.check())


def test_a_missing_folder_or_file_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Index.recover(tmp_path / "nowhere")
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(StorageError, match="file") as caught:
        Index.create(blocked, dim=8)
    assert caught.value.filename is not None
    assert caught.value.errno is not None


def test_answers_of_a_generation_do_not_change(folder: Path) -> None:
    before = Index.open(folder, generation=2).search(CORPUS.queries[1], 10)
    index = Index.open(folder)
    old = Index.open(folder, generation=2)
    index.delete([hit.id for hit in before[:3]])
    assert old.search(CORPUS.queries[1], 10) == before
    np.testing.assert_array_equal(old.ids(), np.arange(30))
