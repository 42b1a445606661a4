"""PyLate's shapes, and PyLate itself, which `make test` installs without what it depends on."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import maxsim
from latewood.errors import DuplicateIdError, IndexNotFoundError, InvalidInputError
from latewood.integrations.pylate import LatewoodIndex, rerank
from support import TEXTS, HashEncoder

NAMES = list(TEXTS)
DOCUMENTS = HashEncoder().encode_document(list(TEXTS.values()))
QUERIES = HashEncoder().encode_query(["capital of france", "dense wood of a tree", "the lazy fox"])


@pytest.fixture
def index(tmp_path: Path) -> LatewoodIndex:
    index = LatewoodIndex(tmp_path / "indexes", "test", keep_vectors="float16")
    return index.add_documents(documents_ids=NAMES, documents_embeddings=DOCUMENTS, batch_size=3)


def expected(names: list[Any], documents: list[Any], k: int = 10) -> list[list[tuple[Any, float]]]:
    """Give the best of an exact search over float16 vectors, ties by the order of the documents."""
    scores = maxsim(QUERIES, [document.astype(np.float16).astype(np.float32) for document in documents])
    orders = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[(names[place], float(own[place])) for place in order] for own, order in zip(scores, orders, strict=True)]


def pairs(results: list[list[Any]]) -> list[list[tuple[Any, Any]]]:
    assert all(set(result) == {"id", "score"} for found in results for result in found)
    return [[(result["id"], pytest.approx(result["score"], abs=1e-5)) for result in found] for found in results]


@pytest.mark.parametrize("k", [1, 3, 100])
def test_search(index: LatewoodIndex, k: int) -> None:
    assert pairs(index(queries_embeddings=QUERIES, k=k)) == expected(NAMES, DOCUMENTS, k)
    assert index.is_end_to_end_index
    assert pairs(index(QUERIES[0])) == expected(NAMES, DOCUMENTS)[:1]
    assert index([]) == []


def test_subsets(index: LatewoodIndex) -> None:
    forms: list[Any] = [["fox", "paris", "nobody"], ("fox", "paris"), np.array(["paris", "fox"])]
    for given in forms:
        assert pairs(index(QUERIES, subset=given)) == expected(["fox", "paris"], [DOCUMENTS[0], DOCUMENTS[2]])
    assert index(QUERIES, subset=[]) == [[], [], []]
    own = [["fox"], [], ["paris", "fox"]]
    found = index(QUERIES, subset=own)
    assert [{result["id"] for result in one} for one in found] == [set(one) for one in own]
    assert pairs(found)[2] == expected(["fox", "paris"], [DOCUMENTS[0], DOCUMENTS[2]])[2]
    with pytest.raises(InvalidInputError, match="2 subsets for 3"):
        index(QUERIES, subset=[["fox"], ["fox"]])


def test_a_document_that_is_added_again_takes_the_place_of_the_old_one(index: LatewoodIndex) -> None:
    index.add_documents(["fox", "new"], [DOCUMENTS[2], DOCUMENTS[0]])
    names, documents = [*NAMES[1:], "fox", "new"], [*DOCUMENTS[1:], DOCUMENTS[2], DOCUMENTS[0]]
    assert len(index) == len(names)
    for found, wanted in zip(pairs(index(QUERIES)), expected(names, documents), strict=True):
        assert dict(found) == dict(wanted)
        assert len(found) == len(names)
    index.update_documents("new", [DOCUMENTS[1]])
    assert len(index) == len(names)
    with pytest.raises(DuplicateIdError, match="twin"):
        index.add_documents(["twin", "twin"], DOCUMENTS[:2])
    assert len(index) == len(names)
    assert index.add_documents([], []) is index


def test_deletes(index: LatewoodIndex) -> None:
    assert index.remove_documents(["fox", "nobody"]) is index
    index.remove_documents("paris")
    names = [name for name in NAMES if name not in ("fox", "paris")]
    kept = [document for name, document in zip(NAMES, DOCUMENTS, strict=True) if name in names]
    assert pairs(index(QUERIES)) == expected(names, kept)
    index.add_documents(["fox"], DOCUMENTS[:1])
    assert pairs(index(QUERIES)) == expected([*names, "fox"], [*kept, DOCUMENTS[0]])


def test_an_index_is_there_again(index: LatewoodIndex) -> None:
    again = LatewoodIndex(index.path.parent, "test")
    for other in (again, pickle.loads(pickle.dumps(index))):
        assert other(QUERIES) == index(QUERIES)
    replacing = LatewoodIndex(index.path.parent, "test", override=True)
    assert replacing(QUERIES) == [[], [], []]
    assert len(replacing) == 0
    assert len(LatewoodIndex(index.path.parent, "test")) == len(NAMES)
    replacing.add_documents([7, 3], [np.ones((2, 8), dtype=np.float32), -np.ones((2, 8), dtype=np.float32)])
    assert [result["id"] for result in replacing(np.ones((1, 8), dtype=np.float32))[0]] == [7, 3]
    assert all(type(result["id"]) is int for result in replacing(np.ones((1, 8), dtype=np.float32))[0])
    assert len(LatewoodIndex(index.path.parent, "test")) == 2


def test_what_another_has_written_is_found(index: LatewoodIndex) -> None:
    other = LatewoodIndex(index.path.parent, "test")
    other.remove_documents(NAMES[1:])
    assert [[result["id"] for result in found] for found in index(QUERIES)] == [["fox"]] * 3


def test_before_the_first_documents(tmp_path: Path) -> None:
    index = LatewoodIndex(tmp_path / "deep" / "folder")
    assert index(QUERIES) == [[], [], []]
    assert index.remove_documents(["x"]) is index
    assert not (tmp_path / "deep").exists()
    with pytest.raises(IndexNotFoundError):
        index.get_documents_embeddings([["x"]])
    for wrong in (
        {"nothing": 1},
        {"options": {"recall": 2}},
        {"options": {"nothing": 2}},
        {"override": 1},
        {"index_name": 3},
    ):
        with pytest.raises(InvalidInputError):
            LatewoodIndex(tmp_path, **wrong)


def test_the_vectors_of_documents(index: LatewoodIndex) -> None:
    found = index.get_documents_embeddings([["fox", "paris"], [], ["fox"]])
    assert [len(one) for one in found] == [2, 0, 1]
    np.testing.assert_array_equal(found[0][1], DOCUMENTS[2].astype(np.float16))
    np.testing.assert_array_equal(found[2][0], found[0][0])


def test_reranking() -> None:
    ids: list[list[Any]] = [["a", "b", "c"], [], [5, 5]]
    documents: list[Any] = [[DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[2]], [], [DOCUMENTS[1], DOCUMENTS[0]]]
    found = rerank(ids, QUERIES, documents, device="cpu")
    assert [[result["id"] for result in one] for one in found] == [["b", "c", "a"], [], [5, 5]]
    scores = maxsim(QUERIES, DOCUMENTS)
    assert [result["score"] for result in found[0]] == [scores[0, 2], scores[0, 2], scores[0, 0]]
    assert [result["score"] for result in found[2]] == sorted(scores[2, :2].tolist(), reverse=True)
    assert rerank([["x"]], QUERIES[0], [DOCUMENTS[:1]])[0][0]["score"] == scores[0, 0]
    with pytest.raises(InvalidInputError, match="2 ids for 1"):
        rerank([["x", "y"]], QUERIES[0], [DOCUMENTS[:1]])
    with pytest.raises(InvalidInputError, match="1 queries"):
        rerank([["x"], ["y"]], QUERIES[0], [DOCUMENTS[:1]])


# ── PyLate itself ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_its_retriever_and_its_reranker(index: LatewoodIndex) -> None:
    pytest.importorskip("pylate")
    torch = pytest.importorskip("torch")
    from pylate import rank, retrieve

    tensors = [torch.from_numpy(query) for query in QUERIES]
    for queries in (QUERIES, tensors, QUERIES[0]):
        found = retrieve.ColBERT(index=index).retrieve(queries_embeddings=queries, k=3)
        assert pairs(found) == expected(NAMES, DOCUMENTS, 3)[: len(found)]
    found = retrieve.ColBERT(index=index).retrieve(queries_embeddings=tensors, k=2, subset=["fox", "paris"])
    assert pairs(found) == expected(["fox", "paris"], [DOCUMENTS[0], DOCUMENTS[2]])
    ids: list[list[Any]] = [NAMES, NAMES[:2], [4, 2]]
    documents = [[torch.from_numpy(document) for document in own] for own in (DOCUMENTS, DOCUMENTS[:2], DOCUMENTS[3:])]
    ours, theirs = rerank(ids, tensors, documents), rank.rerank(ids, tensors, documents)
    assert [[result["id"] for result in one] for one in ours] == [[result["id"] for result in one] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert [result["score"] for result in one] == pytest.approx([result["score"] for result in other], abs=1e-5)


def test_it_has_every_method_of_an_index_of_pylate() -> None:
    base = pytest.importorskip("pylate.indexes.base").Base
    assert all(hasattr(LatewoodIndex, name) for name in base.__abstractmethods__)
