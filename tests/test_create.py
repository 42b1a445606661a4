"""Creating where something is already: an error, the index that is there, or another in its place."""

import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from latewood.errors import (
    EncoderMismatchError,
    EncoderRequiredError,
    IndexExistsError,
    IndexLockedError,
    IndexReplacedError,
    InvalidInputError,
)
from support import HashEncoder, run_python

VECTORS = [np.eye(2, 8, dtype="f4"), np.eye(3, 8, dtype="f4")]


def test_it_is_an_error_unless_one_says_otherwise(tmp_path: Path) -> None:
    Index.create(tmp_path / "index", dim=8)
    with pytest.raises(IndexExistsError):
        Index.create(tmp_path / "index", dim=8)
    with pytest.raises(InvalidInputError, match=r"exist_ok.*overwrite"):
        Index.create(tmp_path / "index", dim=8, exist_ok=True, overwrite=True)


def test_the_index_that_is_there_is_opened_as_it_is(tmp_path: Path) -> None:
    for _ in range(2):
        index = Index.create(tmp_path / "index", dim=8, codec="flat", bits=8, exist_ok=True)
        index.upsert(["a"], vectors=VECTORS[:1])
        assert len(index) == 1
    again = Index.create(tmp_path / "index", dim=8, codec="residual", bits=2, exist_ok=True)
    assert again.info()["codec_options"]["kind"] == "flat"
    with pytest.raises(InvalidInputError, match="has 8 dimensions, not 9"):
        Index.create(tmp_path / "index", dim=9, exist_ok=True)


def test_what_is_there_is_opened_while_somebody_writes_to_it(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", dim=8).writer() as writer:
        writer.add(["a"], vectors=VECTORS[:1])
        assert len(Index.create(tmp_path / "index", dim=8, exist_ok=True)) == 0
        with pytest.raises(IndexExistsError):
            Index.create(tmp_path / "index", dim=8)
    assert len(Index.create(tmp_path / "index", dim=8, exist_ok=True)) == 1


def test_many_may_begin_at_once(tmp_path: Path) -> None:
    """As the processes of a server do: one creates it, and the others open that."""
    code = """
import json, sys, time
from latewood import Index
while time.time() < float(sys.argv[2]):
    pass
print(json.dumps(Index.create(sys.argv[1], dim=8, exist_ok=True).dim))
"""
    start = time.time() + 3
    with ThreadPoolExecutor(4) as pool:
        begun = [pool.submit(run_python, code, tmp_path / "index", start) for _ in range(4)]
        assert [one.result() for one in begun] == [8] * 4
    assert Index.open(tmp_path / "index").check() == []


def test_its_encoder_must_fit(tmp_path: Path) -> None:
    Index.create(tmp_path / "index", encoder=HashEncoder(8, name="one"))
    index = Index.create(tmp_path / "index", encoder=HashEncoder(8, name="one"), exist_ok=True)
    index.add(["a"], texts=["a fox"])
    with pytest.raises(EncoderMismatchError):
        Index.create(tmp_path / "index", encoder=HashEncoder(8, name="other"), exist_ok=True)


def test_another_takes_its_place_at_once(tmp_path: Path) -> None:
    """Readers of the old one keep it; a writer of it keeps it from being replaced."""
    old = Index.create(tmp_path / "index", dim=8)
    old.add(["a", "b"], vectors=VECTORS)
    with old.writer() as writer:
        with pytest.raises(IndexLockedError):
            Index.create(tmp_path / "index", dim=8, overwrite=True)
        writer.add(["c"], vectors=VECTORS[:1])
    reader = Index.open(tmp_path / "index")
    new = Index.create(tmp_path / "index", dim=16, codec="flat", overwrite=True)
    assert (len(new), new.dim) == (0, 16)
    for held in (reader, old):
        assert {hit.id for hit in held.search(VECTORS[0], 5)} == {"a", "b", "c"}
        with pytest.raises(IndexReplacedError):
            held.refresh()
        with pytest.raises(IndexReplacedError):
            held.writer()
    new.add([1], vectors=[np.ones((2, 16), "f4")])
    assert Index.open(tmp_path / "index").ids().tolist() == [1]  # type: ignore[union-attr]
    assert new.check() == []
    assert {hit.id for hit in reader.search(VECTORS[0], 5)} == {"a", "b", "c"}, "its files are held"


def test_it_can_be_overwritten_again_and_again(tmp_path: Path) -> None:
    for turn in range(4):
        index = Index.create(tmp_path / "index", dim=8, overwrite=True)
        index.add([f"{turn}"], vectors=VECTORS[:1])
        assert Index.open(tmp_path / "index").ids() == [f"{turn}"]
    files = {path.name for path in (tmp_path / "index").rglob("*") if path.is_file()}
    assert len(files) < 12, "what was overwritten is cleared away by later commits"


def test_a_damaged_index_can_be_overwritten(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    index.add(["a"], vectors=VECTORS[:1])
    for path in (tmp_path / "index").rglob("*"):
        if path.is_file() and path.stat().st_size > 64:
            path.write_bytes(b"\0" * path.stat().st_size)
    new = Index.create(tmp_path / "index", dim=8, overwrite=True)
    new.add(["b"], vectors=VECTORS[:1])
    assert Index.open(tmp_path / "index").ids() == ["b"]


class Unpicklable(HashEncoder):
    def __reduce__(self) -> Any:
        message = "not this one"
        raise TypeError(message)


def test_an_encoder_is_pickled_with_its_index_if_it_can_be(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", encoder=HashEncoder(8))
    index.add(["a"], texts=["a fox"])
    assert pickle.loads(pickle.dumps(index)).search("a fox")[0].id == "a"
    kept = pickle.dumps(index)
    Index.create(tmp_path / "index", encoder=HashEncoder(8, name="other"), overwrite=True)
    with pytest.raises(EncoderMismatchError):
        pickle.loads(kept)
    Index.create(tmp_path / "index", encoder=HashEncoder(8), overwrite=True).add(["a"], texts=["a fox"])
    left = pickle.loads(pickle.dumps(Index.open(tmp_path / "index", encoder=Unpicklable(8))))
    with pytest.raises(EncoderRequiredError, match="use_encoder"):
        left.search("a fox")
    left.use_encoder(HashEncoder(8))
    assert left.search("a fox")[0].id == "a"


class Shelf(Index):
    """A class of a program's own."""


def test_a_class_of_ones_own_stays_what_it_is(tmp_path: Path) -> None:
    shelf = Shelf.create(tmp_path / "index", dim=8)
    for other in (shelf, Shelf.open(shelf.path), pickle.loads(pickle.dumps(shelf)), copy.deepcopy(shelf)):
        assert type(other) is Shelf
