"""The life of an index against a plain dict: every change in every order, and after each all that can be asked."""

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from latewood import Index, Ragged, Writer
from latewood.errors import (
    DuplicateIdError,
    IndexExistsError,
    IndexLockedError,
    IndexNotFoundError,
    IndexReplacedError,
    InvalidInputError,
    LatewoodError,
    UnknownIdError,
    WriterError,
)
from reference import int8_tolerance, maxsim
from reference_filters import matches
from reference_metadata import best_of_groups, updated
from strategies import Corpus, make_corpus
from strategies_filters import few_changes, few_filters, few_metadata, few_paths

POOL = make_corpus(31, dim=32, documents=64, queries=6, document_tokens=(1, 12))
DOCUMENTS = [*POOL.documents, np.zeros((0, POOL.dim), dtype=np.float32)]
"""The last has no token."""
KEYS = st.integers(0, 25)
PICKS = st.integers(0, len(DOCUMENTS) - 1)
FORMS = ("list", "documents", "batches", "both")
"""In which form the vectors of added documents come."""
READERS = 2
"""Objects that are kept beside the one that writes."""


@dataclass(frozen=True)
class Entry:
    """A document: its position in `DOCUMENTS`, text and metadata."""

    pick: int
    text: str | None
    metadata: dict[str, Any] | None


Held = dict[Any, Entry]
"""Documents in the order in which they were added."""


@dataclass(frozen=True)
class Question:
    """What is asked of an index."""

    query: int
    conditions: tuple[dict[str, Any], dict[str, Any]]
    path: str
    k: int
    offset: int


QUESTIONS = st.builds(
    Question,
    query=st.integers(0, len(POOL.queries) - 1),
    conditions=st.tuples(few_filters, few_filters),
    path=few_paths,
    k=st.integers(1, 8),
    offset=st.integers(0, 4),
)
Batch = dict[int, tuple[int, Any]]
BATCHES = st.dictionaries(KEYS, st.tuples(PICKS, few_metadata), max_size=6)
MANY = st.dictionaries(KEYS, st.tuples(PICKS, few_metadata), min_size=8, max_size=20)
SETTINGS = st.fixed_dictionaries(
    {
        "bits": st.sampled_from([2, 4, 8]),
        "codec": st.sampled_from(["residual", "flat"]),
        "train_after": st.sampled_from([0, 40, 65_536]),
    }
)


