"""What a search gives: lists of plain values that become JSON, pickles, copies and runs like any others."""

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Feedback, Hit, Hits, Index, Plan, RerankOptions, SearchOptions
from latewood.errors import InvalidInputError, LatewoodError
from latewood.evaluate import Collection
from strategies import Corpus, make_corpus
from support import build_index


@pytest.fixture
def hits(text_index: Index) -> Hits:
    return text_index.search("the quick fox", 3)


def test_hits_become_json(hits: Hits) -> None:
    read = json.loads(json.dumps(hits.to_dicts()))
    assert read == [dataclasses.asdict(hit) for hit in hits]
    assert list(read[0]) == ["id", "score", "rank", "text", "metadata", "stage_scores"]
    assert json.loads(json.dumps(dataclasses.asdict(hits[0]))) == read[0]


def test_a_document_without_tokens_has_no_score_in_json(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", dim=8)
    index.add(["full", "empty"], vectors=[np.eye(2, 8, dtype="f4"), np.zeros((0, 8), "f4")])
    given = index.rerank(np.eye(1, 8, dtype="f4"), ["empty", "full"])
    assert [hit.score for hit in given] == [pytest.approx(1.0, abs=0.01), float("-inf")]
    assert json.loads(json.dumps(given.to_dicts(), allow_nan=False))[1]["score"] is None


def test_copies_and_pickles(hits: Hits) -> None:
    """Copies explain themselves still, and share what was searched; pickles hold values alone."""
    told = (hits.stats, hits.plan)
    for other in (copy.copy(hits), copy.deepcopy(hits), pickle.loads(pickle.dumps(hits))):
        assert type(other) is Hits
        assert other == hits
        assert (other.stats, other.plan) == told
    for hit in (copy.copy(hits[0]), copy.deepcopy(hits[0]), copy.deepcopy(hits)[0]):
        assert hit == hits[0]
        assert hit.explain().score == hits[0].explain().score
    deep = copy.deepcopy(hits[0])
    assert deep.metadata == hits[0].metadata
    assert deep.metadata is not hits[0].metadata
    with pytest.raises(LatewoodError, match=r"index\.explain"):
        pickle.loads(pickle.dumps(hits))[0].explain()
    with pytest.raises(LatewoodError, match=r"index\.explain"):
        Hit("x", 1.0, 1).explain()
    changed = dataclasses.replace(hits[0], score=2.0)
    assert (changed.id, changed.score) == (hits[0].id, 2.0)


def test_some_of_the_hits_are_hits(hits: Hits) -> None:
    some = hits[1:]
    assert (list(some), some.plan, some.stats) == (list(hits)[1:], hits.plan, hits.stats)
    assert some.to_dicts() == hits.to_dicts()[1:]
    assert some[0].explain().id == hits[1].id
    assert hits[-1] is list(hits)[-1]
    assert pickle.loads(pickle.dumps(hits[:0])).plan == hits.plan


def test_what_holds_much_is_shown_by_its_counts(tmp_path: Path, corpus: Corpus) -> None:
    """A notebook shows what its last line gives, however much that is."""
    index = build_index(tmp_path / "index", corpus)
    stored = index.vectors(index.ids())
    assert repr(stored) == f"Ragged({len(stored)} items, {len(stored.values)} tokens, dim={corpus.dim})"
    assert repr(index.search_arrays(corpus.queries[:2], 3)) == "SearchArrays(2 queries, 6 hits)"
    collection = Collection({"d": {"title": "", "text": "x"}}, {"q": "x", "r": "y"}, {"q": {"d": 1, "e": 0}})
    assert repr(collection) == "Collection(1 documents, 2 queries, 2 judgements)"


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(k=3, filter={"a": [1, "é"]}, recall=0.9, feedback=Feedback()),
        SearchOptions(k=1, filter=[None, {"a": None}], gather="exact"),
        RerankOptions(k=2, alpha=0.5, missing="skip"),
        RerankOptions(),
    ],
)
def test_options_are_copied_and_pickled(options: SearchOptions | RerankOptions) -> None:
    others = copy.copy(options), copy.deepcopy(options), pickle.loads(pickle.dumps(options))
    for other in (*others, dataclasses.replace(options)):
        assert other == options
        assert type(other.core) is type(options.core)


def test_the_array_that_was_asked_with_may_be_filled_again(tmp_path: Path, corpus: Corpus) -> None:
    index = build_index(tmp_path / "index", corpus)
    query = corpus.queries[0].copy()
    hit = index.search(query, 1)[0]
    (of_batch,) = index.search_batch([query], 1)[0]
    before = hit.explain().matrix
    query[:] = 0.0
    np.testing.assert_array_equal(hit.explain().matrix, before)
    np.testing.assert_array_equal(of_batch.explain().matrix, before)
    assert hit.explain().score == pytest.approx(hit.score, rel=1e-5)


def test_a_run_has_each_query_once(tmp_path: Path, corpus: Corpus) -> None:
    index = build_index(tmp_path / "index", corpus)
    found = index.search_arrays(corpus.queries[:2], 3)
    assert list(found.to_run(["q1", "q2"])) == ["q1", "q2"]
    with pytest.raises(InvalidInputError, match="'q1' is given twice"):
        found.to_run(["q1", "q1"])


