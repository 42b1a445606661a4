"""BEIR itself: `EvaluateRetrieval` and `Rerank` with the adapter's search and reranker."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("beir")

from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.base import BaseSearch

from latewood import Index, Reranker
from latewood.errors import EncoderMismatchError, InvalidInputError, UnknownIdError
from latewood.integrations.beir import LatewoodRerank, LatewoodSearch
from support import TEXTS, HashEncoder

CORPUS = {
    name: {"text": text, **({"title": "berlin"} if place % 2 else {})}
    for place, (name, text) in enumerate(TEXTS.items())
}
# The second has the id of a document.
QUERIES = {"q1": "capital of france", "rings": "late part of a tree ring", "q3": "the lazy fox"}
QRELS = {"q1": {"paris": 1}, "rings": {"fox": 1}, "q3": {"fox": 1}}
READ = {name: f"{entry.get('title', '')} {entry['text']}".strip() for name, entry in CORPUS.items()}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", encoder=HashEncoder())
    index.add(list(READ), texts=list(READ.values()))
    return index


def expected(index: Index, query: str, k: int) -> dict[Any, float]:
    """Give the best of an exact search but for the query itself."""
    found = [(hit.id, hit.score) for hit in index.search(QUERIES[query], 100, recall=1.0) if hit.id != query]
    return dict(found[:k])


@pytest.mark.parametrize("top_k", [1, 3, 100])
@pytest.mark.parametrize("given", ["encoder", "index", "path"])
def test_the_results_of_a_search(index: Index, given: str, top_k: int) -> None:
    search = {
        "encoder": lambda: LatewoodSearch(HashEncoder()),
        "index": lambda: LatewoodSearch(index=index),
        "path": lambda: LatewoodSearch(index=index.path),
    }[given]()
    if given == "path":
        assert search.index is not None
        search.index.use_encoder(HashEncoder())
    assert isinstance(search, BaseSearch)
    found = EvaluateRetrieval(search, k_values=[top_k]).retrieve(CORPUS, QUERIES)
    assert found == {query: expected(index, query, top_k) for query in QUERIES}
    assert all(list(own.values()) == sorted(own.values(), reverse=True) for own in found.values())
    assert "rings" not in found["rings"]
    assert len(found["rings"]) == min(top_k, len(CORPUS) - 1)


def test_evaluation_and_both_stages(index: Index) -> None:
    evaluator = EvaluateRetrieval(LatewoodSearch(index=index), k_values=[1, 3])
    results = evaluator.retrieve(CORPUS, QUERIES)
    for reranker in (LatewoodRerank(index=index), LatewoodRerank(model=HashEncoder())):
        again = reranker.rerank(CORPUS, QUERIES, results, top_k=2)
        assert {query: set(found) for query, found in again.items()} == {
            query: set(list(found)[:2]) for query, found in results.items()
        }
        ndcg, *_ = evaluator.evaluate(QRELS, again, [1, 3])
        assert ndcg["NDCG@1"] >= 0.66


def test_reranking_is_that_of_beir(index: Index) -> None:
    """BEIR's own class scores pairs by `Reranker.predict`: the same ids and scores."""
    base = pytest.importorskip("beir.reranking").Rerank(Reranker(HashEncoder()), batch_size=4)
    # The first stage's order counts, and not that of the mapping.
    results = {
        "q1": {"berlin": 0.1, "paris": 0.3, "fox": 0.2, "search": 0.2},
        "rings": {"rings": 1.0, "fox": 0.5},
        "q3": {},
    }
    for top_k in (1, 2, 3, 10):
        found = LatewoodRerank(model=HashEncoder()).rerank(CORPUS, QUERIES, results, top_k)
        theirs = base.rerank(CORPUS, QUERIES, results, top_k)
        assert found == theirs
        assert list(found) == list(results)
        by_id = LatewoodRerank(index=index).rerank({}, QUERIES, results, top_k)
        assert {query: set(own) for query, own in by_id.items()} == {query: set(own) for query, own in theirs.items()}
        for query, own in by_id.items():
            hits = index.rerank(QUERIES[query], list(own))
            assert own == {hit.id: hit.score for hit in hits}


def test_pruning_goes_by_the_scores_of_the_first_stage(index: Index) -> None:
    results = {"q1": {"fox": 9.0, "paris": 1.0, "berlin": 0.5}}
    reranker = LatewoodRerank(index=index, options={"alpha": 0.0})
    assert list(reranker.rerank(CORPUS, QUERIES, results, top_k=1)["q1"]) == ["fox"]


