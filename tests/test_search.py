"""Each stage of a search against the oracle on decoded vectors, and filters against a dict."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Index, Ragged, SearchArrays
from latewood.errors import InvalidInputError
from reference import int8_tolerance, maxsim
from strategies import Corpus, corpora, make_corpus
from support import HashEncoder, build_index


def assert_is_exact(index: Index, query: np.ndarray, k: int, allowed: list[int], **options: Any) -> None:
    """The hits are the best of the allowed documents on decoded vectors, up to the rounding of int8 queries."""
    decoded = dict(zip(allowed, index.vectors(allowed), strict=True))
    wanted = {key: maxsim(query, vectors) for key, vectors in decoded.items()}
    slack = {key: int8_tolerance(query, vectors) for key, vectors in decoded.items()}
    hits = index.search(query, k, gather="exact", **options)
    assert len(hits) == min(k, len(allowed))
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert len({hit.id for hit in hits}) == len(hits)
    for hit in hits:
        assert hit.score == pytest.approx(wanted[int(hit.id)], abs=slack[int(hit.id)])
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for better, worse in pairwise(hits):
        assert better.score > worse.score or int(better.id) < int(worse.id), "ties go to the document added first"
    left_out = set(allowed) - {int(hit.id) for hit in hits}
    if hits:
        assert all(wanted[key] - slack[key] <= hits[-1].score for key in left_out)


@given(corpora(), st.integers(1, 70))
def test_exact_is_brute_force(corpus: Corpus, k: int) -> None:
    with TemporaryDirectory() as folder:
        index = build_index(Path(folder) / "index", corpus)
        for query in corpus.queries:
            assert_is_exact(index, query, k, list(range(len(corpus.documents))))


@pytest.mark.parametrize("gather", ["flood", "postings"])
def test_gathered_hits_are_scored_exactly(index: Index, corpus: Corpus, gather: Any) -> None:
    """A gatherer may miss documents; what it finds has the very score of the exact search."""
    for query in corpus.queries:
        exact = {hit.id: hit.score for hit in index.search(query, len(corpus.documents), gather="exact")}
        hits = index.search(query, 10, gather=gather, max_scored=20)
        assert hits
        assert all(hit.score == exact[hit.id] for hit in hits)


@pytest.mark.parametrize(("gather", "least"), [("flood", 0.95), ("postings", 0.93), (None, 0.95)])
def test_recall_of_the_gatherers(tmp_path: Path, gather: Any, least: float) -> None:
    """Of ten times as many documents as are scored: without a gatherer's choice a tenth would be found."""
    corpus = make_corpus(11, dim=64, documents=3000, queries=16, clusters=300)
    index = build_index(tmp_path / "index", corpus)
    stats = index.search(corpus.queries[0], 10, gather=gather, max_scored=300).stats
    assert stats["scored"] <= 300
    assert index.measure_recall(corpus.queries, k=10, gather=gather, max_scored=300) >= least


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, np.ndarray]:
    """Two million token vectors of 4,000 topics, 25 a document, with a number from 0 to 9,999 for filters."""
    generator = np.random.default_rng(0)
    topics = generator.normal(size=(4000, 32)).astype(np.float32)
    values = topics[generator.integers(0, 4000, 2_050_000)]
    values += generator.normal(scale=0.5, size=values.shape).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    offsets = np.arange(0, len(values) + 1, 25)
    index = Index.create(tmp_path_factory.mktemp("large") / "index", dim=32)
    numbers = generator.permutation(len(offsets) - 1) % 10_000
    metadata = [{"number": number} for number in numbers.tolist()]
    index.add(np.arange(len(offsets) - 1), vectors=Ragged(values, offsets), metadata=metadata)
    return index, values


def test_a_large_index_is_searched_by_postings(large: tuple[Index, np.ndarray]) -> None:
    """Above two million token vectors not every document is looked at, unless it is asked for."""
    index, values = large
    query = values[:3]
    hits = index.search(query, 10)
    stats = hits.stats
    assert stats["gathered"] < len(index)
    assert hits == index.search(query, 10, gather="postings")
    flooded = index.search(query, 10, gather="flood").stats
    assert flooded["gathered"] == len(index)
    allowed = range(0, len(index), 40)
    assert len(allowed) > 2000, "more than are scored"
    hits = index.search(query, 50, ids=allowed)
    stats = hits.stats
    assert stats["gathered"] == len(allowed), "a search of few documents looks at all of them"
    assert len(hits) == 50


