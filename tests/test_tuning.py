"""Asking for recall: what is measured is stored, and searches go by it."""

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from latewood.encode.nano import nano_en
from latewood.errors import InvalidInputError, StaleTuningWarning
from latewood.evaluate import load_beir
from support import REPOSITORY

pytest.importorskip("onnxruntime")


@dataclass
class Wide:
    """Token vectors of real text: 700 abstracts of SciFact and all of its 300 claims, by the encoder in the wheel."""

    documents: list[np.ndarray]
    queries: list[np.ndarray]


@pytest.fixture(scope="module")
def wide() -> Wide:
    collection = load_beir(REPOSITORY / "data" / "scifact")
    encoder = nano_en()
    texts = [f"{document['title']} {document['text']}" for document in list(collection.corpus.values())[:700]]
    return Wide(list(encoder.encode_document(texts)), list(encoder.encode_query(list(collection.queries.values()))))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, wide: Wide) -> Path:
    path = tmp_path_factory.mktemp("tuning") / "index"
    index = Index.create(path, dim=wide.documents[0].shape[1])
    index.add(range(len(wide.documents)), vectors=wide.documents)
    index.close()
    return path


@pytest.fixture
def index(tmp_path: Path, built: Path) -> Index:
    return Index.open(shutil.copytree(built, tmp_path / "index"))


@pytest.mark.parametrize("recall", [0.9, 0.95, 0.99])
def test_held_out_queries_get_the_recall_that_was_asked_for(index: Index, wide: Wide, recall: float) -> None:
    index.tune(wide.queries[::2], recall=recall)
    held_out = wide.queries[1::2]
    found = index.measure_recall(held_out, 10)
    assert found == pytest.approx(recall, abs=0.035)
    assert found == index.measure_recall(held_out, 10, recall=recall), "the target is the default"


def test_more_recall_looks_further(index: Index, wide: Wide) -> None:
    tuned = index.tune(wide.queries[:50], recall=0.98)
    assert tuned.k == 10
    assert tuned.queries == 50
    assert tuned.documents == len(index)
    assert list(tuned.curve) == sorted(tuned.curve)
    assert [recall for _, recall in tuned.curve] == sorted(recall for _, recall in tuned.curve)
    before = -np.inf
    for recall in (0.8, 0.9, 0.95, 0.98):
        plan = index.search(wide.queries[0], 10, recall=recall).plan
        assert plan.deviations is not None
        assert plan.deviations >= before
        assert plan.expected_recall == pytest.approx(max(recall, tuned.curve[0][1]))
        before = plan.deviations


def test_more_than_the_target_is_measured_too(index: Index, wide: Wide) -> None:
    """Who asks for more than the target of a tuning does not pay for a search of everything."""
    queries = wide.queries[:50]
    index.tune(queries, recall=0.6)
    plan = index.search(queries[0], 10, recall=0.97).plan
    assert plan.gather == "flood"
    assert plan.expected_recall == pytest.approx(0.97)
    assert index.measure_recall(queries, 10, recall=0.97) == pytest.approx(0.97, abs=0.02)


@pytest.mark.parametrize("tuned", [False, True])
def test_all_of_it_is_an_exact_search(index: Index, wide: Wide, tuned: bool) -> None:
    if tuned:
        assert index.tune(wide.queries[:1], recall=1.0).curve[-1][1] == 1.0
    for query in wide.queries[:5]:
        hits = index.search(query, 10, recall=1.0)
        assert hits == index.search(query, 10, gather="exact")
        assert hits.plan.gather == "exact"
        assert hits.plan.expected_recall == 1.0


def test_what_was_measured_stays(index: Index, wide: Wide) -> None:
    """Other handles, later commits and merges go by it; each k has its own."""
    index.tune(wide.queries[:50], recall=0.9)
    index.tune(wide.queries[:50], recall=0.97, k=100)
    index.tune(wide.queries[:50], recall=0.93)
    query = wide.queries[0]

    def expected(some: Index, k: int) -> float:
        plan = some.search(query, k, gather="flood").plan
        assert plan.tuned_documents == len(wide.documents)
        assert plan.expected_recall is not None
        return plan.expected_recall

    index.add([10**6], vectors=[wide.documents[0]])
    index.compact()
    for some in (index, Index.open(index.path)):
        assert expected(some, 10) == pytest.approx(0.93)
        assert expected(some, 80) == pytest.approx(0.97)
        assert expected(some, 1) == expected(some, 10)
    assert index.check() == []


def test_the_documents_stand_in_for_queries(index: Index, wide: Wide) -> None:
    tuned = index.tune(recall=0.95)
    assert 0 < tuned.queries <= 128
    assert index.measure_recall(wide.queries, 10) == pytest.approx(0.95, abs=0.05)


