"""Asking for recall: what is measured is stored, and searches go by it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latewood import Index
from latewood.errors import InvalidInputError, StaleTuningWarning
from strategies import Corpus, make_corpus
from support import build_index


@pytest.fixture(scope="module")
def wide() -> Corpus:
    """Many clusters and many queries, half of which are held out."""
    return make_corpus(5, dim=64, documents=4000, queries=200, clusters=400)


@pytest.fixture
def index(tmp_path: Path, wide: Corpus) -> Index:
    return build_index(tmp_path / "index", wide)


@pytest.mark.parametrize("gather", [None, "flood", "postings"])
@pytest.mark.parametrize("recall", [0.9, 0.95, 0.99])
def test_held_out_queries_get_the_recall_that_was_asked_for(
    index: Index, wide: Corpus, recall: float, gather: Any
) -> None:
    index.tune(wide.queries[:100], recall=recall)
    held_out = wide.queries[100:]
    found = index.measure_recall(held_out, 10, gather=gather)
    assert found == pytest.approx(recall, abs=0.03)
    assert found == index.measure_recall(held_out, 10, gather=gather, recall=recall), "the target is the default"


def test_more_recall_looks_further(index: Index, wide: Corpus) -> None:
    tuned = index.tune(wide.queries[:50], recall=0.98)
    assert tuned.k == 10
    assert tuned.queries == 50
    assert tuned.documents == len(index)
    assert list(tuned.curve) == sorted(tuned.curve)
    assert [recall for _, recall in tuned.curve] == sorted(recall for _, recall in tuned.curve)
    before = 0.0
    for recall in (0.8, 0.9, 0.95, 0.98):
        plan = index.search(wide.queries[0], 10, recall=recall).plan
        assert plan.deviations is not None
        assert plan.deviations > before or recall == 0.8
        assert plan.expected_recall == pytest.approx(max(recall, tuned.curve[0][1]))
        before = plan.deviations


def test_all_of_it_is_an_exact_search(index: Index, wide: Corpus) -> None:
    for query in wide.queries[:5]:
        hits = index.search(query, 10, recall=1.0)
        assert hits == index.search(query, 10, gather="exact")
        assert hits.plan.gather == "exact"
        assert hits.plan.expected_recall == 1.0


def test_what_was_measured_stays(index: Index, wide: Corpus) -> None:
    """Other handles, later commits and merges go by it; each k has its own."""
    index.tune(wide.queries[:50], recall=0.9)
    index.tune(wide.queries[:50], recall=0.97, k=100)
    index.tune(wide.queries[:50], recall=0.85)
    query = wide.queries[0]

    def expected(some: Index, k: int) -> float:
        plan = some.search(query, k, gather="flood").plan
        assert plan.tuned_documents == len(wide.documents)
        assert plan.expected_recall is not None
        return plan.expected_recall

    index.add([10**6], vectors=[wide.documents[0]])
    index.compact()
    for some in (index, Index.open(index.path)):
        assert expected(some, 10) == pytest.approx(0.85, abs=0.02)
        assert expected(some, 80) == pytest.approx(0.97, abs=0.02)
        assert expected(some, 1) == expected(some, 10)
    assert index.check() == []


def test_the_documents_stand_in_for_queries(index: Index, wide: Corpus) -> None:
    tuned = index.tune(recall=0.95)
    assert 0 < tuned.queries <= 128
    assert index.measure_recall(wide.queries, 10) > 0.8


def test_an_index_that_has_changed_says_so(tmp_path: Path, wide: Corpus) -> None:
    index = Index.create(tmp_path / "index", dim=64, train_after=0)
    index.add(range(1500), vectors=wide.documents[:1500])
    index.tune(wide.queries[:20])
    query = wide.queries[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.search(query, recall=0.9)
    index.add(range(1500, 3100), vectors=wide.documents[1500:3100])
    with pytest.warns(StaleTuningWarning, match="1500 documents, and it has 3100 now; tune it again"):
        index.search(query, recall=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.search(query)
        index.tune(wide.queries[:20])
        index.search(query, recall=0.9)


def test_what_cannot_be_tuned(tmp_path: Path, wide: Corpus) -> None:
    empty = Index.create(tmp_path / "empty", dim=64)
    for queries in (None, []):
        with pytest.raises(InvalidInputError, match="no query to tune by"):
            empty.tune(queries)
    tuned = empty.tune(wide.queries[:2])
    assert tuned.documents == 0
    empty.add([1, 2], vectors=wide.documents[:2])
    assert len(empty.search(wide.queries[0], recall=0.9)) == 2
    with pytest.raises(InvalidInputError, match="give one of them"):
        empty.search(wide.queries[0], recall=0.9, deviations=1.0)


def test_untuned_searches_go_by_what_is_usual(index: Index, wide: Corpus) -> None:
    usual = index.search(wide.queries[0], 10).plan
    assert usual.expected_recall == 0.99
    assert usual.tuned_documents is None
    assert index.search(wide.queries[0], 10, recall=0.99).plan == usual
    less, more = (index.search(wide.queries[0], 10, recall=recall).plan for recall in (0.9, 0.995))
    assert less.deviations is not None and more.deviations is not None and usual.deviations is not None
    assert less.deviations < usual.deviations < more.deviations
    assert np.isclose(less.expected_recall or 0, 0.9)