@pytest.mark.parametrize("share", [1, 10, 100, 1_000, 5_000, 9_999], ids=lambda share: f"{share / 100} %")
def test_a_filter_of_a_large_index_loses_nothing(large: tuple[Index, np.ndarray], share: int) -> None:
    """There are k hits whenever k documents match, and no more of the best are missing than without a filter."""
    index, values = large
    condition = {"number": {"lt": share}}
    generator = np.random.default_rng(share)
    queries = [
        values[start : start + length] + generator.normal(scale=0.05, size=(length, 32)).astype(np.float32)
        for start, length in zip(range(0, 30_000, 1500), [3, 8, 24, 32] * 5, strict=True)
    ]
    for k in (10, 50):
        found = index.search_batch(queries, k, filter=condition)
        assert [len(hits) for hits in found] == [min(k, index.count(filter=condition))] * len(queries)
        assert all(hit.metadata["number"] < share for hits in found for hit in hits if hit.metadata is not None)
        assert all(hits.stats["gathered"] <= index.count(filter=condition) for hits in found)
        assert index.measure_recall(queries, k, filter=condition) >= index.measure_recall(queries, k) - 0.04


def test_postings_widen_until_there_is_enough(large: tuple[Index, np.ndarray]) -> None:
    """Cells that were not probed may hold what is missing."""
    index, values = large
    for k in (1, 100, 5000):
        hits = index.search(values[:1], k, gather="postings", probes=1, max_scored=1, ids=range(5000))
        assert len({hit.id for hit in hits}) == k


@pytest.mark.parametrize("gather", ["flood", "postings"])
def test_more_candidates_find_more(index: Index, corpus: Corpus, gather: Any) -> None:
    recalls = [
        index.measure_recall(corpus.queries, k=10, gather=gather, max_scored=candidates) for candidates in (10, 50, 400)
    ]
    assert recalls[0] <= recalls[1] <= recalls[2]
    if gather == "flood":
        assert recalls[2] == 1.0


def test_batch_and_single_agree(index: Index, corpus: Corpus) -> None:
    batch = index.search_batch(corpus.queries, k=7)
    assert [[(hit.id, hit.score) for hit in hits] for hits in batch] == [
        [(hit.id, hit.score) for hit in index.search(query, k=7)] for query in corpus.queries
    ]
    arrays = index.search_arrays(corpus.queries, k=7)
    assert isinstance(arrays, SearchArrays)
    assert arrays.ids.dtype == np.int64  # type: ignore[union-attr]
    assert [(ids.tolist(), scores.tolist()) for ids, scores in arrays] == [  # type: ignore[union-attr]
        ([hit.id for hit in hits], [hit.score for hit in hits]) for hits in batch
    ]


def test_ties_go_to_the_document_added_first(tmp_path: Path, corpus: Corpus) -> None:
    """Equal documents in several segments, among others."""
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0)
    same = corpus.documents[0]
    index.add([5, 3], vectors=[same, corpus.documents[1]])
    index.add([9, 1], vectors=[same, corpus.documents[2]])
    index.add([7], vectors=[same])
    assert [hit.id for hit in index.search(same, 3, gather="exact")] == [5, 9, 7]
    assert [hit.id for hit in index.search(same, 2)] == [5, 9]
    index.compact()
    assert [hit.id for hit in index.search(same, 3)] == [5, 9, 7]


def test_k_beyond_the_number_of_documents(index: Index, corpus: Corpus) -> None:
    assert len(index.search(corpus.queries[0], k=10_000, gather="exact")) == len(corpus.documents)
    assert len(index.search(corpus.queries[0], k=10_000)) == len(corpus.documents)


def test_an_index_without_documents(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=32)
    query = np.ones((2, 32), dtype=np.float32)
    assert index.search(query) == []
    assert index.search_batch([query, query]) == [[], []]
    assert len(index) == 0
    assert index.check() == []


def test_only_among_ids(index: Index, corpus: Corpus) -> None:
    chosen = [3, 50, 51, 399]
    for query in corpus.queries:
        assert_is_exact(index, query, 10, chosen, ids=chosen)
        assert {hit.id for hit in index.search(query, ids=np.array(chosen))} == set(chosen)
    assert index.search(corpus.queries[0], ids=[]) == []
    assert [hit.id for hit in index.search(corpus.queries[0], ids=[3, 12_345])] == [3], "unknown ids are passed over"


