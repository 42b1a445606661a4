"""Reranking against a literal transcription of candidate pruning and early exit."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latewood import Hit, Index, SearchArrays
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


# Whatever a double can be: infinities, the largest, subnormal ones, those that float32 has not.
FIRST_SCORES = st.floats(allow_nan=False) | st.sampled_from([np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e39, 1 + 1e-12])


@given(
    first=st.lists(
        st.tuples(st.integers(0, 399), st.floats(-5, 5) | FIRST_SCORES), max_size=60, unique_by=lambda pair: pair[0]
    ),
    k=st.integers(1, 20),
    alpha=st.none() | st.floats(0, 1) | st.floats(0, allow_infinity=False),
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
    kept = in_order
    if alpha is not None:
        kept = in_order[: prune_candidates([score for _, score in in_order], k, alpha)]
    keys = [key for key, _ in kept]
    scored = keys
    if beta is not None:
        scored = keys[: early_exit([scores[key] for key in keys], keys, k, beta)]
    hits = index.rerank(
        corpus.queries[number],
        [key for key, _ in first],
        [score for _, score in first],
        k=k,
        alpha=alpha,
        beta=beta,
    )
    stats = hits.stats
    assert pairs(hits) == ranked(scores, scored)[:k]
    assert len(hits) == min(k, len(first)), "pruning leaves the first k"
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
        stats = index.rerank(query, list(range(len(scores))), scores, k=k, alpha=alpha).stats
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
    assert index.rerank_run(named, run) == {"q0": wanted[0], "q2": wanted[2]}
    arrays = index.rerank_arrays(queries, lists)
    assert arrays.offsets.tolist() == [0, 3, 3, 5]
    with pytest.raises(InvalidInputError, match="'q9'"):
        index.rerank_run(named, {"q9": {1: 1.0}})
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
    for missing in ("error", "skip"):
        with pytest.raises(InvalidInputError, match=r"abc.*integers"):
            index.rerank(query, ["abc"], missing=missing)
    skipped = index.rerank(query, [1, 4040, 2], [3.0, 2.0, 1.0], missing="skip")
    assert skipped == index.rerank(query, [1, 2], [3.0, 1.0])
    assert index.rerank(query, [4040], missing="skip") == []
    with pytest.raises(DuplicateIdError, match="7"):
        index.rerank(query, [7, 8, 7])
    with pytest.raises(InvalidInputError, match="missing"):
        index.rerank(query, [1], missing="ignore")  # type: ignore[arg-type]


def test_skipped_candidates_do_not_count_for_pruning(index: Index, corpus: Corpus) -> None:
    """The k-th score is that of the k-th candidate which the index holds."""
    stats = index.rerank(corpus.queries[0], [4040, 1, 2, 3], [9.0, 5.0, 4.9, 1.0], k=1, alpha=0.1, missing="skip").stats
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
    index.add(range(6), vectors=[nothing, *corpus.documents])
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


def test_pruning_at_the_ends_of_the_range(index: Index, corpus: Corpus) -> None:
    """Scores that are infinite, overflow, or that float32 cannot hold: the first k stay, and what equals the k-th."""
    query, inf = corpus.queries[0], np.inf
    for scores, k, alpha, kept in [
        ([inf, inf, 1.0], 1, 0.1, 2),
        ([inf, inf, 1.0], 1, 0.0, 2),
        ([1.0, -inf, -inf], 2, 0.5, 3),
        ([1e308, -1e308, -inf], 1, 10.0, 2),
        ([1e308, 9e307, 8e307], 1, 0.15, 2),
        ([1e39, 1e38, 1e37], 1, 0.0, 1),
        ([1e-46, 1e-47, 1e-48], 1, 0.0, 1),
        ([1.0 + 2e-9, 1.0 + 1e-9, 1.0], 1, 0.0, 1),
        ([0.0, -0.0, -5e-324], 1, 0.1, 2),
    ]:
        stats = index.rerank(query, list(range(len(scores))), scores, k=k, alpha=alpha).stats
        assert stats["scored"] == kept, (scores, k, alpha)


@dataclass
class Found:
    """A hit of somebody else's search."""

    doc_id: int
    score: float


class Row:
    """A hit whose class knows nothing of its fields, and that can be gone through, as pydantic's models are."""

    def __init__(self, key: int, score: float) -> None:
        self.id = key
        self.score = score

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter([("id", self.id), ("score", self.score)])


IDS, FIRST = [9, 4, 1], [3.0, 2.0, 1.0]
PAIRS = list(zip(IDS, FIRST, strict=True))
SCORED_FORMS: dict[str, Any] = {
    "mapping": dict(PAIRS),
    "pairs": PAIRS,
    "pairs in another order": PAIRS[::-1],
    "lists of two": [list(pair) for pair in PAIRS],
    "generator of pairs": lambda: (pair for pair in PAIRS),
    "tuple of pairs": tuple(PAIRS),
    "items": lambda: dict(PAIRS).items(),
    "two columns": (IDS, FIRST),
    "two arrays": (np.array(IDS), np.array(FIRST, dtype=np.float32)),
    "two tuples": (tuple(IDS), tuple(FIRST)),
    "two generators": lambda: (iter(IDS), iter(FIRST)),
    "keys and values": lambda: (dict(PAIRS).keys(), dict(PAIRS).values()),
    "hits": [Hit(key, score, 0) for key, score in PAIRS],
    "objects": [Found(*pair) for pair in PAIRS],
    "objects with instance attributes": [Row(*pair) for pair in PAIRS],
    "two objects": (Row(9, 3.0), Row(4, 2.0), Row(1, 1.0)),
    "mappings": [{"id": key, "score": score} for key, score in PAIRS],
    "results of a cross-encoder": [{"corpus_id": key, "score": score, "text": "x"} for key, score in PAIRS],
    "structured array": np.array(PAIRS, dtype=[("doc_id", "i8"), ("score", "f4")]),
    "entry of arrays": SearchArrays(np.array(IDS), np.array(FIRST, np.float32), np.array([0, 3]))[0],
}
PLAIN_FORMS: dict[str, Any] = {
    "list": IDS,
    "tuple": tuple(IDS),
    "array": np.array(IDS),
    "small array": np.array(IDS, dtype=np.uint8),
    "array of objects": np.array(IDS, dtype=object),
    "list of numpy's": [np.int32(key) for key in IDS],
    "generator": lambda: iter(IDS),
    "mappings": [{"id": key} for key in IDS],
    "no scores": (IDS, None),
}


