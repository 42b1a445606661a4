"""Feedback against its oracle, in both modes and weightings; and what must hold whatever the numbers are."""

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latewood
from latewood import Feedback, Index, SearchOptions
from latewood.errors import InvalidInputError
from reference import int8_tolerance, maxsim, ranking
from reference_feedback import expansion, read
from strategies import Corpus, corpora, make_corpus
from support import HashEncoder, build_index, run_python


def added(
    index: Index, query: Any, feedback: Feedback, ids: Any = None, weights: Any = None, **options: Any
) -> tuple[Any, Any]:
    """Vectors and weights that join one query."""
    offsets = np.array([0, len(query)], dtype=np.int64)
    chosen = SearchOptions(k=options.pop("k", 10), feedback=feedback, **options)
    results = index._core.search(query, offsets, weights, ids, chosen.core)
    vectors, weights, bounds = results.added
    assert bounds.tolist() == [0, len(weights)]
    return vectors, weights


feedbacks = st.builds(
    lambda clusters, vectors, **others: Feedback(clusters=clusters, vectors=min(vectors, clusters), **others),
    documents=st.integers(1, 6),
    clusters=st.integers(1, 40),
    vectors=st.integers(1, 40),
    weight=st.sampled_from([0.0, 0.2, 1.0, 3.0]),
    weighting=st.sampled_from(["normalised", "raw"]),
    mode=st.sampled_from(["ranker", "reranker"]),
    rescored=st.integers(1, 80),
)


@given(corpora(), feedbacks, st.sampled_from([2, 4]), st.integers(1, 70), st.booleans(), st.booleans())
def test_feedback_is_the_oracle(
    corpus: Corpus, feedback: Feedback, bits: int, k: int, weighted: bool, deletes: bool
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        index = build_index(path, corpus, bits=bits)
        deleted = set(range(0, len(corpus.documents) - 1, 3)) if deletes else set()
        # The oracle takes ids for places in the one segment.
        index.delete(sorted(deleted), merge=False)
        live = [key for key in range(len(corpus.documents)) if key not in deleted]
        decoded = dict(zip(live, index.vectors(live), strict=True))
        stored = read(path)
        for position, query in enumerate(corpus.queries):
            own = np.random.default_rng(position).uniform(0, 2, len(query)).astype(np.float32) if weighted else None
            options: dict[str, Any] = {"gather": "exact", "weights": own}
            first = [int(hit.id) for hit in index.search(query, len(live), **options)]
            heavy = float(own.sum(dtype=np.float64)) if own is not None else float(len(query))
            vectors, weights = expansion(stored, feedback, first, deleted, heavy)
            found_vectors, found_weights = added(index, query, feedback, k=k, **options)
            np.testing.assert_allclose(found_vectors, vectors, atol=2e-6)
            np.testing.assert_allclose(found_weights, weights, rtol=1e-6, atol=1e-7)

            pool = live if feedback.mode == "ranker" else first[: max(feedback.rescored, feedback.documents, k)]
            whole = np.concatenate([query, vectors.astype(np.float32)])
            scales = np.concatenate([own if own is not None else np.ones(len(query)), weights])
            wanted = {key: maxsim(whole, decoded[key], scales) for key in pool}
            slack = {key: int8_tolerance(whole, decoded[key], scales) for key in pool}
            hits = index.search(query, k, feedback=feedback, **options)
            assert len(hits) == min(k, len(pool))
            for hit in hits:
                assert hit.score == pytest.approx(wanted[int(hit.id)], abs=slack[int(hit.id)])
                assert hit.explain().score == pytest.approx(hit.score, rel=1e-5, abs=1e-6)
            left_out = set(pool) - {int(hit.id) for hit in hits}
            assert all(wanted[key] - slack[key] <= hits[-1].score for key in left_out)
            assert ranking([hit.score for hit in hits]) == list(range(len(hits)))


@pytest.mark.parametrize("mode", ["ranker", "reranker"])
def test_an_expanded_query_can_be_asked_by_hand(index: Index, corpus: Corpus, mode: Any) -> None:
    """What is added is a query's vectors and weights like any others: to the bit."""
    feedback = Feedback(mode=mode, rescored=50)
    for query in corpus.queries:
        vectors, weights = added(index, query, feedback, k=10)
        whole = np.concatenate([query, vectors])
        scales = np.concatenate([np.ones(len(query), dtype=np.float32), weights])
        hits = index.search(query, 10, feedback=feedback)
        if mode == "ranker":
            by_hand = index.search(whole, 10, weights=scales)
        else:
            first = [hit.id for hit in index.search(query, 50, gather="exact")]
            by_hand = index.rerank(whole, first, k=10, weights=scales)
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in by_hand]