def test_an_index_that_has_changed_says_so(tmp_path: Path, wide: Wide) -> None:
    index = Index.create(tmp_path / "index", dim=wide.documents[0].shape[1], train_after=0)
    index.add(range(300), vectors=wide.documents[:300])
    index.tune(wide.queries[:20])
    query = wide.queries[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.search(query, recall=0.9)
    index.add(range(300, 601), vectors=wide.documents[300:601])
    with pytest.warns(StaleTuningWarning, match="300 documents, and it has 601 now; tune it again") as told:
        index.search(query, recall=0.9)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.search(query)
        index.tune(wide.queries[:20])
        index.search(query, recall=0.9)


@pytest.mark.parametrize("first", [0, 5, 200, 330])
def test_what_few_documents_told_is_not_relied_on(tmp_path: Path, wide: Wide, first: int) -> None:
    """While every document is scored there is nothing to measure, and an index that has grown has other curves."""
    train_after = 0 if first == 330 else 65_536
    index = Index.create(tmp_path / "index", dim=wide.documents[0].shape[1], train_after=train_after)
    index.add(range(first), vectors=wide.documents[:first])
    assert bool(index.tune(wide.queries[:5], recall=0.9).curve) == (first == 330)
    index.add(range(first, 700), vectors=wide.documents[first:])
    plan = index.search(wide.queries[0]).plan
    assert (plan.gather, plan.tuned_documents, plan.stale_tuning) == ("flood", first, True)
    assert plan.expected_recall == pytest.approx(0.9)
    assert index.measure_recall(wide.queries, 10) > 0.87


def test_the_tuning_of_the_nearest_number_of_hits_counts(index: Index, wide: Wide) -> None:
    for k, recall in ((11, 0.93), (15, 0.97)):
        index.tune(wide.queries[:50], recall=recall, k=k)
    found = [index.search(wide.queries[0], k).plan.expected_recall for k in (1, 11, 12, 14, 15, 20)]
    assert found == pytest.approx([0.93, 0.93, 0.93, 0.97, 0.97, 0.97])


def test_what_cannot_be_tuned(tmp_path: Path, wide: Wide) -> None:
    empty = Index.create(tmp_path / "empty", dim=wide.documents[0].shape[1])
    with pytest.raises(InvalidInputError, match="no query to tune by"):
        empty.tune()
    with pytest.raises(InvalidInputError, match="no query to tune by"):
        empty.tune([])
    tuned = empty.tune(wide.queries[:2])
    assert tuned.documents == 0
    empty.add([1, 2], vectors=wide.documents[:2])
    assert len(empty.search(wide.queries[0])) == 2
    pinned = Index.open(tmp_path / "empty", generation=empty.generation)
    with pytest.raises(InvalidInputError, match="for reading only"):
        pinned.tune([np.zeros((1, pinned.dim + 1))])
    with pytest.raises(InvalidInputError, match="give one of them"):
        empty.search(wide.queries[0], recall=0.9, deviations=1.0)


def test_untuned_searches_go_by_what_is_usual(index: Index, wide: Wide) -> None:
    usual = index.search(wide.queries[0], 10).plan
    assert usual.expected_recall == 0.99
    assert usual.tuned_documents is None
    limits: list[dict[str, Any]] = [{"max_scored": 20}, {"gather": "postings", "probes": 2}]
    assert all(index.search(wide.queries[0], 10, **limit).plan.expected_recall is None for limit in limits)
    assert index.search(wide.queries[0], 10, recall=0.99).plan == usual
    less = index.search(wide.queries[0], 10, recall=0.9).plan
    assert (less.deviations or 0) < (usual.deviations or 0)
    assert less.expected_recall == pytest.approx(0.9)


def test_each_query_of_a_batch_tells_its_own_plan(tmp_path: Path, wide: Wide) -> None:
    index = Index.create(tmp_path / "index", dim=wide.documents[0].shape[1])
    index.add(range(700), vectors=wide.documents, metadata=[{"n": number} for number in range(700)])
    filters: list[Any] = [{"n": {"lt": 0}}, None, {"n": {"lt": 9}}, {"n": {"gte": 0}}]
    batch = index.search_batch(wide.queries[:4], 3, filter=filters)
    assert [hits.plan.gather for hits in batch] == ["none", "flood", "exact", "flood"]
    for query, condition, hits in zip(wide.queries, filters, batch, strict=False):
        assert hits.plan == index.search(query, 3, filter=condition).plan
    together = index.search_arrays(wide.queries[:4], 3, filter=filters).plan
    assert together == batch[1].plan, "that of the first that has any"
    reranked = index.rerank_batch(wide.queries[:2], [[1, 2], [3]], filter=[None, {"n": 3}])
    assert [hits.plan.gather for hits in reranked] == ["given", "given"]
