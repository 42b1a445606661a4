"""Which hits come back: the best of each group, pages, least scores, a filter for each query. Against brute force."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Feedback, Hit, Index
from latewood.errors import InvalidInputError, UnknownIdError
from reference_filters import matches
from reference_metadata import best_of_groups
from strategies import Corpus, make_corpus

GATHERS = (None, "exact", "flood", "postings")


def page_of(number: int) -> dict[str, Any] | None:
    """Most documents are of one page, many of few, and some of none."""
    if number % 7 == 0:
        return None if number % 2 else {"page": None, "n": number}
    return {"page": 0 if number < 700 else f"page {number % 40}", "n": number}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus(5, dim=48, documents=1000, queries=4, clusters=100)


@pytest.fixture(scope="module", params=["residual", "flat"])
def pages(request: pytest.FixtureRequest, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An index with several segments, changed metadata and deletions, and the metadata that it holds."""
    index = Index.create(tmp_path_factory.mktemp("pages") / "index", dim=48, codec=request.param, train_after=0)
    held: dict[int, Any] = {number: page_of(number) for number in range(1000)}
    for start in range(0, 1000, 250):
        ids = range(start, start + 250)
        index.add(ids, vectors=corpus.documents[start : start + 250], metadata=[held[key] for key in ids], merge=False)
    for number in range(0, 1000, 11):
        held[number] = {**(held[number] or {}), "page": f"new {number % 3}"}
    index.update_metadata(range(0, 1000, 11), [{"page": held[key]["page"]} for key in range(0, 1000, 11)], merge=False)
    for number in range(5, 1000, 13):
        del held[number]
    index.delete(range(5, 1000, 13), merge=False)
    return index, held


def ids_of(hits: list[Hit]) -> list[Any]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize("gather", GATHERS)
@pytest.mark.parametrize("max_scored", [None, 1, 20])
def test_there_are_k_groups_whenever_k_exist(pages: Any, corpus: Corpus, gather: Any, max_scored: int | None) -> None:
    """Whatever finds the candidates, and however few are asked for: each is the best that was found of its group."""
    index, held = pages
    every = len(best_of_groups(held, held, "page"))
    for query in corpus.queries:
        scores = {hit.id: hit.score for hit in index.search(query, 1000, gather="exact")}
        exact = best_of_groups(scores, held, "page")
        for k, offset in ((1, 0), (5, 2), (40, 0), (every, 0), (every + 9, 3)):
            options: dict[str, Any] = {"offset": offset, "group_by": "page"}
            found = index.search(query, k, gather=gather, max_scored=max_scored, probes=1, **options)
            assert len(found) == min(k, every - offset)
            assert best_of_groups(ids_of(found), held, "page") == ids_of(found)
            assert all(hit.score == scores[hit.id] for hit in found)
            assert [hit.rank for hit in found] == list(range(offset + 1, offset + 1 + len(found)))
            if gather == "exact":
                assert ids_of(found) == exact[offset : offset + k]
                assert ids_of(index.rerank(query, list(held)[::-1], k=k, **options)) == exact[offset : offset + k]


def test_groups_of_what_a_filter_lets_through(pages: Any, corpus: Corpus) -> None:
    index, held = pages
    asked: list[Any] = [{"n": {"lt": 300}}, None, {"page": None}, {"page": {"prefix": "new"}}]
    batch = index.search_batch(corpus.queries, 9, filter=asked, group_by="page", gather="exact", offset=1)
    for query, condition, hits in zip(corpus.queries, asked, batch, strict=True):
        allowed = [
            hit.id for hit in index.search(query, 1000, gather="exact") if matches(held[hit.id], condition or {})
        ]
        assert ids_of(hits) == best_of_groups(allowed, held, "page")[1:10]
        alone = index.search(query, 9, filter=condition, group_by="page", gather="exact", offset=1)
        assert alone == hits
        given = index.rerank(query, list(held), k=9, filter=condition, group_by="page", offset=1)
        assert given == hits


@pytest.mark.parametrize("early", [{"beta": 1}, {"beta": 5}, {"alpha": 0.0}, {"alpha": 1.0}])
def test_groups_in_a_rerank_that_stops_early(pages: Any, corpus: Corpus, early: dict[str, Any]) -> None:
    """What it leaves out may be better; what it gives is of different groups, and as much as is wanted."""
    index, held = pages
    first_stage = {key: float(-place) for place, key in enumerate(held)}
    hits = index.rerank(corpus.queries[0], first_stage, k=5, group_by="page", **early)
    assert best_of_groups(ids_of(hits), held, "page") == ids_of(hits)
    assert len(hits) == 5


def test_groups_with_feedback(pages: Any, corpus: Corpus) -> None:
    index, held = pages
    if index.info()["codec_options"]["kind"] == "flat":
        # It has no cells.
        return
    hits = index.search(corpus.queries[0], 30, group_by="page", feedback=Feedback())
    assert len(hits) == 30
    assert best_of_groups(ids_of(hits), held, "page") == ids_of(hits)