def test_no_weight_changes_nothing(index: Index, corpus: Corpus) -> None:
    for query in corpus.queries:
        plain = index.search(query, 10)
        hits = index.search(query, 10, feedback=Feedback(weight=0.0))
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in plain]


@pytest.mark.parametrize("gather", ["exact", "flood", "postings", None])
@pytest.mark.parametrize("mode", ["ranker", "reranker"])
def test_batches_threads_and_ways_of_gathering(index: Index, corpus: Corpus, mode: Any, gather: Any) -> None:
    feedback = Feedback(mode=mode, documents=2)
    options: dict[str, Any] = {"k": 7, "feedback": feedback, "gather": gather}
    single = [[(hit.id, hit.score) for hit in index.search(query, **options)] for query in corpus.queries]
    for threads in (1, 2, 8):
        batch = index.search_batch(corpus.queries, threads=threads, **options)
        assert [[(hit.id, hit.score) for hit in hits] for hits in batch] == single
    scores = {(position, hit.id): hit.explain().score for position, hits in enumerate(batch) for hit in hits}
    for position, hits in enumerate(single):
        for key, score in hits:
            assert scores[position, key] == pytest.approx(score, rel=1e-5), "each hit explains its own query"


LEVEL_CODE = """
import hashlib, json, sys
import numpy as np
import latewood
from latewood import SearchOptions
from strategies import make_corpus
from support import build_index

corpus = make_corpus(29, dim=int(sys.argv[2]), documents=150, queries=6)
index = build_index(__import__("pathlib").Path(sys.argv[1]), corpus)
digest = hashlib.sha256()
for mode in ("ranker", "reranker"):
    for gather in ("exact", "flood", "postings"):
        feedback = latewood.Feedback(mode=mode, weight=0.7)
        values = np.concatenate(corpus.queries)
        offsets = np.cumsum([0, *map(len, corpus.queries)])
        chosen = SearchOptions(k=20, feedback=feedback, gather=gather, max_scored=40)
        found = index._core.search(values, offsets, None, None, chosen.core)
        for array in (*found.added, found.ids, found.scores):
            digest.update(array.tobytes())
print(json.dumps(digest.hexdigest()))
"""


@pytest.mark.parametrize("dim", [48, 128])
def test_every_level_agrees(tmp_path: Path, dim: int) -> None:
    found = {
        level: run_python(LEVEL_CODE, tmp_path / level, dim, environment={"LATEWOOD_SIMD": level})
        for level in latewood.simd_levels()
    }
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("mode", ["ranker", "reranker"])
def test_filters_and_ids_hold_in_both_passes(tmp_path: Path, mode: Any) -> None:
    """Neither what is found nor what is learned from lies outside of them."""
    corpus = make_corpus(5, documents=90)
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0)
    index.add(range(90), vectors=corpus.documents, metadata=[{"third": key % 3} for key in range(90)])
    feedback = Feedback(mode=mode, rescored=20)
    cases: list[tuple[dict[str, Any], set[int]]] = [
        ({"filter": {"third": 1}}, set(range(1, 90, 3))),
        ({"ids": [4, 5, 6, 7, 8]}, {4, 5, 6, 7, 8}),
        ({"filter": {"third": 1}, "ids": [4, 5, 6, 7, 8]}, {4, 7}),
    ]
    for query in corpus.queries:
        for options, allowed in cases:
            hits = index.search(query, 10, feedback=feedback, **options)
            assert {hit.id for hit in hits} <= allowed
            assert len(hits) == min(10, len(allowed))
            # The same documents' expansion, asked for by hand.
            best = [hit.id for hit in index.search(query, 3, **options)]
            there = added(index, query, feedback, k=10, ids=best)
            vectors, weights = added(index, query, feedback, **options)
            np.testing.assert_array_equal(vectors, there[0])
            np.testing.assert_array_equal(weights, there[1])


