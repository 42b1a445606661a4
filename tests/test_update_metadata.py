"""Metadata that change without vectors: which documents, by what, in which forms, and what is refused."""

import threading
from collections import ChainMap, UserDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Index
from latewood.errors import DuplicateIdError, InvalidInputError, UnknownIdError, WriterError
from reference_metadata import merge_patch, updated
from strategies import make_corpus
from strategies_filters import changes, metadata

CORPUS = make_corpus(9, dim=32, documents=40, queries=3)
VECTOR = np.ones((1, 8), dtype=np.float32)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", dim=CORPUS.dim)
    index.add(range(40), vectors=CORPUS.documents, metadata=[{"n": key, "even": key % 2 == 0} for key in range(40)])
    return index


def metadata_of(index: Index, *ids: Any) -> list[Any]:
    return [document.metadata for document in index.documents(ids)]


RFC_7396: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


def test_the_examples_of_the_standard(tmp_path: Path) -> None:
    """Those of RFC 7396, appendix A, that begin and end with an object; they hold the oracle too."""
    index = Index.create(tmp_path / "index", dim=8)
    ids = range(len(RFC_7396))
    index.add(ids, vectors=[VECTOR] * len(ids), metadata=[before for before, _, _ in RFC_7396])
    index.update_metadata(ids, [patch for _, patch, _ in RFC_7396])
    assert metadata_of(index, *ids) == [after for _, _, after in RFC_7396]
    assert [merge_patch(before, patch) for before, patch, _ in RFC_7396] == [after for _, _, after in RFC_7396]


@given(before=metadata, steps=st.lists(st.tuples(changes, st.booleans(), st.booleans()), max_size=4))
def test_change_upon_change(before: Any, steps: list[tuple[dict[str, Any], bool, bool]]) -> None:
    with TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", dim=8)
        index.add([1, 2], vectors=[VECTOR] * 2, metadata=[before, {"own": 1}])
        for change, replace, merge in steps:
            index.update_metadata([1], change, replace=replace, merge=merge)
            before = updated(before, change, replace=replace)
        for _ in range(2):
            assert metadata_of(index, 1, 2) == [before, {"own": 1}]
            index.compact()


@pytest.mark.parametrize("ids", [[1, 3], (1, 3), np.array([1, 3]), iter([1, 3]), range(1, 4, 2), {1: 0, 3: 0}.keys()])
def test_forms_of_ids(index: Index, ids: Any) -> None:
    assert index.update_metadata(ids, {"seen": True}) == 2
    assert index.ids(filter={"seen": True}).tolist() == [1, 3]  # type: ignore[union-attr]


