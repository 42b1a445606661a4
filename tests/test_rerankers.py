"""What users of the package rerankers meet beyond the conformance suite: its results, documents and model type."""

from typing import Any

import pytest

from latewood import Index
from latewood.errors import InvalidInputError
from support import TEXTS, HashEncoder

pytest.importorskip("rerankers")

from rerankers import Document, Reranker
from rerankers.results import RankedResults

from latewood.integrations.rerankers import LatewoodRanker

QUERY = "capital of germany"
DOCUMENTS = list(TEXTS.values())


@pytest.fixture
def ranker() -> LatewoodRanker:
    return LatewoodRanker(HashEncoder())


def test_results_without_ids(ranker: LatewoodRanker) -> None:
    results = ranker.rank(QUERY, DOCUMENTS)
    assert isinstance(results, RankedResults)
    assert results.has_scores
    assert results.query == QUERY
    assert results.results_count() == len(DOCUMENTS)
    assert results[0].doc_id == list(TEXTS).index("berlin")
    assert [result.rank for result in results] == list(range(1, len(DOCUMENTS) + 1))
    assert all(result.text == DOCUMENTS[result.doc_id] for result in results)
    assert results.top_k(2) == results.results[:2]


def test_ids_and_metadata(ranker: LatewoodRanker) -> None:
    metadata = [{"place": place} for place in range(len(DOCUMENTS))]
    results = ranker.rank(QUERY, DOCUMENTS, doc_ids=list(TEXTS), metadata=metadata)
    assert results[0].doc_id == "berlin"
    assert results[0].place == list(TEXTS).index("berlin")
    assert results.get_score_by_docid("berlin") == results[0].score == ranker.score(QUERY, TEXTS["berlin"])
    columns: list[dict[str, Any]] = [{"doc_ids": ["one"]}, {"metadata": [{}]}]
    for wrong in columns:
        with pytest.raises(InvalidInputError, match=f"1 {next(iter(wrong))} for 5 documents"):
            ranker.rank(QUERY, DOCUMENTS, **wrong)


def test_documents_are_left_alone(ranker: LatewoodRanker) -> None:
    documents = [Document(text, doc_id=key, metadata={"from": key}) for key, text in TEXTS.items()]
    results = ranker.rank(QUERY, documents)
    assert results[0].doc_id == "berlin"
    assert results[0].metadata == {"from": "berlin"}
    renamed = ranker.rank(QUERY, documents, doc_ids=range(5))
    assert renamed[0].doc_id == list(TEXTS).index("berlin")
    assert [document.doc_id for document in documents] == list(TEXTS)
    unnamed = [Document(text) for text in DOCUMENTS]
    assert ranker.rank(QUERY, unnamed)[0].doc_id == list(TEXTS).index("berlin")
    assert all(document.doc_id is None for document in unnamed)


@pytest.mark.parametrize("one", [TEXTS["berlin"], Document(TEXTS["berlin"])])
def test_one_document(ranker: LatewoodRanker, one: Any) -> None:
    (result,) = ranker.rank(QUERY, one)
    assert (result.doc_id, result.rank) == (0, 1)


def test_the_model_type(capsys: pytest.CaptureFixture[str]) -> None:
    ranker: Any = Reranker("latewood/nano-en", model_type="latewood", verbose=0, options={"batch_size": 2})
    assert isinstance(ranker, LatewoodRanker)
    assert ranker.rank(QUERY, DOCUMENTS)[0].text == TEXTS["berlin"]
    assert capsys.readouterr().out == ""
    with pytest.raises(InvalidInputError, match="options"):
        Reranker("latewood/nano-en", model_type="latewood", verbose=0, options={"nothing": 1})


def test_an_index_needs_ids(text_index: Index) -> None:
    ranker = LatewoodRanker(index=text_index)
    assert ranker.rank(QUERY, DOCUMENTS, doc_ids=list(TEXTS))[0].doc_id == "berlin"
    with pytest.raises(InvalidInputError, match="position 0 has no id"):
        ranker.rank(QUERY, DOCUMENTS)