def test_segments_and_deletions_do_not_matter(tmp_path: Path) -> None:
    """Compaction keeps the codes: document frequencies of segments with deletions are those of one without."""
    corpus = make_corpus(8, documents=120)
    index = build_index(tmp_path / "index", corpus)
    index.upsert(range(10, 40), vectors=corpus.documents[40:70])
    index.delete(range(100, 120))
    index.add([500], vectors=[corpus.documents[100]])
    feedback = Feedback(weighting="raw", weight=1.0)
    before = [added(index, query, feedback, gather="exact") for query in corpus.queries]
    index.compact()
    for query, (vectors, weights) in zip(corpus.queries, before, strict=True):
        again = added(index, query, feedback, gather="exact")
        np.testing.assert_array_equal(again[0], vectors)
        np.testing.assert_array_equal(again[1], weights)


def test_fewer_different_vectors_than_clusters(tmp_path: Path, corpus: Corpus) -> None:
    """Clusters that would be empty are not there; nothing that all documents have weighs anything."""
    vector = corpus.documents[0][:1]
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0, centroids=1)
    index.add([1, 2], vectors=[np.repeat(vector, 5, axis=0), np.concatenate([vector, corpus.documents[1][:1]])])
    for weighting in ("normalised", "raw"):
        vectors, weights = added(index, vector, Feedback(weighting=weighting))
        assert len(vectors) == 2
        assert weights.tolist() == [0.0, 0.0]
    hits = index.search(vector, feedback=Feedback())
    assert [hit.id for hit in hits] == [1, 2]


@pytest.mark.parametrize("mode", ["ranker", "reranker"])
def test_numbers_without_end(index: Index, corpus: Corpus, mode: Any) -> None:
    """No number is an allocation or an overflow; what would take minutes is refused."""
    query, endless = corpus.queries[0], 2**62
    most = index.search(query, feedback=Feedback(clusters=10_000, vectors=10_000, rescored=len(index), mode=mode))
    assert (
        index.search(query, feedback=Feedback(clusters=endless, vectors=endless, rescored=endless, mode=mode)) == most
    )
    assert index.search(query, 10, feedback=Feedback(documents=endless, clusters=2, vectors=1, mode=mode))
    with pytest.raises(InvalidInputError, match=r"token vectors of 400 documents into \d+ clusters.*fewer"):
        index.search(query, feedback=Feedback(documents=endless, clusters=endless, mode=mode))


def test_a_query_never_becomes_too_long(index: Index, corpus: Corpus) -> None:
    query = np.tile(corpus.queries[0], (4096, 1))[:4090]
    stats = index.search(query, feedback=Feedback()).stats
    assert stats["feedback_vectors"] == 6


def test_documents_without_tokens_and_nothing_found(tmp_path: Path, corpus: Corpus) -> None:
    empty = np.zeros((0, corpus.dim), dtype=np.float32)
    index = Index.create(tmp_path / "index", dim=corpus.dim, train_after=0)
    documents = [corpus.documents[0], empty, corpus.documents[1], empty]
    index.add(range(4), vectors=documents, metadata=[{"n": 1}] * 4)
    for mode in ("ranker", "reranker"):
        feedback = Feedback(mode=mode)
        assert {hit.id for hit in index.search(corpus.queries[0], feedback=feedback)} == {0, 2}
        assert index.search(corpus.queries[0], feedback=feedback, filter={"n": 2}) == []
        assert index.search(corpus.queries[0], feedback=feedback, ids=[1, 3]) == []
        assert index.search_batch([], feedback=feedback) == []
        with pytest.raises(InvalidInputError, match="has no tokens"):
            index.search(empty, feedback=feedback)
    index.delete(range(4))
    assert index.search(corpus.queries[0], feedback=Feedback()) == []