def assert_holds(index: Index, held: Held, question: Question) -> None:
    """Ask an index that must hold these documents."""
    assert len(index) == len(held)
    assert plain(index.ids()) == list(held)
    documents = [(found.id, found.text, written(found.metadata)) for found in index.documents(list(held))]
    assert documents == [(key, entry.text, written(entry.metadata)) for key, entry in held.items()]
    condition, other = question.conditions
    for asked in (condition, other):
        assert plain(index.ids(filter=asked)) == allowed(held, held, asked)
        assert index.count(filter=asked) == len(allowed(held, held, asked))
    scores = ranking(index, held, question.query)
    query = POOL.queries[question.query]

    def found(hits: Any) -> list[tuple[Any, float, int]]:
        return [(hit.id, hit.score, hit.rank) for hit in hits]

    def page(among: Sequence[Any], path: str | None = None, least: float = -np.inf) -> list[tuple[Any, float, int]]:
        best = (
            among if path is None else best_of_groups(among, {key: entry.metadata for key, entry in held.items()}, path)
        )
        ranked = [(key, scores[key], rank) for rank, key in enumerate(best, start=1) if scores[key] >= least]
        return ranked[question.offset : question.offset + question.k]

    options: dict[str, Any] = {"offset": question.offset, "gather": "exact"}
    searched = [key for key in scores if DOCUMENTS[held[key].pick].size]
    some = allowed(searched, held, condition)
    middle = scores[some[len(some) // 2]] if some else 0.0
    assert found(index.search(query, question.k, **options)) == page(searched)
    grouped = {**options, "filter": condition, "group_by": question.path}
    assert found(index.search(query, question.k, **grouped)) == page(some, question.path)
    above = {**grouped, "min_score": middle}
    assert found(index.search(query, question.k, **above)) == page(some, question.path, middle)
    several = index.search_batch([query] * 3, question.k, filter=[condition, None, other], **options)
    assert list(map(found, several)) == [page(some), page(searched), page(allowed(searched, held, other))]

    candidates = list(held)[::-2]
    reranked = [key for key in scores if key in candidates]
    own: dict[str, Any] = {"offset": question.offset, "filter": condition}
    passed = allowed(reranked, held, condition)
    assert found(index.rerank(query, candidates, k=question.k, **own)) == page(passed)
    own["group_by"] = question.path
    assert found(index.rerank(query, candidates, k=question.k, **own)) == page(passed, question.path)


def ranking(index: Index, held: Held, number: int) -> dict[Any, float]:
    """All documents by their exact scores, best first; those without a token come last, with `-inf`."""
    query = POOL.queries[number]
    hits = index.search(query, max(1, len(held)), gather="exact")
    decoded = dict(zip(held, index.vectors(list(held)), strict=True)) if held else {}
    order = {key: place for place, key in enumerate(held)}
    assert [(-hit.score, order[hit.id]) for hit in hits] == sorted((-hit.score, order[hit.id]) for hit in hits)
    for hit in hits:
        entry, vectors = held[hit.id], decoded[hit.id]
        assert len(vectors) == len(DOCUMENTS[entry.pick])
        assert abs(hit.score - maxsim(query, vectors)) <= int8_tolerance(query, vectors)
        assert (hit.text, written(hit.metadata)) == (entry.text, written(entry.metadata))
    scores = {hit.id: hit.score for hit in hits}
    empty = [key for key in held if key not in scores]
    assert all(len(DOCUMENTS[held[key].pick]) == 0 for key in empty)
    return {**scores, **dict.fromkeys(empty, -np.inf)}


def allowed(keys: Any, held: Held, condition: dict[str, Any]) -> list[Any]:
    """Those of the documents that a filter lets through."""
    return [key for key in keys if matches(held[key].metadata, condition)]


def plain(ids: Any) -> list[Any]:
    return list(ids.tolist() if isinstance(ids, np.ndarray) else ids)


def written(entry: Mapping[str, Any] | None) -> str:
    """Metadata so that `1`, `1.0` and `True` differ, and the order of fields does not count."""
    return json.dumps(entry, sort_keys=True)


@dataclass
class Reader:
    """Another object on the same folder, and what it must go on seeing."""

    index: Index
    held: Held
    replaced: bool = False
    """Whether another index is in the folder now."""


class Life(RuleBasedStateMachine):
    """`committed` and `pending` are what the index and the open writer must hold, in order of insertion."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="latewood-life-"))
        self.path = self.folder / "index"
        self.committed: Held = {}
        self.pending: Held | None = None
        self.writer: Writer | None = None
        self.readers: list[Reader] = []
        self.steps = 0

    @initialize(
        options=SETTINGS,
        strings=st.booleans(),
        batch=MANY,
        eager=st.booleans(),
        questions=st.lists(QUESTIONS, min_size=1, max_size=6),
    )
    def create(
        self, options: dict[str, Any], strings: bool, batch: Batch, eager: bool, questions: list[Question]
    ) -> None:
        self.questions, self.eager = questions, eager
        self.fill(Index.create(self.path, dim=POOL.dim, **options), strings, batch)

    def fill(self, index: Index, strings: bool, batch: Batch) -> None:
        """Put the first documents into an index, which is the one from now on."""
        self.index, self.strings = index, strings
        self.committed = self.entries(batch)
        index.add(list(self.committed), **columns(self.committed, "list"))

    def teardown(self) -> None:
        if self.writer is not None:
            self.writer.close()
        shutil.rmtree(self.folder)

    def name(self, key: int) -> Any:
        return f"document {key} é" if self.strings else key * 1_000_003 - 7

    def entries(self, batch: Batch) -> Held:
        return {
            self.name(key): Entry(pick, f"text {pick}" if pick % 3 else None, own) for key, (pick, own) in batch.items()
        }

    def open_writer(self) -> tuple[Writer, Held]:
        if self.writer is None or self.pending is None:
            self.writer = self.index.writer()
            self.pending = dict(self.committed)
        return self.writer, self.pending

    # ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(batch=BATCHES, upsert=st.booleans(), form=st.sampled_from(FORMS))
    def add(self, batch: Batch, upsert: bool, form: str) -> None:
        writer, pending = self.open_writer()
        given = self.entries(batch)
        arguments = columns(given, form)
        ids = list(given) if form == "list" else iter(given)
        if upsert:
            writer.upsert(ids, **arguments)
            for key, entry in given.items():
                # A replaced document is a new one: it goes to the end.
                pending.pop(key, None)
                pending[key] = entry
        elif pending.keys() & given.keys():
            with pytest.raises(DuplicateIdError):
                writer.add(ids, **arguments)
            if form in ("batches", "both") and len(given) > 1:
                # Parts of it may have been added, and then it takes no commit.
                self.give_up()
        else:
            writer.add(ids, **arguments)
            pending.update(given)
        self.changed()

    def changed(self) -> None:
        """Commit at once in the lives that have many small commits."""
        if self.eager:
            self.commit(go_on=False)

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
        self.changed()

    @rule(condition=few_filters)
    def delete_by_filter(self, condition: dict[str, Any]) -> None:
        """What the writer has not committed yet is deleted as well."""
        writer, pending = self.open_writer()
        gone = allowed(pending, pending, condition)
        assert writer.delete(filter=condition) == len(gone)
        for key in gone:
            del pending[key]
        self.changed()

    @rule(
        batch=st.dictionaries(KEYS, few_changes, min_size=1, max_size=5),
        known=st.booleans(),
        one=st.booleans(),
        whole=st.booleans(),
        skip=st.booleans(),
    )
    def update(self, batch: dict[int, dict[str, Any]], known: bool, one: bool, whole: bool, skip: bool) -> None:
        """Each document gets a change of its own, or all the same; with `known` they are there."""
        writer, pending = self.open_writer()
        there = list(pending)
        given = {there[key % len(there)] if known and there else self.name(key): batch[key] for key in batch}
        first = next(iter(given.values()))
        if one:
            given = dict.fromkeys(given, first)
        options: dict[str, Any] = {"replace": whole, "missing": "skip" if skip else "error"}
        change = first if one else list(given.values())
        present = [key for key in given if key in pending]
        if len(present) < len(given) and not skip:
            with pytest.raises(UnknownIdError):
                writer.update_metadata(list(given), change, **options)
            return
        assert writer.update_metadata(list(given), change, **options) == len(present)
        for key in present:
            self.change(pending, key, given[key], whole=whole)
        self.changed()

    @rule(condition=few_filters, change=few_changes, whole=st.booleans())
    def update_by_filter(self, condition: dict[str, Any], change: dict[str, Any], whole: bool) -> None:
        writer, pending = self.open_writer()
        found = allowed(pending, pending, condition)
        assert writer.update_metadata(metadata=change, filter=condition, replace=whole) == len(found)
        for key in found:
            self.change(pending, key, change, whole=whole)
        self.changed()

    @staticmethod
    def change(pending: Held, key: Any, change: dict[str, Any], *, whole: bool) -> None:
        pending[key] = replace(pending[key], metadata=updated(pending[key].metadata, change, replace=whole))

    @rule(go_on=st.booleans())
    def commit(self, go_on: bool) -> None:
        if self.writer is None or self.pending is None:
            return
        self.writer.commit()
        self.committed = dict(self.pending)
        if not go_on:
            self.give_up()

    @rule()
    def give_up(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer, self.pending = None, None

    @rule()
    def compact(self) -> None:
        if self.writer is None:
            self.index.compact()
        else:
            with pytest.raises(IndexLockedError):
                self.index.compact()

    # ── objects on the folder ────────────────────────────────────────────────────────────────────────────────────────

    @rule(mmap=st.booleans(), create=st.booleans())
    def reopen(self, mmap: bool, create: bool) -> None:
        self.give_up()
        self.index.close()
        self.index = self.opened(mmap=mmap, create=create)

    def opened(self, *, mmap: bool, create: bool) -> Index:
        """What is there is opened by `create` too, whatever settings it asks for."""
        if create:
            return Index.create(self.path, dim=POOL.dim, bits=1, codec="flat", exist_ok=True, mmap=mmap)
        return Index.open(self.path, mmap=mmap)

    @rule(options=SETTINGS, strings=st.booleans(), batch=MANY)
    def overwrite(self, options: dict[str, Any], strings: bool, batch: Batch) -> None:
        """Who has the old index open keeps it."""
        if self.writer is not None:
            with pytest.raises(IndexLockedError):
                Index.create(self.path, dim=POOL.dim, overwrite=True, **options)
            return
        self.readers.append(Reader(self.index, self.committed))
        for reader in self.readers:
            reader.replaced = True
        del self.readers[:-READERS]
        self.fill(Index.create(self.path, dim=POOL.dim, overwrite=True, **options), strings, batch)

    @rule(dim=st.sampled_from([POOL.dim, POOL.dim * 2]), exist_ok=st.booleans())
    def create_again(self, dim: int, exist_ok: bool) -> None:
        """An index is not put in the place of another unasked, nor opened if it has other dimensions."""
        if exist_ok and dim == POOL.dim:
            Index.create(self.path, dim=dim, exist_ok=True).close()
            return
        with pytest.raises(InvalidInputError if exist_ok else IndexExistsError):
            Index.create(self.path, dim=dim, exist_ok=exist_ok)

    @rule(mmap=st.booleans(), create=st.booleans())
    def start_reading(self, mmap: bool, create: bool) -> None:
        self.readers.append(Reader(self.opened(mmap=mmap, create=create), self.committed))
        del self.readers[:-READERS]

    @precondition(lambda self: self.readers)
    @rule(number=st.integers(0, READERS - 1))
    def refresh(self, number: int) -> None:
        """It moves to the last commit, or says that this is another index."""
        reader = self.readers[number % len(self.readers)]
        if reader.replaced:
            writes = (reader.index.writer, reader.index.compact) if self.writer is None else ()
            for call in (reader.index.refresh, *writes):
                with pytest.raises(IndexReplacedError):
                    call()
        else:
            reader.index.refresh()
            reader.held = self.committed

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def all_objects_answer_as_the_model(self) -> None:
        if not hasattr(self, "index"):
            return
        self.steps += 1
        question = self.questions[self.steps % len(self.questions)]
        for reader in (Reader(self.index, self.committed), *self.readers):
            assert_holds(reader.index, reader.held, question)
        every = [self.name(key) for key in range(26)]
        assert self.index.contains(every).tolist() == [key in self.committed for key in every]

    @rule()
    def check(self) -> None:
        assert self.index.check() == []


def columns(held: Held, form: str) -> dict[str, Any]:
    """What `add` takes beside the ids."""
    return {
        "texts": [entry.text for entry in held.values()],
        "vectors": in_form([DOCUMENTS[entry.pick] for entry in held.values()], form),
        "metadata": [entry.metadata for entry in held.values()],
    }


def in_form(vectors: list[NDArray[np.float32]], form: str) -> Any:
    """Give the vectors of documents as a list, or by an iterator."""
    if form == "list":
        return vectors

    def some() -> Iterator[Any]:
        for start in range(0, len(vectors), 3):
            part = vectors[start : start + 3]
            if form == "batches" or (form == "both" and start % 2):
                yield Ragged(np.concatenate(part), np.cumsum([0, *map(len, part)]))
            else:
                yield from part

    return some()


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


def test_members_of_an_enum_are_ids_by_their_values(tmp_path: Path, vectors: list[NDArray[np.float32]]) -> None:
    class Page(str, Enum):  # noqa: UP042  whose `str` is another than that of a StrEnum
        HOME = "home"

    index = Index.create(tmp_path / "pages", dim=POOL.dim)
    index.add([Page.HOME], vectors=vectors[:1])
    assert index.ids() == ["home"]
    assert Page.HOME in index
    assert "home" in index
    assert index.search(vectors[0], 1, ids=[Page.HOME])[0].id == Page.HOME


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
