"""What filters compare: numbers of any size by their value, and ids of the index's kind."""

import operator
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Index
from latewood.errors import InvalidInputError, UnknownIdError

QUERY = np.ones((1, 8), dtype=np.float32)


def make_index(path: Path, *commits: list[dict[str, Any] | None]) -> Index:
    """Index documents 0, 1, … with this metadata, a segment for each list."""
    index = Index.create(path, dim=8)
    first = 0
    for metadata in commits:
        keys = range(first, first + len(metadata))
        index.add(keys, vectors=[QUERY] * len(metadata), metadata=metadata)
        first += len(metadata)
    return index


def found(index: Index, condition: dict[str, Any]) -> set[Any]:
    return {hit.id for hit in index.search(QUERY, 1000, filter=condition, gather="exact")}


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

EDGES = [2**53, 2**63, 2**64, 2**127, 2**128, 10**23, 10**30, 10**400]
NUMBERS = (
    st.integers(-20, 20)
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.builds(operator.add, st.sampled_from([sign * edge for edge in EDGES for sign in (1, -1)]), st.integers(-2, 2))
    | st.builds(float, st.sampled_from([sign * edge for edge in EDGES[:-1] for sign in (1, -1)]))
)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.data())
def test_numbers_compare_as_python_compares_them(numbers: list[Any], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        half = len(numbers) // 2
        index = make_index(
            Path(folder) / "index", [{"n": n} for n in numbers[:half]], [{"n": n} for n in numbers[half:]]
        )
        for wanted in [*data.draw(st.lists(st.sampled_from(numbers) | NUMBERS, max_size=5)), numbers[0]]:
            for name, compare in COMPARISONS.items():
                expected = {position for position, n in enumerate(numbers) if compare(n, wanted)}
                assert found(index, {"n": {name: wanted}}) == expected, (name, wanted)
            assert found(index, {"n": [wanted, None]}) == {i for i, n in enumerate(numbers) if n == wanted}


@pytest.mark.parametrize("edge", EDGES)
def test_neighbours_are_not_equal(tmp_path: Path, edge: int) -> None:
    numbers = [edge - 1, edge, edge + 1, -edge]
    index = make_index(tmp_path / "index", [{"n": number} for number in numbers])
    for position, number in enumerate(numbers):
        assert found(index, {"n": number}) == {position}
    assert found(index, {"n": {"gt": edge}}) == {2}
    assert index.documents([1])[0].metadata == {"n": edge}


# ── ids of the wrong kind ────────────────────────────────────────────────────────────────────────────────────────────

WRONG: list[tuple[list[Any], list[Any]]] = [([0, 1], ["a"]), (["a", "b"], [0]), (["a"], [2**63 - 1])]


@pytest.mark.parametrize(("own", "wrong"), WRONG, ids=str)
def test_ids_of_the_wrong_kind_are_an_error_everywhere(tmp_path: Path, own: list[Any], wrong: list[Any]) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    index.add(own, vectors=[QUERY] * len(own))
    calls: dict[str, Callable[[], Any]] = {
        "search": lambda: index.search(QUERY, ids=wrong),
        "rerank": lambda: index.rerank(QUERY, wrong),
        "rerank, skip": lambda: index.rerank(QUERY, wrong, missing="skip"),
        "delete": lambda: index.delete(wrong),
        "delete, skip": lambda: index.delete(wrong, missing="skip"),
        "add": lambda: index.add(wrong, vectors=[QUERY]),
        "documents": lambda: index.documents(wrong),
        "vectors": lambda: index.vectors(wrong),
        "explain": lambda: index.explain(QUERY, wrong[0]),
    }
    for name, call in calls.items():
        with pytest.raises(InvalidInputError, match="cannot be in this index"):
            call()
        assert len(index) == len(own), name
    assert not index.contains(wrong).any()
    assert wrong[0] not in index


@pytest.mark.parametrize("ids", [["a"], [1]])
def test_an_index_without_documents_has_no_kind_yet(tmp_path: Path, ids: list[Any]) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    assert index.search(QUERY, ids=ids) == []
    assert index.rerank(QUERY, ids, missing="skip") == []
    assert index.delete(ids, missing="skip") == 0
    assert not index.contains(ids).any()
    with pytest.raises(UnknownIdError):
        index.documents(ids)