def test_an_index_without_cells(tmp_path: Path, corpus: Corpus) -> None:
    query = corpus.queries[0]
    flat = build_index(tmp_path / "flat", corpus, codec="flat")
    with pytest.raises(InvalidInputError, match='flat codec has no cells; create the index with codec="residual"'):
        flat.search(query, feedback=Feedback())
    young = build_index(tmp_path / "young", corpus, train_after=10**6)
    with pytest.raises(InvalidInputError, match="trains its cells at 1000000; add documents"):
        young.search_batch([query], feedback=Feedback())
    with pytest.raises(InvalidInputError, match="this index of 0 token vectors"):
        Index.create(tmp_path / "new", dim=corpus.dim).search(query, feedback=Feedback())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"documents": 0}, "documents of feedback must be an integer of at least 1"),
        ({"clusters": 2.5}, "clusters of feedback must be an integer"),
        ({"vectors": True}, "vectors of feedback must be an integer"),
        ({"rescored": -1}, "rescored of feedback"),
        ({"vectors": 25}, "cannot add 25 vectors from 24 clusters"),
        ({"weight": -0.5}, r"weight of feedback must be a finite number of at least 0 and at most 1e\+06, not -0\.5"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": float("inf")}, "weight"),
        ({"weight": 1.1e6}, "weight"),
        ({"weight": "1"}, "weight"),
        ({"weight": True}, "weight"),
        ({"weight": np.complex64(1)}, "weight"),
        ({"weighting": "idf"}, "weighting of feedback must be one of 'normalised', 'raw', not 'idf'"),
        ({"mode": "rocchio"}, "mode of feedback must be one of 'ranker', 'reranker', not 'rocchio'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Feedback(**settings)


def test_the_dataclass(index: Index, corpus: Corpus) -> None:
    feedback = Feedback(documents=np.int64(2), weight=np.float32(0.5))  # type: ignore[arg-type]
    assert (type(feedback.documents), type(feedback.weight)) == (int, float)
    assert dataclasses.replace(feedback, weight=0.1).weight == 0.1
    assert hash(Feedback()) == hash(Feedback())
    with pytest.raises(dataclasses.FrozenInstanceError):
        feedback.weight = 1.0  # type: ignore[misc]
    with pytest.raises(InvalidInputError, match=r"feedback is a dict; pass latewood\.Feedback"):
        index.search(corpus.queries[0], feedback={"weight": 1.0})  # type: ignore[arg-type]


def test_statistics_and_scores(index: Index, corpus: Corpus) -> None:
    feedback = Feedback(vectors=4)
    queries = corpus.queries
    plain = index.search_arrays(queries, gather="exact").stats
    stats = index.search_arrays(queries, gather="exact", feedback=feedback).stats
    assert (plain["feedback_vectors"], plain["feedback_s"]) == (0, 0.0)
    assert stats["queries"] == len(queries)
    assert stats["feedback_vectors"] == 4 * len(queries)
    assert stats["scored"] == 2 * plain["scored"], "both passes count"
    assert stats["feedback_s"] > 0
    total = index.search(queries[0], 5, feedback=feedback)
    mean = index.search(queries[0], 5, feedback=feedback, length_normalize=True)
    assert [hit.score for hit in mean] == pytest.approx([hit.score / len(queries[0]) for hit in total])
    assert mean[0].explain().score == pytest.approx(mean[0].score, rel=1e-5)
    assert index.measure_recall(queries, feedback=feedback, gather="flood") >= 0.95


def test_explanations_name_what_was_added(tmp_path: Path) -> None:
    texts = {"a": "the quick brown fox", "b": "the lazy brown dog", "c": "the capital of france"}
    index = Index.create(tmp_path / "index", encoder=HashEncoder(), train_after=0, centroids=8)
    index.add(list(texts), texts=list(texts.values()))
    hit = index.search("quick fox", 1, feedback=Feedback(documents=1, clusters=3, vectors=2))[0]
    assert hit.explain().query_tokens == ("quick", "fox", "feedback vector 0", "feedback vector 1")
    assert hit.explain().score == pytest.approx(hit.score, rel=1e-5)
    assert index.explain("quick fox", "a").query_tokens == ("quick", "fox")
    by_vectors = index.search(HashEncoder().encode_query(["fox"])[0], 1, feedback=Feedback(clusters=3, vectors=1))[0]
    assert by_vectors.explain().query_tokens == ("query token 0", "feedback vector 0")
