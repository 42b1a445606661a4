"""Filters against a page of Python: in `ids`, `count`, `search` and `delete`, through an index's whole life."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latewood import Index
from latewood.errors import InvalidInputError
from reference_filters import matches
from reference_metadata import updated
from strategies_filters import COMMON, NAMES, SCALARS, changes, filters, metadata

VECTOR = np.ones((1, 8), dtype=np.float32)
DRAWN = 26
"""Filters of an example: 101 with their opposites, and with what each makes together with the next."""

Metadata = dict[str, Any] | None

EMPTY: list[dict[str, Any]] = [{}, {"and": []}, {"not": {"or": [{}, {}]}}]
"""Filters that ask for no field."""


# ── indexes that have seen something ─────────────────────────────────────────────────────────────────────────────────


def drawn(source: random.Random, depth: int = 0) -> Any:
    """A value of metadata."""
    choice = source.random()
    if depth > 3 or choice < 0.5:
        return source.choice(COMMON if choice < 0.25 else SCALARS)
    if choice < 0.7:
        return [drawn(source, depth + 1) for _ in range(source.randrange(4))]
    return {source.choice(NAMES[:5] if choice < 0.9 else NAMES): drawn(source, depth + 1) for _ in range(3)}


def drawn_metadata(source: random.Random) -> Metadata:
    if source.random() < 0.1:
        return None
    return {source.choice(NAMES[: source.choice([4, len(NAMES)])]): drawn(source) for _ in range(source.randrange(6))}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, dict[int, Metadata]]:
    """Several segments, with documents that were replaced, deleted and merged, and whose metadata were changed."""
    source = random.Random(11)
    index = Index.create(tmp_path_factory.mktemp("filters") / "index", dim=8)
    held: dict[int, Metadata] = {}
    for commit in range(12):
        batch = {source.randrange(200): drawn_metadata(source) for _ in range(20)}
        put(index, held, batch, merge=commit in (3, 7))
        changed = {key: drawn_metadata(source) or {} for key in source.sample(sorted(held), 8)}
        change(index, held, changed, replace=commit % 2 == 0, merge=commit in (3, 7))
        gone = source.sample(sorted(held), 5)
        index.delete(gone, merge=False)
        for key in gone:
            del held[key]
        if commit == 5:
            index.compact()
    assert index.info()["segments"] > 3
    assert index.info()["deleted_documents"] > 0
    return index, held


def put(index: Any, held: dict[int, Metadata], batch: dict[int, Metadata], **options: Any) -> None:
    index.upsert(list(batch), vectors=[VECTOR] * len(batch), metadata=list(batch.values()), **options)
    for key, entry in batch.items():
        held.pop(key, None)
        held[key] = entry


def change(index: Any, held: dict[int, Metadata], batch: dict[int, dict[str, Any]], **options: Any) -> None:
    assert index.update_metadata(list(batch), list(batch.values()), **options) == len(batch)
    for key, entry in batch.items():
        held[key] = updated(held[key], entry, replace=options["replace"])


def wanted(held: dict[int, Metadata], condition: dict[str, Any]) -> list[int]:
    return [key for key, entry in held.items() if matches(entry, condition)]


def listed(index: Index, condition: dict[str, Any]) -> list[Any]:
    return list(np.asarray(index.ids(filter=condition)).tolist())


@settings(max_examples=max(100, settings().max_examples))
@given(drawn=st.lists(filters, min_size=DRAWN, max_size=DRAWN))
def test_10_000_filters_find_what_the_oracle_finds(
    life: tuple[Index, dict[int, Metadata]], drawn: list[dict[str, Any]]
) -> None:
    index, held = life
    everything = set(held)
    expected = [(condition, set(wanted(held, condition))) for condition in drawn]
    for (one, found), (other, found_too) in pairwise(tuple(expected)):
        # What follows from what each of them finds.
        expected += [
            ({"not": one}, everything - found),
            ({"and": [one, other]}, found & found_too),
            ({"or": [one, other]}, found | found_too),
        ]
    asked = [condition for condition, _ in expected]
    batch = index.search_batch([VECTOR] * len(asked), len(held), filter=asked, gather="exact", with_documents=False)
    for (condition, found), hits in zip(expected, batch, strict=True):
        ids = [key for key in held if key in found]
        assert listed(index, condition) == ids
        assert index.count(filter=condition) == len(ids)
        assert [hit.id for hit in hits] == ids


@given(
    commits=st.lists(st.lists(metadata, max_size=6), min_size=1, max_size=3),
    pending=st.lists(metadata, max_size=6),
    changed=st.dictionaries(st.integers(0, 11), changes, max_size=4),
    asked=st.lists(filters | st.sampled_from(EMPTY), min_size=1, max_size=3),
    merge=st.booleans(),
    replace=st.booleans(),
)
def test_deleting_by_filters(
    commits: list[list[Metadata]],
    pending: list[Metadata],
    changed: dict[int, dict[str, Any]],
    asked: list[dict[str, Any]],
    merge: bool,
    replace: bool,
) -> None:
    """What a writer deletes are the documents that it sees, its own of before the commit included."""
    held: dict[int, Metadata] = {}
    with TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", dim=8)
        for number, commit in enumerate(commits):
            put(index, held, {number * 4 + at: entry for at, entry in enumerate(commit)}, merge=False)
        before = dict(held)
        with index.writer(merge=merge) as writer:
            put(writer, held, {2 * at: entry for at, entry in enumerate(pending)})
            change(writer, held, {key: entry for key, entry in changed.items() if key in held}, replace=replace)
            for condition in asked:
                gone = wanted(held, condition)
                if not asks(condition):
                    with pytest.raises(InvalidInputError, match="every document"):
                        writer.delete(filter=condition)
                    continue
                assert writer.delete(filter=condition) == len(gone)
                for key in gone:
                    del held[key]
                assert listed(index, condition) == wanted(before, condition), "readers see the last commit"
        assert np.asarray(index.ids()).tolist() == list(held)
        assert index.check() == []
        for condition in asked:
            assert listed(index, condition) == wanted(held, condition)


def asks(condition: dict[str, Any]) -> bool:
    """Whether a filter asks for any field."""

    def parts(key: str, inner: Any) -> Iterator[bool]:
        if key in ("and", "or"):
            yield from map(asks, inner)
        else:
            yield asks(inner) if key == "not" else True

    return any(any(parts(key, inner)) for key, inner in condition.items())


# ── the rules one by one ─────────────────────────────────────────────────────────────────────────────────────────────


def made(path: Path, *entries: Metadata) -> Index:
    """Documents 0, 1, … with this metadata, in two segments."""
    index = Index.create(path / "index", dim=8)
    half = len(entries) // 2
    for part in (range(half), range(half, len(entries))):
        index.add(part, vectors=[VECTOR] * len(part), metadata=[entries[at] for at in part], merge=False)
    return index


RULES: list[tuple[list[Metadata], dict[str, Any], list[int]]] = [
    # A missing field is null; `exists` tells them apart.
    ([None, {}, {"a": None}, {"a": 1}, {"a": []}], {"a": None}, [0, 1, 2]),
    ([None, {}, {"a": None}, {"a": 1}, {"a": []}], {"a": {"exists": True}}, [2, 3, 4]),
    ([None, {}, {"a": None}, {"a": 1}, {"a": []}], {"a": {"eq": None, "exists": True}}, [2]),
    ([None, {}, {"a": None}, {"a": 1}, {"a": []}], {"a": {"ne": 1}}, [0, 1, 2, 4]),
    # Values of different kinds are never equal and never in order.
    ([{"a": 1}, {"a": True}, {"a": "1"}, {"a": 1.0}, {"a": {}}], {"a": 1}, [0, 3]),
    ([{"a": 1}, {"a": True}, {"a": "1"}, {"a": 1.0}, {"a": {}}], {"a": {"gte": "0"}}, [2]),
    ([{"a": 1}, {"a": True}, {"a": "1"}, {"a": 1.0}, {"a": {}}], {"not": {"a": {"gte": 0}}}, [1, 2, 4]),
    # A list stands for its elements.
    ([{"a": [1, 5]}, {"a": [[5]]}, {"a": 5}, {"a": [1, "5"]}], {"a": 5}, [0, 1, 2]),
    ([{"a": [1, 5]}, {"a": [2, 3]}], {"a": {"gt": 4, "lt": 2}}, [0]),
    ([{"a": [1, 5]}, {"a": [5]}, {"a": 5}, {}], {"a": {"contains": [5, 1]}}, [0]),
    # Objects are looked into, in lists too; an object itself has no value.
    ([{"a": {"b": 1}}, {"a": [{"b": 2}, {"b": 1}]}, {"a.b": 1}, {"a": 1}], {"a.b": 1}, [0, 1, 2]),
    ([{"a": {"b": 1}}, {"a": 1}], {"a": {"ne": 1}}, [0]),
    ([{"a": {"b": 1}}, {"a": 1}, {}], {"a": {"exists": True}}, [0, 1]),
    # Each condition on a list of objects may be met by another element.
    ([{"a": [{"b": 1, "c": 2}, {"b": 3, "c": 4}]}], {"a.b": 1, "a.c": 4}, [0]),
    # Dates are strings in the order of time.
    ([{"d": "2023-12-31"}, {"d": "2024-05-17"}, {"d": "2024-12-01"}], {"d": {"gte": "2024", "lt": "2024-06"}}, [1]),
    ([{"d": "2023-12-31"}, {"d": "2024-05-17"}, {"d": "2024-12-01"}], {"d": {"prefix": "2024"}}, [1, 2]),
    # Fields of the names that combine.
    ([{"and": 1}, {"not": {"or": 2}}, {"\\": 3}], {"\\and": 1}, [0]),
    ([{"and": 1}, {"not": {"or": 2}}, {"\\": 3}], {"not.or": 2}, [1]),
    ([{"and": 1}, {"not": {"or": 2}}, {"\\": 3}], {"\\\\": 3}, [2]),
    ([{"$and": 1}, {}], {"\\$and": 1}, [0]),
    # Nothing is combined to everything or nothing.
    ([None, {"a": 1}], {"and": []}, [0, 1]),
    ([None, {"a": 1}], {"or": []}, []),
    ([None, {"a": 1}], {"not": {}}, []),
]


@pytest.mark.parametrize(("entries", "condition", "expected"), RULES, ids=lambda value: str(value)[:60])
def test_the_rules(tmp_path: Path, entries: list[Metadata], condition: dict[str, Any], expected: list[int]) -> None:
    index = made(tmp_path, *entries)
    for _ in range(2):
        assert listed(index, condition) == expected
        assert [at for at, entry in enumerate(entries) if matches(entry, condition)] == expected
        index.compact()


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"$and": [{"a": 1}]}, 'unknown word "$and"; write "and"'),
        ({"a": {"$gte": 1}}, 'filter on "a": unknown operator "$gte"; write "gte"'),
        ({"a": {"nin": [1]}}, '"in" inside of "not"'),
        ({"a": {"b": 1}}, 'written with dots, "a.b"'),
        ({"must": [{"a": 1}]}, "combined by and, or and not"),
        ({"or": {"a": 1}}, "filter.or takes a list of filters"),
        ({"or": [{"a": 1}, {"not": {"a": {"near": 1}}}]}, 'filter.or[1].not on "a"'),
        ({"not": [{"a": 1}]}, "filter.not must be an object"),
        ({"and": 1}, r'a field of this name is written "\and"'),
        ({"a": {}}, "asks for nothing"),
        ({"a": {"contains": []}}, "one or more"),
        ({"a": {"exists": "yes"}}, "true or false"),
        ({"a": {"prefix": None}}, "takes a string"),
        ({"a": {"gt": True}}, "a string or a number"),
    ],
    ids=str,
)
def test_what_cannot_be_understood(tmp_path: Path, condition: dict[str, Any], words: str) -> None:
    index = made(tmp_path, {"a": 1}, {"a": 2})
    with index.writer() as writer:
        for call in (index.ids, index.count, writer.delete, lambda filter: index.search(VECTOR, filter=filter)):  # noqa: A006
            with pytest.raises(InvalidInputError) as caught:
                call(filter=condition)
            assert words in str(caught.value)
    assert len(index) == 2


def test_depth_and_size(tmp_path: Path) -> None:
    index = made(tmp_path, {"a": 1}, {"b": 2}, {"a": 3})
    deep: dict[str, Any] = {"a": 1}
    for depth in range(1, 200):
        deep = {"or": [deep, {"b": 2}]}
        if depth <= 32:
            assert listed(index, deep) == [0, 1]
        else:
            with pytest.raises(InvalidInputError, match="32"):
                index.ids(filter=deep)
    for _ in range(5000):
        deep = {"not": deep}
    with pytest.raises(InvalidInputError, match="deep"):
        index.ids(filter=deep)
    assert listed(index, {"or": [{"a": number} for number in range(20_000)]}) == [0, 2]
    assert listed(index, {"or": [{f"field {number}": 1} for number in range(20_000)]}) == []
    assert listed(index, {"a": list(range(3, 200_000))}) == [2]


def test_every_document_is_not_deleted_by_a_filter_that_asks_for_nothing(tmp_path: Path) -> None:
    index = made(tmp_path, {"a": 1}, {"a": 2})
    for condition in EMPTY:
        with pytest.raises(InvalidInputError, match="every document"):
            index.delete(filter=condition)
    with pytest.raises(InvalidInputError, match="neither of ids and filter"):
        index.delete()
    with pytest.raises(InvalidInputError, match="both of ids and filter"):
        index.delete([0], filter={"a": 1})
    with pytest.raises(InvalidInputError, match="missing="):
        index.delete(filter={"a": 1}, missing="skip")
    assert len(index) == 2
    assert index.delete(filter={"a": {"gte": 2}}) == 1
    assert index.delete(filter={"a": {"gte": 2}}) == 0
    assert index.delete(index.ids()) == 1
    assert index.count() == len(index) == 0


def test_no_change_is_no_commit(tmp_path: Path) -> None:
    index = made(tmp_path, {"a": 1}, {"a": 2})
    generation = index.generation
    assert index.delete(filter={"a": 3}) == 0
    assert index.generation == generation


def test_dates_are_strings(tmp_path: Path) -> None:
    from datetime import UTC, date, datetime

    index = made(tmp_path, {"a": 1}, {"a": 2})
    for day in (date(2024, 5, 17), datetime(2024, 5, 17, tzinfo=UTC), np.datetime64("2024-05-17T10:00:00.000000001")):
        with pytest.raises(InvalidInputError, match="isoformat"):
            index.ids(filter={"d": {"gte": day}})
        with pytest.raises(InvalidInputError, match="isoformat"):
            index.add([9], vectors=[VECTOR], metadata=[{"d": day}])
