"""Reranking against a literal transcription of candidate pruning and early exit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Index
from latewood.errors import DimensionError, DuplicateIdError, InvalidInputError, UnknownIdError
from reference import early_exit, prune_candidates
from strategies import Corpus, make_corpus


class Scores(list[dict[int, float]]):
    """Score of each document for each query; hypothesis prints it in every report."""

    def __repr__(self) -> str:
        return f"Scores of {len(self)} queries"


@pytest.fixture(scope="module")
def exact(index: Index, corpus: Corpus) -> Scores:
    """MaxSim of every document for every query, as the index scores it."""
    hits = index.search_batch(corpus.queries, len(corpus.documents), gather="exact")
    return Scores({int(hit.id): hit.score for hit in found} for found in hits)


def ranked(scores: dict[int, float], keys: list[int]) -> list[tuple[int, float]]:
    """Best first; ids are ordinals here, so ties go to the lower id."""
    return sorted(((key, scores[key]) for key in keys), key=lambda item: (-item[1], item[0]))


def pairs(hits: Any) -> list[tuple[int, float]]:
    return [(hit.id, hit.score) for hit in hits]


def test_all_candidates(index: Index, corpus: Corpus, exact: Scores) -> None:
    """Reranking everything is the exact search, to the bit."""
    for query, scores in zip(corpus.queries, exact, strict=True):
        keys = list(scores)
        assert pairs(index.rerank(query, keys)) == ranked(scores, keys)
        assert pairs(index.rerank(query, keys, k=5)) == ranked(scores, keys)[:5]


@given(
    first=st.lists(
        st.tuples(st.integers(0, 399), st.floats(-5, 5, width=32)), max_size=60, unique_by=lambda pair: pair[0]
    ),
    k=st.integers(1, 20),
    alpha=st.none() | st.floats(0, 1),
    beta=st.none() | st.integers(1, 8),
    number=st.integers(0, 15),
)
def test_pruning_and_early_exit(
    index: Index,
    corpus: Corpus,
    exact: Scores,
    first: list[tuple[int, float]],
    k: int,
    alpha: float | None,
    beta: int | None,
    number: int,
) -> None:
    scores = exact[number]
    in_order = sorted(first, key=lambda pair: -pair[1])
    alpha = None if alpha is None else float(np.float32(alpha))
    kept = in_order
    if alpha is not None:
        # The threshold is one float32 expression; the transcription uses the same precision.
        values = [np.float32(score) for _, score in in_order]
        kept = in_order[: prune_candidates(values, k, np.float32(alpha))]  # type: ignore[arg-type]
    keys = [key for key, _ in kept]
    scored = keys
    if beta is not None:
        scored = keys[: early_exit([scores[key] for key in keys], keys, k, beta)]
    hits, stats = index.rerank(
        corpus.queries[number],
        [key for key, _ in first],
        [score for _, score in first],
        k=k,
        alpha=alpha,
        beta=beta,
        return_stats=True,
    )
    assert pairs(hits) == ranked(scores, scored)[:k]
    assert stats["gathered"] == len(first)
    assert stats["pruned"] == len(first) - len(keys)
    assert stats["scored"] == len(scored)


def test_pruning_by_hand(index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    for scores, k, alpha, kept in [
        ([10.0, 9.0, 8.9, 8.0], 2, 0.05, 3),
        ([10.0, 9.0, 8.9, 8.0], 2, 0.0, 2),
        ([10.0, 9.0, 9.0, 8.0], 2, 0.0, 3),
        ([-1.0, -2.0, -2.05, -4.0], 2, 0.05, 3),
        ([-1.0, -2.0, -2.05, -4.0], 2, 0.0, 2),
        ([0.0, 0.0, 0.0, -1.0], 1, 0.5, 3),
        ([5.0, 1.0], 10, 0.0, 2),
    ]:
        _, stats = index.rerank(query, list(range(len(scores))), scores, k=k, alpha=alpha, return_stats=True)
        assert stats["scored"] == kept, (scores, k, alpha)


def test_short_and_empty_lists(index: Index, corpus: Corpus, exact: Scores) -> None:
    query = corpus.queries[0]
    assert pairs(index.rerank(query, [4, 2], [1.0, 2.0], k=10, alpha=0.0, beta=1)) == ranked(exact[0], [4, 2])
    assert index.rerank(query, []) == []
    assert index.rerank(query, [], [], k=3, alpha=0.1, beta=2) == []


def test_forms_of_candidates(index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    wanted = index.rerank(query, [9, 4, 1], [3.0, 2.0, 1.0], k=2)
    for form in (
        {9: 3.0, 4: 2.0, 1: 1.0},
        [(9, 3.0), (4, 2.0), (1, 1.0)],
        [(1, 1.0), (9, 3.0), (4, 2.0)],
    ):
        assert index.rerank(query, form, k=2) == wanted
    assert index.rerank(query, np.array([9, 4, 1]), np.array([3.0, 2.0, 1.0]), k=2) == wanted


def test_batches(index: Index, corpus: Corpus) -> None:
    queries = corpus.queries[:3]
    lists = [[1, 2, 3], [], [7, 5]]
    scores = [[3.0, 2.0, 1.0], [], [1.0, 2.0]]
    wanted = [index.rerank(query, ids, own) for query, ids, own in zip(queries, lists, scores, strict=True)]
    assert index.rerank_batch(queries, lists, scores) == wanted
    flat, offsets = np.array([1, 2, 3, 7, 5]), np.array([0, 3, 3, 5])
    assert index.rerank_batch(queries, flat, np.array([3.0, 2, 1, 1, 2]), offsets=offsets) == wanted
    named = {f"q{number}": query for number, query in enumerate(queries)}
    run = {"q2": {7: 1.0, 5: 2.0}, "q0": {1: 3.0, 2: 2.0, 3: 1.0}}
    assert index.rerank_batch(named, run) == {"q0": wanted[0], "q2": wanted[2]}
    arrays = index.rerank_batch(queries, lists, as_arrays=True)
    assert arrays.offsets.tolist() == [0, 3, 3, 5]
    with pytest.raises(InvalidInputError, match="'q9'"):
        index.rerank_batch(named, {"q9": {1: 1.0}})
    with pytest.raises(InvalidInputError, match="2 candidate lists for 3 queries"):
        index.rerank_batch(queries, lists[:2])
    with pytest.raises(InvalidInputError, match="offsets"):
        index.rerank_batch(queries, flat, offsets=[0, 3, 5])
    with pytest.raises(InvalidInputError, match="some candidate lists have scores"):
        index.rerank_batch(queries, [{1: 2.0}, [2], [3]])


def test_unknown_and_repeated_candidates(index: Index, corpus: Corpus) -> None:
    query = corpus.queries[0]
    with pytest.raises(UnknownIdError, match="4040"):
        index.rerank(query, [1, 4040, 2])
    with pytest.raises(UnknownIdError, match="abc"):
        index.rerank(query, ["abc"])
    skipped = index.rerank(query, [1, 4040, 2], [3.0, 2.0, 1.0], missing="skip")
    assert skipped == index.rerank(query, [1, 2], [3.0, 1.0])
    assert index.rerank(query, [4040], missing="skip") == []
    with pytest.raises(DuplicateIdError, match="7"):
        index.rerank(query, [7, 8, 7])
    with pytest.raises(InvalidInputError, match="missing"):
        index.rerank(query, [1], missing="ignore")  # type: ignore[arg-type]


def test_skipped_candidates_do_not_count_for_pruning(index: Index, corpus: Corpus) -> None:
    """The k-th score is that of the k-th candidate which the index holds."""
    _, stats = index.rerank(
        corpus.queries[0], [4040, 1, 2, 3], [9.0, 5.0, 4.9, 1.0], k=1, alpha=0.1, missing="skip", return_stats=True
    )
    assert stats["scored"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "k must"),
        ({"k": -1}, "k must"),
        ({"k": 2.5}, "k must"),
        ({"k": True}, "k must"),
        ({"k": 2, "beta": 0}, "beta"),
        ({"k": 2, "alpha": -0.1, "scores": [1.0, 2.0, 3.0]}, "alpha"),
        ({"k": 2, "alpha": float("nan"), "scores": [1.0, 2.0, 3.0]}, "alpha"),
        ({"k": 2, "alpha": 0.1}, "scores"),
        ({"alpha": 0.1, "scores": [1.0, 2.0, 3.0]}, "k"),
        ({"beta": 2}, "k"),
        ({"scores": [1.0]}, "1 scores for 3 ids"),
        ({"scores": [1.0, float("nan"), 2.0]}, "NaN"),
        ({"scores": ["a", "b", "c"]}, "numbers"),
        ({"threads": 0}, "threads"),
    ],
)
def test_bad_options(index: Index, corpus: Corpus, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        index.rerank(corpus.queries[0], [1, 2, 3], **options)


def test_bad_queries(index: Index, corpus: Corpus) -> None:
    with pytest.raises(DimensionError):
        index.rerank(np.ones((2, 5), dtype=np.float32), [1])
    with pytest.raises(InvalidInputError, match="no tokens"):
        index.rerank(np.zeros((0, corpus.dim), dtype=np.float32), [1])


def test_documents_without_tokens_come_last(tmp_path: Path) -> None:
    corpus = make_corpus(2, documents=5)
    index = Index.create(tmp_path / "index", dim=corpus.dim)
    nothing = np.zeros((0, corpus.dim), dtype=np.float32)
    index.add(range(6), vectors=[nothing, *corpus.documents], allow_empty=True)
    hits = index.rerank(corpus.queries[0], [0, 1, 2])
    assert hits[-1].id == 0
    assert hits[-1].score == -np.inf
    assert 0 not in {hit.id for hit in index.search(corpus.queries[0], 10)}
    assert len(index) == 6


def test_flat_codec_reranks_and_searches_exactly(tmp_path: Path, corpus: Corpus) -> None:
    index = Index.create(tmp_path / "index", dim=corpus.dim, codec="flat")
    index.add(range(len(corpus.documents)), vectors=corpus.documents)
    for query in corpus.queries[:4]:
        everything = index.search(query, len(corpus.documents))
        assert index.rerank(query, range(len(corpus.documents))) == everything