def made(form: Any) -> Any:
    return form() if callable(form) else form


@pytest.mark.parametrize("form", SCORED_FORMS)
def test_forms_with_scores(index: Index, corpus: Corpus, form: str) -> None:
    wanted = index.rerank(corpus.queries[0], IDS, FIRST, k=1, alpha=0.4)
    assert index.rerank(corpus.queries[0], made(SCORED_FORMS[form]), k=1, alpha=0.4) == wanted
    several = index.rerank_batch(
        corpus.queries[:2], [made(SCORED_FORMS[form]), made(SCORED_FORMS[form])], k=1, alpha=0.4
    )
    assert several[0] == wanted


@pytest.mark.parametrize("form", PLAIN_FORMS)
def test_forms_without_scores(index: Index, corpus: Corpus, form: str) -> None:
    wanted = index.rerank(corpus.queries[0], IDS)
    assert index.rerank(corpus.queries[0], made(PLAIN_FORMS[form])) == wanted
    with pytest.raises(InvalidInputError, match="scores"):
        index.rerank(corpus.queries[0], made(PLAIN_FORMS[form]), k=1, alpha=0.1)


BAD_FORMS: dict[str, tuple[Any, str]] = {
    "None": (None, "None"),
    "a string": ("ab", "one str"),
    "bytes": (b"ab", "one bytes"),
    "a number": (5, "one int"),
    "a set": ({1, 2}, "no order"),
    "a float id": ([1.5], "float"),
    "an id None": ([None], "NoneType"),
    "a true id": ([True], "bool"),
    "ids mixed": ([1, "a"], "mixes"),
    "forms mixed": ([1, (2, 1.0)], "several forms"),
    "pairs and mappings": ([(2, 1.0), {"id": 1, "score": 1.0}], "several forms"),
    "a triple": ([(1, 2.0, 3)], "entry"),
    "pairs of ids": ([("ab", "cd")], "numbers"),
    "a score None": ([(1, None)], "entry"),
    "a score None in a mapping": ([{"id": 1, "score": None}], "None"),
    "some scores": ([{"id": 1, "score": 1.0}, {"id": 2}], "such as None"),
    "scores as text": ({1: "0.5"}, "numbers"),
    "scores that are truths": ((IDS, [True, False, True]), "numbers"),
    "a score beyond doubles": ({1: 10**400}, "64 bits"),
    "NaN": ([(1, float("nan"))], "NaN"),
    "too few scores": ((IDS, FIRST[:2]), "2 scores for 3 ids"),
    "scores of two dimensions": ((IDS, np.ones((3, 1))), "shape"),
    "a matrix": (np.array([[9, 4]]), "ndarray"),
    "no id": ([{"key": 1}], "'id'"),
    "an empty mapping": ([{}], "'id'"),
    "what can be read in two ways": (((1, 2), (3, 4)), "two ids with their scores, or two"),
    "a scalar array": (np.array(5), "one ndarray"),
    "masked ids": (np.ma.MaskedArray([1, 2], [False, True]), "masked"),
    "masked scores": (([1, 2], np.ma.MaskedArray([1.0, 2.0], [False, True])), "masked"),
}


@pytest.mark.parametrize("form", BAD_FORMS)
def test_forms_that_are_refused(index: Index, corpus: Corpus, form: str) -> None:
    bad, words = BAD_FORMS[form]
    with pytest.raises(InvalidInputError, match=words):
        index.rerank(corpus.queries[0], bad)
    with pytest.raises(InvalidInputError, match=words):
        index.rerank_batch(corpus.queries[:2], [IDS, bad])


@pytest.mark.parametrize(
    ("candidates", "options"),
    [
        (None, {}),
        (5, {}),
        ({"a": IDS}, {}),
        ([IDS, IDS], {"scores": 5}),
        ([IDS, IDS], {"scores": [FIRST, 5]}),
        ([IDS, IDS], {"scores": {0: FIRST}}),
        (IDS, {"offsets": "x"}),
        (IDS, {"offsets": [0, 1.5, 3]}),
        (IDS, {"offsets": [0, 2**70, 3]}),
        (IDS, {"offsets": [[0, 1, 3]]}),
        (IDS, {"offsets": []}),
        (IDS, {"offsets": None}),
        (IDS, {"offsets": [0, -1, 3]}),
        (IDS, {"offsets": [0, 1, 3], "scores": [1.0]}),
    ],
)
def test_bad_batches(index: Index, corpus: Corpus, candidates: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        index.rerank_batch(corpus.queries[:2], candidates, **options)