def test_weights(index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    plain = index.search(query, 20, gather="exact")
    doubled = index.search(query, 20, gather="exact", weights=np.full(len(query), 2.0))
    assert [hit.id for hit in doubled] == [hit.id for hit in plain]
    assert [hit.score for hit in doubled] == pytest.approx([2 * hit.score for hit in plain])
    # A weight of zero is the same as leaving the token out.
    half = len(query) // 2
    weights = np.r_[np.ones(half), np.zeros(len(query) - half)]
    shorter = index.search(query[:half], 20, gather="exact")
    muted = index.search(query, 20, gather="exact", weights=weights)
    assert [hit.score for hit in muted] == pytest.approx([hit.score for hit in shorter], abs=1e-5)
    decoded = index.vectors([muted[0].id])[0]
    assert muted[0].score == pytest.approx(maxsim(query, decoded, weights), abs=int8_tolerance(query, decoded, weights))
    for bad in (-1.0, np.nan, np.inf, 1.1e6):
        with pytest.raises(InvalidInputError, match="weight"):
            index.search(query, weights=np.full(len(query), bad))
    with pytest.raises(InvalidInputError, match="weights"):
        index.search(query, weights=[1.0])


def test_scores_of_the_largest_queries_are_finite(tmp_path: Path) -> None:
    largest = np.full((4096, 256), 1e12, dtype=np.float32)
    index = Index.create(tmp_path / "index", dim=256)
    index.add([1, 2], vectors=[largest[:1], -largest[:1]])
    assert [hit.id for hit in index.search(largest, weights=np.full(4096, 1e6), gather="exact")] == [1, 2]
    scores = [hit.score for hit in index.rerank(largest, [1, 2], weights=np.full(4096, 1e6))]
    assert 1e35 < scores[0] < np.inf
    assert -np.inf < scores[1] < -1e35


def test_every_way_of_asking_takes_weights(index: Index, corpus: Corpus) -> None:
    rng = np.random.default_rng(2)
    weights = [rng.uniform(0, 2, len(query)).astype(np.float32) for query in corpus.queries]
    everything = list(range(len(corpus.documents)))
    asked = list(zip(corpus.queries, weights, strict=True))
    wanted = [index.search(query, gather="exact", weights=own) for query, own in asked]
    assert wanted != index.search_batch(corpus.queries, gather="exact")
    for form in (weights, np.concatenate(weights)):
        assert index.search_batch(corpus.queries, gather="exact", weights=form) == wanted
        assert index.rerank_batch(corpus.queries, [everything] * len(weights), k=10, weights=form) == wanted
    assert [index.rerank(query, everything, k=10, weights=own) for query, own in asked] == wanted


def test_mean_scores(index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    total, mean = index.search(query), index.search(query, length_normalize=True)
    assert [hit.score for hit in mean] == pytest.approx([hit.score / len(query) for hit in total])
    assert mean[0].explain().score == pytest.approx(mean[0].score, rel=1e-5)
    with pytest.raises(InvalidInputError, match="length_normalize"):
        index.search(query, length_normalize="yes")  # type: ignore[arg-type]


def test_explanations_add_up(index: Index, corpus: Corpus) -> None:
    weights = np.linspace(0.0, 2.0, len(corpus.queries[0]))
    for chosen in (None, weights):
        for hit in index.search(corpus.queries[0], weights=chosen):
            explanation = hit.explain()
            vectors = index.vectors([hit.id])[0]
            assert explanation.matrix.shape == (len(corpus.queries[0]), len(vectors))
            assert explanation.score == pytest.approx(hit.score, rel=1e-5)
            assert float(explanation.contributions.sum()) == pytest.approx(hit.score, rel=1e-5)
            products = corpus.queries[0] @ vectors.T * (1.0 if chosen is None else chosen[:, None])
            np.testing.assert_allclose(explanation.matrix, products, atol=0.1)
            assert len(str(explanation).splitlines()) == 2 + len(corpus.queries[0])


@pytest.mark.parametrize("batch", [False, True])
def test_a_hit_explains_what_was_searched(tmp_path: Path, corpus: Corpus, batch: bool) -> None:
    """Whatever became of the document, of the index, and of the object that was asked."""
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0)
    index.add(["a", "b", "c"], vectors=corpus.documents[:3], texts=["one", "two", "three"])
    query = corpus.queries[0]
    hits = index.search_batch([query, query], 3)[1] if batch else index.search(query, 3)
    reranked = index.rerank(query, ["c", "a"])
    before = {hit.id: hit.explain().matrix for hit in hits}
    index.upsert(["a"], vectors=corpus.documents[7:8], texts=["other"])
    index.delete(["b"])
    index.compact()
    index.close()
    for hit in (*hits, *reranked):
        np.testing.assert_array_equal(hit.explain().matrix, before[hit.id])
        assert hit.explain().score == pytest.approx(hit.score, rel=1e-6)


def test_explanations_with_words(text_index: Index) -> None:
    hit = text_index.search("capital of france", 1)[0]
    assert hit.id == "paris"
    rows = list(hit.explain().rows())
    assert [(query, document) for query, document, _ in rows] == [(w, w) for w in ("capital", "of", "france")]
    assert text_index.explain("capital of france", "berlin").id == "berlin"


def test_texts_and_metadata_of_hits(text_index: Index) -> None:
    hit = text_index.search("quick brown fox")[0]
    assert (hit.id, hit.rank, hit.metadata) == ("fox", 1, {"words": 9})
    assert hit.text is not None
    assert hit.text.startswith("the quick")
    bare = text_index.search("quick brown fox", with_documents=False)[0]
    assert (bare.text, bare.metadata) == (None, None)
    assert bare.score == hit.score


def test_statistics(index: Index, corpus: Corpus) -> None:
    hits = index.search(corpus.queries[0], 10, gather="flood", max_scored=30)
    stats = hits.stats
    assert len(hits) == 10
    assert stats["queries"] == 1
    assert stats["gathered"] >= stats["scored"] >= 10
    assert stats["scored"] == 30
    assert stats["scored_tokens"] >= stats["scored"]
    assert {"prepare_s", "gather_s", "prune_s", "score_s", "top_k_s"} <= stats.keys()
    stats = index.search_arrays(corpus.queries, 10, gather="exact").stats
    assert stats["scored"] == len(corpus.documents) * len(corpus.queries)


# ── filters ──────────────────────────────────────────────────────────────────────────────────────────────────────────

METADATA: list[dict[str, Any] | None] = [
    *(
        {"lang": lang, "year": year, "tags": tags, "open": year % 2 == 0}
        for lang in ("en", "de", "fr")
        for year in (1999, 2005, 2020)
        for tags in ([], ["a"], ["a", "b"])
    ),
    None,
    {"lang": "en"},
    {"year": 2005.0},
    {"lang": 5},
]

Match = Callable[[dict[str, Any]], bool]
FILTERS: list[tuple[dict[str, Any], Match]] = [
    ({"lang": "en"}, lambda m: m.get("lang") == "en"),
    ({"lang": ["en", "de"]}, lambda m: m.get("lang") in ("en", "de")),
    ({"lang": {"in": ["fr"]}}, lambda m: m.get("lang") == "fr"),
    ({"lang": {"eq": "fr"}, "year": 2005}, lambda m: m.get("lang") == "fr" and m.get("year") == 2005),
    ({"year": {"gte": 2005}}, lambda m: m.get("year", 0) >= 2005),
    ({"year": {"gt": 1999, "lt": 2020}}, lambda m: 1999 < m.get("year", 0) < 2020),
    ({"year": {"lte": 1999}}, lambda m: m.get("year", 3000) <= 1999),
    ({"open": True}, lambda m: m.get("open") is True),
    ({"tags": "b"}, lambda m: "b" in m.get("tags", [])),
    ({"lang": {"gte": "en"}}, lambda m: isinstance(m.get("lang"), str) and m["lang"] >= "en"),
    ({"lang": "it"}, lambda _: False),
    ({"nowhere": 1}, lambda _: False),
    ({}, lambda _: True),
]


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Corpus]:
    corpus = make_corpus(9, documents=len(METADATA), queries=3)
    index = Index.create(tmp_path_factory.mktemp("filters") / "index", dim=corpus.dim, train_after=0)
    half = len(METADATA) // 2
    index.add(range(half), vectors=corpus.documents[:half], metadata=METADATA[:half])
    index.add(range(half, len(METADATA)), vectors=corpus.documents[half:], metadata=METADATA[half:])
    return index, corpus