GROUPED: list[tuple[list[Any], str, list[int]]] = [
    # The best of each value: documents score as they stand, the first best.
    ([{"g": 1}, {"g": 1}, {"g": 2}, {"g": 1}], "g", [0, 2]),
    # Without the field, with null, with an object or an empty list a document stands for itself.
    ([None, {}, {"g": None}, {"g": {"x": 1}}, {"g": []}, {"g": [None]}], "g", [0, 1, 2, 3, 4, 5]),
    # Kinds differ, and numbers count by their value.
    (
        [{"g": 1}, {"g": 1.0}, {"g": True}, {"g": "1"}, {"g": "true"}, {"g": 2**64}, {"g": float(2**64)}],
        "g",
        [0, 2, 3, 4, 5],
    ),
    # Of several values the first counts.
    ([{"g": ["a", "b"]}, {"g": "b"}, {"g": [[], ["a"]]}, {"g": [None, "b"]}], "g", [0, 1]),
    # Paths are those of filters.
    ([{"a": {"b": 1}}, {"a": [{"c": 0}, {"b": 1}]}, {"a.b": 1}, {"a": 1}], "a.b", [0, 3]),
    ([{"and": 1}, {"and": 1}], "\\and", [0]),
    ([{"and": 1}, {"and": 1}], "and", [0]),
]


@pytest.mark.parametrize(("entries", "path", "expected"), GROUPED, ids=range(len(GROUPED)))
def test_what_makes_a_group(tmp_path: Path, entries: list[Any], path: str, expected: list[int]) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    for key, entry in enumerate(entries):
        index.add([key], vectors=[np.eye(8, dtype="f4")[:1] * (1 - key / 100)], metadata=[entry], merge=False)
    query = np.eye(8, dtype="f4")[:1]
    assert ids_of(index.search(query, 10, gather="exact")) == list(range(len(entries)))
    for _ in range(2):
        found = index.search(query, 10, group_by=path)
        assert ids_of(found) == expected
        assert found.plan.without_effect == (("group_by",) if len(expected) == len(entries) else ())
        assert ids_of(index.rerank(query, range(len(entries)), group_by=path)) == expected
        assert best_of_groups(range(len(entries)), dict(enumerate(entries)), path.removeprefix("\\")) == expected
        index.compact()


def test_pages_follow_each_other(pages: Any, corpus: Corpus) -> None:
    index, held = pages
    query = corpus.queries[1]
    whole = index.search(query, 50, gather="exact")
    paged = [hit for offset in range(0, 50, 7) for hit in index.search(query, 7, offset=offset, gather="exact")]
    assert paged[:50] == whole, "ranks go on"
    assert index.search(query, 5, offset=len(held), gather="exact") == []
    assert index.search(query, 5, offset=2**63 - 1) == []
    assert index.rerank(query, list(held), offset=3, k=4) == whole[3:7]
    assert index.rerank(query, list(held), offset=len(held) - 2) == index.search(
        query, 2, offset=len(held) - 2, gather="exact"
    )
    arrays = index.search_arrays(corpus.queries, 5, offset=2, gather="exact")
    assert [list(ids) for ids, _ in arrays] == [
        ids_of(hits) for hits in index.search_batch(corpus.queries, 5, offset=2, gather="exact")
    ]


@pytest.mark.parametrize("normalised", [False, True])
def test_the_least_score_is_that_of_the_hits(pages: Any, corpus: Corpus, normalised: bool) -> None:
    index, held = pages
    query = corpus.queries[2]
    hits = index.search(query, 30, gather="exact", length_normalize=normalised)
    least = hits[20].score
    options: dict[str, Any] = {"min_score": least, "length_normalize": normalised}
    expected = [hit for hit in hits if hit.score >= least]
    assert index.search(query, 30, gather="exact", **options) == expected
    assert index.rerank(query, list(held), k=30, **options) == expected
    assert index.search(query, 30, gather="exact", offset=2, **options) == expected[2:]
    above = {**options, "min_score": float(np.nextafter(least, np.inf))}
    assert index.search(query, 30, gather="exact", **above) == [hit for hit in hits if hit.score > least]
    assert index.search(query, 30, **{**options, "min_score": 1e30}) == []
    assert len(index.rerank(query, list(held), **{**options, "min_score": -1e30})) == len(held)


def test_a_filter_limits_what_a_rerank_looks_at(pages: Any, corpus: Corpus) -> None:
    index, held = pages
    query, candidates = corpus.queries[0], list(held)[::3]
    condition = {"page": {"prefix": "new"}}
    passed = [key for key in candidates if matches(held[key], condition)]
    assert 0 < len(passed) < len(candidates)
    assert index.rerank(query, candidates, filter=condition) == index.rerank(query, passed)
    assert index.rerank(query, candidates, filter={"no": "such"}) == []
    with pytest.raises(UnknownIdError, match="5"):
        index.rerank(query, [*candidates, 5], filter=condition)
    assert index.rerank(query, [*candidates, 5], filter=condition, missing="skip") == index.rerank(query, passed)
    lists = [candidates, passed, [], candidates]
    batch = index.rerank_batch(corpus.queries, lists, filter=[condition, None, condition, {}])
    alone = [
        index.rerank(query, own, filter=asked)
        for query, own, asked in zip(corpus.queries, lists, [condition, None, condition, {}], strict=True)
    ]
    assert batch == alone


def test_filters_are_as_many_as_queries(pages: Any, corpus: Corpus) -> None:
    index, _ = pages
    wrong: list[list[dict[str, Any]]] = [[{}], [{}] * 3, []]
    for asked in wrong:
        with pytest.raises(InvalidInputError, match=f"{len(asked)} filters for 4 queries"):
            index.search_batch(corpus.queries, filter=asked)
    with pytest.raises(InvalidInputError, match="2 filters for 1 queries"):
        index.search(corpus.queries[0], filter=[{}, {}])
    with pytest.raises(InvalidInputError, match="filter of query 1 is a str"):
        index.search_batch(corpus.queries[:2], filter=[{}, "page"])
    with pytest.raises(InvalidInputError, match=r"query 1: filter.*page"):
        index.search_batch(corpus.queries[:2], filter=[{}, {"page": {"near": 1}}])
    assert index.search_batch([], filter=[]) == []