def test_results_of_another_collection(index: Index) -> None:
    corpus, queries = {"fox": {"text": "a fox"}}, {"q1": "fox"}
    for results, words in (
        ({"q9": {"fox": 1.0}}, "query 'q9'.*queries"),
        ({"q1": {"elk": 1.0}}, "document 'elk'.*corpus"),
    ):
        with pytest.raises(UnknownIdError, match=words):
            LatewoodRerank(model=HashEncoder()).rerank(corpus, queries, results, 3)
    with pytest.raises(UnknownIdError, match="elk"):
        LatewoodRerank(index=index).rerank(corpus, queries, {"q1": {"elk": 1.0}}, 3)


def test_a_corpus_that_is_part_of_the_index(index: Index) -> None:
    part = {name: CORPUS[name] for name in ("fox", "berlin")}
    found = LatewoodSearch(index=index).search(part, QUERIES, 10)
    assert all(set(own) == set(part) for own in found.values())
    with pytest.raises(UnknownIdError, match="'new'"):
        LatewoodSearch(index=index).search({**part, "new": {"text": "x"}}, QUERIES, 10)


def test_integers_are_strings_in_beir(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "integers", encoder=HashEncoder())
    index.add(range(len(TEXTS)), texts=list(TEXTS.values()))
    corpus = {str(place): {"title": "", "text": text} for place, text in enumerate(TEXTS.values())}
    found = LatewoodSearch(index=index).search(corpus, {"0": TEXTS["fox"]}, 2)
    assert list(found["0"]) == [str(hit.id) for hit in index.search(TEXTS["fox"], 3)[1:]]
    assert set(LatewoodRerank(index=index).rerank(corpus, {"0": "fox"}, {"0": {"3": 1.0, "1": 2.0}}, 2)["0"]) == {
        "3",
        "1",
    }


def test_files_between_encoding_and_searching(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "embeddings"
    evaluator = EvaluateRetrieval(LatewoodSearch(HashEncoder()), k_values=[3])
    wanted = {query: expected(index, query, 3) for query in QUERIES}
    for _ in range(2):
        assert evaluator.encode_and_retrieve(CORPUS, QUERIES, encode_output_path=str(folder)) == wanted
    # No pickle is among them, whatever they are called.
    assert (folder / "queries.pkl").read_bytes().startswith(b"PK")
    assert len(Index.open(folder / "corpus.0.pkl")) == len(CORPUS)
    less = {name: CORPUS[name] for name in ("fox", "paris")}
    found = evaluator.encode_and_retrieve(less, QUERIES, encode_output_path=str(folder), overwrite=True)
    assert all(set(own) == set(less) for own in found.values())
    with pytest.raises(EncoderMismatchError):
        LatewoodSearch(HashEncoder(dim=32)).encode(CORPUS, QUERIES, folder)
    # Several indexes are searched as one.
    index.delete(["fox", "paris"])
    both = LatewoodSearch().search_from_files(
        str(folder / "queries.pkl"), [str(folder / "corpus.0.pkl"), index.path], top_k=3
    )
    assert both == wanted


def test_an_empty_document_and_no_queries(index: Index) -> None:
    corpus = {**CORPUS, "empty": {"title": None, "text": None}}
    found = LatewoodSearch(HashEncoder()).search(corpus, QUERIES, 10)  # type: ignore[arg-type]
    assert all("empty" not in own for own in found.values())
    assert LatewoodSearch(HashEncoder()).search(CORPUS, {}, 10) == {}
    assert LatewoodRerank(index=index).rerank(CORPUS, QUERIES, {}, 10) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda index: LatewoodSearch(HashEncoder(), index=index),
        lambda index: LatewoodSearch(index=index, codec="flat"),
        lambda index: LatewoodSearch(index=3),  # type: ignore[arg-type]
        lambda index: LatewoodSearch(nothing=3),
        lambda index: LatewoodSearch(options={"recall": 2}),
        lambda index: LatewoodSearch(options={"nothing": 2}),
        lambda index: LatewoodSearch(options={"ids": ["fox"]}),
        lambda index: LatewoodRerank(index=index, model="x"),
        lambda index: LatewoodRerank(options={"alpha": 1}),
        lambda index: LatewoodSearch(index=index).search(CORPUS, QUERIES, 0),
        lambda index: LatewoodSearch(index=index).encode(CORPUS, QUERIES),
    ],
)
def test_what_does_not_fit_is_refused(index: Index, wrong: Any) -> None:
    with pytest.raises(InvalidInputError):
        wrong(index)
