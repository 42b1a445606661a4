"""The life of an index against a plain dict: add, upsert, delete, commit, give up, reopen, compact, search."""

import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from latewood import Index, Writer
from latewood.errors import (
    DuplicateIdError,
    IndexExistsError,
    IndexNotFoundError,
    InvalidInputError,
    LatewoodError,
    UnknownIdError,
    WriterError,
)
from reference import int8_tolerance, maxsim
from reference_filters import matches
from strategies import Corpus, make_corpus

POOL = make_corpus(31, dim=32, documents=64, queries=6, document_tokens=(1, 12))
KEYS = st.integers(0, 25)
PICKS = st.integers(0, len(POOL.documents) - 1)

Entry = tuple[int, str | None, dict[str, Any] | None]
"""Position in the pool, text, metadata."""


class Life(RuleBasedStateMachine):
    """`committed` and `pending` are what the index and the open writer must hold, in order of insertion."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="latewood-life-"))
        self.committed: dict[Any, Entry] = {}
        self.pending: dict[Any, Entry] | None = None
        self.writer: Writer | None = None

    @initialize(
        bits=st.sampled_from([2, 4, 8]),
        codec=st.sampled_from(["residual", "flat"]),
        train_after=st.sampled_from([0, 40, 65_536]),
        strings=st.booleans(),
    )
    def create(self, bits: Any, codec: Any, train_after: int, strings: bool) -> None:
        self.strings = strings
        self.index = Index.create(self.folder / "index", dim=POOL.dim, bits=bits, codec=codec, train_after=train_after)

    def teardown(self) -> None:
        if self.writer is not None:
            self.writer.close()
        shutil.rmtree(self.folder)

    def name(self, key: int) -> Any:
        return f"document {key} é" if self.strings else key * 1_000_003 - 7

    def open_writer(self) -> tuple[Writer, dict[Any, Entry]]:
        if self.writer is None or self.pending is None:
            self.writer = self.index.writer()
            self.pending = dict(self.committed)
        return self.writer, self.pending

    def entries(self, picks: Sequence[int]) -> list[Entry]:
        return [(pick, f"text {pick}" if pick % 3 else None, {"pick": pick} if pick % 2 else None) for pick in picks]

    @rule(batch=st.dictionaries(KEYS, PICKS, max_size=6), upsert=st.booleans())
    def add(self, batch: dict[int, int], upsert: bool) -> None:
        writer, pending = self.open_writer()
        ids = [self.name(key) for key in batch]
        entries = self.entries(list(batch.values()))
        arguments: dict[str, Any] = {
            "texts": [text for _, text, _ in entries],
            "vectors": [POOL.documents[pick] for pick, _, _ in entries],
            "metadata": [metadata for _, _, metadata in entries],
        }
        if upsert:
            writer.upsert(ids, **arguments)
            for key, entry in zip(ids, entries, strict=True):
                # A replaced document is a new one: it goes to the end.
                pending.pop(key, None)
                pending[key] = entry
        elif any(key in pending for key in ids):
            with pytest.raises(DuplicateIdError):
                writer.add(ids, **arguments)
        else:
            writer.add(ids, **arguments)
            pending.update(zip(ids, entries, strict=True))

    @rule(keys=st.lists(KEYS, max_size=4, unique=True), skip=st.booleans())
    def delete(self, keys: list[int], skip: bool) -> None:
        writer, pending = self.open_writer()
        ids = [self.name(key) for key in keys]
        present = [key for key in ids if key in pending]
        if len(present) < len(ids) and not skip:
            with pytest.raises(UnknownIdError):
                writer.delete(ids)
            return
        assert writer.delete(ids, missing="skip" if skip else "error") == len(present)
        for key in present:
            del pending[key]

    @rule(least=PICKS, otherwise=st.booleans())
    def delete_by_filter(self, least: int, otherwise: bool) -> None:
        """What the writer has not committed yet is deleted as well."""
        writer, pending = self.open_writer()
        condition: dict[str, Any] = {"pick": {"gte": least}}
        if otherwise:
            condition = {"or": [condition, {"pick": None}]}
        gone = [key for key, (_, _, metadata) in pending.items() if matches(metadata, condition)]
        assert writer.delete(filter=condition) == len(gone)
        for key in gone:
            del pending[key]
        seen = [key for key, (_, _, metadata) in self.committed.items() if matches(metadata, condition)]
        assert list(self.index.ids(filter=condition)) == seen
        assert self.index.count(filter=condition) == len(seen)

    @rule()
    def commit(self) -> None:
        if self.writer is not None and self.pending is not None:
            self.writer.commit()
            self.writer.close()
            self.committed, self.writer, self.pending = self.pending, None, None

    @rule()
    def give_up(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer, self.pending = None, None

    @rule(mmap=st.booleans())
    def reopen(self, mmap: bool) -> None:
        self.give_up()
        self.index.close()
        self.index = Index.open(self.folder / "index", mmap=mmap)

    @rule()
    def compact(self) -> None:
        if self.writer is None:
            self.index.compact()

    @rule(number=st.integers(0, len(POOL.queries) - 1), k=st.integers(1, 12))
    def search(self, number: int, k: int) -> None:
        query = POOL.queries[number]
        hits = self.index.search(query, k, gather="exact")
        assert len(hits) == min(k, len(self.committed))
        if not hits:
            return
        decoded = dict(zip(self.committed, self.index.vectors(list(self.committed)), strict=True))
        wanted = {key: maxsim(query, vectors) for key, vectors in decoded.items()}
        slack = {key: int8_tolerance(query, vectors) for key, vectors in decoded.items()}
        for hit in hits:
            assert abs(hit.score - wanted[hit.id]) <= slack[hit.id]
            assert (hit.text, hit.metadata) == self.committed[hit.id][1:]
        found = {hit.id for hit in hits}
        assert all(wanted[key] - slack[key] <= hits[-1].score for key in decoded if key not in found)
        assert self.index.rerank(query, list(self.committed), k=k) == hits

    @invariant()
    def the_index_holds_what_was_committed(self) -> None:
        if not hasattr(self, "index"):
            return
        assert len(self.index) == len(self.committed)
        ids: Any = self.index.ids()
        assert (ids.tolist() if isinstance(ids, np.ndarray) else ids) == list(self.committed)
        every = [self.name(key) for key in range(26)]
        assert self.index.contains(every).tolist() == [key in self.committed for key in every]

    @rule()
    def check(self) -> None:
        assert self.index.check() == []
        vectors = self.index.vectors(list(self.committed))
        assert vectors.lengths.tolist() == [len(POOL.documents[pick]) for pick, _, _ in self.committed.values()]


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=max(15, settings().max_examples // 4), stateful_step_count=25)


@pytest.fixture
def vectors() -> list[NDArray[np.float32]]:
    return POOL.documents


@pytest.fixture
def index(tmp_path: Path, vectors: list[NDArray[np.float32]]) -> Index:
    index = Index.create(tmp_path / "index", dim=POOL.dim)
    index.add(["a", "b", "c"], vectors=vectors[:3], texts=["A", "B", "C"])
    return index


def test_a_block_commits_at_its_end_or_not_at_all(index: Index, vectors: list[NDArray[np.float32]]) -> None:
    with index.writer() as writer:
        writer.add(["d"], vectors=vectors[3:4])
        writer.delete(["a"])
        assert "d" not in index
        assert "a" in index
    assert index.ids() == ["b", "c", "d"]
    with pytest.raises(KeyError, match="nope"):
        delete_two(index)
    assert index.ids() == ["b", "c", "d"]


def delete_two(index: Index) -> None:
    with index.writer() as writer:
        assert writer.delete(["b"]) == 1
        writer.delete(["nope"])


def test_a_refused_call_adds_nothing(index: Index, vectors: list[NDArray[np.float32]]) -> None:
    with index.writer() as writer:
        with pytest.raises(DuplicateIdError, match="a"):
            writer.add(["x", "a"], vectors=vectors[:2])
        spoiled = vectors[1].copy()
        spoiled[0, 0] = np.nan
        with pytest.raises(InvalidInputError, match="y"):
            writer.add(["x", "y"], vectors=[vectors[0], spoiled])
        writer.add(["z"], vectors=vectors[:1])
    assert index.ids() == ["a", "b", "c", "z"]


def test_several_commits_of_one_writer(index: Index, vectors: list[NDArray[np.float32]]) -> None:
    with index.writer() as writer:
        writer.add(["d"], vectors=vectors[3:4])
        first = writer.commit()
        assert "d" in index
        writer.add(["e"], vectors=vectors[4:5])
        assert writer.commit() > first
    assert index.ids() == ["a", "b", "c", "d", "e"]


def test_a_closed_writer(index: Index, vectors: list[NDArray[np.float32]]) -> None:
    writer = index.writer()
    writer.close()
    writer.close()
    for call in (writer.commit, lambda: writer.delete(["a"]), lambda: writer.add(["x"], vectors=vectors[:1])):
        with pytest.raises(WriterError, match="closed"):
            call()


def test_readers_keep_their_snapshot(index: Index, vectors: list[NDArray[np.float32]]) -> None:
    reader = Index.open(index.path)
    index.delete(["a"])
    index.add(["d"], vectors=vectors[3:4])
    index.compact()
    assert reader.ids() == ["a", "b", "c"]
    assert [hit.id for hit in reader.search(vectors[0], 1)] == ["a"]
    assert reader.refresh()
    assert not reader.refresh()
    assert reader.ids() == ["b", "c", "d"]


def test_create_and_open(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        Index.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        Index.open(tmp_path)
    Index.create(tmp_path / "ünï côdé folder", dim=8)
    with pytest.raises(IndexExistsError):
        Index.create(tmp_path / "ünï côdé folder", dim=8)
    with Index.open(str(tmp_path / "ünï côdé folder")) as index:
        assert index.dim == 8
    with pytest.raises(LatewoodError, match="closed"):
        len(index)
    assert repr(index) == "Index(closed)"


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 0},
        {"dim": 5000},
        {"bits": 3},
        {"codec": "gzip"},
        {"centroids": 0},
        {"codec": "flat", "centroids": 8},
        {"train_after": -1},
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Index.create(tmp_path / "index", **{"dim": 32, **options})


def test_pickling_keeps_the_path(index: Index) -> None:
    copy = pickle.loads(pickle.dumps(index))
    assert copy.path == index.path
    assert copy.ids() == index.ids()
    hit = index.search(POOL.queries[0])[0]
    assert pickle.loads(pickle.dumps(hit)) == hit


def test_documents_and_contains(index: Index) -> None:
    documents = index.documents(["c", "a"])
    assert [(document.id, document.text, document.metadata) for document in documents] == [
        ("c", "C", None),
        ("a", "A", None),
    ]
    assert "a" in index
    assert "x" not in index
    assert None not in index
    assert 5 not in index
    for call in (index.documents, index.vectors):
        with pytest.raises(UnknownIdError, match="nope"):
            call(["a", "nope"])
    with pytest.raises(KeyError, match="nope"):
        index.delete(["nope"])


def test_ids_of_every_kind(tmp_path: Path, vectors: list[NDArray[np.float32]]) -> None:
    strange = ["", " ", "naïve", "日本語", "nul\0inside", "x" * 5000, "🦊"]
    index = Index.create(tmp_path / "strings", dim=POOL.dim)
    index.add(strange, vectors=vectors[: len(strange)])
    assert Index.open(index.path).ids() == strange
    numbers = [0, -1, 2**63 - 1, -(2**63)]
    index = Index.create(tmp_path / "numbers", dim=POOL.dim)
    index.add(np.array(numbers), vectors=vectors[:4])
    ids = index.ids()
    assert isinstance(ids, np.ndarray)
    assert ids.tolist() == numbers
    with pytest.raises(InvalidInputError, match="id"):
        index.add(["text"], vectors=vectors[:1])


def test_info(index: Index, corpus: Corpus) -> None:
    info = index.info()
    assert info["documents"] == 3
    assert info["dim"] == POOL.dim
    assert info["encoder"] is None


def test_no_change_is_no_commit(index: Index) -> None:
    before = sorted(path.name for path in Path(index.path).iterdir())
    with index.writer():
        pass
    index.add([], vectors=[])
    assert index.delete(["nope"], missing="skip") == 0
    assert sorted(path.name for path in Path(index.path).iterdir()) == before


def test_empty_batches_and_scalars(index: Index, vectors: list[NDArray[np.float32]]) -> None:
    with pytest.raises(InvalidInputError, match="one string"):
        index.add("d", vectors=vectors[:1])
    with pytest.raises(InvalidInputError, match="texts or vectors"):
        index.add(["d"])