@pytest.mark.parametrize(
    ("condition", "match"), FILTERS, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
@pytest.mark.parametrize("gather", [None, "exact", "flood", "postings"])
def test_filters(filtered: tuple[Index, Corpus], condition: dict[str, Any], match: Match, gather: Any) -> None:
    index, corpus = filtered
    wanted = [position for position, metadata in enumerate(METADATA) if match(metadata or {})]
    for query in corpus.queries:
        hits = index.search(query, k=100, filter=condition, gather=gather, max_scored=100)
        found = {int(hit.id) for hit in hits}
        if gather == "postings":
            # Documents without a token in a probed cell are not gathered.
            assert found <= set(wanted)
        else:
            assert found == set(wanted)
            if gather == "exact":
                assert_is_exact(index, query, 5, wanted, filter=condition)


def test_filter_and_ids_together(filtered: tuple[Index, Corpus]) -> None:
    index, corpus = filtered
    hits = index.search(corpus.queries[0], 50, filter={"lang": "en"}, ids=[0, 1, 20])
    assert {hit.id for hit in hits} == {0, 1}


@pytest.mark.parametrize(
    "bad", ["lang", ["lang"], {"year": {"around": 2000}}, {"year": {"gte": [1]}}, {"x": float("nan")}, {"x": object()}]
)
def test_bad_filters(filtered: tuple[Index, Corpus], bad: Any) -> None:
    index, corpus = filtered
    with pytest.raises(InvalidInputError, match=r"filter|year"):
        index.search(corpus.queries[0], filter=bad)


def test_numpy_values_in_filters(filtered: tuple[Index, Corpus]) -> None:
    index, corpus = filtered
    one = index.search(corpus.queries[0], 50, filter={"year": np.int64(2005)})
    other = index.search(corpus.queries[0], 50, filter={"year": 2005})
    assert one == other


# ── queries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_batches_in_every_form(index: Index, corpus: Corpus) -> None:
    queries = corpus.queries[:3]
    wanted = index.search_batch(queries, 3)
    flat = np.concatenate(queries)
    offsets = np.cumsum([0, *map(len, queries)])
    assert index.search_batch(Ragged(flat, offsets), 3) == wanted
    assert index.search_batch(tuple(queries), 3) == wanted
    assert index.search_batch(queries[0], 3) == wanted[:1]
    assert index.search_batch([], 3) == []
    assert len(index.search_arrays([], 3)) == 0


def test_one_or_many_texts(text_index: Index) -> None:
    with pytest.raises(InvalidInputError, match="batch"):
        text_index.search(["one", "two"])
    with pytest.raises(InvalidInputError, match="one query text"):
        text_index.search_batch("one")
    assert [hits[0].id for hits in text_index.search_batch(["fox", "germany"])] == ["fox", "berlin"]
    assert isinstance(text_index.encoder, HashEncoder)


def test_searches_from_several_threads(index: Index, corpus: Corpus) -> None:
    wanted = [index.search(query) for query in corpus.queries]
    found: dict[int, list[Any]] = {}

    def work(worker: int) -> None:
        found[worker] = [index.search(query) for query in corpus.queries]

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(found[worker] == wanted for worker in range(4))


def test_many_documents_scored_together(tmp_path: Path) -> None:
    """More documents than are kept while scoring: the best few are the first of all, for each query of a batch."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(20_000, 32)).astype(np.float32)
    index = Index.create(tmp_path / "many", dim=32, codec="flat", bits=4)
    index.add(np.arange(len(vectors)), vectors=Ragged(vectors, np.arange(len(vectors) + 1)))
    queries = [rng.normal(size=(3, 32)).astype(np.float32) for _ in range(8)]
    whole = index.search_arrays(queries, k=len(vectors))
    few = index.search_arrays(queries, k=7)
    for (all_ids, all_scores), (ids, scores) in zip(whole, few, strict=True):
        assert len(all_ids) == len(vectors)
        assert (np.diff(all_scores) <= 0).all()
        assert list(ids) == list(all_ids[:7])
        assert scores.tolist() == all_scores[:7].tolist()