PAIR: list[dict[str, Any]] = [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize("form", ["list", "tuple", "iterator", "objects"])
def test_forms_of_a_change_for_each(index: Index, form: str) -> None:
    forms: dict[str, Any] = {
        "list": PAIR,
        "tuple": tuple(PAIR),
        "iterator": iter(PAIR),
        "objects": np.array(PAIR, dtype=object),
    }
    assert index.update_metadata([1, 3], forms[form]) == 2
    assert metadata_of(index, 1, 3) == [{"n": 1, "even": False, "x": 1}, {"n": 3, "even": False, "x": 2}]


@pytest.mark.parametrize("change", [UserDict({"x": 1}), ChainMap({"x": 1}, {"x": 2}), {"x": np.int64(1)}])
def test_forms_of_a_mapping(index: Index, change: Any) -> None:
    index.update_metadata([1], change, replace=True)
    assert metadata_of(index, 1) == [{"x": 1}]


def test_null_takes_a_field_away_and_is_kept_when_it_replaces(index: Index) -> None:
    index.update_metadata([1], {"n": None})
    index.update_metadata([2], {"n": None}, replace=True)
    assert metadata_of(index, 1, 2) == [{"even": False}, {"n": None}]


def test_a_document_without_metadata_gets_some(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    index.add(["a", "b"], vectors=[VECTOR] * 2)
    assert index.update_metadata(["b"], {"x": {"y": None, "z": 1}}) == 1
    assert metadata_of(index, "a", "b") == [None, {"x": {"z": 1}}]


ONE = {"x": 1}
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"metadata": ONE}, InvalidInputError, "neither of ids and filter"),
    ({"ids": [1], "metadata": ONE, "filter": {"n": 1}}, InvalidInputError, "both of ids and filter"),
    ({"ids": [1]}, InvalidInputError, "metadata must be one mapping"),
    ({"ids": [1], "metadata": "x"}, InvalidInputError, "metadata is one str"),
    ({"ids": [1, 2], "metadata": [ONE]}, InvalidInputError, "1 metadata for 2 ids"),
    ({"ids": [1, 2], "metadata": (ONE for _ in range(3))}, InvalidInputError, "3 metadata for 2 ids"),
    ({"ids": [1, 2], "metadata": [ONE, None]}, InvalidInputError, "document 2 is a NoneType"),
    ({"ids": [1, 2], "metadata": [ONE, {"x": {1j}}]}, InvalidInputError, "document 2 is not JSON"),
    (
        {"ids": [1], "metadata": {"x": float("nan")}},
        InvalidInputError,
        "metadata is not JSON in field 'x': nan is no number there; write None",
    ),
    ({"ids": [1], "metadata": {"x": {"y": [1, {"z": 1j}]}}}, InvalidInputError, "field 'x.y'.*complex"),
    ({"ids": [1], "metadata": {"x": [np.longdouble(1)]}}, InvalidInputError, "field 'x'.*longdouble is not a value"),
    ({"ids": [1], "metadata": {1: "a", "1": "b"}}, InvalidInputError, "two keys that are '1' as JSON"),
    ({"ids": [1], "metadata": {"x": [{"y": {True: 1, "true": 2}}]}}, InvalidInputError, "two keys that are 'true'"),
    ({"ids": [1], "metadata": {("x",): 1}}, InvalidInputError, "metadata is not JSON: keys must be"),
    ({"ids": [1], "metadata": {"x": "\ud800"}}, InvalidInputError, "surrogate"),
    ({"ids": [1], "metadata": ONE, "replace": None}, InvalidInputError, "replace"),
    ({"ids": [1, 99], "metadata": ONE}, UnknownIdError, "99"),
    ({"ids": [1, 2, 1], "metadata": ONE}, DuplicateIdError, "1"),
    ({"ids": ["1"], "metadata": ONE, "missing": "skip"}, InvalidInputError, "cannot be in this index"),
    ({"metadata": [ONE], "filter": {"n": 1}}, InvalidInputError, "metadata must be one mapping"),
    ({"metadata": ONE, "filter": {"n": 1}, "missing": "skip"}, InvalidInputError, "missing="),
    ({"metadata": ONE, "filter": {}}, InvalidInputError, "update every document"),
    ({"metadata": ONE, "filter": {"$or": []}}, InvalidInputError, 'write "or"'),
    ({"metadata": ONE, "filter": [{"n": 1}]}, InvalidInputError, "filter is a list"),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_what_is_refused_changes_nothing(
    index: Index, arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    before = metadata_of(index, *range(40))
    generation = index.generation
    with index.writer() as writer, pytest.raises(kind, match=words):
        writer.update_metadata(**arguments)
    assert (metadata_of(index, *range(40)), index.generation) == (before, generation)


def test_unknown_ids_are_passed_over_on_demand(index: Index) -> None:
    assert index.update_metadata([99, 1, 98], {"x": 1}, missing="skip") == 1
    assert index.count(filter={"x": 1}) == 1
    generation = index.generation
    assert index.update_metadata([99], {"x": 1}, missing="skip") == 0
    assert index.update_metadata([], {"x": 1}) == 0
    assert index.update_metadata(metadata={"x": 1}, filter={"n": 99}) == 0
    assert index.generation == generation, "without a change nothing is written"


def test_a_filter_may_ask_for_what_it_changes(index: Index) -> None:
    assert index.update_metadata(metadata={"n": 100}, filter={"n": {"lt": 20}}) == 20
    assert index.update_metadata(metadata={"n": 0}, filter={"n": 100}) == 20
    assert index.count(filter={"n": 100}) == 0
    assert index.count(filter={"n": 0}) == 20


def test_vectors_texts_and_order_stay(index: Index) -> None:
    before = [[(hit.id, hit.score, hit.text) for hit in index.search(query, 40)] for query in CORPUS.queries]
    index.update_metadata(range(0, 40, 3), {"x": 1})
    index.update_metadata(metadata={"y": 1}, filter={"x": 1})
    for _ in range(2):
        after = [[(hit.id, hit.score, hit.text) for hit in index.search(query, 40)] for query in CORPUS.queries]
        assert after == before
        assert index.ids(filter={"y": 1}).tolist() == list(range(0, 40, 3))  # type: ignore[union-attr]
        index.compact()


def test_one_writer_sees_its_own_changes(index: Index) -> None:
    with index.writer() as writer:
        writer.update_metadata([1], {"x": 1})
        writer.upsert([2], vectors=CORPUS.documents[:1], metadata=[{"x": 1}])
        assert writer.update_metadata(metadata={"x": 2}, filter={"x": 1}) == 2
        writer.delete([1])
        assert writer.update_metadata(metadata={"x": 3}, filter={"x": 2}) == 1
        writer.add([1], vectors=CORPUS.documents[:1])
        assert writer.update_metadata([1], {"z": 1}) == 1
        assert index.count(filter={"x": {"exists": True}}) == 0, "others see the last commit"
    assert metadata_of(index, 2, 1) == [{"x": 3}, {"z": 1}], "what was deleted has left nothing"
    writer = index.writer()
    writer.update_metadata([2], {"x": 4})
    writer.close()
    assert metadata_of(index, 2) == [{"x": 3}], "what is not committed is given up"
    with pytest.raises(WriterError, match="closed"):
        writer.update_metadata([2], {"x": 4})


def test_readers_see_a_whole_change_or_none(index: Index) -> None:
    """While one writes, another refreshes and asks."""
    index.update_metadata(range(40), {"version": 0})
    done, mixed = threading.Event(), []

    def read() -> None:
        reader = Index.open(index.path)
        while not done.is_set():
            reader.refresh()
            found = {hit.metadata["version"] for hit in reader.search(CORPUS.queries[0], 40) if hit.metadata}
            groups = reader.search(CORPUS.queries[0], 40, group_by="version")
            if (len(found), len(groups)) != (1, 1):
                mixed.append(found)

    thread = threading.Thread(target=read)
    thread.start()
    for version in range(1, 40):
        index.update_metadata(metadata={"version": version}, filter={"version": version - 1})
    done.set()
    thread.join()
    assert mixed == []


def test_files_stay_few_and_small(tmp_path: Path) -> None:
    """A change writes what changes; many small ones are merged as segments are."""
    index = Index.create(tmp_path / "index", dim=8)
    index.add(range(5000), vectors=[VECTOR] * 5000, metadata=[{"text": "x" * 100}] * 5000)

    def sizes() -> list[int]:
        return [path.stat().st_size for path in Path(index.path).glob("*.lwd")]

    before = sum(sizes())
    for turn in range(60):
        index.update_metadata([turn % 7, 100 + turn], {"turn": turn})
    assert sum(sizes()) < before + 40_000, "60 times the metadata of two documents, not of 5,000"
    assert len(sizes()) < 20
    assert index.count(filter={"turn": {"exists": True}}) == 67
    assert index.check() == []