def test_each_query_of_a_batch_has_statistics_of_its_own(tmp_path: Path) -> None:
    corpus = make_corpus(3, documents=200, queries=4)
    index = build_index(tmp_path / "index", corpus)
    batch = index.search_batch(corpus.queries, 5, gather="flood", max_scored=20)
    alone = [index.search(query, 5, gather="flood", max_scored=20) for query in corpus.queries]
    assert batch == alone
    counts = ("queries", "gathered", "pruned", "scored", "scored_tokens")
    for one, other in zip(batch, alone, strict=True):
        assert [one.stats[name] for name in counts] == [other.stats[name] for name in counts]
    arrays = index.search_arrays(corpus.queries, 5, gather="flood", max_scored=20)
    assert arrays.stats["queries"] == len(corpus.queries)
    assert arrays.stats["scored"] == sum(one.stats["scored"] for one in batch)
    assert Hits().plan == Plan("none")
    assert Hits().stats == {}


def test_what_had_no_effect_is_said(tmp_path: Path, corpus: Corpus) -> None:
    flat = build_index(tmp_path / "flat", corpus, codec="flat")
    plan = flat.search(corpus.queries[0], probes=4, threshold=0.5, gather="postings", group_by="nowhere").plan
    assert plan.gather == "exact"
    assert set(plan.without_effect) == {"probes", "threshold", "gather", "group_by"}
    index = build_index(tmp_path / "index", corpus)
    assert index.search(corpus.queries[0], gather="postings", probes=3).plan.probes == 3
    assert index.search(corpus.queries[0], gather="postings", probes=3).plan.without_effect == ()
    assert index.search(corpus.queries[0], gather="flood", probes=3).plan.without_effect == ("probes",)
    assert index.rerank(corpus.queries[0], [1, 2]).plan.gather == "given"
    assert index.search(corpus.queries[0], ids=[]).plan.gather == "none"


# ── pages, groups, filters ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pages(tmp_path: Path) -> tuple[Index, Corpus]:
    corpus = make_corpus(5, documents=60, queries=3)
    index = build_index(tmp_path / "index", corpus)
    index.update_metadata(range(60), [{"page": key % 7, "even": key % 2 == 0} for key in range(60)])
    return index, corpus


def test_a_page_is_a_slice(pages: tuple[Index, Corpus]) -> None:
    index, corpus = pages
    for query in corpus.queries:
        whole = index.search(query, 60, gather="exact")
        for offset in (0, 1, 10, 55, 60, 10**12):
            page = index.search(query, 10, offset=offset, gather="exact")
            assert page == whole[offset : offset + 10]
            assert [hit.rank for hit in page] == [hit.rank for hit in whole[offset : offset + 10]]
        given = index.rerank(query, list(range(60)), k=5, offset=5)
        assert given == whole[5:10]


def test_least_scores_are_of_what_is_returned(pages: tuple[Index, Corpus]) -> None:
    index, corpus = pages
    query = corpus.queries[0]
    whole = index.search(query, 60, gather="exact", length_normalize=True)
    least = whole[20].score
    assert index.search(query, 60, gather="exact", length_normalize=True, min_score=least) == [
        hit for hit in whole if hit.score >= least
    ]
    assert index.search(query, 5, min_score=1e30) == []


def test_groups_are_the_best_of_each_value(pages: tuple[Index, Corpus]) -> None:
    index, corpus = pages
    for query in corpus.queries:
        whole = index.search(query, 60, gather="exact")
        best: dict[Any, Hit] = {}
        for hit in whole:
            best.setdefault((hit.metadata or {})["page"], hit)
        grouped = index.search(query, 7, gather="exact", group_by="page")
        assert [hit.id for hit in grouped] == [hit.id for hit in best.values()]
        assert [hit.rank for hit in grouped] == list(range(1, 8))
        assert [hit.id for hit in index.search(query, 3, offset=2, gather="exact", group_by="page")] == [
            hit.id for hit in grouped[2:5]
        ]
        reranked = index.rerank(query, list(range(60)), k=7, group_by="page")
        assert [hit.id for hit in reranked] == [hit.id for hit in grouped]


class Shown(dict[str, Any]):
    """A mapping that can be looked up, as those that never change can."""

    def __hash__(self) -> int:  # type: ignore[override]
        return 1


def test_a_filter_is_read_anew_each_time(pages: tuple[Index, Corpus]) -> None:
    """Though it can be looked up, equals one of another kind of value, or has changed."""
    index, corpus = pages
    query = corpus.queries[0]
    condition = Shown(even=True)
    assert len(index.search(query, 60, filter=condition)) == 30
    assert index.search(query, 60, filter=Shown(even=1)) == []
    condition["even"] = False
    assert {int(hit.id) % 2 for hit in index.search(query, 60, filter=condition)} == {1}


def test_each_query_may_have_its_filter(pages: tuple[Index, Corpus]) -> None:
    index, corpus = pages
    filters = [{"even": True}, None, {"page": {"lt": 2}}]
    batch = index.search_batch(corpus.queries, 10, filter=filters)
    assert batch == [index.search(query, 10, filter=own) for query, own in zip(corpus.queries, filters, strict=True)]
    lists = [list(range(20)), list(range(30)), list(range(40))]
    given = index.rerank_batch(corpus.queries, lists, k=5, filter=filters)
    assert given == [
        index.rerank(query, own, k=5, filter=one)
        for query, own, one in zip(corpus.queries, lists, filters, strict=True)
    ]
    assert all(int(hit.id) % 2 == 0 for hit in given[0])
    short: list[list[dict[str, object]]] = [[{}], [{}] * 2, []]
    for wrong in short:
        with pytest.raises(InvalidInputError, match=f"{len(wrong)} filters for 3 queries"):
            index.search_batch(corpus.queries, filter=wrong)
    with pytest.raises(InvalidInputError, match="filter of query 1"):
        index.search_batch(corpus.queries, filter=[None, 5, None])  # type: ignore[list-item]
