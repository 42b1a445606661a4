"""Columns of pandas, polars and pyarrow where lists are taken: texts, ids, metadata, numbers and vectors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Bm25FirstStage, Index, Reranker, to_ragged
from latewood.errors import InvalidInputError
from support import HashEncoder

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")

TEXTS = ["a tree", "owls hunt at night", "naïve 猫"]
VECTORS = [np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) + 1 for rows in (3, 1, 2)]
COLUMNS: dict[str, Callable[[list[Any]], Any]] = {
    "pandas": pandas.Series,
    "pandas with other labels": lambda items: pandas.Series(items, index=range(7, 7 + len(items))),
    "pandas objects": lambda items: pandas.Series(items, dtype=object),
    "pandas array": pandas.array,
    "pandas categories": lambda items: pandas.Series(items, dtype="category"),
    "polars": polars.Series,
    "pyarrow": pyarrow.array,
    "pyarrow chunks": lambda items: pyarrow.chunked_array([items[:1], items[1:]]),
    "pyarrow dictionary": lambda items: pyarrow.array(items).dictionary_encode(),
    "pyarrow dictionary of a table": lambda items: pyarrow.table({"items": items})["items"].dictionary_encode(),
}


@pytest.fixture(params=list(COLUMNS))
def column(request: pytest.FixtureRequest) -> Callable[[list[Any]], Any]:
    return COLUMNS[request.param]


@pytest.mark.parametrize("ids", [["x", "y", "ü"], [5, -1, 2**40]])
def test_texts_and_ids(tmp_path: Path, column: Callable[[list[Any]], Any], ids: list[Any]) -> None:
    encoder = HashEncoder()
    index = Index.create(tmp_path / "index", encoder=encoder)
    index.add(column(ids), texts=column(TEXTS))
    assert list(index.ids()) == ids
    assert [document.text for document in index.documents(column(ids))] == TEXTS
    assert index.contains(column(ids)).all()
    alone = [index.search(text, 1) for text in TEXTS]
    assert index.search_batch(column(TEXTS), 1) == alone
    assert [hits[0].id for hits in alone] == ids
    assert index.search("owls", 3, ids=column(ids[1:2])) == index.search("owls", 3, ids=ids[1:2])
    assert index.delete(column(ids[:2])) == 2
    reranker = Reranker(encoder)
    assert reranker.rank("owls", column(TEXTS)) == reranker.rank("owls", TEXTS)
    pytest.importorskip("bm25s")
    assert Bm25FirstStage.from_texts(column(ids), column(TEXTS)).search_batch(column(["owls"]), 1)[0][0] == [ids[1]]


def test_what_is_missing_is_none(tmp_path: Path, column: Callable[[list[Any]], Any]) -> None:
    index = Index.create(tmp_path / "index", dim=4)
    texts = ["a tree", None, "naïve 猫"]
    index.add(column(["x", "y", "z"]), vectors=VECTORS, texts=column(texts))
    assert [document.text for document in index.documents(["x", "y", "z"])] == texts
    with pytest.raises(InvalidInputError, match="an id is a str or an int, not"):
        index.contains(column(texts))


@pytest.mark.parametrize("missing", [pandas.Series([np.nan] * 3), polars.Series([None] * 3), pyarrow.nulls(3)])
def test_a_column_in_which_everything_is_missing(tmp_path: Path, missing: Any) -> None:
    """Nobody can tell of which type it is, and pandas reads it as numbers."""
    index = Index.create(tmp_path / "index", dim=4)
    index.add([1, 2, 3], vectors=VECTORS, texts=missing, metadata=missing)
    index.upsert([3], vectors=iter(VECTORS[:1]), texts=missing[:1], metadata=missing[:1])
    assert all((document.text, document.metadata) == (None, None) for document in index.documents([1, 2, 3]))
    with pytest.raises(InvalidInputError, match="the text of document 4 is a float, not a str"):
        index.add([4], vectors=VECTORS[:1], texts=pandas.Series([2.5]))


def test_metadata_of_a_joined_table(tmp_path: Path) -> None:
    left = pandas.DataFrame({"id": ["x", "y", "z"]})
    right = pandas.DataFrame({"id": ["x", "z"], "text": ["a tree", "naïve"], "metadata": [{"n": 1}, {"n": 2}]})
    table = left.merge(right, how="left")
    index = Index.create(tmp_path / "index", dim=4)
    index.add(table["id"], vectors=VECTORS, texts=table["text"], metadata=table["metadata"])
    documents = index.documents(table["id"])
    assert [document.metadata for document in documents] == [{"n": 1}, None, {"n": 2}]
    assert [document.text for document in documents] == ["a tree", None, "naïve"]


def test_changes_of_metadata(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=4)
    index.add([1, 2], vectors=VECTORS[:2])
    frame = pandas.DataFrame({"id": [2, 1], "metadata": [{"n": 2, "type": "a"}, {"n": 1}]})
    assert index.update_metadata(frame["id"], frame["metadata"]) == 2
    assert [document.metadata for document in index.documents([1, 2])] == [{"n": 1}, {"n": 2, "type": "a"}]
    with pytest.raises(InvalidInputError, match="metadata"):
        index.update_metadata([1, 2], frame)


def test_numbers(tmp_path: Path, column: Callable[[list[Any]], Any]) -> None:
    index = Index.create(tmp_path / "index", dim=4)
    index.add([1, 2, 3], vectors=VECTORS)
    weights = [0.5, 2.0, 1.0]
    assert index.search(VECTORS[0], 3, weights=column(weights)) == index.search(VECTORS[0], 3, weights=weights)
    assert to_ragged(np.concatenate(VECTORS), lengths=column([3, 1, 2])).lengths.tolist() == [3, 1, 2]


def test_a_null_in_a_dictionary_is_no_number(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=4)
    index.add([1, 2, 3], vectors=VECTORS)
    numbers = pyarrow.chunked_array([[2, None]]).dictionary_encode()
    calls: list[Callable[[], Any]] = [
        lambda: index.rerank(VECTORS[0], numbers),
        lambda: index.rerank(VECTORS[0], [1, 2], numbers),
        lambda: index.search(VECTORS[2], weights=numbers),
        lambda: to_ragged(VECTORS[0], lengths=numbers),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match=r"None|not numbers|pass numbers|integer array"):
            call()


LISTS = pyarrow.list_(pyarrow.list_(pyarrow.float32(), 4))


@pytest.mark.parametrize(
    "vectors",
    [
        pandas.Series(VECTORS),
        pandas.Series([one.tolist() for one in VECTORS], index=[3, 4, 5]),
        pandas.Series(pandas.arrays.ArrowExtensionArray(pyarrow.array([one.tolist() for one in VECTORS], LISTS))),
        polars.Series([one.tolist() for one in VECTORS]),
        polars.Series([one.tolist() for one in VECTORS], dtype=polars.List(polars.Array(polars.Float32, 4))),
        pyarrow.array([one.tolist() for one in VECTORS], LISTS),
    ],
    ids=["arrays", "lists", "pandas arrow", "polars", "polars arrays", "pyarrow"],
)
def test_vectors(tmp_path: Path, vectors: Any) -> None:
    for mine, theirs in zip(to_ragged(vectors), VECTORS, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    index = Index.create(tmp_path / "index", dim=4)
    structs = pyarrow.array([{"lang": "en"}, None, {"lang": "de"}])
    index.add([1, 2, 3], vectors=vectors, metadata=structs)
    assert [document.metadata for document in index.documents([1, 2, 3])] == structs.to_pylist()
    assert index.search_batch(vectors, 3) == index.search_batch(VECTORS, 3)


def test_metadata_of_structs_of_polars(tmp_path: Path) -> None:
    for metadata in ([{"n": 1}, None, {"n": 3}], [{"n": 1, "lang": "en"}, None, {"n": 3, "lang": None}]):
        index = Index.create(tmp_path / "index", dim=4, overwrite=True)
        index.add([1, 2, 3], vectors=VECTORS, metadata=polars.Series(metadata))
        assert [document.metadata for document in index.documents([1, 2, 3])] == metadata


@pytest.mark.parametrize("frame", [pandas.DataFrame, polars.DataFrame, pyarrow.table])
def test_a_table_is_no_column(text_index: Index, frame: Any) -> None:
    table = frame({"type": ["a", "b"], "dtype": ["c", "d"]})
    with pytest.raises(InvalidInputError, match="texts is one"):
        text_index.add([1, 2], texts=table)
    with pytest.raises(InvalidInputError):
        text_index.search_batch(table)
