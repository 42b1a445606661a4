"""Vectors from iterators: handed on bit by bit, and still all or nothing."""

from collections.abc import Iterator
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index, Ragged
from latewood.errors import DuplicateIdError, InvalidInputError, WriterError
from strategies import make_corpus
from support import build_index, run_python


def test_an_iterator_adds_what_a_list_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latewood.index.additions.STREAM_DOCUMENTS", 7)
    corpus = make_corpus(1, documents=100, queries=3)
    whole = build_index(tmp_path / "whole", corpus)
    index = Index.create(tmp_path / "streamed", dim=corpus.dim, train_after=0)
    metadata: list[dict[str, object] | None] = [{"n": key} for key in range(100)]
    index.add(
        iter(range(100)),
        vectors=iter(corpus.documents),
        texts=(f"text {key}" for key in range(100)),  # type: ignore[arg-type]
        metadata=metadata,
    )
    for query in corpus.queries:
        assert [hit.id for hit in index.search(query)] == [hit.id for hit in whole.search(query)]
    assert [document.metadata for document in index.documents([0, 99])] == [{"n": 0}, {"n": 99}]
    assert index.documents([42])[0].text == "text 42"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"vectors": [np.ones((1, 8))] * 3}, "more ids than vectors"),
        ({"vectors": iter([np.ones((1, 8))] * 3)}, "more ids than vectors"),
        ({"vectors": np.ones((3, 2, 8)), "mask": np.ones((3, 2))}, "more ids than vectors"),
        ({"vectors": [np.ones((1, 8))] * 3, "texts": iter("abc")}, "more ids than texts"),
        ({"vectors": [np.ones((1, 8))] * 3, "metadata": [{}, {}, {}]}, "more ids than metadata"),
        ({"vectors": [np.ones((1, 8))] * 3, "ids": ["a", "b", "c"], "metadata": repeat({})}, "more metadata than ids"),
        ({"vectors": [np.ones((1, 8))] * 3, "ids": iter("ab")}, "2 ids for vectors of 3"),
        ({"vectors": [np.ones((1, 8))] * 3, "ids": iter("abc"), "texts": iter("ab")}, "more ids than texts"),
    ],
)
def test_a_column_may_have_no_end(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    given: dict[str, Any] = {"ids": count(), **columns}
    with pytest.raises(InvalidInputError, match=words):
        index.add(**given)
    assert len(index) == 0


def test_iterators_of_one_length_go_with_a_list(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    documents = np.ones((3, 2, 8), dtype="f4")
    index.add(iter("abc"), vectors=documents, mask=[[1, 1], [1, 0], [0, 0]], texts=iter("xyz"))  # type: ignore[arg-type]
    assert [document.text for document in index.documents(list("abc"))] == ["x", "y", "z"]
    assert index.vectors(list("abc")).lengths.tolist() == [2, 1, 0]


def test_batches_may_stand_between_documents(tmp_path: Path) -> None:
    one = np.eye(2, 8, dtype="f4")
    index = Index.create(tmp_path / "index", dim=8)

    def documents() -> Iterator[Any]:
        yield one
        yield [one, one]
        yield Ragged(np.concatenate([one, one]), np.array([0, 1, 4]))
        yield np.ones((3, 2, 8), np.float16)
        yield one.tolist()

    index.add(range(9), vectors=documents())
    assert [len(vectors) for vectors in index.vectors(range(9))] == [2, 2, 2, 1, 3, 2, 2, 2, 2]
    index.add([], vectors=iter([]))
    assert len(index) == 9


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_an_iterator_may_use_one_array_again(tmp_path: Path, library: str) -> None:
    """As readers of files do."""
    arrays = pytest.importorskip(library)
    documents = make_corpus(2, dim=8, documents=20).documents

    def again() -> Iterator[Any]:
        buffer = arrays.zeros((99, 8), dtype=arrays.float32)
        for vectors in documents:
            own = buffer[: len(vectors)]
            own[:] = arrays.asarray(vectors)
            yield own

    index = Index.create(tmp_path / "index", dim=8, codec="flat")
    index.add(range(20), vectors=documents)
    before = index.vectors(range(20)).values.tolist()
    index.upsert(range(20), vectors=again())
    assert index.vectors(range(20)).values.tolist() == before


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"ids": None}, "ids cannot be gone through"),
        ({"ids": "abc"}, "ids is one string"),
        ({"ids": {"a": 1, "b": 2, "c": 3}}, "ids is a dict"),
        ({"ids": {"a", "b", "c"}}, "no order"),
        ({"ids": ["a", "b", 3]}, "mixes"),
        ({"ids": ["a", "b", "c"], "texts": "abc"}, "texts is one str"),
        ({"ids": ["a", "b", "c"], "metadata": {"a": 1}}, "metadata is one dict"),
    ],
)
def test_columns_beside_an_iterator_are_collections_too(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    for one in ([np.eye(2, 8, dtype="f4")] * 3, iter([np.eye(2, 8, dtype="f4")] * 3)):
        with pytest.raises(InvalidInputError, match=words):
            index.add(**columns, vectors=one)
    assert len(index) == 0


@pytest.mark.parametrize(
    ("ids", "others", "words"),
    [
        (["a", "b"], {}, "1 id.* for|ids for"),
        (["a", "b", "c", "d"], {}, "more ids"),
        (["a", "b", "c"], {"texts": ["x"]}, "texts for"),
        (["a", "b", "c"], {"texts": [None] * 4}, "more texts"),
        (["a", "b", "c"], {"mask": [[1]]}, "iterator"),
    ],
)
def test_columns_of_other_lengths(tmp_path: Path, ids: list[str], others: dict[str, Any], words: str) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    with pytest.raises(InvalidInputError, match=words):
        index.add(ids, vectors=iter([np.eye(2, 8, dtype="f4")] * 3), **others)
    assert len(index) == 0
    index.add(ids[:3], vectors=[np.eye(2, 8, dtype="f4")] * len(ids[:3]))


def test_what_fails_midway_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latewood.index.additions.STREAM_DOCUMENTS", 2)
    one = np.eye(2, 8, dtype="f4")
    index = Index.create(tmp_path / "index", dim=8)

    def broken() -> Iterator[Any]:
        yield from [one] * 5
        raise OSError

    with pytest.raises(OSError), index.writer() as writer:  # noqa: PT011  its own
        writer.add(range(9), vectors=broken())
    with pytest.raises(DuplicateIdError, match="0"):
        index.add([0, 1, 2, 0], vectors=iter([one] * 4))
    with pytest.raises(InvalidInputError, match=r"document 3.*text"):
        index.add(range(4), vectors=iter([one, one, one, "text"]))
    assert len(index) == len(Index.open(index.path)) == 0
    writer = index.writer()
    with pytest.raises(DuplicateIdError):
        writer.add([0, 1, 2, 0], vectors=iter([one] * 4))
    with pytest.raises(WriterError, match="ended early"):
        writer.commit()
    writer.close()


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Beside what it has given already, an iterator of any length takes a bounded amount of memory."""
    code = """
import json, resource, sys
import numpy as np
import latewood
def documents():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(64, 64)).astype("f4")
    for number in range(6000):
        yield centres[rng.integers(0, 64, 100)] + 0.3 * rng.normal(size=(100, 64)).astype("f4")
index = latewood.Index.create(sys.argv[1], dim=64, bits=1, centroids=256)
next(documents())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
index.add(range(6000), vectors=documents())
print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024))
"""
    # As floats all of it would take 146 MiB, and twice that while a list of it is put together.
    assert run_python(code, tmp_path / "index") < 240
